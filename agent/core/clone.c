/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * clone.c - members that are there twice: a machine, and a copy of it with its id and its journal.
 *
 * Both may enter the same blocks, so neither may own anything. Two signs show it, and no restart
 * causes them. A life is heard again after a later one, or another machine answers to our id
 * (member_doubled()). The two may not hear each other, so whoever sees a sign puts it into its
 * heartbeats.
 *
 * When one of the two goes, the other does not know what that one emitted. So it begins anew, with
 * a new journal.
 */
#include "core/state.h"

uint16_t clone_seen(const struct member *m)
{
	uint16_t set = 0;

	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++)
		if (m->doubled_until_us[id] > m->now_us)
			set |= member_bit(id);
	return set;
}

static uint16_t doubled(const struct member *m)
{
	uint16_t set = clone_seen(m);

	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++)
		if (m->others[id].alive)
			set |= m->others[id].heartbeat.doubled;
	return set & m->config.members;
}

void clone_look(struct member *m, uint8_t by)
{
	uint16_t self = member_bit(m->config.self), before = m->doubled, began;

	m->doubled = doubled(m);
	began = m->doubled & (uint16_t)~before;
	if (began & self) {
		m->begins_anew = true;
		m->flags |= WIRE_LEAVING;
		m->ops->doubled(m->ctx, by, false);
	}
	for (uint16_t set = began & (uint16_t)~self; set; set &= (uint16_t)(set - 1))
		m->ops->notice(m->ctx, NOTICE_DOUBLED, NULL, view_lowest(set));
	if (began) {
		takeover_step_out(m, began);
		m->heartbeat_due_us = 0;
	}
	if (before & (uint16_t)~m->doubled & self)
		m->ops->doubled(m->ctx, by, true);
}

void clone_sign(struct member *m, unsigned int id)
{
	m->doubled_until_us[id] = m->now_us + m->config.doubled_us;
	clone_look(m, m->config.self);
}

void member_doubled(struct member *m, uint64_t now_us)
{
	m->now_us = now_us;
	clone_sign(m, m->config.self);
}
