/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * guard.bpf.c - the never-repeat rule (RFC 6027 3.4), at tc egress of the outer interface, where
 * ESP packets pass as the peer gets them. A packet from a cluster address leaves only if this
 * member owns its SA and all of its sequence numbers lie in blocks that this member has entered.
 * The maps are pinned: this holds without the agent.
 */
#include <linux/pkt_cls.h>
#include "parse.h"

#define NAT_T_PORT 4500 /* RFC 3948 */

struct emitted {
	struct espalier_sa_key key;
	__u32 seq; /* of the first segment; the low 32 bits with ESN */
	__u32 segments; /* how many numbers it uses: a GSO packet has not been cut yet */
};

static __always_inline bool load(struct __sk_buff *skb, __u32 offset, void *buf, __u32 size)
{
	return !bpf_skb_load_bytes_relative(skb, offset, buf, size, BPF_HDR_START_NET);
}

/*
 * Offset of the ESP header from the IPv4 header, bare or in UDP (where SPI 0 marks IKE), or 0.
 * Later fragments have no ESP header; without their first one they are worth nothing.
 */
static __always_inline __u32 find_esp(struct __sk_buff *skb, struct iphdr *ip)
{
	struct udphdr udp;
	__u32 offset;
	__be32 spi;

	if (skb->protocol != bpf_htons(ETH_P_IP) || !load(skb, 0, ip, sizeof(*ip)) ||
		!is_cluster_address(ip->saddr) || parse_later_fragment(ip))
		return 0;
	offset = ip->ihl * 4;
	if (ip->protocol == IPPROTO_ESP)
		return offset;
	if (ip->protocol != IPPROTO_UDP || !load(skb, offset, &udp, sizeof(udp)) ||
		udp.source != bpf_htons(NAT_T_PORT))
		return 0;
	offset += sizeof(udp);
	return load(skb, offset, &spi, sizeof(spi)) && spi ? offset : 0;
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
	struct espalier_sa_key key = {};
	struct espalier_sa *found, sa;
	__u32 offset, seq, segments, taken;
	struct iphdr ip;
	struct esp esp;
	__u64 last = 0;

	/* parse */
	offset = find_esp(skb, &ip);
	if (!offset)
		return ESPALIER_UNGUARDED;
	if (!load(skb, offset, &esp, sizeof(esp)))
		return ESPALIER_GUARD_MALFORMED;
	seq = bpf_ntohl(esp.seq);
	segments = skb->gso_segs ?: 1;

	/* key */
	*(__be32 *)key.daddr = ip.daddr;
	key.spi = esp.spi;
	found = bpf_map_lookup_elem(&sas, &key);
	if (!found) /* the agent has not seen it yet, so it is new, and was created here */
		return window_take(&block_0, seq, segments, &last) == segments
			       ? ESPALIER_EMITTED_NEW
			       : ESPALIER_GUARD_UNKNOWN;
	bpf_spin_lock(&found->lock);
	sa.open[0] = found->open[0];
	sa.open[1] = found->open[1];
	sa.slot = found->slot;
	sa.bucket = found->bucket;
	bpf_spin_unlock(&found->lock);

	/* owner */
	if (view_owner(sa.bucket) != settings.self)
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
