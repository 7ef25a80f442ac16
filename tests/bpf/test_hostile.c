/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hostile packets: each packet of the table, ended at every length, with every byte in turn made
 * every value (so each length field tells each lie), and changed at random: never a verdict but
 * pass, drop and send, never a byte changed that must not be, never a second hop, and the reasons
 * add up. HOSTILE: random changes of each packet; SEED: where to begin.
 */
#include "program.h"
#include "hostile.skel.h"
#include "steer.skel.h"

#include "hostile.h"
#include "packets.h"

#define CHANGES 100000
#define ROWS (sizeof(rows) / sizeof(rows[0]))

static struct program members[HOSTILE_MEMBERS];
static uint64_t seed;

static void member_open(struct program *p, uint8_t self)
{
	/* the others have another view: they would send on what we send to them */
	static const uint8_t ours[] = {0, 1, 2}, theirs[] = {1, 2, 0};
	struct espalier_settings settings = {};
	struct espalier_view *view;
	const void *elf;
	size_t size;

	packet_settings(&settings, ESPALIER_HASH_PREFIX);
	settings.self = self;
	elf = hostile_bpf__elf_bytes(&size);
	program_load(p, elf, size, &settings);
	p->fd = bpf_program__fd(bpf_object__find_program_by_name(
		p->object, self == 0 ? "hostile_first" : "hostile_next"));
	program_set_view(p, 0, self == 0 ? ours : theirs, 3, 0, program_now());
	program_set_members(p, true);
	packet_set_sas(p, 0);
	packet_set_pins(p);
	view = program_view(p);
	view->pins = 2;
	program_keep_view(p, view);
}

static int group_setup(void **state)
{
	const char *given = getenv("SEED");

	(void)state;
	seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) | 1;
	for (uint32_t id = 0; id < HOSTILE_MEMBERS; id++)
		member_open(&members[id], id);
	for (uint32_t id = 1; id < HOSTILE_MEMBERS; id++)
		assert_int_equal(bpf_map_update_elem(program_map(&members[0], "next_members"), &id,
					 &members[id].fd, BPF_ANY),
			0);
	print_message("# SEED=%llu\n", (unsigned long long)seed);
	return 0;
}

static int group_teardown(void **state)
{
	(void)state;
	for (int id = 0; id < HOSTILE_MEMBERS; id++)
		program_close(&members[id]);
	return 0;
}

static uint64_t counted(const struct program *p)
{
	uint64_t reasons[ESPALIER_REASON_COUNT], sum = 0;

	program_reasons(p, reasons);
	for (int i = 0; i < ESPALIER_REASON_COUNT; i++)
		sum += reasons[i];
	return sum;
}

static void read_map(const struct program *p, struct hostile *ret)
{
	uint32_t zero = 0;

	assert_int_equal(bpf_map_lookup_elem(program_map(p, "hostile"), &zero, ret), 0);
}

static void check_sin(const struct hostile *h, const char *packet, int member)
{
	if (!h->sin)
		return;
	print_error("\"%s\": sin %u at member %d, %u bytes:", packet, h->sin, member, h->sin_size);
	for (uint32_t i = 0; i < h->sin_size && i < sizeof(h->sin_packet); i++)
		print_error(" %02x", h->sin_packet[i]);
	print_error("\n");
	assert_int_equal(h->sin, HOSTILE_NONE);
}

/* The packet of a row, that many times, changed in that way. */
static void run(const struct row *row, enum hostile_kind kind, uint32_t repeat)
{
	struct hostile h = {.kind = kind, .random = seed};
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = h.packet, .repeat = (int)repeat);
	uint64_t before[2] = {counted(&members[0]), counted(&members[1]) + counted(&members[2])};
	struct frame frame;
	uint32_t zero = 0;

	packet_build(&frame, row->packet);
	h.size = frame.size;
	memset(h.packet, 0xa5, sizeof(h.packet));
	memcpy(h.packet, frame.bytes, frame.size);
	opts.data_size_in = sizeof(h.packet);
	assert_int_equal(
		bpf_map_update_elem(program_map(&members[0], "hostile"), &zero, &h, BPF_ANY), 0);
	assert_int_equal(bpf_prog_test_run_opts(members[0].fd, &opts), 0);

	read_map(&members[0], &h);
	check_sin(&h, row->packet, 0);
	assert_int_equal(h.run, repeat);
	assert_int_equal(counted(&members[0]) - before[0], repeat);
	assert_int_equal(counted(&members[1]) + counted(&members[2]) - before[1], h.sent);
	for (int id = 1; id < HOSTILE_MEMBERS; id++) {
		read_map(&members[id], &h);
		check_sin(&h, row->packet, id);
	}
}

static void test_cut(void **state)
{
	struct frame frame;

	(void)state;
	for (const struct row *row = rows; row < rows + ROWS; row++) {
		packet_build(&frame, row->packet);
		run(row, HOSTILE_CUT, frame.size - ETH_HLEN + 1);
	}
}

static void test_lies(void **state)
{
	struct frame frame;

	(void)state;
	for (const struct row *row = rows; row < rows + ROWS; row++) {
		packet_build(&frame, row->packet);
		run(row, HOSTILE_BYTE, frame.size * 256);
	}
}

static void test_random(void **state)
{
	const char *given = getenv("HOSTILE");
	uint32_t changes = given ? strtoul(given, NULL, 0) : CHANGES;

	(void)state;
	for (const struct row *row = rows; row < rows + ROWS; row++)
		run(row, HOSTILE_RANDOM, changes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_lies),
		cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
