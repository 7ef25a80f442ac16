/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * past.h - what must not be forgotten of SAs that have no record: the dead for which the table has
 * no room, and what the journal says of SAs that nobody has told of.
 *
 * It is what keeps an SA from coming back, or its numbers from coming twice, and what others must
 * be told for that: no more.
 */
#ifndef PAST_H
#define PAST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct past {
	uint64_t birth;
	uint64_t upto; /* as in struct record: of this member, ... */
	uint64_t top; /* ... of all */
	uint64_t version;
	uint32_t journal; /* ours, as the record named it */
	uint32_t moves;
	uint32_t died_s;
	uint8_t life : 2, origin : 2, direction : 2, esn : 1;
	uint8_t author, creator;
	bool used; /* else an empty place */
};

/* Open addressing, linear probing. */
struct pasts {
	struct past *all;
	uint32_t size, n, most; /* size: a power of two */
};

/* 0; -ENOSPC: there are `most`; -ENOMEM. */
int past_keep(struct pasts *p, const struct past *past);
bool past_has(const struct pasts *p, uint64_t birth);
/* Takes it out; there is room to put it back. False: there is none of this birth. */
bool past_take(struct pasts *p, uint64_t birth, struct past *ret);
void past_free(struct pasts *p);

#endif
