/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * plans.c - what an administrator orders, at any member and for any: drains, undrains, failovers.
 * In every other world beside whatever else happens; in one of sixteen, where nothing else does, no
 * packet may be lost by it.
 */
#include "core/hash.h"
#include "world.h"

#define PLAN_EVERY_MS 600
#define YOUNG_US 500000 /* an SA that not all members know yet as it is */
#define DONE_US 1000000 /* an order is followed by then */
#define UNDO_US 200000 /* after the last fault: no order is on its way */

static uint64_t plans_random(struct world *w, uint64_t below)
{
	w->plans_random += 0x9e3779b97f4a7c15ULL;
	return hash_mix(w->plans_random) % below;
}

void plans_begin(struct world *w, bool alone)
{
	w->plans_random = hash_mix(w->seed + 3);
	w->plans = true;
	w->plans_alone = alone;
	if (!alone)
		return;
	w->kinds = 0;
	w->loss = 0; /* heartbeats that are lost are a fault, too */
	w->obeys = true;
	world_say(w, "nothing but orders in this world");
}

static void order(struct world *w, unsigned int by, uint8_t id, enum wire_order what)
{
	int r = member_order(w->machines[by].agent, id, what);

	w->orders += r == 0;
	world_say(w, "order %u for %u at %u: %d", what, id, by, r);
}

/* Who is drained owns nothing, as long as anybody is not. */
static void check_drained(struct world *w)
{
	bool others = false;

	for (unsigned int id = 0; id < w->members; id++)
		others |= w->machines[id].order != ORDER_DRAIN;
	for (unsigned int id = 0; id < w->members; id++) {
		const struct machine *machine = &w->machines[id];

		if (others && machine->order == ORDER_DRAIN && machine->live >> id & 1 &&
			w->now_us > machine->ordered_us + DONE_US)
			world_fail(w, "member %u is drained, and owns buckets", id);
	}
}

void plans_happen(struct world *w)
{
	unsigned int by = (unsigned int)plans_random(w, w->members);
	uint8_t to, id = (uint8_t)plans_random(w, w->members);
	const struct machine *machine = &w->machines[by];

	if (w->plans_alone)
		check_drained(w);
	if (!w->plans || plans_random(w, PLAN_EVERY_MS) || !machine->agent || machine->frozen)
		return;
	if (w->mode == VIEW_HOT_STANDBY && plans_random(w, 3) == 0)
		w->orders += member_fail_over(machine->agent, &to) == 0;
	else
		order(w, by, id, plans_random(w, 2) ? ORDER_DRAIN : ORDER_OWN);
}

/* In the end all own their shares. */
void plans_undo(struct world *w)
{
	if (!w->plans || w->now_us != w->fault_us + UNDO_US)
		return;
	for (unsigned int id = 0; id < w->members; id++)
		order(w, id, (uint8_t)id, ORDER_OWN);
}

static bool is_judged(const struct world *w, unsigned int child)
{
	const struct child *c = &w->children[child];

	return w->plans_alone && w->now_us > w->begun_us + 2 * YOUNG_US &&
	       w->now_us > c->made_us + YOUNG_US &&
	       (!c->moved_us || w->now_us > c->moved_us + YOUNG_US);
}

void plans_lost(struct world *w, unsigned int id, unsigned int child, const char *why)
{
	if (is_judged(w, child))
		world_fail(w, "a packet of SA %u is lost at %u by nothing but orders: %s", child,
			id, why);
}
