/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * member.c - a member's life: start, kernel events, heartbeats, views and takeover.
 */
#include "core/member.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "core/member_state.h"

#define REAP_SLOTS 1024 /* looked at in one tick */

static uint16_t bit(unsigned int id)
{
	return (uint16_t)(1U << id);
}

int member_new(const struct member_config *config, const struct member_ops *ops, void *ctx,
	uint64_t now_us, struct member **ret)
{
	struct member *m;
	int error;

	if (config->self >= ESPALIER_MEMBERS || !(config->members >> config->self & 1) ||
		config->journal == 0 || config->journal == RECORD_JOURNAL_DISPUTED ||
		config->life == 0 || config->heartbeat_us == 0 || config->dead == 0 ||
		config->block_bits < 1 || config->block_bits > 24)
		return -EINVAL;
	m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	m->config = *config;
	m->ops = ops;
	m->ctx = ctx;
	m->rule = (struct block_rule){
		.self = config->self,
		.modulus = block_modulus((uint8_t)(31 - __builtin_clz(config->members))),
		.bits = config->block_bits,
	};
	m->now_us = m->ticked_us = m->started_us = now_us;
	m->view.publisher = config->self;
	m->journals[config->self] = config->journal;
	m->sweep = TABLE_NONE;
	memset(m->owner, ESPALIER_NOBODY, sizeof(m->owner));
	error = table_init(&m->table, config->capacity);
	if (error < 0) {
		free(m);
		return error;
	}
	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++)
		stream_init(&m->others[id].stream, (uint64_t)config->life << 32 | 1,
			4 * config->heartbeat_us);
	*ret = m;
	return 0;
}

void member_free(struct member *m)
{
	if (!m)
		return;
	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++) {
		stream_free(&m->others[id].stream);
		free(m->others[id].queue.slots);
	}
	for (uint32_t i = 0; i < m->entering_count; i++) {
		struct entering *e = &m->entering[(m->entering_head + i) % m->entering_size];

		if (e->body)
			explicit_bzero(e->body, e->body_len);
		free(e->body);
	}
	free(m->entering);
	table_free(&m->table);
	free(m);
}

/* Start. */

void member_restore(struct member *m, const struct record_key *key, uint64_t birth, uint64_t block,
	bool durable)
{
	struct record *r = table_find(&m->table, key);
	uint64_t *upto;

	if (!r)
		r = table_add(&m->table, key);
	if (!r)
		return;
	upto = &r->upto[m->config.self];
	if (r->facts.birth != birth)
		*upto = 0; /* the later word is the present SA's */
	r->facts.birth = birth;
	if (*upto < block + 1) {
		*upto = block + 1;
		if (!durable) {
			m->ops->journal(m->ctx, key, birth, block);
			m->tickets++;
		}
	}
	r->journaled = true;
	r->died_us = m->now_us;
}

void member_started(struct member *m)
{
	m->started_us = m->now_us;
}

/* Kernel events. */

static void set_bucket(struct member *m, struct record *r, uint16_t bucket, bool paired)
{
	if (r->bucket == bucket && r->paired == paired)
		return;
	r->bucket = bucket;
	r->paired = paired;
	r->version++;
	r->author = m->config.self;
	table_changed(&m->table, r);
	replica_mark(m, r);
	if (r->installed)
		sequence_guard(m, r);
}

static struct record *pair_sa(
	const struct member *m, uint64_t pair, enum espalier_direction direction)
{
	struct record *r;

	for (r = table_pair_first(&m->table, pair); r; r = table_pair_next(&m->table, r))
		if (r->key.kind == RECORD_SA && r->alive && r->facts.direction == direction)
			return r;
	return NULL;
}

static uint16_t own_bucket(const struct member *m, const struct record *r)
{
	return (uint16_t)espalier_bucket(__builtin_bswap32(r->key.spi), m->config.hash);
}

/* Both SAs of a Child SA go to one member: the outbound one takes the bucket of the inbound one. */
static void choose_bucket(struct member *m, struct record *r)
{
	struct record *other;

	if (r->facts.direction == ESPALIER_IN) {
		set_bucket(m, r, own_bucket(m, r), false);
		other = pair_sa(m, r->facts.pair, ESPALIER_OUT);
		if (other && !other->paired)
			set_bucket(m, other, r->bucket, true);
		return;
	}
	other = pair_sa(m, r->facts.pair, ESPALIER_IN);
	set_bucket(m, r, other ? other->bucket : own_bucket(m, r), other != NULL);
}

static bool remote_selector(const struct record *r)
{
	return r->key.kind == RECORD_POLICY && r->facts.direction == ESPALIER_OUT &&
	       r->facts.remote.prefixlen;
}

static void set_selector(struct member *m, struct record *r, const struct record *sa)
{
	if (!r->alive || !sa) {
		if (r->selector_set)
			m->ops->selector(m->ctx, &r->facts.remote, -1);
		r->selector_set = false;
	} else if (!r->selector_set || r->selector_bucket != sa->bucket) {
		m->ops->selector(m->ctx, &r->facts.remote, sa->bucket);
		r->selector_set = true;
		r->selector_bucket = sa->bucket;
	}
}

void member_apply_pair(struct member *m, uint64_t pair)
{
	const struct record *sa = pair_sa(m, pair, ESPALIER_OUT);
	struct record *r;

	for (r = table_pair_first(&m->table, pair); r; r = table_pair_next(&m->table, r))
		if (remote_selector(r))
			set_selector(m, r, sa);
}

void member_died(struct member *m, struct record *r)
{
	if (r->key.kind == RECORD_SA)
		m->ops->guard(m->ctx, &r->key, NULL);
	r->alive = false;
	sequence_reset(m, r);
	free(r->body);
	r->body = NULL;
	r->body_len = 0;
	r->died_us = m->now_us;
	table_changed(&m->table, r);
}

static void added_policy(struct member *m, struct record *r, const struct member_record *record)
{
	uint64_t old_pair = r->facts.pair;

	if (r->known && r->alive && r->installed && r->body_len == record->body_len &&
		memcmp(r->body, record->body, record->body_len) == 0)
		return;
	if (table_set_body(r, record->body, record->body_len) < 0)
		return;
	r->known = r->alive = r->installed = true;
	r->version++;
	r->author = m->config.self;
	table_set_facts(&m->table, r, &record->facts);
	table_changed(&m->table, r);
	replica_mark(m, r);
	member_apply_pair(m, old_pair);
}

/* An SA that only our journal knows, or nobody. */
static void adopt_sa(struct member *m, struct record *r, const struct member_record *record)
{
	bool journaled = r->journaled && r->facts.birth == record->facts.birth;
	uint8_t self = m->config.self;

	if (!journaled) {
		memset(r->upto, 0, sizeof(r->upto));
		memset(r->journals, 0, sizeof(r->journals));
		r->top = r->seq = 0;
		sequence_reset(m, r);
	}
	r->known = r->alive = true;
	r->version++;
	r->author = self;
	r->creator = ESPALIER_NOBODY;
	table_set_facts(&m->table, r, &record->facts);
	/* Copies never stand in block 0: who has one that does, created it. */
	if (block_of(&m->rule, record->oseq) == 0 || r->facts.direction == ESPALIER_IN)
		r->creator = self;
	if (!journaled && r->creator == self) {
		r->created_here = true;
		memcpy(r->journals, m->journals, sizeof(r->journals));
		r->top = 1;
	}
	sequence_bar(m, r);
	choose_bucket(m, r);
	sequence_adopt(m, r, record->oseq);
	replica_mark(m, r);
}

static void added_sa(struct member *m, struct record *r, const struct member_record *record)
{
	if (!r->known || (r->facts.birth != record->facts.birth)) {
		adopt_sa(m, r, record);
	} else if (!r->alive) {
		/* The keys of an SA that has ended: its numbers must not come again. The guard
		 * stays shut. */
		table_set_facts(&m->table, r, &record->facts);
		sequence_guard(m, r);
		m->counters.refused++;
	} else if (!r->installed) {
		sequence_adopt(m, r, record->oseq);
	} else {
		r->version++; /* changed: lifetimes, encapsulation */
		r->author = m->config.self;
		table_set_facts(&m->table, r, &record->facts);
		table_changed(&m->table, r);
		replica_mark(m, r);
	}
}

void member_added(struct member *m, const struct member_record *record)
{
	struct record *r = table_find(&m->table, &record->key);

	if (record->body_len > RECORD_BODY_MAX)
		return;
	if (!r)
		r = table_add(&m->table, &record->key);
	if (!r) {
		m->counters.refused++;
		return;
	}
	if (record->key.kind == RECORD_POLICY)
		added_policy(m, r, record);
	else
		added_sa(m, r, record);
	member_apply_pair(m, r->facts.pair);
}

void member_removed(struct member *m, const struct record_key *key)
{
	struct record *r = table_find(&m->table, key);

	if (!r || !r->known || !r->alive || !r->installed)
		return;
	if (r->key.kind == RECORD_SA && m->owner[r->bucket] != m->config.self &&
		r->creator != m->config.self) {
		/* A copy was taken away behind our back. The next comparison brings it again. */
		bool journaled = r->journaled;

		sequence_reset(m, r);
		r->journaled = journaled;
		sequence_bar(m, r);
		sequence_guard(m, r);
		table_changed(&m->table, r);
		return;
	}
	r->version++;
	r->author = m->config.self;
	member_died(m, r);
	replica_mark(m, r);
	member_apply_pair(m, r->facts.pair);
}

void member_flushed(struct member *m, enum record_kind kind)
{
	for (uint32_t slot = 0; slot < m->table.high; slot++) {
		struct record *r = table_at(&m->table, slot);

		if (r && r->key.kind == kind)
			member_removed(m, &r->key);
	}
}

static void set_flag(struct member *m, enum wire_flags flag, bool on)
{
	m->flags = (uint8_t)(on ? m->flags | flag : m->flags & ~flag);
}

void member_link(struct member *m, bool up)
{
	set_flag(m, WIRE_LINK_DOWN, !up);
}

void member_leave(struct member *m)
{
	set_flag(m, WIRE_LEAVING, true);
	m->heartbeat_due_us = 0;
}

/* Views. */

static uint8_t flags_of(const struct member *m, unsigned int id)
{
	return id == m->config.self ? m->flags : m->others[id].heartbeat.flags;
}

/* Members that we hear and agree with, ourselves among them. */
static uint16_t alive(const struct member *m)
{
	uint16_t set = bit(m->config.self);

	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++)
		if (m->others[id].alive)
			set |= bit(id);
	return set;
}

/* Those that can own buckets. A member whose journal was lost owns some only if nobody else can. */
static uint16_t eligible(const struct member *m)
{
	uint16_t able = 0, barred = 0;

	for (uint16_t set = alive(m); set; set &= (uint16_t)(set - 1)) {
		unsigned int id = view_lowest(set);
		uint8_t flags = flags_of(m, id);

		if (!(flags & WIRE_STARTED) || flags & (WIRE_LINK_DOWN | WIRE_LEAVING))
			continue;
		if (flags & WIRE_BARRED)
			barred |= bit(id);
		else
			able |= bit(id);
	}
	return able ? able : barred;
}

/* Whose records a member has. */
static uint16_t synced_of(const struct member *m, unsigned int id)
{
	return bit(id) | (id == m->config.self ? m->synced : m->others[id].heartbeat.synced);
}

/* Members that are in the view that they follow themselves. */
static uint16_t seated(const struct member *m)
{
	uint16_t set = 0;

	for (uint16_t all = alive(m); all; all &= (uint16_t)(all - 1)) {
		unsigned int id = view_lowest(all);
		const struct view *v =
			id == m->config.self ? &m->view : &m->others[id].heartbeat.view;

		if (v->live >> id & 1)
			set |= bit(id);
	}
	return set;
}

/* Who publishes: the lowest live member of a view; at the very start, the lowest that is there. */
static uint8_t publisher(const struct member *m)
{
	uint16_t in_views = seated(m);

	return view_lowest(in_views ? in_views : eligible(m));
}

/* Who should be in the view: those who are and can be; others as soon as all have each other's
 * records. */
static uint16_t wanted(const struct member *m)
{
	uint16_t can = eligible(m), set = m->view.live & can;

	for (uint16_t more = can & (uint16_t)~set; more; more &= (uint16_t)(more - 1)) {
		unsigned int id = view_lowest(more);
		bool both = (synced_of(m, id) & set) == set;

		for (uint16_t in = set; in; in &= (uint16_t)(in - 1))
			both &= synced_of(m, view_lowest(in)) >> id & 1;
		if (both)
			set |= bit(id);
	}
	return set;
}

static void flip(struct member *m, const struct view *view)
{
	uint16_t gone = m->view.live & (uint16_t)~view->live;
	bool changed = m->view.live != view->live;

	m->view = *view;
	if (!changed)
		return;
	for (unsigned int bucket = 0; bucket < ESPALIER_BUCKETS; bucket++)
		m->owner[bucket] = view_owner(view->live, m->config.mode, (uint16_t)bucket);
	m->ops->publish(m->ctx, &m->view, view_lowest(view->live), m->owner);
	if (gone & (uint16_t)~bit(m->config.self))
		m->counters.takeovers++;
	m->sweep = 0; /* behind the flip, a bounded number of SAs at a time */
	m->heartbeat_due_us = 0;
}

static void set_macs(struct member *m, unsigned int id)
{
	struct other *o = &m->others[id];
	struct espalier_member macs = o->heartbeat.macs;

	macs.next_hop = o->alive && o->hears_us;
	if (memcmp(&o->macs, &macs, sizeof(macs)) == 0)
		return;
	o->macs = macs;
	m->ops->macs(m->ctx, (uint8_t)id, &macs);
}

static void suspect(struct member *m, unsigned int id)
{
	struct view view = m->view;

	m->others[id].alive = m->others[id].hears_us = false;
	set_macs(m, id);
	m->synced &= (uint16_t)~bit(id);
	view.live &= (uint16_t)~bit(id);
	if (view.live)
		flip(m, &view);
}

static void watch(struct member *m)
{
	uint64_t dead_us = m->config.heartbeat_us * m->config.dead;

	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++)
		if (m->others[id].alive && m->now_us > m->others[id].heard_us + dead_us)
			suspect(m, id);
}

static void publish(struct member *m)
{
	struct view view = {.epoch = m->view.epoch, .live = wanted(m), .publisher = m->config.self};
	bool overtaken = false;

	if (!(m->flags & WIRE_STARTED) || publisher(m) != m->config.self)
		return;
	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++) {
		const struct other *o = &m->others[id];

		if (o->alive && o->heartbeat.view.epoch > view.epoch) {
			view.epoch = o->heartbeat.view.epoch;
			overtaken = true;
		}
	}
	if (!view.live || (seated(m) & eligible(m) & (uint16_t)~view.live))
		return; /* nobody can, or somebody with a view of its own has not caught up yet */
	if (view.live == m->view.live && m->view.publisher == m->config.self && !overtaken)
		return;
	view.epoch++;
	flip(m, &view);
}

static void adopt(struct member *m, uint8_t from)
{
	const struct view *heard = &m->others[from].heartbeat.view;

	if (heard->publisher != from || !view_newer(heard, &m->view) || !heard->live)
		return;
	if (from == publisher(m) || !(m->view.live & alive(m)))
		flip(m, heard);
}

/* Time. */

static void heartbeat(struct member *m)
{
	struct wire_heartbeat h = {
		.settings = m->config.settings,
		.journal = m->config.journal,
		.synced = m->synced,
		.flags = m->flags,
		.view = m->view,
		.macs = m->config.macs,
	};
	uint8_t payload[64];
	struct writer w = {.at = payload, .end = payload + sizeof(payload)};

	m->heartbeat_due_us = m->now_us + m->config.heartbeat_us;
	wire_put_heartbeat(&w, &h);
	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++)
		if (member_is_other(m, id))
			replica_send(m, (uint8_t)id, 0, payload, (size_t)(w.at - payload));
}

static void wake_up(struct member *m)
{
	uint64_t dead_us = m->config.heartbeat_us * m->config.dead;
	struct view view = m->view;

	/* We were not run for so long that the others have taken us out: we are the one that must
	 * catch up. */
	m->counters.slept++;
	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++) {
		m->others[id].hears_us = false; /* it may have restarted meanwhile */
		set_macs(m, id);
		if (m->others[id].alive)
			m->others[id].heard_us = m->now_us;
	}
	if (!(alive(m) & (uint16_t)~bit(m->config.self)) || m->now_us - m->ticked_us <= dead_us)
		return;
	m->synced = 0;
	view.live &= (uint16_t)~bit(m->config.self);
	if (view.live)
		flip(m, &view);
}

static void start(struct member *m)
{
	uint64_t wait_us = 4 * m->config.heartbeat_us * m->config.dead;

	if (m->flags & WIRE_STARTED || m->now_us < m->started_us + wait_us)
		return;
	set_flag(m, WIRE_STARTED, true);
}

/*
 * Dead records, and journal entries that nobody spoke of, are forgotten after a while, but not as
 * long as a member is away: it could bring the SA back, and we would not know any more which blocks
 * of it we entered.
 */
static void reap(struct member *m)
{
	bool all_here = (m->synced | bit(m->config.self)) == m->config.members;

	for (unsigned int i = 0; all_here && i < REAP_SLOTS && i < m->table.high; i++) {
		struct record *r;

		m->reaped = m->reaped < m->table.high ? m->reaped : 0;
		r = table_at(&m->table, m->reaped++);
		if (!r || r->alive || m->now_us < r->died_us + m->config.tombstone_us)
			continue;
		if (r->key.kind == RECORD_SA)
			m->ops->forget(m->ctx, &r->key, r->facts.birth);
		table_drop(&m->table, r);
	}
}

static void compare(struct member *m)
{
	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++) {
		struct other *o = &m->others[id];

		if (o->alive && o->answered == o->asked &&
			(!(m->synced >> id & 1) || m->now_us >= o->pull_due_us))
			replica_pull(m, (uint8_t)id);
	}
}

void member_tick(struct member *m, uint64_t now_us)
{
	m->now_us = now_us;
	if (now_us - m->ticked_us > m->config.heartbeat_us * m->config.dead / 2)
		wake_up(m);
	m->ticked_us = now_us;
	start(m);
	set_flag(m, WIRE_BARRED, m->barred > 0);
	watch(m);
	publish(m);
	if (now_us >= m->heartbeat_due_us)
		heartbeat(m);
	compare(m);
	if (m->sweep != TABLE_NONE)
		sequence_sweep(m);
	reap(m);
	member_flush(m, now_us);
}

void member_flush(struct member *m, uint64_t now_us)
{
	m->now_us = now_us;
	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++)
		if (member_is_other(m, id))
			replica_flush(m, (uint8_t)id);
}

/* Datagrams. */

static void hear_heartbeat(struct member *m, uint8_t from, const struct wire_heartbeat *h)
{
	struct other *o = &m->others[from];

	o->differs = h->settings != m->config.settings;
	if (o->differs)
		return;
	o->heartbeat = *h;
	o->heard_us = m->now_us;
	if (!o->alive) {
		o->alive = true;
		m->synced &= (uint16_t)~bit(from);
		replica_pull(m, from); /* not answered by what was asked before we lost it */
	}
	set_macs(m, from);
	if (m->journals[from] != h->journal) {
		m->journals[from] = h->journal;
		m->sweep = 0;
	}
	adopt(m, from);
}

static void messages(
	struct member *m, uint8_t from, const uint8_t *payload, size_t len, bool in_stream)
{
	struct reader r = {.at = payload, .end = payload + len};
	struct wire_message message;
	int n;

	while ((n = wire_get(&r, &message)) > 0) {
		if (in_stream != (message.kind != WIRE_HEARTBEAT))
			continue;
		if (message.kind == WIRE_HEARTBEAT)
			hear_heartbeat(m, from, &message.heartbeat);
		else
			replica_message(m, from, &message);
	}
	if (n < 0)
		m->counters.malformed++;
}

void member_datagram(
	struct member *m, uint8_t from, const void *datagram, size_t len, uint64_t now_us)
{
	struct reader r = {.at = datagram, .end = (const uint8_t *)datagram + len};
	struct other *o = &m->others[from < ESPALIER_MEMBERS ? from : 0];
	struct wire_header h;
	const uint8_t *payload;

	m->now_us = now_us;
	if (wire_get_header(&r, &h) < 0 || !member_is_other(m, from) || h.from != from ||
		h.to != m->config.self) {
		m->counters.malformed++;
		return;
	}
	switch (stream_hear(&o->stream, &h)) {
	case STREAM_OLD:
		return;
	case STREAM_NEW_LIFE:
		o->hears_us = false;
		set_macs(m, from);
		replica_forget(m, from);
		/* fallthrough */
	case STREAM_NEW:
		m->synced &= (uint16_t)~bit(from);
		o->answered = o->asked;
		break;
	case STREAM_GOES_ON:
		break;
	}
	o->hears_us = h.ack_stream >> 32 == m->config.life;
	if (h.seq == 0) {
		messages(m, from, r.at, (size_t)(r.end - r.at), false);
		return;
	}
	if (!o->alive)
		return; /* not acknowledged: it comes again when we have heard that it agrees with
			   us */
	stream_arrived(&o->stream, h.seq, r.at, (size_t)(r.end - r.at));
	while ((payload = stream_take(&o->stream, &len))) {
		messages(m, from, payload, len, true);
		stream_taken(&o->stream);
	}
}

/* Looking in. */

const struct table *member_table(const struct member *m)
{
	return &m->table;
}

const struct view *member_view(const struct member *m)
{
	return &m->view;
}

uint8_t member_owner(const struct member *m, uint16_t bucket)
{
	return m->owner[bucket];
}

uint32_t member_barred(const struct member *m)
{
	return m->barred;
}

uint8_t member_flags(const struct member *m)
{
	return m->flags;
}

const struct member_counters *member_counters(const struct member *m)
{
	return &m->counters;
}

void member_other(const struct member *m, uint8_t id, struct member_other *ret)
{
	const struct other *o = &m->others[id];

	*ret = (struct member_other){
		.alive = o->alive,
		.synced = m->synced >> id & 1,
		.settings_differ = o->differs,
		.heard_us = o->heard_us,
		.flags = o->heartbeat.flags,
		.resent = o->stream.resent,
		.queued = o->queue.count,
	};
}
