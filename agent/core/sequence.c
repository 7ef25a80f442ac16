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
#include <string.h>

#include "core/state.h"

/* Two members that both hold themselves for the owner would leapfrog each other; this slows them
 * down. */
#define JUMP_EVERY_US 1000000

#define RETRY_US 50000 /* after the kernel did not move a counter */

#define SWEEP_SLOTS 2048 /* looked at in one call */

static bool is_owner(const struct member *m, const struct record *r)
{
	return member_flow_owner(m, r) == m->config.self;
}

static uint64_t max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

void sequence_fence(struct member *m, struct record *r)
{
	bool lost = record_is_outbound_sa(r) && r->life == RECORD_ALIVE && !r->journaled &&
		    r->journals[m->config.self] != m->config.journal;
	enum record_fence fence = lost ? FENCE_JOURNAL_LOST : FENCE_NONE;

	m->fenced += fence != FENCE_NONE;
	m->fenced -= r->fence != FENCE_NONE;
	r->fence = fence;
}

void sequence_reset(struct member *m, struct record *r)
{
	m->fenced -= r->fence != FENCE_NONE;
	r->fence = FENCE_NONE;
	r->installed = r->expire_asked = false;
	r->work = r->windows[0] = r->windows[1] = r->position = r->jump_us = r->retry_us = 0;
}

static struct espalier_window window(const struct member *m, uint64_t block_plus_one)
{
	if (block_plus_one == 0)
		return (struct espalier_window){.first = 1, .last = 0};
	return (struct espalier_window){
		.first = block_first(&m->rule, block_plus_one - 1),
		.last = block_last(&m->rule, block_plus_one - 1),
	};
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
	};

	m->ops->guard(m->ctx, &r->key, &sa);
}

static void enter(
	struct member *m, struct record *r, uint64_t block, const void *body, size_t body_len)
{
	struct work *w;

	if (!block_exists(&m->rule, block, r->facts.esn))
		return;
	w = work_add(m, r, block, body, body_len);
	if (!w)
		return;
	w->enters = true;
	w->installs = body != NULL;
	w->ticket = ++m->tickets;
	m->ops->journal(m->ctx, &r->key, r->facts.birth, block);
}

static void sweep_at(struct member *m, uint64_t us)
{
	if (!m->sweep_due_us || m->sweep_due_us > us)
		m->sweep_due_us = us;
}

void sequence_consider(struct member *m, struct record *r)
{
	bool owner = is_owner(m, r), jump = owner && r->upto[m->config.self] < r->top;
	uint64_t block;

	if (!record_is_outbound_sa(r) || r->life != RECORD_ALIVE || !r->installed || r->work ||
		r->fence != FENCE_NONE || m->now_us < r->retry_us ||
		(jump && m->now_us < r->jump_us))
		return;
	if (!block_need(&m->rule, owner, r->upto[m->config.self], r->top, r->position, &block))
		return;
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
	uint64_t upto = r->upto[m->config.self];
	struct work *w;

	if (record_is_outbound_sa(r) && r->fence == FENCE_NONE) {
		/* Always a new block: a copy that is installed again must not start where it
		 * started before. */
		enter(m, r, block_own(&m->rule, max(upto, r->top + m->rule.modulus)), body,
			body_len);
		return;
	}
	/* A fenced one is shut in the guard; not in block 0, where it would be taken for new after
	 * a restart. */
	w = work_add(m, r, r->fence == FENCE_NONE ? 0 : 1, body, body_len);
	if (w)
		w->installs = true;
}

void sequence_adopt(struct member *m, struct record *r, uint64_t oseq)
{
	uint64_t block = block_of(&m->rule, oseq), *upto = &r->upto[m->config.self];

	r->installed = true;
	r->position = oseq;
	if (r->origin == RECORD_HERE && block == 0 && r->facts.direction == ESPALIER_OUT &&
		*upto == 0) {
		/* Not waited for: it tells a later life of ours that we have seen this SA. */
		m->ops->journal(m->ctx, &r->key, r->facts.birth, 0);
		m->tickets++;
		r->journaled = true;
		*upto = 1;
		r->top = max(r->top, 1);
	}
	if (r->facts.direction == ESPALIER_IN || r->fence != FENCE_NONE) {
		sequence_guard(m, r);
	} else if (r->journaled && *upto == block + 1) {
		r->windows[0] = *upto;
		sequence_guard(m, r);
		sequence_consider(m, r);
	} else {
		sequence_guard(m, r);
		enter(m, r, block_own(&m->rule, max(max(*upto, block + 1), r->top)), NULL, 0);
	}
	table_changed(&m->table, r);
}

void sequence_announce(struct member *m, struct record *r, uint64_t block)
{
	uint64_t *upto = &r->upto[m->config.self];

	*upto = max(*upto, block + 1);
	if (is_owner(m, r))
		r->top = max(r->top, *upto);
	r->journaled = true;
	table_changed(&m->table, r);
	outbox_mark_state(m, r);
	m->counters.entered++;
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
	if (is_owner(m, r) && block_late(&m->rule, block, r->facts.esn) && !r->expire_asked) {
		r->expire_asked = true;
		m->ops->expire(m->ctx, &r->key);
	}
	sequence_consider(m, r);
}

void sequence_installed(struct member *m, struct record *r, const struct work *w)
{
	r->position = block_first(&m->rule, w->block);
	if (w->enters)
		entered(m, r, w->block);
}

void sequence_move(struct member *m, struct record *r, uint64_t block)
{
	uint64_t oseq = block_first(&m->rule, block);

	if (!r->installed)
		return;
	if (m->ops->move(m->ctx, &r->key, oseq) == 0) {
		r->position = max(r->position, oseq);
		entered(m, r, block);
		return;
	}
	/* Given up; as if it were behind us, so that another one is entered. */
	m->counters.install_failed++;
	r->position = block_first(&m->rule, block + 1);
	r->retry_us = m->now_us + RETRY_US;
	sweep_at(m, r->retry_us);
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
	} else if (seq > r->seq && is_owner(m, r)) {
		r->seq = seq;
		outbox_mark_position(m, r);
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

/* A creator may say which journal a member writes its entries in as soon as it knows, but only
 * once. */
void sequence_name(struct member *m, struct record *r)
{
	bool changed = false;

	for (unsigned int i = 0; r->origin == RECORD_HERE && i < ESPALIER_MEMBERS; i++) {
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

	if (r->life != RECORD_ALIVE || !record_is_outbound_sa(r))
		return;
	sequence_name(m, r);
	if (owner != ESPALIER_NOBODY && r->upto[owner] > r->top) {
		r->top = r->upto[owner];
		table_changed(&m->table, r);
	}
	sequence_consider(m, r);
}

static void sweep(struct member *m)
{
	for (unsigned int i = 0; i < SWEEP_SLOTS && m->sweep < m->table.high; i++, m->sweep++) {
		struct record *r = table_at(&m->table, m->sweep);

		if (work_busy(m))
			return;
		if (r)
			sequence_look(m, r);
	}
	if (m->sweep >= m->table.high)
		m->sweep = TABLE_NONE;
}

void sequence_tick(struct member *m)
{
	if (m->sweep == TABLE_NONE && m->sweep_due_us && m->now_us >= m->sweep_due_us) {
		m->sweep_due_us = 0;
		m->sweep = 0;
	}
	if (m->sweep != TABLE_NONE)
		sweep(m);
}
