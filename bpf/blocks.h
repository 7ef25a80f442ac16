/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * blocks.h - may this ESP or AH leave this member? And what the agent is told.
 *
 * A carrier is an SA that has carried ESP of the cluster inside its own. The guard cannot see the
 * numbers inside, but output.bpf.c has seen them. That program leaves a proof, which is the
 * carrier's own number. A carrier's packet leaves only with its proof. A lost proof costs a packet,
 * never a number.
 */
#ifndef BLOCKS_H
#define BLOCKS_H

#include "follow.h"

static __always_inline bool is_carrier(const struct espalier_sa_key *key)
{
	return bpf_map_lookup_elem(&carriers, key);
}

static __always_inline bool is_proven(const struct espalier_sa_key *key, __be32 seq)
{
	struct espalier_proof proof = {.key = *key, .seq = seq};

	return bpf_map_lookup_elem(&proofs, &proof);
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
 * The kernel counts on even if packets do not get out, so the agent must learn where it is. There
 * may be many such packets: one is told at a time, and read at the agent's next tick.
 */
static __always_inline void tell_out_of_block(const struct espalier_sa *sa, __u32 seq)
{
	if (bpf_ringbuf_query(&wake, BPF_RB_AVAIL_DATA) == 0)
		tell_agent(ESPALIER_BLOCK_OUT, sa->slot, seq, BPF_RB_NO_WAKEUP);
}

/* Notes the highest number and the packets sent; wakes the agent when half of the block is used. A
 * packet may leave by several interfaces, as a VLAN's and its NIC's: one of them counts. */
static __always_inline void account(
	const struct espalier_sa *sa, __u64 last, __u32 segments, bool counts)
{
	__u64 middle = sa->open[0].first + (sa->open[0].last - sa->open[0].first) / 2;
	struct espalier_counter *counter = bpf_map_lookup_elem(&counters, &sa->slot);
	__u64 before, seen;

	if (!counter)
		return;
	if (counts)
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

/* An SA that the agent has not seen yet is new, and was created here: block 0. */
static __always_inline enum espalier_reason judge_new(__u32 seq, __u32 segments)
{
	struct espalier_window block_0 = {.first = 0, .last = (1ULL << settings.block_bits) - 1};
	__u64 last = 0;

	return window_take(&block_0, seq, segments, &last) == segments ? ESPALIER_EMITTED_NEW
								       : ESPALIER_GUARD_UNKNOWN;
}

static __always_inline enum espalier_reason judge_known(struct espalier_sa *found,
	const struct espalier_view *v, __u32 seq, __u32 segments, bool counts)
{
	struct espalier_flow flow;
	struct espalier_sa sa;
	__u64 last = 0;
	__u32 taken;

	bpf_spin_lock(&found->lock);
	sa.open[0] = found->open[0];
	sa.open[1] = found->open[1];
	sa.slot = found->slot;
	flow = (struct espalier_flow){.bucket = found->bucket, .pinned = found->pinned};
	bpf_spin_unlock(&found->lock);
	if (view_owner(v, &flow) != settings.self)
		return ESPALIER_GUARD_NOT_OWNER;
	/* numbers rise, so they may begin in the block before and end in the one entered last */
	taken = window_take(&sa.open[1], seq, segments, &last);
	taken += window_take(&sa.open[0], seq + taken, segments - taken, &last);
	if (taken != segments) {
		tell_out_of_block(&sa, seq);
		return ESPALIER_GUARD_BLOCK;
	}
	account(&sa, last, segments, counts);
	return ESPALIER_EMITTED;
}

/* Where several have one destination and SPI, that of the packet's mark. */
static __always_inline struct espalier_sa *find_sa(const struct followed *p, __u32 mark)
{
	struct espalier_sa *found = bpf_map_lookup_elem(&sas, &p->key);
	struct espalier_sa_key key;

	if (!found || found->slot != ESPALIER_SLOT_MARKED)
		return found;
	key = p->key;
	key.mark_mask = found->mark_mask;
	key.mark = mark & found->mark_mask;
	return bpf_map_lookup_elem(&sas, &key);
}

/* May what was found leave, with so many numbers? 0: nobody knows how many. counts: see
 * account(). */
static __always_inline enum espalier_reason judge(
	const struct followed *p, __u32 mark, __u32 segments, bool counts)
{
	struct espalier_view *v = view_map();
	struct espalier_sa *found;
	__u32 seq = bpf_ntohl(p->seq);

	if (!v)
		return ESPALIER_GUARD_NOT_OWNER;
	if (v->nested && is_carrier(&p->key) && !is_proven(&p->key, p->seq))
		return ESPALIER_GUARD_INNER;
	if (!p->from_us)
		return ESPALIER_UNGUARDED;
	found = find_sa(p, mark);
	if (!found && p->doubtful)
		return ESPALIER_UNGUARDED;
	if (found && found->slot == ESPALIER_SLOT_LOCAL)
		return ESPALIER_EMITTED_LOCAL;
	if (!segments)
		return ESPALIER_GUARD_GSO;
	return found ? judge_known(found, v, seq, segments, counts) : judge_new(seq, segments);
}

static __always_inline bool lets_out(enum espalier_reason reason)
{
	switch (reason) {
	case ESPALIER_UNGUARDED:
	case ESPALIER_EMITTED:
	case ESPALIER_EMITTED_ELSEWHERE:
	case ESPALIER_EMITTED_NEW:
	case ESPALIER_EMITTED_LOCAL:
		return true;
	default:
		return false;
	}
}

/*
 * Steps over one header, and judges what it says. AH may be around ESP, or around more AH: all of
 * their numbers must be such as may leave. Global functions call it, which the verifier judges
 * alone, once for all headers. (On the stack: maps take no other memory as a key before 6.2.)
 */
static __always_inline enum found step(
	void *skb, struct followed *p, __u32 mark, __u32 segments, bool counts)
{
	enum found found = follow(skb, p);
	enum espalier_reason reason;
	struct followed here;

	if (found != FOUND_ESP && found != FOUND_AH)
		return found;
	here = *p;
	reason = judge(&here, mark, segments, counts);
	if (p->reason == ESPALIER_UNGUARDED || !lets_out(reason))
		p->reason = reason;
	return found == FOUND_AH && lets_out(reason) ? FOUND_MORE : FOUND_OTHER;
}

/* The headers have been followed as far as they lead, or can be: what becomes of the packet? */
static __always_inline enum espalier_reason at_the_end(const struct followed *p, int found)
{
	return found != FOUND_OTHER && p->ours ? ESPALIER_GUARD_MALFORMED : p->reason;
}

#endif
