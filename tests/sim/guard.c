/* SPDX-License-Identifier: BSD-2-Clause */
/* guard.c - a packet on its way out: numbered by the kernel, let out or stopped by the guard, or
 * past it. */
#include <string.h>

#include "world.h"

#define LOOK_US 1000000

enum verdict { OUT, NOT_OWNER, NO_BLOCK };

/* The pinned map has one entry a key, whichever SA it was made for. */
static const struct espalier_sa *guard_entry(
	const struct world *w, const struct machine *machine, unsigned int child)
{
	const struct record_key key = machine_key(&w->children[child], machine->sas[child].place);

	for (unsigned int i = 0; i < w->n_children; i++) {
		const struct child *c = &w->children[i];
		const struct kernel_sa *sa = &machine->sas[i];

		if (sa->guarded && is_key(c, sa->guard_place, &key))
			return &sa->guard;
		if (sa->left && is_key(c, sa->left_place, &key))
			return &sa->left_guard;
	}
	return NULL;
}

/* bpf/guard.bpf.c, in the small. */
static enum verdict guard(const struct world *w, const struct machine *machine, unsigned int child,
	uint64_t first, uint64_t last)
{
	const struct espalier_sa *sa = guard_entry(w, machine, child);

	if (!sa)
		return last >> w->block_bits == 0 ? OUT : NO_BLOCK;
	if (machine_owner(machine, sa->bucket, sa->pinned) != machine->member && !machine->handing)
		return NOT_OWNER;
	for (unsigned int i = 0; i < 2; i++)
		if (first >= sa->open[i].first && last <= sa->open[i].last)
			return OUT;
	return NO_BLOCK;
}

void guard_hole(struct world *w, unsigned int id, unsigned int of_1000, uint64_t until_us)
{
	w->machines[id].hole = (struct hole){
		.of_1000 = of_1000,
		.look_us = w->now_us + doubts_random(w, LOOK_US),
		.until_us = until_us,
		.number = judge_hole(w, id),
	};
}

/* As the agent: looks every second; mends the guard if it can, else sees to it that the kernel
 * emits nothing meanwhile. At its start it does so before it reads the kernel's SAs. */
void guard_look(struct world *w, unsigned int id)
{
	struct machine *machine = &w->machines[id];
	struct hole *hole = &machine->hole;

	if (!hole->of_1000)
		return;
	if (!machine->prohibited && (w->now_us >= hole->look_us || !machine->agent)) {
		world_say(w, "%u sees that packets get past its guard", id);
		judge_hole_seen(w, hole->number);
		machine->prohibited = true;
		machine->gap = true;
		machine->audit_us = w->now_us; /* reads how far the kernel has counted */
		machine_tell_link(w, id);
	}
	if (!machine->prohibited || w->now_us < hole->until_us)
		return;
	world_say(w, "the guard of %u is back", id);
	hole->of_1000 = 0;
	machine->prohibited = false;
	machine->gap = true;
	machine->audit_us = w->now_us;
	machine_tell_link(w, id);
}

static bool passes_by(struct world *w, const struct machine *machine)
{
	return machine->hole.of_1000 && doubts_random(w, 1000) < machine->hole.of_1000;
}

void machine_emit(struct world *w, unsigned int id, unsigned int child, unsigned int count)
{
	struct machine *machine = &w->machines[id];
	struct kernel_sa *sa = &machine->sas[child];
	uint64_t first = sa->oseq + 1, last = sa->oseq + count;
	enum verdict verdict;
	bool low;

	if (!machine->up || !sa->present || !machine->link_up || machine->prohibited)
		return;
	if (last > UINT32_MAX && !w->children[child].facts.esn)
		return;
	sa->oseq = last;
	sa->used++;
	verdict = guard(w, machine, child, first, last);
	if (passes_by(w, machine)) {
		judge_emitted(w, id, child, first, last, verdict != OUT);
		return;
	}
	if (verdict != OUT) {
		w->blocked++;
		w->not_owner += verdict == NOT_OWNER;
		if (verdict == NO_BLOCK && sa->guarded && machine->agent && !machine->frozen &&
			world_chance(w, 500))
			member_counter(machine->agent, sa->guard.slot, last);
		return;
	}
	judge_emitted(w, id, child, first, last, false);
	sa->counter = last;
	low = sa->guarded && last - sa->guard.open[0].first > 1U << (w->block_bits - 1);
	if (low && machine->agent && !machine->frozen && world_chance(w, 900))
		member_position(machine->agent, sa->guard.slot, last);
}
