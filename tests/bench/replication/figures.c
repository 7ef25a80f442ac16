/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replication.h"

#define FIGURES 48

static struct {
	const char *name;
	double value;
} figures[FIGURES];
static unsigned int count;
static bool json;

void figures_begin(bool as_json)
{
	json = as_json;
}

/* Four digits that count. */
static int decimals(double value)
{
	return value < 10 ? 3 : value < 100 ? 2 : value < 1000 ? 1 : 0;
}

void figure(const char *name, const char *unit, double value, const char *format, ...)
{
	va_list ap;

	if (count == FIGURES)
		die("too many figures");
	figures[count].name = name;
	figures[count].value = value;
	count++;
	if (json)
		return;
	printf("%-27s %12.*f %-6s ", name, decimals(value), value, unit);
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
}

void figures_end(void)
{
	for (unsigned int i = 0; json && i < count; i++)
		printf("%s\"%s\": %.*f", i ? ", " : "{", figures[i].name,
			decimals(figures[i].value), figures[i].value);
	if (json)
		printf("}\n");
	if (fflush(stdout) != 0 || ferror(stdout))
		die("cannot write the figures");
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

double median(double *values, unsigned int n)
{
	qsort(values, n, sizeof(*values), compare);
	return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static uint64_t status_bytes(const char *status, const char *name)
{
	const char *at = strstr(status, name);

	return at ? strtoull(at + strlen(name), NULL, 10) * 1024 : 0;
}

void memory(uint64_t *ret_rss, uint64_t *ret_peak)
{
	char status[4096];
	FILE *f = fopen("/proc/self/status", "re");
	size_t n = f ? fread(status, 1, sizeof(status) - 1, f) : 0;

	if (f)
		fclose(f);
	status[n] = '\0';
	*ret_rss = status_bytes(status, "VmRSS:");
	*ret_peak = status_bytes(status, "VmHWM:");
}

static void print(const char *format, va_list ap)
{
	fprintf(stderr, "replication: ");
	vfprintf(stderr, format, ap);
	fprintf(stderr, "\n");
}

void say(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	print(format, ap);
	va_end(ap);
}

void die(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	print(format, ap);
	va_end(ap);
	exit(EXIT_FAILURE);
}
