/* SPDX-License-Identifier: BSD-2-Clause */
/* events.c - what happens, handed to the core: kernel events, datagrams, links, positions, the
 * journal. */
#include <stdlib.h>
#include <string.h>

#include "agent.h"

/* Kernel events. */

static struct record *find_installed(struct agent *a, const struct record_key *key, uint64_t birth)
{
	struct record *r = table_find(member_table(a->member), key);

	return r && r->known && r->alive && r->installed && r->facts.birth == birth ? r : NULL;
}

static void on_added(void *ctx, const struct xfrm_record *record)
{
	struct agent *a = ctx;
	struct member_record kernel = {
		.key = record->key,
		.facts = record->facts,
		.oseq = record->oseq,
		.body = record->body,
		.body_len = record->body_len,
	};
	struct record *r = find_installed(a, &record->key, record->facts.birth);

	if (r && a->seen)
		a->seen[r->slot] = 1;
	if (r && a->seen && r->key.kind == RECORD_SA)
		return; /* read again, and nothing new */
	member_added(a->member, &kernel);
	r = table_find(member_table(a->member), &record->key);
	if (r && a->seen)
		a->seen[r->slot] = 1;
}

static void on_removed(void *ctx, const struct record_key *key)
{
	struct agent *a = ctx;

	member_removed(a->member, key);
}

static void on_flushed(void *ctx, enum record_kind kind)
{
	struct agent *a = ctx;

	agent_say("somebody flushed the kernel's %s", kind == RECORD_SA ? "SAs" : "policies");
	a->resync = true; /* what we installed since the flush is there all the same */
}

/* Async events: only where fexit cannot count. */
static void on_counters(void *ctx, const struct record_key *key, uint64_t oseq, uint64_t seq)
{
	struct agent *a = ctx;
	const struct record *r = table_find(member_table(a->member), key);
	struct espalier_counter *counter;

	(void)oseq; /* the guard counts what goes out */
	if (!r || r->facts.direction != ESPALIER_IN)
		return;
	counter = &datapath_counters(a->datapath)[r->slot];
	if (seq > counter->seq)
		counter->seq = seq;
}

static void on_overrun(void *ctx)
{
	struct agent *a = ctx;

	a->resync = true;
}

const struct xfrm_handlers events_xfrm = {
	.added = on_added,
	.removed = on_removed,
	.flushed = on_flushed,
	.counters = on_counters,
	.overrun = on_overrun,
};

static void report(const char *what, int r)
{
	if (r < 0)
		agent_say("%s: %s", what, strerror(-r));
}

/* Events were lost: what is there is told again, what is not there any more is found by its
 * absence. */
void events_resync(struct agent *a)
{
	const struct table *table = member_table(a->member);

	a->resync = false;
	agent_say("reading the kernel's SAs and policies again");
	a->seen = calloc(table->capacity, 1);
	if (!a->seen)
		return;
	report("reading SAs and policies", xfrm_dump(a->xfrm));
	for (uint32_t slot = 0; slot < table->high; slot++) {
		const struct record *r = table_at(table, slot);

		if (r && r->known && r->alive && r->installed && !a->seen[slot])
			member_removed(a->member, &r->key);
	}
	free(a->seen);
	a->seen = NULL;
}

void events_kernel(struct agent *a)
{
	report("kernel events", xfrm_process(a->xfrm));
}

/* Other events. */

void events_datagram(void *ctx, uint8_t from, const void *buf, size_t len)
{
	struct agent *a = ctx;

	member_datagram(a->member, from, buf, len, agent_now_ns() / 1000);
}

static bool side_down(const struct agent *a, enum datapath_side side)
{
	return a->ifindex[side] && !a->links[side].up;
}

void events_link(void *ctx, const struct link_state *state)
{
	struct agent *a = ctx;

	for (unsigned int side = 0; side < DATAPATH_SIDES; side++) {
		if (a->ifindex[side] != state->ifindex)
			continue;
		if (a->member && a->links[side].up != state->up)
			agent_say("interface %u is %s", state->ifindex, state->up ? "up" : "down");
		a->links[side] = *state;
	}
	if (a->member)
		member_link(a->member, !side_down(a, DATAPATH_OUTER) &&
					       !side_down(a, DATAPATH_INNER) && !a->journal_failed);
}

void events_wake(void *ctx, const struct espalier_event *event)
{
	struct agent *a = ctx;
	const struct record *r = table_at(member_table(a->member), event->slot);
	uint64_t oseq, seq;

	if (event->kind == ESPALIER_BLOCK_LOW)
		member_position(a->member, event->slot, event->seq);
	else if (event->kind == ESPALIER_BLOCK_OUT && r && r->installed &&
		 xfrm_counters(a->xfrm, &r->key, &oseq, &seq) == 0)
		member_counter(a->member, event->slot, oseq);
}

void events_positions(struct agent *a)
{
	const struct espalier_counter *counters = datapath_counters(a->datapath);
	uint32_t high = member_table(a->member)->high;

	for (uint32_t slot = 0; slot < high; slot++) {
		uint64_t seq = counters[slot].seq;

		if (seq == a->positions[slot])
			continue;
		a->positions[slot] = seq;
		member_position(a->member, slot, seq);
	}
}

void events_journal(struct agent *a)
{
	uint64_t done = 0;

	if (journal_process(a->journal, &done) < 0 && !a->journal_failed) {
		a->journal_failed = true;
		agent_say("%s; this member gives its buckets away", journal_error(a->journal));
		member_link(a->member, false);
	}
	member_committed(a->member, done);
}
