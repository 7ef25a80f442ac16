/* SPDX-License-Identifier: BSD-2-Clause */
/* test_inbound.c - which numbers of inbound SAs a member's kernel may take (RFC 6027 3.5): copies
 * start where their owner is, and windows are raised behind a takeover. */
#include "cluster.h"

#define SAS 200U
#define SA 6U /* an inbound one */
#define LAG (1ULL << 30)

/* In hot standby: member 0 owns all. */
static int setup(void **state)
{
	(void)state;
	begin_cluster(2, SAS);
	mode = VIEW_HOT_STANDBY;
	for (unsigned int id = 0; id < 2; id++) {
		kill_agent(id);
		power_off(id);
		start(id);
	}
	run(200);
	for (unsigned int sa = 0; sa < SAS; sa++)
		create(0, sa, sa + 1);
	settle(5000);
	run(50);
	return 0;
}

static struct sa *sa_at(unsigned int id, unsigned int sa)
{
	return &gateways[id].sas[sa];
}

/* Its kernel takes packets up to that number; the datapath counts them. */
static void take_to(unsigned int id, unsigned int sa, uint64_t seq)
{
	sa_at(id, sa)->seq = seq;
	member_position(gateways[id].m, sa_at(id, sa)->guard.slot, seq);
}

static void test_copies_start_where_the_owner_is(void **state)
{
	(void)state;
	for (unsigned int sa = 0; sa < SAS; sa += 2)
		take_to(0, sa, 1000 + sa);
	run(50);
	assert_int_equal(sa_at(1, SA)->seq, 0); /* in its kernel before */
	power_off(1);
	run(200);
	start(1);
	settle(5000);
	for (unsigned int sa = 0; sa < SAS; sa++) {
		assert_true(sa_at(1, sa)->present);
		assert_int_equal(sa_at(1, sa)->seq, sa % 2 ? 0 : 1000 + sa);
	}
}

/* Whatever way it was lost. */
static void test_repairs_start_there_too(void **state)
{
	struct record_key key = sa_key(SA);

	(void)state;
	take_to(0, SA, 1000);
	run(50);
	sa_at(1, SA)->present = false;
	member_missing(gateways[1].m, &key);
	settle(5000);
	assert_int_equal(sa_at(1, SA)->seq, 1000);
	take_to(0, SA, 2000);
	run(50);
	sa_at(1, SA)->present = false;
	member_flushed(gateways[1].m, &key);
	member_missed(gateways[1].m, &key);
	settle(5000);
	assert_int_equal(sa_at(1, SA)->seq, 2000);
}

static void test_windows_rise_behind_a_takeover(void **state)
{
	(void)state;
	for (unsigned int sa = 0; sa < SAS; sa += 2)
		take_to(0, sa, (1ULL << 29) + sa);
	gateways[1].floors = 0;
	run(50);
	assert_int_equal(gateways[1].raises, 0);
	assert_int_equal(gateways[1].floors, SAS / 2);
	assert_int_equal(gateways[1].floor, (1ULL << 29) + SAS - 2);
	power_off(0);
	gateways[1].stick = 3;
	gateways[1].raised = 0;
	run(150);
	assert_int_equal(gateways[1].m->view.live, 2);
	assert_int_equal(gateways[1].raised, 0); /* three are not */
	run(650);
	assert_int_equal(gateways[1].raised, 1);
	for (unsigned int sa = 0; sa < SAS; sa += 2)
		assert_int_equal(sa_at(1, sa)->seq, (1ULL << 29) + sa);
	assert_int_equal(gateways[1].raises, SAS / 2 + 3);
	take_to(1, SA, LAG);
	run(200);
	assert_int_equal(gateways[1].raises, SAS / 2 + 3); /* its own kernel is there */
}

/* What is told late by a former owner counts, too. */
static void test_told_late(void **state)
{
	(void)state;
	take_to(0, SA, 1000);
	gateways[0].mute = true; /* before it could tell */
	run(500);
	assert_int_equal(sa_at(1, SA)->seq, 0);
	gateways[0].mute = false;
	run(1000);
	assert_int_equal(gateways[1].m->view.live, 3);
	power_off(0);
	run(500);
	assert_int_equal(sa_at(1, SA)->seq, 1000);
}

/* By who was an owner, too, in a view of its own: there is no flip then that marks it. */
static void test_told_to_the_owner(void **state)
{
	struct gateway *g = &gateways[0];

	(void)state;
	take_to(0, SA, 1000);
	run(50);
	take_to(1, SA, 2000);
	run(20);
	assert_int_equal(sa_at(0, SA)->seq, 2000);
	assert_false(g->raising);
	g->stick = 2;
	take_to(1, SA, 3000);
	run(20);
	assert_int_equal(sa_at(0, SA)->seq, 2000);
	assert_int_equal(g->floor, 3000);
	assert_true(g->raising);
	run(250); /* refused again */
	assert_int_equal(g->stick, 0);
	assert_true(g->raising);
	run(250);
	assert_int_equal(sa_at(0, SA)->seq, 3000);
	assert_false(g->raising);
}

/* It got its copy from one that was. Each says where its copy begins. */
static void test_who_is_behind_is_told(void **state)
{
	const struct traffic *t = &traffic[1][0];
	struct record_key key = sa_key(SA);
	struct record *r;
	uint64_t told;

	(void)state;
	take_to(0, SA, 1000);
	run(50);
	r = table_find(member_table(gateways[1].m), &key);
	assert_int_equal(r->seq, 1000);
	told = t->messages[WIRE_POSITION];
	sa_at(1, SA)->present = false;
	member_missing(gateways[1].m, &key);
	settle(5000);
	assert_true(t->messages[WIRE_POSITION] > told);
	r->seq = 900;
	outbox_mark_position(gateways[1].m, r);
	run(50);
	assert_int_equal(r->seq, 1000);
	assert_int_equal(traffic[0][1].messages[WIRE_POSITION], 2);
	/* Who is not behind is not answered; nor where limits were, of which no more is told. */
	r->used.packets = 1;
	table_find(member_table(gateways[0].m), &key)->used.packets = 1;
	outbox_mark_position(gateways[1].m, r);
	run(50);
	assert_int_equal(traffic[0][1].messages[WIRE_POSITION], 2);
}

/* A copy does not fall so far behind that the low half of a number could mean another one. */
static void test_copies_follow_from_afar(void **state)
{
	(void)state;
	for (uint64_t seq = LAG / 4; seq <= 9 * LAG; seq += LAG / 4) {
		take_to(0, SA, seq);
		run(20);
		assert_true(seq - sa_at(1, SA)->seq < LAG);
	}
	assert_int_equal(gateways[1].raises, 9);
}

/* An agent that starts anew knows where it was. */
static void test_restarts_know(void **state)
{
	(void)state;
	take_to(0, SA, 1000);
	kill_agent(0);
	sa_at(0, SA)->seq = 1500; /* goes on meanwhile */
	start(0);
	run(50);
	assert_int_equal(
		table_at(member_table(gateways[0].m), sa_at(0, SA)->guard.slot)->seq, 1500);
	settle(5000);
	power_off(0);
	run(500);
	assert_int_equal(sa_at(1, SA)->seq, 1500);
}

/* It is made again with its keys, and an empty window. */
static void test_made_again(void **state)
{
	struct record_key key = sa_key(SA);

	(void)state;
	take_to(0, SA, 1000);
	sa_at(0, SA)->present = false;
	member_removed(gateways[0].m, &key);
	create(0, SA, SA + 1);
	run(50);
	assert_int_equal(sa_at(0, SA)->seq, 1000);
}

/* No number that there is not. */
static void test_out_of_bounds(void **state)
{
	(void)state;
	short_numbers = true;
	create(0, SA, 4711);
	settle(5000);
	take_to(0, SA, 1ULL << 32);
	run(50);
	power_off(0);
	run(500);
	assert_int_equal(sa_at(1, SA)->seq, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_copies_start_where_the_owner_is, setup, teardown),
		cmocka_unit_test_setup_teardown(test_repairs_start_there_too, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_windows_rise_behind_a_takeover, setup, teardown),
		cmocka_unit_test_setup_teardown(test_told_late, setup, teardown),
		cmocka_unit_test_setup_teardown(test_told_to_the_owner, setup, teardown),
		cmocka_unit_test_setup_teardown(test_who_is_behind_is_told, setup, teardown),
		cmocka_unit_test_setup_teardown(test_copies_follow_from_afar, setup, teardown),
		cmocka_unit_test_setup_teardown(test_restarts_know, setup, teardown),
		cmocka_unit_test_setup_teardown(test_made_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_out_of_bounds, setup, teardown),
	};

	return cmocka_run_group_tests_name("inbound", tests, NULL, NULL);
}
