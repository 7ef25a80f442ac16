/* SPDX-License-Identifier: BSD-2-Clause */
/* metrics_times.c - how long takeovers and the loop's turns take. */
#include "agent.h"

void metrics_entered(struct agent *a, uint64_t now_us)
{
	a->metrics.times.entered_us = now_us;
}

void metrics_flipped(struct agent *a)
{
	struct metrics_times *t = &a->metrics.times;

	t->flipped_us = agent_now_us();
	t->flip_us = t->flipped_us - t->entered_us;
}

/* Whom the view before had, and this one has not. */
static void note_takeover(struct agent *a, uint16_t gone)
{
	struct metrics_times *t = &a->metrics.times;
	struct member_other other;

	histogram_add(&t->flip, t->flip_us);
	for (; gone; gone &= (uint16_t)(gone - 1)) {
		uint8_t id = view_lowest(gone);

		member_other(a->member, id, &other);
		if (!other.heard_us || other.heard_us > t->flipped_us)
			continue;
		histogram_add(&t->silence, t->flipped_us - other.heard_us);
		happened(a, HAPPENED_TAKEOVER,
			"member %u is gone, %s, heard %llu ms before; its buckets were taken over "
			"in %llu us",
			id, other.flags & WIRE_LEAVING ? "as it said" : "without a word",
			(unsigned long long)(t->flipped_us - other.heard_us) / 1000,
			(unsigned long long)t->flip_us);
	}
}

void metrics_turn(struct agent *a, uint64_t since_us, uint64_t now_us)
{
	struct metrics_times *t = &a->metrics.times;
	uint64_t takeovers = member_counters(a->member)->takeovers;
	uint16_t live = member_view(a->member)->live;

	histogram_add(&t->loop, now_us - since_us);
	if (takeovers > t->takeovers)
		note_takeover(a, t->live & (uint16_t)~live & (uint16_t) ~(1U << a->config.id));
	t->takeovers = takeovers;
	t->live = live;
}
