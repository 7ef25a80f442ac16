/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * hostile.bpf.c - the steerer, run on a packet that is changed before each run: a million times in
 * one BPF_PROG_TEST_RUN. What it sends on is given to the steerer of the member that it is sent to.
 */
#include "steer.bpf.c" /* NOLINT(bugprone-suspicious-include): as it is, inlined */
#include "../tests/bpf/hostile.h"

#define TOTAL (HOSTILE_SIZE + HOSTILE_GUARD)

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hostile);
} hostile SEC(".maps");

/* By member id: hostile_next() of that member. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, HOSTILE_MEMBERS);
	__type(key, __u32);
	__type(value, __u32);
} next_members SEC(".maps");

static __always_inline struct hostile *hostile_map(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&hostile, &zero);
}

/* xorshift64 */
static __always_inline __u32 draw(struct hostile *h)
{
	h->random ^= h->random << 13;
	h->random ^= h->random >> 7;
	h->random ^= h->random << 17;
	return h->random >> 16;
}

/* The compiler may know that the offset is small enough; the verifier has to see it. */
static __always_inline __u8 *byte_at(struct hostile *h, __u32 offset)
{
	barrier_var(offset);
	return &h->now[offset % HOSTILE_SIZE];
}

static __always_inline void change(struct hostile *h)
{
	__u32 bits = draw(h);
	__u8 *byte = byte_at(h, draw(h) % h->size);

	switch (bits & 3) {
	case 0:
		*byte = 0;
		break;
	case 1:
		*byte = 0xff;
		break;
	case 2:
		*byte ^= 1 << (bits >> 2 & 7);
		break;
	default:
		*byte = bits >> 2;
	}
}

/*
 * Makes h->now. Returns how many bytes of the packet do not come; an Ethernet header must. (A
 * global function, so that the verifier does not follow each change into the steerer.)
 */
__weak __noinline int hostile_prepare(void)
{
	struct hostile *h = hostile_map();
	__u32 longest, run;

	if (!h || h->size < sizeof(struct ethhdr) || h->size > HOSTILE_SIZE)
		return 0;
	longest = h->size - sizeof(struct ethhdr);
	run = h->run++;
	__builtin_memcpy(h->now, h->packet, sizeof(h->now));
	if (h->kind == HOSTILE_CUT)
		return run % (longest + 1);
	if (h->kind == HOSTILE_BYTE) {
		*byte_at(h, run / 256 % h->size) = run;
		return 0;
	}
	change(h);
	for (int i = 0; i < 3; i++)
		if (draw(h) & 1)
			change(h);
	return draw(h) % 8 ? 0 : draw(h) % (longest + 1);
}

static __always_inline int sinned(struct hostile *h, enum hostile_sin sin, __u32 size)
{
	if (h->sin)
		return XDP_ABORTED;
	h->sin = sin;
	h->sin_size = size;
	__builtin_memcpy(h->sin_packet, h->now, sizeof(h->sin_packet));
	return XDP_ABORTED;
}

static __always_inline bool is_same(const struct hostile *h)
{
	const __u64 *now = (const void *)h->now, *after = (const void *)h->after;
	__u64 difference = 0;

	for (__u32 i = 0; i < TOTAL / 8; i++)
		difference |= now[i] ^ after[i];
	return !difference;
}

/* The frame is as the last run has left it: makes it this run's. What is behind its end stays. */
static __always_inline bool fill(struct xdp_md *ctx, struct hostile *h, __u32 size)
{
	__u32 now = ctx->data_end - ctx->data;

	if (now < TOTAL && bpf_xdp_adjust_tail(ctx, TOTAL - now))
		return false;
	if (bpf_xdp_store_bytes(ctx, 0, h->now, TOTAL))
		return false;
	return !bpf_xdp_adjust_tail(ctx, (int)size - TOTAL);
}

/* What is wrong with what the steerer has made of the packet? Sent on: *ret_to says to whom. */
static __always_inline enum hostile_sin judge(
	struct xdp_md *ctx, struct hostile *h, int verdict, __u32 *ret_to)
{
	if (verdict != XDP_PASS && verdict != XDP_DROP && verdict != XDP_TX)
		return HOSTILE_VERDICT;
	if (bpf_probe_read_kernel(h->after, TOTAL, (void *)(long)ctx->data))
		return HOSTILE_HARNESS;
	if (verdict == XDP_TX) {
		*ret_to = h->after[5];
		if (*ret_to >= HOSTILE_MEMBERS || !mac_equal(h->after + 6, h->now))
			return HOSTILE_HOP;
		mac_copy(h->after, h->now);
		mac_copy(h->after + 6, h->now + 6);
	}
	return is_same(h) ? HOSTILE_NONE : HOSTILE_BYTES;
}

SEC("xdp")
int hostile_first(struct xdp_md *ctx)
{
	struct hostile *h = hostile_map();
	__u32 size, to = HOSTILE_MEMBERS;
	enum hostile_sin sin;
	struct key key = {};
	int verdict;

	if (!h)
		return XDP_ABORTED;
	size = h->size - (__u32)hostile_prepare();
	if (!fill(ctx, h, size))
		return sinned(h, HOSTILE_HARNESS, size);
	verdict = finish(&key, steer(ctx, &key));
	sin = judge(ctx, h, verdict, &to);
	if (sin)
		return sinned(h, sin, size);
	if (to == HOSTILE_MEMBERS)
		return verdict;
	h->sent++;
	bpf_tail_call(ctx, &next_members, to);
	return sinned(h, HOSTILE_HARNESS, size);
}

/* The same frame at the member that it has been sent to. */
SEC("xdp")
int hostile_next(struct xdp_md *ctx)
{
	struct hostile *h = hostile_map();
	struct key key = {};
	int verdict = finish(&key, steer(ctx, &key));

	if (verdict == XDP_TX && h)
		return sinned(h, HOSTILE_SECOND_HOP, 0);
	return verdict;
}
