/* SPDX-License-Identifier: BSD-2-Clause */
/* The outer side, packet by packet: the table of packets.h. */
#include "program.h"
#include "steer.skel.h"

#include "packets.h"

static struct program steer;

static int group_setup(void **state)
{
	size_t size;
	const void *elf = steer_bpf__elf_bytes(&size);

	(void)state;
	packet_open(&steer, ESPALIER_HASH_PREFIX, elf, size);
	packet_set_pins(&steer);
	return 0;
}

static int group_teardown(void **state)
{
	(void)state;
	program_close(&steer);
	return 0;
}

static void rows_state(const struct row *row)
{
	static const uint8_t owners[][3] = {[THIRDS] = {0, 1, 2},
		[OURS] = {0, 0, 0},
		[NOBODYS] = {ESPALIER_NOBODY, ESPALIER_NOBODY, ESPALIER_NOBODY},
		[NO_NEXT_HOP] = {0, 1, 2},
		[DEAD_AGENT] = {0, 1, 2},
		[PINNED] = {0, 1, 2},
		[PIN_LEFT] = {0, 1, 2},
		[PIN_OF_NOBODY] = {0, 1, 2}};
	bool pinned = row->state == PINNED || row->state == PIN_LEFT;
	struct espalier_view *view;

	if (row->state == GOES_ON)
		return;
	program_set_view(&steer, 0, owners[row->state], 3, 0,
		program_now() - (row->state == DEAD_AGENT ? 61000000000 : 0));
	program_set_members(&steer, row->state != NO_NEXT_HOP);
	packet_set_sas(&steer, row->state == PINNED ? 1 + 1 : 0);
	view = program_view(&steer);
	view->pins = pinned ? 3 : 0;
	if (row->state == PIN_LEFT)
		view->half[view->active].live &= ~(1U << 2);
	program_keep_view(&steer, view);
}

/* What a row says goes out, made of what came in. */
static void rows_out(struct frame *frame, enum out out)
{
	if (out == SAME)
		return;
	memcpy(frame->bytes, mac_outer[out == TO_1 ? 1 : 2], 6);
	memcpy(frame->bytes + 6, mac_outer[0], 6);
}

static void test_rows(void **state)
{
	struct frame frame, out;
	int verdict, failed = 0;

	(void)state;
	for (const struct row *row = rows; row < rows + sizeof(rows) / sizeof(rows[0]); row++) {
		rows_state(row);
		packet_build(&frame, row->packet);
		out = frame;
		rows_out(&out, row->out);
		verdict = program_run(&steer, &frame, NULL, 0);
		if (verdict == row->verdict && steer.reason == row->reason &&
			frame.size == out.size && !memcmp(frame.bytes, out.bytes, frame.size))
			continue;
		print_error("row %d, \"%s\": verdict %d, reason %d, %s\n", (int)(row - rows),
			row->packet, verdict, steer.reason,
			memcmp(frame.bytes, out.bytes, frame.size) ? "other bytes"
								   : "the right bytes");
		failed++;
	}
	assert_int_equal(failed, 0);
}

static void test_said_all(void **state)
{
	(void)state;
	program_said_all(&steer, IN_STEER);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows), cmocka_unit_test(test_said_all)};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
