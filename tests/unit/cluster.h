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

#include "gateway.h"

#define BITS 8
#define HEARTBEAT_US 10000
#define DEAD 3
#define REPAIR_US 200000
#define TOMBSTONE_US 1000000
#define DOUBLED_US 500000
#define CLAIM_US 300000

static inline void tell_kernel(struct gateway *g, unsigned int sa)
{
	uint8_t body[RECORD_BODY_MAX];
	struct member_record record = {
		.key = sa_key_at(sa, g->sas[sa].place),
		.facts = sa_facts(sa, g->sas[sa].birth),
		.oseq = g->sas[sa].oseq,
		.seq = g->sas[sa].seq,
		.made_s = g->sas[sa].made_s,
		.body = body,
		.body_len = body_len,
	};

	record.facts.form = g->sas[sa].form;
	record.facts.pair = pair_at(sa, g->sas[sa].place);
	make_body(g->sas[sa].birth, body);
	member_added(g->m, &record);
}

/* What else its kernel holds, if a test has something. */
static void (*start_more)(struct gateway *g);

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

		for (uint8_t place = 0; place < 8; place++) {
			struct record_key key = sa_key_at(sa, place);

			if (g->sas[sa].guarded_at >> place & 1)
				member_guarded(g->m, &key, &guard, g->sas[sa].let_out);
		}
	}
	for (unsigned int sa = 0; sa < n_sas; sa++)
		if (g->sas[sa].present)
			tell_kernel(g, sa);
	if (start_more)
		start_more(g);
}

/* As agent/start.c: where they are by now. */
static inline void settle_sas(struct gateway *g)
{
	for (unsigned int sa = 0; sa < n_sas; sa++) {
		struct record_key key = sa_key(sa);

		g->sas[sa].found = g->sas[sa].found ? (g->sas[sa].oseq >> block_bits) + 2 : 0;
		while (g->sas[sa].present && member_settle(g->m, &key, g->sas[sa].oseq))
			;
	}
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
		.claim_us = CLAIM_US,
		.tombstone_us = TOMBSTONE_US,
		.doubled_us = DOUBLED_US,
		.capacity = capacity ? capacity : n_sas + 64,
		.idle = capacity ? capacity / 2 : n_sas + 64,
		.ikes = most_ikes,
		.commit_us = 50000,
		.first = first_day,
		.journal = g->journal,
		.life = (uint32_t)now_us + id + 1,
		.order = g->order,
		.macs = {.outer = {2, 0, 0, 0, 0, (uint8_t)id}},
	};

	g->queued = g->durable = 0;
	assert_int_equal(member_new(&config, &ops, g, now_us, &g->m), 0);
	start_sas(g);
	if (while_starting)
		while_starting(id);
	if (!unsettled)
		settle_sas(g);
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
	g->live = 0;
	for (unsigned int sa = 0; sa < n_sas; sa++) {
		g->sas[sa].present = g->sas[sa].guarded = false;
		g->sas[sa].guarded_at = 0;
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
	gateways[id].sas[sa].oseq = gateways[id].sas[sa].seq = 0;
	gateways[id].sas[sa].used = (struct record_usage){0};
	gateways[id].sas[sa].place = 0;
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
	short_numbers = limited = first_day = unsettled = false;
	while_starting = NULL;
	body_len = 8;
	pairs = one_pair = placed = false;
	pair_sas = 2;
	shared_from = UINT32_MAX;
	capacity = 0;
	start_more = NULL;
	daemon_told = NULL;
	most_ikes = 0;
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
