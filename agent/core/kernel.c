/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kernel.c - what this member's own kernel says: what is there at the start, SAs that are made,
 * SAs and policies that are deleted.
 */
#include <errno.h>
#include <string.h>

#include "core/state.h"

#define COMES_BACK_US 50000 /* an IKE daemon that moves an SA deletes it first */

static bool is_same_key(const struct record_key *a, const struct record_key *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
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
	r->entries = ENTRIES_KNOWN;
}

void member_restore(struct member *m, const struct record_key *key, uint64_t birth, uint64_t block)
{
	struct record *r = life_begin(m, key, birth);

	if (!r)
		return;
	entered_before(m, r, block);
	r->died_us = m->now_us;
}

static bool is_own(const struct member *m, uint64_t block)
{
	return block == 0 || block % m->rule.modulus == m->config.self;
}

/* Where it was last: the journal may have it under the key that it had before. So may the guard, if
 * we died while it moved. */
static bool stood_there_last(
	struct member *m, struct record *r, const struct record_key *key, uint32_t moves)
{
	if (!is_same_key(&r->key, key)) {
		if (is_guarded(r) && r->moves >= moves) {
			m->ops->guard(m->ctx, key, NULL);
			return false;
		}
		life_moved(m, r, key);
	}
	r->moves = moves;
	return true;
}

void member_guarded(
	struct member *m, const struct record_key *key, const struct espalier_sa *sa, uint64_t seq)
{
	struct record *r = life_begin(m, key, sa->birth);
	bool open = sa->direction == ESPALIER_OUT && sa->open[0].first <= sa->open[0].last;
	uint64_t block = block_of(&m->rule, sa->open[0].first);

	if (!r)
		return;
	if (open && !is_own(m, block)) {
		/* It was adopted in that block, which was not entered. */
		r->top = r->top > block ? r->top : block + 1;
		block = 0;
	}
	if (open) {
		/* Our journal may have been lost meanwhile, and begun anew. */
		if (r->entries == ENTRIES_UNKNOWN || r->upto[m->config.self] < block + 1) {
			m->ops->journal(m->ctx, key, sa->birth, block);
			m->tickets++;
		}
		entered_before(m, r, block);
	}
	if (!stood_there_last(m, r, key, sa->moves))
		return;
	r->origin = open ? RECORD_OPEN : RECORD_GUARD;
	r->creator = sa->creator;
	r->pinned = sa->pinned;
	r->facts.direction = sa->direction;
	r->form_done = sa->form; /* half of it */
	r->position = open ? seq : 0;
	if (sa->direction == ESPALIER_IN && seq > r->seq)
		r->seq = seq;
	r->died_us = m->now_us;
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
	for (uint32_t slot = 0; slot < m->table.high; slot++) {
		struct record *r = table_at(&m->table, slot);

		if (r)
			sequence_started(m, r);
	}
	m->starting = false;
	for (uint32_t slot = 0; slot < m->table.high; slot++) {
		struct record *r = table_at(&m->table, slot);

		if (r && is_guarded(r) && !record_is_installed(r))
			went_unseen(m, r);
	}
}

/* Kernel events. */

/*
 * Where it comes from. Was it just made here, we speak for it. Else: who has an outbound SA whose
 * counter stands in block 0 created it, since copies never stand there. Beyond that it is as if it
 * had been, if it was here before there was any member, so that it cannot be a copy. What is shared
 * no guard of an earlier life tells from a copy: who knows that it was made is believed.
 */
static void set_origin(struct member *m, struct record *r, uint64_t oseq)
{
	bool first_block = r->facts.direction == ESPALIER_IN || block_of(&m->rule, oseq) == 0;
	bool guarded = is_guarded(r);
	bool seen = r->version != 0 || guarded || r->entries != ENTRIES_UNKNOWN;
	bool adopted = !first_block && !seen && m->starting && m->config.first;

	if (record_is_shared_sa(r)) {
		if (m->starting && !m->config.first)
			return;
		r->version = r->version ? r->version : RECORD_FOUND;
	}
	if ((first_block || adopted) && !(guarded && r->creator != ESPALIER_NOBODY))
		r->creator = m->config.self;
	if (r->origin == RECORD_HERE)
		r->origin = RECORD_OTHERS;
	if ((!first_block && !adopted) || seen)
		return;
	m->counters.adopted += adopted;
	r->origin = RECORD_HERE;
	r->pinned = flow_own_pin(m, r);
	memcpy(r->journals, m->journals, sizeof(r->journals));
}

/* It lives, and is the one of its key: the peer may have given out the SPI again. */
static void live(struct member *m, struct record *r)
{
	struct record *over;

	r->life = RECORD_ALIVE;
	table_renew(r, m->config.self);
	while ((over = table_rival(&m->table, r)))
		life_end(m, over);
	fence_judge(m, r);
	flow_choose(m, r);
	outbox_mark(m, r);
}

/* An SA that we did not know to be there. */
static void adopt_sa(struct member *m, struct record *r, const struct member_record *record)
{
	table_set_facts(&m->table, r, &record->facts);
	r->form_done = record->facts.form;
	r->made_s = record->made_s;
	set_origin(m, r, record->oseq);
	live(m, r);
	sequence_adopt(m, r, record->oseq);
}

/* After its end it is another life. */
static uint32_t moved_once_more(const struct record *r)
{
	uint32_t moves = r->life == RECORD_DEAD ? r->moves | UINT16_MAX : r->moves;

	return moves < UINT32_MAX ? moves + 1 : moves;
}

/*
 * It moved: it is there under another key than before. Or it was deleted and made again with its
 * keys, which may be part of moving, too. Its numbers go on, wherever its counter stands.
 */
static void return_sa(struct member *m, struct record *r, const struct member_record *record)
{
	const struct record_key old = r->key;
	bool moved = !is_same_key(&old, &record->key);

	if (moved) {
		flow_unpin(m, r);
		table_move(&m->table, r, &record->key);
	}
	sequence_reset(r);
	table_set_facts(&m->table, r, &record->facts);
	r->form_done = record->facts.form;
	r->made_s = record->made_s;
	r->moves = moved_once_more(r);
	if (record_is_shared_sa(r)) {
		r->creator = m->config.self;
		r->origin = RECORD_HERE;
	}
	live(m, r);
	sequence_return(m, r, record->oseq);
	if (moved)
		life_vacate(m, &old);
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

bool kernel_has(struct member *m, const struct record_key *key)
{
	uint8_t body[RECORD_BODY_MAX];
	int r = m->ops->read(m->ctx, key, body, sizeof(body));

	explicit_bzero(body, sizeof(body));
	return r != -ENOENT;
}

/* The record of an SA in our kernel; of its facts, `birth` becomes that of the record. */
static struct record *find_sa(struct member *m, const struct record_key *key, uint64_t *birth)
{
	uint64_t twin = record_twin(*birth, key);
	struct record *r = life_find(m, key, twin);

	if (!r)
		r = life_find(m, key, *birth);
	else
		*birth = twin;
	if (r && !is_same_key(&r->key, key) && record_is_installed(r) && kernel_has(m, &r->key)) {
		*birth = twin;
		r = NULL;
	}
	return r ? r : life_begin(m, key, *birth);
}

/* Since the guard of an earlier life was told of it. */
static bool has_changed(const struct record *r, const struct member_record *record)
{
	return !is_same_key(&r->key, &record->key) ||
	       (r->form_done && (uint32_t)r->form_done != (uint32_t)record->facts.form);
}

/* Was it here before, and comes now under another key, or after its end? */
static bool returns(const struct record *r, const struct member_record *record)
{
	if (r->life == RECORD_HINTED)
		return is_guarded(r) && has_changed(r, record);
	return r->presence == RECORD_LEAVING || r->life == RECORD_DEAD ||
	       !is_same_key(&r->key, &record->key);
}

static void changed_sa(struct member *m, struct record *r, const struct member_record *record)
{
	uint64_t old_pair = r->facts.pair;

	table_renew(r, m->config.self); /* lifetimes, encapsulation */
	table_set_facts(&m->table, r, &record->facts);
	if (r->form_done != record->facts.form) {
		r->form_done = record->facts.form;
		sequence_guard(m, r);
	}
	outbox_mark(m, r);
	if (r->facts.pair != old_pair)
		flow_choose(m, r);
}

static bool added_sa(struct member *m, const struct member_record *told)
{
	struct member_record record = *told;
	struct record *r = find_sa(m, &record.key, &record.facts.birth);
	uint64_t old_pair;

	if (!r)
		return false;
	old_pair = r->facts.pair;
	if (returns(r, &record)) {
		/* We may have removed it since this was told. */
		if (!m->starting && !kernel_has(m, &record.key))
			return true;
		return_sa(m, r, &record);
	} else if (r->life == RECORD_HINTED) {
		if (!is_same_key(&r->key, &record.key))
			table_move(&m->table, r, &record.key);
		adopt_sa(m, r, &record);
	} else if (!record_is_installed(r)) {
		r->form_done = record.facts.form;
		meet_creator(m, r, record.oseq);
		sequence_adopt(m, r, record.oseq);
	} else {
		changed_sa(m, r, &record);
	}
	inbound_taken(m, r, record.seq);
	inbound_look(m, r);
	table_changed(&m->table, r);
	flow_steer(m, r);
	if (r->facts.pair != old_pair)
		flow_apply_pair(m, old_pair);
	flow_apply_pair(m, r->facts.pair);
	return true;
}

bool member_added(struct member *m, const struct member_record *record)
{
	if (record->body_len > RECORD_BODY_MAX)
		return true;
	if (record->key.kind == RECORD_SA)
		return added_sa(m, record);
	return policy_added(m, record);
}

bool member_remembers(const struct member *m, const struct record_key *key, uint64_t birth)
{
	const struct record *r = table_find(&m->table, key);

	return (r && r->life == RECORD_ALIVE) || table_find_birth(&m->table, key, birth) ||
	       past_has(&m->past, birth);
}

int member_adopt(struct member *m, const struct record_key *key, uint64_t oseq)
{
	struct record *r = table_find(&m->table, key);

	if (!r || !record_is_installed(r))
		return -ENOENT;
	if (r->fence != FENCE_FOUND)
		return -EINVAL;
	r->creator = m->config.self;
	r->origin = RECORD_HERE;
	memcpy(r->journals, m->journals, sizeof(r->journals));
	table_renew(r, m->config.self);
	fence_judge(m, r);
	sequence_return(m, r, oseq);
	outbox_mark(m, r);
	m->counters.adopted++;
	return 0;
}

/* Whoever made it, as far as that is known and he is there. */
static bool speaks_for_policy(const struct member *m, const struct record *r)
{
	return r->origin == RECORD_HERE || r->author == m->config.self ||
	       r->version <= RECORD_FOUND || !(m->view.live >> r->author & 1);
}

static bool speaks_for_shared(const struct member *m, const struct record *r)
{
	return r->creator == m->config.self || r->creator >= ESPALIER_MEMBERS ||
	       !(m->view.live >> r->creator & 1);
}

/*
 * Is it ours to say that a record is over? Its IKE SA is where it was created or where it is owned;
 * in a life without a view yet we may have owned it before. A policy goes with its pair's SAs, too.
 */
static bool speaks_for(const struct member *m, const struct record *r)
{
	const struct record *sa = r;
	uint8_t owner;

	if (r->key.kind == RECORD_POLICY) {
		sa = flow_policy_sa(m, r);
		if (speaks_for_policy(m, r))
			return true;
		if (!sa)
			return false;
	}
	if (record_is_shared_sa(sa))
		return speaks_for_shared(m, sa);
	owner = member_flow_owner(m, sa);
	return sa->creator == m->config.self || owner == m->config.self || owner == ESPALIER_NOBODY;
}

void member_removed(struct member *m, const struct record_key *key)
{
	struct record *r = table_find(&m->table, key);

	if (!r || !record_is_installed(r))
		return;
	if (key->kind == RECORD_POLICY && life_is_held(m, r, NULL))
		life_keep(m, r, true);
	else if (!speaks_for(m, r))
		life_lost(m, r);
	else if (key->kind == RECORD_SA)
		life_depart(m, r);
	else
		life_end(m, r);
}

void member_flushed(struct member *m, const struct record_key *key)
{
	struct record *r = table_find(&m->table, key);

	if (!r)
		return;
	if (r->origin == RECORD_HERE)
		member_removed(m, key);
	else if (record_is_installed(r))
		life_lost(m, r);
}

void kernel_tick(struct member *m)
{
	struct departures *d = &m->departures;

	for (; d->count && m->now_us >= d->all[d->head].us + COMES_BACK_US; d->count--) {
		const struct departure *gone = &d->all[d->head];
		struct record *r = table_at(&m->table, gone->slot);

		d->head = (d->head + 1) & (d->size - 1);
		if (r && r->presence == RECORD_LEAVING && r->facts.birth == gone->birth)
			life_end(m, r);
	}
}

/* A shared SA that was made here has moved (XFRM_MSG_MIGRATE): another one, by its addresses, has
 * taken its place. */
void member_missing(struct member *m, const struct record_key *key)
{
	struct record *r = table_find(&m->table, key);

	if (!r || !record_is_installed(r))
		return;
	if (record_is_shared_sa(r) && r->creator == m->config.self)
		life_depart(m, r);
	else
		life_lost(m, r);
}
