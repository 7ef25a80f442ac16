/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * counters.bpf.c - how far each inbound SA has come, read where the kernel has just noted it: after
 * the ICV has been verified, under the SA's lock. (The number in an unverified header is an
 * attacker's to choose.)
 */
#include "kernel.h"
#include "maps.h"
#include <linux/in.h>
#include <bpf/bpf_endian.h>

/* The highest number so far. A legacy SA without a replay window keeps none: then this packet's. */
static __always_inline __u64 highest(const struct xfrm_state *x, __be32 net_seq)
{
	__u32 seq = bpf_ntohl(net_seq);

	if (x->replay_esn)
		return (__u64)x->replay_esn->seq_hi << 32 | x->replay_esn->seq;
	return x->replay.seq > seq ? x->replay.seq : seq;
}

SEC("fexit/xfrm_replay_advance")
int espalier_count(const __u64 *args)
{
	const struct xfrm_state *x = (void *)args[0];
	__be32 net_seq = args[1];
	struct espalier_sa_key key = {.family = x->props.family,
		.spi = x->id.spi,
		.protocol = espalier_protocol(x->id.proto)};
	__be32 *daddr = (__be32 *)key.daddr;
	struct espalier_counter *counter;
	struct espalier_sa *sa;
	__u64 seq;

	if (x->xs_net.net->net_cookie != settings.netns_cookie ||
		(x->id.proto != IPPROTO_ESP && x->id.proto != IPPROTO_AH))
		return 0;
	daddr[0] = x->id.daddr.a6[0];
	if (key.family == FAMILY_INET6) {
		daddr[1] = x->id.daddr.a6[1];
		daddr[2] = x->id.daddr.a6[2];
		daddr[3] = x->id.daddr.a6[3];
	}
	sa = bpf_map_lookup_elem(&sas, &key);
	if (sa && sa->slot == ESPALIER_SLOT_MARKED) {
		key.mark = x->mark.v;
		key.mark_mask = x->mark.m;
		sa = bpf_map_lookup_elem(&sas, &key);
	}
	counter = sa ? bpf_map_lookup_elem(&counters, &sa->slot) : NULL;
	if (!counter)
		return 0;
	seq = highest(x, net_seq);
	if (counter->seq < seq)
		counter->seq = seq;
	counter->packets += 1;
	return 0;
}
