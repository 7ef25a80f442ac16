/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_drain.c - an administrator says what members are to own: drain, undrain, failover; and that
 * nothing is lost while buckets change hands.
 */
#include "traffic.h"

static bool owns(unsigned int id)
{
	for (unsigned int bucket = 0; bucket < ESPALIER_BUCKETS; bucket++)
		if (gateways[id].owner[bucket] == id)
			return true;
	return false;
}

static int setup_three(void **state)
{
	(void)state;
	setup_sas(4);
	forget_traffic();
	for (unsigned int id = 0; id < MEMBERS; id++)
		start(id);
	run(300);
	return 0;
}

static int setup_two(void **state)
{
	setup_hot_standby(state);
	start(0);
	start(1);
	run(300);
	return 0;
}

static void live_is(uint16_t live)
{
	for (unsigned int id = 0; id < members; id++)
		if (gateways[id].m)
			assert_int_equal(member_view(gateways[id].m)->live, live);
}

/* At any member; it stays a standby that has all records, over the lives of its agent. */
static void test_drain(void **state)
{
	(void)state;
	assert_int_equal(member_order(gateways[2].m, 1, ORDER_DRAIN), 0);
	run(100);
	live_is(5);
	assert_false(owns(1));
	assert_true(member_flags(gateways[1].m) & WIRE_DRAINED);
	create(0, 0, 77);
	run(50);
	assert_true(gateways[1].sas[0].present);
	kill_agent(1);
	run(100);
	start(1);
	run(300);
	live_is(5);
	assert_int_equal(member_order(gateways[0].m, 1, ORDER_OWN), 0);
	run(100);
	live_is(7);
	assert_true(owns(1));
	assert_int_equal(gateways[1].order, ORDER_OWN);
	/* All is over: guards are strict again. */
	for (unsigned int id = 0; id < MEMBERS; id++)
		assert_false(gateways[id].handing);
}

/* One that is drained takes nothing over, also if nobody else is left. */
static void test_drained_alone(void **state)
{
	(void)state;
	assert_int_equal(member_order(gateways[0].m, 0, ORDER_DRAIN), 0);
	run(100);
	live_is(2);
	power_off(1);
	run(300);
	assert_false(owns(0));
	assert_int_equal(member_order(gateways[0].m, 0, ORDER_OWN), 0);
	run(100);
	live_is(1);
	assert_true(owns(0));
}

static void test_refused(void **state)
{
	struct member *m = gateways[0].m;

	(void)state;
	assert_int_equal(member_order(m, 9, ORDER_DRAIN), -EINVAL);
	gateways[0].keep_error = -ENOSPC;
	assert_int_equal(member_order(m, 0, ORDER_DRAIN), -ENOSPC);
	gateways[0].keep_error = 0;
	member_link(gateways[1].m, false);
	run(100);
	assert_int_equal(member_heirs(m, 0), 0);
	assert_int_equal(member_order(m, 0, ORDER_DRAIN), -EBUSY);
	member_link(gateways[1].m, true);
	run(100);
	assert_int_equal(member_heirs(m, 0), 2);
	kill_agent(1);
	run(100);
	assert_int_equal(member_order(m, 0, ORDER_DRAIN), -EBUSY);
	assert_int_equal(member_order(m, 1, ORDER_DRAIN), -EHOSTDOWN);
	assert_int_equal(gateways[0].order, ORDER_OWN);
	assert_true(owns(0));
	/* It has not caught up yet. */
	create(0, 0, 1);
	create(0, 1, 2);
	gateways[1].work_calls = 0;
	power_off(1);
	start(1);
	run(100);
	assert_int_equal(member_order(m, 0, ORDER_DRAIN), -EBUSY);
	gateways[1].work_calls = UINT32_MAX;
	run(300);
	assert_int_equal(member_order(m, 0, ORDER_DRAIN), 0);
}

/* The next one has all; the one before takes over when that one dies, and only then. */
static void test_fail_over(void **state)
{
	uint8_t to = 99;

	(void)state;
	assert_int_equal(member_fail_over(gateways[1].m, &to), 0);
	assert_int_equal(to, 1);
	run(100);
	live_is(2);
	kill_agent(0);
	run(100);
	start(0);
	run(300);
	live_is(2);
	power_off(1);
	run(60);
	assert_true(owns(0));
	start(1);
	run(300);
	live_is(2);
	assert_int_equal(member_fail_over(gateways[0].m, &to), 0);
	assert_int_equal(to, 0);
	run(100);
	assert_true(owns(0));
	assert_false(owns(1));
	assert_int_equal(gateways[0].order, ORDER_OWN);
}

static void test_fail_over_refused(void **state)
{
	uint8_t to;

	(void)state;
	kill_agent(1);
	run(100);
	assert_int_equal(member_fail_over(gateways[0].m, &to), -EBUSY);
	gateways[0].m->config.mode = VIEW_LOAD_SHARING;
	assert_int_equal(member_fail_over(gateways[0].m, &to), -EINVAL);
}

/* What comes to either member in any ms of it gets out; no number twice. */
static void drain_under_traffic(enum wire_order order)
{
	assert_int_equal(member_order(gateways[0].m, 0, order), 0);
	for (unsigned int ms = 0; ms < 200; ms++) {
		bool first = gateways[0].owner[0] == 0, second = gateways[1].owner[0] == 1;

		/* By its steering it goes to the owner, whom that one may not know of yet. */
		if (first)
			assert_true(emit_one(0, 0));
		if (second || !first)
			assert_true(emit_one(1, 0));
		step();
	}
}

static void test_nothing_is_lost(void **state)
{
	(void)state;
	create(0, 0, 5);
	run(100);
	drain_under_traffic(ORDER_DRAIN);
	live_is(2);
	drain_under_traffic(ORDER_OWN);
	live_is(3);
	assert_int_equal(repeated, 0);
}

/* An SA that was made in the last moment is with the new owner before that is one. */
static void test_new_sas_first(void **state)
{
	struct gateway *to = &gateways[1];

	(void)state;
	to->work_calls = 0; /* its kernel is slow */
	create(0, 0, 5);
	assert_int_equal(member_order(gateways[0].m, 0, ORDER_DRAIN), 0);
	run(200);
	assert_true(owns(0));
	assert_int_equal(member_awaited(gateways[0].m), 2);
	to->work_calls = UINT32_MAX;
	while (owns(0)) {
		step();
		assert_true(owns(0) || to->sas[0].present);
	}
	assert_true(to->sas[0].present);
}

/* The new owner dies meanwhile: the old one keeps all, and hands it over later. */
static void test_death_meanwhile(void **state)
{
	(void)state;
	gateways[1].work_calls = 0;
	create(0, 0, 5);
	assert_int_equal(member_order(gateways[0].m, 0, ORDER_DRAIN), 0);
	run(50);
	power_off(1);
	run(200);
	assert_true(owns(0));
	assert_false(gateways[0].handing);
	gateways[1].work_calls = UINT32_MAX;
	start(1);
	run(500);
	live_is(2);
	assert_true(gateways[1].sas[0].present);
}

/* Who is to publish next, and goes itself, has published nothing so far: all follow him. */
static void test_one_after_the_other(void **state)
{
	(void)state;
	assert_int_equal(member_order(gateways[0].m, 0, ORDER_DRAIN), 0);
	run(200);
	live_is(6);
	assert_int_equal(member_order(gateways[1].m, 1, ORDER_DRAIN), 0);
	while (owns(1))
		step();
	run(3);
	live_is(4);
}

/* Who is stopped hands over likewise. */
static void test_leave(void **state)
{
	(void)state;
	create(0, 0, 5);
	run(100);
	member_leave(gateways[0].m);
	for (unsigned int ms = 0; ms < 100; ms++) {
		bool first = gateways[0].owner[0] == 0;

		assert_true(emit_one(first ? 0 : 1, 0));
		step();
	}
	live_is(2);
	assert_int_equal(repeated, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_drain, setup_three, teardown),
		cmocka_unit_test_setup_teardown(test_drained_alone, setup_two, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup_two, teardown),
		cmocka_unit_test_setup_teardown(test_fail_over, setup_two, teardown),
		cmocka_unit_test_setup_teardown(test_fail_over_refused, setup_two, teardown),
		cmocka_unit_test_setup_teardown(test_nothing_is_lost, setup_two, teardown),
		cmocka_unit_test_setup_teardown(test_new_sas_first, setup_two, teardown),
		cmocka_unit_test_setup_teardown(test_death_meanwhile, setup_two, teardown),
		cmocka_unit_test_setup_teardown(test_one_after_the_other, setup_three, teardown),
		cmocka_unit_test_setup_teardown(test_leave, setup_two, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
