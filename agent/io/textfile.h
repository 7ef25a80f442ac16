/* SPDX-License-Identifier: BSD-2-Clause */
/* textfile.h - a file that others read, written anew now and then, by a thread: a disk may be
 * slow. */
#ifndef TEXTFILE_H
#define TEXTFILE_H

#include <stddef.h>

struct textfile;

/* 0 or -errno. Writes nothing yet. */
int textfile_open(const char *path, struct textfile **ret);
/* Waits for the thread; removes the file. Takes NULL. */
void textfile_close(struct textfile *f);
/* text: from malloc(), goes to the callee. Readers see the file before or this one, whole; what
 * waits to be written it replaces. */
void textfile_write(struct textfile *f, char *text, size_t len);
/* Of the last attempt: 0 or -errno. */
int textfile_error(const struct textfile *f);

#endif
