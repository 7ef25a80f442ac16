/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_rule.c - what the numbers of an SA are spent on: refused installs and moves cost none, a
 * restart few, and nobody's word takes them away.
 */
#include "traffic.h"

#define SECOND 1000 /* steps */
#define ALL_BLOCKS (1ULL << (64 - BITS)) /* of an SA with ESN */

static int setup_cluster(void **state)
{
	setup_hot_standby(state);
	start(0);
	start(1);
	run(500);
	return 0;
}

static uint64_t entered(unsigned int id)
{
	return gateways[id].sas[0].journaled;
}

/* Refused installs. */

static void test_refused_install_costs_no_block(void **state)
{
	(void)state;
	gateways[1].refuse = UINT32_MAX;
	create(0, 0, 77);
	run(100 * SECOND);
	assert_in_range(entered(1), 1, 2 * modulus(1));
	/* 50 ms, 100 ms, ... 51 s */
	assert_in_range(gateways[1].installs, 5, 13);
	assert_in_range(member_counters(gateways[1].m)->entered, 1, 1);
}

static void test_refused_block_is_used_when_the_kernel_takes_it(void **state)
{
	uint64_t block;

	(void)state;
	gateways[1].refuse = 3;
	create(0, 0, 77);
	run(5 * SECOND);
	block = entered(1) - 1;
	assert_int_equal(block, block_own(&gateways[1].m->rule, modulus(1) + 1));
	assert_true(gateways[1].sas[0].present);
	assert_int_equal(gateways[1].sas[0].oseq, block << BITS);
	assert_int_equal(gateways[1].sas[0].guard.open[0].first, block << BITS);
	assert_int_equal(gateways[1].installs, 4);
}

/* The owner goes on meanwhile: a block that the standby has no more use for is left. */
static void test_refused_block_below_the_reserve_is_left(void **state)
{
	(void)state;
	gateways[1].refuse = 8;
	create(0, 0, 77);
	run(SECOND);
	assert_int_equal(emit(0, 0, 2000), 2000);
	run(20 * SECOND);
	assert_true(gateways[1].sas[0].present);
	assert_true(gateways[1].sas[0].oseq > gateways[0].sas[0].oseq + (modulus(1) << BITS));
	assert_in_range(entered(1), 1, record_of(1, 0)->top + 2 * modulus(1));
	assert_in_range(member_counters(gateways[1].m)->entered, 2, 5);
}

/* An answer that did not come says nothing: the kernel may have the SA, and count. */
static void test_block_of_an_unclear_install_is_given_up(void **state)
{
	(void)state;
	gateways[1].refuse = 1;
	gateways[1].refusal = -EAGAIN;
	create(0, 0, 77);
	run(5 * SECOND);
	assert_true(gateways[1].sas[0].present);
	assert_int_equal(member_counters(gateways[1].m)->entered, 2);
}

static void test_refused_is_tried_again_when_views_change(void **state)
{
	unsigned int tried;

	(void)state;
	gateways[1].refuse = UINT32_MAX;
	create(0, 0, 77);
	run(100 * SECOND);
	tried = gateways[1].installs;
	run(5 * SECOND);
	assert_in_range(gateways[1].installs, tried, tried + 1);
	tried = gateways[1].installs;
	member_link(gateways[0].m, false);
	run(5 * SECOND);
	assert_in_range(gateways[1].installs, tried + 3, tried + 10);
	assert_in_range(member_counters(gateways[1].m)->entered, 1, 2);
}

static void test_refused_policy_is_tried_more_seldom(void **state)
{
	struct member_record policy = {
		.key = {.kind = RECORD_POLICY, .proto = 1, .family = 2, .addr = {7}},
		.facts = {.pair = 1, .direction = ESPALIER_OUT},
		.body = "policy",
		.body_len = 6,
	};

	(void)state;
	gateways[1].refuse = UINT32_MAX;
	member_added(gateways[0].m, &policy);
	run(100 * SECOND);
	assert_in_range(gateways[1].installs, 5, 13);
	gateways[1].refuse = 0;
	run(60 * SECOND);
	assert_true(gateways[1].policies[7]);
}

/* Moves. */

/* Its counter may stand in that block: it is given up. */
static void test_stuck_moves_are_tried_more_seldom(void **state)
{
	(void)state;
	create(0, 0, 77);
	run(SECOND);
	gateways[0].stick = UINT32_MAX;
	gateways[0].moves = 0;
	(void)emit(0, 0, 300);
	run(100 * SECOND);
	assert_in_range(gateways[0].moves, 5, 14);
	gateways[0].stick = 0;
	run(60 * SECOND);
	assert_int_equal(emit(0, 0, 100), 100);
}

/* It never got there: the block is still to be had. */
static void test_refused_move_costs_no_block(void **state)
{
	(void)state;
	create(0, 0, 77);
	run(SECOND);
	gateways[0].stick = 4;
	gateways[0].stuck = -EIO;
	(void)emit(0, 0, 200);
	run(3 * SECOND);
	assert_int_equal(entered(0), modulus(0) + 1);
	assert_int_equal(gateways[0].sas[0].oseq, modulus(0) << BITS);
	assert_int_equal(gateways[0].sas[0].guard.open[0].first, modulus(0) << BITS);
	assert_int_equal(emit(0, 0, 1000), 1000);
}

static void test_refused_block_that_was_run_past_is_left(void **state)
{
	(void)state;
	create(0, 0, 77);
	run(SECOND);
	gateways[0].stick = 1;
	gateways[0].stuck = -EIO;
	(void)emit(0, 0, 150);
	gateways[0].sas[0].oseq = (modulus(0) << BITS) + 10;
	(void)emit(0, 0, 1);
	run(SECOND);
	assert_true(gateways[0].sas[0].guard.open[0].first > gateways[0].sas[0].oseq - 1);
	assert_int_equal(emit(0, 0, 1000), 1000);
	assert_int_equal(repeated, 0);
}

/* Restarts. */

/* The pinned guard and view of the life before let packets out while an agent starts. */
static void restart_under_load(unsigned int id)
{
	kill_agent(id);
	for (unsigned int i = 0; i < 20; i++)
		(void)emit_one(id, 0);
	start(id);
	(void)emit(id, 0, 300);
}

static void check_restarts(uint8_t bits, unsigned int restarts)
{
	uint64_t before, most = 0;

	block_bits = bits;
	start_us = 200000;
	start(0);
	run(500);
	create(0, 0, 77);
	run(100);
	for (unsigned int i = 0; i < restarts; i++) {
		before = entered(0);
		restart_under_load(0);
		/* Traffic uses up blocks, too. */
		before += ((320ULL >> bits) + 1) * modulus(0);
		most = entered(0) > before && entered(0) - before > most ? entered(0) - before
									 : most;
	}
	assert_in_range(most, 0, 2 * modulus(0));
	assert_int_equal(repeated, 0);
}

static void test_restart_costs_few_blocks(void **state)
{
	(void)state;
	check_restarts(BITS, 100);
}

static void test_restart_costs_few_large_blocks(void **state)
{
	(void)state;
	short_numbers = true;
	check_restarts(24, 20);
	assert_int_equal(emit(0, 0, 10), 10);
}

/* The guard was not there. */

/* 20 blocks of it went out of a standby, which the owner must get above. */
static void test_owner_gets_above_what_strayed(void **state)
{
	struct sa *copy = &gateways[1].sas[0];
	uint64_t strayed;

	(void)state;
	create(0, 0, 77);
	run(100);
	strayed = copy->oseq + (20ULL << block_bits);
	copy->oseq = strayed;
	member_strayed(gateways[1].m, record_of(1, 0)->slot, strayed);
	run(100);
	assert_in_range(record_of(0, 0)->top, (strayed >> block_bits) + 1,
		(strayed >> block_bits) + 1 + 2 * modulus(0));
	assert_true(gateways[0].sas[0].oseq > strayed);
	assert_int_equal(emit(0, 0, 10), 10);
	assert_true(copy->oseq > gateways[0].sas[0].oseq);
}

/* What stands where it was put has emitted nothing. */
static void test_copy_that_did_not_stray_costs_nothing(void **state)
{
	uint64_t top;

	(void)state;
	create(0, 0, 77);
	run(100);
	top = record_of(1, 0)->top;
	member_strayed(gateways[1].m, record_of(1, 0)->slot, gateways[1].sas[0].oseq);
	run(100);
	assert_int_equal(record_of(1, 0)->top, top);
	assert_int_equal(record_of(0, 0)->top, top);
}

/* Bounds. */

/* Member 1 says this of the SA. */
static void say(void (*change)(struct record *r))
{
	struct record *r = record_of(1, 0), honest = *r;

	change(r);
	/* Only its numbers are sent. */
	for (unsigned int id = 0; id < members; id++)
		if (id != 1)
			r->dirty_state |= member_bit(id);
	table_changed(&gateways[1].m->table, r);
	outbox_mark_state(gateways[1].m, r);
	run(20);
	r = record_of(1, 0);
	r->top = honest.top;
	memcpy(r->upto, honest.upto, sizeof(r->upto));
	table_changed(&gateways[1].m->table, r);
}

static void endless_upto(struct record *r)
{
	r->upto[1] = UINT64_MAX - 1; /* as if the block below were member 1's */
}

static void endless_top(struct record *r)
{
	r->top = UINT64_MAX;
}

static void one_too_many(struct record *r)
{
	r->top = ALL_BLOCKS + 1;
}

static void foreign_block(struct record *r)
{
	r->upto[1] = 4 * 7 + 1; /* block 28 is member 0's */
}

static void check_refused(void (*change)(struct record *r))
{
	struct record before;

	create(0, 0, 77);
	run(100);
	before = *record_of(0, 0);
	say(change);
	assert_int_equal(record_of(0, 0)->top, before.top);
	assert_int_equal(record_of(0, 0)->upto[1], before.upto[1]);
	assert_true(member_counters(gateways[0].m)->out_of_bounds > 0);
	assert_int_equal(gateways[0].notices[NOTICE_OUT_OF_BOUNDS], 1);
	assert_int_equal(emit(0, 0, 1000), 1000);
	assert_int_equal(repeated, 0);
}

static void test_blocks_that_there_are_not(void **state)
{
	(void)state;
	check_refused(endless_upto);
}

static void test_top_above_all_blocks(void **state)
{
	(void)state;
	check_refused(endless_top);
}

static void test_top_one_above_all_blocks(void **state)
{
	(void)state;
	check_refused(one_too_many);
}

static void test_blocks_of_somebody_else(void **state)
{
	(void)state;
	check_refused(foreign_block);
}

static void last_block(struct record *r)
{
	r->top = ALL_BLOCKS;
}

/* As far as there are blocks a member is believed; then the SA is at its end, not at its beginning.
 */
static void test_last_block(void **state)
{
	(void)state;
	create(0, 0, 77);
	run(100);
	say(last_block);
	assert_int_equal(record_of(0, 0)->top, ALL_BLOCKS);
	(void)emit(0, 0, 3000);
	assert_int_equal(repeated, 0);
	assert_int_equal(gateways[0].notices[NOTICE_SPENT], 1);
}

/* Views. */

static void test_absurd_epoch_is_ignored(void **state)
{
	uint64_t epoch;

	(void)state;
	epoch = gateways[0].m->view.epoch;
	gateways[0].mute = true;
	run(2); /* what it has sent before would set 1 right */
	gateways[1].m->view.epoch = UINT64_MAX;
	gateways[1].m->view.publisher = 1;
	gateways[1].m->view.live = 2;
	run(100);
	gateways[0].mute = false;
	assert_in_range(gateways[0].m->view.epoch, epoch, epoch + 10);
	assert_int_equal(gateways[0].notices[NOTICE_EPOCH], 1);
	/* It comes back to itself. */
	run(500);
	assert_int_equal(gateways[0].m->view.live, 3);
	assert_int_equal(gateways[1].m->view.live, 3);
}

/* It believed it, since it followed none then; and comes back to what all others say. */
static void test_absurd_epoch_that_was_believed(void **state)
{
	uint64_t epoch;

	(void)state;
	epoch = gateways[0].m->view.epoch;
	gateways[1].m->view.epoch = 1ULL << 62;
	gateways[1].m->view.publisher = 1;
	gateways[1].m->view.live = 2;
	run(500);
	assert_int_equal(gateways[1].notices[NOTICE_STEPPED_DOWN], 1);
	for (unsigned int id = 0; id < 2; id++) {
		assert_in_range(gateways[id].m->view.epoch, epoch, epoch + 10);
		assert_int_equal(gateways[id].m->view.live, 3);
	}
}

static void test_epoch_of_a_cluster_that_was_long_away(void **state)
{
	(void)state;
	gateways[0].m->view.epoch += 1ULL << 31;
	gateways[0].m->heartbeat_due_us = 0;
	run(100);
	assert_int_equal(gateways[1].m->view.epoch, gateways[0].m->view.epoch);
	kill_agent(1);
	run(100);
	start(1);
	run(500);
	assert_int_equal(gateways[1].m->view.live, 3);
}

/* A publisher has changed its mind, and could not count on. */
static void test_changed_view_of_the_same_epoch(void **state)
{
	struct member *m = gateways[1].m;
	struct view before = m->others[0].heartbeat.view;

	(void)state;
	assert_int_equal(before.live, 3);
	m->others[0].heartbeat.view.live = 1;
	takeover_adopt(m, 0, &before);
	assert_int_equal(m->view.live, 1);
	takeover_adopt(m, 0, &m->others[0].heartbeat.view);
	assert_int_equal(m->view.live, 1);
}

/* What a member sees for itself is not undone by what its publisher has said before. */
static void test_own_suspicion_stays(void **state)
{
	(void)state;
	gateways[1].m->view.live = 2;
	run(25);
	assert_int_equal(gateways[1].m->view.live, 2);
}

int main(void)
{
#define IN_CLUSTER(test) cmocka_unit_test_setup_teardown(test, setup_cluster, teardown)
#define ALONE(test) cmocka_unit_test_setup_teardown(test, setup_hot_standby, teardown)
	const struct CMUnitTest tests[] = {
		IN_CLUSTER(test_refused_install_costs_no_block),
		IN_CLUSTER(test_refused_block_is_used_when_the_kernel_takes_it),
		IN_CLUSTER(test_refused_block_below_the_reserve_is_left),
		IN_CLUSTER(test_block_of_an_unclear_install_is_given_up),
		IN_CLUSTER(test_refused_is_tried_again_when_views_change),
		IN_CLUSTER(test_refused_policy_is_tried_more_seldom),
		IN_CLUSTER(test_stuck_moves_are_tried_more_seldom),
		IN_CLUSTER(test_refused_move_costs_no_block),
		IN_CLUSTER(test_refused_block_that_was_run_past_is_left),
		ALONE(test_restart_costs_few_blocks),
		ALONE(test_restart_costs_few_large_blocks),
		IN_CLUSTER(test_owner_gets_above_what_strayed),
		IN_CLUSTER(test_copy_that_did_not_stray_costs_nothing),
		IN_CLUSTER(test_blocks_that_there_are_not),
		IN_CLUSTER(test_top_above_all_blocks),
		IN_CLUSTER(test_top_one_above_all_blocks),
		IN_CLUSTER(test_blocks_of_somebody_else),
		IN_CLUSTER(test_last_block),
		IN_CLUSTER(test_absurd_epoch_is_ignored),
		IN_CLUSTER(test_absurd_epoch_that_was_believed),
		IN_CLUSTER(test_epoch_of_a_cluster_that_was_long_away),
		IN_CLUSTER(test_changed_view_of_the_same_epoch),
		IN_CLUSTER(test_own_suspicion_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
