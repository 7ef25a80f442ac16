/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * config_report.h - between the files of config.h: config.c reads the file, config_check.c looks at
 * what it says as a whole, config_system.c at this machine; each says one sentence, as promised.
 */
#ifndef CONFIG_REPORT_H
#define CONFIG_REPORT_H

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

struct config;

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

/* Does it make sense as a whole? 0 or -EINVAL. */
int config_check(const struct config *config, const struct config_report *report);

#endif
