/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tool.h - what the test tools share. Each tool is one file; this is their command line, clock and
 * end. Times are nanoseconds of CLOCK_MONOTONIC, so reports of tools on one machine fit together.
 */
#ifndef TOOL_H
#define TOOL_H

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TOOL_NS_PER_S 1000000000ULL
#define TOOL_NS_PER_MS 1000000ULL

/* Set by SIGTERM and SIGINT: end in order, with a report. */
static volatile sig_atomic_t tool_stopped;

static inline void tool_stop(int signal)
{
	(void)signal;
	tool_stopped = 1;
}

/* Without SA_RESTART: a blocking call ends with EINTR. */
static inline void tool_catch_signals(void)
{
	struct sigaction action = {.sa_handler = tool_stop};

	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
}

static inline uint64_t tool_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * TOOL_NS_PER_S + (uint64_t)now.tv_nsec;
}

/* Sleeps until `when`, or until a signal comes. */
static inline void tool_sleep_until(uint64_t when)
{
	struct timespec until = {
		.tv_sec = (time_t)(when / TOOL_NS_PER_S),
		.tv_nsec = (long)(when % TOOL_NS_PER_S),
	};

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

/* One sentence to stderr, then exit status 1; `error` is an errno or 0. */
#define tool_die(error, ...)                                                                       \
	do {                                                                                       \
		int tool_error = (error);                                                          \
		fprintf(stderr, "%s: ", program_invocation_short_name);                            \
		fprintf(stderr, __VA_ARGS__);                                                      \
		fprintf(stderr, "%s%s\n", tool_error ? ": " : "",                                  \
			tool_error ? strerror(tool_error) : "");                                   \
		exit(1);                                                                           \
	} while (0)

/* A decimal or 0x number up to `max`, or the end of the program. */
static inline uint64_t tool_number(const char *option, const char *text, uint64_t max)
{
	char *end;
	unsigned long long number;

	errno = 0;
	number = strtoull(text, &end, 0);
	if (errno || end == text || *end || *text == '-' || number > max)
		tool_die(0, "--%s %s: not a number from 0 to %llu", option, text,
			(unsigned long long)max);
	return number;
}

static inline struct in_addr tool_address(const char *option, const char *text)
{
	struct in_addr address;

	if (inet_pton(AF_INET, text, &address) != 1)
		tool_die(0, "--%s %s: not an IPv4 address", option, text);
	return address;
}

/* For a report: "-" is stdout. */
static inline FILE *tool_open_report(const char *path)
{
	FILE *file = strcmp(path, "-") ? fopen(path, "we") : stdout;

	if (!file)
		tool_die(errno, "the report %s cannot be written", path);
	return file;
}

static inline void tool_close_report(FILE *file, const char *path)
{
	if (fclose(file))
		tool_die(errno, "the report %s cannot be written", path);
}

#endif
