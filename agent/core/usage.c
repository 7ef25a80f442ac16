/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * usage.c - how much is used up of the limits of an SA: they are the SA's, and not those of each
 * kernel's copy of it.
 *
 * Each kernel counts what it carries itself, and is told what others have counted, so that the one
 * that takes over goes on from there. What two carry at one time counts once.
 */
#include "core/state.h"

bool usage_is_less(const struct record_usage *a, const struct record_usage *b)
{
	return a->bytes < b->bytes || a->packets < b->packets;
}

void usage_follow(struct member *m, const struct record *r, struct record_usage before)
{
	if (r->life == RECORD_ALIVE && record_is_installed(r) && r->facts.limited &&
		usage_is_less(&before, &r->used))
		m->ops->use(m->ctx, &r->key, &r->used);
}

void member_used(struct member *m, uint32_t slot, const struct record_usage *used)
{
	struct record *r = table_at(&m->table, slot);

	if (!r || r->key.kind != RECORD_SA || r->life != RECORD_ALIVE || !record_is_installed(r) ||
		!r->facts.limited)
		return;
	if (table_use(r, used))
		outbox_mark_position(m, r);
	/* It was made again with its keys, say. */
	usage_follow(m, r, *used);
}
