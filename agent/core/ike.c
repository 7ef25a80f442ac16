/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/ike.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"

#define CHUNK_BITS 8
#define CHUNK (1U << CHUNK_BITS)
#define EVICTED 256 /* looked at, for a dead one that may go */

static uint64_t hash_own(uint64_t own)
{
	return hash_add(3, own); /* 1, 2: enum record_kind */
}

static uint32_t *chain(const struct ikes *t, uint64_t own)
{
	return &t->buckets[hash_own(own) >> (64 - t->hash_bits)];
}

static struct ike *slot_at(const struct ikes *t, uint32_t slot)
{
	return &t->chunks[slot >> CHUNK_BITS][slot & (CHUNK - 1)];
}

int ikes_init(struct ikes *t, uint32_t capacity, struct table *digests)
{
	uint32_t size;

	*t = (struct ikes){
		.capacity = capacity,
		.slots = table_slots(capacity),
		.hash_bits = TABLE_LEAF_BITS,
		.free_head = TABLE_NONE,
		.digests = digests,
	};
	if (!capacity)
		return 0;
	while (1U << t->hash_bits < capacity && t->hash_bits < 24)
		t->hash_bits++;
	size = 1U << t->hash_bits;
	t->chunks = calloc((t->slots + CHUNK - 1) / CHUNK, sizeof(struct ike *));
	t->buckets = malloc(size * sizeof(*t->buckets));
	if (!t->chunks || !t->buckets) {
		ikes_free(t);
		return -ENOMEM;
	}
	memset(t->buckets, 0xff, size * sizeof(*t->buckets));
	return 0;
}

static void wipe(struct ike *r)
{
	if (r->body)
		explicit_bzero(r->body, r->body_len);
	free(r->body);
	r->body = NULL;
	r->body_len = 0;
}

void ikes_free(struct ikes *t)
{
	for (uint32_t slot = 0; slot < t->high; slot++) {
		wipe(slot_at(t, slot));
		free(slot_at(t, slot)->commit);
	}
	for (uint32_t i = 0; t->chunks && i < (t->slots + CHUNK - 1) / CHUNK; i++)
		free(t->chunks[i]);
	free(t->chunks);
	free(t->buckets);
	*t = (struct ikes){0};
}

struct ike *ike_find(const struct ikes *t, uint64_t own)
{
	uint32_t slot = t->capacity ? *chain(t, own) : TABLE_NONE;

	while (slot != TABLE_NONE && slot_at(t, slot)->head.own != own)
		slot = slot_at(t, slot)->hash_next;
	return slot == TABLE_NONE ? NULL : slot_at(t, slot);
}

struct ike *ike_at(const struct ikes *t, uint32_t slot)
{
	return slot < t->high && slot_at(t, slot)->used ? slot_at(t, slot) : NULL;
}

void ike_unqueue(struct ikes *t, uint32_t slot, uint8_t member)
{
	if (slot < t->high)
		slot_at(t, slot)->queued &= (uint16_t) ~(1U << member);
}

/* One that has ended, and of which nothing is to be told. */
static void evict(struct ikes *t)
{
	for (unsigned int i = 0; i < EVICTED && t->high; i++) {
		struct ike *r = ike_at(t, t->evict++ % t->high);

		if (r && r->head.dead && !r->commit && !r->telling && !r->queued) {
			ike_drop(t, r);
			return;
		}
	}
}

static uint32_t free_slot(struct ikes *t)
{
	uint32_t slot = t->free_head;
	struct ike **chunk;

	if (slot != TABLE_NONE) {
		t->free_head = slot_at(t, slot)->hash_next;
		return slot;
	}
	if (t->high == t->slots)
		return TABLE_NONE;
	chunk = &t->chunks[t->high >> CHUNK_BITS];
	if (!*chunk)
		*chunk = calloc(CHUNK, sizeof(**chunk));
	return *chunk ? t->high++ : TABLE_NONE;
}

struct ike *ike_add(struct ikes *t, uint64_t own)
{
	uint32_t slot;
	struct ike *r;

	if (t->living >= t->capacity)
		return NULL;
	if (t->used == t->slots)
		evict(t);
	slot = free_slot(t);
	if (slot == TABLE_NONE)
		return NULL;
	r = slot_at(t, slot);
	*r = (struct ike){
		.head = {.own = own, .dead = true, .holder = ESPALIER_NOBODY},
		.used = true,
		.queued = r->queued,
		.slot = slot,
		.hash_next = *chain(t, own),
	};
	*chain(t, own) = slot;
	t->used++;
	return r;
}

void ike_drop(struct ikes *t, struct ike *r)
{
	uint32_t *link = chain(t, r->head.own), slot = r->slot;

	r->head.dead = true;
	ike_changed(t, r);
	while (*link != slot)
		link = &slot_at(t, *link)->hash_next;
	*link = r->hash_next;
	free(r->commit);
	*r = (struct ike){.slot = slot, .queued = r->queued, .hash_next = t->free_head};
	t->free_head = slot;
	t->used--;
}

uint32_t ike_leaf(const struct ike *r)
{
	return (uint32_t)(hash_own(r->head.own) >> (64 - TABLE_LEAF_BITS));
}

static struct ike *counting(const struct ikes *t, uint32_t slot, uint32_t leaf)
{
	while (slot != TABLE_NONE) {
		struct ike *r = slot_at(t, slot);

		if (r->digest && ike_leaf(r) == leaf)
			return r;
		slot = r->hash_next;
	}
	return NULL;
}

struct ike *ike_leaf_next(const struct ikes *t, uint32_t leaf, const struct ike *r)
{
	unsigned int shift = t->hash_bits - TABLE_LEAF_BITS;
	uint32_t bucket = leaf << shift, end = (leaf + 1) << shift;
	struct ike *next;

	if (!t->capacity)
		return NULL;
	if (r) {
		bucket = (uint32_t)(hash_own(r->head.own) >> (64 - t->hash_bits)) + 1;
		next = counting(t, r->hash_next, leaf);
		if (next)
			return next;
	}
	for (; bucket < end; bucket++) {
		next = counting(t, t->buckets[bucket], leaf);
		if (next)
			return next;
	}
	return NULL;
}

static uint64_t digest(const struct ike *r)
{
	const struct ike_head *h = &r->head;
	uint64_t hash = hash_add(hash_own(h->own), h->turn);

	hash = hash_add(hash, h->version);
	hash = hash_add(hash, (uint64_t)h->holder << 8 | h->flags);
	return hash ? hash : 1;
}

/* The dead do not count, so that they may be forgotten at different times. */
void ike_changed(struct ikes *t, struct ike *r)
{
	uint64_t was = r->digest, is = r->head.dead ? 0 : digest(r);
	uint32_t leaf = ike_leaf(r);

	t->digests->digests[leaf / TABLE_FANOUT] ^= was ^ is;
	t->digests->leaves[leaf] ^= was ^ is;
	if (!was != !is)
		t->living += is ? 1U : -1U;
	r->digest = is;
	if (r->head.dead)
		wipe(r);
}

int ike_set(
	struct ikes *t, struct ike *r, const struct ike_head *head, const void *body, uint32_t len)
{
	uint8_t *copy = len ? malloc(len) : NULL;

	if (len && !copy)
		return -ENOMEM;
	if (len)
		memcpy(copy, body, len);
	wipe(r);
	r->body = copy;
	r->body_len = len;
	r->head = *head;
	ike_changed(t, r);
	return 0;
}
