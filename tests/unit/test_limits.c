/* SPDX-License-Identifier: BSD-2-Clause */
/* test_limits.c - of which SAs the kernel is asked how much of their limits is used up, and how
 * often. Core and kernel are played: the linker puts what is here in their place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "agent.h"

#define SAS 1000
#define EVERY_US 100000
#define MOST 256

const struct table *__wrap_member_table(const struct member *m);
void __wrap_member_used(struct member *m, uint32_t slot, const struct record_usage *used);
int __wrap_xfrm_used(struct xfrm *x, const struct record_key *key, struct record_usage *ret);

static struct agent agent;
static struct table table;
static uint64_t now_us;
static unsigned int asked, told[SAS];
static int answer;

const struct table *__wrap_member_table(const struct member *m)
{
	(void)m;
	return &table;
}

int __wrap_xfrm_used(struct xfrm *x, const struct record_key *key, struct record_usage *ret)
{
	(void)x;
	asked++;
	*ret = (struct record_usage){.bytes = key->spi, .packets = 1};
	return answer;
}

void __wrap_member_used(struct member *m, uint32_t slot, const struct record_usage *used)
{
	(void)m;
	assert_int_equal(used->bytes, slot);
	told[slot]++;
}

static int set_up(void **state)
{
	(void)state;
	agent = (struct agent){.config.max_sas = SAS};
	assert_int_equal(table_init(&table, SAS), 0);
	for (unsigned int i = 0; i < SAS; i++) {
		struct record_key key = {.kind = RECORD_SA, .spi = i};
		struct record *r = table_add(&table, &key, i + 1);

		assert_non_null(r);
		assert_int_equal(r->slot, i);
		r->presence = RECORD_INSTALLED;
		r->facts.limited = true;
	}
	now_us = 1000000;
	asked = 0;
	answer = 0;
	memset(told, 0, sizeof(told));
	return usage_open(&agent);
}

static int tear_down(void **state)
{
	(void)state;
	usage_close(&agent);
	table_free(&table);
	return 0;
}

static void turn(void)
{
	now_us += EVERY_US;
	usage_turn(&agent, now_us);
}

static void test_what_moved(void **state)
{
	(void)state;
	turn();
	assert_int_equal(asked, 0);
	usage_moved(&agent, 0);
	usage_moved(&agent, 63);
	usage_moved(&agent, 64);
	usage_moved(&agent, 64);
	usage_moved(&agent, SAS - 1);
	turn();
	assert_int_equal(asked, 4);
	assert_int_equal(told[0] + told[63] + told[64] + told[SAS - 1], 4);
	turn();
	turn();
	assert_int_equal(asked, 4);
}

/* Not more often than that, however often the loop turns. */
static void test_pause(void **state)
{
	(void)state;
	usage_moved(&agent, 5);
	turn();
	usage_moved(&agent, 5);
	usage_turn(&agent, now_us + EVERY_US - 1);
	assert_int_equal(told[5], 1);
	turn();
	turn();
	assert_int_equal(told[5], 2);
}

static void test_what_need_not(void **state)
{
	(void)state;
	table_at(&table, 3)->facts.limited = false;
	table_at(&table, 4)->presence = RECORD_ABSENT;
	answer = -ENOENT;
	for (unsigned int slot = 3; slot < 6; slot++)
		usage_moved(&agent, slot);
	turn();
	turn();
	assert_int_equal(asked, 1);
	assert_int_equal(told[3] + told[4] + told[5], 0);
}

/* All move all the time: a bounded number of them is asked for, and all come to their turn. */
static void test_turns(void **state)
{
	unsigned int turns = SAS / MOST + 2;

	(void)state;
	for (unsigned int i = 0; i < turns; i++) {
		unsigned int before = asked;

		for (unsigned int slot = 0; slot < SAS; slot++)
			usage_moved(&agent, slot);
		turn();
		assert_in_range(asked - before, 1, MOST);
	}
	for (unsigned int slot = 0; slot < SAS; slot++)
		assert_in_range(told[slot], 1, 2);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_what_moved),
		TEST(test_pause),
		TEST(test_what_need_not),
		TEST(test_turns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
