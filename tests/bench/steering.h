/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* steering.h - what the benchmark tells its own BPF programs. */
#ifndef STEERING_H
#define STEERING_H

#include <linux/types.h>

#define SPI_FIRST 256 /* those below are reserved (RFC 4303 2.1) */

/* What the wrapper does to the packet before each run; constant once loaded. */
struct wrapper {
	__u8 ethernet[14]; /* the header to put back, wherever the packet begins */
	__u16 room; /* bytes of encapsulation to take away from the front first, or 0 */
	__u32 spi_at; /* where the SPI is, from the packet's beginning on */
	__u32 spis; /* how many SPIs there are to draw from; 0: leave the SPI as it is */
};

#endif
