/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_rekey.c - a rekey is asked for in time, on the members whose IKE daemon may have the SA; and
 * the end of the numbers is named.
 */
#include "traffic.h"

#define SECOND 1000 /* steps */

/* Uses up blocks, half of one at a time. */
static void run_to(unsigned int id, uint64_t block)
{
	struct sa *sa = &gateways[id].sas[0];

	for (unsigned int i = 0; sa->oseq >> block_bits < block; i++) {
		assert_in_range(i, 0, 10000);
		sa->oseq += 1ULL << (block_bits - 1);
		(void)emit(id, 0, 5);
	}
}

static void begin_short(void)
{
	short_numbers = true;
	block_bits = 24;
	start(0);
	start(1);
	run(500);
	create(0, 0, 77);
	run(100);
}

static void test_rekey_is_asked_for_at_each_late_block(void **state)
{
	unsigned int asked;

	(void)state;
	begin_short();
	run_to(0, 3ULL << 6 /* of 2^8 */);
	asked = gateways[0].expires[FENCE_NONE];
	assert_in_range(asked, 1, 3);
	run_to(0, (3ULL << 6) + 10 * modulus(0));
	assert_in_range(gateways[0].expires[FENCE_NONE], asked + 9, asked + 12);
	assert_int_equal(gateways[1].expires[FENCE_NONE], 0);
}

static void test_rekey_is_asked_for_by_the_next_owner(void **state)
{
	(void)state;
	begin_short();
	run_to(0, (3ULL << 6) + 2);
	assert_int_equal(gateways[1].expires[FENCE_NONE], 0);
	power_off(0);
	run(200);
	assert_int_equal(gateways[1].expires[FENCE_NONE], 1);
}

static void test_rekey_is_asked_for_after_a_restart(void **state)
{
	unsigned int asked;

	(void)state;
	begin_short();
	run_to(0, (3ULL << 6) + 2);
	asked = gateways[0].expires[FENCE_NONE];
	kill_agent(0);
	start(0);
	run(500);
	assert_true(gateways[0].expires[FENCE_NONE] > asked);
}

/* Member 1 makes the SA while it is alone; then member 0 owns it, and uses it up to the last
 * quarter.
 */
static void fail_back_and_use_up(void)
{
	short_numbers = true;
	block_bits = 24;
	start(1);
	run(500);
	create(1, 0, 77);
	run(100);
	start(0);
	run(500);
	assert_int_equal(guard_owner(&gateways[1], 0), 0);
	run_to(0, (3ULL << 6) - modulus(0));
	run(10);
	assert_true(record_of(1, 0)->upto[1] > 3ULL << 6); /* its reserve */
	assert_int_equal(gateways[0].expires[FENCE_NONE] + gateways[1].expires[FENCE_NONE], 0);
	run_to(0, 3ULL << 6);
	run(10);
}

/* The IKE daemon that can rekey it is there. */
static void test_rekey_is_asked_for_on_the_creator_after_a_failback(void **state)
{
	unsigned int asked;

	(void)state;
	fail_back_and_use_up();
	assert_in_range(gateways[0].expires[FENCE_NONE], 1, 2);
	assert_in_range(gateways[1].expires[FENCE_NONE], 1, 2);
	asked = gateways[1].expires[FENCE_NONE];
	run(20 * SECOND);
	assert_int_equal(gateways[1].expires[FENCE_NONE], asked);
	run_to(0, (3ULL << 6) + 10 * modulus(0));
	run(10);
	assert_in_range(gateways[1].expires[FENCE_NONE], asked + 9, asked + 11);
}

/* Espalierd alone was started again, not the IKE daemon. */
static void test_rekey_is_asked_for_on_the_creator_after_a_restart(void **state)
{
	unsigned int asked;

	(void)state;
	fail_back_and_use_up();
	asked = gateways[1].expires[FENCE_NONE];
	kill_agent(1);
	start_us = 100000;
	start(1);
	run(500);
	assert_in_range(gateways[1].expires[FENCE_NONE], asked + 1, asked + 2);
}

/* A creator that may emit nothing of it enters no block, and asks all the same. */
static void test_rekey_is_asked_for_on_a_creator_without_journal(void **state)
{
	unsigned int asked;

	(void)state;
	fail_back_and_use_up();
	power_off(1);
	gateways[1].journal = 200;
	gateways[1].sas[0].journaled = 0;
	start(1);
	run(500);
	assert_int_equal(member_fenced_for(gateways[1].m, FENCE_JOURNAL_LOST), 1);
	asked = gateways[1].expires[FENCE_NONE];
	run_to(0, (3ULL << 6) + 10 * modulus(0));
	run(10);
	assert_in_range(gateways[1].expires[FENCE_NONE], asked + 9, asked + 11);
}

static void test_no_rekey_is_asked_for_where_the_sa_is_not(void **state)
{
	unsigned int asked;

	(void)state;
	fail_back_and_use_up();
	power_off(1);
	gateways[1].refuse = UINT32_MAX;
	asked = gateways[1].expires[FENCE_NONE];
	start(1);
	run(500);
	run_to(0, (3ULL << 6) + 10 * modulus(0));
	run(10);
	assert_int_equal(gateways[1].expires[FENCE_NONE], asked);
}

static void test_end_of_the_numbers_is_named(void **state)
{
	(void)state;
	begin_short();
	gateways[0].sas[0].oseq = UINT32_MAX - 10;
	(void)emit(0, 0, 1);
	run(SECOND);
	assert_int_equal(gateways[0].notices[NOTICE_SPENT], 1);
}

int main(void)
{
#define ALONE(test) cmocka_unit_test_setup_teardown(test, setup_hot_standby, teardown)
	const struct CMUnitTest tests[] = {
		ALONE(test_rekey_is_asked_for_at_each_late_block),
		ALONE(test_rekey_is_asked_for_by_the_next_owner),
		ALONE(test_rekey_is_asked_for_after_a_restart),
		ALONE(test_rekey_is_asked_for_on_the_creator_after_a_failback),
		ALONE(test_rekey_is_asked_for_on_the_creator_after_a_restart),
		ALONE(test_rekey_is_asked_for_on_a_creator_without_journal),
		ALONE(test_no_rekey_is_asked_for_where_the_sa_is_not),
		ALONE(test_end_of_the_numbers_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
