/* SPDX-License-Identifier: BSD-2-Clause */
/* test_beacon.c - what members on one link hear of each other. In a network namespace of its own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/beacon.h"

static const uint8_t key[32] = "an example of a pre-shared key.", other_key[32] = "another";

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
	    "02:00:00:00:00:02; ip link set l0 up; ip link set l1 up");
	return 0;
}

/* Member 0 is on l0, member 1 on l1. */
static struct beacon *open_at(uint8_t id, const uint8_t *with)
{
	struct beacon_config config = {
		.ifindex = if_nametoindex(id ? "l1" : "l0"),
		.self = id,
		.address = {htonl(0x0a090001U + id)},
		.key = with,
		.key_len = with ? sizeof(key) : 0,
	};
	struct beacon *b = NULL;

	for (unsigned int i = 0; i < BEACON_SETTINGS; i++)
		config.settings[i] = 1000 * id + i;
	assert_int_equal(beacon_open(&config, &b), 0);
	return b;
}

static bool hears(struct beacon *b, struct beacon_heard *ret)
{
	struct pollfd fd = {.fd = beacon_fd(b), .events = POLLIN};

	return poll(&fd, 1, 5000) == 1 && beacon_hear(b, ret);
}

static void assert_heard(struct beacon *from, struct beacon *by, bool other)
{
	struct beacon_heard heard = {0};

	beacon_send(from, 3);
	assert_true(hears(by, &heard));
	assert_int_equal(heard.id, 1);
	assert_int_equal(heard.claim, 3);
	assert_int_equal(heard.address.s_addr, htonl(0x0a090002));
	assert_int_equal(heard.other_key, other);
	for (unsigned int i = 0; i < BEACON_SETTINGS; i++)
		assert_int_equal(heard.settings[i], 1000 + i);
	assert_false(beacon_hear(by, &heard));
}

static void test_heard(void **state)
{
	static const struct {
		const uint8_t *from, *by;
	} keys[] = {{key, key}, {other_key, key}, {NULL, NULL}, {NULL, key}, {key, NULL}};

	(void)state;
	if (geteuid() != 0)
		skip();
	for (unsigned int i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		struct beacon *by = open_at(0, keys[i].by), *from = open_at(1, keys[i].from);

		assert_heard(from, by, keys[i].by != keys[i].from);
		beacon_close(by);
		beacon_close(from);
	}
}

/* Neither its own that come back, nor what is no beacon. */
static void test_not_heard(void **state)
{
	static const uint8_t others[][200] = {"espalier\1", "espalies\3", {0}};
	const struct sockaddr_ll all = {.sll_family = AF_PACKET,
		.sll_protocol = htons(0x88b5),
		.sll_ifindex = (int)if_nametoindex("l1"),
		.sll_halen = 6,
		.sll_addr = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
	int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct beacon *by, *from;
	struct beacon_heard heard;

	(void)state;
	if (geteuid() != 0)
		skip();
	by = open_at(0, key);
	from = open_at(1, key);
	beacon_send(by, 1);
	assert_true(hears(from, &heard));
	assert_false(beacon_hear(by, &heard));
	for (unsigned int i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		for (size_t len = 1; len <= sizeof(others[i]); len += 37)
			(void)sendto(
				fd, others[i], len, 0, (const struct sockaddr *)&all, sizeof(all));
	(void)sendto(fd, "espalier\3", 9, 0, (const struct sockaddr *)&all, sizeof(all));
	assert_heard(from, by, false);
	/* Many of them do not keep the agent from the rest of its work. */
	for (unsigned int i = 0; i < 65; i++)
		(void)sendto(fd, others[0], 9, 0, (const struct sockaddr *)&all, sizeof(all));
	beacon_send(from, 3);
	assert_false(hears(by, &heard));
	assert_true(hears(by, &heard));
	close(fd);
	beacon_close(by);
	beacon_close(from);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_heard),
		cmocka_unit_test(test_not_heard),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
