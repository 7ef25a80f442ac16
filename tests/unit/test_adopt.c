/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_adopt.c - SAs that were in a kernel before there was a member: beyond block 0, of which
 * nobody but that kernel can have sent anything.
 */
#include "traffic.h"

#define SAS 4

static int setup(void **state)
{
	(void)state;
	setup_sas(SAS);
	pairs = true;
	forget_traffic();
	return 0;
}

/* As a gateway that carries traffic has them: outbound, this far. */
static void carry_traffic(unsigned int id, uint64_t oseq)
{
	for (unsigned int sa = 0; sa < SAS; sa++)
		gateways[id].sas[sa] = (struct sa){.present = true,
			.birth = 77 + sa,
			.oseq = sa % 2 ? oseq : 0,
			.found = (oseq >> BITS) + 1};
}

/* Before a view there is, the agent has its datapath take all for its own (start.c). */
static void own_all(unsigned int id)
{
	memset(gateways[id].owner, (int)id, sizeof(gateways[id].owner));
}

static uint8_t owner_of(unsigned int sa)
{
	return guard_owner(&gateways[0], sa);
}

static void test_adopted(void **state)
{
	const uint64_t oseq = 300ULL << BITS | 17;

	(void)state;
	first_day = true;
	carry_traffic(0, oseq);
	own_all(0);
	start(0);
	assert_int_equal(member_counters(gateways[0].m)->adopted, SAS / 2);
	assert_int_equal(member_fenced(gateways[0].m), 0);
	/* Nothing is lost. */
	assert_int_equal(emit(0, 1, 1000), 1000);
	assert_int_equal(repeated, 0);
	first_day = false;
	start(1);
	start(2);
	run(500);
	for (unsigned int id = 0; id < MEMBERS; id++) {
		assert_int_equal(member_view(gateways[id].m)->live, 7);
		assert_int_equal(gateways[id].notices[NOTICE_OUT_OF_BOUNDS], 0);
		for (unsigned int sa = 0; sa < SAS; sa++) {
			assert_true(gateways[id].sas[sa].present);
			assert_int_equal(record_of(id, sa)->creator, 0);
		}
		assert_int_equal(member_fenced(gateways[id].m), 0);
	}
	assert_int_equal(emit(owner_of(1), 1, 1000), 1000);
	forget_traffic();
	power_off(0);
	run(200);
	assert_int_equal(emit(guard_owner(&gateways[1], 3), 3, 1000), 1000);
	assert_int_equal(repeated, 0);
}

static void send_while_starting(unsigned int id)
{
	struct member *m = gateways[id].m;

	gateways[id].m = NULL; /* it hears nothing yet */
	for (unsigned int i = 0; i < 3000; i++)
		assert_true(emit_one(id, 1));
	gateways[id].m = m;
}

/* Its start lasts longer than some blocks. */
static void test_adopted_slowly(void **state)
{
	(void)state;
	first_day = true;
	while_starting = send_while_starting;
	carry_traffic(0, 300ULL << BITS | 17);
	own_all(0);
	start(0);
	assert_int_equal(emit(0, 1, 1000), 1000);
	assert_int_equal(repeated, 0);
	while_starting = NULL;
	first_day = false;
	start(1);
	start(2);
	run(500);
	assert_int_equal(emit(owner_of(1), 1, 1000), 1000);
	power_off(0);
	run(200);
	assert_int_equal(emit(guard_owner(&gateways[1], 1), 1, 1000), 1000);
	assert_int_equal(repeated, 0);
	for (unsigned int id = 1; id < MEMBERS; id++) {
		assert_int_equal(member_fenced(gateways[id].m), 0);
		assert_int_equal(gateways[id].notices[NOTICE_OUT_OF_BOUNDS], 0);
	}
}

/* Nobody can say where it stands: it goes on above all that may be out. */
static void test_adopted_and_unsettled(void **state)
{
	struct record_key key = sa_key(1);
	const struct record *r;

	(void)state;
	first_day = true;
	unsettled = true;
	carry_traffic(0, 300ULL << BITS | 17);
	own_all(0);
	start(0);
	r = table_find(&gateways[0].m->table, &key);
	assert_true(is_shut(&gateways[0].sas[1]));
	assert_true(r->top > (300ULL << BITS | INT32_MAX) >> BITS);
	run(10);
	assert_true(gateways[0].sas[1].guard.open[0].first > INT32_MAX);
}

/* The agent dies before it has entered a block of its own. */
static void test_adopted_and_restarted(void **state)
{
	(void)state;
	first_day = true;
	carry_traffic(0, 301ULL << BITS | 17); /* another member's block */
	own_all(0);
	gateways[0].disk_stuck = true;
	start(0);
	assert_int_equal(emit(0, 1, 300), 300);
	kill_agent(0);
	gateways[0].disk_stuck = false;
	first_day = false;
	start(0);
	assert_int_equal(member_counters(gateways[0].m)->adopted, 0);
	assert_int_equal(member_fenced(gateways[0].m), 0);
	start(1);
	run(500);
	assert_true(gateways[1].sas[1].present);
	assert_int_equal(gateways[1].notices[NOTICE_OUT_OF_BOUNDS], 0);
	assert_int_equal(emit(owner_of(1), 1, 1000), 1000);
	assert_int_equal(repeated, 0);
}

/* Not the first day: it may be a copy, of which others have sent more. */
static void test_found(void **state)
{
	struct record_key key = sa_key(1), other = sa_key(0);
	const uint64_t oseq = 300ULL << BITS | 17;

	(void)state;
	carry_traffic(0, oseq);
	for (unsigned int id = 0; id < MEMBERS; id++)
		start(id);
	run(500);
	assert_int_equal(member_counters(gateways[0].m)->adopted, 0);
	assert_int_equal(member_fenced_for(gateways[0].m, FENCE_FOUND), SAS / 2);
	assert_true(is_shut(&gateways[0].sas[1]));
	assert_int_equal(gateways[0].expires[FENCE_FOUND], SAS / 2); /* a rekey ends it */
	assert_int_equal(gateways[0].expires[FENCE_NONE], 0);
	for (unsigned int id = 0; id < MEMBERS; id++)
		assert_int_equal(member_view(gateways[id].m)->live, 7);

	/* The user vouches for it. */
	assert_int_equal(member_adopt(gateways[0].m, &other, 0), -EINVAL);
	assert_int_equal(member_adopt(gateways[0].m, &key, gateways[0].sas[1].oseq), 0);
	assert_int_equal(member_adopt(gateways[0].m, &key, gateways[0].sas[1].oseq), -EINVAL);
	run(1000);
	for (unsigned int id = 0; id < MEMBERS; id++)
		assert_int_equal(member_fenced_for(gateways[id].m, FENCE_FOUND), SAS / 2 - 1);
	assert_true(emit(owner_of(1), 1, 1000) > 900);
	assert_int_equal(repeated, 0);
	power_off(owner_of(1));
	run(200);
	for (unsigned int id = 0; id < MEMBERS; id++)
		if (gateways[id].m)
			assert_true(emit(guard_owner(&gateways[id], 1), 1, 300) > 200);
	assert_int_equal(repeated, 0);
}

/* Two gateways say that it is theirs: then it is nobody's. */
static void test_adopted_twice(void **state)
{
	(void)state;
	first_day = true;
	carry_traffic(0, 300ULL << BITS);
	carry_traffic(1, 300ULL << BITS);
	for (unsigned int id = 0; id < MEMBERS; id++)
		start(id);
	run(500);
	for (unsigned int id = 0; id < MEMBERS; id++)
		assert_int_equal(member_fenced_for(gateways[id].m, FENCE_TWO_CREATORS), SAS / 2);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_adopted),
		TEST(test_adopted_slowly),
		TEST(test_adopted_and_unsettled),
		TEST(test_adopted_and_restarted),
		TEST(test_found),
		TEST(test_adopted_twice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
