/* SPDX-License-Identifier: BSD-2-Clause */
#include "io/journal_file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/digest.h"
#include "io/lock.h"

#define MAGIC "espalier"
#define VERSION 2
#define PIECE 1024 /* records read or written at once */
#define COMPACT_MIN (16 * PIECE) /* a file smaller than this is left alone */

/* Host byte order: a journal does not travel. */
struct header {
	char magic[8];
	uint32_t version;
	uint32_t id;
	uint32_t self, block_bits, modulus;
	uint32_t reserved[5];
	uint64_t checksum;
};

struct stored {
	struct journal_entry entry;
	uint64_t checksum;
};

static_assert(sizeof(struct header) == sizeof(struct stored), "one size");
static_assert(sizeof(struct journal_entry) == 48, "no padding");

/* 64 bits of SHA-256 over the id and what comes before the checksum. */
static uint64_t checksum(uint32_t id, const void *data)
{
	uint8_t in[sizeof(id) + offsetof(struct stored, checksum)], out[DIGEST_SIZE];
	uint64_t v;

	memcpy(in, &id, sizeof(id));
	memcpy(in + sizeof(id), data, offsetof(struct stored, checksum));
	digest_sha256(in, sizeof(in), out);
	memcpy(&v, out, sizeof(v));
	return v;
}

static bool is_whole(uint32_t id, const struct stored *s)
{
	return (s->entry.key.kind == RECORD_SA || s->entry.key.kind == RECORD_POLICY) &&
	       s->checksum == checksum(id, s);
}

static char *join(const char *path, const char *suffix)
{
	char *joined;

	return asprintf(&joined, "%s%s", path, suffix) < 0 ? NULL : joined;
}

static off_t offset_of(uint64_t n)
{
	return (off_t)((n + 1) * sizeof(struct stored)); /* after the header */
}

static int write_all(int fd, const void *data, size_t len, off_t at)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = pwrite(fd, p, len, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

/* Bytes read, fewer than len only at the end of the file; or -errno. */
static ssize_t read_all(int fd, void *data, size_t len, off_t at)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, (char *)data + done, len - done, at + (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

/* Makes a file with a header and nothing else. */
static int create(const struct journal_file *f, int *ret_fd)
{
	struct header h = {.magic = MAGIC,
		.version = VERSION,
		.id = f->id,
		.self = f->config.self,
		.block_bits = f->config.block_bits,
		.modulus = f->config.modulus};
	int fd = open(f->path_new, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600), r;

	if (fd < 0)
		return -errno;
	h.checksum = checksum(h.id, &h);
	r = write_all(fd, &h, sizeof(h), 0);
	if (r < 0) {
		close(fd);
		unlink(f->path_new);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

/* A new journal, as PATH.new. */
static int make(struct journal_file *f)
{
	int r;

	do {
		digest_random(&f->id, sizeof(f->id));
	} while (f->id == 0 || f->id == UINT32_MAX);
	r = create(f, &f->fd);
	if (r < 0)
		return r;
	f->unnamed = true;
	return fdatasync(f->fd) < 0 ? -errno : 0;
}

static int name(struct journal_file *f)
{
	if (rename(f->path, f->path_old) < 0 && errno != ENOENT)
		return -errno;
	if (rename(f->path_new, f->path) < 0) {
		int r = -errno;

		(void)rename(f->path_old, f->path);
		return r;
	}
	f->unnamed = false;
	return fsync(f->folder_fd) < 0 ? -errno : 0;
}

int journal_file_begin(struct journal_file *f, char *err, size_t err_size)
{
	int r = 0;

	if (f->unnamed)
		r = name(f);
	else if (ftruncate(f->fd, offset_of(f->n)) < 0 || fsync(f->fd) < 0)
		r = -errno; /* what an earlier life wrote and did not sync is in the table, too */
	if (r < 0)
		snprintf(err, err_size, "The journal %s cannot be used: %s", f->path, strerror(-r));
	return r;
}

/* 0: it goes on; 1: it is of no use; -ESTALE: it is of use, but not here. `why` says why. */
static int check_header(struct journal_file *f, char *why, size_t why_size)
{
	struct header h;
	ssize_t n = read_all(f->fd, &h, sizeof(h), 0);

	if (n < 0)
		return (int)n;
	if (n < (ssize_t)sizeof(h) || memcmp(h.magic, MAGIC, sizeof(h.magic)) != 0 ||
		h.checksum != checksum(h.id, &h)) {
		snprintf(why, why_size, "the header of %s is damaged", f->path);
		return 1;
	}
	if (h.version != VERSION || h.self != f->config.self ||
		h.block_bits != f->config.block_bits || h.modulus != f->config.modulus) {
		snprintf(why, why_size,
			"The journal %s is of member %u with blocks of 2^%u numbers and modulus %u "
			"(format %u), not of this configuration: correct that, or, when the "
			"cluster has no SAs of that time any more, remove the file",
			f->path, h.self, h.block_bits, h.modulus, h.version);
		return -ESTALE;
	}
	f->id = h.id;
	return 0;
}

/*
 * Counts the entries that are whole into f->n and takes them into the table. 1: damaged before the
 * end; what is damaged at the end was being written when the power failed, and nobody was told that
 * it is durable.
 */
static int scan(struct journal_file *f, uint64_t *ret_bad)
{
	struct stored piece[PIECE];
	bool bad = false;
	ssize_t len;

	for (uint64_t next = 0;; next += PIECE) {
		len = read_all(f->fd, piece, sizeof(piece), offset_of(next));
		if (len < 0)
			return (int)len;
		for (uint64_t i = 0; i < (size_t)len / sizeof(*piece); i++) {
			if (!is_whole(f->id, &piece[i])) {
				bad = true;
				continue;
			}
			if (bad) {
				*ret_bad = f->n;
				return 1;
			}
			f->n++;
			if (journal_table_raise(&f->table, &piece[i].entry) < 0)
				return -ENOMEM;
		}
		if (len < (ssize_t)sizeof(piece))
			return 0;
	}
}

/* Takes over the stored journal. 0, or 1: there is none that is of use. */
static int load(struct journal_file *f, char *why, size_t why_size)
{
	struct stat st;
	uint64_t bad;
	int r;

	f->fd = open(f->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (f->fd < 0 && errno == ENOENT) {
		snprintf(why, why_size, "there was none at %s", f->path);
		return 1;
	}
	if (f->fd < 0)
		return -errno;
	if (fstat(f->fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	r = check_header(f, why, why_size);
	if (r != 0)
		return r;
	r = scan(f, &bad);
	if (r > 0)
		snprintf(why, why_size, "entry %llu of %s is damaged", (unsigned long long)bad + 1,
			f->path);
	return r;
}

static int load_or_make(struct journal_file *f, char *why, size_t why_size)
{
	int r = load(f, why, why_size);

	if (r <= 0)
		return r;
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
	f->n = 0;
	journal_table_clear(&f->table);
	return make(f);
}

/* Not of the journal itself: that is replaced from time to time. */
static int lock(struct journal_file *f, char *err, size_t err_size)
{
	char *path = join(f->path, ".lock"), holder[32];

	if (!path)
		return -ENOMEM;
	f->lock_fd = lock_file(path, holder, sizeof(holder));
	free(path);
	if (f->lock_fd == -EBUSY)
		snprintf(err, err_size,
			"The journal %s is in use by %s: stop that, or give this one another",
			f->path, holder);
	return f->lock_fd < 0 ? f->lock_fd : 0;
}

static int set_paths(struct journal_file *f, const char *path)
{
	char *folder = strdup(path);

	if (folder)
		f->folder_fd = open(dirname(folder), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	free(folder);
	if (f->folder_fd < 0)
		return -errno;
	f->path = join(path, "");
	f->path_new = join(path, ".new");
	f->path_old = join(path, ".old");
	return f->path && f->path_new && f->path_old ? 0 : -ENOMEM;
}

int journal_file_open(struct journal_file *f, const struct journal_config *config,
	journal_handler handler, void *ctx, char *why_new, size_t why_size, char *err,
	size_t err_size)
{
	int r;

	*f = (struct journal_file){
		.lock_fd = -1, .folder_fd = -1, .fd = -1, .compact_fd = -1, .config = *config};
	*why_new = 0;
	r = set_paths(f, config->path);
	if (r == 0)
		r = lock(f, err, err_size);
	if (r == 0)
		r = load_or_make(f, err, err_size);
	if (f->unnamed)
		snprintf(why_new, why_size, "%s", err);
	if (r < 0 && r != -EBUSY && r != -ESTALE)
		snprintf(err, err_size, "The journal %s cannot be used: %s", config->path,
			strerror(-r));
	if (r < 0) {
		journal_file_close(f);
		return r;
	}
	for (size_t i = 0; i < f->table.size; i++) {
		const struct journal_entry *e = &f->table.entries[i];

		if (e->key.kind != 0)
			handler(ctx, &e->key, e->birth, e->block);
	}
	return 0;
}

static void give_up_compacting(struct journal_file *f)
{
	close(f->compact_fd);
	f->compact_fd = -1;
	unlink(f->path_new);
	f->compact_at = 2 * f->n;
}

void journal_file_close(struct journal_file *f)
{
	if (f->compact_fd >= 0)
		give_up_compacting(f);
	if (f->unnamed)
		unlink(f->path_new);
	if (f->fd >= 0)
		close(f->fd);
	if (f->folder_fd >= 0)
		close(f->folder_fd);
	if (f->lock_fd >= 0)
		close(f->lock_fd);
	free(f->path);
	free(f->path_new);
	free(f->path_old);
	journal_table_clear(&f->table);
}

/* Writes entries behind the first *n of a file, without syncing. */
static int write_entries(const struct journal_file *f, int fd, const struct journal_op *ops,
	size_t count, uint64_t *n)
{
	struct stored piece[PIECE];
	size_t i = 0;

	while (i < count) {
		size_t some = 0;
		int r;

		for (; i < count && some < PIECE; i++) {
			if (ops[i].forget)
				continue;
			piece[some].entry = ops[i].entry;
			piece[some].checksum = checksum(f->id, &piece[some]);
			some++;
		}
		r = write_all(fd, piece, some * sizeof(*piece), offset_of(*n));
		if (r < 0)
			return r;
		*n += some;
	}
	return 0;
}

int journal_file_write(struct journal_file *f, const struct journal_op *ops, size_t n)
{
	uint64_t before = f->n;
	int r = write_entries(f, f->fd, ops, n, &f->n);

	if (r < 0)
		return r;
	if (f->n > before && fdatasync(f->fd) < 0)
		return -errno;
	for (size_t i = 0; i < n; i++) {
		const struct journal_entry *e = &ops[i].entry;

		if (ops[i].forget)
			journal_table_drop(&f->table, e->birth);
		else if (journal_table_raise(&f->table, e) < 0)
			return -ENOMEM;
	}
	if (f->compact_fd >= 0 && write_entries(f, f->compact_fd, ops, n, &f->compact_n) < 0)
		give_up_compacting(f);
	return 0;
}

bool journal_file_compacts(const struct journal_file *f)
{
	return f->compact_fd >= 0 ||
	       (f->n >= COMPACT_MIN && f->n >= f->compact_at && f->n / 2 > f->table.n);
}

/* Copies what must be kept of the next piece. 0 or -errno. */
static int compact_piece(struct journal_file *f)
{
	uint64_t left = f->compact_end - f->compact_next;
	size_t some = left < PIECE ? (size_t)left : PIECE, kept = 0;
	struct journal_op keep[PIECE];
	struct stored piece[PIECE];
	int r;

	if (read_all(f->fd, piece, sizeof(piece), offset_of(f->compact_next)) <
		(ssize_t)(some * sizeof(*piece)))
		return -EIO;
	for (size_t i = 0; i < some; i++) {
		const struct journal_entry *e = &piece[i].entry, *highest;

		if (!is_whole(f->id, &piece[i]))
			return -EIO;
		highest = journal_table_find(&f->table, e->birth);
		if (highest && highest->block == e->block)
			keep[kept++] = (struct journal_op){.entry = *e};
	}
	f->compact_next += some;
	r = write_entries(f, f->compact_fd, keep, kept, &f->compact_n);
	/* Each piece, so that the last sync is short, too. */
	return r == 0 && fdatasync(f->compact_fd) < 0 ? -errno : r;
}

static int finish_compacting(struct journal_file *f)
{
	if (rename(f->path_new, f->path) < 0) {
		give_up_compacting(f);
		return 0;
	}
	close(f->fd);
	f->fd = f->compact_fd;
	f->n = f->compact_n;
	f->compact_fd = -1;
	f->compact_at = 0;
	/* Else the old file may be back after a power failure, without what is appended from here
	 * on. */
	return fsync(f->folder_fd) < 0 ? -errno : 0;
}

int journal_file_compact(struct journal_file *f)
{
	if (f->compact_fd < 0) {
		if (create(f, &f->compact_fd) < 0) {
			f->compact_at = 2 * f->n;
			return 0;
		}
		f->compact_n = f->compact_next = 0;
		f->compact_end = f->n;
	}
	if (compact_piece(f) < 0) {
		give_up_compacting(f);
		return 0;
	}
	return f->compact_next < f->compact_end ? 0 : finish_compacting(f);
}
