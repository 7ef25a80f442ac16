/* SPDX-License-Identifier: BSD-2-Clause */
#include "io/journal_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"

static size_t home(const struct journal_table *t, uint64_t birth)
{
	return hash_mix(birth) & (t->size - 1);
}

/* The entry's place, or the empty one where it would be. */
static struct journal_entry *find_place(const struct journal_table *t, uint64_t birth)
{
	size_t i = home(t, birth);

	while (t->entries[i].key.kind != 0 && t->entries[i].birth != birth)
		i = (i + 1) & (t->size - 1);
	return &t->entries[i];
}

static int grow(struct journal_table *t)
{
	struct journal_table bigger = {.size = t->size ? 2 * t->size : 64, .n = t->n};

	bigger.entries = calloc(bigger.size, sizeof(*bigger.entries));
	if (!bigger.entries)
		return -ENOMEM;
	for (size_t i = 0; i < t->size; i++)
		if (t->entries[i].key.kind != 0)
			*find_place(&bigger, t->entries[i].birth) = t->entries[i];
	free(t->entries);
	*t = bigger;
	return 0;
}

int journal_table_raise(struct journal_table *t, const struct journal_entry *entry)
{
	struct journal_entry *place;

	if (t->n + 1 > t->size / 4 * 3 && grow(t) < 0)
		return -ENOMEM;
	place = find_place(t, entry->birth);
	if (place->key.kind == 0) {
		*place = *entry;
		t->n++;
	} else if (place->block < entry->block) {
		*place = *entry;
	}
	return 0;
}

const struct journal_entry *journal_table_find(const struct journal_table *t, uint64_t birth)
{
	const struct journal_entry *place = t->size ? find_place(t, birth) : NULL;

	return place && place->key.kind != 0 ? place : NULL;
}

void journal_table_drop(struct journal_table *t, uint64_t birth)
{
	struct journal_entry *place = t->size ? find_place(t, birth) : NULL;
	size_t hole, i;

	if (!place || place->key.kind == 0)
		return;
	hole = i = (size_t)(place - t->entries);
	/* What follows moves up, unless it would then be before its home. */
	for (;;) {
		size_t at;

		i = (i + 1) & (t->size - 1);
		if (t->entries[i].key.kind == 0)
			break;
		at = home(t, t->entries[i].birth);
		if (((i - at) & (t->size - 1)) >= ((i - hole) & (t->size - 1))) {
			t->entries[hole] = t->entries[i];
			hole = i;
		}
	}
	memset(&t->entries[hole], 0, sizeof(*t->entries));
	t->n--;
}

void journal_table_clear(struct journal_table *t)
{
	free(t->entries);
	*t = (struct journal_table){0};
}
