/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/pack.h"

#define ZEROS 0x80U /* in the control byte */

#define SEVENS 0x7f7f7f7f7f7f7f7fULL

static size_t at_most(const uint8_t *at, const uint8_t *end)
{
	return end - at < PACK_LITERALS ? (size_t)(end - at) : PACK_LITERALS;
}

/* Eight bytes, the first one lowest. */
static uint64_t word_at(const uint8_t *at)
{
	uint64_t word;

	memcpy(&word, at, sizeof(word));
	return le64toh(word);
}

static size_t zeros_at(const uint8_t *at, const uint8_t *end)
{
	size_t n = 0, most = at_most(at, end);

	while (n + 8 <= most && word_at(at + n) == 0)
		n += 8;
	while (n < most && at[n] == 0)
		n++;
	return n;
}

/* A single zero is cheaper among the bytes around it. */
static size_t literals_at(const uint8_t *at, const uint8_t *end)
{
	size_t n = 0, most = at_most(at, end);

	for (; n + 8 <= most; n += 7) {
		uint64_t word = word_at(at + n);
		/* The upper bit of each byte that is zero. */
		uint64_t zeros = ~(((word & SEVENS) + SEVENS) | word | SEVENS);
		uint64_t two = zeros & zeros >> 8;

		if (two)
			return n + (unsigned int)__builtin_ctzll(two) / 8;
	}
	while (n < most && (at[n] != 0 || at + n + 1 == end || at[n + 1] != 0))
		n++;
	return n;
}

void pack(struct writer *w, const uint8_t *bytes, size_t len)
{
	const uint8_t *at = bytes, *end = bytes + len;

	while (at < end) {
		size_t n = zeros_at(at, end);

		if (n >= 2 || (n && at + n == end)) {
			write_uint(w, ZEROS | (n - 1), 1);
		} else {
			n = literals_at(at, end);
			write_uint(w, n - 1, 1);
			write_bytes(w, at, n);
		}
		at += n;
	}
}

size_t unpack(struct reader *r, uint8_t *ret, size_t size)
{
	size_t len = 0;

	while (r->at < r->end && !r->failed) {
		unsigned int control = (unsigned int)read_uint(r, 1);
		size_t n = (control & ~ZEROS) + 1;

		if (n > size - len) {
			r->failed = true;
			return 0;
		}
		if (control & ZEROS)
			memset(ret + len, 0, n);
		else
			read_bytes(r, ret + len, n);
		len += n;
	}
	return len;
}
