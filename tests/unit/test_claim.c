/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_claim.c - members that do not agree: who serves goes on, who starts beside it waits.
 */
#include "cluster.h"

#define LOOK_US 50000 /* how long who starts looks for others */

static int setup(void **state)
{
	(void)state;
	setup_sas(1);
	start_us = LOOK_US;
	return 0;
}

static void assert_serves(unsigned int id, uint16_t live)
{
	assert_int_equal(member_claim(gateways[id].m), CLAIM_SERVES);
	assert_int_equal(member_held_back(gateways[id].m), ESPALIER_NOBODY);
	assert_int_equal(member_view(gateways[id].m)->live, live);
}

static void assert_waits(unsigned int id, uint8_t for_whom)
{
	assert_int_equal(member_held_back(gateways[id].m), for_whom);
	assert_int_equal(member_view(gateways[id].m)->live, 0);
	assert_int_equal(gateways[id].live, 0);
}

/* Its heartbeats show that its settings differ. */
static void test_settings(void **state)
{
	(void)state;
	start(1);
	start(2);
	run(300);
	assert_serves(1, 6);
	start_with(0, 2);
	run(1000);
	assert_waits(0, 1);
	assert_serves(1, 6);
	assert_serves(2, 6);
	member_leave(gateways[1].m);
	run(100);
	kill_agent(1);
	run(1000);
	assert_waits(0, 2); /* not even its word that it is there has to be new */
	kill_agent(2);
	run(CLAIM_US / 1000 + 20);
	assert_serves(0, 1);
}

/* Nothing of it is authentic: it is known by what it claims. */
static void test_claims(void **state)
{
	struct member *m;

	(void)state;
	start(1);
	m = gateways[1].m;
	for (unsigned int i = 0; i < 100; i++) {
		member_claims(m, 2, CLAIM_SERVES, now_us);
		run(10);
	}
	assert_waits(1, 2);
	member_claims(m, 2, CLAIM_NONE, now_us);
	run(10);
	assert_serves(1, 2);
	member_claims(m, 2, CLAIM_SERVES, now_us);
	run(100);
	assert_serves(1, 2);
}

/* Of two that start the better claim's goes: who holds SAs, else the lower id's. */
static void test_start_together(void **state)
{
	(void)state;
	start_with(0, 1);
	start_with(1, 2);
	run(300);
	assert_serves(0, 1);
	assert_waits(1, 0);
	power_off(0);
	power_off(1);
	run(500);
	start_with(0, 1);
	start_with(1, 2);
	create(1, 0, 77);
	run(300);
	assert_waits(0, 1);
	assert_serves(1, 2);
}

/* Whom it agrees with it joins, whoever else is there. */
static void test_join(void **state)
{
	(void)state;
	start_with(0, 2);
	run(200);
	assert_serves(0, 1);
	start(1);
	start(2);
	run(500);
	assert_waits(1, 0);
	assert_waits(2, 0);
	member_link(gateways[0].m, false);
	run(500);
	assert_serves(1, 6);
	assert_serves(2, 6);
	member_link(gateways[0].m, true);
	power_off(1);
	run(500);
	start(1);
	run(500);
	assert_serves(1, 6);
	assert_serves(2, 6);
}

/* A member that is only slow to be heard is waited for, and joined. */
static void test_slow(void **state)
{
	(void)state;
	start(0);
	run(200);
	gateways[1].journal = 101;
	start(1);
	member_claims(gateways[1].m, 0, CLAIM_SERVES, now_us);
	member_claims(gateways[1].m, 2, CLAIM_SERVES, now_us);
	run(500);
	assert_serves(0, 3);
	assert_serves(1, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_settings, setup, teardown),
		cmocka_unit_test_setup_teardown(test_claims, setup, teardown),
		cmocka_unit_test_setup_teardown(test_start_together, setup, teardown),
		cmocka_unit_test_setup_teardown(test_join, setup, teardown),
		cmocka_unit_test_setup_teardown(test_slow, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
