/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_clone.c - a member that is there twice: two agents with its id and its journal, heard by
 * turns, or one that has heard the other itself.
 */
#include "traffic.h"

static int setup(void **state)
{
	(void)state;
	setup_sas(2);
	forget_traffic();
	for (unsigned int id = 0; id < MEMBERS; id++)
		start(id);
	create(1, 0, 77);
	run(500);
	return 0;
}

static struct member *swap(struct member *m)
{
	struct member *before = gateways[1].m;

	gateways[1].m = m;
	return before;
}

/* The second machine of member 1, that the others hear from now on; the first one is returned. */
static struct member *start_clone(void)
{
	struct member *first = swap(NULL);

	start(1);
	run(200);
	return first;
}

static void check_noticed_by(unsigned int id)
{
	assert_int_equal(member_doubles(gateways[id].m), 2);
	assert_int_equal(gateways[id].notices[NOTICE_DOUBLED], 1);
	assert_int_equal(gateways[id].doubled, 0);
	assert_int_equal(member_view(gateways[id].m)->live, 5);
}

static void check_shut(void)
{
	const struct gateway *g = &gateways[1];

	assert_int_equal(member_doubles(g->m), 2);
	assert_int_equal(member_view(g->m)->live & 2, 0);
	for (unsigned int bucket = 0; bucket < ESPALIER_BUCKETS; bucket++)
		assert_int_not_equal(g->owner[bucket], 1);
	for (unsigned int sa = 0; sa < n_sas; sa++)
		assert_true(!g->sas[sa].guarded || is_shut(&g->sas[sa]));
}

/* Nothing is out twice, and no block is entered. */
static void check_emits_nothing(void)
{
	uint64_t entered = member_counters(gateways[1].m)->entered;
	static uint64_t birth = 78;

	create(0, 1, birth++);
	assert_int_equal(emit(1, 0, 300), 0);
	assert_false(gateways[1].sas[1].present);
	assert_int_equal(member_counters(gateways[1].m)->entered, entered);
	assert_int_equal(repeated, 0);
	check_shut();
}

static void test_heard_by_turns(void **state)
{
	struct member *first, *clone;

	(void)state;
	first = start_clone();
	/* As if it had restarted. */
	for (unsigned int id = 0; id < MEMBERS; id++)
		assert_int_equal(member_doubles(gateways[id].m), 0);
	clone = swap(first);
	run(100);
	check_noticed_by(0);
	check_noticed_by(2);
	assert_int_equal(gateways[1].doubled, 1);
	check_emits_nothing();
	/* So is the other one told. */
	first = swap(clone);
	run(100);
	assert_int_equal(gateways[1].doubled, 2);
	check_emits_nothing();
	assert_int_equal(gateways[0].notices[NOTICE_DOUBLED], 1);
	/* One has gone. */
	member_free(first);
	assert_int_equal(gateways[1].doubled_over, 0);
	run(DOUBLED_US / 1000 + 50);
	for (unsigned int id = 0; id < MEMBERS; id++)
		assert_int_equal(member_doubles(gateways[id].m), 0);
	assert_int_equal(gateways[1].doubled_over, 1);
	assert_int_equal(gateways[1].doubled, 2);
	/* What is left of it waits for its next life, with a new journal. */
	assert_int_equal(member_view(gateways[0].m)->live, 5);
	kill_agent(1);
	gateways[1].journal += 1000;
	gateways[1].sas[0].journaled = 0;
	start(1);
	run(500);
	assert_int_equal(member_fenced_for(gateways[1].m, FENCE_JOURNAL_LOST), 2);
	assert_true(is_shut(&gateways[1].sas[0]));
	for (unsigned int id = 0; id < MEMBERS; id++)
		assert_int_equal(member_doubles(gateways[id].m), 0);
}

/* It has heard the other one: a sign goes on as long as it does. */
static void test_hears_the_other_one(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 5; i++) {
		member_doubled(gateways[1].m, now_us);
		check_shut();
		run(DOUBLED_US / 1000 - 50);
		check_noticed_by(0);
		check_noticed_by(2);
		check_shut();
	}
	member_doubled(gateways[1].m, now_us);
	check_emits_nothing();
	assert_int_equal(gateways[1].doubled, 1);
	run(DOUBLED_US / 1000);
	assert_int_equal(gateways[1].doubled_over, 1);
}

static void test_alone(void **state)
{
	(void)state;
	power_off(0);
	power_off(2);
	run(200);
	assert_int_equal(member_view(gateways[1].m)->live, 2);
	assert_int_equal(emit(1, 0, 10), 10);
	member_doubled(gateways[1].m, now_us);
	check_shut();
	assert_true(member_heartbeat_sent_us(gateways[1].m) == 0);
	assert_int_equal(emit(1, 0, 100), 0);
	run(DOUBLED_US / 1000);
	assert_int_equal(gateways[1].doubled_over, 1);
	assert_int_equal(emit(1, 0, 100), 0);
}

/* Its journal is an old copy, too, which others tell it of at a time when that alone would be no
 * reason to begin anew. */
static void test_old_journal(void **state)
{
	(void)state;
	power_off(0);
	power_off(2);
	run(200);
	assert_int_equal(emit(1, 0, 1000), 1000);
	start(0);
	start(2);
	run(500);
	power_off(1);
	gateways[1].sas[0].journaled = 1;
	start(1);
	member_doubled(gateways[1].m, now_us);
	run(300);
	assert_int_equal(gateways[1].journals_old, 1);
	create(1, 1, 79);
	run(100);
	assert_true(gateways[1].sas[1].guarded);
	check_shut();
}

static void test_restarts(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 5; i++) {
		kill_agent(1);
		run(i * 20);
		start(1);
		run(200);
	}
	for (unsigned int id = 0; id < MEMBERS; id++) {
		assert_int_equal(gateways[id].notices[NOTICE_DOUBLED], 0);
		assert_int_equal(gateways[id].doubled, 0);
		assert_int_equal(member_view(gateways[id].m)->live, 7);
	}
}

/* Others keep it out, whatever it says itself. */
static void test_does_not_mind(void **state)
{
	(void)state;
	gateways[0].m->doubled_until_us[1] = UINT64_MAX;
	run(100);
	for (unsigned int i = 0; i < 200; i++) {
		gateways[1].m->flags &= (uint16_t)~WIRE_LEAVING;
		gateways[1].m->begins_anew = false;
		step();
		check_noticed_by(0);
		check_noticed_by(2);
	}
}

/* Who tells and dies is not believed for longer. */
static void test_told_by_the_dead(void **state)
{
	(void)state;
	gateways[0].m->doubled_until_us[1] = UINT64_MAX;
	run(100);
	check_noticed_by(2);
	kill_agent(0);
	run(200);
	assert_int_equal(member_doubles(gateways[2].m), 0);
	assert_int_equal(gateways[1].doubled_over, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_heard_by_turns, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hears_the_other_one, setup, teardown),
		cmocka_unit_test_setup_teardown(test_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(test_old_journal, setup, teardown),
		cmocka_unit_test_setup_teardown(test_restarts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_does_not_mind, setup, teardown),
		cmocka_unit_test_setup_teardown(test_told_by_the_dead, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
