/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * program.h - one BPF program with maps of its own (nothing is pinned), run on single frames by
 * BPF_PROG_TEST_RUN. Every run must count exactly one reason.
 */
#ifndef PROGRAM_H
#define PROGRAM_H

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>

#include "espalier.h"

#define FRAME_MAX 320

enum {
	IN_STEER = 1,
	IN_CLEAR = 2,
	IN_SYNC = 4,
	IN_GUARD = 8,
	IN_MISS = 16,
	IN_ARP = 32,
	IN_ND = 64,
	IN_TUNNEL = 128,
	IN_CLEAR_TUNNEL = 256,
	IN_SPREAD = 512,
	IN_GUARD_FORMATS = 1024
};

/*
 * Which program can say what (of the outer side, test_packets.c all but what the neighbours, the
 * tunnel and CPU spreading have). The last test of each program checks that it has said all of it.
 */
static const uint16_t said_by[ESPALIER_REASON_COUNT] = {
	[ESPALIER_NOT_OURS] = IN_STEER | IN_CLEAR | IN_SYNC,
	[ESPALIER_NOT_STEERED] = IN_STEER,
	[ESPALIER_KEEPALIVE] = IN_STEER,
	[ESPALIER_FRAGMENT_UNKNOWN] = IN_STEER,
	[ESPALIER_ERROR_UNKNOWN] = IN_STEER,
	[ESPALIER_MALFORMED] = IN_STEER,
	[ESPALIER_LOCAL] = IN_STEER,
	[ESPALIER_FORWARDED] = IN_STEER,
	[ESPALIER_ONE_HOP] = IN_STEER,
	[ESPALIER_NO_OWNER] = IN_STEER,
	[ESPALIER_LOCAL_SPREAD] = IN_SPREAD,
	[ESPALIER_TUNNELLED] = IN_TUNNEL,
	[ESPALIER_TOO_BIG] = IN_TUNNEL,
	[ESPALIER_TOO_BIG_LEFT] = IN_TUNNEL | IN_CLEAR_TUNNEL,
	[ESPALIER_TUNNEL_STRANGER] = IN_TUNNEL | IN_CLEAR_TUNNEL,
	[ESPALIER_TUNNEL_LEFT] = IN_TUNNEL | IN_CLEAR_TUNNEL,
	[ESPALIER_ND_ANSWERED] = IN_ND,
	[ESPALIER_ND_LEFT] = IN_ND,
	[ESPALIER_CLEAR_TUNNELLED] = IN_CLEAR_TUNNEL,
	[ESPALIER_CLEAR_TOO_BIG] = IN_CLEAR_TUNNEL,
	[ESPALIER_NO_NEXT_HOP] = IN_STEER,
	[ESPALIER_ARP_ANSWERED] = IN_ARP | IN_CLEAR,
	[ESPALIER_ARP_LEFT] = IN_ARP | IN_CLEAR,
	[ESPALIER_CLEAR_NO_SA] = IN_CLEAR,
	[ESPALIER_CLEAR_LOCAL] = IN_CLEAR,
	[ESPALIER_CLEAR_FORWARDED] = IN_CLEAR,
	[ESPALIER_CLEAR_ONE_HOP] = IN_CLEAR,
	[ESPALIER_CLEAR_NO_OWNER] = IN_CLEAR,
	[ESPALIER_CLEAR_NO_NEXT_HOP] = IN_CLEAR,
	[ESPALIER_UNGUARDED] = IN_GUARD,
	[ESPALIER_EMITTED] = IN_GUARD,
	[ESPALIER_EMITTED_ELSEWHERE] = IN_GUARD_FORMATS,
	[ESPALIER_EMITTED_NEW] = IN_GUARD,
	[ESPALIER_EMITTED_LOCAL] = IN_GUARD,
	[ESPALIER_GUARD_INNER] = IN_GUARD,
	[ESPALIER_GUARD_UNKNOWN] = IN_GUARD,
	[ESPALIER_GUARD_NOT_OWNER] = IN_GUARD,
	[ESPALIER_GUARD_BLOCK] = IN_GUARD,
	[ESPALIER_GUARD_MALFORMED] = IN_GUARD,
	[ESPALIER_GUARD_GSO] = IN_GUARD,
	[ESPALIER_SYNC] = IN_SYNC,
	[ESPALIER_MISS_TOLD] = IN_MISS,
	[ESPALIER_MISS_LIMITED] = IN_MISS,
};

struct program {
	struct bpf_object *object;
	int fd;
	enum espalier_reason reason; /* of the last run */
	uint64_t said[ESPALIER_REASON_COUNT];
};

/* Headers are written through pointers into it. */
struct __attribute__((may_alias)) frame {
	uint8_t bytes[FRAME_MAX];
	uint32_t size;
};

static const uint8_t mac_outer[3][6] = {{2, 0, 0, 0, 1, 0}, {2, 0, 0, 0, 1, 1}, {2, 0, 0, 0, 1, 2}};
static const uint8_t mac_inner[3][6] = {{2, 0, 0, 0, 2, 0}, {2, 0, 0, 0, 2, 1}, {2, 0, 0, 0, 2, 2}};
static const uint8_t mac_peer[6] = {2, 0, 0, 0, 9, 9};
static const uint8_t mac_broadcast[6] = {255, 255, 255, 255, 255, 255};

static inline int program_map(const struct program *p, const char *name)
{
	int fd = bpf_object__find_map_fd_by_name(p->object, name);

	assert_true(fd >= 0);
	return fd;
}

/* Not loaded yet: its maps may still become another program's. */
static inline void program_open(
	struct program *p, const void *elf, size_t size, const struct espalier_settings *settings)
{
	struct bpf_map *map;

	*p = (struct program){.object = bpf_object__open_mem(elf, size, NULL)};
	assert_non_null(p->object);
	bpf_object__for_each_map(map, p->object)
	{
		if (bpf_map__is_internal(map))
			assert_int_equal(
				bpf_map__set_initial_value(map, settings, sizeof(*settings)), 0);
		else
			assert_int_equal(bpf_map__set_pin_path(map, NULL), 0);
	}
}

static inline void program_load(
	struct program *p, const void *elf, size_t size, const struct espalier_settings *settings)
{
	program_open(p, elf, size, settings);
	assert_int_equal(bpf_object__load(p->object), 0);
	p->fd = bpf_program__fd(bpf_object__next_program(p->object, NULL));
	assert_true(p->fd >= 0);
}

static inline void program_close(struct program *p)
{
	bpf_object__close(p->object);
}

/* What has been counted, all CPUs. */
static inline void program_reasons(const struct program *p, uint64_t ret[ESPALIER_REASON_COUNT])
{
	int cpus = libbpf_num_possible_cpus();
	uint64_t(*by_cpu)[ESPALIER_REASON_COUNT] = calloc(cpus, sizeof(*by_cpu));
	uint32_t zero = 0;

	assert_non_null(by_cpu);
	assert_int_equal(bpf_map_lookup_elem(program_map(p, "reasons"), &zero, by_cpu), 0);
	memset(ret, 0, sizeof(*by_cpu));
	for (int cpu = 0; cpu < cpus; cpu++)
		for (int i = 0; i < ESPALIER_REASON_COUNT; i++)
			ret[i] += by_cpu[cpu][i];
	free(by_cpu);
}

/* Runs the program once; *frame becomes what it made of it. ctx may be NULL. Returns its verdict.
 */
static inline int program_run(struct program *p, struct frame *frame, void *ctx, size_t ctx_size)
{
	uint64_t reasons[ESPALIER_REASON_COUNT];
	uint8_t out[FRAME_MAX];
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame->bytes, .data_size_in = frame->size,
		.data_out = out, .data_size_out = sizeof(out), .ctx_in = ctx,
		.ctx_size_in = ctx_size, .repeat = 1);
	int counted = 0;

	assert_int_equal(bpf_prog_test_run_opts(p->fd, &opts), 0);
	assert_in_range(opts.data_size_out, 1, sizeof(frame->bytes));
	frame->size = opts.data_size_out;
	memcpy(frame->bytes, out, frame->size);

	program_reasons(p, reasons);
	for (int i = 0; i < ESPALIER_REASON_COUNT; i++)
		if (reasons[i] != p->said[i]) {
			assert_int_equal(reasons[i], p->said[i] + 1);
			p->reason = i;
			counted++;
		}
	assert_int_equal(counted, 1);
	memcpy(p->said, reasons, sizeof(reasons));
	return (int)opts.retval;
}

static inline void program_said_all(const struct program *p, unsigned int in)
{
	for (int i = 0; i < ESPALIER_REASON_COUNT; i++) {
		assert_int_not_equal(said_by[i], 0);
		assert_int_equal(p->said[i] > 0, (said_by[i] & in) != 0);
	}
}

/* The same of some of what it can say: the rest is tested elsewhere. */
static inline void program_said(const struct program *p, unsigned int in)
{
	for (int i = 0; i < ESPALIER_REASON_COUNT; i++)
		if (said_by[i] & in)
			assert_true(p->said[i] > 0);
}

static inline uint64_t program_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/*
 * A view where bucket i belongs to owners[i % n], in half `active`; the other half says nobody, so
 * that reading the wrong one shows.
 */
static inline void program_set_view(struct program *p, uint32_t active, const uint8_t *owners,
	int n, uint8_t ingress, uint64_t heartbeat_ns)
{
	static struct espalier_view view;
	uint32_t zero = 0;

	memset(&view, ESPALIER_NOBODY, sizeof(view));
	view.active = active;
	view.pins = view.interfaces = view.nested = 0;
	view.outer_macs = view.inner_macs = 7; /* of members 0 to 2 */
	memcpy(view.outer_mac, mac_outer[0], 6);
	memcpy(view.inner_mac, mac_inner[0], 6);
	view.heartbeat_ns = heartbeat_ns;
	view.lease_ns = 60000000000; /* a minute: only what is said to be dead is dead */
	view.half[active].ingress = ingress;
	for (int i = 0; i < ESPALIER_BUCKETS; i++)
		view.half[active].owner[i] = owners[i % n];
	assert_int_equal(bpf_map_update_elem(program_map(p, "view"), &zero, &view, BPF_ANY), 0);
}

/*
 * Runs this question until the lease of a view has ended, in which it left off: it is answered
 * until then, and from then on no more. `asks` runs it once and says whether it was.
 */
static inline void program_lease_ends(struct program *p, const uint8_t *owners, int n,
	uint8_t ingress, bool (*asks)(struct program *p))
{
	const uint64_t lease_ns = 60000000000, left_ns = 20000000;

	for (int round = 0; round < 10; round++) {
		uint64_t end_ns = program_now() + left_ns, before_ns = 0;
		bool answered = true;

		program_set_view(p, 0, owners, n, ingress, end_ns - lease_ns);
		while (answered) {
			assert_true(before_ns < end_ns);
			before_ns = program_now();
			answered = asks(p);
			if (program_now() < end_ns)
				assert_true(answered);
		}
		assert_false(asks(p));
	}
}

/* To look at the view, change it, and keep it so. */
static inline struct espalier_view *program_view(const struct program *p)
{
	static struct espalier_view view;
	uint32_t zero = 0;

	assert_int_equal(bpf_map_lookup_elem(program_map(p, "view"), &zero, &view), 0);
	return &view;
}

static inline void program_keep_view(const struct program *p, const struct espalier_view *view)
{
	uint32_t zero = 0;

	assert_int_equal(bpf_map_update_elem(program_map(p, "view"), &zero, view, BPF_ANY), 0);
}

/* Members 0 to 2; member 2 only if `known`. */
static inline void program_set_members(struct program *p, bool known)
{
	for (uint32_t id = 0; id < 3; id++) {
		struct espalier_member member = {
			.outer.kind = ESPALIER_HOP_LINK, .inner.kind = ESPALIER_HOP_LINK};

		memcpy(member.outer_mac, mac_outer[id], 6);
		memcpy(member.inner_mac, mac_inner[id], 6);
		memcpy(member.outer.mac, mac_outer[id], 6);
		memcpy(member.inner.mac, mac_inner[id], 6);
		if (id == 2 && !known)
			member = (struct espalier_member){};
		assert_int_equal(
			bpf_map_update_elem(program_map(p, "members"), &id, &member, BPF_ANY), 0);
	}
}

/* Frames */

static inline void *frame_add(struct frame *frame, const void *bytes, uint32_t size)
{
	void *p = frame->bytes + frame->size;

	assert_true(frame->size + size <= FRAME_MAX);
	memcpy(p, bytes, size);
	frame->size += size;
	return p;
}

static inline void frame_begin(struct frame *frame, const uint8_t to[6], const uint8_t from[6],
	int vlan_tags, uint16_t protocol)
{
	const uint8_t tag[4] = {0x81, 0x00, 0x00, 0x05};
	uint16_t type = htons(protocol);

	frame->size = 0;
	frame_add(frame, to, 6);
	frame_add(frame, from, 6);
	for (int i = 0; i < vlan_tags; i++)
		frame_add(frame, tag, sizeof(tag));
	frame_add(frame, &type, 2);
}

/* IPv4 with `options` words of options (no-operation). */
static inline struct iphdr *frame_ip(struct frame *frame, const char *from, const char *to,
	uint8_t protocol, unsigned int options)
{
	struct iphdr ip = {.version = 4,
		.ihl = 5 + options,
		.ttl = 64,
		.protocol = protocol,
		.tot_len = htons(100),
		.saddr = inet_addr(from),
		.daddr = inet_addr(to)};
	const uint8_t words[40] = {1, 1, 1, 1};
	struct iphdr *ret = frame_add(frame, &ip, sizeof(ip));

	frame_add(frame, words, options * 4);
	return ret;
}

/* An ESP header and a payload whose every byte is its own. */
static inline void frame_esp(struct frame *frame, uint32_t spi, uint32_t seq)
{
	uint32_t header[2] = {htonl(spi), htonl(seq)};
	uint8_t payload[64];

	for (unsigned int i = 0; i < sizeof(payload); i++)
		payload[i] = i * 7 + 3;
	frame_add(frame, header, sizeof(header));
	frame_add(frame, payload, sizeof(payload));
}

static inline struct udphdr *frame_udp(
	struct frame *frame, uint16_t from, uint16_t to, uint16_t payload)
{
	struct udphdr udp = {
		.source = htons(from), .dest = htons(to), .len = htons(sizeof(udp) + payload)};

	return frame_add(frame, &udp, sizeof(udp));
}

/* What is behind the IP headers, by name, and its protocol number. */
static const struct transport {
	const char *name;
	uint8_t protocol;
	uint16_t port; /* UDP, both ends */
	bool spi_0; /* UDP: the non-ESP marker */
	uint16_t udp_payload; /* what its header says; 72 bytes follow */
} transports[] = {
	{"esp", IPPROTO_ESP, 0, false, 0},
	{"tcp", IPPROTO_TCP, 0, false, 0},
	{"none", IPPROTO_NONE, 0, false, 0},
	{"esp-in-udp", IPPROTO_UDP, 4500, false, 72},
	{"esp-in-jumbo-udp", IPPROTO_UDP, 4500, false, UINT16_MAX - 7}, /* in the header: 0 */
	{"ike", IPPROTO_UDP, 4500, true, 72},
	{"keepalive", IPPROTO_UDP, 4500, false, 1},
	{"udp", IPPROTO_UDP, 500, false, 72},
};

static inline const struct transport *transport_find(const char *name)
{
	for (size_t i = 0; i < sizeof(transports) / sizeof(transports[0]); i++)
		if (!strcmp(transports[i].name, name))
			return &transports[i];
	return NULL;
}

static inline void frame_transport(
	struct frame *frame, const struct transport *transport, uint32_t spi, uint32_t seq)
{
	if (transport->protocol == IPPROTO_UDP)
		frame_udp(frame, transport->port, transport->port, transport->udp_payload);
	frame_esp(frame, transport->spi_0 ? 0 : spi, seq);
}

/* The extension headers, by name. */
static const struct extension {
	const char *name;
	uint8_t type;
	uint8_t bytes[24]; /* the first one is the next header's type */
	uint32_t size;
} extensions[] = {
	{"hop-by-hop", IPPROTO_HOPOPTS, {0, 1, 1, 12}, 16},
	{"routing", IPPROTO_ROUTING, {0, 2, 4}, 24},
	{"options", IPPROTO_DSTOPTS, {0, 0, 1, 4}, 8},
	{"fragment", IPPROTO_FRAGMENT, {0, 9, 0x00, 0x01}, 8}, /* the first one; 9: no length */
	{"later-fragment", IPPROTO_FRAGMENT, {0, 0, 0x00, 0x08}, 8},
};

static inline const struct extension *extension_find(const char *name)
{
	for (size_t i = 0; i < sizeof(extensions) / sizeof(extensions[0]); i++)
		if (!strcmp(extensions[i].name, name))
			return &extensions[i];
	return NULL;
}

/* AH with an ICV of 12 bytes. Returns where the next header's type is. */
static inline uint8_t *frame_ah(struct frame *frame, uint32_t spi, uint32_t seq)
{
	const uint32_t ah[6] = {
		htonl((uint32_t)IPPROTO_NONE << 24 | 4 << 16), htonl(spi), htonl(seq)};

	return frame_add(frame, ah, sizeof(ah));
}

/* IPv6 and what is behind it, as a list of names: "hop-by-hop routing ah esp". Returns where that
 * begins. */
static inline uint32_t frame_ip6(struct frame *frame, const char *from, const char *to,
	const char *names, uint32_t spi, uint32_t seq)
{
	struct ipv6hdr ip = {.version = 6, .hop_limit = 64, .payload_len = htons(100)};
	char list[128], *rest = list, *name;
	uint32_t begin;
	uint8_t *next;

	assert_int_equal(inet_pton(AF_INET6, from, &ip.saddr), 1);
	assert_int_equal(inet_pton(AF_INET6, to, &ip.daddr), 1);
	next = &((struct ipv6hdr *)frame_add(frame, &ip, sizeof(ip)))->nexthdr;
	begin = frame->size;
	snprintf(list, sizeof(list), "%s", names);
	while ((name = strsep(&rest, " "))) {
		const struct extension *extension = extension_find(name);
		const struct transport *transport = transport_find(name);

		bool ah = !strcmp(name, "ah");

		assert_true(ah || extension || transport);
		*next = ah ? IPPROTO_AH : extension ? extension->type : transport->protocol;
		if (ah)
			next = frame_ah(frame, spi, seq);
		else if (extension)
			next = frame_add(frame, extension->bytes, extension->size);
		else
			frame_transport(frame, transport, spi, seq);
	}
	return begin;
}

struct arp_packet {
	uint16_t hardware, protocol;
	uint8_t hardware_size, protocol_size;
	uint16_t operation;
	uint8_t sender_mac[6];
	uint32_t sender_ip;
	uint8_t target_mac[6];
	uint32_t target_ip;
} __attribute__((packed));

static inline struct arp_packet *frame_arp(struct frame *frame, const uint8_t to[6],
	const uint8_t from[6], const char *sender, const char *target, int vlan_tags)
{
	struct arp_packet arp = {.hardware = htons(1),
		.protocol = htons(ETH_P_IP),
		.hardware_size = 6,
		.protocol_size = 4,
		.operation = htons(1),
		.sender_ip = inet_addr(sender),
		.target_ip = inet_addr(target)};
	uint8_t padding[18] = {0xaa, 0xbb};

	memcpy(arp.sender_mac, from, 6);
	frame_begin(frame, to, from, vlan_tags, ETH_P_ARP);
	void *ret = frame_add(frame, &arp, sizeof(arp));
	frame_add(frame, padding, sizeof(padding));
	return ret;
}

#endif
