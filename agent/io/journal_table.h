/* SPDX-License-Identifier: BSD-2-Clause */
/* journal_table.h - the highest block entered, by birth: what a journal must keep. */
#ifndef JOURNAL_TABLE_H
#define JOURNAL_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/record.h"

/* No padding: written to the file as it is. */
struct journal_entry {
	struct record_key key; /* what the SA was under then; kind 0: an empty place in the table */
	uint64_t birth;
	uint64_t block;
};

/* Open addressing, linear probing. All zero: empty. */
struct journal_table {
	struct journal_entry *entries;
	size_t size, n; /* size: a power of two */
};

/* Keeps the entry with the higher block. 0 or -ENOMEM. */
int journal_table_raise(struct journal_table *t, const struct journal_entry *entry);
const struct journal_entry *journal_table_find(const struct journal_table *t, uint64_t birth);
void journal_table_drop(struct journal_table *t, uint64_t birth);
void journal_table_clear(struct journal_table *t);

#endif
