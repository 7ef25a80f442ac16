/* SPDX-License-Identifier: BSD-2-Clause */
/* ops.c - what the core wants done, done to a made-up machine: its kernel, pinned maps and journal.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "world.h"

static int child_by_key(const struct world *w, const struct record_key *key, uint64_t birth)
{
	for (unsigned int i = 0; i < w->n_children; i++)
		if (is_key(&w->children[i], key->addr[1], key) &&
			(w->children[i].facts.birth == birth || birth == 0))
			return (int)i;
	return -1;
}

/* The one of this key that is in the kernel. */
int machine_child(
	const struct world *w, const struct machine *machine, const struct record_key *key)
{
	for (unsigned int i = 0; i < w->n_children; i++)
		if (machine->sas[i].present && is_key(&w->children[i], machine->sas[i].place, key))
			return (int)i;
	return -1;
}

const struct pin *machine_pin(const struct machine *machine, const struct record_key *key)
{
	for (unsigned int i = 0; i < SAS; i++)
		if (same_key(&machine->pins[i].key, key))
			return &machine->pins[i];
	return NULL;
}

uint8_t machine_owner(const struct machine *machine, uint16_t bucket, uint8_t pinned)
{
	if (pinned && machine->live >> (pinned - 1) & 1)
		return pinned - 1;
	return machine->owner[bucket];
}

/* A body tells which SA it is, so that a mix-up shows; the rest is filler that must arrive
 * unchanged. */
size_t machine_body(const struct child *child, unsigned int index, uint8_t *body)
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

static void op_send(void *ctx, uint8_t to, const void *datagram, size_t len)
{
	struct machine_context *c = ctx;

	if (dying(&c->world->machines[c->id]))
		return;
	network_send(c->world, c->id, to, datagram, len);
}

/* Every other form is one that cannot be changed in a living SA. */
static int update(struct world *w, struct machine *machine, unsigned int index,
	const struct record_install *r)
{
	if (machine_child(w, machine, r->key) != (int)index)
		return -ENOENT;
	if (r->facts->form % 2)
		return -EXDEV;
	machine->sas[index].form = r->facts->form;
	return 0;
}

static int install(struct world *w, unsigned int id, const struct record_install *r)
{
	struct machine *machine = &w->machines[id];
	const struct record_key *key = r->key;
	uint8_t expected[RECORD_BODY_MAX];
	unsigned int index;

	if (dying(machine))
		return 0;
	if (key->kind == RECORD_POLICY) {
		machine->policies[key->addr[0]] = true;
		return 0;
	}
	memcpy(&index, r->body, sizeof(index));
	if (index >= w->n_children ||
		machine_body(&w->children[index], index, expected) != r->body_len ||
		memcmp(r->body, expected, r->body_len) != 0) {
		world_fail(w, "member %u installs an SA whose body is torn", id);
		return -EINVAL;
	}
	/* As the adapter: the sender's kernel had another SA of this key already. */
	if (w->children[index].facts.birth != r->facts->birth)
		return -EBADMSG;
	if (r->update)
		return update(w, machine, index, r);
	if (w->now_us < machine->refuses_until_us && machine->refuses >> index & 1) {
		if (w->children[index].facts.direction == ESPALIER_OUT)
			judge_refused(w, id, index, r->oseq >> w->block_bits);
		return -ENOSYS;
	}
	if (world_chance(w, 5) && !w->obeys)
		return -ENOMEM;
	for (unsigned int i = 0; i < w->n_children; i++)
		if (i != index && is_key(&w->children[i], machine->sas[i].place, key))
			machine->sas[i].present = false;
	/* One that is there already, IKE has just made: it is kept, or changed. */
	if (machine->sas[index].present && machine_child(w, machine, key) != (int)index)
		world_fail(w, "member %u installs SA %u twice", id, index);
	/* In the place of another form of it, its counter goes on. */
	if (!machine->sas[index].present || machine->sas[index].oseq < r->oseq)
		machine->sas[index].oseq = r->oseq;
	if (!machine->sas[index].present || machine->sas[index].seq < r->seq)
		machine->sas[index].seq = r->seq;
	machine->sas[index].used = r->used.packets;
	machine->sas[index].present = true;
	machine->sas[index].place = key->addr[1];
	machine->sas[index].form = r->facts->form;
	machine->sas[index].rekey_asked = false;
	machine->refused_block[index] = 0;
	world_say(w, "member %u installs SA %u at %llu", id, index, (unsigned long long)r->oseq);
	return 0;
}

static void op_install(void *ctx, struct record_install *list, unsigned int n)
{
	struct machine_context *c = ctx;

	for (unsigned int i = 0; i < n; i++)
		list[i].result = install(c->world, c->id, &list[i]);
}

static void op_remove(void *ctx, const struct record_key *key)
{
	struct machine_context *c = ctx;
	struct machine *machine = &c->world->machines[c->id];
	int child;

	if (dying(machine))
		return;
	if (key->kind == RECORD_POLICY) {
		machine->policies[key->addr[0]] = false;
		return;
	}
	child = machine_child(c->world, machine, key);
	if (child < 0)
		return;
	machine->sas[child].present = false;
	world_say(c->world, "member %u removes SA %d", c->id, child);
}

/* As the adapter: looks where the counter is, moves it if that is forward. Traffic goes on
 * meanwhile, and the agent may be stopped in between for any time. */
static int op_move(void *ctx, const struct record_key *key, uint64_t oseq)
{
	struct machine_context *c = ctx;
	struct world *w = c->world;
	struct machine *machine = &w->machines[c->id];
	int child = machine_child(w, machine, key);
	/* Past a guard, what it ran through is out, and set back, so that nobody can know it. */
	bool slow = world_chance(w, 5) && !machine->hole.of_1000;
	uint64_t seen;

	if (dying(machine))
		return 0;
	if (child < 0)
		return -ENOENT;
	seen = machine->sas[child].oseq;
	if (slow)
		w->children[child].ran_away_us = w->now_us;
	for (uint64_t n = slow ? world_random(w, 60) : 0; n; n--)
		machine_emit(w, c->id, (unsigned int)child, 1 + (unsigned int)world_random(w, 40));
	if (seen < oseq)
		machine->sas[child].oseq = oseq;
	if (slow && world_chance(w, 500))
		return -EAGAIN;
	world_say(w, "member %u moves SA %d to %llu", c->id, child, (unsigned long long)oseq);
	return 0;
}

static void op_floor(void *ctx, uint32_t slot, uint64_t seq)
{
	struct machine_context *c = ctx;
	struct machine *machine = &c->world->machines[c->id];

	if (dying(machine))
		return;
	for (unsigned int i = 0; i < c->world->n_children; i++)
		if (machine->sas[i].guarded && machine->sas[i].guard.slot == slot)
			machine->sas[i].floor = seq;
}

/* As agent/ops.c marks: all that is its own. */
static void mark(struct machine *machine, bool marked)
{
	if (dying(machine))
		return;
	for (unsigned int i = 0; i < ESPALIER_BUCKETS; i++)
		machine->marked[i] = marked && machine->owner[i] == machine->member;
	machine->turned = marked ? UINT16_MAX : 0;
}

static void op_raising(void *ctx)
{
	struct machine_context *c = ctx;

	mark(&c->world->machines[c->id], true);
}

static void op_raised(void *ctx)
{
	struct machine_context *c = ctx;

	mark(&c->world->machines[c->id], false);
}

/* As the adapter: looks, and raises. */
static int op_raise(void *ctx, const struct record_key *key, uint32_t slot, uint64_t seq)
{
	struct machine_context *c = ctx;
	struct machine *machine = &c->world->machines[c->id];
	int child = machine_child(c->world, machine, key);

	(void)slot;
	if (dying(machine))
		return 0;
	if (child < 0)
		return -ENOENT;
	if (world_chance(c->world, 5) && !c->world->obeys)
		return -ENOMEM;
	if (machine->sas[child].seq < seq)
		machine->sas[child].seq = seq;
	return 0;
}

static void op_use(void *ctx, const struct record_key *key, const struct record_usage *used)
{
	struct machine_context *c = ctx;
	struct machine *machine = &c->world->machines[c->id];
	int child = machine_child(c->world, machine, key);

	if (!dying(machine) && child >= 0 && machine->sas[child].used < used->packets)
		machine->sas[child].used = used->packets;
}

static int op_read(void *ctx, const struct record_key *key, void *body, size_t size)
{
	struct machine_context *c = ctx;
	int child = machine_child(c->world, &c->world->machines[c->id], key);

	if (child < 0 || size < RECORD_BODY_MAX)
		return -ENOENT;
	return (int)machine_body(&c->world->children[child], (unsigned int)child, body);
}

static void op_expire(void *ctx, const struct record_key *key, enum record_fence why)
{
	struct machine_context *c = ctx;
	struct machine *machine = &c->world->machines[c->id];
	int child = machine_child(c->world, machine, key);

	if (!dying(machine) && child >= 0 && why == FENCE_NONE)
		machine->sas[child].rekey_asked = true;
}

static void op_guard(void *ctx, const struct record_key *key, const struct espalier_sa *sa)
{
	struct machine_context *c = ctx;
	struct machine *machine = &c->world->machines[c->id];

	if (dying(machine))
		return;
	/* One entry a key, as in the map. */
	for (unsigned int i = 0; i < c->world->n_children; i++) {
		if (is_key(&c->world->children[i], machine->sas[i].guard_place, key))
			machine->sas[i].guarded = false;
		if (is_key(&c->world->children[i], machine->sas[i].left_place, key))
			machine->sas[i].left = false;
	}
	if (sa) {
		int child = child_by_key(c->world, key, sa->birth);
		struct kernel_sa *k = &machine->sas[child < 0 ? 0 : child];

		if (child < 0)
			return;
		if (k->guarded) {
			k->left = true;
			k->left_place = k->guard_place;
			k->left_guard = k->guard;
		}
		k->guarded = true;
		k->guard_place = key->addr[1];
		k->guard = *sa;
	}
}

static void op_selector(
	void *ctx, const struct espalier_selector *selector, const struct espalier_flow *flow)
{
	(void)ctx;
	(void)selector;
	(void)flow;
}

static void op_pin(void *ctx, const struct record_key *key, const struct espalier_flow *flow)
{
	struct machine_context *c = ctx;
	struct machine *machine = &c->world->machines[c->id];
	const struct pin *pin = machine_pin(machine, key);

	if (dying(machine))
		return;
	c->world->pins += flow && !pin;
	if (!pin)
		pin = machine_pin(machine, &(struct record_key){0});
	machine->pins[pin - machine->pins] =
		flow ? (struct pin){.key = *key, .flow = *flow} : (struct pin){0};
}

/* As agent/ops.c: what was not its own until now; in a life's first view all. */
static void mark_taken_over(struct machine *machine, const uint8_t *owner, uint16_t live)
{
	for (unsigned int i = 0; i < ESPALIER_BUCKETS; i++)
		machine->marked[i] = owner[i] == machine->member &&
				     (!machine->viewed || machine->marked[i] ||
					     machine->owner[i] != machine->member);
	machine->turned =
		machine->viewed ? machine->turned | (uint16_t)(machine->live ^ live) : UINT16_MAX;
	machine->viewed = true;
}

static void op_publish(
	void *ctx, const struct view *view, uint8_t ingress, const uint8_t owner[ESPALIER_BUCKETS])
{
	struct machine_context *c = ctx;

	(void)ingress;
	if (dying(&c->world->machines[c->id]))
		return;
	mark_taken_over(&c->world->machines[c->id], owner, view->live);
	memcpy(c->world->machines[c->id].owner, owner, ESPALIER_BUCKETS);
	c->world->machines[c->id].live = view->live;
	c->world->views_changed = true;
	world_say(c->world, "member %u: view %llu of %u, live %x", c->id,
		(unsigned long long)view->epoch, view->publisher, view->live);
}

static void op_hand(void *ctx, bool on)
{
	struct machine_context *c = ctx;

	if (!dying(&c->world->machines[c->id]))
		c->world->machines[c->id].handing = on;
	c->world->handing_us = c->world->now_us;
}

static int op_keep(void *ctx, enum wire_order order)
{
	struct machine_context *c = ctx;

	c->world->machines[c->id].order = order;
	c->world->machines[c->id].ordered_us = c->world->now_us;
	world_say(c->world, "member %u keeps order %u", c->id, order);
	return 0;
}

static void op_macs(void *ctx, uint8_t member, const struct wire_macs *macs, bool next_hop)
{
	struct machine_context *c = ctx;

	if (dying(&c->world->machines[c->id]))
		return;
	c->world->machines[c->id].macs[member] = *macs;
	c->world->machines[c->id].next_hop[member] = next_hop;
}

static void op_journal(void *ctx, const struct record_key *key, uint64_t birth, uint64_t block)
{
	struct machine_context *c = ctx;
	struct machine *machine = &c->world->machines[c->id];
	int child = child_by_key(c->world, key, birth);

	if (dying(machine) || machine->doubled)
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
	if (child >= 0)
		judge_entered(c->world, c->id, (unsigned int)child, block);
}

static void op_forget(void *ctx, uint64_t birth)
{
	struct machine_context *c = ctx;
	struct machine *machine = &c->world->machines[c->id];

	if (dying(machine))
		return;
	for (uint32_t i = 0; i < machine->journaled + machine->queued; i++)
		if (machine->journal[i].birth == birth)
			machine->journal[i].birth = 0; /* compacted away */
}

/* As the agent: everything is shut, and a new life begins with a new journal; but not again and
 * again. */
static bool op_journal_old(void *ctx, const struct record_key *key, uint8_t who)
{
	struct machine_context *c = ctx;
	struct machine *machine = &c->world->machines[c->id];

	(void)key;
	world_say(c->world, "member %u takes its journal for an old one, by the word of %u", c->id,
		who);
	if (!faults_doubtful(c->world))
		world_fail(c->world, "member %u takes its journal for an old one", c->id);
	if (machine->anew)
		return false;
	for (unsigned int i = 0; i < SAS; i++)
		for (unsigned int j = 0; j < 2; j++)
			machine->sas[i].guard.open[j] = machine->sas[i].left_guard.open[j] =
				(struct espalier_window){.first = 1, .last = 0};
	machine->anew = machine->begins_anew = true;
	return true;
}

/* As the agent: everything is shut, and the journal put away at once; in the end a new life begins.
 */
static void op_doubled(void *ctx, uint8_t who, bool over)
{
	struct machine_context *c = ctx;
	struct machine *machine = &c->world->machines[c->id];

	world_say(c->world, "machine %u: its member is %s there twice, by the word of %u", c->id,
		over ? "no longer" : "", who);
	judge_doubled(c->world, machine->member);
	if (over) {
		machine->begins_anew = true;
		return;
	}
	for (unsigned int i = 0; i < SAS; i++)
		machine->sas[i].guard.open[0] = machine->sas[i].guard.open[1] =
			(struct espalier_window){.first = 1, .last = 0};
	machine_lose_journal(c->world, c->id);
	machine->queued = 0;
	machine->doubled = true;
}

static void op_notice(
	void *ctx, enum member_notice notice, const struct record_key *key, uint8_t who)
{
	struct machine_context *c = ctx;

	(void)key;
	world_say(c->world, "member %u: notice %u about %u", c->id, notice, who);
	if (notice == NOTICE_DOUBLED)
		judge_doubled(c->world, who);
	/* Two Child SAs of a pair are made at one time here. */
	if (!faults_doubtful(c->world) && notice != NOTICE_UNSURE)
		world_fail(c->world, "member %u refuses what is right: notice %u about %u", c->id,
			notice, who);
}

const struct member_ops machine_ops = {
	.send = op_send,
	.install = op_install,
	.remove = op_remove,
	.move = op_move,
	.raise = op_raise,
	.floor = op_floor,
	.raising = op_raising,
	.raised = op_raised,
	.use = op_use,
	.read = op_read,
	.expire = op_expire,
	.guard = op_guard,
	.selector = op_selector,
	.pin = op_pin,
	.publish = op_publish,
	.hand = op_hand,
	.keep = op_keep,
	.macs = op_macs,
	.journal = op_journal,
	.forget = op_forget,
	.journal_old = op_journal_old,
	.doubled = op_doubled,
	.notice = op_notice,
};
