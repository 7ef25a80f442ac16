/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * policy.c - policies that are made and changed in this member's own kernel.
 *
 * SAs that move, and the policies that lead to them, are changed one by one and in any order, by an
 * IKE daemon or by us. Until the SAs have come to where a policy leads now, other members would
 * take it for a mistake. So the change waits for them a moment, and nobody hears of it; what the
 * policy is for does not leave in the clear meanwhile. If they do not come it is judged as it is.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/state.h"

#define WAITS_US 50000

static struct policy_change *change_at(const struct policy_changes *c, uint32_t i)
{
	return &c->all[(c->head + i) & (c->size - 1)];
}

static int changes_grow(struct policy_changes *c)
{
	uint32_t size = c->size ? 2 * c->size : 16;
	struct policy_change *all = calloc(size, sizeof(*all));

	if (!all)
		return -ENOMEM;
	for (uint32_t i = 0; i < c->count; i++)
		all[i] = *change_at(c, i);
	free(c->all);
	c->all = all;
	c->size = size;
	c->head = 0;
	return 0;
}

static void changes_pop(struct policy_changes *c)
{
	free(change_at(c, 0)->body);
	c->head++;
	c->count--;
	c->gone++;
}

void policy_free(struct member *m)
{
	while (m->changes.count)
		changes_pop(&m->changes);
	free(m->changes.all);
}

static bool leads_to_sa(const struct member *m, uint64_t pair, bool leaving)
{
	for (const struct record *r = table_pair_first(&m->table, pair); r;
		r = table_pair_next(&m->table, r))
		if (record_is_outbound_sa(r) && (leaving || r->presence != RECORD_LEAVING))
			return true;
	return false;
}

/* Does it lead to SAs now, and will when they have moved? */
static bool waits(const struct member *m, const struct record *policy, uint64_t pair)
{
	return policy->life == RECORD_ALIVE && pair && !leads_to_sa(m, pair, false) &&
	       leads_to_sa(m, policy->facts.pair, true);
}

/* The last change of a policy counts. False: there is no memory. */
static bool put_off(struct member *m, struct record *r, const struct member_record *record)
{
	struct policy_changes *c = &m->changes;
	uint8_t *body = malloc(record->body_len);
	struct policy_change *change;

	if (!body || (c->count == c->size && changes_grow(c) < 0)) {
		free(body);
		return false;
	}
	memcpy(body, record->body, record->body_len);
	change = change_at(c, c->count++);
	*change = (struct policy_change){
		.us = m->now_us, .slot = r->slot, .record = *record, .body = body};
	change->record.body = body;
	r->change = c->gone + c->count;
	return true;
}

static bool is_as_told(const struct record *r, const struct member_record *record)
{
	return r->body_len == record->body_len && r->body_len &&
	       memcmp(r->body, record->body, record->body_len) == 0;
}

static bool take(struct member *m, struct record *r, const struct member_record *record)
{
	bool found = m->starting && !m->config.first; /* it may be a copy */
	bool same = is_as_told(r, record);
	uint64_t old_pair;

	if (!found && (same || r->life != RECORD_ALIVE || !record_is_installed(r)))
		r->origin = RECORD_HERE;
	r->unwanted = false;
	if (r->life == RECORD_ALIVE && record_is_installed(r) && same)
		return true;
	if (table_set_body(r, record->body, record->body_len) < 0)
		return false;
	old_pair = r->facts.pair;
	r->life = RECORD_ALIVE;
	r->presence = RECORD_INSTALLED;
	if (r->version < RECORD_FOUND)
		r->version = RECORD_FOUND;
	if (found)
		r->author = m->config.self; /* as long as nobody says that it was made */
	else
		table_renew(r, m->config.self);
	table_set_facts(&m->table, r, &record->facts);
	table_changed(&m->table, r);
	outbox_mark(m, r);
	flow_apply_pair(m, old_pair);
	flow_apply(m, r);
	return true;
}

static bool judge(struct member *m, struct record *r, const struct member_record *record)
{
	r->change = 0;
	if (m->starting || r->life != RECORD_ALIVE || is_as_told(r, record) ||
		!life_is_held(m, r, &record->facts))
		return take(m, r, record);
	life_keep(m, r, false);
	return true;
}

bool policy_added(struct member *m, const struct member_record *record)
{
	struct record *r = life_begin(m, &record->key, 0);

	if (!r)
		return false;
	if (!m->starting && waits(m, r, record->facts.pair) && put_off(m, r, record))
		return true;
	return judge(m, r, record);
}

/* Of those that nothing has come of in another way. */
static void look(struct member *m, uint32_t i)
{
	const struct policy_change *change = change_at(&m->changes, i);
	struct record *r = table_at(&m->table, change->slot);

	if (!r || r->change != m->changes.gone + i + 1)
		return;
	if (m->now_us >= change->us + WAITS_US || !waits(m, r, change->record.facts.pair))
		judge(m, r, &change->record);
}

void policy_tick(struct member *m)
{
	struct policy_changes *c = &m->changes;

	for (uint32_t i = 0; i < c->count; i++)
		look(m, i);
	while (c->count && m->now_us >= change_at(c, 0)->us + WAITS_US)
		changes_pop(c);
}
