/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sim - 2 to 16 members in one process, through faults that follow from a seed.
 *
 *   sim --seeds N [--seed FIRST] [--faults NAME,...|all|none|orders] [--verbose]
 *
 * Checked in every world:
 *
 * - I1: no sequence number of an SA is on a wire twice, ever, whether or not a guard let it out,
 * but for what nothing can stop (judge.c);
 * - I2: after a takeover the peer accepts the first packet, unless faults follow on each other's
 *   heels;
 * - I3: a packet crosses at most one member-to-member hop;
 * - I6: every SA alive on its owner is, soon after the last fault, on every live member; ended ones
 *   are on none;
 *
 * and that in the end all members follow one view and every owner can send, pinned SAs' are those
 * they are pinned to, and the datapaths have these pins and no others. tests/sim/mutants shows that
 * the checks can fail.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "core/state.h"
#include "world.h"

#define WARM_UP_US 1000000
#define FAULTS_US 9000000
#define SETTLE_US 4000000
#define STEP_US 1000
#define MISS_US 200000 /* an SA that ESP comes for is back; that is, asked for four times */
#define AGREE_US 10000 /* how often it is looked whether they agree */
#define ROUNDS 4 /* of comparisons, within which all members agree */

uint64_t world_random(struct world *w, uint64_t below)
{
	w->random += 0x9e3779b97f4a7c15ULL;
	return below ? hash_mix(w->random) % below : 0;
}

bool world_chance(struct world *w, unsigned int of_1000)
{
	return world_random(w, 1000) < of_1000;
}

void world_fail(struct world *w, const char *format, ...)
{
	va_list args;
	int n;

	if (w->failure[0])
		return;
	n = snprintf(w->failure, sizeof(w->failure), "%.3f s: ", (double)w->now_us / 1e6);
	va_start(args, format);
	vsnprintf(w->failure + n, sizeof(w->failure) - (size_t)n, format, args);
	va_end(args);
}

void world_say(struct world *w, const char *format, ...)
{
	va_list args;

	if (!w->verbose)
		return;
	printf("%8.3f ", (double)w->now_us / 1e6);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
}

/* In the end: one view, and the same SAs on all members. */
static void check_agreement(struct world *w)
{
	const struct view *view = member_view(w->machines[0].agent);

	for (unsigned int id = 0; id < w->members; id++) {
		const struct view *other = member_view(w->machines[id].agent);

		if (other->epoch != view->epoch || other->live != view->live ||
			other->publisher != view->publisher)
			world_fail(w,
				"members 0 and %u follow different views: %llu (%x) and %llu (%x)",
				id, (unsigned long long)view->epoch, view->live,
				(unsigned long long)other->epoch, other->live);
		if (!(view->live >> id & 1))
			world_fail(w, "member %u did not get its buckets back (view %x)", id,
				view->live);
	}
	for (unsigned int i = 0; i < w->n_children; i++) {
		unsigned int holders = 0;

		for (unsigned int id = 0; id < w->members; id++)
			holders += w->machines[id].sas[i].present;
		for (unsigned int id = 1; holders == w->members && id < w->members; id++)
			if (w->machines[id].sas[i].place != w->machines[0].sas[i].place ||
				w->machines[id].sas[i].form != w->machines[0].sas[i].form)
				world_fail(w, "I6: SA %u differs on members 0 and %u", i, id);
		if (holders != 0 && holders != w->members && !judge_is_spent(w, i))
			world_fail(w, "I6: SA %u is on %u of %u members", i, holders, w->members);
		/* Unless the one who knew died before it could tell. */
		if (holders && w->children[i].ended_boots &&
			w->machines[w->children[i].ended_by].boots == w->children[i].ended_boots)
			world_fail(w, "I6: SA %u was ended and is still there", i);
	}
}

/* All members say the same of whose an SA is, and their datapaths have the pins of the SAs there
 * are, and no others. */
static void check_pins(struct world *w, unsigned int id)
{
	const struct machine *machine = &w->machines[id];
	const struct table *t = member_table(machine->agent);
	unsigned int pins = 0, told = 0;

	for (unsigned int i = 0; i < SAS; i++)
		told += machine->pins[i].key.kind != 0;
	for (uint32_t slot = 0; slot < t->high; slot++) {
		const struct record *r = table_at(t, slot);
		const struct record *first;
		const struct pin *pin;

		if (!r || r->life != RECORD_ALIVE || r->key.kind != RECORD_SA)
			continue;
		first = table_find(member_table(w->machines[0].agent), &r->key);
		if (record_is_installed(r) &&
			(!first || first->pinned != r->pinned || first->bucket != r->bucket))
			world_fail(w, "members 0 and %u differ in whose an SA is", id);
		if (r->pinned && member_view(machine->agent)->live >> (r->pinned - 1) & 1 &&
			member_flow_owner(machine->agent, r) != r->pinned - 1)
			world_fail(w, "member %u: an SA is not owned by %u, that it is pinned to",
				id, r->pinned - 1);
		if (r->facts.direction != ESPALIER_IN || !r->pinned)
			continue;
		pins++;
		pin = machine_pin(machine, &r->key);
		if (!pin || pin->flow.pinned != r->pinned || pin->flow.bucket != r->bucket)
			world_fail(w, "member %u: a pin is not in the datapath", id);
	}
	if (told != pins || member_pins(machine->agent) != pins)
		world_fail(w, "member %u: %u pins in the datapath, of %u", id, told, pins);
}

static bool all_hear(const struct world *w)
{
	for (unsigned int id = 0; id < w->members; id++)
		for (unsigned int other = 0; other < w->members; other++)
			if (!w->machines[id].agent ||
				(id != other && !w->machines[id].agent->others[other].alive))
				return false;
	return true;
}

/* Over the records that it has, but for the numbers that traffic moves. */
static uint64_t content(const struct member *m)
{
	uint64_t sum = 0;

	for (uint32_t slot = 0; slot < m->table.high; slot++) {
		const struct record *r = table_at(&m->table, slot);
		uint64_t h;

		if (!r || !r->digest)
			continue;
		h = hash_add(table_name(r), r->facts.birth);
		h = hash_add(h, r->version << 8 | r->author);
		h = hash_add(h, (uint64_t)r->moves << 32 ^ r->form_done);
		sum += hash_add(h, (uint64_t)r->pinned << 24 | r->bucket << 8 | r->creator);
	}
	return sum;
}

static bool all_agree(const struct world *w)
{
	uint64_t first = content(w->machines[0].agent);

	for (unsigned int id = 1; id < w->members; id++)
		if (content(w->machines[id].agent) != first)
			return false;
	return true;
}

/* In how many rounds of comparisons do they come to agree, from when all hear each other? */
static void watch_agreement(struct world *w)
{
	if (!all_hear(w)) {
		w->settled_us = w->now_us;
		w->agreed_us = 0;
	} else if (!all_agree(w)) {
		w->agreed_us = 0;
	} else if (!w->agreed_us) {
		w->agreed_us = w->now_us;
	}
}

static void check_rounds(struct world *w)
{
	uint64_t from_us = w->settled_us > w->quiet_us ? w->settled_us : w->quiet_us;

	from_us = w->retried_us > from_us ? w->retried_us : from_us;
	for (unsigned int i = 0; i < w->n_children; i++)
		if (judge_is_spent(w, i))
			return; /* not everybody can have it any more */
	if (!w->agreed_us)
		world_fail(w, "I6: the members' records differ");
	else if (w->agreed_us > from_us)
		w->rounds = (w->agreed_us - from_us) / REPAIR_US + 1;
	if (w->rounds > ROUNDS)
		world_fail(w, "I6: the members agree after %llu rounds of comparisons only",
			(unsigned long long)w->rounds);
}

static void watch_for_splits(struct world *w)
{
	bool split;

	if (w->views_changed)
		w->views_split = machines_split(w);
	w->views_changed = false;
	split = w->views_split || w->machines[CLONE].up;
	for (unsigned int i = 0; i < w->members; i++) {
		const struct machine *machine = &w->machines[i];

		split |= machine->up && (!machine->agent || machine->frozen || !machine->link_up);
		for (unsigned int j = 0; j < w->members; j++)
			split |= w->cut[i][j];
	}
	if (split)
		w->split_us = w->now_us;
}

static void run_members(struct world *w)
{
	w->now_us += STEP_US;
	watch_for_splits(w);
	for (unsigned int id = 0; id < w->members; id++)
		faults_end(w, id);
	doubts_run(w);
	network_run(w);
	for (unsigned int id = 0; id < w->members; id++)
		machine_run(w, id);
	if (w->machines[CLONE].up)
		machine_run(w, CLONE);
	if (w->now_us % AGREE_US == 0)
		judge_time(w);
}

static void step(struct world *w)
{
	run_members(w);
	if (w->now_us < w->quiet_us)
		load_ike(w);
	load_traffic(w);
	if (w->faults) {
		faults_happen(w);
		plans_happen(w);
	} else {
		plans_undo(w);
	}
}

/* Fenced where it is, and there is nobody who may have it. */
static bool is_nobodys(const struct world *w, uint8_t owner, unsigned int child)
{
	const struct child *c = &w->children[child];
	const struct record *r =
		table_find_birth(member_table(w->machines[owner].agent), &c->key, c->facts.birth);

	if (!r || !r->fence)
		return false;
	for (unsigned int id = 0; id < w->members; id++)
		if (r->journals[id] == w->machines[id].journal_id)
			return false;
	return true;
}

/* And it works: every SA's owner can send, if not now (it may be on its way to the next block) then
 * soon; and the number is new. */
static void check_traffic(struct world *w)
{
	for (unsigned int out = 1; out < w->n_children; out += 2) {
		const struct kernel_sa *sa = &w->machines[0].sas[out];
		uint64_t emitted = w->emitted;
		uint8_t owner;

		if (!sa->present || w->children[out].doubtful || judge_is_spent(w, out))
			continue;
		owner = machine_owner(&w->machines[0], sa->guard.bucket, sa->guard.pinned);
		if (owner >= w->members) {
			world_fail(w, "nobody owns SA %u", out);
			continue;
		}
		for (unsigned int tries = 0; tries < 100 && w->emitted == emitted; tries++) {
			machine_emit(w, owner, out, 1);
			run_members(w);
		}
		if (w->emitted == emitted && !is_nobodys(w, owner, out))
			world_fail(w, "member %u owns SA %u and cannot send", owner, out);
	}
}

/* A limit is the SA's: what one kernel has counted all count. */
static void check_usage(struct world *w)
{
	for (unsigned int ms = 0; ms < 50; ms++)
		run_members(w);
	for (unsigned int child = 0; child < w->n_children; child++) {
		uint64_t most = 0;

		for (unsigned int id = 0; id < w->members; id++) {
			const struct kernel_sa *sa = &w->machines[id].sas[child];

			if (sa->present && sa->used > most)
				most = sa->used;
		}
		for (unsigned int id = 0; id < w->members; id++) {
			const struct kernel_sa *sa = &w->machines[id].sas[child];

			if (w->children[child].facts.limited && sa->present && sa->used < most)
				world_fail(w, "member %u counts %llu packets of SA %u, not %llu",
					id, (unsigned long long)sa->used, child,
					(unsigned long long)most);
		}
	}
}

/* ESP for an SA that a kernel has lost brings it back at once: no comparison and no audit does it
 * instead. */
static void check_miss(struct world *w)
{
	unsigned int id = (unsigned int)world_random(w, w->members);
	unsigned int child = (unsigned int)world_random(w, w->n_children);
	struct machine *machine = &w->machines[id];
	uint64_t until_us = w->now_us + MISS_US;

	if (!w->n_children || !machine->sas[child].present || judge_is_spent(w, child))
		return;
	for (unsigned int other = 0; other < ESPALIER_MEMBERS; other++)
		machine->agent->others[other].asking.due_us = 2 * until_us;
	machine->audit_us = 2 * until_us;
	machine->missed_us = 0;
	w->obeys = true;
	machine->sas[child].present = false;
	machine_miss(w, id, child);
	while (w->now_us < until_us && !machine->sas[child].present)
		run_members(w);
	if (!machine->sas[child].present)
		world_fail(w, "I6: ESP for SA %u did not bring it back on member %u", child, id);
}

/* What to run, as main() was told. */
struct choice {
	const char *faults; /* NULL: the usual ones */
	uint32_t kinds; /* of them */
	bool verbose;
};

static void begin(struct world *w, uint64_t seed, const struct choice *choice)
{
	static const unsigned int losses[] = {0, 0, 10, 50, 200, 500};

	*w = (struct world){
		.seed = seed,
		.random = hash_mix(seed + 1),
		.doubts_random = hash_mix(seed + 2),
		.block_bits = BLOCK_BITS,
		.tombstone_us = seed % 2 ? 1000000 : 20000000,
		.idle = seed % 5 < 2 ? (uint32_t)(seed % 5) : 128,
		.claims_pass = seed % 3 == 0,
		.verbose = choice->verbose,
		.now_us = 1000000,
		.begun_us = 1000000,
	};
	/* Mostly small clusters. */
	w->members = 2 + (unsigned int)world_random(w, world_chance(w, 850) ? 3 : 15);
	w->mode = world_chance(w, 300) ? VIEW_HOT_STANDBY : VIEW_LOAD_SHARING;
	w->hash = world_chance(w, 500) ? ESPALIER_HASH_MIX : ESPALIER_HASH_PREFIX;
	w->loss = losses[world_random(w, 6)];
	w->repeat = losses[world_random(w, 4)];
	w->delay_us = world_chance(w, 500) ? 400 : 8000;
	w->fault_every_ms = world_chance(w, 600) ? 500 : 4000;
	world_say(w, "%u members, loss %u/1000, repeat %u/1000, delay up to %llu us", w->members,
		w->loss, w->repeat, (unsigned long long)w->delay_us);
	faults_begin(w, choice->kinds, choice->faults != NULL);
	if (choice->faults ? strcmp(choice->faults, "orders") == 0 : seed % 2)
		plans_begin(w, choice->faults || seed % 16 == 5);
	for (unsigned int id = 0; id < w->members; id++) {
		w->machines[id].member = (uint8_t)id;
		machine_boot(w, id);
	}
}

static void describe(struct world *w)
{
	for (unsigned int id = 0; id < w->members; id++) {
		const struct member *m = w->machines[id].agent;

		if (!m)
			continue;
		world_say(w, "member %u: view %llu of %u, live %x, flags %x, synced %x, barred %u",
			id, (unsigned long long)m->view.epoch, m->view.publisher, m->view.live,
			m->flags, m->synced, member_fenced(m));
		for (unsigned int other = 0; other < w->members; other++)
			if (other != id)
				world_say(w, "  of %u: %s asked %u serving %d queued %u unacked %u",
					other, m->others[other].alive ? "alive" : "dead",
					m->others[other].asking.asked -
						m->others[other].asking.answered,
					m->others[other].serving.walking,
					m->others[other].queue.count,
					m->others[other].stream.next -
						m->others[other].stream.acked - 1);
	}
}

static bool run(uint64_t seed, const struct choice *choice, struct world *total)
{
	static struct world world;
	struct world *w = &world;
	uint64_t start;

	begin(w, seed, choice);
	start = w->now_us;
	/* What is made or ended last must have time to get to all members, too. */
	w->quiet_us = start + WARM_UP_US + FAULTS_US + (seed % 2 ? 0 : SETTLE_US / 2);
	while (w->now_us < start + WARM_UP_US && !w->failure[0])
		step(w);
	w->faults = true;
	while (w->now_us < start + WARM_UP_US + FAULTS_US && !w->failure[0])
		step(w);
	if (!w->failure[0])
		faults_heal(w);
	while (w->now_us < start + WARM_UP_US + FAULTS_US + SETTLE_US && !w->failure[0]) {
		step(w);
		if (w->now_us % AGREE_US == 0)
			watch_agreement(w);
	}
	if (!w->failure[0])
		check_agreement(w);
	for (unsigned int id = 0; id < w->members && !w->failure[0]; id++)
		check_pins(w, id);
	if (!w->failure[0])
		check_rounds(w);
	if (!w->failure[0])
		check_traffic(w);
	if (!w->failure[0])
		check_usage(w);
	if (!w->failure[0])
		check_miss(w);
	if (w->failure[0])
		describe(w);
	total->emitted += w->emitted;
	total->calm_takeovers += w->calm_takeovers;
	total->blocked += w->blocked;
	total->rejected += w->rejected;
	total->delivered += w->delivered;
	total->replays += w->replays;
	total->taken_again += w->taken_again;
	total->hops += w->hops;
	total->datagrams += w->datagrams;
	total->faults_made += w->faults_made;
	total->misses += w->misses;
	total->pins += w->pins;
	total->rounds = w->rounds > total->rounds ? w->rounds : total->rounds;
	total->n_children += w->n_children;
	total->doubled += w->doubled;
	for (unsigned int why = 0; why < EXCUSES; why++)
		total->excused[why] += w->excused[why];
	doubts_end(w);
	machine_free(w, CLONE);
	for (unsigned int id = 0; id < w->members; id++) {
		if (w->machines[id].agent)
			total->orders += w->orders;
		total->takeovers += member_counters(w->machines[id].agent)->takeovers;
		machine_free(w, id);
	}
	judge_free(w);
	network_free(w);
	if (w->failure[0])
		printf("seed %llu (%u members): %s\n  again: make sim SEED=%llu%s%s\n",
			(unsigned long long)seed, w->members, w->failure, (unsigned long long)seed,
			choice->faults ? ", with --faults " : "",
			choice->faults ? choice->faults : "");
	return !w->failure[0];
}

int main(int argc, char **argv)
{
	static struct world total;
	uint64_t first = 1, seeds = 100, failed = 0;
	struct choice choice = {0};

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--seeds") == 0 && i + 1 < argc)
			seeds = strtoull(argv[++i], NULL, 10);
		else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
			first = strtoull(argv[++i], NULL, 10);
		else if (strcmp(argv[i], "--verbose") == 0)
			choice.verbose = true;
		else if (strcmp(argv[i], "--faults") == 0 && i + 1 < argc)
			choice.faults = argv[++i];
		else
			return fprintf(stderr, "usage: sim [--seeds N] [--seed FIRST] [--faults "
					       "NAME,...|all|none] [--verbose]\n"),
			       2;
	}
	if (!faults_read(choice.faults, &choice.kinds))
		return 2;
	for (uint64_t seed = first; seed < first + seeds; seed++)
		failed += !run(seed, &choice, &total);
	printf("%llu worlds: %llu faults, %llu orders, %llu takeovers seen, %u SAs, %llu packets "
	       "out, %llu "
	       "stopped by the guard, "
	       "%llu behind the peer's window (none in %llu calm takeovers of an SA), %llu in, "
	       "%llu hops, %llu datagrams, %llu SAs missed by ESP, %llu pins; all agree after %llu "
	       "rounds at most\n",
		(unsigned long long)seeds, (unsigned long long)total.faults_made,
		(unsigned long long)total.orders, (unsigned long long)total.takeovers,
		total.n_children, (unsigned long long)total.emitted,
		(unsigned long long)total.blocked, (unsigned long long)total.rejected,
		(unsigned long long)total.calm_takeovers, (unsigned long long)total.delivered,
		(unsigned long long)total.hops, (unsigned long long)total.datagrams,
		(unsigned long long)total.misses, (unsigned long long)total.pins,
		(unsigned long long)total.rounds);
	printf("numbers that came twice because nothing stops it: %llu past a guard, %llu of old "
	       "journals and clones, %llu of two creators, %llu of SAs made again\n",
		(unsigned long long)total.excused[EXCUSED_UNGUARDED],
		(unsigned long long)total.excused[EXCUSED_SET_BACK],
		(unsigned long long)total.excused[EXCUSED_TWO_CREATORS],
		(unsigned long long)total.excused[EXCUSED_MADE_AGAIN]);
	printf("of what an attacker had recorded %llu packets were stopped, %llu taken: nobody had "
	       "told of them\n",
		(unsigned long long)total.replays, (unsigned long long)total.taken_again);
	printf("clones were noticed %llu times\n", (unsigned long long)total.doubled);
	printf("%llu passed, %llu failed\n", (unsigned long long)(seeds - failed),
		(unsigned long long)failed);
	return failed != 0;
}
