/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kernel.c - what this member's own kernel says: what is there at the start, SAs and policies that
 * are made and deleted; and whose flows they are.
 */
#include <stdlib.h>
#include <string.h>

#include "core/member_state.h"

/* We say something new of it. */
static void change(const struct member *m, struct record *r)
{
	/* No number of changes gets there; another member's word may, and must not begin anew. */
	if (r->version < UINT64_MAX)
		r->version++;
	r->author = m->config.self;
}

static struct record *find_or_add(struct member *m, const struct record_key *key, uint64_t birth)
{
	struct record *r = table_find_birth(&m->table, key, birth);

	if (!r)
		r = table_add(&m->table, key, birth);
	if (!r)
		m->counters.refused++;
	return r;
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
	r->guarded = true;
	r->creator = sa->creator;
	r->pinned = sa->pinned;
	r->facts.direction = sa->direction;
	r->died_us = m->now_us;
	if (sa->direction != ESPALIER_OUT || sa->open[0].first > sa->open[0].last)
		return;
	/* Our journal may have been lost meanwhile, and begun anew. */
	if (!r->journaled || r->upto[m->config.self] < block + 1) {
		m->ops->journal(m->ctx, key, sa->birth, block);
		m->tickets++;
	}
	entered_before(m, r, block);
}

/* The guard of our earlier life knows an SA that our kernel lacks: it was deleted while there was
 * no agent. Who created it speaks for its end; anybody else may get it again. */
static void went_unseen(struct member *m, struct record *r)
{
	if (r->creator != m->config.self) {
		if (!table_find(&m->table, &r->key))
			m->ops->guard(m->ctx, &r->key, NULL);
		return;
	}
	r->known = true;
	change(m, r);
	member_died(m, r);
}

void member_started(struct member *m)
{
	m->started_us = m->now_us;
	m->starting = false;
	for (uint32_t slot = 0; slot < m->table.high; slot++) {
		struct record *r = table_at(&m->table, slot);

		if (r && r->guarded && !r->installed)
			went_unseen(m, r);
	}
}

/* Kernel events. */

/* The outer side steers a pinned SA whether or not our own kernel has it. */
void member_steer(struct member *m, struct record *r)
{
	bool steered = r->key.kind == RECORD_SA && r->facts.direction == ESPALIER_IN && r->alive;
	struct espalier_flow flow = {.bucket = r->bucket, .pinned = steered ? r->pinned : 0};

	if (flow.pinned == r->pin_told)
		return;
	m->pins += !r->pin_told;
	m->pins -= !flow.pinned;
	r->pin_told = flow.pinned;
	m->ops->pin(m->ctx, &r->key, flow.pinned ? &flow : NULL);
}

static void set_flow(struct member *m, struct record *r, struct espalier_flow flow, bool paired)
{
	if (r->bucket == flow.bucket && r->pinned == flow.pinned && r->paired == paired)
		return;
	r->bucket = flow.bucket;
	r->pinned = flow.pinned;
	r->paired = paired;
	change(m, r);
	table_changed(&m->table, r);
	replica_mark(m, r);
	if (!r->installed)
		return;
	sequence_guard(m, r);
	sequence_look(m, r);
}

static struct espalier_flow flow_of(const struct record *r)
{
	return (struct espalier_flow){.bucket = r->bucket, .pinned = r->pinned};
}

static struct record *pair_sa(
	const struct member *m, uint64_t pair, enum espalier_direction direction)
{
	struct record *r;

	for (r = table_pair_first(&m->table, pair); r; r = table_pair_next(&m->table, r))
		if (r->key.kind == RECORD_SA && r->alive && r->facts.direction == direction)
			return r;
	return NULL;
}

static uint16_t own_bucket(const struct member *m, const struct record *r)
{
	return (uint16_t)espalier_bucket(__builtin_bswap32(r->key.spi), m->config.hash);
}

/* Both SAs of a Child SA go to one member: the outbound one has the flow of the inbound one. */
static void choose_flow(struct member *m, struct record *r)
{
	struct espalier_flow own = {.bucket = own_bucket(m, r), .pinned = r->pinned};
	struct record *other;

	if (r->facts.direction == ESPALIER_IN) {
		set_flow(m, r, own, false);
		other = pair_sa(m, r->facts.pair, ESPALIER_OUT);
		if (other && !other->paired)
			set_flow(m, other, own, true);
		return;
	}
	other = pair_sa(m, r->facts.pair, ESPALIER_IN);
	set_flow(m, r, other ? flow_of(other) : own, other != NULL);
}

/*
 * Whose what goes to a remote selector is. Of several policies for it (those of two local networks,
 * say) that with the lowest key counts: the same one on all members, in whatever order they came.
 */
static void apply_remote(struct member *m, const struct espalier_selector *remote)
{
	struct record *told = NULL, *counts = NULL;
	struct espalier_flow flow = {0};

	for (struct record *r = table_remote_first(&m->table, remote); r;
		r = table_remote_next(&m->table, r)) {
		const struct record *sa;

		if (r->selector_set)
			told = r;
		if (!r->alive || r->key.kind != RECORD_POLICY ||
			(counts && memcmp(&r->key, &counts->key, sizeof(r->key)) > 0))
			continue;
		sa = pair_sa(m, r->facts.pair, ESPALIER_OUT);
		if (!sa)
			continue;
		counts = r;
		flow = flow_of(sa);
	}
	if (!counts && told)
		m->ops->selector(m->ctx, remote, NULL);
	else if (counts && (!told || memcmp(&told->selector_flow, &flow, sizeof(flow)) != 0))
		m->ops->selector(m->ctx, remote, &flow);
	if (told)
		told->selector_set = false;
	if (counts) {
		counts->selector_set = true;
		counts->selector_flow = flow;
	}
}

void member_apply_pair(struct member *m, uint64_t pair)
{
	struct record *r;

	for (r = table_pair_first(&m->table, pair); r; r = table_pair_next(&m->table, r))
		if (r->facts.remote.prefixlen)
			apply_remote(m, &r->facts.remote);
}

void member_died(struct member *m, struct record *r)
{
	r->alive = false;
	sequence_reset(m, r);
	free(r->body);
	r->body = NULL;
	r->body_len = 0;
	r->died_us = m->now_us;
	table_changed(&m->table, r);
	member_steer(m, r);
	/* The guard knows one SA of a key. */
	if (r->key.kind == RECORD_SA && !table_find(&m->table, &r->key))
		m->ops->guard(m->ctx, &r->key, NULL);
}

void member_end(struct member *m, struct record *r)
{
	change(m, r);
	member_died(m, r);
	replica_mark(m, r);
	member_apply_pair(m, r->facts.pair);
}

static void added_policy(struct member *m, const struct member_record *record)
{
	struct record *r = find_or_add(m, &record->key, 0);
	uint64_t old_pair;

	if (!r || (r->known && r->alive && r->installed && r->body_len == record->body_len &&
			  memcmp(r->body, record->body, record->body_len) == 0))
		return;
	if (table_set_body(r, record->body, record->body_len) < 0)
		return;
	old_pair = r->facts.pair;
	r->known = r->alive = r->installed = true;
	change(m, r);
	table_set_facts(&m->table, r, &record->facts);
	table_changed(&m->table, r);
	replica_mark(m, r);
	member_apply_pair(m, old_pair);
	member_apply_pair(m, r->facts.pair);
}

/* An inbound SA that was made here is ours, though its bucket be another member's: its IKE SA is
 * here, too. Out of the view we own nothing. */
static uint8_t own_pin(const struct member *m, const struct record *r)
{
	uint8_t self = m->config.self;
	bool other = m->view.live >> self & 1 && m->owner[own_bucket(m, r)] != self;

	return r->facts.direction == ESPALIER_IN && other ? self + 1 : 0;
}

/*
 * Where it comes from. Was it just made here, we speak for it. Else: who has an outbound SA whose
 * counter stands in block 0 created it, since copies never stand there.
 */
static void set_origin(struct member *m, struct record *r, uint64_t oseq)
{
	bool first_block = r->facts.direction == ESPALIER_IN || block_of(&m->rule, oseq) == 0;
	bool seen = r->version != 0 || r->guarded || r->journaled;

	if (first_block && !(r->guarded && r->creator != ESPALIER_NOBODY))
		r->creator = m->config.self;
	r->created_here = first_block && !seen;
	if (!r->created_here)
		return;
	r->pinned = own_pin(m, r);
	memcpy(r->journals, m->journals, sizeof(r->journals));
}

/* An SA that we did not know to be there. */
static void adopt_sa(struct member *m, struct record *r, const struct member_record *record)
{
	struct record *over;

	table_set_facts(&m->table, r, &record->facts);
	set_origin(m, r, record->oseq);
	r->known = r->alive = true;
	change(m, r);
	/* The peer gave out the SPI again. */
	while ((over = table_rival(&m->table, r)))
		member_end(m, over);
	sequence_bar(m, r);
	choose_flow(m, r);
	sequence_adopt(m, r, record->oseq);
	replica_mark(m, r);
}

static void added_sa(struct member *m, const struct member_record *record)
{
	struct record *r = find_or_add(m, &record->key, record->facts.birth);
	uint64_t old_pair;

	if (!r)
		return;
	old_pair = r->facts.pair;
	if (!r->known) {
		adopt_sa(m, r, record);
	} else if (!r->alive) {
		/* The keys of an SA that has ended: its numbers must not come again. */
		sequence_guard(m, r);
		m->ops->remove(m->ctx, &r->key);
		m->counters.refused++;
	} else if (!r->installed) {
		sequence_adopt(m, r, record->oseq);
	} else {
		change(m, r); /* lifetimes, encapsulation */
		table_set_facts(&m->table, r, &record->facts);
		table_changed(&m->table, r);
		replica_mark(m, r);
		if (r->facts.pair != old_pair) {
			choose_flow(m, r);
			member_apply_pair(m, old_pair);
		}
	}
	member_steer(m, r);
	member_apply_pair(m, r->facts.pair);
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
		sa = pair_sa(m, r->facts.pair, ESPALIER_OUT);
		if (!sa || r->author == m->config.self)
			return true;
	}
	owner = member_flow_owner(m, sa);
	return sa->creator == m->config.self || owner == m->config.self || owner == ESPALIER_NOBODY;
}

/* A copy was taken away behind our back: another member brings an SA again, by the next comparison
 * at the latest. */
static void lost(struct member *m, struct record *r)
{
	sequence_reset(m, r);
	r->died_us = m->now_us;
	m->counters.missing++;
	if (r->key.kind == RECORD_POLICY) {
		sequence_install(m, r, NULL, 0);
	} else {
		sequence_bar(m, r);
		sequence_guard(m, r);
	}
	table_changed(&m->table, r);
}

void member_removed(struct member *m, const struct record_key *key)
{
	struct record *r = table_find(&m->table, key);

	if (!r || !r->installed)
		return;
	if (speaks_for(m, r))
		member_end(m, r);
	else
		lost(m, r);
}

void member_missing(struct member *m, const struct record_key *key)
{
	struct record *r = table_find(&m->table, key);

	if (r && r->installed)
		lost(m, r);
}
