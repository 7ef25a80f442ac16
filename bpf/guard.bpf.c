/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * guard.bpf.c - the never-repeat rule (RFC 6027 3.4), at tc egress of every interface. A packet
 * from a cluster address leaves only if this member owns its SA and all of its sequence numbers lie
 * in blocks that this member has entered. The maps are pinned: this holds without the agent.
 *
 * ESP is looked for behind whatever the kernel may put before it: VLAN tags, MPLS labels, options,
 * IPv6's extension headers, AH, UDP, and tunnels, which need no interface of their own (routes may
 * have an encapsulation). Where the headers of a packet that is, in any layer, from a cluster
 * address cannot be followed to their end (cut short, too many), there may be ESP: it does not
 * leave.
 */
#include <linux/pkt_cls.h>
#include "parse.h"

#define STEPS 20 /* headers that are followed */
#define READABLE 256 /* of a packet's bytes; its headers may lie beyond the linear part */

#define GRE_CHECKSUM 0x8000 /* RFC 2784, RFC 2890 */
#define GRE_ROUTING 0x4000 /* RFC 1701 */
#define GRE_KEY 0x2000
#define GRE_SEQUENCE 0x1000
#define GRE_VERSION 0x0007
#define MPLS_BOTTOM 0x100 /* RFC 3032 2.1: the last label */

#ifndef IPPROTO_ETHERNET
#define IPPROTO_ETHERNET 143
#endif

/* What a packet's headers lead to. */
enum found {
	FOUND_MORE, /* another header */
	FOUND_OTHER, /* no ESP from a cluster address, or a later fragment */
	FOUND_ESP,
	FOUND_BROKEN, /* cut short, or more headers than anybody needs: it may be ESP */
};

/* A packet, as far as its headers have been followed. */
struct followed {
	struct espalier_sa_key
		key; /* of the last IP header; family 0: not from a cluster address */
	__be32 seq; /* FOUND_ESP: with the key's SPI */
	__u32 offset; /* of the next header, from `start` on */
	__u32 start; /* BPF_HDR_START_... */
	__u16 type; /* of the next header: ETH_P_..., or IPPROTO_..., which are below 256 */
	__u8 ours; /* an IP header was from a cluster address */
	__u8 doubtful; /* in UDP from another port than 4500: ESP only if such an SA is known */
};

struct gre {
	__be16 flags;
	__be16 protocol;
};

static __always_inline bool load(
	struct __sk_buff *skb, const struct followed *p, void *buf, __u32 size)
{
	__u32 readable = skb->len < READABLE ? skb->len : READABLE;

	return !bpf_skb_load_bytes_relative(skb, p->offset, buf, size, p->start) ||
	       (!bpf_skb_pull_data(skb, readable) &&
		       !bpf_skb_load_bytes_relative(skb, p->offset, buf, size, p->start));
}

static __always_inline enum found follow_ipv4(struct __sk_buff *skb, struct followed *p)
{
	struct iphdr ip;

	if (!load(skb, p, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5)
		return FOUND_BROKEN;
	p->key = (struct espalier_sa_key){};
	if (is_cluster_address(ip.saddr)) {
		p->key.family = FAMILY_INET;
		*(__be32 *)p->key.daddr = ip.daddr;
		p->ours = true;
	}
	p->offset += ip.ihl * 4;
	p->type = ip.protocol;
	/* a later fragment is worth nothing without the first one */
	return parse_later_fragment(&ip) ? FOUND_OTHER : FOUND_MORE;
}

static __always_inline enum found follow_ipv6(struct __sk_buff *skb, struct followed *p)
{
	struct ipv6hdr ip __attribute__((aligned(8))); /* as is_cluster_address6() reads it */

	if (!load(skb, p, &ip, sizeof(ip)) || ip.version != 6)
		return FOUND_BROKEN;
	p->key = (struct espalier_sa_key){};
	if (is_cluster_address6(&ip.saddr)) {
		p->key.family = FAMILY_INET6;
		__builtin_memcpy(p->key.daddr, &ip.daddr, sizeof(p->key.daddr));
		p->ours = true;
	}
	p->offset += sizeof(ip);
	p->type = ip.nexthdr;
	return FOUND_MORE;
}

/* IPv6's extension headers, and AH. */
static __always_inline enum found follow_extension(struct __sk_buff *skb, struct followed *p)
{
	struct extension extension;

	if (!load(skb, p, &extension, sizeof(extension)))
		return FOUND_BROKEN;
	if (parse_later_fragment6(p->type, &extension))
		return FOUND_OTHER;
	p->offset += parse_extension_size(p->type, &extension);
	p->type = extension.next;
	return FOUND_MORE;
}

/* A field with the next header's type. */
static __always_inline enum found follow_type(struct followed *p, __be16 type, __u32 size)
{
	p->offset += size;
	p->type = bpf_ntohs(type);
	return p->type < ETH_P_802_3_MIN ? FOUND_OTHER : FOUND_MORE;
}

static __always_inline enum found follow_ethernet(struct __sk_buff *skb, struct followed *p)
{
	struct ethhdr eth;

	if (!load(skb, p, &eth, sizeof(eth)))
		return FOUND_BROKEN;
	return follow_type(p, eth.h_proto, sizeof(eth));
}

static __always_inline enum found follow_vlan(struct __sk_buff *skb, struct followed *p)
{
	struct vlan_tag tag;

	if (!load(skb, p, &tag, sizeof(tag)))
		return FOUND_BROKEN;
	return follow_type(p, tag.protocol, sizeof(tag));
}

/* What follows the last label is told by its first bits alone, as routers do it (RFC 4928). */
static __always_inline enum found follow_mpls(struct __sk_buff *skb, struct followed *p)
{
	__be32 label;
	__u8 first;

	if (!load(skb, p, &label, sizeof(label)))
		return FOUND_BROKEN;
	p->offset += sizeof(label);
	if (!(bpf_ntohl(label) & MPLS_BOTTOM))
		return FOUND_MORE;
	if (!load(skb, p, &first, sizeof(first)))
		return FOUND_BROKEN;
	p->type = first >> 4 == 4 ? ETH_P_IP : ETH_P_IPV6;
	return first >> 4 == 4 || first >> 4 == 6 ? FOUND_MORE : FOUND_OTHER;
}

static __always_inline enum found follow_gre(struct __sk_buff *skb, struct followed *p)
{
	__u32 size = sizeof(struct gre);
	struct gre gre;
	__u16 flags;

	if (!load(skb, p, &gre, sizeof(gre)))
		return FOUND_BROKEN;
	flags = bpf_ntohs(gre.flags);
	if (flags & GRE_VERSION) /* PPP (RFC 2637): comes from an interface of its own */
		return FOUND_OTHER;
	if (flags & GRE_ROUTING)
		return FOUND_BROKEN;
	size += flags & GRE_CHECKSUM ? 4 : 0;
	size += flags & GRE_KEY ? 4 : 0;
	size += flags & GRE_SEQUENCE ? 4 : 0;
	return follow_type(p, gre.protocol, size);
}

/* ESP in UDP (RFC 3948), where SPI 0 marks IKE. An SA may have any port; from others than 4500 all
 * kinds of things come. */
static __always_inline enum found follow_udp(struct __sk_buff *skb, struct followed *p)
{
	struct udphdr udp;
	__be32 spi;

	if (!p->key.family)
		return FOUND_OTHER;
	if (!load(skb, p, &udp, sizeof(udp)))
		return FOUND_BROKEN;
	if (parse_udp_below(&udp, sizeof(struct esp) + 1))
		return FOUND_OTHER;
	p->doubtful = udp.source != bpf_htons(NAT_T_PORT);
	p->offset += sizeof(udp);
	p->type = IPPROTO_ESP;
	if (!load(skb, p, &spi, sizeof(spi)))
		return p->doubtful ? FOUND_OTHER : FOUND_BROKEN;
	return spi ? FOUND_MORE : FOUND_OTHER;
}

static __always_inline enum found follow_esp(struct __sk_buff *skb, struct followed *p)
{
	struct esp esp;

	if (!p->key.family)
		return FOUND_OTHER;
	if (!load(skb, p, &esp, sizeof(esp)))
		return p->doubtful ? FOUND_OTHER : FOUND_BROKEN;
	p->key.spi = esp.spi;
	p->seq = esp.seq;
	return FOUND_ESP;
}

/* Steps over one header. Not static: the verifier judges it alone, once for all headers. */
__attribute__((noinline)) int guard_follow(struct __sk_buff *skb, struct followed *p)
{
	if (!p) /* asked for by the verifier */
		return FOUND_BROKEN;
	switch (p->type) {
	case IPPROTO_ESP:
		return follow_esp(skb, p);
	case ETH_P_IP:
	case IPPROTO_IPIP:
		return follow_ipv4(skb, p);
	case ETH_P_IPV6:
	case IPPROTO_IPV6:
		return follow_ipv6(skb, p);
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_FRAGMENT:
	case IPPROTO_DSTOPTS:
	case IPPROTO_AH:
		return follow_extension(skb, p);
	case IPPROTO_UDP:
		return follow_udp(skb, p);
	case IPPROTO_GRE:
		return follow_gre(skb, p);
	case ETH_P_TEB:
	case IPPROTO_ETHERNET:
		return follow_ethernet(skb, p);
	case ETH_P_8021Q:
	case ETH_P_8021AD:
		return follow_vlan(skb, p);
	case ETH_P_MPLS_UC:
	case ETH_P_MPLS_MC:
	case IPPROTO_MPLS:
		return follow_mpls(skb, p);
	default:
		return FOUND_OTHER;
	}
}

/* `protocol` is that of the first header behind Ethernet; a tag there is in the frame, and where
 * the network header then is depends on who has put it there. */
static __always_inline enum found find_esp(struct __sk_buff *skb, struct followed *p)
{
	int found = FOUND_MORE;

	*p = (struct followed){.start = BPF_HDR_START_NET, .type = bpf_ntohs(skb->protocol)};
	if (p->type == ETH_P_8021Q || p->type == ETH_P_8021AD) {
		p->start = BPF_HDR_START_MAC;
		p->type = ETH_P_TEB;
	}
	for (int i = 0; found == FOUND_MORE && i < STEPS; i++)
		found = guard_follow(skb, p);
	if (found == FOUND_ESP || found == FOUND_OTHER)
		return found;
	return p->ours ? FOUND_BROKEN : FOUND_OTHER;
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

static __always_inline enum espalier_reason guard(struct __sk_buff *skb)
{
	struct espalier_window block_0 = {.first = 0, .last = (1ULL << settings.block_bits) - 1};
	bool outer = skb->ifindex == settings.outer;
	__u32 seq, segments, taken;
	struct espalier_sa *found, sa;
	struct followed packet;
	struct espalier_flow flow;
	const struct espalier_view *v;
	__u64 last = 0;

	/* parse */
	switch (find_esp(skb, &packet)) {
	case FOUND_ESP:
		break;
	case FOUND_BROKEN:
		return ESPALIER_GUARD_MALFORMED;
	default:
		return ESPALIER_UNGUARDED;
	}

	/* key */
	found = bpf_map_lookup_elem(&sas, &packet.key);
	if (!found && packet.doubtful)
		return ESPALIER_UNGUARDED;
	if (found && found->slot == ESPALIER_SLOT_LOCAL)
		return ESPALIER_EMITTED_LOCAL;
	seq = bpf_ntohl(packet.seq);
	segments = skb->gso_segs ?: 1;
	if (!skb->gso_segs && skb->gso_size)
		return ESPALIER_GUARD_GSO;
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
	account(&sa, last, segments, outer);
	return outer ? ESPALIER_EMITTED : ESPALIER_EMITTED_ELSEWHERE;
}

SEC("tc")
int espalier_guard(struct __sk_buff *skb)
{
	enum espalier_reason reason = guard(skb);

	count(reason);
	switch (reason) {
	case ESPALIER_UNGUARDED:
	case ESPALIER_EMITTED:
	case ESPALIER_EMITTED_ELSEWHERE:
	case ESPALIER_EMITTED_NEW:
	case ESPALIER_EMITTED_LOCAL:
		return TC_ACT_UNSPEC; /* on to the next tc program */
	default:
		return TC_ACT_SHOT;
	}
}
