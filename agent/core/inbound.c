/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * inbound.c - which numbers of inbound SAs this member's kernel may take (RFC 6027 3.5). A copy is
 * installed where its owner has told to be, and nothing up to there is taken. Its kernel's window
 * stays there; who becomes the owner raises it to what has been told since, behind the flip.
 */
#include "core/state.h"

/* A copy's window stays behind by less. Of a 64-bit number a packet has the low half, and what that
 * means is told by where one is (RFC 4303 A2.2): here and in the datapath. */
#define LAG (1ULL << 30)

#define AGAIN_US 200000 /* our kernel has refused */

bool record_is_windowed(const struct record *r)
{
	return r->key.kind == RECORD_SA && r->facts.direction == ESPALIER_IN &&
	       !record_is_shared_sa(r);
}

void inbound_taken(struct member *m, struct record *r, uint64_t seq)
{
	if (!record_is_windowed(r))
		return;
	if (seq > r->raised)
		r->raised = seq; /* our kernel is there */
	if (seq <= r->seq)
		return;
	r->seq = seq;
	outbox_mark_position(m, r);
}

/* To the next sweep: it cannot be raised now. */
static void put_off(struct member *m)
{
	uint64_t again_us = m->now_us + AGAIN_US;

	if (!m->sweep_due_us || m->sweep_due_us > again_us)
		m->sweep_due_us = again_us;
	m->put_off = true;
	m->raising_work = UINT64_MAX;
}

/* What is ours is behind without a flip: another member was its owner, too, or we by a pin now.
 * Until our kernel has raised its window, which may take a while, the floor holds. */
static void hold(struct member *m)
{
	if (!m->raising)
		m->raising_work = 0;
	m->raising = true;
	if (!m->all_raising)
		m->ops->raising(m->ctx);
	m->all_raising = true;
}

void inbound_look(struct member *m, struct record *r)
{
	struct work *w;
	bool ours;

	if (!record_is_windowed(r) || r->life != RECORD_ALIVE || !record_is_installed(r) ||
		r->seq <= r->raised)
		return;
	ours = member_flow_owner(m, r) == m->config.self;
	m->ops->floor(m->ctx, r->slot, r->seq);
	if (!ours && r->seq - r->raised < LAG)
		return;
	if (ours)
		hold(m);
	w = r->work ? work_of(m, r) : work_add(m, r, 0, NULL, 0);
	if (!w || w->installs || w->updates) {
		put_off(m);
		return;
	}
	w->raises = true;
	if (m->raising_work < w->id)
		m->raising_work = w->id;
}

void inbound_swept(struct member *m)
{
	if (m->raising && !m->put_off)
		m->raising_work = m->work_ids;
}

void inbound_tick(struct member *m)
{
	if (!m->raising || m->sweep != TABLE_NONE || m->raising_work == UINT64_MAX ||
		(m->work_count && work_at(m, 0)->id <= m->raising_work))
		return;
	m->raising = m->all_raising = false;
	m->ops->raised(m->ctx);
}

void inbound_raise(struct member *m, struct record *r)
{
	uint64_t seq = r->seq;

	if (!record_is_installed(r) || seq <= r->raised)
		return;
	if (m->ops->raise(m->ctx, &r->key, r->slot, seq) == 0)
		r->raised = seq;
	else
		put_off(m);
}
