/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kernel.c - what this member's own kernel says: what is there at the start, SAs and policies that
 * are made and deleted.
 */
#include <string.h>

#include "core/state.h"

static struct record *find_or_add(struct member *m, const struct record_key *key, uint64_t birth)
{
	struct record *r = table_find_birth(&m->table, key, birth);

	if (!r)
		r = table_add(&m->table, key, birth);
	if (!r)
		m->counters.refused++;
	return r;
}

/* The guard of an earlier life has it. */
static bool is_guarded(const struct record *r)
{
	return r->origin == RECORD_GUARD || r->origin == RECORD_OPEN;
}

/* Start. */

static void entered_before(struct member *m, struct record *r, uint64_t block)
{
	uint64_t *upto = &r->upto[m->config.self];

	if (*upto < block + 1)
		*upto = block + 1;
	r->journaled = true;
}

void member_restore(struct member *m, const struct record_key *key, uint64_t birth, uint64_t block)
{
	struct record *r = find_or_add(m, key, birth);

	if (!r)
		return;
	entered_before(m, r, block);
	r->died_us = m->now_us;
}

void member_guarded(struct member *m, const struct record_key *key, const struct espalier_sa *sa)
{
	struct record *r = find_or_add(m, key, sa->birth);
	uint64_t block = block_of(&m->rule, sa->open[0].first);

	if (!r)
		return;
	r->origin = RECORD_GUARD;
	r->creator = sa->creator;
	r->pinned = sa->pinned;
	r->facts.direction = sa->direction;
	r->died_us = m->now_us;
	if (sa->direction != ESPALIER_OUT || sa->open[0].first > sa->open[0].last)
		return;
	r->origin = RECORD_OPEN;
	/* Our journal may have been lost meanwhile, and begun anew. */
	if (!r->journaled || r->upto[m->config.self] < block + 1) {
		m->ops->journal(m->ctx, key, sa->birth, block);
		m->tickets++;
	}
	entered_before(m, r, block);
}

/*
 * The guard of our earlier life knows an SA that our kernel lacks: it was deleted while there was
 * no agent. Who created it speaks for its end; anybody else may get it again. One that is shut may
 * never have been in our kernel: the guard knows a copy first.
 */
static void went_unseen(struct member *m, struct record *r)
{
	bool shut = record_is_outbound_sa(r) && r->origin == RECORD_GUARD;

	if (r->creator != m->config.self || shut) {
		life_shut(m, r);
		return;
	}
	table_renew(r, m->config.self);
	life_died(m, r);
}

void member_started(struct member *m)
{
	m->started_us = m->now_us;
	m->starting = false;
	for (uint32_t slot = 0; slot < m->table.high; slot++) {
		struct record *r = table_at(&m->table, slot);

		if (r && is_guarded(r) && !r->installed)
			went_unseen(m, r);
	}
}

/* Kernel events. */

static void added_policy(struct member *m, const struct member_record *record)
{
	struct record *r = find_or_add(m, &record->key, 0);
	uint64_t old_pair;

	if (!r || (r->life == RECORD_ALIVE && r->installed && r->body_len == record->body_len &&
			  memcmp(r->body, record->body, record->body_len) == 0))
		return;
	if (table_set_body(r, record->body, record->body_len) < 0)
		return;
	old_pair = r->facts.pair;
	r->life = RECORD_ALIVE;
	r->installed = true;
	table_renew(r, m->config.self);
	table_set_facts(&m->table, r, &record->facts);
	table_changed(&m->table, r);
	outbox_mark(m, r);
	flow_apply_pair(m, old_pair);
	flow_apply_pair(m, r->facts.pair);
}

/*
 * Where it comes from. Was it just made here, we speak for it. Else: who has an outbound SA whose
 * counter stands in block 0 created it, since copies never stand there.
 */
static void set_origin(struct member *m, struct record *r, uint64_t oseq)
{
	bool first_block = r->facts.direction == ESPALIER_IN || block_of(&m->rule, oseq) == 0;
	bool guarded = is_guarded(r);
	bool seen = r->version != 0 || guarded || r->journaled;

	if (first_block && !(guarded && r->creator != ESPALIER_NOBODY))
		r->creator = m->config.self;
	if (r->origin == RECORD_HERE)
		r->origin = RECORD_OTHERS;
	if (!first_block || seen)
		return;
	r->origin = RECORD_HERE;
	r->pinned = flow_own_pin(m, r);
	memcpy(r->journals, m->journals, sizeof(r->journals));
}

/* An SA that we did not know to be there. */
static void adopt_sa(struct member *m, struct record *r, const struct member_record *record)
{
	struct record *over;

	table_set_facts(&m->table, r, &record->facts);
	set_origin(m, r, record->oseq);
	r->life = RECORD_ALIVE;
	table_renew(r, m->config.self);
	/* The peer gave out the SPI again. */
	while ((over = table_rival(&m->table, r)))
		life_end(m, over);
	fence_judge(m, r);
	flow_choose(m, r);
	sequence_adopt(m, r, record->oseq);
	outbox_mark(m, r);
}

/* It was made here, though we know it from another member: copies never stand in block 0. */
static void meet_creator(struct member *m, struct record *r, uint64_t oseq)
{
	if (r->facts.direction != ESPALIER_OUT || block_of(&m->rule, oseq) != 0 ||
		r->creator == m->config.self || r->creator == ESPALIER_NOBODY)
		return;
	r->creator = RECORD_CREATOR_DISPUTED;
	r->origin = RECORD_HERE;
	fence_judge(m, r);
	outbox_mark(m, r);
}

static void added_sa(struct member *m, const struct member_record *record)
{
	struct record *r = find_or_add(m, &record->key, record->facts.birth);
	uint64_t old_pair;

	if (!r)
		return;
	old_pair = r->facts.pair;
	if (r->life == RECORD_HINTED) {
		adopt_sa(m, r, record);
	} else if (r->life == RECORD_DEAD) {
		/* The keys of an SA that has ended: its numbers must not come again. */
		sequence_guard(m, r);
		m->ops->remove(m->ctx, &r->key);
		m->counters.refused++;
	} else if (!r->installed) {
		meet_creator(m, r, record->oseq);
		sequence_adopt(m, r, record->oseq);
	} else {
		table_renew(r, m->config.self); /* lifetimes, encapsulation */
		table_set_facts(&m->table, r, &record->facts);
		table_changed(&m->table, r);
		outbox_mark(m, r);
		if (r->facts.pair != old_pair) {
			flow_choose(m, r);
			flow_apply_pair(m, old_pair);
		}
	}
	flow_steer(m, r);
	flow_apply_pair(m, r->facts.pair);
}

void member_added(struct member *m, const struct member_record *record)
{
	if (record->body_len > RECORD_BODY_MAX)
		return;
	if (record->key.kind == RECORD_POLICY)
		added_policy(m, record);
	else
		added_sa(m, record);
}

/*
 * Is it ours to say that a record is over? Its IKE SA is where it was created or where it is owned;
 * in a life without a view yet we may have owned it before. A policy goes with its pair's SAs.
 */
static bool speaks_for(const struct member *m, const struct record *r)
{
	const struct record *sa = r;
	uint8_t owner;

	if (r->key.kind == RECORD_POLICY) {
		sa = flow_pair_sa(m, r->facts.pair, ESPALIER_OUT);
		if (!sa || r->author == m->config.self)
			return true;
	}
	owner = member_flow_owner(m, sa);
	return sa->creator == m->config.self || owner == m->config.self || owner == ESPALIER_NOBODY;
}

void member_removed(struct member *m, const struct record_key *key)
{
	struct record *r = table_find(&m->table, key);

	if (!r || !r->installed)
		return;
	if (speaks_for(m, r))
		life_end(m, r);
	else
		life_lost(m, r);
}

void member_missing(struct member *m, const struct record_key *key)
{
	struct record *r = table_find(&m->table, key);

	if (r && r->installed)
		life_lost(m, r);
}
