/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * hop.h - what steering on the outer side and on the inner side have in common: who owns a flow,
 * the way to him (by MAC rewrite, or in IP-in-IP), the one-hop rule, and which reason means which
 * verdict.
 */
#ifndef HOP_H
#define HOP_H

#include "floor.h"

#define UNDECIDED ESPALIER_REASON_COUNT /* it has a flow: whose that is decides */

enum side { SIDE_OUTER, SIDE_INNER };

/* The same thing has happened on that side. */
#define HOP_REASON(side, name) ((side) == SIDE_OUTER ? ESPALIER_##name : ESPALIER_CLEAR_##name)

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

/* NULL: no such member. */
static __always_inline const struct espalier_hop *member_hop(__u32 id, enum side side)
{
	const struct espalier_member *member = member_find(id);

	if (!member)
		return NULL;
	barrier_var(member); /* or the compiler may add to it before it looks for NULL */
	return side == SIDE_OUTER ? &member->outer : &member->inner;
}

/* Sent to this machine's own MAC address: a switch may flood us with frames for others. */
static __always_inline bool hop_is_for_me(
	const struct espalier_view *v, const struct frame *frame, enum side side)
{
	return mac_equal(frame->eth->h_dest, side == SIDE_OUTER ? v->outer_mac : v->inner_mac);
}

/* Broadcast or multicast. What is for one other machine the kernel leaves alone; this it takes. */
static __always_inline bool hop_is_for_many(const struct frame *frame)
{
	return frame->eth->h_dest[0] & 1;
}

/* Invariant I3: what comes from a member is never sent on to a member. */
static __always_inline bool hop_is_from_member(
	const struct espalier_view *v, const struct frame *frame, enum side side)
{
	__u64 macs = side == SIDE_OUTER ? v->outer_macs : v->inner_macs;

	if (!(macs & espalier_mac_bit(frame->eth->h_source)))
		return false;
	for (__u32 id = 0; id < ESPALIER_MEMBERS && id < settings.members; id++) {
		const struct espalier_member *member = member_find(id);
		const __u8 *mac = member ? member_mac(member, side) : NULL;

		if (mac && mac_equal(frame->eth->h_source, mac))
			return true;
	}
	return false;
}

/*
 * What is left of the lease (agent/core/member.h) under which this member answers for the cluster
 * addresses and sends on to others. None: its view is old, the others may have taken over, and may
 * have restarted since, so that they would not know what we send on for ours. By the exact clock:
 * nobody else begins before the lease has ended, and soon after that somebody does.
 */
static __always_inline __s64 hop_lease_left(const struct espalier_view *v)
{
	__u64 since = *(const volatile __u64 *)&v->heartbeat_ns;

	return (__s64)(since + v->lease_ns - bpf_ktime_get_ns());
}

/* That clock costs several times what steering does: it is asked once a timer tick, unless the
 * lease may end before the next one. */
static __always_inline bool hop_lease_holds(struct espalier_view *v)
{
	__u64 now = bpf_jiffies64();
	__s64 left;

	if (*(volatile __u64 *)&v->lease_jiffies == now)
		return true;
	left = hop_lease_left(v);
	if (left > settings.tick_ms * 1000000LL)
		*(volatile __u64 *)&v->lease_jiffies = now;
	return left > 0;
}

#include "tunnel.h"

/* Sends a frame that is for this member on to that member: on the same link it gets the MAC
 * address of that one. */
static __always_inline enum espalier_reason hop_to_member(
	struct xdp_md *ctx, struct espalier_view *v, struct frame *frame, __u32 id, enum side side)
{
	const struct espalier_hop *hop = member_hop(id, side);

	if (!hop || hop->kind == ESPALIER_HOP_NONE || !hop_lease_holds(v))
		return HOP_REASON(side, NO_NEXT_HOP);
	if (hop->kind != ESPALIER_HOP_LINK)
		return tunnel_send(ctx, frame, hop,
			side == SIDE_OUTER ? v->outer_mac : v->inner_mac, id, side);
	mac_copy(frame->eth->h_source, frame->eth->h_dest);
	mac_copy(frame->eth->h_dest, hop->mac);
	return HOP_REASON(side, FORWARDED);
}

/*
 * What becomes of a packet of a flow. unwrapped: it came in a member's IP-in-IP.
 *
 * What a member has sent here, and is another one's here, is not sent on again (I3). From the outer
 * side it is not passed up either: anybody could have sent it, under a member's name, and an old
 * packet, which this member's kernel could not tell from a new one. But while buckets change hands
 * its sender may hold this member for the owner: then it is, if it is above the floor.
 */
static __always_inline enum espalier_reason hop_decide(struct xdp_md *ctx, struct espalier_view *v,
	struct frame *frame, const struct espalier_flow *flow, enum side side, bool unwrapped)
{
	__u8 owner = view_owner_marked(v, flow);
	bool left;

	if (owner == settings.self)
		return HOP_REASON(side, LOCAL);
	if (owner == ESPALIER_NOBODY)
		return HOP_REASON(side, NO_OWNER);
	left = unwrapped || hop_is_from_member(v, frame, side);
	if (owner == (settings.self | ESPALIER_RAISING) || (left && view_active(v)->handing))
		return side == SIDE_OUTER && floor_stops(ctx) ? ESPALIER_REPLAYED
							      : HOP_REASON(side, LOCAL);
	owner &= ~ESPALIER_RAISING;
	if (left)
		return unwrapped ? ESPALIER_TUNNEL_LEFT : HOP_REASON(side, ONE_HOP);
	if (!hop_is_for_me(v, frame, side))
		return side == SIDE_OUTER && hop_is_for_many(frame) ? ESPALIER_TO_MANY
								    : ESPALIER_NOT_OURS;
	return hop_to_member(ctx, v, frame, owner, side);
}

/* Counts the reason and says what it means for the packet. */
static __always_inline int hop_verdict(enum espalier_reason reason)
{
	count(reason);
	switch (reason) {
	case ESPALIER_FORWARDED:
	case ESPALIER_TUNNELLED:
	case ESPALIER_TOO_BIG:
	case ESPALIER_CLEAR_FORWARDED:
	case ESPALIER_CLEAR_TUNNELLED:
	case ESPALIER_CLEAR_TOO_BIG:
	case ESPALIER_ARP_ANSWERED:
	case ESPALIER_ND_ANSWERED:
		return XDP_TX;
	case ESPALIER_MALFORMED:
	case ESPALIER_REPLAYED:
	case ESPALIER_ONE_HOP:
	case ESPALIER_TO_MANY:
	case ESPALIER_NO_NEXT_HOP:
	case ESPALIER_NO_OWNER:
	case ESPALIER_CLEAR_NO_OWNER:
	case ESPALIER_TOO_BIG_LEFT:
	case ESPALIER_TUNNEL_STRANGER:
	case ESPALIER_TUNNEL_LEFT:
	case ESPALIER_ARP_LEFT:
	case ESPALIER_ND_LEFT:
		return XDP_DROP;
	default:
		return XDP_PASS;
	}
}

#endif
