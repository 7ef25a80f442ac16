/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The never-repeat rule on the way out: which numbers guard.bpf.c lets out, of one packet and of
 * all segments of a GSO packet, what it counts, and when it wakes the agent.
 */
#include "guard.h"

#include <pthread.h>

static void test_blocks(void **state)
{
	(void)state;
	stopped(0, 0);
	stopped(K - 1, 0);
	sent(K, 0);
	sent(2 * K - 1, 0);
	stopped(2 * K, 0);
	stopped(4 * K - 1, 0);
	sent(4 * K, 0);
	sent(5 * K - 1, 1);
	stopped(5 * K, 0);
	stopped(UINT32_MAX, 0);
	assert_int_equal(get_counter().seq, 5 * K - 1);
	assert_int_equal(get_counter().packets, 4);
}

static void test_empty(void **state)
{
	(void)state;
	set_sa(1, 0, 1, 0);
	stopped(0, 0);
	stopped(1, 0);
	stopped(1, 2);
	stopped(UINT32_MAX, 2);
}

/* All segments of a GSO packet, not the first one alone. */
static void test_gso(void **state)
{
	(void)state;
	sent(K, 45);
	assert_int_equal(get_counter().seq, K + 44);
	assert_int_equal(get_counter().packets, 45);
	sent(2 * K - 45, 45);
	stopped(2 * K - 45, 46); /* the last one is in another member's block */
	stopped(2 * K - 1, 2);
	stopped(K - 1, 2);
	stopped(4 * K - 1, 2);
	sent(5 * K - 2, 2);
	stopped(5 * K - 2, 3);
	sent(K, 65535);
	assert_int_equal(get_counter().seq, 5 * K - 1);
	assert_int_equal(get_counter().packets, 45 + 45 + 2 + 65535);
}

/* Two open blocks side by side: a GSO packet may lie across. */
static void test_gso_across(void **state)
{
	(void)state;
	set_sa(2 * K, 3 * K - 1, K, 2 * K - 1);
	sent(2 * K - 1, 2);
	assert_int_equal(get_counter().seq, 2 * K);
	sent(2 * K - 20, 45);
	assert_int_equal(get_counter().seq, 2 * K + 24);
	assert_int_equal(get_counter().packets, 47);
	stopped(3 * K - 20, 21);
	stopped(K - 1, 45);
}

/* With ESN the header has the low 32 bits; the window tells the rest. */
static void test_esn(void **state)
{
	const uint64_t high = 5ULL << 32;

	(void)state;
	set_sa(high + 4 * K, high + 5 * K - 1, 1, 0);
	sent(4 * K + 9, 0);
	assert_int_equal(get_counter().seq, high + 4 * K + 9);
	stopped(5 * K, 0);
	/* across the border of 2^32 */
	set_sa(high, high + K - 1, high - K, high - 1);
	sent(UINT32_MAX - 1, 0);
	assert_int_equal(get_counter().seq, high + 4 * K + 9);
	set_counter(0, 0);
	sent(UINT32_MAX - 1, 4);
	assert_int_equal(get_counter().seq, high + 1);
	sent(0, 1);
	assert_int_equal(get_counter().seq, high + 1);
	stopped(K, 0);
	stopped((uint32_t)-K - 1, 0);
	/* the last block there is */
	set_sa(UINT64_MAX - K + 1, UINT64_MAX, 1, 0);
	sent(UINT32_MAX, 1);
	assert_int_equal(get_counter().seq, UINT64_MAX);
	stopped(UINT32_MAX, 2);
	stopped(0, 0);
}

static int on_event(void *ctx, void *data, size_t size)
{
	struct espalier_event *events = ctx;

	assert_int_equal(size, sizeof(*events));
	assert_in_range(events[0].slot, 0, 14);
	memcpy(&events[++events[0].slot], data, size);
	return 0;
}

/* One event when the middle of the block entered last is crossed, by whatever packet; one when a
 * packet is in no block. */
static void test_wake(void **state)
{
	struct espalier_event events[16] = {}; /* the first one counts the others */
	struct ring_buffer *ring =
		ring_buffer__new(program_map(&guard, "wake"), on_event, events, NULL);
	const uint64_t middle = 4 * K + K / 2 - 1;

	(void)state;
	assert_non_null(ring);
	ring_buffer__consume(ring); /* of the tests before */
	memset(events, 0, sizeof(events));
	setup(NULL);

	sent(2 * K - 1, 0); /* the end of the block before is not the middle of this one */
	sent(middle - 1, 0);
	assert_int_equal(ring_buffer__consume(ring), 0);
	sent(middle, 0);
	sent(middle + 1, 0);
	sent(middle - 5, 0); /* out of order: no news */
	assert_int_equal(ring_buffer__consume(ring), 1);
	assert_int_equal(events[1].kind, ESPALIER_BLOCK_LOW);
	assert_int_equal(events[1].slot, SLOT);
	assert_int_equal(events[1].seq, middle);
	assert_int_equal(events[1].birth, BIRTH);

	set_counter(4 * K, 1);
	sent(middle - 40, 45); /* crossed within a GSO packet */
	assert_int_equal(ring_buffer__consume(ring), 1);
	assert_int_equal(events[2].seq, middle + 4);

	stopped(8 * K, 0);
	stopped(8 * K + 1, 0); /* one is told at a time */
	assert_int_equal(ring_buffer__consume(ring), 1);
	assert_int_equal(events[3].kind, ESPALIER_BLOCK_OUT);
	assert_int_equal(events[3].slot, SLOT);
	ring_buffer__free(ring);
}

/* The slot is of an earlier agent's life, and another SA has it by now. */
static void test_old_slot(void **state)
{
	const struct espalier_counter others = {.birth = BIRTH + 1, .seq = 1, .packets = 1};
	struct espalier_counter after;
	uint32_t slot = SLOT;

	(void)state;
	assert_int_equal(
		bpf_map_update_elem(program_map(&guard, "counters"), &slot, &others, BPF_ANY), 0);
	sent(4 * K + 1, 1);
	after = get_counter();
	assert_memory_equal(&after, &others, sizeof(others));
}

static uint64_t run_many(const struct frame *frame, int repeat)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame->bytes, .data_size_in = frame->size,
		.repeat = repeat);

	return bpf_prog_test_run_opts(guard.fd, &opts) ? UINT64_MAX : opts.retval;
}

static void *send_rising(void *ctx)
{
	struct frame frame;

	for (uint32_t i = 0; i < 50; i++) {
		esp_frame(&frame, SPI, 4 * K + *(uint32_t *)ctx + 2 * i);
		if (run_many(&frame, 20000) != (uint32_t)PASS)
			return "refused";
	}
	return NULL;
}

/* Two CPUs send through one SA: no packet goes uncounted, and the highest number is the highest. */
static void test_two_cpus(void **state)
{
	uint32_t even = 0, odd = 1;
	void *result = NULL;
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, send_rising, &even), 0);
	assert_null(send_rising(&odd));
	assert_int_equal(pthread_join(thread, &result), 0);
	assert_null(result);
	assert_int_equal(get_counter().packets, 2 * 50 * 20000);
	assert_int_equal(get_counter().seq, 4 * K + 99);
	program_reasons(&guard, guard.said);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_blocks, setup),
		cmocka_unit_test_setup(test_empty, setup),
		cmocka_unit_test_setup(test_old_slot, setup),
		cmocka_unit_test_setup(test_gso, setup),
		cmocka_unit_test_setup(test_gso_across, setup),
		cmocka_unit_test_setup(test_esn, setup),
		cmocka_unit_test_setup(test_wake, setup),
		cmocka_unit_test_setup(test_two_cpus, setup),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
