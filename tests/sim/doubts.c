/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * doubts.c - faults after which it is doubtful which numbers are out: a guard that is gone,
 * journals and machines that are old copies, two that make the same SA, a kernel that refuses, an
 * agent that restarts without end, a member that tells nonsense.
 */
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "core/state.h"
#include "world.h"

/* What a machine is to be set back to. */
struct kept {
	uint64_t due_us;
	bool whole; /* else its journal only */
	struct machine machine; /* with a journal of its own */
};

uint64_t doubts_random(struct world *w, uint64_t below)
{
	w->doubts_random += 0x9e3779b97f4a7c15ULL;
	return below ? hash_mix(w->doubts_random) % below : 0;
}

/* The guard. */

static void lose_guard(struct world *w, unsigned int id, unsigned int of_1000, uint64_t until_us)
{
	if (!w->machines[id].up || w->machines[id].hole.of_1000)
		return;
	world_say(w, "%u of 1000 packets get past the guard of %u", of_1000, id);
	guard_hole(w, id, of_1000, doubts_random(w, 2) ? w->now_us : until_us);
}

void doubts_guard(struct world *w, unsigned int id, uint64_t until_us)
{
	lose_guard(w, id, 1000, until_us);
}

void doubts_second_way(struct world *w, unsigned int id, uint64_t until_us)
{
	lose_guard(w, id, 500, until_us);
}

void doubts_passed_by(struct world *w, unsigned int id, uint64_t until_us)
{
	lose_guard(w, id, 200, until_us);
}

/* Old copies. */

/* Any SA's numbers may have to be given up on this machine. */
static void doubt_all(struct world *w)
{
	for (unsigned int i = 0; i < w->n_children; i++)
		w->children[i].doubtful = true;
}

static void copy_journal(struct machine *to, const struct machine *from, uint32_t entries)
{
	size_t size = (entries ? entries : 1) * sizeof(*to->journal);

	to->journal = malloc(size);
	if (!to->journal)
		abort();
	memcpy(to->journal, from->journal, entries * sizeof(*to->journal));
	to->journaled = to->journal_size = entries;
	to->queued = 0;
	to->journal_id = from->journal_id;
}

static void keep(struct world *w, unsigned int id, uint64_t due_us, bool whole)
{
	struct machine *machine = &w->machines[id];

	if (machine->past || !machine->up || !machine->journal)
		return;
	machine->past = malloc(sizeof(*machine->past));
	if (!machine->past)
		abort();
	*machine->past = (struct kept){.due_us = due_us, .whole = whole, .machine = *machine};
	copy_journal(&machine->past->machine, machine, machine->journaled);
	world_say(w, "a copy is made of %s %u", whole ? "machine" : "the journal of", id);
}

void doubts_old_journal(struct world *w, unsigned int id, uint64_t until_us)
{
	keep(w, id, until_us, false);
}

void doubts_rollback(struct world *w, unsigned int id, uint64_t until_us)
{
	keep(w, id, until_us, true);
}

static void forget_past(struct machine *machine)
{
	if (machine->past)
		free(machine->past->machine.journal);
	free(machine->past);
	machine->past = NULL;
}

/* Kernel and pinned maps. */
static void copy_kernel(struct machine *to, const struct machine *from)
{
	memcpy(to->sas, from->sas, sizeof(to->sas));
	memcpy(to->policies, from->policies, sizeof(to->policies));
	memcpy(to->owner, from->owner, sizeof(to->owner));
	to->live = from->live;
	memcpy(to->pins, from->pins, sizeof(to->pins));
	memcpy(to->macs, from->macs, sizeof(to->macs));
}

static void put_journal_back(struct world *w, unsigned int id, const struct machine *past)
{
	struct machine *machine = &w->machines[id];
	uint32_t entries = past->journaled;

	/* Or it was cut short. */
	if (doubts_random(w, 3) == 0)
		entries = (uint32_t)doubts_random(w, entries + 1);
	free(machine->journal);
	copy_journal(machine, past, entries);
}

static void set_back(struct world *w, unsigned int id)
{
	struct machine *machine = &w->machines[id];
	const struct machine *past = &machine->past->machine;

	world_say(
		w, "%s %u is an old one", machine->past->whole ? "machine" : "the journal of", id);
	if (machine->past->whole) {
		machine_kill_agent(w, id);
		machine->boots++; /* what its pins would have told a next life is gone */
		judge_started(w, id, true);
		free(machine->journal);
		copy_journal(machine, past, past->journaled);
		copy_kernel(machine, past);
		machine->up = true;
		machine->hole.of_1000 = 0;
		machine->prohibited = false;
	} else {
		if (machine->up)
			machine_power_off(w, id);
		put_journal_back(w, id, past);
	}
	machine->doubled = false; /* of that it knows nothing */
	faults_note(w);
	machine->back_us = w->now_us + 1000 + doubts_random(w, 500000);
	judge_set_back(w, id);
	doubt_all(w);
	forget_past(machine);
	w->views_changed = true;
}

/* The clone. */

#define MEET_US 300000

void doubts_clone(struct world *w, unsigned int id, uint64_t until_us)
{
	struct machine *machine = &w->machines[id], *clone = &w->machines[CLONE];
	bool alone = doubts_random(w, 3) == 0;
	uint32_t boots = clone->boots;

	if (!machine->up || !machine->journal || clone->up)
		return;
	world_say(w, "a clone of %u comes up%s", id, alone ? ", alone" : "");
	free(clone->journal);
	*clone = (struct machine){.member = machine->member, .boots = boots};
	copy_journal(clone, machine, machine->journaled);
	for (unsigned int other = 0; other < MACHINES; other++)
		w->cut[CLONE][other] = w->cut[other][CLONE] = alone;
	for (unsigned int other = 0; other < w->members; other++) {
		w->associations[other].with_clone = false;
		w->associations[other].next_us = w->now_us + doubts_random(w, 300000);
	}
	w->clone_until_us = until_us + doubts_random(w, 4000000);
	w->clones_meet = !alone && doubts_random(w, 2);
	w->meet_us = w->now_us + doubts_random(w, MEET_US);
	judge_set_back(w, CLONE);
	machine->doubted_us = w->now_us;
	doubt_all(w);
	if (doubts_random(w, 2)) {
		machine_boot(w, CLONE);
		return;
	}
	clone->up = clone->link_up = true;
	copy_kernel(clone, machine);
	machine_start_agent(w, CLONE);
}

/* Each asks whether there is another one, and is answered. */
static void meet(struct world *w)
{
	struct machine *two[] = {&w->machines[CLONE], &w->machines[w->machines[CLONE].member]};

	two[1]->cloned_us = w->now_us;
	if (!w->clones_meet || w->now_us < w->meet_us)
		return;
	w->meet_us += MEET_US;
	for (unsigned int i = 0; i < 2; i++)
		if (!two[i]->up || !two[i]->agent || two[i]->frozen)
			return;
	for (unsigned int i = 0; i < 2; i++) {
		member_doubled(two[i]->agent, w->now_us);
		if (!two[i]->doubled)
			world_fail(w, "member %u does not mind that it is there twice",
				two[i]->member);
	}
}

static void end_clone(struct world *w)
{
	if (!w->machines[CLONE].up)
		return;
	world_say(w, "the clone is gone");
	faults_note(w);
	machine_power_off(w, CLONE);
	w->machines[CLONE].doubted_us = w->now_us;
	for (unsigned int other = 0; other < MACHINES; other++)
		w->cut[CLONE][other] = w->cut[other][CLONE] = false;
	for (unsigned int other = 0; other < w->members; other++)
		w->associations[other].number++;
}

/* SAs. */

static void cut_between(struct world *w, unsigned int id, unsigned int other)
{
	uint64_t side = doubts_random(w, 1U << w->members);

	side = (side | 1U << id) & ~(1ULL << other);
	for (unsigned int i = 0; i < w->members; i++)
		for (unsigned int j = 0; j < w->members; j++)
			w->cut[i][j] = (side >> i & 1) != (side >> j & 1);
	world_say(w, "cut %x", (unsigned int)side);
}

/* The same script is run on two members that do not hear each other. */
void doubts_two_creators(struct world *w, unsigned int id, uint64_t until_us)
{
	unsigned int second =
		(unsigned int)((id + 1 + doubts_random(w, w->members - 1)) % w->members);
	struct machine *machine = &w->machines[second];

	if (!machine->up || !machine->link_up || machine->prohibited ||
		w->n_children / 2 >= POLICIES || w->now_us >= w->quiet_us)
		return;
	if (!load_make_pair(w, w->n_children / 2 + 1, id, second))
		return;
	world_say(w, "and so did %u", second);
	w->children[w->n_children - 1].doubtful = true;
	if (w->cut[id][second] && w->cut[second][id])
		return;
	cut_between(w, id, second);
	w->cut_until_us = until_us;
}

static void make_again(struct world *w, unsigned int id, unsigned int child)
{
	struct machine *machine = &w->machines[id];

	if (!machine->sas[child].present)
		return;
	world_say(w, "SA %u is deleted and made again on %u", child, id);
	w->children[child].made_unseen |= !machine->agent && !machine->sas[child].guarded;
	machine_end(w, id, child);
	machine_add(w, id, child);
	w->children[child].made_again = (uint8_t)(id + 1);
	w->children[child].remade = true;
	w->children[child].doubtful |= machine->agent != NULL; /* it sees that it ended */
}

/* With the same keys: its counter begins anew. If it is new, it is in block 0 still. */
void doubts_made_again(struct world *w, unsigned int id, uint64_t until_us)
{
	struct machine *machine = &w->machines[id];
	bool new = doubts_random(w, 2) && w->n_children / 2 < POLICIES && w->now_us < w->quiet_us;

	(void)until_us;
	if (new && !load_make_pair(w, w->n_children / 2 + 1, id, id))
		return;
	if (!w->n_children || machine->again_us)
		return;
	machine->again =
		new ? w->n_children - 1 : 1 + 2 * (unsigned int)doubts_random(w, w->n_children / 2);
	machine->again_us = w->now_us + 20000 + doubts_random(w, 200000);
}

static void make_pair_again(struct world *w, unsigned int id)
{
	struct machine *machine = &w->machines[id];
	unsigned int out = machine->again;

	machine->again_us = 0;
	if (w->children[out].creator != id || w->children[out].ended || !machine->up ||
		!machine->sas[out].present)
		return;
	if (machine->agent && !machine->frozen && doubts_random(w, 4)) {
		machine_kill_agent(w, id);
		machine->back_us =
			w->now_us + doubts_random(w, doubts_random(w, 2) ? 25000 : 1000000);
	}
	faults_note(w);
	make_again(w, id, out - 1);
	make_again(w, id, out);
}

void doubts_refused(struct world *w, unsigned int id, uint64_t until_us)
{
	struct machine *machine = &w->machines[id];

	/* Not for long, and with a pause: it is tried again as much later as it was refused. */
	if (w->now_us < machine->refuses_until_us + 2 * REFUSES_US)
		return;
	world_say(w, "the kernel of %u refuses SAs", id);
	machine->refuses = doubts_random(w, 4) ? doubts_random(w, UINT64_MAX) : UINT64_MAX;
	machine->refuses_until_us =
		until_us < w->now_us + REFUSES_US ? until_us : w->now_us + REFUSES_US;
	w->retried_us = machine->refuses_until_us + REFUSES_US;
}

/* Restarts without end. */

void doubts_restarts(struct world *w, unsigned int id, uint64_t until_us)
{
	struct machine *machine = &w->machines[id];

	(void)until_us;
	if (!machine->agent || machine->restart_us)
		return;
	machine->restarts_left = 5 + (unsigned int)doubts_random(w, 20);
	machine->restarts = 0;
	machine->restart_us = w->now_us;
	world_say(w, "agent %u restarts %u times", id, machine->restarts_left);
	judge_restarts_begin(w);
}

static void restart(struct world *w, unsigned int id)
{
	struct machine *machine = &w->machines[id];

	if (!machine->up) {
		machine->restart_us = 0;
		return;
	}
	if (!machine->restarts_left) {
		machine->restart_us = 0;
		judge_restarts(w, id);
		return;
	}
	machine->restarts_left--;
	machine->restarts++;
	machine_kill_agent(w, id);
	machine->back_us = w->now_us + doubts_random(w, 30000);
	machine->restart_us = machine->back_us + 5000 + doubts_random(w, 150000);
	if (!machine->restarts_left)
		machine->restart_us += 500000;
	faults_note(w);
}

/* A member that tells nonsense. */

static uint64_t absurd(struct world *w)
{
	return UINT64_MAX >> doubts_random(w, 3);
}

static void say_absurd_epoch(struct world *w, unsigned int id)
{
	struct member *m = w->machines[id].agent;
	struct wire_heartbeat h = {
		.settings = m->config.settings,
		.journal = m->config.journal,
		.records = m->table.present,
		.synced = m->synced,
		.flags = m->flags,
		.view = m->view,
		.macs = m->config.macs,
	};

	h.view.epoch = absurd(w);
	h.view.publisher = doubts_random(w, 2) ? m->config.self : h.view.publisher;
	for (unsigned int to = 0; to < w->members; to++) {
		struct wire_header header = {.from = m->config.self, .to = (uint8_t)to};
		uint8_t bytes[WIRE_MAX];
		struct writer writer = {.at = bytes, .end = bytes + sizeof(bytes)};

		if (to == id)
			continue;
		stream_header(&m->others[to].stream, &header);
		wire_put_header(&writer, &header);
		wire_put_heartbeat(&writer, &h);
		network_send(w, id, to, bytes, (size_t)(writer.at - bytes));
	}
}

static void say_absurd_blocks(struct world *w, unsigned int id, const struct record *r)
{
	struct member *m = w->machines[id].agent;
	struct record mad = *r;

	if (doubts_random(w, 2))
		mad.top = absurd(w);
	else
		mad.upto[doubts_random(w, w->members)] = absurd(w);
	for (unsigned int to = 0; to < w->members; to++) {
		uint8_t bytes[1024];
		struct writer writer = {.at = bytes, .end = bytes + sizeof(bytes)};

		wire_put_state(&writer, &mad);
		if (to != id && m->others[to].alive && stream_room(&m->others[to].stream))
			(void)stream_push(
				&m->others[to].stream, bytes, (size_t)(writer.at - bytes));
	}
}

void doubts_mad(struct world *w, unsigned int id, uint64_t until_us)
{
	const struct machine *machine = &w->machines[id];
	const struct record *r;

	(void)until_us;
	if (!machine->agent || machine->frozen || !w->n_children)
		return;
	world_say(w, "%u tells nonsense", id);
	if (doubts_random(w, 3) == 0) {
		say_absurd_epoch(w, id);
		return;
	}
	for (unsigned int out = 1; out < w->n_children; out += 2) {
		r = table_find(member_table(machine->agent), &w->children[out].key);
		if (r && doubts_random(w, 3) == 0)
			say_absurd_blocks(w, id, r);
	}
}

/* Time. */

void doubts_run(struct world *w)
{
	for (unsigned int id = 0; id < w->members; id++) {
		struct machine *machine = &w->machines[id];

		if (machine->past && w->now_us >= machine->past->due_us)
			set_back(w, id);
		if (machine->restart_us && w->now_us >= machine->restart_us)
			restart(w, id);
		if (machine->again_us && w->now_us >= machine->again_us)
			make_pair_again(w, id);
	}
	if (w->machines[CLONE].up)
		meet(w);
	if (w->machines[CLONE].up && w->now_us >= w->clone_until_us)
		end_clone(w);
	if (w->cut_until_us && w->now_us >= w->cut_until_us) {
		memset(w->cut, 0, sizeof(w->cut));
		w->cut_until_us = 0;
	}
}

void doubts_end(struct world *w)
{
	for (unsigned int id = 0; id < w->members; id++) {
		struct machine *machine = &w->machines[id];

		forget_past(machine);
		machine->restart_us = machine->refuses_until_us = machine->again_us = 0;
		machine->hole.look_us = machine->hole.until_us = w->now_us;
	}
	end_clone(w);
	w->cut_until_us = 0;
}
