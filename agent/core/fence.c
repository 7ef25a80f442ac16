/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fence.c - SAs of which this member may emit nothing until they are rekeyed, since nobody can tell
 * any more which numbers are out.
 */
#include "core/state.h"

static bool is_journal_lost(const struct member *m, const struct record *r)
{
	return r->entries == ENTRIES_UNKNOWN && r->journals[m->config.self] != m->config.journal;
}

static bool is_known(const struct member *m, const struct record *r)
{
	return r->creator != ESPALIER_NOBODY || r->journals[m->config.self] != 0;
}

static enum record_fence judge(const struct member *m, const struct record *r)
{
	if (!record_is_outbound_sa(r) || r->life != RECORD_ALIVE)
		return FENCE_NONE;
	if (r->creator == RECORD_CREATOR_DISPUTED)
		return FENCE_TWO_CREATORS;
	if (r->fence == FENCE_JOURNAL_OLD || r->journals[m->config.self] == RECORD_JOURNAL_DISPUTED)
		return FENCE_JOURNAL_OLD;
	if (!is_journal_lost(m, r))
		return FENCE_NONE;
	return is_known(m, r) ? FENCE_JOURNAL_LOST : FENCE_FOUND;
}

static void set(struct member *m, struct record *r, enum record_fence fence)
{
	if (fence == r->fence)
		return;
	if (r->fence != FENCE_NONE)
		m->fenced[r->fence]--;
	if (fence != FENCE_NONE)
		m->fenced[fence]++;
	r->fence = fence;
}

void fence_judge(struct member *m, struct record *r)
{
	enum record_fence fence = judge(m, r);

	if (fence == r->fence)
		return;
	set(m, r, fence);
	if (fence == FENCE_TWO_CREATORS)
		m->ops->notice(m->ctx, NOTICE_TWO_CREATORS, &r->key, m->config.self);
	if (fence == FENCE_TWO_CREATORS || fence == FENCE_JOURNAL_OLD)
		sequence_shut(m, r);
}

void fence_doubt(struct member *m, struct record *r, uint8_t from)
{
	if (!m->doubted) {
		m->doubted = true;
		m->begins_anew |= m->ops->journal_old(m->ctx, &r->key, from);
	}
	if (r->fence == FENCE_TWO_CREATORS || r->fence == FENCE_JOURNAL_OLD)
		return;
	set(m, r, FENCE_JOURNAL_OLD);
	/* So all know that we may not have it. */
	r->journals[m->config.self] = RECORD_JOURNAL_DISPUTED;
	table_changed(&m->table, r);
	outbox_mark_state(m, r);
	m->ops->notice(m->ctx, NOTICE_JOURNAL_OLD, &r->key, from);
	sequence_shut(m, r);
}
