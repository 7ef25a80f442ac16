/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz.h - what all fuzz targets share. A target is LLVMFuzzerTestOneInput(), which takes any
 * bytes, and fuzz_seeds(), which makes the inputs to begin with, by the encoders and builders that
 * the unit tests use.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* What must hold whatever the input is. Unlike assert(), never left out. */
#define REQUIRE(condition)                                                                         \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__,          \
				#condition);                                                       \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Of the target: calls fuzz_seed() for each. */
void fuzz_seeds(void);
void fuzz_seed(const void *data, size_t size);

#endif
