/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * parse.h - from frame to headers. Every pointer that is returned lies, with the header it points
 * to, inside the packet.
 */
#ifndef PARSE_H
#define PARSE_H

#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include "maps.h"

#define VLAN_TAGS 2
#define EXTENSIONS 6 /* RFC 8200 4.1 names five that may stand before ESP */
#define NAT_T_PORT 4500 /* RFC 3948 */

struct vlan_tag {
	__be16 tci;
	__be16 protocol;
};

/* RFC 4303 2 */
struct esp {
	__be32 spi;
	__be32 seq;
};

/* How an IPv6 extension header begins (RFC 8200 4, RFC 6564). */
struct extension {
	__u8 next;
	__u8 size; /* in units that depend on the type; not of a fragment header */
	__be16 fragment; /* of a fragment header: offset and flags */
};

/* RFC 8200 4.5 */
struct fragment_header {
	__u8 next;
	__u8 reserved;
	__be16 offset;
	__be32 id;
};

/* RFC 4302 2, without the ICV */
struct ah {
	__u8 next;
	__u8 size;
	__be16 reserved;
	__be32 spi;
	__be32 seq;
};

/* RFC 7296 3.1, as far as the flags */
struct ike {
	__be64 initiator_spi;
	__be64 responder_spi;
	__u8 next;
	__u8 version;
	__u8 exchange;
	__u8 flags;
};

/* RFC 826, Ethernet and IPv4 */
struct arp {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_size;
	__u8 protocol_size;
	__be16 operation;
	__u8 sender_mac[ETH_ALEN];
	__be32 sender_ip;
	__u8 target_mac[ETH_ALEN];
	__be32 target_ip;
} __attribute__((packed));

enum fragment { FRAGMENT_NONE, FRAGMENT_FIRST, FRAGMENT_LATER };

/* An IP packet, its headers followed as far as `next`. */
struct packet {
	void *ip;
	void *next; /* a header: it may begin, and end, behind the frame's end */
	__u32 size; /* from `ip` on, by the IP header */
	__be32 id; /* of a fragment: of its datagram */
	enum fragment fragment;
	__u8 family;
	__u8 type; /* of the next header, IPPROTO_... */
};

struct frame {
	struct ethhdr *eth;
	void *payload; /* behind Ethernet and VLAN tags */
	void *end;
	__be16 protocol; /* of the payload, ETH_P_... */
};

static __always_inline bool parse_frame(const struct xdp_md *ctx, struct frame *ret)
{
	struct ethhdr *eth = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	__be16 protocol;
	void *next = eth + 1;

	if (next > end)
		return false;
	protocol = eth->h_proto;
#pragma unroll
	for (int i = 0; i < VLAN_TAGS; i++) {
		struct vlan_tag *tag = next;

		if (protocol != bpf_htons(ETH_P_8021Q) && protocol != bpf_htons(ETH_P_8021AD))
			break;
		if ((void *)(tag + 1) > end)
			return false;
		protocol = tag->protocol;
		next = tag + 1;
	}
	*ret = (struct frame){.eth = eth, .payload = next, .end = end, .protocol = protocol};
	return true;
}

/* NULL: not IPv4 as the kernel takes it, or without a whole header (options aside). */
static __always_inline struct iphdr *parse_ipv4(const struct frame *frame)
{
	struct iphdr *ip = frame->payload;

	if (frame->protocol != bpf_htons(ETH_P_IP) || (void *)(ip + 1) > frame->end ||
		ip->version != 4 || ip->ihl < 5)
		return NULL;
	return ip;
}

/* NULL: not IPv6, or without a whole header. */
static __always_inline struct ipv6hdr *parse_ipv6(const struct frame *frame)
{
	struct ipv6hdr *ip = frame->payload;

	if (frame->protocol != bpf_htons(ETH_P_IPV6) || (void *)(ip + 1) > frame->end ||
		ip->version != 6)
		return NULL;
	return ip;
}

/* Not the first fragment of a packet: there is no header behind IPv4's. */
static __always_inline bool parse_later_fragment(const struct iphdr *ip)
{
	return ip->frag_off & bpf_htons(0x1fff);
}

static __always_inline enum fragment parse_fragment(const struct iphdr *ip)
{
	if (!(ip->frag_off & bpf_htons(0x3fff)))
		return FRAGMENT_NONE;
	return parse_later_fragment(ip) ? FRAGMENT_LATER : FRAGMENT_FIRST;
}

/* The same for IPv6's fragment header. */
static __always_inline bool parse_later_fragment6(__u8 type, const struct extension *extension)
{
	return type == IPPROTO_FRAGMENT && extension->fragment & bpf_htons(0xfff8);
}

/* Does the kernel put such a header before ESP, or take ESP behind it? */
static __always_inline bool parse_is_extension(__u8 type)
{
	return type == IPPROTO_HOPOPTS || type == IPPROTO_ROUTING || type == IPPROTO_DSTOPTS ||
	       type == IPPROTO_FRAGMENT;
}

/* In bytes. */
static __always_inline __u32 parse_extension_size(__u8 type, const struct extension *extension)
{
	if (type == IPPROTO_FRAGMENT)
		return 8;
	return (extension->size + 1) * 8;
}

/* IPv4's headers, IPv6's first one. False: not IP, or (options aside) not all of it is there. */
static __always_inline bool parse_ip(const struct frame *frame, struct packet *ret)
{
	struct iphdr *ip = parse_ipv4(frame);
	struct ipv6hdr *ip6 = parse_ipv6(frame);

	if (ip)
		*ret = (struct packet){.ip = ip,
			.next = (void *)ip + ip->ihl * 4,
			.size = bpf_ntohs(ip->tot_len),
			.id = ip->id,
			.fragment = parse_fragment(ip),
			.family = FAMILY_INET,
			.type = ip->protocol};
	else if (ip6)
		*ret = (struct packet){.ip = ip6,
			.next = ip6 + 1,
			.size = sizeof(*ip6) + bpf_ntohs(ip6->payload_len),
			.family = FAMILY_INET6,
			.type = ip6->nexthdr};
	return ip || ip6;
}

/* By the length in a UDP header: less than that behind it? 0, in IPv6: up to the packet's end. */
static __always_inline bool parse_udp_below(const struct udphdr *udp, __u32 size)
{
	return udp->len && bpf_ntohs(udp->len) < sizeof(*udp) + size;
}

/* RFC 1071: the checksum of a sum. */
static __always_inline __be16 parse_fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static __always_inline bool parse_is_icmp_error(__u8 protocol, __u8 type)
{
	if (protocol == IPPROTO_ICMP)
		return type == 3 || type == 11 || type == 12; /* RFC 792, RFC 1191 */
	return type >= 1 && type <= 4; /* RFC 4443 */
}

/* Multicast, or of the link's own scope: no router forwards that. */
static __always_inline bool parse_stays_on_link(const struct in6_addr *to)
{
	__be16 first = to->in6_u.u6_addr16[0];

	return (first & bpf_htons(0xff00)) == bpf_htons(0xff00) ||
	       (first & bpf_htons(0xffc0)) == bpf_htons(0xfe80);
}

/* An ARP request for an IPv4 address, on Ethernet. NULL: anything else. */
static __always_inline struct arp *parse_arp_request(const struct frame *frame)
{
	struct arp *arp = frame->payload;

	if (frame->protocol != bpf_htons(ETH_P_ARP) || (void *)(arp + 1) > frame->end ||
		arp->hardware != bpf_htons(1) || arp->protocol != bpf_htons(ETH_P_IP) ||
		arp->hardware_size != ETH_ALEN || arp->protocol_size != sizeof(arp->target_ip) ||
		arp->operation != bpf_htons(1))
		return NULL;
	return arp;
}

static __always_inline bool is_cluster_address(__be32 addr)
{
#pragma unroll
	for (int i = 0; i < ESPALIER_ADDRESSES; i++)
		if (settings.cluster[i] && settings.cluster[i] == addr)
			return true;
	return false;
}

/* addr: 16 bytes. The settings are constants to the verifier, so unused entries cost nothing. */
static __always_inline bool is_cluster_address6(const void *addr)
{
	const __u64 *a = addr;

#pragma unroll
	for (int i = 0; i < ESPALIER_ADDRESSES; i++) {
		const volatile __u64 *b = (const volatile __u64 *)settings.cluster6[i];

		if ((b[0] || b[1]) && a[0] == b[0] && a[1] == b[1])
			return true;
	}
	return false;
}

#endif
