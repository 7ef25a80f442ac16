/* SPDX-License-Identifier: BSD-2-Clause */
/* test_boot.c - whether an agent has run since the machine was booted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"

bool __wrap_datapath_is_first(const struct datapath *d);

static bool maps_are_new;
static unsigned int said;

bool __wrap_datapath_is_first(const struct datapath *d)
{
	(void)d;
	return maps_are_new;
}

void agent_say(const char *format, ...)
{
	(void)format;
	said++;
}

static struct agent agent;
static char folder[] = "/tmp/test_boot.XXXXXX", mark[64];

static int setup(void **state)
{
	(void)state;
	if (!mkdtemp(folder))
		return -1;
	snprintf(
		agent.config.journal_path, sizeof(agent.config.journal_path), "%s/journal", folder);
	snprintf(mark, sizeof(mark), "%s/journal.boot", folder);
	maps_are_new = true;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	unlink(mark);
	return rmdir(folder);
}

static void test_first(void **state)
{
	struct stat st;
	FILE *f;

	(void)state;
	assert_true(boot_is_first(&agent));
	maps_are_new = false;
	assert_false(boot_is_first(&agent));
	maps_are_new = true;
	boot_mark(&agent);
	assert_int_equal(said, 0);
	assert_false(boot_is_first(&agent));
	assert_int_equal(stat(mark, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	/* Of another boot. */
	f = fopen(mark, "w");
	assert_non_null(f);
	assert_true(fprintf(f, "00000000-1111-2222-3333-444444444444\n") > 0);
	assert_int_equal(fclose(f), 0);
	assert_true(boot_is_first(&agent));
	boot_mark(&agent);
	assert_false(boot_is_first(&agent));
}

static void test_no_place(void **state)
{
	(void)state;
	snprintf(agent.config.journal_path, sizeof(agent.config.journal_path), "%s/no/journal",
		folder);
	boot_mark(&agent);
	assert_int_equal(said, 1);
	assert_true(boot_is_first(&agent));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first),
		cmocka_unit_test(test_no_place),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
