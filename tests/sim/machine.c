/* SPDX-License-Identifier: BSD-2-Clause */
/* machine.c - a member: its life and death, and what its kernel tells the real core that is its
 * agent. */
#include <stdlib.h>
#include <string.h>

#include "world.h"

#define AUDIT_US 500000

static struct machine_context contexts[MACHINES];

/* Life and death. */

static uint32_t draw_id(struct world *w)
{
	return (uint32_t)(1 + world_random(w, 0xfffffff0));
}

static struct member_record kernel_record(
	struct world *w, unsigned int id, unsigned int child, uint8_t *body)
{
	const struct child *c = &w->children[child];

	struct member_record record = {
		.key = machine_key(c, w->machines[id].sas[child].place),
		.facts = c->facts,
		.oseq = w->machines[id].sas[child].oseq,
		.seq = w->machines[id].sas[child].seq,
		.body = body,
		.body_len = machine_body(c, child, body),
	};

	record.facts.form = w->machines[id].sas[child].form;
	return record;
}

static void tell_policy(struct world *w, unsigned int id, unsigned int policy)
{
	struct member_record record = {
		.key = {.kind = RECORD_POLICY, .proto = 1, .addr = {(uint8_t)policy}},
		.facts = {.direction = ESPALIER_OUT,
			.pair = policy + 1,
			.remote = {.prefixlen = ESPALIER_SELECTOR_BITS + 24,
				.family = 2,
				.addr = {(uint8_t)policy, (uint8_t)(policy >> 8)}}},
		.body = "policy",
		.body_len = 6,
	};

	member_added(w->machines[id].agent, &record);
}

/* As agent/start.c. */
static void forget_pins(struct machine *machine)
{
	for (unsigned int i = 0; i < SAS; i++) {
		struct pin *pin = &machine->pins[i];
		const struct record *r = table_find(member_table(machine->agent), &pin->key);

		if (!r || !r->pin_told)
			*pin = (struct pin){0};
	}
}

/* As agent/start.c. Traffic goes on while it starts, of which it hears nothing. */
static void settle(struct world *w, unsigned int id)
{
	struct machine *machine = &w->machines[id];
	struct member *agent = machine->agent;

	machine->agent = NULL;
	for (unsigned int i = 0; i < w->n_children; i++)
		machine_emit(w, id, i, 1 + doubts_random(w, 2U << w->block_bits));
	machine->agent = agent;
	for (unsigned int i = 0; i < w->n_children; i++) {
		struct record_key key = machine_key(&w->children[i], machine->sas[i].place);

		if (!machine->sas[i].present)
			continue;
		while (member_settle(agent, &key, machine->sas[i].oseq))
			;
		w->children[i].found_upto = (machine->sas[i].oseq >> w->block_bits) + 2;
	}
}

void machine_start_agent(struct world *w, unsigned int id)
{
	struct machine *machine = &w->machines[id];
	struct member_config config = {
		.self = machine->member,
		.members = (uint16_t)((1U << w->members) - 1),
		.settings = 1,
		.mode = w->mode,
		.hash = w->hash,
		.block_bits = w->block_bits,
		.heartbeat_us = HEARTBEAT_US,
		.dead = DEAD,
		.repair_us = REPAIR_US,
		.start_us = 4 * DEAD_US,
		.claim_us = 4 * CLAIMS_EVERY_US,
		.tombstone_us = w->tombstone_us,
		.doubled_us = DOUBLED_US,
		.capacity = 256,
		.idle = w->idle,
		.first = machine->fresh,
		.journal = machine->journal_id,
		.life = draw_id(w),
		.order = machine->order,
		.macs = {.outer = {2, 0, 0, 0, 0, machine->member},
			.inner = {2, 0, 0, 0, 1, machine->member}},
	};
	uint8_t body[RECORD_BODY_MAX];

	contexts[id] = (struct machine_context){.world = w, .id = id};
	machine->boots++;
	machine->frozen = false;
	if (machine->doubled)
		machine->doubted_us = 0; /* it begins anew */
	machine->doubled = false;
	machine->back_us = 0;
	machine->queued = 0;
	machine->n_events = 0;
	machine->ops_left = 0;
	machine->viewed = false;
	memset(machine->heard_boots, 0, sizeof(machine->heard_boots));
	memset(machine->heard_us, 0, sizeof(machine->heard_us));
	memset(machine->refused_block, 0, sizeof(machine->refused_block));
	guard_look(w, id);
	judge_started(w, id, false);
	machine->done = 0;
	machine->life_start = machine->journaled;
	machine->tick_us = w->now_us;
	for (unsigned int i = 0; i < ESPALIER_MEMBERS; i++)
		machine->next_hop[i] = false;
	if (member_new(&config, &machine_ops, &contexts[id], w->now_us, &machine->agent) < 0)
		abort();
	for (uint32_t i = 0; i < machine->life_start; i++)
		if (machine->journal[i].birth)
			member_restore(machine->agent, &machine->journal[i].key,
				machine->journal[i].birth, machine->journal[i].block);
	for (unsigned int i = 0; i < w->n_children; i++) {
		const struct kernel_sa sa = machine->sas[i];
		struct record_key key = machine_key(&w->children[i], sa.left_place);

		if (sa.left)
			member_guarded(machine->agent, &key, &sa.left_guard, 0);
		key = machine_key(&w->children[i], sa.guard_place);
		if (sa.guarded)
			member_guarded(machine->agent, &key, &sa.guard, sa.counter);
	}
	for (unsigned int i = 0; i < w->n_children; i++) {
		struct member_record record;

		if (!machine->sas[i].present)
			continue;
		record = kernel_record(w, id, i, body);
		member_added(machine->agent, &record);
	}
	for (unsigned int i = 0; i < POLICIES; i++)
		if (machine->policies[i])
			tell_policy(w, id, i);
	machine_tell_link(w, id);
	/* As agent/start.c. */
	if (machine->fresh && member_counters(machine->agent)->adopted) {
		memset(machine->owner, machine->member, sizeof(machine->owner));
		machine->live = 1U << machine->member;
	}
	if (machine->fresh)
		settle(w, id);
	machine->fresh = false;
	member_started(machine->agent);
	forget_pins(machine);
	for (unsigned int i = 0; i < w->n_children; i++)
		if (w->children[i].made_again == id + 1)
			w->children[i].made_again = 0;
}

void machine_boot(struct world *w, unsigned int id)
{
	struct machine *machine = &w->machines[id];

	machine->up = true;
	machine->link_up = true;
	machine->hole.of_1000 = 0;
	machine->prohibited = false;
	judge_started(w, id, true);
	memset(machine->sas, 0, sizeof(machine->sas));
	memset(machine->policies, 0, sizeof(machine->policies));
	memset(machine->owner, ESPALIER_NOBODY, sizeof(machine->owner));
	machine->live = 0;
	memset(machine->marked, 0, sizeof(machine->marked));
	machine->turned = 0;
	machine->handing = false;
	memset(machine->pins, 0, sizeof(machine->pins));
	memset(machine->macs, 0, sizeof(machine->macs));
	if (!machine->journal_id)
		machine->journal_id = draw_id(w);
	machine->fresh = true;
	if (w->now_us == w->begun_us)
		load_found(w, id);
	machine_start_agent(w, id);
}

void machine_kill_agent(struct world *w, unsigned int id)
{
	struct machine *machine = &w->machines[id];

	if (!machine->agent)
		return;
	member_free(machine->agent);
	machine->agent = NULL;
	machine->ops_left = 0;
	/* Of what was on its way to the disk, some got there. */
	machine->journaled += (uint32_t)world_random(w, machine->queued + 1);
	machine->queued = 0;
}

void machine_power_off(struct world *w, unsigned int id)
{
	machine_kill_agent(w, id);
	w->machines[id].up = false;
	w->machines[id].boots++; /* a life that never was: pins tell the next one nothing */
	w->views_changed = true;
}

void machine_lose_journal(struct world *w, unsigned int id)
{
	w->machines[id].journaled = 0;
	w->machines[id].journal_lost = true;
	w->machines[id].journal_id = draw_id(w);
}

void machine_free(struct world *w, unsigned int id)
{
	machine_kill_agent(w, id);
	free(w->machines[id].journal);
}

/* SAs. */

static void tell(struct world *w, unsigned int id, unsigned int child, bool added)
{
	struct machine *machine = &w->machines[id];
	uint64_t due_us = w->now_us + world_random(w, 3) * 1000;

	if (!machine->agent || machine->n_events == EVENTS)
		return; /* it will read what is there when it starts */
	if (machine->n_events && machine->events[machine->n_events - 1].due_us > due_us)
		due_us = machine->events[machine->n_events - 1].due_us;
	machine->events[machine->n_events++] = (struct kernel_event){.due_us = due_us,
		.oseq = machine->sas[child].oseq,
		.form = machine->sas[child].form,
		.child = child,
		.place = machine->sas[child].place,
		.added = added};
}

/* Is there more to be told of the same SA? */
static bool is_to_be_told(const struct machine *machine, const struct kernel_event *event)
{
	for (const struct kernel_event *e = event + 1; e < machine->events + machine->n_events; e++)
		if (e->child == event->child)
			return true;
	return false;
}

static void run_event(struct world *w, unsigned int id, const struct kernel_event *event)
{
	struct child *child = &w->children[event->child];
	struct member *agent = w->machines[id].agent;
	const struct kernel_sa *sa = &w->machines[id].sas[event->child];
	uint8_t body[RECORD_BODY_MAX];
	struct member_record record = kernel_record(w, id, event->child, body);

	record.key = machine_key(child, event->place);
	record.facts.form = event->form;
	record.oseq = event->oseq; /* as it was when the event was made */
	if (!event->added) {
		const struct record *r = table_find(member_table(agent), &record.key);

		/* From here on it is a promise. Who does not own it any more (it slept, say) does
		 * not speak for it, unless it created it. */
		if (child->ended && sa->guarded && r &&
			(sa->guard.creator == w->machines[id].member ||
				member_flow_owner(agent, r) == w->machines[id].member)) {
			child->ended_by = (uint8_t)id;
			child->ended_boots = w->machines[id].boots;
		}
		member_removed(agent, &record.key);
		return;
	}
	member_added(agent, &record);
	if (child->made_again == id + 1 && !is_to_be_told(&w->machines[id], event))
		child->made_again = 0;
	if (child->facts.direction == ESPALIER_OUT)
		tell_policy(w, id, (unsigned int)child->facts.pair - 1);
}

static void run_events(struct world *w, unsigned int id)
{
	struct machine *machine = &w->machines[id];
	unsigned int n = 0;

	while (n < machine->n_events && w->now_us >= machine->events[n].due_us)
		run_event(w, id, &machine->events[n++]);
	machine->n_events -= n;
	memmove(machine->events, machine->events + n, machine->n_events * sizeof(*machine->events));
}

void machine_add(struct world *w, unsigned int id, unsigned int child)
{
	const struct child *c = &w->children[child];
	struct machine *machine = &w->machines[id];
	struct record_key key = machine_key(c, (uint8_t)(c->moves % 2));
	int over = machine_child(w, machine, &key);

	/* IKE finds an SA with this SPI that nobody told it is over: a copy. */
	if (over >= 0)
		machine_end(w, id, (unsigned int)over);
	machine->sas[child].present = true;
	machine->sas[child].place = key.addr[1];
	machine->sas[child].form = c->moves + 1;
	machine->sas[child].oseq = machine->sas[child].seq = machine->sas[child].used = 0;
	machine->sas[child].rekey_asked = false;
	if (c->facts.direction == ESPALIER_OUT)
		machine->policies[c->facts.pair - 1] = true;
	tell(w, id, child, true);
}

void machine_end(struct world *w, unsigned int id, unsigned int child)
{
	struct machine *machine = &w->machines[id];

	if (!machine->sas[child].present)
		return;
	machine->sas[child].present = false;
	tell(w, id, child, false);
}

void machine_move(struct world *w, unsigned int id, unsigned int child)
{
	struct machine *machine = &w->machines[id];
	struct child *c = &w->children[child];
	struct record_key key;
	int over;

	if (!machine->sas[child].present)
		return;
	/* The agent has not moved its counter yet, and is told of a new one now. */
	if (c->remade && machine->sas[child].oseq >> w->block_bits == 0)
		c->made_again = (uint8_t)(id + 1);
	c->moves++;
	/* That costs all a block. */
	for (unsigned int other = 0; other < MACHINES; other++)
		w->machines[other].refused_block[child] = 0;
	key = machine_key(c, (uint8_t)(c->moves % 2));
	over = machine_child(w, machine, &key);
	if (over >= 0 && over != (int)child)
		machine_end(w, id, (unsigned int)over);
	tell(w, id, child, false);
	machine->sas[child].place = key.addr[1];
	machine->sas[child].form = c->moves + 1;
	tell(w, id, child, true);
}

/* As agent/events_kernel.c: what the guard has not counted, since it was not there, has been
 * emitted all the same. */
static void read_counter(
	struct world *w, unsigned int id, unsigned int child, const struct record *r)
{
	const struct machine *machine = &w->machines[id];
	const struct kernel_sa *sa = &machine->sas[child];

	if (r->facts.direction != ESPALIER_OUT ||
		r->facts.birth != w->children[child].facts.birth || sa->oseq <= sa->counter)
		return;
	if (machine->gap)
		member_strayed(machine->agent, r->slot, sa->oseq);
	else if (member_flow_owner(machine->agent, r) == machine->member)
		member_counter(machine->agent, r->slot, sa->oseq);
}

/* What is in the kernel, and what the agent thinks is. As the real one, it first hears what it has
 * been told. */
static void audit(struct world *w, unsigned int id)
{
	struct machine *machine = &w->machines[id];
	const struct table *t = member_table(machine->agent);
	uint8_t body[RECORD_BODY_MAX];

	machine->audit_us = w->now_us + AUDIT_US;
	for (unsigned int i = 0; i < machine->n_events; i++)
		machine->events[i].due_us = w->now_us;
	run_events(w, id);
	for (uint32_t slot = 0; slot < t->high; slot++) {
		const struct record *r = table_at(t, slot);

		if (r && r->life == RECORD_ALIVE && record_is_installed(r) &&
			r->key.kind == RECORD_SA && machine_child(w, machine, &r->key) < 0)
			member_missing(machine->agent, &r->key);
	}
	for (unsigned int i = 0; i < w->n_children; i++) {
		struct record_key key = machine_key(&w->children[i], machine->sas[i].place);
		const struct record *r = table_find(t, &key);
		struct member_record record;

		if (!machine->sas[i].present)
			continue;
		if (r && record_is_installed(r) && r->form_done == machine->sas[i].form) {
			read_counter(w, id, i, r);
			continue;
		}
		record = kernel_record(w, id, i, body);
		member_added(machine->agent, &record);
	}
	machine->gap = false;
}

void machine_miss(struct world *w, unsigned int id, unsigned int child)
{
	struct machine *machine = &w->machines[id];
	struct record_key key;

	if (!machine->agent || machine->frozen || w->now_us < machine->missed_us + 20000)
		return;
	machine->missed_us = w->now_us;
	w->misses++;
	run_events(w, id);
	key = machine_key(&w->children[child], machine->sas[child].place);
	member_missed(machine->agent, &key);
}

/* Does a member hold itself for live, and another one, with a view of its own, not? */
static bool lives_differ(const struct world *w, unsigned int id, unsigned int other)
{
	uint32_t here = w->machines[id].live, there = w->machines[other].live;

	return w->machines[id].up && w->machines[other].up && here >> id & 1 && there &&
	       !(there >> id & 1);
}

bool machines_split(const struct world *w)
{
	for (unsigned int id = 0; id < w->members; id++)
		for (unsigned int other = 0; other < w->members; other++)
			if (lives_differ(w, id, other))
				return true;
	for (unsigned int bucket = 0; bucket < ESPALIER_BUCKETS; bucket++) {
		unsigned int owners = 0;

		for (unsigned int id = 0; id < w->members; id++)
			owners += w->machines[id].up && w->machines[id].owner[bucket] == id;
		if (owners > 1)
			return true;
	}
	return false;
}

/* Time. */

static void report_positions(struct world *w, struct machine *machine)
{
	for (unsigned int i = 0; i < w->n_children; i++) {
		const struct kernel_sa *sa = &machine->sas[i];
		const struct record_usage used = {.packets = sa->used};

		if (sa->guarded && sa->present && sa->seq)
			member_position(machine->agent, sa->guard.slot, sa->seq);
		if (sa->guarded && sa->counter)
			member_position(machine->agent, sa->guard.slot, sa->counter);
		if (sa->guarded && sa->present && sa->used)
			member_used(machine->agent, sa->guard.slot, &used);
	}
}

void machine_tell_link(struct world *w, unsigned int id)
{
	const struct machine *machine = &w->machines[id];

	if (machine->agent)
		member_link(machine->agent, machine->link_up && !machine->prohibited);
}

void machine_run(struct world *w, unsigned int id)
{
	struct machine *machine = &w->machines[id];

	if (!machine->agent || machine->frozen)
		return;
	guard_look(w, id);
	run_events(w, id);
	if (machine->queued && w->now_us >= machine->commit_us) {
		machine->done += machine->queued;
		machine->journaled += machine->queued;
		machine->queued = 0;
		member_committed(machine->agent, machine->done);
	}
	if (w->now_us >= machine->tick_us) {
		machine->tick_us = w->now_us + HEARTBEAT_US / 2;
		report_positions(w, machine);
		member_tick(machine->agent, w->now_us);
		machine->heartbeat_us = member_heartbeat_sent_us(machine->agent);
	}
	if (w->now_us >= machine->audit_us)
		audit(w, id);
	while (member_work(machine->agent, w->now_us))
		;
	member_flush(machine->agent, w->now_us);
	if (machine->begins_anew) {
		machine->begins_anew = false;
		machine_kill_agent(w, id);
		machine_lose_journal(w, id);
		machine->back_us = w->now_us + 5000;
		return;
	}
	if (machine->ops_left == 1) {
		world_say(w, "agent %u dies in the middle of something", id);
		machine_kill_agent(w, id);
		machine->back_us = w->now_us + 50000 + world_random(w, 2000000);
	}
}
