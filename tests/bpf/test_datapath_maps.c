/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The agent's side of the maps against the programs that run: what it stores they see, what they
 * count it reads.
 */
#include "namespace.h"

#include <poll.h>
#include <pthread.h>

static void read_pinned(const char *name, uint32_t index, void *ret)
{
	int fd = pinned(name);

	assert_int_equal(bpf_map_lookup_elem(fd, &index, ret), 0);
	close(fd);
}

static void test_sas(void **state)
{
	struct espalier_sa sa = {.open = {{1, 0}, {1, 0}}, .bucket = 1}, found;
	struct espalier_sa_key key, seen, *previous = NULL;
	struct datapath *d = open_it();
	uint32_t slots = 0;
	int n = 0;

	(void)state;
	for (uint32_t i = 0; i < MAX_SAS; i++) {
		key = key_of(SPI + i);
		sa.slot = i;
		assert_int_equal(datapath_sa_set(d, &key, &sa), 0);
	}
	key = key_of(SPI + MAX_SAS);
	assert_int_equal(datapath_sa_set(d, &key, &sa), -ENOSPC);
	key = key_of(SPI);
	sa.slot = MAX_SAS;
	assert_int_equal(datapath_sa_set(d, &key, &sa), -ENOSPC);
	while (datapath_sa_next(d, previous, &seen, &found) == 1 && n <= MAX_SAS) {
		slots |= 1U << found.slot;
		assert_int_equal(ntohl(seen.spi), SPI + found.slot);
		key = seen;
		previous = &key;
		n++;
	}
	assert_int_equal(n, MAX_SAS);
	assert_int_equal(slots, 0xffff);
	assert_int_equal(datapath_sa_delete(d, &seen), 0);
	assert_int_equal(datapath_sa_delete(d, &seen), -ENOENT);
	assert_int_equal(datapath_sa_get(d, &seen, &found), -ENOENT);
	datapath_close(d);
}

/* What the agent stores is what the programs (here: another reader of the pinned maps) see. */
static void test_stores(void **state)
{
	const struct espalier_member member = {
		.outer_mac = {2, 1}, .inner_mac = {2, 2}, .outer.kind = ESPALIER_HOP_LINK};
	static struct espalier_view view;
	struct espalier_member found;
	struct espalier_selector selector = {
		.prefixlen = ESPALIER_SELECTOR_BITS + 24, .family = AF_INET, .addr = {10, 2}};
	const struct espalier_flow flow = {.bucket = 9, .pinned = 2};
	struct espalier_sa_key key = {.daddr = {192, 0, 2, 1}, .spi = 7, .family = AF_INET}, next;
	struct datapath *d = open_it();

	(void)state;
	for (uint8_t id = 0; id < 3; id++) {
		const struct espalier_view_half *before = datapath_view(d);
		uint8_t owner = before->owner[0];

		datapath_publish(d, all_owned_by(id));
		assert_ptr_not_equal(datapath_view(d), before);
		assert_int_equal(before->owner[0], owner); /* readers may still be in there */
		datapath_alive(d, 1000 + id);
		read_pinned("view", 0, &view);
		assert_int_equal(view.alive_ns, 1000 + id);
		assert_int_equal(view.dead_ns, config.dead_ns);
		assert_memory_equal(
			&view.half[view.active], all_owned_by(id), sizeof(view.half[0]));
	}
	assert_int_equal(datapath_member_set(d, 15, &member), 0);
	assert_int_equal(datapath_member_set(d, 16, &member), -EINVAL);
	read_pinned("members", 15, &found);
	assert_memory_equal(&found, &member, sizeof(member));

	assert_int_equal(datapath_selector_set(d, &selector, &flow), 0);
	selector.prefixlen -= 8;
	assert_int_equal(datapath_selector_delete(d, &selector), -ENOENT);
	selector.prefixlen += 8;
	assert_int_equal(datapath_selector_delete(d, &selector), 0);

	/* nobody looks where the view says that there is nothing */
	for (uint32_t pins = 1; pins <= 2; pins++) {
		key.spi = pins;
		assert_int_equal(datapath_pin_set(d, &key, &flow), 0);
		assert_int_equal(datapath_pin_set(d, &key, &flow), 0);
		read_pinned("view", 0, &view);
		assert_int_equal(view.pins, pins);
	}
	assert_int_equal(datapath_pin_next(d, NULL, &next), 1);
	assert_int_equal(datapath_pin_delete(d, &next), 0);
	assert_int_equal(datapath_pin_delete(d, &next), -ENOENT);
	assert_int_equal(datapath_pin_next(d, NULL, &next), 1);
	assert_int_equal(datapath_pin_next(d, &next, &next), 0);
	assert_int_equal(datapath_pin_delete(d, &next), 0);
	assert_int_equal(datapath_interface_set(d, 9, 7), 0);
	assert_int_equal(datapath_interface_set(d, 9, 8), 0);
	read_pinned("view", 0, &view);
	assert_int_equal(view.pins, 0);
	assert_int_equal(view.interfaces, 1);
	assert_int_equal(datapath_interface_delete(d, 9), 0);
	assert_int_equal(datapath_interface_delete(d, 9), -ENOENT);
	datapath_close(d);
}

static void note_event(void *ctx, const struct espalier_event *event)
{
	*(struct espalier_event *)ctx = *event;
}

/* Packets through the attached guard; what is counted, and how the agent is woken. */
static void test_guard(void **state)
{
	const struct espalier_sa_key key = key_of(SPI);
	const struct espalier_sa sa = {.open = {{K, 2 * K - 1}, {1, 0}}, .slot = 3, .bucket = 7};
	uint64_t before[ESPALIER_REASON_COUNT], after[ESPALIER_REASON_COUNT];
	struct espalier_event event = {};
	struct datapath *d = open_it();
	int fd = packet_socket(), in = receiver();
	struct pollfd wake = {.fd = datapath_wake_fd(d), .events = POLLIN};

	(void)state;
	datapath_publish(d, all_owned_by(1));
	assert_int_equal(datapath_reasons(d, before), 0);
	assert_int_equal(send_esp(fd, SPI, 1), 0); /* not known yet: block 0 */
	assert_int_not_equal(send_esp(fd, SPI, K), 0);
	assert_int_equal(datapath_sa_set(d, &key, &sa), 0);
	assert_int_not_equal(send_esp(fd, SPI, 1), 0);
	assert_int_equal(send_esp(fd, SPI, K), 0);
	assert_int_equal(poll(&wake, 1, 0), 0);
	assert_int_equal(send_esp(fd, SPI, K + K / 2), 0);
	assert_int_equal(poll(&wake, 1, 1000), 1);
	/* with what waited since a packet was dropped */
	assert_int_equal(datapath_wake(d, note_event, &event), 2);
	assert_int_equal(event.kind, ESPALIER_BLOCK_LOW);
	assert_int_equal(event.slot, 3);
	datapath_publish(d, all_owned_by(0));
	assert_int_not_equal(send_esp(fd, SPI, K + 1), 0);

	assert_int_equal(received(in), 3);
	assert_int_equal(datapath_counters(d)[3].seq, K + K / 2);
	assert_int_equal(datapath_counters(d)[3].packets, 2);
	assert_int_equal(datapath_reasons(d, after), 0);
	assert_int_equal(after[ESPALIER_EMITTED_NEW] - before[ESPALIER_EMITTED_NEW], 1);
	assert_int_equal(after[ESPALIER_GUARD_UNKNOWN] - before[ESPALIER_GUARD_UNKNOWN], 1);
	assert_int_equal(after[ESPALIER_GUARD_BLOCK] - before[ESPALIER_GUARD_BLOCK], 1);
	assert_int_equal(after[ESPALIER_EMITTED] - before[ESPALIER_EMITTED], 2);
	assert_int_equal(after[ESPALIER_GUARD_NOT_OWNER] - before[ESPALIER_GUARD_NOT_OWNER], 1);
	datapath_close(d);
	close(fd);
	close(in);
}

/* The attached guard, to be run by hand. */
static int guard_program(void)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)config.ifindex[DATAPATH_OUTER],
		.attach_point = BPF_TC_EGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = 0x45737001, .priority = 1);
	int fd;

	assert_int_equal(bpf_tc_query(&hook, &opts), 0);
	fd = bpf_prog_get_fd_by_id(opts.prog_id);
	assert_true(fd >= 0);
	return fd;
}

#define RUNS 1000
#define REPEAT 20000

static void *check_between(void *ctx)
{
	struct frame frame;
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame.bytes, .repeat = REPEAT);

	frame_begin(&frame, mac_peer, mac_outer[1], 0, ETH_P_IP);
	frame_ip(&frame, CLUSTER, PEER, IPPROTO_ESP, 0);
	frame_esp(&frame, SPI, 6 * K);
	opts.data_size_in = frame.size;
	for (int i = 0; i < RUNS; i++)
		if (bpf_prog_test_run_opts(*(int *)ctx, &opts))
			return "failed";
	return NULL;
}

/*
 * The agent moves on from one block to another while the guard reads: half of one and half of the
 * other would let through everything in between.
 */
static void test_no_half_window(void **state)
{
	struct espalier_sa sa[2] = {{.open = {{4 * K, 5 * K - 1}, {1, 0}}, .slot = 3},
		{.open = {{9 * K, 10 * K - 1}, {1, 0}}, .slot = 3}};
	const struct espalier_sa_key key = key_of(SPI);
	uint64_t reasons[ESPALIER_REASON_COUNT];
	struct datapath *d = open_it();
	int fd = guard_program();
	void *result = NULL;
	pthread_t thread;

	(void)state;
	datapath_publish(d, all_owned_by(1));
	assert_int_equal(datapath_sa_set(d, &key, &sa[0]), 0);
	assert_int_equal(pthread_create(&thread, NULL, check_between, &fd), 0);
	for (int i = 0; i < 1000000; i++)
		assert_int_equal(datapath_sa_set(d, &key, &sa[i & 1]), 0);
	assert_int_equal(pthread_join(thread, &result), 0);
	assert_null(result);
	assert_int_equal(datapath_reasons(d, reasons), 0);
	assert_int_equal(reasons[ESPALIER_GUARD_BLOCK], RUNS * REPEAT);
	close(fd);
	datapath_close(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_sas, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stores, setup, teardown),
		cmocka_unit_test_setup_teardown(test_guard, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_half_window, setup, teardown),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
