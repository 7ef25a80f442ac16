/* SPDX-License-Identifier: BSD-2-Clause */
#include "exposition.h"

#include <inttypes.h>
#include <stdbool.h>

/* quote: of a label's value, so that its quotes are escaped, too. */
static void put_escaped(FILE *to, const char *text, bool quote)
{
	for (; *text; text++) {
		if (*text == '\n')
			fputs("\\n", to);
		else if (*text == '\\' || (quote && *text == '"'))
			fprintf(to, "\\%c", *text);
		else
			fputc(*text, to);
	}
}

void exposition_family(FILE *to, const char *name, const char *type, const char *help)
{
	fprintf(to, "# HELP %s ", name);
	put_escaped(to, help, false);
	fprintf(to, "\n# TYPE %s %s\n", name, type);
}

static void put_name(FILE *to, const char *name, const char *const *labels)
{
	const char *before = "{";

	fputs(name, to);
	for (; labels && labels[0]; labels += 2) {
		fprintf(to, "%s%s=\"", before, labels[0]);
		put_escaped(to, labels[1], true);
		fputc('"', to);
		before = ",";
	}
	fputs(*before == ',' ? "} " : " ", to);
}

void exposition_number(FILE *to, const char *name, const char *const *labels, int64_t value)
{
	put_name(to, name, labels);
	fprintf(to, "%" PRId64 "\n", value);
}

void exposition_time(FILE *to, const char *name, const char *const *labels, uint64_t us)
{
	put_name(to, name, labels);
	fprintf(to, "%" PRIu64 ".%06" PRIu64 "\n", us / 1000000, us % 1000000);
}

void exposition_histogram(
	FILE *to, const char *name, const char *help, const struct histogram *histogram)
{
	uint64_t count = 0;

	exposition_family(to, name, "histogram", help);
	for (unsigned int i = 0; i < HISTOGRAM_COUNT; i++) {
		count += histogram->in[i];
		fprintf(to, "%s_bucket{le=\"%g\"} %" PRIu64 "\n", name,
			(double)histogram_bounds[i] / 1e6, count);
	}
	count += histogram->in[HISTOGRAM_COUNT];
	fprintf(to, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, count);
	fprintf(to, "%s_sum %" PRIu64 ".%06" PRIu64 "\n", name, histogram->sum_us / 1000000,
		histogram->sum_us % 1000000);
	fprintf(to, "%s_count %" PRIu64 "\n", name, count);
}
