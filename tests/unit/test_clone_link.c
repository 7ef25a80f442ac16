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
#include <string.h>
#include <unistd.h>

#include "io/clone.h"

static const uint8_t secret[] = "an example of a pre-shared key.";
static const uint8_t macs[2][6] = {{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}};

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
	struct clone *one, *other;
	uint8_t mac[6];

	(void)state;
	if (geteuid() != 0)
		skip();
	one = open_at("l0");
	other = open_at("l1");
	clone_ask(other, CLONE_RUNS);
	clone_ask(one, CLONE_RUNS);
	assert_false(is_answered(other, mac));
	assert_true(is_answered(one, mac));
	assert_memory_equal(mac, macs[1], sizeof(mac));
	clone_close(one);
	clone_close(other);
}

/* Else a clone that is about to be refused shuts the machine that runs. */
static void test_who_starts_answers_none_that_runs(void **state)
{
	struct clone *runs, *starts;
	uint8_t mac[6];

	(void)state;
	if (geteuid() != 0)
		skip();
	runs = open_at("l0");
	starts = open_at("l1");
	clone_ask(runs, CLONE_RUNS);
	clone_ask(starts, CLONE_STARTS);
	assert_false(clone_wait(starts, 200, mac));
	assert_false(is_answered(runs, mac));
	assert_true(clone_wait(starts, 1000, mac));
	assert_memory_equal(mac, macs[0], sizeof(mac));
	clone_close(runs);
	clone_close(starts);
}

static void test_two_that_start_answer_each_other(void **state)
{
	struct clone *one, *other;
	uint8_t mac[6];

	(void)state;
	if (geteuid() != 0)
		skip();
	one = open_at("l0");
	other = open_at("l1");
	clone_ask(one, CLONE_STARTS);
	clone_ask(other, CLONE_STARTS);
	assert_false(clone_wait(one, 100, mac));
	assert_true(clone_wait(other, 1000, mac));
	assert_memory_equal(mac, macs[0], sizeof(mac));
	clone_close(one);
	clone_close(other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_two_that_run_answer_each_other),
		cmocka_unit_test(test_who_starts_answers_none_that_runs),
		cmocka_unit_test(test_two_that_start_answer_each_other),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
