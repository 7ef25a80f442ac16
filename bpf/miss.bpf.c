/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * miss.bpf.c - ESP or AH for a cluster address, with an SPI that the kernel has no SA for, wakes
 * the agent: another member may have that SA. Here, where the kernel itself finds that out, the
 * packets that have an SA pay nothing. Anybody can send such packets: of each SPI one a second is
 * told, and of all of them no more than a budget.
 */
#include "kernel.h"
#include "parse.h"
#include <bpf/bpf_core_read.h>

#define SECOND 1000000000ULL
#define TOLD 4096 /* enough to find each one again that a sensible budget lets through */

/* When the agent was told of that SA last, bpf_ktime_get_ns(). It and the budget are this program's
 * alone, so not pinned. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, TOLD);
	__type(key, struct espalier_sa_key);
	__type(value, __u64);
} told SEC(".maps");

/* A token bucket of a second's worth, as the time at which it will be full again. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} budget SEC(".maps");

/* The header may be anywhere: a tracing program has no packet, only memory. */
static __always_inline bool load(const struct sk_buff *skb, __u32 offset, void *buf, __u32 size)
{
	return !bpf_probe_read_kernel(buf, size, skb->head + skb->network_header + offset);
}

/* ESP, bare or in UDP, or AH. Of IPComp the kernel asks for SAs here too. */
static __always_inline bool is_steered(__u8 protocol)
{
	return protocol == IPPROTO_ESP || protocol == IPPROTO_UDP || protocol == IPPROTO_AH;
}

static __always_inline bool find_ipv4(const struct sk_buff *skb, struct espalier_sa_key *ret)
{
	struct iphdr ip;

	if (!load(skb, 0, &ip, sizeof(ip)) || !is_steered(ip.protocol) ||
		!is_cluster_address(ip.daddr))
		return false;
	ret->protocol = espalier_protocol(ip.protocol);
	*(__be32 *)ret->daddr = ip.daddr;
	return true;
}

static __always_inline bool find_ipv6(const struct sk_buff *skb, struct espalier_sa_key *ret)
{
	struct inet6_skb_parm *parm = (void *)skb->cb; /* not const: see BPF_CORE_READ */
	struct ipv6hdr ip;
	__u8 protocol;

	if (!load(skb, 0, &ip, sizeof(ip)) || !is_cluster_address6(&ip.daddr) ||
		!load(skb, BPF_CORE_READ(parm, nhoff), &protocol, sizeof(protocol)) ||
		!is_steered(protocol))
		return false;
	ret->protocol = espalier_protocol(protocol);
	__builtin_memcpy(ret->daddr, &ip.daddr, sizeof(ret->daddr));
	return true;
}

static __always_inline bool take_from_budget(__u64 now)
{
	__u64 interval = SECOND / settings.misses_per_second, before, full;
	__u32 zero = 0;
	__u64 *stored = bpf_map_lookup_elem(&budget, &zero);

	if (!stored)
		return false;
	for (int i = 0; i < 8; i++) { /* other CPUs take as well */
		before = *(volatile __u64 *)stored;
		full = (before > now ? before : now) + interval;
		if (full > now + SECOND)
			return false;
		if (__sync_val_compare_and_swap(stored, before, full) == before)
			return true;
	}
	return false;
}

/* Is this the one that tells of its SPI, of those within a second and on all CPUs? */
static __always_inline bool is_first(const struct espalier_sa_key *key, __u64 now)
{
	__u64 *at = bpf_map_lookup_elem(&told, key);
	__u64 before = at ? *(volatile __u64 *)at : 0;

	if (at && (__s64)(now - before) < (__s64)SECOND) /* another CPU's clock may be ahead */
		return false;
	if (!take_from_budget(now))
		return false;
	return at ? __sync_val_compare_and_swap(at, before, now) == before
		  : !bpf_map_update_elem(&told, key, &now, BPF_NOEXIST);
}

static __always_inline bool tell_agent(const struct espalier_sa_key *key)
{
	struct espalier_event *event = bpf_ringbuf_reserve(&wake, sizeof(*event), 0);

	if (!event)
		return false;
	*event = (struct espalier_event){.kind = ESPALIER_SPI_MISS, .key = *key};
	/* forced: an event of the guard's that was to wait would hold this one back too */
	bpf_ringbuf_submit(event, BPF_RB_FORCE_WAKEUP);
	return true;
}

/* (struct sk_buff *skb, u16 family, __be32 net_spi, __be32 net_seq), called by xfrm_input(). */
SEC("fentry/xfrm_audit_state_notfound")
int espalier_miss(const __u64 *args)
{
	const struct sk_buff *skb = (void *)args[0];
	struct espalier_sa_key key = {.family = args[1], .spi = args[2]};

	if (skb->dev->nd_net.net->net_cookie != settings.netns_cookie)
		return 0;
	if (key.family == FAMILY_INET6 ? !find_ipv6(skb, &key) : !find_ipv4(skb, &key))
		return 0;
	count(is_first(&key, bpf_ktime_get_ns()) && tell_agent(&key) ? ESPALIER_MISS_TOLD
								     : ESPALIER_MISS_LIMITED);
	return 0;
}
