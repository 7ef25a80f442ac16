/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * journal.h - the file that remembers which sequence blocks this member has entered.
 *
 * Nothing may be emitted out of a block before its entry is durable here. The file is appended to
 * by a thread of its own, so that a slow disk delays nothing else. What is no longer needed is
 * dropped from time to time.
 */
#ifndef JOURNAL_H
#define JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/record.h"

struct journal;

/* What a journal belongs to: with another one of these, block numbers mean something else. */
struct journal_config {
	const char *path; /* PATH.lock, PATH.new and PATH.old beside it are ours, too */
	uint8_t self; /* own member id */
	unsigned int block_bits, modulus;
};

/* Once for each entry that is stored, in no order, with block numbers of which the highest of an SA
 * counts. */
typedef void (*journal_handler)(
	void *ctx, const struct record_key *key, uint64_t birth, uint64_t block);

/*
 * Reads it; nothing is changed before journal_begin(). If the file is not there, or is damaged
 * otherwise than by a torn last write, there will be a new journal with another id, and the old
 * file will be renamed to PATH.old. -EBUSY: another process has it. -ESTALE: it is of another
 * configuration. err: one sentence.
 */
int journal_open(const struct journal_config *config, journal_handler handler, void *ctx,
	struct journal **ret, char *err, size_t err_size);

/* To be called once, before the first journal_commit(): what is to be written has a place. */
int journal_begin(struct journal *j, char *err, size_t err_size);

/* Waits until what was committed is written. Takes NULL. */
void journal_close(struct journal *j);

/* Why a new journal is begun, one sentence; NULL: the stored one goes on. */
const char *journal_is_new(const struct journal *j);
uint32_t journal_id(const struct journal
		*j); /* random, not 0 or UINT32_MAX; lives as long as the journal is whole */

/*
 * Only buffered until journal_commit(). Entries are numbered from 1 in the order they are added.
 * Without memory the journal ends here, as after a write error.
 */
void journal_add(struct journal *j, const struct record_key *key, uint64_t birth, uint64_t block);

/* The SA is dead for the whole cluster and for ever: its entries need not be kept. */
void journal_forget(struct journal *j, uint64_t birth);

/* Hands what was added to the writing thread. */
void journal_commit(struct journal *j);

int journal_fd(const struct journal *j); /* readable: call journal_process() */

/* *ret_durable: all entries up to this number are on the disk. -EIO: and no others will be, see
 * journal_error(). */
int journal_process(struct journal *j, uint64_t *ret_durable);

/* One sentence, or NULL. */
const char *journal_error(const struct journal *j);

#endif
