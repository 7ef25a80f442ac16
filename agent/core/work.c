/* SPDX-License-Identifier: BSD-2-Clause */
/* work.c - what waits to be done in our kernel, in order. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/state.h"

struct work *work_at(const struct member *m, uint32_t index)
{
	return &m->work[(m->work_head + index) & (m->work_size - 1)];
}

/* Their ids follow one another. */
struct work *work_of(const struct member *m, const struct record *r)
{
	return work_at(m, (uint32_t)(r->work - work_at(m, 0)->id));
}

static int work_grow(struct member *m)
{
	uint32_t size = m->work_size ? 2 * m->work_size : 64;
	struct work *ring;

	if (m->work_count < m->work_size)
		return 0;
	ring = calloc(size, sizeof(*ring));
	if (!ring)
		return -ENOMEM;
	for (uint32_t i = 0; i < m->work_count; i++)
		ring[i] = *work_at(m, i);
	free(m->work);
	m->work = ring;
	m->work_size = size;
	m->work_head = 0;
	return 0;
}

struct work *work_add(
	struct member *m, struct record *r, uint64_t block, const void *body, size_t body_len)
{
	struct work w = {.slot = r->slot, .block = block, .body_len = body_len};
	struct work *added;

	if (r->work || work_grow(m) < 0)
		return NULL;
	if (body) {
		w.body = malloc(body_len);
		if (!w.body)
			return NULL;
		memcpy(w.body, body, body_len);
	}
	w.id = r->work = ++m->work_ids;
	added = work_at(m, m->work_count++);
	*added = w;
	return added;
}

void work_free(struct work *w)
{
	if (w->body)
		explicit_bzero(w->body, w->body_len);
	free(w->body);
}

void work_free_all(struct member *m)
{
	for (uint32_t i = 0; i < m->work_count; i++)
		work_free(work_at(m, i));
	free(m->work);
}

bool work_take(struct member *m, struct work *ret)
{
	if (!m->work_released)
		return false;
	*ret = *work_at(m, 0);
	m->work_head = (m->work_head + 1) & (m->work_size - 1);
	m->work_count--;
	m->work_released--;
	return true;
}

bool work_busy(const struct member *m)
{
	return m->work_count >= WORK_MAX;
}
