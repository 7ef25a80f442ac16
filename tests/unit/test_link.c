/* SPDX-License-Identifier: BSD-2-Clause */
/* test_link.c - interfaces and their changes, announcements as they leave. In a network namespace
 * of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/link.h"

struct told {
	unsigned int n;
	struct link_state state[8];
};

static void on_state(void *ctx, const struct link_state *state)
{
	struct told *t = ctx;

	assert_in_range(t->n, 0, 7);
	t->state[t->n++] = *state;
}

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
	assert_int_equal(link_open(&ifindex, 1, on_state, &told, &l), 0);
	expect(l, &told, 1, true, 1);
	assert_int_equal(told.state[0].ifindex, ifindex);

	run("ip link set l0 mtu 1400"); /* nothing that matters */
	assert_int_equal(link_process(l), 0);
	assert_int_equal(told.n, 1);
	run("ip link set l1 down"); /* the carrier is gone */
	expect(l, &told, 2, false, 1);
	run("ip link set l1 up");
	expect(l, &told, 3, true, 1);
	run("ip link set l0 down");
	expect(l, &told, 4, false, 1);
	run("ip link set l0 address 02:00:00:00:00:09");
	expect(l, &told, 5, false, 9);
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

	assert_int_equal(link_open(nowhere, 2, on_state, &other, &(struct link *){NULL}), -ENODEV);
	link_close(l);
}

static void test_announcement(void **state)
{
	static const uint8_t expected[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1,
		0x08, 0x06, /* ARP */
		0, 1, 0x08, 0x00, 6, 4, 0, 1, /* request */
		2, 0, 0, 0, 0, 1, 192, 0, 2, 7, 0, 0, 0, 0, 0, 0, 192, 0, 2, 7};
	const struct address addresses[] = {{AF_INET, {192, 0, 2, 6}},
		{AF_INET6, {0x20, 1, 0xd, 0xb8}}, {AF_INET, {192, 0, 2, 7}}};
	struct sockaddr_ll on = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ARP)};
	struct timeval patience = {.tv_sec = 5};
	struct told told = {0};
	unsigned int ifindex;
	uint8_t frame[128];
	struct link *l;
	int fd;

	(void)state;
	need_root();
	ifindex = if_nametoindex("l0");
	assert_int_equal(link_open(&ifindex, 1, on_state, &told, &l), 0);
	on.sll_ifindex = (int)if_nametoindex("l1");
	fd = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ARP));
	assert_int_equal(bind(fd, (struct sockaddr *)&on, sizeof(on)), 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	assert_int_equal(link_announce(&told.state[0], addresses, 3), 0);
	assert_int_equal(recv(fd, frame, sizeof(frame), 0), sizeof(expected));
	assert_int_equal(frame[31], 6);
	assert_int_equal(recv(fd, frame, sizeof(frame), 0), sizeof(expected));
	assert_memory_equal(frame, expected, sizeof(expected));
	close(fd);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_changes_are_told),
		cmocka_unit_test(test_announcement),
		cmocka_unit_test(test_arp_announce),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
