/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * agent/io/datapath.c against this kernel, where a start is refused or gets no further: what it
 * says, and that all is as it was before.
 */
#include "attached.h"

#include <linux/capability.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <xdp/libxdp.h>

/* Opening fails so, and says so, and leaves nothing. */
static void refused(int r, const char *word)
{
	struct datapath *d = NULL;

	err[0] = '\0';
	assert_int_equal(start_it(&d), r);
	assert_null(d);
	if (!strstr(err, word))
		print_error("%s\n", err);
	assert_non_null(strstr(err, word));
}

/* Where there is the qdisc ingress, there is no egress. */
static void test_ingress_qdisc(void **state)
{
	const char *show = "tc filter show dev inner ingress";
	unsigned int ifindex = if_nametoindex("inner");
	struct datapath_place place;
	struct datapath *d = open_it();
	struct bpf_object *object;

	(void)state;
	assert_int_equal(datapath_load_guard(d, &object), 0);
	assert_int_equal(shell("tc qdisc add dev inner ingress"), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(
			datapath_attach_tc(object, ifindex, &place, err, sizeof(err)), -EBUSY);
		assert_non_null(strstr(err, "inner: cannot attach the guard at tc egress: there is "
					    "another qdisc where clsact has to be"));
		assert_int_equal(datapath_attach_tc_id(ifindex), 0);
		assert_int_equal(lines_with(show, "espalier_guard"), 1);
		assert_int_equal(place.before >= 0, i == 1);
		if (i == 1)
			close(place.before);
	}
	place.before = -1;
	datapath_attach_tc_undo(ifindex, &place);
	assert_int_equal(lines_with(show, "espalier_guard"), 0);
	assert_int_equal(shell("tc qdisc del dev inner ingress"), 0);
	assert_int_equal(datapath_attach_tc(object, ifindex, &place, err, sizeof(err)), 0);
	assert_int_equal(place.before, -1);
	assert_int_equal(datapath_attach_tc_id(ifindex), place.id);
	assert_int_equal(shell("tc qdisc del dev inner clsact"), 0);
	bpf_object__close(object);
	datapath_close(d);
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
		_exit(start_it(&d) == -EPERM && strstr(err, "CAP_BPF") && access(pin, F_OK) < 0
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

/* The id of espalier's only program there, in a dispatcher or alone; -1: there are several. */
static uint32_t our_xdp_id(const char *interface)
{
	struct xdp_multiprog *all = xdp_multiprog__get_from_ifindex((int)if_nametoindex(interface));
	struct xdp_program *p = NULL;
	uint32_t id = 0;

	if (libxdp_get_error(all))
		return 0;
	if (xdp_multiprog__is_legacy(all))
		id = xdp_program__id(xdp_multiprog__main_prog(all));
	while (!xdp_multiprog__is_legacy(all) && (p = xdp_multiprog__next_prog(p, all)))
		if (!strncmp(xdp_program__name(p), "espalier_", 9))
			id = id ? UINT32_MAX : xdp_program__id(p);
	xdp_multiprog__close(all);
	return id;
}

/* The ids of all that is attached. */
struct ids {
	uint32_t xdp[DATAPATH_SIDES], guard;
};

static struct ids attached(void)
{
	unsigned int ifindex = if_nametoindex("outer");
	uint32_t ids[DATAPATH_TCX_MOST];
	int n = datapath_tcx_query(ifindex, ids);

	return (struct ids){.xdp = {our_xdp_id("outer"), our_xdp_id("inner"), our_xdp_id("sync")},
		.guard = n > 0 ? ids[0] : datapath_attach_tc_id(ifindex)};
}

static void assert_attached(const struct ids *expected)
{
	struct ids now = attached();

	assert_memory_equal(&now, expected, sizeof(now));
}

static void assert_nothing_left(void)
{
	const struct ids none = {0};

	assert_attached(&none);
	assert_int_equal(access(pin, F_OK), -1);
}

/* What a start has attached goes again when it gets no further. */
static void test_first_start_taken_back(void **state)
{
	struct datapath *d = NULL;

	(void)state;
	assert_int_equal(datapath_open(&config, &d, err, sizeof(err)), 0);
	assert_int_equal(attached().guard, 0);
	datapath_close(d);
	assert_nothing_left();

	assert_int_equal(datapath_open(&config, &d, err, sizeof(err)), 0);
	assert_int_equal(datapath_attach(d, err, sizeof(err)), 0);
	assert_int_not_equal(attached().guard, 0);
	datapath_close(d);
	assert_nothing_left();
}

/* Attaches, and gets no further. */
static bool gives_up(const struct ids *before)
{
	struct datapath *d = NULL;
	bool untouched, replaced;
	struct ids now;

	if (datapath_open(&config, &d, err, sizeof(err)) < 0)
		return false;
	now = attached();
	untouched = memcmp(&now, before, sizeof(now)) == 0;
	replaced = datapath_attach(d, err, sizeof(err)) == 0 && attached().guard != before->guard;
	datapath_close(d);
	return untouched && replaced;
}

/* A restart that gets no further leaves the earlier programs and maps as they were. */
static void test_restart_taken_back(void **state)
{
	int n, status = -1;
	struct ids before;
	pid_t child;

	(void)state;
	config.cpus = 1;
	assert_true(lives(first_life));
	before = attached();
	n = programs();
	config.cpus = DATAPATH_ALL_CPUS;
	config.lease_ns = 1;
	child = fork(); /* descriptors do not outlive it */
	if (child == 0)
		_exit(!gives_up(&before));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_attached(&before);
	for (int i = 0; i < 100 && programs() > n; i++)
		usleep(10000); /* the kernel frees programs in its own time */
	assert_int_equal(programs(), n);
	setup(NULL);
	assert_true(lives(next_life));
}

/* The same where one interface takes the program and another one does not. */
static void test_restart_refused(void **state)
{
	int fd = load_other(BPF_PROG_TYPE_XDP);
	struct ids before;

	(void)state;
	config.ifindex[DATAPATH_SYNC] = 0;
	assert_true(lives(first_life));
	config.ifindex[DATAPATH_SYNC] = if_nametoindex("sync");
	assert_int_equal(bpf_xdp_attach(if_nametoindex("sync"), fd, 0, NULL), 0);
	before = attached();
	refused(-EBUSY, "sync: the XDP program \"somebody_else\" is attached there alone");
	assert_attached(&before);
	assert_int_equal(bpf_xdp_detach(if_nametoindex("sync"), 0, NULL), 0);
	close(fd);
	assert_true(lives(next_life));
}

/* While one has the pin folder, or only the network namespace, no other gets in. */
static void test_one_at_a_time(void **state)
{
	struct datapath *d = open_it();
	struct ids before = attached();
	char other_pin[96], self[64];

	(void)state;
	snprintf(self, sizeof(self), "in use by process %d", getpid());
	refused(-EBUSY, self);
	assert_int_equal(datapath_detach(&config, err, sizeof(err)), -EBUSY);
	assert_non_null(strstr(err, self));
	snprintf(other_pin, sizeof(other_pin), "%s/other", folder);
	config.pin = other_pin;
	refused(-EBUSY, "another espalierd runs in this network namespace");
	assert_int_equal(datapath_detach(&config, err, sizeof(err)), -EBUSY);
	assert_non_null(strstr(err, "another espalierd runs in this network namespace"));
	assert_int_equal(access(other_pin, F_OK), -1);
	assert_attached(&before);
	datapath_close(d);
	assert_attached(&before);
	setup(NULL);
	datapath_close(open_it());
}

/* SAs in the guard's map, and settings by which they would be others. */
static void test_other_life(void **state)
{
	struct ids before;

	(void)state;
	assert_true(lives(first_life));
	before = attached();
	config.self = 0;
	refused(-EEXIST, "Id was 1, is 0");
	setup(NULL);
	config.block_bits = 12;
	refused(-EEXIST, "BlockBits was 16, is 12");
	setup(NULL);
	config.members = 5;
	refused(-EEXIST, "there was room for 4 members, is for 8");
	setup(NULL);
	config.outer[0] = address_of("192.0.2.99");
	refused(-EEXIST, "Address " CLUSTER " is gone");
	setup(NULL);
	config.outer[1] = (struct address){0};
	refused(-EEXIST, "Address " CLUSTER6 " is gone");
	assert_attached(&before);
	setup(NULL);
	config.members = 4; /* what changes nothing for the numbers */
	config.outer[1] = config.outer[0];
	config.outer[0] = address_of(CLUSTER6);
	config.outer[2] = address_of("192.0.2.99");
	config.hash = ESPALIER_HASH_MIX;
	assert_true(lives(next_life));
}

static bool no_sas(struct datapath *d)
{
	const struct espalier_sa_key key = key_of(SPI);

	return datapath_sa_delete(d, &key) == 0;
}

/* Without SAs there are no numbers that could be others. */
static void test_other_life_without_sas(void **state)
{
	(void)state;
	assert_true(lives(first_life));
	assert_true(lives(no_sas));
	config.self = 0;
	config.block_bits = 12;
	datapath_close(open_it());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_ingress_qdisc, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_interface, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_settings, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_bpffs, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_btf, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_capability, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_layout, setup, teardown),
		cmocka_unit_test_setup_teardown(test_occupied, setup, teardown),
		cmocka_unit_test_setup_teardown(test_first_start_taken_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_restart_taken_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_restart_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_one_at_a_time, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_life, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_life_without_sas, setup, teardown),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
