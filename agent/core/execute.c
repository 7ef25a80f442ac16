/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * execute.c - does what waits to be done in our kernel, a bounded part of it at a time: nothing
 * that other members send, however much it is, keeps us from hearing that one of them has died.
 */
#include <errno.h>

#include "core/state.h"

#define WORK_BATCH 64 /* done in one call */

/* The record that it is to be done for, if that still wants it. */
static struct record *record_of(const struct member *m, const struct work *w)
{
	struct record *r = table_at(&m->table, w->slot);

	return r && r->life == RECORD_ALIVE && r->work == w->id ? r : NULL;
}

/* What needs to wait no longer for the journal is told to the others before it is used. */
static void release(struct member *m)
{
	bool told = false;

	for (unsigned int n = 0; n < WORK_MAX && m->work_released < m->work_count;
		n++, m->work_released++) {
		const struct work *w = work_at(m, m->work_released);
		struct record *r = record_of(m, w);

		if (w->ticket > m->committed)
			break;
		if (!r || !w->enters)
			continue;
		sequence_announce(m, r, w->block);
		told = true;
	}
	if (told)
		replica_flush(m);
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
	for (b->n = 0; b->n < WORK_BATCH && work_take(m, &b->work[b->n]); b->n++) {
		b->records[b->n] = record_of(m, &b->work[b->n]);
		if (b->records[b->n])
			b->records[b->n]->work = 0;
	}
}

static void installed(struct member *m, struct record *r, const struct work *w, int result)
{
	/* An SA that was to take the place of another form of it: is that one still there? */
	bool is_there = result == 0 || (r->key.kind == RECORD_SA && record_is_installed(r) &&
					       kernel_has(m, &r->key));

	r->presence = is_there ? RECORD_INSTALLED : RECORD_REFUSED;
	r->form_done = result == 0 ? w->form : 0;
	table_changed(&m->table, r);
	if (result < 0) {
		sequence_refused(m, r, w, result);
		return;
	}
	miss_installed(m, &r->key);
	if (r->key.kind == RECORD_SA)
		sequence_installed(m, r, w);
}

/* What cannot be changed in a living SA is changed by installing it anew: outbound, in a block of
 * its own. */
static void updated(struct member *m, struct record *r, const struct work *w, int result)
{
	if (result == -EXDEV || result == -ENOENT) {
		sequence_install(m, r, w->body, w->body_len);
	} else if (result < 0) {
		sequence_refused(m, r, w, result);
	} else {
		r->form_done = w->form;
		r->refusals = 0;
		sequence_guard(m, r);
		table_changed(&m->table, r);
		inbound_look(m, r);
	}
}

static bool is_for_kernel(const struct work *w)
{
	return w->installs || w->updates;
}

/* The guard knows an outbound SA before the kernel has it, and lets nothing of it out yet. */
static void install(struct member *m, struct batch *b)
{
	struct record_install list[WORK_BATCH];
	unsigned int n = 0;

	for (unsigned int i = 0; i < b->n; i++) {
		const struct work *w = &b->work[i];
		struct record *r = b->records[i];

		if (!r || !is_for_kernel(w))
			continue;
		if (w->installs && record_is_outbound_sa(r))
			sequence_guard(m, r);
		list[n++] = (struct record_install){
			.key = &r->key,
			.facts = &r->facts,
			.body = w->body ? w->body : r->body,
			.body_len = w->body ? w->body_len : r->body_len,
			.oseq = block_first(&m->rule, w->block),
			.seq = record_is_windowed(r) ? r->seq : 0,
			.used = r->used,
			.update = w->updates,
		};
	}
	if (n)
		m->ops->install(m->ctx, list, n);
	n = 0;
	for (unsigned int i = 0; i < b->n; i++) {
		if (b->records[i] && b->work[i].installs)
			installed(m, b->records[i], &b->work[i], list[n++].result);
		else if (b->records[i] && b->work[i].updates)
			updated(m, b->records[i], &b->work[i], list[n++].result);
	}
}

/* Its counter there, or where it is to be. */
static void count(struct member *m, struct record *r, const struct work *w)
{
	if (w->raises)
		inbound_raise(m, r);
	else
		sequence_move(m, r, w);
}

bool member_work(struct member *m, uint64_t now_us)
{
	struct batch b;

	m->now_us = now_us;
	release(m);
	take(m, &b);
	install(m, &b);
	for (unsigned int i = 0; i < b.n; i++) {
		if (b.records[i] && !is_for_kernel(&b.work[i]))
			count(m, b.records[i], &b.work[i]);
		work_free(&b.work[i]);
	}
	if (b.n)
		replica_worked(m);
	release(m);
	return m->work_released > 0;
}
