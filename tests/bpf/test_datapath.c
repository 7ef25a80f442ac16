/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * agent/io/datapath.c against this kernel: first start, restart, uninstall, and what it says when
 * something is wrong.
 */
#include "namespace.h"

#include <linux/capability.h>
#include <linux/pkt_cls.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* How many lines of the command's output say so. */
static int lines_with(const char *command, const char *word)
{
	FILE *f = popen(command, "r");
	char line[512];
	int n = 0;

	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		n += strstr(line, word) != NULL;
	pclose(f);
	return n;
}

static int guards(void)
{
	return lines_with("tc filter show dev outer egress", "espalier_guard");
}

/* How many programs there are, attached anywhere, that count into our reasons. */
static int programs(void)
{
	struct bpf_map_info reasons = {};
	uint32_t id = 0, reasons_size = sizeof(reasons);
	int n = 0, reasons_fd = pinned("reasons");

	assert_int_equal(bpf_obj_get_info_by_fd(reasons_fd, &reasons, &reasons_size), 0);
	close(reasons_fd);
	while (bpf_prog_get_next_id(id, &id) == 0) {
		struct bpf_prog_info info = {};
		uint32_t maps[16], size = sizeof(info);
		int fd = bpf_prog_get_fd_by_id(id);

		info.nr_map_ids = 16;
		info.map_ids = (uintptr_t)maps;
		if (fd < 0)
			continue; /* gone in between */
		if (bpf_obj_get_info_by_fd(fd, &info, &size) == 0)
			for (uint32_t i = 0; i < info.nr_map_ids && i < 16; i++)
				n += maps[i] == reasons.id;
		close(fd);
	}
	return n;
}

/* The id of what XDP runs on the interface; 0: nothing. */
static uint32_t xdp_id(const char *interface)
{
	uint32_t id = 0;

	assert_int_equal(bpf_xdp_query_id(if_nametoindex(interface), 0, &id), 0);
	return id;
}

/* Opening fails so, and says so, and leaves nothing. */
static void refused(int r, const char *word)
{
	struct datapath *d = NULL;

	err[0] = '\0';
	assert_int_equal(datapath_open(&config, &d, err, sizeof(err)), r);
	assert_null(d);
	if (!strstr(err, word))
		print_error("%s\n", err);
	assert_non_null(strstr(err, word));
}

static void test_first_start(void **state)
{
	struct datapath *d = open_it();
	const char *why;

	(void)state;
	for (int side = 0; side < DATAPATH_SIDES; side++)
		assert_true(strstr(datapath_xdp_mode(d, side), "native") ||
			    strstr(datapath_xdp_mode(d, side), "generic"));
	print_message("XDP on outer: %s; counts inbound: %s\n",
		datapath_xdp_mode(d, DATAPATH_OUTER),
		datapath_counts_inbound(d, &why) ? "fexit" : why);
	assert_int_equal(datapath_counts_inbound(d, NULL), why[0] == '\0');
	assert_int_equal(datapath_tells_misses(d, &why), why[0] == '\0');
	print_message("tells misses: %s\n", why[0] ? why : "fentry");
	assert_int_equal(datapath_view(d)->ingress, ESPALIER_NOBODY);
	for (int i = 0; i < ESPALIER_BUCKETS; i++)
		assert_int_equal(datapath_view(d)->owner[i], ESPALIER_NOBODY);
	assert_true(datapath_sync_map_fd(d) >= 0);
	datapath_close(d);

	/* the agent has gone, the programs have not */
	assert_int_equal(guards(), 1);
	assert_int_not_equal(xdp_id("outer"), 0);
	assert_int_not_equal(xdp_id("inner"), 0);
	assert_int_not_equal(xdp_id("sync"), 0);
}

static void test_outer_only(void **state)
{
	struct datapath *d;
	const char *why;

	(void)state;
	config.ifindex[DATAPATH_INNER] = config.ifindex[DATAPATH_SYNC] = 0;
	config.fexit = false;
	config.misses_per_second = 0;
	d = open_it();
	assert_string_equal(datapath_xdp_mode(d, DATAPATH_INNER), "none");
	assert_string_equal(datapath_xdp_mode(d, DATAPATH_SYNC), "none");
	assert_false(datapath_counts_inbound(d, NULL));
	assert_false(datapath_tells_misses(d, &why));
	assert_string_equal(why, "not wanted");
	assert_int_equal(datapath_sync_map_fd(d), -1);
	assert_int_equal(xdp_id("inner"), 0);
	datapath_close(d);
}

/* Runs one agent's life in a process of its own, as it is: descriptors do not outlive it. */
static bool lives(bool (*life)(struct datapath *d))
{
	pid_t child = fork();
	struct datapath *d;
	int status = -1;

	if (child == 0) {
		bool ok = datapath_open(&config, &d, err, sizeof(err)) == 0 && life(d);

		datapath_close(ok ? d : NULL);
		_exit(!ok);
	}
	return waitpid(child, &status, 0) == child && status == 0;
}

static const struct espalier_sa restart_sa = {
	.open = {{K, 2 * K - 1}, {1, 0}}, .slot = 5, .bucket = 31};

static bool first_life(struct datapath *d)
{
	const struct espalier_sa_key key = key_of(SPI);

	datapath_publish(d, all_owned_by(2));
	datapath_counters(d)[5].seq = 77;
	return datapath_sa_set(d, &key, &restart_sa) == 0;
}

static bool next_life(struct datapath *d)
{
	const struct espalier_sa_key key = key_of(SPI);
	struct espalier_sa found;

	return datapath_view(d)->owner[4095] == 2 && datapath_counters(d)[5].seq == 77 &&
	       datapath_sa_get(d, &key, &found) == 0 &&
	       memcmp(&found, &restart_sa, sizeof(found)) == 0;
}

/* What the next agent finds: the view, the SAs and the counters as they were; programs replaced. */
static void test_restart(void **state)
{
	uint32_t before;
	int n;

	(void)state;
	assert_true(lives(first_life));
	before = xdp_id("outer");
	n = programs();
	assert_in_range(
		n, 4, 6); /* steer, clear, sync, guard, and count and miss where it may be */
	for (int i = 0; i < 3; i++)
		assert_true(lives(next_life));
	assert_int_not_equal(xdp_id("outer"), before);
	assert_int_equal(guards(), 1);
	for (int i = 0; i < 100 && programs() > n; i++)
		usleep(10000); /* the kernel frees programs in its own time */
	assert_int_equal(programs(), n); /* each is there once */
}

static volatile bool sending;
static uint64_t sent;

static void *send_forbidden(void *ctx)
{
	int fd = *(int *)ctx;

	while (sending)
		sent += send_esp(fd, SPI, 3 * K) ==
			-ENOBUFS; /* that is what a drop at egress gives */
	return NULL;
}

/* While the guard is replaced, again and again, not one forbidden packet gets out. */
static void test_no_gap(void **state)
{
	int fd = packet_socket(), in;
	pthread_t thread;

	(void)state;
	datapath_close(open_it());
	in = receiver();
	sending = true;
	sent = 0;
	assert_int_equal(pthread_create(&thread, NULL, send_forbidden, &fd), 0);
	for (int i = 0; i < 5; i++)
		datapath_close(open_it());
	sending = false;
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_true(sent > 100);
	assert_int_equal(received(in), 0);
	assert_int_equal(datapath_detach(&config, err, sizeof(err)), 0);
	assert_int_equal(send_esp(fd, SPI, 3 * K), 0); /* without the guard it does get out */
	assert_int_equal(received(in), 1);
	close(in);
	close(fd);
}

/* A program of somebody else's that lets everything pass. */
static int load_other(enum bpf_prog_type type)
{
	const struct bpf_insn pass[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K,
			.dst_reg = 0,
			.imm = type == BPF_PROG_TYPE_XDP ? XDP_PASS : TC_ACT_UNSPEC},
		{.code = BPF_JMP | BPF_EXIT}};
	int fd = bpf_prog_load(type, "somebody_else", "GPL", pass, 2, NULL);

	assert_true(fd >= 0);
	return fd;
}

/* Everything of ours goes, nothing of others. */
static void test_detach(void **state)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)config.ifindex[DATAPATH_OUTER],
		.attach_point = BPF_TC_EGRESS);
	LIBBPF_OPTS(bpf_tc_opts, other, .prog_fd = load_other(BPF_PROG_TYPE_SCHED_CLS), .handle = 1,
		.priority = 1);
	const char *show = "tc filter show dev outer egress";

	(void)state;
	datapath_close(open_it());
	assert_int_equal(bpf_tc_attach(&hook, &other), 0); /* beside ours, same priority */
	datapath_close(open_it());
	assert_int_equal(lines_with(show, "somebody_else"), 1);
	assert_int_equal(guards(), 1);
	assert_int_equal(access(pin, F_OK), 0);

	assert_int_equal(datapath_detach(&config, err, sizeof(err)), 0);
	assert_int_equal(guards(), 0);
	assert_int_equal(xdp_id("outer") | xdp_id("inner") | xdp_id("sync"), 0);
	assert_int_equal(access(pin, F_OK), -1);
	assert_int_equal(lines_with(show, "somebody_else"), 1);
	assert_int_equal(
		datapath_detach(&config, err, sizeof(err)), 0); /* nothing left: no error */
	close(other.prog_fd);
	other.prog_fd = other.prog_id = 0;
	assert_int_equal(bpf_tc_detach(&hook, &other), 0);
}

static void test_no_interface(void **state)
{
	(void)state;
	config.ifindex[DATAPATH_INNER] = 9999;
	refused(-ENODEV, "the inner interface (index 9999) is not there");
	config.ifindex[DATAPATH_INNER] = 0;
	config.ifindex[DATAPATH_OUTER] = 0;
	refused(-ENODEV, "the outer interface");
	assert_int_equal(access(pin, F_OK), -1);
}

static void test_bad_settings(void **state)
{
	(void)state;
	config.self = 3;
	refused(-EINVAL, "member 3 of 3");
	setup(NULL);
	config.block_bits = 32;
	refused(-EINVAL, "block bits 32");
}

static void test_no_bpffs(void **state)
{
	struct stat s;

	(void)state;
	config.pin = "/tmp/espalier-test-not-a-bpffs";
	refused(-EINVAL, "not on a bpffs");
	assert_int_equal(stat(config.pin, &s), -1);
	config.pin = "/tmp/espalier-test-not-there/a";
	refused(-ENOENT, "cannot make the pin folder");
	assert_int_equal(guards(), 0);
	config.pin = pin;
}

static void test_no_btf(void **state)
{
	(void)state;
	assert_int_equal(mount("none", "/sys/kernel/btf", "tmpfs", 0, NULL), 0);
	refused(-ENOTSUP, "has no BTF");
	assert_int_equal(umount("/sys/kernel/btf"), 0);
	assert_int_equal(guards(), 0);
}

static void test_no_capability(void **state)
{
	int status = 0;
	pid_t child = fork();

	(void)state;
	if (child == 0) {
		struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
		struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {};
		struct datapath *d;

		if (syscall(SYS_capset, &header, none) < 0)
			_exit(2);
		_exit(datapath_open(&config, &d, err, sizeof(err)) == -EPERM &&
					strstr(err, "CAP_BPF") && access(pin, F_OK) < 0
				? 0
				: 3);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

/* Another number of SAs: refused, and the programs of the earlier agent stay. */
static void test_other_layout(void **state)
{
	uint32_t before;

	(void)state;
	datapath_close(open_it());
	before = xdp_id("outer");
	config.max_sas = MAX_SAS * 2;
	refused(-EEXIST, "/sas has another layout");
	assert_int_equal(guards(), 1);
	assert_int_equal(xdp_id("outer"), before);
}

/* Another program sits on the inner interface, alone: nothing is attached anywhere. */
static void test_occupied(void **state)
{
	int fd = load_other(BPF_PROG_TYPE_XDP);
	uint32_t theirs;

	(void)state;
	assert_int_equal(bpf_xdp_attach(if_nametoindex("inner"), fd, 0, NULL), 0);
	theirs = xdp_id("inner");
	refused(-EBUSY, "inner: the XDP program \"somebody_else\" is attached there alone");
	assert_int_equal(guards(), 0);
	assert_int_equal(xdp_id("outer"), 0);
	assert_int_equal(xdp_id("inner"), theirs);
	assert_int_equal(access(pin, F_OK), -1);
	assert_int_equal(bpf_xdp_detach(if_nametoindex("inner"), 0, NULL), 0);
	close(fd);
}

/* The driver takes the programs with an MTU beyond one buffer; they see what comes in several. */
static void test_jumbo(void **state)
{
	static const uint8_t to[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	struct sockaddr_ll at = {.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_IP),
		.sll_ifindex = (int)if_nametoindex("outer-peer"),
		.sll_halen = 6};
	uint64_t reasons[ESPALIER_REASON_COUNT];
	uint8_t packet[8000] = {};
	struct frame frame = {};
	struct datapath *d;
	int fd;

	(void)state;
	assert_int_equal(shell("ip link set outer mtu 9000 && ip link set outer-peer mtu 9000"), 0);
	d = open_it();
	assert_non_null(strstr(datapath_xdp_mode(d, DATAPATH_OUTER), "native"));
	datapath_publish(d, all_owned_by(1));
	frame_ip(&frame, PEER, CLUSTER, IPPROTO_ESP, 0)->tot_len = htons(sizeof(packet));
	frame_esp(&frame, SPI, 1);
	memcpy(packet, frame.bytes, frame.size);
	memcpy(at.sll_addr, to, sizeof(to));
	fd = packet_socket();
	assert_int_equal(
		sendto(fd, packet, sizeof(packet), 0, (void *)&at, sizeof(at)), sizeof(packet));
	close(fd);
	usleep(20000);
	assert_int_equal(datapath_reasons(d, reasons), 0);
	assert_int_equal(reasons[ESPALIER_LOCAL], 1);
	datapath_close(d);
	assert_int_equal(shell("ip link set outer mtu 1500 && ip link set outer-peer mtu 1500"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_first_start, setup, teardown),
		cmocka_unit_test_setup_teardown(test_jumbo, setup, teardown),
		cmocka_unit_test_setup_teardown(test_outer_only, setup, teardown),
		cmocka_unit_test_setup_teardown(test_restart, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_gap, setup, teardown),
		cmocka_unit_test_setup_teardown(test_detach, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_interface, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_settings, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_bpffs, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_btf, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_capability, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_layout, setup, teardown),
		cmocka_unit_test_setup_teardown(test_occupied, setup, teardown),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
