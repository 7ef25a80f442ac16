/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_work.c - work in the kernel: a bounded part of it at a time, whatever others send; nothing
 * of it is lost, nor done before its time.
 */
#include "cluster.h"

#define BATCH 64 /* kernel operations in one call */
#define SAS 12000U

static int setup_two(void **state)
{
	(void)state;
	begin_cluster(2, SAS);
	return 0;
}

/* Three, of which the last is off, and the first two have `sas`. */
static void begin_three(unsigned int sas)
{
	begin_cluster(3, sas);
	power_off(2);
	settle(60000);
	run(200);
	assert_int_equal(member_view(gateways[0].m)->live, 3);
	assert_int_equal(member_view(gateways[1].m)->live, 3);
}

static unsigned int count_present(unsigned int id, unsigned int first, unsigned int every)
{
	unsigned int n = 0;

	for (unsigned int sa = first; sa < n_sas; sa += every)
		n += gateways[id].sas[sa].present;
	return n;
}

/* Tests. */

/* However much arrives, one call does no more than its part; installs go together. */
static void test_part(void **state)
{
	const struct gateway *g = &gateways[1];
	unsigned int ops_before = g->slow_ops;

	(void)state;
	gateways[1].work_calls = 1;
	for (unsigned int ms = 0; !has_all(1); ms++) {
		unsigned int before = g->slow_ops;

		assert_in_range(ms, 0, 20000);
		step();
		assert_in_range(g->slow_ops - before, 0, BATCH);
	}
	settle(1000);
	assert_int_equal(g->most_work, BATCH);
	assert_in_range(g->slow_ops - ops_before, SAS, 3 * SAS);
	/* Of the one that made them, too: it enters blocks. */
	assert_in_range(gateways[0].most_work, 0, BATCH);
}

/* Member 1's kernel does nothing: what waits for it stays within bounds, member 0 sends no more,
 * and neither takes the other for dead. */
static void test_back_pressure(void **state)
{
	const struct member *sender = gateways[0].m, *m = gateways[1].m;
	struct member_other other;
	uint32_t waits, acked;
	uint64_t heard_us;

	(void)state;
	gateways[1].work_calls = 0;
	run(500);
	waits = m->work_count;
	assert_in_range(waits, WORK_MAX, WORK_MAX + 64); /* those of a segment */
	assert_int_equal(count_present(1, 0, 1), 0);
	assert_false(stream_room(&sender->others[1].stream));
	assert_in_range(sender->others[1].queue.count, SAS - WORK_MAX - 1000, SAS);
	acked = sender->others[1].stream.acked;
	memset(traffic, 0, sizeof(traffic));
	for (unsigned int i = 0; i < 100; i++) {
		run(10);
		heard_us = m->others[0].heard_us;
		assert_in_range(now_us - heard_us, 0, 2 * HEARTBEAT_US);
		member_other(gateways[0].m, 1, &other);
		assert_true(other.alive);
		assert_int_equal(m->work_count, waits);
	}
	assert_int_equal(sender->others[1].stream.acked, acked);
	/* It asks now and then whether there is room again: not the whole window, over and over. */
	assert_in_range(traffic[0][1].bytes, 0, 100000);
	gateways[1].work_calls = UINT32_MAX;
	settle(1000);
	assert_true(has_all(1));
	assert_int_equal(m->table.present, SAS);
}

struct death {
	unsigned int ticks; /* of 1 ms, from the last heartbeat that was sent to the new view */
	unsigned int ops; /* in the kernel, from the tick that decided to the new view */
};

/* Member 0 dies; when does `id` know? */
static struct death kill_and_watch(unsigned int id)
{
	const struct gateway *g = &gateways[id];
	uint64_t last_us = 0;

	/* The same moment between two heartbeats. */
	do {
		step();
	} while (now_us % HEARTBEAT_US != 3000);
	power_off(0);
	last_us = gateways[id].m->others[0].heard_us;
	for (unsigned int ms = 0; g->published_us <= last_us; ms++) {
		assert_in_range(ms, 0, 200);
		step();
	}
	assert_false(member_view(g->m)->live & 1);
	assert_int_equal(g->published_us, now_us);
	return (struct death){
		.ticks = (unsigned int)((g->published_us - last_us) / 1000),
		.ops = g->published_ops,
	};
}

/* A member is in the middle of joining, with 100000 SAs to install: it and the one that sends them
 * flip in the same tick as without, and do nothing in the kernel before. */
static void test_takeover_in_join(void **state)
{
	struct death idle, busy;

	(void)state;
	begin_three(2000);
	idle = kill_and_watch(1);
	assert_int_equal(idle.ops, 0);
	teardown(NULL);
	for (unsigned int id = 1; id <= 2; id++) {
		begin_three(100000);
		gateways[2].work_calls = 0;
		start(2);
		run(300);
		gateways[2].work_calls = 1;
		run(30);
		assert_in_range(gateways[2].m->work_count, WORK_MAX, WORK_MAX + 64);
		assert_in_range(gateways[2].m->table.present, 1000, 50000);
		assert_true(gateways[0].m->others[2].queue.count > 5000);
		busy = kill_and_watch(id);
		assert_int_equal(busy.ticks, idle.ticks);
		assert_int_equal(busy.ops, 0);
		assert_in_range(gateways[2].most_work, 1, BATCH);
		if (id == 1)
			teardown(NULL);
	}
	/* And the join goes on. */
	for (unsigned int ms = 0; !has_all(2); ms++) {
		assert_in_range(ms, 0, 20000);
		step();
	}
	print_message("# the new view came %u ms after the last heartbeat, in the middle of a join "
		      "too\n",
		busy.ticks);
}

/* No block is entered before it is in the journal; then all of them are. */
static void test_journal_late(void **state)
{
	struct gateway *g = &gateways[1];

	(void)state;
	g->disk_stuck = true;
	run(500);
	assert_int_equal(count_present(1, 1, 2), 0); /* outbound */
	assert_in_range(g->m->work_count, 2000, WORK_MAX + 64);
	assert_int_equal(traffic[1][0].messages[WIRE_STATE], 0);
	assert_int_equal(g->m->counters.entered, 0);
	g->disk_stuck = false;
	settle(2000);
	assert_true(has_all(1));
	assert_int_equal(g->m->counters.entered, SAS / 2);
	for (unsigned int sa = 1; sa < SAS; sa += 2)
		assert_true(g->sas[sa].journaled > g->sas[sa].oseq >> BITS);
}

/* Nor has a member caught up while blocks wait for the journal. */
static void test_journal_late_in_join(void **state)
{
	struct gateway *g = &gateways[1];

	(void)state;
	settle(5000);
	power_off(1);
	run(100);
	g->disk_stuck = true;
	start(1);
	run(1000);
	assert_int_equal(g->m->others[0].heartbeat.records, SAS);
	assert_false(g->m->synced & 1);
	assert_int_equal(g->m->view.live & 2, 0);
	g->disk_stuck = false;
	settle(2000);
	assert_true(has_all(1));
}

/* What the kernel refuses comes again by comparisons. */
static void test_refused(void **state)
{
	struct gateway *g = &gateways[1];

	(void)state;
	g->refuse = 500;
	settle(5000);
	run(3 * REPAIR_US / 1000);
	assert_true(has_all(1));
	assert_int_equal(g->m->counters.install_failed, 500);
	assert_true(agree());
}

/* SAs that end while they wait to be installed are not installed. */
static void test_ended(void **state)
{
	(void)state;
	gateways[1].work_calls = 0;
	run(300);
	for (unsigned int sa = 0; sa < SAS; sa++) {
		struct record_key key = sa_key(sa);

		gateways[0].sas[sa].present = false;
		member_removed(gateways[0].m, &key);
	}
	gateways[1].work_calls = 1;
	for (unsigned int ms = 0; gateways[1].m->work_count || gateways[1].m->table.sas; ms++) {
		assert_in_range(ms, 0, 5000);
		step();
	}
	settle(1000);
	assert_int_equal(count_present(1, 0, 1), 0);
	/* Not one was, of those whose end was taken from the stream before their turn. */
	assert_in_range(gateways[1].removed, 0, WORK_MAX + 1000);
	assert_int_equal(gateways[1].m->table.present, 0);
}

static struct record_key policy_key(void)
{
	return (struct record_key){.kind = RECORD_POLICY, .proto = 1, .family = 2, .addr = {9}};
}

static void add_policy(unsigned int id, const char *body)
{
	struct member_record record = {
		.key = policy_key(),
		.facts = {.pair = 99999, .direction = ESPALIER_IN},
		.body = body,
		.body_len = strlen(body),
	};

	gateways[id].policies[9] = true;
	member_added(gateways[id].m, &record);
}

/* A policy that is deleted and made again while it waits to be installed is installed; also while
 * a member is away, when the dead are not forgotten. */
static void test_policy_again(void **state)
{
	struct record_key key = policy_key();

	(void)state;
	begin_three(64);
	gateways[1].work_calls = 0;
	add_policy(0, "one");
	run(20);
	gateways[0].policies[9] = false;
	member_removed(gateways[0].m, &key);
	run(20);
	gateways[1].work_calls = 1;
	run(20);
	assert_false(gateways[1].policies[9]);
	add_policy(0, "another");
	run(20);
	assert_true(gateways[1].policies[9]);
}

/* Deleted before it was ever installed: remembered as long as the dead are. */
static void test_policy_never_there(void **state)
{
	struct record_key key = policy_key();

	(void)state;
	settle(5000);
	gateways[1].work_calls = 0;
	add_policy(0, "one");
	run(20);
	gateways[0].policies[9] = false;
	member_removed(gateways[0].m, &key);
	run(20);
	gateways[1].work_calls = 1;
	run(200);
	assert_false(gateways[1].policies[9]);
	assert_non_null(table_find_birth(&gateways[1].m->table, &key, 0));
	run(2 * TOMBSTONE_US / 1000);
	assert_null(table_find_birth(&gateways[1].m->table, &key, 0));
}

int main(void)
{
#define OF_TWO(test) cmocka_unit_test_setup_teardown(test, setup_two, teardown)
	const struct CMUnitTest tests[] = {
		OF_TWO(test_part),
		OF_TWO(test_back_pressure),
		cmocka_unit_test_teardown(test_takeover_in_join, teardown),
		OF_TWO(test_journal_late),
		OF_TWO(test_journal_late_in_join),
		OF_TWO(test_refused),
		OF_TWO(test_ended),
		cmocka_unit_test_teardown(test_policy_again, teardown),
		OF_TWO(test_policy_never_there),
	};

	return cmocka_run_group_tests_name("work", tests, NULL, NULL);
}
