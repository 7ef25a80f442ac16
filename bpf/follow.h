/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * follow.h - finds ESP and AH behind whatever the kernel may put before them: VLAN tags, MPLS
 * labels, options, IPv6's extension headers, UDP, and tunnels, which need no interface of their own
 * (routes may have an encapsulation). Behind AH there may be more of them. Headers may be cut
 * short, or too many to follow to their end. Then there may be ESP, if any layer of the packet is
 * from a cluster address.
 */
#ifndef FOLLOW_H
#define FOLLOW_H

#include "parse.h"

#define STEPS 20 /* headers that are followed */

#define GRE_CHECKSUM 0x8000 /* RFC 2784, RFC 2890 */
#define GRE_ROUTING 0x4000 /* RFC 1701 */
#define GRE_KEY 0x2000
#define GRE_SEQUENCE 0x1000
#define GRE_VERSION 0x0007
#define MPLS_BOTTOM 0x100 /* RFC 3032 2.1: the last label */

#ifndef IPPROTO_ETHERNET
#define IPPROTO_ETHERNET 143
#endif

/* What a packet's headers lead to. */
enum found {
	FOUND_MORE, /* another header */
	FOUND_OTHER, /* none of these, or a later fragment */
	FOUND_ESP, /* from whatever address */
	FOUND_AH, /* likewise, and another header behind it */
	FOUND_BROKEN, /* cut short, or more headers than anybody needs: it may be ESP */
};

/* A packet, as far as its headers have been followed. */
struct followed {
	struct espalier_sa_key key; /* of the last IP header */
	__be32 seq; /* FOUND_ESP, FOUND_AH: with the key's SPI and protocol */
	__u32 offset; /* of the next header, from `start` on */
	__u32 size; /* that can be read from there on; the guard's has all of it */
	__u32 reason; /* enum espalier_reason, by what has been found so far: see blocks.h */
	__u64 start; /* the guard: BPF_HDR_START_...; output: an address in the kernel */
	__u16 type; /* of the next header: ETH_P_..., or IPPROTO_..., which are below 256 */
	__u8 from_us; /* the last IP header was from a cluster address */
	__u8 ours; /* one of them was */
	__u8 doubtful; /* in UDP from another port than 4500: ESP only if such an SA is known */
};

/* Each program's own: reads bytes of the next header. False: they are not there. */
static bool follow_load(void *skb, const struct followed *p, void *buf, __u32 size);

struct gre {
	__be16 flags;
	__be16 protocol;
};

static __always_inline enum found follow_ipv4(void *skb, struct followed *p)
{
	struct iphdr ip;

	if (!follow_load(skb, p, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5)
		return FOUND_BROKEN;
	p->key = (struct espalier_sa_key){.family = FAMILY_INET};
	*(__be32 *)p->key.daddr = ip.daddr;
	p->from_us = is_cluster_address(ip.saddr);
	p->ours |= p->from_us;
	p->offset += ip.ihl * 4;
	p->type = ip.protocol;
	/* a later fragment is worth nothing without the first one */
	return parse_later_fragment(&ip) ? FOUND_OTHER : FOUND_MORE;
}

static __always_inline enum found follow_ipv6(void *skb, struct followed *p)
{
	struct ipv6hdr ip __attribute__((aligned(8))); /* as is_cluster_address6() reads it */

	if (!follow_load(skb, p, &ip, sizeof(ip)) || ip.version != 6)
		return FOUND_BROKEN;
	p->key = (struct espalier_sa_key){.family = FAMILY_INET6};
	__builtin_memcpy(p->key.daddr, &ip.daddr, sizeof(p->key.daddr));
	p->from_us = is_cluster_address6(&ip.saddr);
	p->ours |= p->from_us;
	p->offset += sizeof(ip);
	p->type = ip.nexthdr;
	return FOUND_MORE;
}

/* IPv6's extension headers. */
static __always_inline enum found follow_extension(void *skb, struct followed *p)
{
	struct extension extension;

	if (!follow_load(skb, p, &extension, sizeof(extension)))
		return FOUND_BROKEN;
	if (parse_later_fragment6(p->type, &extension))
		return FOUND_OTHER;
	p->offset += parse_extension_size(p->type, &extension);
	p->type = extension.next;
	return FOUND_MORE;
}

/* A field with the next header's type. */
static __always_inline enum found follow_type(struct followed *p, __be16 type, __u32 size)
{
	p->offset += size;
	p->type = bpf_ntohs(type);
	return p->type < ETH_P_802_3_MIN ? FOUND_OTHER : FOUND_MORE;
}

static __always_inline enum found follow_ethernet(void *skb, struct followed *p)
{
	struct ethhdr eth;

	if (!follow_load(skb, p, &eth, sizeof(eth)))
		return FOUND_BROKEN;
	return follow_type(p, eth.h_proto, sizeof(eth));
}

static __always_inline enum found follow_vlan(void *skb, struct followed *p)
{
	struct vlan_tag tag;

	if (!follow_load(skb, p, &tag, sizeof(tag)))
		return FOUND_BROKEN;
	return follow_type(p, tag.protocol, sizeof(tag));
}

/* What follows the last label is told by its first bits alone, as routers do it (RFC 4928). */
static __always_inline enum found follow_mpls(void *skb, struct followed *p)
{
	__be32 label;
	__u8 first;

	if (!follow_load(skb, p, &label, sizeof(label)))
		return FOUND_BROKEN;
	p->offset += sizeof(label);
	if (!(bpf_ntohl(label) & MPLS_BOTTOM))
		return FOUND_MORE;
	if (!follow_load(skb, p, &first, sizeof(first)))
		return FOUND_BROKEN;
	p->type = first >> 4 == 4 ? ETH_P_IP : ETH_P_IPV6;
	return first >> 4 == 4 || first >> 4 == 6 ? FOUND_MORE : FOUND_OTHER;
}

static __always_inline enum found follow_gre(void *skb, struct followed *p)
{
	__u32 size = sizeof(struct gre);
	struct gre gre;
	__u16 flags;

	if (!follow_load(skb, p, &gre, sizeof(gre)))
		return FOUND_BROKEN;
	flags = bpf_ntohs(gre.flags);
	if (flags & GRE_VERSION) /* PPP (RFC 2637): comes from an interface of its own */
		return FOUND_OTHER;
	if (flags & GRE_ROUTING)
		return FOUND_BROKEN;
	size += flags & GRE_CHECKSUM ? 4 : 0;
	size += flags & GRE_KEY ? 4 : 0;
	size += flags & GRE_SEQUENCE ? 4 : 0;
	return follow_type(p, gre.protocol, size);
}

/* ESP in UDP (RFC 3948), where SPI 0 marks IKE. An SA may have any port; from others than 4500 all
 * kinds of things come. */
static __always_inline enum found follow_udp(void *skb, struct followed *p)
{
	struct udphdr udp;
	__be32 spi;

	if (!follow_load(skb, p, &udp, sizeof(udp)))
		return p->from_us ? FOUND_BROKEN : FOUND_OTHER;
	if (parse_udp_below(&udp, sizeof(struct esp) + 1))
		return FOUND_OTHER;
	p->doubtful = udp.source != bpf_htons(NAT_T_PORT);
	p->offset += sizeof(udp);
	p->type = IPPROTO_ESP;
	if (!follow_load(skb, p, &spi, sizeof(spi)))
		return p->from_us && !p->doubtful ? FOUND_BROKEN : FOUND_OTHER;
	return spi ? FOUND_MORE : FOUND_OTHER;
}

static __always_inline enum found follow_esp(void *skb, struct followed *p)
{
	struct esp esp;

	if (!follow_load(skb, p, &esp, sizeof(esp)))
		return p->from_us && !p->doubtful ? FOUND_BROKEN : FOUND_OTHER;
	p->key.spi = esp.spi;
	p->key.protocol = ESPALIER_ESP;
	p->seq = esp.seq;
	return FOUND_ESP;
}

static __always_inline enum found follow_ah(void *skb, struct followed *p)
{
	struct ah ah;

	if (!follow_load(skb, p, &ah, sizeof(ah)))
		return FOUND_BROKEN;
	p->key.spi = ah.spi;
	p->key.protocol = ESPALIER_AH;
	p->seq = ah.seq;
	p->offset += (ah.size + 2) * 4;
	p->type = ah.next;
	return FOUND_AH;
}

/* Steps over one header. */
static __always_inline enum found follow(void *skb, struct followed *p)
{
	switch (p->type) {
	case IPPROTO_ESP:
		return follow_esp(skb, p);
	case ETH_P_IP:
	case IPPROTO_IPIP:
		return follow_ipv4(skb, p);
	case ETH_P_IPV6:
	case IPPROTO_IPV6:
		return follow_ipv6(skb, p);
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_FRAGMENT:
	case IPPROTO_DSTOPTS:
		return follow_extension(skb, p);
	case IPPROTO_AH:
		return follow_ah(skb, p);
	case IPPROTO_UDP:
		return follow_udp(skb, p);
	case IPPROTO_GRE:
		return follow_gre(skb, p);
	case ETH_P_TEB:
	case IPPROTO_ETHERNET:
		return follow_ethernet(skb, p);
	case ETH_P_8021Q:
	case ETH_P_8021AD:
		return follow_vlan(skb, p);
	case ETH_P_MPLS_UC:
	case ETH_P_MPLS_MC:
	case IPPROTO_MPLS:
		return follow_mpls(skb, p);
	default:
		return FOUND_OTHER;
	}
}

#endif
