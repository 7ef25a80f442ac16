/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * traffic.h - outbound packets of cluster.h's gateways: numbered by a kernel, judged by a guard,
 * seen by a peer that knows every number again.
 */
#ifndef TRAFFIC_H
#define TRAFFIC_H

#include "cluster.h"

#define NUMBERS (1U << 20) /* of one SA, that the peer remembers */

static uint8_t seen[NUMBERS / 8];
static unsigned int repeated;

static inline void forget_traffic(void)
{
	memset(seen, 0, sizeof(seen));
	repeated = 0;
}

static inline void on_the_wire(uint64_t seq)
{
	assert_in_range(seq, 0, NUMBERS - 1);
	repeated += seen[seq / 8] >> seq % 8 & 1;
	seen[seq / 8] |= (uint8_t)(1 << seq % 8);
}

static inline bool is_open(const struct sa *sa, uint64_t seq)
{
	for (unsigned int i = 0; i < 2; i++)
		if (seq >= sa->guard.open[i].first && seq <= sa->guard.open[i].last)
			return true;
	return false;
}

/* Two members in hot standby, of which 0 owns all. */
static inline int setup_hot_standby(void **state)
{
	(void)state;
	setup_sas(2);
	forget_traffic();
	members = 2;
	mode = VIEW_HOT_STANDBY;
	return 0;
}

static inline unsigned int modulus(unsigned int id)
{
	return gateways[id].m->rule.modulus;
}

/* As bpf/guard.bpf.c: lets out one number; tells the agent, if there is one. */
static inline bool emit_one(unsigned int id, unsigned int n)
{
	struct gateway *g = &gateways[id];
	struct sa *sa = &g->sas[n];
	uint64_t seq = ++sa->oseq;
	bool out = sa->guarded ? is_open(sa, seq) : seq >> block_bits == 0;

	if (sa->guarded && guard_owner(g, n) != id && !g->handing)
		return false;
	if (out && seq < NUMBERS)
		on_the_wire(seq);
	if (out && seq > sa->let_out)
		sa->let_out = seq;
	if (g->m && sa->guarded && out)
		member_position(g->m, sa->guard.slot, seq);
	else if (g->m && sa->guarded)
		member_counter(g->m, sa->guard.slot, seq);
	return out;
}

/* So many packets, one a step; returns how many got out. */
static inline unsigned int emit(unsigned int id, unsigned int sa, unsigned int packets)
{
	unsigned int out = 0;

	for (; packets; packets--) {
		out += gateways[id].sas[sa].present && emit_one(id, sa);
		step();
	}
	return out;
}

static inline struct record *record_of(unsigned int id, unsigned int sa)
{
	struct record_key key = sa_key(sa);

	return table_find(&gateways[id].m->table, &key);
}

#endif
