/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * config_file.h - configurations in a folder of the test's own: written, read, and what is said
 * about them.
 */
#ifndef CONFIG_FILE_H
#define CONFIG_FILE_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "config.h"

#define MEMBER "[Member]\nId = 0\nSync = 10.0.0.1\n"

static char folder[] = "/tmp/test_config.XXXXXX";
static char path[64]; /* the configuration under test */
static char err[512];

static inline void write_file(const char *name, mode_t mode, const char *text, size_t size)
{
	FILE *file = fopen(name, "w");

	assert_non_null(file);
	assert_int_equal(fwrite(text, 1, size, file), size);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(chmod(name, mode), 0);
}

/* CORPUS=FOLDER: what is tried here is what the fuzzer begins with. */
static inline void keep(const char *text)
{
	static unsigned int count;
	const char *corpus = getenv("CORPUS");
	char name[256];

	if (!corpus)
		return;
	snprintf(name, sizeof(name), "%s/%s-%03u", corpus, program_invocation_short_name, count++);
	write_file(name, 0644, text, strlen(text));
}

static inline int read_text(const char *text, struct config *ret)
{
	strcpy(err, "");
	keep(text);
	write_file(path, 0644, text, strlen(text));
	return config_read(path, ret, err, sizeof(err));
}

/* Line 0: the sentence is about the file. */
static inline void assert_sentence(unsigned int line, const char *sentence)
{
	char expected[sizeof(err)];

	if (line > 0)
		snprintf(expected, sizeof(expected), "%s:%u: %s", path, line, sentence);
	else
		snprintf(expected, sizeof(expected), "%s: %s", path, sentence);
	assert_string_equal(err, expected);
}

static inline void assert_good(const char *text, struct config *ret)
{
	if (read_text(text, ret) < 0)
		fail_msg("%s", err);
}

static inline int make_folder(void **state)
{
	(void)state;
	if (!mkdtemp(folder)) {
		perror("mkdtemp");
		return -1;
	}
	snprintf(path, sizeof(path), "%s/espalier.conf", folder);
	return 0;
}

static inline int remove_folder(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(folder);
}

#endif
