/* SPDX-License-Identifier: BSD-2-Clause */
#include "io/textfile.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct textfile {
	pthread_t thread;
	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t more;
	char *text; /* to be written, or NULL */
	size_t len;
	bool ends;
	atomic_int error;
	char *path, *next; /* next: becomes the file */
};

static int write_all(int fd, const char *text, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, text, len);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			text += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

/* Not through a link that somebody put there. For others to read, whatever the umask. */
static int replace(const struct textfile *f, const char *text, size_t len)
{
	int fd, r;

	(void)unlink(f->next);
	fd = open(f->next, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	r = fchmod(fd, 0644) < 0 ? -errno : write_all(fd, text, len);
	if (close(fd) < 0 && r == 0)
		r = -errno;
	if (r == 0 && rename(f->next, f->path) < 0)
		r = -errno;
	if (r < 0)
		(void)unlink(f->next);
	return r;
}

static void *write_texts(void *ctx)
{
	struct textfile *f = ctx;

	pthread_mutex_lock(&f->lock);
	while (!f->ends) {
		char *text = f->text;
		size_t len = f->len;

		if (!text) {
			pthread_cond_wait(&f->more, &f->lock);
			continue;
		}
		f->text = NULL;
		pthread_mutex_unlock(&f->lock);
		atomic_store(&f->error, replace(f, text, len));
		free(text);
		pthread_mutex_lock(&f->lock);
	}
	pthread_mutex_unlock(&f->lock);
	return NULL;
}

static void free_all(struct textfile *f)
{
	free(f->text);
	free(f->path);
	free(f->next);
	free(f);
}

int textfile_open(const char *path, struct textfile **ret)
{
	struct textfile *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return -ENOMEM;
	f->path = strdup(path);
	if (asprintf(&f->next, "%s.tmp", path) < 0)
		f->next = NULL;
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->more, NULL);
	r = f->path && f->next ? -pthread_create(&f->thread, NULL, write_texts, f) : -ENOMEM;
	if (r < 0)
		free_all(f);
	else
		*ret = f;
	return r;
}

void textfile_close(struct textfile *f)
{
	if (!f)
		return;
	pthread_mutex_lock(&f->lock);
	f->ends = true;
	pthread_cond_signal(&f->more);
	pthread_mutex_unlock(&f->lock);
	pthread_join(f->thread, NULL);
	(void)unlink(f->path);
	free_all(f);
}

void textfile_write(struct textfile *f, char *text, size_t len)
{
	char *before;

	pthread_mutex_lock(&f->lock);
	before = f->text;
	f->text = text;
	f->len = len;
	pthread_cond_signal(&f->more);
	pthread_mutex_unlock(&f->lock);
	free(before);
}

int textfile_error(const struct textfile *f)
{
	return atomic_load(&f->error);
}
