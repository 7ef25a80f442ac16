/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cluster.h - made-up gateways around real members, in one process and the test's own time: a
 * kernel and a journal in memory, a network that is perfect unless a test says otherwise, and
 * counts of what it carried.
 *
 * Random faults are the simulator's (tests/sim). Holds the state of a test: include it in one file
 * a program.
 */
#ifndef CLUSTER_H
#define CLUSTER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "core/state.h"

#define BITS 8
#define HEARTBEAT_US 10000
#define DEAD 3
#define REPAIR_US 200000
#define TOMBSTONE_US 1000000
#define DOUBLED_US 500000
#define MEMBERS 3
#define DATAGRAMS 8192
#define KINDS (WIRE_LACK + 1)
#define SELECTORS 8

struct sa {
	bool present;
	bool guarded;
	uint64_t birth, oseq;
	struct espalier_sa guard;
	uint64_t journaled; /* one above the highest block that is durable */
	uint8_t pin; /* as the datapath has it; 0: none */
};

/* An entry of the clear side. */
struct selector {
	struct espalier_selector key; /* prefixlen 0: none */
	struct espalier_flow flow;
};

struct gateway {
	struct member *m; /* NULL: off */
	uint32_t journal;
	bool mute; /* nothing that it sends arrives */
	struct sa *sas;
	bool policies[256];
	struct selector selectors[SELECTORS];
	uint8_t owner[ESPALIER_BUCKETS];
	struct entry *entries; /* of the journal, in this life */
	uint64_t queued, durable, entries_size;
	bool disk_stuck;
	unsigned int work_calls; /* of member_work() in a step, at most */
	unsigned int refuse; /* installs that the kernel is to refuse, by this error: */
	int refusal;
	unsigned int stick; /* moves that are to fail, by this error: */
	int stuck;
	unsigned int installs, moves, expires; /* tried, asked for */
	unsigned int notices[NOTICES], journals_old;
	bool begins_anew; /* as told that the journal is old */
	unsigned int doubled, doubled_over; /* as told */
	unsigned int kernel_ops; /* install, remove, move, guard */
	unsigned int slow_ops; /* of which install and move */
	unsigned int most_work; /* slow_ops in one call of member_work() */
	unsigned int removed, reads;
	uint64_t published_us; /* when its view last changed */
	unsigned int ticked_ops,
		published_ops; /* kernel_ops before the tick; at that, since then */
	char last[64]; /* the last ops, a letter each */
};

struct entry {
	struct sa *sa;
	uint64_t block;
};

struct datagram {
	uint8_t from, to;
	size_t len;
	uint8_t bytes[WIRE_MAX];
};

/* What was sent from one to another. */
struct traffic {
	uint64_t datagrams, bytes;
	uint64_t messages[KINDS];
};

static struct gateway gateways[MEMBERS];
static struct datagram flights[2][DATAGRAMS], *flying = flights[0];
static unsigned int n_flying;
static struct traffic traffic[MEMBERS][MEMBERS];
static unsigned int loss; /* of 1000 datagrams */
static uint64_t now_us = 1000000, random_state;
static uint64_t start_us;
static enum view_mode mode;
static unsigned int n_sas, members, block_bits;
static bool short_numbers; /* no ESN */
static size_t body_len; /* of an SA */
static bool pairs; /* SAs of even number are the inbound ones of those after them */

static inline uint32_t draw(uint32_t below)
{
	random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(random_state >> 33) % below;
}

/* SAs. */

/* Spreads them over the buckets: the low bits of the number stand above. */
static inline struct record_key sa_key(unsigned int sa)
{
	struct record_key key = {.kind = RECORD_SA, .proto = 50, .family = 2};

	key.spi = __builtin_bswap32((sa + 1) << 20 | (sa + 1) >> 12);
	key.addr[0] = 10;
	return key;
}

static inline struct sa *sa_of(struct gateway *g, const struct record_key *key)
{
	uint32_t spi = __builtin_bswap32(key->spi), sa = (spi >> 20 | spi << 12) - 1;

	assert_in_range(sa, 0, n_sas - 1);
	return &g->sas[sa];
}

static inline void make_body(uint64_t birth, uint8_t *body)
{
	memcpy(body, &birth, sizeof(birth));
	for (size_t i = sizeof(birth); i < body_len; i++)
		body[i] = (uint8_t)(birth * 7 + i) | 1;
}

static inline struct record_facts sa_facts(unsigned int sa, uint64_t birth)
{
	return (struct record_facts){
		.birth = birth,
		.pair = pairs ? sa / 2 + 1 : sa + 1,
		.direction = pairs && sa % 2 == 0 ? ESPALIER_IN : ESPALIER_OUT,
		.esn = !short_numbers,
	};
}

/* Ops. */

static inline void note(struct gateway *g, char op)
{
	size_t len = strlen(g->last);

	g->kernel_ops += op != 's' && op != 'p';
	g->slow_ops += op == 'i' || op == 'm';
	if (len == sizeof(g->last) - 1)
		memmove(g->last, g->last + 1, len--);
	g->last[len] = op;
	g->last[len + 1] = 0;
}

/* By the heads of the messages: kind and length. */
static inline void count_messages(struct traffic *t, const uint8_t *bytes, size_t len)
{
	t->datagrams++;
	t->bytes += len;
	for (size_t at = WIRE_HEADER; at + 3 <= len;
		at += 3U + (bytes[at + 1] << 8 | bytes[at + 2])) {
		assert_in_range(bytes[at], 1, KINDS - 1);
		t->messages[bytes[at]]++;
	}
}

static inline void op_send(void *ctx, uint8_t to, const void *bytes, size_t len)
{
	struct gateway *g = ctx;
	uint8_t from = (uint8_t)(g - gateways);

	note(g, 's');
	count_messages(&traffic[from][to], bytes, len);
	if (g->mute || (loss && draw(1000) < loss))
		return;
	assert_in_range(n_flying, 0, DATAGRAMS - 1);
	flying[n_flying].from = from;
	flying[n_flying].to = to;
	flying[n_flying].len = len;
	memcpy(flying[n_flying++].bytes, bytes, len);
}

/* No number may be within reach before its block is durable. */
static inline void check_durable(const struct sa *sa, uint64_t oseq)
{
	if (oseq >> block_bits)
		assert_true(sa->journaled > oseq >> block_bits);
}

static inline int install(struct gateway *g, const struct record_install *r)
{
	uint8_t body[RECORD_BODY_MAX];
	struct sa *sa;

	note(g, 'i');
	g->installs++;
	if (g->refuse) {
		g->refuse--;
		return g->refusal;
	}
	if (r->key->kind == RECORD_POLICY) {
		g->policies[r->key->addr[0]] = true;
		return 0;
	}
	sa = sa_of(g, r->key);
	make_body(r->facts->birth, body);
	assert_int_equal(r->body_len, body_len);
	assert_memory_equal(r->body, body, body_len);
	assert_false(sa->present);
	if (sa->guard.open[0].first <= sa->guard.open[0].last)
		check_durable(sa, r->oseq);
	sa->present = true;
	sa->birth = r->facts->birth;
	sa->oseq = r->oseq;
	return 0;
}

static inline void op_install(void *ctx, struct record_install *list, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		list[i].result = install(ctx, &list[i]);
}

static inline void op_remove(void *ctx, const struct record_key *key)
{
	struct gateway *g = ctx;

	note(g, 'r');
	g->removed++;
	if (key->kind == RECORD_POLICY)
		g->policies[key->addr[0]] = false;
	else
		sa_of(g, key)->present = false;
}

static inline int op_move(void *ctx, const struct record_key *key, uint64_t oseq)
{
	struct sa *sa = sa_of(ctx, key);
	struct gateway *g = ctx;

	note(ctx, 'm');
	g->moves++;
	check_durable(sa, oseq);
	if (g->stick) {
		g->stick--;
		return g->stuck;
	}
	if (!sa->present)
		return -ENOENT;
	assert_true(oseq > sa->oseq);
	sa->oseq = oseq;
	return 0;
}

static inline int op_read(void *ctx, const struct record_key *key, void *body, size_t size)
{
	struct gateway *g = ctx;
	const struct sa *sa = sa_of(g, key);

	g->reads++;
	assert_true(size >= RECORD_BODY_MAX);
	if (!sa->present)
		return -ENOENT;
	make_body(sa->birth, body);
	return (int)body_len;
}

static inline void op_expire(void *ctx, const struct record_key *key)
{
	struct gateway *g = ctx;

	(void)key;
	note(ctx, 'e');
	g->expires++;
}

/* The guard knows it and lets nothing of it out. */
static inline bool is_shut(const struct sa *sa)
{
	return sa->guarded && sa->guard.open[0].first > sa->guard.open[0].last &&
	       sa->guard.open[1].first > sa->guard.open[1].last;
}

static inline void op_guard(
	void *ctx, const struct record_key *key, const struct espalier_sa *guard)
{
	struct sa *sa = sa_of(ctx, key);

	note(ctx, 'g');
	sa->guarded = guard != NULL;
	sa->guard = guard ? *guard : (struct espalier_sa){.open[0].first = 1, .open[1].first = 1};
	if (guard && guard->open[0].first <= guard->open[0].last)
		check_durable(sa, guard->open[0].first);
}

static inline struct selector *selector_of(
	struct gateway *g, const struct espalier_selector *selector)
{
	for (unsigned int i = 0; i < SELECTORS; i++)
		if (memcmp(&g->selectors[i].key, selector, sizeof(*selector)) == 0)
			return &g->selectors[i];
	return NULL;
}

/* Nothing is said twice. */
static inline void op_selector(
	void *ctx, const struct espalier_selector *selector, const struct espalier_flow *flow)
{
	struct selector *s = selector_of(ctx, selector);

	assert_true(s || flow);
	assert_false(s && flow && memcmp(&s->flow, flow, sizeof(*flow)) == 0);
	if (!s)
		s = selector_of(ctx, &(struct espalier_selector){0});
	assert_non_null(s);
	*s = flow ? (struct selector){.key = *selector, .flow = *flow} : (struct selector){0};
}

static inline void op_pin(void *ctx, const struct record_key *key, const struct espalier_flow *flow)
{
	struct sa *sa = sa_of(ctx, key);

	assert_int_not_equal(sa->pin, flow ? flow->pinned : 0);
	sa->pin = flow ? flow->pinned : 0;
}

static inline void op_publish(
	void *ctx, const struct view *view, uint8_t ingress, const uint8_t owner[ESPALIER_BUCKETS])
{
	struct gateway *g = ctx;

	note(g, 'p');
	g->published_us = now_us;
	g->published_ops = g->kernel_ops - g->ticked_ops;
	assert_int_equal(ingress, view_lowest(view->live));
	memcpy(g->owner, owner, sizeof(g->owner));
}

static inline void op_macs(void *ctx, uint8_t member, const struct wire_macs *macs, bool next_hop)
{
	(void)ctx;
	(void)member;
	(void)macs;
	(void)next_hop;
}

static inline void op_journal(
	void *ctx, const struct record_key *key, uint64_t birth, uint64_t block)
{
	struct gateway *g = ctx;

	(void)birth;
	note(g, 'j');
	if (g->queued == g->entries_size) {
		g->entries_size = g->entries_size ? 2 * g->entries_size : 1024;
		g->entries = realloc(g->entries, g->entries_size * sizeof(*g->entries));
		assert_non_null(g->entries);
	}
	g->entries[g->queued++] = (struct entry){.sa = sa_of(g, key), .block = block};
}

static inline void op_forget(void *ctx, const struct record_key *key, uint64_t birth)
{
	(void)birth;
	(void)ctx;
	(void)key;
}

static inline bool op_journal_old(void *ctx, const struct record_key *key, uint8_t who)
{
	struct gateway *g = ctx;

	(void)key;
	(void)who;
	g->journals_old++;
	return g->begins_anew;
}

static inline void op_doubled(void *ctx, uint8_t who, bool over)
{
	struct gateway *g = ctx;

	(void)who;
	g->doubled += !over;
	g->doubled_over += over;
	for (unsigned int sa = 0; sa < n_sas; sa++)
		g->sas[sa].guard.open[0] = g->sas[sa].guard.open[1] =
			(struct espalier_window){.first = 1, .last = 0};
}

static inline void op_notice(
	void *ctx, enum member_notice notice, const struct record_key *key, uint8_t who)
{
	struct gateway *g = ctx;

	(void)key;
	(void)who;
	g->notices[notice]++;
}

static const struct member_ops ops = {op_send, op_install, op_remove, op_move, op_read, op_expire,
	op_guard, op_selector, op_pin, op_publish, op_macs, op_journal, op_forget, op_journal_old,
	op_doubled, op_notice};

/* The world. */

static inline void tell_kernel(struct gateway *g, unsigned int sa)
{
	uint8_t body[RECORD_BODY_MAX];
	struct member_record record = {
		.key = sa_key(sa),
		.facts = sa_facts(sa, g->sas[sa].birth),
		.oseq = g->sas[sa].oseq,
		.body = body,
		.body_len = body_len,
	};

	make_body(g->sas[sa].birth, body);
	member_added(g->m, &record);
}

/* What journal, pinned guard and kernel hold. */
static inline void start_sas(struct gateway *g)
{
	for (unsigned int sa = 0; sa < n_sas; sa++) {
		struct record_key key = sa_key(sa);

		if (g->sas[sa].journaled)
			member_restore(g->m, &key, g->sas[sa].birth, g->sas[sa].journaled - 1);
	}
	for (unsigned int sa = 0; sa < n_sas; sa++) {
		struct espalier_sa guard = g->sas[sa].guard;
		struct record_key key = sa_key(sa);

		if (g->sas[sa].guarded)
			member_guarded(g->m, &key, &guard);
	}
	for (unsigned int sa = 0; sa < n_sas; sa++)
		if (g->sas[sa].present)
			tell_kernel(g, sa);
}

static inline void start_with(unsigned int id, uint64_t settings)
{
	struct gateway *g = &gateways[id];
	struct member_config config = {
		.self = (uint8_t)id,
		.members = (uint16_t)((1U << members) - 1),
		.settings = settings,
		.mode = mode,
		.block_bits = (uint8_t)block_bits,
		.heartbeat_us = HEARTBEAT_US,
		.dead = DEAD,
		.repair_us = REPAIR_US,
		.start_us = start_us,
		.tombstone_us = TOMBSTONE_US,
		.doubled_us = DOUBLED_US,
		.capacity = n_sas + 64,
		.journal = g->journal,
		.life = (uint32_t)now_us + id + 1,
		.macs = {.outer = {2, 0, 0, 0, 0, (uint8_t)id}},
	};

	g->queued = g->durable = 0;
	assert_int_equal(member_new(&config, &ops, g, now_us, &g->m), 0);
	start_sas(g);
	member_started(g->m);
}

static inline void start(unsigned int id)
{
	start_with(id, 1);
}

/* Kernel and pinned maps go on. */
static inline void kill_agent(unsigned int id)
{
	member_free(gateways[id].m);
	gateways[id].m = NULL;
}

static inline void power_off(unsigned int id)
{
	struct gateway *g = &gateways[id];

	kill_agent(id);
	memset(g->owner, ESPALIER_NOBODY, sizeof(g->owner));
	for (unsigned int sa = 0; sa < n_sas; sa++) {
		g->sas[sa].present = g->sas[sa].guarded = false;
		g->sas[sa].pin = 0;
	}
	memset(g->policies, 0, sizeof(g->policies));
	memset(g->selectors, 0, sizeof(g->selectors));
}

/* One turn of an agent's loop. */
static inline void turn(struct gateway *g)
{
	bool more = true;

	for (; !g->disk_stuck && g->durable < g->queued; g->durable++) {
		struct entry *entry = &g->entries[g->durable];

		if (entry->sa->journaled < entry->block + 1)
			entry->sa->journaled = entry->block + 1;
	}
	member_committed(g->m, g->durable);
	for (unsigned int calls = 0; more && calls < g->work_calls; calls++) {
		unsigned int before = g->slow_ops;

		more = member_work(g->m, now_us);
		if (g->slow_ops - before > g->most_work)
			g->most_work = g->slow_ops - before;
	}
	if (now_us % (HEARTBEAT_US / 2) == 0) {
		g->ticked_ops = g->kernel_ops;
		member_tick(g->m, now_us);
	}
	member_flush(g->m, now_us);
}

static inline void step(void)
{
	const struct datagram *now = flying;
	unsigned int n = n_flying;

	now_us += 1000;
	flying = flying == flights[0] ? flights[1] : flights[0];
	n_flying = 0;
	for (unsigned int i = 0; i < n; i++)
		if (gateways[now[i].to].m)
			member_datagram(gateways[now[i].to].m, now[i].from, now[i].bytes,
				now[i].len, now_us);
	for (unsigned int id = 0; id < members; id++)
		if (gateways[id].m)
			turn(&gateways[id]);
}

static inline void run(unsigned int ms)
{
	while (ms--)
		step();
}

static inline void create(unsigned int id, unsigned int sa, uint64_t birth)
{
	gateways[id].sas[sa].present = true;
	gateways[id].sas[sa].birth = birth;
	gateways[id].sas[sa].oseq = 0;
	gateways[id].sas[sa].journaled = 0; /* speaks of this SA from now on */
	tell_kernel(&gateways[id], sa);
}

static inline void setup_sas(unsigned int sas)
{
	n_sas = sas;
	n_flying = 0;
	loss = 0;
	random_state = 1;
	mode = VIEW_LOAD_SHARING;
	members = MEMBERS;
	block_bits = BITS;
	start_us = 0;
	short_numbers = false;
	body_len = 8;
	pairs = false;
	now_us = 1000000;
	memset(gateways, 0, sizeof(gateways));
	memset(traffic, 0, sizeof(traffic));
	for (unsigned int id = 0; id < MEMBERS; id++) {
		gateways[id].journal = 100 + id;
		gateways[id].work_calls = UINT32_MAX;
		gateways[id].refusal = -ENOMEM;
		gateways[id].stuck = -EAGAIN;
		memset(gateways[id].owner, ESPALIER_NOBODY, sizeof(gateways[id].owner));
		gateways[id].sas = calloc(sas, sizeof(*gateways[id].sas));
		assert_non_null(gateways[id].sas);
	}
}

static inline int teardown(void **state)
{
	(void)state;
	for (unsigned int id = 0; id < MEMBERS; id++) {
		member_free(gateways[id].m);
		free(gateways[id].sas);
		free(gateways[id].entries);
	}
	return 0;
}

/* Many SAs. */

/* A cluster of the first `count` members, of which member 0 made all SAs, half of them inbound. */
static inline void begin_cluster(unsigned int count, unsigned int sas)
{
	setup_sas(sas);
	members = count;
	pairs = true;
	body_len = 400;
	for (unsigned int id = 0; id < count; id++)
		start(id);
	run(100);
	for (unsigned int sa = 0; sa < sas; sa++)
		create(0, sa, sa + 1);
}

static inline bool has_all(unsigned int id)
{
	for (unsigned int sa = 0; sa < n_sas; sa++)
		if (!gateways[id].sas[sa].present)
			return false;
	return true;
}

/* The same records, in the kernels too; nothing is on its way. */
static inline bool agree(void)
{
	const struct member *first = NULL;

	for (unsigned int id = 0; id < members; id++) {
		const struct member *m = gateways[id].m;

		if (!m)
			continue;
		if (!first)
			first = m;
		if (m->work_count || memcmp(m->table.leaves, first->table.leaves,
					     TABLE_LEAVES * sizeof(*m->table.leaves)) != 0)
			return false;
		for (unsigned int other = 0; other < members; other++)
			if (m->others[other].alive &&
				(m->others[other].queue.count || !(m->synced >> other & 1)))
				return false;
	}
	return true;
}

/* How many ms it took to agree; fails if it takes longer than `ms`. */
static inline unsigned int settle(unsigned int ms)
{
	for (unsigned int spent = 0;; spent++) {
		if (agree())
			return spent;
		assert_in_range(spent, 0, ms);
		step();
	}
}

#endif
