/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_miss.c - ESP comes for an SA that the kernel lacks: asked for at the others, installed, or
 * given up. Comparisons, which would find it too, are slower.
 */
#include "cluster.h"

#define SAS 200U
#define GIVEN_UP_MS 520
#define MISSED 7U

static int setup_three(void **state)
{
	(void)state;
	begin_cluster(3, SAS);
	settle(5000);
	run(50);
	memset(traffic, 0, sizeof(traffic));
	return 0;
}

static void miss(unsigned int id, unsigned int sa)
{
	struct record_key key = sa_key(sa);

	member_missed(gateways[id].m, &key);
}

/* As if it had never heard of it. */
static void forget(unsigned int id, unsigned int sa)
{
	struct record_key key = sa_key(sa);

	gateways[id].sas[sa].present = false;
	gateways[id].sas[sa].pin = 0;
	table_drop(&gateways[id].m->table, table_find(&gateways[id].m->table, &key));
}

/* Comparisons of this member are a long time off. */
static void compare_later(unsigned int id)
{
	for (unsigned int other = 0; other < members; other++)
		gateways[id].m->others[other].asking.due_us = now_us + 100 * REPAIR_US;
}

static void all_compare_later(void)
{
	run(REPAIR_US / 1000); /* those under way end */
	for (unsigned int id = 0; id < members; id++)
		if (gateways[id].m)
			compare_later(id);
	memset(traffic, 0, sizeof(traffic));
}

static unsigned int asked_for(unsigned int id)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < MISSES; i++)
		n += gateways[id].m->misses[i].key.kind != 0;
	return n;
}

static uint64_t asked(unsigned int from)
{
	uint64_t n = 0;

	for (unsigned int to = 0; to < members; to++)
		n += traffic[from][to].messages[WIRE_ASK];
	return n;
}

/* Tests. */

static void test_found(void **state)
{
	const struct member_counters *c = member_counters(gateways[1].m);

	(void)state;
	all_compare_later();
	forget(1, MISSED);
	miss(1, MISSED);
	miss(1, MISSED); /* the next packets */
	run(20);
	assert_true(gateways[1].sas[MISSED].present);
	assert_int_equal(c->misses, 1);
	assert_int_equal(c->misses_found, 1);
	assert_int_equal(c->misses_unknown, 0);
	assert_int_equal(asked(1), 2);
	assert_int_equal(asked_for(1), 0);
}

/* Nobody knows it: known as soon as all have said so. */
static void test_unknown(void **state)
{
	const struct member_counters *c = member_counters(gateways[1].m);
	const struct record_key key = {.kind = RECORD_SA, .proto = 50, .family = 2, .spi = 0x777};

	(void)state;
	all_compare_later();
	member_missed(gateways[1].m, &key);
	assert_int_equal(asked_for(1), 1);
	run(5);
	assert_int_equal(c->misses, 1);
	assert_int_equal(c->misses_found, 0);
	assert_int_equal(c->misses_unknown, 1);
	assert_int_equal(asked_for(1), 0);
	assert_int_equal(traffic[0][1].messages[WIRE_LACK], 1);
	assert_int_equal(traffic[2][1].messages[WIRE_LACK], 1);
	run(200);
	assert_int_equal(asked(1), 2);
}

/* One lacks it, one has it: the answer of the first is not the end. */
static void test_one_has_it(void **state)
{
	(void)state;
	all_compare_later();
	forget(1, MISSED);
	forget(0, MISSED);
	miss(1, MISSED);
	run(20);
	assert_true(gateways[1].sas[MISSED].present);
	assert_int_equal(member_counters(gateways[1].m)->misses_found, 1);
	assert_int_equal(member_counters(gateways[1].m)->misses_unknown, 0);
}

/* Questions and answers are lost: asked again, as long as it is worth while. */
static void test_lost(void **state)
{
	const struct member_counters *c = member_counters(gateways[1].m);

	(void)state;
	all_compare_later();
	forget(1, MISSED);
	loss = 1000;
	miss(1, MISSED);
	assert_int_equal(asked(1), 2);
	run(20); /* too short for anybody to be held for dead */
	loss = 0;
	assert_int_equal(asked_for(1), 1);
	run(60);
	assert_true(gateways[1].sas[MISSED].present);
	assert_int_equal(c->misses_found, 1);
	assert_int_equal(asked(1), 4);
}

/* Only the questions get lost, all of them. */
static void test_given_up(void **state)
{
	const struct member_counters *c = member_counters(gateways[1].m);
	unsigned int ms = 0;

	(void)state;
	all_compare_later();
	forget(1, MISSED);
	loss = 1000;
	miss(1, MISSED);
	loss = 0;
	for (; asked_for(1); ms++) {
		assert_in_range(ms, 0, GIVEN_UP_MS);
		/* As if what was asked now were lost too. */
		for (unsigned int i = 0; i < n_flying; i++)
			if (flying[i].from == 1 && flying[i].len > WIRE_HEADER &&
				flying[i].bytes[WIRE_HEADER] == WIRE_ASK)
				flying[i].to = 1;
		step();
	}
	assert_in_range(ms, GIVEN_UP_MS - 40, GIVEN_UP_MS);
	assert_int_equal(c->misses_found, 0);
	assert_int_equal(c->misses_unknown, 1);
	assert_in_range(asked(1), 2 * 8, 2 * 11);
	/* The next packet asks again. */
	miss(1, MISSED);
	run(20);
	assert_true(gateways[1].sas[MISSED].present);
	assert_int_equal(c->misses_found, 1);
}

/* The table says that it is there, the kernel lacks it: it has been lost without a word. */
static void test_drifted(void **state)
{
	const struct member_counters *c = member_counters(gateways[1].m);
	const struct sa *sa = &gateways[1].sas[MISSED];
	uint64_t was = sa->oseq;

	(void)state;
	all_compare_later();
	gateways[1].sas[MISSED].present = false;
	miss(1, MISSED);
	run(20);
	assert_true(sa->present);
	assert_true(sa->oseq > was); /* in a new block */
	assert_int_equal(c->missing, 1);
	assert_int_equal(c->misses_found, 1);
	run(2 * REPAIR_US / 1000);
	settle(1000);
}

/* The packet that was missed came before the SA did. */
static void test_there(void **state)
{
	(void)state;
	all_compare_later();
	miss(1, MISSED);
	assert_int_equal(gateways[1].reads, 1);
	run(20);
	assert_int_equal(asked(1), 0);
	assert_int_equal(asked_for(1), 0);
	assert_int_equal(member_counters(gateways[1].m)->misses, 0);
	assert_int_equal(member_counters(gateways[1].m)->missing, 0);
}

/* It waits to be installed: nobody needs to be asked. */
static void test_on_its_way(void **state)
{
	(void)state;
	all_compare_later();
	forget(1, MISSED);
	gateways[1].work_calls = 0;
	miss(1, MISSED);
	run(20);
	assert_false(gateways[1].sas[MISSED].present);
	for (unsigned int i = 0; i < MISSES; i++)
		gateways[1].m->misses[i] = (struct miss){0};
	miss(1, MISSED);
	assert_int_equal(asked_for(1), 0);
	gateways[1].work_calls = 1;
	run(20);
	assert_true(gateways[1].sas[MISSED].present);
}

/* No more than so many at a time, and each of them once. */
static void test_many(void **state)
{
	const struct member_counters *c = member_counters(gateways[1].m);

	(void)state;
	all_compare_later();
	for (unsigned int sa = 0; sa < SAS; sa++)
		forget(1, sa);
	for (unsigned int sa = 0; sa < SAS; sa++)
		miss(1, sa);
	assert_int_equal(asked_for(1), MISSES);
	assert_int_equal(c->misses, MISSES);
	assert_int_equal(asked(1), 2 * MISSES);
	run(20);
	assert_int_equal(asked_for(1), 0);
	assert_int_equal(c->misses_found, MISSES);
	assert_int_equal(gateways[1].m->table.present, MISSES);
	/* There is room again. */
	for (unsigned int sa = 0; sa < SAS; sa++)
		miss(1, sa);
	run(20);
	assert_int_equal(gateways[1].m->table.present, 2 * MISSES);
	assert_int_equal(c->misses, 2 * MISSES);
}

/* Who is dead is not asked; who dies while asked is not waited for. */
static void test_dead(void **state)
{
	const struct member_counters *c = member_counters(gateways[1].m);
	const struct record_key key = {.kind = RECORD_SA, .proto = 50, .family = 2, .spi = 0x777};

	(void)state;
	all_compare_later();
	power_off(2);
	member_missed(gateways[1].m, &key);
	run(10);
	assert_int_equal(asked_for(1), 1);
	run(DEAD * HEARTBEAT_US / 1000 + 10);
	assert_int_equal(asked_for(1), 0);
	assert_int_equal(c->misses_unknown, 1);
	member_missed(gateways[1].m, &key);
	run(5);
	assert_int_equal(c->misses_unknown, 2);
	assert_int_equal(traffic[1][2].messages[WIRE_ASK], 1);
	power_off(0);
	run(100);
	memset(traffic, 0, sizeof(traffic));
	member_missed(gateways[1].m, &key); /* alone */
	assert_int_equal(c->misses_unknown, 3);
	assert_int_equal(asked(1), 0);
}

/* The kernel of the one that has it lacks it as well, without knowing. */
static void test_drifted_everywhere(void **state)
{
	(void)state;
	all_compare_later();
	for (unsigned int id = 0; id < members; id++)
		gateways[id].sas[MISSED].present = false;
	miss(1, MISSED);
	run(GIVEN_UP_MS);
	assert_int_equal(asked_for(1), 0);
	assert_int_equal(member_counters(gateways[1].m)->misses_unknown, 1);
	assert_false(gateways[1].sas[MISSED].present);
}

int main(void)
{
#define OF_THREE(test) cmocka_unit_test_setup_teardown(test, setup_three, teardown)
	const struct CMUnitTest tests[] = {
		OF_THREE(test_found),
		OF_THREE(test_unknown),
		OF_THREE(test_one_has_it),
		OF_THREE(test_lost),
		OF_THREE(test_given_up),
		OF_THREE(test_drifted),
		OF_THREE(test_there),
		OF_THREE(test_on_its_way),
		OF_THREE(test_many),
		OF_THREE(test_dead),
		OF_THREE(test_drifted_everywhere),
	};

	return cmocka_run_group_tests_name("miss", tests, NULL, NULL);
}
