/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * hop.h - what steering on the outer side and on the inner side have in common: the next hop (by
 * MAC rewrite), the one-hop rule, ARP for the cluster addresses, and which reason means which
 * verdict.
 */
#ifndef HOP_H
#define HOP_H

#include "parse.h"

enum side { SIDE_OUTER, SIDE_INNER };

/* In 16-bit steps: that is how frames are aligned, whatever the headers' types say. */
static __always_inline bool mac_equal(const void *a, const void *b)
{
	const __u16 *x = a, *y = b;

	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2];
}

static __always_inline void mac_copy(void *to, const void *from)
{
	const __u16 *x = from;
	__u16 *y = to;

	y[0] = x[0];
	y[1] = x[1];
	y[2] = x[2];
}

/* NULL: no such member, or its MAC address on this side is not known. */
static __always_inline const __u8 *member_mac(const struct espalier_member *member, enum side side)
{
	const __u8 *mac = side == SIDE_OUTER ? member->outer_mac : member->inner_mac;
	const __u16 *x = (const void *)mac;

	return x[0] || x[1] || x[2] ? mac : NULL;
}

static __always_inline const struct espalier_member *member_find(__u32 id)
{
	return bpf_map_lookup_elem(&members, &id);
}

/* Sent to this machine's own MAC address: a switch may flood us with frames for others. */
static __always_inline bool hop_is_for_me(const struct frame *frame, enum side side)
{
	const struct espalier_member *me = member_find(settings.self);
	const __u8 *mac = me ? member_mac(me, side) : NULL;

	return mac && mac_equal(frame->eth->h_dest, mac);
}

/* Invariant I3: what comes from a member is never sent on to a member. */
static __always_inline bool hop_is_from_member(const struct frame *frame, enum side side)
{
	for (__u32 id = 0; id < ESPALIER_MEMBERS && id < settings.members; id++) {
		const struct espalier_member *member = member_find(id);
		const __u8 *mac = member ? member_mac(member, side) : NULL;

		if (mac && mac_equal(frame->eth->h_source, mac))
			return true;
	}
	return false;
}

/*
 * Has the agent been heard of lately? Its view is old otherwise: the others have taken over, and
 * may have restarted since, so that they would not know what we send on for ours. The clock that
 * ticks with the timer interrupt is fine enough, and asked once a tick.
 */
static __always_inline bool hop_agent_lives(void)
{
	struct espalier_view *v = view_map();
	__u64 now = bpf_jiffies64();

	if (!v)
		return false;
	if (*(volatile __u64 *)&v->alive_jiffies == now)
		return true;
	if ((__s64)(bpf_ktime_get_coarse_ns() - v->alive_ns) > (__s64)v->dead_ns)
		return false;
	*(volatile __u64 *)&v->alive_jiffies = now;
	return true;
}

/*
 * Makes a frame that is for this member one for that member. False, and no change: that one is no
 * next hop, or our own agent is dead.
 */
static __always_inline bool hop_to_member(struct frame *frame, __u32 id, enum side side)
{
	const struct espalier_member *next = member_find(id);
	const struct espalier_hop *hop = !next                ? NULL
					 : side == SIDE_OUTER ? &next->outer
							      : &next->inner;

	if (!hop || hop->kind != ESPALIER_HOP_LINK || !hop_agent_lives())
		return false;
	mac_copy(frame->eth->h_source, frame->eth->h_dest);
	mac_copy(frame->eth->h_dest, hop->mac);
	return true;
}

/* Does this member answer for the cluster addresses, and is its agent alive to say so? */
static __always_inline bool hop_is_ingress(void)
{
	struct espalier_view_half *half = view_active();

	return half && half->ingress == settings.self && hop_agent_lives();
}

/*
 * A request for a cluster address: the ingress member makes it the reply; the others drop it, since
 * their kernel has the address on lo and would answer too. So is an announcement (gratuitous ARP)
 * by another member: nobody asks.
 */
static __always_inline enum espalier_reason hop_answer_arp(struct frame *frame, enum side side)
{
	struct arp *arp = parse_arp_request(frame);
	const struct espalier_member *me = member_find(settings.self);
	const __u8 *mac = me ? member_mac(me, side) : NULL;
	__be32 asked;

	if (!arp || !is_cluster_address(arp->target_ip))
		return ESPALIER_NOT_OURS;
	asked = arp->target_ip;
	if (!mac || arp->sender_ip == asked || !hop_is_ingress())
		return ESPALIER_ARP_LEFT;

	mac_copy(frame->eth->h_dest, frame->eth->h_source);
	mac_copy(frame->eth->h_source, mac);
	arp->operation = bpf_htons(2);
	mac_copy(arp->target_mac, arp->sender_mac);
	arp->target_ip = arp->sender_ip;
	mac_copy(arp->sender_mac, mac);
	arp->sender_ip = asked;
	return ESPALIER_ARP_ANSWERED;
}

/* Counts the reason and says what it means for the packet. */
static __always_inline int hop_verdict(enum espalier_reason reason)
{
	count(reason);
	switch (reason) {
	case ESPALIER_FORWARDED:
	case ESPALIER_CLEAR_FORWARDED:
	case ESPALIER_ARP_ANSWERED:
		return XDP_TX;
	case ESPALIER_MALFORMED:
	case ESPALIER_NO_OWNER:
	case ESPALIER_CLEAR_NO_OWNER:
	case ESPALIER_ARP_LEFT:
		return XDP_DROP;
	default:
		return XDP_PASS;
	}
}

#endif
