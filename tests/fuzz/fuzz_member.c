/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One member of three: the input is what its kernel tells, what time does and what the other two
 * say, from well formed datagrams to any bytes. Whatever that is, all that the member sends is well
 * formed, its table and its queues stay within their limits, and it lets out only numbers of blocks
 * of its own that its journal holds.
 */
#include <string.h>

#include "rig.h"

enum act {
	TICK,
	FLUSH,
	RAW,
	SEGMENT,
	DATAGRAM,
	HEARTBEAT,
	RECORD,
	STATE,
	NEW_STREAM,
	ADDED,
	REMOVED,
	LINK,
	LEAVE,
	COMMITTED,
	POSITION,
	COUNTER,
	KERNEL_FAILS,
	WORK,
	MISSING,
	MISSED,
	ASK,
	LACK,
	ACTS
};

/* Input. Keys, births and pairs are few, so that they meet. */

static struct record_key take_key(struct reader *in)
{
	uint8_t which = (uint8_t)read_uint(in, 1);
	struct record_key key = {.kind = which & 1 ? RECORD_POLICY : RECORD_SA, .family = 2};

	key.addr[0] = which >> 1 & 31;
	key.proto = key.kind == RECORD_SA ? 50 : 1;
	if (key.kind == RECORD_SA)
		key.spi = __builtin_bswap32((uint32_t)which << 24 | 1);
	return key;
}

static struct record_facts take_facts(struct reader *in)
{
	uint8_t what = (uint8_t)read_uint(in, 1);
	struct espalier_selector remote = {
		.prefixlen = ESPALIER_SELECTOR_BITS + 24, .family = 2, .addr = {what >> 6}};

	return (struct record_facts){
		.birth = 1 + (what & 1),
		.pair = 1 + (what >> 1 & 3),
		.direction = what & 8 ? ESPALIER_OUT : ESPALIER_IN,
		.esn = what & 16,
		.remote = what & 32 ? remote : (struct espalier_selector){0},
	};
}

/* A number as it is in practice, or any. */
static uint64_t take_number(struct reader *in)
{
	uint8_t what = (uint8_t)read_uint(in, 1);

	if (what < 192)
		return what;
	return read_uint(in, what < 240 ? 2 : 8);
}

static struct record take_record(struct reader *in)
{
	struct record r = {.key = take_key(in), .facts = take_facts(in)};
	uint16_t told = (uint16_t)read_uint(in, 1);
	uint8_t what = (uint8_t)read_uint(in, 1);

	r.life = what & 1 ? RECORD_DEAD : RECORD_ALIVE;
	r.paired = what & 2;
	r.creator = what & 4 ? ESPALIER_NOBODY : what >> 3 & 3;
	r.author = what >> 5 & 3;
	r.version = take_number(in) | (what >> 7);
	r.bucket = (uint16_t)(read_uint(in, 1) << 4);
	r.pinned = (uint8_t)(read_uint(in, 1) % (MEMBERS + 2));
	r.top = take_number(in);
	r.seq = take_number(in);
	for (unsigned int i = 0; i < 4; i++) {
		r.upto[i] = told >> i & 1 ? take_number(in) : 0;
		r.journals[i] = told >> (4 + i) & 1 ? (uint32_t)take_number(in) : 0;
	}
	return r;
}

static struct wire_heartbeat take_heartbeat(struct reader *in, uint8_t from)
{
	uint8_t what = (uint8_t)read_uint(in, 1);
	struct wire_heartbeat h = {
		.settings = what & 1 ? 2 : 1,
		.journal = 100U + from + (what >> 1 & 1),
		.synced = 7,
		.knows = what & 4 ? 0 : 7,
		.flags = (uint8_t)(what >> 4 | (what & 8 ? what & 0xf0 : 0)),
		.view = {.live = 7, .publisher = from},
		.macs = {.outer = {2, from}, .inner = {4, from}},
	};

	if (what & 8) {
		h.synced = (uint16_t)read_uint(in, 2);
		h.view.epoch = take_number(in);
		h.view.live = (uint16_t)read_uint(in, 2);
		h.view.publisher = (uint8_t)read_uint(in, 1);
		h.doubled = (uint16_t)read_uint(in, 1);
	}
	return h;
}

/* What others say. */

static void say(struct rig *rig, uint8_t from, bool segment, const uint8_t *payload, size_t len)
{
	struct remote *remote = &rig->remotes[from];
	struct wire_header h = {
		.from = from,
		.to = rig->self,
		.stream = remote->stream,
		.ack_stream = remote->heard_stream,
		.ack = remote->heard,
		.segment = segment,
		.seq = segment ? remote->next++ : 0,
	};
	uint8_t datagram[WIRE_MAX];
	struct writer w = {.at = datagram, .end = datagram + sizeof(datagram)};

	wire_put_header(&w, &h);
	write_bytes(&w, payload, len);
	REQUIRE(!w.failed);
	member_datagram(rig->m, from, datagram, (size_t)(w.at - datagram), rig->now_us);
}

static void say_bytes(struct rig *rig, uint8_t from, enum act act, struct reader *in)
{
	size_t len = read_uint(in, 2) % (WIRE_MAX + 100), rest = (size_t)(in->end - in->at);
	const uint8_t *bytes;

	len = len < rest ? len : rest;
	bytes = reader_take(in, len);
	if (!bytes)
		return;
	if (act == RAW)
		member_datagram(rig->m, from, bytes, len, rig->now_us);
	else
		say(rig, from, act == SEGMENT, bytes, len < WIRE_PAYLOAD ? len : WIRE_PAYLOAD);
}

static void say_message(struct rig *rig, uint8_t from, enum act act, struct reader *in)
{
	static const uint8_t body[200] = {1, 2, 3};
	uint8_t payload[WIRE_PAYLOAD];
	struct writer w = {.at = payload, .end = payload + sizeof(payload)};

	if (act == HEARTBEAT) {
		struct wire_heartbeat h = take_heartbeat(in, from);

		wire_put_heartbeat(&w, &h);
	} else {
		struct record r = take_record(in);

		if (act == STATE)
			wire_put_state(&w, &r);
		else if (act == ASK || act == LACK)
			wire_put_key(&w, act == ASK ? WIRE_ASK : WIRE_LACK, &r.key);
		else
			wire_put_record(&w, &r, body, r.life == RECORD_ALIVE ? sizeof(body) : 0);
	}
	say(rig, from, act == RECORD || act == STATE, payload, (size_t)(w.at - payload));
}

static void hear_others(struct rig *rig, enum act act, struct reader *in)
{
	uint8_t from = (uint8_t)read_uint(in, 1), who = (uint8_t)((rig->self + 1 + from % 2) % 3);
	struct remote *remote = &rig->remotes[who];

	if (act == NEW_STREAM) {
		remote->stream += from & 2 ? 1ULL << 32 : 1;
		remote->next = 1;
		if (from & 2)
			remote->heard_stream = 0;
	} else if (act == RAW && from >= 0xf0) {
		say_bytes(rig, from, act, in); /* a member that there is not */
	} else if (act == RAW || act == SEGMENT || act == DATAGRAM) {
		say_bytes(rig, who, act, in);
	} else {
		say_message(rig, who, act, in);
	}
}

/* What the kernel says. */

static void add(struct rig *rig, struct reader *in)
{
	static const uint8_t body[100] = {1};
	struct member_record record = {.key = take_key(in), .facts = take_facts(in)};

	record.oseq = take_number(in);
	if (record.key.kind == RECORD_POLICY) {
		record.body = body;
		record.body_len = sizeof(body);
	}
	member_added(rig->m, &record);
}

static void commit(struct rig *rig, uint64_t n)
{
	uint64_t open = rig->journaled - rig->committed;

	rig->committed += n < open ? n : open;
	member_committed(rig->m, rig->committed);
}

static void hear_kernel(struct rig *rig, enum act act, struct reader *in)
{
	struct record_key key;
	uint32_t slot;

	if (act == ADDED) {
		add(rig, in);
	} else if (act == REMOVED || act == MISSING || act == MISSED) {
		key = take_key(in);
		if (act == REMOVED)
			member_removed(rig->m, &key);
		else if (act == MISSING)
			member_missing(rig->m, &key);
		else if (key.kind == RECORD_SA)
			member_missed(rig->m, &key);
	} else if (act == COMMITTED) {
		commit(rig, 1 + read_uint(in, 1));
	} else {
		slot = (uint32_t)(read_uint(in, 1) % (SLOTS + 1));
		if (act == POSITION)
			member_position(rig->m, slot, take_number(in));
		else
			member_counter(rig->m, slot, take_number(in));
	}
}

static void act(struct rig *rig, struct reader *in)
{
	enum act what = (enum act)(read_uint(in, 1) % ACTS);

	switch (what) {
	case TICK:
		rig->now_us += 100 * take_number(in);
		member_tick(rig->m, rig->now_us);
		break;
	case FLUSH:
		member_flush(rig->m, rig->now_us);
		break;
	case WORK:
		(void)member_work(rig->m, rig->now_us);
		break;
	case LINK:
		member_link(rig->m, read_uint(in, 1) & 1);
		break;
	case LEAVE:
		member_leave(rig->m);
		break;
	case KERNEL_FAILS:
		rig->kernel_fails = !rig->kernel_fails;
		break;
	case RAW:
	case SEGMENT:
	case DATAGRAM:
	case HEARTBEAT:
	case RECORD:
	case STATE:
	case NEW_STREAM:
	case ASK:
	case LACK:
		hear_others(rig, what, in);
		break;
	default:
		hear_kernel(rig, what, in);
		break;
	}
}

/* A member's life. */

static void begin(struct rig *rig, struct reader *in)
{
	uint8_t what = (uint8_t)read_uint(in, 1);
	struct member_config config = {
		.self = what % MEMBERS,
		.members = 7,
		.settings = 1,
		.mode = what & 64 ? VIEW_HOT_STANDBY : VIEW_LOAD_SHARING,
		.hash = what & 128 ? ESPALIER_HASH_MIX : ESPALIER_HASH_PREFIX,
		.block_bits = BLOCK_BITS,
		.heartbeat_us = 1000,
		.dead = 3,
		.repair_us = 10000,
		.start_us = 10000,
		.claim_us = 5000,
		.tombstone_us = 50000,
		.doubled_us = 20000,
		.capacity = CAPACITY,
		.idle = 4,
		.journal = 99,
		.life = 9,
	};

	*rig = (struct rig){.self = config.self, .now_us = 1000000};
	for (unsigned int i = 0; i < MEMBERS; i++)
		rig->remotes[i] = (struct remote){.stream = (i + 1ULL) << 40 | 1, .next = 1};
	REQUIRE(member_new(&config, &ops, rig, rig->now_us, &rig->m) == 0);
}

/* What an earlier life entered: it is in the journal, or the guard has it open. */
static void take_entries(struct rig *rig, struct reader *in, unsigned int n)
{
	while (n--) {
		struct entry e = {.key = take_key(in)};

		e.birth = 1 + read_uint(in, 1) % 2;
		e.block = read_uint(in, 1) * 4 + rig->self;
		e.key.kind = RECORD_SA;
		rig->entries[rig->restored++] = e;
	}
}

static void pin(struct rig *rig, const struct entry *e)
{
	struct espalier_sa sa = {
		.birth = e->birth,
		.direction = e->block & 4 ? ESPALIER_IN : ESPALIER_OUT,
		.creator = e->block & 8 ? rig->self : ESPALIER_NOBODY,
		.pinned = e->block >> 4 & 3,
		.open[0] = {e->block << BLOCK_BITS, ((e->block + 1) << BLOCK_BITS) - 1},
	};

	member_guarded(rig->m, &e->key, &sa, (e->block << BLOCK_BITS) + 5);
}

static void restore(struct rig *rig, struct reader *in)
{
	unsigned int journaled = (unsigned int)read_uint(in, 1) % 8;
	unsigned int pinned = (unsigned int)read_uint(in, 1) % 8;

	take_entries(rig, in, journaled + pinned);
	for (unsigned int i = 0; i < journaled; i++)
		member_restore(
			rig->m, &rig->entries[i].key, rig->entries[i].birth, rig->entries[i].block);
	for (unsigned int i = journaled; i < journaled + pinned; i++)
		pin(rig, &rig->entries[i]);
	for (unsigned int n = (unsigned int)read_uint(in, 1) % 8; n; n--)
		add(rig, in);
	member_started(rig->m);
}

static bool is_alive(const struct record *r)
{
	return r && r->life == RECORD_ALIVE;
}

/* The datapath has the pins of the inbound SAs that there are, and no others. */
static void check_pins(struct rig *rig)
{
	const struct table *t = member_table(rig->m);
	unsigned int n = 0;

	for (uint32_t slot = 0; slot < t->high; slot++) {
		const struct record *r = table_at(t, slot);
		const struct pin *pin;

		if (!is_alive(r) || r->key.kind != RECORD_SA || r->facts.direction != ESPALIER_IN ||
			!r->pinned)
			continue;
		pin = find_pin(rig, &r->key);
		REQUIRE(pin && pin->pinned == r->pinned);
		n++;
	}
	REQUIRE(member_pins(rig->m) == n);
	for (unsigned int i = 0; i < SLOTS; i++)
		n -= rig->pins[i].key.kind != 0;
	REQUIRE(n == 0);
}

static bool leads_to(
	const struct table *t, const struct record *policy, const struct espalier_flow *flow)
{
	bool any = false, same = false;

	for (const struct record *r = table_pair_first(t, policy->facts.pair); r;
		r = table_pair_next(t, r)) {
		if (!is_alive(r) || r->key.kind != RECORD_SA || r->facts.direction != ESPALIER_OUT)
			continue;
		any = true;
		same |= flow && r->bucket == flow->bucket && r->pinned == flow->pinned;
	}
	return flow ? same : any;
}

/* The clear side goes by the lowest policy of each remote selector that an outbound SA is for. */
static void check_selectors(struct rig *rig)
{
	const struct table *t = member_table(rig->m);
	const struct record *lowest[SLOTS] = {0};
	unsigned int n = 0;

	for (uint32_t slot = 0; slot < t->high; slot++) {
		const struct record *r = table_at(t, slot);
		struct selector *s;

		if (!is_alive(r) || r->key.kind != RECORD_POLICY || !r->facts.remote.prefixlen ||
			!leads_to(t, r, NULL))
			continue;
		s = find_selector(rig, &r->facts.remote);
		REQUIRE(s);
		n = (unsigned int)(s - rig->selectors);
		if (!lowest[n] || memcmp(&r->key, &lowest[n]->key, sizeof(r->key)) < 0)
			lowest[n] = r;
	}
	for (n = 0; n < SLOTS; n++) {
		REQUIRE(!rig->selectors[n].key.prefixlen == !lowest[n]);
		REQUIRE(!lowest[n] || leads_to(t, lowest[n], &rig->selectors[n].flow));
	}
}

static void check(struct rig *rig)
{
	const struct table *t = member_table(rig->m);

	REQUIRE(t->used <= SLOTS && t->high <= SLOTS);
	REQUIRE(member_fenced(rig->m) <= t->used);
	for (uint8_t id = 0; id < MEMBERS; id++) {
		struct member_other other;

		member_other(rig->m, id, &other);
		REQUIRE(other.queued <= 2 * SLOTS + 2 * TABLE_LEAVES);
	}
	for (uint16_t bucket = 0; bucket < ESPALIER_BUCKETS; bucket += 101)
		REQUIRE(member_owner(rig->m, bucket) == ESPALIER_NOBODY ||
			member_owner(rig->m, bucket) < MEMBERS);
	check_pins(rig);
	check_selectors(rig);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct rig rig;
	struct reader in = {.at = data, .end = data + size};

	begin(&rig, &in);
	restore(&rig, &in);
	while (in.at < in.end && !in.failed && rig.restored + rig.journaled < ENTRIES - 2 * SLOTS) {
		act(&rig, &in);
		check(&rig);
	}
	member_free(rig.m);
	return 0;
}

/* Lives: members meet, SAs come and go, packets flow; with more and more that goes wrong. */
void fuzz_seeds(void)
{
	static const uint8_t usual[] = {TICK, TICK, WORK, FLUSH, HEARTBEAT, HEARTBEAT, RECORD,
		RECORD, STATE, ADDED, ADDED, COMMITTED, COMMITTED, POSITION, COUNTER};
	uint64_t random = 1;

	for (unsigned int i = 0; i < 24; i++) {
		uint8_t script[500];

		for (unsigned int at = 0; at < sizeof(script); at++) {
			random = random * 6364136223846793005ULL + 1442695040888963407ULL;
			script[at] = (uint8_t)(random >> 33);
			if ((random >> 41) % 32 > i)
				script[at] = usual[script[at] % sizeof(usual)];
			else if (script[at] > 200)
				script[at] = 0;
		}
		script[0] = (uint8_t)i;
		fuzz_seed(script, sizeof(script));
	}
}
