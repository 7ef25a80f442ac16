/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * exposition.h - Prometheus' text format, version 0.0.4: families of samples, whose labels are
 * name and value by turns, NULL ends.
 */
#ifndef EXPOSITION_H
#define EXPOSITION_H

#include <stdint.h>
#include <stdio.h>

#include "histogram.h"

#define EXPOSITION_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* type: "counter", "gauge" or "histogram". help: without its line's end. */
void exposition_family(FILE *to, const char *name, const char *type, const char *help);
void exposition_number(FILE *to, const char *name, const char *const *labels, int64_t value);
/* In seconds. */
void exposition_time(FILE *to, const char *name, const char *const *labels, uint64_t us);
/* The family, too. */
void exposition_histogram(
	FILE *to, const char *name, const char *help, const struct histogram *histogram);

#endif
