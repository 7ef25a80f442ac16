/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_fence.c - an SA whose numbers are doubtful on one member goes, with its other half, to one
 * that may emit them; all others stay where they are.
 */
#include "traffic.h"

#define SAS 8

static int setup(void **state)
{
	(void)state;
	setup_sas(SAS);
	pairs = true;
	forget_traffic();
	for (unsigned int id = 0; id < MEMBERS; id++)
		start(id);
	run(500);
	for (unsigned int sa = 0; sa < SAS; sa++)
		create(0, sa, 77 + sa);
	run(200);
	return 0;
}

static uint8_t owner_at(unsigned int id, unsigned int sa)
{
	return member_flow_owner(gateways[id].m, record_of(id, sa));
}

/* On all, in the guard and in the datapath, too. */
static uint8_t owner_of(unsigned int sa)
{
	uint8_t owner = ESPALIER_NOBODY;

	for (unsigned int id = 0; id < MEMBERS; id++) {
		const struct sa *in = &gateways[id].sas[sa & ~1U];

		if (!gateways[id].m)
			continue;
		if (owner == ESPALIER_NOBODY)
			owner = owner_at(id, sa);
		assert_int_equal(owner_at(id, sa), owner);
		assert_int_equal(owner_at(id, sa ^ 1), owner);
		assert_int_equal(gateways[id].sas[sa].guard.pinned, record_of(id, sa)->pinned);
		assert_int_equal(in->pin, record_of(id, sa)->pinned);
	}
	return owner;
}

static void same_view(unsigned int live)
{
	for (unsigned int id = 0; id < MEMBERS; id++)
		if (gateways[id].m)
			assert_int_equal(member_view(gateways[id].m)->live, live);
}

static void lose_journal(unsigned int id)
{
	gateways[id].journal += 1000;
	for (unsigned int sa = 0; sa < SAS; sa++)
		gateways[id].sas[sa].journaled = 0;
}

static void all_send(void)
{
	for (unsigned int sa = 1; sa < SAS; sa += 2) {
		forget_traffic();
		assert_int_equal(emit(owner_of(sa), sa, 300), 300);
		assert_int_equal(repeated, 0);
	}
}

/* It gets its buckets back, and what it may not have stays where it was meanwhile. */
static void test_journal_lost(void **state)
{
	unsigned int lost = 0;

	(void)state;
	for (unsigned int sa = 1; sa < SAS; sa += 2)
		lost += owner_of(sa) == 0;
	assert_true(lost > 0);
	all_send();
	power_off(0);
	lose_journal(0);
	run(200);
	all_send();
	start(0);
	run(1000);
	same_view(7);
	assert_int_equal(member_fenced_for(gateways[0].m, FENCE_JOURNAL_LOST), SAS / 2);
	for (unsigned int sa = 1; sa < SAS; sa += 2)
		assert_int_not_equal(owner_of(sa), 0);
	all_send();
	/* What is made there is its own, as ever. */
	run(100);
	create(0, 0, 177);
	create(0, 1, 178);
	run(200);
	assert_int_equal(member_fenced_for(gateways[0].m, FENCE_JOURNAL_LOST), SAS / 2 - 1);
	all_send();
}

static void test_hot_standby(void **state)
{
	(void)state;
	for (unsigned int id = 0; id < MEMBERS; id++)
		power_off(id);
	mode = VIEW_HOT_STANDBY;
	for (unsigned int id = 0; id < MEMBERS; id++)
		start(id);
	run(500);
	for (unsigned int sa = 0; sa < SAS; sa++)
		create(0, sa, 277 + sa);
	run(200);
	all_send();
	power_off(0);
	lose_journal(0);
	run(200);
	start(0);
	run(1000);
	same_view(7);
	for (unsigned int sa = 1; sa < SAS; sa += 2)
		assert_int_equal(owner_of(sa), 1);
	all_send();
	/* Who has it dies: to the next one that may. */
	power_off(1);
	run(500);
	same_view(5);
	for (unsigned int sa = 1; sa < SAS; sa += 2)
		assert_int_equal(owner_of(sa), 2);
	all_send();
	/* Nobody may: it stays. */
	power_off(2);
	run(500);
	assert_int_equal(owner_of(1), 0);
	forget_traffic();
	assert_int_equal(emit(0, 1, 300), 0);
}

/* One SA of which others know more than our journal: it goes; and that is known after a restart. */
static void test_journal_old(void **state)
{
	uint8_t owner = owner_of(1), other = (uint8_t)((owner + 1) % MEMBERS), now;
	struct record *r = record_of(other, 1);
	unsigned int stays = 3;

	(void)state;
	while (stays < SAS && owner_of(stays) != owner)
		stays += 2;
	r->upto[owner] += 400;
	table_changed(&gateways[other].m->table, r);
	outbox_mark_state(gateways[other].m, r);
	run(500);
	assert_int_equal(member_fenced_for(gateways[owner].m, FENCE_JOURNAL_OLD), 1);
	now = owner_of(1);
	assert_int_not_equal(now, owner);
	assert_true(stays >= SAS || owner_of(stays) == owner);
	same_view(7);
	all_send();
	kill_agent(owner);
	for (unsigned int sa = 0; sa < SAS; sa++)
		gateways[owner].sas[sa].pin = 0;
	start(owner);
	run(1000);
	assert_int_equal(owner_of(1), now);
	assert_int_equal(member_fenced_for(gateways[owner].m, FENCE_JOURNAL_OLD), 1);
	assert_true(is_shut(&gateways[owner].sas[1]));
	all_send();
}

/* By the word of another one. */
static void doubt(unsigned int sa, uint8_t whose, uint8_t by)
{
	struct record *r = record_of(by, sa);

	r->upto[whose] += 400;
	table_changed(&gateways[by].m->table, r);
	outbox_mark_state(gateways[by].m, r);
	run(500);
}

/* On two of three: to the third one, and not to and fro. */
static void test_journals_old(void **state)
{
	(void)state;
	for (unsigned int sa = 1; sa < SAS; sa += 2) {
		uint8_t first = owner_of(sa), second, third;

		doubt(sa, first, (uint8_t)((first + 1) % MEMBERS));
		second = owner_of(sa);
		third = (uint8_t)(3 - first - second);
		doubt(sa, second, third);
		assert_int_equal(owner_of(sa), third);
		assert_in_range(record_of(third, sa)->version, 1, 20);
	}
	all_send();
	same_view(7);
}

static uint64_t records_told(void)
{
	uint64_t n = 0;

	for (unsigned int from = 0; from < MEMBERS; from++)
		for (unsigned int to = 0; to < MEMBERS; to++)
			n += traffic[from][to].messages[WIRE_RECORD];
	return n;
}

/* Two hold themselves for the owner, and hear each other, when one comes that may have nothing:
 * they do not take it from each other without end. */
static void test_two_owners(void **state)
{
	uint64_t told;

	(void)state;
	for (unsigned int id = 0; id < MEMBERS; id++)
		power_off(id);
	mode = VIEW_HOT_STANDBY;
	for (unsigned int id = 0; id < MEMBERS; id++)
		start(id);
	run(500);
	for (unsigned int sa = 0; sa < SAS - 2; sa++)
		create(0, sa, 477 + sa);
	run(200);
	power_off(2);
	lose_journal(2);
	gateways[0].mute = gateways[1].mute = true;
	run(200);
	/* It does not catch up, so the views stay two. */
	gateways[1].work_calls = 0;
	create(0, SAS - 2, 477 + SAS - 2);
	create(0, SAS - 1, 477 + SAS - 1);
	gateways[0].mute = gateways[1].mute = false;
	start(2);
	run(1000);
	assert_int_equal(member_view(gateways[0].m)->live, 1);
	assert_int_equal(member_view(gateways[1].m)->live, 2);
	told = records_told();
	run(1000);
	assert_in_range(records_told() - told, 0, 2 * SAS);
	gateways[1].work_calls = UINT32_MAX;
	run(1000);
	same_view(7);
	for (unsigned int sa = 1; sa < SAS; sa += 2)
		assert_int_not_equal(owner_of(sa), 2);
	all_send();
}

/* A member that comes for the first time is not one that has lost something. */
static void test_new_member(void **state)
{
	(void)state;
	for (unsigned int id = 0; id < MEMBERS; id++)
		power_off(id);
	run(10); /* what was under way */
	start(0);
	start(1);
	run(500);
	for (unsigned int sa = 0; sa < SAS; sa++)
		create(0, sa, 377 + sa);
	run(200);
	lose_journal(2);
	start(2);
	run(1000);
	same_view(7);
	for (unsigned int id = 0; id < MEMBERS; id++)
		assert_int_equal(member_fenced(gateways[id].m), 0);
	for (unsigned int sa = 0; sa < SAS; sa += 2)
		assert_true(record_of(0, sa)->pinned == 0 || record_of(0, sa)->pinned == 1);
	all_send();
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_journal_lost),
		TEST(test_hot_standby),
		TEST(test_journal_old),
		TEST(test_journals_old),
		TEST(test_two_owners),
		TEST(test_new_member),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
