/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_compare.c - what differs between members is found and repaired, at a cost that follows the
 * difference; a new member gets everything; what breaks off in the middle ends well.
 */
#include "cluster.h"

#define SAS 20000U
#define ROUND_MS (REPAIR_US / 1000)
#define LOST 100U
#define RANGE (SAS / TABLE_RANGES) /* records */

static struct record *sa_record(unsigned int id, unsigned int sa)
{
	struct record_key key = sa_key(sa);
	struct record *r = table_find(&gateways[id].m->table, &key);

	assert_non_null(r);
	return r;
}

/* Its kernel and its agent have both lost it, and know nothing of that. */
static void lose(unsigned int id, unsigned int sa)
{
	gateways[id].sas[sa].present = false;
	gateways[id].sas[sa].pin = 0;
	table_drop(&gateways[id].m->table, sa_record(id, sa));
}

/* Different ones, from all over the table. */
static void lose_some(unsigned int id)
{
	for (unsigned int n = 0; n < LOST;) {
		unsigned int sa = draw(n_sas);

		if (!gateways[id].sas[sa].present)
			continue;
		lose(id, sa);
		n++;
	}
}

static uint64_t sent(enum wire_kind kind)
{
	uint64_t n = 0;

	for (unsigned int from = 0; from < members; from++)
		for (unsigned int to = 0; to < members; to++)
			n += traffic[from][to].messages[kind];
	return n;
}

static uint64_t sent_bytes(void)
{
	uint64_t n = 0;

	for (unsigned int from = 0; from < members; from++)
		for (unsigned int to = 0; to < members; to++)
			n += traffic[from][to].bytes;
	return n;
}

static uint64_t repaired(void)
{
	uint64_t n = 0;

	for (unsigned int id = 0; id < members; id++)
		n += member_counters(gateways[id].m)->repaired;
	return n;
}

static bool is_comparing(void)
{
	for (unsigned int id = 0; id < members; id++)
		for (unsigned int other = 0; other < members; other++)
			if (gateways[id].m->others[other].asking.asked !=
				gateways[id].m->others[other].asking.answered)
				return true;
	return false;
}

static int begin(unsigned int count, unsigned int sas)
{
	begin_cluster(count, sas);
	settle(60000);
	while (is_comparing())
		step();
	for (unsigned int id = 0; id < count; id++)
		assert_true(has_all(id));
	memset(traffic, 0, sizeof(traffic));
	return 0;
}

static int setup_two(void **state)
{
	(void)state;
	return begin(2, SAS);
}

static int setup_three(void **state)
{
	(void)state;
	return begin(3, SAS);
}

static int setup_large(void **state)
{
	(void)state;
	return begin(2, 200000);
}

/* Tests. */

static void test_repair(void **state)
{
	uint64_t before = repaired(), others = members - 1;
	unsigned int ms;

	(void)state;
	lose_some(1);
	ms = settle(2 * ROUND_MS + 50);
	assert_true(has_all(1));
	assert_int_equal(member_table(gateways[1].m)->present, n_sas);
	/* Each of the others has sent what was lost, and next to nothing besides. */
	assert_in_range(repaired() - before, LOST, (LOST + 10) * others);
	assert_in_range(sent(WIRE_RECORD), LOST, (LOST + 10) * others);
	/* A range's worth for each would be 40 records for one. */
	assert_in_range(sent_bytes(), 0, LOST * RANGE * body_len * others / 8);
	print_message("# %u of %u SAs lost: back after %u ms; %llu records, %llu bytes sent\n",
		LOST, n_sas, ms, (unsigned long long)sent(WIRE_RECORD),
		(unsigned long long)sent_bytes());
}

/* Nor has a member caught up before what differs, in the middle of what does not, is in its kernel.
 */
static void test_repair_before_synced(void **state)
{
	(void)state;
	run(ROUND_MS); /* what is under way */
	lose_some(1);
	gateways[1].m->synced = 0;
	gateways[1].work_calls = 1;
	for (unsigned int ms = 0; !(gateways[1].m->synced & 1); ms++) {
		assert_in_range(ms, 0, ROUND_MS);
		step();
	}
	assert_true(has_all(1));
}

/* One lost record costs less than what is in its range. */
static void test_repair_one(void **state)
{
	(void)state;
	lose(1, 4711);
	settle(2 * ROUND_MS + 50);
	assert_true(has_all(1));
	assert_int_equal(sent(WIRE_RECORD), 1);
	/* Either may have looked first, or both. */
	assert_in_range(sent(WIRE_LEAVES), 1, 2);
	assert_in_range(sent(WIRE_HAVE), 0, 2);
	assert_in_range(sent_bytes(), 1, 40000);
	print_message(
		"# one of %u SAs lost: %llu bytes sent\n", n_sas, (unsigned long long)sent_bytes());
}

/* Both lack some: each repairs the other. */
static void test_repair_both(void **state)
{
	(void)state;
	for (unsigned int sa = 0; sa < LOST; sa++)
		lose(sa % 2, sa * 199);
	settle(2 * ROUND_MS + 50);
	assert_true(has_all(0) && has_all(1));
	assert_in_range(sent(WIRE_RECORD), LOST, LOST + 10);
}

static void test_stale(void **state)
{
	struct record *old = sa_record(1, 4711);
	const struct record *new = sa_record(0, 4711);
	uint16_t bucket = old->bucket;

	(void)state;
	old->version--;
	old->bucket = bucket ^ 1;
	table_changed(&gateways[1].m->table, old);
	settle(2 * ROUND_MS + 50);
	assert_int_equal(old->bucket, bucket);
	assert_int_equal(new->bucket, bucket);
	assert_true(old->version == new->version);
	/* The stale one may have been shown to the other, who answers with his. */
	assert_in_range(sent(WIRE_RECORD), 1, 3);
}

/* An SA ended, and one member has not heard: gone there too, and for good. */
static void test_deleted(void **state)
{
	const unsigned int sa = 4711;
	struct record *r = sa_record(0, sa);

	(void)state;
	gateways[0].sas[sa].present = false;
	life_end(gateways[0].m, r);
	r->dirty &= (uint16_t)~member_bit(1);
	run(50);
	assert_true(gateways[1].sas[sa].present);
	run(2 * ROUND_MS);
	assert_false(gateways[1].sas[sa].present);
	assert_true(is_shut(&gateways[1].sas[sa]));
	/* Longer than the dead are remembered, too. */
	for (unsigned int round = 0; round < 3 + TOMBSTONE_US / REPAIR_US; round++) {
		run(ROUND_MS);
		assert_false(gateways[0].sas[sa].present);
		assert_false(gateways[1].sas[sa].present);
	}
	assert_int_equal(member_table(gateways[0].m)->used, n_sas - 1);
	assert_int_equal(member_table(gateways[1].m)->used, n_sas - 1);
}

/* Nothing differs: digests of ranges each way, heartbeats, and no record. */
static void test_clean_round(void **state)
{
	uint64_t before = repaired();

	(void)state;
	run(ROUND_MS); /* what is under way */
	memset(traffic, 0, sizeof(traffic));
	run(ROUND_MS);
	assert_int_equal(repaired(), before);
	assert_in_range(sent(WIRE_PULL), 1, 2 * (members - 1) * members);
	assert_int_equal(sent(WIRE_RECORD) + sent(WIRE_STATE), 0);
	assert_int_equal(sent(WIRE_LEAVES) + sent(WIRE_HAVE), 0);
	assert_in_range(sent_bytes(), 1, 64 * 1024 / 2 * members * (members - 1));
	print_message("# a clean round of %u members, %u SAs: %llu bytes\n", members, n_sas,
		(unsigned long long)sent_bytes());
}

/* Member 1 is empty: it gets everything, at a bounded pace, and has caught up when it is in its
 * kernel, not before. */
static void walk_to_empty(void)
{
	struct member *m;
	unsigned int ms = 0;

	power_off(1);
	gateways[1].work_calls = 1;
	run(100);
	memset(traffic, 0, sizeof(traffic));
	start(1);
	m = gateways[1].m;
	for (; !(m->synced & 1); ms++) {
		assert_in_range(ms, 0, 10000);
		step();
		assert_true(!(m->synced & 1) || has_all(1));
		/* Queued a part at a time: other news come soon. */
		assert_in_range(gateways[0].m->others[1].queue.count, 0, 8192 + n_sas / 5);
	}
	assert_true(has_all(1));
	assert_int_equal(m->table.present, n_sas);
	assert_int_equal(traffic[1][0].messages[WIRE_HAVE], 0);
	/* Once each. */
	assert_in_range(traffic[0][1].messages[WIRE_RECORD], n_sas, n_sas + n_sas / 50);
	print_message("# an empty member got %u SAs in %u turns of 64: %llu bytes, %llu sent "
		      "again\n",
		n_sas, ms, (unsigned long long)traffic[0][1].bytes,
		(unsigned long long)gateways[0].m->others[1].stream.resent);
}

static void test_empty(void **state)
{
	(void)state;
	walk_to_empty();
}

/* Member 1 comes back empty; `part` of all it has when something happens. */
static void come_back_until(unsigned int part)
{
	power_off(1);
	run(100);
	start(1);
	gateways[1].work_calls = 1;
	for (unsigned int ms = 0; gateways[1].m->table.present < n_sas / part; ms++) {
		assert_in_range(ms, 0, 10000);
		step();
	}
	assert_false(gateways[1].m->synced & 1);
	assert_false(has_all(1));
}

static void ends_well(void)
{
	settle(10000);
	run(100);
	for (unsigned int id = 0; id < members; id++) {
		assert_true(has_all(id));
		assert_int_equal(member_view(gateways[id].m)->live, (1 << members) - 1);
	}
}

/* The one that sends dies in the middle: the third one goes on; then it comes back. */
static void test_sender_dies(void **state)
{
	(void)state;
	come_back_until(3);
	power_off(0);
	for (unsigned int ms = 0; !(gateways[1].m->synced >> 2 & 1); ms++) {
		assert_in_range(ms, 0, 10000);
		step();
	}
	assert_true(has_all(1));
	start(0);
	ends_well();
}

/* All that had it die in the middle, and come back with nothing: what got through is not lost. */
static void test_all_senders_die(void **state)
{
	(void)state;
	come_back_until(3);
	power_off(0);
	power_off(2);
	run(1000);
	assert_true(gateways[1].m->table.present >= n_sas / 3);
	assert_int_equal(gateways[1].m->work_count, 0);
	start(0);
	start(2);
	settle(10000);
	assert_int_equal(gateways[0].m->table.present, gateways[1].m->table.present);
	assert_int_equal(gateways[2].m->table.present, gateways[1].m->table.present);
	assert_true(gateways[0].m->table.present >= n_sas / 3);
}

static void test_receiver_dies(void **state)
{
	(void)state;
	come_back_until(3);
	come_back_until(2);
	ends_well();
}

/* It is silent for long enough to be held for dead, in the middle. */
static void test_receiver_sleeps(void **state)
{
	struct member *m;

	(void)state;
	come_back_until(3);
	m = gateways[1].m;
	gateways[1].m = NULL;
	run(200);
	gateways[1].m = m;
	ends_well();
}

static void test_loss(void **state)
{
	(void)state;
	loss = 200;
	power_off(1);
	run(100);
	start(1);
	for (unsigned int ms = 0; !has_all(1); ms++) {
		assert_in_range(ms, 0, 60000);
		step();
	}
	loss = 0;
	ends_well();
}

/* A member that went over to the enemy. */

struct hostile {
	uint64_t stream;
	uint32_t seq;
};

static void attack(struct hostile *h, const uint8_t *payload, size_t len, bool segment)
{
	uint8_t datagram[WIRE_MAX];
	struct writer w = {.at = datagram, .end = datagram + sizeof(datagram)};
	struct wire_header header = {
		.from = 1,
		.to = 0,
		.stream = h->stream,
		.segment = segment,
		.seq = segment ? ++h->seq : 0,
	};

	wire_put_header(&w, &header);
	write_bytes(&w, payload, len);
	assert_false(w.failed);
	member_datagram(gateways[0].m, 1, datagram, (size_t)(w.at - datagram), now_us);
}

static void hostile_heartbeat(struct hostile *h)
{
	struct wire_heartbeat heartbeat = {.settings = 1, .journal = 7, .flags = WIRE_STARTED};
	uint8_t payload[WIRE_PAYLOAD];
	struct writer w = {.at = payload, .end = payload + sizeof(payload)};

	wire_put_heartbeat(&w, &heartbeat);
	attack(h, payload, (size_t)(w.at - payload), false);
}

static void put_hostile(struct writer *w, enum wire_kind kind)
{
	uint64_t values[WIRE_DIGESTS];

	for (unsigned int i = 0; i < WIRE_DIGESTS; i++)
		values[i] = draw(UINT32_MAX) | 1;
	if (kind == WIRE_PULL || kind == WIRE_LEAVES_END || kind == WIRE_HAVE_END)
		wire_put_number(w, kind, draw(3));
	else if (kind == WIRE_DIGEST)
		wire_put_digest(w, kind,
			(uint16_t)(draw(TABLE_RANGES / WIRE_DIGESTS) * WIRE_DIGESTS), values,
			WIRE_DIGESTS);
	else if (kind == WIRE_LEAVES)
		wire_put_digest(w, kind, (uint16_t)(draw(TABLE_RANGES) * TABLE_FANOUT), values,
			TABLE_FANOUT);
	else
		wire_put_digest(w, kind, (uint16_t)draw(TABLE_LEAVES), values, 1);
}

/* It asks without end and acknowledges nothing: what waits for it stays within what a table of our
 * size can make, and another member gets what is its due. */
static void test_hostile(void **state)
{
	static const enum wire_kind kinds[] = {
		WIRE_DIGEST, WIRE_PULL, WIRE_LEAVES, WIRE_HAVE, WIRE_LEAVES_END, WIRE_HAVE_END};
	const struct queue *q = &gateways[0].m->others[1].queue;
	uint32_t bound = 2 * gateways[0].m->table.slots + 2 * TABLE_LEAVES;
	struct hostile h = {.stream = 999ULL << 32 | 1};

	(void)state;
	power_off(1);
	step(); /* what was on its way */
	hostile_heartbeat(&h);
	for (unsigned int round = 0; round < 6000; round++) {
		uint8_t payload[WIRE_PAYLOAD];
		struct writer w = {.at = payload, .end = payload + sizeof(payload)};
		enum wire_kind kind = round < 3000 ? kinds[round / 500] : kinds[draw(6)];

		while (!w.failed)
			put_hostile(&w, kind);
		attack(&h, payload, (size_t)(w.at - payload), true);
		assert_in_range(q->count, 0, bound);
		if (round % 20 == 0) {
			hostile_heartbeat(&h);
			step();
		}
		if (round == 3000)
			lose(2, 4711);
	}
	assert_int_equal(gateways[0].m->others[1].stream.heard, h.seq);
	assert_in_range(q->size, 1, 2 * bound);
	assert_true(gateways[2].sas[4711].present);
	/* Its end. */
	run(200);
	start(1);
	ends_well();
}

int main(void)
{
#define OF_TWO(test) cmocka_unit_test_setup_teardown(test, setup_two, teardown)
#define OF_THREE(test) cmocka_unit_test_setup_teardown(test, setup_three, teardown)
	const struct CMUnitTest tests[] = {
		OF_TWO(test_repair),
		OF_THREE(test_repair),
		OF_TWO(test_repair_before_synced),
		OF_TWO(test_repair_one),
		OF_TWO(test_repair_both),
		OF_TWO(test_stale),
		OF_TWO(test_deleted),
		OF_TWO(test_clean_round),
		OF_THREE(test_clean_round),
		cmocka_unit_test_setup_teardown(test_clean_round, setup_large, teardown),
		OF_TWO(test_empty),
		OF_THREE(test_sender_dies),
		OF_THREE(test_all_senders_die),
		OF_THREE(test_receiver_dies),
		OF_THREE(test_receiver_sleeps),
		OF_TWO(test_loss),
		OF_THREE(test_hostile),
	};

	return cmocka_run_group_tests_name("compare", tests, NULL, NULL);
}
