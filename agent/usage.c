/* SPDX-License-Identifier: BSD-2-Clause */
/* usage.c - how much is used up of the limits of SAs that carry traffic: asked of the kernel, a
 * bounded number of them at a time. */
#include <errno.h>
#include <stdlib.h>

#include "agent.h"

#define EVERY_US 100000
#define MOST 256 /* asked for each time */
#define BITS 64 /* in each of usage.moved */

int usage_open(struct agent *a)
{
	a->usage.moved = calloc(table_slots(a->config.max_sas) / BITS + 1, sizeof(*a->usage.moved));
	return a->usage.moved ? 0 : -ENOMEM;
}

void usage_close(struct agent *a)
{
	free(a->usage.moved);
}

void usage_moved(struct agent *a, uint32_t slot)
{
	const struct record *r = table_at(member_table(a->member), slot);

	if (r && r->facts.limited)
		a->usage.moved[slot / BITS] |= 1ULL << slot % BITS;
}

static void ask(struct agent *a, uint32_t slot)
{
	const struct record *r = table_at(member_table(a->member), slot);
	struct record_usage used;

	a->usage.moved[slot / BITS] &= ~(1ULL << slot % BITS);
	if (r && r->key.kind == RECORD_SA && record_is_installed(r) && r->facts.limited &&
		xfrm_used(a->xfrm, &r->key, &used) == 0)
		member_used(a->member, slot, &used);
}

/* The next slot from `slot` on that has moved, or `high`. */
static uint32_t next_moved(const struct usage *u, uint32_t slot, uint32_t high)
{
	while (slot < high) {
		uint64_t rest = u->moved[slot / BITS] >> slot % BITS;

		if (rest)
			return slot + (uint32_t)__builtin_ctzll(rest);
		slot = (slot / BITS + 1) * BITS;
	}
	return high;
}

void usage_turn(struct agent *a, uint64_t now_us)
{
	uint32_t high = member_table(a->member)->high;
	struct usage *u = &a->usage;

	if (now_us < u->due_us)
		return;
	u->due_us = now_us + EVERY_US;
	for (unsigned int n = 0; n < MOST; n++) {
		u->next = next_moved(u, u->next, high);
		if (u->next >= high) {
			u->next = 0; /* those before had their turn: the next time */
			return;
		}
		ask(a, u->next++);
	}
}
