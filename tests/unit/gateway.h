/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * gateway.h - made-up gateways: what members ask of them, with a kernel and a journal in memory,
 * and a network that keeps what is sent. cluster.h puts members into them.
 *
 * Holds the state of a test: include it in one file a program.
 */
#ifndef GATEWAY_H
#define GATEWAY_H

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

#define MEMBERS 3
#define DATAGRAMS 8192
#define KINDS (WIRE_ORDER + 1)
#define SELECTORS 8

struct sa {
	bool present;
	bool guarded;
	uint8_t place; /* where its peer is: part of its key */
	uint8_t guarded_at; /* places that the guard knows it at, a bit each */
	uint64_t birth, oseq, form, let_out;
	uint64_t seq; /* inbound: nothing up to here is taken any more */
	struct record_usage used; /* as its kernel has counted */
	uint64_t made_s;
	struct espalier_sa guard;
	uint64_t journaled; /* one above the highest block that is durable */
	uint64_t found; /* likewise, in which it was before there was an agent */
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
	uint8_t policy_bodies[256]; /* the first byte of each */
	struct selector selectors[SELECTORS];
	uint8_t owner[ESPALIER_BUCKETS];
	uint16_t live;
	struct entry *entries; /* of the journal, in this life */
	uint64_t queued, durable, entries_size;
	bool disk_stuck;
	unsigned int work_calls; /* of member_work() in a step, at most */
	bool lacks_ipcomp; /* the kernel */
	unsigned int refuse; /* installs that the kernel is to refuse, by this error: */
	int refusal;
	unsigned int stick; /* moves and raises that are to fail, by this error: */
	int stuck;
	unsigned int installs, moves, raises; /* tried */
	unsigned int floors, raised; /* as told */
	bool raising; /* floors hold for all that is its own */
	uint64_t floor; /* the last one */
	unsigned int expires[FENCES]; /* asked for, by reason */
	unsigned int notices[NOTICES], journals_old;
	bool begins_anew; /* as told that the journal is old */
	unsigned int doubled, doubled_over; /* as told */
	unsigned int kernel_ops; /* install, remove, move, guard */
	unsigned int slow_ops; /* of which install and move */
	unsigned int forgotten; /* SAs, by the journal */
	unsigned int most_work; /* slow_ops in one call of member_work() */
	unsigned int removed, reads;
	bool handing; /* the guard lets out what is not its owner's */
	enum wire_order order; /* that it keeps over the lives of its agent */
	int keep_error; /* not 0: it cannot */
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
static bool limited; /* SAs have limits */
static bool first_day; /* a kernel has had no agent before */
static bool unsettled; /* it cannot be asked then where its SAs are */
static void (*while_starting)(unsigned int id); /* between its dump and its first turn */
static size_t body_len; /* of an SA */
static uint32_t capacity; /* of a member; 0: more than there are SAs */
static bool one_pair; /* all SAs are of one */
static bool pairs; /* SAs of even number are the inbound ones of those after them */
static unsigned int pair_sas; /* so many of them have one reqid */
static bool placed; /* where its peer is tells an SA's pair, too, as its address does */
static unsigned int shared_from =
	UINT32_MAX; /* SAs from this on have no sequence numbers (IPComp) */

static inline uint32_t draw(uint32_t below)
{
	random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(random_state >> 33) % below;
}

/* SAs. */

/* Spreads them over the buckets: the low bits of the number stand above. */
static inline struct record_key sa_key(unsigned int sa)
{
	struct record_key key = {
		.kind = RECORD_SA, .proto = sa < shared_from ? 50 : 108, .family = 2};

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

/* Its peer is at another place. */
static inline struct record_key sa_key_at(unsigned int sa, uint8_t place)
{
	struct record_key key = sa_key(sa);

	key.addr[1] = place;
	return key;
}

static inline bool is_at(const struct sa *sa, const struct record_key *key)
{
	return sa->present && sa->place == key->addr[1];
}

/* Of a form with this bit, what it is otherwise cannot be changed in a living SA. */
#define RIGID 0x100U

static inline void make_body(uint64_t birth, uint8_t *body)
{
	memcpy(body, &birth, sizeof(birth));
	for (size_t i = sizeof(birth); i < body_len; i++)
		body[i] = (uint8_t)(birth * 7 + i) | 1;
}

static inline struct record_facts sa_facts(unsigned int sa, uint64_t birth)
{
	if (sa >= shared_from)
		return (struct record_facts){.birth = birth,
			.pair = (sa - shared_from) / pair_sas + 1,
			.direction = ESPALIER_IN};
	return (struct record_facts){
		.birth = birth,
		.pair = one_pair ? 1
			: pairs  ? sa / pair_sas + 1
				 : sa + 1,
		.direction = pairs && sa % 2 == 0 ? ESPALIER_IN : ESPALIER_OUT,
		.esn = !short_numbers,
		.limited = limited,
	};
}

static inline uint64_t pair_at(unsigned int sa, uint8_t place)
{
	return sa_facts(sa, 1).pair + (placed ? (uint64_t)place << 32 : 0);
}
/* Its IKE daemon, if a test has one. */
static bool (*daemon_told)(struct gateway *g, enum ike_tell what, const struct ike *r);
static uint32_t most_ikes; /* of a member */

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
		assert_true(sa->journaled > oseq >> block_bits || sa->found > oseq >> block_bits);
}

static inline void raise_used(struct sa *sa, const struct record_usage *used)
{
	if (used->bytes > sa->used.bytes)
		sa->used.bytes = used->bytes;
	if (used->packets > sa->used.packets)
		sa->used.packets = used->packets;
}

static inline int install(struct gateway *g, const struct record_install *r)
{
	uint8_t body[RECORD_BODY_MAX];
	uint64_t birth;
	struct sa *sa;

	note(g, 'i');
	g->installs++;
	if (g->lacks_ipcomp && r->key->proto == RECORD_IPCOMP)
		return -ENOSYS;
	if (g->refuse) {
		g->refuse--;
		return g->refusal;
	}
	if (r->key->kind == RECORD_POLICY) {
		g->policies[r->key->addr[0]] = true;
		g->policy_bodies[r->key->addr[0]] = *(const uint8_t *)r->body;
		return 0;
	}
	sa = sa_of(g, r->key);
	memcpy(&birth, r->body, sizeof(birth));
	assert_true(record_is_birth(r->facts, birth, r->key));
	make_body(birth, body);
	assert_int_equal(r->body_len, body_len);
	assert_memory_equal(r->body, body, body_len);
	if (r->update && (!is_at(sa, r->key) || sa->birth != birth))
		return -ENOENT;
	if (r->update && r->facts->form & RIGID)
		return -EXDEV;
	if (r->update) {
		sa->form = r->facts->form;
		return 0;
	}
	/* It takes the place of one in another form only. */
	assert_true(!sa->present ||
		    (is_at(sa, r->key) && sa->form != r->facts->form && sa->oseq <= r->oseq));
	if (sa->guard.open[0].first <= sa->guard.open[0].last)
		check_durable(sa, r->oseq);
	if (!sa->present)
		sa->seq = 0;
	sa->present = true;
	sa->birth = birth;
	sa->form = r->facts->form;
	sa->place = r->key->addr[1];
	sa->oseq = r->oseq;
	sa->seq = sa->seq > r->seq ? sa->seq : r->seq;
	sa->used = r->used; /* what a body says here is nothing */
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
	else if (is_at(sa_of(g, key), key))
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
	if (!is_at(sa, key))
		return -ENOENT;
	assert_true(oseq > sa->oseq);
	sa->oseq = oseq;
	return 0;
}

static inline void op_floor(void *ctx, uint32_t slot, uint64_t seq)
{
	struct gateway *g = ctx;

	(void)slot;
	g->floors++;
	g->floor = seq;
}

/* Then no window of what it owns may be behind. */
static inline void op_raising(void *ctx)
{
	struct gateway *g = ctx;

	g->raising = true;
}

static inline void op_raised(void *ctx)
{
	struct gateway *g = ctx;

	g->raised++;
	g->raising = false;
	for (unsigned int i = 0; i < n_sas; i++) {
		const struct record *r = table_at(&g->m->table, g->sas[i].guard.slot);

		if (g->sas[i].present && r && r->facts.direction == ESPALIER_IN &&
			r->facts.birth == g->sas[i].birth &&
			member_flow_owner(g->m, r) == g->m->config.self)
			assert_true(g->sas[i].seq >= r->seq);
	}
}

static inline int op_raise(void *ctx, const struct record_key *key, uint32_t slot, uint64_t seq)
{
	struct sa *sa = sa_of(ctx, key);
	struct gateway *g = ctx;

	(void)slot;
	note(ctx, 'w');
	g->raises++;
	if (g->stick) {
		g->stick--;
		return g->stuck;
	}
	if (!is_at(sa, key))
		return -ENOENT;
	if (sa->seq < seq)
		sa->seq = seq;
	return 0;
}

static inline void op_use(void *ctx, const struct record_key *key, const struct record_usage *used)
{
	struct sa *sa = sa_of(ctx, key);

	note(ctx, 'u');
	if (!is_at(sa, key))
		return;
	/* It is not told for nothing. */
	assert_true(used->bytes > sa->used.bytes || used->packets > sa->used.packets);
	raise_used(sa, used);
}

static inline int op_read(void *ctx, const struct record_key *key, void *body, size_t size)
{
	struct gateway *g = ctx;
	const struct sa *sa = sa_of(g, key);

	g->reads++;
	assert_true(size >= RECORD_BODY_MAX);
	if (!is_at(sa, key))
		return -ENOENT;
	make_body(sa->birth, body);
	return (int)body_len;
}

static inline void op_expire(void *ctx, const struct record_key *key, enum record_fence why)
{
	struct gateway *g = ctx;

	(void)key;
	note(ctx, 'e');
	g->expires[why]++;
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
	if (key->proto != 50)
		return; /* as agent/ops.c */
	sa->guarded_at &= (uint8_t) ~(1 << key->addr[1]);
	if (!guard && sa->guarded_at)
		return; /* at another place */
	sa->guarded_at |= (uint8_t)((guard != NULL) << key->addr[1]);
	sa->guarded = guard != NULL;
	sa->guard = guard ? *guard : (struct espalier_sa){.open[0].first = 1, .open[1].first = 1};
	if (guard && guard->open[0].first <= guard->open[0].last)
		check_durable(sa, guard->open[0].first);
}

/* Whose an SA is, as the guard's map and the view say. */
static inline uint8_t guard_owner(const struct gateway *g, unsigned int sa)
{
	const struct espalier_sa *guard = &g->sas[sa].guard;

	if (guard->pinned && g->live >> (guard->pinned - 1) & 1)
		return guard->pinned - 1;
	return g->owner[guard->bucket];
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
	g->live = view->live;
}

static inline void op_hand(void *ctx, bool on)
{
	struct gateway *g = ctx;

	g->handing = on;
}

static inline int op_keep(void *ctx, enum wire_order order)
{
	struct gateway *g = ctx;

	if (g->keep_error)
		return g->keep_error;
	g->order = order;
	return 0;
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

static inline void op_forget(void *ctx, uint64_t birth)
{
	struct gateway *g = ctx;

	(void)birth;
	g->forgotten++;
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

static inline bool op_ike(void *ctx, enum ike_tell what, const struct ike *r)
{
	return daemon_told(ctx, what, r);
}

static const struct member_ops ops = {op_send, op_install, op_remove, op_move, op_floor, op_raising,
	op_raised, op_raise, op_use, op_read, op_expire, op_guard, op_selector, op_pin, op_publish,
	op_hand, op_macs, op_journal, op_forget, op_journal_old, op_doubled, op_keep, op_notice,
	op_ike};

#endif
