/* SPDX-License-Identifier: BSD-2-Clause */
/* test_order.c - an administrator's orders: the file that keeps them, and what is said of those
 * that are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"

static char folder[] = "/tmp/test_order.XXXXXX";
static char path[64];
static struct agent agent = {.config = {.id = 0, .members = 0x0f}};
static struct member_other others[ESPALIER_MEMBERS];
static struct view view = {.live = 3};
static int result;
static uint8_t ordered;
static enum wire_order what;
static char said[256];

void agent_say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(said, sizeof(said), format, args);
	va_end(args);
}

int __wrap_member_order(struct member *m, uint8_t id, enum wire_order order);
int __wrap_member_fail_over(struct member *m, uint8_t *ret_to);
void __wrap_member_other(const struct member *m, uint8_t id, struct member_other *ret);
uint8_t __wrap_member_flags(const struct member *m);
uint16_t __wrap_member_doubles(const struct member *m);
const struct view *__wrap_member_view(const struct member *m);

int __wrap_member_order(struct member *m, uint8_t id, enum wire_order order)
{
	(void)m;
	ordered = id;
	what = order;
	return result;
}

int __wrap_member_fail_over(struct member *m, uint8_t *ret_to)
{
	(void)m;
	*ret_to = 1;
	return result;
}

void __wrap_member_other(const struct member *m, uint8_t id, struct member_other *ret)
{
	(void)m;
	*ret = others[id];
}

uint8_t __wrap_member_flags(const struct member *m)
{
	(void)m;
	return WIRE_STARTED | WIRE_DRAINED;
}

uint16_t __wrap_member_doubles(const struct member *m)
{
	(void)m;
	return 0;
}

const struct view *__wrap_member_view(const struct member *m)
{
	(void)m;
	return &view;
}

static void answers(const char *word, const char *argument, const char *error)
{
	struct json_object *o = control_order(&agent, word, argument), *text = NULL;

	assert_int_equal(json_object_object_get_ex(o, "error", &text), error != NULL);
	if (error)
		assert_string_equal(json_object_get_string(text), error);
	json_object_put(o);
}

static void test_orders(void **state)
{
	(void)state;
	result = 0;
	answers("drain", "2", NULL);
	assert_int_equal(ordered, 2);
	assert_int_equal(what, ORDER_DRAIN);
	answers("undrain", "1", NULL);
	assert_int_equal(what, ORDER_OWN);
	answers("failover", "", NULL);
}

static void test_refusals(void **state)
{
	(void)state;
	ordered = 99;
	for (const char **bad = (const char *[]){"", "x", "1x", "-1", "16", " ", NULL}; *bad; bad++)
		answers("drain", *bad, "drain which member? Its Id, from 0 to 15");
	assert_int_equal(ordered, 99);
	result = -EINVAL;
	answers("undrain", "7", "there is no member 7 in the configuration");
	result = -EHOSTDOWN;
	answers("drain", "1", "member 1 is not there (espalierctl members)");
	result = -EPROTONOSUPPORT;
	answers("drain", "1", "member 1 runs an earlier version, that takes no orders");
	result = -ENOSPC;
	answers("drain", "0",
		"member 0 cannot keep that beside its journal: No space left on device");
	result = -EBUSY;
	others[2] = (struct member_other){.alive = true, .flags = WIRE_STARTED | WIRE_LINK_DOWN};
	others[3] = (struct member_other){.alive = true, .flags = WIRE_STARTED};
	answers("drain", "1",
		"nobody else could own what member 1 owns: member 0 is drained; member 2 cannot: a "
		"link of it is down, or it is not guarded, or cannot forward; member 3 has not got "
		"all SAs yet");
	others[3].flags = 0;
	others[2].alive = false;
	answers("failover", "",
		"nobody else could own what member 0 owns: member 1 is not there; member 2 is not "
		"there; member 3 is starting");
	result = -EINVAL;
	answers("failover", "", "with Mode = load-sharing no member is the active one: use drain");
	view.live = 0;
	answers("failover", "", "this member follows no view yet");
	view.live = 3;
}

static void test_kept(void **state)
{
	struct stat st;

	(void)state;
	assert_int_equal(order_kept(&agent.config), ORDER_OWN);
	assert_int_equal(order_keep(&agent.config, ORDER_DRAIN), 0);
	assert_int_equal(order_kept(&agent.config), ORDER_DRAIN);
	assert_int_equal(order_keep(&agent.config, ORDER_YIELD), 0);
	assert_int_equal(order_kept(&agent.config), ORDER_YIELD);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	/* Nobody comes back by a file that says nothing. */
	assert_int_equal(truncate(path, 0), 0);
	assert_int_equal(order_kept(&agent.config), ORDER_DRAIN);
	assert_int_equal(order_keep(&agent.config, ORDER_OWN), 0);
	assert_int_equal(stat(path, &st), -1);
	assert_int_equal(order_keep(&agent.config, ORDER_OWN), 0);
	assert_int_equal(order_kept(&agent.config), ORDER_OWN);
}

static void test_not_kept(void **state)
{
	(void)state;
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(order_keep(&agent.config, ORDER_DRAIN), -EISDIR);
	assert_non_null(strstr(said, "is refused, since it cannot be kept in"));
	assert_int_equal(rmdir(path), 0);
}

static int setup(void **state)
{
	(void)state;
	if (!mkdtemp(folder))
		return -1;
	snprintf(
		agent.config.journal_path, sizeof(agent.config.journal_path), "%s/journal", folder);
	snprintf(path, sizeof(path), "%s/journal.order", folder);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_orders),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_kept),
		cmocka_unit_test(test_not_kept),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
