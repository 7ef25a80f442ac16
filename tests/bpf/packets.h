/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * packets.h - what the outer side does with each kind of packet, as a table. We are member 0 of 3;
 * packet.h says how packets are written.
 */
#ifndef PACKETS_H
#define PACKETS_H

#include "packet.h"

enum cluster_state {
	THIRDS, /* bucket i belongs to member i % 3; we are the ingress member */
	OURS, /* all buckets belong to us */
	NOBODYS, /* no bucket belongs to anybody */
	NO_NEXT_HOP, /* as THIRDS, but member 2 is not known */
	DEAD_AGENT, /* as THIRDS, but our agent has not been heard of */
	PINNED, /* as THIRDS, but ESP 1 to the first IPv4 address, and ESP 0 to the first IPv6 one,
		 * are pinned to member 2, as are our outbound SAs to member 1; AH 2 to the first
		 * IPv4 address has a flow in member 1's bucket */
	PIN_LEFT, /* the same, but member 2 is not in the view */
	PIN_OF_NOBODY, /* the same as PINNED, but the view says that there are no pins */
	GOES_ON, /* as the row before has left it */
};

/* The bytes that go out: as they came; or with the MAC addresses from us to member 1 or 2. */
enum out { SAME, TO_1, TO_2 };

static const struct row {
	const char *packet;
	enum cluster_state state;
	int verdict;
	enum espalier_reason reason;
	enum out out;
} rows[] = {
#define PASS(packet, state, reason)                                                                \
	{                                                                                          \
		packet, state, XDP_PASS, ESPALIER_##reason, SAME                                   \
	}
#define DROP(packet, state, reason)                                                                \
	{                                                                                          \
		packet, state, XDP_DROP, ESPALIER_##reason, SAME                                   \
	}
#define SEND(packet, state, to)                                                                    \
	{                                                                                          \
		packet, state, XDP_TX, ESPALIER_FORWARDED, to                                      \
	}
	/* clang-format off */

	/* ESP and the cluster's state */
	PASS("ip esp:0 data",                           THIRDS,      LOCAL),
	SEND("ip esp:1 data",                           THIRDS,      TO_1),
	SEND("ip esp:2 data",                           THIRDS,      TO_2),
	SEND("ip:2 esp:1 data",                         THIRDS,      TO_1),
	PASS("ip esp:1 data",                           OURS,        LOCAL),
	DROP("ip esp:0 data",                           NOBODYS,     NO_OWNER),
	SEND("ip esp:1 data",                           NO_NEXT_HOP, TO_1),
	PASS("ip esp:2 data",                           NO_NEXT_HOP, NO_NEXT_HOP),
	PASS("ip esp:0 data",                           DEAD_AGENT,  LOCAL),
	PASS("ip esp:1 data",                           DEAD_AGENT,  NO_NEXT_HOP),
	PASS("ip6 esp:0 data",                          THIRDS,      LOCAL),
	SEND("ip6 esp:1 data",                          THIRDS,      TO_1),
	SEND("ip6:2 esp:2 data",                        THIRDS,      TO_2),

	/* pins */
	SEND("ip esp:1 data",                           PINNED,      TO_2),
	SEND("ip:2 esp:1 data",                         PINNED,      TO_1), /* another SA */
	SEND("ip esp:2 data",                           PINNED,      TO_2),
	PASS("ip esp:0 data",                           PINNED,      LOCAL),
	SEND("ip6 esp:0 data",                          PINNED,      TO_2),
	SEND("ip6 esp:1 data",                          PINNED,      TO_1),
	SEND("ip udp:4500 esp:1 data",                  PINNED,      TO_2),
	SEND("ip6 hop-by-hop udp:4500 esp:0 data",      PINNED,      TO_2),
	SEND("ip ah:1 data",                            PINNED,      TO_1), /* ESP's SPIs are not AH's */
	SEND("ip ah:2 data",                            PINNED,      TO_1), /* nor AH's ESP's */
	SEND("ip:2 ah:2 data",                          PINNED,      TO_2), /* another SA */
	SEND("ip first:8 ah:2 data",                    PINNED,      TO_1),
	SEND("ip later:8 data:ah",                      PINNED,      TO_1),
	SEND("ip icmp:3 ip:out ah:out",                 PINNED,      TO_1),
	SEND("ip udp:500 ike:first data",               PINNED,      TO_1),
	SEND("ip first:9 esp:1 data",                   PINNED,      TO_2),
	SEND("ip later:9 data:esp",                     PINNED,      TO_2),
	PASS("from:1 ip esp:1 data",                    PINNED,      ONE_HOP),
	SEND("ip icmp:3 ip:out esp:out",                PINNED,      TO_1),
	SEND("ip esp:1 data",                           PIN_LEFT,    TO_1), /* the bucket's owner */
	PASS("ip6 esp:0 data",                          PIN_LEFT,    LOCAL),
	SEND("ip later:9 data:esp",                     PIN_LEFT,    TO_1),
	SEND("ip esp:1 data",                           PIN_OF_NOBODY, TO_1),

	/* one hop */
	PASS("from:1 ip esp:2 data",                    THIRDS,      ONE_HOP),
	PASS("from:1 ip esp:0 data",                    THIRDS,      LOCAL),
	PASS("from:0 ip esp:1 data",                    THIRDS,      ONE_HOP),
	PASS("from:2 ip6 esp:1 data",                   THIRDS,      ONE_HOP),

	/* not for the cluster address, or not for us: a switch floods */
	PASS("ip:elsewhere esp:1 data",                 THIRDS,      NOT_OURS),
	PASS("ip6:elsewhere esp:1 data",                THIRDS,      NOT_OURS),
	PASS("ip:out esp:1 data",                       THIRDS,      NOT_OURS),
	PASS("to:2 ip esp:1 data",                      THIRDS,      NOT_OURS),
	PASS("ip esp:1 cut:9",                          THIRDS,      NOT_OURS),
	PASS("ip6 esp:1 cut:9",                         THIRDS,      NOT_OURS),

	/* for the cluster address, but of no SA */
	PASS("ip tcp data",                             THIRDS,      NOT_STEERED),
	PASS("ip6 tcp data",                            THIRDS,      NOT_STEERED),
	PASS("ip6 options data",                        THIRDS,      NOT_STEERED),
	PASS("ip udp:53 esp:1 data",                    THIRDS,      NOT_STEERED),
	PASS("ip icmp:8 data",                          THIRDS,      NOT_STEERED),
	PASS("ip6 icmp6:135 data",                      THIRDS,      NOT_STEERED),

	/* what may stand before ESP */
	SEND("vlan ip esp:1 data",                      THIRDS,      TO_1),
	SEND("vlan-ad vlan ip esp:1 data",              THIRDS,      TO_1),
	PASS("vlan vlan vlan ip esp:1 data",            THIRDS,      NOT_OURS),
	SEND("ip-options esp:1 data",                   THIRDS,      TO_1),
	SEND("vlan vlan ip-options esp:1 data",         THIRDS,      TO_1),
	SEND("ip6 hop-by-hop esp:1 data",               THIRDS,      TO_1),
	SEND("ip6 routing esp:1 data",                  THIRDS,      TO_1),
	SEND("ip6 options esp:1 data",                  THIRDS,      TO_1),
	SEND("vlan vlan ip6 hop-by-hop options routing esp:1 data",
	                                                THIRDS,      TO_1),
	SEND("ip6 hop-by-hop options routing options options options esp:1 data",
	                                                THIRDS,      TO_1),
	DROP("ip6 hop-by-hop options routing options options options options esp:1 data",
	                                                THIRDS,      MALFORMED),

	/* cut short: it may be ESP, and of an SA of another member's */
	SEND("ip esp:1",                                THIRDS,      TO_1),
	DROP("ip esp:1 cut:1",                          THIRDS,      MALFORMED),
	DROP("ip esp:1 cut:8",                          THIRDS,      MALFORMED),
	DROP("ip-options esp:1 cut:40",                 THIRDS,      MALFORMED),
	DROP("ip6 esp:1 cut:1",                         THIRDS,      MALFORMED),
	DROP("ip6 hop-by-hop esp:1 cut:8",              THIRDS,      MALFORMED),
	DROP("ip6 hop-by-hop esp:1 cut:21",             THIRDS,      MALFORMED),

	/* ESP in UDP, and keepalives */
	PASS("ip udp:4500 esp:0 data",                  THIRDS,      LOCAL),
	SEND("ip udp:4500 esp:1 data",                  THIRDS,      TO_1),
	SEND("ip-options udp:4500 esp:1 data",          THIRDS,      TO_1),
	SEND("ip6 udp:4500 esp:2 data",                 THIRDS,      TO_2),
	SEND("ip6 hop-by-hop options udp:4500 esp:2 data",
	                                                THIRDS,      TO_2),
	PASS("from:1 ip udp:4500 esp:2 data",           THIRDS,      ONE_HOP),
	DROP("ip udp:4500 esp:1 data cut:65",           THIRDS,      MALFORMED),
	DROP("ip udp:4500 esp:1 data cut:73",           THIRDS,      MALFORMED),
	PASS("ip udp:4500 esp:1",                       THIRDS,      NOT_STEERED), /* no payload */
	PASS("ip udp:4500 keepalive",                   THIRDS,      KEEPALIVE),
	PASS("ip6 udp:4500 keepalive",                  THIRDS,      KEEPALIVE),
	PASS("ip udp:4500 keepalive | data",            THIRDS,      KEEPALIVE), /* Ethernet pads */
	PASS("ip udp:4500 keepalive cut:1",             THIRDS,      NOT_STEERED),
	PASS("ip udp:4500 marker",                      THIRDS,      NOT_STEERED),

	/* IKE: by the SPI that we drew, the peer's first message by the peer's */
	SEND("ip udp:500 ike:first data",               THIRDS,      TO_1),
	SEND("ip udp:500 ike:auth data",                THIRDS,      TO_2),
	SEND("ip udp:500 ike:init-answer data",         THIRDS,      TO_2),
	SEND("ip udp:500 ike:request data",             THIRDS,      TO_2),
	PASS("ip udp:500 ike:v1-first data",            THIRDS,      LOCAL),
	SEND("ip udp:500 ike:v1-answer data",           THIRDS,      TO_2),
	SEND("ip udp:4500 marker ike:first data",       THIRDS,      TO_1),
	SEND("ip udp:4500 marker ike:auth data",        THIRDS,      TO_2),
	SEND("ip6 options udp:500 ike:first data",      THIRDS,      TO_1),
	SEND("ip6 udp:4500 marker ike:auth data",       THIRDS,      TO_2),
	PASS("from:1 ip udp:500 ike:auth data",         THIRDS,      ONE_HOP),
	DROP("ip udp:500 ike:first cut:9",              THIRDS,      MALFORMED),
	DROP("ip udp:4500 marker ike:first cut:9",      THIRDS,      MALFORMED),
	PASS("ip udp:500 marker | data",                THIRDS,      NOT_STEERED), /* by its length */
	PASS("ip udp:4500 marker esp:1 | data",         THIRDS,      NOT_STEERED),

	/* AH */
	PASS("ip ah:0 data",                            THIRDS,      LOCAL),
	SEND("ip ah:1 data",                            THIRDS,      TO_1),
	SEND("ip-options ah:2 data",                    THIRDS,      TO_2),
	SEND("ip6 hop-by-hop ah:2 data",                THIRDS,      TO_2),
	SEND("ip6 options ah:1 options tcp data",       THIRDS,      TO_1),
	SEND("ip ah:1 esp:2 data",                      THIRDS,      TO_1), /* it is around ESP */
	SEND("ip6 ah:2 options esp:1 data",             THIRDS,      TO_2),
	SEND("ip ah:2 ip esp:1 data",                   THIRDS,      TO_2),
	SEND("vlan ip ah:1 udp:4500 esp:2 data",        THIRDS,      TO_1),
	PASS("from:1 ip ah:2 data",                     THIRDS,      ONE_HOP),
	PASS("from:1 ip ah:0 data",                     THIRDS,      LOCAL),
	PASS("ip ah:1 data",                            OURS,        LOCAL),
	DROP("ip ah:1 data",                            NOBODYS,     NO_OWNER),
	PASS("ip:elsewhere ah:1 data",                  THIRDS,      NOT_OURS),
	SEND("ip ah:1 cut:12",                          THIRDS,      TO_1),
	DROP("ip ah:1 cut:13",                          THIRDS,      MALFORMED),
	DROP("ip ah:1 cut:24",                          THIRDS,      MALFORMED),
	DROP("ip6 hop-by-hop ah:1 cut:13",              THIRDS,      MALFORMED),

	/* fragments follow the first one of their datagram */
	SEND("ip first:1 esp:1 data",                   THIRDS,      TO_1),
	SEND("ip later:1 data:esp",                     GOES_ON,     TO_1),
	SEND("ip overlap:1 data:esp",                   GOES_ON,     TO_1),
	PASS("ip later:2 data:esp",                     GOES_ON,     FRAGMENT_UNKNOWN),
	PASS("ip later:1 data:udp",                     GOES_ON,     FRAGMENT_UNKNOWN),
	PASS("ip:2 later:1 data:esp",                   GOES_ON,     FRAGMENT_UNKNOWN),
	PASS("ip6 later:1 data:esp",                    GOES_ON,     FRAGMENT_UNKNOWN),
	SEND("ip-options first:1 esp:2 data",           GOES_ON,     TO_2), /* 1 is used again */
	SEND("ip-options later:1 data:esp",             GOES_ON,     TO_2),
	PASS("from:1 ip later:1 data:esp",              GOES_ON,     ONE_HOP),
	PASS("ip later:1 data:esp",                     OURS,        LOCAL),
	DROP("ip later:1 data:esp",                     NOBODYS,     NO_OWNER),
	PASS("ip later:3 data:esp",                     THIRDS,      FRAGMENT_UNKNOWN), /* too early: */
	SEND("ip first:3 esp:1 data",                   GOES_ON,     TO_1), /* goes there all the same */
	SEND("ip later:3 data:esp",                     GOES_ON,     TO_1),
	SEND("ip first:4 ah:1 data",                    GOES_ON,     TO_1),
	SEND("ip later:4 data:ah",                      GOES_ON,     TO_1),
	PASS("ip later:4 data:esp",                     GOES_ON,     FRAGMENT_UNKNOWN),
	SEND("ip6 first:4 ah:2 data",                   GOES_ON,     TO_2),
	SEND("ip6 later:4 data",                        GOES_ON,     TO_2),
	DROP("ip first:6 | ah:0 data",                  GOES_ON,     MALFORMED),
	SEND("ip first:5 udp:500 ike:auth data",        GOES_ON,     TO_2),
	SEND("ip later:5 data:udp",                     GOES_ON,     TO_2),
	SEND("ip first:5 udp:4500 esp:1 data",          GOES_ON,     TO_1),
	SEND("ip later:5 data:udp",                     GOES_ON,     TO_1),
	PASS("ip first:5 udp:53 data",                  GOES_ON,     NOT_STEERED), /* of no SA now */
	PASS("ip later:5 data:udp",                     GOES_ON,     FRAGMENT_UNKNOWN),
	SEND("vlan ip6 hop-by-hop first:1 options esp:1 data",
	                                                GOES_ON,     TO_1),
	SEND("vlan ip6 hop-by-hop later:1 data",        GOES_ON,     TO_1),
	SEND("ip6 overlap:1 data:esp",                  GOES_ON,     TO_1),
	PASS("ip6:2 later:1 data:esp",                  GOES_ON,     FRAGMENT_UNKNOWN),
	SEND("ip6 first:2 udp:4500 marker ike:first data",
	                                                GOES_ON,     TO_1),
	SEND("ip6 later:2 data:udp",                    GOES_ON,     TO_1),
	DROP("ip6 first:3 first:3 esp:1 data",          GOES_ON,     MALFORMED),
	DROP("ip6 later:2 cut:1",                       GOES_ON,     MALFORMED),

	/* a first fragment must have the SPI, and not in the frame's padding */
	DROP("ip first:6 udp:4500 cut:1",               GOES_ON,     MALFORMED),
	DROP("ip first:6 udp:4500 | esp:0 data",        GOES_ON,     MALFORMED),
	DROP("ip first:6 | esp:0 data",                 GOES_ON,     MALFORMED),
	DROP("ip6 first:6 options | esp:0 data",        GOES_ON,     MALFORMED),
	PASS("ip udp:4500 esp:0 | data",                GOES_ON,     NOT_STEERED), /* not a fragment */
	PASS("ip later:6 data:udp",                     GOES_ON,     FRAGMENT_UNKNOWN),

	/* ICMP errors go where what they are about came from */
	SEND("ip icmp:3 ip:out esp:out",                THIRDS,      TO_2),
	SEND("ip-options icmp:11 ip-options:out esp:out data",
	                                                THIRDS,      TO_2),
	SEND("ip icmp:12 ip:out udp-from:4500 esp:out data",
	                                                THIRDS,      TO_2),
	SEND("ip icmp:3 ip:out udp-from:500 ike:our-init data",
	                                                THIRDS,      TO_2),
	SEND("ip icmp:3 ip:out udp-from:4500 marker ike:our-answer data",
	                                                THIRDS,      TO_2),
	SEND("ip icmp:3 ip:out udp-from:500 ike:our-v1-init data",
	                                                THIRDS,      TO_2),
	SEND("ip icmp:3 ip:out first:1 esp:out data",   THIRDS,      TO_2),
	SEND("ip first:7 icmp:3 ip:out esp:out data",   THIRDS,      TO_2),
	SEND("ip later:7 data:icmp",                    GOES_ON,     TO_2),
	PASS("from:1 ip icmp:3 ip:out esp:out data",    THIRDS,      ONE_HOP),
	PASS("ip icmp:3 ip:out esp:out data",           OURS,        LOCAL),
	PASS("ip icmp:3 ip:out esp:none data",          THIRDS,      ERROR_UNKNOWN),
	SEND("ip icmp:3 ip:out ah:out data",            THIRDS,      TO_1),
	SEND("ip icmp:3 ip:out ah:out cut:16",          THIRDS,      TO_1), /* eight bytes of it */
	PASS("ip icmp:3 ip:out ah:out cut:17",          THIRDS,      ERROR_UNKNOWN),
	PASS("ip icmp:3 ip:out ah:none data",           THIRDS,      ERROR_UNKNOWN),
	SEND("ip icmp:3 ip:out ah:out esp:out data",    THIRDS,      TO_1),
	SEND("ip6 icmp6:2 ip6:out options ah:out data", THIRDS,      TO_1),
	PASS("ip icmp:3 ip:transit ah:out data",        THIRDS,      ERROR_UNKNOWN),
	PASS("ip icmp:3 ip:out tcp data",               THIRDS,      ERROR_UNKNOWN),
	PASS("ip icmp:3 ip:out udp-from:53 data",       THIRDS,      ERROR_UNKNOWN),
	PASS("ip icmp:3 ip:out later:1 esp:out data",   THIRDS,      ERROR_UNKNOWN),
	PASS("ip icmp:3 ip esp:1 data",                 THIRDS,      ERROR_UNKNOWN), /* not ours */
	PASS("ip icmp:3 ip:transit esp:out data",       THIRDS,      ERROR_UNKNOWN),
	PASS("ip6 icmp6:2 ip6:transit esp:out data",    THIRDS,      ERROR_UNKNOWN),
	PASS("ip icmp:3 ip6:out esp:out data",          THIRDS,      ERROR_UNKNOWN),
	PASS("ip icmp:3 ip:out esp:out cut:1",          THIRDS,      ERROR_UNKNOWN),
	PASS("ip icmp:3 ip:out udp-from:500 cut:1",     THIRDS,      ERROR_UNKNOWN),
	PASS("ip icmp:3 ip:out udp-from:500 ike:our-init cut:9",
	                                                THIRDS,      ERROR_UNKNOWN),
	PASS("ip icmp:3 cut:1",                         THIRDS,      NOT_STEERED),
	PASS("ip icmp:5 ip:out esp:out data",           THIRDS,      NOT_STEERED),
	SEND("ip6 icmp6:1 ip6:out esp:out",             THIRDS,      TO_2),
	SEND("vlan ip6 hop-by-hop icmp6:2 ip6:out options esp:out data",
	                                                THIRDS,      TO_2),
	SEND("ip6 icmp6:3 ip6:out udp-from:4500 esp:out data",
	                                                THIRDS,      TO_2),
	SEND("ip6 icmp6:4 ip6:out first:1 udp-from:500 ike:our-init data",
	                                                THIRDS,      TO_2),
	PASS("ip6 icmp6:2 ip6:out esp:none data",       THIRDS,      ERROR_UNKNOWN),
	PASS("ip6 icmp6:2 ip6:out later:1 esp:out data",
	                                                THIRDS,      ERROR_UNKNOWN),
	PASS("ip6 icmp6:2 ip6:out hop-by-hop cut:1",    THIRDS,      ERROR_UNKNOWN),
	PASS("ip6 icmp6:128 ip6:out esp:out data",      THIRDS,      NOT_STEERED),
	/* clang-format on */
};

#endif
