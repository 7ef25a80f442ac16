/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * work.c - what waits to be done in our kernel, in order, a bounded part of it at a time: nothing
 * that other members send, however much it is, keeps us from hearing that one of them has died.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/member_state.h"

#define WORK_BATCH 64 /* done in one call */

static struct work *work_at(const struct member *m, uint32_t index)
{
	return &m->work[(m->work_head + index) & (m->work_size - 1)];
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

static void work_free(struct work *w)
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

bool work_busy(const struct member *m)
{
	return m->work_count >= WORK_MAX;
}

/* The record that it is to be done for, if that still wants it. */
static struct record *work_record(const struct member *m, const struct work *w)
{
	struct record *r = table_at(&m->table, w->slot);

	return r && r->known && r->alive && r->work == w->id ? r : NULL;
}

/* What needs to wait no longer for the journal is told to the others before it is used. */
static void release(struct member *m)
{
	bool told = false;

	for (unsigned int n = 0; n < WORK_MAX && m->work_released < m->work_count;
		n++, m->work_released++) {
		const struct work *w = work_at(m, m->work_released);
		struct record *r = work_record(m, w);

		if (w->ticket > m->committed)
			break;
		if (!r || !w->enters)
			continue;
		sequence_announce(m, r, w->block);
		told = true;
	}
	if (told)
		member_flush(m, m->now_us);
}

void member_committed(struct member *m, uint64_t done)
{
	m->committed = done;
	release(m);
}

/* What has been taken from the ring, to be done together. */
struct batch {
	struct work work[WORK_BATCH];
	struct record *records[WORK_BATCH]; /* NULL: does not want it any more */
	unsigned int n;
};

static void take(struct member *m, struct batch *b)
{
	for (b->n = 0; b->n < WORK_BATCH && m->work_released; b->n++) {
		struct work *w = &b->work[b->n];

		*w = *work_at(m, 0);
		m->work_head = (m->work_head + 1) & (m->work_size - 1);
		m->work_count--;
		m->work_released--;
		b->records[b->n] = work_record(m, w);
		if (b->records[b->n])
			b->records[b->n]->work = 0;
	}
}

static void installed(struct member *m, struct record *r, const struct work *w, int result)
{
	r->installed = result == 0;
	table_changed(&m->table, r);
	if (result < 0) {
		m->counters.install_failed++;
		return;
	}
	miss_installed(m, &r->key);
	if (r->key.kind == RECORD_SA)
		sequence_installed(m, r, w);
}

/* The guard knows an SA before the kernel has it, and lets nothing of it out yet. */
static void install(struct member *m, struct batch *b)
{
	struct record_install list[WORK_BATCH];
	unsigned int n = 0;

	for (unsigned int i = 0; i < b->n; i++) {
		const struct work *w = &b->work[i];
		struct record *r = b->records[i];

		if (!r || !w->installs)
			continue;
		if (r->key.kind == RECORD_SA)
			sequence_guard(m, r);
		list[n++] = (struct record_install){
			.key = &r->key,
			.facts = &r->facts,
			.body = w->body ? w->body : r->body,
			.body_len = w->body ? w->body_len : r->body_len,
			.oseq = block_first(&m->rule, w->block),
		};
	}
	if (n)
		m->ops->install(m->ctx, list, n);
	n = 0;
	for (unsigned int i = 0; i < b->n; i++)
		if (b->records[i] && b->work[i].installs)
			installed(m, b->records[i], &b->work[i], list[n++].result);
}

bool member_work(struct member *m, uint64_t now_us)
{
	struct batch b;

	m->now_us = now_us;
	release(m);
	take(m, &b);
	install(m, &b);
	for (unsigned int i = 0; i < b.n; i++) {
		if (b.records[i] && !b.work[i].installs)
			sequence_move(m, b.records[i], b.work[i].block);
		work_free(&b.work[i]);
	}
	replica_worked(m);
	release(m);
	return m->work_released > 0;
}
