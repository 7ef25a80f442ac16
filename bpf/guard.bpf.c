/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * guard.bpf.c - the never-repeat rule (RFC 6027 3.4), at tc egress of every interface. A packet
 * from a cluster address leaves only if this member owns its SA and all of its sequence numbers lie
 * in blocks that this member has entered. The maps are pinned: this holds without the agent. Where
 * there may be ESP behind headers that cannot be followed, the packet does not leave.
 */
#include <linux/pkt_cls.h>
#include "follow.h"
#include "blocks.h"

#define READABLE 256 /* of a packet's bytes; its headers may lie beyond the linear part */

static __always_inline bool follow_load(void *ctx, const struct followed *p, void *buf, __u32 size)
{
	struct __sk_buff *skb = ctx;
	__u32 readable = skb->len < READABLE ? skb->len : READABLE;

	return !bpf_skb_load_bytes_relative(skb, p->offset, buf, size, p->start) ||
	       (!bpf_skb_pull_data(skb, readable) &&
		       !bpf_skb_load_bytes_relative(skb, p->offset, buf, size, p->start));
}

/* Not static: see step(). The verifier asks about NULL. */
__attribute__((noinline)) int guard_step(struct __sk_buff *skb, struct followed *p)
{
	return p ? step(skb, p, skb->mark, skb->gso_segs ?: !skb->gso_size,
			   skb->ifindex == settings.outer)
		 : FOUND_BROKEN;
}

/* `protocol` is that of the first header behind Ethernet; a tag there is in the frame, and where
 * the network header then is depends on who has put it there. */
static __always_inline void begin(const struct __sk_buff *skb, struct followed *p)
{
	*p = (struct followed){.start = BPF_HDR_START_NET,
		.type = bpf_ntohs(skb->protocol),
		.reason = ESPALIER_UNGUARDED};
	if (p->type == ETH_P_8021Q || p->type == ETH_P_8021AD) {
		p->start = BPF_HDR_START_MAC;
		p->type = ETH_P_TEB;
	}
}

static __always_inline enum espalier_reason guard(struct __sk_buff *skb)
{
	enum espalier_reason reason;
	struct followed packet;
	int found = FOUND_MORE;

	begin(skb, &packet);
	for (int i = 0; found == FOUND_MORE && i < STEPS; i++)
		found = guard_step(skb, &packet);
	reason = at_the_end(&packet, found);
	return reason == ESPALIER_EMITTED && skb->ifindex != settings.outer
		       ? ESPALIER_EMITTED_ELSEWHERE
		       : reason;
}

SEC("tc")
int espalier_guard(struct __sk_buff *skb)
{
	enum espalier_reason reason = guard(skb);

	count(reason);
	return lets_out(reason) ? TC_ACT_UNSPEC : TC_ACT_SHOT; /* on to the next tc program */
}
