/* SPDX-License-Identifier: BSD-2-Clause */
/* test_journal.c - the journal remembers what it said is durable, through whatever happens to its
 * file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/journal.h"

#define RECORD 56 /* bytes of the file: the header, and each entry */
#define SAS 8192

/* A folder, the journal in it, and what was read from it. */
struct fixture {
	char folder[64], path[128];
	struct journal_config config;
	struct journal *j;
	char err[256];
	uint64_t block[SAS]; /* of SA i, + 1; 0: not stored */
	unsigned int stored;
};

static struct record_key key_of(uint32_t i)
{
	return (struct record_key){.kind = RECORD_SA,
		.proto = 50,
		.family = AF_INET,
		.spi = htonl(i),
		.addr = {192, 0, 2, 1}};
}

static uint64_t birth_of(uint32_t i)
{
	return 0x1234567800000000U + i;
}

static void on_stored(void *ctx, const struct record_key *key, uint64_t birth, uint64_t block)
{
	struct fixture *f = ctx;
	uint32_t i = ntohl(key->spi);
	struct record_key expected = key_of(i);

	assert_in_range(i, 0, SAS - 1);
	assert_memory_equal(key, &expected, sizeof(expected));
	assert_int_equal(birth, birth_of(i));
	assert_int_equal(f->block[i], 0);
	f->block[i] = block + 1;
	f->stored++;
}

static int only_open(struct fixture *f)
{
	memset(f->block, 0, sizeof(f->block));
	f->stored = 0;
	f->err[0] = 0;
	return journal_open(&f->config, on_stored, f, &f->j, f->err, sizeof(f->err));
}

static int try_open(struct fixture *f)
{
	int r = only_open(f);

	return r < 0 ? r : journal_begin(f->j, f->err, sizeof(f->err));
}

static void reopen(struct fixture *f)
{
	journal_close(f->j);
	f->j = NULL;
	assert_int_equal(try_open(f), 0);
}

static void add(struct fixture *f, uint32_t i, uint64_t block)
{
	struct record_key key = key_of(i);

	journal_add(f->j, &key, birth_of(i), block);
}

/* Until so many are durable, or the journal has ended. */
static int wait_durable(struct fixture *f, uint64_t n)
{
	struct pollfd p = {.fd = journal_fd(f->j), .events = POLLIN};
	uint64_t durable = 0;
	int r = 0;

	while (r == 0 && durable < n) {
		assert_int_equal(poll(&p, 1, 20000), 1);
		r = journal_process(f->j, &durable);
		assert_true(durable <= n);
	}
	return r;
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	strcpy(f->folder, "/dev/shm/test_journal.XXXXXX");
	assert_non_null(mkdtemp(f->folder));
	snprintf(f->path, sizeof(f->path), "%s/journal", f->folder);
	f->config =
		(struct journal_config){.path = f->path, .self = 2, .block_bits = 16, .modulus = 4};
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	static const char *const suffixes[] = {"", ".old", ".new", ".lock"};
	struct fixture *f = *state;
	char path[160];

	journal_close(f->j);
	for (size_t i = 0; i < sizeof(suffixes) / sizeof(*suffixes); i++) {
		snprintf(path, sizeof(path), "%s%s", f->path, suffixes[i]);
		unlink(path);
	}
	rmdir(f->folder);
	free(f);
	return 0;
}

static off_t file_size(const struct fixture *f)
{
	struct stat st;

	assert_int_equal(stat(f->path, &st), 0);
	return st.st_size;
}

static void copy_file(const struct fixture *f, char *buf, size_t size)
{
	int fd = open(f->path, O_RDONLY);

	assert_int_equal(read(fd, buf, size), size);
	close(fd);
}

static void put_file(const struct fixture *f, const char *buf, size_t size)
{
	int fd = open(f->path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_int_equal(write(fd, buf, size), size);
	close(fd);
}

/* A journal with three entries, closed; its file. */
static uint32_t make_three(struct fixture *f, char file[4 * RECORD])
{
	uint32_t id;

	assert_int_equal(try_open(f), 0);
	id = journal_id(f->j);
	add(f, 10, 2);
	add(f, 11, 6);
	add(f, 12, 10);
	journal_commit(f->j);
	assert_int_equal(wait_durable(f, 3), 0);
	journal_close(f->j);
	f->j = NULL;
	assert_int_equal(file_size(f), 4 * RECORD);
	copy_file(f, file, 4 * RECORD);
	return id;
}

static void test_remembers(void **state)
{
	struct fixture *f = *state;
	struct stat st;
	uint32_t id;

	assert_int_equal(try_open(f), 0);
	assert_non_null(strstr(journal_is_new(f->j), "there was none"));
	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	id = journal_id(f->j);
	assert_int_not_equal(id, 0);
	add(f, 1, 2);
	add(f, 1, 6);
	journal_commit(f->j);
	add(f, 2, 14);
	journal_commit(f->j);
	journal_commit(f->j);
	assert_int_equal(wait_durable(f, 3), 0);
	assert_null(journal_error(f->j));

	reopen(f);
	assert_null(journal_is_new(f->j));
	assert_int_equal(journal_id(f->j), id);
	assert_int_equal(f->stored, 2);
	assert_int_equal(f->block[1], 6 + 1);
	assert_int_equal(f->block[2], 14 + 1);

	/* What was added and not committed is not there; what was committed is, without waiting. */
	add(f, 3, 2);
	journal_commit(f->j);
	add(f, 4, 2);
	reopen(f);
	assert_int_equal(f->stored, 3);
	assert_int_equal(f->block[3], 2 + 1);
}

static void test_another_birth_is_another_sa(void **state)
{
	struct record_key key = key_of(5);
	struct fixture *f = *state;

	assert_int_equal(try_open(f), 0);
	journal_add(f->j, &key, birth_of(5), 2);
	journal_add(f->j, &key, birth_of(5) + 1, 100);
	journal_forget(f->j, birth_of(5) + 1);
	journal_commit(f->j);
	assert_int_equal(wait_durable(f, 2), 0);
	journal_close(f->j);
	f->j = NULL;
	/* The forgotten one is still in the file; it is not looked for here. */
	assert_int_equal(file_size(f), 3 * RECORD);
}

static void test_torn_at_every_byte(void **state)
{
	struct fixture *f = *state;
	char file[4 * RECORD];
	uint32_t id = make_three(f, file);

	for (size_t size = RECORD; size <= sizeof(file); size++) {
		unsigned int whole = (unsigned int)(size / RECORD) - 1;

		put_file(f, file, size);
		assert_int_equal(try_open(f), 0);
		assert_null(journal_is_new(f->j));
		assert_int_equal(journal_id(f->j), id);
		assert_int_equal(f->stored, whole);
		assert_int_equal(file_size(f), (whole + 1) * RECORD);
		/* And it goes on from there. */
		add(f, 20, 18);
		reopen(f);
		assert_int_equal(f->stored, whole);
		add(f, 20, 18);
		journal_commit(f->j);
		reopen(f);
		assert_int_equal(f->stored, whole + 1);
		assert_int_equal(f->block[20], 18 + 1);
		journal_close(f->j);
		f->j = NULL;
	}
}

static void test_damage_at_every_byte(void **state)
{
	struct fixture *f = *state;
	char file[4 * RECORD], damaged[4 * RECORD];
	uint32_t id = make_three(f, file);

	for (size_t at = 0; at < sizeof(file); at++) {
		bool in_last = at >= 3 * RECORD;

		memcpy(damaged, file, sizeof(file));
		damaged[at] ^= 0x40;
		put_file(f, damaged, sizeof(damaged));
		assert_int_equal(try_open(f), 0);
		if (in_last) {
			assert_null(journal_is_new(f->j));
			assert_int_equal(journal_id(f->j), id);
			assert_int_equal(f->stored, 2);
		} else {
			assert_non_null(strstr(journal_is_new(f->j), "damaged"));
			assert_int_not_equal(journal_id(f->j), id);
			assert_int_equal(f->stored, 0);
		}
		journal_close(f->j);
		f->j = NULL;
	}
}

static void test_cut_in_the_header(void **state)
{
	struct fixture *f = *state;
	char file[4 * RECORD];
	uint32_t id = make_three(f, file);

	for (size_t size = 0; size < RECORD; size++) {
		put_file(f, file, size);
		assert_int_equal(try_open(f), 0);
		assert_non_null(journal_is_new(f->j));
		assert_int_not_equal(journal_id(f->j), id);
		assert_int_equal(f->stored, 0);
		journal_close(f->j);
		f->j = NULL;
	}
}

static void test_entries_of_another_journal(void **state)
{
	struct fixture *f = *state;
	char one[4 * RECORD], other[4 * RECORD];

	make_three(f, one);
	unlink(f->path);
	make_three(f, other);
	/* As if the disk gave back what once was in the same place. */
	memcpy(other + 2 * RECORD, one + 2 * RECORD, 2 * RECORD);
	put_file(f, other, sizeof(other));
	assert_int_equal(try_open(f), 0);
	assert_null(journal_is_new(f->j));
	assert_int_equal(f->stored, 1);
}

static void test_other_settings(void **state)
{
	static const struct journal_config others[] = {
		{.self = 1, .block_bits = 16, .modulus = 4},
		{.self = 2, .block_bits = 17, .modulus = 4},
		{.self = 2, .block_bits = 16, .modulus = 8},
	};
	struct fixture *f = *state;
	const struct journal_config good = f->config;
	char file[4 * RECORD], found[4 * RECORD];
	uint32_t id = make_three(f, file);

	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++) {
		f->config = others[i];
		f->config.path = f->path;
		assert_int_equal(try_open(f), -ESTALE);
		assert_non_null(
			strstr(f->err, "of member 2 with blocks of 2^16 numbers and modulus 4"));
		assert_int_equal(f->stored, 0);
		copy_file(f, found, sizeof(found));
		assert_memory_equal(found, file, sizeof(file));
	}
	f->config = good;
	assert_int_equal(try_open(f), 0);
	assert_int_equal(journal_id(f->j), id);
	assert_null(journal_is_new(f->j));
}

static bool has(const struct fixture *f, const char *suffix)
{
	char path[160];

	snprintf(path, sizeof(path), "%s%s", f->path, suffix);
	return access(path, F_OK) == 0;
}

/* A start that goes no further leaves the folder as it was, but for the lock. */
static void test_opened_only(void **state)
{
	struct fixture *f = *state;
	char file[4 * RECORD], found[4 * RECORD - 1];

	assert_int_equal(only_open(f), 0);
	assert_non_null(journal_is_new(f->j));
	journal_close(f->j);
	f->j = NULL;
	assert_false(has(f, "") || has(f, ".new") || has(f, ".old"));

	(void)make_three(f, file); /* the last one torn */
	put_file(f, file, sizeof(found));
	assert_int_equal(only_open(f), 0);
	assert_null(journal_is_new(f->j));
	assert_int_equal(f->stored, 2);
	journal_close(f->j);
	copy_file(f, found, sizeof(found));
	assert_memory_equal(found, file, sizeof(found));

	file[0] = '?';
	put_file(f, file, sizeof(found));
	assert_int_equal(only_open(f), 0);
	assert_non_null(strstr(journal_is_new(f->j), "damaged"));
	journal_close(f->j);
	f->j = NULL;
	assert_int_equal(file_size(f), sizeof(found));
	assert_false(has(f, ".new") || has(f, ".old"));
	reopen(f);
	assert_true(has(f, ".old"));
}

/* Many rounds of entries, so that the file is rewritten while entries are added to it. */
static void test_compaction(void **state)
{
	struct fixture *f = *state;
	const unsigned int rounds = 40;
	off_t size;
	uint32_t id;

	assert_int_equal(try_open(f), 0);
	id = journal_id(f->j);
	for (uint64_t round = 0; round < rounds; round++) {
		for (uint32_t i = 0; i < SAS; i++)
			add(f, i, 4 * round + 2);
		journal_commit(f->j);
		if (round % 4 == 0)
			assert_int_equal(wait_durable(f, (round + 1) * SAS), 0);
	}
	assert_int_equal(wait_durable(f, (uint64_t)rounds * SAS), 0);
	for (uint32_t i = 0; i < SAS; i += 2)
		journal_forget(f->j, birth_of(i));
	add(f, 0, 1002); /* after it was forgotten: counts */
	journal_commit(f->j);
	assert_int_equal(wait_durable(f, (uint64_t)rounds * SAS + 1), 0);
	for (int i = 0; i < 1000 && file_size(f) > (off_t)(SAS * RECORD); i++)
		usleep(10000);
	size = file_size(f);
	assert_in_range(size, (SAS / 2 + 1) * RECORD, SAS * RECORD);

	/* The rewritten file is the one that is written to now. */
	add(f, 1, 2002);
	journal_commit(f->j);
	assert_int_equal(wait_durable(f, (uint64_t)rounds * SAS + 2), 0);
	reopen(f);
	assert_null(journal_is_new(f->j));
	assert_int_equal(journal_id(f->j), id);
	assert_int_equal(f->block[0], 1002 + 1);
	assert_int_equal(f->block[1], 2002 + 1);
	for (uint32_t i = 3; i < SAS; i += 2)
		assert_int_equal(f->block[i], 4 * (rounds - 1) + 2 + 1);
}

static void test_one_at_a_time(void **state)
{
	struct fixture *f = *state;
	struct fixture other = {.config = f->config};
	char self[64];

	assert_int_equal(try_open(f), 0);
	assert_int_equal(try_open(&other), -EBUSY);
	snprintf(self, sizeof(self), "in use by process %d", getpid());
	assert_non_null(strstr(other.err, self));
	assert_non_null(strstr(other.err, f->path));
	reopen(f);
}

static void test_write_error(void **state)
{
	struct fixture *f = *state;
	struct rlimit before, tight;
	uint64_t durable;

	assert_int_equal(try_open(f), 0);
	add(f, 1, 2);
	journal_commit(f->j);
	assert_int_equal(wait_durable(f, 1), 0);

	/* The third entry fits half. */
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	tight = before;
	tight.rlim_cur = 3 * RECORD + RECORD / 2;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
	add(f, 2, 2);
	add(f, 3, 2);
	journal_commit(f->j);
	assert_int_equal(wait_durable(f, 3), -EIO);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_non_null(strstr(journal_error(f->j), "File too large"));
	assert_non_null(strstr(journal_error(f->j), f->path));

	/* There is room again, but what came before is not sure: nothing else is ever durable. */
	add(f, 4, 2);
	journal_commit(f->j);
	usleep(100000);
	assert_int_equal(journal_process(f->j, &durable), -EIO);
	assert_int_equal(durable, 1);

	reopen(f);
	assert_null(journal_is_new(f->j));
	assert_int_equal(f->block[1], 2 + 1);
	assert_int_equal(f->block[4], 0);
}

static void test_no_folder_no_file(void **state)
{
	struct fixture *f = *state;
	struct fixture other = *f;

	other.config.path = "/nowhere/journal";
	assert_int_equal(try_open(&other), -ENOENT);
	assert_string_equal(other.err,
		"The journal /nowhere/journal cannot be used: No such file or directory");

	/* Not something to be renamed. */
	assert_int_equal(mkfifo(f->path, 0600), 0);
	assert_int_equal(try_open(f), -EINVAL);
	assert_int_equal(access(f->path, F_OK), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_remembers),
		TEST(test_another_birth_is_another_sa),
		TEST(test_torn_at_every_byte),
		TEST(test_damage_at_every_byte),
		TEST(test_cut_in_the_header),
		TEST(test_entries_of_another_journal),
		TEST(test_other_settings),
		TEST(test_opened_only),
		TEST(test_compaction),
		TEST(test_one_at_a_time),
		TEST(test_write_error),
		TEST(test_no_folder_no_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
