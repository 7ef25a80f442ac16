/* SPDX-License-Identifier: BSD-2-Clause */
/* test_table.c - records: found by key, birth and pair; merged in any order; compared by digests.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "core/table.h"

static uint64_t random_state = 1;

static unsigned int draw(unsigned int below)
{
	random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (unsigned int)(random_state >> 33) % below;
}

static struct record_key key_of(uint32_t spi)
{
	struct record_key key = {.kind = RECORD_SA, .proto = 50, .family = 2};

	key.spi = spi;
	return key;
}

static void test_find(void **state)
{
	struct table t;
	struct record_key key = key_of(1);
	struct record *old, *new;

	(void)state;
	assert_int_equal(table_init(&t, 3), 0);
	assert_null(table_find(&t, &key));
	old = table_add(&t, &key, 1);
	new = table_add(&t, &key, 2);
	assert_ptr_equal(table_find_birth(&t, &key, 1), old);
	assert_ptr_equal(table_find_birth(&t, &key, 2), new);
	assert_null(table_find_birth(&t, &key, 3));
	assert_null(table_find(&t, &key)); /* none is known to live */
	new->life = RECORD_ALIVE;
	assert_ptr_equal(table_find(&t, &key), new);
	assert_ptr_equal(table_rival(&t, old), new);
	assert_null(table_rival(&t, new));
	key.kind = RECORD_POLICY; /* has no birth */
	old = table_add(&t, &key, 0);
	assert_ptr_equal(table_find_birth(&t, &key, 7), old);
	for (uint32_t i = 3; i < table_slots(3); i++)
		assert_non_null(table_add(&t, &key, 0));
	assert_false(table_has_slot(&t));
	assert_null(table_add(&t, &key, 0));
	table_free(&t);
}

/* An SA is found under the key that it has now, and by its birth under any. */
static void test_move(void **state)
{
	struct record_key here = key_of(1), there = key_of(2);
	struct record *r, *other;
	struct table t;

	(void)state;
	assert_int_equal(table_init(&t, 3), 0);
	r = table_add(&t, &here, 1);
	other = table_add(&t, &here, 2);
	r->life = RECORD_ALIVE;
	table_changed(&t, r);
	table_move(&t, r, &there);
	table_changed(&t, r);
	assert_null(table_find(&t, &here));
	assert_ptr_equal(table_keyed(&t, &here), other);
	assert_ptr_equal(table_find(&t, &there), r);
	assert_ptr_equal(table_find_birth(&t, &here, 1), r);
	assert_ptr_equal(table_find_birth(&t, &there, 1), r);
	there.mark = 1;
	assert_null(table_find(&t, &there));
	table_move(&t, r, &here);
	assert_ptr_equal(table_rival(&t, other), r);
	table_drop(&t, r);
	assert_ptr_equal(table_keyed(&t, &here), other);
	table_free(&t);
}

/* Slots are used again, and a freed one is not found. */
static void test_reuse(void **state)
{
	enum { SIZE = 600 };
	struct record *at[SIZE] = {0};
	unsigned int used = 0;
	struct table t;

	(void)state;
	assert_int_equal(table_init(&t, SIZE), 0);
	for (unsigned int round = 0; round < 20000; round++) {
		unsigned int i = draw(SIZE);
		struct record_key key = key_of(i);

		assert_ptr_equal(table_find_birth(&t, &key, i), at[i]);
		if (at[i]) {
			table_drop(&t, at[i]);
			at[i] = NULL;
			used--;
		} else {
			at[i] = table_add(&t, &key, i);
			assert_non_null(at[i]);
			assert_ptr_equal(table_at(&t, at[i]->slot), at[i]);
			used++;
		}
		assert_int_equal(t.used, used);
		assert_true(t.high <= SIZE);
	}
	table_free(&t);
}

static unsigned int count_pair(const struct table *t, uint64_t pair)
{
	unsigned int n = 0;

	for (struct record *r = table_pair_first(t, pair); r; r = table_pair_next(t, r))
		n++;
	return n;
}

/* The living of a pair, and no others. */
static void test_pairs(void **state)
{
	unsigned int expected[8] = {0};
	struct record *r[100];
	struct table t;

	(void)state;
	assert_int_equal(table_init(&t, 100), 0);
	for (unsigned int i = 0; i < 100; i++) {
		struct record_key key = key_of(i);

		r[i] = table_add(&t, &key, i);
	}
	for (unsigned int round = 0; round < 5000; round++) {
		unsigned int i = draw(100);
		struct record_facts facts = {.birth = i, .pair = draw(8)};

		expected[r[i]->facts.pair] -= r[i]->life == RECORD_ALIVE;
		if (draw(2)) {
			table_set_facts(&t, r[i], &facts);
		} else if (draw(2)) {
			table_drop(&t, r[i]);
			r[i] = table_add(&t, &(struct record_key){.kind = RECORD_SA}, i);
		} else {
			r[i]->life = draw(RECORD_DEAD + 1);
			table_changed(&t, r[i]);
		}
		expected[r[i]->facts.pair] += r[i]->life == RECORD_ALIVE;
		for (uint64_t pair = 1; pair < 8; pair++)
			assert_int_equal(count_pair(&t, pair), expected[pair]);
	}
	table_free(&t);
}

static unsigned int count_remote(const struct table *t, const struct espalier_selector *remote)
{
	unsigned int n = 0;

	for (struct record *r = table_remote_first(t, remote); r; r = table_remote_next(t, r)) {
		assert_memory_equal(&r->facts.remote, remote, sizeof(*remote));
		n++;
	}
	return n;
}

/* Policies come and go; that of one stays as it was first. */
static void test_remotes(void **state)
{
	struct espalier_selector remotes[4];
	unsigned int expected[4] = {0}, of[100];
	struct record *r[100] = {0};
	struct table t;

	(void)state;
	for (unsigned int i = 0; i < 4; i++)
		remotes[i] = (struct espalier_selector){
			.prefixlen = ESPALIER_SELECTOR_BITS + 8 * (i / 2),
			.family = 2,
			.addr = {10 * (i + 1)}};
	assert_int_equal(table_init(&t, 100), 0);
	for (unsigned int round = 0; round < 5000; round++) {
		unsigned int i = draw(100), remote = draw(4);
		struct record_facts facts = {.pair = draw(3), .remote = remotes[remote]};
		struct record_key key = key_of(i);

		if (r[i] && draw(2)) {
			table_drop(&t, r[i]);
			r[i] = NULL;
			expected[of[i]]--;
		} else {
			if (!r[i]) {
				r[i] = table_add(&t, &key, 0);
				of[i] = remote;
				expected[remote]++;
			}
			table_set_facts(&t, r[i], &facts);
		}
		for (unsigned int n = 0; n < 4; n++)
			assert_int_equal(count_remote(&t, &remotes[n]), expected[n]);
	}
	table_free(&t);
}

static uint8_t protocol = 50;

/* What a member may say of one SA or policy. Few values, so that they meet. */
static struct record word(enum record_kind kind)
{
	struct record r = {
		.key = {.kind = (uint8_t)kind, .proto = protocol, .family = 2},
		.facts = {.birth = 9, .pair = 1 + draw(2), .direction = ESPALIER_OUT},
		.version = 1 + draw(3),
		.author = (uint8_t)draw(2),
		.life = draw(2) ? RECORD_ALIVE : RECORD_DEAD,
		.bucket = (uint16_t)draw(2),
		.pinned = (uint8_t)draw(2),
		.paired = draw(2),
		.creator = ESPALIER_NOBODY,
		.top = draw(3),
		.seq = draw(3),
	};

	if (kind == RECORD_POLICY)
		return r;
	r.key.addr[0] = (uint8_t)draw(2);
	r.key.mark = draw(2);
	r.moves = draw(2) << 16 | draw(2);
	r.facts.form = draw(2);
	r.creator = draw(2) ? ESPALIER_NOBODY : (uint8_t)draw(2);
	for (unsigned int i = 0; i < 2; i++) {
		r.upto[i] = draw(3);
		r.journals[i] = draw(3);
	}
	return r;
}

/* Puts words together in this order, and gives what comes out. */
static struct record merged(const struct record *words, const unsigned int *order, unsigned int n)
{
	struct record result, *r;
	struct table t;

	assert_int_equal(table_init(&t, 4), 0);
	r = table_add(&t, &words[0].key, words[0].facts.birth);
	for (unsigned int i = 0; i < n; i++)
		(void)table_merge(&t, r, &words[order[i]]);
	result = *r;
	table_free(&t);
	return result;
}

static void same(const struct record *a, const struct record *b)
{
	assert_true(a->version == b->version);
	assert_int_equal(a->author, b->author);
	assert_int_equal(a->life, b->life);
	assert_int_equal(a->bucket, b->bucket);
	assert_int_equal(a->pinned, b->pinned);
	assert_int_equal(a->paired, b->paired);
	assert_true(a->facts.pair == b->facts.pair);
	assert_int_equal(a->creator, b->creator);
	if (a->key.kind == RECORD_POLICY)
		return;
	assert_memory_equal(&a->key, &b->key, sizeof(a->key));
	assert_int_equal(a->moves, b->moves);
	assert_true(a->facts.form == b->facts.form);
	assert_true(a->top == b->top && a->seq == b->seq);
	assert_memory_equal(a->upto, b->upto, sizeof(a->upto));
	assert_memory_equal(a->journals, b->journals, sizeof(a->journals));
}

static void merge_in_any_order(enum record_kind kind)
{
	static const unsigned int orders[][6] = {
		{0, 1, 2, 0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};

	for (unsigned int round = 0; round < 20000; round++) {
		struct record words[3] = {word(kind), word(kind), word(kind)};
		struct record first = merged(words, orders[0], 3);

		for (unsigned int i = 0; i < 6; i++) {
			struct record other = merged(words, orders[i], i ? 3 : 6);

			same(&first, &other);
		}
	}
}

static void test_merge_sa(void **state)
{
	(void)state;
	merge_in_any_order(RECORD_SA);
}

/* Who made one of those last is content, too. */
static void test_merge_shared(void **state)
{
	(void)state;
	protocol = RECORD_IPCOMP;
	merge_in_any_order(RECORD_SA);
	protocol = 50;
}

static void test_merge_policy(void **state)
{
	(void)state;
	merge_in_any_order(RECORD_POLICY);
}

/* Two that have each merged what the other had: as if one had heard all. */
static void test_merge_of_merged(void **state)
{
	static const unsigned int ab[] = {0, 1}, all[] = {0, 1, 2, 3}, two[] = {0, 1};

	(void)state;
	for (unsigned int round = 0; round < 20000; round++) {
		struct record words[4] = {
			word(RECORD_SA), word(RECORD_SA), word(RECORD_SA), word(RECORD_SA)};
		struct record halves[2] = {merged(words, ab, 2), merged(words + 2, ab, 2)};
		struct record a = merged(halves, two, 2), b = merged(words, all, 4);

		same(&a, &b);
	}
}

static void test_dead_stay_dead(void **state)
{
	struct record words[2] = {word(RECORD_SA), word(RECORD_SA)}, r;

	(void)state;
	words[0].moves = words[1].moves = 0;
	words[0].life = RECORD_DEAD;
	words[0].version = 1;
	words[1].life = RECORD_ALIVE;
	words[1].version = 1000;
	r = merged(words, (const unsigned int[]){0, 1}, 2);
	assert_int_equal(r.life, RECORD_DEAD);
	words[1].moves = 1;
	r = merged(words, (const unsigned int[]){0, 1}, 2);
	assert_int_equal(r.life, RECORD_DEAD); /* who moved it did not know, either */
	words[1].moves = UINT16_MAX + 1;
	words[1].version = 1;
	r = merged(words, (const unsigned int[]){0, 1}, 2);
	assert_int_equal(r.life, RECORD_ALIVE); /* again */
	words[1].moves = 0;
	words[1].version = 1000;
	memset(words[1].key.addr, 0, sizeof(words[1].key.addr));
	words[1].key.mark = 0;
	words[0].key = words[1].key;
	words[0].key.kind = words[1].key.kind = RECORD_POLICY;
	r = merged(words, (const unsigned int[]){0, 1}, 2);
	assert_int_equal(r.life, RECORD_ALIVE); /* a policy may come back */
}

static void test_disputed_journal(void **state)
{
	struct record words[2] = {word(RECORD_SA), word(RECORD_SA)}, r;

	(void)state;
	words[0].journals[5] = 1;
	words[1].journals[5] = 2;
	r = merged(words, (const unsigned int[]){0, 1}, 2);
	assert_true(r.journals[5] == RECORD_JOURNAL_DISPUTED);
	words[1].journals[5] = 0;
	r = merged(words, (const unsigned int[]){0, 1}, 2);
	assert_int_equal(r.journals[5], 1);
}

static struct record *put(struct table *t, uint32_t spi)
{
	struct record_key key = key_of(spi);
	struct record *r = table_add(t, &key, hash_mix(spi + 1));

	r->life = RECORD_ALIVE;
	r->presence = RECORD_INSTALLED;
	r->version = 1;
	table_changed(t, r);
	return r;
}

static void test_digests(void **state)
{
	struct table a, b;
	struct record *in_a = NULL, *in_b = NULL;
	uint32_t range;

	(void)state;
	assert_int_equal(table_init(&a, 1000), 0);
	assert_int_equal(table_init(&b, 1000), 0);
	for (uint32_t i = 0; i < 1000; i++) {
		in_a = put(&a, i);
		(void)put(&b, 999 - i);
	}
	assert_memory_equal(a.digests, b.digests, sizeof(a.digests));
	in_b = table_find(&b, &in_a->key);
	range = table_range(in_a);
#define SEEN(change)                                                                               \
	do {                                                                                       \
		struct record was = *in_a;                                                         \
		in_a->change;                                                                      \
		table_changed(&a, in_a);                                                           \
		assert_true(a.digests[range] != b.digests[range]);                                 \
		was.digest = in_a->digest;                                                         \
		*in_a = was;                                                                       \
		table_changed(&a, in_a);                                                           \
		assert_memory_equal(a.digests, b.digests, sizeof(a.digests));                      \
	} while (0)
	SEEN(version = 2);
	SEEN(moves = 1);
	SEEN(form_done = 1);
	SEEN(key.mark = 1);
	SEEN(author = 1);
	SEEN(bucket = 1);
	SEEN(pinned = 1);
	SEEN(creator = 1);
	SEEN(top = 1);
	SEEN(upto[15] = 1);
	SEEN(journals[15] = 1);
	SEEN(presence = RECORD_ABSENT);
	SEEN(life = RECORD_DEAD);
	/* A dead one counts as little as one that is forgotten. */
	in_a->life = RECORD_DEAD;
	table_changed(&a, in_a);
	table_drop(&b, in_b);
	assert_memory_equal(a.digests, b.digests, sizeof(a.digests));
	table_free(&a);
	table_free(&b);
}

/* Walking each leaf gives each record that counts in it once, and its digest is all of theirs. */
static void check_leaves(const struct table *t)
{
	uint32_t walked = 0;
	uint64_t ranges[TABLE_RANGES] = {0};

	for (uint32_t leaf = 0; leaf < TABLE_LEAVES; leaf++) {
		struct record *r = NULL;
		uint64_t sum = 0;

		while ((r = table_leaf_next(t, leaf, r))) {
			assert_true(r->life == RECORD_ALIVE && record_is_installed(r));
			assert_int_equal(table_leaf(r), leaf);
			assert_int_equal(table_range(r), leaf / TABLE_FANOUT);
			sum ^= r->digest;
			walked++;
		}
		assert_true(sum == t->leaves[leaf]);
		ranges[leaf / TABLE_FANOUT] ^= sum;
	}
	assert_int_equal(walked, t->present);
	assert_memory_equal(ranges, t->digests, sizeof(ranges));
}

static void check_counts(const struct table *t)
{
	uint32_t sas = 0, policies = 0, present = 0, used = 0;

	for (uint32_t slot = 0; slot < t->high; slot++) {
		const struct record *r = table_at(t, slot);

		if (!r)
			continue;
		used++;
		if (r->life != RECORD_ALIVE)
			continue;
		*(r->key.kind == RECORD_SA ? &sas : &policies) += 1;
		present += record_is_installed(r);
	}
	assert_int_equal(t->used, used);
	assert_int_equal(t->sas, sas);
	assert_int_equal(t->policies, policies);
	assert_int_equal(t->present, present);
}

/* A new one, or one that is there, in another state than before. */
static void change(struct table *t, uint32_t keys)
{
	struct record_key key = key_of(draw(keys));
	struct record_facts facts = {.birth = 2 * key.spi + draw(2)};
	struct record heard, *r;

	if (draw(4) == 0)
		key.kind = RECORD_POLICY;
	r = table_find_birth(t, &key, facts.birth);
	if (!r)
		r = table_add(t, &key, facts.birth);
	if (!r)
		return;
	switch (draw(5)) {
	case 0:
		table_drop(t, r);
		return;
	case 1:
		r->life = RECORD_ALIVE;
		r->presence = draw(8) ? RECORD_INSTALLED : RECORD_ABSENT;
		r->version = 1 + draw(3);
		break;
	case 2:
		r->life = RECORD_DEAD;
		r->presence = RECORD_ABSENT;
		break;
	case 3:
		heard = word((enum record_kind)key.kind);
		heard.key = key;
		heard.key.mark = key.kind == RECORD_SA ? draw(3) : 0;
		heard.moves = draw(4);
		heard.facts.birth = r->facts.birth;
		heard.facts.pair = draw(1U << 30); /* long chains are slow */
		(void)table_merge(t, r, &heard);
		return;
	default:
		r->presence = record_is_installed(r) ? RECORD_ABSENT : RECORD_INSTALLED;
	}
	table_changed(t, r);
}

/* Leaves that are many chains long, and many to a chain. */
static void test_leaves(void **state)
{
	static const struct {
		uint32_t capacity, keys, changes;
	} sizes[] = {{1, 1, 20}, {12, 20, 500}, {4000, 5000, 30000}, {200000, 60000, 200000}};

	(void)state;
	for (unsigned int i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		struct table t;

		assert_int_equal(table_init(&t, sizes[i].capacity), 0);
		for (uint32_t n = 1; n <= sizes[i].changes; n++) {
			change(&t, sizes[i].keys);
			if (n % (sizes[i].changes / 10) == 0) {
				check_leaves(&t);
				check_counts(&t);
			}
		}
		assert_true(t.present > 0 || sizes[i].capacity == 1);
		for (uint32_t slot = 0; slot < t.high; slot++)
			if (table_at(&t, slot))
				table_drop(&t, table_at(&t, slot));
		check_leaves(&t);
		check_counts(&t);
		assert_int_equal(t.used + t.sas + t.policies + t.present, 0);
		table_free(&t);
	}
}

/* By its short name an SA is found, and no other; not one that is over. */
static void test_names(void **state)
{
	enum { SIZE = 20000 };
	struct record_key key;
	struct record *r;
	struct table t;

	(void)state;
	assert_int_equal(table_init(&t, SIZE), 0);
	for (uint32_t i = 0; i < SIZE; i++)
		(void)put(&t, i);
	for (uint32_t slot = 0; slot < SIZE; slot++) {
		r = table_at(&t, slot);
		assert_ptr_equal(table_find_name(&t, table_name(r)), r);
		assert_null(table_find_name(&t, table_name(r) ^ 1)); /* another birth */
		assert_null(table_find_name(&t, table_name(r) ^ 1ULL << 32));
	}
	r = table_at(&t, 7);
	key = key_of(5000000);
	table_move(&t, r, &key); /* it is its birth's */
	assert_ptr_equal(table_find_name(&t, table_name(r)), r);
	r->life = RECORD_DEAD;
	table_changed(&t, r);
	assert_null(table_find_name(&t, table_name(r)));
	table_free(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_move),
		cmocka_unit_test(test_reuse),
		cmocka_unit_test(test_pairs),
		cmocka_unit_test(test_remotes),
		cmocka_unit_test(test_merge_sa),
		cmocka_unit_test(test_merge_shared),
		cmocka_unit_test(test_merge_policy),
		cmocka_unit_test(test_merge_of_merged),
		cmocka_unit_test(test_dead_stay_dead),
		cmocka_unit_test(test_disputed_journal),
		cmocka_unit_test(test_digests),
		cmocka_unit_test(test_leaves),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests_name("table", tests, NULL, NULL);
}
