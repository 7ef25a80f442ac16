/* SPDX-License-Identifier: BSD-2-Clause */
/* test_window.c - replay windows that are raised, judged as the kernel judges (RFC 4303 A2). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "io/xfrm_socket.h"

static uint32_t window;

static struct {
	struct xfrm_replay_state_esn esn;
	uint32_t bitmap[3];
} state;

/* Where 2^32 is passed the kernel's ring goes on only if 2^32 is a multiple of it. */
static void begin(uint64_t top)
{
	memset(&state, 0, sizeof(state));
	state.esn = (struct xfrm_replay_state_esn){.bmp_len = 3,
		.replay_window = window,
		.seq = (uint32_t)top,
		.seq_hi = (uint32_t)(top >> 32)};
}

/* As xfrm_replay_check_esn() and xfrm_replay_recheck_esn(): would it be taken, if its ICV is good?
 */
static bool takes(uint64_t n)
{
	uint64_t top = (uint64_t)state.esn.seq_hi << 32 | state.esn.seq;
	uint32_t at = (state.esn.seq - 1) % window, diff, bit;

	if (n > top)
		return true;
	if (top - n >= window)
		return false;
	diff = (uint32_t)(top - n);
	bit = at >= diff ? at - diff : window - (diff - at);
	return !(state.esn.bmp[bit / 32] >> bit % 32 & 1);
}

/* Notes it, as xfrm_replay_advance_esn(). */
static void take(uint64_t n)
{
	uint64_t top = (uint64_t)state.esn.seq_hi << 32 | state.esn.seq;
	uint32_t at = (state.esn.seq - 1) % window, bit;

	if (n > top) {
		uint64_t diff = n - top;

		for (uint64_t i = 1; i < diff && i <= window; i++) {
			bit = (at + (uint32_t)i) % window;
			state.esn.bmp[bit / 32] &= ~(1U << bit % 32);
		}
		bit = (uint32_t)((at + diff) % window);
		state.esn.seq = (uint32_t)n;
		state.esn.seq_hi = (uint32_t)(n >> 32);
	} else {
		bit = (uint32_t)((at + window - (top - n)) % window);
	}
	state.esn.bmp[bit / 32] |= 1U << bit % 32;
}

static void raise_and_check(uint64_t top, uint64_t seq)
{
	begin(top);
	for (uint64_t n = top > 9 ? top - 9 : 1; n < top; n += 2)
		take(n);
	xfrm_window_raise_esn(&state.esn, seq);
	for (uint64_t n = seq > 2 * window ? seq - 2 * window : 1; n < seq + 2 * window; n++) {
		bool noted = n <= seq || (n > top - 10 && n < top && (top - 9 - n) % 2 == 0);

		assert_int_equal(takes(n), !noted && n + window > top);
	}
}

static void test_esn(void **unused)
{
	static const uint64_t tops[] = {1000, 1ULL << 32, (1ULL << 32) + 5, (5ULL << 32) - 3};

	(void)unused;
	window = 70;
	for (unsigned int i = 0; i < 4; i++) {
		raise_and_check(tops[i], tops[i]);
		raise_and_check(tops[i], tops[i] + 1);
		raise_and_check(tops[i], tops[i] + 1000);
		raise_and_check(tops[i], tops[i] + (3ULL << 32));
		raise_and_check(tops[i], tops[i] - 1);
		raise_and_check(tops[i], tops[i] - 30);
		raise_and_check(tops[i], tops[i] - window + 1);
		raise_and_check(tops[i], tops[i] - window);
		raise_and_check(tops[i], tops[i] - 500);
	}
}

/* Numbers above that come out of order are taken, each once. */
static void test_goes_on(void **unused)
{
	(void)unused;
	window = 64;
	begin(0);
	xfrm_window_raise_esn(&state.esn, (1ULL << 32) - 2);
	take((1ULL << 32) + 3);
	for (uint64_t n = (1ULL << 32) - 60; n <= (1ULL << 32) - 2; n++)
		assert_false(takes(n));
	for (uint64_t n = (1ULL << 32) - 1; n < (1ULL << 32) + 3; n++) {
		assert_true(takes(n));
		take(n);
		assert_false(takes(n));
	}
	begin(7); /* a window of none takes all: nothing is changed */
	state.esn.replay_window = 0;
	xfrm_window_raise_esn(&state.esn, 100);
	assert_int_equal(state.esn.seq, 7);
}

static void test_legacy(void **unused)
{
	struct xfrm_replay_state legacy = {.seq = 100, .bitmap = 1};

	(void)unused;
	xfrm_window_raise_legacy(&legacy, 96);
	assert_int_equal(legacy.seq, 100);
	assert_int_equal(legacy.bitmap, 0xfffffff1);
	xfrm_window_raise_legacy(&legacy, 40);
	assert_int_equal(legacy.bitmap, 0xfffffff1);
	xfrm_window_raise_legacy(&legacy, 100);
	assert_int_equal(legacy.bitmap, UINT32_MAX);
	legacy.bitmap = 1;
	xfrm_window_raise_legacy(&legacy, UINT32_MAX);
	assert_int_equal(legacy.seq, UINT32_MAX);
	assert_int_equal(legacy.bitmap, UINT32_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_esn),
		cmocka_unit_test(test_goes_on),
		cmocka_unit_test(test_legacy),
	};

	return cmocka_run_group_tests_name("window", tests, NULL, NULL);
}
