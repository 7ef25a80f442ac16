/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * floor.h - ESP of SAs that this member has just taken over: what is not above the floor has been
 * taken by the owner before, or is too old. What is above proves nothing, and moves nothing: the
 * kernel looks at its ICV.
 */
#ifndef FLOOR_H
#define FLOOR_H

#include "extensions.h"

/* NULL: no ESP, or its header is in another fragment, without which the kernel has nothing. */
static __always_inline const struct esp *floor_esp(
	const struct frame *frame, const struct packet *packet)
{
	const struct udphdr *udp = packet->next;
	const struct esp *esp = packet->next;

	if (packet->type == IPPROTO_UDP) {
		if ((void *)(udp + 1) > frame->end || udp->dest != bpf_htons(NAT_T_PORT))
			return NULL;
		esp = (const void *)(udp + 1);
	} else if (packet->type != IPPROTO_ESP) {
		return NULL;
	}
	return (void *)(esp + 1) > frame->end ? NULL : esp;
}

/*
 * With ESN a packet has the low half of its number. This kernel's window is less than 2^30 below
 * the floor, and takes nothing up to there (agent/core/inbound.c): so what is below the floor by
 * less than 2^31 is old, and the rest is ahead.
 */
static __always_inline bool floor_is_above(const struct espalier_sa *sa, __u64 floor, __u32 seq)
{
	return sa->esn ? (__s32)(seq - (__u32)floor) > 0 : seq > floor;
}

/* In a global function: the verifier goes through it once. Not 0: it is to be dropped. */
__weak __noinline int floor_stops(struct xdp_md *ctx)
{
	struct espalier_sa_key key = {};
	const struct espalier_counter *counter;
	const struct espalier_sa *sa;
	struct packet packet = {};
	const struct esp *esp;
	struct frame frame;

	if (!parse_frame(ctx, &frame) || !parse_ip(&frame, &packet) ||
		!parse_extensions(ctx, &frame, &packet) || packet.fragment == FRAGMENT_LATER)
		return false;
	esp = floor_esp(&frame, &packet);
	if (!esp)
		return false;
	key.spi = esp->spi;
	key.family = packet.family;
	if (packet.family == FAMILY_INET)
		*(__be32 *)key.daddr = ((const struct iphdr *)packet.ip)->daddr;
	else
		__builtin_memcpy(
			key.daddr, &((const struct ipv6hdr *)packet.ip)->daddr, sizeof(key.daddr));
	sa = bpf_map_lookup_elem(&sas, &key);
	counter = sa ? counter_of(sa) : NULL;
	return counter && counter->floor &&
	       !floor_is_above(sa, counter->floor, bpf_ntohl(esp->seq));
}

#endif
