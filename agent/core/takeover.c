/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * takeover.c - views: who is in the cluster, as this member sees it, and who says so.
 *
 * A member that has not been heard of for a while is taken out at once and by everybody for
 * himself; nobody votes. The lowest member of the view publishes the next one, which all follow.
 * Views that differ for a while cost packets, not safety (block.h).
 */
#include "core/state.h"

/* Who says this of itself lives, and can hand over what it owns. */
#define GOING (WIRE_DRAINED | WIRE_YIELDS | WIRE_LEAVING | WIRE_IKE_LOST)

static uint16_t flags_of(const struct member *m, unsigned int id)
{
	return id == m->config.self ? m->flags : m->others[id].heartbeat.flags;
}

/* Members that we hear and agree with, ourselves among them. */
static uint16_t alive(const struct member *m)
{
	uint16_t set = member_bit(m->config.self);

	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++)
		if (m->others[id].alive)
			set |= member_bit(id);
	return set;
}

/* Those that could own buckets. */
static uint16_t able_of(const struct member *m)
{
	uint16_t able = alive(m);

	for (uint16_t set = able; set; set &= (uint16_t)(set - 1)) {
		unsigned int id = view_lowest(set);
		uint16_t flags = flags_of(m, id);

		if (!(flags & WIRE_STARTED) || flags & (WIRE_LINK_DOWN | WIRE_LEAVING) ||
			m->doubled >> id & 1)
			able &= (uint16_t)~member_bit(id);
	}
	return able;
}

/* Who says this of itself. */
static uint16_t flagged(const struct member *m, uint16_t flags)
{
	uint16_t set = 0;

	for (uint16_t all = alive(m); all; all &= (uint16_t)(all - 1))
		if (flags_of(m, view_lowest(all)) & flags)
			set |= member_bit(view_lowest(all));
	return set;
}

/* Who has lost its IKE daemon leaves what it owns to those who have one. */
static uint16_t eligible(const struct member *m)
{
	uint16_t able = able_of(m) & (uint16_t)~flagged(m, WIRE_DRAINED);

	return able & flagged(m, WIRE_IKE_READY) ? able & (uint16_t)~flagged(m, WIRE_IKE_LOST)
						 : able;
}

/* Whose records a member has. */
static uint16_t synced_of(const struct member *m, unsigned int id)
{
	return member_bit(id) | (id == m->config.self ? m->synced : m->others[id].heartbeat.synced);
}

/* Members that are in the view that they follow themselves. */
static uint16_t seated(const struct member *m)
{
	uint16_t set = 0;

	for (uint16_t all = alive(m) & (uint16_t)~m->doubled; all; all &= (uint16_t)(all - 1)) {
		unsigned int id = view_lowest(all);
		const struct view *v =
			id == m->config.self ? &m->view : &m->others[id].heartbeat.view;

		if (v->live >> id & 1)
			set |= member_bit(id);
	}
	return set;
}

/* Members that are on their way into a view, whether or not they have looked around yet. */
static uint16_t coming(const struct member *m)
{
	uint16_t set = alive(m) & (uint16_t)~m->doubled;

	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++)
		if (flags_of(m, id) & (WIRE_LINK_DOWN | WIRE_LEAVING | WIRE_DRAINED))
			set &= (uint16_t)~member_bit(id);
	return set;
}

/* Who publishes: the lowest live member of a view; at the very start, the lowest that is there. */
static uint8_t publisher(const struct member *m)
{
	uint16_t in_views = seated(m);

	return view_lowest(in_views ? in_views : coming(m));
}

/* Of these, those who are in the view; others as soon as they, and all who are or are about to be
 * taken out, have each other's records. */
static uint16_t pick(const struct member *m, uint16_t can)
{
	uint16_t set = m->view.live & can, served = m->view.live & able_of(m);

	for (uint16_t more = can & (uint16_t)~set; more; more &= (uint16_t)(more - 1)) {
		unsigned int id = view_lowest(more);
		bool both = (synced_of(m, id) & (set | served)) == (set | served);

		for (uint16_t in = set | served; in; in &= (uint16_t)(in - 1))
			both &= synced_of(m, view_lowest(in)) >> id & 1;
		if (both)
			set |= member_bit(id);
	}
	return set;
}

/* Of those who can be in the view, who should be. */
static uint16_t wanted(const struct member *m, uint16_t set)
{
	uint16_t keen = set & (uint16_t)~flagged(m, WIRE_YIELDS);

	return keen ? keen : set;
}

uint16_t member_heirs(const struct member *m, uint8_t id)
{
	return pick(m, eligible(m) & (uint16_t)~member_bit(id));
}

/* Members who live and could go on come in, or go since they are to: nobody needs to hurry. */
static bool is_planned(const struct member *m, uint16_t live)
{
	uint16_t gone = m->view.live & (uint16_t)~live;
	uint16_t going = flagged(m, GOING) & (uint16_t) ~(flagged(m, WIRE_LINK_DOWN) | m->doubled);

	return m->view.live && live != m->view.live && !(gone & (uint16_t)~going);
}

static void flip(struct member *m, const struct view *view)
{
	uint16_t gone = m->view.live & (uint16_t)~view->live;
	bool changed = m->view.live != view->live;

	m->view = *view;
	if (!changed)
		return;
	view_owners(view->live, m->config.mode, m->owner);
	m->flipped_us = m->now_us;
	m->ops->publish(m->ctx, &m->view, view_lowest(view->live), m->owner);
	if (gone & (uint16_t)~member_bit(m->config.self))
		m->counters.takeovers++;
	holder_look(m);
	m->sweep = 0; /* behind the flip, a bounded number of SAs at a time */
	m->raising = true;
	m->put_off = false;
	m->raising_work = UINT64_MAX;
	m->heartbeat_due_us = 0;
}

void takeover_step_out(struct member *m, uint16_t members)
{
	struct view view = m->view;

	view.live &= (uint16_t)~members;
	if (view.live || m->begins_anew)
		flip(m, &view);
}

/*
 * Does somebody follow another view than ours? After a publisher that we did not know of: at once.
 * At the same epoch it is a member's own suspicion: let us see first whether it comes true.
 */
static bool contested(struct member *m, uint64_t *ret_epoch)
{
	uint64_t dead_us = m->config.heartbeat_us * m->config.dead;
	bool differs = false;

	*ret_epoch = m->view.epoch;
	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++) {
		const struct view *v = &m->others[id].heartbeat.view;

		if (!m->others[id].alive)
			continue;
		if (v->epoch > *ret_epoch)
			*ret_epoch = v->epoch;
		differs |= v->epoch == m->view.epoch &&
			   (v->live != m->view.live || v->publisher != m->view.publisher);
	}
	if (!differs)
		m->contested_us = 0;
	else if (!m->contested_us)
		m->contested_us = m->now_us;
	return *ret_epoch > m->view.epoch || (differs && m->now_us > m->contested_us + dead_us);
}

void takeover_publish(struct member *m)
{
	uint16_t can = pick(m, eligible(m));
	struct view view = {.live = wanted(m, can), .publisher = m->config.self};
	bool again = contested(m, &view.epoch);

	m->awaits = false;
	if (!(m->flags & WIRE_STARTED) || publisher(m) != m->config.self)
		return;
	if (!view.live || (seated(m) & eligible(m) & (uint16_t)~can))
		return; /* nobody can, or somebody with a view of its own has not caught up yet */
	if (view.live == m->view.live && m->view.publisher == m->config.self && !again)
		return;
	if (is_planned(m, view.live) && !handover_is_due(m))
		return;
	view.epoch += view.epoch < UINT64_MAX; /* as another member may have said */
	m->contested_us = 0;
	flip(m, &view);
}

/* The same view, but for those in it; and its publisher has said otherwise before. (What differs
 * from the first is our own suspicion of a member, which he may not share yet.) */
static bool has_changed(
	const struct view *heard, const struct view *before, const struct view *present)
{
	return heard->epoch == present->epoch && heard->publisher == present->publisher &&
	       before->epoch == heard->epoch && before->live != heard->live &&
	       present->live != heard->live;
}

/* Whose view we follow, or who was to publish the next one, in his last one. */
static bool hands_itself_out(const struct member *m, uint8_t from)
{
	return (from == m->view.publisher || from == view_lowest(m->view.live & alive(m))) &&
	       flags_of(m, from) & GOING;
}

void takeover_adopt(struct member *m, uint8_t from, const struct view *before)
{
	const struct view *heard = &m->others[from].heartbeat.view;

	if (heard->publisher != from || !heard->live || heard->live & ~m->config.members ||
		!(view_newer(heard, &m->view) || has_changed(heard, before, &m->view)))
		return;
	if (from == publisher(m) || hands_itself_out(m, from) || !(m->view.live & alive(m)))
		flip(m, heard);
}
