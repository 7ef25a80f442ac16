/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * output.bpf.c - judges ESP and AH of the cluster inside ESP, which the guard cannot see any more.
 * It runs when an SA has taken its number and has not encrypted yet. What is in there is judged as
 * the guard judges what it sees. The guard drops what has not passed (see blocks.h).
 */
#include "kernel.h"
#include "follow.h"
#include "blocks.h"
#include <bpf/bpf_core_read.h>

static __always_inline bool follow_load(
	void *unused, const struct followed *p, void *buf, __u32 size)
{
	(void)unused;
	return p->offset <= p->size && size <= p->size - p->offset &&
	       !bpf_probe_read_kernel(buf, size, (void *)(p->start + p->offset));
}

/* As guard_step(). */
__attribute__((noinline)) int output_step(struct followed *p, __u32 mark)
{
	return p ? step(NULL, p, mark, 1, true) : FOUND_BROKEN;
}

/*
 * What will be encrypted begins at `data`; where the MAC header is said to be is its type, until
 * ESP's takes its place. If it is no IP packet, its header is the one that stands before it now.
 */
static __always_inline enum espalier_reason judge_inside(
	const struct sk_buff *skb, struct followed *p)
{
	const unsigned char *head = skb->head;
	int found = FOUND_MORE;
	__u8 first, type = 0;

	*p = (struct followed){.start = (__u64)(head + skb->network_header),
		.size = sizeof(struct ipv6hdr),
		.reason = ESPALIER_UNGUARDED};
	bpf_probe_read_kernel(&type, sizeof(type), head + skb->mac_header);
	if (type != IPPROTO_IPIP && type != IPPROTO_IPV6) {
		if (!follow_load(NULL, p, &first, sizeof(first)))
			return ESPALIER_GUARD_MALFORMED;
		p->type = first >> 4 == 4 ? IPPROTO_IPIP : IPPROTO_IPV6;
		found = output_step(p, skb->mark);
	}
	p->start = (__u64)skb->data;
	p->offset = 0;
	p->size = skb->len - skb->data_len;
	p->type = type;
	for (int i = 0; found == FOUND_MORE && i < STEPS; i++)
		found = output_step(p, skb->mark);
	return at_the_end(p, found);
}

static __always_inline void key_of(const struct xfrm_state *x, struct espalier_sa_key *ret)
{
	__be32 *daddr = (__be32 *)ret->daddr;

	*ret = (struct espalier_sa_key){.family = x->props.family, .spi = x->id.spi};
	daddr[0] = x->id.daddr.a6[0];
	if (ret->family == FAMILY_INET6) {
		daddr[1] = x->id.daddr.a6[1];
		daddr[2] = x->id.daddr.a6[2];
		daddr[3] = x->id.daddr.a6[3];
	}
}

/* (struct xfrm_state *x, struct sk_buff *skb), with x->lock held; not 0: the packet is dropped. */
SEC("fexit/xfrm_replay_overflow")
int espalier_output(const __u64 *args)
{
	const struct xfrm_state *x = (void *)args[0];
	const struct sk_buff *skb = (void *)args[1];
	struct xfrm_skb_cb *cb = (void *)skb->cb; /* not const: see BPF_CORE_READ */
	struct espalier_view *v = view_map();
	struct espalier_proof proof = {};
	enum espalier_reason reason;
	struct followed inner;
	__u8 yes = 1;

	if (!v || (int)args[2] || x->xs_net.net->net_cookie != settings.netns_cookie ||
		x->id.proto != IPPROTO_ESP)
		return 0;
	key_of(x, &proof.key);
	reason = judge_inside(skb, &inner);
	/* what is inside may be a carrier itself, of whatever address */
	if (reason != ESPALIER_UNGUARDED || (inner.key.spi && is_carrier(&inner.key))) {
		if (!is_carrier(&proof.key))
			bpf_map_update_elem(&carriers, &proof.key, &yes, BPF_ANY);
		if (!v->nested)
			v->nested = true;
	} else if (!v->nested || !is_carrier(&proof.key)) {
		return 0;
	}
	if (!lets_out(reason))
		return 0;
	proof.seq = bpf_htonl(BPF_CORE_READ(cb, seq.output.low));
	bpf_map_update_elem(&proofs, &proof, &yes, BPF_ANY);
	return 0;
}
