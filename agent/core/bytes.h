/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bytes.h - writing and reading network byte order within bounds.
 *
 * A cursor that has run over its end stays failed: check `failed` once, at the end. Reads then give
 * zeros.
 */
#ifndef BYTES_H
#define BYTES_H

#include <endian.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct writer {
	uint8_t *at, *end;
	bool failed;
};

struct reader {
	const uint8_t *at, *end;
	bool failed;
};

static inline uint8_t *writer_take(struct writer *w, size_t len)
{
	uint8_t *p = w->at;

	if (w->failed || (size_t)(w->end - w->at) < len) {
		w->failed = true;
		return NULL;
	}
	w->at += len;
	return p;
}

static inline void write_bytes(struct writer *w, const void *data, size_t len)
{
	uint8_t *p = writer_take(w, len);

	if (p && len)
		memcpy(p, data, len);
}

/* `width` low bytes of `value`, 1 to 8, most significant first. */
static inline void write_uint(struct writer *w, uint64_t value, unsigned int width)
{
	uint64_t bytes = htobe64(value << (64 - 8 * width));

	write_bytes(w, &bytes, width);
}

static inline const uint8_t *reader_take(struct reader *r, size_t len)
{
	const uint8_t *p = r->at;

	if (r->failed || (size_t)(r->end - r->at) < len) {
		r->failed = true;
		return NULL;
	}
	r->at += len;
	return p;
}

static inline void read_bytes(struct reader *r, void *data, size_t len)
{
	const uint8_t *p = reader_take(r, len);

	if (p)
		memcpy(data, p, len);
	else
		memset(data, 0, len);
}

/* `width` bytes, 1 to 8. */
static inline uint64_t read_uint(struct reader *r, unsigned int width)
{
	uint64_t bytes = 0;

	read_bytes(r, &bytes, width);
	return be64toh(bytes) >> (64 - 8 * width);
}

#endif
