/* SPDX-License-Identifier: BSD-2-Clause */
/* faults.c - what goes wrong, and how it ends. */
#include <stdio.h>
#include <string.h>

#include "core/state.h"
#include "world.h"

#define DOUBT_EVERY_MS 1500

/* An SA is gone from a kernel, and nobody is told. */
static void vanish(struct world *w, unsigned int id, uint64_t back_us)
{
	unsigned int child = (unsigned int)world_random(w, w->n_children);
	struct machine *machine = &w->machines[id];

	(void)back_us;
	if (!machine->agent || !w->n_children || !machine->sas[child].present)
		return;
	machine->sas[child].present = false;
	world_say(w, "SA %u vanishes from %u", child, id);
}

/* What waits to be told to another member is taken for told. */
static void lose_news(struct world *w, unsigned int id, uint64_t back_us)
{
	unsigned int to = (unsigned int)world_random(w, w->members);
	struct member *m = w->machines[id].agent;

	(void)back_us;
	if (!m || to == id)
		return;
	for (uint32_t slot = 0; slot < m->table.high; slot++) {
		struct record *r = table_at(&m->table, slot);

		if (r)
			r->dirty &= (uint16_t)~member_bit(to),
				r->dirty_state &= (uint16_t)~member_bit(to);
	}
	w->lost_us[id][to][0] = w->lost_us[id][to][1] = w->now_us;
	world_say(w, "news of %u for %u are lost", id, to);
}

static void cut_in_two(struct world *w, unsigned int id, uint64_t back_us)
{
	uint16_t side = (uint16_t)world_random(w, 1U << w->members);
	bool one_way = world_chance(w, 250);

	(void)id;
	(void)back_us;
	for (unsigned int i = 0; i < w->members; i++)
		for (unsigned int j = 0; j < w->members; j++)
			w->cut[i][j] =
				(side >> i & 1) != (side >> j & 1) && !(one_way && side >> i & 1);
	world_say(w, "cut %x%s", side, one_way ? " one way" : "");
}

static void end_agent(struct world *w, unsigned int id, uint64_t back_us)
{
	struct machine *machine = &w->machines[id];

	if (!machine->agent || machine->frozen)
		return;
	if (world_chance(w, 500)) {
		machine->ops_left = 2 + (unsigned int)world_random(w, 10);
		return;
	}
	world_say(w, "kill agent %u", id);
	machine_kill_agent(w, id);
	machine->back_us = back_us;
	if (world_chance(w, 100)) {
		world_say(w, "journal of %u is lost", id);
		machine_lose_journal(w, id);
	}
}

static void power_off(struct world *w, unsigned int id, uint64_t back_us)
{
	struct machine *machine = &w->machines[id];

	if (!machine->up)
		return;
	world_say(w, "power off %u", id);
	machine_power_off(w, id);
	machine->back_us = back_us;
	if (world_chance(w, 250)) {
		world_say(w, "journal of %u is lost", id);
		machine_lose_journal(w, id);
	}
}

static void mend_cuts(struct world *w, unsigned int id, uint64_t back_us)
{
	(void)id;
	(void)back_us;
	memset(w->cut, 0, sizeof(w->cut));
	world_say(w, "no cut");
}

static void freeze(struct world *w, unsigned int id, uint64_t back_us)
{
	struct machine *machine = &w->machines[id];

	if (!machine->agent || machine->frozen)
		return;
	world_say(w, "freeze %u", id);
	machine->frozen = true;
	machine->back_us = back_us;
}

static void flip_link(struct world *w, unsigned int id, uint64_t back_us)
{
	struct machine *machine = &w->machines[id];

	(void)back_us;
	if (!machine->agent || machine->frozen)
		return;
	machine->link_up = !machine->link_up;
	world_say(w, "link of %u %s", id, machine->link_up ? "up" : "down");
	machine_tell_link(w, id);
}

/*
 * Those of a weight happen in every world. Of the others, which make it doubtful what numbers are
 * out (doubts.c), a world has one or two, or none, so that one can tell what comes of which.
 */
static const struct fault {
	const char *name;
	unsigned int weight;
	bool by_default;
	void (*happen)(struct world *w, unsigned int id, uint64_t back_us);
} faults[] = {
	{"agent", 1, true, end_agent},
	{"power", 2, true, power_off},
	{"cut", 1, true, cut_in_two},
	{"no-cut", 1, true, mend_cuts},
	{"freeze", 1, true, freeze},
	{"link", 1, true, flip_link},
	{"vanish", 2, true, vanish},
	{"news", 1, true, lose_news},
	{"guard", 0, true, doubts_guard},
	{"second-way", 0, true, doubts_second_way},
	{"passed-by", 0, true, doubts_passed_by},
	{"old-journal", 0, true, doubts_old_journal},
	{"rollback", 0, true, doubts_rollback},
	{"clone", 0, true, doubts_clone},
	{"two-creators", 0, true, doubts_two_creators},
	{"made-again", 0, true, doubts_made_again},
	{"refused", 0, true, doubts_refused},
	{"restarts", 0, true, doubts_restarts},
	{"mad", 0, true, doubts_mad},
};

#define FAULTS (sizeof(faults) / sizeof(faults[0]))

/* Bit n: faults[n]. */
static uint32_t doubts(uint32_t kinds)
{
	for (unsigned int i = 0; i < FAULTS; i++)
		if (faults[i].weight)
			kinds &= ~(1U << i);
	return kinds;
}

bool faults_doubtful(const struct world *w)
{
	return doubts(w->kinds);
}

static uint32_t kind(const char *name, size_t len)
{
	for (unsigned int i = 0; i < FAULTS; i++)
		if (strlen(faults[i].name) == len && memcmp(faults[i].name, name, len) == 0)
			return 1U << i;
	return 0;
}

bool faults_read(const char *list, uint32_t *ret_kinds)
{
	*ret_kinds = 0;
	if (!list || strcmp(list, "all") == 0) {
		for (unsigned int i = 0; i < FAULTS; i++)
			if (list || faults[i].by_default)
				*ret_kinds |= 1U << i;
		return true;
	}
	if (strcmp(list, "none") == 0 || strcmp(list, "orders") == 0)
		return true;
	while (*list) {
		size_t len = strcspn(list, ",");
		uint32_t one = kind(list, len);

		if (!one) {
			fprintf(stderr, "sim: there is no fault \"%.*s\"; there are:", (int)len,
				list);
			for (unsigned int i = 0; i < FAULTS; i++)
				fprintf(stderr, " %s", faults[i].name);
			fprintf(stderr, "\n");
			return false;
		}
		*ret_kinds |= one;
		list += len + (list[len] == ',');
	}
	return true;
}

static uint32_t draw_doubt(struct world *w, uint32_t kinds)
{
	uint64_t n = doubts_random(w, (uint64_t)__builtin_popcount(kinds));

	for (; n; n--)
		kinds &= kinds - 1;
	return kinds & -kinds;
}

void faults_begin(struct world *w, uint32_t kinds, bool chosen)
{
	uint32_t some = doubts(kinds);

	w->kinds = kinds & ~some;
	if (!some || (!chosen && doubts_random(w, 2)))
		return;
	w->kinds |= draw_doubt(w, some);
	if (doubts_random(w, 4) == 0)
		w->kinds |= draw_doubt(w, some);
	if (w->kinds & kind("restarts", 8) && doubts_random(w, 2))
		w->block_bits = FEW_BLOCKS_BITS;
	/* An old copy brings back what has ended; it must be remembered. */
	if (w->kinds & (kind("rollback", 8) | kind("clone", 5)))
		w->tombstone_us = 20000000;
	for (unsigned int i = 0; i < FAULTS; i++)
		if (doubts(w->kinds) >> i & 1)
			world_say(w, "fault of this world: %s", faults[i].name);
}

void faults_note(struct world *w)
{
	w->previous_fault_us = w->fault_us;
	w->fault_us = w->now_us;
	w->faults_made++;
}

static void weighted_fault(struct world *w)
{
	unsigned int id = (unsigned int)world_random(w, w->members);
	uint64_t back_us = w->now_us + 50000 + world_random(w, 2000000);
	unsigned int weights = 0, i = 0;
	uint64_t n;

	for (unsigned int each = 0; each < FAULTS; each++)
		weights += faults[each].weight;
	for (n = world_random(w, weights); n >= faults[i].weight; i++)
		n -= faults[i].weight;
	if (!(w->kinds >> i & 1))
		return;
	faults_note(w);
	faults[i].happen(w, id, back_us);
}

void faults_happen(struct world *w)
{
	uint32_t some = doubts(w->kinds);

	if (world_random(w, w->fault_every_ms) == 0)
		weighted_fault(w);
	if (!some || doubts_random(w, DOUBT_EVERY_MS))
		return;
	faults_note(w);
	faults[__builtin_ctz(draw_doubt(w, some))].happen(w,
		(unsigned int)doubts_random(w, w->members),
		w->now_us + 50000 + doubts_random(w, 2000000));
}

void faults_end(struct world *w, unsigned int id)
{
	struct machine *machine = &w->machines[id];

	if (!machine->back_us || w->now_us < machine->back_us)
		return;
	w->previous_fault_us = w->fault_us;
	w->fault_us = w->now_us;
	world_say(w, "%u is back", id);
	machine->back_us = 0;
	machine->frozen = false;
	if (!machine->up)
		machine_boot(w, id);
	else if (!machine->agent)
		machine_start_agent(w, id);
}

void faults_heal(struct world *w)
{
	w->faults = false;
	w->previous_fault_us = w->fault_us = w->now_us;
	memset(w->cut, 0, sizeof(w->cut));
	w->loss = w->repeat = 0;
	world_say(w, "all is well from now on");
	doubts_end(w);
	for (unsigned int id = 0; id < w->members; id++) {
		struct machine *machine = &w->machines[id];

		machine->ops_left = 0;
		if (machine->back_us)
			machine->back_us = w->now_us;
		faults_end(w, id);
		machine->link_up = true;
		machine_tell_link(w, id);
	}
}
