/* SPDX-License-Identifier: BSD-2-Clause */
/* agent.c - what all parts of an agent use: its log and its clock. */
#include "agent.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

uint64_t agent_now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

uint64_t agent_now_us(void)
{
	return agent_now_ns() / 1000;
}

uint64_t agent_cpu_us(void)
{
	return clock_ns(CLOCK_THREAD_CPUTIME_ID) / 1000;
}

const char *agent_name(const struct record_key *key)
{
	static char name[96];
	char to[INET6_ADDRSTRLEN];

	if (key->kind == RECORD_POLICY)
		return "a policy";
	inet_ntop(key->family, key->addr, to, sizeof(to));
	if (key->proto == RECORD_IPCOMP)
		snprintf(name, sizeof(name), "the IPComp SA with CPI 0x%04x to %s", ntohl(key->spi),
			to);
	else
		snprintf(name, sizeof(name), "the SA with SPI 0x%08x to %s", ntohl(key->spi), to);
	return name;
}

void agent_say(const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	fprintf(stderr, "espalierd: %s\n", text);
}
