/* SPDX-License-Identifier: BSD-2-Clause */
/* test_wire.c - the codec: round trips, every truncation, random damage, limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "core/wire.h"

static uint64_t random_state = 1;

static uint64_t draw(void)
{
	random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
	return random_state >> 16 ^ random_state << 24;
}

static struct record a_record(void)
{
	struct record r = {
		.key = {.kind = RECORD_SA, .proto = 50, .family = 2},
		.facts = {.birth = draw(),
			.pair = draw(),
			.direction = ESPALIER_OUT,
			.esn = true,
			.limited = true,
			.remote = {.prefixlen = ESPALIER_SELECTOR_BITS + 24, .family = AF_INET}},
		.version = draw() | 1,
		.author = 3,
		.life = RECORD_ALIVE,
		.creator = 5,
		.bucket = 4095,
		.pinned = ESPALIER_MEMBERS,
		.paired = true,
		.top = draw(),
		.seq = draw(),
		.used = {.bytes = draw(), .packets = draw()},
	};

	r.key.spi = (uint32_t)draw();
	r.facts.remote.if_id = (uint32_t)draw();
	r.facts.remote.addr[3] = (uint8_t)draw();
	for (unsigned int i = 0; i < sizeof(r.key.addr); i++)
		r.key.addr[i] = (uint8_t)draw();
	for (unsigned int i = 0; i < ESPALIER_MEMBERS; i += 1 + draw() % 5) {
		r.upto[i] = draw();
		r.journals[i] = (uint32_t)draw();
	}
	return r;
}

static void same_state(const struct record *a, const struct record *b)
{
	assert_memory_equal(&a->key, &b->key, sizeof(a->key));
	assert_true(a->facts.birth == b->facts.birth);
	assert_true(a->top == b->top && a->seq == b->seq);
	assert_true(a->used.bytes == b->used.bytes && a->used.packets == b->used.packets);
	assert_memory_equal(a->upto, b->upto, sizeof(a->upto));
}

static void same_record(const struct record *a, const struct record *b)
{
	same_state(a, b);
	assert_true(a->facts.pair == b->facts.pair);
	assert_int_equal(a->facts.direction, b->facts.direction);
	assert_int_equal(a->facts.esn, b->facts.esn);
	assert_int_equal(a->facts.limited, b->facts.limited);
	assert_memory_equal(&a->facts.remote, &b->facts.remote, sizeof(a->facts.remote));
	assert_int_equal(a->facts.spi, b->facts.spi);
	assert_true(a->version == b->version);
	assert_int_equal(a->author, b->author);
	assert_int_equal(a->life, b->life);
	assert_int_equal(a->creator, b->creator);
	assert_int_equal(a->bucket, b->bucket);
	assert_int_equal(a->pinned, b->pinned);
	assert_int_equal(a->paired, b->paired);
	assert_memory_equal(a->journals, b->journals, sizeof(a->journals));
}

/* All kinds of messages in one payload. */
static size_t all_kinds(uint8_t *payload, size_t size, const struct record *r, const uint8_t *body,
	size_t body_len, const uint64_t *digests)
{
	struct writer w = {.at = payload, .end = payload + size};
	struct wire_heartbeat h = {.settings = 7,
		.journal = 8,
		.records = 1000000,
		.synced = 0x102,
		.doubled = 0x4002,
		.knows = 0x8001,
		.flags = WIRE_STARTED,
		.view = {.epoch = 9, .live = 3, .publisher = 1},
		.macs = {.outer = {2, 0, 0, 0, 0, 1}, .inner = {2, 0, 0, 0, 1, 1}}};

	wire_put_heartbeat(&w, &h);
	wire_put_record(&w, r, body, body_len);
	wire_put_state(&w, r);
	wire_put_position(&w, 0x1122334455667788, 0x12345);
	wire_put_usage(&w, 0x99aabbccddeeff00, 7, &r->used);
	wire_put_digest(&w, WIRE_DIGEST, 40, digests + 40, 3);
	wire_put_digest(&w, WIRE_LEAVES, TABLE_LEAVES - 2, digests, 2);
	wire_put_digest(&w, WIRE_HAVE, TABLE_LEAVES - 1, digests, 9);
	wire_put_key(&w, WIRE_ASK, &r->key);
	wire_put_number(&w, WIRE_PULL, 11);
	wire_put_number(&w, WIRE_PULLED, 12);
	assert_false(w.failed);
	return (size_t)(w.at - payload);
}

/* A policy names an SA. */
static void test_policy(void **state)
{
	uint8_t payload[WIRE_PAYLOAD], body[100] = {1};
	struct writer w = {.at = payload, .end = payload + sizeof(payload)};
	struct record r = a_record();
	struct wire_message m;

	(void)state;
	r.key.kind = RECORD_POLICY;
	r.facts.spi = (uint32_t)draw();
	wire_put_record(&w, &r, body, sizeof(body));
	assert_int_equal(wire_get(&(struct reader){.at = payload, .end = w.at}, &m), 1);
	same_record(&m.record, &r);
	assert_int_equal(m.body_len, sizeof(body));
	assert_memory_equal(m.body, body, sizeof(body));
}

static void got_digests(struct reader *in, enum wire_kind kind, unsigned int first,
	const uint64_t *values, unsigned int count)
{
	struct wire_message m;

	assert_int_equal(wire_get(in, &m), 1);
	assert_int_equal(m.kind, kind);
	assert_int_equal(m.digest.first, first);
	assert_int_equal(m.digest.count, count);
	assert_memory_equal(m.digest.values, values, count * sizeof(*values));
}

static void test_round_trip(void **state)
{
	uint8_t payload[WIRE_PAYLOAD], body[300];
	uint64_t digests[TABLE_RANGES];
	struct wire_message m;

	(void)state;
	for (unsigned int i = 0; i < TABLE_RANGES; i++)
		digests[i] = draw();
	for (unsigned int round = 0; round < 200; round++) {
		struct record r = a_record();
		size_t body_len = draw() % sizeof(body), len;
		struct reader in;

		for (size_t i = 0; i < body_len; i++)
			body[i] = (uint8_t)draw();
		len = all_kinds(payload, sizeof(payload), &r, body, body_len, digests);
		in = (struct reader){.at = payload, .end = payload + len};
		assert_int_equal(wire_get(&in, &m), 1);
		assert_int_equal(m.kind, WIRE_HEARTBEAT);
		assert_int_equal(m.heartbeat.settings, 7);
		assert_int_equal(m.heartbeat.journal, 8);
		assert_int_equal(m.heartbeat.records, 1000000);
		assert_int_equal(m.heartbeat.synced, 0x102);
		assert_int_equal(m.heartbeat.doubled, 0x4002);
		assert_int_equal(m.heartbeat.knows, 0x8001);
		assert_int_equal(m.heartbeat.flags, WIRE_STARTED);
		assert_int_equal(m.heartbeat.view.epoch, 9);
		assert_int_equal(m.heartbeat.view.live, 3);
		assert_int_equal(m.heartbeat.view.publisher, 1);
		assert_int_equal(m.heartbeat.macs.inner[4], 1);
		assert_int_equal(wire_get(&in, &m), 1);
		assert_int_equal(m.kind, WIRE_RECORD);
		same_record(&m.record, &r);
		assert_int_equal(m.body_len, body_len);
		if (body_len)
			assert_memory_equal(m.body, body, body_len);
		assert_int_equal(wire_get(&in, &m), 1);
		assert_int_equal(m.kind, WIRE_STATE);
		same_state(&m.record, &r);
		assert_int_equal(wire_get(&in, &m), 1);
		assert_int_equal(m.kind, WIRE_POSITION);
		assert_int_equal(m.position.name, 0x1122334455667788);
		assert_int_equal(m.position.seq, 0x12345);
		assert_int_equal(m.position.used.bytes | m.position.used.packets, 0);
		assert_int_equal(wire_get(&in, &m), 1);
		assert_int_equal(m.kind, WIRE_USAGE);
		assert_int_equal(m.position.name, 0x99aabbccddeeff00);
		assert_int_equal(m.position.seq, 7);
		assert_int_equal(m.position.used.bytes, r.used.bytes);
		assert_int_equal(m.position.used.packets, r.used.packets);
		got_digests(&in, WIRE_DIGEST, 40, digests + 40, 3);
		got_digests(&in, WIRE_LEAVES, TABLE_LEAVES - 2, digests, 2);
		got_digests(&in, WIRE_HAVE, TABLE_LEAVES - 1, digests, 9);
		assert_int_equal(wire_get(&in, &m), 1);
		assert_int_equal(m.kind, WIRE_ASK);
		assert_memory_equal(&m.key, &r.key, sizeof(r.key));
		assert_int_equal(wire_get(&in, &m), 1);
		assert_int_equal(m.kind, WIRE_PULL);
		assert_int_equal(m.number, 11);
		assert_int_equal(wire_get(&in, &m), 1);
		assert_int_equal(m.kind, WIRE_PULLED);
		assert_int_equal(m.number, 12);
		assert_int_equal(wire_get(&in, &m), 0);
	}
}

static void test_header(void **state)
{
	const struct wire_header h = {.from = 15,
		.to = 1,
		.stream = 0x1122334455667788,
		.ack_stream = 0x99aabbccddeeff00,
		.segment = true,
		.seq = 5,
		.ack = 6,
		.sack = 1ULL << 63};
	uint8_t bytes[WIRE_HEADER];
	struct writer w = {.at = bytes, .end = bytes + sizeof(bytes)};
	struct wire_header got;

	(void)state;
	wire_put_header(&w, &h);
	assert_false(w.failed);
	assert_ptr_equal(w.at, w.end);
	assert_int_equal(wire_get_header(&(struct reader){.at = bytes, .end = w.end}, &got), 0);
	assert_int_equal(got.from, 15);
	assert_int_equal(got.to, 1);
	assert_true(got.stream == h.stream && got.ack_stream == h.ack_stream);
	assert_true(got.segment && got.seq == 5 && got.ack == 6 && got.sack == h.sack);
	for (size_t len = 0; len < sizeof(bytes); len++)
		assert_int_equal(
			wire_get_header(&(struct reader){.at = bytes, .end = bytes + len}, &got),
			-EBADMSG);
	for (unsigned int at = 0; at < 4; at++) { /* version, from, to, segment */
		uint8_t was = bytes[at];

		bytes[at] = 16;
		assert_int_equal(wire_get_header(&(struct reader){.at = bytes, .end = w.end}, &got),
			-EBADMSG);
		bytes[at] = was;
	}
}

/* Reads what is in a buffer of exactly this size, so that ASan sees a byte too many. */
static int read_all(const uint8_t *bytes, size_t len)
{
	uint8_t *copy = malloc(len ? len : 1);
	struct reader in;
	struct wire_message m;
	int n;

	assert_non_null(copy);
	memcpy(copy, bytes, len);
	in = (struct reader){.at = copy, .end = copy + len};
	while ((n = wire_get(&in, &m)) > 0) {
		assert_true(m.kind != WIRE_RECORD || m.body_len <= RECORD_BODY_MAX);
		assert_true(
			m.kind != WIRE_DIGEST || m.digest.first + m.digest.count <= TABLE_RANGES);
		assert_true(
			m.kind != WIRE_LEAVES || m.digest.first + m.digest.count <= TABLE_LEAVES);
		assert_true(m.kind != WIRE_HAVE || m.digest.first < TABLE_LEAVES);
		for (size_t i = 0; m.kind == WIRE_RECORD && i < m.body_len; i++)
			(void)*(const volatile uint8_t *)&m.body[i];
	}
	free(copy);
	return n;
}

/* Cut between messages it is shorter; anywhere else it is refused. */
static void test_truncated(void **state)
{
	uint8_t payload[WIRE_PAYLOAD], body[100] = {0};
	uint64_t digests[TABLE_RANGES] = {0};
	struct record r = a_record();
	size_t len = all_kinds(payload, sizeof(payload), &r, body, sizeof(body), digests);
	unsigned int whole = 0;

	(void)state;
	for (size_t cut = 0; cut <= len; cut++)
		whole += read_all(payload, cut) == 0;
	assert_int_equal(whole, 12);
}

static void test_damaged(void **state)
{
	uint8_t payload[WIRE_PAYLOAD], damaged[WIRE_PAYLOAD], body[100] = {0};
	uint64_t digests[TABLE_RANGES] = {0};
	unsigned int refused = 0;

	(void)state;
	for (unsigned int round = 0; round < 20000; round++) {
		struct record r = a_record();
		size_t len = all_kinds(payload, sizeof(payload), &r, body, sizeof(body), digests);

		memcpy(damaged, payload, len);
		for (uint64_t n = 1 + draw() % 8; n; n--)
			damaged[draw() % len] = (uint8_t)draw();
		refused += read_all(damaged, draw() % 4 ? len : draw() % len) < 0;
	}
	assert_in_range(refused, 5000, 20000);
}

static void test_random(void **state)
{
	uint8_t bytes[200];

	(void)state;
	for (unsigned int round = 0; round < 20000; round++) {
		for (unsigned int i = 0; i < sizeof(bytes); i++)
			bytes[i] = (uint8_t)draw();
		bytes[0] = (uint8_t)(draw() % 16);
		bytes[1] = 0;
		(void)read_all(bytes, draw() % sizeof(bytes));
	}
}

static int record_is_taken(const struct record *r, size_t body_len)
{
	static const uint8_t body[RECORD_BODY_MAX + 1];
	uint8_t payload[2048];
	struct writer w = {.at = payload, .end = payload + sizeof(payload)};

	wire_put_record(&w, r, body, body_len);
	assert_false(w.failed);
	return read_all(payload, (size_t)(w.at - payload)) == 0;
}

static void test_limits(void **state)
{
	struct record good = a_record(), r;

	(void)state;
	assert_true(record_is_taken(&good, RECORD_BODY_MAX));
	assert_false(record_is_taken(&good, RECORD_BODY_MAX + 1));
#define REFUSED(change)                                                                            \
	r = good;                                                                                  \
	r.change;                                                                                  \
	assert_false(record_is_taken(&r, 0))
	REFUSED(bucket = ESPALIER_BUCKETS);
	REFUSED(pinned = ESPALIER_MEMBERS + 1);
	REFUSED(version = 0);
	REFUSED(author = ESPALIER_MEMBERS);
	REFUSED(creator = ESPALIER_MEMBERS);
	REFUSED(facts.direction = 0);
	REFUSED(facts.direction = 3);
	REFUSED(facts.remote.prefixlen = ESPALIER_SELECTOR_BITS + 33);
	REFUSED(facts.remote.family = AF_UNIX);
	REFUSED(key.kind = 0);
	REFUSED(key.kind = 3);
	r = good;
	r.creator = ESPALIER_NOBODY;
	assert_true(record_is_taken(&r, 0));
}

/* The largest record fits a datagram; a message that does not fit leaves no trace. */
static void test_full(void **state)
{
	static const uint8_t body[RECORD_BODY_MAX];
	uint8_t payload[WIRE_PAYLOAD];
	struct record r = a_record();

	(void)state;
	for (unsigned int i = 0; i < ESPALIER_MEMBERS; i++)
		r.upto[i] = r.journals[i] = 1;
	r.facts.remote = (struct espalier_selector){0}; /* policies have one, and no blocks */
	for (size_t room = 0; room <= sizeof(payload); room++) {
		struct writer w = {.at = payload, .end = payload + room};

		wire_put_record(&w, &r, body, sizeof(body));
		assert_int_equal(w.failed, w.at == payload);
		if (room == sizeof(payload))
			assert_false(w.failed);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_header),
		cmocka_unit_test(test_policy),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_full),
	};

	return cmocka_run_group_tests_name("wire", tests, NULL, NULL);
}
