/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The never-repeat rule on the way out: every verdict of guard.bpf.c. This is member 1 of 3; blocks
 * have 2^16 numbers.
 */
#include "program.h"
#include "guard.skel.h"

#include <linux/pkt_cls.h>
#include <pthread.h>

#define CLUSTER "192.0.2.1"
#define CLUSTER6 "2001:db8::1"
#define PEER "198.51.100.7"
#define PEER6 "2001:db8:7::7"
#define SPI 0x11223344
#define SLOT 7
#define BUCKET 31 /* member 1's */
#define PASS ((int)TC_ACT_UNSPEC)
#define K 65536ULL

static const uint8_t thirds[] = {0, 1, 2};
static struct program guard;

static int group_setup(void **state)
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

static int group_teardown(void **state)
{
	(void)state;
	program_close(&guard);
	return 0;
}

/* The SA with that SPI to PEER, or to PEER6. */
static void set_sa_of(
	int family, uint64_t first_0, uint64_t last_0, uint64_t first_1, uint64_t last_1)
{
	struct espalier_sa_key key = {.spi = htonl(SPI), .family = (uint8_t)family};
	struct espalier_sa sa = {.open = {{first_0, last_0}, {first_1, last_1}},
		.slot = SLOT,
		.bucket = BUCKET,
		.direction = ESPALIER_OUT};

	assert_int_equal(inet_pton(family, family == AF_INET ? PEER : PEER6, key.daddr), 1);
	assert_int_equal(bpf_map_update_elem(program_map(&guard, "sas"), &key, &sa, BPF_F_LOCK), 0);
}

static void set_sa(uint64_t first_0, uint64_t last_0, uint64_t first_1, uint64_t last_1)
{
	set_sa_of(AF_INET, first_0, last_0, first_1, last_1);
}

static void set_counter(uint64_t seq, uint64_t packets)
{
	struct espalier_counter counter = {.seq = seq, .packets = packets};
	uint32_t slot = SLOT;

	assert_int_equal(
		bpf_map_update_elem(program_map(&guard, "counters"), &slot, &counter, BPF_ANY), 0);
}

static struct espalier_counter get_counter(void)
{
	struct espalier_counter counter;
	uint32_t slot = SLOT;

	assert_int_equal(bpf_map_lookup_elem(program_map(&guard, "counters"), &slot, &counter), 0);
	return counter;
}

/* Block 1 and block 4 are open: this member's first, and the next one (4 mod 4 is not asked here).
 */
static int setup(void **state)
{
	(void)state;
	program_set_view(&guard, 0, thirds, 3, 0, 0);
	set_sa(4 * K, 5 * K - 1, K, 2 * K - 1);
	set_counter(0, 0);
	return 0;
}

/* Sends that frame out as it is or as a GSO packet; no byte may change. */
static void out_as(
	struct frame *frame, struct __sk_buff *ctx, int verdict, enum espalier_reason reason)
{
	struct frame before = *frame;

	assert_int_equal(program_run(&guard, frame, ctx, sizeof(*ctx)), verdict);
	assert_int_equal(guard.reason, reason);
	assert_memory_equal(frame->bytes, before.bytes, before.size);
}

/* With so many segments. */
static void out(struct frame *frame, uint32_t segments, int verdict, enum espalier_reason reason)
{
	struct __sk_buff ctx = {.gso_segs = segments};

	out_as(frame, &ctx, verdict, reason);
}

static void esp_frame(struct frame *frame, uint32_t spi, uint32_t seq)
{
	frame_begin(frame, mac_peer, mac_outer[1], 0, ETH_P_IP);
	frame_ip(frame, CLUSTER, PEER, IPPROTO_ESP, 0);
	frame_esp(frame, spi, seq);
}

static void udp_frame(struct frame *frame, uint16_t port, uint32_t spi, uint32_t seq)
{
	frame_begin(frame, mac_peer, mac_outer[1], 0, ETH_P_IP);
	frame_ip(frame, CLUSTER, PEER, IPPROTO_UDP, 0);
	frame_udp(frame, port, 4500, 72);
	frame_esp(frame, spi, seq);
}

static void esp_out(
	uint32_t spi, uint32_t seq, uint32_t segments, int verdict, enum espalier_reason reason)
{
	struct frame frame;

	esp_frame(&frame, spi, seq);
	out(&frame, segments, verdict, reason);
}

static void sent(uint32_t seq, uint32_t segments)
{
	esp_out(SPI, seq, segments, PASS, ESPALIER_EMITTED);
}

static void stopped(uint32_t seq, uint32_t segments)
{
	struct espalier_counter before = get_counter(), after;

	esp_out(SPI, seq, segments, TC_ACT_SHOT, ESPALIER_GUARD_BLOCK);
	after = get_counter();
	assert_memory_equal(&before, &after, sizeof(before)); /* what is dropped does not count */
}

static void test_blocks(void **state)
{
	(void)state;
	stopped(0, 0);
	stopped(K - 1, 0);
	sent(K, 0);
	sent(2 * K - 1, 0);
	stopped(2 * K, 0);
	stopped(4 * K - 1, 0);
	sent(4 * K, 0);
	sent(5 * K - 1, 1);
	stopped(5 * K, 0);
	stopped(UINT32_MAX, 0);
	assert_int_equal(get_counter().seq, 5 * K - 1);
	assert_int_equal(get_counter().packets, 4);
}

static void test_empty(void **state)
{
	(void)state;
	set_sa(1, 0, 1, 0);
	stopped(0, 0);
	stopped(1, 0);
	stopped(1, 2);
	stopped(UINT32_MAX, 2);
}

/* All segments of a GSO packet, not the first one alone. */
static void test_gso(void **state)
{
	(void)state;
	sent(K, 45);
	assert_int_equal(get_counter().seq, K + 44);
	assert_int_equal(get_counter().packets, 45);
	sent(2 * K - 45, 45);
	stopped(2 * K - 45, 46); /* the last one is in another member's block */
	stopped(2 * K - 1, 2);
	stopped(K - 1, 2);
	stopped(4 * K - 1, 2);
	sent(5 * K - 2, 2);
	stopped(5 * K - 2, 3);
	sent(K, 65535);
	assert_int_equal(get_counter().seq, 5 * K - 1);
	assert_int_equal(get_counter().packets, 45 + 45 + 2 + 65535);
}

/* More segments than all that is open, and not known how many: none of them leaves. */
static void test_gso_too_many(void **state)
{
	struct __sk_buff ctx = {.gso_size = 1400};
	struct frame frame;

	(void)state;
	set_sa(4 * K + 64, 4 * K + 127, 4 * K, 4 * K + 63);
	sent(4 * K, 128);
	stopped(4 * K, 129);
	stopped(4 * K, 65535);
	esp_frame(&frame, SPI, 4 * K + 5);
	out_as(&frame, &ctx, TC_ACT_SHOT, ESPALIER_GUARD_GSO);
	esp_frame(&frame, SPI + 1, 5); /* new, in block 0 */
	out_as(&frame, &ctx, TC_ACT_SHOT, ESPALIER_GUARD_GSO);
	udp_frame(&frame, 53, SPI + 1, 5); /* perhaps not ESP at all */
	out_as(&frame, &ctx, PASS, ESPALIER_UNGUARDED);
	ctx.gso_segs = 2;
	esp_frame(&frame, SPI, 4 * K + 5);
	out_as(&frame, &ctx, PASS, ESPALIER_EMITTED);
}

/* Two open blocks side by side: a GSO packet may lie across. */
static void test_gso_across(void **state)
{
	(void)state;
	set_sa(2 * K, 3 * K - 1, K, 2 * K - 1);
	sent(2 * K - 1, 2);
	assert_int_equal(get_counter().seq, 2 * K);
	sent(2 * K - 20, 45);
	assert_int_equal(get_counter().seq, 2 * K + 24);
	assert_int_equal(get_counter().packets, 47);
	stopped(3 * K - 20, 21);
	stopped(K - 1, 45);
}

/* With ESN the header has the low 32 bits; the window tells the rest. */
static void test_esn(void **state)
{
	const uint64_t high = 5ULL << 32;

	(void)state;
	set_sa(high + 4 * K, high + 5 * K - 1, 1, 0);
	sent(4 * K + 9, 0);
	assert_int_equal(get_counter().seq, high + 4 * K + 9);
	stopped(5 * K, 0);
	/* across the border of 2^32 */
	set_sa(high, high + K - 1, high - K, high - 1);
	sent(UINT32_MAX - 1, 0);
	assert_int_equal(get_counter().seq, high + 4 * K + 9);
	set_counter(0, 0);
	sent(UINT32_MAX - 1, 4);
	assert_int_equal(get_counter().seq, high + 1);
	sent(0, 1);
	assert_int_equal(get_counter().seq, high + 1);
	stopped(K, 0);
	stopped((uint32_t)-K - 1, 0);
	/* the last block there is */
	set_sa(UINT64_MAX - K + 1, UINT64_MAX, 1, 0);
	sent(UINT32_MAX, 1);
	assert_int_equal(get_counter().seq, UINT64_MAX);
	stopped(UINT32_MAX, 2);
	stopped(0, 0);
}

static void test_not_owner(void **state)
{
	const uint8_t zero = 0, nobody = ESPALIER_NOBODY;

	(void)state;
	program_set_view(&guard, 1, &zero, 1, 0, 0);
	esp_out(SPI, K, 0, TC_ACT_SHOT, ESPALIER_GUARD_NOT_OWNER);
	program_set_view(&guard, 1, &nobody, 1, 0, 0);
	esp_out(SPI, K, 0, TC_ACT_SHOT, ESPALIER_GUARD_NOT_OWNER);
	assert_int_equal(get_counter().packets, 0);
}

/* An SA that the agent has not seen yet is new, created here: block 0 and nothing else. */
static void test_unknown(void **state)
{
	(void)state;
	esp_out(SPI + 1, 1, 0, PASS, ESPALIER_EMITTED_NEW);
	esp_out(SPI + 1, K - 45, 45, PASS, ESPALIER_EMITTED_NEW);
	esp_out(SPI + 1, K - 45, 46, TC_ACT_SHOT, ESPALIER_GUARD_UNKNOWN);
	esp_out(SPI + 1, K, 0, TC_ACT_SHOT, ESPALIER_GUARD_UNKNOWN);
	esp_out(SPI + 1, UINT32_MAX, 2, TC_ACT_SHOT, ESPALIER_GUARD_UNKNOWN);
}

/* Nobody else has it: whatever the view and however far it is. */
static void test_local(void **state)
{
	struct espalier_sa_key key = {.spi = htonl(SPI + 2), .family = AF_INET};
	const struct espalier_sa sa = {
		.open = {{1, 0}, {1, 0}}, .slot = ESPALIER_SLOT_LOCAL, .direction = ESPALIER_OUT};
	const uint8_t nobody = ESPALIER_NOBODY;
	struct frame frame;

	(void)state;
	assert_int_equal(inet_pton(AF_INET, PEER, key.daddr), 1);
	esp_out(SPI + 2, K, 0, TC_ACT_SHOT, ESPALIER_GUARD_UNKNOWN);
	assert_int_equal(bpf_map_update_elem(program_map(&guard, "sas"), &key, &sa, BPF_F_LOCK), 0);
	program_set_view(&guard, 1, &nobody, 1, 0, 0);
	esp_out(SPI + 2, 1, 0, PASS, ESPALIER_EMITTED_LOCAL);
	esp_out(SPI + 2, K - 45, 46, PASS, ESPALIER_EMITTED_LOCAL);
	esp_out(SPI + 2, UINT32_MAX, 2, PASS, ESPALIER_EMITTED_LOCAL);
	udp_frame(&frame, 4501, SPI + 2, 7 * K);
	out(&frame, 0, PASS, ESPALIER_EMITTED_LOCAL);
	esp_out(SPI + 3, K, 0, TC_ACT_SHOT, ESPALIER_GUARD_UNKNOWN);
	assert_int_equal(bpf_map_delete_elem(program_map(&guard, "sas"), &key), 0);
	esp_out(SPI + 2, K, 0, TC_ACT_SHOT, ESPALIER_GUARD_UNKNOWN);
}

static void carry(const char *peer, uint32_t seq)
{
	struct espalier_proof proof = {
		.key = {.spi = htonl(SPI), .family = AF_INET}, .seq = htonl(seq)};
	uint8_t yes = 1;

	assert_int_equal(inet_pton(AF_INET, peer, proof.key.daddr), 1);
	assert_int_equal(
		bpf_map_update_elem(program_map(&guard, "carriers"), &proof.key, &yes, BPF_ANY), 0);
	assert_int_equal(
		bpf_map_update_elem(program_map(&guard, "proofs"), &proof, &yes, BPF_ANY), 0);
}

/* An SA that has carried ESP of the cluster: each packet needs a proof, and its number may leave.
 */
static void test_carrier(void **state)
{
	struct espalier_view *view = program_view(&guard);
	struct frame frame;

	(void)state;
	carry(PEER, K + 1);
	carry(PEER, 2 * K);
	sent(K, 0); /* nobody looks there */
	view->nested = 1;
	program_keep_view(&guard, view);
	esp_out(SPI, K, 0, TC_ACT_SHOT, ESPALIER_GUARD_INNER);
	sent(K + 1, 0);
	sent(K + 1, 0); /* by another interface */
	stopped(2 * K, 0);
	esp_out(SPI + 1, K + 1, 0, TC_ACT_SHOT, ESPALIER_GUARD_UNKNOWN);
	/* of an SA that is not the cluster's */
	frame_begin(&frame, mac_peer, mac_outer[1], 0, ETH_P_IP);
	frame_ip(&frame, "10.9.9.9", "10.8.8.8", IPPROTO_ESP, 0);
	frame_esp(&frame, SPI, 2);
	out(&frame, 0, PASS, ESPALIER_UNGUARDED);
	carry("10.8.8.8", 1);
	out(&frame, 0, TC_ACT_SHOT, ESPALIER_GUARD_INNER);
	carry("10.8.8.8", 2);
	out(&frame, 0, PASS, ESPALIER_UNGUARDED);
}

static void test_esp_in_udp(void **state)
{
	struct frame frame;

	(void)state;
	udp_frame(&frame, 4500, SPI, K);
	out(&frame, 0, PASS, ESPALIER_EMITTED);
	udp_frame(&frame, 4500, SPI, 2 * K);
	out(&frame, 0, TC_ACT_SHOT, ESPALIER_GUARD_BLOCK);
	udp_frame(&frame, 4500, 0, 2 * K); /* IKE */
	out(&frame, 0, PASS, ESPALIER_UNGUARDED);
	udp_frame(&frame, 500, SPI, 2 * K); /* from any port, if such an SA is known */
	out(&frame, 0, TC_ACT_SHOT, ESPALIER_GUARD_BLOCK);
	udp_frame(&frame, 500, SPI + 1, 2 * K);
	out(&frame, 0, PASS, ESPALIER_UNGUARDED);
	frame_begin(&frame, mac_peer, mac_outer[1], 0, ETH_P_IP);
	frame_ip(&frame, CLUSTER, PEER, IPPROTO_UDP, 0);
	frame_transport(&frame, transport_find("keepalive"), SPI, 2 * K);
	frame.size = 14 + 20 + 8 + 1;
	out(&frame, 0, PASS, ESPALIER_UNGUARDED);
	udp_frame(&frame, 4500, SPI, 2 * K);
	for (frame.size = 14 + 20; frame.size < 14 + 20 + 8 + 8; frame.size++)
		out(&frame, 0, TC_ACT_SHOT, ESPALIER_GUARD_MALFORMED);
}

static void test_options_and_fragments(void **state)
{
	struct frame frame;
	struct iphdr *ip;

	(void)state;
	frame_begin(&frame, mac_peer, mac_outer[1], 0, ETH_P_IP);
	ip = frame_ip(&frame, CLUSTER, PEER, IPPROTO_ESP, 10);
	frame_esp(&frame, SPI, 2 * K);
	out(&frame, 0, TC_ACT_SHOT, ESPALIER_GUARD_BLOCK);
	ip->frag_off = htons(0x2000); /* a first fragment has the header */
	out(&frame, 0, TC_ACT_SHOT, ESPALIER_GUARD_BLOCK);
	ip->frag_off = htons(185);
	out(&frame, 0, PASS, ESPALIER_UNGUARDED);
}

/* A policy may ask for ESP in AH. */
static void test_esp_in_ah(void **state)
{
	const uint8_t ah[20] = {IPPROTO_ESP, 3};
	struct frame frame;

	(void)state;
	frame_begin(&frame, mac_peer, mac_outer[1], 0, ETH_P_IP);
	frame_ip(&frame, CLUSTER, PEER, IPPROTO_AH, 0);
	frame_add(&frame, ah, sizeof(ah));
	frame_esp(&frame, SPI, 2 * K);
	out(&frame, 0, TC_ACT_SHOT, ESPALIER_GUARD_BLOCK);
	frame.size = 14 + 20 + 20 + 7;
	out(&frame, 0, TC_ACT_SHOT, ESPALIER_GUARD_MALFORMED);
}

/* IPv6: what is behind its header, what becomes of it with a number of ours, and with another. */
static void test_ip6(void **state)
{
	static const struct {
		const char *what;
		uint32_t size; /* of what is behind the IPv6 header, 0: all */
		enum espalier_reason reason, foreign;
	} cases[] = {
		{"esp", 0, ESPALIER_EMITTED, ESPALIER_GUARD_BLOCK},
		{"esp", 8, ESPALIER_EMITTED, ESPALIER_GUARD_BLOCK},
		{"esp", 7, ESPALIER_GUARD_MALFORMED, ESPALIER_GUARD_MALFORMED},
		{"hop-by-hop esp", 0, ESPALIER_EMITTED, ESPALIER_GUARD_BLOCK},
		{"routing esp", 0, ESPALIER_EMITTED, ESPALIER_GUARD_BLOCK},
		{"options esp", 0, ESPALIER_EMITTED, ESPALIER_GUARD_BLOCK},
		{"ah esp", 0, ESPALIER_EMITTED, ESPALIER_GUARD_BLOCK},
		{"fragment esp", 0, ESPALIER_EMITTED, ESPALIER_GUARD_BLOCK},
		{"hop-by-hop options routing fragment ah options esp", 0, ESPALIER_EMITTED,
			ESPALIER_GUARD_BLOCK},
		{"hop-by-hop esp", 3, ESPALIER_GUARD_MALFORMED, ESPALIER_GUARD_MALFORMED},
		{"hop-by-hop esp", 16, ESPALIER_GUARD_MALFORMED, ESPALIER_GUARD_MALFORMED},
		{"hop-by-hop esp", 16 + 7, ESPALIER_GUARD_MALFORMED, ESPALIER_GUARD_MALFORMED},
		{"fragment options esp", 16, ESPALIER_GUARD_MALFORMED, ESPALIER_GUARD_MALFORMED},
		{"later-fragment esp", 0, ESPALIER_UNGUARDED, ESPALIER_UNGUARDED},
		{"esp-in-udp", 0, ESPALIER_EMITTED, ESPALIER_GUARD_BLOCK},
		{"esp-in-jumbo-udp", 0, ESPALIER_EMITTED, ESPALIER_GUARD_BLOCK},
		{"options routing esp-in-udp", 0, ESPALIER_EMITTED, ESPALIER_GUARD_BLOCK},
		{"fragment esp-in-udp", 8 + 8, ESPALIER_GUARD_MALFORMED, ESPALIER_GUARD_MALFORMED},
		{"ike", 0, ESPALIER_UNGUARDED, ESPALIER_UNGUARDED},
		{"keepalive", 8 + 1, ESPALIER_UNGUARDED, ESPALIER_UNGUARDED},
		{"udp", 0, ESPALIER_EMITTED, ESPALIER_GUARD_BLOCK},
		{"options tcp", 0, ESPALIER_UNGUARDED, ESPALIER_UNGUARDED},
		{"none", 1, ESPALIER_UNGUARDED, ESPALIER_UNGUARDED},
	};
	struct frame frame;

	(void)state;
	set_sa_of(AF_INET6, K, 2 * K - 1, 1, 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (int foreign = 0; foreign < 2; foreign++) {
			enum espalier_reason reason = foreign ? cases[i].foreign : cases[i].reason;
			bool passes = reason == ESPALIER_EMITTED || reason == ESPALIER_UNGUARDED;
			uint32_t begin;

			frame_begin(&frame, mac_peer, mac_outer[1], 0, ETH_P_IPV6);
			begin = frame_ip6(
				&frame, CLUSTER6, PEER6, cases[i].what, SPI, K + K * foreign);
			if (cases[i].size)
				frame.size = begin + cases[i].size;
			if (program_run(&guard, &frame, NULL, 0) != (passes ? PASS : TC_ACT_SHOT) ||
				guard.reason != reason)
				fail_msg("%s, %u bytes", cases[i].what, frame.size);
		}
}

static void ip6_out(const char *from, const char *to, uint32_t seq, uint32_t segments, int verdict,
	enum espalier_reason reason)
{
	struct frame frame;

	frame_begin(&frame, mac_peer, mac_outer[1], 0, ETH_P_IPV6);
	frame_ip6(&frame, from, to, "esp", SPI, seq);
	out(&frame, segments, verdict, reason);
}

/* The same SPI in both families: two SAs. */
static void test_ip6_other_sas(void **state)
{
	(void)state;
	set_sa_of(AF_INET6, 9 * K, 10 * K - 1, 1, 0);
	ip6_out(CLUSTER6, PEER6, 9 * K, 45, PASS, ESPALIER_EMITTED);
	assert_int_equal(get_counter().seq, 9 * K + 44);
	assert_int_equal(get_counter().packets, 45);
	ip6_out(CLUSTER6, PEER6, 10 * K - 44, 45, TC_ACT_SHOT, ESPALIER_GUARD_BLOCK);
	ip6_out(CLUSTER6, PEER6, K, 0, TC_ACT_SHOT, ESPALIER_GUARD_BLOCK);
	stopped(9 * K, 0);
	ip6_out(CLUSTER6, "2001:db8:7::8", K, 0, TC_ACT_SHOT, ESPALIER_GUARD_UNKNOWN);
	ip6_out(CLUSTER6, "2001:db8:7::8", 1, 0, PASS, ESPALIER_EMITTED_NEW);
	ip6_out("2001:db8::2", PEER6, K, 0, PASS, ESPALIER_UNGUARDED);
	ip6_out("::", PEER6, K, 0, PASS, ESPALIER_UNGUARDED);
}

static void test_malformed(void **state)
{
	struct frame frame;

	(void)state;
	esp_frame(&frame, SPI, K);
	for (frame.size = 14 + 20; frame.size < 14 + 20 + 8; frame.size++)
		out(&frame, 0, TC_ACT_SHOT, ESPALIER_GUARD_MALFORMED);
	out(&frame, 0, PASS, ESPALIER_EMITTED);
}

static void test_unguarded(void **state)
{
	struct frame frame;

	(void)state;
	frame_begin(&frame, mac_peer, mac_outer[1], 0, ETH_P_IP); /* from another address */
	frame_ip(&frame, "192.0.2.5", PEER, IPPROTO_ESP, 0);
	frame_esp(&frame, SPI, 2 * K);
	out(&frame, 0, PASS, ESPALIER_UNGUARDED);
	frame_begin(&frame, mac_peer, mac_outer[1], 0, ETH_P_IP);
	frame_ip(&frame, CLUSTER, PEER, IPPROTO_TCP, 0);
	frame_esp(&frame, SPI, 2 * K);
	out(&frame, 0, PASS, ESPALIER_UNGUARDED);
	frame_arp(&frame, mac_broadcast, mac_outer[1], CLUSTER, CLUSTER, 0);
	out(&frame, 0, PASS, ESPALIER_UNGUARDED);
}

static int on_event(void *ctx, void *data, size_t size)
{
	struct espalier_event *events = ctx;

	assert_int_equal(size, sizeof(*events));
	assert_in_range(events[0].slot, 0, 14);
	memcpy(&events[++events[0].slot], data, size);
	return 0;
}

/* One event when the middle of the block entered last is crossed, by whatever packet; one when a
 * packet is in no block. */
static void test_wake(void **state)
{
	struct espalier_event events[16] = {}; /* the first one counts the others */
	struct ring_buffer *ring =
		ring_buffer__new(program_map(&guard, "wake"), on_event, events, NULL);
	const uint64_t middle = 4 * K + K / 2 - 1;

	(void)state;
	assert_non_null(ring);
	ring_buffer__consume(ring); /* of the tests before */
	memset(events, 0, sizeof(events));
	setup(NULL);

	sent(2 * K - 1, 0); /* the end of the block before is not the middle of this one */
	sent(middle - 1, 0);
	assert_int_equal(ring_buffer__consume(ring), 0);
	sent(middle, 0);
	sent(middle + 1, 0);
	sent(middle - 5, 0); /* out of order: no news */
	assert_int_equal(ring_buffer__consume(ring), 1);
	assert_int_equal(events[1].kind, ESPALIER_BLOCK_LOW);
	assert_int_equal(events[1].slot, SLOT);
	assert_int_equal(events[1].seq, middle);

	set_counter(4 * K, 1);
	sent(middle - 40, 45); /* crossed within a GSO packet */
	assert_int_equal(ring_buffer__consume(ring), 1);
	assert_int_equal(events[2].seq, middle + 4);

	stopped(8 * K, 0);
	stopped(8 * K + 1, 0); /* one is told at a time */
	assert_int_equal(ring_buffer__consume(ring), 1);
	assert_int_equal(events[3].kind, ESPALIER_BLOCK_OUT);
	assert_int_equal(events[3].slot, SLOT);
	ring_buffer__free(ring);
}

static uint64_t run_many(const struct frame *frame, int repeat)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame->bytes, .data_size_in = frame->size,
		.repeat = repeat);

	return bpf_prog_test_run_opts(guard.fd, &opts) ? UINT64_MAX : opts.retval;
}

static void *send_rising(void *ctx)
{
	struct frame frame;

	for (uint32_t i = 0; i < 50; i++) {
		esp_frame(&frame, SPI, 4 * K + *(uint32_t *)ctx + 2 * i);
		if (run_many(&frame, 20000) != (uint32_t)PASS)
			return "refused";
	}
	return NULL;
}

/* Two CPUs send through one SA: no packet goes uncounted, and the highest number is the highest. */
static void test_two_cpus(void **state)
{
	uint32_t even = 0, odd = 1;
	void *result = NULL;
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, send_rising, &even), 0);
	assert_null(send_rising(&odd));
	assert_int_equal(pthread_join(thread, &result), 0);
	assert_null(result);
	assert_int_equal(get_counter().packets, 2 * 50 * 20000);
	assert_int_equal(get_counter().seq, 4 * K + 99);
	program_reasons(&guard, guard.said);
}

static void test_said_all(void **state)
{
	(void)state;
	program_said_all(&guard, IN_GUARD);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_blocks, setup),
		cmocka_unit_test_setup(test_empty, setup),
		cmocka_unit_test_setup(test_gso, setup),
		cmocka_unit_test_setup(test_gso_too_many, setup),
		cmocka_unit_test_setup(test_gso_across, setup),
		cmocka_unit_test_setup(test_esn, setup),
		cmocka_unit_test_setup(test_not_owner, setup),
		cmocka_unit_test_setup(test_unknown, setup),
		cmocka_unit_test_setup(test_local, setup),
		cmocka_unit_test_setup(test_carrier, setup),
		cmocka_unit_test_setup(test_esp_in_udp, setup),
		cmocka_unit_test_setup(test_options_and_fragments, setup),
		cmocka_unit_test_setup(test_esp_in_ah, setup),
		cmocka_unit_test_setup(test_ip6, setup),
		cmocka_unit_test_setup(test_ip6_other_sas, setup),
		cmocka_unit_test_setup(test_malformed, setup),
		cmocka_unit_test_setup(test_unguarded, setup),
		cmocka_unit_test_setup(test_wake, setup),
		cmocka_unit_test_setup(test_two_cpus, setup),
		cmocka_unit_test(test_said_all),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
