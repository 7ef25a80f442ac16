/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * clear.bpf.c - XDP on the inner interface: each clear packet goes to the member that owns the
 * outbound SA for it, by the longest prefix of the SPD's remote selectors, so that both directions
 * of a flow go through one member.
 */
#include "neighbour.h"
#include "route.h"

/* What is looked for of the packet's destination. False: it is none that SAs are for. */
static __always_inline bool clear_selector(const struct frame *frame, struct espalier_selector *ret)
{
	const struct iphdr *ip = parse_ipv4(frame);
	const struct ipv6hdr *ip6 = parse_ipv6(frame);

	*ret = (struct espalier_selector){};
	if (ip) {
		ret->prefixlen = ESPALIER_SELECTOR_BITS + 32;
		ret->family = FAMILY_INET;
		*(__be32 *)ret->addr = ip->daddr;
		return !is_cluster_address(ip->daddr);
	}
	if (ip6) {
		ret->prefixlen = ESPALIER_SELECTOR_BITS + 128;
		ret->family = FAMILY_INET6;
		__builtin_memcpy(ret->addr, &ip6->daddr, sizeof(ret->addr));
		return !is_cluster_address6(&ip6->daddr) && !parse_stays_on_link(&ip6->daddr);
	}
	return false;
}

static __always_inline enum espalier_reason clear(struct xdp_md *ctx)
{
	const struct espalier_flow *flow;
	struct espalier_selector selector;
	enum espalier_reason reason;
	struct espalier_view *v;
	struct frame frame;
	bool unwrapped;

	/* parse */
	if (!parse_frame(ctx, &frame))
		return ESPALIER_NOT_OURS;
	if (frame.protocol == bpf_htons(ETH_P_ARP))
		return neighbour_arp(&frame, SIDE_INNER);
	if (neighbour_is_nd(&frame)) {
		reason = neighbour_nd(&frame, SIDE_INNER, UNDECIDED);
		if (reason != UNDECIDED)
			return reason;
	}
	if (!tunnel_receive(ctx, &frame, SIDE_INNER, &unwrapped))
		return ESPALIER_TUNNEL_STRANGER;

	/* key */
	if (!clear_selector(&frame, &selector))
		return unwrapped ? ESPALIER_TUNNEL_STRANGER : ESPALIER_NOT_OURS;
	v = view_map();
	if (!v)
		return ESPALIER_CLEAR_NO_OWNER;
	selector.if_id = route_if_id(ctx, v, &frame);
	flow = bpf_map_lookup_elem(&selectors, &selector);
	if (flow && flow->bucket == ESPALIER_HERE)
		return ESPALIER_NOT_OURS;
	if (!flow)
		return unwrapped ? ESPALIER_TUNNEL_STRANGER : ESPALIER_CLEAR_NO_SA;

	/* owner and verdict */
	return hop_decide(ctx, v, &frame, flow, SIDE_INNER, unwrapped);
}

SEC("xdp")
int espalier_clear(struct xdp_md *ctx)
{
	return hop_verdict(clear(ctx));
}
