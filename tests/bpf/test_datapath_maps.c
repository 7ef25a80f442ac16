/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The agent's side of the maps against the programs that run: what it stores they see, what they
 * count it reads.
 */
#include "namespace.h"

#include "io/datapath_private.h"

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

static struct espalier_sa_key marked(uint32_t mark, uint32_t mask)
{
	struct espalier_sa_key key = key_of(SPI);

	key.mark = mark;
	key.mark_mask = mask;
	return key;
}

static unsigned int count_sas(struct datapath *d, uint32_t *ret_marks)
{
	struct espalier_sa_key key;
	struct espalier_sa sa;
	unsigned int n = 0;

	*ret_marks = 0;
	for (int r = datapath_sa_next(d, NULL, &key, &sa); r > 0 && n <= MAX_SAS;
		r = datapath_sa_next(d, &key, &key, &sa), n++) {
		assert_int_equal(sa.slot, key.mark);
		*ret_marks |= 1U << key.mark;
	}
	return n;
}

/* SAs with one destination and SPI: each has what was said of it, and goes alone. */
static void test_marked_sas(void **state)
{
	const struct espalier_sa_key one = marked(1, 0xf), two = marked(2, 0xf),
				     other_mask = marked(3, 0xff), base = key_of(SPI);
	struct espalier_sa sa = {.open = {{1, 0}, {1, 0}}, .slot = 1}, found;
	struct datapath *d = open_it();
	uint32_t marks;
	int fd;

	(void)state;
	assert_int_equal(datapath_sa_set(d, &one, &sa), 0);
	assert_int_equal(datapath_sa_get(d, &two, &found), -ENOENT);
	assert_int_equal(datapath_sa_get(d, &base, &found), -ENOENT);
	assert_int_equal(datapath_sa_delete(d, &two), -ENOENT);
	/* Alone, it is found without its mark. */
	fd = pinned("sas");
	assert_int_equal(bpf_map_lookup_elem(fd, &base, &found), 0);
	assert_int_equal(found.slot, 1);
	assert_int_equal(count_sas(d, &marks), 1);
	assert_int_equal(marks, 1 << 1);

	sa.slot = 2;
	assert_int_equal(datapath_sa_set(d, &two, &sa), 0);
	assert_int_equal(datapath_sa_set(d, &two, &sa), 0);
	assert_int_equal(datapath_sa_get(d, &one, &found), 0);
	assert_int_equal(found.slot, 1);
	assert_int_equal(datapath_sa_get(d, &two, &found), 0);
	assert_int_equal(found.slot, 2);
	assert_int_equal(bpf_map_lookup_elem(fd, &base, &found), 0);
	assert_int_equal(found.slot, ESPALIER_SLOT_MARKED);
	assert_int_equal(found.mark_mask, 0xf);
	assert_int_equal(count_sas(d, &marks), 2);
	assert_int_equal(marks, 1 << 1 | 1 << 2);
	/* By one mask, not by two. */
	sa.slot = 3;
	assert_int_equal(datapath_sa_set(d, &other_mask, &sa), -EEXIST);
	assert_int_equal(datapath_sa_set(d, &base, &sa), -EEXIST);
	assert_int_equal(datapath_sa_get(d, &other_mask, &found), -ENOENT);

	assert_int_equal(datapath_sa_delete(d, &one), 0);
	assert_int_equal(datapath_sa_get(d, &two, &found), 0);
	assert_int_equal(datapath_sa_delete(d, &one), -ENOENT);
	assert_int_equal(datapath_sa_delete(d, &two), 0);
	assert_int_equal(bpf_map_lookup_elem(fd, &base, &found), -ENOENT);
	close(fd);
	sa.slot = 0;
	assert_int_equal(datapath_sa_set(d, &base, &sa), 0);
	assert_int_equal(datapath_sa_delete(d, &base), 0);
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
	struct espalier_selector next_selector;
	struct espalier_flow next_flow;
	unsigned int ifindex;
	struct espalier_sa_key key = {.daddr = {192, 0, 2, 1}, .spi = 7, .family = AF_INET}, next;
	struct datapath *d = open_it();

	(void)state;
	for (uint8_t id = 0; id < 3; id++) {
		const struct espalier_view_half *before = datapath_view(d);
		uint8_t owner = before->owner[0];

		datapath_publish(d, all_owned_by(id));
		assert_ptr_not_equal(datapath_view(d), before);
		assert_int_equal(before->owner[0], owner); /* readers may still be in there */
		datapath_heartbeat(d, 1000 + id);
		read_pinned("view", 0, &view);
		assert_int_equal(view.heartbeat_ns, 1000 + id);
		assert_int_equal(view.lease_ns, config.lease_ns);
		assert_memory_equal(
			&view.half[view.active], all_owned_by(id), sizeof(view.half[0]));
	}
	assert_int_equal(datapath_member_set(d, 15, &member), 0);
	assert_int_equal(datapath_member_set(d, 16, &member), -EINVAL);
	read_pinned("members", 15, &found);
	assert_memory_equal(&found, &member, sizeof(member));
	memset(&found, 0, sizeof(found));
	assert_int_equal(datapath_member_get(d, 15, &found), 0);
	assert_memory_equal(&found, &member, sizeof(member));
	assert_int_equal(datapath_member_get(d, 16, &found), -EINVAL);

	assert_int_equal(datapath_selector_next(d, NULL, &next_selector, &next_flow), 0);
	assert_int_equal(datapath_selector_set(d, &selector, &flow), 0);
	assert_int_equal(datapath_selector_next(d, NULL, &next_selector, &next_flow), 1);
	assert_memory_equal(&next_selector, &selector, sizeof(selector));
	assert_memory_equal(&next_flow, &flow, sizeof(flow));
	assert_int_equal(datapath_selector_next(d, &next_selector, &next_selector, &next_flow), 0);
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
	assert_int_equal(datapath_interface_next(d, NULL, &ifindex), 1);
	assert_int_equal(ifindex, 9);
	assert_int_equal(datapath_interface_next(d, &ifindex, &ifindex), 0);
	assert_int_equal(datapath_interface_delete(d, 9), 0);
	assert_int_equal(datapath_interface_delete(d, 9), -ENOENT);
	datapath_close(d);
}

static uint32_t queue_of(uint32_t cpu)
{
	struct bpf_cpumap_val value = {};
	int fd = pinned("cpus");

	if (bpf_map_lookup_elem(fd, &cpu, &value) < 0)
		value.qsize = 0;
	close(fd);
	return value.qsize;
}

/* As many as are wanted, as many as there are; those that are not wanted any more go. */
static void test_cpus(void **state)
{
	unsigned int online = (unsigned int)sysconf(_SC_NPROCESSORS_ONLN);
	struct datapath *d = open_it();
	const char *why;

	(void)state;
	assert_int_equal(datapath_cpus(d, &why), 0);
	assert_string_equal(why, "");
	assert_int_equal(queue_of(0), 0);
	datapath_close(d);
	config.cpus = DATAPATH_ALL_CPUS;
	d = open_it();
	assert_int_equal(datapath_cpus(d, &why), online);
	assert_string_equal(why, "");
	for (uint32_t cpu = 0; cpu < online; cpu++)
		assert_int_equal(queue_of(cpu), 2048);
	datapath_close(d);
	config.cpus = online + 1;
	d = open_it();
	assert_int_equal(datapath_cpus(d, &why), online);
	assert_string_equal(why, "only so many are on, without a gap");
	datapath_close(d);
	config.cpus = 1;
	d = open_it();
	assert_int_equal(datapath_cpus(d, &why), 1);
	assert_int_equal(queue_of(0), 2048);
	for (uint32_t cpu = 1; cpu < online; cpu++)
		assert_int_equal(queue_of(cpu), 0);
	datapath_close(d);
}

static struct bpf_map_info map_info(int fd)
{
	struct bpf_map_info info = {};
	uint32_t size = sizeof(info);

	assert_int_equal(bpf_obj_get_info_by_fd(fd, &info, &size), 0);
	return info;
}

/* If these are the maps of a program of this cluster: its settings. */
static bool read_settings(const uint32_t *maps, uint32_t n, struct espalier_settings *ret)
{
	int reasons = pinned("reasons");
	uint32_t ours = map_info(reasons).id, zero = 0;
	bool is_ours = false, found = false;

	close(reasons);
	for (uint32_t i = 0; i < n; i++) {
		int fd = bpf_map_get_fd_by_id(maps[i]);

		is_ours |= maps[i] == ours;
		if (strstr(map_info(fd).name, ".rodata"))
			found = bpf_map_lookup_elem(fd, &zero, ret) == 0;
		close(fd);
	}
	return is_ours && found;
}

/* A program's settings, as it was loaded. Others may run on this machine, and some just go. */
static struct espalier_settings settings_of(const char *program)
{
	struct espalier_settings settings;
	uint32_t id = 0;

	while (bpf_prog_get_next_id(id, &id) == 0) {
		uint32_t maps[16], size = sizeof(struct bpf_prog_info);
		struct bpf_prog_info info = {.nr_map_ids = 16, .map_ids = (uintptr_t)maps};
		int fd = bpf_prog_get_fd_by_id(id);
		bool found;

		if (fd < 0)
			continue;
		found = bpf_obj_get_info_by_fd(fd, &info, &size) == 0 &&
			strncmp(info.name, program, sizeof(info.name) - 1) == 0 &&
			info.nr_map_ids <= 16 && read_settings(maps, info.nr_map_ids, &settings);
		close(fd);
		if (found)
			return settings;
	}
	fail_msg("%s does not run", program);
	return settings;
}

/* Each side has its own address for IP-in-IP; only the outer one may have all for ingress. */
static void test_settings(void **state)
{
	struct espalier_settings settings;

	(void)state;
	config.tunnel[DATAPATH_OUTER] = address_of("192.0.2.11");
	config.tunnel[DATAPATH_INNER] = address_of("fd00::11");
	config.ingress_all = true;
	config.cpus = 1;
	datapath_close(open_it());
	settings = settings_of("espalier_steer");
	assert_int_equal(settings.tunnel_family, AF_INET);
	assert_memory_equal(settings.tunnel, config.tunnel[DATAPATH_OUTER].bytes, 16);
	assert_int_equal(settings.ingress_all, 1);
	assert_int_equal(settings.cpus, 1);
	settings = settings_of("espalier_clear");
	assert_int_equal(settings.tunnel_family, AF_INET6);
	assert_memory_equal(settings.tunnel, config.tunnel[DATAPATH_INNER].bytes, 16);
	assert_int_equal(settings.ingress_all, 0);
	assert_int_equal(settings.cpus, 0);
	assert_int_equal(settings_of("espalier_guard").tunnel_family, 0);
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
	unsigned int ifindex = config.ifindex[DATAPATH_OUTER];
	uint32_t ids[DATAPATH_TCX_MOST];
	int fd, n = datapath_tcx_query(ifindex, ids);

	fd = bpf_prog_get_fd_by_id(n > 0 ? ids[0] : datapath_attach_tc_id(ifindex));
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
		cmocka_unit_test_setup_teardown(test_marked_sas, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stores, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cpus, setup, teardown),
		cmocka_unit_test_setup_teardown(test_settings, setup, teardown),
		cmocka_unit_test_setup_teardown(test_guard, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_half_window, setup, teardown),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
