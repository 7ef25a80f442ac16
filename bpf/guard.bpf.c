/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * guard.bpf.c - the never-repeat rule (RFC 6027 3.4), at tc egress of the outer interface, where
 * ESP packets pass as the peer gets them. A packet from a cluster address leaves only if this
 * member owns its SA and all of its sequence numbers lie in blocks that this member has entered.
 * The maps are pinned: this holds without the agent.
 *
 * ESP is looked for bare or in UDP, in IPv4 and IPv6, behind whatever the kernel may put before it:
 * IPv6's extension headers, and AH, if a policy asks for both. Where that chain cannot be followed
 * to its end (cut short, too long) there may be ESP: such a packet does not leave. The end is any
 * other protocol. A tunnel is one: ESP that is routed into it leaves by the tunnel's interface, not
 * by this one.
 */
#include <linux/pkt_cls.h>
#include "parse.h"

/* What the headers of a packet lead to. */
enum found {
	FOUND_NOT_OURS, /* not IP, or from no cluster address */
	FOUND_OTHER, /* no ESP, or a later fragment */
	FOUND_ESP,
	FOUND_BROKEN, /* cut short, or more headers than anybody needs: it may be ESP */
};

/* As far as the headers have been followed. */
struct followed {
	struct espalier_sa_key key; /* of its SA; the SPI comes last */
	__u32 offset; /* of the next header, from the IP header on */
	__u8 type; /* of that header, IPPROTO_... */
};

static __always_inline bool load(struct __sk_buff *skb, __u32 offset, void *buf, __u32 size)
{
	return !bpf_skb_load_bytes_relative(skb, offset, buf, size, BPF_HDR_START_NET);
}

/* From a cluster address? FOUND_ESP: then it may be, the headers that follow tell. */
static __always_inline enum found begin_ipv4(struct __sk_buff *skb, struct followed *ret)
{
	struct iphdr ip;

	if (!load(skb, 0, &ip, sizeof(ip)) || !is_cluster_address(ip.saddr))
		return FOUND_NOT_OURS;
	if (parse_later_fragment(&ip)) /* without its first one it is worth nothing */
		return FOUND_OTHER;
	*ret = (struct followed){
		.key.family = FAMILY_INET, .offset = ip.ihl * 4, .type = ip.protocol};
	*(__be32 *)ret->key.daddr = ip.daddr;
	return FOUND_ESP;
}

static __always_inline enum found begin_ipv6(struct __sk_buff *skb, struct followed *ret)
{
	struct ipv6hdr ip;

	if (!load(skb, 0, &ip, sizeof(ip)) || !is_cluster_address6(&ip.saddr))
		return FOUND_NOT_OURS;
	*ret = (struct followed){
		.key.family = FAMILY_INET6, .offset = sizeof(ip), .type = ip.nexthdr};
	__builtin_memcpy(ret->key.daddr, &ip.daddr, sizeof(ret->key.daddr));
	return FOUND_ESP;
}

/* Steps over what may stand before ESP. */
static __always_inline enum found follow(struct __sk_buff *skb, struct followed *packet)
{
	struct extension extension;

	for (int i = 0; i <= EXTENSIONS; i++) {
		if (packet->type == IPPROTO_ESP || packet->type == IPPROTO_UDP)
			return FOUND_ESP;
		if (!parse_is_extension(packet->type) && packet->type != IPPROTO_AH)
			return FOUND_OTHER;
		if (!load(skb, packet->offset, &extension, sizeof(extension)))
			return FOUND_BROKEN;
		if (parse_later_fragment6(packet->type, &extension))
			return FOUND_OTHER;
		packet->offset += parse_extension_size(packet->type, &extension);
		packet->type = extension.next;
	}
	return FOUND_BROKEN;
}

/* From the UDP header to ESP in it. SPI 0 marks IKE. */
static __always_inline enum found enter_udp(struct __sk_buff *skb, struct followed *packet)
{
	struct udphdr udp;
	__be32 spi;

	if (!load(skb, packet->offset, &udp, sizeof(udp)))
		return FOUND_BROKEN;
	if (udp.source != bpf_htons(NAT_T_PORT) || parse_udp_below(&udp, sizeof(struct esp) + 1))
		return FOUND_OTHER;
	packet->offset += sizeof(udp);
	if (!load(skb, packet->offset, &spi, sizeof(spi)))
		return FOUND_BROKEN;
	return spi ? FOUND_ESP : FOUND_OTHER;
}

static __always_inline enum found find_esp(
	struct __sk_buff *skb, struct followed *ret, struct esp *ret_esp)
{
	enum found found = FOUND_NOT_OURS;

	if (skb->protocol == bpf_htons(ETH_P_IP))
		found = begin_ipv4(skb, ret);
	else if (skb->protocol == bpf_htons(ETH_P_IPV6))
		found = begin_ipv6(skb, ret);
	if (found == FOUND_ESP)
		found = follow(skb, ret);
	if (found == FOUND_ESP && ret->type == IPPROTO_UDP)
		found = enter_udp(skb, ret);
	if (found == FOUND_ESP && !load(skb, ret->offset, ret_esp, sizeof(*ret_esp)))
		found = FOUND_BROKEN;
	return found;
}

/*
 * How many of `count` numbers from `seq` (low 32 bits) on lie in the window, counted from the
 * first; *ret_last is the last of them in full. A window is a block, far below 2^32 numbers, so the
 * low bits tell which number is meant.
 */
static __always_inline __u32 window_take(
	const struct espalier_window *window, __u32 seq, __u32 count, __u64 *ret_last)
{
	__u64 n = window->first + (__u32)(seq - (__u32)window->first);
	__u64 more;

	if (!count || n < window->first || n > window->last)
		return 0;
	more = window->last - n;
	if (more >= count)
		more = count - 1;
	*ret_last = n + more;
	return more + 1;
}

static __always_inline void tell_agent(
	enum espalier_event_kind kind, __u32 slot, __u64 seq, __u64 flags)
{
	struct espalier_event *event = bpf_ringbuf_reserve(&wake, sizeof(*event), 0);

	if (!event)
		return;
	*event = (struct espalier_event){.kind = kind, .slot = slot, .seq = seq};
	bpf_ringbuf_submit(event, flags);
}

/*
 * The kernel counts on whether packets get out or not, and the agent must learn where it is. There
 * may be many such packets: one is told at a time, and read at the agent's next tick.
 */
static __always_inline void tell_out_of_block(const struct espalier_sa *sa, __u32 seq)
{
	if (bpf_ringbuf_query(&wake, BPF_RB_AVAIL_DATA) == 0)
		tell_agent(ESPALIER_BLOCK_OUT, sa->slot, seq, BPF_RB_NO_WAKEUP);
}

/* Notes the highest number and the packets sent; wakes the agent when half of the block is used. */
static __always_inline void account(const struct espalier_sa *sa, __u64 last, __u32 segments)
{
	__u64 middle = sa->open[0].first + (sa->open[0].last - sa->open[0].first) / 2;
	struct espalier_counter *counter = bpf_map_lookup_elem(&counters, &sa->slot);
	__u64 before, seen;

	if (!counter)
		return;
	__sync_fetch_and_add(&counter->packets, segments);
	seen = counter->seq;
	for (int i = 0; i < 8; i++) { /* other CPUs send through the same SA */
		before = seen;
		if (before >= last)
			return;
		seen = __sync_val_compare_and_swap(&counter->seq, before, last);
		if (seen == before)
			break;
	}
	if (before < middle && last >= middle)
		tell_agent(ESPALIER_BLOCK_LOW, sa->slot, last, BPF_RB_FORCE_WAKEUP);
}

static __always_inline enum espalier_reason guard(struct __sk_buff *skb)
{
	struct espalier_window block_0 = {.first = 0, .last = (1ULL << settings.block_bits) - 1};
	__u32 seq, segments, taken;
	struct espalier_sa *found, sa;
	struct followed packet;
	struct espalier_flow flow;
	struct esp esp;
	const struct espalier_view *v;
	__u64 last = 0;

	/* parse */
	switch (find_esp(skb, &packet, &esp)) {
	case FOUND_ESP:
		break;
	case FOUND_BROKEN:
		return ESPALIER_GUARD_MALFORMED;
	default:
		return ESPALIER_UNGUARDED;
	}
	seq = bpf_ntohl(esp.seq);
	segments = skb->gso_segs ?: 1;

	/* key */
	packet.key.spi = esp.spi;
	found = bpf_map_lookup_elem(&sas, &packet.key);
	if (!found) /* the agent has not seen it yet, so it is new, and was created here */
		return window_take(&block_0, seq, segments, &last) == segments
			       ? ESPALIER_EMITTED_NEW
			       : ESPALIER_GUARD_UNKNOWN;
	bpf_spin_lock(&found->lock);
	sa.open[0] = found->open[0];
	sa.open[1] = found->open[1];
	sa.slot = found->slot;
	flow = (struct espalier_flow){.bucket = found->bucket, .pinned = found->pinned};
	bpf_spin_unlock(&found->lock);

	/* owner */
	v = view_map();
	if (!v || view_owner(v, &flow) != settings.self)
		return ESPALIER_GUARD_NOT_OWNER;

	/* verdict: numbers rise, so they may begin in the block before and end in the one entered
	 * last */
	taken = window_take(&sa.open[1], seq, segments, &last);
	taken += window_take(&sa.open[0], seq + taken, segments - taken, &last);
	if (taken != segments) {
		tell_out_of_block(&sa, seq);
		return ESPALIER_GUARD_BLOCK;
	}
	account(&sa, last, segments);
	return ESPALIER_EMITTED;
}

SEC("tc")
int espalier_guard(struct __sk_buff *skb)
{
	enum espalier_reason reason = guard(skb);

	count(reason);
	switch (reason) {
	case ESPALIER_UNGUARDED:
	case ESPALIER_EMITTED:
	case ESPALIER_EMITTED_NEW:
		return TC_ACT_UNSPEC; /* on to the next tc program */
	default:
		return TC_ACT_SHOT;
	}
}
