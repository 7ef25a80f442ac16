/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * key.h - from a packet's headers to the flow that it belongs to: by the SPI of ESP (bare or in
 * UDP) and AH, by IKE's SPIs, by the note of a first fragment, by what an ICMP error is about.
 * Functions return UNDECIDED and the flow, or what becomes of a packet that has none.
 */
#ifndef KEY_H
#define KEY_H

#include "extensions.h"
#include "fragment.h"
#include "hop.h"

#define ICMP_HEADER 8 /* of an error, RFC 792 and RFC 4443; the packet it is about follows */
#define IKE_PORT 500
#define IKE_HEADER 28 /* RFC 7296 3.1, all of it */
#define IKE_VERSION_2 2
#define IKE_INITIATOR 0x08 /* flag: from the initiator of the IKE SA */
#define NON_ESP_MARKER 4 /* RFC 3948 2.2: zero bytes in front of IKE, where ESP has its SPI */
#define KEEPALIVE_BYTE 0xff /* RFC 3948 2.3 */

struct key {
	struct espalier_flow flow;
	__be32 spi; /* of whole ESP packets, which other CPUs may process; else 0 */
	bool common; /* by key_of_esp(): nobody has looked for a pin yet */
};

static __always_inline struct espalier_flow key_bucket(__be32 spi)
{
	return (struct espalier_flow){.bucket = espalier_bucket(bpf_ntohl(spi), settings.hash)};
}

/* An SA may be pinned. ip: the packet's header. False: it is not. */
static __noinline bool key_find_pin(__be32 spi, enum espalier_protocol protocol, __u8 family,
	const void *ip, struct espalier_flow *ret)
{
	struct espalier_sa_key sa = {.spi = spi, .family = family, .protocol = protocol};
	const struct espalier_flow *pin;

	if (family == FAMILY_INET)
		*(__be32 *)sa.daddr = ((const struct iphdr *)ip)->daddr;
	else
		__builtin_memcpy(sa.daddr, &((const struct ipv6hdr *)ip)->daddr, sizeof(sa.daddr));
	pin = bpf_map_lookup_elem(&pins, &sa);
	if (pin)
		*ret = *pin;
	return pin;
}

/* What key_of_esp() has left: done only if there are pins, when the view is at hand. */
static __always_inline void key_pin_common(
	const struct espalier_view *v, const struct frame *frame, struct key *key)
{
	const struct iphdr *ip = parse_ipv4(frame);
	const struct ipv6hdr *ip6 = parse_ipv6(frame);
	struct espalier_flow pin; /* not the key itself, which is kept in registers */

	if (!v->pins || !key->common)
		return;
	if ((ip && key_find_pin(key->spi, ESPALIER_ESP, FAMILY_INET, ip, &pin)) ||
		(ip6 && key_find_pin(key->spi, ESPALIER_ESP, FAMILY_INET6, ip6, &pin)))
		key->flow = pin;
}

/* Any other ESP, and AH. */
static __always_inline void key_of_spi(
	const struct packet *packet, __be32 spi, enum espalier_protocol protocol, struct key *ret)
{
	const struct espalier_view *v = view_map();

	ret->flow = key_bucket(spi);
	if (packet->fragment == FRAGMENT_NONE)
		ret->spi = spi;
	if (v && v->pins)
		(void)key_find_pin(spi, protocol, packet->family, packet->ip, &ret->flow);
}

/* ours: from the cluster to the peer. */
static __always_inline __u32 key_ike(const struct ike *ike, bool ours)
{
	bool from_initiator = ike->flags & IKE_INITIATOR;

	return espalier_ike_bucket(bpf_be64_to_cpu(ike->initiator_spi),
		bpf_be64_to_cpu(ike->responder_spi),
		ike->version >> 4 == IKE_VERSION_2 && from_initiator != ours, settings.hash);
}

/*
 * Is the header that ends there in the packet? In a first fragment it may also be in the frame's
 * padding, for us to see and for the kernel to cut off: the real one is in the next fragment then.
 * (Of a whole packet the kernel cuts off as much, and has no header left.)
 */
static __always_inline bool key_reaches(
	const struct frame *frame, const struct packet *packet, const void *end)
{
	return end <= frame->end &&
	       (packet->fragment == FRAGMENT_NONE || (__u32)(end - packet->ip) <= packet->size);
}

static __always_inline enum espalier_reason key_of_ike(const struct frame *frame,
	const struct packet *packet, const struct udphdr *udp, __u32 marker, struct key *ret)
{
	const struct ike *ike = (const void *)(udp + 1) + marker;

	if (parse_udp_below(udp, marker + IKE_HEADER))
		return ESPALIER_NOT_STEERED;
	if (!key_reaches(frame, packet, ike + 1))
		return ESPALIER_MALFORMED;
	ret->flow.bucket = key_ike(ike, false);
	return UNDECIDED;
}

/* A keepalive, or what the kernel does not take for ESP either. */
static __always_inline enum espalier_reason key_of_short_udp(
	const struct frame *frame, const struct packet *packet, const struct udphdr *udp)
{
	const __u8 *byte = (const void *)(udp + 1);

	return udp->len == bpf_htons(sizeof(*udp) + 1) && key_reaches(frame, packet, byte + 1) &&
			       *byte == KEEPALIVE_BYTE
		       ? ESPALIER_KEEPALIVE
		       : ESPALIER_NOT_STEERED;
}

/*
 * UDP. The kernel takes for ESP what has more than an ESP header; SPI 0 marks IKE. A datagram whose
 * SPI is in another fragment, or nowhere, is malformed: the kernel would put it together here,
 * whoever owns the SA.
 */
static __always_inline enum espalier_reason key_of_udp(
	const struct frame *frame, const struct packet *packet, struct key *ret)
{
	const struct udphdr *udp = packet->next;
	const struct esp *esp = (const void *)(udp + 1);

	if (!key_reaches(frame, packet, udp + 1))
		return ESPALIER_MALFORMED;
	if (udp->dest == bpf_htons(IKE_PORT))
		return key_of_ike(frame, packet, udp, 0, ret);
	if (udp->dest != bpf_htons(NAT_T_PORT))
		return ESPALIER_NOT_STEERED;
	if (parse_udp_below(udp, sizeof(*esp) + 1))
		return key_of_short_udp(frame, packet, udp);
	if (!key_reaches(frame, packet, esp + 1))
		return ESPALIER_MALFORMED;
	if (!esp->spi)
		return key_of_ike(frame, packet, udp, NON_ESP_MARKER, ret);
	key_of_spi(packet, esp->spi, ESPALIER_ESP, ret);
	return UNDECIDED;
}

static __always_inline bool key_is_from_cluster(const struct packet *packet)
{
	const struct iphdr *ip = packet->ip;
	const struct ipv6hdr *ip6 = packet->ip;

	return packet->family == FAMILY_INET ? is_cluster_address(ip->saddr)
					     : is_cluster_address6(&ip6->saddr);
}

/* The flow of the outbound SA of a packet that we sent, if the agent knows it. */
static __always_inline enum espalier_reason key_of_our_sa(
	const struct packet *packet, __be32 spi, enum espalier_protocol protocol, struct key *ret)
{
	const struct iphdr *ip = packet->ip;
	const struct ipv6hdr *ip6 = packet->ip;
	struct espalier_sa_key key = {.spi = spi, .family = packet->family, .protocol = protocol};
	const struct espalier_sa *sa;

	if (packet->family == FAMILY_INET)
		*(__be32 *)key.daddr = ip->daddr;
	else
		__builtin_memcpy(key.daddr, &ip6->daddr, sizeof(key.daddr));
	sa = bpf_map_lookup_elem(&sas, &key);
	if (!sa)
		return ESPALIER_ERROR_UNKNOWN;
	ret->flow = (struct espalier_flow){.bucket = sa->bucket, .pinned = sa->pinned};
	return UNDECIDED;
}

/* UDP that we sent: ESP in it, or IKE. Of some errors the headers are all that comes back. */
static __always_inline enum espalier_reason key_of_our_udp(
	const struct frame *frame, const struct packet *packet, struct key *ret)
{
	const struct udphdr *udp = packet->next;
	const struct esp *esp = (const void *)(udp + 1);
	const struct ike *ike = (const void *)(udp + 1);

	if (!key_reaches(frame, packet, esp + 1))
		return ESPALIER_ERROR_UNKNOWN;
	if (udp->source == bpf_htons(NAT_T_PORT) && esp->spi)
		return key_of_our_sa(packet, esp->spi, ESPALIER_ESP, ret);
	if (udp->source == bpf_htons(NAT_T_PORT))
		ike = (const void *)ike + NON_ESP_MARKER;
	else if (udp->source != bpf_htons(IKE_PORT))
		return ESPALIER_ERROR_UNKNOWN;
	if (!key_reaches(frame, packet, ike + 1))
		return ESPALIER_ERROR_UNKNOWN;
	ret->flow.bucket = key_ike(ike, true);
	return UNDECIDED;
}

/*
 * ICMP. An error about a packet of the cluster's (the path MTU, say) is for the owner of the SA
 * that the packet was sent by. Of AH the quote may end with the SPI (RFC 792).
 */
static __always_inline enum espalier_reason key_of_icmp(
	struct xdp_md *ctx, const struct frame *frame, const struct packet *packet, struct key *ret)
{
	const __u8 *type = packet->next;
	struct frame quote = *frame;
	struct packet about = {};

	quote.payload = packet->next + ICMP_HEADER;
	if (!key_reaches(frame, packet, quote.payload) || !parse_is_icmp_error(packet->type, *type))
		return ESPALIER_NOT_STEERED;
	if (!parse_ip(&quote, &about) || !key_is_from_cluster(&about) ||
		!parse_extensions(ctx, &quote, &about) || about.fragment == FRAGMENT_LATER)
		return ESPALIER_ERROR_UNKNOWN;
	if (about.type == IPPROTO_UDP)
		return key_of_our_udp(&quote, &about, ret);
	if (!key_reaches(&quote, &about, about.next + sizeof(struct esp)))
		return ESPALIER_ERROR_UNKNOWN;
	if (about.type == IPPROTO_ESP)
		return key_of_our_sa(&about, ((struct esp *)about.next)->spi, ESPALIER_ESP, ret);
	if (about.type == IPPROTO_AH)
		return key_of_our_sa(&about, ((struct ah *)about.next)->spi, ESPALIER_AH, ret);
	return ESPALIER_ERROR_UNKNOWN;
}

static __always_inline enum espalier_reason key_of_header(
	struct xdp_md *ctx, const struct frame *frame, const struct packet *packet, struct key *ret)
{
	const struct esp *esp = packet->next;
	const struct ah *ah = packet->next;

	switch (packet->type) {
	case IPPROTO_ESP:
		if (!key_reaches(frame, packet, esp + 1))
			return ESPALIER_MALFORMED;
		key_of_spi(packet, esp->spi, ESPALIER_ESP, ret);
		return UNDECIDED;
	case IPPROTO_AH:
		if (!key_reaches(frame, packet, ah + 1))
			return ESPALIER_MALFORMED;
		key_of_spi(packet, ah->spi, ESPALIER_AH, ret);
		return UNDECIDED;
	case IPPROTO_UDP:
		return key_of_udp(frame, packet, ret);
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return key_of_icmp(ctx, frame, packet, ret);
	default:
		return ESPALIER_NOT_STEERED;
	}
}

/*
 * Any packet for a cluster address. In a global function: the verifier goes through it once, and
 * the compiler leaves the common case alone. (Weak: the compiler must not conclude from here what
 * the verifier cannot know there.)
 */
__weak __noinline int key_of_any(struct xdp_md *ctx, struct key *ret)
{
	struct packet packet = {};
	enum espalier_reason reason;
	struct key key = {}; /* on the stack: maps take no other memory as a value before 6.2 */
	struct frame frame;

	if (!ret || !parse_frame(ctx, &frame) || !parse_ip(&frame, &packet))
		return ESPALIER_NOT_OURS;
	if (!parse_extensions(ctx, &frame, &packet))
		return ESPALIER_MALFORMED;
	if (packet.fragment == FRAGMENT_LATER)
		reason = fragment_find(&packet, &key.flow) ? UNDECIDED : ESPALIER_FRAGMENT_UNKNOWN;
	else
		reason = key_of_header(ctx, &frame, &packet, &key);
	if (packet.fragment == FRAGMENT_FIRST)
		fragment_note(&packet, reason == UNDECIDED ? &key.flow : NULL);
	*ret = key;
	return reason;
}

static __always_inline bool key_is_for_cluster(const struct frame *frame)
{
	const struct iphdr *ip = parse_ipv4(frame);
	const struct ipv6hdr *ip6 = parse_ipv6(frame);

	return ip ? is_cluster_address(ip->daddr) : ip6 && is_cluster_address6(&ip6->daddr);
}

/* The common case: a whole ESP packet, right behind the IP header. */
static __always_inline bool key_of_esp(
	const struct frame *frame, const void *payload, struct key *ret)
{
	const struct esp *esp = payload;

	if ((void *)(esp + 1) > frame->end)
		return false;
	*ret = (struct key){.flow = key_bucket(esp->spi), .spi = esp->spi, .common = true};
	return true;
}

/* Any other packet: a key of its own, since the common one is kept in registers. */
static __always_inline enum espalier_reason key_of_other(struct xdp_md *ctx, struct key *ret)
{
	struct key key = {};
	enum espalier_reason reason = key_of_any(ctx, &key);

	*ret = key;
	return reason;
}

static __always_inline enum espalier_reason key_of_ipv4(
	struct xdp_md *ctx, const struct frame *frame, struct key *ret)
{
	struct iphdr *ip = parse_ipv4(frame);

	if (!ip || !is_cluster_address(ip->daddr))
		return ESPALIER_NOT_OURS;
	if (ip->protocol == IPPROTO_ESP && parse_fragment(ip) == FRAGMENT_NONE &&
		key_of_esp(frame, (void *)ip + ip->ihl * 4, ret))
		return UNDECIDED;
	return key_of_other(ctx, ret);
}

static __always_inline enum espalier_reason key_of_ipv6(
	struct xdp_md *ctx, const struct frame *frame, struct key *ret)
{
	struct ipv6hdr *ip = parse_ipv6(frame);

	if (!ip || !is_cluster_address6(&ip->daddr))
		return ESPALIER_NOT_OURS;
	if (ip->nexthdr == IPPROTO_ESP && key_of_esp(frame, ip + 1, ret))
		return UNDECIDED;
	return key_of_other(ctx, ret);
}

#endif
