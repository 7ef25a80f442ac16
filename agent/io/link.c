/* SPDX-License-Identifier: BSD-2-Clause */
#include "io/link.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "io/link_facts.h"
#include "io/rtnetlink.h"

#define READINGS 5 /* tries to read all while it changes */
#define LOOPBACK 1 /* the ifindex of lo in each network namespace */

struct watched {
	struct link_state state;
	char name[IF_NAMESIZE]; /* as it was when the watching began */
	unsigned int round; /* of reading all, that has shown it last */
	bool told;
};

struct link {
	struct rtnetlink netlink;
	struct watched watched[LINK_WATCHED];
	unsigned int n;
	struct link_facts facts;
	unsigned int round;
	bool lost; /* events: all is to be read again */
	const struct link_handlers *handlers;
	void *ctx;
};

/* What there is. */

static bool is_other(const struct link_state *a, const struct link_state *b)
{
	return a->here != b->here || a->up != b->up || a->mtu != b->mtu ||
	       memcmp(a->mac, b->mac, sizeof(a->mac)) != 0 || strcmp(a->name, b->name) != 0;
}

/* A name that is watched may be another interface's by now. */
static void take_name(struct link *l, const char *name, unsigned int ifindex)
{
	for (unsigned int i = 0; i < l->n; i++) {
		struct watched *w = &l->watched[i];

		if (strcmp(w->name, name) != 0 || w->state.ifindex == ifindex)
			continue;
		w->state.ifindex = ifindex;
		w->told = false;
		l->handlers->replaced(l->ctx, i, ifindex);
	}
}

static void take_state(struct link *l, const struct link_state *state)
{
	for (unsigned int i = 0; i < l->n; i++) {
		struct watched *w = &l->watched[i];

		if (w->state.ifindex != state->ifindex)
			continue;
		w->round = l->round;
		if (w->told && !is_other(&w->state, state))
			continue;
		w->state = *state;
		w->state.renamed = strcmp(w->name, state->name) != 0;
		w->told = true;
		l->handlers->state(l->ctx, i, &w->state);
	}
}

static void tell_fact(const struct link *l, const struct link_fact *fact, bool here)
{
	if (fact->address.family)
		l->handlers->address(l->ctx, &fact->address, here);
	else
		l->handlers->xfrm(l->ctx, fact->ifindex, fact->if_id, here);
}

static int add_fact(struct link *l, const struct link_fact *fact)
{
	bool elsewhere = fact->address.family && link_facts_has(&l->facts, &fact->address, 0);
	int r = link_facts_set(&l->facts, fact);

	if (r > 0 && !elsewhere)
		tell_fact(l, fact, true);
	return r;
}

static void remove_fact(struct link *l, size_t at)
{
	struct link_fact gone = l->facts.all[at];

	link_facts_remove(&l->facts, at);
	if (!gone.address.family || !link_facts_has(&l->facts, &gone.address, 0))
		tell_fact(l, &gone, false);
}

static int take_fact(struct link *l, struct link_fact *fact, bool here)
{
	fact->round = l->round;
	if (here)
		return add_fact(l, fact);
	if (link_facts_has(&l->facts, &fact->address, fact->ifindex))
		remove_fact(l, link_facts_find(&l->facts, &fact->address, fact->ifindex));
	return 0;
}

bool link_has_address(const struct link *l, const struct address *address)
{
	return link_facts_has(&l->facts, address, 0);
}

bool link_has_on_lo(const struct link *l, const struct address *address)
{
	return link_facts_has(&l->facts, address, LOOPBACK);
}

bool link_has_xfrm(const struct link *l, unsigned int ifindex)
{
	return link_facts_has(&l->facts, &(struct address){0}, ifindex);
}

/* What the kernel says. */

/* Is it an xfrm interface? Then *ret is its if_id; 0 where it has none. */
static bool is_xfrm(const struct nlattr *info, uint32_t *ret)
{
	const struct nlattr *a, *data = NULL;
	bool found = false;

	mnl_attr_for_each_nested(a, info)
	{
		if (mnl_attr_get_type(a) == IFLA_INFO_KIND)
			found = mnl_attr_get_payload_len(a) == sizeof("xfrm") &&
				memcmp(mnl_attr_get_payload(a), "xfrm", sizeof("xfrm")) == 0;
		else if (mnl_attr_get_type(a) == IFLA_INFO_DATA)
			data = a;
	}
	if (!found || !data)
		return false;
	*ret = 0;
	mnl_attr_for_each_nested(a, data)
	{
		if (mnl_attr_get_type(a) == IFLA_XFRM_IF_ID &&
			mnl_attr_get_payload_len(a) == sizeof(*ret))
			*ret = mnl_attr_get_u32(a);
	}
	return true;
}

static int on_link(struct link *l, const struct nlmsghdr *nlh, bool here)
{
	const struct ifinfomsg *info = mnl_nlmsg_get_payload(nlh);
	const unsigned int running = IFF_UP | IFF_RUNNING;
	struct link_state state = {
		.ifindex = (unsigned int)info->ifi_index,
		.here = here,
		.up = here && (info->ifi_flags & running) == running,
	};
	struct link_fact fact = {.ifindex = state.ifindex};
	bool xfrm = false;
	const struct nlattr *a;

	if (info->ifi_family != AF_UNSPEC)
		return 0; /* a bridge has messages of its own about its ports */
	mnl_attr_for_each(a, nlh, sizeof(*info))
	{
		if (mnl_attr_get_type(a) == IFLA_ADDRESS &&
			mnl_attr_get_payload_len(a) == sizeof(state.mac))
			memcpy(state.mac, mnl_attr_get_payload(a), sizeof(state.mac));
		else if (mnl_attr_get_type(a) == IFLA_IFNAME &&
			 mnl_attr_validate(a, MNL_TYPE_NUL_STRING) >= 0)
			snprintf(state.name, sizeof(state.name), "%s", mnl_attr_get_str(a));
		else if (mnl_attr_get_type(a) == IFLA_MTU)
			state.mtu = mnl_attr_get_u32(a);
		else if (mnl_attr_get_type(a) == IFLA_LINKINFO)
			xfrm = is_xfrm(a, &fact.if_id);
	}
	if (here)
		take_name(l, state.name, state.ifindex);
	take_state(l, &state);
	return xfrm || !here ? take_fact(l, &fact, here) : 0;
}

static int on_address(struct link *l, const struct nlmsghdr *nlh, bool here)
{
	const struct ifaddrmsg *info = mnl_nlmsg_get_payload(nlh);
	struct link_fact fact = {.address.family = info->ifa_family, .ifindex = info->ifa_index};
	size_t size = info->ifa_family == AF_INET ? 4 : 16;
	const struct nlattr *a, *found = NULL;

	if (info->ifa_family != AF_INET && info->ifa_family != AF_INET6)
		return 0;
	/* Of a point-to-point link IFA_ADDRESS is the other end's. */
	mnl_attr_for_each(a, nlh, sizeof(*info))
	{
		if (mnl_attr_get_payload_len(a) == size &&
			(mnl_attr_get_type(a) == IFA_LOCAL ||
				(mnl_attr_get_type(a) == IFA_ADDRESS && !found)))
			found = a;
	}
	if (!found)
		return 0;
	memcpy(fact.address.bytes, mnl_attr_get_payload(found), size);
	return take_fact(l, &fact, here);
}

static int on_message(const struct nlmsghdr *nlh, void *data)
{
	int r = 0;

	if (nlh->nlmsg_type == RTM_NEWLINK || nlh->nlmsg_type == RTM_DELLINK)
		r = on_link(data, nlh, nlh->nlmsg_type == RTM_NEWLINK);
	else if (nlh->nlmsg_type == RTM_NEWADDR || nlh->nlmsg_type == RTM_DELADDR)
		r = on_address(data, nlh, nlh->nlmsg_type == RTM_NEWADDR);
	if (r >= 0)
		return MNL_CB_OK;
	errno = -r;
	return MNL_CB_ERROR;
}

/* Reading all. */

/* Unmarks the dump's messages whose object changed meanwhile, so that the dump can be read to its
 * end. */
static bool was_interrupted(void *buf, int n)
{
	bool interrupted = false;

	for (struct nlmsghdr *nlh = buf; mnl_nlmsg_ok(nlh, n); nlh = mnl_nlmsg_next(nlh, &n)) {
		interrupted |= nlh->nlmsg_flags & NLM_F_DUMP_INTR;
		nlh->nlmsg_flags &= (uint16_t)~NLM_F_DUMP_INTR;
	}
	return interrupted;
}

/* -EINTR: it changed meanwhile. */
static int dump(struct link *l, uint16_t type, size_t header)
{
	_Alignas(8) char buf[RTNETLINK_SIZE];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	bool interrupted = false;
	int r;

	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = NLM_F_DUMP;
	mnl_nlmsg_put_extra_header(nlh, header);
	r = rtnetlink_request(&l->netlink, nlh);
	if (r < 0)
		return r;
	do {
		ssize_t n = mnl_socket_recvfrom(l->netlink.requests, buf, sizeof(buf));

		if (n < 0)
			return -errno;
		interrupted |= was_interrupted(buf, (int)n);
		r = mnl_cb_run(buf, (size_t)n, l->netlink.seq, 0, on_message, l);
	} while (r > MNL_CB_STOP);
	return r < 0 ? -errno : interrupted ? -EINTR : 0;
}

/* What this reading has not shown is gone. */
static void sweep(struct link *l)
{
	for (size_t i = l->facts.count; i-- > 0;)
		if (l->facts.all[i].round != l->round)
			remove_fact(l, i);
	for (unsigned int i = 0; i < l->n; i++) {
		struct link_state gone = l->watched[i].state;

		gone.here = gone.up = false;
		if (l->watched[i].told && l->watched[i].round != l->round)
			take_state(l, &gone);
	}
}

static int read_all(struct link *l)
{
	int r = -EINTR;

	for (unsigned int i = 0; i < READINGS && r == -EINTR; i++) {
		l->round++;
		r = dump(l, RTM_GETLINK, sizeof(struct ifinfomsg));
		if (r == 0)
			r = dump(l, RTM_GETADDR, sizeof(struct ifaddrmsg));
	}
	if (r == 0)
		sweep(l);
	return r == -EINTR ? 0 : r; /* the events will tell */
}

/* 1: there is one more, perhaps; 0: none. */
static int process_one(struct link *l)
{
	_Alignas(8) char buf[RTNETLINK_SIZE];
	ssize_t n = recv(link_fd(l), buf, sizeof(buf), MSG_DONTWAIT);

	if (n < 0 && errno == ENOBUFS)
		l->lost = true;
	else if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	else if (mnl_cb_run(buf, (size_t)n, 0, 0, on_message, l) < 0)
		return -errno;
	return 1;
}

/* After a loss, what is left in the socket is older than what a new reading shows: it comes first.
 */
int link_process(struct link *l)
{
	int r;

	do {
		while ((r = process_one(l)) > 0)
			;
		if (r < 0 || !l->lost)
			return r;
		l->lost = false;
		r = read_all(l);
	} while (r == 0);
	return r;
}

static int read_first(struct link *l)
{
	int r = read_all(l);

	for (unsigned int i = 0; i < l->n && r == 0; i++)
		if (l->watched[i].state.ifindex && !l->watched[i].told)
			r = -ENODEV;
	return r;
}

int link_open(const unsigned int *ifindexes, unsigned int n, const struct link_handlers *handlers,
	void *ctx, struct link **ret)
{
	static const int groups[] = {RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR};
	struct link *l;
	int r;

	if (n > LINK_WATCHED)
		return -EINVAL;
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	l->handlers = handlers;
	l->ctx = ctx;
	l->n = n;
	for (unsigned int i = 0; i < n; i++) {
		l->watched[i].state.ifindex = ifindexes[i];
		if_indextoname(ifindexes[i], l->watched[i].name);
	}
	r = rtnetlink_open(&l->netlink, groups, sizeof(groups) / sizeof(groups[0]));
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
	rtnetlink_close(&l->netlink);
	link_facts_free(&l->facts);
	free(l);
}

int link_fd(const struct link *l)
{
	return mnl_socket_get_fd(l->netlink.events);
}

static int read_setting(const char *ip, const char *interface, const char *name)
{
	char path[128], text[16] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/proc/sys/net/%s/conf/%s/%s", ip, interface, name);
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
	int own = read_setting("ipv4", interface, "arp_announce");
	int all = read_setting("ipv4", "all", "arp_announce");

	if (own < 0 || all < 0)
		return own < 0 ? own : all;
	return own > all ? own : all;
}

int link_forwards(const char *interface, uint16_t family)
{
	int r;

	if (family == AF_INET)
		return read_setting("ipv4", interface, "forwarding");
	r = read_setting("ipv6", "all", "forwarding");
	if (r == 0 && read_setting("ipv6", interface, "force_forwarding") > 0) /* Linux 6.17 */
		return 1;
	return r;
}
