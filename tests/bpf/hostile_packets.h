/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hostile_packets.h - valid packets for test_hostile.c to spoil, besides the table of packets.h
 * (packet.h says how they are written): to the outer side, the ones there that other members get,
 * and all that a member sees besides; to the inner side.
 */
#ifndef HOSTILE_PACKETS_H
#define HOSTILE_PACKETS_H

static const char *const neighbours[] = {
	"arp",
	"vlan arp",
	"ip6 solicit",
	"ip6 solicit-bare",
	"vlan vlan-ad ip6 solicit",
	"ip6:nobody solicit",
	"ip6:nobody solicit-bare",
	"ip6 solicit | data",
};

/* What goes into IP-in-IP. */
static const char *const outer[] = {
	"ip esp:1 data", /* pinned to member 2 */
	"ip:2 esp:1 data",
	"ip esp:2 data",
	"vlan ip-options esp:1 data",
	"vlan-ad vlan ip esp:2 data | data",
	"ip udp:4500 esp:1 data",
	"ip udp:500 ike:request",
	"ip first:1 esp:2 data",
	"ip later:1 data:esp",
	"ip icmp:3 ip:out esp:out data",
	"ip6 esp:1 data",
	"vlan ip6 hop-by-hop esp:2 data",
	"ip6 udp:4500 esp:2 data",
	"ip6:nobody esp:2 data",
	"ip6 icmp6:2 ip6:out esp:out data",
	"from:1 ip esp:2 data",
	/* larger than fits, where little does */
	"ip esp:1 data data",
	"vlan vlan ip-options esp:2 data data",
	"ip first:1 esp:2 data data",
	"ip later:1 data:esp data",
	"ip icmp:3 ip:out esp:out data data",
	"ip6 esp:1 data data",
	"vlan ip6 options esp:2 data data",
	"ip6:nobody esp:2 data data",
	"ip6 icmp6:2 ip6:out esp:out data data",
};

/* IP-in-IP to this member: with what is its own, another one's, and nobody's. */
static const char *const outer_wrapped[] = {
	"ip:tunnel ip esp:0 data",
	"ip:tunnel ip esp:1 data data",
	"vlan ip:tunnel ip6 esp:0 data",
	"ip:tunnel ip:elsewhere esp:0 data",
	"ip:tunnel ip6 solicit",
	"ip6:tunnel ip esp:0 data",
	"vlan vlan-ad ip6:tunnel ip-options esp:2 data",
	"ip6:tunnel ip6 hop-by-hop esp:0 data",
	"ip6:tunnel ip udp:4500 esp:0 data",
};

static const char *const inner[] = {
	"ip:net0 tcp data",
	"ip:net1 tcp data",
	"ip:net2 tcp data",
	"vlan ip-options:net1 udp:53 data",
	"vlan-ad vlan ip:net2 icmp:8 data | data",
	"ip:net1 icmp:3 ip:out data",
	"ip:net2 first:1 udp:53 data",
	"ip:net2 later:1 data:udp",
	"ip6:net1 tcp data",
	"vlan ip6:net2 hop-by-hop tcp data",
	"ip6:net2 icmp6:2 ip6:out data",
	"ip:net1 tcp data data",
	"ip:net2 icmp:3 ip:out data data",
	"vlan ip:net2 later:1 data:udp data",
	"vlan vlan ip6:net2 tcp data data",
	"ip:elsewhere tcp data",
	"ip tcp data",
};

static const char *const inner_wrapped[] = {
	"ip:tunnel ip:net0 tcp data",
	"ip:tunnel ip:net1 tcp data",
	"vlan ip:tunnel ip6:net0 tcp data",
	"ip:tunnel ip tcp data",
	"ip6:tunnel ip:net0 tcp data",
	"vlan vlan-ad ip6:tunnel ip-options:net2 tcp data",
	"ip6:tunnel ip6:net0 tcp data",
};

#endif
