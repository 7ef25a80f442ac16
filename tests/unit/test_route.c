/* SPDX-License-Identifier: BSD-2-Clause */
/* test_route.c - what a real kernel answers about routes and neighbours. In a network namespace of
 * its own, beside another one that is the neighbour and router. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/route.h"

struct told {
	unsigned int n, any;
	struct address prefix;
	unsigned int bits;
};

static pid_t neighbour; /* a process that lives in its namespace */
static struct route *r;
static struct told told;

static void run(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void run(const char *format, ...)
{
	char command[512];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	if (system(command) != 0)
		fail_msg("%s", command);
}

static void on_change(void *ctx, const struct address *prefix, unsigned int bits)
{
	struct told *t = ctx;

	t->n++;
	t->any += !prefix;
	if (prefix)
		t->prefix = *prefix;
	t->bits = bits;
}

static int set_up(void **state)
{
	int ready[2];
	char byte;

	(void)state;
	if (geteuid() != 0)
		return 0; /* the tests skip */
	if (unshare(CLONE_NEWNET) < 0 || pipe(ready) < 0)
		return -1;
	neighbour = fork();
	if (neighbour == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(unshare(CLONE_NEWNET) < 0 || write(ready[1], "", 1) != 1 || pause());
	}
	if (read(ready[0], &byte, 1) != 1)
		return -1;
	run("ip link add l0 type veth peer name l1 address 02:00:00:00:00:02 netns %d; "
	    "ip addr add 192.0.2.11/24 dev l0; ip addr add 2001:db8::11/64 dev l0 nodad; "
	    "ip link set l0 up; ip link add other type veth peer name far; ip link set other up; "
	    "ip link set far up",
		(int)neighbour);
	run("nsenter --net=/proc/%d/ns/net sh -c 'ip addr add 192.0.2.254/24 dev l1; "
	    "ip addr add 2001:db8::fe/64 dev l1 nodad; ip link set l1 up'",
		(int)neighbour);
	run("ip route add 198.51.100.0/24 via 192.0.2.254 mtu 1400; "
	    "ip route add 203.0.113.0/24 dev other; ip route add unreachable 10.7.0.0/16; "
	    "ip route add 2001:db8:9::/48 via 2001:db8::fe; "
	    "ip route add 10.8.0.0/16 via inet6 2001:db8::fe dev l0");
	return route_open(on_change, &told, &r);
}

static int tear_down(void **state)
{
	(void)state;
	route_close(r);
	if (neighbour > 0)
		kill(neighbour, SIGKILL);
	return 0;
}

static void need_root(void)
{
	if (geteuid() != 0)
		skip();
}

static struct address address_of(const char *text)
{
	struct address address = {.family = strchr(text, ':') ? AF_INET6 : AF_INET};

	assert_int_equal(inet_pton(address.family, text, address.bytes), 1);
	return address;
}

static int ask(const char *to, struct route_answer *ret)
{
	struct address from = address_of(strchr(to, ':') ? "2001:db8::11" : "192.0.2.11"),
		       address = address_of(to);

	return route_ask(r, &from, &address, ret);
}

static void assert_route(
	const char *to, const char *interface, const char *gateway, unsigned int mtu)
{
	struct address none = {0}, via = gateway ? address_of(gateway) : none;
	struct route_answer answer;

	assert_int_equal(ask(to, &answer), 0);
	assert_int_equal(answer.ifindex, if_nametoindex(interface));
	assert_memory_equal(&answer.gateway, &via, sizeof(via));
	assert_int_equal(answer.mtu, mtu);
}

static void test_routes(void **state)
{
	struct route_answer answer;

	(void)state;
	need_root();
	assert_route("192.0.2.12", "l0", NULL, 0);
	assert_route("198.51.100.12", "l0", "192.0.2.254", 1400);
	assert_route("203.0.113.9", "other", NULL, 0);
	assert_route("10.8.0.1", "l0", "2001:db8::fe", 0);
	assert_route("2001:db8::12", "l0", NULL, 0);
	assert_route("2001:db8:9::12", "l0", "2001:db8::fe", 0);
	assert_true(ask("10.7.0.1", &answer) < 0);
	assert_true(ask("10.6.0.1", &answer) < 0); /* no default route */
	assert_true(ask("2001:db8:8::1", &answer) < 0);
	assert_true(ask("192.0.2.11", &answer) < 0); /* our own */
	assert_route("192.0.2.12", "l0", NULL, 0); /* and go on */
}

/* Until it answers; then until the change is told. */
static void assert_neighbour(const char *address, uint8_t last_of_mac)
{
	const uint8_t expected[6] = {2, 0, 0, 0, 0, last_of_mac};
	struct address a = address_of(address);
	uint8_t mac[6] = {0};
	int result = -1;

	for (unsigned int i = 0; i < 100 && (result < 0 || mac[5] != last_of_mac); i++) {
		struct pollfd event = {.fd = route_fd(r), .events = POLLIN};

		result = route_neighbour(r, if_nametoindex("l0"), &a, mac);
		if (result < 0 || mac[5] != last_of_mac)
			poll(&event, 1, 100);
		assert_int_equal(route_process(r), 0);
	}
	assert_int_equal(result, 0);
	assert_memory_equal(mac, expected, sizeof(expected));
}

/* The kernel finds it out without any packet, and follows it when it moves. */
static void test_neighbours(void **state)
{
	static const char *const both[] = {"192.0.2.254", "2001:db8::fe"};
	struct address nobody = address_of("192.0.2.77");
	uint8_t mac[6];

	(void)state;
	need_root();
	for (unsigned int i = 0; i < 2; i++) {
		assert_neighbour(both[i], 2);
		run("ip neigh show %s | grep -q managed", both[i]);
	}
	run("nsenter --net=/proc/%d/ns/net sh -c 'ip link set l1 down; "
	    "ip link set l1 address 02:00:00:00:00:03 up; ip addr add 2001:db8::fe/64 dev l1 "
	    "nodad; "
	    "arping -q -A -c 1 -I l1 192.0.2.254'",
		(int)neighbour);
	assert_neighbour(both[0], 3);
	assert_int_equal(route_neighbour(r, if_nametoindex("l0"), &nobody, mac), -ENOENT);
	run("ip neigh replace 192.0.2.254 lladdr 02:00:00:00:00:09 dev l0 nud permanent");
	for (unsigned int i = 0; i < 3; i++) /* what somebody has fixed stays so */
		assert_neighbour(both[0], 9);
	run("ip neigh show 192.0.2.254 | grep -q PERMANENT");
	run("ip neigh flush dev l0 nud all; ip neigh del 192.0.2.254 dev l0 2>/dev/null || true");
	assert_neighbour(both[0], 3); /* asked for anew */
}

static void told_of(const char *prefix, unsigned int bits)
{
	struct address expected = address_of(prefix);

	assert_int_equal(route_process(r), 0);
	assert_true(told.n > 0);
	assert_memory_equal(&told.prefix, &expected, sizeof(expected));
	assert_int_equal(told.bits, bits);
	told = (struct told){0};
}

static void test_changes_are_told(void **state)
{
	(void)state;
	need_root();
	assert_int_equal(route_process(r), 0);
	told = (struct told){0};
	assert_int_equal(route_process(r), 0);
	assert_int_equal(told.n, 0);
	run("ip route add 10.5.0.0/16 via 192.0.2.254");
	told_of("10.5.0.0", 16);
	run("ip route del 10.5.0.0/16");
	told_of("10.5.0.0", 16);
	run("ip route add default via 192.0.2.254");
	told_of("0.0.0.0", 0);
	run("ip route add 2001:db8:5::/48 dev other");
	told_of("2001:db8:5::", 48);
	run("ip neigh replace 192.0.2.33 lladdr 02:00:00:00:00:33 dev l0");
	told_of("192.0.2.33", 32);
	run("ip neigh del 192.0.2.33 dev l0");
	told_of("192.0.2.33", 32);
	assert_int_equal(
		setsockopt(route_fd(r), SOL_SOCKET, SO_RCVBUF, &(int){4096}, sizeof(int)), 0);
	run("for i in $(seq 100); do echo route add 10.4.$i.0/24 dev other; done | ip -batch -");
	assert_int_equal(route_process(r), 0);
	assert_int_equal(told.any, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_routes),
		cmocka_unit_test(test_neighbours),
		cmocka_unit_test(test_changes_are_told),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
