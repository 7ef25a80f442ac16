/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_ipcomp.c - SAs without sequence numbers (IPComp) beside others: all members have them at
 * once, nobody owns them, and what ends or comes again does so on all.
 */
#include "cluster.h"

#define SAS 8
#define COMP 6U /* the first SA without numbers */

static int setup(void **state)
{
	(void)state;
	setup_sas(SAS);
	pairs = true;
	shared_from = COMP;
	for (unsigned int id = 0; id < MEMBERS; id++)
		start(id);
	run(500);
	return 0;
}

static void create_all(unsigned int id)
{
	for (unsigned int sa = 0; sa < SAS; sa++)
		create(id, sa, 77 + sa);
	run(500);
}

static const struct record *record_of(unsigned int id, unsigned int sa)
{
	struct record_key key = sa_key(sa);
	const struct record *r = table_find(&gateways[id].m->table, &key);

	assert_non_null(r);
	return r;
}

static unsigned int holders(unsigned int sa)
{
	unsigned int n = 0;

	for (unsigned int id = 0; id < MEMBERS; id++)
		n += gateways[id].m && gateways[id].sas[sa].present;
	return n;
}

/* The next agent tells the datapath all pins anew. */
static void stop(unsigned int id)
{
	kill_agent(id);
	for (unsigned int sa = 0; sa < SAS; sa++)
		gateways[id].sas[sa].pin = 0;
}

/* As its IKE daemon does, whose word it is or not. */
static void delete_on(unsigned int id, unsigned int sa)
{
	struct record_key key = sa_key(sa);

	gateways[id].sas[sa].present = false;
	member_removed(gateways[id].m, &key);
}

/* Whoever's its bucket is, no member is told to steer it, and no block is entered for it. */
static void test_on_all(void **state)
{
	(void)state;
	for (unsigned int id = 0; id < MEMBERS; id++) {
		unsigned int sa = COMP + id % 2;

		create(id, sa, 77 + sa);
		run(500);
		assert_int_equal(holders(sa), MEMBERS);
		for (unsigned int other = 0; other < MEMBERS; other++) {
			assert_int_equal(record_of(other, sa)->pinned, 0);
			assert_int_equal(record_of(other, sa)->fence, FENCE_NONE);
			assert_int_equal(gateways[other].sas[sa].pin, 0);
			assert_int_equal(gateways[other].sas[sa].journaled, 0);
		}
	}
	for (unsigned int id = 0; id < MEMBERS; id++)
		assert_int_equal(member_pins(gateways[id].m), 0);
}

/* A member that made none of it dies: the numbered SAs go to others, these stay where they are. */
static void test_takeover(void **state)
{
	(void)state;
	create_all(0);
	for (unsigned int sa = 0; sa < SAS; sa++)
		assert_int_equal(holders(sa), MEMBERS);
	power_off(0);
	run(1000);
	assert_int_equal(holders(COMP), 2);
	start(0);
	run(2000);
	for (unsigned int sa = 0; sa < SAS; sa++)
		assert_int_equal(holders(sa), MEMBERS);
}

/* CPIs are few: what has ended is made again, at once, in a moment, after long; then by whomever.
 */
static void test_comes_again(void **state)
{
	static const unsigned int pauses[] = {0, 10, 40, 100, 300, 5000};

	(void)state;
	create_all(0);
	for (unsigned int i = 0; i < sizeof(pauses) / sizeof(*pauses); i++) {
		delete_on(0, COMP);
		run(pauses[i]);
		assert_int_equal(holders(COMP), pauses[i] < 50 ? MEMBERS - 1 : 0);
		create(0, COMP, 77 + COMP);
		run(500);
		assert_int_equal(holders(COMP), MEMBERS);
	}
	delete_on(0, COMP);
	run(500);
	create(1, COMP, 77 + COMP);
	run(500);
	assert_int_equal(holders(COMP), MEMBERS);
	delete_on(1, COMP);
	run(500);
	assert_int_equal(holders(COMP), 0);
}

/* One that was away while it ended, and was made again, and ended, does not bring it back. */
static void test_away(void **state)
{
	(void)state;
	create_all(0);
	stop(2);
	run(500);
	delete_on(0, COMP);
	run(500);
	create(0, COMP, 77 + COMP);
	run(500);
	delete_on(0, COMP);
	delete_on(0, COMP + 1);
	run(500);
	create(0, COMP + 1, 77 + COMP + 1);
	assert_true(gateways[2].sas[COMP].present);
	start(2);
	run(2000);
	assert_int_equal(holders(COMP), 0);
	assert_int_equal(holders(COMP + 1), MEMBERS);
}

/* Whose word counts: his who made it; anybody's, once that one has gone. */
static void test_whose_word(void **state)
{
	(void)state;
	create_all(1);
	delete_on(0, COMP);
	run(2000);
	assert_int_equal(holders(COMP), MEMBERS);
	/* No guard tells an agent that starts whose it is. */
	stop(0);
	run(500);
	start(0);
	run(500);
	assert_int_equal(record_of(0, COMP)->creator, 1);
	delete_on(0, COMP);
	run(2000);
	assert_int_equal(holders(COMP), MEMBERS);
	stop(1);
	run(500);
	start(1);
	run(2000);
	delete_on(1, COMP);
	run(500);
	assert_int_equal(holders(COMP), 0);
	power_off(1);
	run(500);
	delete_on(2, COMP + 1);
	run(500);
	assert_int_equal(holders(COMP + 1), 0);
}

/* After all agents were stopped at once nobody knows who made it. */
static void test_all_start_again(void **state)
{
	(void)state;
	create_all(1);
	for (unsigned int id = 0; id < MEMBERS; id++)
		stop(id);
	for (unsigned int id = 0; id < MEMBERS; id++)
		start(id);
	run(2000);
	assert_int_equal(holders(COMP), MEMBERS);
	delete_on(1, COMP);
	run(500);
	assert_int_equal(holders(COMP), 0);
}

/* A flush ends what was made there since the agent started; copies are put back. */
static void flush(unsigned int id)
{
	for (unsigned int sa = COMP; sa < SAS; sa++) {
		struct record_key key = sa_key(sa);

		gateways[id].sas[sa].present = false;
		member_flushed(gateways[id].m, &key);
	}
	run(2000);
}

static void test_flush(void **state)
{
	(void)state;
	create_all(0);
	flush(1);
	assert_int_equal(holders(COMP), MEMBERS);
	stop(1);
	run(500);
	start(1);
	run(500);
	flush(1);
	assert_int_equal(holders(COMP), MEMBERS);
	flush(0);
	assert_int_equal(holders(COMP), 0);
	assert_int_equal(holders(COMP + 1), 0);
}

/* The kernel moves it, without a word about where it was: where it was made, that is its end. */
static void test_moved(void **state)
{
	struct record_key key = sa_key(COMP);

	(void)state;
	create_all(0);
	gateways[1].sas[COMP].present = false;
	member_missing(gateways[1].m, &key);
	run(2000);
	assert_int_equal(holders(COMP), MEMBERS);
	gateways[0].sas[COMP].present = false;
	member_missing(gateways[0].m, &key);
	run(500);
	assert_int_equal(holders(COMP), 0);
}

/* One script makes it on two members: that is one. */
static void test_made_on_two(void **state)
{
	(void)state;
	create(0, COMP, 77);
	create(1, COMP, 77);
	run(1000);
	assert_int_equal(holders(COMP), MEMBERS);
	assert_int_equal(record_of(0, COMP)->creator, record_of(2, COMP)->creator);
	delete_on(0, COMP);
	delete_on(1, COMP);
	run(1000);
	assert_int_equal(holders(COMP), 0);
}

/* The Child SA that it belongs to goes to a member that can have both; others stay. */
static void test_refused(void **state)
{
	(void)state;
	for (unsigned int id = 0; id < MEMBERS; id++)
		power_off(id);
	mode = VIEW_HOT_STANDBY;
	gateways[1].lacks_ipcomp = true;
	for (unsigned int id = 0; id < MEMBERS; id++)
		start(id);
	run(500);
	create_all(0);
	assert_int_equal(holders(COMP), 2);
	assert_int_equal(record_of(1, COMP)->refused, -ENOSYS);
	assert_int_equal(member_flow_owner(gateways[1].m, record_of(1, 0)), 0);
	power_off(0);
	run(2000);
	for (unsigned int sa = 0; sa < COMP; sa++)
		for (unsigned int id = 1; id < MEMBERS; id++)
			assert_int_equal(member_flow_owner(gateways[id].m, record_of(id, sa)),
				sa < 2 ? 2 : 1);
	gateways[1].lacks_ipcomp = false;
	run(60000);
	assert_int_equal(holders(COMP), 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_on_all),
		TEST(test_takeover),
		TEST(test_comes_again),
		TEST(test_away),
		TEST(test_whose_word),
		TEST(test_all_start_again),
		TEST(test_flush),
		TEST(test_moved),
		TEST(test_made_on_two),
		TEST(test_refused),
	};

	return cmocka_run_group_tests_name("ipcomp", tests, NULL, NULL);
}
