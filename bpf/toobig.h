/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * toobig.h - a packet that does not fit into IP-in-IP: its sender is told how large it may be, by
 * ICMP (RFC 1191) or ICMPv6 (RFC 4443 3.2), from the address that it takes for the gateway. IPv4's
 * is told so too if it allows fragments: nobody here makes any.
 */
#ifndef TOOBIG_H
#define TOOBIG_H

#define TOOBIG_QUOTE 128 /* bytes of the packet: the headers with which it began are in there */

struct toobig_icmp {
	__u8 type;
	__u8 code;
	__be16 check;
	__be32 mtu; /* RFC 1191: in the lower half */
	__u8 quote[TOOBIG_QUOTE];
};

struct toobig_ipv4 {
	struct iphdr ip;
	struct toobig_icmp icmp;
};

struct toobig_ipv6 {
	struct ipv6hdr ip;
	struct toobig_icmp icmp;
};

/* RFC 1122 3.2.2, RFC 4443 2.4: not about errors, later fragments, and what has no one sender. */
static __always_inline bool toobig_may_tell_ipv4(const struct frame *frame, const struct iphdr *ip)
{
	const __u8 *type = (void *)ip + ip->ihl * 4;
	__u32 from = bpf_ntohl(ip->saddr);

	if (parse_later_fragment(ip) || !from || from >= 0xe0000000)
		return false;
	return ip->protocol != IPPROTO_ICMP ||
	       ((void *)(type + 1) <= frame->end && !parse_is_icmp_error(IPPROTO_ICMP, *type));
}

static __always_inline bool toobig_may_tell_ipv6(
	const struct frame *frame, const struct ipv6hdr *ip)
{
	const __u8 *type = (const void *)(ip + 1);
	const __u32 *from = ip->saddr.in6_u.u6_addr32;

	if (!(from[0] | from[1] | from[2] | from[3]) || ip->saddr.in6_u.u6_addr8[0] == 0xff)
		return false;
	return ip->nexthdr != IPPROTO_ICMPV6 ||
	       ((void *)(type + 1) <= frame->end && !parse_is_icmp_error(IPPROTO_ICMPV6, *type));
}

/* The cluster address that the sender knows. False: there is none of that family. */
static __always_inline bool toobig_from_ipv4(const struct iphdr *ip, enum side side, __be32 *ret)
{
	*ret = side == SIDE_OUTER ? ip->daddr : settings.cluster[0];
#pragma unroll
	for (int i = 1; side == SIDE_INNER && i < ESPALIER_ADDRESSES; i++)
		if (!*ret)
			*ret = settings.cluster[i];
	return *ret;
}

static __always_inline bool toobig_from_ipv6(const struct ipv6hdr *ip, enum side side, __u64 ret[2])
{
	if (side == SIDE_OUTER) {
		__builtin_memcpy(ret, &ip->daddr, sizeof(ip->daddr));
		return true;
	}
#pragma unroll
	for (int i = 0; i < ESPALIER_ADDRESSES; i++) {
		const volatile __u64 *address = (const volatile __u64 *)settings.cluster6[i];

		if (!address[0] && !address[1])
			continue;
		ret[0] = address[0];
		ret[1] = address[1];
		return true;
	}
	return false;
}

/* Makes of the packet what goes back to its sender: the link header, `room` bytes, the quote. */
static __always_inline bool toobig_turn(struct xdp_md *ctx, const struct frame *frame, int room)
{
	int cut = (int)bpf_xdp_get_buff_len(ctx) - TOOBIG_QUOTE;
	struct link_header link;
	__u16 mac[ETH_ALEN / 2];
	__be16 type = frame->protocol;

	if (!link_take(frame, &link))
		return false;
	mac_copy(mac, link.words);
	mac_copy(link.words, link.words + ETH_ALEN / 2);
	mac_copy(link.words + ETH_ALEN / 2, mac);
	cut -= (int)link.size;
	return cut >= 0 && !bpf_xdp_adjust_tail(ctx, -cut) && !bpf_xdp_adjust_head(ctx, -room) &&
	       link_put(ctx, &link, type);
}

static __always_inline bool toobig_answer_ipv4(
	struct xdp_md *ctx, struct frame *frame, struct iphdr *ip, __u16 mtu, enum side side)
{
	__be32 to = ip->saddr, from;
	struct toobig_ipv4 *answer;

	if (!toobig_may_tell_ipv4(frame, ip) || !toobig_from_ipv4(ip, side, &from) ||
		!toobig_turn(ctx, frame, sizeof(*answer) - TOOBIG_QUOTE) ||
		!parse_frame(ctx, frame))
		return false;
	answer = frame->payload;
	if ((void *)(answer + 1) > frame->end)
		return false;
	answer->ip = (struct iphdr){.version = 4,
		.ihl = sizeof(answer->ip) / 4,
		.tot_len = bpf_htons(sizeof(*answer)),
		.ttl = TUNNEL_TTL,
		.protocol = IPPROTO_ICMP,
		.saddr = from,
		.daddr = to};
	answer->ip.check =
		parse_fold(bpf_csum_diff(NULL, 0, (void *)&answer->ip, sizeof(answer->ip), 0));
	answer->icmp.type = 3; /* destination unreachable */
	answer->icmp.code = 4; /* fragmentation needed */
	answer->icmp.mtu = bpf_htonl(mtu);
	answer->icmp.check = 0;
	answer->icmp.check =
		parse_fold(bpf_csum_diff(NULL, 0, (void *)&answer->icmp, sizeof(answer->icmp), 0));
	return true;
}

static __always_inline bool toobig_answer_ipv6(
	struct xdp_md *ctx, struct frame *frame, struct ipv6hdr *ip, __u16 mtu, enum side side)
{
	__u32 sum = bpf_htonl(sizeof(struct toobig_icmp)) + bpf_htonl(IPPROTO_ICMPV6);
	struct toobig_ipv6 *answer;
	struct in6_addr to = ip->saddr;
	__u64 from[2];

	if (!toobig_may_tell_ipv6(frame, ip) || !toobig_from_ipv6(ip, side, from) ||
		!toobig_turn(ctx, frame, sizeof(*answer) - TOOBIG_QUOTE) ||
		!parse_frame(ctx, frame))
		return false;
	answer = frame->payload;
	if ((void *)(answer + 1) > frame->end)
		return false;
	answer->ip = (struct ipv6hdr){.version = 6,
		.payload_len = bpf_htons(sizeof(answer->icmp)),
		.nexthdr = IPPROTO_ICMPV6,
		.hop_limit = TUNNEL_TTL};
	__builtin_memcpy(&answer->ip.saddr, from, sizeof(from));
	answer->ip.daddr = to;
	answer->icmp.type = 2; /* packet too big */
	answer->icmp.code = 0;
	answer->icmp.mtu = bpf_htonl(mtu);
	answer->icmp.check = 0;
	sum = bpf_csum_diff(NULL, 0, (void *)&answer->ip.saddr, 2 * sizeof(answer->ip.saddr), sum);
	sum = bpf_csum_diff(NULL, 0, (void *)&answer->icmp, sizeof(answer->icmp), sum);
	answer->icmp.check = parse_fold(sum);
	return true;
}

/* False: nobody may be told; the packet may have changed. */
static __always_inline bool toobig_answer(
	struct xdp_md *ctx, struct frame *frame, __u16 mtu, enum side side)
{
	struct iphdr *ip = parse_ipv4(frame);
	struct ipv6hdr *ip6 = parse_ipv6(frame);

	if (ip)
		return toobig_answer_ipv4(ctx, frame, ip, mtu, side);
	return ip6 && toobig_answer_ipv6(ctx, frame, ip6, mtu, side);
}

#endif
