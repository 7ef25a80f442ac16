/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * steer.bpf.c - XDP on the outer interface: each ESP packet for a cluster address, bare or in UDP,
 * goes to the member that owns its SPI's bucket.
 */
#include "hop.h"

static __always_inline enum found find_esp_in_ipv4(
	const struct frame *frame, const struct esp **ret)
{
	struct iphdr *ip = parse_ipv4(frame);

	if (!ip || !is_cluster_address(ip->daddr))
		return FOUND_NOT_OURS;
	if (parse_later_fragment(ip))
		return FOUND_OTHER;
	if (ip->ihl < 5)
		return FOUND_BROKEN;
	return parse_esp(frame, (void *)ip + ip->ihl * 4, ip->protocol, ret);
}

static __always_inline enum found find_esp_in_ipv6(
	const struct frame *frame, const struct esp **ret)
{
	struct ipv6hdr *ip = parse_ipv6(frame);

	if (!ip || !is_cluster_address6(&ip->daddr))
		return FOUND_NOT_OURS;
	return parse_esp6(frame, ip, ret);
}

static __always_inline enum espalier_reason steer(const struct xdp_md *ctx)
{
	const struct esp *esp = NULL;
	struct frame frame;
	enum found found;
	__u32 bucket;
	__u8 owner;

	/* parse */
	if (!parse_frame(ctx, &frame))
		return ESPALIER_NOT_OURS;
	if (frame.protocol == bpf_htons(ETH_P_ARP))
		return hop_answer_arp(&frame, SIDE_OUTER);
	found = frame.protocol == bpf_htons(ETH_P_IPV6) ? find_esp_in_ipv6(&frame, &esp)
							: find_esp_in_ipv4(&frame, &esp);
	if (found == FOUND_NOT_OURS)
		return ESPALIER_NOT_OURS;
	if (found == FOUND_BROKEN)
		return ESPALIER_MALFORMED;
	if (found == FOUND_OTHER || !esp)
		return ESPALIER_NOT_ESP;

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
