/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where guard.bpf.c finds ESP from a cluster address, and where there is none: packets by name
 * (packet.h). This is member 0 of 3.
 */
#include "packet.h"
#include "guard.skel.h"

#include <linux/pkt_cls.h>

#define OUTER 1 /* frames of BPF_PROG_TEST_RUN leave by the loopback interface */

enum judged {
	FREE, /* not judged: it leaves */
	ESP, /* judged by the SA's blocks and its owner, which is ESP's, or AH's, or of both */
	BROKEN, /* there may be ESP: it does not leave */
};

static const struct {
	enum judged judged;
	const char *packet;
} formats[] = {
	{ESP, "ip:out esp:out data"},
	{ESP, "ip6:out esp:out data"},
	{ESP, "ip-options:out esp:out data"},
	{ESP, "ip:out first:7 esp:out data"},
	{ESP, "ip:out ah:out esp:out data"},
	{ESP, "ip6:out hop-by-hop routing options ah:out options esp:out data"},
	{ESP, "ip:out ah:out data"},
	{ESP, "ip:out ah:out"},
	{ESP, "ip-options:out ah:out tcp data"},
	{ESP, "ip:out first:7 ah:out data"},
	{ESP, "ip6:out hop-by-hop ah:out options data"},
	{ESP, "ip6:out ah:out ah:out data"},
	{ESP, "ip:out ah:out ip:transit tcp data"}, /* tunnel mode */
	{ESP, "ip:out ah:out ip:transit later:3 data:esp"},
	{ESP, "ip:out ah:out ip6:transit esp:out data"},
	{ESP, "ip:out ah:out ip:out esp:out data"},
	{ESP, "ip:out ah:out udp-from:53 esp:none data"},
	{BROKEN, "ip:out ah:out cut:13"},
	{BROKEN, "ip6:out options ah:out cut:24"},
	{ESP, "ip:out udp-from:4500 esp:out data"},
	{ESP, "ip:out udp-from:1701 esp:out data"},
	{ESP, "ip6:out options udp-from:53 esp:out data"},
	{FREE, "ip:out udp-from:4500 marker data"},
	{FREE, "ip:out udp-from:4500 keepalive"},
	{FREE, "ip:out udp-from:53 esp:none data"},
	{FREE, "ip:out udp-from:53 keepalive"},
	{FREE, "ip:out udp-from:53"},
	{FREE, "ip:out udp:500 ike:our-init data"},
	{BROKEN, "ip:out udp-from:4500 esp:out data cut:65"},
	{FREE, "ip:out udp-from:53 esp:out data cut:65"},
	/* tags and labels in the frame */
	{ESP, "vlan ip:out esp:out data"},
	{ESP, "vlan-ad vlan ip:out esp:out data"},
	{ESP, "vlan-ad vlan vlan vlan ip6:out esp:out data"},
	{ESP, "vlan ip:out ah:out data"},
	{ESP, "mpls:1 ip:out esp:out data"},
	{ESP, "mpls:5 ip6:out esp:out data"},
	{ESP, "vlan mpls:2 ip:out udp-from:4500 esp:out data"},
	{FREE, "vlan ip:transit esp:out data"},
	{FREE, "vlan arp"},
	{FREE, "mpls:2 arp"},
	{FREE, "mpls:2 ip:transit esp:out data"},
	{FREE, "arp"},
	/* tunnels, from whatever address */
	{ESP, "ip:transit ip:out esp:out data"},
	{ESP, "ip:transit ip6:out esp:out data"},
	{ESP, "ip6:transit ip:out esp:out data"},
	{ESP, "ip6:transit ip6:out esp:out data"},
	{ESP, "ip6:transit routing options ip6:out options esp:out data"},
	{ESP, "ip:out ip:transit ip:out esp:out data"},
	{ESP, "ip:transit gre ip:out esp:out data"},
	{ESP, "ip:transit gre:full ip6:out esp:out data"},
	{ESP, "ip6:transit options gre ip:out udp-from:4500 esp:out data"},
	{ESP, "ip:out gre ip:out esp:out data"},
	{ESP, "ip:transit gre mpls:2 ip:out esp:out data"},
	{ESP, "ip:transit gre ethernet ip:out esp:out data"},
	{ESP, "vlan ip:transit gre:full ethernet vlan-ad vlan ip:out esp:out data"},
	{ESP, "ip:transit ah:out gre ip:transit ip6:transit ip:out ah:out esp:out data"},
	{ESP, "ip:transit ip:out ah:out data"},
	{ESP, "ip6:transit gre ethernet ip6:out ah:out data"},
	{FREE, "ip:transit gre ip:transit esp:out data"},
	{FREE, "ip:out gre ip:transit esp:out data"},
	{FREE, "ip:transit gre ip:out tcp data"},
	{FREE, "ip:transit gre:ppp ip:out esp:out data"},
	{FREE, "ip:transit gre ethernet vlan arp"},
	{FREE, "ip:transit gre cut:2"},
	{FREE, "ip:transit gre:routed ip:out esp:out data"},
	{BROKEN, "ip:out gre cut:1"},
	{BROKEN, "ip:out gre:routed ip:out esp:out data"},
	{BROKEN, "ip:transit gre ip:out esp:out cut:1"},
	{BROKEN, "ip:out gre ip:transit cut:1"},
	/* none of ours */
	{FREE, "ip:transit esp:out data"},
	{FREE, "ip:transit udp-from:4500 esp:out data"},
	{FREE, "ip6:transit esp:out data"},
	{FREE, "ip:transit ah:out data"},
	{FREE, "ip6:transit options ah:out tcp data"},
	{FREE, "ip:transit ah:out cut:13"},
	{FREE, "ip:transit ah:out esp:out data"},
	{FREE, "ip:out ip:transit ah:out data"},
	{FREE, "ip:out later:7 data:ah"},
	{FREE, "ip:out tcp data"},
	{FREE, "ip:out later:7 data:esp"},
	{FREE, "ip6:out later:7 data:esp"},
	{FREE, "ip:out icmp:8 data"},
	/* more headers than anybody needs */
	{ESP, "ip6:out options options options options options options options options options "
	      "options options options options options options options options esp:out data"},
	{BROKEN, "ip6:out options options options options options options options options options "
		 "options options options options options options options options options options "
		 "options esp:out data"},
	{FREE, "ip6:transit options options options options options options options options "
	       "options options options options options options options options options options "
	       "options options data"},
};

static const uint8_t ours = 0, theirs = 1;
static struct program guard, elsewhere; /* as on the outer interface, as on another one */

static void open_guard(struct program *p, uint32_t outer)
{
	struct espalier_settings settings;
	const void *elf;
	size_t size;

	packet_settings(&settings, ESPALIER_HASH_PREFIX);
	settings.outer = outer;
	elf = guard_bpf__elf_bytes(&size);
	program_load(p, elf, size, &settings);
}

/* The SAs' numbers that may leave. */
static void set_sas(struct program *p, uint64_t first, uint64_t last)
{
	struct espalier_sa sa = {
		.open = {{first, last}, {1, 0}}, .bucket = BUCKET_OUT, .direction = ESPALIER_OUT};
	struct espalier_sa_key key = {.spi = htonl(SPI_OUT)};

	for (unsigned int i = 0; i < 4; i++) {
		key.family = i / 2 ? AF_INET6 : AF_INET;
		key.protocol = i % 2 ? ESPALIER_AH : ESPALIER_ESP;
		inet_pton(key.family, i / 2 ? PEER6 : PEER, key.daddr);
		assert_int_equal(bpf_map_update_elem(program_map(p, "sas"), &key, &sa, BPF_ANY), 0);
	}
}

static int group_setup(void **state)
{
	(void)state;
	open_guard(&guard, OUTER);
	open_guard(&elsewhere, OUTER + 1);
	return 0;
}

static int group_teardown(void **state)
{
	(void)state;
	program_close(&guard);
	program_close(&elsewhere);
	return 0;
}

static void all_leave_as(struct program *p, enum espalier_reason judged)
{
	const enum espalier_reason reasons[] = {
		[FREE] = ESPALIER_UNGUARDED, [ESP] = judged, [BROKEN] = ESPALIER_GUARD_MALFORMED};

	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
		enum espalier_reason reason = reasons[formats[i].judged];
		bool leaves = reason == ESPALIER_UNGUARDED || reason == ESPALIER_EMITTED ||
			      reason == ESPALIER_EMITTED_ELSEWHERE;
		struct frame frame, before;

		packet_build(&frame, formats[i].packet);
		before = frame;
		if (program_run(p, &frame, NULL, 0) !=
				(leaves ? (int)TC_ACT_UNSPEC : (int)TC_ACT_SHOT) ||
			p->reason != reason)
			fail_msg("%s: reason %u, not %u", formats[i].packet, p->reason, reason);
		assert_memory_equal(frame.bytes, before.bytes, before.size);
	}
}

static void test_formats(void **state)
{
	(void)state;
	program_set_view(&guard, 0, &ours, 1, 0, 0);
	set_sas(&guard, 0, 65535);
	all_leave_as(&guard, ESPALIER_EMITTED);
	set_sas(&guard, 65536, 131071);
	all_leave_as(&guard, ESPALIER_GUARD_BLOCK);
	program_set_view(&guard, 0, &theirs, 1, 0, 0);
	all_leave_as(&guard, ESPALIER_GUARD_NOT_OWNER);
}

/* By another interface the same rule holds. What leaves there may leave by the outer one, too, so
 * it does not count, but its numbers do. */
static void test_elsewhere(void **state)
{
	struct espalier_counter counter;
	uint32_t slot = 0;

	(void)state;
	program_set_view(&elsewhere, 0, &ours, 1, 0, 0);
	set_sas(&elsewhere, 0, 65535);
	all_leave_as(&elsewhere, ESPALIER_EMITTED_ELSEWHERE);
	assert_int_equal(
		bpf_map_lookup_elem(program_map(&elsewhere, "counters"), &slot, &counter), 0);
	assert_int_equal(counter.packets, 0);
	assert_int_equal(counter.seq, 1);
	set_sas(&elsewhere, 65536, 131071);
	all_leave_as(&elsewhere, ESPALIER_GUARD_BLOCK);
	program_said(&elsewhere, IN_GUARD_FORMATS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_formats),
		cmocka_unit_test(test_elsewhere),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
