/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * journal_file.h - the journal's file: a header, then entries, all of one size and each with a
 * checksum that depends on the journal's id, too. Used by one thread at a time.
 */
#ifndef JOURNAL_FILE_H
#define JOURNAL_FILE_H

#include "io/journal.h"
#include "io/journal_table.h"

struct journal_file {
	char *path, *path_new, *path_old;
	int lock_fd, folder_fd, fd;
	struct journal_config config; /* but not its path */
	uint32_t id;
	uint64_t n; /* entries in the file */
	bool unnamed; /* new, and still PATH.new */
	struct journal_table table; /* what of them must be kept */

	int compact_fd; /* PATH.new while it is being written, else -1 */
	uint64_t compact_n; /* entries in PATH.new */
	uint64_t compact_next, compact_end; /* entries of PATH that are still to be looked at */
	uint64_t compact_at; /* not before n has reached this: it failed */
};

/* As journal_open(). why_new: one sentence if a new journal was begun, else empty. */
int journal_file_open(struct journal_file *f, const struct journal_config *config,
	journal_handler handler, void *ctx, char *why_new, size_t why_size, char *err,
	size_t err_size);
int journal_file_begin(struct journal_file *f, char *err, size_t err_size); /* as journal_begin() */
void journal_file_close(struct journal_file *f);

struct journal_op {
	struct journal_entry entry;
	bool forget; /* the SA need not be kept; nothing is written */
};

/* Durable when it returns 0. After an error the file must not be written to again. */
int journal_file_write(struct journal_file *f, const struct journal_op *ops, size_t n);

/*
 * Rewriting the file without what need not be kept, a bounded piece at a time; entries may be
 * appended in between. If PATH.new cannot be written, it is given up until later; an error is
 * returned only if PATH is no longer sure.
 */
bool journal_file_compacts(const struct journal_file *f); /* there is something to do */
int journal_file_compact(struct journal_file *f);

#endif
