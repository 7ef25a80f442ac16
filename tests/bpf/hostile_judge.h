/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * hostile_judge.h - what may become of a packet, whatever is in it: from the packet as it came, and
 * the reason, the memory around it is made as it must be left, and compared byte by byte. It knows
 * headers by offset, and takes no code from the program but its maps and settings.
 *
 * Hops are as the test has them: all members' have one MTU; IP-in-IP goes to member 1 over IPv4 and
 * to member 2 over IPv6.
 */
#ifndef HOSTILE_JUDGE_H
#define HOSTILE_JUDGE_H

#define LINK_MAX 22 /* Ethernet and two tags */
#define IPV4_HEADER 20
#define IPV6_HEADER 40
#define ICMP_ANSWER 8 /* and the quote */
#define QUOTE 128
#define SOLICITATION 135
#define ADVERTISEMENT 136

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hostile);
} hostile SEC(".maps");

static __always_inline struct hostile *hostile_map(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&hostile, &zero);
}

/* The compiler may know that the offset is small enough; the verifier has to see it. */
static __always_inline __u8 *byte_at(__u8 *image, __u32 offset)
{
	barrier_var(offset);
	return &image[offset % HOSTILE_IMAGE];
}

static __always_inline __u32 word_at(__u8 *image, __u32 offset)
{
	return *byte_at(image, offset) << 8 | *byte_at(image, offset + 1);
}

/* Not unrolled, and so in want(): newer compilers would keep each address on the stack. */
static __always_inline void take(struct hostile *h, __u32 offset, void *ret, __u32 size)
{
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < size; i++)
		((__u8 *)ret)[i] = *byte_at(h->now, offset + i);
}

static __always_inline void want(struct hostile *h, __u32 offset, const void *bytes, __u32 size)
{
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < size; i++)
		*byte_at(h->wanted, offset + i) = ((const __u8 *)bytes)[i];
}

static __always_inline void want_word(struct hostile *h, __u32 offset, __u16 word)
{
	*byte_at(h->wanted, offset) = word >> 8;
	*byte_at(h->wanted, offset + 1) = word;
}

/* RFC 1071, of the wanted bytes; start: what a pseudo header adds. */
__weak __noinline int hostile_checksum(__u32 offset, __u32 size, __u32 start)
{
	struct hostile *h = hostile_map();
	__u32 sum = start;

	if (!h)
		return 0;
	for (__u32 i = 0; i < HOSTILE_SIZE && i < size; i += 2)
		sum += word_at(h->wanted, offset + i);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum & 0xffff;
}

/* Where the type of what is behind Ethernet and the tags is. */
static __always_inline __u32 type_of(struct hostile *h)
{
	__u32 offset = h->came.at + 12;

#pragma unroll
	for (int i = 0; i < 2; i++) {
		__u32 type = word_at(h->now, offset);

		if (type == ETH_P_8021Q || type == ETH_P_8021AD)
			offset += 4;
	}
	return offset;
}

static __always_inline bool is_ipv6(struct hostile *h, __u32 ip)
{
	return word_at(h->now, ip - 2) == ETH_P_IPV6;
}

/* What its header says. */
static __always_inline __u32 size_of(struct hostile *h, __u32 ip)
{
	return is_ipv6(h, ip) ? IPV6_HEADER + word_at(h->now, ip + 4) : word_at(h->now, ip + 2);
}

static __always_inline const __u8 *own_mac(void)
{
	const struct espalier_member *me = member_find(settings.self);

	if (!me)
		return NULL;
	barrier_var(me);
	return our_side == SIDE_OUTER ? me->outer_mac : me->inner_mac;
}

/* The link header by that many bytes further to the front. Returns where it ends then. */
static __always_inline __u32 want_link(struct hostile *h, __u32 ip, int room)
{
	__u32 size = ip - h->came.at;

	h->expected.at -= room;
	h->expected.size += room;
	for (__u32 i = 0; i < LINK_MAX; i++)
		if (i < size)
			*byte_at(h->wanted, h->expected.at + i) = *byte_at(h->now, h->came.at + i);
	return ip - room;
}

/* What comes from a member (invariant I3), or was not sent to us, goes to no member. */
static __always_inline bool may_go_on(struct hostile *h)
{
	const __u8 *own = own_mac();
	__u8 to[ETH_ALEN], from[ETH_ALEN];

	take(h, h->came.at, to, sizeof(to));
	take(h, h->came.at + ETH_ALEN, from, sizeof(from));
	for (__u64 id = 0; id < HOSTILE_MEMBERS; id++) {
		const struct espalier_member *member = member_find(id);

		if (!member ||
			mac_equal(our_side == SIDE_OUTER ? member->outer_mac : member->inner_mac,
				from))
			return false;
	}
	return own && mac_equal(own, to);
}

static __always_inline enum hostile_sin want_hop(
	struct hostile *h, const struct espalier_hop *hop, __u32 to)
{
	const __u8 *own = own_mac();

	if (!hop || !own || !may_go_on(h))
		return HOSTILE_HOP;
	h->to = to;
	want(h, h->expected.at, hop->mac, ETH_ALEN);
	want(h, h->expected.at + ETH_ALEN, own, ETH_ALEN);
	return HOSTILE_NONE;
}

static __always_inline enum hostile_sin want_forwarded(struct hostile *h)
{
	__u32 to = *byte_at(h->after, h->left.at + 5);
	const struct espalier_hop *hop = member_hop(to, our_side);

	if (!hop || hop->kind != ESPALIER_HOP_LINK || to == settings.self)
		return HOSTILE_HOP;
	return want_hop(h, hop, to);
}

static __always_inline void want_ipv4(struct hostile *h, __u32 at, __u8 protocol, __u32 size,
	__u16 flags, const void *from, const void *to)
{
	struct iphdr ip = {.version = 4,
		.ihl = 5,
		.tot_len = bpf_htons(IPV4_HEADER + size),
		.frag_off = bpf_htons(flags),
		.ttl = 64,
		.protocol = protocol};

	__builtin_memcpy(&ip.saddr, from, sizeof(ip.saddr));
	__builtin_memcpy(&ip.daddr, to, sizeof(ip.daddr));
	want(h, at, &ip, sizeof(ip));
	want_word(h, at + 10, hostile_checksum(at, IPV4_HEADER, 0));
}

static __always_inline void want_ipv6(
	struct hostile *h, __u32 at, __u8 protocol, __u32 size, const void *from, const void *to)
{
	struct ipv6hdr ip = {
		.version = 6, .payload_len = bpf_htons(size), .nexthdr = protocol, .hop_limit = 64};

	__builtin_memcpy(&ip.saddr, from, sizeof(ip.saddr));
	__builtin_memcpy(&ip.daddr, to, sizeof(ip.daddr));
	want(h, at, &ip, sizeof(ip));
}

/* ICMPv6's, with its pseudo header: in front of it are the addresses. */
static __always_inline void want_icmp6_checksum(struct hostile *h, __u32 icmp, __u32 size)
{
	want_word(h, icmp + 2, 0);
	want_word(h, icmp + 2, hostile_checksum(icmp - 32, 32 + size, size + IPPROTO_ICMPV6));
}

static __always_inline enum hostile_sin want_tunnelled(struct hostile *h)
{
	bool by_ipv4 = h->left.size - h->came.size == IPV4_HEADER;
	const struct espalier_hop *hop = member_hop(by_ipv4 ? 1 : 2, our_side);
	__u32 ip = type_of(h) + 2, size = size_of(h, ip), outer;
	__u8 protocol = is_ipv6(h, ip) ? IPPROTO_IPV6 : IPPROTO_IPIP;

	if (!hop || size > hop->mtu || ip + size > h->came.at + h->came.size)
		return HOSTILE_HOP;
	outer = want_link(h, ip, by_ipv4 ? IPV4_HEADER : IPV6_HEADER);
	want_word(h, outer - 2, by_ipv4 ? ETH_P_IP : ETH_P_IPV6);
	if (by_ipv4)
		want_ipv4(h, outer, protocol, size, 0x4000, hop->from, hop->to);
	else
		want_ipv6(h, outer, protocol, size, hop->from, hop->to);
	return want_hop(h, hop, by_ipv4 ? 1 : 2);
}

/* Which the sender knows: on the outer side he has sent to it. */
static __always_inline bool cluster_address(struct hostile *h, __u32 ip, __u64 ret[2])
{
	bool ipv6 = is_ipv6(h, ip);

	if (our_side == SIDE_OUTER && ipv6) {
		take(h, ip + 24, ret, 16);
		return is_cluster_address6(ret);
	}
	if (our_side == SIDE_OUTER) {
		take(h, ip + 16, ret, 4);
		return is_cluster_address(*(__be32 *)ret);
	}
	if (ipv6) {
		ret[0] = ((const volatile __u64 *)settings.cluster6[0])[0];
		ret[1] = ((const volatile __u64 *)settings.cluster6[0])[1];
	} else {
		*(__be32 *)ret = settings.cluster[0];
	}
	return true;
}

static __always_inline bool is_error(bool ipv6, __u8 protocol, __u8 type)
{
	return ipv6 ? protocol == IPPROTO_ICMPV6 && type && type <= 4
		    : protocol == IPPROTO_ICMP && (type == 3 || type == 11 || type == 12);
}

/* RFC 1122 3.2.2, RFC 4443 2.4 */
static __always_inline bool may_be_told(struct hostile *h, __u32 ip)
{
	__u8 first = *byte_at(h->now, ip + 12);
	__u64 from[2];

	if (!is_ipv6(h, ip))
		return word_at(h->now, ip + 12) | word_at(h->now, ip + 14) && first < 0xe0 &&
		       !(word_at(h->now, ip + 6) & 0x1fff) &&
		       !is_error(false, *byte_at(h->now, ip + 9),
			       *byte_at(h->now, ip + (*byte_at(h->now, ip) & 15) * 4));
	take(h, ip + 8, from, sizeof(from));
	return from[0] | from[1] && *(__u8 *)from != 0xff &&
	       !is_error(true, *byte_at(h->now, ip + 6), *byte_at(h->now, ip + IPV6_HEADER));
}

/* It does not fit into IP-in-IP: what there is of it, up to a limit, is quoted in an ICMP error. */
static __always_inline enum hostile_sin want_too_big(struct hostile *h)
{
	const struct espalier_hop *hop = member_hop(1, our_side);
	__u32 ip = type_of(h) + 2, size = size_of(h, ip), at;
	bool ipv6 = is_ipv6(h, ip);
	__u64 from[2] = {}, to[2] = {};
	__u8 mac[ETH_ALEN], icmp[ICMP_ANSWER] = {ipv6 ? 2 : 3, ipv6 ? 0 : 4};

	if (!hop || size <= hop->mtu || ip + size > h->came.at + h->came.size || !may_go_on(h) ||
		!cluster_address(h, ip, from) || !may_be_told(h, ip))
		return HOSTILE_ANSWER;
	at = want_link(h, ip, ICMP_ANSWER + (ipv6 ? IPV6_HEADER : IPV4_HEADER));
	h->expected.size = at - h->expected.at + ip - at + QUOTE;
	take(h, h->came.at, mac, sizeof(mac));
	want(h, h->expected.at + ETH_ALEN, mac, sizeof(mac));
	take(h, h->came.at + ETH_ALEN, mac, sizeof(mac));
	want(h, h->expected.at, mac, sizeof(mac));
	icmp[6] = hop->mtu >> 8;
	icmp[7] = hop->mtu;
	want(h, ip - ICMP_ANSWER, icmp, sizeof(icmp));
	if (ipv6) {
		take(h, ip + 8, to, 16);
		want_ipv6(h, at, IPPROTO_ICMPV6, ICMP_ANSWER + QUOTE, from, to);
		want_icmp6_checksum(h, at + IPV6_HEADER, ICMP_ANSWER + QUOTE);
		return HOSTILE_NONE;
	}
	take(h, ip + 12, to, 4);
	want_ipv4(h, at, IPPROTO_ICMP, ICMP_ANSWER + QUOTE, 0, from, to);
	want_word(h, at + IPV4_HEADER + 2,
		hostile_checksum(at + IPV4_HEADER, ICMP_ANSWER + QUOTE, 0));
	return HOSTILE_NONE;
}

/* The rest of an address: zeros, and a one at the end. */
static __always_inline void want_all_nodes(struct hostile *h, __u32 offset, __u32 size)
{
	for (__u32 i = 0; i < size; i++)
		*byte_at(h->wanted, offset + i) = i == size - 1;
}

/* RFC 4861 7.2.4: one advertisement, with our MAC address if there is room for it. */
static __always_inline enum hostile_sin want_advertisement(struct hostile *h)
{
	__u32 ip = type_of(h) + 2, nd = ip + IPV6_HEADER, end = h->came.at + h->came.size;
	__u8 from_mac[ETH_ALEN];
	__u32 size = word_at(h->now, ip + 4) >= 32 && nd + 32 <= end ? 32 : 24;
	__u64 target[2], from[2];
	const __u8 *own = own_mac();
	bool known;

	take(h, nd + 8, target, sizeof(target));
	take(h, ip + 8, from, sizeof(from));
	take(h, h->came.at + ETH_ALEN, from_mac, sizeof(from_mac));
	known = from[0] | from[1];
	if (!own || !is_ipv6(h, ip) || nd + size > end || word_at(h->now, ip + 4) < size ||
		*byte_at(h->now, ip + 6) != IPPROTO_ICMPV6 || *byte_at(h->now, ip + 7) != 255 ||
		word_at(h->now, nd) != SOLICITATION << 8 || !is_cluster_address6(target))
		return HOSTILE_ANSWER;
	if (known) {
		want(h, h->came.at, from_mac, sizeof(from_mac));
		want(h, ip + 24, from, sizeof(from));
	} else {
		want_word(h, h->came.at, 0x3333);
		want_all_nodes(h, h->came.at + 2, 4);
		want_word(h, ip + 24, 0xff02);
		want_all_nodes(h, ip + 26, 14);
	}
	want(h, h->came.at + ETH_ALEN, own, ETH_ALEN);
	want_word(h, ip + 4, size);
	want(h, ip + 8, target, sizeof(target));
	want_word(h, nd, ADVERTISEMENT << 8);
	*byte_at(h->wanted, nd + 4) = known ? 0xe0 : 0xa0;
	if (size == 32) {
		want_word(h, nd + 24, 0x0201);
		want(h, nd + 26, own, ETH_ALEN);
	}
	want_icmp6_checksum(h, nd, size);
	return HOSTILE_NONE;
}

/* RFC 826 */
static __always_inline enum hostile_sin want_arp(struct hostile *h)
{
	__u32 arp = type_of(h) + 2;
	__u8 sender[ETH_ALEN + 4], from_mac[ETH_ALEN];
	const __u8 *own = own_mac();
	__be32 target;

	take(h, arp + 8, sender, sizeof(sender));
	take(h, arp + 24, &target, sizeof(target));
	take(h, h->came.at + ETH_ALEN, from_mac, sizeof(from_mac));
	if (!own || arp + 28 > h->came.at + h->came.size || word_at(h->now, arp - 2) != ETH_P_ARP ||
		word_at(h->now, arp) != 1 || word_at(h->now, arp + 2) != ETH_P_IP ||
		word_at(h->now, arp + 4) != 0x0604 || word_at(h->now, arp + 6) != 1 ||
		!is_cluster_address(target))
		return HOSTILE_ANSWER;
	want(h, h->came.at, from_mac, ETH_ALEN);
	want(h, h->came.at + ETH_ALEN, own, ETH_ALEN);
	want_word(h, arp + 6, 2);
	want(h, arp + 8, own, ETH_ALEN);
	want(h, arp + 14, &target, sizeof(target));
	want(h, arp + 18, sender, sizeof(sender));
	return HOSTILE_NONE;
}

/* Is that the address that a member sends IP-in-IP from? */
static __always_inline bool is_members(const __u64 address[2])
{
	if (!address[0] && !address[1])
		return false;
	for (__u64 id = 0; id < HOSTILE_MEMBERS; id++) {
		const struct espalier_hop *hop = member_hop(id, our_side);
		const __u64 *to = hop ? (const void *)hop->to : NULL;

		if (to && address[0] == to[0] && address[1] == to[1])
			return true;
	}
	return false;
}

/* Not sent: as it came; or IP-in-IP from a member, to this one, is taken off. */
static __always_inline enum hostile_sin want_kept(struct hostile *h)
{
	const volatile __u64 *tunnel = (const volatile __u64 *)settings.tunnel;
	__u32 ip = type_of(h) + 2, header;
	bool ipv6 = is_ipv6(h, ip);
	__u64 from[2] = {}, to[2] = {};
	__u8 protocol;

	if (h->left.at == h->came.at)
		return HOSTILE_NONE;
	if (ipv6) {
		take(h, ip + 8, from, 16);
		take(h, ip + 24, to, 16);
	} else {
		take(h, ip + 12, from, 4);
		take(h, ip + 16, to, 4);
	}
	header = ipv6 ? IPV6_HEADER : (*byte_at(h->now, ip) & 15) * 4;
	protocol = *byte_at(h->now, ip + (ipv6 ? 6 : 9));
	if (to[0] != tunnel[0] || to[1] != tunnel[1] || !is_members(from) ||
		settings.tunnel_family != (ipv6 ? FAMILY_INET6 : FAMILY_INET) ||
		*byte_at(h->now, ip) >> 4 != (ipv6 ? 6 : 4) || header < IPV4_HEADER ||
		(protocol != IPPROTO_IPIP && protocol != IPPROTO_IPV6) ||
		(!ipv6 && word_at(h->now, ip + 6) & 0x3fff))
		return HOSTILE_UNWRAPPED;
	ip = want_link(h, ip, -(int)header);
	want_word(h, ip - 2, protocol == IPPROTO_IPIP ? ETH_P_IP : ETH_P_IPV6);
	return HOSTILE_NONE;
}

static __always_inline bool is_same(const struct hostile *h)
{
	const __u64 *wanted = (const void *)h->wanted, *after = (const void *)h->after;
	__u64 difference = 0;

	for (__u32 i = 0; i < HOSTILE_IMAGE / 8; i++)
		difference |= wanted[i] ^ after[i];
	return !difference;
}

static __always_inline enum hostile_sin want_by_reason(
	struct hostile *h, __u32 reason, __u32 verdict)
{
	switch (reason) {
	case ESPALIER_FORWARDED:
	case ESPALIER_CLEAR_FORWARDED:
		return want_forwarded(h);
	case ESPALIER_TUNNELLED:
	case ESPALIER_CLEAR_TUNNELLED:
		return want_tunnelled(h);
	case ESPALIER_TOO_BIG:
	case ESPALIER_CLEAR_TOO_BIG:
		return want_too_big(h);
	case ESPALIER_ND_ANSWERED:
		return want_advertisement(h);
	case ESPALIER_ARP_ANSWERED:
		return want_arp(h);
	default:
		return verdict == XDP_TX ? HOSTILE_VERDICT : want_kept(h);
	}
}

/* What is wrong with what the program has made of the packet? An enum hostile_sin. */
__weak __noinline int hostile_judge(__u32 reason, __u32 verdict)
{
	struct hostile *h = hostile_map();
	enum hostile_sin sin;

	if (!h)
		return HOSTILE_HARNESS;
	h->to = HOSTILE_MEMBERS;
	if (verdict != XDP_PASS && verdict != XDP_DROP && verdict != XDP_TX)
		return HOSTILE_VERDICT;
	h->expected = h->came;
	__builtin_memcpy(h->wanted, h->now, sizeof(h->wanted));
	sin = want_by_reason(h, reason, verdict);
	if (sin)
		return sin;
	if (h->left.at != h->expected.at || h->left.size != h->expected.size)
		return HOSTILE_PLACE;
	return is_same(h) ? HOSTILE_NONE : HOSTILE_BYTES;
}

#endif
