/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"

/* Records do not move: they are allocated by chunks, as they are needed. */
#define CHUNK_BITS 8
#define CHUNK (1U << CHUNK_BITS)

static uint64_t hash_key(const struct record_key *key)
{
	uint64_t words[sizeof(*key) / 8], hash = 0;

	memcpy(words, key, sizeof(words));
	for (unsigned int i = 0; i < sizeof(words) / sizeof(*words); i++)
		hash = hash_add(hash, words[i]);
	return hash;
}

static uint64_t hash_identity(const struct record_key *key, uint64_t birth)
{
	return key->kind == RECORD_SA ? hash_add(RECORD_SA, birth) : hash_key(key);
}

static uint64_t identity(const struct record *r)
{
	return hash_identity(&r->key, r->facts.birth);
}

/* By the upper bits, as ranges and leaves are. */
static uint32_t *chain(const struct table *t, uint64_t hash)
{
	return &t->buckets[hash >> (64 - t->hash_bits)];
}

static struct record_key without_mark(const struct record_key *key)
{
	struct record_key k = *key;

	k.mark = k.mark_mask = 0;
	return k;
}

/* Those of one destination and SPI are in one. */
static uint32_t *key_chain(const struct table *t, const struct record_key *key)
{
	struct record_key k = without_mark(key);

	return &t->keys[hash_key(&k) >> (64 - t->hash_bits)];
}

int table_init(struct table *t, uint32_t capacity)
{
	uint32_t size;

	*t = (struct table){
		.capacity = capacity,
		.slots = table_slots(capacity),
		.free_head = TABLE_NONE,
		.idle_first = TABLE_NONE,
		.idle_last = TABLE_NONE,
		.hash_bits = 4,
	};
	while (1U << t->hash_bits < capacity && t->hash_bits < 24)
		t->hash_bits++;
	size = 1U << t->hash_bits;
	t->remote_bits = t->hash_bits - 2;
	t->chunks = calloc((t->slots + CHUNK - 1) / CHUNK, sizeof(*t->chunks));
	t->buckets = malloc(size * sizeof(*t->buckets));
	t->keys = malloc(size * sizeof(*t->keys));
	t->pairs = malloc(size * sizeof(*t->pairs));
	t->remotes = malloc((sizeof(*t->remotes)) << t->remote_bits);
	t->leaves = calloc(TABLE_LEAVES, sizeof(*t->leaves));
	if (!t->chunks || !t->buckets || !t->keys || !t->pairs || !t->remotes || !t->leaves) {
		table_free(t);
		return -ENOMEM;
	}
	memset(t->buckets, 0xff, size * sizeof(*t->buckets));
	memset(t->keys, 0xff, size * sizeof(*t->keys));
	memset(t->pairs, 0xff, size * sizeof(*t->pairs));
	memset(t->remotes, 0xff, sizeof(*t->remotes) << t->remote_bits);
	return 0;
}

static struct record *slot_at(const struct table *t, uint32_t slot)
{
	return &t->chunks[slot >> CHUNK_BITS][slot & (CHUNK - 1)];
}

static bool in_use(const struct record *r)
{
	return r->key.kind != 0;
}

void table_free(struct table *t)
{
	for (uint32_t slot = 0; t->chunks && slot < t->high; slot++)
		free(slot_at(t, slot)->body);
	for (uint32_t i = 0; t->chunks && i < (t->slots + CHUNK - 1) / CHUNK; i++)
		free(t->chunks[i]);
	free(t->chunks);
	free(t->buckets);
	free(t->keys);
	free(t->pairs);
	free(t->remotes);
	free(t->leaves);
	*t = (struct table){0};
}

static struct record *first_of(const struct table *t, const struct record_key *key)
{
	uint32_t slot = *key_chain(t, key);

	return slot == TABLE_NONE ? NULL : slot_at(t, slot);
}

static struct record *next_of(const struct table *t, const struct record *r)
{
	return r->key_next == TABLE_NONE ? NULL : slot_at(t, r->key_next);
}

static bool same_key(const struct record *r, const struct record_key *key)
{
	return memcmp(&r->key, key, sizeof(*key)) == 0;
}

struct record *table_find(const struct table *t, const struct record_key *key)
{
	for (struct record *r = first_of(t, key); r; r = next_of(t, r))
		if (r->life == RECORD_ALIVE && same_key(r, key))
			return r;
	return NULL;
}

struct record *table_rival(const struct table *t, const struct record *r)
{
	for (struct record *other = first_of(t, &r->key); other; other = next_of(t, other))
		if (other != r && other->life == RECORD_ALIVE && same_key(other, &r->key))
			return other;
	return NULL;
}

const struct record *table_other(const struct table *t, const struct record *r)
{
	for (struct record *other = first_of(t, &r->key); other; other = next_of(t, other))
		if (other != r && same_key(other, &r->key))
			return other;
	return NULL;
}

struct record *table_spi_next(
	const struct table *t, const struct record_key *key, const struct record *r)
{
	const struct record_key wanted = without_mark(key);
	struct record *next = r ? next_of(t, r) : first_of(t, key);

	for (; next; next = next_of(t, next)) {
		struct record_key k = without_mark(&next->key);

		if (next->life == RECORD_ALIVE && memcmp(&k, &wanted, sizeof(k)) == 0)
			return next;
	}
	return NULL;
}

struct record *table_keyed(const struct table *t, const struct record_key *key)
{
	for (struct record *r = first_of(t, key); r; r = next_of(t, r))
		if (same_key(r, key))
			return r;
	return NULL;
}

struct record *table_find_birth(const struct table *t, const struct record_key *key, uint64_t birth)
{
	uint32_t slot = *chain(t, hash_identity(key, birth));

	for (; slot != TABLE_NONE; slot = slot_at(t, slot)->hash_next) {
		struct record *r = slot_at(t, slot);

		if (r->key.kind == key->kind &&
			(key->kind == RECORD_SA ? r->facts.birth == birth : same_key(r, key)))
			return r;
	}
	return NULL;
}

struct record *table_at(const struct table *t, uint32_t slot)
{
	struct record *r;

	if (slot >= t->high)
		return NULL;
	r = slot_at(t, slot);
	return in_use(r) ? r : NULL;
}

void table_unqueue(struct table *t, uint32_t slot, uint8_t member)
{
	slot_at(t, slot)->queued &= (uint16_t) ~(1U << member);
}

bool table_is_full(const struct table *t)
{
	return t->sas + t->policies >= t->capacity;
}

bool table_has_slot(const struct table *t)
{
	return t->used < t->slots;
}

static void idle_link(struct table *t, struct record *r)
{
	r->idle_next = TABLE_NONE;
	r->idle_prev = t->idle_last;
	*(t->idle_last == TABLE_NONE ? &t->idle_first : &slot_at(t, t->idle_last)->idle_next) =
		r->slot;
	t->idle_last = r->slot;
}

static void idle_unlink(struct table *t, const struct record *r)
{
	*(r->idle_prev == TABLE_NONE ? &t->idle_first : &slot_at(t, r->idle_prev)->idle_next) =
		r->idle_next;
	*(r->idle_next == TABLE_NONE ? &t->idle_last : &slot_at(t, r->idle_next)->idle_prev) =
		r->idle_prev;
}

struct record *table_idle(const struct table *t)
{
	return t->idle_first == TABLE_NONE ? NULL : slot_at(t, t->idle_first);
}

void table_idle_last(struct table *t, struct record *r)
{
	idle_unlink(t, r);
	idle_link(t, r);
}

static uint32_t take_slot(struct table *t)
{
	uint32_t slot = t->free_head;
	struct record **chunk;

	if (slot != TABLE_NONE) {
		t->free_head = slot_at(t, slot)->hash_next;
		return slot;
	}
	if (t->high == t->slots)
		return TABLE_NONE;
	chunk = &t->chunks[t->high >> CHUNK_BITS];
	if (!*chunk && !(*chunk = calloc(CHUNK, sizeof(**chunk))))
		return TABLE_NONE;
	return t->high++;
}

static void key_link(struct table *t, struct record *r)
{
	uint32_t *head = key_chain(t, &r->key);

	r->key_next = *head;
	*head = r->slot;
}

static void key_unlink(struct table *t, const struct record *r)
{
	uint32_t *link = key_chain(t, &r->key);

	while (*link != r->slot)
		link = &slot_at(t, *link)->key_next;
	*link = r->key_next;
}

void table_move(struct table *t, struct record *r, const struct record_key *key)
{
	key_unlink(t, r);
	r->key = *key;
	key_link(t, r);
}

struct record *table_add(struct table *t, const struct record_key *key, uint64_t birth)
{
	uint32_t slot = take_slot(t), *head;
	struct record *r;

	if (slot == TABLE_NONE)
		return NULL;
	r = slot_at(t, slot);
	head = chain(t, hash_identity(key, birth));
	*r = (struct record){
		.key = *key,
		.facts.birth = birth,
		.slot = slot,
		.queued = r->queued,
		.creator = ESPALIER_NOBODY,
		.hash_next = *head,
		.remote_next = TABLE_NONE,
	};
	*head = slot;
	key_link(t, r);
	idle_link(t, r);
	t->used++;
	return r;
}

static uint32_t *pair_head(const struct table *t, uint64_t pair)
{
	return &t->pairs[hash_mix(pair) >> (64 - t->hash_bits)];
}

static void pair_link(struct table *t, struct record *r)
{
	uint32_t *head = pair_head(t, r->facts.pair);

	if (!table_is_linked(r))
		return;
	r->pair_next = *head;
	*head = r->slot;
}

static void pair_unlink(struct table *t, const struct record *r)
{
	uint32_t *link = pair_head(t, r->facts.pair);

	if (!table_is_linked(r))
		return;
	while (*link != r->slot)
		link = &slot_at(t, *link)->pair_next;
	*link = r->pair_next;
}

static uint32_t *remote_head(const struct table *t, const struct espalier_selector *remote)
{
	return &t->remotes[hash_bytes(0, remote, sizeof(*remote)) >> (64 - t->remote_bits)];
}

static void remote_link(struct table *t, struct record *r)
{
	uint32_t *head = remote_head(t, &r->facts.remote);

	r->remote_next = *head;
	*head = r->slot;
}

static void remote_unlink(struct table *t, const struct record *r)
{
	uint32_t *link = remote_head(t, &r->facts.remote);

	while (*link != r->slot)
		link = &slot_at(t, *link)->remote_next;
	*link = r->remote_next;
}

void table_drop(struct table *t, struct record *r)
{
	uint32_t *link = chain(t, identity(r)), slot = r->slot;

	key_unlink(t, r);
	if (r->facts.remote.prefixlen)
		remote_unlink(t, r);
	while (*link != slot)
		link = &slot_at(t, *link)->hash_next;
	*link = r->hash_next;
	r->life = RECORD_HINTED;
	table_changed(t, r);
	idle_unlink(t, r);
	free(r->body);
	*r = (struct record){.slot = slot, .queued = r->queued, .hash_next = t->free_head};
	t->free_head = slot;
	t->used--;
}

static struct record *pair_scan(const struct table *t, uint32_t slot, uint64_t pair)
{
	while (slot != TABLE_NONE) {
		struct record *r = slot_at(t, slot);

		if (r->facts.pair == pair)
			return r;
		slot = r->pair_next;
	}
	return NULL;
}

struct record *table_pair_first(const struct table *t, uint64_t pair)
{
	return pair_scan(t, *pair_head(t, pair), pair);
}

struct record *table_pair_next(const struct table *t, const struct record *r)
{
	return pair_scan(t, r->pair_next, r->facts.pair);
}

static struct record *remote_scan(
	const struct table *t, uint32_t slot, const struct espalier_selector *remote)
{
	while (slot != TABLE_NONE) {
		struct record *r = slot_at(t, slot);

		if (memcmp(&r->facts.remote, remote, sizeof(*remote)) == 0)
			return r;
		slot = r->remote_next;
	}
	return NULL;
}

struct record *table_remote_first(const struct table *t, const struct espalier_selector *remote)
{
	return remote_scan(t, *remote_head(t, remote), remote);
}

struct record *table_remote_next(const struct table *t, const struct record *r)
{
	return remote_scan(t, r->remote_next, &r->facts.remote);
}

void table_set_facts(struct table *t, struct record *r, const struct record_facts *facts)
{
	const struct espalier_selector remote = r->facts.remote;
	bool moves = r->facts.pair != facts->pair;

	if (moves)
		pair_unlink(t, r);
	r->facts = *facts;
	if (remote.prefixlen)
		r->facts.remote = remote;
	else if (r->facts.remote.prefixlen)
		remote_link(t, r);
	if (moves)
		pair_link(t, r);
}

int table_set_body(struct record *r, const void *body, size_t len)
{
	uint8_t *copy = malloc(len ? len : 1);

	if (!copy)
		return -ENOMEM;
	memcpy(copy, body, len);
	free(r->body);
	r->body = copy;
	r->body_len = (uint16_t)len;
	return 0;
}

uint32_t table_leaf(const struct record *r)
{
	return (uint32_t)(identity(r) >> (64 - TABLE_LEAF_BITS));
}

uint32_t table_range(const struct record *r)
{
	return table_leaf(r) / TABLE_FANOUT;
}

struct record *table_leaf_next(const struct table *t, uint32_t leaf, const struct record *r)
{
	uint64_t first = (uint64_t)leaf << (64 - TABLE_LEAF_BITS);
	uint32_t bucket = (uint32_t)(first >> (64 - t->hash_bits));
	uint32_t last = (uint32_t)((first | (~0ULL >> TABLE_LEAF_BITS)) >> (64 - t->hash_bits));
	uint32_t slot = TABLE_NONE;

	if (r) {
		bucket = (uint32_t)(chain(t, identity(r)) - t->buckets) + 1;
		slot = r->hash_next;
	}
	for (;;) {
		for (; slot != TABLE_NONE; slot = slot_at(t, slot)->hash_next) {
			struct record *found = slot_at(t, slot);

			if (found->digest && table_leaf(found) == leaf)
				return found;
		}
		if (bucket > last)
			return NULL;
		slot = t->buckets[bucket++];
	}
}

uint64_t table_name(const struct record *r)
{
	return (identity(r) & ~0ULL << 32) | (uint32_t)r->facts.birth;
}

struct record *table_find_name(const struct table *t, uint64_t name)
{
	uint32_t slot = t->buckets[name >> (64 - t->hash_bits)];

	for (; slot != TABLE_NONE; slot = slot_at(t, slot)->hash_next) {
		struct record *r = slot_at(t, slot);

		if (r->life == RECORD_ALIVE && table_name(r) == name)
			return r;
	}
	return NULL;
}

/* Everything replicated but `seq` and `used`, which travel on their own clock; of the form, that
 * which our kernel has. Never 0. */
static uint64_t digest(const struct record *r)
{
	uint64_t h = hash_key(&r->key);

	h = hash_add(h, r->facts.birth);
	h = hash_add(h, r->form_done);
	h = hash_add(h, (uint64_t)r->moves << 8 | r->author);
	h = hash_add(h, r->version);
	h = hash_add(h, (uint64_t)r->pinned << 32 | (uint64_t)r->bucket << 16 |
				(uint64_t)r->creator << 8 | r->life);
	h = hash_add(h, r->top);
	for (unsigned int i = 0; i < ESPALIER_MEMBERS; i++)
		if (r->upto[i] || r->journals[i])
			h = hash_add(hash_add(h, r->upto[i]), (uint64_t)r->journals[i] << 8 | i);
	return h ? h : 1;
}

static void count(struct table *t, struct record *r)
{
	bool counts = r->life == RECORD_ALIVE;

	if (r->counted == counts)
		return;
	*(r->key.kind == RECORD_SA ? &t->sas : &t->policies) += counts ? 1U : -1U;
	if (counts) {
		idle_unlink(t, r);
		r->counted = true;
		pair_link(t, r);
	} else {
		pair_unlink(t, r);
		r->counted = false;
		idle_link(t, r);
	}
}

/* The dead do not count in the digests, so that they may be forgotten at different times; nor what
 * this kernel lacks. */
void table_changed(struct table *t, struct record *r)
{
	uint64_t was = r->digest,
		 is = r->life == RECORD_ALIVE && record_is_installed(r) ? digest(r) : 0;
	uint32_t leaf = table_leaf(r);

	t->digests[leaf / TABLE_FANOUT] ^= was ^ is;
	t->leaves[leaf] ^= was ^ is;
	if (!was != !is)
		t->present += is ? 1U : -1U;
	r->digest = is;
	count(t, r);
}
