/* SPDX-License-Identifier: BSD-2-Clause */
/* positions.c - how far SAs have come, by their counters in the datapath, handed to the core. */
#include "agent.h"

#define POSITIONS 8192 /* that have moved, told in one turn */
#define DOUBTS 256 /* of those the kernel is asked about */
#define LEAP 65536 /* numbers: what has come further since the last look is doubted */

/* What it says may have been said to the agent before us, which had other slots. */
void positions_wake(struct agent *a, const struct espalier_event *event)
{
	const struct record *r = table_at(member_table(a->member), event->slot);
	uint64_t oseq, seq;

	if (!r || r->facts.birth != event->birth)
		return;
	if (event->kind == ESPALIER_BLOCK_LOW)
		member_position(a->member, event->slot, event->seq);
	else if (event->kind == ESPALIER_BLOCK_OUT && record_is_installed(r) &&
		 xfrm_counters(a->xfrm, &r->key, &oseq, &seq) == 0)
		member_counter(a->member, event->slot, oseq);
}

static bool is_doubtful(const struct record *r, uint64_t seq)
{
	return r->facts.direction == ESPALIER_IN && seq > r->seq && seq - r->seq > LEAP &&
	       record_is_installed(r);
}

/*
 * A position that is told never goes back, and too high a one would close the SA on the others. So
 * a leap is believed only if the kernel says the same, which keeps no number of an SA without a
 * replay window.
 */
static uint64_t checked(struct agent *a, const struct record *r, struct espalier_counter *counter)
{
	uint64_t oseq, seq;

	if (xfrm_counters(a->xfrm, &r->key, &oseq, &seq) < 0)
		return r->seq; /* it has just gone */
	if (seq && seq < counter->seq)
		counter->seq = seq;
	return counter->seq;
}

bool positions_turn(struct agent *a)
{
	struct espalier_counter *counters = datapath_counters(a->datapath);
	uint32_t high = member_table(a->member)->high;
	unsigned int moved = 0, doubts = 0;

	for (; a->positions_next < high && moved < POSITIONS && doubts < DOUBTS;
		a->positions_next++) {
		uint32_t slot = a->positions_next;
		uint64_t seq = counters[slot].seq;
		const struct record *r;

		if (seq == a->positions[slot])
			continue;
		a->positions[slot] = seq;
		r = table_at(member_table(a->member), slot);
		if (!r || r->facts.birth != counters[slot].birth)
			continue;
		if (is_doubtful(r, seq)) {
			seq = a->positions[slot] = checked(a, r, &counters[slot]);
			doubts++;
		}
		member_position(a->member, slot, seq);
		usage_moved(a, slot);
		moved++;
	}
	return a->positions_next < high;
}
