/* SPDX-License-Identifier: BSD-2-Clause */
/* life.c - records that end here, in whatever way. */
#include <errno.h>
#include <stdlib.h>

#include "core/state.h"

#define FULL_AGAIN_US 60000000 /* others send it again with each comparison */
#define LOOKED_AT 256 /* of those that are not alive, for one that may go */

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
	bool leaving = r->presence == RECORD_LEAVING;

	if (record_is_installed(r))
		m->ops->remove(m->ctx, &old);
	flow_unpin(m, r);
	sequence_reset(r);
	if (leaving)
		r->presence = RECORD_LEAVING;
	table_move(&m->table, r, key);
	table_changed(&m->table, r);
	life_vacate(m, &old);
}

static void drop(struct member *m, struct record *r)
{
	if (r->key.kind == RECORD_SA && !table_other(&m->table, r))
		m->ops->guard(m->ctx, &r->key, NULL);
	table_drop(&m->table, r);
}

void life_forget(struct member *m, struct record *r)
{
	if (r->key.kind == RECORD_SA)
		m->ops->forget(m->ctx, r->facts.birth);
	drop(m, r);
}

static bool is_on_its_way(const struct member *m, const struct record *r)
{
	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++)
		if (r->queued >> id & 1 && m->others[id].alive)
			return true;
	return false;
}

static uint64_t top_of(const struct record *r)
{
	uint64_t top = r->top;

	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++)
		top = r->upto[id] > top ? r->upto[id] : top;
	return top;
}

/*
 * Its slot is wanted. We keep what stops it from coming back, and its numbers from repeating. Who
 * is away is told of its end when he tells of it. Nobody's journal is named by it any more but
 * ours: who has lost his meanwhile may not have it.
 */
static bool outlives_its_record(struct member *m, struct record *r)
{
	const struct past past = {
		.birth = r->facts.birth,
		.upto = r->upto[m->config.self],
		.top = top_of(r),
		.version = r->version,
		.journal = r->journals[m->config.self],
		.moves = r->moves,
		.died_s = (uint32_t)(r->died_us / 1000000),
		.life = (uint8_t)(r->life & 3),
		.origin = (uint8_t)((r->origin == RECORD_HERE ? RECORD_OTHERS : r->origin) & 3),
		.direction = r->facts.direction & 3,
		.esn = r->facts.esn,
		.author = r->author,
		.creator = r->creator,
	};

	if (r->key.kind != RECORD_SA || r->life == RECORD_ALIVE || r->work || is_on_its_way(m, r) ||
		(m->starting && r->origin != RECORD_OTHERS) || past_keep(&m->past, &past) < 0)
		return false;
	drop(m, r);
	return true;
}

static bool make_room(struct member *m)
{
	struct record *r;

	for (unsigned int i = 0; i < LOOKED_AT && (r = table_idle(&m->table)); i++) {
		if (outlives_its_record(m, r))
			return true;
		table_idle_last(&m->table, r);
	}
	return false;
}

/* From three quarters on, until it is less than five eighths. */
static bool is_crowded(bool was, uint64_t n, uint64_t most)
{
	return n * 8 >= most * (was ? 5 : 6);
}

static void warn(struct member *m)
{
	const struct member_room room = member_room(m);
	bool living = is_crowded(m->crowded, room.living, room.living_most);
	bool dead = is_crowded(m->crowded_by_dead, room.dead, room.dead_most);
	uint8_t self = m->config.self;

	if (living && !m->crowded)
		m->ops->notice(m->ctx, NOTICE_CROWDED, NULL, self);
	if (dead && !m->crowded_by_dead)
		m->ops->notice(m->ctx, NOTICE_CROWDED_BY_DEAD, NULL, self);
	if (!living && !dead && (m->crowded || m->crowded_by_dead))
		m->ops->notice(m->ctx, NOTICE_ROOMY, NULL, self);
	m->crowded = living;
	m->crowded_by_dead = dead;
}

void life_tick(struct member *m)
{
	warn(m);
	for (unsigned int i = 0; i < LOOKED_AT; i++)
		if (table_idle_count(&m->table) <= m->config.idle || !make_room(m))
			return;
}

static void refuse(struct member *m, const struct record_key *key)
{
	enum member_notice why = table_is_full(&m->table) ? NOTICE_FULL : NOTICE_FULL_OF_DEAD;

	m->counters.refused++;
	if (m->full_said_us && m->now_us < m->full_said_us + FULL_AGAIN_US)
		return;
	m->full_said_us = m->now_us;
	m->ops->notice(m->ctx, why, key, m->config.self);
}

static void recall(struct member *m, struct record *r, const struct past *past)
{
	r->facts.direction = past->direction;
	r->facts.esn = past->esn;
	r->upto[m->config.self] = past->upto;
	r->journals[m->config.self] = past->journal;
	r->entries = past->upto ? ENTRIES_KNOWN : ENTRIES_UNKNOWN;
	r->top = past->top;
	r->version = past->version;
	r->author = past->author;
	r->moves = past->moves;
	r->died_us = past->died_s * 1000000ULL;
	r->life = past->life;
	r->origin = past->origin;
	r->creator = past->creator;
}

struct record *life_find(struct member *m, const struct record_key *key, uint64_t birth)
{
	struct record *r = table_find_birth(&m->table, key, birth);
	struct past past;

	if (r || key->kind != RECORD_SA || !past_take(&m->past, birth, &past))
		return r;
	if (table_has_slot(&m->table) || make_room(m))
		r = table_add(&m->table, key, birth);
	if (r)
		recall(m, r, &past);
	else
		(void)past_keep(&m->past, &past); /* where it was */
	return r;
}

struct record *life_begin(struct member *m, const struct record_key *key, uint64_t birth)
{
	struct record *r = life_find(m, key, birth);

	if (r)
		return r;
	/* Not if it was known before and there was no room for its record. */
	if (!table_is_full(&m->table) && !past_has(&m->past, birth) &&
		(table_has_slot(&m->table) || make_room(m)))
		r = table_add(&m->table, key, birth);
	if (!r)
		refuse(m, key);
	return r;
}

bool life_forget_past(struct member *m, uint32_t place, uint64_t before_us)
{
	const struct past *past = &m->past.all[place];
	struct past gone;

	if (!past->used || past->died_s * 1000000ULL + 1000000 > before_us)
		return false;
	m->ops->forget(m->ctx, past->birth);
	(void)past_take(&m->past, past->birth, &gone);
	if (m->past.n == 0)
		past_free(&m->past);
	return true;
}

/* The outbound SA that keeps a policy: it lives, and is not about to end. */
static const struct record *held_by(const struct member *m, const struct record_facts *facts)
{
	const struct record *best = NULL;

	for (const struct record *r = table_pair_first(&m->table, facts->pair); r;
		r = table_pair_next(&m->table, r)) {
		if (!record_is_outbound_sa(r) || r->presence == RECORD_LEAVING)
			continue;
		if (!best || (facts->spi && r->key.spi == facts->spi))
			best = r;
	}
	return best;
}

/* Since this machine was booted: so whoever made it may still know of it. */
static bool was_made_here(const struct member *m, const struct record *sa)
{
	return sa->origin == RECORD_HERE ||
	       (sa->creator == m->config.self && sa->origin != RECORD_OTHERS);
}

static bool is_ours(const struct member *m, const struct record *sa)
{
	return was_made_here(m, sa) || member_flow_owner(m, sa) == m->config.self;
}

bool life_has_sa(const struct member *m, const struct record *policy)
{
	return held_by(m, &policy->facts) != NULL;
}

bool life_is_held(
	const struct member *m, const struct record *policy, const struct record_facts *to)
{
	const struct record *sa = held_by(m, &policy->facts);
	const struct record *other = to ? held_by(m, to) : NULL;

	return sa && !was_made_here(m, sa) && !(other && is_ours(m, other));
}

bool life_holds(const struct member *m, const struct record *policy, const struct record *heard)
{
	const struct record *sa = held_by(m, &policy->facts);

	return sa && is_ours(m, sa) && (heard->life != RECORD_ALIVE || !held_by(m, &heard->facts));
}

void life_keep(struct member *m, struct record *policy, bool deleted)
{
	const struct record *sa = held_by(m, &policy->facts);
	uint8_t owner = member_flow_owner(m, sa);

	m->counters.kept++;
	if (owner == ESPALIER_NOBODY)
		owner = sa->creator == ESPALIER_NOBODY ? m->config.self : sa->creator;
	m->ops->notice(m->ctx, NOTICE_KEPT, &policy->key, owner);
	if (deleted) {
		policy->origin = RECORD_OTHERS;
		policy->unwanted = true;
		sequence_reset(policy);
		table_changed(&m->table, policy);
	}
	sequence_install(m, policy, NULL, 0);
}

static void bury(struct member *m, struct record *r)
{
	r->life = RECORD_DEAD;
	r->unwanted = false;
	if (r->key.kind == RECORD_POLICY)
		r->origin = RECORD_OTHERS;
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

static void end(struct member *m, struct record *r)
{
	table_renew(r, m->config.self);
	bury(m, r);
	outbox_mark(m, r);
	flow_apply(m, r);
}

/* The last SA of a pair may have gone. Who made its policies deletes them, unless that one has gone
 * or knows nothing of it any more. */
static void let_go(struct member *m, const struct record *sa)
{
	struct record *r = table_pair_first(&m->table, sa->facts.pair), *next;
	bool owned = member_flow_owner(m, sa) == m->config.self;

	for (; r; r = next) {
		next = table_pair_next(&m->table, r);
		if (r->key.kind != RECORD_POLICY || !r->unwanted || life_has_sa(m, r) ||
			(!owned && r->author != m->config.self && m->view.live >> r->author & 1))
			continue;
		if (record_is_installed(r))
			m->ops->remove(m->ctx, &r->key);
		end(m, r);
	}
}

void life_died(struct member *m, struct record *r)
{
	bury(m, r);
	if (r->key.kind == RECORD_SA)
		let_go(m, r);
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
	end(m, r);
	if (r->key.kind == RECORD_SA)
		let_go(m, r);
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
	sequence_reset(r);
	r->presence = RECORD_LEAVING;
	r->died_us = m->now_us;
	table_changed(&m->table, r);
	if (record_is_outbound_sa(r))
		sequence_guard(m, r);
}

/* Another SA of the same key is meant. What is known of the numbers of this one is kept. */
void life_set_aside(struct member *m, struct record *r)
{
	if (record_is_installed(r))
		m->ops->remove(m->ctx, &r->key);
	life_died(m, r);
	r->life = RECORD_HINTED;
	flow_apply(m, r);
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
