/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * sync.bpf.c - XDP on the sync interface: the sync channel's datagrams go to the agent's AF_XDP
 * socket of the receive queue. Whatever is not as the members send it (options, fragments, VLAN
 * tags), or finds no socket, goes the kernel's way.
 */
#include "parse.h"

static __always_inline bool is_sync(const struct xdp_md *ctx)
{
	struct frame frame;
	struct udphdr *udp;
	struct iphdr *ip;

	if (!parse_frame(ctx, &frame) || frame.eth->h_proto != bpf_htons(ETH_P_IP))
		return false;
	ip = parse_ipv4(&frame);
	if (!ip || ip->ihl != 5 || ip->daddr != settings.sync_address ||
		ip->protocol != IPPROTO_UDP || ip->frag_off & bpf_htons(0x3fff))
		return false;
	udp = (void *)(ip + 1);
	return (void *)(udp + 1) <= frame.end && udp->dest == settings.sync_port;
}

SEC("xdp")
int espalier_sync(struct xdp_md *ctx)
{
	int verdict = XDP_PASS;

	if (is_sync(ctx))
		verdict = bpf_redirect_map(&sync, ctx->rx_queue_index, XDP_PASS);
	count(verdict == XDP_REDIRECT ? ESPALIER_SYNC : ESPALIER_NOT_OURS);
	return verdict;
}
