/* SPDX-License-Identifier: BSD-2-Clause */
/* table_merge.c - how two members that have seen different histories of a record come to the same.
 */
#include <string.h>

#include "core/table.h"

void table_renew(struct record *r, uint8_t author)
{
	/* No number of changes gets there; another member's word may, and must not begin anew. */
	if (r->version < UINT64_MAX)
		r->version++;
	r->author = author;
}

bool table_newer(const struct record *a, const struct record *b)
{
	if (a->moves != b->moves)
		return a->moves > b->moves;
	if (a->version != b->version)
		return a->version > b->version;
	if (a->author != b->author)
		return a->author > b->author;
	/* An author that restarted may have used a version twice. */
	if (a->bucket != b->bucket)
		return a->bucket > b->bucket;
	if (a->pinned != b->pinned)
		return a->pinned > b->pinned;
	if (a->paired != b->paired)
		return a->paired;
	if (a->facts.pair != b->facts.pair)
		return a->facts.pair > b->facts.pair;
	if (a->facts.form != b->facts.form)
		return a->facts.form > b->facts.form;
	if (record_is_shared_sa(a) && a->creator != b->creator)
		return a->creator < b->creator;
	if (a->key.kind == RECORD_SA)
		return memcmp(&a->key, &b->key, sizeof(a->key)) > 0;
	return a->life == RECORD_DEAD && b->life == RECORD_ALIVE;
}

static bool raise(uint64_t *value, uint64_t to)
{
	if (to <= *value)
		return false;
	*value = to;
	return true;
}

bool table_use(struct record *r, const struct record_usage *used)
{
	bool more = raise(&r->used.bytes, used->bytes);

	return raise(&r->used.packets, used->packets) || more;
}

static int merge_state(struct record *r, const struct record *heard)
{
	bool changed = raise(&r->top, heard->top);

	changed |= raise(&r->seq, heard->seq);
	changed |= table_use(r, &heard->used);
	for (unsigned int i = 0; i < ESPALIER_MEMBERS; i++)
		changed |= raise(&r->upto[i], heard->upto[i]);
	return changed ? TABLE_STATE : 0;
}

/* A known creator wins over an unknown one. Two are one too many for the numbers of an outbound SA;
 * an inbound one has none. Of a shared SA it is who made it last: that is content. */
static uint8_t merge_creator(const struct record *r, uint8_t heard)
{
	if (r->creator == ESPALIER_NOBODY)
		return heard;
	if (r->facts.direction == ESPALIER_OUT)
		return RECORD_CREATOR_DISPUTED;
	return heard < r->creator ? heard : r->creator;
}

static int merge_origin(struct record *r, const struct record *heard)
{
	int changed = 0;

	if (heard->creator != r->creator && heard->creator != ESPALIER_NOBODY &&
		!record_is_shared_sa(r)) {
		uint8_t was = r->creator;

		r->creator = merge_creator(r, heard->creator);
		changed = r->creator != was ? TABLE_CONTENT : 0;
	}
	for (unsigned int i = 0; i < ESPALIER_MEMBERS; i++) {
		uint32_t ours = r->journals[i], theirs = heard->journals[i];

		if (theirs == 0 || theirs == ours)
			continue;
		r->journals[i] = ours == 0 ? theirs : RECORD_JOURNAL_DISPUTED;
		if (r->journals[i] != ours)
			changed = TABLE_CONTENT;
	}
	return changed;
}

static void take_content(struct table *t, struct record *r, const struct record *heard)
{
	if (memcmp(&r->key, &heard->key, sizeof(r->key)) != 0)
		table_move(t, r, &heard->key);
	r->moves = heard->moves;
	r->version = heard->version;
	r->author = heard->author;
	r->life = heard->life;
	r->bucket = heard->bucket;
	r->pinned = heard->pinned;
	r->paired = heard->paired;
	table_set_facts(t, r, &heard->facts);
	if (record_is_shared_sa(r))
		r->creator = heard->creator;
}

/* The newer content wins; but a dead SA stays dead, whatever version somebody gave it who did not
 * know, in this life. A policy may come back. */
static int merge_content(struct table *t, struct record *r, const struct record *heard)
{
	bool ends = r->key.kind == RECORD_SA && r->life != RECORD_HINTED &&
		    r->life != heard->life && table_life(r->moves) == table_life(heard->moves);
	int merged = 0;

	if (r->life == RECORD_HINTED || table_newer(heard, r)) {
		take_content(t, r, heard);
		merged = TABLE_CONTENT;
	} else if (table_newer(r, heard)) {
		merged = TABLE_OURS_NEWER;
	}
	if (ends) {
		merged |= heard->life == RECORD_ALIVE ? TABLE_OURS_NEWER : TABLE_CONTENT;
		r->life = RECORD_DEAD;
	}
	return merged;
}

int table_merge(struct table *t, struct record *r, const struct record *heard)
{
	int merged = merge_content(t, r, heard);

	if (r->key.kind == RECORD_SA)
		merged |= merge_origin(r, heard) | merge_state(r, heard);
	if (merged & (TABLE_CONTENT | TABLE_STATE))
		table_changed(t, r);
	return merged;
}
