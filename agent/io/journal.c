/* SPDX-License-Identifier: BSD-2-Clause */
#include "io/journal.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "io/journal_file.h"

#define KEEP 4096 /* ops that a batch keeps room for; at a start there may be millions */

/* What was added and not yet written. */
struct batch {
	struct journal_op *ops;
	size_t n, size;
};

struct journal {
	/* The caller's thread. */
	struct batch buffer;
	bool no_memory;
	char why_new[256];
	_Atomic bool begun; /* the file may be written to */

	/* Both, under the lock. */
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct batch queue;
	bool stop;

	/* The writing thread's. */
	pthread_t thread;
	struct journal_file file;
	uint64_t written;

	/* From the writing thread to the caller's. */
	int event_fd;
	_Atomic uint64_t durable;
	char error[256];
	_Atomic bool failed; /* error is set */
};

static int batch_push(struct batch *b, const struct journal_op *op)
{
	if (b->n == b->size) {
		size_t size = b->size ? 2 * b->size : 64;
		struct journal_op *ops = reallocarray(b->ops, size, sizeof(*ops));

		if (!ops)
			return -ENOMEM;
		b->ops = ops;
		b->size = size;
	}
	b->ops[b->n++] = *op;
	return 0;
}

static void tell(struct journal *j)
{
	const uint64_t one = 1;

	/* Can fail only if it is readable already. */
	(void)!write(j->event_fd, &one, sizeof(one));
}

static void fail(struct journal *j, int r)
{
	snprintf(j->error, sizeof(j->error),
		"The journal %s cannot be written (%s): this member enters no more blocks",
		j->file.path, strerror(-r));
	atomic_store(&j->failed, true);
	tell(j);
}

static void write_batch(struct journal *j, const struct batch *b)
{
	int r;

	if (atomic_load(&j->failed))
		return;
	r = journal_file_write(&j->file, b->ops, b->n);
	if (r < 0) {
		fail(j, r);
		return;
	}
	for (size_t i = 0; i < b->n; i++)
		j->written += !b->ops[i].forget;
	atomic_store(&j->durable, j->written);
	tell(j);
}

static bool compacts(const struct journal *j)
{
	return atomic_load(&j->begun) && !atomic_load(&j->failed) &&
	       journal_file_compacts(&j->file);
}

/* Waits for something to do and takes what is queued into b. False: there is nothing more, stop. */
static bool take(struct journal *j, struct batch *b)
{
	struct batch empty = *b;
	bool more;

	empty.n = 0;
	if (empty.size > KEEP) {
		free(empty.ops);
		empty = (struct batch){0};
	}
	pthread_mutex_lock(&j->lock);
	while (j->queue.n == 0 && !j->stop && !compacts(j))
		pthread_cond_wait(&j->wake, &j->lock);
	more = j->queue.n > 0 || !j->stop;
	*b = j->queue;
	j->queue = empty;
	pthread_mutex_unlock(&j->lock);
	return more;
}

static void *run(void *arg)
{
	struct batch b = {0};
	struct journal *j = arg;

	while (take(j, &b)) {
		int r = 0;

		if (b.n > 0)
			write_batch(j, &b);
		/* A piece, even if there is always something to write: else the file grows. */
		if (compacts(j))
			r = journal_file_compact(&j->file);
		if (r < 0)
			fail(j, r);
	}
	free(b.ops);
	return NULL;
}

/* Signals are for the thread that opened the journal. */
static int start(struct journal *j)
{
	sigset_t all, before;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&j->thread, NULL, run, j);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -r;
}

int journal_open(const struct journal_config *config, journal_handler handler, void *ctx,
	struct journal **ret, char *err, size_t err_size)
{
	struct journal *j = calloc(1, sizeof(*j));
	int r;

	snprintf(
		err, err_size, "The journal %s cannot be used: %s", config->path, strerror(ENOMEM));
	if (!j)
		return -ENOMEM;
	r = journal_file_open(
		&j->file, config, handler, ctx, j->why_new, sizeof(j->why_new), err, err_size);
	if (r < 0) {
		free(j);
		return r;
	}
	pthread_mutex_init(&j->lock, NULL);
	pthread_cond_init(&j->wake, NULL);
	j->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = j->event_fd < 0 ? -errno : start(j);
	if (r < 0) {
		snprintf(err, err_size, "The journal %s has no thread: %s", config->path,
			strerror(-r));
		if (j->event_fd >= 0)
			close(j->event_fd);
		journal_file_close(&j->file);
		free(j);
		return r;
	}
	*ret = j;
	return 0;
}

int journal_begin(struct journal *j, char *err, size_t err_size)
{
	int r = journal_file_begin(&j->file, err, err_size);

	if (r < 0)
		return r;
	pthread_mutex_lock(&j->lock);
	atomic_store(&j->begun, true);
	pthread_cond_signal(&j->wake); /* perhaps there is something to compact */
	pthread_mutex_unlock(&j->lock);
	return 0;
}

void journal_close(struct journal *j)
{
	if (!j)
		return;
	pthread_mutex_lock(&j->lock);
	j->stop = true;
	pthread_cond_signal(&j->wake);
	pthread_mutex_unlock(&j->lock);
	pthread_join(j->thread, NULL);
	pthread_cond_destroy(&j->wake);
	pthread_mutex_destroy(&j->lock);
	close(j->event_fd);
	journal_file_close(&j->file);
	free(j->buffer.ops);
	free(j->queue.ops);
	free(j);
}

const char *journal_is_new(const struct journal *j)
{
	return *j->why_new ? j->why_new : NULL;
}

uint32_t journal_id(const struct journal *j)
{
	return j->file.id;
}

static void push(struct journal *j, const struct journal_op *op)
{
	if (!j->no_memory && batch_push(&j->buffer, op) < 0)
		j->no_memory = true;
}

void journal_add(struct journal *j, const struct record_key *key, uint64_t birth, uint64_t block)
{
	push(j, &(struct journal_op){.entry = {*key, birth, block}});
}

void journal_forget(struct journal *j, uint64_t birth)
{
	push(j, &(struct journal_op){.entry = {.birth = birth}, .forget = true});
}

void journal_commit(struct journal *j)
{
	struct batch *from = &j->buffer, *to = &j->queue;

	if (from->n == 0)
		return;
	pthread_mutex_lock(&j->lock);
	if (to->n == 0) {
		struct batch swap = *to;

		*to = *from;
		*from = swap;
	} else {
		/* Without memory the rest stays where it is, in order, for the next time. */
		size_t done = 0;

		while (done < from->n && batch_push(to, &from->ops[done]) == 0)
			done++;
		from->n -= done;
		memmove(from->ops, from->ops + done, from->n * sizeof(*from->ops));
	}
	pthread_cond_signal(&j->wake);
	pthread_mutex_unlock(&j->lock);
}

int journal_fd(const struct journal *j)
{
	return j->event_fd;
}

int journal_process(struct journal *j, uint64_t *ret_durable)
{
	uint64_t ignored;

	(void)!read(j->event_fd, &ignored, sizeof(ignored));
	*ret_durable = atomic_load(&j->durable);
	return journal_error(j) ? -EIO : 0;
}

const char *journal_error(const struct journal *j)
{
	if (atomic_load(&j->failed))
		return j->error;
	return j->no_memory
		       ? "The journal ended for want of memory: this member enters no more blocks"
		       : NULL;
}
