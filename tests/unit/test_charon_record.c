/* SPDX-License-Identifier: BSD-2-Clause */
/* The record of an IKE SA: what is written is read again, and what is malformed is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "charon/record.h"

#define BYTES(text) ((struct bytes){(const uint8_t *)(text), sizeof(text) - 1})

static uint8_t parts_memory[4096], body[4096];
static size_t body_len;

static struct bytes since(const struct writer *w, const uint8_t *start)
{
	return (struct bytes){start, (size_t)(w->at - start)};
}

static bool same(struct bytes a, struct bytes b)
{
	return a.len == b.len && memcmp(a.at, b.at, a.len) == 0;
}

/* Two Child SAs, the first with one selector, and a response in two packets. */
static int make(void **state)
{
	struct writer parts = {.at = parts_memory, .end = parts_memory + sizeof(parts_memory)};
	struct writer w = {.at = body, .end = body + sizeof(body)};
	struct record_host host = {4500, BYTES("\xc0\x00\x02\x01")};
	struct record_ike ike = {.spi = {0x1122334455667788, 42},
		.initiator = 1,
		.state = RECORD_REKEYING,
		.send = 3,
		.receive = 70000,
		.conditions = 1 << 14,
		.rekey = 1800000000,
		.me = {2, BYTES("gateway")},
		.other = {2, BYTES("peer")},
		.here = host,
		.there = host,
		.name = BYTES("net")};
	struct record_child child = {.spi = {0xc0000001, 0xc0000002},
		.protocol = 3,
		.reqid = 16777217,
		.name = BYTES("net"),
		.state = RECORD_ESTABLISHED};
	const uint8_t *start = parts.at;

	(void)state;
	record_put_selector(&parts, &(struct record_selector){.type = 7,
					    .to_port = 65535,
					    .from = BYTES("\x0a\x01\x00\x00"),
					    .to = BYTES("\x0a\x01\x00\xff")});
	child.here = since(&parts, start);
	start = parts.at;
	record_put_child(&parts, &child);
	child.here.len = 0;
	child.spi[0]++;
	record_put_child(&parts, &child);
	ike.children = since(&parts, start);
	start = parts.at;
	record_put_packet(&parts, BYTES("first"));
	record_put_packet(&parts, BYTES("second"));
	ike.response = (struct record_messages){69999, since(&parts, start)};
	ike.key[RECORD_KEYS - 1] = BYTES("the last key");
	record_put(&w, &ike);
	assert_false(w.failed || parts.failed);
	body_len = (size_t)(w.at - body);
	return 0;
}

static void reads_what_was_written(void **state)
{
	struct record_selector selector;
	struct record_child child;
	struct record_ike ike;
	struct reader children, list;
	struct bytes packet;

	(void)state;
	assert_true(record_get(body, body_len, &ike));
	assert_int_equal(ike.spi[0], 0x1122334455667788);
	assert_int_equal(ike.receive, 70000);
	assert_int_equal(ike.rekey, 1800000000);
	assert_true(same(ike.other.encoding, BYTES("peer")));
	assert_true(same(ike.key[RECORD_KEYS - 1], BYTES("the last key")));
	assert_int_equal(ike.there.port, 4500);
	children = record_list(ike.children);
	assert_true(record_next_child(&children, &child));
	assert_int_equal(child.spi[0], 0xc0000001);
	assert_int_equal(child.reqid, 16777217);
	list = record_list(child.here);
	assert_true(record_next_selector(&list, &selector));
	assert_true(same(selector.to, BYTES("\x0a\x01\x00\xff")));
	assert_false(record_next_selector(&list, &selector));
	assert_true(record_next_child(&children, &child));
	assert_int_equal(child.spi[0], 0xc0000002);
	assert_false(record_next_child(&children, &child));
	list = record_list(ike.response.packets);
	assert_true(record_next_packet(&list, &packet));
	assert_true(record_next_packet(&list, &packet));
	assert_true(same(packet, BYTES("second")));
	assert_false(record_next_packet(&list, &packet));
}

static void refuses_other_lengths(void **state)
{
	struct record_ike ike;

	(void)state;
	for (size_t len = 0; len < body_len; len++)
		assert_false(record_get(body, len, &ike));
	body[body_len] = 0;
	assert_false(record_get(body, body_len + 1, &ike));
}

static void refuses_another_format(void **state)
{
	struct record_ike ike;

	(void)state;
	body[0]++;
	assert_false(record_get(body, body_len, &ike));
	body[0]--;
}

/* An item of a list that is too short for its list makes the whole record malformed. */
static void refuses_malformed_lists(void **state)
{
	struct writer w = {.at = body, .end = body + sizeof(body)};
	struct record_host host = {500, BYTES("\xc0\x00\x02\x01")};
	struct record_ike ike = {.here = host, .there = host, .children = BYTES("no Child SA")};

	(void)state;
	record_put(&w, &ike);
	assert_false(record_get(body, (size_t)(w.at - body), &ike));
}

static void refuses_what_does_not_fit(void **state)
{
	struct record_host host = {500, BYTES("\xc0\x00\x02\x01")};
	struct record_ike ike = {.here = host, .there = host};
	struct writer w = {.at = body, .end = body + 40};

	(void)state;
	record_put(&w, &ike);
	assert_true(w.failed);
	w = (struct writer){.at = body, .end = body + sizeof(body)};
	ike.name = (struct bytes){parts_memory, 65536};
	record_put(&w, &ike);
	assert_true(w.failed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(reads_what_was_written, make),
		cmocka_unit_test_setup(refuses_other_lengths, make),
		cmocka_unit_test_setup(refuses_another_format, make),
		cmocka_unit_test_setup(refuses_malformed_lists, make),
		cmocka_unit_test_setup(refuses_what_does_not_fit, make),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
