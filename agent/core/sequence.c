/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sequence.c - which sequence numbers this member may emit: the life of the rule in block.h.
 *
 * To enter a block is, in this order: durable in our journal; told to the others; the kernel's
 * counter moved there; open in the guard. A member that dies anywhere on the way has at worst
 * wasted the block: after a restart it goes above everything that its journal holds. Nothing else
 * in the agent opens the guard or moves a counter.
 *
 * The guard comes last because the kernel counts on by itself: if this process is stopped between
 * the two, the counter may run through other members' blocks (dropped) into an open one, and would
 * then be set back over numbers that are out (tests/model/blocks.pml).
 *
 * Block 0 is the creator's without being entered: a new SA emits from it before we have seen it.
 */
#include <errno.h>

#include "core/state.h"

/* Two members that both hold themselves for the owner would leapfrog each other; this slows them
 * down. */
#define JUMP_EVERY_US 1000000

/* Our kernel has refused: when to try again. That doubles each time, up to 51 s. */
#define RETRY_US 50000
#define RETRY_DOUBLES 10

static bool is_owner(const struct member *m, const struct record *r)
{
	return member_flow_owner(m, r) == m->config.self;
}

/*
 * Does it keep ahead of its need, as an owner does? Before this life's first view that of the life
 * before is in force: who emits then is an owner, too. It would never catch up with a reserve above
 * what it emits itself.
 */
static bool keeps_ahead(const struct member *m, const struct record *r)
{
	return is_owner(m, r) || !m->view.live;
}

static uint64_t max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

void sequence_reset(struct record *r)
{
	r->presence = RECORD_ABSENT;
	r->form_done = 0;
	r->rekey_asked = 0;
	r->work = r->windows[0] = r->windows[1] = r->position = r->jump_us = 0;
	r->raised = 0;
	r->refusals = 0;
	r->change = 0;
}

void sequence_shut(struct member *m, struct record *r)
{
	r->work = r->windows[0] = r->windows[1] = 0;
	sequence_guard(m, r);
	sequence_consider(m, r);
}

static struct espalier_window window(const struct member *m, uint64_t block_plus_one)
{
	if (block_plus_one == 0 || m->begins_anew)
		return (struct espalier_window){.first = 1, .last = 0};
	return (struct espalier_window){
		.first = block_first(&m->rule, block_plus_one - 1),
		.last = block_last(&m->rule, block_plus_one - 1),
	};
}

/*
 * It is adopted, and we do not know yet where it stands: we are starting, which may take longer
 * than a block lasts. Nobody else can have sent for it, nor will before we tell of it.
 */
static bool is_wide(const struct member *m, const struct record *r)
{
	return m->starting && m->config.first && r->origin == RECORD_HERE && r->windows[0] &&
	       !r->windows[1];
}

static uint64_t wide_last(const struct member *m, const struct record *r)
{
	return block_first(&m->rule, r->windows[0] - 1) + INT32_MAX;
}

void sequence_guard(struct member *m, const struct record *r)
{
	struct espalier_sa sa = {
		.birth = r->facts.birth,
		.open = {window(m, r->windows[0]), window(m, r->windows[1])},
		.slot = r->slot,
		.bucket = r->bucket,
		.direction = r->facts.direction,
		.creator = r->creator,
		.pinned = r->pinned,
		.moves = r->moves,
		.form = (uint32_t)r->form_done,
		.esn = r->facts.esn,
	};

	if (is_wide(m, r))
		sa.open[0].last = wide_last(m, r);
	m->ops->guard(m->ctx, &r->key, &sa);
}

static void spend(struct member *m, struct record *r)
{
	if (!r->spent)
		m->ops->notice(m->ctx, NOTICE_SPENT, &r->key, m->config.self);
	r->spent = true;
}

/*
 * The block to enter: the one that was entered in vain, if it still serves; else one with a round
 * to spare, which nobody's kernel has had. An owner whose counter has passed it goes on from there.
 */
static uint64_t next_block(const struct member *m, const struct record *r)
{
	uint64_t upto = r->upto[m->config.self], reserve = r->top + m->rule.modulus;
	uint64_t beyond = block_of(&m->rule, r->position) + 1;
	bool ahead = keeps_ahead(m, r) && upto >= r->top;
	bool unused = r->entries == ENTRIES_LAST_UNUSED;

	if (unused && upto > beyond && (ahead || upto > reserve))
		return upto - 1;
	return block_own(&m->rule, max(max(upto, beyond), unused && ahead ? 0 : reserve));
}

/* Before then our kernel is not asked again. What it refused it may take when other buckets are
 * ours. */
static uint64_t retry_at(const struct member *m, struct record *r)
{
	unsigned int doubles;

	if (m->flipped_us > r->refused_us)
		r->refusals = 0;
	if (!r->refusals)
		return 0;
	doubles = r->refusals <= RETRY_DOUBLES ? r->refusals - 1U : RETRY_DOUBLES;
	return r->refused_us + ((uint64_t)RETRY_US << doubles);
}

static void enter(
	struct member *m, struct record *r, uint64_t block, const void *body, size_t body_len)
{
	bool again = r->entries == ENTRIES_LAST_UNUSED && block + 1 == r->upto[m->config.self];
	struct work *w;

	if (!block_exists(&m->rule, block, r->facts.esn)) {
		spend(m, r);
		return;
	}
	w = work_add(m, r, block, body, body_len);
	if (!w)
		return;
	w->enters = true;
	w->installs = body != NULL;
	w->form = r->facts.form;
	if (r->entries == ENTRIES_LAST_UNUSED)
		r->entries = ENTRIES_KNOWN;
	if (again)
		return; /* it is durable, and announced */
	w->ticket = ++m->tickets;
	m->ops->journal(m->ctx, &r->key, r->facts.birth, block);
}

static void sweep_at(struct member *m, uint64_t us)
{
	if (!m->sweep_due_us || m->sweep_due_us > us)
		m->sweep_due_us = us;
}

/* An IKE daemon may have its IKE SA at the member that made or found it, and at its owner. */
static bool may_rekey(const struct member *m, const struct record *r)
{
	return is_owner(m, r) || r->creator == m->config.self || r->origin == RECORD_HERE ||
	       r->fence == FENCE_FOUND;
}

/* Once for each late block that the owner enters; once for an SA that is shut. */
static void ask_for_rekey(struct member *m, struct record *r)
{
	uint64_t upto = is_owner(m, r) ? max(r->upto[m->config.self], r->top) : r->top;
	bool late = upto && block_late(&m->rule, upto - 1, r->facts.esn);
	bool shut = r->fence == FENCE_FOUND || r->fence == FENCE_TWO_CREATORS ||
		    r->fence == FENCE_JOURNAL_OLD;

	if (!may_rekey(m, r)) {
		r->rekey_asked = 0;
	} else if ((late && r->rekey_asked < upto) || (shut && !r->rekey_asked)) {
		r->rekey_asked = late ? upto : 1;
		m->ops->expire(m->ctx, &r->key, late ? FENCE_NONE : r->fence);
	}
}

static bool need(const struct member *m, const struct record *r, bool owner, uint64_t *ret_block)
{
	if (r->entries != ENTRIES_LAST_UNUSED)
		return block_need(
			&m->rule, owner, r->upto[m->config.self], r->top, r->position, ret_block);
	*ret_block = next_block(m, r); /* it could not be moved to */
	return true;
}

void sequence_consider(struct member *m, struct record *r)
{
	bool owner = keeps_ahead(m, r), jump = owner && r->upto[m->config.self] < r->top;
	uint64_t block, wait_us;

	if (!record_is_outbound_sa(r) || r->life != RECORD_ALIVE || !record_is_installed(r))
		return;
	ask_for_rekey(m, r);
	if (r->work || r->fence || m->begins_anew || !need(m, r, owner, &block))
		return;
	wait_us = max(retry_at(m, r), jump ? r->jump_us : 0);
	if (m->now_us < wait_us) {
		sweep_at(m, wait_us);
		return;
	}
	if (!owner && work_busy(m)) {
		sweep_at(m, m->now_us + RETRY_US);
		return;
	}
	if (jump) {
		r->jump_us = m->now_us + JUMP_EVERY_US;
		sweep_at(m, r->jump_us);
	}
	enter(m, r, block, NULL, 0);
}

void sequence_install(struct member *m, struct record *r, const void *body, size_t body_len)
{
	bool out = record_is_outbound_sa(r);
	uint64_t block = next_block(m, r);
	struct work *w;

	r->change = 0; /* in our kernel: as it is here it shall be */
	if (m->begins_anew || m->now_us < retry_at(m, r))
		return;
	if (out && r->fence == FENCE_NONE && block_exists(&m->rule, block, r->facts.esn)) {
		/* Always a block that no kernel has had: a copy that is installed again must not
		 * start where it started before. */
		enter(m, r, block, body, body_len);
		return;
	}
	/* One that is fenced, or has no block for us any more, is shut in the guard; not in block
	 * 0, where it would be taken for new after a restart. */
	w = work_add(m, r, out ? 1 : 0, body, body_len);
	if (!w)
		return;
	w->installs = true;
	w->form = r->facts.form;
}

void sequence_update(struct member *m, struct record *r, const void *body, size_t body_len)
{
	struct work *w;

	if (m->begins_anew || m->now_us < retry_at(m, r))
		return;
	w = work_add(m, r, 0, body, body_len);
	if (!w)
		return;
	w->updates = true;
	w->form = r->facts.form;
}

/* Not waited for: it tells a later life of ours that we have seen this SA. */
static void note_seen(struct member *m, struct record *r, uint64_t block)
{
	m->ops->journal(m->ctx, &r->key, r->facts.birth, 0);
	m->tickets++;
	r->entries = ENTRIES_KNOWN;
	r->upto[m->config.self] = 1;
	r->top = max(r->top, block + 1);
}

void sequence_adopt(struct member *m, struct record *r, uint64_t oseq)
{
	uint64_t block = block_of(&m->rule, oseq), *upto = &r->upto[m->config.self];
	bool adopted = m->starting && m->config.first && r->origin == RECORD_HERE;
	/* It was made again with its keys while there was no agent: it has no other counter than
	 * that, and may run through what is out. In block 0 nobody can tell. */
	bool unsure = m->starting && (block == 0 || oseq < r->position);

	r->presence = RECORD_INSTALLED;
	r->position = oseq;
	if (r->origin == RECORD_HERE && r->facts.direction == ESPALIER_OUT && *upto == 0)
		note_seen(m, r, block);
	if (r->facts.direction == ESPALIER_IN || r->fence != FENCE_NONE) {
		sequence_guard(m, r);
		sequence_consider(m, r);
	} else if (adopted || (r->entries != ENTRIES_UNKNOWN && *upto == block + 1 && !unsure &&
				      r->origin != RECORD_GUARD)) {
		/* Nobody else enters the block that we adopt it in: it is below `top`. */
		r->windows[0] = block + 1;
		sequence_guard(m, r);
		sequence_consider(m, r);
	} else {
		/* One that an earlier life had shut may have moved (sequence_return()). */
		sequence_guard(m, r);
		enter(m, r, block_own(&m->rule, max(max(*upto, block + 1), r->top)), NULL, 0);
	}
	table_changed(&m->table, r);
}

bool member_settle(struct member *m, const struct record_key *key, uint64_t oseq)
{
	struct record *r = table_find(&m->table, key);
	uint64_t next = block_of(&m->rule, oseq) + 1;

	if (!r || !m->starting || !m->config.first || r->origin != RECORD_HERE ||
		r->windows[0] == 0 || r->windows[0] > next)
		return false;
	r->windows[1] = next;
	r->windows[0] = next + 1;
	r->top = max(r->top, next + 1);
	r->position = max(r->position, oseq);
	r->work = r->jump_us = 0; /* to enter a block that it may have run through */
	sequence_guard(m, r);
	sequence_consider(m, r);
	return true;
}

void sequence_started(struct member *m, struct record *r)
{
	if (!is_wide(m, r))
		return;
	r->top = max(r->top, block_of(&m->rule, wide_last(m, r)) + 1);
	r->jump_us = 0;
	sequence_shut(m, r);
}

/* Its counter may have been carried on from where it was before its last numbers went out, or have
 * begun anew. */
void sequence_return(struct member *m, struct record *r, uint64_t oseq)
{
	uint64_t next = max(r->upto[m->config.self], block_of(&m->rule, oseq) + 1);

	r->presence = RECORD_INSTALLED;
	r->position = oseq;
	if (r->origin == RECORD_HERE && r->facts.direction == ESPALIER_OUT &&
		r->upto[m->config.self] == 0)
		note_seen(m, r, block_of(&m->rule, oseq));
	sequence_guard(m, r);
	if (r->facts.direction == ESPALIER_OUT && r->fence == FENCE_NONE)
		enter(m, r, block_own(&m->rule, max(next, r->top)), NULL, 0);
	else
		sequence_consider(m, r);
	table_changed(&m->table, r);
}

void sequence_announce(struct member *m, struct record *r, uint64_t block)
{
	uint64_t *upto = &r->upto[m->config.self];

	m->counters.entered += block >= *upto;
	*upto = max(*upto, block + 1);
	if (is_owner(m, r))
		r->top = max(r->top, *upto);
	r->entries = ENTRIES_KNOWN;
	table_changed(&m->table, r);
	outbox_mark_state(m, r);
}

static void open_block(struct member *m, struct record *r, uint64_t block)
{
	r->windows[1] = r->windows[0];
	r->windows[0] = block + 1;
	sequence_guard(m, r);
}

/* In the block that has been announced: by being installed there, or by being moved. */
static void entered(struct member *m, struct record *r, uint64_t block)
{
	open_block(m, r, block);
	sequence_consider(m, r);
}

void sequence_installed(struct member *m, struct record *r, const struct work *w)
{
	r->position = block_first(&m->rule, w->block);
	r->raised = r->seq;
	r->refusals = 0;
	if (record_is_windowed(r))
		outbox_mark_position(m, r); /* where it begins: others may know better */
	if (w->enters)
		entered(m, r, w->block);
	else
		sequence_guard(m, r);
}

/* What it was to enter is open nowhere and may still be had: unless the kernel may count there, and
 * has been set back. Such a block is given up; as if it were behind us, so that another one is
 * entered. */
void sequence_refused(struct member *m, struct record *r, const struct work *w, int error)
{
	m->counters.install_failed++;
	r->refused_us = m->now_us;
	r->refusals += r->refusals < UINT8_MAX;
	r->refused = error;
	if (!w->enters)
		return;
	if (error == -EAGAIN)
		r->position = block_first(&m->rule, w->block + 1);
	else if (w->block + 1 == r->upto[m->config.self])
		r->entries = ENTRIES_LAST_UNUSED;
	sequence_consider(m, r);
}

void sequence_move(struct member *m, struct record *r, const struct work *w)
{
	uint64_t oseq = block_first(&m->rule, w->block);
	int error;

	if (!record_is_installed(r))
		return;
	error = m->ops->move(m->ctx, &r->key, oseq);
	if (error < 0) {
		sequence_refused(m, r, w, error);
		return;
	}
	r->position = max(r->position, oseq);
	r->refusals = 0;
	entered(m, r, w->block);
}

static void raise_top(struct member *m, struct record *r, uint64_t top)
{
	if (top <= r->top)
		return;
	r->top = top;
	table_changed(&m->table, r);
	outbox_mark_state(m, r);
}

void member_position(struct member *m, uint32_t slot, uint64_t seq)
{
	struct record *r = table_at(&m->table, slot);

	if (!r || r->key.kind != RECORD_SA || r->life != RECORD_ALIVE)
		return;
	if (r->facts.direction == ESPALIER_OUT) {
		if (r->windows[0] == 0)
			return; /* nothing of it can have gone out: a left-over */
		r->position = max(r->position, seq);
		/* Who emits is an owner, whatever has been heard of him since. */
		raise_top(m, r, block_of(&m->rule, seq) + 1);
		sequence_consider(m, r);
	} else {
		inbound_taken(m, r, seq);
	}
}

void member_counter(struct member *m, uint32_t slot, uint64_t oseq)
{
	struct record *r = table_at(&m->table, slot);

	if (!r || !record_is_outbound_sa(r))
		return;
	r->position = max(r->position, oseq);
	sequence_consider(m, r);
}

void member_strayed(struct member *m, uint32_t slot, uint64_t oseq)
{
	struct record *r = table_at(&m->table, slot);

	if (!r || !record_is_outbound_sa(r) || r->life != RECORD_ALIVE || oseq <= r->position)
		return;
	raise_top(m, r, block_of(&m->rule, oseq) + 1);
	member_counter(m, slot, oseq);
}

/* A creator may say which journal a member writes its entries in as soon as it knows, but only
 * once. */
void sequence_name(struct member *m, struct record *r)
{
	bool changed = false;

	if (r->key.kind != RECORD_SA || r->origin != RECORD_HERE)
		return;
	for (unsigned int i = 0; i < ESPALIER_MEMBERS; i++) {
		if (r->journals[i] == 0 && m->journals[i] != 0) {
			r->journals[i] = m->journals[i];
			changed = true;
		}
	}
	if (changed) {
		table_changed(&m->table, r);
		outbox_mark_state(m, r);
	}
}

void sequence_look(struct member *m, struct record *r)
{
	uint8_t owner = member_flow_owner(m, r);

	inbound_look(m, r);
	if (r->life != RECORD_ALIVE || !record_is_outbound_sa(r))
		return;
	sequence_name(m, r);
	if (owner != ESPALIER_NOBODY && r->upto[owner] > r->top) {
		r->top = r->upto[owner];
		table_changed(&m->table, r);
	}
	sequence_consider(m, r);
}
