/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * fragment.h - fragments follow the first one of their datagram, which has the SPI.
 *
 * One that comes before its first one stays here, and its datagram is lost, as if the fragment had
 * been: the first one goes to the owner all the same. It must: were it kept for those that wait
 * here, anybody could have an old ESP packet put together, and taken, by a member that does not
 * know how far its SA is.
 *
 * Only the first fragment of a packet of an SA makes a note, so a flood of others changes
 * nothing here. A flood of those pushes out the notes used least recently: to lose a datagram,
 * FRAGMENT_NOTES others must begin between its first fragment and its last one.
 */
#ifndef FRAGMENT_H
#define FRAGMENT_H

#include "parse.h"

#define FRAGMENT_NOTES 16384

struct fragment_key {
	__u8 saddr[16]; /* IPv4: in the first four bytes, the rest zero */
	__u8 daddr[16];
	__be32 id;
	__u8 family;
	__u8 protocol; /* IPv4's; 0 in IPv6, which leaves it to the first fragment */
	__u8 reserved[2];
};

/* To whose the datagram is. This program's alone, so not pinned. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, FRAGMENT_NOTES);
	__type(key, struct fragment_key);
	__type(value, struct espalier_flow);
} fragments SEC(".maps");

static __always_inline void fragment_key(const struct packet *packet, struct fragment_key *ret)
{
	const struct iphdr *ip = packet->ip;
	const struct ipv6hdr *ip6 = packet->ip;

	*ret = (struct fragment_key){.id = packet->id, .family = packet->family};
	if (packet->family == FAMILY_INET) {
		ret->protocol = ip->protocol;
		*(__be32 *)ret->saddr = ip->saddr;
		*(__be32 *)ret->daddr = ip->daddr;
	} else {
		__builtin_memcpy(ret->saddr, &ip6->saddr, sizeof(ret->saddr));
		__builtin_memcpy(ret->daddr, &ip6->daddr, sizeof(ret->daddr));
	}
}

/* flow: of the packet that begins here; NULL: it has none, an older note is of another one. */
static __always_inline void fragment_note(
	const struct packet *packet, const struct espalier_flow *flow)
{
	struct fragment_key key;

	fragment_key(packet, &key);
	if (flow)
		bpf_map_update_elem(&fragments, &key, flow, BPF_ANY);
	else
		bpf_map_delete_elem(&fragments, &key);
}

static __always_inline bool fragment_find(const struct packet *packet, struct espalier_flow *ret)
{
	const struct espalier_flow *flow;
	struct fragment_key key;

	fragment_key(packet, &key);
	flow = bpf_map_lookup_elem(&fragments, &key);
	if (flow)
		*ret = *flow;
	return flow;
}

#endif
