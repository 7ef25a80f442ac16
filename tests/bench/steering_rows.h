/* SPDX-License-Identifier: BSD-2-Clause */
/* steering_rows.h - what is measured: one line for each program, verdict and packet. */
#ifndef STEERING_ROWS_H
#define STEERING_ROWS_H

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "espalier.h"
#include "steering.h"

#define ALL_SPIS (UINT32_MAX - SPI_FIRST)

enum program { BENCH, STEER, TUNNEL, GUARD };
enum packet { TO_CLUSTER, TO_CLUSTER6, TO_OTHER, TO_OTHER6, FROM_CLUSTER, FROM_OTHER };
enum owner { MINE, OTHERS };
enum with { ALONE, RESTORED };

/* clang-format off */
enum row_id {
	EMPTY, LOOKUP, ADJUST_HEAD, FLOOR, FLOOR_RANDOM, FLOOR6, FLOOR6_RANDOM, ENCAPSULATE,
	NOT_OURS, NOT_OURS6, LOCAL, LOCAL_RANDOM, LOCAL_MIX, LOCAL6,
	MAC_TX, MAC_TX_RANDOM, MAC_TX_MIX, MAC_TX6, MAC_TX6_RANDOM,
	MAC_TX_PINS, MAC_TX_PINS_RANDOM, MAC_TX6_PINS, MAC_TX6_PINS_RANDOM,
	IPIP, IPIP_RANDOM, IPIP6, IPIP_OVER6,
	EMPTY_TC, FLOOR_TC, GUARD_OTHER, GUARD_1, GUARD_1K, GUARD_1M,
	LIVE_TX, LIVE_FLOOR, LIVE_MAC_TX,
	ROWS
};

/* What is measured. New programs, verdicts and packets go here. */
static const struct definition {
	const char *name;
	enum row_id base; /* the empty program of its kind */
	enum row_id floor; /* the empty program behind the same wrapper; itself: not wrapped */
	enum program program;
	const char *bench; /* BENCH: which one */
	enum packet packet;
	enum with with;
	uint32_t spis; /* drawn from so many; 0: one and the same */
	enum espalier_hash hash;
	enum owner owner; /* of all buckets */
	uint32_t sas; /* the guard knows so many */
	uint32_t pins; /* so many SAs, but none of these, are pinned */
	enum espalier_hop_kind hop; /* TUNNEL: the way to the others */
	uint16_t room; /* bytes of encapsulation */
	int verdict, reason; /* reason -1: does not count */
} rows[ROWS] = {
#define STEERER(to, w, n, h, o, v, r) \
	.program = STEER, .packet = (to), .with = (w), .spis = (n), .hash = ESPALIER_HASH_##h, \
	.owner = (o), .verdict = (v), .reason = ESPALIER_##r
#define TUNNELLED_IN(over, to, n, bytes) \
	.program = TUNNEL, .packet = (to), .with = RESTORED, .spis = (n), .owner = OTHERS, \
	.hop = ESPALIER_HOP_##over, .room = (bytes), .verdict = XDP_TX, .reason = ESPALIER_TUNNELLED
#define COMPARISON(which, to, w, n, v) \
	.program = BENCH, .bench = (which), .packet = (to), .with = (w), .spis = (n), \
	.verdict = (v), .reason = -1
#define GUARDED(n, r) \
	.program = GUARD, .packet = FROM_CLUSTER, .with = RESTORED, .spis = (n), .sas = (n), \
	.verdict = TC_ACT_UNSPEC, .reason = ESPALIER_##r
	[EMPTY] = {"empty program", EMPTY, EMPTY,
		COMPARISON("empty", TO_CLUSTER, ALONE, 0, XDP_PASS)},
	[LOOKUP] = {"one array lookup", EMPTY, EMPTY,
		COMPARISON("array_lookup", TO_CLUSTER, ALONE, 0, XDP_PASS)},
	[ADJUST_HEAD] = {"two adjust_head", EMPTY, EMPTY,
		COMPARISON("adjust_head", TO_CLUSTER, ALONE, 0, XDP_PASS)},
	[FLOOR] = {"wrapped: empty", EMPTY, FLOOR,
		COMPARISON("empty", TO_CLUSTER, RESTORED, 0, XDP_PASS)},
	[FLOOR_RANDOM] = {"wrapped: empty, random SPI", EMPTY, FLOOR_RANDOM,
		COMPARISON("empty", TO_CLUSTER, RESTORED, ALL_SPIS, XDP_PASS)},
	[FLOOR6] = {"wrapped: empty, IPv6", EMPTY, FLOOR6,
		COMPARISON("empty", TO_CLUSTER6, RESTORED, 0, XDP_PASS)},
	[FLOOR6_RANDOM] = {"wrapped: empty, IPv6, random SPI", EMPTY, FLOOR6_RANDOM,
		COMPARISON("empty", TO_CLUSTER6, RESTORED, ALL_SPIS, XDP_PASS)},
	[ENCAPSULATE] = {"bare encapsulation, IPv4", EMPTY, FLOOR,
		COMPARISON("encapsulate", TO_CLUSTER, RESTORED, 0, XDP_TX), .room = 20},

	[NOT_OURS] = {"not ours", EMPTY, EMPTY,
		STEERER(TO_OTHER, ALONE, 0, PREFIX, MINE, XDP_PASS, NOT_OURS)},
	[NOT_OURS6] = {"not ours, IPv6", EMPTY, EMPTY,
		STEERER(TO_OTHER6, ALONE, 0, PREFIX, MINE, XDP_PASS, NOT_OURS)},
	[LOCAL] = {"local", EMPTY, EMPTY,
		STEERER(TO_CLUSTER, ALONE, 0, PREFIX, MINE, XDP_PASS, LOCAL)},
	[LOCAL_RANDOM] = {"local, random SPI", EMPTY, FLOOR_RANDOM,
		STEERER(TO_CLUSTER, RESTORED, ALL_SPIS, PREFIX, MINE, XDP_PASS, LOCAL)},
	[LOCAL_MIX] = {"local, random SPI, hash mix", EMPTY, FLOOR_RANDOM,
		STEERER(TO_CLUSTER, RESTORED, ALL_SPIS, MIX, MINE, XDP_PASS, LOCAL)},
	[LOCAL6] = {"local, IPv6", EMPTY, EMPTY,
		STEERER(TO_CLUSTER6, ALONE, 0, PREFIX, MINE, XDP_PASS, LOCAL)},
	[MAC_TX] = {"MAC+TX", EMPTY, FLOOR,
		STEERER(TO_CLUSTER, RESTORED, 0, PREFIX, OTHERS, XDP_TX, FORWARDED)},
	[MAC_TX_RANDOM] = {"MAC+TX, random SPI", EMPTY, FLOOR_RANDOM,
		STEERER(TO_CLUSTER, RESTORED, ALL_SPIS, PREFIX, OTHERS, XDP_TX, FORWARDED)},
	[MAC_TX_MIX] = {"MAC+TX, random SPI, hash mix", EMPTY, FLOOR_RANDOM,
		STEERER(TO_CLUSTER, RESTORED, ALL_SPIS, MIX, OTHERS, XDP_TX, FORWARDED)},
	[MAC_TX6] = {"MAC+TX, IPv6", EMPTY, FLOOR6,
		STEERER(TO_CLUSTER6, RESTORED, 0, PREFIX, OTHERS, XDP_TX, FORWARDED)},
	[MAC_TX6_RANDOM] = {"MAC+TX, IPv6, random SPI", EMPTY, FLOOR6_RANDOM,
		STEERER(TO_CLUSTER6, RESTORED, ALL_SPIS, PREFIX, OTHERS, XDP_TX, FORWARDED)},

	[MAC_TX_PINS] = {"MAC+TX, others are pinned", EMPTY, FLOOR,
		STEERER(TO_CLUSTER, RESTORED, 0, PREFIX, OTHERS, XDP_TX, FORWARDED), .pins = 1000},
	[MAC_TX_PINS_RANDOM] = {"MAC+TX, others pinned, random SPI", EMPTY, FLOOR_RANDOM,
		STEERER(TO_CLUSTER, RESTORED, ALL_SPIS, PREFIX, OTHERS, XDP_TX, FORWARDED), .pins = 1000},
	[MAC_TX6_PINS] = {"MAC+TX, IPv6, others are pinned", EMPTY, FLOOR6,
		STEERER(TO_CLUSTER6, RESTORED, 0, PREFIX, OTHERS, XDP_TX, FORWARDED), .pins = 1000},
	[MAC_TX6_PINS_RANDOM] = {"MAC+TX, IPv6, pinned, random SPI", EMPTY, FLOOR6_RANDOM,
		STEERER(TO_CLUSTER6, RESTORED, ALL_SPIS, PREFIX, OTHERS, XDP_TX, FORWARDED), .pins = 1000},

	[IPIP] = {"IPv4 in IPv4", EMPTY, FLOOR, TUNNELLED_IN(IPV4, TO_CLUSTER, 0, 20)},
	[IPIP_RANDOM] = {"IPv4 in IPv4, random SPI", EMPTY, FLOOR_RANDOM,
		TUNNELLED_IN(IPV4, TO_CLUSTER, ALL_SPIS, 20)},
	[IPIP6] = {"IPv6 in IPv4", EMPTY, FLOOR6, TUNNELLED_IN(IPV4, TO_CLUSTER6, 0, 20)},
	[IPIP_OVER6] = {"IPv4 in IPv6", EMPTY, FLOOR, TUNNELLED_IN(IPV6, TO_CLUSTER, 0, 40)},

	[EMPTY_TC] = {"tc: empty program", EMPTY_TC, EMPTY_TC,
		COMPARISON("empty_tc", FROM_CLUSTER, ALONE, 0, TC_ACT_UNSPEC)},
	[FLOOR_TC] = {"tc, wrapped: empty, random SPI", EMPTY_TC, FLOOR_TC,
		COMPARISON("empty_tc", FROM_CLUSTER, RESTORED, ALL_SPIS, TC_ACT_UNSPEC)},
	[GUARD_OTHER] = {"guard: not from the cluster", EMPTY_TC, EMPTY_TC, .program = GUARD,
		.packet = FROM_OTHER, .sas = 1, .verdict = TC_ACT_UNSPEC,
		.reason = ESPALIER_UNGUARDED},
	[GUARD_1] = {"guard: 1 SA", EMPTY_TC, FLOOR_TC, GUARDED(1, EMITTED)},
	[GUARD_1K] = {"guard: 1,000 SAs", EMPTY_TC, FLOOR_TC, GUARDED(1000, EMITTED)},
	[GUARD_1M] = {"guard: 1,000,000 SAs", EMPTY_TC, FLOOR_TC, GUARDED(1000000, EMITTED)},

	[LIVE_TX] = {"live: bare XDP_TX", LIVE_TX, LIVE_TX,
		COMPARISON("transmit", TO_CLUSTER, ALONE, 0, 0)},
	[LIVE_FLOOR] = {"live, wrapped: bare XDP_TX", LIVE_TX, LIVE_FLOOR,
		COMPARISON("transmit", TO_CLUSTER, RESTORED, 0, 0)},
	[LIVE_MAC_TX] = {"live: MAC+TX", LIVE_TX, LIVE_FLOOR,
		STEERER(TO_CLUSTER, RESTORED, 0, PREFIX, OTHERS, 0, FORWARDED)},
#undef STEERER
#undef TUNNELLED_IN
#undef COMPARISON
#undef GUARDED
};

/* What --json says: the costs of two rows, divided, or a row's cost above its base in ns. */
static const struct figure {
	const char *name;
	enum row_id row, over;
	bool ns;
	const char *target;
} figures[] = {
	{"mac_tx_hot", MAC_TX, EMPTY, false, "at most 2.0"},
	{"mac_tx_random", MAC_TX_RANDOM, EMPTY, false, "at most 2.2"},
	{"mac_tx_pins", MAC_TX_PINS, EMPTY, false, NULL},
	{"mac_tx6_hot", MAC_TX6, EMPTY, false, NULL},
	{"mac_tx6_random", MAC_TX6_RANDOM, EMPTY, false, NULL},
	{"ipip_over_bare", IPIP, ENCAPSULATE, false, "at most 1.7"},
	{"not_ours", NOT_OURS, EMPTY, false, "at most 1.5"},
	{"live_over_bare_tx", LIVE_TX, LIVE_MAC_TX, false, "at least 0.85"}, /* of packets a second */
	{"guard_ns_1k", GUARD_1K, EMPTY_TC, true, NULL},
	{"guard_ns_1m", GUARD_1M, EMPTY_TC, true, NULL},
};
/* clang-format on */

#endif
