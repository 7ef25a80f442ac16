/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * claim.c - members that are there and do not take part with us: their key, their settings or their
 * protocol are others, or nothing gets through. Neither side has the other's records.
 *
 * One that serves goes on, as in a split brain. One that starts beside it would answer ARP for the
 * cluster addresses and lack the SAs. So each tells what it is (enum member_claim), and who starts
 * does not as long as a stranger's claim is better than its own, and nobody serves whom it could
 * join. To serve is better than to hold SAs, and that than to be there; of two alike the lower id's
 * is better. Among those who wait for each other one has the best claim: that one starts.
 *
 * A claim need not be authentic, and cannot be where the keys differ. All that a forged one does is
 * to keep a member that nobody agrees with from starting.
 */
#include "core/state.h"

#define UNABLE (WIRE_LINK_DOWN | WIRE_LEAVING | WIRE_DRAINED)

static enum member_claim judge(uint16_t flags, bool in_view, uint32_t records)
{
	if (flags & UNABLE)
		return CLAIM_NONE;
	return in_view ? CLAIM_SERVES : records ? CLAIM_HOLDS : CLAIM_THERE;
}

enum member_claim member_claim(const struct member *m)
{
	uint16_t self = member_bit(m->config.self);

	if (m->doubled & self)
		return CLAIM_NONE;
	return judge(m->flags, m->view.live & self, m->table.present);
}

void claim_heard(struct member *m, uint8_t from, const struct wire_heartbeat *h)
{
	member_claims(
		m, from, judge(h->flags, h->view.live & member_bit(from), h->records), m->now_us);
}

void member_claims(struct member *m, uint8_t id, enum member_claim claim, uint64_t now_us)
{
	m->claims[id].claim = claim;
	m->claims[id].until_us = now_us + m->config.claim_us;
}

static bool is_joining(const struct member *m)
{
	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++)
		if (m->others[id].alive && m->others[id].heartbeat.view.live & member_bit(id))
			return true;
	return false;
}

uint8_t member_held_back(const struct member *m)
{
	enum member_claim own = member_claim(m);

	if (m->flags & WIRE_STARTED || is_joining(m))
		return ESPALIER_NOBODY;
	for (uint8_t id = 0; id < ESPALIER_MEMBERS; id++) {
		enum member_claim claim = m->claims[id].claim;

		if (m->now_us >= m->claims[id].until_us || m->others[id].alive)
			continue;
		if (claim > own || (claim == own && claim && id < m->config.self))
			return id;
	}
	return ESPALIER_NOBODY;
}
