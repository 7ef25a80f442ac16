/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pack.h - runs of zeros, which most of an SA or a policy as netlink has it are made of, take one
 * byte.
 *
 * A control byte c, then: c < 0x80: c + 1 bytes as they are; else c - 0x7f zeros.
 */
#ifndef PACK_H
#define PACK_H

#include "core/bytes.h"

#define PACK_LITERALS 128 /* the longest run, of either sort */
#define PACK_MAX(len) ((len) + (len) / PACK_LITERALS + 1) /* bytes, at worst */

/* Sets w->failed if it does not fit. */
void pack(struct writer *w, const uint8_t *bytes, size_t len);

/* All that is left in `r`. Returns the length; r->failed: malformed, or longer than `size`. */
size_t unpack(struct reader *r, uint8_t *ret, size_t size);

#endif
