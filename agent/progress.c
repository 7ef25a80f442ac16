/* SPDX-License-Identifier: BSD-2-Clause */
/* progress.c - how far this member has come with taking over the others' records. */
#include "agent.h"

#define MEASURE_US 500000
#define SAY_US 5000000

/* The most records that a member has whose records we are still being sent; 0: none is. */
static uint32_t wanted(const struct agent *a, bool *ret_alone)
{
	struct member_other other;
	uint32_t most = 0;

	*ret_alone = true;
	for (uint8_t id = 0; id < ESPALIER_MEMBERS; id++) {
		if (id == a->config.id || !(a->config.members >> id & 1))
			continue;
		member_other(a->member, id, &other);
		*ret_alone &= !other.alive;
		if (other.alive && !other.synced && other.records > most)
			most = other.records;
	}
	return most;
}

bool progress_goes_on(const struct agent *a)
{
	bool alone;

	return wanted(a, &alone) > 0;
}

void progress_tick(struct agent *a, uint64_t now_us)
{
	struct progress *p = &a->progress;
	uint32_t have = member_table(a->member)->present, total;
	bool alone;

	if (now_us < p->measured_us + MEASURE_US)
		return;
	total = wanted(a, &alone);
	p->per_second = p->total && have > p->have
				? (uint64_t)(have - p->have) * 1000000 / (now_us - p->measured_us)
				: 0;
	if (total && !p->total)
		p->said_us = now_us + MEASURE_US - SAY_US; /* when its rate is known */
	if (!total && p->said && !alone)
		agent_say("caught up with the other members: %u records", have);
	p->said &= total || alone;
	p->have = have;
	p->total = total > have ? total : total ? have : 0;
	p->measured_us = now_us;
	p->seconds_left = p->per_second ? (p->total - have) / p->per_second : 0;
	if (!total || now_us < p->said_us + SAY_US)
		return;
	p->said = true;
	p->said_us = now_us;
	if (p->per_second)
		agent_say("catching up with the other members: %u of %u records, %llu a second, "
			  "about %llu s left",
			have, p->total, (unsigned long long)p->per_second,
			(unsigned long long)p->seconds_left);
	else
		agent_say("catching up with the other members: %u of %u records", have, p->total);
}
