/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The outer side: the view as it changes, odd frames, both hash modes, ARP. What becomes of each
 * kind of packet: test_packets.c. This is member 0 of 3.
 */
#include "program.h"
#include "steer.skel.h"

#include "packet.h"

static const uint8_t thirds[] = {0, 1, 2};
static struct program steer;

static void open_steer(struct program *p, enum espalier_hash hash)
{
	size_t size;
	const void *elf = steer_bpf__elf_bytes(&size);

	packet_open(p, hash, elf, size);
}

static int group_setup(void **state)
{
	(void)state;
	open_steer(&steer, ESPALIER_HASH_PREFIX);
	return 0;
}

static int group_teardown(void **state)
{
	(void)state;
	program_close(&steer);
	return 0;
}

static int setup(void **state)
{
	(void)state;
	program_set_view(&steer, 0, thirds, 3, 0, program_now());
	program_set_members(&steer, true);
	return 0;
}

static void esp_frame(struct frame *frame, const uint8_t from[6], uint32_t spi)
{
	packet_build(frame, "ip esp:0 data");
	memcpy(frame->bytes + 6, from, 6);
	spi = htonl(spi);
	memcpy(frame->bytes + 14 + 20, &spi, sizeof(spi));
}

/* Runs it; expects verdict and reason, and that not a byte has changed. */
static void untouched(
	struct program *p, struct frame *frame, int verdict, enum espalier_reason reason)
{
	struct frame before = *frame;

	assert_int_equal(program_run(p, frame, NULL, 0), verdict);
	assert_int_equal(p->reason, reason);
	assert_int_equal(frame->size, before.size);
	assert_memory_equal(frame->bytes, before.bytes, before.size);
}

/* Runs it; expects it on its way to that member, with nothing changed but the two MAC addresses. */
static void forwarded(struct program *p, struct frame *frame, int member)
{
	struct frame before = *frame;

	assert_int_equal(program_run(p, frame, NULL, 0), XDP_TX);
	assert_int_equal(p->reason, ESPALIER_FORWARDED);
	assert_memory_equal(frame->bytes, mac_outer[member], 6);
	assert_memory_equal(frame->bytes + 6, mac_outer[0], 6);
	assert_int_equal(frame->size, before.size);
	assert_memory_equal(frame->bytes + 12, before.bytes + 12, before.size - 12);
}

/* Ends of the SPI range: the first and the last bucket. */
static void test_range(void **state)
{
	struct frame frame;

	(void)state;
	esp_frame(&frame, mac_peer, 0x000fffff);
	untouched(&steer, &frame, XDP_PASS, ESPALIER_LOCAL); /* bucket 0 */
	esp_frame(&frame, mac_peer, 0xffffffff);
	untouched(&steer, &frame, XDP_PASS, ESPALIER_LOCAL); /* bucket 4095 = 3 * 1365 */
	esp_frame(&frame, mac_peer, 0xffe00000);
	forwarded(&steer, &frame, 2); /* bucket 4094 */
}

/* Each member's address makes it one hop; the other side's addresses are not members' here. */
static void test_from_member(void **state)
{
	struct frame frame;

	(void)state;
	for (int id = 0; id < 3; id++) {
		esp_frame(&frame, mac_outer[id], SPI_1);
		untouched(&steer, &frame, XDP_PASS, ESPALIER_ONE_HOP);
	}
	esp_frame(&frame, mac_inner[1], SPI_1);
	forwarded(&steer, &frame, 1);
}

static void test_no_such_owner(void **state)
{
	const uint8_t beyond = 200;
	struct frame frame;

	(void)state;
	program_set_view(&steer, 0, &beyond, 1, 0, program_now());
	esp_frame(&frame, mac_peer, SPI_0);
	untouched(&steer, &frame, XDP_PASS, ESPALIER_NO_NEXT_HOP);
}

/* Types and versions that do not agree, and headers that are none. */
static void test_odd_frames(void **state)
{
	static const struct {
		const char *packet;
		int offset;
		uint8_t byte; /* in place of what is there */
	} cases[] = {
		{"ip esp:1 data", 13, 0xdd}, {"ip esp:1 data", 14, 0x65}, /* IP version 6 */
		{"ip esp:1 data", 14, 0x44}, /* a header of 16 bytes */
		{"ip6 esp:1 data", 14, 0x45},
		{"vlan ip cut:20", 16, 0x81}, /* ends within a second tag */
	};
	/* unused entries of the settings, and near misses */
	static const char *const others[] = {
		"2001:db9::1", "2001:db8:0:2::2", "2001:db8:0:1::1", "::", "::ffff:192.0.2.1"};
	const uint32_t any = 0;
	struct frame frame;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		packet_build(&frame, cases[i].packet);
		frame.bytes[cases[i].offset] = cases[i].byte;
		untouched(&steer, &frame, XDP_PASS, ESPALIER_NOT_OURS);
	}
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		packet_build(&frame, "ip6 esp:1 data");
		assert_int_equal(inet_pton(AF_INET6, others[i], frame.bytes + 38), 1);
		untouched(&steer, &frame, XDP_PASS, ESPALIER_NOT_OURS);
	}
	esp_frame(&frame, mac_peer, SPI_1);
	memcpy(frame.bytes + 30, &any, sizeof(any));
	untouched(&steer, &frame, XDP_PASS, ESPALIER_NOT_OURS);
}

/* A frame of several buffers: the headers are in the first one. */
static void test_jumbo(void **state)
{
	static uint8_t in[9014], out[9014];
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = in, .data_size_in = sizeof(in),
		.data_out = out, .data_size_out = sizeof(out), .repeat = 1);
	struct frame frame;

	(void)state;
	packet_build(&frame, "ip6 options esp:1");
	for (size_t i = 0; i < sizeof(in); i++)
		in[i] = i < frame.size ? frame.bytes[i] : i * 7 + 3;
	assert_int_equal(bpf_prog_test_run_opts(steer.fd, &opts), 0);
	assert_int_equal(opts.retval, XDP_TX);
	assert_memory_equal(out, mac_outer[1], 6);
	assert_memory_equal(out + 6, mac_outer[0], 6);
	assert_memory_equal(out + 12, in + 12, sizeof(in) - 12);
	program_reasons(&steer, steer.said);
}

/* The takeover: what the other half says holds as soon as `active` says so. */
static void test_flip(void **state)
{
	const uint8_t mine = 0;
	struct frame frame;

	(void)state;
	program_set_view(&steer, 1, &mine, 1, 0, program_now());
	esp_frame(&frame, mac_peer, SPI_1);
	untouched(&steer, &frame, XDP_PASS, ESPALIER_LOCAL);
}

static void test_no_next_hop(void **state)
{
	struct espalier_member member = {
		.outer_mac = {2, 0, 0, 0, 1, 2}, .outer.mac = {2, 0, 0, 0, 1, 2}};
	struct frame frame;
	uint32_t id = 2;

	(void)state;
	program_set_members(&steer, false);
	esp_frame(&frame, mac_peer, SPI_2);
	untouched(&steer, &frame, XDP_PASS, ESPALIER_NO_NEXT_HOP);
	/* known, but it does not know us: it would send the packet on */
	assert_int_equal(
		bpf_map_update_elem(program_map(&steer, "members"), &id, &member, BPF_ANY), 0);
	untouched(&steer, &frame, XDP_PASS, ESPALIER_NO_NEXT_HOP);
	member.outer.kind = ESPALIER_HOP_LINK;
	assert_int_equal(
		bpf_map_update_elem(program_map(&steer, "members"), &id, &member, BPF_ANY), 0);
	forwarded(&steer, &frame, 2);
	esp_frame(&frame, mac_peer, SPI_1);
	forwarded(&steer, &frame, 1);
	/* our agent is dead, so its view is old */
	program_set_view(&steer, 0, thirds, 3, 0, program_now() - 61000000000);
	esp_frame(&frame, mac_peer, SPI_1);
	untouched(&steer, &frame, XDP_PASS, ESPALIER_NO_NEXT_HOP);
}

/* The agent has been silent: its view is old, so nothing is sent on; what is ours stays ours. */
static void test_dead_agent(void **state)
{
	struct frame frame;

	(void)state;
	program_set_view(&steer, 0, thirds, 3, 0, program_now() - 61000000000);
	esp_frame(&frame, mac_peer, SPI_1);
	untouched(&steer, &frame, XDP_PASS, ESPALIER_NO_NEXT_HOP);
	esp_frame(&frame, mac_peer, SPI_0);
	untouched(&steer, &frame, XDP_PASS, ESPALIER_LOCAL);
	program_set_view(&steer, 0, thirds, 3, 0, program_now() - 59000000000);
	esp_frame(&frame, mac_peer, SPI_1);
	forwarded(&steer, &frame, 1);
}

static bool is_sent_on(struct program *p)
{
	struct frame frame;

	esp_frame(&frame, mac_peer, SPI_1);
	if (program_run(p, &frame, NULL, 0) == XDP_TX)
		return true;
	assert_int_equal(p->reason, ESPALIER_NO_NEXT_HOP);
	return false;
}

static bool is_answered(struct program *p)
{
	struct frame frame;

	frame_arp(&frame, mac_broadcast, mac_peer, PEER, CLUSTER, 0);
	if (program_run(p, &frame, NULL, 0) == XDP_TX)
		return true;
	assert_int_equal(p->reason, ESPALIER_ARP_LEFT);
	return false;
}

static void test_lease(void **state)
{
	(void)state;
	program_lease_ends(&steer, thirds, 3, 0, is_sent_on);
	program_lease_ends(&steer, thirds, 3, 0, is_answered);
}

/* `mix`: the program and the agent agree on the bucket of any SPI. */
static void test_mix(void **state)
{
	struct program mix;
	struct frame frame;
	uint32_t spi = 1;
	int local = 0;

	(void)state;
	open_steer(&mix, ESPALIER_HASH_MIX);
	program_set_view(&mix, 0, thirds, 3, 0, program_now());
	program_set_members(&mix, true);
	for (int i = 0; i < 300; i++) {
		uint32_t owner = espalier_bucket(spi, ESPALIER_HASH_MIX) % 3;

		esp_frame(&frame, mac_peer, spi);
		if (owner)
			forwarded(&mix, &frame, owner);
		else
			untouched(&mix, &frame, XDP_PASS, ESPALIER_LOCAL);
		local += owner == 0;
		spi = spi * 1664525 + 1013904223;
	}
	assert_in_range(local, 60, 140);
	/* values computed elsewhere: the members of a cluster may be of different versions */
	assert_int_equal(espalier_bucket(1, ESPALIER_HASH_MIX), 0x688);
	for (int peer_initiated = 0; peer_initiated <= 1; peer_initiated++)
		assert_int_equal(
			espalier_ike_bucket(OUR_IKE, PEER_IKE, peer_initiated, ESPALIER_HASH_MIX),
			0x69a);
	packet_build(&frame, "ip udp:500 ike:auth data"); /* bucket 0x787 */
	forwarded(&mix, &frame, 1);
	program_close(&mix);
}

/* Local ESP and AH go to the CPU that their SPIs say, where there is one; nothing else does. */
static void test_spread(void **state)
{
	static const char *const alone[] = {"ip esp:1 data", "ip first:1 esp:0 data",
		"ip later:1 data:esp", "ip udp:500 ike:v1-first data", "ip first:1 ah:0 data",
		"ip6 first:1 udp:4500 esp:0 data", "ip udp:4500 keepalive"};
	static const char *const spread[] = {"ip esp:0 data", "ip6 esp:0 data",
		"ip udp:4500 esp:0 data", "ip6 options esp:0 data", "ip ah:0 data"};
	struct espalier_settings settings;
	struct bpf_cpumap_val cpu = {.qsize = 64};
	struct program steer_2;
	struct frame frame;
	uint64_t counted;
	const void *elf;
	uint32_t key;
	size_t size;
	int verdict;

	(void)state;
	packet_settings(&settings, ESPALIER_HASH_PREFIX);
	settings.cpus = 2;
	elf = steer_bpf__elf_bytes(&size);
	program_load(&steer_2, elf, size, &settings);
	program_set_view(&steer_2, 0, thirds, 3, 0, program_now());
	program_set_members(&steer_2, true);
	for (size_t i = 0; i < sizeof(spread) / sizeof(spread[0]); i++) {
		packet_build(&frame, spread[i]); /* no CPUs have been given */
		untouched(&steer_2, &frame, XDP_PASS, ESPALIER_LOCAL);
	}
	key = 0;
	assert_int_equal(
		bpf_map_update_elem(program_map(&steer_2, "cpus"), &key, &cpu, BPF_ANY), 0);
	for (size_t i = 0; i < sizeof(alone) / sizeof(alone[0]); i++) {
		packet_build(&frame, alone[i]);
		verdict = program_run(&steer_2, &frame, NULL, 0);
		assert_int_not_equal(verdict, XDP_REDIRECT);
	}
	for (uint32_t i = 0; i < 200; i++) { /* bucket 3072, of the CPUs one is there */
		esp_frame(&frame, mac_peer, SPI_0 + i);
		counted = espalier_bucket(SPI_0 + i, ESPALIER_HASH_MIX) % 2;
		verdict = program_run(&steer_2, &frame, NULL, 0);
		assert_int_equal(verdict, counted ? XDP_PASS : XDP_REDIRECT);
		assert_int_equal(steer_2.reason, counted ? ESPALIER_LOCAL : ESPALIER_LOCAL_SPREAD);
	}
	assert_in_range(steer_2.said[ESPALIER_LOCAL_SPREAD], 60, 140);
	program_said(&steer_2, IN_SPREAD);
	program_close(&steer_2);
}

static void arp_answered(struct frame *frame, int vlan_tags, const char *asker, const char *target)
{
	struct frame expected;
	struct arp_packet *arp =
		frame_arp(&expected, mac_peer, mac_outer[0], target, asker, vlan_tags);

	arp->operation = htons(2);
	memcpy(arp->target_mac, mac_peer, 6);
	assert_int_equal(program_run(&steer, frame, NULL, 0), XDP_TX);
	assert_int_equal(steer.reason, ESPALIER_ARP_ANSWERED);
	assert_memory_equal(frame->bytes, expected.bytes, expected.size);
}

static void test_arp_answered(void **state)
{
	struct frame frame;

	(void)state;
	for (int tags = 0; tags <= 2; tags++) {
		frame_arp(&frame, mac_broadcast, mac_peer, PEER, CLUSTER, tags);
		arp_answered(&frame, tags, PEER, CLUSTER);
	}
	frame_arp(&frame, mac_outer[0], mac_peer, PEER, CLUSTER_2,
		0); /* unicast: is it still there? */
	arp_answered(&frame, 0, PEER, CLUSTER_2);
	frame_arp(&frame, mac_broadcast, mac_peer, "0.0.0.0", CLUSTER, 0); /* RFC 5227 probe */
	arp_answered(&frame, 0, "0.0.0.0", CLUSTER);
}

static void test_arp_left(void **state)
{
	struct espalier_member unknown = {};
	struct frame frame;
	uint32_t self = 0;

	(void)state;
	program_set_view(&steer, 0, thirds, 3, 1, program_now()); /* member 1 answers */
	frame_arp(&frame, mac_broadcast, mac_peer, PEER, CLUSTER, 0);
	untouched(&steer, &frame, XDP_DROP, ESPALIER_ARP_LEFT);
	program_set_view(&steer, 0, thirds, 3, ESPALIER_NOBODY, program_now());
	untouched(&steer, &frame, XDP_DROP, ESPALIER_ARP_LEFT);
	program_set_view(&steer, 0, thirds, 3, 0, program_now() - 61000000000); /* agent dead */
	untouched(&steer, &frame, XDP_DROP, ESPALIER_ARP_LEFT);
	program_set_view(&steer, 0, thirds, 3, 0, program_now() + 1000000000); /* just stored */
	arp_answered(&frame, 0, PEER, CLUSTER);

	program_set_view(&steer, 0, thirds, 3, 0, program_now());
	frame_arp(&frame, mac_broadcast, mac_outer[1], CLUSTER, CLUSTER, 0); /* an announcement */
	untouched(&steer, &frame, XDP_DROP, ESPALIER_ARP_LEFT);
	assert_int_equal(
		bpf_map_update_elem(program_map(&steer, "members"), &self, &unknown, BPF_ANY), 0);
	frame_arp(&frame, mac_broadcast, mac_peer, PEER, CLUSTER, 0); /* own MAC not known yet */
	untouched(&steer, &frame, XDP_DROP, ESPALIER_ARP_LEFT);
}

static void test_arp_not_ours(void **state)
{
	struct arp_packet *arp;
	struct frame frame;

	(void)state;
	frame_arp(&frame, mac_broadcast, mac_peer, PEER, "192.0.2.3", 0);
	untouched(&steer, &frame, XDP_PASS, ESPALIER_NOT_OURS);
	frame_arp(&frame, mac_broadcast, mac_outer[1], "192.0.2.11", "192.0.2.10",
		0); /* a member asks */
	untouched(&steer, &frame, XDP_PASS, ESPALIER_NOT_OURS);
	arp = frame_arp(&frame, mac_broadcast, mac_peer, PEER, CLUSTER, 0);
	arp->operation = htons(2); /* a reply */
	untouched(&steer, &frame, XDP_PASS, ESPALIER_NOT_OURS);
	arp = frame_arp(&frame, mac_broadcast, mac_peer, PEER, CLUSTER, 0);
	arp->hardware_size = 8;
	untouched(&steer, &frame, XDP_PASS, ESPALIER_NOT_OURS);
	frame_arp(&frame, mac_broadcast, mac_peer, PEER, CLUSTER, 0);
	frame.size = 14 + 27;
	untouched(&steer, &frame, XDP_PASS, ESPALIER_NOT_OURS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_range, setup),
		cmocka_unit_test_setup(test_from_member, setup),
		cmocka_unit_test_setup(test_no_such_owner, setup),
		cmocka_unit_test_setup(test_odd_frames, setup),
		cmocka_unit_test_setup(test_jumbo, setup),
		cmocka_unit_test_setup(test_flip, setup),
		cmocka_unit_test_setup(test_no_next_hop, setup),
		cmocka_unit_test_setup(test_dead_agent, setup),
		cmocka_unit_test_setup(test_lease, setup),
		cmocka_unit_test_setup(test_spread, setup),
		cmocka_unit_test_setup(test_mix, setup),
		cmocka_unit_test_setup(test_arp_answered, setup),
		cmocka_unit_test_setup(test_arp_left, setup),
		cmocka_unit_test_setup(test_arp_not_ours, setup),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
