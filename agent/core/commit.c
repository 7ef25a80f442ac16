/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * commit.c - no IKE message leaves before what it implies is where it will be needed.
 *
 * The member that needs it is the one that would own the IKE SA's bucket if we were gone. It has to
 * have the record, and the SAs and policies that the record names, which come from our kernel in
 * their own time. When all has been put into its stream it is enough to look how far that is
 * acknowledged.
 */
#include <stdlib.h>
#include <string.h>

#include "core/state.h"

static uint16_t bucket_of(const struct member *m, const struct ike *r)
{
	bool initiator = r->head.flags & IKE_INITIATOR;
	uint64_t i = initiator ? r->head.own : r->head.peer;
	uint64_t responder = initiator ? r->head.peer : r->head.own;

	return (uint16_t)espalier_ike_bucket(i, responder, !initiator, m->config.hash);
}

uint8_t member_ike_owner(const struct member *m, const struct ike *r)
{
	return m->owner[bucket_of(m, r)];
}

/* What is to be told to our daemon, and in this order. */
void commit_tell(struct member *m, struct ike *r, enum ike_tell what)
{
	struct holder *h = &m->holder;

	if (h->daemon == DAEMON_NONE)
		return;
	if (what & (IKE_TELL_DROP | IKE_TELL_GIVE))
		r->tell = 0;
	r->tell |= (uint8_t)what;
	if (r->telling)
		return;
	r->telling = true;
	r->tell_next = TABLE_NONE;
	if (h->tell_first == TABLE_NONE)
		h->tell_first = r->slot;
	else
		ike_at(&h->ikes, h->tell_last)->tell_next = r->slot;
	h->tell_last = r->slot;
}

void commit_end(struct member *m, struct ike *r)
{
	uint32_t *link = &m->holder.commit_first;

	if (!r->commit)
		return;
	while (*link != r->slot)
		link = &ike_at(&m->holder.ikes, *link)->commit_next;
	*link = r->commit_next;
	free(r->commit);
	r->commit = NULL;
}

void commit_begin(struct member *m, struct ike *r, const struct ike_child *children, uint16_t n)
{
	struct ike_commit *c = calloc(1, sizeof(*c) + n * sizeof(*children));
	uint64_t since_us = r->commit ? r->commit->since_us : m->now_us;

	commit_end(m, r);
	if (!c)
		return; /* as if it were never acknowledged */
	c->since_us = since_us;
	c->to = ESPALIER_NOBODY;
	c->count = n;
	if (n)
		memcpy(c->children, children, n * sizeof(*children));
	r->commit = c;
	r->commit_next = m->holder.commit_first;
	m->holder.commit_first = r->slot;
}

static struct record *sa_of(
	const struct member *m, const struct ike_child *c, __be32 spi, const uint8_t addr[16])
{
	struct record_key key = {
		.kind = RECORD_SA, .proto = c->protocol, .family = c->family, .spi = spi};

	memcpy(key.addr, addr, sizeof(key.addr));
	return table_spi_next(&m->table, &key, NULL);
}

/* Has it been put into the stream, or has to be there first? again: put it there once more. */
static bool is_sent(struct member *m, struct record *r, uint8_t to, bool again)
{
	if (r && again)
		outbox_mark_for(m, r, to);
	return r && !(r->dirty & member_bit(to));
}

static bool policies_sent(
	struct member *m, const struct record *sa, unsigned int least, uint8_t to, bool again)
{
	unsigned int n = 0;

	if (!sa->facts.pair)
		return true;
	for (struct record *r = table_pair_first(&m->table, sa->facts.pair); r;
		r = table_pair_next(&m->table, r)) {
		if (r->key.kind != RECORD_POLICY)
			continue;
		if (!is_sent(m, r, to, again))
			return false;
		n++;
	}
	return n >= least;
}

static bool child_sent(struct member *m, const struct ike_child *c, uint8_t to, bool again)
{
	struct record *in = c->spi_in ? sa_of(m, c, c->spi_in, c->local) : NULL;
	struct record *out = c->spi_out ? sa_of(m, c, c->spi_out, c->remote) : NULL;
	bool sent = true;

	if (c->spi_in)
		sent &= is_sent(m, in, to, again);
	if (c->spi_out)
		sent &= is_sent(m, out, to, again);
	if (!sent || !(in || out))
		return sent;
	return policies_sent(m, in ? in : out, c->policies, to, again);
}

/* again: what was on its way when the stream began anew is not any more. */
static bool all_sent(struct member *m, struct ike *r, uint8_t to, bool again)
{
	const struct ike_commit *c = r->commit;
	bool sent = true;

	if (again)
		outbox_mark_ike_for(m, r, to);
	sent &= !(r->queued & member_bit(to));
	for (uint16_t i = 0; i < c->count; i++)
		sent &= child_sent(m, &c->children[i], to, again);
	return sent;
}

static bool is_committed(struct member *m, struct ike *r)
{
	uint16_t self = member_bit(m->config.self), live = m->view.live;
	struct ike_commit *c = r->commit;
	const struct stream *s;
	bool again;
	uint8_t to;

	if (!(live & self))
		return false; /* it is no longer, or not yet, for us to say */
	if (!(live & (uint16_t)~self))
		return true;
	to = view_owner(live & (uint16_t)~self, m->config.mode, bucket_of(m, r));
	s = &m->others[to].stream;
	again = c->to == to && c->stream != s->id;
	if (c->to != to || again)
		c->sent = false;
	c->to = to;
	c->stream = s->id;
	if (!c->sent) {
		c->sent = all_sent(m, r, to, again);
		c->seq = s->next - 1;
	}
	return c->sent && (int32_t)(s->acked - c->seq) >= 0;
}

/* Whoever takes over may know less than the peer. */
static void overdue(struct member *m, struct ike *r)
{
	r->commit->overdue = true;
	m->holder.counters.overdue++;
	if (r->head.dead)
		return;
	r->head.flags |= IKE_SYNC;
	ike_changed(&m->holder.ikes, r);
	outbox_mark_ike(m, r);
}

static void committed(struct member *m, struct ike *r)
{
	struct ike_counters *c = &m->holder.counters;
	uint64_t hold_us = m->now_us - r->commit->since_us;

	c->commits++;
	c->hold_us += hold_us;
	if (hold_us > c->hold_most_us)
		c->hold_most_us = hold_us;
	r->committed = r->head.version;
	commit_end(m, r);
	commit_tell(m, r, IKE_TELL_COMMITTED);
}

void commit_flush(struct member *m)
{
	uint32_t slot = m->holder.commit_first;

	while (slot != TABLE_NONE) {
		struct ike *r = ike_at(&m->holder.ikes, slot);

		slot = r->commit_next;
		if (is_committed(m, r))
			committed(m, r);
		else if (!r->commit->overdue &&
			 m->now_us >= r->commit->since_us + m->config.commit_us)
			overdue(m, r);
	}
}
