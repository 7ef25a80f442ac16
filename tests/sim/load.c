/* SPDX-License-Identifier: BSD-2-Clause */
/* load.c - what a cluster is for: SAs that IKE makes, rekeys and ends, and packets in both
 * directions. */
#include <stdlib.h>

#include "world.h"

#define FORGOTTEN_US 2000000 /* after a machine was set back: it has told all others anew */

/* IKE: Child SAs are made, rekeyed and ended. */

static struct child *new_child(struct world *w, unsigned int creator, uint32_t spi,
	enum espalier_direction direction, uint64_t pair)
{
	struct child *c = &w->children[w->n_children++];

	*c = (struct child){
		.used = true,
		.creator = (uint8_t)creator,
		.second_creator = ESPALIER_NOBODY,
		.made_us = w->now_us,
		.key = {.kind = RECORD_SA, .proto = 50, .family = 2, .spi = __builtin_bswap32(spi)},
		.facts = {.birth = ++w->next_birth,
			.pair = pair,
			.direction = (uint8_t)direction,
			.esn = world_chance(w, 500),
			.limited = w->n_children % 4 < 2},
	};
	c->key.addr[0] = direction == ESPALIER_OUT ? 198 : 192;
	return c;
}

static bool is_used(const struct world *w, __be32 spi)
{
	for (unsigned int i = 0; i < w->n_children; i++)
		if (!w->children[i].ended && w->children[i].key.spi == spi)
			return true;
	return false;
}

/* Of an inbound SA: a new one, or that of one that has ended. */
static uint32_t draw_spi(struct world *w)
{
	if (w->n_children && world_chance(w, 100)) {
		unsigned int in = 2 * (unsigned int)world_random(w, w->n_children / 2);

		if (!is_used(w, w->children[in].key.spi))
			return __builtin_bswap32(w->children[in].key.spi);
	}
	return (uint32_t)world_random(w, 1ULL << 32);
}

static void make(struct world *w, struct child *child, unsigned int second)
{
	unsigned int index = (unsigned int)(child - w->children);

	machine_add(w, child->creator, index);
	if (second == child->creator)
		return;
	child->second_creator = (uint8_t)second;
	machine_add(w, second, index);
}

bool load_make_pair(struct world *w, uint64_t pair, unsigned int creator, unsigned int second)
{
	const struct machine *machine = &w->machines[creator];
	/* The peer chooses outbound SPIs, and gives some out again. */
	uint32_t spi, peer_spi = (uint32_t)(0x1000 + world_random(w, 40));
	bool own = world_chance(w, 600); /* bucket; else the SA must be pinned */

	if (w->n_children + 2 > SAS || !machine->up || !machine->link_up || machine->prohibited)
		return false;
	if (is_used(w, __builtin_bswap32(peer_spi)))
		return false;
	for (unsigned int tries = 0;; tries++) {
		spi = draw_spi(w);
		if ((machine->owner[espalier_bucket(spi, w->hash)] == creator) == own)
			break;
		if (tries == 1000)
			return false;
	}
	make(w, new_child(w, creator, spi, ESPALIER_IN, pair), second);
	make(w, new_child(w, creator, peer_spi, ESPALIER_OUT, pair), second);
	world_say(w, "member %u made pair %llu: SAs %u and %u", creator, (unsigned long long)pair,
		w->n_children - 2, w->n_children - 1);
	return true;
}

static void end_pair(struct world *w, unsigned int out, unsigned int by)
{
	const struct machine *machine = &w->machines[by];

	world_say(w, "member %u ends SAs %u and %u", by, out - 1, out);
	for (unsigned int i = out - 1; i <= out; i++) {
		w->children[i].ended = true;
		if (machine->agent || !machine->sas[i].present || !machine->sas[i].guarded ||
			machine->sas[i].guard.creator != by)
			continue;
		if (i == out &&
			machine->sas[i].guard.open[0].first > machine->sas[i].guard.open[0].last)
			continue; /* as if it had never come into the kernel */
		/* With its agent dead: the next life sees it by the pins. */
		w->children[i].ended_by = (uint8_t)by;
		w->children[i].ended_boots = machine->boots + 1;
	}
	machine_end(w, by, out);
	machine_end(w, by, out - 1);
}

/* Who owns the SA has the IKE SA. While the agent is dead only what was created here is known
 * to be over by its absence. */
static bool may_end(const struct world *w, unsigned int id, unsigned int out)
{
	const struct machine *machine = &w->machines[id];
	const struct kernel_sa *sa = &machine->sas[out];

	return !w->children[out].ended && machine->up && machine->link_up && sa->present &&
	       sa->guarded && machine_owner(machine, sa->guard.bucket, sa->guard.pinned) == id &&
	       (machine->agent || w->children[out].creator == id);
}

void load_found(struct world *w, unsigned int id)
{
	struct machine *machine = &w->machines[id];
	uint64_t pair = w->n_children / 2 + 1;

	if (doubts_random(w, 6) || w->block_bits > BLOCK_BITS)
		return;
	for (unsigned int out = 0; out < 2; out++) {
		struct child *c =
			new_child(w, id, out ? 0x2000 + id : (uint32_t)doubts_random(w, 1ULL << 32),
				out ? ESPALIER_OUT : ESPALIER_IN, pair);
		struct kernel_sa *sa = &machine->sas[c - w->children];

		sa->present = true;
		sa->form = 1;
		sa->oseq = out ? doubts_random(w, 5000) : 0;
		c->found = out ? (sa->oseq >> w->block_bits) + 1 : 0;
		c->found_upto = UINT64_MAX; /* its agent is not there yet */
	}
	machine->policies[pair - 1] = true;
	world_say(w, "member %u carries SAs %u and %u", id, w->n_children - 2, w->n_children - 1);
}

void load_ike(struct world *w)
{
	unsigned int id = (unsigned int)world_random(w, w->members), out;

	if (world_chance(w, 8) && w->n_children / 2 < POLICIES)
		load_make_pair(w, w->n_children / 2 + 1, id, id);
	if (!w->n_children || !world_chance(w, 4))
		return;
	out = 1 + 2 * (unsigned int)world_random(w, w->n_children / 2);
	if (world_chance(w, 300) && may_end(w, id, out)) {
		world_say(w, "the peer of SAs %u and %u goes elsewhere", out - 1, out);
		w->children[out].moved_us = w->now_us;
		machine_move(w, id, out - 1);
		machine_move(w, id, out);
		return;
	}
	if (may_end(w, id, out) && load_make_pair(w, w->children[out].facts.pair, id, id))
		end_pair(w, out, id);
}

/* Traffic. */

/* Whose the SA is, as a member's maps say: an ESP packet's by its SPI, a clear one's by the
 * selector that leads to it. */
static uint8_t owner_at(const struct world *w, unsigned int id, unsigned int child)
{
	const struct machine *machine = &w->machines[id];
	const struct child *c = &w->children[child];
	const struct kernel_sa *sa = &machine->sas[child];
	const struct pin *pin;

	if (c->facts.direction == ESPALIER_OUT)
		return sa->guarded ? machine_owner(machine, sa->guard.bucket, sa->guard.pinned)
				   : machine->member;
	pin = machine_pin(machine, &c->key);
	return machine_owner(machine,
		(uint16_t)espalier_bucket(__builtin_bswap32(c->key.spi), w->hash),
		pin ? pin->flow.pinned : 0);
}

/* The machine to which what is for a member comes: to it or its clone, as it happens. */
static unsigned int machine_of(struct world *w, unsigned int member)
{
	if (!w->machines[CLONE].up || w->machines[CLONE].member != member)
		return member;
	return doubts_random(w, 2) ? CLONE : member;
}

/* Who was set back has forgotten whom he has told that he knows them. So have the two of a clone.
 */
static bool has_forgotten(const struct world *w, const struct machine *machine)
{
	return machine->doubted_us && machine->doubted_us + FORGOTTEN_US > w->now_us;
}

/* As bpf/steer.bpf.c: which member's kernel gets a packet of this SA that `id` receives; counts
 * hops (I3). */
static unsigned int steer(struct world *w, unsigned int at, unsigned int child)
{
	unsigned int id = machine_of(w, at);
	bool from_member = false,
	     forgotten = w->machines[CLONE].up || has_forgotten(w, &w->machines[CLONE]);

	for (unsigned int previous = at, hops = 0;; hops++) {
		const struct machine *machine = &w->machines[id];
		uint8_t owner = owner_at(w, id, child);

		forgotten |= has_forgotten(w, machine);
		if (hops > 1 && !forgotten)
			world_fail(
				w, "I3: a packet goes over member %u and %u and on", previous, id);
		if (hops > 1)
			return id;
		if (hops)
			from_member = machine->macs[previous].outer[0] != 0;
		if (!machine->up || owner == ESPALIER_NOBODY)
			return ESPALIER_NOBODY;
		if (owner == machine->member || from_member || !machine->next_hop[owner] ||
			w->now_us >= machine->heartbeat_us + member_lease_us(HEARTBEAT_US, DEAD))
			return id;
		w->hops++;
		previous = machine->member;
		id = machine_of(w, owner);
	}
}

/* As bpf/maps.h view_owner_marked(): do floors count? */
static bool is_marked(const struct world *w, unsigned int at, const struct child *c)
{
	const struct machine *machine = &w->machines[at];
	const struct pin *pin = machine_pin(machine, &c->key);
	unsigned int id = pin ? pin->flow.pinned - 1U : ESPALIER_MEMBERS;

	if (id < ESPALIER_MEMBERS && machine->turned >> id & 1)
		return true;
	return (id >= ESPALIER_MEMBERS || !(machine->live >> id & 1)) &&
	       machine->marked[espalier_bucket(__builtin_bswap32(c->key.spi), w->hash)];
}

/* What its agent knows to have been taken, by whichever member. */
static bool is_known(struct world *w, unsigned int at, unsigned int in, uint64_t seq)
{
	const struct machine *machine = &w->machines[at];
	const struct child *c = &w->children[in];
	const struct record_key key = machine_key(c, machine->sas[in].place);
	const struct record *r;

	/* Until it follows a view it has what was there before. Of an SA that was deleted and made
	 * again with its keys the kernel has forgotten all until the agent learns of that. */
	if (c->made_again == at + 1 || !machine->agent || machine->frozen || machine->ops_left ||
		!(member_view(machine->agent)->live >> machine->member & 1))
		return false;
	r = table_find_birth(member_table(machine->agent), &key, c->facts.birth);
	return r && r->life == RECORD_ALIVE && record_is_installed(r) && r->seq >= seq;
}

/* As XDP, and the kernel's window: the peer's next packet, or an old one that an attacker plays.
 * I5: none is taken that is known to have been taken. */
static void take(struct world *w, unsigned int at, unsigned int in)
{
	struct machine *machine = &w->machines[at];
	struct kernel_sa *sa = &machine->sas[in];
	struct child *c = &w->children[in];
	bool old = c->sent && world_chance(w, 300);
	bool own = owner_at(w, at, in) == machine->member;
	uint64_t seq = old ? 1 + world_random(w, c->sent) : ++c->sent;

	if (!own && !machine->handing) {
		plans_lost(w, at, in, "another one's is not taken");
		return;
	}
	if (seq <= sa->seq || (seq <= sa->floor && (!own || is_marked(w, at, c)))) {
		w->replays++;
		return;
	}
	if (is_known(w, at, in, seq))
		world_fail(w, "I5: member %u takes number %llu of SA %u, known to have been taken",
			at, (unsigned long long)seq, in);
	w->delivered += !old;
	w->taken_again += old;
	sa->seq = seq;
}

/* An outbound packet that has come to this machine. */
static void emit(struct world *w, unsigned int id, unsigned int child)
{
	uint64_t not_owner = w->not_owner;
	unsigned int more = world_chance(w, 200) ? (unsigned int)world_random(w, 8) : 0;

	machine_emit(w, id, child, 1 + more);
	if (w->not_owner != not_owner)
		plans_lost(w, id, child, "its guard holds it for another one's");
	else if (!w->machines[id].sas[child].present)
		plans_lost(w, id, child, "its kernel has no such SA");
}

void load_traffic(struct world *w)
{
	for (unsigned int out = 1; out < w->n_children; out += 2) {
		unsigned int at = (unsigned int)world_random(w, w->members), to;

		if (w->children[out].ended || !world_chance(w, 150))
			continue;
		/* Inbound: the ESP packet finds its SA somewhere. */
		to = steer(w, at, out - 1);
		if (to < MACHINES && w->machines[to].sas[out - 1].present)
			take(w, to, out - 1);
		else if (to < MACHINES)
			machine_miss(w, to, out - 1);
		if (to >= MACHINES || !w->machines[to].sas[out - 1].present)
			plans_lost(w, at, out - 1, "nobody has it");
		/* Outbound: the clear packet goes by its selector. */
		if (!w->machines[at].sas[out].guarded)
			continue;
		to = steer(w, at, out);
		if (to < MACHINES)
			emit(w, to, out);
	}
	/* An SA that its agent has not seen yet. */
	if (w->n_children && world_chance(w, 300)) {
		const struct child *c = &w->children[w->n_children - 1];

		if (!c->ended && !w->machines[c->creator].sas[w->n_children - 1].guarded)
			machine_emit(w, c->creator, w->n_children - 1, 1);
	}
}
