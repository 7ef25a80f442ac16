/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hostile packets: each packet of the tables, ended at every length, with every byte in turn made
 * every value (so each length field tells each lie), and changed at random: never a verdict but
 * pass, drop and send, never a byte that is not what it must be, never a second hop, and the
 * reasons add up (hostile_judge.h). HOSTILE: random changes of each packet; SEED: where to begin.
 */
#include "program.h"
#include "hostile.skel.h"
#include "hostile_clear.skel.h"
#include "hostile_clear_tunnel.skel.h"
#include "hostile_tunnel.skel.h"

#include "hostile.h"
#include "hostile_packets.h"
#include "packets.h"
#include "tunnel.h"

#define CHANGES 50000
#define COUNT(table) (sizeof(table) / sizeof((table)[0]))
#define HOUR 3600000000000 /* ns */

/* Members, and the packets that member 0 is given. */
static struct world {
	const char *name;
	const void *(*elf)(size_t *ret_size);
	bool inner;
	uint16_t mtu; /* of IP-in-IP between members; 0: they are on the same link */
	uint8_t family; /* of the address that IP-in-IP comes to at member 0 */
	struct program members[HOSTILE_MEMBERS];
} worlds[] = {
	{"outer", hostile_bpf__elf_bytes, false, 0, 0, {}},
	{"outer, IP-in-IP", hostile_tunnel_bpf__elf_bytes, false, 1400, AF_INET, {}},
	{"outer, IP-in-IP, small", hostile_tunnel_bpf__elf_bytes, false, 100, AF_INET6, {}},
	{"inner", hostile_clear_bpf__elf_bytes, true, 0, 0, {}},
	{"inner, IP-in-IP", hostile_clear_tunnel_bpf__elf_bytes, true, 1400, AF_INET, {}},
	{"inner, IP-in-IP, small", hostile_clear_tunnel_bpf__elf_bytes, true, 100, AF_INET6, {}},
};

static uint64_t seed;

/* The others have another view: they would send on what we send to them. Where IP-in-IP says whose
 * a packet is, member 2 has ours, and takes what it gets. */
static void world_view(const struct world *w, struct program *p, uint8_t self)
{
	static const uint8_t ours[] = {0, 1, 2}, theirs[] = {1, 2, 0};
	bool agrees = self == 0 || (self == 2 && w->mtu);
	struct espalier_view *view;

	program_set_view(p, 0, agrees ? ours : theirs, 3, 0, program_now() + HOUR);
	view = program_view(p);
	view->pins = 2;
	memcpy(view->outer_mac, mac_outer[self], 6);
	memcpy(view->inner_mac, mac_inner[self], 6);
	program_keep_view(p, view);
}

static void world_open_member(struct world *w, uint8_t self)
{
	struct program *p = &w->members[self];
	struct espalier_settings settings = {};
	struct bpf_map *shared;
	const void *elf;
	size_t size;

	packet_settings(&settings, ESPALIER_HASH_PREFIX);
	settings.self = self;
	if (w->mtu)
		tunnel_settings(&settings, self == 0 ? w->family : self == 2 ? AF_INET6 : AF_INET);
	elf = w->elf(&size);
	program_open(p, elf, size, &settings);
	shared = bpf_object__find_map_by_name(p->object, "hostile");
	if (self > 0)
		assert_int_equal(
			bpf_map__reuse_fd(shared, program_map(&w->members[0], "hostile")), 0);
	assert_int_equal(bpf_object__load(p->object), 0);
	p->fd = bpf_program__fd(bpf_object__find_program_by_name(
		p->object, self == 0 ? "hostile_first" : "hostile_next"));
	if (w->mtu)
		tunnel_set_members(p, self, w->mtu);
	else
		program_set_members(p, true);
	world_view(w, p, self);
	packet_set_sas(p, 0);
	packet_set_pins(p);
	tunnel_set_selectors(p);
}

static int group_setup(void **state)
{
	const char *given = getenv("SEED");

	(void)state;
	seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) | 1;
	for (struct world *w = worlds; w < worlds + COUNT(worlds); w++) {
		for (uint32_t id = 0; id < HOSTILE_MEMBERS; id++)
			world_open_member(w, id);
		for (uint32_t id = 1; id < HOSTILE_MEMBERS; id++)
			assert_int_equal(
				bpf_map_update_elem(program_map(&w->members[0], "next_members"),
					&id, &w->members[id].fd, BPF_ANY),
				0);
	}
	print_message("# SEED=%llu\n", (unsigned long long)seed);
	return 0;
}

static int group_teardown(void **state)
{
	(void)state;
	for (struct world *w = worlds; w < worlds + COUNT(worlds); w++)
		for (int id = 0; id < HOSTILE_MEMBERS; id++)
			program_close(&w->members[id]);
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

static void print_image(const char *what, const struct hostile_place *place, const uint8_t *image)
{
	print_error("%s, %u bytes at %u:", what, place->size, place->at);
	for (uint32_t i = 0; i < place->size && place->at + i < HOSTILE_IMAGE; i++)
		print_error(" %02x", image[place->at + i]);
	print_error("\n");
}

static void check_sin(const struct hostile *h, const struct world *w, const char *packet)
{
	if (!h->sin)
		return;
	print_error("%s, \"%s\": sin %u at member %u, reason %u\n", w->name, packet, h->sin,
		h->sin_member, h->sin_reason);
	print_image("came", &h->sin_came, h->sin_image);
	print_image("left", &h->sin_left, h->sin_after);
	assert_int_equal(h->sin, HOSTILE_NONE);
}

/* The packet, that many times, changed in that way. */
static void run(const struct world *w, const char *packet, const struct frame *frame,
	enum hostile_kind kind, uint32_t repeat)
{
	const struct program *members = w->members;
	struct hostile h = {.kind = kind, .random = seed, .size = frame->size};
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = h.packet, .repeat = (int)repeat);
	uint64_t before[2] = {counted(&members[0]), counted(&members[1]) + counted(&members[2])};
	uint32_t zero = 0;

	assert_in_range(frame->size, ETH_HLEN, HOSTILE_SIZE);
	memset(h.packet, 0xa5, sizeof(h.packet));
	memcpy(h.packet + HOSTILE_HEAD, frame->bytes, frame->size);
	opts.data_size_in = sizeof(h.packet);
	assert_int_equal(
		bpf_map_update_elem(program_map(&members[0], "hostile"), &zero, &h, BPF_ANY), 0);
	assert_int_equal(bpf_prog_test_run_opts(members[0].fd, &opts), 0);

	assert_int_equal(bpf_map_lookup_elem(program_map(&members[0], "hostile"), &zero, &h), 0);
	check_sin(&h, w, packet);
	assert_int_equal(h.run, repeat);
	assert_int_equal(counted(&members[0]) - before[0], repeat);
	assert_int_equal(counted(&members[1]) + counted(&members[2]) - before[1], h.sent);
}

static uint32_t repeat_of(enum hostile_kind kind, const struct frame *frame)
{
	const char *given = getenv("HOSTILE");

	switch (kind) {
	case HOSTILE_CUT:
		return frame->size - ETH_HLEN + 1;
	case HOSTILE_BYTE:
		return frame->size * 256;
	default:
		return given ? strtoul(given, NULL, 0) : CHANGES;
	}
}

static void run_packet(const struct world *w, const char *packet, enum hostile_kind kind)
{
	struct frame frame;

	packet_build(&frame, packet);
	if (w->inner) /* the same members there */
		frame.bytes[4] = mac_inner[0][4];
	run(w, packet, &frame, kind, repeat_of(kind, &frame));
}

static void run_table(
	const struct world *w, const char *const *table, size_t count, enum hostile_kind kind)
{
	for (size_t i = 0; i < count; i++)
		run_packet(w, table[i], kind);
}

static void run_world(const struct world *w, enum hostile_kind kind)
{
	run_table(w, neighbours, COUNT(neighbours), kind);
	if (w->inner)
		run_table(w, inner, COUNT(inner), kind);
	else if (w->mtu)
		run_table(w, outer, COUNT(outer), kind);
	else
		for (const struct row *row = rows; row < rows + COUNT(rows); row++)
			run_packet(w, row->packet, kind);
	if (w->mtu && w->inner)
		run_table(w, inner_wrapped, COUNT(inner_wrapped), kind);
	else if (w->mtu)
		run_table(w, outer_wrapped, COUNT(outer_wrapped), kind);
}

static void test_cut(void **state)
{
	(void)state;
	for (const struct world *w = worlds; w < worlds + COUNT(worlds); w++)
		run_world(w, HOSTILE_CUT);
}

static void test_lies(void **state)
{
	(void)state;
	for (const struct world *w = worlds; w < worlds + COUNT(worlds); w++)
		run_world(w, HOSTILE_BYTE);
}

static void test_random(void **state)
{
	(void)state;
	for (const struct world *w = worlds; w < worlds + COUNT(worlds); w++)
		run_world(w, HOSTILE_RANDOM);
}

/* What was to be judged has happened; at the second hop both of what may: taken, and left. */
static void check_said(const struct world *w, int member, enum espalier_reason reason)
{
	uint64_t said[ESPALIER_REASON_COUNT];

	program_reasons(&w->members[member], said);
	if (!said[reason])
		fail_msg("%s: member %d never said reason %d", w->name, member, reason);
}

static void test_said(void **state)
{
	(void)state;
	for (const struct world *w = worlds; w < worlds + COUNT(worlds); w++) {
		check_said(w, 0, ESPALIER_ND_ANSWERED);
		check_said(w, 0, ESPALIER_ARP_ANSWERED);
		if (!w->mtu) {
			check_said(w, 0, w->inner ? ESPALIER_CLEAR_FORWARDED : ESPALIER_FORWARDED);
			check_said(w, 1, w->inner ? ESPALIER_CLEAR_ONE_HOP : ESPALIER_ONE_HOP);
			continue;
		}
		check_said(w, 0, w->inner ? ESPALIER_CLEAR_LOCAL : ESPALIER_LOCAL);
		check_said(w, 0, w->inner ? ESPALIER_CLEAR_TUNNELLED : ESPALIER_TUNNELLED);
		check_said(w, 0, ESPALIER_TUNNEL_STRANGER);
		check_said(w, 1, ESPALIER_TUNNEL_LEFT);
		check_said(w, 2, w->inner ? ESPALIER_CLEAR_LOCAL : ESPALIER_LOCAL);
		if (w->mtu > HOSTILE_SIZE)
			continue;
		check_said(w, 0, w->inner ? ESPALIER_CLEAR_TOO_BIG : ESPALIER_TOO_BIG);
		check_said(w, 0, ESPALIER_TOO_BIG_LEFT);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_lies),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_said),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
