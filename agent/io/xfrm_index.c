/* SPDX-License-Identifier: BSD-2-Clause */
#include "io/xfrm_index.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"

/* The link that leads to the key's place, or the last one of its chain. */
static struct xfrm_place **find_link(const struct xfrm_index *index, const struct record_key *key)
{
	struct xfrm_place **link =
		&index->heads[hash_bytes(0, key, sizeof(*key)) & (index->n_heads - 1)];

	while (*link && memcmp(&(*link)->key, key, sizeof(*key)) != 0)
		link = &(*link)->next;
	return link;
}

static int grow(struct xfrm_index *index)
{
	struct xfrm_index bigger = {
		.n_heads = index->n_heads ? 2 * index->n_heads : 64,
		.n = index->n,
		.generation = index->generation,
	};

	bigger.heads = calloc(bigger.n_heads, sizeof(*bigger.heads));
	if (!bigger.heads)
		return -ENOMEM;
	for (size_t i = 0; i < index->n_heads; i++) {
		struct xfrm_place *p, *next;

		for (p = index->heads[i]; p; p = next) {
			struct xfrm_place **link = find_link(&bigger, &p->key);

			next = p->next;
			p->next = NULL;
			*link = p;
		}
	}
	free(index->heads);
	*index = bigger;
	return 0;
}

int xfrm_index_put(struct xfrm_index *index, const struct xfrm_place *place)
{
	struct xfrm_place **link, *p, *next;

	if (index->n == index->n_heads && grow(index) < 0)
		return -ENOMEM;
	link = find_link(index, &place->key);
	p = *link;
	if (!p) {
		p = calloc(1, sizeof(*p));
		if (!p)
			return -ENOMEM;
		*link = p;
		index->n++;
	}
	next = p->next;
	*p = *place;
	p->next = next;
	p->generation = index->generation;
	return 0;
}

const struct xfrm_place *xfrm_index_find(
	const struct xfrm_index *index, const struct record_key *key)
{
	return index->n ? *find_link(index, key) : NULL;
}

static void unlink_place(struct xfrm_index *index, struct xfrm_place **link)
{
	struct xfrm_place *p = *link;

	*link = p->next;
	free(p);
	index->n--;
}

bool xfrm_index_drop(struct xfrm_index *index, const struct record_key *key)
{
	struct xfrm_place **link;

	if (index->n == 0)
		return false;
	link = find_link(index, key);
	if (!*link)
		return false;
	unlink_place(index, link);
	return true;
}

/* While an index grows, entries of chain i stay, or move to a chain behind all old ones: none is
 * passed by. */
bool xfrm_index_sweep(struct xfrm_index *index, size_t *at, size_t n)
{
	for (; n > 0 && *at < index->n_heads; n--, (*at)++) {
		struct xfrm_place **link = &index->heads[*at];

		while (*link)
			if ((*link)->generation != index->generation)
				unlink_place(index, link);
			else
				link = &(*link)->next;
	}
	return *at < index->n_heads;
}

void xfrm_index_clear(struct xfrm_index *index)
{
	for (size_t i = 0; i < index->n_heads; i++) {
		struct xfrm_place *p, *next;

		for (p = index->heads[i]; p; p = next) {
			next = p->next;
			free(p);
		}
	}
	free(index->heads);
	*index = (struct xfrm_index){0};
}
