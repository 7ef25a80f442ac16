/* SPDX-License-Identifier: BSD-2-Clause */
/* events_kernel.c - what the kernel says of its SAs and policies, handed to the core: what happens
 * to them, or what is there while audit.c reads it. */
#include <errno.h>
#include <string.h>

#include "agent.h"

static struct record *find_installed(struct agent *a, const struct record_key *key, uint64_t birth)
{
	struct record *r = table_find(member_table(a->member), key);

	/* A policy's birth is 0. */
	return r && record_is_installed(r) && record_is_birth(&r->facts, birth, key) ? r : NULL;
}

/* What the guard has not counted, since it was not there, has been emitted all the same. */
static void read_counter(struct agent *a, const struct record *r, uint64_t oseq)
{
	const struct espalier_counter *counter =
		datapath_counter(a->datapath, r->slot, r->facts.birth);

	if (r->key.kind != RECORD_SA || r->facts.direction != ESPALIER_OUT ||
		oseq <= (counter ? counter->seq : 0))
		return;
	if (a->audit.unguarded)
		member_strayed(a->member, r->slot, oseq);
	else if (member_flow_owner(a->member, r) == a->config.id)
		member_counter(a->member, r->slot, oseq);
}

static bool has_changed(const struct record *r, const struct xfrm_record *record)
{
	if (r->key.kind == RECORD_SA)
		return r->form_done != record->facts.form;
	return r->body_len != record->body_len ||
	       memcmp(r->body, record->body, record->body_len) != 0;
}

/* What the audit reads. It may have waited to be read, and have changed since, or be gone: so what
 * is new in it is asked for. */
static void read_record(struct agent *a, const struct xfrm_record *record)
{
	struct record *r = find_installed(a, &record->key, record->facts.birth);

	if (!r || has_changed(r, record)) {
		a->audit.reading = false;
		(void)xfrm_tell(a->xfrm, &record->key);
		a->audit.reading = true;
		r = find_installed(a, &record->key, record->facts.birth);
	}
	if (!r)
		return;
	a->audit.seen[r->slot / AUDIT_BITS] |= 1ULL << r->slot % AUDIT_BITS;
	read_counter(a, r, record->oseq);
}

/* No member can have it, and no earlier life of ours: it was made here, and has left no block. */
static bool is_new(const struct agent *a, const struct xfrm_record *record)
{
	return a->local.started && record->made_s > a->local.started_s &&
	       record->oseq >> a->config.block_bits == 0;
}

static void on_added(void *ctx, const struct xfrm_record *record)
{
	struct agent *a = ctx;
	struct member_record kernel = {
		.key = record->key,
		.facts = record->facts,
		.oseq = record->oseq,
		.seq = record->seq,
		.made_s = record->made_s,
		.body = record->body,
		.body_len = record->body_len,
	};

	if (a->audit.reading) {
		read_record(a, record);
		return;
	}
	if (local_stays(a, &record->key)) {
		local_told(a, &record->key, &record->facts, local_no_room);
		return;
	}
	local_gone(a, &record->key); /* it is like others now */
	if (!member_added(a->member, &kernel) && record->key.kind == RECORD_SA && is_new(a, record))
		local_told(a, &record->key, &record->facts, local_no_room);
}

static void on_removed(void *ctx, const struct record_key *key)
{
	struct agent *a = ctx;

	local_gone(a, key);
	local_policy_gone(a, key);
	member_removed(a->member, key);
}

bool events_kernel_has(struct agent *a, const struct record_key *key)
{
	uint8_t body[RECORD_BODY_MAX];
	int r = xfrm_read(a->xfrm, key, body, sizeof(body));

	explicit_bzero(body, sizeof(body));
	return r != -ENOENT;
}

static void on_local(
	void *ctx, const struct record_key *key, const struct record_facts *facts, const char *why)
{
	struct agent *a = ctx;
	const struct record *r = table_find(member_table(a->member), key);

	if (a->audit.reading && !events_kernel_has(a, key))
		return;
	/* A copy that we made ourselves is none, though its keys cannot be read. */
	if (why != xfrm_keys_hidden || !r || !record_is_installed(r))
		local_told(a, key, facts, why);
}

static void on_stays(void *ctx, const struct record_key *key, const char *text, const char *why)
{
	local_policy_told(ctx, key, text, why);
}

static void on_flushed(void *ctx, enum record_kind kind)
{
	struct agent *a = ctx;

	agent_say("somebody flushed the kernel's %s: those that were made here have ended, the "
		  "others "
		  "are put back, as long as another member has them",
		kind == RECORD_SA ? "SAs" : "policies");
	a->audit.flushed = true;
	a->audit.events_lost = true; /* some may have been made again since */
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
	counter = datapath_counter(a->datapath, r->slot, r->facts.birth);
	if (counter && seq > counter->seq)
		counter->seq = seq;
}

static void on_overrun(void *ctx)
{
	struct agent *a = ctx;

	a->audit.events_lost = true;
}

static void on_changed(void *ctx)
{
	struct agent *a = ctx;

	a->audit.asked = true;
}

#define FOLLOWS 64 /* records of a pair, at most */
#define UNFOLLOWED_EVERY_US 10000000

/*
 * The peer is elsewhere. On the creator an IKE daemon is told, too, and acts; where the SA was
 * taken over there may be none.
 */
static void on_mapping(
	void *ctx, const struct record_key *key, const struct xfrm_place_change *change)
{
	struct agent *a = ctx;
	const struct table *t = member_table(a->member);
	const struct record *sa = table_find(t, key);
	struct record_key keys[FOLLOWS];
	unsigned int n = 0, followed = 0;

	if (!sa || !record_is_installed(sa) || sa->creator == a->config.id ||
		member_flow_owner(a->member, sa) != a->config.id)
		return;
	for (const struct record *r = table_pair_first(t, sa->facts.pair); r && n < FOLLOWS;
		r = table_pair_next(t, r))
		if (r->life == RECORD_ALIVE && record_is_installed(r) && !record_is_shared_sa(r))
			keys[n++] = r->key;
	for (unsigned int i = 0; i < n; i++)
		followed += xfrm_follow(a->xfrm, &keys[i], change) == 0;
	/* Each packet tells it, as long as nothing follows. */
	if (!followed && agent_now_us() < a->unfollowed_us + UNFOLLOWED_EVERY_US)
		return;
	if (!followed)
		a->unfollowed_us = agent_now_us();
	agent_say("the peer of %s has another address or port: %u SAs and policies follow it",
		agent_name(key), followed);
}

const struct xfrm_handlers events_xfrm = {
	.added = on_added,
	.removed = on_removed,
	.flushed = on_flushed,
	.counters = on_counters,
	.overrun = on_overrun,
	.changed = on_changed,
	.mapping = on_mapping,
	.local = on_local,
	.stays = on_stays,
};

void events_kernel(struct agent *a)
{
	int r = xfrm_process(a->xfrm);

	if (r < 0)
		agent_say("kernel events: %s", strerror(-r));
}
