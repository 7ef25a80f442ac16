/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lock.h - what only one process may have at a time. A lock is a descriptor: it ends when that is
 * closed, so with its process, and no child that is executed has it. Functions return the
 * descriptor, -EBUSY when another one has the lock, or -errno; they never wait.
 */
#ifndef LOCK_H
#define LOCK_H

#include <stddef.h>

/*
 * A file, which is made if need be (mode 0600) and must never be removed: two processes could then
 * lock two files of one name. On -EBUSY, holder says who has it: "process 17", or "another
 * process".
 */
int lock_file(const char *path, char *holder, size_t holder_size);

/* A folder that is there, as it is named now: it may be removed by who has the lock. */
int lock_folder(const char *path, char *holder, size_t holder_size);

/* This network namespace. */
int lock_namespace(void);

#endif
