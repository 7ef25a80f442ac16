/* SPDX-License-Identifier: BSD-2-Clause */
/* test_clone_link.c - who answers whom on a sync link. In a network namespace of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include "io/clone.h"

static const uint8_t secret[] = "an example of a pre-shared key.";
static const uint8_t macs[2][6] = {{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}};

static struct clone *one, *other;

static int set_up(void **state)
{
	(void)state;
	if (geteuid() != 0)
		return 0; /* the tests skip */
	if (unshare(CLONE_NEWNET) < 0)
		return -1;
	return system("ip link add l0 address 02:00:00:00:00:01 type veth peer name l1 address "
		      "02:00:00:00:00:02 && ip link set l0 up && ip link set l1 up");
}

static struct clone *open_at(const char *interface)
{
	struct clone_config config = {
		.cluster = "example",
		.self = 1,
		.ifindex = if_nametoindex(interface),
		.secret = secret,
		.secret_len = sizeof(secret),
	};
	struct clone *c = NULL;

	assert_int_equal(clone_open(&config, &c), 0);
	return c;
}

static int begin(void **state)
{
	(void)state;
	if (geteuid() != 0)
		return 0;
	one = open_at("l0");
	other = open_at("l1");
	return 0;
}

static int end(void **state)
{
	(void)state;
	clone_close(one);
	clone_close(other);
	one = other = NULL;
	return 0;
}

static void ask(enum clone_asks first, enum clone_asks second)
{
	if (geteuid() != 0)
		skip();
	clone_ask(one, first);
	clone_ask(other, second);
}

/* Whatever it has heard by now is processed. */
static bool is_answered(struct clone *c, uint8_t mac[6])
{
	struct pollfd fd = {.fd = clone_fd(c), .events = POLLIN};
	bool answered = false;

	while (poll(&fd, 1, 200) == 1)
		answered |= clone_process(c, mac);
	return answered;
}

static void test_two_that_run_answer_each_other(void **state)
{
	uint8_t mac[6];

	(void)state;
	ask(CLONE_RUNS, CLONE_RUNS);
	assert_false(is_answered(other, mac));
	assert_true(is_answered(one, mac));
	assert_memory_equal(mac, macs[1], sizeof(mac));
}

/* Else a clone that is about to be refused shuts the machine that runs. */
static void test_who_starts_answers_none_that_runs(void **state)
{
	uint8_t mac[6];

	(void)state;
	ask(CLONE_RUNS, CLONE_STARTS);
	assert_false(clone_wait(other, 200, mac));
	assert_false(is_answered(one, mac));
	assert_true(clone_wait(other, 1000, mac));
	assert_memory_equal(mac, macs[0], sizeof(mac));
}

static void test_two_that_start_answer_each_other(void **state)
{
	uint8_t mac[6];

	(void)state;
	ask(CLONE_STARTS, CLONE_STARTS);
	assert_false(clone_wait(one, 100, mac));
	assert_true(clone_wait(other, 1000, mac));
	assert_memory_equal(mac, macs[0], sizeof(mac));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_two_that_run_answer_each_other, begin, end),
		cmocka_unit_test_setup_teardown(test_who_starts_answers_none_that_runs, begin, end),
		cmocka_unit_test_setup_teardown(test_two_that_start_answer_each_other, begin, end),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
