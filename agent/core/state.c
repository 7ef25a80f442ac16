/* SPDX-License-Identifier: BSD-2-Clause */
/* state.c - looking in: what a member knows. */
#include "core/state.h"

const struct table *member_table(const struct member *m)
{
	return &m->table;
}

const struct view *member_view(const struct member *m)
{
	return &m->view;
}

/* What an earlier life left in the datapath may be long out of date. */
uint64_t member_heartbeat_sent_us(const struct member *m)
{
	return m->view.live ? m->heartbeat_sent_us : 0;
}

uint8_t member_owner(const struct member *m, uint16_t bucket)
{
	return m->owner[bucket];
}

uint8_t member_flow_owner(const struct member *m, const struct record *r)
{
	if (r->pinned && m->view.live >> (r->pinned - 1) & 1)
		return r->pinned - 1;
	return m->owner[r->bucket];
}

uint32_t member_pins(const struct member *m)
{
	return m->pins;
}

uint32_t member_fenced(const struct member *m)
{
	uint32_t sum = 0;

	for (unsigned int why = FENCE_NONE + 1; why < FENCES; why++)
		sum += m->fenced[why];
	return sum;
}

uint32_t member_fenced_for(const struct member *m, enum record_fence why)
{
	return m->fenced[why];
}

uint16_t member_flags(const struct member *m)
{
	return m->flags;
}

uint16_t member_doubles(const struct member *m)
{
	return m->doubled;
}

const struct member_counters *member_counters(const struct member *m)
{
	return &m->counters;
}

const struct ikes *member_ikes(const struct member *m)
{
	return &m->holder.ikes;
}

const struct ike_counters *member_ike_counters(const struct member *m)
{
	return &m->holder.counters;
}

struct member_room member_room(const struct member *m)
{
	const struct table *t = &m->table;

	return (struct member_room){
		.living = t->sas + t->policies,
		.living_most = t->capacity,
		.dead = table_idle_count(t) + m->past.n,
		.dead_most = t->slots - t->capacity + m->past.most,
	};
}

void member_other(const struct member *m, uint8_t id, struct member_other *ret)
{
	const struct other *o = &m->others[id];

	*ret = (struct member_other){
		.alive = o->alive,
		.synced = m->synced >> id & 1,
		.settings_differ = o->differs && m->now_us < m->claims[id].until_us,
		.doubled = m->doubled >> id & 1,
		.heard_us = o->heard_us,
		.flags = o->heartbeat.flags,
		.resent = o->stream.resent,
		.queued = o->queue.count,
		.records = o->heartbeat.records,
	};
}
