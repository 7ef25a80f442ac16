/* SPDX-License-Identifier: BSD-2-Clause */
#include "io/link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <linux/rtnetlink.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/if_ether.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <libmnl/libmnl.h>

#define RECEIVE_SIZE 32768 /* bytes: the kernel's largest part of a dump */

struct watched {
	struct link_state state;
	bool told;
};

struct link {
	struct mnl_socket *socket;
	struct watched watched[LINK_WATCHED];
	unsigned int n;
	link_handler handler;
	void *ctx;
};

static void take_state(struct link *l, const struct link_state *state)
{
	for (unsigned int i = 0; i < l->n; i++) {
		struct watched *w = &l->watched[i];

		if (w->state.ifindex != state->ifindex)
			continue;
		if (w->told && w->state.up == state->up &&
			memcmp(w->state.mac, state->mac, sizeof(state->mac)) == 0)
			continue;
		w->state = *state;
		w->told = true;
		l->handler(l->ctx, &w->state);
	}
}

static int on_message(const struct nlmsghdr *nlh, void *data)
{
	const struct ifinfomsg *info = mnl_nlmsg_get_payload(nlh);
	const unsigned int running = IFF_UP | IFF_RUNNING;
	struct link_state state = {0};
	const struct nlattr *a;

	/* A bridge has messages of its own about its ports. */
	if ((nlh->nlmsg_type != RTM_NEWLINK && nlh->nlmsg_type != RTM_DELLINK) ||
		info->ifi_family != AF_UNSPEC)
		return MNL_CB_OK;
	state.ifindex = (unsigned int)info->ifi_index;
	state.up = nlh->nlmsg_type == RTM_NEWLINK && (info->ifi_flags & running) == running;
	mnl_attr_for_each(a, nlh, sizeof(*info))
	{
		if (mnl_attr_get_type(a) == IFLA_ADDRESS &&
			mnl_attr_get_payload_len(a) == sizeof(state.mac))
			memcpy(state.mac, mnl_attr_get_payload(a), sizeof(state.mac));
	}
	take_state(data, &state);
	return MNL_CB_OK;
}

/* What is answered is read with the events. */
static int ask(struct link *l)
{
	char buf[256];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);

	nlh->nlmsg_type = RTM_GETLINK;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	mnl_nlmsg_put_extra_header(nlh, sizeof(struct ifinfomsg));
	return mnl_socket_sendto(l->socket, nlh, nlh->nlmsg_len) < 0 ? -errno : 0;
}

int link_process(struct link *l)
{
	_Alignas(8) char buf[RECEIVE_SIZE];

	for (;;) {
		ssize_t n = recv(link_fd(l), buf, sizeof(buf), MSG_DONTWAIT);

		if (n < 0 && errno == ENOBUFS) {
			int r = ask(l);

			if (r < 0)
				return r;
		} else if (n < 0) {
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		} else {
			(void)mnl_cb_run(buf, (size_t)n, 0, 0, on_message, l);
		}
	}
}

static int open_socket(struct link *l)
{
	int group = RTNLGRP_LINK;

	l->socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	if (!l->socket || mnl_socket_bind(l->socket, 0, MNL_SOCKET_AUTOPID) < 0 ||
		mnl_socket_setsockopt(l->socket, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) < 0)
		return -errno;
	return 0;
}

static int read_first(struct link *l)
{
	int r = ask(l);

	if (r == 0)
		r = link_process(l);
	for (unsigned int i = 0; i < l->n && r == 0; i++)
		if (!l->watched[i].told)
			r = -ENODEV;
	return r;
}

int link_open(const unsigned int *ifindexes, unsigned int n, link_handler handler, void *ctx,
	struct link **ret)
{
	struct link *l;
	int r;

	if (n > LINK_WATCHED)
		return -EINVAL;
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	l->handler = handler;
	l->ctx = ctx;
	l->n = n;
	for (unsigned int i = 0; i < n; i++)
		l->watched[i].state.ifindex = ifindexes[i];
	r = open_socket(l);
	if (r == 0)
		r = read_first(l);
	if (r < 0) {
		link_close(l);
		return r;
	}
	*ret = l;
	return 0;
}

void link_close(struct link *l)
{
	if (!l)
		return;
	if (l->socket)
		mnl_socket_close(l->socket);
	free(l);
}

int link_fd(const struct link *l)
{
	return mnl_socket_get_fd(l->socket);
}

struct announcement {
	struct ether_header ethernet;
	struct ether_arp arp;
} __attribute__((packed));

static int send_announcement(int fd, const struct link_state *state, const uint8_t *address)
{
	const struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = (int)state->ifindex};
	struct announcement a = {
		.ethernet.ether_type = htons(ETHERTYPE_ARP),
		.arp.ea_hdr = {.ar_hrd = htons(ARPHRD_ETHER),
			.ar_pro = htons(ETHERTYPE_IP),
			.ar_hln = sizeof(a.arp.arp_sha),
			.ar_pln = sizeof(a.arp.arp_spa),
			.ar_op = htons(ARPOP_REQUEST)},
	};

	memset(a.ethernet.ether_dhost, 0xff, sizeof(a.ethernet.ether_dhost));
	memcpy(a.ethernet.ether_shost, state->mac, sizeof(state->mac));
	memcpy(a.arp.arp_sha, state->mac, sizeof(state->mac));
	memcpy(a.arp.arp_spa, address, sizeof(a.arp.arp_spa));
	memcpy(a.arp.arp_tpa, address, sizeof(a.arp.arp_tpa));
	if (sendto(fd, &a, sizeof(a), 0, (const struct sockaddr *)&to, sizeof(to)) < 0)
		return -errno;
	return 0;
}

int link_announce(const struct link_state *state, const struct address *addresses, unsigned int n)
{
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0),
	    r = 0; /* protocol 0: receives nothing */

	if (fd < 0)
		return -errno;
	for (unsigned int i = 0; i < n && r == 0; i++)
		if (addresses[i].family == AF_INET)
			r = send_announcement(fd, state, addresses[i].bytes);
	close(fd);
	return r;
}

static int read_setting(const char *interface)
{
	char path[128], text[16] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/proc/sys/net/ipv4/conf/%s/arp_announce", interface);
	file = fopen(path, "re");
	if (!file)
		return -errno;
	if (!fgets(text, sizeof(text), file))
		text[0] = 0;
	fclose(file);
	return *text ? (int)strtol(text, NULL, 10) : -EIO;
}

int link_arp_announce(const char *interface)
{
	int own = read_setting(interface), all = read_setting("all");

	if (own < 0 || all < 0)
		return own < 0 ? own : all;
	return own > all ? own : all;
}
