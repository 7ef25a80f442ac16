/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * parse.h - from frame to headers. Every pointer that is returned lies, with the header it points
 * to, inside the packet.
 */
#ifndef PARSE_H
#define PARSE_H

#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include "maps.h"

#define VLAN_TAGS 2

struct vlan_tag {
	__be16 tci;
	__be16 protocol;
};

/* RFC 4303 2 */
struct esp {
	__be32 spi;
	__be32 seq;
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

/* NULL: not IPv4, or without a whole header (options aside). */
static __always_inline struct iphdr *parse_ipv4(const struct frame *frame)
{
	struct iphdr *ip = frame->payload;

	if (frame->protocol != bpf_htons(ETH_P_IP) || (void *)(ip + 1) > frame->end ||
		ip->version != 4)
		return NULL;
	return ip;
}

/* Not the first fragment of a packet: there is no header behind IPv4's. */
static __always_inline bool parse_later_fragment(const struct iphdr *ip)
{
	return ip->frag_off & bpf_htons(0x1fff);
}

/* The ESP header behind the IPv4 header and its options. NULL: cut short. */
static __always_inline struct esp *parse_esp(const struct frame *frame, const struct iphdr *ip)
{
	struct esp *esp = (void *)ip + ip->ihl * 4;

	if (ip->ihl < 5 || (void *)(esp + 1) > frame->end)
		return NULL;
	return esp;
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
		if (addr && settings.cluster[i] == addr)
			return true;
	return false;
}

#endif
