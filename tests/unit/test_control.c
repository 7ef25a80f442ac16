/* SPDX-License-Identifier: BSD-2-Clause */
/* test_control.c - the control socket, and who may speak there. Each request is its own answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <json-c/json.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent.h"

#define CLIENTS 8 /* that are served at a time */

static char folder[] = "/tmp/test_control.XXXXXX";
static char path[64];

struct json_object *control_answer(const struct agent *a, char *request)
{
	(void)a;
	return json_object_new_string(request);
}

static void turn(struct control *c)
{
	struct pollfd fd = {.fd = control_fd(c), .events = POLLIN};

	while (poll(&fd, 1, 0) > 0)
		control_process(c, NULL);
}

static int connect_to(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void ask(int fd)
{
	assert_int_equal(send(fd, "status", 6, MSG_NOSIGNAL), 6);
}

static void assert_answered(int fd)
{
	char answer[16] = "";

	assert_int_equal(recv(fd, answer, sizeof(answer) - 1, 0), 8);
	assert_string_equal(answer, "\"status\"");
}

static bool is_parted(int fd)
{
	char byte;

	return recv(fd, &byte, 1, MSG_PEEK) == 0;
}

static struct control *open_control(void)
{
	struct control *c = NULL;
	char err[256] = "";

	if (control_open(path, &c, err, sizeof(err)) < 0)
		fail_msg("%s", err);
	return c;
}

/* They make room for others, the one that has been silent for the longest time first. */
static void test_idle_clients(void **state)
{
	struct control *c = open_control();
	int idle[CLIENTS], other[CLIENTS];

	(void)state;
	for (unsigned int i = 0; i < CLIENTS; i++) {
		idle[i] = connect_to();
		turn(c);
	}
	ask(idle[0]);
	turn(c);
	assert_answered(idle[0]);
	for (unsigned int i = 0; i < CLIENTS - 1; i++) {
		other[i] = connect_to();
		turn(c);
		assert_true(is_parted(idle[i + 1]));
		ask(other[i]);
		turn(c);
		assert_answered(other[i]);
	}
	ask(idle[0]);
	turn(c);
	assert_answered(idle[0]);
	for (unsigned int i = 0; i < CLIENTS; i++)
		close(idle[i]);
	for (unsigned int i = 0; i < CLIENTS - 1; i++)
		close(other[i]);
	turn(c);
	control_close(c);
}

/* Who has asked gets an answer, however many come after it. */
static void test_asked_and_crowded(void **state)
{
	struct control *c = open_control();
	int first[CLIENTS], next[CLIENTS];

	(void)state;
	for (unsigned int i = 0; i < CLIENTS; i++) {
		first[i] = connect_to();
		turn(c);
	}
	for (unsigned int i = 0; i < CLIENTS; i++) {
		ask(first[i]);
		next[i] = connect_to();
	}
	turn(c);
	for (unsigned int i = 0; i < CLIENTS; i++) {
		assert_answered(first[i]);
		assert_true(is_parted(first[i]));
		ask(next[i]);
	}
	turn(c);
	for (unsigned int i = 0; i < CLIENTS; i++) {
		assert_answered(next[i]);
		close(first[i]);
		close(next[i]);
	}
	control_close(c);
}

static int make_folder(void **state)
{
	(void)state;
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof(path), "%s/control", folder);
	return 0;
}

static int remove_folder(void **state)
{
	(void)state;
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_idle_clients),
		cmocka_unit_test(test_asked_and_crowded),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
