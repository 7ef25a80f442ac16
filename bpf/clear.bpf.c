/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * clear.bpf.c - XDP on the inner interface: each clear packet goes to the member that owns the
 * outbound SA for it, by the longest prefix of the SPD's remote selectors, so that both directions
 * of a flow go through one member.
 */
#include "hop.h"

static __always_inline enum espalier_reason clear(const struct xdp_md *ctx)
{
	struct espalier_selector selector;
	struct frame frame;
	struct iphdr *ip;
	const struct espalier_flow *flow;
	__u8 owner;

	/* parse */
	if (!parse_frame(ctx, &frame))
		return ESPALIER_NOT_OURS;
	if (frame.protocol == bpf_htons(ETH_P_ARP))
		return hop_answer_arp(&frame, SIDE_INNER);
	ip = parse_ipv4(&frame);
	if (!ip || is_cluster_address(ip->daddr))
		return ESPALIER_NOT_OURS;

	/* key */
	selector = (struct espalier_selector){
		.prefixlen = ESPALIER_SELECTOR_BITS + 32, .family = FAMILY_INET};
	*(__be32 *)selector.addr = ip->daddr;
	flow = bpf_map_lookup_elem(&selectors, &selector);
	if (!flow)
		return ESPALIER_CLEAR_NO_SA;
	if (flow->bucket == ESPALIER_HERE)
		return ESPALIER_NOT_OURS;

	/* owner */
	owner = view_owner(flow);
	if (owner == settings.self)
		return ESPALIER_CLEAR_LOCAL;
	if (owner == ESPALIER_NOBODY)
		return ESPALIER_CLEAR_NO_OWNER;

	/* verdict */
	if (hop_is_from_member(&frame, SIDE_INNER))
		return ESPALIER_CLEAR_ONE_HOP;
	if (!hop_is_for_me(&frame, SIDE_INNER))
		return ESPALIER_NOT_OURS;
	if (!hop_to_member(&frame, owner, SIDE_INNER))
		return ESPALIER_CLEAR_NO_NEXT_HOP;
	return ESPALIER_CLEAR_FORWARDED;
}

SEC("xdp")
int espalier_clear(struct xdp_md *ctx)
{
	return hop_verdict(clear(ctx));
}
