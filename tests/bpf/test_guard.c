/* SPDX-License-Identifier: BSD-2-Clause */
/* The never-repeat rule on the way out: every verdict of guard.bpf.c. */
#include "guard.h"

static void udp_frame(struct frame *frame, uint16_t port, uint32_t spi, uint32_t seq)
{
	frame_begin(frame, mac_peer, mac_outer[1], 0, ETH_P_IP);
	frame_ip(frame, CLUSTER, PEER, IPPROTO_UDP, 0);
	frame_udp(frame, port, 4500, 72);
	frame_esp(frame, spi, seq);
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

/* Of two with one destination and SPI, that of the packet's mark; without one it is unknown. */
static void test_marks(void **state)
{
	struct espalier_sa_key key = {.spi = htonl(SPI + 4), .family = AF_INET};
	struct espalier_sa sa = {.open = {{1, 0}, {1, 0}},
		.slot = ESPALIER_SLOT_MARKED,
		.mark_mask = 0xf,
		.bucket = BUCKET,
		.direction = ESPALIER_OUT};
	struct __sk_buff ctx = {.mark = 0x31};
	int sas = program_map(&guard, "sas");
	struct frame frame;

	(void)state;
	assert_int_equal(inet_pton(AF_INET, PEER, key.daddr), 1);
	assert_int_equal(bpf_map_update_elem(sas, &key, &sa, BPF_F_LOCK), 0);
	sa.slot = SLOT;
	key.mark_mask = 0xf;
	for (key.mark = 1; key.mark <= 2; key.mark++) {
		sa.open[0].first = key.mark * K;
		sa.open[0].last = key.mark * K + 7;
		assert_int_equal(bpf_map_update_elem(sas, &key, &sa, BPF_F_LOCK), 0);
	}
	esp_frame(&frame, SPI + 4, K);
	out_as(&frame, &ctx, PASS, ESPALIER_EMITTED);
	ctx.mark = 2;
	out_as(&frame, &ctx, TC_ACT_SHOT, ESPALIER_GUARD_BLOCK);
	esp_frame(&frame, SPI + 4, 2 * K);
	out_as(&frame, &ctx, PASS, ESPALIER_EMITTED);
	ctx.mark = 3;
	out_as(&frame, &ctx, TC_ACT_SHOT, ESPALIER_GUARD_UNKNOWN);
	for (key.mark = 1; key.mark <= 2; key.mark++)
		assert_int_equal(bpf_map_delete_elem(sas, &key), 0);
	key.mark = key.mark_mask = 0;
	assert_int_equal(bpf_map_delete_elem(sas, &key), 0);
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

static void ah_out(uint32_t ah_seq, uint32_t esp_seq, int verdict, enum espalier_reason reason)
{
	struct frame frame;

	frame_begin(&frame, mac_peer, mac_outer[1], 0, ETH_P_IP);
	frame_ip(&frame, CLUSTER, PEER, IPPROTO_AH, 0);
	*frame_ah(&frame, SPI, ah_seq) = esp_seq ? IPPROTO_ESP : IPPROTO_TCP;
	frame_esp(&frame, SPI, esp_seq);
	out(&frame, 0, verdict, reason);
}

/* AH's SPIs are not ESP's: another SA, with a position and a gap of its own. */
static void test_ah(void **state)
{
	(void)state;
	ah_out(K + 7, 0, PASS, ESPALIER_EMITTED);
	assert_int_equal(get_counter_of(SLOT_AH).seq, K + 7);
	assert_int_equal(get_counter_of(SLOT_AH).packets, 1);
	assert_int_equal(get_counter().packets, 0);
	set_sa_as(ESPALIER_AH, AF_INET, 7 * K, 8 * K - 1, 1, 0);
	ah_out(K + 8, 0, TC_ACT_SHOT, ESPALIER_GUARD_BLOCK);
	ah_out(7 * K, 0, PASS, ESPALIER_EMITTED);
	sent(K, 0);
	stopped(7 * K, 0);
	assert_int_equal(get_counter_of(SLOT_AH).packets, 2);
	program_set_view(&guard, 0, (const uint8_t[]){0}, 1, 0, 0);
	ah_out(7 * K + 1, 0, TC_ACT_SHOT, ESPALIER_GUARD_NOT_OWNER);
}

/* A policy may ask for ESP in AH: each has a number. */
static void test_esp_in_ah(void **state)
{
	struct frame frame;

	(void)state;
	ah_out(K, K + 1, PASS, ESPALIER_EMITTED);
	assert_int_equal(get_counter_of(SLOT_AH).seq, K);
	assert_int_equal(get_counter().seq, K + 1);
	ah_out(K + 2, 2 * K, TC_ACT_SHOT, ESPALIER_GUARD_BLOCK);
	ah_out(2 * K, K + 2, TC_ACT_SHOT, ESPALIER_GUARD_BLOCK);
	assert_int_equal(get_counter().seq, K + 1); /* what was dropped before it came to it */
	frame_begin(&frame, mac_peer, mac_outer[1], 0, ETH_P_IP);
	frame_ip(&frame, CLUSTER, PEER, IPPROTO_AH, 0);
	*frame_ah(&frame, SPI, K + 3) = IPPROTO_ESP;
	frame_esp(&frame, SPI, K + 3);
	for (frame.size = 14 + 20; frame.size < 14 + 20 + 24 + 8; frame.size++)
		out(&frame, 0, TC_ACT_SHOT, ESPALIER_GUARD_MALFORMED);
	out(&frame, 0, PASS, ESPALIER_EMITTED);
}

/* New here, in block 0; of no other member's; one whose numbers nobody judges. */
static void test_ah_of_others(void **state)
{
	struct espalier_sa_key key = {
		.spi = htonl(SPI), .family = AF_INET, .protocol = ESPALIER_AH};
	struct espalier_sa local = {.slot = ESPALIER_SLOT_LOCAL, .direction = ESPALIER_OUT};
	int sas = program_map(&guard, "sas");

	(void)state;
	assert_int_equal(inet_pton(AF_INET, PEER, key.daddr), 1);
	assert_int_equal(bpf_map_delete_elem(sas, &key), 0);
	ah_out(1, 0, PASS, ESPALIER_EMITTED_NEW);
	ah_out(K, 0, TC_ACT_SHOT, ESPALIER_GUARD_UNKNOWN);
	ah_out(1, 2 * K, TC_ACT_SHOT, ESPALIER_GUARD_BLOCK);
	sent(K, 0);
	assert_int_equal(bpf_map_update_elem(sas, &key, &local, BPF_F_LOCK), 0);
	ah_out(9 * K, 0, PASS, ESPALIER_EMITTED_LOCAL);
	ah_out(9 * K, 2 * K, TC_ACT_SHOT, ESPALIER_GUARD_BLOCK);
}

/* ESP whose inside nobody has seen, in AH. */
static void test_carrier_in_ah(void **state)
{
	struct espalier_view *view = program_view(&guard);

	(void)state;
	carry(PEER, K + 1);
	view->nested = 1;
	program_keep_view(&guard, view);
	ah_out(K, K, TC_ACT_SHOT, ESPALIER_GUARD_INNER);
	ah_out(K, K + 1, PASS, ESPALIER_EMITTED);
	ah_out(2 * K, K + 1, TC_ACT_SHOT, ESPALIER_GUARD_BLOCK);
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
		{"ah tcp", 0, ESPALIER_EMITTED, ESPALIER_GUARD_BLOCK},
		{"ah", 24, ESPALIER_EMITTED, ESPALIER_GUARD_BLOCK},
		{"ah", 11, ESPALIER_GUARD_MALFORMED, ESPALIER_GUARD_MALFORMED},
		{"ah esp", 24 + 7, ESPALIER_GUARD_MALFORMED, ESPALIER_GUARD_BLOCK},
		{"fragment options ah options", 0, ESPALIER_EMITTED, ESPALIER_GUARD_BLOCK},
		{"later-fragment ah", 0, ESPALIER_UNGUARDED, ESPALIER_UNGUARDED},
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
	set_sa_as(ESPALIER_AH, AF_INET6, K, 2 * K - 1, 1, 0);
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

static void test_said_all(void **state)
{
	(void)state;
	program_said_all(&guard, IN_GUARD);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_gso_too_many, setup),
		cmocka_unit_test_setup(test_not_owner, setup),
		cmocka_unit_test_setup(test_unknown, setup),
		cmocka_unit_test_setup(test_local, setup),
		cmocka_unit_test_setup(test_carrier, setup),
		cmocka_unit_test_setup(test_marks, setup),
		cmocka_unit_test_setup(test_esp_in_udp, setup),
		cmocka_unit_test_setup(test_options_and_fragments, setup),
		cmocka_unit_test_setup(test_ah, setup),
		cmocka_unit_test_setup(test_esp_in_ah, setup),
		cmocka_unit_test_setup(test_ah_of_others, setup),
		cmocka_unit_test_setup(test_carrier_in_ah, setup),
		cmocka_unit_test_setup(test_ip6, setup),
		cmocka_unit_test_setup(test_ip6_other_sas, setup),
		cmocka_unit_test_setup(test_malformed, setup),
		cmocka_unit_test_setup(test_unguarded, setup),
		cmocka_unit_test(test_said_all),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
