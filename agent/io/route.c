/* SPDX-License-Identifier: BSD-2-Clause */
#include "io/route.h"

#include <errno.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "io/rtnetlink.h"

#define NUD_VALID (NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE | NUD_PROBE | NUD_STALE | NUD_DELAY)

struct route {
	struct rtnetlink netlink;
	route_handler handler;
	void *ctx;
};

static size_t size_of(uint16_t family)
{
	return family == AF_INET ? 4 : 16;
}

/* False: it is not an address of this family. */
static bool read_address(const struct nlattr *a, uint16_t family, struct address *ret)
{
	if ((family != AF_INET && family != AF_INET6) ||
		mnl_attr_get_payload_len(a) != size_of(family))
		return false;
	*ret = (struct address){.family = family};
	memcpy(ret->bytes, mnl_attr_get_payload(a), size_of(family));
	return true;
}

/* Questions. */

/* Sends a request; on_answer sees the one message that answers it, or the kernel's refusal is
 * returned. */
static int ask(struct route *r, struct nlmsghdr *nlh, mnl_cb_t on_answer, void *answer)
{
	_Alignas(8) char buf[RTNETLINK_SIZE];
	int result;
	ssize_t n;

	if (!on_answer)
		nlh->nlmsg_flags |= NLM_F_ACK;
	result = rtnetlink_request(&r->netlink, nlh);
	if (result < 0)
		return result;
	n = mnl_socket_recvfrom(r->netlink.requests, buf, sizeof(buf));
	if (n < 0)
		return -errno;
	return mnl_cb_run(buf, (size_t)n, r->netlink.seq, 0, on_answer, answer) < 0 ? -errno : 0;
}

static uint32_t mtu_of(const struct nlattr *metrics)
{
	const struct nlattr *a;

	mnl_attr_for_each_nested(a, metrics)
	{
		if (mnl_attr_get_type(a) == RTAX_MTU &&
			mnl_attr_get_payload_len(a) == sizeof(uint32_t))
			return mnl_attr_get_u32(a);
	}
	return 0;
}

static int on_route(const struct nlmsghdr *nlh, void *data)
{
	const struct rtmsg *route = mnl_nlmsg_get_payload(nlh);
	struct route_answer *ret = data;
	const struct nlattr *a;

	if (nlh->nlmsg_type != RTM_NEWROUTE || route->rtm_type != RTN_UNICAST)
		return MNL_CB_OK;
	mnl_attr_for_each(a, nlh, sizeof(*route))
	{
		const struct rtvia *via = mnl_attr_get_payload(a);

		switch (mnl_attr_get_type(a)) {
		case RTA_OIF:
			ret->ifindex = mnl_attr_get_u32(a);
			break;
		case RTA_GATEWAY:
			(void)read_address(a, route->rtm_family, &ret->gateway);
			break;
		case RTA_VIA: /* of the other family */
			ret->gateway = (struct address){.family = via->rtvia_family};
			memcpy(ret->gateway.bytes, via->rtvia_addr, size_of(via->rtvia_family));
			break;
		case RTA_METRICS:
			ret->mtu = mtu_of(a);
			break;
		default:
			break;
		}
	}
	return MNL_CB_OK;
}

int route_ask(struct route *r, const struct address *from, const struct address *to,
	struct route_answer *ret)
{
	_Alignas(8) char buf[256];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct rtmsg *route = mnl_nlmsg_put_extra_header(nlh, sizeof(*route));
	size_t size = size_of(to->family);
	int result;

	nlh->nlmsg_type = RTM_GETROUTE;
	route->rtm_family = (uint8_t)to->family;
	route->rtm_dst_len = route->rtm_src_len = (uint8_t)(8 * size);
	mnl_attr_put(nlh, RTA_DST, size, to->bytes);
	mnl_attr_put(nlh, RTA_SRC, size, from->bytes);
	*ret = (struct route_answer){0};
	result = ask(r, nlh, on_route, ret);
	return result < 0 ? result : ret->ifindex ? 0 : -ENETUNREACH;
}

struct neighbour {
	bool valid, managed;
	bool fixed; /* somebody said so, the kernel asks nobody */
	uint8_t mac[6];
};

static int on_neighbour(const struct nlmsghdr *nlh, void *data)
{
	const struct ndmsg *info = mnl_nlmsg_get_payload(nlh);
	struct neighbour *ret = data;
	const struct nlattr *a;

	if (nlh->nlmsg_type != RTM_NEWNEIGH)
		return MNL_CB_OK;
	ret->fixed = info->ndm_state & (NUD_PERMANENT | NUD_NOARP);
	mnl_attr_for_each(a, nlh, sizeof(*info))
	{
		if (mnl_attr_get_type(a) == NDA_FLAGS_EXT) {
			ret->managed = mnl_attr_get_u32(a) & NTF_EXT_MANAGED;
		} else if (mnl_attr_get_type(a) == NDA_LLADDR &&
			   mnl_attr_get_payload_len(a) == sizeof(ret->mac)) {
			memcpy(ret->mac, mnl_attr_get_payload(a), sizeof(ret->mac));
			ret->valid = info->ndm_state & NUD_VALID;
		}
	}
	return MNL_CB_OK;
}

static struct nlmsghdr *put_neighbour(
	void *buf, uint16_t type, unsigned int ifindex, const struct address *address)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct ndmsg *info = mnl_nlmsg_put_extra_header(nlh, sizeof(*info));

	nlh->nlmsg_type = type;
	info->ndm_family = (uint8_t)address->family;
	info->ndm_ifindex = (int)ifindex;
	mnl_attr_put(nlh, NDA_DST, size_of(address->family), address->bytes);
	return nlh;
}

/* A managed neighbour's address is asked for before it is needed, and again before it is too old. A
 * permanent one would not be permanent any more. */
static void manage(struct route *r, unsigned int ifindex, const struct address *address)
{
	_Alignas(8) char buf[256];
	struct nlmsghdr *nlh = put_neighbour(buf, RTM_NEWNEIGH, ifindex, address);

	nlh->nlmsg_flags = NLM_F_CREATE | NLM_F_REPLACE;
	mnl_attr_put_u32(nlh, NDA_FLAGS_EXT, NTF_EXT_MANAGED);
	(void)ask(r, nlh, NULL, NULL);
}

int route_neighbour(
	struct route *r, unsigned int ifindex, const struct address *address, uint8_t ret_mac[6])
{
	_Alignas(8) char buf[256];
	struct nlmsghdr *nlh = put_neighbour(buf, RTM_GETNEIGH, ifindex, address);
	struct neighbour found = {0};
	int result = ask(r, nlh, on_neighbour, &found);

	if (!found.managed && !found.fixed)
		manage(r, ifindex, address);
	if (result < 0)
		return result;
	if (!found.valid)
		return -ENOENT;
	memcpy(ret_mac, found.mac, sizeof(found.mac));
	return 0;
}

/* Events. */

static int on_event(const struct nlmsghdr *nlh, void *data)
{
	const struct rtmsg *route = mnl_nlmsg_get_payload(nlh);
	const struct ndmsg *info = mnl_nlmsg_get_payload(nlh);
	struct route *r = data;
	struct address prefix = {0};
	const struct nlattr *a;

	if (nlh->nlmsg_type == RTM_NEWROUTE || nlh->nlmsg_type == RTM_DELROUTE) {
		prefix.family = route->rtm_family; /* RTA_DST is left out for the default route */
		mnl_attr_for_each(a, nlh, sizeof(*route))
		{
			if (mnl_attr_get_type(a) == RTA_DST)
				(void)read_address(a, route->rtm_family, &prefix);
		}
		r->handler(r->ctx, &prefix, route->rtm_dst_len);
	} else if (nlh->nlmsg_type == RTM_NEWNEIGH || nlh->nlmsg_type == RTM_DELNEIGH) {
		mnl_attr_for_each(a, nlh, sizeof(*info))
		{
			if (mnl_attr_get_type(a) == NDA_DST &&
				read_address(a, info->ndm_family, &prefix))
				r->handler(r->ctx, &prefix, 8 * size_of(prefix.family));
		}
	}
	return MNL_CB_OK;
}

int route_process(struct route *r)
{
	_Alignas(8) char buf[RTNETLINK_SIZE];

	for (;;) {
		ssize_t n = recv(route_fd(r), buf, sizeof(buf), MSG_DONTWAIT);

		if (n < 0 && errno == ENOBUFS)
			r->handler(r->ctx, NULL, 0);
		else if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		else
			(void)mnl_cb_run(buf, (size_t)n, 0, 0, on_event, r);
	}
}

int route_open(route_handler handler, void *ctx, struct route **ret)
{
	static const int groups[] = {RTNLGRP_NEIGH, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE};
	struct route *r = calloc(1, sizeof(*r));
	int result;

	if (!r)
		return -ENOMEM;
	r->handler = handler;
	r->ctx = ctx;
	result = rtnetlink_open(&r->netlink, groups, sizeof(groups) / sizeof(groups[0]));
	if (result < 0) {
		route_close(r);
		return result;
	}
	*ret = r;
	return 0;
}

void route_close(struct route *r)
{
	if (!r)
		return;
	rtnetlink_close(&r->netlink);
	free(r);
}

int route_fd(const struct route *r)
{
	return mnl_socket_get_fd(r->netlink.events);
}
