/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The codec: any bytes as a datagram, and as the messages in one. What is decoded is within its
 * limits, and says the same when it is encoded and decoded again.
 */
#include <errno.h>
#include <string.h>

#include "core/wire.h"
#include "fuzz.h"

static void check_heartbeat(const struct wire_heartbeat *a, const struct wire_heartbeat *b)
{
	REQUIRE(a->settings == b->settings && a->journal == b->journal && a->records == b->records);
	REQUIRE(a->synced == b->synced && a->knows == b->knows && a->flags == b->flags);
	REQUIRE(a->doubled == b->doubled);
	REQUIRE(a->view.epoch == b->view.epoch && a->view.live == b->view.live);
	REQUIRE(a->view.publisher == b->view.publisher);
	REQUIRE(memcmp(&a->macs, &b->macs, sizeof(a->macs)) == 0);
}

static void check_state(const struct record *a, const struct record *b)
{
	REQUIRE(a->key.kind == RECORD_SA || a->key.kind == RECORD_POLICY);
	REQUIRE(memcmp(&a->key, &b->key, sizeof(a->key)) == 0);
	REQUIRE(a->facts.birth == b->facts.birth && a->top == b->top && a->seq == b->seq);
	REQUIRE(a->used.bytes == b->used.bytes && a->used.packets == b->used.packets);
	REQUIRE(memcmp(a->upto, b->upto, sizeof(a->upto)) == 0);
}

static void check_record(const struct wire_message *m, const struct wire_message *n)
{
	const struct record *a = &m->record, *b = &n->record;

	check_state(a, b);
	REQUIRE(a->facts.pair == b->facts.pair && a->facts.direction == b->facts.direction);
	REQUIRE(a->facts.esn == b->facts.esn && a->facts.limited == b->facts.limited);
	REQUIRE(memcmp(&a->facts.remote, &b->facts.remote, sizeof(a->facts.remote)) == 0);
	REQUIRE(a->facts.spi == b->facts.spi);
	REQUIRE(a->version == b->version && a->author == b->author && a->life == b->life);
	REQUIRE(a->creator == b->creator && a->bucket == b->bucket && a->paired == b->paired);
	REQUIRE(a->pinned == b->pinned && a->pinned <= ESPALIER_MEMBERS);
	REQUIRE(memcmp(a->journals, b->journals, sizeof(a->journals)) == 0);
	REQUIRE(m->body_len == n->body_len);
	REQUIRE(m->body_len == 0 || memcmp(m->body, n->body, m->body_len) == 0);

	REQUIRE(m->body_len <= RECORD_BODY_MAX && a->bucket < ESPALIER_BUCKETS);
	REQUIRE(a->version > 0 && a->author < ESPALIER_MEMBERS);
	REQUIRE(a->creator < ESPALIER_MEMBERS || a->creator == ESPALIER_NOBODY ||
		a->creator == RECORD_CREATOR_DISPUTED);
	REQUIRE(a->facts.direction == ESPALIER_IN || a->facts.direction == ESPALIER_OUT);
	REQUIRE(a->facts.remote.prefixlen <= ESPALIER_SELECTOR_BITS + 128);
}

static void check_digest(
	enum wire_kind kind, const struct wire_digest *a, const struct wire_digest *b)
{
	uint32_t span = kind == WIRE_HAVE ? 1 : a->count;

	REQUIRE(a->count <= WIRE_DIGESTS);
	REQUIRE(a->first + span <= (kind == WIRE_DIGEST ? TABLE_RANGES : TABLE_LEAVES));
	REQUIRE(a->first == b->first && a->count == b->count);
	REQUIRE(memcmp(a->values, b->values, a->count * sizeof(a->values[0])) == 0);
}

static void encode(struct writer *w, const struct wire_message *m)
{
	switch (m->kind) {
	case WIRE_HEARTBEAT:
		wire_put_heartbeat(w, &m->heartbeat);
		break;
	case WIRE_RECORD:
		wire_put_record(w, &m->record, m->body, m->body_len);
		break;
	case WIRE_STATE:
		wire_put_state(w, &m->record);
		break;
	case WIRE_POSITION:
		wire_put_position(w, m->position.name, m->position.seq);
		break;
	case WIRE_USAGE:
		wire_put_usage(w, m->position.name, m->position.seq, &m->position.used);
		break;
	case WIRE_DIGEST:
	case WIRE_LEAVES:
	case WIRE_HAVE:
		wire_put_digest(w, m->kind, m->digest.first, m->digest.values, m->digest.count);
		break;
	case WIRE_PULL:
	case WIRE_LEAVES_END:
	case WIRE_HAVE_END:
	case WIRE_PULLED:
	case WIRE_ORDER:
		wire_put_number(w, m->kind, m->number);
		break;
	case WIRE_ASK:
	case WIRE_LACK:
		wire_put_key(w, m->kind, &m->key);
		break;
	}
}

static void check_same(const struct wire_message *m, const struct wire_message *n)
{
	REQUIRE(m->kind == n->kind);
	switch (m->kind) {
	case WIRE_HEARTBEAT:
		check_heartbeat(&m->heartbeat, &n->heartbeat);
		break;
	case WIRE_RECORD:
		check_record(m, n);
		break;
	case WIRE_STATE:
		check_state(&m->record, &n->record);
		break;
	case WIRE_POSITION:
	case WIRE_USAGE:
		REQUIRE(m->position.name == n->position.name);
		REQUIRE(m->position.seq == n->position.seq);
		REQUIRE(m->position.used.bytes == n->position.used.bytes);
		REQUIRE(m->position.used.packets == n->position.used.packets);
		break;
	case WIRE_DIGEST:
	case WIRE_LEAVES:
	case WIRE_HAVE:
		check_digest(m->kind, &m->digest, &n->digest);
		break;
	case WIRE_PULL:
	case WIRE_LEAVES_END:
	case WIRE_HAVE_END:
	case WIRE_PULLED:
	case WIRE_ORDER:
		REQUIRE(m->number == n->number);
		break;
	case WIRE_ASK:
	case WIRE_LACK:
		REQUIRE(memcmp(&m->key, &n->key, sizeof(m->key)) == 0);
		break;
	}
}

static void round_trip(const struct wire_message *m)
{
	static struct wire_message n;
	uint8_t bytes[WIRE_PAYLOAD];
	struct writer w = {.at = bytes, .end = bytes + sizeof(bytes)};
	struct reader r;

	encode(&w, m);
	REQUIRE(!w.failed); /* all that is decoded fits a datagram */
	r = (struct reader){.at = bytes, .end = w.at};
	REQUIRE(wire_get(&r, &n) == 1);
	REQUIRE(r.at == r.end && !r.failed);
	check_same(m, &n);
}

static void take_messages(struct reader r)
{
	static struct wire_message m;
	int n;

	while ((n = wire_get(&r, &m)) > 0)
		round_trip(&m);
	REQUIRE(n == 0 || n == -EBADMSG);
}

static bool take_header(struct reader *r)
{
	uint8_t bytes[WIRE_HEADER];
	struct writer w = {.at = bytes, .end = bytes + sizeof(bytes)};
	const uint8_t *start = r->at;
	struct wire_header h;

	if (wire_get_header(r, &h) < 0)
		return false;
	REQUIRE(h.from < ESPALIER_MEMBERS && h.to < ESPALIER_MEMBERS && h.stream);
	wire_put_header(&w, &h);
	REQUIRE(!w.failed && w.at == w.end && r->at == start + WIRE_HEADER);
	REQUIRE(memcmp(start, bytes, sizeof(bytes)) == 0);
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct reader r = {.at = data, .end = data + size};

	take_messages(r);
	if (take_header(&r))
		take_messages(r);
	return 0;
}

static struct record a_record(void)
{
	return (struct record){
		.key = {.kind = RECORD_SA,
			.proto = 50,
			.family = 2,
			.spi = 0x010000c0,
			.addr = {192, 0, 2, 1}},
		.facts = {.birth = 0x1122334455667788,
			.pair = 0x99aabbccddeeff00,
			.direction = ESPALIER_OUT,
			.esn = true,
			.limited = true,
			.remote = {.prefixlen = ESPALIER_SELECTOR_BITS + 24,
				.family = 2,
				.addr = {10, 1, 2}}},
		.version = 3,
		.author = 3,
		.life = RECORD_ALIVE,
		.creator = 5,
		.bucket = 4095,
		.pinned = 6,
		.paired = true,
		.top = 7,
		.seq = 1000000,
		.used = {.bytes = 1ULL << 40, .packets = 1000000},
		.upto = {[3] = 4, [15] = 16},
		.journals = {[3] = 77, [15] = RECORD_JOURNAL_DISPUTED},
	};
}

void fuzz_seeds(void)
{
	static const struct wire_header header = {.from = 15,
		.to = 1,
		.stream = 0x1122334455667788,
		.ack_stream = 0x99aabbccddeeff00,
		.segment = true,
		.seq = 5,
		.ack = 6,
		.sack = 1ULL << 63};
	static const struct wire_message heartbeat = {.kind = WIRE_HEARTBEAT,
		.heartbeat = {.settings = 7,
			.journal = 8,
			.synced = 0x102,
			.doubled = 4,
			.view = {.epoch = 9}}};
	static const uint64_t values[] = {1, 2, 3};
	static uint8_t bytes[WIRE_MAX], body[RECORD_BODY_MAX];
	struct writer w = {.at = bytes, .end = bytes + sizeof(bytes)};
	struct record r = a_record();

	for (size_t i = 0; i < sizeof(body); i++)
		body[i] = (uint8_t)(i % 12 ? i : 0);
	wire_put_header(&w, &header);
	fuzz_seed(bytes, (size_t)(w.at - bytes));
	encode(&w, &heartbeat);
	wire_put_record(&w, &r, body, 100);
	wire_put_state(&w, &r);
	wire_put_position(&w, 0x1122334455667788, 300);
	wire_put_usage(&w, 0x1122334455667788, 300, &r.used);
	wire_put_digest(&w, WIRE_DIGEST, TABLE_RANGES - 3, values, 3);
	wire_put_digest(&w, WIRE_LEAVES, TABLE_LEAVES - 3, values, 3);
	wire_put_digest(&w, WIRE_HAVE, TABLE_LEAVES - 1, values, 3);
	wire_put_number(&w, WIRE_PULL, 11);
	wire_put_number(&w, WIRE_LEAVES_END, 12);
	wire_put_number(&w, WIRE_HAVE_END, 13);
	wire_put_number(&w, WIRE_PULLED, 14);
	wire_put_key(&w, WIRE_ASK, &r.key);
	wire_put_key(&w, WIRE_LACK, &r.key);
	REQUIRE(!w.failed);
	fuzz_seed(bytes, (size_t)(w.at - bytes));
	fuzz_seed(bytes + WIRE_HEADER, (size_t)(w.at - bytes) - WIRE_HEADER);
	w.at = bytes;
	wire_put_record(&w, &r, body, sizeof(body));
	REQUIRE(!w.failed);
	fuzz_seed(bytes, (size_t)(w.at - bytes));
}
