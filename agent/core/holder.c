/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * holder.c - which member's IKE daemon has an IKE SA, and how another one gets it.
 *
 * The owner of an IKE SA's bucket is to have it. If the holder has died, the owner takes it, from
 * the record. If it lives, it is asked first by its own agent, hands over its last record, and
 * leaves it to nobody; then the owner takes it. Each of these raises `turn` (struct ike_head).
 */
#include <stdlib.h>
#include <string.h>

#include "core/state.h"

#define SWEEP_SLOTS 4096 /* looked at in one call */
#define GIFTS 512 /* in the background, between two ticks */
#define DAEMON_RESTARTS_US 1000000 /* one that comes back by then is waited for */
#define HOLDER_US 1000000 /* a holder that lives has so long to hand over */
#define REAP_SLOTS 1024
#define FULL_AGAIN_US 60000000

void holder_look(struct member *m)
{
	struct holder *h = &m->holder;

	h->sweep = 0;
	h->taken_due = h->daemon == DAEMON_READY;
}

int holder_init(struct member *m)
{
	struct holder *h = &m->holder;

	h->tell_first = h->commit_first = TABLE_NONE;
	return ikes_init(&h->ikes, m->config.ikes, &m->table);
}

static void forget_arriving(struct ike_arriving *a)
{
	if (a->bytes)
		explicit_bzero(a->bytes, a->total);
	free(a->bytes);
	*a = (struct ike_arriving){0};
}

void holder_forget(struct member *m, uint8_t from)
{
	forget_arriving(&m->others[from].ike_arriving);
}

void holder_free(struct member *m)
{
	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++)
		holder_forget(m, (uint8_t)id);
	ikes_free(&m->holder.ikes);
}

static void refuse(struct member *m, uint8_t who)
{
	struct holder *h = &m->holder;

	h->counters.refused++;
	if (h->full_said_us && m->now_us < h->full_said_us + FULL_AGAIN_US)
		return;
	h->full_said_us = m->now_us;
	m->ops->notice(m->ctx, NOTICE_IKE_FULL, NULL, who);
}

/* Our daemon has it no more. */
static void leave(struct member *m, struct ike *r)
{
	commit_end(m, r);
	r->state = IKE_STANDBY;
	r->tell = 0;
}

/*
 * Odd: somebody has it; even: it was handed over. So a former holder that hands over what another
 * one took without its word, since it was thought to be dead, is not heard.
 */
static void turn(struct member *m, struct ike *r, uint8_t holder)
{
	r->head.turn = holder == ESPALIER_NOBODY ? r->head.turn + 1 : (r->head.turn + 1) | 1;
	r->head.holder = holder;
	r->changed_us = m->now_us;
	ike_changed(&m->holder.ikes, r);
	outbox_mark_ike(m, r);
}

/* We do not have it, and are to. */
static bool is_wanted(const struct member *m, const struct ike *r)
{
	return m->holder.daemon == DAEMON_READY && !r->head.dead && r->head.own &&
	       r->state == IKE_STANDBY && m->view.live >> m->config.self & 1 &&
	       member_ike_owner(m, r) == m->config.self;
}

static bool has_holder(const struct member *m, const struct ike *r)
{
	uint8_t holder = r->head.holder;

	return holder != m->config.self && holder < ESPALIER_MEMBERS && m->others[holder].alive;
}

static void take(struct member *m, struct ike *r)
{
	bool waits = has_holder(m, r);

	if (waits && m->now_us < m->flipped_us + HOLDER_US) {
		m->holder.waits = true;
		return;
	}
	if (waits)
		r->head.flags |= IKE_SYNC;
	r->taken = r->head.version;
	turn(m, r, m->config.self);
	r->state = IKE_HELD;
	commit_tell(m, r, IKE_TELL_GIVE);
}

static void give_up(struct member *m, struct ike *r)
{
	uint8_t owner = member_ike_owner(m, r), self = m->config.self;

	if (r->head.dead || r->head.holder != self || owner == self || owner == ESPALIER_NOBODY)
		return;
	if (r->state == IKE_HELD) {
		r->state = IKE_LEAVING;
		commit_tell(m, r, IKE_TELL_RELEASE);
	} else if (r->state == IKE_STANDBY && m->holder.daemon != DAEMON_TELLS) {
		turn(m, r, ESPALIER_NOBODY); /* our daemon has gone */
	}
}

/* The owner has it, and was about to give it away. */
static void keep(struct member *m, struct ike *r)
{
	if (r->state == IKE_LEAVING && r->tell & IKE_TELL_RELEASE &&
		member_ike_owner(m, r) == m->config.self) {
		r->tell &= (uint8_t)~IKE_TELL_RELEASE;
		r->state = IKE_HELD;
	}
}

static void consider(struct member *m, struct ike *r)
{
	keep(m, r);
	give_up(m, r);
	if (is_wanted(m, r))
		take(m, r);
}

/* A bounded number of them. What others have is looked at again in each tick. */
static void sweep(struct member *m)
{
	struct holder *h = &m->holder;

	for (unsigned int n = 0; n < SWEEP_SLOTS && h->sweep < h->ikes.high; n++, h->sweep++) {
		struct ike *r = ike_at(&h->ikes, h->sweep);

		if (!r)
			continue;
		if (is_wanted(m, r) && !r->needed && !has_holder(m, r)) {
			if (!h->gifts)
				return;
			h->gifts--;
		}
		consider(m, r);
	}
	if (h->sweep >= h->ikes.high)
		h->sweep = TABLE_NONE;
}

void holder_tick(struct member *m)
{
	struct holder *h = &m->holder;

	member_set_flag(m, WIRE_IKE_READY, h->daemon == DAEMON_READY);
	member_set_flag(
		m, WIRE_IKE_LOST, h->lost_us && m->now_us > h->lost_us + DAEMON_RESTARTS_US);
	h->gifts = GIFTS;
	if (h->waits && h->sweep == TABLE_NONE)
		h->sweep = 0;
	if (h->sweep == 0)
		h->waits = false;
}

static void told(struct member *m, struct ike *r, enum ike_tell what)
{
	struct ike_counters *c = &m->holder.counters;

	r->tell &= (uint8_t)~what;
	c->drops += what == IKE_TELL_DROP;
	c->releases += what == IKE_TELL_RELEASE;
	if (what != IKE_TELL_GIVE)
		return;
	c->gives++;
	c->syncs += (member_ike_flags(r) & IKE_SYNC) != 0;
	r->needed = false;
}

/* False: our daemon takes no more now. */
static bool tell(struct member *m, struct ike *r)
{
	static const enum ike_tell order[] = {
		IKE_TELL_DROP, IKE_TELL_COMMITTED, IKE_TELL_GIVE, IKE_TELL_RELEASE};

	for (unsigned int i = 0; i < sizeof(order) / sizeof(*order); i++) {
		if (!(r->tell & order[i]))
			continue;
		if (!m->ops->ike(m->ctx, order[i], r))
			return false;
		told(m, r, order[i]);
	}
	return true;
}

static bool tell_all(struct member *m)
{
	struct holder *h = &m->holder;

	while (h->tell_first != TABLE_NONE) {
		struct ike *r = ike_at(&h->ikes, h->tell_first);

		if (!tell(m, r))
			return false;
		h->tell_first = r->tell_next;
		r->telling = false;
	}
	return true;
}

void holder_flush(struct member *m)
{
	struct holder *h = &m->holder;

	if (!h->ikes.capacity)
		return;
	if (h->sweep != TABLE_NONE)
		sweep(m);
	commit_flush(m);
	if (!tell_all(m))
		return;
	if (h->taken_due && h->daemon == DAEMON_READY && h->sweep == TABLE_NONE && !h->waits &&
		m->view.live >> m->config.self & 1)
		h->taken_due = !m->ops->ike(m->ctx, IKE_TELL_TAKEN, NULL);
}

void holder_reap(struct member *m)
{
	struct holder *h = &m->holder;

	for (unsigned int i = 0; i < REAP_SLOTS && i < h->ikes.high; i++) {
		struct ike *r = ike_at(&h->ikes, h->reaped++ % h->ikes.high);

		if (r && r->head.dead && !r->commit && !r->telling && !r->queued &&
			m->now_us >= r->changed_us + m->config.tombstone_us)
			ike_drop(&h->ikes, r);
	}
}

/* Of other members. */

/* Two who had it at one time do not agree. */
static bool beats(const struct member *m, const struct ike_head *heard, const struct ike *r)
{
	uint8_t owner = member_ike_owner(m, r);

	if (ike_newer(heard, &r->head))
		return true;
	if (ike_newer(&r->head, heard) || heard->holder == r->head.holder)
		return false;
	if (heard->holder == owner || r->head.holder == owner)
		return heard->holder == owner;
	return heard->holder < r->head.holder;
}

/* The peer may have heard more of another member than the record tells. If it is our daemon's, it
 * is to ask the peer now. */
static void doubt(struct member *m, struct ike *r)
{
	if (r->head.dead || r->head.flags & IKE_SYNC)
		return;
	r->head.flags |= IKE_SYNC;
	ike_changed(&m->holder.ikes, r);
	outbox_mark_ike(m, r);
	if (r->state == IKE_HELD)
		commit_tell(m, r, IKE_TELL_GIVE | (r->tell & IKE_TELL_COMMITTED));
}

/* Of two that are not the newer one. Who does not know ours may have gone on when we took over. */
static void outdo(struct member *m, uint8_t from, struct ike *r, const struct ike_head *heard)
{
	if (ike_newer(&r->head, heard)) {
		if (r->state == IKE_HELD && heard->turn < r->head.turn && heard->version > r->taken)
			doubt(m, r);
		outbox_mark_ike_for(m, r, from);
	} else if (heard->holder == r->head.holder && heard->flags & IKE_SYNC) {
		doubt(m, r);
	} /* else both say so; a comparison finds it */
}

static void follow(struct member *m, uint8_t from, const struct ike_arriving *a)
{
	const struct ike_head *heard = &a->head;
	bool lost = false;
	struct ike *r = ike_find(&m->holder.ikes, heard->own);

	if (!r && heard->dead)
		return;
	if (!r)
		r = ike_add(&m->holder.ikes, heard->own);
	if (!r) {
		refuse(m, from);
		return;
	}
	if (!beats(m, heard, r)) {
		outdo(m, from, r, heard);
		return;
	}
	if (r->state != IKE_STANDBY && (heard->dead || heard->holder != m->config.self)) {
		lost = true;
		leave(m, r);
		commit_tell(m, r, IKE_TELL_DROP);
	}
	if (ike_set(&m->holder.ikes, r, heard, a->bytes, a->total) < 0)
		return; /* it will differ, and be sent again */
	r->changed_us = m->now_us;
	if (lost)
		doubt(m, r);
	consider(m, r);
}

static bool goes_on(const struct ike_arriving *a, const struct wire_ike *heard)
{
	return a->bytes && a->head.own == heard->head.own && a->head.turn == heard->head.turn &&
	       a->head.version == heard->head.version && a->total == heard->total &&
	       a->got == heard->offset;
}

void holder_heard(struct member *m, uint8_t from, const struct wire_ike *heard)
{
	struct ike_arriving *a = &m->others[from].ike_arriving;

	if (!m->holder.ikes.capacity)
		return;
	if (heard->offset == 0) {
		forget_arriving(a);
		a->bytes = malloc(heard->total + 1);
		a->total = heard->total;
	} else if (!goes_on(a, heard)) {
		forget_arriving(a);
	}
	if (!a->bytes)
		return;
	a->head = heard->head;
	memcpy(a->bytes + a->got, heard->bytes, heard->len);
	a->got += (uint32_t)heard->len;
	if (a->got < a->total)
		return;
	follow(m, from, a);
	forget_arriving(a);
}

/* Of our daemon. */

void member_ike_hello(struct member *m)
{
	m->holder.daemon = DAEMON_TELLS;
}

void member_ike_ready(struct member *m)
{
	m->holder.daemon = DAEMON_READY;
	m->holder.lost_us = 0;
	holder_look(m);
}

void member_ike_lost(struct member *m)
{
	struct holder *h = &m->holder;

	for (uint32_t slot = 0; slot < h->ikes.high; slot++) {
		struct ike *r = ike_at(&h->ikes, slot);

		if (!r)
			continue;
		leave(m, r);
		r->telling = r->needed = false;
	}
	h->tell_first = TABLE_NONE;
	h->daemon = DAEMON_NONE;
	h->lost_us = h->lost_us ? h->lost_us : m->now_us;
	holder_look(m);
}

/* Something of an IKE SA that has no record. */
static void answer(struct member *m, enum ike_tell what, const struct ike_head *head, uint8_t flags)
{
	struct ike r = {.head = *head, .committed = head->version};

	r.head.flags |= flags;
	(void)m->ops->ike(m->ctx, what, &r); /* lost: it waits in vain, but not for ever */
}

/* It is not our daemon that has it, or not in this turn, or less of it than we know. */
static bool is_old(const struct member *m, const struct ike *r, const struct ike_head *head)
{
	return r->head.dead || ike_newer(&r->head, head) ||
	       (r->head.turn == head->turn && r->head.holder != m->config.self);
}

void member_ike_record(struct member *m, const struct ike_head *head, const void *body,
	uint32_t len, const struct ike_child *children, uint16_t n)
{
	struct ikes *t = &m->holder.ikes;
	struct ike *r = ike_find(t, head->own);
	struct ike_head ours = *head;
	bool known = r && head->turn == r->head.turn && head->version == r->head.version;

	if (!r)
		r = ike_add(t, head->own);
	else if (is_old(m, r, head)) {
		leave(m, r);
		commit_tell(m, r, IKE_TELL_DROP);
		doubt(m, r);
		return;
	}
	ours.holder = m->config.self;
	ours.flags &= IKE_KEPT;
	ours.dead = false;
	if (!r || (!known && ike_set(t, r, &ours, body, len) < 0)) {
		refuse(m, m->config.self);
		answer(m, IKE_TELL_COMMITTED, head, 0);
		return;
	}
	r->changed_us = m->now_us;
	r->tell &= (uint8_t)~IKE_TELL_GIVE;
	if (r->state == IKE_STANDBY)
		r->state = IKE_HELD;
	if (!known)
		outbox_mark_ike(m, r);
	commit_begin(m, r, children, n);
	consider(m, r);
}

void member_ike_gone(struct member *m, const struct ike_head *head)
{
	struct ike *r = ike_find(&m->holder.ikes, head->own);

	if (!r || is_old(m, r, head)) {
		if (r && !r->head.dead)
			leave(m, r);
		answer(m, IKE_TELL_COMMITTED, head, 0);
		return;
	}
	leave(m, r);
	r->head.version = head->version;
	r->head.dead = true;
	r->changed_us = m->now_us;
	ike_changed(&m->holder.ikes, r);
	outbox_mark_ike(m, r);
	commit_begin(m, r, NULL, 0);
}

static bool has_all(const struct member *m)
{
	uint16_t others = member_others(m);

	return (m->synced & others) == others && m->view.live >> m->config.self & 1;
}

void member_ike_need(struct member *m, uint64_t own, uint64_t peer, uint8_t flags)
{
	struct ike *r = ike_find(&m->holder.ikes, own);
	struct ike_head none = {.own = own, .peer = peer, .flags = flags};

	if (!r || r->head.dead || !own || (r->head.peer && r->head.peer != peer)) {
		m->holder.counters.nones++;
		answer(m, IKE_TELL_NONE, &none, has_all(m) ? IKE_SURE : 0);
		return;
	}
	r->needed = true;
	if (r->state == IKE_HELD)
		commit_tell(m, r, IKE_TELL_GIVE | (r->tell & IKE_TELL_COMMITTED));
	else
		consider(m, r);
}

void member_ike_released(struct member *m, uint64_t own)
{
	struct ike *r = ike_find(&m->holder.ikes, own);

	if (!r || r->state == IKE_STANDBY)
		return;
	leave(m, r);
	if (!r->head.dead && r->head.holder == m->config.self)
		turn(m, r, ESPALIER_NOBODY);
	consider(m, r);
}

bool member_ike_busy(const struct member *m)
{
	const struct ikes *t = &m->holder.ikes;

	if (m->holder.daemon == DAEMON_NONE)
		return false;
	for (uint32_t slot = 0; slot < t->high; slot++) {
		const struct ike *r = ike_at(t, slot);

		if (r && r->state != IKE_STANDBY)
			return true;
	}
	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++)
		if (m->others[id].alive && !stream_idle(&m->others[id].stream))
			return true;
	return false;
}

uint8_t member_ike_flags(const struct ike *r)
{
	return (r->head.flags & IKE_KEPT) | (r->needed ? 0 : IKE_BACKGROUND);
}
