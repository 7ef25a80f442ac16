/* SPDX-License-Identifier: BSD-2-Clause */
/* test_announce.c - announcements as they leave, and what a kernel makes of them. In a network
 * namespace of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/announce.h"

static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};

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
	    "02:00:00:00:00:02; ip link set l0 up; ip link set l1 up; "
	    "ip addr add 192.0.2.2/24 dev l1; ip addr add 2001:db8::2/64 dev l1 nodad");
	return 0;
}

static void need_root(void)
{
	if (geteuid() != 0)
		skip();
}

/* What comes out at the other end. */
static int receiver(uint16_t protocol)
{
	struct sockaddr_ll on = {.sll_family = AF_PACKET,
		.sll_protocol = htons(protocol),
		.sll_ifindex = (int)if_nametoindex("l1")};
	struct timeval patience = {.tv_sec = 5};
	int fd = socket(AF_PACKET, SOCK_RAW, htons(protocol));

	assert_int_equal(bind(fd, (struct sockaddr *)&on, sizeof(on)), 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return fd;
}

static void test_ipv4(void **state)
{
	uint8_t expected[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x08,
		0x06, /* ARP */
		0, 1, 0x08, 0x00, 6, 4, 0, 1, /* request */
		2, 0, 0, 0, 0, 1, 192, 0, 2, 7, 0, 0, 0, 0, 0, 0, 192, 0, 2, 7};
	const struct address addresses[] = {{AF_INET, {192, 0, 2, 6}},
		{AF_INET6, {0x20, 1, 0xd, 0xb8}}, {AF_INET, {192, 0, 2, 7}}};
	uint8_t frame[128];
	int fd;

	(void)state;
	need_root();
	fd = receiver(ETH_P_ARP);
	assert_int_equal(announce(if_nametoindex("l0"), mac, addresses, 3), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(recv(fd, frame, sizeof(frame), 0), sizeof(expected));
		assert_int_equal(frame[31], 6);
	}
	assert_int_equal(recv(fd, frame, sizeof(frame), 0), sizeof(expected));
	assert_memory_equal(frame, expected, sizeof(expected));
	expected[21] = 2; /* reply */
	memcpy(&expected[32], mac, sizeof(mac));
	assert_int_equal(recv(fd, frame, sizeof(frame), 0), sizeof(expected));
	assert_memory_equal(frame, expected, sizeof(expected));
	close(fd);
}

static void test_ipv6(void **state)
{
	static const uint8_t expected[] = {0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 1, 0x86, 0xdd,
		0x60, 0, 0, 0, 0, 32, 58, 255, /* IPv6, ICMPv6, hop limit */
		0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, /* from the address */
		0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, /* to all nodes */
		136, 0, 0x79, 0x2a, 0xa0, 0, 0, 0, /* router, override */
		0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, /* target */
		2, 1, 2, 0, 0, 0, 0, 1}; /* its link-layer address */
	const struct address address = {AF_INET6, {0x20, 1, 0xd, 0xb8, [15] = 1}};
	uint8_t frame[128];
	int fd;

	(void)state;
	need_root();
	fd = receiver(ETH_P_IPV6);
	assert_int_equal(announce(if_nametoindex("l0"), mac, &address, 1), 0);
	do
		assert_int_equal(recv(fd, frame, sizeof(frame), 0) < 0, 0);
	while (frame[54] != 136); /* the kernels speak, too */
	assert_memory_equal(frame, expected, sizeof(expected));
	close(fd);
}

/* A neighbour that has another MAC address for it takes the new one: the checksum is right. */
static void test_neighbour_follows(void **state)
{
	const struct address addresses[] = {
		{AF_INET, {192, 0, 2, 1}}, {AF_INET6, {0x20, 1, 0xd, 0xb8, [15] = 1}}};

	(void)state;
	need_root();
	run("sysctl -q net.ipv4.conf.l1.arp_accept=0");
	run("ip neigh replace 192.0.2.1 lladdr 02:00:00:00:00:09 dev l1 nud stale; "
	    "ip neigh replace 2001:db8::1 lladdr 02:00:00:00:00:09 dev l1 nud stale");
	assert_int_equal(announce(if_nametoindex("l0"), mac, addresses, 2), 0);
	run("timeout 5 sh -c 'for a in 192.0.2.1 2001:db8::1; do "
	    "until ip neigh show $a | grep 02:00:00:00:00:01; do sleep 0.01; done; done'");
}

static void test_repeats(void **state)
{
	static const uint64_t expected[] = {20000, 30000, 100000, 1000000, 61000000, 121000000};
	uint64_t at = 0;

	(void)state;
	for (unsigned int i = 0; i < sizeof(expected) / sizeof(*expected); i++) {
		at = announce_next_us(at, 30000);
		assert_int_equal(at, expected[i]);
	}
	/* What is late is not made up for. */
	assert_int_equal(announce_next_us(150000, 300000), 300000);
	assert_int_equal(announce_next_us(150000, 30000), 1000000);
	assert_int_equal(announce_next_us(20000, 20000), 100000);
}

/* Those of the addresses' last 24 bits, as long as the socket is there. */
static void test_join(void **state)
{
	const struct address addresses[] = {{AF_INET, {192, 0, 2, 1}},
		{AF_INET6, {0x20, 1, 0xd, 0xb8, [12] = 9, 0xa, 0xb, 0xc}},
		{AF_INET6, {0x20, 1, 0xd, 0xb9, [13] = 0xa, 0xb, 0xc}},
		{AF_INET6, {0x20, 1, 0xd, 0xb8, [15] = 7}}};
	int fd = -1;

	(void)state;
	need_root();
	assert_int_equal(announce_join(if_nametoindex("l0"), addresses, 1, &fd), 0);
	assert_int_equal(fd, -1);
	assert_int_equal(announce_join(if_nametoindex("l0"), addresses, 4, &fd), 0);
	run("[ $(ip -6 maddress show dev l0 | grep -cw 'ff02::1:ff0a:b0c\\|ff02::1:ff00:7') = 2 ]");
	close(fd);
	run("[ $(ip -6 maddress show dev l0 | grep -cw 'ff02::1:ff0a:b0c\\|ff02::1:ff00:7') = 0 ]");
	fd = -1;
	run("sysctl -q -w net.ipv6.conf.l0.disable_ipv6=1 && ip link set l0 mtu 1200");
	assert_true(announce_join(if_nametoindex("l0"), addresses, 4, &fd) < 0);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ipv4),
		cmocka_unit_test(test_ipv6),
		cmocka_unit_test(test_neighbour_follows),
		cmocka_unit_test(test_repeats),
		cmocka_unit_test(test_join),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
