/* SPDX-License-Identifier: BSD-2-Clause */
/* test_link.c - interfaces and their changes, own addresses, xfrm interfaces. In a network
 * namespace of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/link.h"

struct told {
	unsigned int n, which;
	struct link_state state[8];
	char last[64];
};

static void on_state(void *ctx, unsigned int which, const struct link_state *state)
{
	struct told *t = ctx;

	t->which = which;
	assert_in_range(t->n, 0, 7);
	t->state[t->n++] = *state;
}

/* What was told last, as text; the kernel's own addresses aside. */
static void on_address(void *ctx, const struct address *address, bool here)
{
	struct told *t = ctx;
	char text[INET6_ADDRSTRLEN];

	inet_ntop(address->family, address->bytes, text, sizeof(text));
	if (strncmp(text, "fe80", 4) != 0)
		snprintf(t->last, sizeof(t->last), "%c%s", here ? '+' : '-', text);
}

static void on_xfrm(void *ctx, unsigned int ifindex, uint32_t if_id, bool here)
{
	struct told *t = ctx;

	snprintf(t->last, sizeof(t->last), "%c%u:%u", here ? '+' : '-', ifindex, if_id);
}

static void on_replaced(void *ctx, unsigned int which, unsigned int ifindex)
{
	struct told *t = ctx;

	snprintf(t->last, sizeof(t->last), "%u>%u", which, ifindex);
}

static const struct link_handlers handlers = {on_replaced, on_state, on_address, on_xfrm};

static void run(const char *command)
{
	if (system(command) != 0)
		fail_msg("%s", command);
}

static int set_up(void **state)
{
	(void)state;
	if (geteuid() != 0)
		return 0; /* the tests skip */
	if (unshare(CLONE_NEWNET) < 0)
		return -1;
	run("ip link add l0 address 02:00:00:00:00:01 type veth peer name l1 address "
	    "02:00:00:00:00:02");
	run("ip link set l0 up; ip link set l1 up");
	run("timeout 5 sh -c 'until ip link show l0 | grep -q \"state UP\"; do sleep 0.01; done'");
	return 0;
}

static void need_root(void)
{
	if (geteuid() != 0)
		skip();
}

/* The kernel tells of a carrier from a work queue: not at once. */
static void told_again(struct link *l, struct told *t)
{
	unsigned int n = t->n;

	for (unsigned int i = 0; i < 500 && t->n == n; i++) {
		assert_int_equal(link_process(l), 0);
		usleep(10000);
	}
}

static void expect(struct link *l, struct told *t, unsigned int n, bool up, uint8_t last_of_mac)
{
	const uint8_t mac[6] = {2, 0, 0, 0, 0, last_of_mac};

	if (t->n < n)
		told_again(l, t);
	assert_int_equal(t->n, n);
	assert_int_equal(t->state[n - 1].up, up);
	assert_memory_equal(t->state[n - 1].mac, mac, sizeof(mac));
	assert_int_equal(t->state[n - 1].ifindex, t->state[0].ifindex);
}

static void test_changes_are_told(void **state)
{
	const unsigned int nowhere[] = {1, 4711};
	struct told told = {0}, other = {0};
	unsigned int ifindex;
	struct link *l;

	(void)state;
	need_root();
	ifindex = if_nametoindex("l0");
	assert_int_equal(link_open(&ifindex, 1, &handlers, &told, &l), 0);
	expect(l, &told, 1, true, 1);
	assert_int_equal(told.state[0].ifindex, ifindex);

	assert_int_equal(told.state[0].mtu, 1500);
	run("ip link set l0 txqueuelen 99"); /* nothing that matters */
	assert_int_equal(link_process(l), 0);
	assert_int_equal(told.n, 1);
	run("ip link set l0 mtu 1400");
	expect(l, &told, 2, true, 1);
	assert_int_equal(told.state[1].mtu, 1400);
	run("ip link set l1 down"); /* the carrier is gone */
	expect(l, &told, 3, false, 1);
	run("ip link set l1 up");
	expect(l, &told, 4, true, 1);
	run("ip link set l0 down");
	expect(l, &told, 5, false, 1);
	run("ip link set l0 address 02:00:00:00:00:09");
	expect(l, &told, 6, false, 9);
	run("ip link set l0 address 02:00:00:00:00:01 up");
	told_again(l, &told); /* in one step or in two */
	if (!told.state[told.n - 1].up)
		expect(l, &told, told.n + 1, true, 1);

	/* A port's news from its bridge are not the interface's own. */
	told.n = 1;
	run("ip link add br0 type bridge; ip link set l0 master br0; ip link set l0 nomaster; ip "
	    "link delete br0");
	assert_int_equal(link_process(l), 0);
	assert_int_equal(told.n, 1);

	assert_int_equal(link_open(nowhere, 2, &handlers, &other, &(struct link *){NULL}), -ENODEV);
	link_close(l);
}

/* Of IPv6 addresses the kernel tells from a work queue, too. */
static void told_last(struct link *l, struct told *t, const char *expected)
{
	for (unsigned int i = 0; i < 500 && (i == 0 || strcmp(t->last, expected) != 0); i++) {
		usleep(i ? 10000 : 0);
		assert_int_equal(link_process(l), 0);
	}
	assert_string_equal(t->last, expected);
	t->last[0] = '\0';
}

/* An interface is removed and another one gets its name: that is the one. */
static void test_replaced(void **state)
{
	struct told told = {0};
	unsigned int ifindex;
	char expected[32];
	struct link *l;

	(void)state;
	need_root();
	run("ip link add r0 type veth peer name r1");
	ifindex = if_nametoindex("r0");
	assert_int_equal(link_open(&ifindex, 1, &handlers, &told, &l), 0);
	assert_int_equal(told.n, 1);
	run("ip link delete r0; ip link add r0 type veth peer name r1");
	snprintf(expected, sizeof(expected), "0>%u", if_nametoindex("r0"));
	told_last(l, &told, expected);
	assert_false(told.state[told.n - 2].here);
	assert_string_equal(told.state[told.n - 2].name, "r0");
	assert_true(told.state[told.n - 1].here);
	assert_int_equal(told.state[told.n - 1].ifindex, if_nametoindex("r0"));
	run("ip link set r0 mtu 1400");
	told.n = 0;
	told_again(l, &told);
	assert_int_equal(told.state[0].mtu, 1400);
	link_close(l);
	run("ip link delete r0");
}

static void expect_name(struct link *l, struct told *t, unsigned int which, unsigned int ifindex,
	const char *name, bool renamed)
{
	const struct link_state *last;

	for (unsigned int i = 0; i < 500 && t->n == 0; i++) {
		assert_int_equal(link_process(l), 0);
		usleep(i ? 10000 : 0);
	}
	assert_in_range(t->n, 1, 8);
	last = &t->state[t->n - 1];
	assert_int_equal(t->which, which);
	assert_int_equal(last->ifindex, ifindex);
	assert_string_equal(last->name, name);
	assert_int_equal(last->renamed, renamed);
	assert_true(last->here);
	t->n = 0;
}

/* It is followed until another one has its name; also when two change theirs. */
static void test_renamed(void **state)
{
	struct told told = {0};
	unsigned int watched[3] = {0};
	struct link *l;

	(void)state;
	need_root();
	run("ip link add r0 type veth peer name r1");
	watched[0] = if_nametoindex("r0");
	watched[2] = if_nametoindex("r1");
	assert_int_equal(link_open(watched, 3, &handlers, &told, &l), 0);
	assert_int_equal(told.n, 2);
	told.n = 0;
	run("ip link set r0 name r9");
	expect_name(l, &told, 0, watched[0], "r9", true);
	run("ip link set r9 mtu 1400");
	expect_name(l, &told, 0, watched[0], "r9", true);
	run("ip link set r9 name r0");
	expect_name(l, &told, 0, watched[0], "r0", false);
	run("ip link set r0 name r9");
	expect_name(l, &told, 0, watched[0], "r9", true);
	run("ip link set r1 name r0");
	expect_name(l, &told, 2, watched[2], "r0", true);
	run("ip link set r9 name r1");
	expect_name(l, &told, 2, watched[0], "r1", false);
	run("ip link set r0 mtu 1300");
	expect_name(l, &told, 0, watched[2], "r0", false);
	link_close(l);
	run("ip link delete r0");
}

/* Every address of any interface, once; gone when no interface has it any more. */
static void test_addresses(void **state)
{
	const struct address four = {AF_INET, {10, 9, 0, 1}},
			     six = {AF_INET6, {0x20, 1, 0xd, 0xb8, [15] = 9}};
	struct told told = {0};
	struct link *l;

	(void)state;
	need_root();
	run("ip addr add 10.9.0.1/32 dev l1");
	assert_int_equal(link_open(NULL, 0, &handlers, &told, &l), 0);
	told_last(l, &told, "+10.9.0.1");
	assert_true(link_has_address(l, &four));
	run("ip addr add 10.9.0.1/24 dev l0");
	told_last(l, &told, "");
	run("ip addr del 10.9.0.1/32 dev l1");
	told_last(l, &told, "");
	assert_true(link_has_address(l, &four));
	assert_false(link_has_on_lo(l, &four));
	run("ip addr add 10.9.0.1/32 dev lo");
	told_last(l, &told, "");
	assert_true(link_has_on_lo(l, &four));
	run("ip addr del 10.9.0.1/32 dev lo");
	told_last(l, &told, "");
	assert_false(link_has_on_lo(l, &four));
	run("ip addr del 10.9.0.1/24 dev l0");
	told_last(l, &told, "-10.9.0.1");
	assert_false(link_has_address(l, &four));
	run("ip addr add 2001:db8::9/64 dev l0 nodad");
	told_last(l, &told, "+2001:db8::9");
	assert_true(link_has_address(l, &six));
	run("ip addr add 10.9.0.2 peer 10.9.0.3 dev l0"); /* ours, not the other end's */
	told_last(l, &told, "+10.9.0.2");
	run("ip link set l0 down"); /* takes the IPv6 address with it */
	told_last(l, &told, "-2001:db8::9");
	run("ip addr flush dev l0; ip link set l0 up");
	told_last(l, &told, "-10.9.0.2");
	link_close(l);
}

static void test_xfrm_interfaces(void **state)
{
	struct told told = {0};
	char expected[64];
	unsigned int first, second;
	struct link *l;

	(void)state;
	need_root();
	if (system("ip link add x0 type xfrm dev lo if_id 7 2>/dev/null") != 0)
		skip(); /* the kernel has none */
	first = if_nametoindex("x0");
	assert_int_equal(link_open(NULL, 0, &handlers, &told, &l), 0);
	assert_true(link_has_xfrm(l, first));
	assert_false(link_has_xfrm(l, if_nametoindex("l0")));
	run("ip link add x1 type xfrm dev lo if_id 0x80000000");
	second = if_nametoindex("x1");
	snprintf(expected, sizeof(expected), "+%u:%u", second, 0x80000000);
	told_last(l, &told, expected);
	run("ip link set x1 up; ip link set x1 down"); /* nothing new */
	told.last[0] = '\0';
	run("ip link del x0");
	snprintf(expected, sizeof(expected), "-%u:7", first);
	told_last(l, &told, expected);
	assert_false(link_has_xfrm(l, first));
	link_close(l);
}

/* More happens than the kernel keeps for us: what there is in the end is told all the same. */
static void test_lost_events(void **state)
{
	const struct address gone = {AF_INET, {10, 9, 0, 1}}, last = {AF_INET, {10, 9, 3, 250}};
	struct told told = {0};
	unsigned int ifindex;
	struct link *l;

	(void)state;
	need_root();
	run("ip link add r0 type veth peer name r1");
	ifindex = if_nametoindex("r0");
	run("ip addr add 10.9.0.1/32 dev l1");
	assert_int_equal(link_open(&ifindex, 1, &handlers, &told, &l), 0);
	assert_int_equal(
		setsockopt(link_fd(l), SOL_SOCKET, SO_RCVBUF, &(int){4096}, sizeof(int)), 0);
	run("for i in 0 1 2 3; do for j in $(seq 250); do echo addr add 10.9.$i.$j/32 dev lo; "
	    "done; "
	    "done | ip -batch - 2>/dev/null; ip addr flush dev l1; ip addr del 10.9.0.1/32 dev "
	    "lo; ip link delete r0");
	assert_int_equal(link_process(l), 0);
	assert_false(told.state[told.n - 1].here);
	assert_false(link_has_address(l, &gone));
	assert_true(link_has_address(l, &last));
	run("ip addr flush dev lo");
	assert_int_equal(link_process(l), 0);
	assert_false(link_has_address(l, &last));
	link_close(l);
}

static void test_arp_announce(void **state)
{
	(void)state;
	need_root();
	assert_int_equal(link_arp_announce("nowhere"), -ENOENT);
	run("sysctl -q net.ipv4.conf.l0.arp_announce=1 net.ipv4.conf.all.arp_announce=0");
	assert_int_equal(link_arp_announce("l0"), 1);
	run("sysctl -q net.ipv4.conf.all.arp_announce=2");
	assert_int_equal(link_arp_announce("l0"), 2);
}

static void test_forwards(void **state)
{
	(void)state;
	need_root();
	assert_int_equal(link_forwards("nowhere", AF_INET), -ENOENT);
	run("sysctl -q net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0 "
	    "net.ipv4.conf.l1.forwarding=1 net.ipv6.conf.l1.forwarding=1");
	assert_int_equal(link_forwards("l0", AF_INET), 0);
	assert_int_equal(link_forwards("l1", AF_INET), 1);
	assert_int_equal(link_forwards("l0", AF_INET6), 0);
	assert_int_equal(link_forwards("l1", AF_INET6), 0);
	run("sysctl -q net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
	assert_int_equal(link_forwards("l0", AF_INET), 1);
	assert_int_equal(link_forwards("l0", AF_INET6), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_changes_are_told),
		cmocka_unit_test(test_replaced),
		cmocka_unit_test(test_renamed),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_xfrm_interfaces),
		cmocka_unit_test(test_lost_events),
		cmocka_unit_test(test_arp_announce),
		cmocka_unit_test(test_forwards),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
