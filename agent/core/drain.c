/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * drain.c - what an administrator wants members to own: nothing, or something only if nobody else
 * can, or their share. He may say so at any member; who it is about follows, keeps it for its later
 * lives, and tells all by the flags of its heartbeats. What follows from these is a view
 * (takeover.c).
 */
#include <errno.h>

#include "core/state.h"

#define ORDER_US 1000000 /* so long an order is repeated */
#define ORDERS (WIRE_DRAINED | WIRE_YIELDS)

static uint16_t flags_for(enum wire_order order)
{
	return order == ORDER_DRAIN ? WIRE_DRAINED : order == ORDER_YIELD ? WIRE_YIELDS : 0;
}

static int obey(struct member *m, enum wire_order order)
{
	uint16_t flags = flags_for(order);
	int r;

	if ((m->flags & ORDERS) == flags)
		return 0;
	if (flags && !member_heirs(m, m->config.self))
		return -EBUSY;
	r = m->ops->keep(m->ctx, order);
	if (r < 0)
		return r;
	m->flags = (uint16_t)((m->flags & ~ORDERS) | flags);
	m->heartbeat_due_us = 0;
	return 0;
}

void drain_heard(struct member *m, uint32_t order)
{
	if (order <= ORDER_DRAIN)
		(void)obey(m, (enum wire_order)order);
}

int member_order(struct member *m, uint8_t id, enum wire_order order)
{
	const struct other *o = &m->others[id < ESPALIER_MEMBERS ? id : 0];

	if (id == m->config.self)
		return obey(m, order);
	if (!member_is_other(m, id))
		return -EINVAL;
	if (!o->alive)
		return -EHOSTDOWN;
	if (!(o->heartbeat.flags & WIRE_HANDS))
		return -EPROTONOSUPPORT;
	if (order != ORDER_OWN && !member_heirs(m, id))
		return -EBUSY;
	m->orders[id].what = order;
	m->orders[id].until_us = m->now_us + ORDER_US;
	return 0;
}

void drain_tick(struct member *m)
{
	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++) {
		const struct other *o = &m->others[id];
		uint8_t payload[16];
		struct writer w = {.at = payload, .end = payload + sizeof(payload)};

		if (!m->orders[id].until_us)
			continue;
		if (m->now_us >= m->orders[id].until_us || !o->alive ||
			(o->heartbeat.flags & ORDERS) == flags_for(m->orders[id].what)) {
			m->orders[id].until_us = 0;
			continue;
		}
		wire_put_number(&w, WIRE_ORDER, m->orders[id].what);
		outbox_send(m, (uint8_t)id, payload, (size_t)(w.at - payload));
	}
}

/* Of these, the one whose turn it is after `id`. */
static uint8_t next_of(uint16_t set, uint8_t id)
{
	uint16_t above = set & (uint16_t) ~((2U << id) - 1);

	return view_lowest(above ? above : set);
}

/* The lowest that does not yield owns all: those below the next one do, the others do not. */
int member_fail_over(struct member *m, uint8_t *ret_to)
{
	uint8_t from = view_lowest(m->view.live), to;
	uint16_t heirs;

	if (m->config.mode != VIEW_HOT_STANDBY || from == ESPALIER_NOBODY)
		return -EINVAL;
	heirs = member_heirs(m, from);
	if (!heirs)
		return -EBUSY;
	to = *ret_to = next_of(heirs, from);
	for (uint8_t i = ESPALIER_MEMBERS; i > 0; i--) {
		uint8_t id = i - 1;
		bool is_there = id == m->config.self || m->others[id].alive;
		uint16_t flags = id == m->config.self ? m->flags : m->others[id].heartbeat.flags;
		int r;

		/* Who is drained stays so. */
		if (!(m->config.members >> id & 1) || !is_there || flags & WIRE_DRAINED)
			continue;
		r = member_order(m, id, id < to ? ORDER_YIELD : ORDER_OWN);
		if (r < 0)
			return r;
	}
	return 0;
}
