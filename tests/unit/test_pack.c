/* SPDX-License-Identifier: BSD-2-Clause */
/* test_pack.c - what is packed is unpacked, at the price that is promised; bad input is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "core/pack.h"

#define LENGTH_MAX 1300

static uint64_t random_state = 1;

static unsigned int draw(unsigned int below)
{
	random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (unsigned int)(random_state >> 33) % below;
}

/* A copy of its own size, so that the sanitizer sees any step over its end. */
static uint8_t *exactly(const uint8_t *bytes, size_t len)
{
	uint8_t *copy = malloc(len ? len : 1);

	assert_non_null(copy);
	memcpy(copy, bytes, len);
	return copy;
}

/* Packs and unpacks in buffers that are no byte too large. Returns the packed length. */
static size_t round_trip(const uint8_t *bytes, size_t len)
{
	uint8_t roomy[PACK_MAX(LENGTH_MAX)], *in = exactly(bytes, len), *packed, *tight, *out;
	struct writer w = {.at = roomy, .end = roomy + PACK_MAX(len)};
	struct reader r;
	size_t n;

	pack(&w, in, len);
	assert_false(w.failed);
	n = (size_t)(w.at - roomy);
	packed = exactly(roomy, n);

	/* It fits what it takes, and nothing less. */
	tight = malloc(n ? n : 1);
	w = (struct writer){.at = tight, .end = tight + n};
	pack(&w, in, len);
	assert_false(w.failed);
	assert_memory_equal(tight, packed, n);
	if (n) {
		w = (struct writer){.at = tight, .end = tight + n - 1};
		pack(&w, in, len);
		assert_true(w.failed);
	}

	out = malloc(len ? len : 1);
	r = (struct reader){.at = packed, .end = packed + n};
	assert_int_equal(unpack(&r, out, len), len);
	assert_false(r.failed);
	assert_ptr_equal(r.at, r.end);
	assert_memory_equal(out, bytes, len);
	/* One byte of room less is refused. */
	if (len) {
		r = (struct reader){.at = packed, .end = packed + n};
		(void)unpack(&r, out, len - 1);
		assert_true(r.failed);
	}
	free(in);
	free(packed);
	free(tight);
	free(out);
	return n;
}

/* Every length; from no byte set to all, in runs of any length. */
static void test_round_trip(void **state)
{
	static const unsigned int set[] = {0, 10, 100, 300, 500, 900, 1000};
	uint8_t bytes[LENGTH_MAX];

	(void)state;
	for (size_t len = 0; len <= LENGTH_MAX; len++) {
		for (unsigned int i = 0; i < sizeof(set) / sizeof(*set); i++) {
			for (size_t at = 0; at < len; at++)
				bytes[at] = (uint8_t)(draw(1000) < set[i] ? 1 + draw(255) : 0);
			assert_true(round_trip(bytes, len) <= PACK_MAX(len));
		}
	}
	for (unsigned int round = 0; round < 3000; round++) {
		unsigned int longest = 1 + draw(300);
		size_t len = draw(LENGTH_MAX + 1), at = 0;
		bool zeros = draw(2);

		for (; at < len; zeros = !zeros)
			for (unsigned int n = 1 + draw(longest); n && at < len; n--)
				bytes[at++] = (uint8_t)(zeros ? 0 : 1 + draw(255));
		assert_true(round_trip(bytes, len) <= PACK_MAX(len));
	}
}

/* A byte for a run of zeros; of anything else, a byte in 128 more. */
static void test_price(void **state)
{
	uint8_t bytes[LENGTH_MAX] = {0};

	(void)state;
	assert_int_equal(round_trip(bytes, 0), 0);
	for (size_t len = 1; len <= LENGTH_MAX; len++)
		assert_int_equal(round_trip(bytes, len), (len + PACK_LITERALS - 1) / PACK_LITERALS);
	memset(bytes, 0xff, sizeof(bytes));
	for (size_t len = 1; len <= LENGTH_MAX; len++)
		assert_int_equal(
			round_trip(bytes, len), len + (len + PACK_LITERALS - 1) / PACK_LITERALS);
	/* A single zero costs no more than any byte. */
	for (size_t at = 1; at < sizeof(bytes); at += 2)
		bytes[at] = 0;
	assert_true(round_trip(bytes, LENGTH_MAX) <= PACK_MAX(LENGTH_MAX));
}

/* Zeros and literals in turns, of the lengths at which the packer decides. */
static void test_worst(void **state)
{
	uint8_t bytes[LENGTH_MAX];

	(void)state;
	for (unsigned int literals = 1; literals <= 2 * PACK_LITERALS + 1; literals++) {
		for (unsigned int zeros = 1; zeros <= 3; zeros++) {
			for (size_t at = 0; at < sizeof(bytes); at++)
				bytes[at] = at % (literals + zeros) < literals;
			assert_true(round_trip(bytes, sizeof(bytes)) <= PACK_MAX(sizeof(bytes)));
		}
	}
}

static bool refused(const uint8_t *packed, size_t len, size_t size)
{
	uint8_t *in = exactly(packed, len), *out = malloc(size ? size : 1);
	struct reader r = {.at = in, .end = in + len};
	size_t n = unpack(&r, out, size);

	assert_true(n <= size);
	free(in);
	free(out);
	return r.failed;
}

static void test_malformed(void **state)
{
	(void)state;
	assert_false(refused((const uint8_t[]){0}, 0, 0));
	assert_true(refused((const uint8_t[]){0}, 1, 100)); /* a literal that is not there */
	assert_true(refused((const uint8_t[]){2, 'a', 'b'}, 3, 100));
	assert_false(refused((const uint8_t[]){1, 'a', 'b'}, 3, 2));
	assert_true(refused((const uint8_t[]){1, 'a', 'b'}, 3, 1));
	assert_false(refused((const uint8_t[]){0xff}, 1, 128));
	assert_true(refused((const uint8_t[]){0xff}, 1, 127));
	assert_true(refused((const uint8_t[]){0x80}, 1, 0));
	assert_true(refused((const uint8_t[]){0xff, 0xff, 0x80}, 3, 256));
	assert_true(refused((const uint8_t[]){0xff, 0xff, 0x00}, 3, 300));
}

/* Whatever comes, nothing outside is touched. */
static void test_junk(void **state)
{
	uint8_t junk[200];
	unsigned int good = 0, bad = 0;

	(void)state;
	for (unsigned int round = 0; round < 50000; round++) {
		size_t len = draw(sizeof(junk) + 1);

		for (size_t i = 0; i < len; i++)
			junk[i] = (uint8_t)(draw(3) ? draw(8) : draw(256));
		if (refused(junk, len, draw(LENGTH_MAX)))
			bad++;
		else
			good++;
	}
	assert_true(good > 1000 && bad > 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_price),
		cmocka_unit_test(test_worst),
		cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_junk),
	};

	return cmocka_run_group_tests_name("pack", tests, NULL, NULL);
}
