/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * espalier.h - what the BPF programs and the agent share: map layouts, verdict reasons, the bucket
 * function.
 *
 * Numbers are in host byte order unless the type says __be. All maps live, pinned by name, in one
 * bpffs folder (`Pin` in the configuration), so that steering and the guard go on when the agent
 * does not.
 */
#ifndef ESPALIER_H
#define ESPALIER_H

#include <linux/bpf.h>
#include <linux/types.h>
#ifndef __bpf__
#include <assert.h>
#endif

#define ESPALIER_MEMBERS 16 /* member ids are 0..15 */
#define ESPALIER_BUCKET_BITS 12
#define ESPALIER_BUCKETS (1 << ESPALIER_BUCKET_BITS)
#define ESPALIER_ADDRESSES 8 /* cluster addresses a side */
#define ESPALIER_NOBODY 0xff /* a bucket without an owner, a view without an ingress member */

/*
 * Why a packet went where it went. One list: the programs count by it, the agent and bpftool print
 * it. X(symbol, name, what happened)
 */
#define ESPALIER_REASONS(X)                                                                        \
	X(NOT_OURS, "not-ours", "passed: nothing that these programs steer")                       \
	X(NOT_STEERED, "not-steered", "passed: for a cluster address, but of no SA")               \
	X(KEEPALIVE, "keepalive", "passed: NAT keepalive")                                         \
	X(FRAGMENT_UNKNOWN, "fragment-unknown",                                                    \
		"passed: a fragment of a datagram whose first fragment is not of an SA, or has "   \
		"not come before it")                                                              \
	X(ERROR_UNKNOWN, "error-unknown",                                                          \
		"passed: an ICMP error about no packet of an SA that is known here")               \
	X(MALFORMED, "malformed",                                                                  \
		"dropped: for a cluster address, but its headers are cut short or too many")       \
	X(LOCAL, "local", "passed: this member owns the bucket")                                   \
	X(LOCAL_SPREAD, "local-spread", "passed, by another CPU: this member owns the bucket")     \
	X(FORWARDED, "forwarded", "sent to the member that owns the bucket")                       \
	X(TUNNELLED, "tunnelled", "sent, in IP-in-IP, to the member that owns the bucket")         \
	X(TOO_BIG, "too-big",                                                                      \
		"answered by ICMP: does not fit into IP-in-IP to the owner of the bucket")         \
	X(ONE_HOP, "one-hop", "passed: came from a member, is not sent on")                        \
	X(NO_OWNER, "no-owner", "dropped: nobody owns the bucket")                                 \
	X(NO_NEXT_HOP, "no-next-hop", "passed: the owner cannot be reached now")                   \
	X(TOO_BIG_LEFT, "too-big-left",                                                            \
		"dropped: does not fit into IP-in-IP, and nobody may be told")                     \
	X(TUNNEL_STRANGER, "tunnel-stranger",                                                      \
		"dropped: a member's IP-in-IP, but nothing is in it that members send on")         \
	X(TUNNEL_LEFT, "tunnel-left",                                                              \
		"dropped: a member sent it in IP-in-IP, but this member does not own it")          \
	X(ARP_ANSWERED, "arp-answered", "answered: ARP for a cluster address")                     \
	X(ARP_LEFT, "arp-left", "dropped: ARP that another member answers")                        \
	X(ND_ANSWERED, "nd-answered", "answered: neighbour solicitation for a cluster address")    \
	X(ND_LEFT, "nd-left", "dropped: neighbour solicitation that another member answers")       \
	X(CLEAR_NO_SA, "clear-no-sa", "passed: no outbound policy covers the destination")         \
	X(CLEAR_LOCAL, "clear-local", "passed: this member owns the outbound SA")                  \
	X(CLEAR_FORWARDED, "clear-forwarded", "sent to the member that owns the outbound SA")      \
	X(CLEAR_TUNNELLED, "clear-tunnelled",                                                      \
		"sent, in IP-in-IP, to the member that owns the outbound SA")                      \
	X(CLEAR_TOO_BIG, "clear-too-big",                                                          \
		"answered by ICMP: does not fit into IP-in-IP to the owner of the outbound SA")    \
	X(CLEAR_ONE_HOP, "clear-one-hop", "passed: came from a member, is not sent on")            \
	X(CLEAR_NO_OWNER, "clear-no-owner", "dropped: nobody owns the outbound SA's bucket")       \
	X(CLEAR_NO_NEXT_HOP, "clear-no-next-hop", "passed: the owner cannot be reached now")       \
	X(UNGUARDED, "unguarded", "let out: neither ESP nor AH from a cluster address")            \
	X(EMITTED, "emitted", "let out: inside an open block of this member")                      \
	X(EMITTED_ELSEWHERE, "emitted-elsewhere",                                                  \
		"let out by another interface than the outer one: inside an open block")           \
	X(EMITTED_NEW, "emitted-new", "let out: block 0 of an SA the agent has not seen yet")      \
	X(EMITTED_LOCAL, "emitted-local", "let out: of an SA that no other member has")            \
	X(GUARD_UNKNOWN, "guard-unknown", "dropped: unknown SA, not in block 0")                   \
	X(GUARD_NOT_OWNER, "guard-not-owner", "dropped: another member owns the outbound SA")      \
	X(GUARD_BLOCK, "guard-block",                                                              \
		"dropped: sequence number outside this member's open blocks")                      \
	X(GUARD_MALFORMED, "guard-malformed",                                                      \
		"dropped: from a cluster address, but its headers are cut short or too many")      \
	X(GUARD_GSO, "guard-gso", "dropped: of several segments, nobody knows how many numbers")   \
	X(GUARD_INNER, "guard-inner",                                                              \
		"dropped: its ESP carries ESP of the cluster that may not leave, or nobody has "   \
		"seen what it carries")                                                            \
	X(SYNC, "sync", "given to the sync channel (AF_XDP)")                                      \
	X(MISS_TOLD, "miss-told",                                                                  \
		"ESP or AH for an SPI that the kernel does not know: the agent is told")           \
	X(MISS_LIMITED, "miss-limited",                                                            \
		"ESP or AH for an SPI that the kernel does not know: told just now, or over the "  \
		"budget")

enum espalier_reason {
#define X(symbol, name, text) ESPALIER_##symbol,
	ESPALIER_REASONS(X)
#undef X
		ESPALIER_REASON_COUNT
};

/* The settings of the programs, fixed at load time (.rodata). Unused addresses are zero. */
struct espalier_settings {
	__be32 cluster[ESPALIER_ADDRESSES]; /* outer (steer, guard, output, miss) or inner (clear)
					     */
	__u8 cluster6[ESPALIER_ADDRESSES][16]; /* the IPv6 ones, network byte order */
	__u8 tunnel[16]; /* steer, clear: the address that other members' IP-in-IP comes to */
	__u64 netns_cookie; /* counters, miss, output: the network namespace that they are for */
	__be32 sync_address; /* sync: this member's, and the UDP port of the channel */
	__u32 misses_per_second; /* miss: how many the agent is told at most; not 0 */
	__be16 sync_port;
	__u8 self; /* this member's id */
	__u8 members; /* the highest member id + 1 */
	__u8 hash; /* enum espalier_hash */
	__u8 block_bits; /* a sequence block is 2^block_bits numbers */
	__u8 tunnel_family; /* AF_INET (in the first four bytes) or AF_INET6; 0: no IP-in-IP */
	__u8 cpus; /* steer: local ESP is spread over that many entries of "cpus"; 0: it is not */
	__u8 ingress_all; /* steer: not 0: routers send to all members, nobody answers ARP or ND */
	__u8 tick_ms; /* steer, clear: of the kernel's timer, rounded up */
	__u8 reserved[2];
	__u32 outer; /* guard: ifindex of the outer interface */
};

/* How a bucket follows from an SPI. `prefix`: an IKE daemon can be told a contiguous range. */
enum espalier_hash {
	ESPALIER_HASH_PREFIX, /* the top 12 bits of the SPI */
	ESPALIER_HASH_MIX, /* any SPI: a 32-bit finalizer, top 12 bits */
};

/* spi in host byte order. */
static inline __u32 espalier_bucket(__u32 spi, enum espalier_hash hash)
{
	if (hash == ESPALIER_HASH_MIX) {
		spi ^= spi >> 16;
		spi *= 0x7feb352dU;
		spi ^= spi >> 15;
		spi *= 0x846ca68bU;
		spi ^= spi >> 16;
	}
	return spi >> (32 - ESPALIER_BUCKET_BITS);
}

/*
 * The bucket of an IKE message to the cluster. SPIs in host byte order; peer_initiated: by the
 * message's flags the peer is its IKE SA's initiator (IKEv1 has no such flag: false).
 *
 * `prefix`: the SPI that a member drew says whose the IKE SA is, as those of its Child SAs do. Only
 * the first message of a peer's has none yet: a hash of the peer's SPI chooses who answers, and
 * draws one. To stay with the peer's SPI would not do: a peer that rekeys draws another one, in an
 * exchange of the old IKE SA. The IKE daemon must draw SPIs whose top 12 bits are a bucket of its
 * member's. (In IKEv1 a new SA is never born inside another one: the initiator's cookie does for
 * both roles.)
 *
 * `mix`: a hash of the initiator's SPI, in all messages. Where several members own buckets, an IKE
 * SA that a member initiates, or that a peer rekeys, may belong to another member.
 */
static inline __u32 espalier_ike_bucket(
	__u64 initiator_spi, __u64 responder_spi, int peer_initiated, enum espalier_hash hash)
{
	if (hash == ESPALIER_HASH_MIX || (peer_initiated && !responder_spi))
		return espalier_bucket(
			(__u32)(initiator_spi >> 32) ^ (__u32)initiator_spi, ESPALIER_HASH_MIX);
	return (peer_initiated ? responder_spi : initiator_spi) >> (64 - ESPALIER_BUCKET_BITS);
}

/*
 * Map "view" (ARRAY of 1, mmapable). The agent fills the half that is not active, then stores
 * `active`: that one store is the takeover. `heartbeat_ns` (CLOCK_MONOTONIC) is when the agent sent
 * its last heartbeat; a member whose agent has sent none for `lease_ns` no longer answers ARP nor
 * sends packets on to others.
 */
struct espalier_view_half {
	__u64 epoch;
	__u32 live; /* bit i: member i is in the view */
	__u8 ingress; /* the member that answers ARP, or ESPALIER_NOBODY */
	__u8 reserved[3];
	__u8 owner[ESPALIER_BUCKETS]; /* member id or ESPALIER_NOBODY */
};

struct espalier_view {
	__u32 active; /* 0 or 1 */
	__u32 pins; /* entries of "pins"; 0: nobody looks there */
	__u64 heartbeat_ns;
	__u64 lease_ns;
	__u64 lease_jiffies; /* the programs': at that tick the lease held */
	__u32 interfaces; /* entries of "interfaces"; 0: nobody asks for a route */
	__u8 outer_mac[6]; /* this member's own, from "members" */
	__u8 inner_mac[6];
	__u64 outer_macs; /* bit i: a member's MAC address ends in the six bits i */
	__u64 inner_macs;
	struct espalier_view_half half[2];
	__u32 nested; /* the programs': not 0: there have been "carriers" */
	__u8 reserved[4];
};

/*
 * Who owns a flow. `pinned`: 1 + the member that negotiated its SA, though another one owns the
 * bucket; 0: none. It owns the flow as long as it is in the view.
 */
struct espalier_flow {
	__u16 bucket;
	__u8 pinned;
	__u8 reserved;
};

/* How to get a packet to a member, on one side. */
enum espalier_hop_kind {
	ESPALIER_HOP_NONE, /* there is no way, or it would not know that the packet had its hop */
	ESPALIER_HOP_LINK, /* same link: to its MAC address */
	ESPALIER_HOP_IPV4, /* another link: in IP-in-IP (RFC 2003, RFC 2473), by a router */
	ESPALIER_HOP_IPV6,
};

struct espalier_hop {
	__u8 kind; /* enum espalier_hop_kind */
	__u8 reserved;
	__u8 mac[6]; /* the member's, or the router's */
	__u16 mtu; /* IP-in-IP: the largest packet that fits in, bytes */
	__u16 check; /* IPv4: the header's checksum (RFC 1071), before the length is added; as it
			lies in memory */
	__u8 reserved2[4];
	__u8 from[16], to[16]; /* IP-in-IP: addresses as in espalier_sa_key */
};

/*
 * Map "members" (ARRAY of 16, mmapable), by member id. A packet from one of these MACs came from a
 * member and is not sent on (one hop); likewise one in IP-in-IP from `to` of its hop. All zero: not
 * known.
 */
struct espalier_member {
	__u8 outer_mac[6];
	__u8 inner_mac[6];
	__u8 reserved[4];
	struct espalier_hop outer, inner;
	__u8 reserved2[16]; /* a power of two is found faster */
};

/* Which bit of a view's outer_macs or inner_macs a MAC address has: most senders are no members. */
static inline __u64 espalier_mac_bit(const __u8 mac[6])
{
	return 1ULL << (mac[5] & 63);
}

/* The SPIs of ESP and AH are apart. ESP is zero: so agents have pinned it that knew no AH. */
enum espalier_protocol { ESPALIER_ESP = 0, ESPALIER_AH = 51 };

/* ipproto: IPPROTO_ESP (or IPPROTO_UDP with ESP in it) or IPPROTO_AH. */
static inline enum espalier_protocol espalier_protocol(__u8 ipproto)
{
	return ipproto == ESPALIER_AH ? ESPALIER_AH : ESPALIER_ESP;
}

/*
 * Map "sas" (HASH): every ESP and AH SA of the cluster this kernel holds, both directions. Where
 * several SAs have one destination, protocol and SPI they have entries with their marks, and one
 * without, whose slot is ESPALIER_SLOT_MARKED.
 */
struct espalier_sa_key {
	__u8 daddr[16]; /* IPv4: in the first four bytes, the rest zero; network byte order */
	__be32 spi;
	__u8 family; /* AF_INET or AF_INET6 */
	__u8 protocol; /* enum espalier_protocol */
	__u8 reserved[2]; /* zero */
	__u32 mark, mark_mask;
};

/* Sequence numbers first..last, both included, that this member may emit. Empty: first > last. */
struct espalier_window {
	__u64 first;
	__u64 last;
};

/* The slot of an outbound SA that cannot be copied: nobody else has it, all its numbers may leave.
 * Nothing else of its entry counts. */
#define ESPALIER_SLOT_LOCAL 0xffffffffU
/* The SA is found by a packet's mark, of which the bits of `mark_mask` count. */
#define ESPALIER_SLOT_MARKED 0xfffffffeU

enum espalier_direction { ESPALIER_IN = 1, ESPALIER_OUT = 2 };

struct espalier_sa {
	__u64 birth; /* which SA it is: see agent/core/table.h */
	struct espalier_window
		open[2]; /* outbound: [0] the block entered last, [1] the one before */
	__u32 slot; /* index into "counters", or ESPALIER_SLOT_LOCAL, _MARKED */
	__u16 bucket;
	__u8 direction; /* enum espalier_direction */
	__u8 creator; /* member id that created it, or ESPALIER_NOBODY */
	struct bpf_spin_lock
		lock; /* the guard reads `open` as the agent wrote it, never half of it */
	__u8 pinned; /* with `bucket`: see espalier_flow */
	__u8 reserved[3];
	__u32 mark, mark_mask; /* the SA's; it may have the entry without */
	__u32 form; /* what it was like, so that one sees whether it has changed; 0: not known */
	__u32 moves; /* as in agent/core/table.h: of two entries of one birth the higher counts */
};

/*
 * Map "pins" (HASH): inbound SAs whose owner does not follow from their SPI -> struct
 * espalier_flow. The outer side looks here only if the view says that there are some.
 */

/* Map "counters" (ARRAY, mmapable), by SA slot. */
struct espalier_counter {
	__u64 seq; /* highest: inbound after authentication, outbound at egress */
	__u64 packets; /* outbound: by the outer interface, or in ESP; GSO packets with all
				their segments */
};

/*
 * Map "selectors" (LPM_TRIE): the SPD's remote selectors -> struct espalier_flow, of the outbound
 * SA. The machine's own addresses are in it too, in full length, as bucket ESPALIER_HERE: a
 * selector may cover them.
 */
#define ESPALIER_HERE ESPALIER_BUCKETS
#define ESPALIER_SELECTOR_BITS 64 /* of the key in front of the address */

struct espalier_selector {
	__u32 prefixlen; /* ESPALIER_SELECTOR_BITS + that of the address */
	__u32 if_id; /* of policies that are for one xfrm interface, else 0 */
	__u32 family; /* AF_INET or AF_INET6 */
	__u8 addr[16]; /* IPv4: in the first four bytes, the rest zero; network byte order */
};

/* Map "interfaces" (HASH): xfrm interfaces, ifindex -> __u32, their if_id. */
#define ESPALIER_INTERFACES 65536

/* Map "cpus" (CPUMAP): the CPUs that local ESP is spread over, by its SPI. */

/*
 * ESP inside ESP. Map "carriers" (LRU_HASH of espalier_sa_key): SAs that have carried ESP of the
 * cluster. Map "proofs" (LRU_HASH): packets of theirs in which all numbers may leave.
 */
struct espalier_proof {
	struct espalier_sa_key key;
	__be32 seq;
};

/* Map "reasons" (PERCPU_ARRAY of 1): packets by verdict reason, in the order of enum
 * espalier_reason. */
struct espalier_reasons {
#define X(symbol, name, text) __u64 symbol;
	ESPALIER_REASONS(X)
#undef X
};

/*
 * Map "wake" (RINGBUF): guard, output, miss -> agent. An event is lost when the ring is full; the
 * agent's regular reading of the counters finds what the guard said.
 */
enum espalier_event_kind {
	ESPALIER_BLOCK_LOW = 1, /* half of the block entered last is used up */
	ESPALIER_BLOCK_OUT = 2, /* a packet was dropped: its number is in no open block */
	ESPALIER_SPI_MISS = 3, /* ESP or AH came for an SPI that this kernel does not know */
};

struct espalier_event {
	__u32 kind; /* enum espalier_event_kind */
	__u32 slot; /* ESPALIER_BLOCK_*: of the SA, and the sequence number */
	__u64 seq;
	struct espalier_sa_key key; /* ESPALIER_SPI_MISS: what was looked for */
};

/* Map "sync" (XSKMAP), by receive queue: the agent's AF_XDP sockets. */
#define ESPALIER_SYNC_QUEUES 64

#ifndef __bpf__
static_assert(sizeof(struct espalier_view_half) == 16 + ESPALIER_BUCKETS, "ABI");
static_assert(sizeof(struct espalier_view) == 64 + 2 * (16 + ESPALIER_BUCKETS) + 8, "ABI");
static_assert(sizeof(struct espalier_member) == 128, "ABI");
static_assert(sizeof(struct espalier_flow) == 4, "ABI");
static_assert(sizeof(struct espalier_hop) == 48, "ABI");
static_assert(sizeof(struct espalier_selector) == 28, "ABI");
static_assert(sizeof(struct espalier_sa_key) == 32, "ABI");
static_assert(sizeof(struct espalier_sa) == 72, "ABI");
static_assert(sizeof(struct espalier_settings) == 208, "ABI");
static_assert(sizeof(struct espalier_reasons) == 8 * ESPALIER_REASON_COUNT, "ABI");
static_assert(sizeof(struct espalier_counter) == 16, "ABI");
static_assert(sizeof(struct espalier_event) == 48, "ABI");
#endif

#endif
