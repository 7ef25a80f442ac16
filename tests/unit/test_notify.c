/* SPDX-License-Identifier: BSD-2-Clause */
/* test_notify.c - what a service manager hears, at a socket in a folder and at an abstract one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "io/notify.h"

static int listener(const struct sockaddr_un *at, socklen_t size)
{
	const struct timeval patience = {.tv_sec = 5};
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

	assert_int_equal(bind(fd, (const struct sockaddr *)at, size), 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return fd;
}

static void hears(int fd, const char *lines)
{
	char buf[256];
	ssize_t n = recv(fd, buf, sizeof(buf), 0);

	assert_int_equal(n, strlen(lines));
	assert_memory_equal(buf, lines, strlen(lines));
}

static void test_path(void **state)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int fd;

	(void)state;
	snprintf(at.sun_path, sizeof(at.sun_path), "/tmp/test_notify.%d", (int)getpid());
	fd = listener(&at, sizeof(at));
	setenv("NOTIFY_SOCKET", at.sun_path, 1);
	assert_int_equal(notify_send("READY=1\nSTATUS=fine"), 0);
	hears(fd, "READY=1\nSTATUS=fine");
	close(fd);
	assert_int_equal(notify_send("WATCHDOG=1"), -ECONNREFUSED);
	unlink(at.sun_path);
	assert_int_equal(notify_send("WATCHDOG=1"), -ENOENT);
}

static void test_abstract(void **state)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	char name[64];
	int fd, n = snprintf(name, sizeof(name), "@test_notify.%d", (int)getpid());

	(void)state;
	memcpy(&at.sun_path[1], &name[1], (size_t)n - 1);
	fd = listener(&at, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)n));
	setenv("NOTIFY_SOCKET", name, 1);
	assert_int_equal(notify_send("STOPPING=1"), 0);
	hears(fd, "STOPPING=1");
	close(fd);
}

static void test_nobody(void **state)
{
	char name[256];

	(void)state;
	unsetenv("NOTIFY_SOCKET");
	assert_int_equal(notify_send("READY=1"), 0);
	setenv("NOTIFY_SOCKET", "relative", 1);
	assert_int_equal(notify_send("READY=1"), -EINVAL);
	memset(name, '/', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	setenv("NOTIFY_SOCKET", name, 1);
	assert_int_equal(notify_send("READY=1"), -EINVAL);
	unsetenv("NOTIFY_SOCKET");
}

/* A manager that does not read does not hold the agent up. */
static void test_full(void **state)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int fd, r = 0;

	(void)state;
	snprintf(at.sun_path, sizeof(at.sun_path), "/tmp/test_notify.%d", (int)getpid());
	fd = listener(&at, sizeof(at));
	setenv("NOTIFY_SOCKET", at.sun_path, 1);
	for (int i = 0; i < 100000 && r == 0; i++)
		r = notify_send("WATCHDOG=1");
	assert_int_equal(r, -EAGAIN);
	close(fd);
	unlink(at.sun_path);
	unsetenv("NOTIFY_SOCKET");
}

static void test_watchdog(void **state)
{
	char pid[16];

	(void)state;
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
	assert_int_equal(notify_watchdog_us(), 0);
	setenv("WATCHDOG_USEC", "10000000", 1);
	assert_int_equal(notify_watchdog_us(), 10000000);
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	setenv("WATCHDOG_PID", pid, 1);
	assert_int_equal(notify_watchdog_us(), 10000000);
	setenv("WATCHDOG_PID", "1", 1); /* meant for another process */
	assert_int_equal(notify_watchdog_us(), 0);
	unsetenv("WATCHDOG_PID");
	setenv("WATCHDOG_USEC", "10x", 1);
	assert_int_equal(notify_watchdog_us(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_path),
		cmocka_unit_test(test_abstract),
		cmocka_unit_test(test_nobody),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_watchdog),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
