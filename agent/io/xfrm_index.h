/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * xfrm_index.h - what the kernel finds a policy by, which its key does not say. A hash table.
 *
 * Every place has the generation in which it was put last, so that a dump of the kernel can tell
 * in the end what is there no more, and nothing is missing from here meanwhile.
 */
#ifndef XFRM_INDEX_H
#define XFRM_INDEX_H

#include <stdbool.h>

#include "io/xfrm_body.h"

struct xfrm_place {
	struct record_key key;
	struct xfrm_mark mark;
	struct xfrm_selector selector;
	uint32_t if_id;
	uint32_t generation; /* set by xfrm_index_put() */
	struct xfrm_place *next;
};

struct xfrm_index {
	struct xfrm_place **heads; /* a power of two of them */
	size_t n_heads, n;
	uint32_t generation; /* of what is put now */
};

/* Puts a copy in, or replaces. 0 or -ENOMEM. */
int xfrm_index_put(struct xfrm_index *index, const struct xfrm_place *place);
const struct xfrm_place *xfrm_index_find(
	const struct xfrm_index *index, const struct record_key *key);
bool xfrm_index_drop(struct xfrm_index *index, const struct record_key *key); /* was it there? */
/*
 * Drops what is of another generation from the next `n` heads, beginning with *at, which it moves
 * on. Returns whether more are left.
 */
bool xfrm_index_sweep(struct xfrm_index *index, size_t *at, size_t n);
void xfrm_index_clear(struct xfrm_index *index);

#endif
