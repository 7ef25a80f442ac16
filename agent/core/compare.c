/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * compare.c - finds what differs between our records and another member's, and has it sent.
 *
 * The one that wants to know ("pull") sends the digests of its table by ranges of keys. The other
 * walks its table for the ranges of which the first has nothing. Where both have something and it
 * differs, it narrows: it sends the digests of the range's leaves, is answered with the digests of
 * the records in the leaves that differ, and sends the records that are not among them. At the end
 * it says that that was all. Each does this with each: what the first one has in excess, or newer,
 * is found the other way round.
 */
#include <string.h>

#include "core/state.h"

#define WALK_SLOTS 4096 /* looked at in one call */
#define WALK_QUEUE 8192 /* records in the queue: then the walk waits, since other news wait too */

void compare_pull(struct member *m, uint8_t from)
{
	struct other *o = &m->others[from];

	o->asking.asked++;
	o->asking.leaves = 0;
	o->asking.pulled = false;
	for (uint32_t part = 0; part < TABLE_RANGES / WIRE_DIGESTS; part++)
		outbox_queue(m, from, QUEUE_DIGEST, part);
	outbox_queue(m, from, QUEUE_PULL, 0);
}

/* What was asked before we lost the member is not answered by what it says now. */
void compare_void(struct member *m, uint8_t from)
{
	struct asking *a = &m->others[from].asking;

	a->answered = ++a->asked;
	a->pulled = false;
}

static void end_serving(struct member *m, uint8_t to)
{
	const struct serving *s = &m->others[to].serving;

	if (!s->walking && !s->narrowing)
		outbox_queue(m, to, QUEUE_PULLED, 0);
}

static bool walk_ike(struct member *m, uint8_t to)
{
	struct serving *s = &m->others[to].serving;
	const struct ikes *t = &m->holder.ikes;

	for (uint32_t n = 0; n < WALK_SLOTS && s->ike_cursor < t->high; n++, s->ike_cursor++) {
		struct ike *r = ike_at(t, s->ike_cursor);

		if (m->others[to].queue.count >= WALK_QUEUE)
			return false;
		if (!r || !r->digest || s->digests[ike_leaf(r) / TABLE_FANOUT] != 0)
			continue;
		m->counters.repaired++;
		outbox_mark_ike_for(m, r, to);
	}
	return s->ike_cursor >= t->high;
}

/* Sends what the other has nothing like, a bounded number of records at a time. */
static void walk(struct member *m, uint8_t to)
{
	struct serving *s = &m->others[to].serving;

	for (uint32_t n = 0; n < WALK_SLOTS && s->cursor < m->table.high; n++, s->cursor++) {
		struct record *r = table_at(&m->table, s->cursor);

		if (m->others[to].queue.count >= WALK_QUEUE)
			return;
		if (!r || r->life == RECORD_HINTED || s->digests[table_range(r)] != 0)
			continue;
		m->counters.repaired++;
		sequence_name(m, r); /* it is told in the same message */
		outbox_mark_for(m, r, to);
	}
	if (s->cursor >= m->table.high && walk_ike(m, to)) {
		s->walking = false;
		end_serving(m, to);
	}
}

static void serve(struct member *m, uint8_t to, uint32_t number)
{
	struct other *o = &m->others[to];
	struct serving *s = &o->serving;

	s->number = number;
	s->cursor = s->ike_cursor = 0;
	s->walking = s->narrowing = false;
	for (uint32_t range = 0; range < TABLE_RANGES; range++) {
		if (s->digests[range] == m->table.digests[range] || !m->table.digests[range])
			continue;
		if (s->digests[range] == 0) {
			s->walking = true;
			continue;
		}
		s->narrowing = true;
		outbox_queue(m, to, QUEUE_LEAVES, range);
	}
	if (s->narrowing)
		outbox_queue(m, to, QUEUE_LEAVES_END, 0);
	end_serving(m, to);
}

/* The leaves of a range in which we do not agree: say what we have there. */
static void narrow(struct member *m, uint8_t from, const struct wire_digest *d)
{
	struct other *o = &m->others[from];

	for (uint32_t i = 0; i < d->count && o->asking.leaves < TABLE_LEAVES; i++) {
		if (d->values[i] == m->table.leaves[d->first + i] || d->values[i] == 0)
			continue;
		o->asking.leaves++;
		outbox_queue(m, from, QUEUE_HAVE, d->first + i);
	}
}

static bool is_among(uint64_t value, const struct wire_digest *d)
{
	for (unsigned int i = 0; i < d->count; i++)
		if (d->values[i] == value)
			return true;
	return false;
}

static void send_lacking(struct member *m, uint8_t to, const struct wire_digest *has)
{
	struct record *r = NULL;
	struct ike *ike = NULL;

	while ((r = table_leaf_next(&m->table, has->first, r))) {
		if (is_among(r->digest, has))
			continue;
		m->counters.repaired++;
		outbox_mark_for(m, r, to);
	}
	while ((ike = ike_leaf_next(&m->holder.ikes, has->first, ike))) {
		if (is_among(ike->digest, has))
			continue;
		m->counters.repaired++;
		outbox_mark_ike_for(m, ike, to);
	}
}

/* A member has caught up with another when all that it was sent is in its kernel. */
void compare_worked(struct member *m, uint8_t with)
{
	struct asking *a = &m->others[with].asking;

	if (!a->pulled || (m->work_count && m->work[m->work_head].id <= a->pulled_work))
		return;
	a->pulled = false;
	a->answered = a->asked;
	a->due_us = m->now_us + m->config.repair_us;
	m->synced |= member_bit(with);
}

void compare_go_on(struct member *m, uint8_t with)
{
	if (m->others[with].serving.walking)
		walk(m, with);
}

void compare_forget(struct member *m, uint8_t with)
{
	struct other *o = &m->others[with];

	o->serving.walking = o->serving.narrowing = false;
	o->asking.answered = o->asking.asked;
	o->asking.pulled = false;
}

void compare_heard(struct member *m, uint8_t from, const struct wire_message *message)
{
	const struct wire_digest *d = &message->digest;
	struct other *o = &m->others[from];

	if (message->kind == WIRE_DIGEST) {
		memcpy(&o->serving.digests[d->first], d->values, d->count * sizeof(uint64_t));
	} else if (message->kind == WIRE_PULL) {
		serve(m, from, message->number);
	} else if (message->kind == WIRE_LEAVES) {
		narrow(m, from, d);
	} else if (message->kind == WIRE_HAVE) {
		send_lacking(m, from, d);
	} else if (message->kind == WIRE_LEAVES_END && message->number == o->asking.asked) {
		outbox_queue(m, from, QUEUE_HAVE_END, 0);
	} else if (message->kind == WIRE_HAVE_END && message->number == o->serving.number &&
		   o->serving.narrowing) {
		o->serving.narrowing = false;
		end_serving(m, from);
	} else if (message->kind == WIRE_PULLED && message->number == o->asking.asked) {
		o->asking.pulled = true;
		o->asking.pulled_work = m->work_ids;
		compare_worked(m, from);
	}
}
