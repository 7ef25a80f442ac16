/* SPDX-License-Identifier: BSD-2-Clause */
/* test_usage.c - a limit of bytes and packets is one of the SA's, whichever member carries it. */
#include "cluster.h"

#define SAS 16
#define SA 1

static int setup(void **state)
{
	(void)state;
	setup_sas(SAS);
	limited = true;
	mode = VIEW_HOT_STANDBY;
	for (unsigned int id = 0; id < MEMBERS; id++)
		start(id);
	run(500);
	return 0;
}

static const struct record *record_of(unsigned int id)
{
	struct record_key key = sa_key(SA);

	return table_find(member_table(gateways[id].m), &key);
}

/* Its kernel counts so much more, and its agent looks. */
static void carry(unsigned int id, uint64_t bytes, uint64_t packets)
{
	struct sa *sa = &gateways[id].sas[SA];

	sa->used.bytes += bytes;
	sa->used.packets += packets;
	member_used(gateways[id].m, record_of(id)->slot, &sa->used);
}

static void counts(unsigned int id, uint64_t bytes, uint64_t packets)
{
	assert_int_equal(gateways[id].sas[SA].used.bytes, bytes);
	assert_int_equal(gateways[id].sas[SA].used.packets, packets);
}

static void all_count(uint64_t bytes, uint64_t packets)
{
	for (unsigned int id = 0; id < MEMBERS; id++)
		if (gateways[id].m)
			counts(id, bytes, packets);
}

/* There and back: each counts on from what the other has counted. */
static void test_takeover(void **state)
{
	(void)state;
	create(0, SA, 77);
	run(100);
	carry(0, 5000, 50);
	run(10);
	all_count(5000, 50);
	member_link(gateways[0].m, false);
	run(100);
	assert_int_equal(member_flow_owner(gateways[1].m, record_of(1)), 1);
	carry(1, 1000, 7);
	run(10);
	all_count(6000, 57);
	member_link(gateways[0].m, true);
	run(500);
	assert_int_equal(member_flow_owner(gateways[0].m, record_of(0)), 0);
	carry(0, 1, 1);
	run(10);
	all_count(6001, 58);
}

/* A copy that is made now begins where the SA stands, whoever sends it. */
static void test_newcomer(void **state)
{
	(void)state;
	create(0, SA, 77);
	power_off(2);
	run(100);
	carry(0, 5000, 50);
	run(100);
	start(2);
	run(500);
	counts(2, 5000, 50);
	assert_int_equal(record_of(2)->used.bytes, 5000);
}

/* An IKE daemon that moves an SA makes it again. */
static void test_made_again(void **state)
{
	struct record_key key = sa_key(SA);

	(void)state;
	create(0, SA, 77);
	run(100);
	carry(0, 5000, 50);
	run(10);
	gateways[0].sas[SA].present = false;
	member_removed(gateways[0].m, &key);
	create(0, SA, 77);
	run(100);
	carry(0, 100, 1);
	run(10);
	all_count(5000, 50);
	carry(0, 100, 1);
	run(10);
	all_count(5100, 51);
}

/* Each counts what it carries; together they are not asked for more than the higher one. */
static void test_both(void **state)
{
	(void)state;
	create(0, SA, 77);
	run(100);
	carry(0, 5000, 50);
	carry(1, 700, 60);
	run(10);
	all_count(5000, 60);
}

/* Nobody asks how much is used up of what has no end. */
static void test_unlimited(void **state)
{
	(void)state;
	limited = false;
	create(0, SA, 77);
	run(100);
	carry(0, 5000, 50);
	run(10);
	counts(1, 0, 0);
	assert_int_equal(traffic[0][1].messages[WIRE_USAGE], 0);
	assert_int_equal(record_of(0)->used.bytes, 0);
}

/* One message a time that it is looked at, whatever was carried. */
static void test_cost(void **state)
{
	(void)state;
	create(0, SA, 77);
	run(100);
	for (unsigned int i = 0; i < 10; i++) {
		carry(0, 1000, 1);
		carry(0, 1000, 1);
		run(10);
	}
	assert_int_equal(traffic[0][1].messages[WIRE_USAGE], 10);
	assert_int_equal(traffic[1][2].messages[WIRE_USAGE], 0);
	all_count(20000, 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_takeover, setup, teardown),
		cmocka_unit_test_setup_teardown(test_newcomer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_made_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_both, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unlimited, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cost, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
