/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * steering.bpf.c - what steering is compared with, and what makes one packet good for a million
 * runs. `wrap` and `wrap_tc` put back what the program before has rewritten, put in the next SPI,
 * and tail-call the program that is measured. That one is the production program, byte for byte; an
 * empty one in its place tells what the wrapper itself costs.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/in.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "steering.h"

char license_text[] SEC("license") = "Dual BSD/GPL";

const volatile struct wrapper wrapper;

__u32 chance = 1; /* never 0 */
__u32 seq;

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} target SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u64);
} table SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} received SEC(".maps");

/* Evenly from wrapper.spis of them; computed, since a table of them would take cache. */
static __always_inline __be32 next_spi(void)
{
	__u32 n = chance;

	n ^= n << 13;
	n ^= n >> 17;
	n ^= n << 5;
	chance = n;
	return bpf_htonl(SPI_FIRST + (__u32)((__u64)n * wrapper.spis >> 32));
}

/*
 * One store for each field: what the measured program loads must lie in one store, or the load
 * waits for the store to reach the cache, as it never does with a packet from the wire.
 */
static __always_inline void put_ethernet(__u8 *to)
{
	const volatile __u8 *from = wrapper.ethernet;

	*(volatile __u32 *)to = *(const volatile __u32 *)from;
	*(volatile __u16 *)(to + 4) = *(const volatile __u16 *)(from + 4);
	*(volatile __u32 *)(to + 6) = *(const volatile __u32 *)(from + 6);
	*(volatile __u16 *)(to + 10) = *(const volatile __u16 *)(from + 10);
	*(volatile __u16 *)(to + 12) = *(const volatile __u16 *)(from + 12);
}

SEC("xdp")
int wrap(struct xdp_md *ctx)
{
	__u8 *data, *end;

	if (wrapper.room && bpf_xdp_adjust_head(ctx, wrapper.room))
		return XDP_ABORTED;
	data = (__u8 *)(long)ctx->data;
	end = (__u8 *)(long)ctx->data_end;
	if (data + wrapper.spi_at + 4 > end || data + ETH_HLEN > end)
		return XDP_ABORTED;
	put_ethernet(data);
	if (wrapper.spis)
		*(__be32 *)(data + wrapper.spi_at) = next_spi();
	bpf_tail_call_static(ctx, &target, 0);
	return XDP_ABORTED;
}

/* SPI and sequence number in one store. The number rises, as each SA's does. */
SEC("tc")
int wrap_tc(struct __sk_buff *skb)
{
	__u8 *data = (__u8 *)(long)skb->data, *end = (__u8 *)(long)skb->data_end;
	__u64 esp;

	if (data + wrapper.spi_at + 8 > end)
		return TC_ACT_SHOT;
	esp = next_spi();
	seq++;
	*(__u64 *)(data + wrapper.spi_at) = esp | (__u64)bpf_htonl(seq) << 32;
	bpf_tail_call_static(skb, &target, 0);
	return TC_ACT_SHOT;
}

SEC("xdp")
int empty(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_PASS;
}

SEC("tc")
int empty_tc(struct __sk_buff *skb)
{
	(void)skb;
	return TC_ACT_UNSPEC;
}

SEC("xdp")
int transmit(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_TX;
}

SEC("xdp")
int array_lookup(struct xdp_md *ctx)
{
	__u32 key = ctx->rx_queue_index & 4095;
	__u64 *value = bpf_map_lookup_elem(&table, &key);

	return value && *value ? XDP_DROP : XDP_PASS;
}

SEC("xdp")
int adjust_head(struct xdp_md *ctx)
{
	if (bpf_xdp_adjust_head(ctx, -(int)sizeof(struct iphdr)) ||
		bpf_xdp_adjust_head(ctx, sizeof(struct iphdr)))
		return XDP_ABORTED;
	return XDP_PASS;
}

/* The least that any IP-in-IP takes: room, an Ethernet header, an IPv4 header with its checksum. */
SEC("xdp")
int encapsulate(struct xdp_md *ctx)
{
	/* version, TTL and addresses */
	__u32 sum = 0x4500 + 0x4000 + IPPROTO_IPIP + 0x0a00 + 0x0001 + 0x0a00 + 0x0002;
	__u8 *data, *end;
	struct iphdr *ip;
	__u16 size;

	if (bpf_xdp_adjust_head(ctx, -(int)sizeof(struct iphdr)))
		return XDP_ABORTED;
	data = (__u8 *)(long)ctx->data;
	end = (__u8 *)(long)ctx->data_end;
	ip = (struct iphdr *)(data + ETH_HLEN);
	if ((__u8 *)(ip + 1) > end)
		return XDP_ABORTED;
	put_ethernet(data);
	size = end - data - ETH_HLEN;
	sum += size;
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	*ip = (struct iphdr){.version = 4,
		.ihl = 5,
		.tot_len = bpf_htons(size),
		.ttl = 64,
		.protocol = IPPROTO_IPIP,
		.check = ~bpf_htons(sum),
		.saddr = bpf_htonl(0x0a000001),
		.daddr = bpf_htonl(0x0a000002)};
	return XDP_TX;
}

/* At the far end of the veth pair. */
SEC("xdp")
int receive(struct xdp_md *ctx)
{
	__u32 zero = 0;
	__u64 *n = bpf_map_lookup_elem(&received, &zero);

	(void)ctx;
	if (n)
		*n += 1;
	return XDP_DROP;
}
