/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * judge.c - what may be on the wire: a specification of its own, that knows nothing of how the core
 * goes about it.
 *
 * - A number belongs to its block's member; block 0, and the one in which an SA was before there
 * was an agent, to those that made the SA. Nobody else emits it, unless it got past the guard.
 * - No number is on a wire twice (I1). A few repeats nothing can stop; excuse() has all of them.
 * - After a takeover the peer accepts the first packet (I2).
 * - Who knows that its member is there twice emits nothing; nobody says so of one that is not.
 * - A refused install costs no block; a restart costs at most two rounds of blocks; where three
 *   quarters of a counter are used up, a rekey is asked for.
 */
#include <stdlib.h>
#include <string.h>

#include "world.h"

#define WINDOW 32 /* the peer's */

/* What is known to one member gets to another one that hears it within this time: rounds of
 * comparisons, and a second in which an owner does not jump again (sequence.c). */
#define NEWS_US 1500000
#define NEWS_LOST_US 4000000 /* if much is lost on the way */
#define REKEY_US 1000000 /* from the need of a rekey to asking for one */

/* Numbers that got out past the guard. */
struct stray {
	uint64_t first, last;
	unsigned int hole;
};

struct judged {
	struct numbers numbers;
	struct numbers own[MACHINES]; /* of these, each machine's, since it was set back */
	struct stray *strays;
	unsigned int n_strays;
	uint64_t upto[MACHINES]; /* one above the highest block it entered */
	uint64_t emitted;
	uint32_t changes; /* of who emits */
	uint64_t late_us; /* since when somebody emits and should have asked for a rekey */
	uint8_t late;
	/* When restarts began. */
	uint64_t upto_before, emitted_before;
	uint32_t changes_before;
};

struct known_hole {
	uint8_t machine; /* MACHINES: it was powered off */
	uint32_t boots; /* the agent's that saw it */
	uint64_t seen_us; /* 0: not yet */
	uint32_t told; /* machines that had time to learn which numbers it let out */
};

struct judge {
	struct known_hole *holes;
	unsigned int n_holes;
};

static struct judged *judged(struct child *child)
{
	if (!child->judged)
		child->judged = calloc(1, sizeof(*child->judged));
	if (!child->judged)
		abort();
	return child->judged;
}

static void *grow(void *list, unsigned int n, size_t size)
{
	if (n & (n - 1)) /* doubles at powers of two */
		return list;
	list = reallocarray(list, n ? 2 * (size_t)n : 1, size);
	if (!list)
		abort();
	return list;
}

static uint8_t modulus(const struct world *w)
{
	uint8_t m = 1;

	while (m < w->members)
		m *= 2;
	return m;
}

/* Who can know what. */

static bool is_awake(const struct machine *machine)
{
	return machine->up && machine->agent && !machine->frozen;
}

static bool hears_since(const struct world *w, unsigned int id, unsigned int other, uint64_t us)
{
	const struct machine *machine = &w->machines[id];

	return is_awake(machine) && machine->heard_us[other] + SILENCE_US >= w->now_us &&
	       machine->hears_since_us[other] <= us;
}

static bool is_old_news(const struct world *w, uint64_t us)
{
	return w->now_us >= us + (w->loss <= 50 ? NEWS_US : NEWS_LOST_US);
}

/* Does each know by now what the other one knew then? */
static bool share_news(
	const struct world *w, unsigned int id, unsigned int other, uint64_t since_us)
{
	uint64_t from_us = w->now_us - (w->loss <= 50 ? NEWS_US : NEWS_LOST_US);

	return is_old_news(w, since_us) && hears_since(w, id, other, from_us) &&
	       hears_since(w, other, id, from_us);
}

/* What another one knows of what a member has entered. */
static uint64_t told_upto(
	const struct world *w, unsigned int id, unsigned int child, unsigned int member)
{
	const struct child *c = &w->children[child];
	const struct record *r;

	r = table_find_birth(member_table(w->machines[id].agent), &c->key, c->facts.birth);
	return r ? r->upto[member] : 0;
}

/* Does somebody that it hears know that its member has gone further than it knows itself? */
static bool is_told_more(const struct world *w, unsigned int id, unsigned int child)
{
	const struct machine *machine = &w->machines[id];

	for (unsigned int other = 0; other < w->members; other++)
		if (other != machine->member && share_news(w, id, other, machine->doubted_us) &&
			told_upto(w, other, child, machine->member) >
				w->children[child].judged->upto[id])
			return true;
	return false;
}

static void watch_doubted(struct world *w, unsigned int id)
{
	struct machine *machine = &w->machines[id];

	for (unsigned int child = 0; machine->doubted_us && child < w->n_children; child++) {
		if (!w->children[child].judged || !is_told_more(w, id, child))
			machine->known_us[child] = 0;
		else if (!machine->known_us[child])
			machine->known_us[child] = w->now_us;
	}
}

static bool should_know(const struct world *w, unsigned int id, unsigned int child)
{
	uint64_t known_us = w->machines[id].known_us[child];

	return known_us && is_old_news(w, known_us);
}

/* Holes in the guard. */

unsigned int judge_hole(struct world *w, unsigned int id)
{
	if (!w->judge)
		w->judge = calloc(1, sizeof(*w->judge));
	if (!w->judge)
		abort();
	w->judge->holes = grow(w->judge->holes, w->judge->n_holes, sizeof(*w->judge->holes));
	w->judge->holes[w->judge->n_holes] = (struct known_hole){.machine = (uint8_t)id};
	return w->judge->n_holes++;
}

void judge_hole_seen(struct world *w, unsigned int number)
{
	struct known_hole *hole = &w->judge->holes[number];

	hole->seen_us = w->now_us;
	hole->boots = w->machines[hole->machine].boots;
}

/* What its kernel has counted a new life of the agent reads again; it is lost with the machine. */
void judge_started(struct world *w, unsigned int id, bool booted)
{
	for (unsigned int i = 0; w->judge && i < w->judge->n_holes; i++) {
		struct known_hole *hole = &w->judge->holes[i];

		if (hole->machine != id || (!hole->seen_us && !booted))
			continue;
		hole->seen_us = booted ? 0 : w->now_us;
		hole->boots = w->machines[id].boots;
		hole->machine = booted ? MACHINES : hole->machine;
	}
}

/* Who has had the time to learn of what? */
void judge_time(struct world *w)
{
	for (unsigned int id = 0; id < MACHINES; id++)
		watch_doubted(w, id);
	for (unsigned int i = 0; w->judge && i < w->judge->n_holes; i++) {
		struct known_hole *hole = &w->judge->holes[i];
		const struct machine *machine = &w->machines[hole->machine % MACHINES];

		if (!hole->seen_us || !is_awake(machine) || machine->boots != hole->boots)
			continue;
		for (unsigned int id = 0; id < w->members; id++)
			if (share_news(w, id, hole->machine, hole->seen_us))
				hole->told |= 1U << id;
		if (w->now_us >= hole->seen_us + NEWS_US)
			hole->told |= 1U << hole->machine;
	}
}

static void note_stray(struct world *w, struct child *child, unsigned int id, uint64_t seq)
{
	struct judged *j = judged(child);
	struct stray *last = j->n_strays ? &j->strays[j->n_strays - 1] : NULL;
	unsigned int hole = w->machines[id].hole.number;

	child->ran_away_us = w->now_us;
	if (last && last->hole == hole && last->last + 1 == seq) {
		last->last = seq;
		return;
	}
	j->strays = grow(j->strays, j->n_strays, sizeof(*j->strays));
	j->strays[j->n_strays++] = (struct stray){.first = seq, .last = seq, .hole = hole};
}

/* Did it get out past a guard, so that this machine could not know it? */
static bool is_stray(const struct world *w, const struct judged *j, unsigned int id, uint64_t seq)
{
	for (unsigned int i = 0; i < j->n_strays; i++)
		if (seq >= j->strays[i].first && seq <= j->strays[i].last &&
			!(w->judge->holes[j->strays[i].hole].told >> id & 1))
			return true;
	return false;
}

/* Its journal was lost, then those that knew of this block were set back. */
static bool is_forgotten(const struct world *w, unsigned int id, unsigned int child, uint64_t block)
{
	bool set_back = false;

	for (unsigned int other = 0; other < w->members; other++) {
		const struct machine *machine = &w->machines[other];

		set_back |= machine->doubted_us != 0;
		if (other != id && machine->up && machine->agent &&
			told_upto(w, other, child, id) > block)
			return false;
	}
	return set_back && w->machines[id].journal_lost;
}

/* The rule. */

/* `own`: it has emitted this number itself. */
static enum excuse excuse(
	struct world *w, unsigned int id, unsigned int child, uint64_t seq, bool stopped, bool own)
{
	const struct child *c = &w->children[child];
	const struct machine *machine = &w->machines[id];
	uint64_t block = seq >> w->block_bits;
	unsigned int other = c->creator == id ? c->second_creator : c->creator;

	/* Past a guard, whose agent has not noticed yet, or that it did notice, and could not tell
	 * this machine. */
	if (stopped || is_stray(w, c->judged, id, seq))
		return EXCUSED_UNGUARDED;
	/* A number that it did not emit itself, as far as it can know: what it knew is an old copy,
	 * or there is another machine with the same copy, that it has not noticed. Nobody that it
	 * hears knows better, or did when it entered the block. */
	if (machine->doubted_us && !machine->doubled && !own &&
		machine->entered_in_the_wrong[child] != block + 1 && !should_know(w, id, child))
		return EXCUSED_SET_BACK;
	if (is_forgotten(w, id, child, block))
		return EXCUSED_SET_BACK;
	/* In block 0 of two that made the same SA and do not hear each other. */
	if (block == 0 && c->second_creator != ESPALIER_NOBODY &&
		!share_news(w, id, other, c->made_us))
		return EXCUSED_TWO_CREATORS;
	/* The kernel counts anew: deleted and made again, and the agent has not read it yet, or
	 * never learned that there was one before. */
	if (c->made_again == id + 1 || (block == 0 && c->made_unseen))
		return EXCUSED_MADE_AGAIN;
	return EXCUSED_NOT;
}

static bool is_own(
	const struct world *w, unsigned int member, const struct child *child, uint64_t seq)
{
	uint64_t block = seq >> w->block_bits;

	if (block == 0 || (child->found && block + 1 >= child->found && block < child->found_upto))
		return member == child->creator || member == child->second_creator;
	return block % modulus(w) == member;
}

/*
 * At most one fault since somewhat before the last number went out, and at most one lost
 * announcement: a standby's distance makes up for one. A counter that ran through many blocks is a
 * fault, too, since then one announcement tells of more than a round.
 */
static bool is_calm(const struct world *w, unsigned int id, const struct child *child)
{
	return w->loss <= 50 && w->now_us > w->handing_us + 100000 &&
	       child->highest_by_us > w->previous_fault_us + 2000000 &&
	       child->highest_by_us > w->split_us + 2000000 &&
	       w->now_us > w->lost_us[child->last_from][id][0] + 200000 &&
	       (!child->ran_away_us || w->now_us > child->ran_away_us + 1000000);
}

/* Above the peer's window after a takeover (I2)? */
static void peer_gets(struct world *w, unsigned int id, struct child *child, uint64_t seq)
{
	bool calm = is_calm(w, id, child);

	w->calm_takeovers += calm && child->last_from != id;
	if (seq > child->highest) {
		child->highest = seq;
		child->highest_by_us = w->now_us;
		w->accepted++;
	} else if (child->highest - seq >= WINDOW) {
		w->rejected++;
		/* At most one death in a while: nothing may be lost to the peer's window. */
		if (calm)
			world_fail(w,
				"I2: the peer rejects number %llu of SA %d from member %u: it has "
				"seen %llu",
				(unsigned long long)seq, (int)(child - w->children), id,
				(unsigned long long)child->highest);
	}
}

/* Three quarters of a 32-bit counter are used up: its owner's IKE must know. */
static void watch_rekey(struct world *w, unsigned int id, unsigned int child, uint64_t seq)
{
	struct child *c = &w->children[child];
	struct machine *machine = &w->machines[id];

	if (c->facts.esn || seq < 3ULL << 30)
		return;
	if (!c->judged->late_us || c->judged->late != id || !is_awake(machine)) {
		c->judged->late = (uint8_t)id;
		c->judged->late_us = w->now_us;
	} else if (!machine->sas[child].rekey_asked && w->now_us > c->judged->late_us + REKEY_US) {
		world_fail(w, "member %u has used three quarters of SA %u and asks for no rekey",
			id, child);
	}
}

void judge_emitted(struct world *w, unsigned int id, unsigned int child, uint64_t first,
	uint64_t last, bool stopped)
{
	struct child *c = &w->children[child];
	struct judged *j = judged(c);

	for (uint64_t seq = first; seq <= last; seq++) {
		bool own = numbers_note(&j->own[id], seq);

		if (numbers_note(&j->numbers, seq)) {
			enum excuse why = excuse(w, id, child, seq, stopped, own);

			w->excused[why]++;
			if (why == EXCUSED_NOT)
				world_fail(w,
					"I1: number %llu of SA %u was emitted twice, now by member "
					"%u, last by member %u",
					(unsigned long long)seq, child, id, c->last_from);
		}
		if (w->machines[id].doubled && !stopped && seq >> w->block_bits)
			world_fail(w,
				"member %u emits number %llu of SA %u, and knows that it is there "
				"twice",
				id, (unsigned long long)seq, child);
		if (stopped)
			note_stray(w, c, id, seq);
		else if (!is_own(w, w->machines[id].member, c, seq))
			world_fail(w, "member %u emits number %llu of SA %u, which is not its own",
				id, (unsigned long long)seq, child);
		peer_gets(w, id, c, seq);
		j->changes += c->last_from != id;
		c->last_from = (uint8_t)id;
		w->emitted++;
		j->emitted++;
	}
	watch_rekey(w, id, child, last);
}

/* What was seen is told for as long as it counts, and who was frozen hears of it when it wakes. */
void judge_doubled(struct world *w, unsigned int member)
{
	uint64_t cloned_us = w->machines[member].cloned_us;

	w->doubled++;
	if (!cloned_us || w->now_us > cloned_us + 2 * DOUBLED_US + 3000000)
		world_fail(w, "member %u is said to be there twice", member);
}

/* How blocks are spent. */

void judge_entered(struct world *w, unsigned int id, unsigned int child, uint64_t block)
{
	struct judged *j = judged(&w->children[child]);
	struct machine *machine = &w->machines[id];

	if (should_know(w, id, child))
		machine->entered_in_the_wrong[child] = block + 1;
	if (block + 1 > j->upto[id])
		j->upto[id] = block + 1;
}

void judge_set_back(struct world *w, unsigned int id)
{
	struct machine *machine = &w->machines[id];

	machine->doubted_us = w->now_us;
	for (unsigned int child = 0; child < w->n_children; child++) {
		struct judged *j = judged(&w->children[child]);

		numbers_free(&j->own[id]);
		j->own[id] = (struct numbers){0};
		j->upto[id] = machine->entered_in_the_wrong[child] = 0;
		machine->known_us[child] = 0;
		for (uint32_t i = 0; i < machine->journaled; i++) {
			const struct journal_entry *e = &machine->journal[i];

			if (e->birth == w->children[child].facts.birth && e->block >= j->upto[id])
				j->upto[id] = e->block + 1;
		}
	}
}

/* Tried again, in the same block as long as that has a round to spare above all others. */
void judge_refused(struct world *w, unsigned int id, unsigned int child, uint64_t block)
{
	struct machine *machine = &w->machines[id];
	const struct child *c = &w->children[child];
	const struct record *r =
		table_find_birth(member_table(machine->agent), &c->key, c->facts.birth);

	if (machine->refused_block[child] && machine->refused_block[child] != block + 1 &&
		machine->refused_block[child] > r->top + modulus(w))
		world_fail(w, "a refused install of SA %u on member %u costs a block", child, id);
	machine->refused_block[child] = block + 1;
}

static uint64_t highest_upto(const struct judged *j)
{
	uint64_t upto = 0;

	for (unsigned int id = 0; id < MACHINES; id++)
		upto = j->upto[id] > upto ? j->upto[id] : upto;
	return upto;
}

bool judge_is_spent(const struct world *w, unsigned int child)
{
	const struct child *c = &w->children[child];

	return c->judged && !c->facts.esn &&
	       highest_upto(c->judged) + 2U * modulus(w) >= 1ULL << (32 - w->block_bits);
}

void judge_restarts_begin(struct world *w)
{
	for (unsigned int child = 1; child < w->n_children; child += 2) {
		struct judged *j = judged(&w->children[child]);

		j->upto_before = highest_upto(j);
		j->emitted_before = j->emitted;
		j->changes_before = j->changes;
	}
}

/* Two rounds a restart, as many for those who go on meanwhile, whether or not they emit, and a
 * round for each block of traffic. */
void judge_restarts(struct world *w, unsigned int id)
{
	unsigned int restarts = w->machines[id].restarts;

	if (w->loss > 50)
		return; /* views come and go, and cost blocks, too */
	for (unsigned int child = 1; child < w->n_children; child += 2) {
		struct judged *j = judged(&w->children[child]);
		uint64_t upto = highest_upto(j);
		uint64_t used = upto > j->upto_before ? upto - j->upto_before : 0;
		uint64_t rounds = 4 * (restarts + 1) + 2 * (j->changes - j->changes_before) +
				  ((j->emitted - j->emitted_before) >> (w->block_bits - 1)) + 1;

		if (j->upto_before && used > rounds * modulus(w))
			world_fail(w, "%u restarts of member %u cost %llu blocks of SA %u",
				restarts, id, (unsigned long long)used, child);
	}
}

void judge_free(struct world *w)
{
	for (unsigned int child = 0; child < w->n_children; child++) {
		struct judged *j = w->children[child].judged;

		if (!j)
			continue;
		numbers_free(&j->numbers);
		for (unsigned int id = 0; id < MACHINES; id++)
			numbers_free(&j->own[id]);
		free(j->strays);
		free(j);
	}
	if (w->judge)
		free(w->judge->holes);
	free(w->judge);
}
