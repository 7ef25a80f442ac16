/* SPDX-License-Identifier: BSD-2-Clause */
/* guard.c - a packet on its way out: numbered by the kernel, judged by the guard, seen by the peer.
 */
#include <string.h>

#include "world.h"

enum verdict { OUT, NOT_OWNER, NO_BLOCK };

/* The pinned map has one entry a key, whichever SA it was made for. */
static const struct espalier_sa *guard_entry(
	const struct world *w, const struct machine *machine, unsigned int child)
{
	for (unsigned int i = 0; i < w->n_children; i++)
		if (machine->sas[i].guarded && memcmp(&w->children[i].key, &w->children[child].key,
						       sizeof(w->children[i].key)) == 0)
			return &machine->sas[i].guard;
	return NULL;
}

/* bpf/guard.bpf.c, in the small. */
static enum verdict guard(const struct world *w, const struct machine *machine, unsigned int id,
	unsigned int child, uint64_t first, uint64_t last)
{
	const struct espalier_sa *sa = guard_entry(w, machine, child);

	if (!sa)
		return last >> BLOCK_BITS == 0 ? OUT : NO_BLOCK;
	if (machine_owner(machine, sa->bucket, sa->pinned) != id)
		return NOT_OWNER;
	for (unsigned int i = 0; i < 2; i++)
		if (first >= sa->open[i].first && last <= sa->open[i].last)
			return OUT;
	return NO_BLOCK;
}

/*
 * At most one fault since somewhat before the last number went out, and at most one lost
 * announcement: a standby's distance makes up for one. A counter that ran through many blocks is a
 * fault, too, since then one announcement tells of more than a round.
 */
static bool is_calm(const struct world *w, unsigned int id, const struct child *child)
{
	return w->loss <= 50 && child->highest_by_us > w->previous_fault_us + 2000000 &&
	       child->highest_by_us > w->split_us + 2000000 &&
	       w->now_us > w->lost_us[child->last_from][id][0] + 200000 &&
	       (!child->ran_away_us || w->now_us > child->ran_away_us + 1000000);
}

/* A number on the wire: never a second time (I1), and above the peer's window after a takeover
 * (I2). */
static void on_the_wire(struct world *w, unsigned int id, struct child *child, uint64_t seq)
{
	bool calm = is_calm(w, id, child);

	if (seq >= NUMBERS) {
		world_fail(w, "number %llu: more than this world has room for",
			(unsigned long long)seq);
		return;
	}
	if (child->seen[seq / 8] >> seq % 8 & 1)
		world_fail(w,
			"I1: number %llu of SA %d was emitted twice, now by member %u, last by "
			"member %u",
			(unsigned long long)seq, (int)(child - w->children), id, child->last_from);
	child->seen[seq / 8] |= (uint8_t)(1 << seq % 8);
	w->calm_takeovers += calm && child->last_from != id;
	if (seq > child->highest) {
		child->highest = seq;
		child->highest_by_us = w->now_us;
		w->accepted++;
	} else if (child->highest - seq >= 32) {
		w->rejected++;
		/* At most one death in a while: nothing may be lost to the peer's window. */
		if (calm)
			world_fail(w,
				"I2: the peer rejects number %llu of SA %d from member %u: it has "
				"seen %llu",
				(unsigned long long)seq, (int)(child - w->children), id,
				(unsigned long long)child->highest);
	}
	child->last_from = (uint8_t)id;
	w->emitted++;
}

void machine_emit(struct world *w, unsigned int id, unsigned int child, unsigned int count)
{
	struct machine *machine = &w->machines[id];
	struct kernel_sa *sa = &machine->sas[child];
	uint64_t first = sa->oseq + 1, last = sa->oseq + count;
	enum verdict verdict;
	bool low;

	if (!machine->up || !sa->present || !machine->link_up)
		return;
	sa->oseq = last;
	verdict = guard(w, machine, id, child, first, last);
	if (verdict != OUT) {
		w->blocked++;
		if (verdict == NO_BLOCK && sa->guarded && machine->agent && !machine->frozen &&
			world_chance(w, 500))
			member_counter(machine->agent, sa->guard.slot, last);
		return;
	}
	for (uint64_t seq = first; seq <= last; seq++)
		on_the_wire(w, id, &w->children[child], seq);
	sa->counter = last;
	low = sa->guarded && last - sa->guard.open[0].first > 1U << (BLOCK_BITS - 1);
	if (low && machine->agent && !machine->frozen && world_chance(w, 900))
		member_position(machine->agent, sa->guard.slot, last);
}
