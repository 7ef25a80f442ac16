/* SPDX-License-Identifier: BSD-2-Clause */
/* hash.h - a 64-bit mixer for tables, digests and rendezvous hashing. Not for secrets. The same on
 * all members. */
#ifndef HASH_H
#define HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t hash_mix(uint64_t x)
{
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93ULL;
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93ULL;
	x ^= x >> 32;
	return x;
}

static inline uint64_t hash_add(uint64_t hash, uint64_t value)
{
	return hash_mix(hash + 0x9e3779b97f4a7c15ULL + value);
}

static inline uint64_t hash_bytes(uint64_t hash, const void *data, size_t len)
{
	const uint8_t *p = data;

	for (; len; len--, p++)
		hash = (hash ^ *p) * 0x100000001b3ULL;
	return hash_mix(hash);
}

#endif
