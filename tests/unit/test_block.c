/* SPDX-License-Identifier: BSD-2-Clause */
/* test_block.c - whose a block is, and when which one must be entered. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/block.h"

static void test_modulus(void **state)
{
	static const uint8_t expected[] = {1, 2, 4, 4, 8, 8, 8, 8, 16, 16, 16, 16, 16, 16, 16, 16};

	(void)state;
	for (uint8_t id = 0; id < 16; id++)
		assert_int_equal(block_modulus(id), expected[id]);
}

static void test_numbers(void **state)
{
	struct block_rule rule = {.self = 1, .modulus = 4, .bits = 16};

	(void)state;
	assert_int_equal(block_of(&rule, 0), 0);
	assert_int_equal(block_of(&rule, 65535), 0);
	assert_int_equal(block_of(&rule, 65536), 1);
	assert_int_equal(block_first(&rule, 3), 3 << 16);
	assert_int_equal(block_last(&rule, 3), (4 << 16) - 1);
	assert_true(block_of(&rule, UINT64_MAX) == UINT64_MAX >> 16);
	assert_true(block_last(&rule, UINT64_MAX >> 16) == UINT64_MAX);
}

/* Every block but 0 has one member; block_own() gives the first of ours that is not below. */
static void test_own(void **state)
{
	(void)state;
	for (uint8_t modulus = 1; modulus <= 16; modulus = (uint8_t)(modulus << 1)) {
		for (uint64_t bound = 0; bound < 100; bound++) {
			for (uint8_t self = 0; self < modulus; self++) {
				struct block_rule rule = {self, modulus, 16};
				uint64_t block = block_own(&rule, bound);

				assert_int_equal(block % modulus, self);
				assert_int_not_equal(block, 0);
				assert_true(block >= bound);
				assert_true(block <= (bound ? bound : 1) + modulus - 1);
			}
		}
	}
}

/* Whatever a member believes, two of them never get the same block, and none gets one twice. */
static void test_disjoint(void **state)
{
	uint8_t taken[4096] = {1}; /* block 0 */
	uint64_t upto[4] = {1}, random = 1;

	(void)state;
	for (unsigned int i = 0; i < 2000; i++) {
		struct block_rule rule = {.modulus = 4, .bits = 4};
		uint64_t top, block;

		random = random * 6364136223846793005ULL + 1442695040888963407ULL;
		rule.self = random >> 60 & 3;
		top = upto[random >> 58 & 3];
		if (!block_need(&rule, random >> 57 & 1, upto[rule.self], top, upto[rule.self] << 4,
			    &block))
			continue;
		if (block >= sizeof(taken))
			break;
		assert_int_equal(taken[block], 0);
		taken[block] = 1;
		assert_true(block >= upto[rule.self]);
		upto[rule.self] = block + 1;
	}
}

static void test_owner(void **state)
{
	struct block_rule rule = {.self = 1, .modulus = 4, .bits = 4};
	uint64_t block;

	(void)state;
	/* In its block's first half: nothing; from the middle on: its next one. */
	assert_false(block_need(&rule, true, 6, 6, block_first(&rule, 5) + 7, &block));
	assert_true(block_need(&rule, true, 6, 6, block_first(&rule, 5) + 8, &block));
	assert_int_equal(block, 9);
	/* Somebody else got above: above him, with a round to spare. */
	assert_true(block_need(&rule, true, 6, 8, block_first(&rule, 5), &block));
	assert_int_equal(block, 13);
	/* Never entered one. */
	assert_true(block_need(&rule, true, 0, 0, 0, &block));
	assert_int_equal(block, 5);
}

static void test_standby(void **state)
{
	struct block_rule rule = {.self = 2, .modulus = 4, .bits = 4};
	uint64_t block, upto = 0;

	(void)state;
	for (uint64_t top = 1; top < 1000; top += 4) {
		/* The owner moves by a round: one more announcement may be lost. */
		if (block_need(&rule, false, upto, top, 0, &block))
			upto = block + 1;
		assert_true(upto > top + rule.modulus);
		assert_false(block_need(&rule, false, upto, top, 0, &block));
	}
}

/* Another member's view has us for the owner: our own reserve is the top then. */
static void test_not_above_itself(void **state)
{
	struct block_rule rule = {.self = 2, .modulus = 4, .bits = 4};
	uint64_t block;

	(void)state;
	assert_false(block_need(&rule, false, 15, 15, block_first(&rule, 14), &block));
	assert_true(block_need(&rule, false, 15, 15, block_first(&rule, 15), &block));
	assert_true(block_need(&rule, false, 15, 16, block_first(&rule, 14), &block));
	assert_true(block_need(&rule, false, 0, 0, 0, &block));
}

/* A counter runs on while packets are dropped: it must not stay outside of all blocks. */
static void test_run_out(void **state)
{
	struct block_rule rule = {.self = 1, .modulus = 4, .bits = 4};
	uint64_t block;

	(void)state;
	assert_true(block_need(&rule, true, 6, 6, block_first(&rule, 11), &block));
	assert_int_equal(block, 13);
	assert_false(block_need(&rule, false, 14, 6, block_last(&rule, 13), &block));
	assert_true(block_need(&rule, false, 14, 6, block_first(&rule, 14), &block));
	assert_int_equal(block, 17);
}

static void test_end(void **state)
{
	struct block_rule rule = {.self = 0, .modulus = 4, .bits = 16};

	(void)state;
	assert_true(block_exists(&rule, 65535, false));
	assert_false(block_exists(&rule, 65536, false));
	assert_true(block_exists(&rule, 65536, true));
	assert_false(block_exists(&rule, 1ULL << 48, true));
	assert_false(block_late(&rule, 49151, false));
	assert_true(block_late(&rule, 49152, false));
	assert_false(block_late(&rule, 49152, true));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_modulus),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_own),
		cmocka_unit_test(test_disjoint),
		cmocka_unit_test(test_owner),
		cmocka_unit_test(test_standby),
		cmocka_unit_test(test_not_above_itself),
		cmocka_unit_test(test_run_out),
		cmocka_unit_test(test_end),
	};

	return cmocka_run_group_tests_name("block", tests, NULL, NULL);
}
