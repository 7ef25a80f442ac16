/* SPDX-License-Identifier: BSD-2-Clause */
/* test_positions.c - which counters of the datapath are an SA's position. Core, kernel and datapath
 * are played: the linker puts what is here in their place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "agent.h"

#define SAS 2U /* of which the first one is inbound */

const struct table *__wrap_member_table(const struct member *m);
void __wrap_member_position(struct member *m, uint32_t slot, uint64_t seq);
void __wrap_member_counter(struct member *m, uint32_t slot, uint64_t oseq);
int __wrap_xfrm_counters(
	struct xfrm *x, const struct record_key *key, uint64_t *ret_oseq, uint64_t *ret_seq);
struct espalier_counter *__wrap_datapath_counters(const struct datapath *d);

static struct agent agent;
static struct table table;
static struct record *records[SAS];
static struct espalier_counter counters[SAS + 1];
static uint64_t positions[SAS + 1], told[SAS], told_oseq, kernel_seq;
static unsigned int asked;
static int answer;

const struct table *__wrap_member_table(const struct member *m)
{
	(void)m;
	return &table;
}

void __wrap_member_position(struct member *m, uint32_t slot, uint64_t seq)
{
	(void)m;
	told[slot] = seq;
	if (records[slot]->seq < seq)
		records[slot]->seq = seq;
}

void __wrap_member_counter(struct member *m, uint32_t slot, uint64_t oseq)
{
	(void)m;
	(void)slot;
	told_oseq = oseq;
}

int __wrap_xfrm_counters(
	struct xfrm *x, const struct record_key *key, uint64_t *ret_oseq, uint64_t *ret_seq)
{
	(void)x;
	(void)key;
	asked++;
	*ret_oseq = 4711;
	*ret_seq = kernel_seq;
	return answer;
}

struct espalier_counter *__wrap_datapath_counters(const struct datapath *d)
{
	(void)d;
	return counters;
}

void usage_moved(struct agent *a, uint32_t slot)
{
	(void)a;
	(void)slot;
}

static int set_up(void **state)
{
	(void)state;
	agent = (struct agent){.positions = positions};
	memset(counters, 0, sizeof(counters));
	memset(positions, 0, sizeof(positions));
	memset(told, 0, sizeof(told));
	told_oseq = kernel_seq = 0;
	asked = 0;
	answer = 0;
	assert_int_equal(table_init(&table, 2 * SAS), 0);
	for (unsigned int i = 0; i < SAS; i++) {
		const struct record_key key = {.kind = RECORD_SA, .spi = i};

		records[i] = table_add(&table, &key, i + 1);
		assert_non_null(records[i]);
		assert_int_equal(records[i]->slot, i);
		records[i]->facts.birth = i + 1;
		records[i]->facts.direction = i ? ESPALIER_OUT : ESPALIER_IN;
		records[i]->presence = RECORD_INSTALLED;
		counters[i].birth = i + 1;
	}
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	table_free(&table);
	return 0;
}

static void read_all(void)
{
	agent.positions_next = 0;
	assert_false(positions_turn(&agent));
}

static void test_what_moves_is_told_once(void **state)
{
	(void)state;
	counters[0].seq = 10;
	counters[1].seq = 20;
	read_all();
	assert_int_equal(told[0], 10);
	assert_int_equal(told[1], 20);
	told[0] = told[1] = 0;
	counters[1].seq = 21;
	read_all();
	assert_int_equal(told[0], 0);
	assert_int_equal(told[1], 21);
	assert_int_equal(asked, 0);
}

/* The programs go by slots of an earlier agent's life until they are told of ours. */
static void test_what_another_sa_has_counted(void **state)
{
	struct espalier_event event = {
		.kind = ESPALIER_BLOCK_LOW, .slot = 0, .seq = 20, .birth = 2};

	(void)state;
	counters[0] = (struct espalier_counter){.birth = 2, .seq = 20};
	read_all();
	assert_int_equal(told[0], 0);
	positions_wake(&agent, &event);
	assert_int_equal(told[0], 0);
	event.kind = ESPALIER_BLOCK_OUT;
	positions_wake(&agent, &event);
	assert_int_equal(asked, 0);
	event.slot = SAS; /* nobody's by now */
	positions_wake(&agent, &event);

	event = (struct espalier_event){
		.kind = ESPALIER_BLOCK_LOW, .slot = 1, .seq = 30, .birth = 2};
	positions_wake(&agent, &event);
	assert_int_equal(told[1], 30);
	event.kind = ESPALIER_BLOCK_OUT;
	positions_wake(&agent, &event);
	assert_int_equal(told_oseq, 4711);
}

/* A leap of an inbound SA: if the kernel knows better, its word counts, and the counter is mended.
 */
static void test_leaps_are_doubted(void **state)
{
	(void)state;
	counters[0].seq = counters[1].seq = 1000000;
	kernel_seq = 12;
	read_all();
	assert_int_equal(asked, 1);
	assert_int_equal(told[0], 12);
	assert_int_equal(told[1], 1000000);
	assert_int_equal(counters[0].seq, 12);
	counters[0].seq = 14;
	read_all();
	assert_int_equal(told[0], 14);
	assert_int_equal(asked, 1);

	counters[0].seq = kernel_seq = 2000000;
	read_all();
	assert_int_equal(told[0], 2000000);
	counters[0].seq = 3000000; /* no window, no number in the kernel */
	kernel_seq = 0;
	read_all();
	assert_int_equal(told[0], 3000000);
	counters[0].seq = 4000000; /* it has just gone */
	answer = -ENOENT;
	read_all();
	assert_int_equal(told[0], 3000000);
	assert_int_equal(asked, 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_what_moves_is_told_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_what_another_sa_has_counted, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_leaps_are_doubted, set_up, tear_down),
	};

	return cmocka_run_group_tests_name("positions", tests, NULL, NULL);
}
