/* SPDX-License-Identifier: BSD-2-Clause */
/* agent/io/datapath.c against this kernel: first start, restart, uninstall. */
#include "attached.h"

#include <pthread.h>

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
	assert_int_equal(datapath_guards_nested(d, &why), why[0] == '\0');
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

/* Everything of ours goes, nothing of others. */
static void test_detach(void **state)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)config.ifindex[DATAPATH_OUTER],
		.attach_point = BPF_TC_EGRESS);
	LIBBPF_OPTS(bpf_tc_opts, other, .prog_fd = load_other(BPF_PROG_TYPE_SCHED_CLS), .handle = 1,
		.priority = 1);
	const char *show = "tc filter show dev outer egress";
	int r;

	(void)state;
	datapath_close(open_it());
	r = bpf_tc_hook_create(&hook);
	assert_true(r == 0 || r == -EEXIST);
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
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
