/* SPDX-License-Identifier: BSD-2-Clause */
/* test_happened.c - the ring of events: what is in it, and that it has an end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <json-c/json.h>
#include <string.h>
#include <time.h>

#include "agent.h"

static struct agent agent;
static struct member_counters counters;
static uint32_t lost;

const struct member_counters *__wrap_member_counters(const struct member *m);
uint32_t __wrap_member_fenced_for(const struct member *m, enum record_fence why);

const struct member_counters *__wrap_member_counters(const struct member *m)
{
	(void)m;
	return &counters;
}

uint32_t __wrap_member_fenced_for(const struct member *m, enum record_fence why)
{
	(void)m;
	return why == FENCE_JOURNAL_LOST ? lost : 1000;
}

static int begin(void **state)
{
	(void)state;
	memset(&agent, 0, sizeof(agent));
	memset(&counters, 0, sizeof(counters));
	lost = 0;
	return 0;
}

static void assert_event(struct json_object *list, size_t i, const char *event, const char *text)
{
	struct json_object *o = json_object_array_get_idx(list, i);

	assert_string_equal(json_object_get_string(json_object_object_get(o, "event")), event);
	assert_string_equal(json_object_get_string(json_object_object_get(o, "text")), text);
}

static void test_told(void **state)
{
	uint64_t before_ms = (uint64_t)time(NULL) * 1000, at_ms;
	struct json_object *list = happened_json(&agent);

	(void)state;
	assert_int_equal(json_object_array_length(list), 0);
	json_object_put(list);
	happened(&agent, HAPPENED_VIEW, "view %u", 7U);
	happened(&agent, HAPPENED_TAKEOVER, "member 1");
	happened(&agent, HAPPENED_FENCE, "the SA with \"SPI\" 1");
	list = happened_json(&agent);
	assert_int_equal(json_object_array_length(list), 3);
	assert_event(list, 0, "view", "view 7");
	assert_event(list, 1, "takeover", "member 1");
	assert_event(list, 2, "fence", "the SA with \"SPI\" 1");
	at_ms = json_object_get_uint64(
		json_object_object_get(json_object_array_get_idx(list, 0), "at_ms"));
	assert_true(at_ms >= before_ms && at_ms <= before_ms + 60000);
	json_object_put(list);
}

/* The oldest go; an answer fits into a packet, whatever was told. */
static void test_bounded(void **state)
{
	struct json_object *list;
	char text[1000];

	(void)state;
	memset(text, '"', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	for (unsigned int i = 0; i < 3 * HAPPENED_MAX + 5; i++)
		happened(&agent, HAPPENED_REPAIR, "%u %s", i, text);
	list = happened_json(&agent);
	assert_int_equal(json_object_array_length(list), HAPPENED_MAX);
	for (unsigned int i = 0; i < HAPPENED_MAX; i++) {
		struct json_object *o = json_object_array_get_idx(list, i);
		unsigned int number = 2 * HAPPENED_MAX + 5 + i;

		assert_int_equal(json_object_get_int(json_object_object_get(o, "number")), number);
		assert_int_equal(json_object_get_int(json_object_object_get(o, "text")), number);
	}
	assert_true(strlen(json_object_to_json_string(list)) < 150000);
	json_object_put(list);
}

/* Once a second, and only what is new. */
static void test_counted(void **state)
{
	struct json_object *list;

	(void)state;
	happened_tick(&agent, 5000000);
	counters.repaired = 3;
	happened_tick(&agent, 5500000);
	assert_int_equal(agent.happenings.count, 0);
	counters.repaired = 5;
	lost = 2;
	happened_tick(&agent, 6000000);
	happened_tick(&agent, 7000000);
	counters.missing = 1;
	lost = 1;
	happened_tick(&agent, 8000000);
	list = happened_json(&agent);
	assert_int_equal(json_object_array_length(list), 3);
	assert_event(
		list, 0, "repair", "5 records were sent since a comparison found a difference");
	assert_event(list, 1, "fence",
		"2 SAs are shut here until they are rekeyed: they are older than the journal");
	assert_event(list, 2, "repair",
		"1 records were not in the kernel any more, and nobody had said so");
	json_object_put(list);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_told, begin),
		cmocka_unit_test_setup(test_bounded, begin),
		cmocka_unit_test_setup(test_counted, begin),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
