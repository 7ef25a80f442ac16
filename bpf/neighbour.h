/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * neighbour.h - who asks for a cluster address, by ARP or neighbour solicitation, is answered here:
 * by the view's ingress member, with its own MAC address. A request is made the answer where it
 * lies. The other members drop it, since their kernel has the address on lo and may answer too. So
 * they do with what announces the address (gratuitous ARP, duplicate address detection): nobody
 * asks.
 */
#ifndef NEIGHBOUR_H
#define NEIGHBOUR_H

#include "hop.h"

#define ND_SOLICITATION 135
#define ND_ADVERTISEMENT 136
#define ND_HOP_LIMIT 255 /* what no router has forwarded */
#define ND_TARGET_ADDRESS 2 /* option: link-layer address of the target */
#define ND_ROUTER 0x80
#define ND_SOLICITED 0x40
#define ND_OVERRIDE 0x20

/* RFC 4861 4.3 and 4.4, and the option that follows */
struct nd {
	__u8 type;
	__u8 code;
	__be16 check;
	__u8 flags; /* of an advertisement */
	__u8 reserved[3];
	__u8 target[16];
	struct {
		__u8 type;
		__u8 size; /* in units of 8 bytes */
		__u8 mac[ETH_ALEN];
	} option;
};

#define ND_SIZE 24 /* bytes, without the option */

/* Does this member answer for the cluster addresses, and does its lease hold? */
static __always_inline bool neighbour_is_ingress(void)
{
	struct espalier_view *v = view_map();

	return v && !settings.ingress_all && view_active(v)->ingress == settings.self &&
	       hop_lease_left(v) > 0;
}

/* Our own MAC address, if it is for us to answer with it. */
static __always_inline const __u8 *neighbour_answer(enum side side)
{
	const struct espalier_member *me = member_find(settings.self);

	return me && neighbour_is_ingress() ? member_mac(me, side) : NULL;
}

static __always_inline enum espalier_reason neighbour_arp(struct frame *frame, enum side side)
{
	struct arp *arp = parse_arp_request(frame);
	const __u8 *mac;
	__be32 asked;

	if (!arp || !is_cluster_address(arp->target_ip))
		return ESPALIER_NOT_OURS;
	asked = arp->target_ip;
	mac = neighbour_answer(side);
	if (!mac || arp->sender_ip == asked)
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

/* By what every solicitation has: few other packets are looked at any further. */
static __always_inline bool neighbour_is_nd(const struct frame *frame)
{
	const struct ipv6hdr *ip = parse_ipv6(frame);

	return ip && ip->nexthdr == IPPROTO_ICMPV6 && ip->hop_limit == ND_HOP_LIMIT;
}

static __always_inline __be16 neighbour_checksum(struct ipv6hdr *ip, struct nd *nd, __u32 size)
{
	__u32 sum = bpf_htonl(size) + bpf_htonl(IPPROTO_ICMPV6); /* no carry: both are small */

	sum = bpf_csum_diff(NULL, 0, (void *)&ip->saddr, 2 * sizeof(ip->saddr), sum);
	sum = size == ND_SIZE ? bpf_csum_diff(NULL, 0, (void *)nd, ND_SIZE, sum)
			      : bpf_csum_diff(NULL, 0, (void *)nd, sizeof(*nd), sum);
	return parse_fold(sum);
}

/* From whom no address is known yet (he is about to take ours): to all. */
static __always_inline void neighbour_destination(struct ethhdr *eth, struct ipv6hdr *ip)
{
	const __u8 all[ETH_ALEN] = {0x33, 0x33, 0, 0, 0, 1};
	__u32 *to = ip->daddr.in6_u.u6_addr32, *from = ip->saddr.in6_u.u6_addr32;

	if (from[0] | from[1] | from[2] | from[3]) {
		__builtin_memcpy(to, from, sizeof(ip->daddr));
		mac_copy(eth->h_dest, eth->h_source);
		return;
	}
	to[0] = bpf_htonl(0xff020000);
	to[1] = to[2] = 0;
	to[3] = bpf_htonl(1);
	mac_copy(eth->h_dest, all);
}

/*
 * RFC 4861 7.2.4. Where the solicitation has no option there is no room for ours: who asked knows
 * our MAC address (he probes whether we are still there), or does not want it. otherwise: if it is
 * none for a cluster address.
 */
static __always_inline enum espalier_reason neighbour_nd(
	struct frame *frame, enum side side, enum espalier_reason otherwise)
{
	struct ipv6hdr *ip = parse_ipv6(frame);
	struct nd *nd = (void *)(ip + 1);
	const __u8 *mac;
	__u32 size;
	bool asked;

	if (!ip || (void *)nd + ND_SIZE > frame->end || nd->type != ND_SOLICITATION || nd->code ||
		bpf_ntohs(ip->payload_len) < ND_SIZE || !is_cluster_address6(nd->target))
		return otherwise;
	mac = neighbour_answer(side);
	if (!mac)
		return ESPALIER_ND_LEFT;

	size = bpf_ntohs(ip->payload_len) >= sizeof(*nd) && (void *)(nd + 1) <= frame->end
		       ? sizeof(*nd)
		       : ND_SIZE;
	asked = ip->saddr.in6_u.u6_addr32[0] | ip->saddr.in6_u.u6_addr32[1] |
		ip->saddr.in6_u.u6_addr32[2] | ip->saddr.in6_u.u6_addr32[3];
	neighbour_destination(frame->eth, ip);
	mac_copy(frame->eth->h_source, mac);
	ip->payload_len = bpf_htons(size);
	__builtin_memcpy(&ip->saddr, nd->target, sizeof(ip->saddr));
	nd->type = ND_ADVERTISEMENT;
	nd->check = 0;
	nd->flags = ND_ROUTER | ND_OVERRIDE | (asked ? ND_SOLICITED : 0);
	if (size == sizeof(*nd)) {
		nd->option.type = ND_TARGET_ADDRESS;
		nd->option.size = 1;
		mac_copy(nd->option.mac, mac);
	}
	nd->check = neighbour_checksum(ip, nd, size);
	return ESPALIER_ND_ANSWERED;
}

#endif
