/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_dead.c - SAs that have ended, in a table that has no room for all of them: they leave room
 * for those that live, do not come back, and their numbers do not come twice.
 */
#include "traffic.h"

enum {
	CAPACITY = 8,
	ALL = 300, /* SAs */
};

/* Member 2 has SA 0 from the time before it was away. */
static int setup(void **state)
{
	(void)state;
	setup_sas(ALL);
	capacity = CAPACITY;
	forget_traffic();
	for (unsigned int id = 0; id < MEMBERS; id++)
		start(id);
	run(500);
	create(0, 0, 1);
	run(100);
	return 0;
}

static void end(unsigned int id, unsigned int sa)
{
	struct record_key key = sa_key(sa);

	gateways[id].sas[sa].present = false;
	member_removed(gateways[id].m, &key);
}

static uint8_t owner_of(unsigned int sa)
{
	return guard_owner(&gateways[0], sa);
}

static uint64_t refused(void)
{
	return member_counters(gateways[0].m)->refused + member_counters(gateways[1].m)->refused;
}

/* Its peer gave out its SPI again; who could tell member 2 of its end has forgotten it. Its kernel
 * has lost it, and nobody else has it: it does not stand in the way of the new one, however often
 * it was changed. */
static void test_lost_rival(void **state)
{
	struct record_key key = sa_key(0);

	(void)state;
	gateways[0].mute = gateways[1].mute = true;
	run(200);
	end(0, 0);
	power_off(0);
	power_off(1);
	start(0);
	start(1);
	run(500);
	gateways[2].sas[0].present = false;
	member_missing(gateways[2].m, &key);
	table_find(&gateways[2].m->table, &key)->version += 10;
	create(0, 0, 401);
	run(500);
	gateways[0].mute = gateways[1].mute = false;
	run(300);
	assert_true(gateways[2].sas[0].present);
	assert_int_equal(gateways[2].sas[0].birth, 401);
}

/* SAs from first on, one after the other. */
static void live_and_die(unsigned int first, unsigned int count)
{
	for (unsigned int sa = first; sa < first + count; sa++) {
		create(0, sa, sa + 1);
		run(20);
		assert_true(gateways[1].sas[sa].present);
		end(0, sa);
		run(80);
		assert_false(gateways[1].sas[sa].present);
	}
}

static void die_while_one_is_away(void)
{
	(void)emit(owner_of(0), 0, 700);
	kill_agent(2);
	run(200);
	(void)emit(owner_of(0), 0, 700);
	end(0, 0);
	run(100);
	live_and_die(1, 60);
}

static void test_room_for_the_living(void **state)
{
	(void)state;
	die_while_one_is_away();
	assert_int_equal(refused(), 0);
	/* As many as MaxSAs says live beside all those. */
	for (unsigned int sa = 100; sa < 100 + CAPACITY; sa++)
		create(0, sa, sa + 1);
	run(100);
	assert_int_equal(refused(), 0);
	for (unsigned int sa = 100; sa < 100 + CAPACITY; sa++)
		assert_true(gateways[1].sas[sa].present);
	assert_int_equal(gateways[0].notices[NOTICE_FULL], 0);
	create(0, 200, 201);
	create(0, 201, 202);
	run(100);
	assert_int_equal(refused(), 2);
	assert_int_equal(gateways[0].notices[NOTICE_FULL], 1);
	assert_int_equal(gateways[1].notices[NOTICE_FULL], 0);
	run(60000);
	create(0, 202, 203);
	assert_int_equal(gateways[0].notices[NOTICE_FULL], 2);
	assert_int_equal(gateways[0].notices[NOTICE_FULL_OF_DEAD], 0);
}

static void assert_crowded(unsigned int times, unsigned int roomy)
{
	run(60);
	for (unsigned int id = 0; id < MEMBERS; id++) {
		assert_int_equal(gateways[id].notices[NOTICE_CROWDED], times);
		assert_int_equal(gateways[id].notices[NOTICE_ROOMY], roomy);
		assert_int_equal(gateways[id].notices[NOTICE_CROWDED_BY_DEAD], 0);
	}
}

/* Once for each time that it gets so; not when one more or less lives. SA 0 does. */
static void test_three_quarters(void **state)
{
	(void)state;
	for (unsigned int sa = 1; sa < CAPACITY * 3 / 4 - 1; sa++)
		create(0, sa, sa + 1);
	assert_crowded(0, 0);
	create(0, 100, 101);
	assert_crowded(1, 0);
	end(0, 100);
	run(60);
	create(0, 101, 102);
	assert_crowded(1, 0);
	end(0, 101);
	end(0, 1);
	assert_crowded(1, 1);
	create(0, 102, 103);
	create(0, 103, 104);
	assert_crowded(2, 1);
}

static const struct record *find_dead(unsigned int id, uint64_t birth)
{
	const struct table *t = &gateways[id].m->table;

	for (uint32_t slot = 0; slot < t->high; slot++) {
		const struct record *r = table_at(t, slot);

		if (r && r->life == RECORD_DEAD && r->facts.birth == birth)
			return r;
	}
	return NULL;
}

/* It hears of the end of an SA that it has never had in that form. */
static void test_who_was_away_missed_a_move(void **state)
{
	struct sa *sa = &gateways[0].sas[0];
	const struct record *told;
	const struct record_key there = sa_key_at(0, 1);

	(void)state;
	kill_agent(2);
	run(200);
	end(0, 0);
	sa->present = true;
	sa->place = 1;
	tell_kernel(&gateways[0], 0);
	run(100);
	assert_int_equal(gateways[1].sas[0].place, 1);
	sa->present = false;
	member_removed(gateways[0].m, &there);
	run(100);
	live_and_die(1, 60);
	assert_null(table_keyed(&gateways[0].m->table, &there));
	start(2);
	run(500);
	for (unsigned int id = 0; id < MEMBERS; id++)
		assert_false(gateways[id].sas[0].present);
	/* How many blocks it has hangs on that. */
	told = find_dead(2, 1);
	assert_true(told && told->facts.esn);
}

static void test_who_was_away_brings_none_back(void **state)
{
	(void)state;
	die_while_one_is_away();
	assert_null(table_find_birth(&gateways[0].m->table, &(struct record_key){.kind = 1}, 1));
	assert_true(gateways[2].sas[0].present);
	start(2);
	run(500);
	for (unsigned int id = 0; id < MEMBERS; id++) {
		assert_false(gateways[id].sas[0].present);
		assert_null(record_of(id, 0));
		(void)emit(id, 0, 300);
	}
	assert_int_equal(repeated, 0);
}

/* Their keys are used again: the numbers go on above. */
static void test_made_again(void **state)
{
	uint8_t owner;

	(void)state;
	die_while_one_is_away();
	gateways[0].sas[0].present = true;
	gateways[0].sas[0].oseq = 0;
	tell_kernel(&gateways[0], 0);
	run(100);
	owner = owner_of(0);
	assert_int_equal(emit(owner, 0, 1000), 1000);
	power_off(owner);
	run(200);
	assert_true(emit(owner ^ 1, 0, 1000) > 900);
	assert_int_equal(repeated, 0);
}

/* All are there again, for long enough: nothing is kept, and the journal need not keep it. */
static void test_forgotten_when_all_know(void **state)
{
	(void)state;
	die_while_one_is_away();
	assert_true(gateways[0].m->past.n > 40);
	assert_int_equal(gateways[0].forgotten, 0);
	start(2);
	run(2 * TOMBSTONE_US / 1000 + 1500);
	for (unsigned int id = 0; id < MEMBERS; id++) {
		assert_int_equal(gateways[id].m->past.n, 0);
		assert_int_equal(gateways[id].m->table.used, 0);
	}
	assert_int_equal(gateways[0].forgotten, 61);
	assert_int_equal(gateways[1].forgotten, 61);
}

/* None of them is given up for a new one. */
static void test_no_room_for_the_dead(void **state)
{
	const struct member *m = gateways[0].m;

	(void)state;
	die_while_one_is_away();
	for (unsigned int sa = 100; sa < ALL; sa++) {
		create(0, sa, sa + 1);
		run(20);
		end(0, sa);
		run(80);
	}
	assert_int_equal(m->past.n, m->past.most);
	assert_true(refused() > 0);
	assert_int_equal(gateways[0].notices[NOTICE_CROWDED_BY_DEAD], 1);
	assert_int_equal(gateways[0].notices[NOTICE_FULL_OF_DEAD], 1);
	assert_int_equal(gateways[0].notices[NOTICE_CROWDED] + gateways[0].notices[NOTICE_FULL], 0);
	assert_true(m->table.used <= table_slots(CAPACITY));
	start(2);
	run(500);
	for (unsigned int id = 0; id < MEMBERS; id++)
		assert_false(gateways[id].sas[0].present);
	run(2 * TOMBSTONE_US / 1000 + 1500);
	assert_int_equal(m->past.n, 0);
	assert_int_equal(gateways[0].notices[NOTICE_ROOMY], 1);
	create(0, 99, 100);
	run(100);
	assert_true(gateways[1].sas[99].present);
}

/* Its journal has more than the table. */
static void test_restart(void **state)
{
	(void)state;
	die_while_one_is_away();
	for (unsigned int sa = 100; sa < 100 + CAPACITY; sa++)
		create(0, sa, sa + 1);
	run(200);
	forget_traffic();
	(void)emit(owner_of(101), 101, 700);
	power_off(1);
	run(200);
	start(1);
	run(500);
	kill_agent(0);
	start(0);
	run(500);
	assert_int_equal(refused(), 0);
	for (unsigned int id = 0; id < 2; id++)
		for (unsigned int sa = 100; sa < 100 + CAPACITY; sa++) {
			assert_true(gateways[id].sas[sa].present);
			assert_non_null(record_of(id, sa));
			assert_int_not_equal(record_of(id, sa)->entries, ENTRIES_UNKNOWN);
		}
	assert_int_equal(gateways[0].journals_old + gateways[1].journals_old, 0);
	assert_int_equal(member_fenced(gateways[0].m) + member_fenced(gateways[1].m), 0);
	for (unsigned int id = 0; id < 2; id++)
		(void)emit((uint8_t)id, 101, 1000);
	assert_int_equal(repeated, 0);
}

/* One that is away is told of what it still lacks; what waits for it meanwhile has a bound. */
static void test_queue_of_who_is_away(void **state)
{
	(void)state;
	die_while_one_is_away();
	assert_true(gateways[0].m->others[2].queue.count <= table_slots(CAPACITY));
	create(0, 100, 101);
	run(100);
	start(2);
	run(500);
	assert_true(gateways[2].sas[100].present);
	assert_int_equal(gateways[0].m->others[2].queue.count, 0);
}

/* A peer that rekeys all day: what is to be done for its pair is done for the living. */
static void test_pair_of_the_living(void **state)
{
	const struct table *t = &gateways[0].m->table;
	unsigned int n = 0;

	(void)state;
	one_pair = true;
	for (unsigned int sa = 1; sa < 5; sa++) {
		create(0, sa, sa + 1);
		run(20);
		if (sa > 1)
			end(0, sa - 1);
		run(80);
	}
	assert_true(t->used > 4);
	for (const struct record *r = table_pair_first(t, 1); r; r = table_pair_next(t, r), n++)
		assert_int_equal(r->life, RECORD_ALIVE);
	assert_int_equal(n, 2); /* SA 0, and the last one */
}

int main(void)
{
#define IN_CLUSTER(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		IN_CLUSTER(test_lost_rival),
		IN_CLUSTER(test_room_for_the_living),
		IN_CLUSTER(test_three_quarters),
		IN_CLUSTER(test_who_was_away_missed_a_move),
		IN_CLUSTER(test_who_was_away_brings_none_back),
		IN_CLUSTER(test_made_again),
		IN_CLUSTER(test_forgotten_when_all_know),
		IN_CLUSTER(test_no_room_for_the_dead),
		IN_CLUSTER(test_restart),
		IN_CLUSTER(test_queue_of_who_is_away),
		IN_CLUSTER(test_pair_of_the_living),
	};

	return cmocka_run_group_tests_name("dead", tests, NULL, NULL);
}
