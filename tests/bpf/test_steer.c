/* SPDX-License-Identifier: BSD-2-Clause */
/* The outer side: every verdict of steer.bpf.c, in both hash modes. This is member 0 of 3. */
#include "program.h"
#include "steer.skel.h"

#define CLUSTER "192.0.2.1"
#define CLUSTER_2 "192.0.2.2"
#define CLUSTER6 "2001:db8::1"
#define CLUSTER6_2 "2001:db8:0:2::1"
#define PEER "198.51.100.7"
#define PEER6 "2001:db8:7::7"

/* Bucket i belongs to member i % 3, so with `prefix` these are member 0's, 1's and 2's. */
#define SPI_0 0xc0000123 /* bucket 3072 */
#define SPI_1 0xc0100456 /* 3073 */
#define SPI_2 0xc0200789 /* 3074 */

static const uint8_t thirds[] = {0, 1, 2};
static struct program steer;

static int open_steer(struct program *p, enum espalier_hash hash)
{
	struct espalier_settings settings = {.cluster = {inet_addr(CLUSTER), inet_addr(CLUSTER_2)},
		.self = 0,
		.members = 3,
		.hash = hash,
		.block_bits = 16};
	const void *elf;
	size_t size;

	inet_pton(AF_INET6, CLUSTER6, settings.cluster6[0]);
	inet_pton(AF_INET6, CLUSTER6_2, settings.cluster6[7]);
	elf = steer_bpf__elf_bytes(&size);
	program_load(p, elf, size, &settings);
	return 0;
}

static int group_setup(void **state)
{
	(void)state;
	return open_steer(&steer, ESPALIER_HASH_PREFIX);
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
	frame_begin(frame, mac_outer[0], from, 0, ETH_P_IP);
	frame_ip(frame, PEER, CLUSTER, IPPROTO_ESP, 0);
	frame_esp(frame, spi, 1);
}

/* Runs it; expects verdict and reason, and that not a byte has changed. */
static void untouched(
	struct program *p, struct frame *frame, int verdict, enum espalier_reason reason)
{
	struct frame before = *frame;

	assert_int_equal(program_run(p, frame, NULL, 0), verdict);
	assert_int_equal(p->reason, reason);
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
	assert_memory_equal(frame->bytes + 12, before.bytes + 12, before.size - 12);
}

/* That verdict; where it is to be sent on: to member 1. */
static void became(struct frame *frame, const char *what, enum espalier_reason reason)
{
	struct frame before = *frame;
	int verdict = program_run(&steer, frame, NULL, 0);

	if (steer.reason != reason)
		print_error("%s, %u bytes\n", what, frame->size);
	assert_int_equal(steer.reason, reason);
	*frame = before;
	if (reason == ESPALIER_FORWARDED)
		forwarded(&steer, frame, 1);
	else
		assert_int_equal(verdict, reason == ESPALIER_MALFORMED ? XDP_DROP : XDP_PASS);
}

static void test_owner(void **state)
{
	struct frame frame;

	(void)state;
	esp_frame(&frame, mac_peer, SPI_0);
	untouched(&steer, &frame, XDP_PASS, ESPALIER_LOCAL);
	esp_frame(&frame, mac_peer, SPI_1);
	forwarded(&steer, &frame, 1);
	esp_frame(&frame, mac_peer, SPI_2);
	forwarded(&steer, &frame, 2);
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

static void test_second_address(void **state)
{
	struct frame frame;

	(void)state;
	frame_begin(&frame, mac_outer[0], mac_peer, 0, ETH_P_IP);
	frame_ip(&frame, PEER, CLUSTER_2, IPPROTO_ESP, 0);
	frame_esp(&frame, SPI_1, 1);
	forwarded(&steer, &frame, 1);
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

static void test_options_and_vlan(void **state)
{
	struct frame frame;

	(void)state;
	for (int tags = 0; tags <= 2; tags++)
		for (unsigned int options = 0; options <= 10; options += 5) {
			frame_begin(&frame, mac_outer[0], mac_peer, tags, ETH_P_IP);
			frame_ip(&frame, PEER, CLUSTER, IPPROTO_ESP, options);
			frame_esp(&frame, SPI_2, 1);
			forwarded(&steer, &frame, 2);
		}
	frame_begin(&frame, mac_outer[0], mac_peer, 3, ETH_P_IP);
	frame_ip(&frame, PEER, CLUSTER, IPPROTO_ESP, 0);
	frame_esp(&frame, SPI_2, 1);
	untouched(&steer, &frame, XDP_PASS, ESPALIER_NOT_OURS);
	frame_begin(&frame, mac_outer[0], mac_peer, 1, ETH_P_IP); /* ends within the second tag */
	frame.bytes[16] = 0x81;
	frame.bytes[17] = 0x00;
	untouched(&steer, &frame, XDP_PASS, ESPALIER_NOT_OURS);
}

static void test_one_hop(void **state)
{
	struct frame frame;

	(void)state;
	for (int id = 0; id < 3; id++) {
		esp_frame(&frame, mac_outer[id], SPI_1);
		untouched(&steer, &frame, XDP_PASS, ESPALIER_ONE_HOP);
		esp_frame(&frame, mac_outer[id], SPI_0);
		untouched(&steer, &frame, XDP_PASS, ESPALIER_LOCAL);
	}
	esp_frame(
		&frame, mac_inner[1], SPI_1); /* the other side's address is not a member's here */
	forwarded(&steer, &frame, 1);
}

static void test_no_owner(void **state)
{
	const uint8_t nobody = ESPALIER_NOBODY, beyond = 200;
	struct frame frame;

	(void)state;
	program_set_view(&steer, 0, &nobody, 1, 0, program_now());
	esp_frame(&frame, mac_peer, SPI_0);
	untouched(&steer, &frame, XDP_DROP, ESPALIER_NO_OWNER);
	program_set_view(&steer, 0, &beyond, 1, 0, program_now()); /* no such member */
	esp_frame(&frame, mac_peer, SPI_0);
	untouched(&steer, &frame, XDP_PASS, ESPALIER_NO_NEXT_HOP);
}

static void test_no_next_hop(void **state)
{
	struct espalier_member member = {.outer_mac = {2, 0, 0, 0, 1, 2}};
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
	member.next_hop = 1;
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

/* A switch that floods must not make two members send it on. */
static void test_flooded(void **state)
{
	struct frame frame;

	(void)state;
	esp_frame(&frame, mac_peer, SPI_1);
	memcpy(frame.bytes, mac_outer[2], 6);
	untouched(&steer, &frame, XDP_PASS, ESPALIER_NOT_OURS);
}

static void test_not_ours(void **state)
{
	struct frame frame;

	(void)state;
	frame_begin(&frame, mac_outer[0], mac_peer, 0, ETH_P_IP);
	frame_ip(&frame, PEER, "192.0.2.3", IPPROTO_ESP, 0);
	frame_esp(&frame, SPI_1, 1);
	untouched(&steer, &frame, XDP_PASS, ESPALIER_NOT_OURS);
	frame_begin(&frame, mac_outer[0], mac_peer, 0, ETH_P_IP);
	frame_ip(&frame, PEER, "0.0.0.0", IPPROTO_ESP, 0); /* unused entries of the settings */
	frame_esp(&frame, SPI_1, 1);
	untouched(&steer, &frame, XDP_PASS, ESPALIER_NOT_OURS);
	esp_frame(&frame, mac_peer, SPI_1);
	frame.bytes[12] = 0x86; /* IPv6's type, IPv4's bytes */
	frame.bytes[13] = 0xdd;
	untouched(&steer, &frame, XDP_PASS, ESPALIER_NOT_OURS);
	esp_frame(&frame, mac_peer, SPI_1);
	frame.bytes[14] = 0x65;
	untouched(&steer, &frame, XDP_PASS, ESPALIER_NOT_OURS);
	esp_frame(&frame, mac_peer, SPI_1);
	frame.size = 14 + 19; /* whose address it is cannot be read */
	untouched(&steer, &frame, XDP_PASS, ESPALIER_NOT_OURS);
}

static void test_not_esp(void **state)
{
	struct frame frame;
	struct iphdr *ip;

	(void)state;
	frame_begin(&frame, mac_outer[0], mac_peer, 0, ETH_P_IP);
	frame_ip(&frame, PEER, CLUSTER, IPPROTO_TCP, 0);
	frame_esp(&frame, SPI_1, 1);
	untouched(&steer, &frame, XDP_PASS, ESPALIER_NOT_ESP);

	frame_begin(&frame, mac_outer[0], mac_peer, 0, ETH_P_IP);
	ip = frame_ip(&frame, PEER, CLUSTER, IPPROTO_ESP, 0);
	ip->frag_off = htons(0x2000 | 185); /* a fragment from the middle */
	frame_esp(&frame, SPI_1, 1);
	untouched(&steer, &frame, XDP_PASS, ESPALIER_NOT_ESP);

	frame_begin(&frame, mac_outer[0], mac_peer, 0, ETH_P_IP);
	ip = frame_ip(&frame, PEER, CLUSTER, IPPROTO_ESP, 0);
	ip->frag_off = htons(0x2000); /* the first fragment has the header */
	frame_esp(&frame, SPI_1, 1);
	forwarded(&steer, &frame, 1);
}

static void test_malformed(void **state)
{
	struct frame frame;

	(void)state;
	for (uint32_t cut = 0; cut < 8; cut++) {
		esp_frame(&frame, mac_peer, SPI_1);
		frame.size = 14 + 20 + cut;
		untouched(&steer, &frame, XDP_DROP, ESPALIER_MALFORMED);
	}
	esp_frame(&frame, mac_peer, SPI_1);
	frame.bytes[14] = 0x44; /* a header of 16 bytes */
	untouched(&steer, &frame, XDP_DROP, ESPALIER_MALFORMED);
	esp_frame(&frame, mac_peer, SPI_1);
	frame.bytes[14] = 0x4f; /* options beyond the end */
	frame.size = 14 + 20 + 40;
	untouched(&steer, &frame, XDP_DROP, ESPALIER_MALFORMED);
}

/* ESP in UDP, IKE and what else there is in UDP. size: of what is behind the IP header, 0: all. */
static void test_udp(void **state)
{
	static const struct {
		const char *what;
		uint32_t size;
		enum espalier_reason reason;
	} cases[] = {
		{"esp-in-udp", 0, ESPALIER_FORWARDED},
		{"esp-in-udp", 8 + 8, ESPALIER_FORWARDED},
		{"esp-in-udp", 8 + 7, ESPALIER_MALFORMED}, /* the SPI is in the next fragment */
		{"esp-in-udp", 8, ESPALIER_MALFORMED},
		{"esp-in-udp", 7, ESPALIER_MALFORMED},
		{"ike", 0, ESPALIER_NOT_ESP},
		{"keepalive", 8 + 1, ESPALIER_NOT_ESP},
		{"keepalive", 0, ESPALIER_NOT_ESP}, /* the kernel cuts it to its length */
		{"udp", 0, ESPALIER_NOT_ESP},
	};
	struct frame frame;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (unsigned int options = 0; options <= 10; options += 5) {
			frame_begin(&frame, mac_outer[0], mac_peer, 0, ETH_P_IP);
			frame_ip(&frame, PEER, CLUSTER, IPPROTO_UDP, options);
			frame_transport(&frame, transport_find(cases[i].what), SPI_1, 1);
			if (cases[i].size)
				frame.size = 14 + 20 + 4 * options + cases[i].size;
			became(&frame, cases[i].what, cases[i].reason);
		}
}

/* IPv6: what is behind its header, and what becomes of it. */
static void test_ip6(void **state)
{
	static const struct {
		const char *what;
		uint32_t size;
		enum espalier_reason reason;
	} cases[] = {
		{"esp", 0, ESPALIER_FORWARDED},
		{"esp", 8, ESPALIER_FORWARDED},
		{"esp", 7, ESPALIER_MALFORMED},
		{"hop-by-hop esp", 0, ESPALIER_FORWARDED},
		{"routing esp", 0, ESPALIER_FORWARDED},
		{"options esp", 0, ESPALIER_FORWARDED},
		{"fragment esp", 0, ESPALIER_FORWARDED},
		{"hop-by-hop options routing fragment options options esp", 0, ESPALIER_FORWARDED},
		{"hop-by-hop options routing fragment options options options esp", 0,
			ESPALIER_MALFORMED},
		{"later-fragment esp", 0, ESPALIER_NOT_ESP},
		{"hop-by-hop later-fragment esp", 0, ESPALIER_NOT_ESP},
		{"hop-by-hop esp", 16 + 7, ESPALIER_MALFORMED},
		{"hop-by-hop esp", 16, ESPALIER_MALFORMED},
		{"hop-by-hop esp", 3, ESPALIER_MALFORMED},
		{"fragment options esp", 8 + 8, ESPALIER_MALFORMED}, /* ESP is in the next one */
		{"ah esp", 0, ESPALIER_NOT_ESP},
		{"tcp", 0, ESPALIER_NOT_ESP},
		{"none", 1, ESPALIER_NOT_ESP},
		{"options none", 8, ESPALIER_NOT_ESP},
		{"esp-in-udp", 0, ESPALIER_FORWARDED},
		{"esp-in-jumbo-udp", 0, ESPALIER_FORWARDED},
		{"hop-by-hop options esp-in-udp", 0, ESPALIER_FORWARDED},
		{"fragment esp-in-udp", 8 + 8 + 7, ESPALIER_MALFORMED},
		{"fragment esp-in-udp", 8 + 7, ESPALIER_MALFORMED},
		{"options ike", 0, ESPALIER_NOT_ESP},
		{"options keepalive", 0, ESPALIER_NOT_ESP},
		{"udp", 0, ESPALIER_NOT_ESP},
	};
	struct frame frame;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (int tags = 0; tags <= 2; tags++) {
			uint32_t begin;

			frame_begin(&frame, mac_outer[0], mac_peer, tags, ETH_P_IPV6);
			begin = frame_ip6(&frame, PEER6, CLUSTER6, cases[i].what, SPI_1, 1);
			if (cases[i].size)
				frame.size = begin + cases[i].size;
			became(&frame, cases[i].what, cases[i].reason);
		}
}

static void ip6_frame(struct frame *frame, const uint8_t from[6], const char *to, uint32_t spi)
{
	frame_begin(frame, mac_outer[0], from, 0, ETH_P_IPV6);
	frame_ip6(frame, PEER6, to, "esp", spi, 1);
}

/* The rest of the pipeline is the same for both families. */
static void test_ip6_owner(void **state)
{
	struct frame frame;

	(void)state;
	ip6_frame(&frame, mac_peer, CLUSTER6, SPI_0);
	untouched(&steer, &frame, XDP_PASS, ESPALIER_LOCAL);
	ip6_frame(&frame, mac_peer, CLUSTER6_2, SPI_2);
	forwarded(&steer, &frame, 2);
	ip6_frame(&frame, mac_outer[1], CLUSTER6, SPI_2);
	untouched(&steer, &frame, XDP_PASS, ESPALIER_ONE_HOP);
}

static void test_ip6_not_ours(void **state)
{
	static const char *const others[] = {"2001:db8::2", "2001:db9::1", "2001:db8:0:2::2",
		"2001:db8:0:1::1", "::", "::ffff:192.0.2.1"};
	struct frame frame;

	(void)state;
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		ip6_frame(&frame, mac_peer, others[i], SPI_1);
		untouched(&steer, &frame, XDP_PASS, ESPALIER_NOT_OURS);
	}
	ip6_frame(&frame, mac_peer, CLUSTER6, SPI_1);
	frame.bytes[14] = 0x45;
	untouched(&steer, &frame, XDP_PASS, ESPALIER_NOT_OURS);
	ip6_frame(&frame, mac_peer, CLUSTER6, SPI_1);
	frame.size = 14 + 39;
	untouched(&steer, &frame, XDP_PASS, ESPALIER_NOT_OURS);
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
	/* a value computed elsewhere: the members of a cluster may be of different versions */
	assert_int_equal(espalier_bucket(1, ESPALIER_HASH_MIX), 0x688);
	program_close(&mix);
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

static void test_said_all(void **state)
{
	(void)state;
	program_said_all(&steer, IN_STEER);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_owner, setup),
		cmocka_unit_test_setup(test_range, setup),
		cmocka_unit_test_setup(test_second_address, setup),
		cmocka_unit_test_setup(test_flip, setup),
		cmocka_unit_test_setup(test_options_and_vlan, setup),
		cmocka_unit_test_setup(test_one_hop, setup),
		cmocka_unit_test_setup(test_no_owner, setup),
		cmocka_unit_test_setup(test_no_next_hop, setup),
		cmocka_unit_test_setup(test_dead_agent, setup),
		cmocka_unit_test_setup(test_flooded, setup),
		cmocka_unit_test_setup(test_not_ours, setup),
		cmocka_unit_test_setup(test_not_esp, setup),
		cmocka_unit_test_setup(test_malformed, setup),
		cmocka_unit_test_setup(test_udp, setup),
		cmocka_unit_test_setup(test_ip6, setup),
		cmocka_unit_test_setup(test_ip6_owner, setup),
		cmocka_unit_test_setup(test_ip6_not_ours, setup),
		cmocka_unit_test_setup(test_mix, setup),
		cmocka_unit_test_setup(test_arp_answered, setup),
		cmocka_unit_test_setup(test_arp_left, setup),
		cmocka_unit_test_setup(test_arp_not_ours, setup),
		cmocka_unit_test(test_said_all),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
