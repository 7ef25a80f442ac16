/* SPDX-License-Identifier: BSD-2-Clause */
/* test_view.c - which member owns which bucket. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/view.h"

static void test_lowest(void **state)
{
	(void)state;
	assert_int_equal(view_lowest(0), ESPALIER_NOBODY);
	assert_int_equal(view_lowest(1), 0);
	assert_int_equal(view_lowest(0xc0), 6);
	assert_int_equal(view_lowest(0x8000), 15);
}

static void test_nobody(void **state)
{
	(void)state;
	assert_int_equal(view_owner(0, VIEW_LOAD_SHARING, 7), ESPALIER_NOBODY);
	assert_int_equal(view_owner(0, VIEW_HOT_STANDBY, 7), ESPALIER_NOBODY);
}

static void test_hot_standby(void **state)
{
	(void)state;
	for (uint16_t bucket = 0; bucket < ESPALIER_BUCKETS; bucket++)
		assert_int_equal(view_owner(0x0c, VIEW_HOT_STANDBY, bucket), 2);
}

/* Each member gets its share, within a fifth. */
static void test_shares(void **state)
{
	(void)state;
	for (unsigned int members = 2; members <= 16; members++) {
		unsigned int share[16] = {0}, fair = ESPALIER_BUCKETS / members;

		for (uint16_t bucket = 0; bucket < ESPALIER_BUCKETS; bucket++)
			share[view_owner(
				(uint16_t)((1U << members) - 1), VIEW_LOAD_SHARING, bucket)]++;
		for (unsigned int id = 0; id < members; id++)
			assert_in_range(share[id], fair * 4 / 5, fair * 6 / 5);
	}
}

/* A death moves the dead member's buckets and no others. */
static void test_death(void **state)
{
	const uint16_t live = 0x8e6b;

	(void)state;
	for (unsigned int dead = 0; dead < 16; dead++) {
		uint16_t rest = (uint16_t)(live & ~(1U << dead));

		for (uint16_t bucket = 0; bucket < ESPALIER_BUCKETS; bucket++) {
			uint8_t before = view_owner(live, VIEW_LOAD_SHARING, bucket);
			uint8_t after = view_owner(rest, VIEW_LOAD_SHARING, bucket);

			assert_true(rest >> after & 1);
			if (before != dead)
				assert_int_equal(after, before);
		}
	}
}

/* Every set of members has a bucket for each of them. */
static void test_ike_bucket(void **state)
{
	(void)state;
	for (unsigned int members = 1; members <= UINT16_MAX; members++) {
		for (uint16_t left = (uint16_t)members; left; left &= (uint16_t)(left - 1)) {
			uint8_t id = view_lowest(left);
			uint16_t bucket = view_ike_bucket((uint16_t)members, id);

			if (bucket < 0xc00 || bucket >= ESPALIER_BUCKETS ||
				view_owner((uint16_t)members, VIEW_LOAD_SHARING, bucket) != id)
				fail_msg("member %u of 0x%04x: bucket %u", id, members, bucket);
		}
	}
	assert_int_equal(view_ike_bucket(0x0d, 1), ESPALIER_BUCKETS);
	assert_int_equal(view_ike_bucket(1, 0), 0xc00);
}

/* Every SPI of it, of a Child SA or of an IKE SA, whoever initiated that, is the member's. */
static void test_ike_spis(void **state)
{
	const uint16_t members = 0x8007;

	(void)state;
	for (uint16_t left = members; left; left &= (uint16_t)(left - 1)) {
		uint8_t id = view_lowest(left);
		uint32_t bucket = view_ike_bucket(members, id), first = bucket << 20;

		assert_int_equal(view_owner(members, VIEW_LOAD_SHARING, (uint16_t)bucket), id);
		for (uint32_t spi = first; spi <= (first | 0xfffff); spi++) {
			uint64_t ike = (uint64_t)spi << 32 | ~spi;

			if (espalier_bucket(spi, ESPALIER_HASH_PREFIX) != bucket ||
				espalier_ike_bucket(ike, 7, 0, ESPALIER_HASH_PREFIX) != bucket ||
				espalier_ike_bucket(7, ike, 1, ESPALIER_HASH_PREFIX) != bucket)
				fail_msg("member %u: SPI 0x%08x", id, spi);
		}
	}
}

static void test_newer(void **state)
{
	const struct view present = {.epoch = 7, .live = 3, .publisher = 1};

	(void)state;
	assert_true(view_newer(&(struct view){.epoch = 8, .publisher = 2}, &present));
	assert_false(view_newer(&(struct view){.epoch = 6, .publisher = 0}, &present));
	assert_true(view_newer(&(struct view){.epoch = 7, .publisher = 0}, &present));
	assert_false(view_newer(&present, &present));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lowest),
		cmocka_unit_test(test_nobody),
		cmocka_unit_test(test_hot_standby),
		cmocka_unit_test(test_shares),
		cmocka_unit_test(test_death),
		cmocka_unit_test(test_ike_bucket),
		cmocka_unit_test(test_ike_spis),
		cmocka_unit_test(test_newer),
	};

	return cmocka_run_group_tests_name("view", tests, NULL, NULL);
}
