/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Neighbour solicitations for the cluster addresses, on both sides (RFC 4861): the answer, byte by
 * byte, and what is none to be answered. This is member 0 of 3.
 */
#include "program.h"
#include "clear.skel.h"
#include "steer.skel.h"

#define CLUSTER6 "2001:db8::1"
#define OTHER6 "2001:db8::2"
#define ASKER "2001:db8::77"
#define ND_HEADER 24 /* bytes, with the target */

static const uint8_t thirds[] = {0, 1, 2};
static const uint8_t mac_group[6] = {0x33, 0x33, 0xff, 0, 0, 1};
static const uint8_t mac_all[6] = {0x33, 0x33, 0, 0, 0, 1};

static struct program programs[2]; /* outer, inner */

static const uint8_t *own_mac(const struct program *p)
{
	return p == &programs[0] ? mac_outer[0] : mac_inner[0];
}

static int group_setup(void **state)
{
	struct espalier_settings settings = {.self = 0, .members = 3, .block_bits = 16};
	const void *elf;
	size_t size;

	(void)state;
	inet_pton(AF_INET6, CLUSTER6, settings.cluster6[3]);
	elf = steer_bpf__elf_bytes(&size);
	program_load(&programs[0], elf, size, &settings);
	elf = clear_bpf__elf_bytes(&size);
	program_load(&programs[1], elf, size, &settings);
	return 0;
}

static int group_teardown(void **state)
{
	(void)state;
	for (int side = 0; side < 2; side++)
		program_close(&programs[side]);
	return 0;
}

static int setup(void **state)
{
	(void)state;
	for (int side = 0; side < 2; side++) {
		program_set_view(&programs[side], 0, thirds, 3, 0, program_now());
		program_set_members(&programs[side], true);
	}
	return 0;
}

/* The checksum of the last `size` bytes as ICMPv6 (RFC 4443 2.3); 0: it is right. */
static uint16_t checksum(const struct frame *frame, uint32_t ip, uint32_t size)
{
	uint32_t sum = size + IPPROTO_ICMPV6;

	for (uint32_t i = ip + 8; i < ip + 40; i += 2)
		sum += frame->bytes[i] << 8 | frame->bytes[i + 1];
	for (uint32_t i = ip + 40; i < ip + 40 + size; i += 2)
		sum += frame->bytes[i] << 8 | frame->bytes[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

struct message {
	const uint8_t *eth_to, *eth_from;
	const char *from, *to;
	int tags;
	uint8_t type, flags;
	const char *target;
	uint8_t option, option_mac[6]; /* 0: none */
	uint32_t more; /* bytes of other options behind it */
};

/* Returns where the IPv6 header is. */
static uint32_t build(struct frame *frame, const struct message *m)
{
	uint32_t size = ND_HEADER + (m->option ? 8 : 0) + m->more, ip_at;
	struct ipv6hdr ip = {.version = 6,
		.hop_limit = 255,
		.nexthdr = IPPROTO_ICMPV6,
		.payload_len = htons(size)};
	uint8_t nd[ND_HEADER] = {m->type, [4] = m->flags};
	uint8_t option[8] = {m->option, 1}, more[64] = {14, 1};
	uint16_t check;

	frame_begin(frame, m->eth_to, m->eth_from, m->tags, ETH_P_IPV6);
	ip_at = frame->size;
	assert_int_equal(inet_pton(AF_INET6, m->from, &ip.saddr), 1);
	assert_int_equal(inet_pton(AF_INET6, m->to, &ip.daddr), 1);
	assert_int_equal(inet_pton(AF_INET6, m->target, nd + 8), 1);
	memcpy(option + 2, m->option_mac, 6);
	frame_add(frame, &ip, sizeof(ip));
	frame_add(frame, nd, sizeof(nd));
	if (m->option)
		frame_add(frame, option, sizeof(option));
	frame_add(frame, more, m->more);
	check = htons(checksum(frame, ip_at, size));
	memcpy(frame->bytes + ip_at + 42, &check, sizeof(check));
	return ip_at;
}

/* Runs it; what goes out begins as `answer`, behind which there may be rest of the question. */
static void answered(struct program *p, const struct message *question, struct message *answer)
{
	struct frame frame, expected;
	uint32_t ip_at;

	answer->tags = question->tags;
	answer->target = CLUSTER6;
	answer->from = CLUSTER6;
	answer->type = 136;
	answer->eth_from = own_mac(p);
	memcpy(answer->option_mac, own_mac(p), 6);
	ip_at = build(&expected, answer);
	build(&frame, question);
	assert_int_equal(checksum(&expected, ip_at, expected.size - ip_at - 40), 0);
	assert_int_equal(program_run(p, &frame, NULL, 0), XDP_TX);
	assert_int_equal(p->reason, ESPALIER_ND_ANSWERED);
	assert_true(frame.size >= expected.size);
	assert_memory_equal(frame.bytes, expected.bytes, expected.size);
}

static void test_answered(void **state)
{
	(void)state;
	for (int side = 0; side < 2; side++) {
		struct program *p = &programs[side];
		struct message question = {mac_group, mac_peer, ASKER, "ff02::1:ff00:1", 0, 135, 0,
			CLUSTER6, 1, {2, 0, 0, 0, 9, 9}, 0};
		/* router, solicited, override; with our MAC address */
		struct message answer = {
			.eth_to = mac_peer, .to = ASKER, .flags = 0xe0, .option = 2};

		for (question.tags = 0; question.tags <= 2; question.tags++)
			answered(p, &question, &answer);
		question.tags = 0;
		question.more = 8; /* a nonce (RFC 7527), say */
		answered(p, &question, &answer);
		question.more = 0;

		question.to = CLUSTER6; /* is it still there? */
		question.eth_to = own_mac(p);
		answered(p, &question, &answer);
		question.option = 0; /* no room for an option */
		answer.option = 0;
		answered(p, &question, &answer);

		/* duplicate address detection: somebody wants the address for himself */
		question.eth_to = mac_group;
		question.to = "ff02::1:ff00:1";
		question.from = "::";
		answer.eth_to = mac_all;
		answer.to = "ff02::1";
		answer.flags = 0xa0;
		answered(p, &question, &answer);
		question.more = 8;
		answer.option = 2;
		answered(p, &question, &answer);
	}
}

static void untouched(struct program *p, const struct message *m, int at, uint8_t byte, int verdict,
	enum espalier_reason reason)
{
	struct frame frame, before;

	build(&frame, m);
	if (at)
		frame.bytes[at] = byte;
	before = frame;
	assert_int_equal(program_run(p, &frame, NULL, 0), verdict);
	assert_int_equal(p->reason, reason);
	assert_int_equal(frame.size, before.size);
	assert_memory_equal(frame.bytes, before.bytes, before.size);
}

static void test_left(void **state)
{
	const struct message question = {mac_group, mac_peer, ASKER, "ff02::1:ff00:1", 0, 135, 0,
		CLUSTER6, 1, {2, 0, 0, 0, 9, 9}, 0};

	(void)state;
	for (int side = 0; side < 2; side++) {
		struct program *p = &programs[side];

		program_set_view(p, 0, thirds, 3, 1, program_now()); /* member 1 answers */
		untouched(p, &question, 0, 0, XDP_DROP, ESPALIER_ND_LEFT);
		program_set_view(p, 0, thirds, 3, ESPALIER_NOBODY, program_now());
		untouched(p, &question, 0, 0, XDP_DROP, ESPALIER_ND_LEFT);
		program_set_view(p, 0, thirds, 3, 0, program_now() - 61000000000); /* dead agent */
		untouched(p, &question, 0, 0, XDP_DROP, ESPALIER_ND_LEFT);
	}
}

static bool is_answered(struct program *p)
{
	const struct message question = {mac_group, mac_peer, ASKER, "ff02::1:ff00:1", 0, 135, 0,
		CLUSTER6, 1, {2, 0, 0, 0, 9, 9}, 0};
	struct frame frame;

	build(&frame, &question);
	if (program_run(p, &frame, NULL, 0) == XDP_TX)
		return true;
	assert_int_equal(p->reason, ESPALIER_ND_LEFT);
	return false;
}

static void test_lease(void **state)
{
	(void)state;
	for (int side = 0; side < 2; side++)
		program_lease_ends(&programs[side], thirds, 3, 0, is_answered);
}

/* What is no question, or not about us. */
static void test_not_ours(void **state)
{
	struct message question = {mac_group, mac_peer, ASKER, "ff02::1:ff00:1", 0, 135, 0, OTHER6,
		1, {2, 0, 0, 0, 9, 9}, 0};
	struct frame frame;

	(void)state;
	for (int side = 0; side < 2; side++) {
		struct program *p = &programs[side];

		question.target = OTHER6;
		untouched(p, &question, 0, 0, XDP_PASS, ESPALIER_NOT_OURS);
		question.target = CLUSTER6;
		untouched(p, &question, 14 + 7, 254, XDP_PASS, ESPALIER_NOT_OURS); /* forwarded */
		untouched(p, &question, 14 + 6, 17, XDP_PASS, ESPALIER_NOT_OURS); /* UDP */
		untouched(p, &question, 14 + 41, 1, XDP_PASS, ESPALIER_NOT_OURS); /* code */
		untouched(p, &question, 14 + 40, 136, XDP_PASS, ESPALIER_NOT_OURS); /* an answer */
		untouched(p, &question, 14 + 5, 23, XDP_PASS, ESPALIER_NOT_OURS); /* short */
		for (uint32_t size = 14; size < 14 + 40 + ND_HEADER; size++) {
			build(&frame, &question);
			frame.size = size;
			assert_int_equal(program_run(p, &frame, NULL, 0), XDP_PASS);
			assert_int_equal(p->reason, ESPALIER_NOT_OURS);
		}
	}
	/* to the cluster address itself: as other ICMP */
	question.to = CLUSTER6;
	untouched(&programs[0], &question, 14 + 40, 128, XDP_PASS, ESPALIER_NOT_STEERED);
}

static void test_said(void **state)
{
	(void)state;
	for (int side = 0; side < 2; side++)
		program_said(&programs[side], IN_ND);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_answered, setup),
		cmocka_unit_test_setup(test_left, setup),
		cmocka_unit_test_setup(test_lease, setup),
		cmocka_unit_test_setup(test_not_ours, setup),
		cmocka_unit_test(test_said),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
