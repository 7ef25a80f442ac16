/* SPDX-License-Identifier: BSD-2-Clause */
/* faults.c - what goes wrong, and how it ends. */
#include <string.h>

#include "core/state.h"
#include "world.h"

/* An SA is gone from a kernel, and nobody is told. */
static void vanish(struct world *w, unsigned int id)
{
	unsigned int child = (unsigned int)world_random(w, w->n_children);
	struct machine *machine = &w->machines[id];

	if (!machine->agent || !w->n_children || !machine->sas[child].present)
		return;
	machine->sas[child].present = false;
	world_say(w, "SA %u vanishes from %u", child, id);
}

/* What waits to be told to another member is taken for told. */
static void lose_news(struct world *w, unsigned int id)
{
	unsigned int to = (unsigned int)world_random(w, w->members);
	struct member *m = w->machines[id].agent;

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

static void cut_in_two(struct world *w)
{
	uint16_t side = (uint16_t)world_random(w, 1U << w->members);
	bool one_way = world_chance(w, 250);

	for (unsigned int i = 0; i < w->members; i++)
		for (unsigned int j = 0; j < w->members; j++)
			w->cut[i][j] =
				(side >> i & 1) != (side >> j & 1) && !(one_way && side >> i & 1);
	world_say(w, "cut %x%s", side, one_way ? " one way" : "");
}

void faults_happen(struct world *w)
{
	unsigned int id = (unsigned int)world_random(w, w->members);
	struct machine *machine = &w->machines[id];
	uint64_t back_us = w->now_us + 50000 + world_random(w, 2000000);

	w->previous_fault_us = w->fault_us;
	w->fault_us = w->now_us;
	w->faults_made++;
	switch (world_random(w, 10)) {
	case 0:
		if (!machine->agent || machine->frozen)
			return;
		if (world_chance(w, 500)) {
			machine->ops_left = 2 + (unsigned int)world_random(w, 10);
			break;
		}
		world_say(w, "kill agent %u", id);
		machine_kill_agent(w, id);
		machine->back_us = back_us;
		if (world_chance(w, 100)) {
			world_say(w, "journal of %u is lost", id);
			machine_lose_journal(w, id);
		}
		break;
	case 1:
	case 2:
		if (!machine->up)
			return;
		world_say(w, "power off %u", id);
		machine_power_off(w, id);
		machine->back_us = back_us;
		if (world_chance(w, 250)) {
			world_say(w, "journal of %u is lost", id);
			machine_lose_journal(w, id);
		}
		break;
	case 3:
		cut_in_two(w);
		break;
	case 4:
		memset(w->cut, 0, sizeof(w->cut));
		world_say(w, "no cut");
		break;
	case 5:
		if (!machine->agent || machine->frozen)
			return;
		world_say(w, "freeze %u", id);
		machine->frozen = true;
		machine->back_us = back_us;
		break;
	case 7:
	case 8:
		vanish(w, id);
		break;
	case 9:
		lose_news(w, id);
		break;
	case 6:
		if (!machine->agent || machine->frozen)
			return;
		machine->link_up = !machine->link_up;
		world_say(w, "link of %u %s", id, machine->link_up ? "up" : "down");
		member_link(machine->agent, machine->link_up);
		break;
	}
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
	for (unsigned int id = 0; id < w->members; id++) {
		struct machine *machine = &w->machines[id];

		machine->ops_left = 0;
		if (machine->back_us)
			machine->back_us = w->now_us;
		faults_end(w, id);
		machine->link_up = true;
		member_link(machine->agent, true);
	}
}
