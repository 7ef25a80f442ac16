/* SPDX-License-Identifier: BSD-2-Clause */
/* guard.h - guard.bpf.c as member 1 of 3, with blocks of 2^16 numbers, and an ESP and an AH SA with
 * one SPI that go out. */
#ifndef GUARD_H
#define GUARD_H

#include "program.h"
#include "guard.skel.h"

#include <linux/pkt_cls.h>

#define CLUSTER "192.0.2.1"
#define CLUSTER6 "2001:db8::1"
#define PEER "198.51.100.7"
#define PEER6 "2001:db8:7::7"
#define SPI 0x11223344
#define SLOT 7 /* ESP's */
#define SLOT_AH 8
#define BUCKET 31 /* member 1's */
#define PASS ((int)TC_ACT_UNSPEC)
#define K 65536ULL

static const uint8_t thirds[] = {0, 1, 2};
static struct program guard;

static inline int group_setup(void **state)
{
	struct espalier_settings settings = {.cluster = {inet_addr(CLUSTER)},
		.self = 1,
		.members = 3,
		.block_bits = 16,
		.outer = 1};
	const void *elf;
	size_t size;

	(void)state;
	inet_pton(AF_INET6, CLUSTER6, settings.cluster6[1]);
	elf = guard_bpf__elf_bytes(&size);
	program_load(&guard, elf, size, &settings);
	return 0;
}

static inline int group_teardown(void **state)
{
	(void)state;
	program_close(&guard);
	return 0;
}

/* The SA of that protocol, with SPI, to PEER, or to PEER6. */
static inline void set_sa_as(enum espalier_protocol protocol, int family, uint64_t first_0,
	uint64_t last_0, uint64_t first_1, uint64_t last_1)
{
	struct espalier_sa_key key = {
		.spi = htonl(SPI), .family = (uint8_t)family, .protocol = protocol};
	struct espalier_sa sa = {.open = {{first_0, last_0}, {first_1, last_1}},
		.slot = protocol == ESPALIER_AH ? SLOT_AH : SLOT,
		.bucket = BUCKET,
		.direction = ESPALIER_OUT};

	assert_int_equal(inet_pton(family, family == AF_INET ? PEER : PEER6, key.daddr), 1);
	assert_int_equal(bpf_map_update_elem(program_map(&guard, "sas"), &key, &sa, BPF_F_LOCK), 0);
}

static inline void set_sa_of(
	int family, uint64_t first_0, uint64_t last_0, uint64_t first_1, uint64_t last_1)
{
	set_sa_as(ESPALIER_ESP, family, first_0, last_0, first_1, last_1);
}

static inline void set_sa(uint64_t first_0, uint64_t last_0, uint64_t first_1, uint64_t last_1)
{
	set_sa_of(AF_INET, first_0, last_0, first_1, last_1);
}

static inline void set_counter_of(uint32_t slot, uint64_t seq, uint64_t packets)
{
	struct espalier_counter counter = {.seq = seq, .packets = packets};

	assert_int_equal(
		bpf_map_update_elem(program_map(&guard, "counters"), &slot, &counter, BPF_ANY), 0);
}

static inline void set_counter(uint64_t seq, uint64_t packets)
{
	set_counter_of(SLOT, seq, packets);
}

static inline struct espalier_counter get_counter_of(uint32_t slot)
{
	struct espalier_counter counter;

	assert_int_equal(bpf_map_lookup_elem(program_map(&guard, "counters"), &slot, &counter), 0);
	return counter;
}

static inline struct espalier_counter get_counter(void)
{
	return get_counter_of(SLOT);
}

/* Block 1, which is this member's, and block 4 are open. */
static inline int setup(void **state)
{
	(void)state;
	program_set_view(&guard, 0, thirds, 3, 0, 0);
	set_sa(4 * K, 5 * K - 1, K, 2 * K - 1);
	set_sa_as(ESPALIER_AH, AF_INET, 4 * K, 5 * K - 1, K, 2 * K - 1);
	set_counter(0, 0);
	set_counter_of(SLOT_AH, 0, 0);
	return 0;
}

/* Sends that frame out as it is or as a GSO packet; no byte may change. */
static inline void out_as(
	struct frame *frame, struct __sk_buff *ctx, int verdict, enum espalier_reason reason)
{
	struct frame before = *frame;

	assert_int_equal(program_run(&guard, frame, ctx, sizeof(*ctx)), verdict);
	assert_int_equal(guard.reason, reason);
	assert_memory_equal(frame->bytes, before.bytes, before.size);
}

/* With so many segments. */
static inline void out(
	struct frame *frame, uint32_t segments, int verdict, enum espalier_reason reason)
{
	struct __sk_buff ctx = {.gso_segs = segments};

	out_as(frame, &ctx, verdict, reason);
}

static inline void esp_frame(struct frame *frame, uint32_t spi, uint32_t seq)
{
	frame_begin(frame, mac_peer, mac_outer[1], 0, ETH_P_IP);
	frame_ip(frame, CLUSTER, PEER, IPPROTO_ESP, 0);
	frame_esp(frame, spi, seq);
}

static inline void esp_out(
	uint32_t spi, uint32_t seq, uint32_t segments, int verdict, enum espalier_reason reason)
{
	struct frame frame;

	esp_frame(&frame, spi, seq);
	out(&frame, segments, verdict, reason);
}

static inline void sent(uint32_t seq, uint32_t segments)
{
	esp_out(SPI, seq, segments, PASS, ESPALIER_EMITTED);
}

static inline void stopped(uint32_t seq, uint32_t segments)
{
	struct espalier_counter before = get_counter(), after;

	esp_out(SPI, seq, segments, TC_ACT_SHOT, ESPALIER_GUARD_BLOCK);
	after = get_counter();
	assert_memory_equal(&before, &after, sizeof(before)); /* what is dropped does not count */
}

#endif
