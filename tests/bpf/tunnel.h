/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tunnel.h - three members that reach each other by IP-in-IP: member 0 sends; member 1 is reached
 * over IPv4, member 2 over IPv6.
 */
#ifndef TUNNEL_H
#define TUNNEL_H

#include "program.h"

static const char *const tunnel4[3] = {"203.0.113.10", "203.0.113.11", "203.0.113.12"};
static const char *const tunnel6[3] = {"2001:db8:f::10", "2001:db8:f::11", "2001:db8:f::12"};
static const uint8_t mac_router[6] = {2, 0, 0, 0, 8, 8};

/* The sum of a header's words as they lie in memory, not inverted. */
static inline uint16_t sum_of(const void *bytes, size_t size)
{
	uint16_t word;
	uint32_t sum = 0;

	for (size_t i = 0; i < size; i += 2) {
		memcpy(&word, (const uint8_t *)bytes + i, 2);
		sum += word;
	}
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

static inline struct iphdr outer_ipv4(const char *from, const char *to)
{
	return (struct iphdr){.version = 4,
		.ihl = 5,
		.frag_off = htons(0x4000),
		.ttl = 64,
		.saddr = inet_addr(from),
		.daddr = inet_addr(to)};
}

/* mtu: of what fits in. */
static inline struct espalier_hop tunnel_hop(unsigned int id, uint16_t mtu)
{
	struct espalier_hop hop = {
		.kind = id == 2 ? ESPALIER_HOP_IPV6 : ESPALIER_HOP_IPV4, .mtu = mtu};
	struct iphdr ip = outer_ipv4(tunnel4[0], tunnel4[id]);

	memcpy(hop.mac, mac_router, 6);
	hop.check = sum_of(&ip, sizeof(ip));
	inet_pton(id == 2 ? AF_INET6 : AF_INET, id == 2 ? tunnel6[0] : tunnel4[0], hop.from);
	inet_pton(id == 2 ? AF_INET6 : AF_INET, id == 2 ? tunnel6[id] : tunnel4[id], hop.to);
	return hop;
}

/* Of the members that receive, only the address matters that IP-in-IP comes from. */
static inline void tunnel_set_members(struct program *p, uint32_t self, uint16_t mtu)
{
	for (uint32_t id = 0; id < 3; id++) {
		struct espalier_member member = {
			.outer = tunnel_hop(id, mtu), .inner = tunnel_hop(id, mtu)};

		/* on the way back there may be no router, or nothing */
		if (self != 0 && id == 0)
			member.outer.kind = member.inner.kind =
				self == 1 ? ESPALIER_HOP_LINK : ESPALIER_HOP_NONE;
		if (self == 2 && id == 0) {
			inet_pton(AF_INET6, tunnel6[0], member.outer.to);
			inet_pton(AF_INET6, tunnel6[0], member.inner.to);
		}
		memcpy(member.outer_mac, mac_outer[id], 6);
		memcpy(member.inner_mac, mac_inner[id], 6);
		assert_int_equal(
			bpf_map_update_elem(program_map(p, "members"), &id, &member, BPF_ANY), 0);
	}
}

/* The address that IP-in-IP comes to, of settings->self. */
static inline void tunnel_settings(struct espalier_settings *settings, uint8_t family)
{
	settings->tunnel_family = family;
	inet_pton(family, family == AF_INET6 ? tunnel6[settings->self] : tunnel4[settings->self],
		settings->tunnel);
}

/* 10.30.N.0/24 and 2001:db8:30:N::/64 are beyond an SA of member N's. */
static inline void tunnel_set_selectors(struct program *p)
{
	for (uint8_t id = 0; id < 3; id++) {
		const struct espalier_flow flow = {.bucket = id};
		struct espalier_selector v4 = {.prefixlen = ESPALIER_SELECTOR_BITS + 24,
			.family = AF_INET,
			.addr = {10, 30, id}};
		struct espalier_selector v6 = {.prefixlen = ESPALIER_SELECTOR_BITS + 64,
			.family = AF_INET6,
			.addr = {0x20, 0x01, 0x0d, 0xb8, 0, 0x30, 0, id}};
		int map = program_map(p, "selectors");

		assert_int_equal(bpf_map_update_elem(map, &v4, &flow, BPF_ANY), 0);
		assert_int_equal(bpf_map_update_elem(map, &v6, &flow, BPF_ANY), 0);
	}
}

#endif
