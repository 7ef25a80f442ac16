/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * churn.c - Child SAs that are rekeyed all the time: the owner's kernel tells of two new SAs and of
 * the end of the two that were there longest. A copy is whole when it is installed and the guard
 * knows its inbound SA and has a block of its outbound one open.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "replication.h"

#define CHILDREN 10000U
#define WINDOW 4096U /* pairs under way: if so many are not whole yet the others do not keep up */
#define AT_ONCE 64U /* pairs in one turn of the loop, about as many as the agent reads at once */
#define RATE 1000U /* pairs a second, for the latency, ... */
#define RATE_S 10U
#define PATIENCE_S 60 /* without any progress */

enum part { IN_INSTALLED = 1, OUT_INSTALLED = 2, IN_GUARDED = 4, OUT_OPEN = 8, WHOLE = 15 };

struct churn {
	struct churn_shared *shared;
	uint8_t self;
	uint32_t children;
	bool runs;
	uint32_t per_second, first; /* first: that is made at this rate */
	uint64_t begin_ns;
	int timer;
	struct {
		uint32_t pair; /* + 1; 0: none */
		unsigned int has; /* enum part */
	} ring[CHURN_RING];
};

struct churn *churn_new(struct churn_shared *shared, uint8_t self, uint32_t children)
{
	struct churn *c = calloc(1, sizeof(*c));

	if (!c)
		die("no memory");
	c->shared = shared;
	c->self = self;
	c->children = children;
	c->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	return c;
}

int churn_fd(const struct churn *c)
{
	return c->timer;
}

void churn_begin(struct churn *c, uint32_t per_second)
{
	struct itimerspec every = {0};

	c->runs = true;
	c->per_second = per_second;
	c->first = atomic_load(&c->shared->made);
	c->begin_ns = clock_ns(CLOCK_MONOTONIC);
	if (per_second)
		every.it_interval.tv_nsec = every.it_value.tv_nsec = 1000000000L / per_second;
	if (timerfd_settime(c->timer, 0, &every, NULL) < 0)
		die("no timer: %s", strerror(errno));
}

/* What becomes whole. */

static void note(struct churn *c, uint32_t number, unsigned int parts)
{
	uint32_t pair = number / 2 - c->children, at = pair % CHURN_RING;

	if (number / 2 < c->children || c->ring[at].pair > pair + 1)
		return; /* of those that were there before */
	if (c->ring[at].pair != pair + 1)
		c->ring[at].has = 0;
	c->ring[at].pair = pair + 1;
	if (c->ring[at].has == WHOLE)
		return;
	c->ring[at].has |= parts;
	if (c->ring[at].has != WHOLE)
		return;
	atomic_store(&c->shared->done[c->self].ns[at], clock_ns(CLOCK_MONOTONIC));
	atomic_fetch_add(&c->shared->done[c->self].n, 1);
}

void churn_installed(struct churn *c, const struct record_key *key)
{
	uint32_t number = kernel_number(key);

	note(c, number, number % 2 ? OUT_INSTALLED : IN_INSTALLED);
}

void churn_guarded(struct churn *c, const struct record_key *key, const struct espalier_sa *sa)
{
	uint32_t number = kernel_number(key);

	if (sa && number % 2 == 0)
		note(c, number, IN_GUARDED);
	else if (sa && sa->open[0].first <= sa->open[0].last)
		note(c, number, OUT_OPEN);
}

/* What the owner's kernel tells. */

static void add(struct churn *c, struct member *m, uint32_t number)
{
	uint8_t body[RECORD_BODY_MAX];
	struct member_record record = {.body = body};

	kernel_sa(number, &record.key, &record.facts);
	record.body_len = (size_t)kernel_body(&record.key, body, sizeof(body));
	churn_installed(c, &record.key);
	member_added(m, &record);
}

static void end(struct member *m, uint32_t number)
{
	struct record_facts facts;
	struct record_key key;

	kernel_sa(number, &key, &facts);
	member_removed(m, &key);
}

static void rekey(struct churn *c, struct member *m, uint32_t pair, uint64_t ns)
{
	uint32_t made = 2 * (c->children + pair), ended = 2 * pair;

	atomic_store(&c->shared->made_ns[pair % CHURN_RING], ns);
	atomic_store(&c->shared->made, pair + 1);
	add(c, m, made);
	add(c, m, made + 1);
	end(m, ended + 1);
	end(m, ended);
}

static uint32_t whole(const struct churn_shared *shared)
{
	uint32_t least = UINT32_MAX;

	for (unsigned int id = 0; id < MEMBERS_MOST; id++) {
		uint32_t n = atomic_load(&shared->done[id].n);

		least = n < least ? n : least;
	}
	return least;
}

/* How many are to have been made by now. */
static uint32_t due(const struct churn *c, uint64_t now)
{
	uint32_t pairs = atomic_load(&c->shared->pairs);
	uint64_t n = c->per_second ? c->first + (now - c->begin_ns) * c->per_second / 1000000000
				   : whole(c->shared) + WINDOW;

	return n < pairs ? (uint32_t)n : pairs;
}

static uint64_t due_ns(const struct churn *c, uint32_t pair, uint64_t now)
{
	return c->per_second
		       ? c->begin_ns + (uint64_t)(pair - c->first) * 1000000000 / c->per_second
		       : now;
}

bool churn_turn(struct churn *c, struct member *m, int *ret_installed)
{
	uint64_t expirations, now = clock_ns(CLOCK_MONOTONIC);
	uint32_t until, pair;

	if (!c->runs)
		return false;
	(void)!read(c->timer, &expirations, sizeof(expirations));
	until = due(c, now);
	pair = atomic_load(&c->shared->made);
	for (unsigned int i = 0; i < AT_ONCE && pair < until; i++, pair++)
		rekey(c, m, pair, due_ns(c, pair, now));
	*ret_installed = 0; /* as many as before */
	return pair < until;
}

/* What is measured. */

static bool is_even(const struct cluster *c)
{
	for (unsigned int id = 0; id < c->n; id++)
		if (cluster_report(c, id).installed != c->sas)
			return false;
	return true;
}

/* Until all that was made is whole, and all that was ended has gone, everywhere. Returns seconds.
 */
static double run(struct cluster *c, uint32_t pairs, uint32_t per_second)
{
	uint32_t target = atomic_load(&c->churn->pairs) + pairs, seen = 0;
	uint64_t begin = clock_ns(CLOCK_MONOTONIC), moved = begin, now = begin;

	atomic_store(&c->churn->pairs, target);
	cluster_order(c, 0, ORDER_CHURN, per_second);
	while (whole(c->churn) < target || !is_even(c)) {
		cluster_sleep(c, 5);
		now = clock_ns(CLOCK_MONOTONIC);
		if (whole(c->churn) != seen)
			moved = now;
		seen = whole(c->churn);
		if (now > moved + PATIENCE_S * 1000000000ULL)
			die("%u of %u pairs are on all members, and no more are coming", seen,
				target);
	}
	return (double)(now - begin) / 1e9;
}

static double latency_ms(const struct churn_shared *shared, uint32_t pair)
{
	uint64_t last = 0;

	for (unsigned int id = 0; id < MEMBERS_MOST; id++) {
		uint64_t ns = atomic_load(&shared->done[id].ns[pair % CHURN_RING]);

		last = ns > last ? ns : last;
	}
	return (double)(last - atomic_load(&shared->made_ns[pair % CHURN_RING])) / 1e6;
}

static void measure_latency(struct cluster *c)
{
	static double ms[RATE * RATE_S];
	uint32_t first = atomic_load(&c->churn->made);
	double middle;

	(void)run(c, RATE * RATE_S, RATE);
	for (uint32_t i = 0; i < RATE * RATE_S; i++)
		ms[i] = latency_ms(c->churn, first + i);
	middle = median(ms, RATE * RATE_S);
	figure("copy_latency_p99_ms", "ms", ms[RATE * RATE_S / 100 * 99],
		"from NEWSA to whole on all three, %u pairs a second (median %.2f, worst %.1f)",
		RATE, middle, ms[RATE * RATE_S - 1]);
}

static void measure_rate(struct cluster *c, uint32_t rekeys)
{
	double before[MEMBERS_MOST], growth = 0, took, cpu[MEMBERS_MOST];
	struct report r;

	for (unsigned int id = 0; id < MEMBERS_MOST; id++) {
		r = cluster_report(c, id);
		before[id] = (double)r.rss;
		cpu[id] = (double)r.cpu_ns;
	}
	took = run(c, rekeys, 0);
	cluster_sleep(c, 1000);
	for (unsigned int id = 0; id < MEMBERS_MOST; id++) {
		r = cluster_report(c, id);
		cpu[id] = ((double)r.cpu_ns - cpu[id]) / 1e9 / rekeys * 1e6;
		if ((double)r.rss - before[id] > growth)
			growth = (double)r.rss - before[id];
	}
	figure("churn_pairs_per_second", "pairs/s", rekeys / took,
		"made, and as many ended, on all three; %.0f us of CPU for one on the owner, %.0f "
		"on "
		"another",
		cpu[0], cpu[1]);
	figure("resident_growth_after_1m_rekeys", "bytes", growth,
		"of the member that grew most, after %u rekeys of %u Child SAs", rekeys, CHILDREN);
}

void churn_measure(uint32_t rekeys)
{
	struct cluster c;

	say("%u Child SAs on three members", CHILDREN);
	cluster_start_churn(&c, 2 * CHILDREN, 2 * (rekeys + RATE * RATE_S));
	cluster_join(&c);
	cluster_wait_full(&c);
	cluster_settle(&c);
	say("%u rekeys a second", RATE);
	measure_latency(&c);
	say("%u rekeys", rekeys);
	measure_rate(&c, rekeys);
	cluster_stop(&c);
}
