/* SPDX-License-Identifier: BSD-2-Clause */
/* histogram.h - how often something took how long. */
#ifndef HISTOGRAM_H
#define HISTOGRAM_H

#include <stdint.h>

/* Upper bounds, microseconds, rising; above the last one is one more. */
#define HISTOGRAM_BOUNDS(X)                                                                        \
	X(10)                                                                                      \
	X(25)                                                                                      \
	X(50)                                                                                      \
	X(100)                                                                                     \
	X(250)                                                                                     \
	X(500)                                                                                     \
	X(1000)                                                                                    \
	X(2500)                                                                                    \
	X(5000)                                                                                    \
	X(10000)                                                                                   \
	X(25000)                                                                                   \
	X(50000)                                                                                   \
	X(100000)                                                                                  \
	X(250000)                                                                                  \
	X(500000)                                                                                  \
	X(1000000)                                                                                 \
	X(2500000)                                                                                 \
	X(10000000)

static const uint64_t histogram_bounds[] = {
#define X(us) us,
	HISTOGRAM_BOUNDS(X)
#undef X
};

#define HISTOGRAM_COUNT (sizeof(histogram_bounds) / sizeof(histogram_bounds[0]))

struct histogram {
	uint64_t in[HISTOGRAM_COUNT + 1]; /* each time in one alone */
	uint64_t sum_us;
};

static inline void histogram_add(struct histogram *h, uint64_t us)
{
	unsigned int i = 0;

	while (i < HISTOGRAM_COUNT && us > histogram_bounds[i])
		i++;
	h->in[i]++;
	h->sum_us += us;
}

#endif
