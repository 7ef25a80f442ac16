/* SPDX-License-Identifier: BSD-2-Clause */
/* life.c - records that end here, in whatever way. */
#include <errno.h>
#include <stdlib.h>

#include "core/state.h"

/*
 * The guard knows one SA of a key. While we remember one that has ended it stays shut: in the hands
 * of whoever makes it again, with the same keys, its numbers would begin anew.
 */
void life_shut(struct member *m, struct record *r)
{
	if (r->key.kind != RECORD_SA || table_find(&m->table, &r->key))
		return;
	if (record_is_outbound_sa(r))
		sequence_guard(m, r);
	else
		m->ops->guard(m->ctx, &r->key, NULL);
}

void life_vacate(struct member *m, const struct record_key *key)
{
	struct record *other = table_keyed(&m->table, key);

	if (other)
		life_shut(m, other);
	else
		m->ops->guard(m->ctx, key, NULL);
}

void life_moved(struct member *m, struct record *r, const struct record_key *key)
{
	const struct record_key old = r->key;

	if (r->installed)
		m->ops->remove(m->ctx, &old);
	flow_unpin(m, r);
	sequence_reset(r);
	table_move(&m->table, r, key);
	table_changed(&m->table, r);
	life_vacate(m, &old);
}

void life_forget(struct member *m, struct record *r)
{
	bool last = !table_other(&m->table, r);

	if (r->key.kind == RECORD_SA) {
		m->ops->forget(m->ctx, &r->key, r->facts.birth);
		if (last)
			m->ops->guard(m->ctx, &r->key, NULL);
	}
	table_drop(&m->table, r);
}

void life_died(struct member *m, struct record *r)
{
	r->life = RECORD_DEAD;
	r->leaving = r->made_here = false;
	sequence_reset(r);
	fence_judge(m, r);
	free(r->body);
	r->body = NULL;
	r->body_len = 0;
	r->died_us = m->now_us;
	table_changed(&m->table, r);
	flow_steer(m, r);
	life_shut(m, r);
}

static int departures_grow(struct departures *d)
{
	uint32_t size = d->size ? 2 * d->size : 64;
	struct departure *all = calloc(size, sizeof(*all));

	if (!all)
		return -ENOMEM;
	for (uint32_t i = 0; i < d->count; i++)
		all[i] = d->all[(d->head + i) & (d->size - 1)];
	free(d->all);
	*d = (struct departures){.all = all, .size = size, .count = d->count};
	return 0;
}

void life_end(struct member *m, struct record *r)
{
	table_renew(r, m->config.self);
	life_died(m, r);
	outbox_mark(m, r);
	flow_apply_pair(m, r->facts.pair);
}

/* Without memory it has ended at once. */
void life_depart(struct member *m, struct record *r)
{
	struct departures *d = &m->departures;

	if (d->count == d->size && departures_grow(d) < 0) {
		life_end(m, r);
		return;
	}
	d->all[(d->head + d->count++) & (d->size - 1)] =
		(struct departure){.us = m->now_us, .birth = r->facts.birth, .slot = r->slot};
	r->leaving = true;
	sequence_reset(r);
	r->died_us = m->now_us;
	table_changed(&m->table, r);
	if (record_is_outbound_sa(r))
		sequence_guard(m, r);
}

/* Another SA of the same key is meant. What is known of the numbers of this one is kept. */
void life_set_aside(struct member *m, struct record *r)
{
	if (r->installed)
		m->ops->remove(m->ctx, &r->key);
	life_died(m, r);
	r->life = RECORD_HINTED;
	flow_apply_pair(m, r->facts.pair);
}

/* A copy was taken away behind our back: another member brings an SA again, by the next comparison
 * at the latest. */
void life_lost(struct member *m, struct record *r)
{
	sequence_reset(r);
	r->died_us = m->now_us;
	m->counters.missing++;
	if (r->key.kind == RECORD_POLICY) {
		sequence_install(m, r, NULL, 0);
	} else {
		fence_judge(m, r);
		sequence_guard(m, r);
	}
	table_changed(&m->table, r);
}
