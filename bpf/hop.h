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

static __always_inline bool mac_equal(const __u8 *a, const __u8 *b)
{
	return *(__u16 *)a == *(__u16 *)b && *(__u16 *)(a + 2) == *(__u16 *)(b + 2) &&
	       *(__u16 *)(a + 4) == *(__u16 *)(b + 4);
}

static __always_inline bool mac_known(const __u8 *mac)
{
	return *(__u16 *)mac || *(__u16 *)(mac + 2) || *(__u16 *)(mac + 4);
}

/* NULL: no such member, or its MAC address on this side is not known. */
static __always_inline const __u8 *member_mac(__u32 id, enum side side)
{
	struct espalier_member *member = bpf_map_lookup_elem(&members, &id);
	const __u8 *mac;

	if (!member)
		return NULL;
	mac = side == SIDE_OUTER ? member->outer_mac : member->inner_mac;
	return mac_known(mac) ? mac : NULL;
}

/* Sent to this machine's own MAC address: a switch may flood us with frames for others. */
static __always_inline bool hop_is_for_me(const struct frame *frame, enum side side)
{
	const __u8 *mac = member_mac(settings.self, side);

	return mac && mac_equal(frame->eth->h_dest, mac);
}

/* Invariant I3: what comes from a member is never sent on to a member. */
static __always_inline bool hop_is_from_member(const struct frame *frame, enum side side)
{
	for (__u32 id = 0; id < ESPALIER_MEMBERS && id < settings.members; id++) {
		const __u8 *mac = member_mac(id, side);

		if (mac && mac_equal(frame->eth->h_source, mac))
			return true;
	}
	return false;
}

static __always_inline bool member_is_next_hop(__u32 id)
{
	struct espalier_member *member = bpf_map_lookup_elem(&members, &id);

	return member && member->next_hop;
}

/* Makes it a frame from this member to that one. False, and no change: that one is no next hop. */
static __always_inline bool hop_to_member(struct frame *frame, __u32 id, enum side side)
{
	const __u8 *mine = member_mac(settings.self, side), *mac = member_mac(id, side);

	if (!mine || !mac || !member_is_next_hop(id))
		return false;
	__builtin_memcpy(frame->eth->h_dest, mac, ETH_ALEN);
	__builtin_memcpy(frame->eth->h_source, mine, ETH_ALEN);
	return true;
}

/* Does this member answer for the cluster addresses, and is its agent alive to say so? */
static __always_inline bool hop_is_ingress(void)
{
	struct espalier_view_half *half = view_active();
	struct espalier_view *v = view_map();

	return v && half && half->ingress == settings.self &&
	       (__s64)(bpf_ktime_get_ns() - v->alive_ns) <= (__s64)v->dead_ns;
}

/*
 * A request for a cluster address: the ingress member makes it the reply; the others drop it, since
 * their kernel has the address on lo and would answer too. So is an announcement (gratuitous ARP)
 * by another member: nobody asks.
 */
static __always_inline enum espalier_reason hop_answer_arp(struct frame *frame, enum side side)
{
	struct arp *arp = parse_arp_request(frame);
	const __u8 *mine = member_mac(settings.self, side);
	__be32 asked;

	if (!arp || !is_cluster_address(arp->target_ip))
		return ESPALIER_NOT_OURS;
	asked = arp->target_ip;
	if (!mine || arp->sender_ip == asked || !hop_is_ingress())
		return ESPALIER_ARP_LEFT;

	__builtin_memcpy(frame->eth->h_dest, frame->eth->h_source, ETH_ALEN);
	__builtin_memcpy(frame->eth->h_source, mine, ETH_ALEN);
	arp->operation = bpf_htons(2);
	__builtin_memcpy(arp->target_mac, arp->sender_mac, ETH_ALEN);
	arp->target_ip = arp->sender_ip;
	__builtin_memcpy(arp->sender_mac, mine, ETH_ALEN);
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
