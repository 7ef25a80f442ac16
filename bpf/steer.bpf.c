/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * steer.bpf.c - XDP on the outer interface: each ESP packet for a cluster address goes to the
 * member that owns its SPI's bucket.
 */
#include "hop.h"

static __always_inline enum espalier_reason steer(const struct xdp_md *ctx)
{
	struct frame frame;
	struct iphdr *ip;
	struct esp *esp;
	__u32 bucket;
	__u8 owner;

	/* parse */
	if (!parse_frame(ctx, &frame))
		return ESPALIER_NOT_OURS;
	if (frame.protocol == bpf_htons(ETH_P_ARP))
		return hop_answer_arp(&frame, SIDE_OUTER);
	ip = parse_ipv4(&frame);
	if (!ip || !is_cluster_address(ip->daddr))
		return ESPALIER_NOT_OURS;
	if (ip->protocol != IPPROTO_ESP || parse_later_fragment(ip))
		return ESPALIER_NOT_ESP;
	esp = parse_esp(&frame, ip);
	if (!esp)
		return ESPALIER_MALFORMED;

	/* key */
	bucket = espalier_bucket(bpf_ntohl(esp->spi), settings.hash);

	/* owner */
	owner = view_owner(bucket);
	if (owner == settings.self)
		return ESPALIER_LOCAL;
	if (owner == ESPALIER_NOBODY)
		return ESPALIER_NO_OWNER;

	/* verdict */
	if (hop_is_from_member(&frame, SIDE_OUTER))
		return ESPALIER_ONE_HOP;
	if (!hop_is_for_me(&frame, SIDE_OUTER))
		return ESPALIER_NOT_OURS;
	if (!hop_to_member(&frame, owner, SIDE_OUTER))
		return ESPALIER_NO_NEXT_HOP;
	return ESPALIER_FORWARDED;
}

SEC("xdp")
int espalier_steer(struct xdp_md *ctx)
{
	return hop_verdict(steer(ctx));
}
