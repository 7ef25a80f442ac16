/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * hostile.bpf.c - the steerer, run on a packet that is changed before each run: a million times in
 * one BPF_PROG_TEST_RUN. What it sends on is given to the steerer of the member that it is sent to.
 * With INNER the same of the clear side; with TUNNEL of both with IP-in-IP (hostile_*.bpf.c).
 */
#ifdef INNER
#include "clear.bpf.c" /* NOLINT(bugprone-suspicious-include): as it is, inlined */
static const enum side our_side = SIDE_INNER;
#else
#include "steer.bpf.c" /* NOLINT(bugprone-suspicious-include): as it is, inlined */
static const enum side our_side = SIDE_OUTER;
#endif
#include "../tests/bpf/hostile.h"
#include "../tests/bpf/hostile_judge.h"

/* By member id: hostile_next() of that member. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, HOSTILE_MEMBERS);
	__type(key, __u32);
	__type(value, __u32);
} next_members SEC(".maps");

/* xorshift64 */
static __always_inline __u32 draw(struct hostile *h)
{
	h->random ^= h->random << 13;
	h->random ^= h->random >> 7;
	h->random ^= h->random << 17;
	return h->random >> 16;
}

static __always_inline void change(struct hostile *h)
{
	__u32 bits = draw(h);
	__u8 *byte = byte_at(h->now, HOSTILE_HEAD + draw(h) % h->size);

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
		*byte_at(h->now, HOSTILE_HEAD + run / 256 % h->size) = run;
		return 0;
	}
	change(h);
	for (int i = 0; i < 3; i++)
		if (draw(h) & 1)
			change(h);
	return draw(h) % 8 ? 0 : draw(h) % (longest + 1);
}

/* The first one is kept. */
static __always_inline int sinned(struct hostile *h, enum hostile_sin sin, __u32 reason)
{
	if (h->sin)
		return XDP_ABORTED;
	h->sin = sin;
	h->sin_member = settings.self;
	h->sin_reason = reason;
	h->sin_came = h->came;
	h->sin_left = h->left;
	__builtin_memcpy(h->sin_image, h->now, sizeof(h->sin_image));
	__builtin_memcpy(h->sin_after, h->after, sizeof(h->sin_after));
	return XDP_ABORTED;
}

/* Where the frame begins now, in memory, as a number. */
static __always_inline __u64 where(struct xdp_md *ctx, struct hostile *h)
{
	*(volatile __u64 *)&h->data = (long)ctx->data;
	return *(volatile __u64 *)&h->data;
}

/* The frame is as, and where, the last run has left it: makes it this run's. */
static __always_inline bool fill(struct xdp_md *ctx, struct hostile *h, __u32 size)
{
	__u32 now;

	if (!h->origin)
		h->origin = where(ctx, h);
	if (bpf_xdp_adjust_head(ctx, (int)(h->origin - where(ctx, h))))
		return false;
	now = ctx->data_end - ctx->data;
	if (now < HOSTILE_IMAGE && bpf_xdp_adjust_tail(ctx, HOSTILE_IMAGE - now))
		return false;
	if (bpf_xdp_store_bytes(ctx, 0, h->now, HOSTILE_IMAGE))
		return false;
	h->came = (struct hostile_place){.at = HOSTILE_HEAD, .size = size};
	return !bpf_xdp_adjust_head(ctx, HOSTILE_HEAD) &&
	       !bpf_xdp_adjust_tail(ctx, (int)(HOSTILE_HEAD + size) - HOSTILE_IMAGE);
}

static __always_inline int steer_hostile(struct xdp_md *ctx, enum espalier_reason *ret)
{
#ifdef INNER
	*ret = clear(ctx);
	return hop_verdict(*ret);
#else
	struct key key = {};

	*ret = steer(ctx, &key);
	return finish(&key, *ret);
#endif
}

static __always_inline enum hostile_sin judge(
	struct xdp_md *ctx, struct hostile *h, enum espalier_reason reason, int verdict)
{
	h->left.at = where(ctx, h) - h->origin;
	h->left.size = ctx->data_end - ctx->data;
	if (bpf_probe_read_kernel(h->after, HOSTILE_IMAGE, (void *)h->origin))
		return HOSTILE_HARNESS;
	return hostile_judge(reason, verdict);
}

/* IP-in-IP comes from the router behind this one. */
static __always_inline bool travel(struct xdp_md *ctx, struct hostile *h)
{
	const struct espalier_member *member = member_find(h->to);
	const struct espalier_hop *hop = member_hop(h->to, our_side);
	__u8 macs[2 * ETH_ALEN];

	if (!member || !hop)
		return false;
	if (hop->kind == ESPALIER_HOP_LINK)
		return true;
	__builtin_memcpy(
		macs, our_side == SIDE_OUTER ? member->outer_mac : member->inner_mac, ETH_ALEN);
	__builtin_memcpy(macs + ETH_ALEN, hop->mac, ETH_ALEN);
	for (__u32 i = 0; i < sizeof(macs); i++)
		*byte_at(h->after, h->left.at + i) = macs[i];
	return !bpf_xdp_store_bytes(ctx, 0, macs, sizeof(macs));
}

SEC("xdp")
int hostile_first(struct xdp_md *ctx)
{
	struct hostile *h = hostile_map();
	enum espalier_reason reason;
	enum hostile_sin sin;
	int verdict;

	if (!h)
		return XDP_ABORTED;
	if (!fill(ctx, h, h->size - (__u32)hostile_prepare()))
		return sinned(h, HOSTILE_HARNESS, 0);
	verdict = steer_hostile(ctx, &reason);
	sin = judge(ctx, h, reason, verdict);
	if (sin)
		return sinned(h, sin, reason);
	if (h->to == HOSTILE_MEMBERS)
		return verdict;
	h->sent++;
	if (travel(ctx, h))
		bpf_tail_call(ctx, &next_members, h->to);
	return sinned(h, HOSTILE_HARNESS, reason);
}

/* The same frame at the member that it has been sent to. */
SEC("xdp")
int hostile_next(struct xdp_md *ctx)
{
	struct hostile *h = hostile_map();
	enum espalier_reason reason;
	enum hostile_sin sin;
	int verdict;

	if (!h)
		return XDP_ABORTED;
	h->came = h->left;
	__builtin_memcpy(h->now, h->after, sizeof(h->now));
	verdict = steer_hostile(ctx, &reason);
	sin = judge(ctx, h, reason, verdict);
	if (verdict == XDP_TX)
		sin = HOSTILE_SECOND_HOP;
	return sin ? sinned(h, sin, reason) : verdict;
}
