/* SPDX-License-Identifier: BSD-2-Clause */
/* The sync channel of three members in one process, over UDP sockets on the loopback interface. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "io/channel.h"

#define MEMBERS 3
#define PORT 4711
#define SILENCE_US 300000

struct end {
	struct channel *channel;
	unsigned int received[MEMBERS]; /* by sender */
	char last[64];
};

static struct end ends[MEMBERS];

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static struct in_addr address_of(uint8_t id)
{
	return (struct in_addr){htonl(0x7f050501U + id)}; /* 127.5.5.1, ... */
}

static void on_datagram(void *ctx, uint8_t from, const void *buf, size_t len)
{
	struct end *e = ctx;

	assert_true(from < MEMBERS && len < sizeof(e->last));
	e->received[from]++;
	memcpy(e->last, buf, len);
	e->last[len] = '\0';
}

static struct channel_config config_of(uint8_t self)
{
	struct channel_config config = {
		.cluster = "test",
		.self = self,
		.port = PORT,
		.ifindex = if_nametoindex("lo"),
		.xsks_map_fd = -1,
		.psk = (const uint8_t *)"an example of a pre-shared key.",
		.psk_len = 32,
		.silence_us = SILENCE_US,
	};

	for (uint8_t i = 0; i < MEMBERS; i++)
		config.addresses[i] = address_of(i);
	return config;
}

static void end_open(uint8_t id)
{
	struct channel_config config = config_of(id);
	char err[256] = "";

	ends[id] = (struct end){0};
	if (channel_open(&config, on_datagram, &ends[id], &ends[id].channel, err, sizeof(err)) < 0)
		fail_msg("%s", err);
}

static void end_close(uint8_t id)
{
	channel_close(ends[id].channel);
	ends[id].channel = NULL;
}

static int close_all(void **state)
{
	(void)state;
	for (uint8_t i = 0; i < MEMBERS; i++)
		end_close(i);
	return 0;
}

/* As the agent does: waits for the descriptors and the deadlines, nothing else. */
static void run(uint64_t us)
{
	uint64_t until = now() + us;

	while (now() < until) {
		struct pollfd fds[MEMBERS];
		uint64_t next = until;
		int count = 0;

		for (uint8_t i = 0; i < MEMBERS; i++) {
			struct channel *c = ends[i].channel;

			fds[i] = (struct pollfd){.fd = c ? channel_fd(c) : -1, .events = POLLIN};
			if (c && channel_deadline(c) < next)
				next = channel_deadline(c);
		}
		if (next > now())
			count = poll(fds, MEMBERS, (int)((next - now()) / 1000 + 1));
		assert_true(count >= 0);
		for (uint8_t i = 0; i < MEMBERS; i++) {
			struct channel *c = ends[i].channel;

			if (c && (fds[i].revents || channel_deadline(c) <= now()))
				channel_process(c, now());
		}
	}
}

/* Until all have a session with all; a machine may be busy. */
static void run_until_connected(void)
{
	for (unsigned int tries = 0; tries < 500; tries++) {
		unsigned int missing = 0;

		for (uint8_t i = 0; i < MEMBERS; i++)
			for (uint8_t j = 0; j < MEMBERS; j++)
				missing += i != j && ends[i].channel && ends[j].channel &&
					   !channel_connected(ends[i].channel, j);
		if (missing == 0)
			return;
		run(10000);
	}
	fail_msg("the members do not connect");
}

static struct channel_counters counters(uint8_t id)
{
	struct channel_counters c;

	channel_counters(ends[id].channel, &c);
	return c;
}

static void test_members(void **state)
{
	(void)state;
	for (uint8_t i = 0; i < MEMBERS; i++)
		end_open(i);
	assert_int_equal(channel_send(ends[0].channel, 1, "early", 5), -ENOTCONN);
	assert_int_equal(counters(0).unsent, 1);
	run_until_connected();
	for (uint8_t i = 0; i < MEMBERS; i++)
		for (uint8_t j = 0; j < MEMBERS; j++)
			assert_int_equal(channel_connected(ends[i].channel, j), i != j);
	for (uint8_t i = 0; i < MEMBERS; i++)
		for (uint8_t j = 0; j < MEMBERS; j++)
			assert_int_equal(channel_send(ends[i].channel, j, "hello", 5),
				i == j ? -ENOTCONN : 0);
	run(50000);
	for (uint8_t i = 0; i < MEMBERS; i++) {
		struct channel_counters c = counters(i);

		for (uint8_t j = 0; j < MEMBERS; j++)
			assert_int_equal(ends[i].received[j], i != j);
		assert_string_equal(ends[i].last, "hello");
		assert_int_equal(c.sent, MEMBERS - 1);
		assert_int_equal(c.received, MEMBERS - 1);
		assert_true(c.sent_bytes > 10 && c.received_bytes > 10);
		assert_int_equal(c.handshakes, MEMBERS - 1);
		assert_int_equal(c.foreign, 0);
		assert_string_equal(channel_carrier(ends[i].channel),
			"UDP socket: no AF_XDP: there is no XDP program for it on the sync "
			"interface");
	}
}

static void test_restart(void **state)
{
	(void)state;
	end_open(0);
	end_open(1);
	run_until_connected();
	assert_true(channel_connected(ends[1].channel, 0));
	end_close(0);
	run(50000);
	assert_false(channel_connected(ends[1].channel, 0)); /* it said so */
	end_open(0);
	run_until_connected();
	assert_true(channel_connected(ends[1].channel, 0));
	assert_int_equal(channel_send(ends[0].channel, 1, "again", 5), 0);
	run(50000);
	assert_string_equal(ends[1].last, "again");
}

static int stranger_open(uint8_t id, uint16_t port)
{
	struct sockaddr_in local = {
		.sin_family = AF_INET, .sin_addr = address_of(id), .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&local, sizeof(local)), 0);
	return fd;
}

static void stranger_send(int fd, size_t len)
{
	struct sockaddr_in remote = {
		.sin_family = AF_INET, .sin_addr = address_of(0), .sin_port = htons(PORT)};
	uint8_t buf[4096];

	memset(buf, 0x17, sizeof(buf));
	assert_int_equal(sendto(fd, buf, len, 0, (struct sockaddr *)&remote, sizeof(remote)), len);
}

static void test_strangers(void **state)
{
	int other_port, other_address, silent_member;
	uint64_t rejected;

	(void)state;
	end_open(0);
	end_open(1);
	run_until_connected();
	other_port = stranger_open(2, PORT + 1);
	other_address = stranger_open(7, PORT);
	silent_member = stranger_open(2, PORT);
	stranger_send(other_port, 100);
	stranger_send(other_address, 100);
	run(20000);
	assert_int_equal(counters(0).foreign, 2);
	rejected = counters(0).rejected;
	stranger_send(silent_member, 0);
	stranger_send(silent_member, 12);
	stranger_send(silent_member, 100);
	stranger_send(silent_member, 4000);
	run(20000);
	assert_int_equal(counters(0).foreign, 2);
	assert_int_equal(counters(0).rejected, rejected + 4);
	assert_int_equal(counters(0).received, 0);
	assert_int_equal(channel_send(ends[1].channel, 0, "still", 5), 0);
	run(20000);
	assert_string_equal(ends[0].last, "still");
	assert_int_equal(counters(0).handshakes, 1);
	close(other_port);
	close(other_address);
	close(silent_member);
}

static void test_sizes(void **state)
{
	uint8_t buf[CHANNEL_DATAGRAM_MAX + 1] = {0};

	(void)state;
	end_open(0);
	end_open(1);
	run_until_connected();
	assert_int_equal(channel_send(ends[0].channel, 1, buf, sizeof(buf)), -EMSGSIZE);
	assert_int_equal(channel_send(ends[0].channel, 1, buf, 0), -EMSGSIZE);
	assert_int_equal(channel_send(ends[0].channel, 200, buf, 1), -ENOTCONN);
	assert_int_equal(counters(0).unsent, 3);
	assert_int_equal(counters(0).sent, 0);
}

static void assert_refused(const struct channel_config *config, int r, const char *why)
{
	struct channel *c = NULL;
	char err[256] = "";

	assert_int_equal(channel_open(config, on_datagram, &ends[0], &c, err, sizeof(err)), r);
	assert_string_equal(err, why);
}

/* A map that is none: it works all the same, and says so. */
static void test_falls_back(void **state)
{
	struct channel_config config = config_of(0);
	char err[256] = "";

	(void)state;
	config.xsks_map_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	ends[0] = (struct end){0};
	assert_int_equal(
		channel_open(&config, on_datagram, &ends[0], &ends[0].channel, err, sizeof(err)),
		0);
	close(config.xsks_map_fd);
	assert_non_null(
		strstr(channel_carrier(ends[0].channel), "UDP socket: no AF_XDP: queue 0 of lo: "));
	end_open(1);
	run_until_connected();
	assert_int_equal(channel_send(ends[1].channel, 0, "anyway", 6), 0);
	run(20000);
	assert_string_equal(ends[0].last, "anyway");
}

static void test_cannot_open(void **state)
{
	struct channel_config config = config_of(0);
	int fd = stranger_open(0, PORT);

	(void)state;
	assert_refused(&config, -EADDRINUSE,
		"cannot bind the sync channel to 127.5.5.1, UDP port 4711: Address already in use");
	close(fd);
	inet_aton("192.0.2.1", &config.addresses[0]);
	assert_refused(&config, -EADDRNOTAVAIL,
		"cannot bind the sync channel to 192.0.2.1, UDP port 4711: "
		"Cannot assign requested address");
	config = config_of(0);
	config.psk_len = 3;
	assert_refused(&config, -EINVAL, "the pre-shared key has 3 bytes; give it 16 to 256");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_members, close_all),
		cmocka_unit_test_teardown(test_restart, close_all),
		cmocka_unit_test_teardown(test_strangers, close_all),
		cmocka_unit_test_teardown(test_sizes, close_all),
		cmocka_unit_test_teardown(test_falls_back, close_all),
		cmocka_unit_test(test_cannot_open),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
