/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_refused.c - a member's kernel refuses SAs that others have (a module that it lacks, say):
 * the member does not own them, and says why.
 */
#include "traffic.h"

#include <errno.h>

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
	return 0;
}

static void create_all(void)
{
	for (unsigned int sa = 0; sa < SAS; sa++)
		create(0, sa, 77 + sa);
	run(500);
}

static void refuse(unsigned int id)
{
	gateways[id].refuse = UINT32_MAX;
	gateways[id].refusal = -ENOSYS;
}

/* As the living say, all of them. */
static uint8_t owner_of(unsigned int sa)
{
	uint8_t owner = ESPALIER_NOBODY;

	for (unsigned int id = 0; id < MEMBERS; id++) {
		if (!gateways[id].m)
			continue;
		if (owner == ESPALIER_NOBODY)
			owner = member_flow_owner(gateways[id].m, record_of(id, sa));
		assert_int_equal(member_flow_owner(gateways[id].m, record_of(id, sa)), owner);
	}
	return owner;
}

static void all_go_through(uint8_t owner)
{
	for (unsigned int sa = 1; sa < SAS; sa += 2) {
		assert_int_equal(owner_of(sa), owner);
		assert_int_equal(owner_of(sa - 1), owner);
		forget_traffic();
		assert_int_equal(emit(owner, sa, 300), 300);
		assert_int_equal(repeated, 0);
	}
}

/* Who made them dies: they go to the one that has them. */
static void test_takeover(void **state)
{
	(void)state;
	refuse(1);
	create_all();
	for (unsigned int sa = 0; sa < SAS; sa++) {
		assert_false(gateways[1].sas[sa].present);
		assert_true(record_is_refused(record_of(1, sa)));
		assert_int_equal(record_of(1, sa)->refused, -ENOSYS);
		assert_false(record_is_refused(record_of(2, sa)));
	}
	power_off(0);
	run(2000);
	all_go_through(2);
	/* The module is loaded. */
	gateways[1].refuse = 0;
	run(60000);
	for (unsigned int sa = 0; sa < SAS; sa++) {
		assert_true(gateways[1].sas[sa].present);
		assert_false(record_is_refused(record_of(1, sa)));
	}
	all_go_through(2);
}

/* One direction is as good as none. */
static void test_inbound_only(void **state)
{
	(void)state;
	for (unsigned int sa = 0; sa < SAS; sa++) {
		gateways[1].refuse = sa % 2 == 0 ? UINT32_MAX : 0;
		create(0, sa, 77 + sa);
		run(30);
	}
	refuse(1);
	run(500);
	assert_false(gateways[1].sas[0].present);
	assert_true(gateways[1].sas[1].present);
	power_off(0);
	run(2000);
	all_go_through(2);
}

/* It takes them from whoever has them only when it can have them. */
static void test_buckets_of_its_own(void **state)
{
	(void)state;
	refuse(1);
	refuse(2);
	create_all();
	all_go_through(0);
	power_off(2);
	run(500);
	all_go_through(0);
}

/* Nobody has them: they are not passed on and on. */
static void test_nobody_has_them(void **state)
{
	uint64_t version;

	(void)state;
	refuse(1);
	refuse(2);
	create_all();
	power_off(0);
	run(200000);
	version = record_of(1, 1)->version;
	run(100000);
	assert_in_range(record_of(1, 1)->version, version, version + 8);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_takeover),
		TEST(test_inbound_only),
		TEST(test_buckets_of_its_own),
		TEST(test_nobody_has_them),
	};

	return cmocka_run_group_tests_name("refused", tests, NULL, NULL);
}
