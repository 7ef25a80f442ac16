/* SPDX-License-Identifier: BSD-2-Clause */
/* test_lock.c - what only one process may have, whatever becomes of that process or of the file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/lock.h"

static char base[64], path[96], folder[96], holder[64];

static int set_up(void **state)
{
	(void)state;
	strcpy(base, "/dev/shm/test_lock.XXXXXX");
	assert_non_null(mkdtemp(base));
	snprintf(path, sizeof(path), "%s/file", base);
	snprintf(folder, sizeof(folder), "%s/folder", base);
	assert_int_equal(mkdir(folder, 0700), 0);
	strcpy(holder, "?");
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	unlink(path);
	rmdir(folder);
	return rmdir(base);
}

static int lock_path(void)
{
	return lock_file(path, holder, sizeof(holder));
}

static int lock_the_folder(void)
{
	return lock_folder(folder, holder, sizeof(holder));
}

/* A child that has the lock until it is killed; 0: it has not got it. */
static pid_t child_with(int (*take)(void))
{
	int told[2];
	char got = 0;
	pid_t child;

	assert_int_equal(pipe2(told, O_CLOEXEC), 0);
	child = fork();
	if (child == 0) {
		got = take() >= 0;
		if (write(told[1], &got, 1) == 1 && got)
			pause();
		_exit(1);
	}
	close(told[1]);
	assert_int_equal(read(told[0], &got, 1), 1);
	close(told[0]);
	return got ? child : 0;
}

static void kill_child(pid_t child)
{
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, NULL, 0), child);
}

static void held_by_another(int (*take)(void))
{
	pid_t child = child_with(take);
	char expected[32];
	int fd;

	assert_true(child > 0);
	assert_int_equal(take(), -EBUSY);
	snprintf(expected, sizeof(expected), "process %d", child);
	assert_string_equal(holder, expected);
	kill_child(child);
	fd = take();
	assert_true(fd >= 0);
	assert_int_equal(take(), -EBUSY); /* within one process, too */
	close(fd);
	fd = take();
	assert_true(fd >= 0);
	close(fd);
}

static void test_file(void **state)
{
	struct stat st;

	(void)state;
	held_by_another(lock_path);
	assert_int_equal(stat(path, &st), 0); /* it stays */
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_size, 0);
}

static void test_folder(void **state)
{
	(void)state;
	held_by_another(lock_the_folder);
	assert_int_equal(rmdir(folder), 0);
	assert_int_equal(lock_the_folder(), -ENOENT);
}

/* Who has locked a folder that is gone has not locked the new one of that name. */
static void test_folder_removed(void **state)
{
	int old = lock_the_folder(), fd;

	(void)state;
	assert_true(old >= 0);
	assert_int_equal(rmdir(folder), 0);
	assert_int_equal(mkdir(folder, 0700), 0);
	fd = lock_the_folder();
	assert_true(fd >= 0);
	assert_int_equal(lock_the_folder(), -EBUSY);
	close(old);
	assert_int_equal(lock_the_folder(), -EBUSY);
	close(fd);
}

static bool swaps; /* the folder is replaced by another one just before it is locked */

/* In the place of the C library's. */
int flock(int fd, int operation)
{
	if (swaps) {
		swaps = false;
		assert_int_equal(rmdir(folder), 0);
		assert_int_equal(mkdir(folder, 0700), 0);
	}
	return (int)syscall(SYS_flock, fd, operation);
}

/* Of two who race for the folder while a third one removes it, one gets it. */
static void test_folder_race(void **state)
{
	int fd;

	(void)state;
	swaps = true;
	fd = lock_the_folder();
	assert_true(fd >= 0);
	assert_false(swaps);
	assert_int_equal(lock_the_folder(), -EBUSY);
	close(fd);
}

static void test_no_file(void **state)
{
	(void)state;
	assert_int_equal(lock_file("/nowhere/file", holder, sizeof(holder)), -ENOENT);
	assert_int_equal(lock_file(folder, holder, sizeof(holder)), -EISDIR);
	assert_int_equal(symlink(folder, path), 0);
	assert_int_equal(lock_path(), -ELOOP);
}

/* Each network namespace has its own. */
static void test_namespace(void **state)
{
	int fd, status = -1;
	pid_t child;

	(void)state;
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	fd = lock_namespace();
	assert_true(fd >= 0);
	assert_int_equal(lock_namespace(), -EBUSY);
	child = fork();
	if (child == 0)
		_exit(unshare(CLONE_NEWNET) < 0 || lock_namespace() < 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	close(fd);
	fd = lock_namespace();
	assert_true(fd >= 0);
	close(fd);
}

/* A program that is executed does not have it. */
static void test_exec(void **state)
{
	int fd = lock_path(), at, status;
	int ends[2];
	pid_t child;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(pipe(ends), 0);
	child = fork();
	if (child == 0) {
		dup2(ends[1], STDOUT_FILENO);
		execlp("sh", "sh", "-c", "echo; exec sleep 60", NULL);
		_exit(1);
	}
	assert_int_equal(read(ends[0], &status, 1), 1); /* it runs */
	close(fd);
	at = lock_path();
	assert_true(at >= 0);
	close(at);
	kill_child(child);
	close(ends[0]);
	close(ends[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_file, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_folder, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_folder_removed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_folder_race, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_no_file, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_namespace, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_exec, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
