/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * steer.bpf.c - XDP on the outer interface: each packet of an SA for a cluster address (ESP, bare
 * or in UDP, AH, IKE) goes to the member that owns its bucket.
 */
#include "hop.h"
#include "key.h"

static __always_inline enum espalier_reason steer(struct xdp_md *ctx)
{
	enum espalier_reason reason;
	struct frame frame;
	struct key key = {};
	__u8 owner;

	/* parse */
	if (!parse_frame(ctx, &frame))
		return ESPALIER_NOT_OURS;
	if (frame.protocol == bpf_htons(ETH_P_ARP))
		return hop_answer_arp(&frame, SIDE_OUTER);

	/* key */
	reason = frame.protocol == bpf_htons(ETH_P_IPV6) ? key_of_ipv6(ctx, &frame, &key)
							 : key_of_ipv4(ctx, &frame, &key);
	if (reason != UNDECIDED)
		return reason;

	/* owner */
	owner = view_owner(&key.flow);
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
