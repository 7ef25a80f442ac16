/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * tunnel.h - the way to a member on another link: IP-in-IP, over IPv4 (RFC 2003, RFC 4213) or IPv6
 * (RFC 2473), put on here and taken off at the other end. The addresses are the members' own.
 *
 * Only the programs built with TUNNEL have it (bpf/..._tunnel.bpf.c), which the agent loads where
 * this member has an address of its own: from 6.12 on a program that moves a packet's beginning
 * does not fit into the dispatchers that other tools' libxdp makes, before 1.5.5, when they add to
 * ours (dispatcher.c).
 */
#ifndef TUNNEL_H
#define TUNNEL_H

#ifndef TUNNEL
#define TUNNEL 0
#endif

#define TUNNEL_DF 0x4000 /* not to be fragmented: the other end does not put fragments together */
#define TUNNEL_TTL 64

/* What is in front of the IP header: Ethernet, and up to two tags. */
#define LINK_PLAIN ETH_HLEN
#define LINK_TAG (LINK_PLAIN + sizeof(struct vlan_tag))
#define LINK_TAGS (LINK_TAG + sizeof(struct vlan_tag))

struct link_header {
	__u16 words[LINK_TAGS / 2];
	__u32 size; /* one of the three */
};

static __always_inline void link_copy(__u16 *to, const __u16 *from, unsigned int size)
{
#pragma unroll
	for (unsigned int i = 0; i < LINK_TAGS / 2; i++)
		if (i < size / 2)
			to[i] = from[i];
}

/* False: no IP packet begins so. */
static __always_inline bool link_take(const struct frame *frame, struct link_header *ret)
{
	if ((void *)frame->eth + LINK_TAGS > frame->end)
		return false;
	link_copy(ret->words, (const void *)frame->eth, LINK_TAGS);
	ret->size = frame->payload - (void *)frame->eth;
	return true;
}

/* Puts it where the packet begins now; what follows is of another type. */
static __always_inline bool link_put(
	struct xdp_md *ctx, const struct link_header *link, __be16 type)
{
	__u16 *data = (void *)(long)ctx->data;

	if ((void *)data + LINK_TAGS > (void *)(long)ctx->data_end)
		return false;
	switch (link->size) {
	case LINK_PLAIN:
		link_copy(data, link->words, LINK_PLAIN);
		data[LINK_PLAIN / 2 - 1] = type;
		return true;
	case LINK_TAG:
		link_copy(data, link->words, LINK_TAG);
		data[LINK_TAG / 2 - 1] = type;
		return true;
	case LINK_TAGS:
		link_copy(data, link->words, LINK_TAGS);
		data[LINK_TAGS / 2 - 1] = type;
		return true;
	default:
		return false;
	}
}

#if TUNNEL
#include "toobig.h"

/* By the IP header, in bytes; 0: not IP. */
static __always_inline __u32 tunnel_packet_size(const struct frame *frame)
{
	const struct iphdr *ip = parse_ipv4(frame);
	const struct ipv6hdr *ip6 = parse_ipv6(frame);

	return ip ? bpf_ntohs(ip->tot_len) : ip6 ? sizeof(*ip6) + bpf_ntohs(ip6->payload_len) : 0;
}

static __always_inline void tunnel_put_ipv4(
	struct iphdr *ip, const struct espalier_hop *hop, __u8 protocol, __u32 size)
{
	__u32 length = bpf_htons(sizeof(*ip) + size);

	*ip = (struct iphdr){.version = 4,
		.ihl = sizeof(*ip) / 4,
		.tot_len = length,
		.frag_off = bpf_htons(TUNNEL_DF),
		.ttl = TUNNEL_TTL,
		.protocol = protocol,
		.check = parse_fold(hop->check + length + bpf_htons(protocol)),
		.saddr = *(const __be32 *)hop->from,
		.daddr = *(const __be32 *)hop->to};
}

static __always_inline void tunnel_put_ipv6(
	struct ipv6hdr *ip, const struct espalier_hop *hop, __u8 protocol, __u32 size)
{
	*ip = (struct ipv6hdr){.version = 6,
		.payload_len = bpf_htons(size),
		.nexthdr = protocol,
		.hop_limit = TUNNEL_TTL};
	__builtin_memcpy(&ip->saddr, hop->from, sizeof(ip->saddr));
	__builtin_memcpy(&ip->daddr, hop->to, sizeof(ip->daddr));
}

/* Makes room, and the link header there that leads to the hop's router. */
static __always_inline bool tunnel_make_room(
	struct xdp_md *ctx, const struct frame *frame, const struct espalier_hop *hop)
{
	bool ipv4 = hop->kind == ESPALIER_HOP_IPV4;
	struct link_header link;

	if (!link_take(frame, &link))
		return false;
	mac_copy(link.words + ETH_ALEN / 2, link.words);
	mac_copy(link.words, hop->mac);
	return !bpf_xdp_adjust_head(
		       ctx, -(int)(ipv4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr))) &&
	       link_put(ctx, &link, bpf_htons(ipv4 ? ETH_P_IP : ETH_P_IPV6));
}

static __always_inline bool tunnel_put_ip(
	const struct frame *frame, const struct espalier_hop *hop, __u8 protocol, __u32 size)
{
	if (hop->kind == ESPALIER_HOP_IPV4 && frame->payload + sizeof(struct iphdr) <= frame->end)
		tunnel_put_ipv4(frame->payload, hop, protocol, size);
	else if (hop->kind == ESPALIER_HOP_IPV6 &&
		 frame->payload + sizeof(struct ipv6hdr) <= frame->end)
		tunnel_put_ipv6(frame->payload, hop, protocol, size);
	else
		return false;
	return true;
}

static __always_inline __u8 tunnel_protocol(const struct frame *frame)
{
	return frame->protocol == bpf_htons(ETH_P_IP) ? IPPROTO_IPIP : IPPROTO_IPV6;
}

/* Any packet. In a global function: the verifier goes through it once. */
__weak __noinline int tunnel_send_any(struct xdp_md *ctx, __u32 id, enum side side)
{
	const struct espalier_hop *hop = member_hop(id, side);
	struct frame frame;
	__u8 protocol;
	__u32 size;

	if (!hop || !parse_frame(ctx, &frame))
		return HOP_REASON(side, NO_NEXT_HOP);
	protocol = tunnel_protocol(&frame);
	size = tunnel_packet_size(&frame);
	/* what its header says is longer than it is would come out longer than it went in */
	if (!size || (__u64)(frame.payload - (void *)frame.eth) + size > bpf_xdp_get_buff_len(ctx))
		return ESPALIER_MALFORMED;
	if (size > hop->mtu)
		return toobig_answer(ctx, &frame, hop->mtu, side) ? HOP_REASON(side, TOO_BIG)
								  : ESPALIER_TOO_BIG_LEFT;
	if (!tunnel_make_room(ctx, &frame, hop) || !parse_frame(ctx, &frame) ||
		!tunnel_put_ip(&frame, hop, protocol, size))
		return HOP_REASON(side, NO_NEXT_HOP);
	return HOP_REASON(side, TUNNELLED);
}

/* The common case: a whole packet in a plain frame, which fits. mac: our own. */
static __always_inline enum espalier_reason tunnel_send(struct xdp_md *ctx,
	const struct frame *frame, const struct espalier_hop *hop, const __u8 *mac, __u32 id,
	enum side side)
{
	bool ipv4 = hop->kind == ESPALIER_HOP_IPV4;
	__u8 protocol = tunnel_protocol(frame);
	__u32 size = tunnel_packet_size(frame);
	struct frame outer;

	if (frame->payload != (void *)(frame->eth + 1) || !size || size > hop->mtu ||
		frame->payload + size > frame->end ||
		bpf_xdp_adjust_head(
			ctx, -(int)(ipv4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr))))
		return tunnel_send_any(ctx, id, side);
	outer = (struct frame){.eth = (void *)(long)ctx->data, .end = (void *)(long)ctx->data_end};
	outer.payload = outer.eth + 1;
	if (outer.payload > outer.end)
		return ESPALIER_MALFORMED;
	mac_copy(outer.eth->h_dest, hop->mac);
	mac_copy(outer.eth->h_source, mac);
	outer.eth->h_proto = bpf_htons(ipv4 ? ETH_P_IP : ETH_P_IPV6);
	return tunnel_put_ip(&outer, hop, protocol, size) ? HOP_REASON(side, TUNNELLED)
							  : ESPALIER_MALFORMED;
}

/* To this member's own address, with IP in it? *ret_size: of the header around it. */
static __always_inline bool tunnel_is_mine(
	const struct frame *frame, __u8 *ret_protocol, __u32 *ret_size)
{
	const struct iphdr *ip = parse_ipv4(frame);
	const struct ipv6hdr *ip6 = parse_ipv6(frame);

	if (settings.tunnel_family == FAMILY_INET && ip) {
		*ret_protocol = ip->protocol;
		*ret_size = ip->ihl * 4;
		return ip->daddr == *(const volatile __be32 *)settings.tunnel &&
		       parse_fragment(ip) == FRAGMENT_NONE &&
		       (ip->protocol == IPPROTO_IPIP || ip->protocol == IPPROTO_IPV6);
	}
	if (settings.tunnel_family == FAMILY_INET6 && ip6) {
		const volatile __u64 *tunnel = (const volatile __u64 *)settings.tunnel;
		const __u64 *to = (const void *)&ip6->daddr;

		*ret_protocol = ip6->nexthdr;
		*ret_size = sizeof(*ip6);
		return to[0] == tunnel[0] && to[1] == tunnel[1] &&
		       (ip6->nexthdr == IPPROTO_IPIP || ip6->nexthdr == IPPROTO_IPV6);
	}
	return false;
}

/* From the address that a member has IP-in-IP sent to? It may take another way than we to it. */
static __always_inline bool tunnel_is_from_member(const struct frame *frame, enum side side)
{
	const struct iphdr *ip = parse_ipv4(frame);
	const struct ipv6hdr *ip6 = parse_ipv6(frame);
	__u64 from[2] = {};

	if (ip)
		*(__be32 *)from = ip->saddr;
	else if (ip6)
		__builtin_memcpy(from, &ip6->saddr, sizeof(from));
	if (!from[0] && !from[1])
		return false;
	/* 64 bits: beside a key on the stack the verifier forgets a counter of 32 */
	for (__u64 id = 0; id < ESPALIER_MEMBERS && id < settings.members; id++) {
		const struct espalier_hop *hop = member_hop(id, side);
		const __u64 *to = hop ? (const void *)hop->to : NULL;

		if (to && from[0] == to[0] && from[1] == to[1])
			return true;
	}
	return false;
}

/*
 * Takes off what a member has put on. 0: it has not, and nothing has changed. So it is if what is
 * in it is too short for an IP header: the link header might find no room before its end.
 */
__weak __noinline int tunnel_unwrap(struct xdp_md *ctx, enum side side)
{
	struct link_header link;
	struct frame frame;
	__u8 protocol;
	__u32 size;

	if (!parse_frame(ctx, &frame) || !tunnel_is_mine(&frame, &protocol, &size) ||
		!tunnel_is_from_member(&frame, side) || !link_take(&frame, &link) ||
		frame.payload + size + sizeof(struct iphdr) > frame.end)
		return 0;
	return !bpf_xdp_adjust_head(ctx, (int)size) &&
	       link_put(ctx, &link, bpf_htons(protocol == IPPROTO_IPIP ? ETH_P_IP : ETH_P_IPV6));
}

/*
 * If this is IP-in-IP of a member's (*ret), it is taken off. False: that is for nobody. Parses the
 * frame again: the verifier trusts no pointer from before.
 */
static __always_inline bool tunnel_receive(
	struct xdp_md *ctx, struct frame *frame, enum side side, bool *ret)
{
	__u8 protocol;
	__u32 size;

	*ret = false;
	if (!settings.tunnel_family || !tunnel_is_mine(frame, &protocol, &size))
		return true;
	*ret = tunnel_unwrap(ctx, side);
	return parse_frame(ctx, frame);
}

#else

static __always_inline enum espalier_reason tunnel_send(struct xdp_md *ctx,
	const struct frame *frame, const struct espalier_hop *hop, const __u8 *mac, __u32 id,
	enum side side)
{
	(void)ctx;
	(void)frame;
	(void)hop;
	(void)mac;
	(void)id;
	return HOP_REASON(side, NO_NEXT_HOP);
}

static __always_inline bool tunnel_receive(
	struct xdp_md *ctx, struct frame *frame, enum side side, bool *ret)
{
	(void)ctx;
	(void)frame;
	(void)side;
	*ret = false;
	return true;
}

#endif
#endif
