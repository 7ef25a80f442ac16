/* SPDX-License-Identifier: BSD-2-Clause */
/* config_report.h - one sentence about the configuration, as config.h promises it. */
#ifndef CONFIG_REPORT_H
#define CONFIG_REPORT_H

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

struct config_report {
	const char *path;
	char *err;
	size_t err_size;
};

/* Line 0: about the file as a whole. */
static inline void config_vreport(
	const struct config_report *report, unsigned int line, const char *format, va_list args)
{
	char sentence[512];

	/* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): it is the caller's, and begun */
	vsnprintf(sentence, sizeof(sentence), format, args);
	if (line > 0)
		snprintf(report->err, report->err_size, "%s:%u: %s", report->path, line, sentence);
	else
		snprintf(report->err, report->err_size, "%s: %s", report->path, sentence);
}

#endif
