/* SPDX-License-Identifier: BSD-2-Clause */
/* machine.c - a member: its kernel's SAs, the guard's pinned maps, the journal on disk, and the
 * real core as its agent. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "world.h"

struct context {
	struct world *world;
	unsigned int id;
};

static struct context contexts[ESPALIER_MEMBERS];

static int child_by_key(const struct world *w, const struct record_key *key, uint64_t birth)
{
	for (unsigned int i = 0; i < w->n_children; i++)
		if (memcmp(&w->children[i].key, key, sizeof(*key)) == 0 &&
			(w->children[i].facts.birth == birth || birth == 0))
			return (int)i;
	return -1;
}

/* The one of this key that is in the kernel. */
static int child_in_kernel(
	const struct world *w, const struct machine *machine, const struct record_key *key)
{
	for (unsigned int i = 0; i < w->n_children; i++)
		if (machine->sas[i].present && memcmp(&w->children[i].key, key, sizeof(*key)) == 0)
			return (int)i;
	return -1;
}

/* A body tells which SA it is, so that a mix-up shows; the rest is filler that must arrive
 * unchanged. */
static size_t body_of(const struct child *child, unsigned int index, uint8_t *body)
{
	size_t len = 200 + (child->facts.birth * 37) % 500;

	for (size_t i = 0; i < len; i++)
		body[i] = (uint8_t)(child->facts.birth * 7 + i);
	memcpy(body, &index, sizeof(index));
	return len;
}

/* Ops. */

/* A crash can come between any two of them: what an agent does when it is about to die, it does not
 * do any more. */
static bool dying(struct machine *machine)
{
	return machine->ops_left && (machine->ops_left == 1 || --machine->ops_left == 1);
}

static void tell(struct world *w, unsigned int id, unsigned int child, bool added)
{
	struct machine *machine = &w->machines[id];
	uint64_t due_us = w->now_us + world_random(w, 3) * 1000;

	if (!machine->agent || machine->n_events == EVENTS)
		return; /* it will read what is there when it starts */
	if (machine->n_events && machine->events[machine->n_events - 1].due_us > due_us)
		due_us = machine->events[machine->n_events - 1].due_us;
	machine->events[machine->n_events++] =
		(struct kernel_event){.due_us = due_us, .child = child, .added = added};
}

static void op_send(void *ctx, uint8_t to, const void *datagram, size_t len)
{
	struct context *c = ctx;

	if (dying(&c->world->machines[c->id]))
		return;
	network_send(c->world, (uint8_t)c->id, to, datagram, len);
}

static int op_install(void *ctx, const struct record_key *key, const struct record_facts *facts,
	const void *body, size_t body_len, uint64_t oseq)
{
	struct context *c = ctx;
	struct world *w = c->world;
	struct machine *machine = &w->machines[c->id];
	uint8_t expected[RECORD_BODY_MAX];
	unsigned int index;

	if (dying(machine))
		return 0;
	if (key->kind == RECORD_POLICY) {
		machine->policies[key->addr[0]] = true;
		return 0;
	}
	memcpy(&index, body, sizeof(index));
	if (index >= w->n_children || body_of(&w->children[index], index, expected) != body_len ||
		memcmp(body, expected, body_len) != 0) {
		world_fail(w, "member %u installs an SA whose body is torn", c->id);
		return -EINVAL;
	}
	/* As the adapter: the sender's kernel had another SA of this key already. */
	if (w->children[index].facts.birth != facts->birth)
		return -EBADMSG;
	if (world_chance(w, 5))
		return -ENOMEM;
	for (unsigned int i = 0; i < w->n_children; i++)
		if (i != index && memcmp(&w->children[i].key, key, sizeof(*key)) == 0)
			machine->sas[i].present = false;
	if (machine->sas[index].present)
		world_fail(w, "member %u installs SA %u twice", c->id, index);
	machine->sas[index].present = true;
	machine->sas[index].oseq = oseq;
	world_say(w, "member %u installs SA %u at %llu", c->id, index, (unsigned long long)oseq);
	return 0;
}

static void op_remove(void *ctx, const struct record_key *key)
{
	struct context *c = ctx;
	struct machine *machine = &c->world->machines[c->id];
	int child;

	if (dying(machine))
		return;
	if (key->kind == RECORD_POLICY) {
		machine->policies[key->addr[0]] = false;
		return;
	}
	child = child_in_kernel(c->world, machine, key);
	if (child < 0)
		return;
	machine->sas[child].present = false;
	world_say(c->world, "member %u removes SA %d", c->id, child);
}

/* As the adapter: looks where the counter is, moves it if that is forward. Traffic goes on
 * meanwhile, and the agent may be stopped in between for any time. */
static int op_move(void *ctx, const struct record_key *key, uint64_t oseq)
{
	struct context *c = ctx;
	struct world *w = c->world;
	struct machine *machine = &w->machines[c->id];
	int child = child_in_kernel(w, machine, key);
	bool slow = world_chance(w, 5);
	uint64_t seen;

	if (dying(machine))
		return 0;
	if (child < 0)
		return -ENOENT;
	seen = machine->sas[child].oseq;
	for (uint64_t n = slow ? world_random(w, 60) : 0; n; n--)
		machine_emit(w, c->id, (unsigned int)child, 1 + (unsigned int)world_random(w, 40));
	if (seen < oseq)
		machine->sas[child].oseq = oseq;
	if (slow && world_chance(w, 500))
		return -EAGAIN;
	world_say(w, "member %u moves SA %d to %llu", c->id, child, (unsigned long long)oseq);
	return 0;
}

static int op_read(void *ctx, const struct record_key *key, void *body, size_t size)
{
	struct context *c = ctx;
	int child = child_in_kernel(c->world, &c->world->machines[c->id], key);

	if (child < 0 || size < RECORD_BODY_MAX)
		return -ENOENT;
	return (int)body_of(&c->world->children[child], (unsigned int)child, body);
}

static void op_expire(void *ctx, const struct record_key *key)
{
	(void)ctx;
	(void)key;
}

static void op_guard(void *ctx, const struct record_key *key, const struct espalier_sa *sa)
{
	struct context *c = ctx;
	struct machine *machine = &c->world->machines[c->id];

	if (dying(machine))
		return;
	/* One entry a key, as in the map. */
	for (unsigned int i = 0; i < c->world->n_children; i++)
		if (memcmp(&c->world->children[i].key, key, sizeof(*key)) == 0)
			machine->sas[i].guarded = false;
	if (sa) {
		int child = child_by_key(c->world, key, sa->birth);

		if (child < 0)
			return;
		machine->sas[child].guarded = true;
		machine->sas[child].guard = *sa;
	}
}

static void op_selector(void *ctx, const struct espalier_selector *selector, int bucket)
{
	(void)ctx;
	(void)selector;
	(void)bucket;
}

static void op_publish(
	void *ctx, const struct view *view, uint8_t ingress, const uint8_t owner[ESPALIER_BUCKETS])
{
	struct context *c = ctx;

	(void)ingress;
	if (dying(&c->world->machines[c->id]))
		return;
	memcpy(c->world->machines[c->id].owner, owner, ESPALIER_BUCKETS);
	c->world->views_changed = true;
	world_say(c->world, "member %u: view %llu of %u, live %x", c->id,
		(unsigned long long)view->epoch, view->publisher, view->live);
}

static void op_macs(void *ctx, uint8_t member, const struct espalier_member *macs)
{
	struct context *c = ctx;

	if (!dying(&c->world->machines[c->id]))
		c->world->machines[c->id].macs[member] = *macs;
}

static void op_journal(void *ctx, const struct record_key *key, uint64_t birth, uint64_t block)
{
	struct context *c = ctx;
	struct machine *machine = &c->world->machines[c->id];

	if (dying(machine))
		return;
	if (machine->journaled + machine->queued == machine->journal_size) {
		machine->journal_size = machine->journal_size ? 2 * machine->journal_size : 256;
		machine->journal = realloc(
			machine->journal, machine->journal_size * sizeof(*machine->journal));
		if (!machine->journal)
			abort();
	}
	if (!machine->queued)
		machine->commit_us = c->world->now_us + world_random(c->world, 20000);
	machine->journal[machine->journaled + machine->queued++] =
		(struct journal_entry){.key = *key, .birth = birth, .block = block};
}

static void op_forget(void *ctx, const struct record_key *key, uint64_t birth)
{
	struct context *c = ctx;
	struct machine *machine = &c->world->machines[c->id];

	if (dying(machine))
		return;
	for (uint32_t i = 0; i < machine->journaled + machine->queued; i++)
		if (machine->journal[i].birth == birth &&
			memcmp(&machine->journal[i].key, key, sizeof(*key)) == 0)
			machine->journal[i].birth = 0; /* compacted away */
}

static const struct member_ops ops = {
	.send = op_send,
	.install = op_install,
	.remove = op_remove,
	.move = op_move,
	.read = op_read,
	.expire = op_expire,
	.guard = op_guard,
	.selector = op_selector,
	.publish = op_publish,
	.macs = op_macs,
	.journal = op_journal,
	.forget = op_forget,
};

/* Life and death. */

static uint32_t draw_id(struct world *w)
{
	return (uint32_t)(1 + world_random(w, 0xfffffff0));
}

static struct member_record kernel_record(
	struct world *w, unsigned int id, unsigned int child, uint8_t *body)
{
	const struct child *c = &w->children[child];

	return (struct member_record){
		.key = c->key,
		.facts = c->facts,
		.oseq = w->machines[id].sas[child].oseq,
		.body = body,
		.body_len = body_of(c, child, body),
	};
}

static void tell_policy(struct world *w, unsigned int id, unsigned int policy)
{
	struct member_record record = {
		.key = {.kind = RECORD_POLICY, .proto = 1, .addr = {(uint8_t)policy}},
		.facts = {.direction = ESPALIER_OUT,
			.pair = policy + 1,
			.remote = {.prefixlen = 24, .addr = policy}},
		.body = "policy",
		.body_len = 6,
	};

	member_added(w->machines[id].agent, &record);
}

void machine_start_agent(struct world *w, unsigned int id)
{
	struct machine *machine = &w->machines[id];
	struct member_config config = {
		.self = (uint8_t)id,
		.members = (uint16_t)((1U << w->members) - 1),
		.settings = 1,
		.mode = w->mode,
		.hash = w->hash,
		.block_bits = BLOCK_BITS,
		.heartbeat_us = HEARTBEAT_US,
		.dead = 3,
		.repair_us = 200000,
		.start_us = 4 * DEAD_US,
		.tombstone_us = 20000000,
		.capacity = 256,
		.journal = machine->journal_id,
		.life = draw_id(w),
		.macs = {.outer_mac = {2, 0, 0, 0, 0, (uint8_t)id},
			.inner_mac = {2, 0, 0, 0, 1, (uint8_t)id}},
	};
	uint8_t body[RECORD_BODY_MAX];

	contexts[id] = (struct context){.world = w, .id = id};
	machine->boots++;
	machine->frozen = false;
	machine->back_us = 0;
	machine->queued = 0;
	machine->n_events = 0;
	machine->ops_left = 0;
	memset(machine->heard_boots, 0, sizeof(machine->heard_boots));
	machine->done = 0;
	machine->life_start = machine->journaled;
	machine->tick_us = w->now_us;
	for (unsigned int i = 0; i < ESPALIER_MEMBERS; i++)
		machine->macs[i].next_hop = 0;
	if (member_new(&config, &ops, &contexts[id], w->now_us, &machine->agent) < 0)
		abort();
	for (uint32_t i = 0; i < machine->life_start; i++)
		if (machine->journal[i].birth)
			member_restore(machine->agent, &machine->journal[i].key,
				machine->journal[i].birth, machine->journal[i].block);
	for (unsigned int i = 0; i < w->n_children; i++) {
		if (machine->sas[i].guarded)
			member_pinned(machine->agent, &w->children[i].key, &machine->sas[i].guard);
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
	member_link(machine->agent, machine->link_up);
	member_started(machine->agent);
}

void machine_boot(struct world *w, unsigned int id)
{
	struct machine *machine = &w->machines[id];

	machine->up = true;
	machine->link_up = true;
	memset(machine->sas, 0, sizeof(machine->sas));
	memset(machine->policies, 0, sizeof(machine->policies));
	memset(machine->owner, ESPALIER_NOBODY, sizeof(machine->owner));
	memset(machine->macs, 0, sizeof(machine->macs));
	if (!machine->journal_id)
		machine->journal_id = draw_id(w);
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
	w->machines[id].journal_id = draw_id(w);
}

void machine_free(struct world *w, unsigned int id)
{
	machine_kill_agent(w, id);
	free(w->machines[id].journal);
}

/* SAs. */

static void run_event(struct world *w, unsigned int id, const struct kernel_event *event)
{
	struct child *child = &w->children[event->child];
	struct member *agent = w->machines[id].agent;
	const struct kernel_sa *sa = &w->machines[id].sas[event->child];
	uint8_t body[RECORD_BODY_MAX];
	struct member_record record = kernel_record(w, id, event->child, body);

	if (!event->added) {
		/* From here on it is a promise. Who does not own it any more (it slept, say) does
		 * not speak for it, unless it created it. */
		if (child->ended &&
			(child->creator == id || member_owner(agent, sa->guard.bucket) == id)) {
			child->ended_by = (uint8_t)id;
			child->ended_boots = w->machines[id].boots;
		}
		member_removed(agent, &child->key);
		return;
	}
	record.oseq = 0; /* as it was when the event was made */
	member_added(agent, &record);
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
	int over = child_in_kernel(w, machine, &c->key);

	/* IKE finds an SA with this SPI that nobody told it is over: a copy. */
	if (over >= 0)
		machine_end(w, id, (unsigned int)over);
	machine->sas[child].present = true;
	machine->sas[child].oseq = 0;
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

bool machines_split(const struct world *w)
{
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
	for (unsigned int i = 0; i < w->n_children; i++)
		if (machine->sas[i].guarded && machine->sas[i].counter)
			member_position(machine->agent, machine->sas[i].guard.slot,
				machine->sas[i].counter);
}

void machine_run(struct world *w, unsigned int id)
{
	struct machine *machine = &w->machines[id];

	if (!machine->agent || machine->frozen)
		return;
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
		machine->alive_us = w->now_us;
	}
	member_flush(machine->agent, w->now_us);
	if (machine->ops_left == 1) {
		world_say(w, "agent %u dies in the middle of something", id);
		machine_kill_agent(w, id);
	}
}

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

enum verdict { OUT, NOT_OWNER, NO_BLOCK };

/* bpf/guard.bpf.c, in the small. */
static enum verdict guard(const struct world *w, const struct machine *machine, unsigned int id,
	unsigned int child, uint64_t first, uint64_t last)
{
	const struct espalier_sa *sa = guard_entry(w, machine, child);

	if (!sa)
		return last >> BLOCK_BITS == 0 ? OUT : NO_BLOCK;
	if (machine->owner[sa->bucket] != id)
		return NOT_OWNER;
	for (unsigned int i = 0; i < 2; i++)
		if (first >= sa->open[i].first && last <= sa->open[i].last)
			return OUT;
	return NO_BLOCK;
}

/* A number on the wire: never a second time (I1), and above the peer's window after a takeover
 * (I2). */
static void on_the_wire(struct world *w, unsigned int id, struct child *child, uint64_t seq)
{
	/* At most one fault since somewhat before the last number went out. */
	bool calm = w->loss <= 50 && child->highest_by_us > w->previous_fault_us + 2000000 &&
		    child->highest_by_us > w->split_us + 2000000;

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
