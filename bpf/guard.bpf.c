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

/* Not static: the verifier judges it alone, once for all headers, and asks about NULL. */
__attribute__((noinline)) int guard_follow(struct __sk_buff *skb, struct followed *p)
{
	return p ? follow(skb, p) : FOUND_BROKEN;
}

/* `protocol` is that of the first header behind Ethernet; a tag there is in the frame, and where
 * the network header then is depends on who has put it there. */
static __always_inline enum found find_esp(struct __sk_buff *skb, struct followed *p)
{
	int found = FOUND_MORE;

	*p = (struct followed){.start = BPF_HDR_START_NET, .type = bpf_ntohs(skb->protocol)};
	if (p->type == ETH_P_8021Q || p->type == ETH_P_8021AD) {
		p->start = BPF_HDR_START_MAC;
		p->type = ETH_P_TEB;
	}
	for (int i = 0; found == FOUND_MORE && i < STEPS; i++)
		found = guard_follow(skb, p);
	if (found == FOUND_ESP || found == FOUND_OTHER)
		return found;
	return p->ours ? FOUND_BROKEN : FOUND_OTHER;
}

static __always_inline enum espalier_reason guard(struct __sk_buff *skb)
{
	bool outer = skb->ifindex == settings.outer;
	enum espalier_reason reason;
	struct followed packet;

	switch (find_esp(skb, &packet)) {
	case FOUND_ESP:
		break;
	case FOUND_BROKEN:
		return ESPALIER_GUARD_MALFORMED;
	default:
		return ESPALIER_UNGUARDED;
	}
	reason = judge(&packet, skb->mark, skb->gso_segs ?: !skb->gso_size, outer);
	return reason == ESPALIER_EMITTED && !outer ? ESPALIER_EMITTED_ELSEWHERE : reason;
}

SEC("tc")
int espalier_guard(struct __sk_buff *skb)
{
	enum espalier_reason reason = guard(skb);

	count(reason);
	return lets_out(reason) ? TC_ACT_UNSPEC : TC_ACT_SHOT; /* on to the next tc program */
}
