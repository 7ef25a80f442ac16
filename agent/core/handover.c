/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * handover.c - buckets that change hands between members that live: no packet is lost by it.
 *
 * Members do not flip at the same instant, so a packet may come to one that does not own its SA
 * yet, or no longer. Who publishes says beforehand that buckets are about to change hands
 * (WIRE_HANDING). From then on each member's guard lets out what its open blocks hold, whoever the
 * owner is: numbers cannot meet (block.h). Each says that it is ready (WIRE_READY) when all that it
 * knew has got to the others, and all that it was told is in its kernel. When all are, the
 * publisher flips, and tells it at once; when all follow that view, the guards are strict again.
 *
 * A death meanwhile is as any: a flip at once (takeover.c).
 */
#include "core/state.h"

/* Heartbeats from the last one: by then the reserves of all are above what was sent during it
 * (sequence.c). */
#define APART 10
#define PATIENCE_US 5000000 /* one whose work never ends holds up nobody for longer */

static bool says(const struct member *m, unsigned int id, enum wire_flags flag)
{
	return m->others[id].alive && m->others[id].heartbeat.flags & flag;
}

/* Has it all that we knew when this began? */
static bool is_handed(struct other *o)
{
	if (o->handed || !o->alive || !o->hears_us)
		return true;
	if (o->handed_stream != o->stream.id) {
		if (o->queue.count)
			return false;
		o->handed_stream = o->stream.id;
		o->handed_seq = o->stream.next - 1;
	}
	o->handed = (int32_t)(o->stream.acked - o->handed_seq) >= 0;
	return o->handed;
}

static bool is_ready(struct member *m)
{
	bool ready = !m->work_count || m->work[m->work_head].id > m->handing_work;

	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++)
		ready &= is_handed(&m->others[id]);
	return ready || m->begins_anew;
}

static void set_handing(struct member *m, bool handing)
{
	m->handing = handing;
	m->handed_us = m->now_us;
	m->handing_work = m->work_ids;
	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++) {
		m->others[id].handed_stream = 0;
		m->others[id].handed = false;
	}
	m->ops->hand(m->ctx, handing);
}

uint16_t member_awaited(const struct member *m)
{
	uint16_t set = m->flags & WIRE_READY ? 0 : member_bit(m->config.self);

	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++)
		if (says(m, id, WIRE_HANDS) && !says(m, id, WIRE_READY))
			set |= member_bit(id);
	return m->handing ? set : 0;
}

bool member_is_handing(const struct member *m)
{
	return m->handing;
}

/* The one before is not quite over, or they have not heard yet that it is. */
static bool is_too_early(const struct member *m)
{
	bool any = false;

	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++)
		any |= says(m, id, WIRE_READY);
	if (m->handed_us && m->now_us < m->handed_us + APART * m->config.heartbeat_us)
		return true;
	return any && m->now_us < m->awaited_us + m->config.dead * m->config.heartbeat_us;
}

bool handover_is_due(struct member *m)
{
	m->awaits = true;
	if (!m->awaited_us)
		m->awaited_us = m->now_us;
	if (!(m->flags & WIRE_HANDING)) {
		if (is_too_early(m))
			return false;
		m->flags |= WIRE_HANDING;
		m->heartbeat_due_us = 0;
		return false;
	}
	if (member_awaited(m) && m->now_us < m->awaited_us + PATIENCE_US)
		return false;
	m->awaits = false;
	return true;
}

void handover_look(struct member *m)
{
	bool handing = m->flags & WIRE_HANDING;

	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++)
		handing |= says(m, id, WIRE_HANDING);
	if (handing != m->handing)
		set_handing(m, handing);
}

static bool all_follow(const struct member *m)
{
	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++)
		if (m->others[id].alive && m->others[id].heartbeat.view.epoch < m->view.epoch)
			return false;
	return true;
}

void handover_tick(struct member *m)
{
	uint64_t dead_us = m->config.dead * m->config.heartbeat_us;

	if (!m->awaits) {
		m->awaited_us = 0;
		if (all_follow(m) || m->now_us > m->flipped_us + dead_us)
			m->flags &= (uint16_t)~WIRE_HANDING;
	}
	handover_look(m);
}

void handover_flushed(struct member *m)
{
	uint16_t ready = m->handing && (m->flags & WIRE_READY || is_ready(m)) ? WIRE_READY : 0;

	if ((m->flags & WIRE_READY) != ready)
		m->heartbeat_due_us = 0;
	m->flags = (uint16_t)((m->flags & ~WIRE_READY) | ready);
}
