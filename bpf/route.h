/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * route.h - route-based setups: what the kernel routes to an xfrm interface is for the policies
 * with the interface's if_id, and for no others. The kernel's own routing tells; asked only where
 * there are such interfaces.
 */
#ifndef ROUTE_H
#define ROUTE_H

#include "parse.h"

/* The kernel's, of any address family. */
static __always_inline bool route_ask(
	struct xdp_md *ctx, const struct frame *frame, struct bpf_fib_lookup *ret)
{
	const struct iphdr *ip = parse_ipv4(frame);
	const struct ipv6hdr *ip6 = parse_ipv6(frame);

	*ret = (struct bpf_fib_lookup){.ifindex = ctx->ingress_ifindex};
	if (ip) {
		ret->family = FAMILY_INET;
		ret->tos = ip->tos;
		ret->ipv4_src = ip->saddr;
		ret->ipv4_dst = ip->daddr;
	} else if (ip6) {
		ret->family = FAMILY_INET6;
		__builtin_memcpy(ret->ipv6_src, &ip6->saddr, sizeof(ret->ipv6_src));
		__builtin_memcpy(ret->ipv6_dst, &ip6->daddr, sizeof(ret->ipv6_dst));
	} else {
		return false;
	}
	return true;
}

/* 0: it is routed to no xfrm interface. */
static __always_inline __u32 route_if_id(
	struct xdp_md *ctx, const struct espalier_view *v, const struct frame *frame)
{
	struct bpf_fib_lookup route;
	const __u32 *if_id;
	long r;

	if (!v->interfaces || !route_ask(ctx, frame, &route))
		return 0;
	r = bpf_fib_lookup(ctx, &route, sizeof(route), 0);
	/* an xfrm interface has no neighbours */
	if (r != BPF_FIB_LKUP_RET_SUCCESS && r != BPF_FIB_LKUP_RET_NO_NEIGH)
		return 0;
	if_id = bpf_map_lookup_elem(&interfaces, &route.ifindex);
	return if_id ? *if_id : 0;
}

#endif
