/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * flow.c - whose an SA's flow is: the same member's for both SAs of a Child SA and for what their
 * policies lead to; told to the datapath as remote selectors and pins. One that may emit nothing of
 * an SA gives its flow to one that may.
 */
#include <string.h>

#include "core/state.h"

#define TOGETHER_S 1 /* the two SAs of a Child SA are made */
#define SWEEP_SLOTS 2048 /* looked at in one call */

/* The outer side steers a pinned SA whether or not our own kernel has it. */
void flow_steer(struct member *m, struct record *r)
{
	bool steered = r->key.kind == RECORD_SA && r->facts.direction == ESPALIER_IN &&
		       r->life == RECORD_ALIVE;
	struct espalier_flow flow = {.bucket = r->bucket, .pinned = steered ? r->pinned : 0};

	if (flow.pinned == r->pin_told)
		return;
	m->pins += !r->pin_told;
	m->pins -= !flow.pinned;
	r->pin_told = flow.pinned;
	m->ops->pin(m->ctx, &r->key, flow.pinned ? &flow : NULL);
}

void flow_unpin(struct member *m, struct record *r)
{
	if (!r->pin_told)
		return;
	m->pins--;
	r->pin_told = 0;
	m->ops->pin(m->ctx, &r->key, NULL);
}

static void set_flow(struct member *m, struct record *r, struct espalier_flow flow, bool paired)
{
	if (r->bucket == flow.bucket && r->pinned == flow.pinned && r->paired == paired)
		return;
	r->bucket = flow.bucket;
	r->pinned = flow.pinned;
	r->paired = paired;
	table_renew(r, m->config.self);
	table_changed(&m->table, r);
	outbox_mark(m, r);
	if (!record_is_installed(r))
		return;
	sequence_guard(m, r);
	sequence_look(m, r);
}

static struct espalier_flow flow_of(const struct record *r)
{
	return (struct espalier_flow){.bucket = r->bucket, .pinned = r->pinned};
}

struct record *flow_pair_sa(
	const struct member *m, uint64_t pair, enum espalier_direction direction)
{
	struct record *r;

	for (r = table_pair_first(&m->table, pair); r; r = table_pair_next(&m->table, r))
		if (r->key.kind == RECORD_SA && r->facts.direction == direction)
			return r;
	return NULL;
}

/* Of several SAs with one reqid our kernel takes the one that its policy names. */
struct record *flow_policy_sa(const struct member *m, const struct record *policy)
{
	uint64_t pair = policy->facts.pair;
	struct record *r;

	for (r = table_pair_first(&m->table, pair); r && policy->facts.spi;
		r = table_pair_next(&m->table, r))
		if (record_is_outbound_sa(r) && r->life == RECORD_ALIVE &&
			r->key.spi == policy->facts.spi)
			return r;
	return flow_pair_sa(m, pair, ESPALIER_OUT);
}

static uint16_t own_bucket(const struct member *m, const struct record *r)
{
	return (uint16_t)espalier_bucket(__builtin_bswap32(r->key.spi), m->config.hash);
}

/* An inbound SA that was made here is ours, though its bucket be another member's: its IKE SA is
 * here, too. Out of the view we own nothing. */
uint8_t flow_own_pin(const struct member *m, const struct record *r)
{
	uint8_t self = m->config.self;
	bool other = m->view.live >> self & 1 && m->owner[own_bucket(m, r)] != self;

	if (record_is_shared_sa(r))
		return 0;
	return r->facts.direction == ESPALIER_IN && other ? self + 1 : 0;
}

static bool is_alike(const struct record *a, const struct record *b)
{
	return a->bucket == b->bucket && a->pinned == b->pinned;
}

/* It is another one's, for sure. */
static bool is_taken(const struct member *m, const struct record *other, const struct record *r)
{
	if (record_is_outbound_sa(other))
		return other->paired;
	for (const struct record *o = table_pair_first(&m->table, other->facts.pair); o;
		o = table_pair_next(&m->table, o))
		if (o != r && record_is_outbound_sa(o) && o->life == RECORD_ALIVE && o->paired &&
			!o->unsure && is_alike(o, other))
			return true;
	return false;
}

/* How much speaks for it that two SAs of a pair are those of one Child SA. */
static unsigned int likeness(
	const struct member *m, const struct record *other, const struct record *r)
{
	uint64_t apart =
		other->made_s > r->made_s ? other->made_s - r->made_s : r->made_s - other->made_s;
	bool marked = other->key.mark == r->key.mark && other->key.mark_mask == r->key.mark_mask;

	return 4U * !is_taken(m, other, r) + 2U * marked + (apart <= TOGETHER_S);
}

/* The other SA of its Child SA. Several may have one reqid. ret_unsure: as well another one. */
static struct record *mate(const struct member *m, const struct record *r, bool *ret_unsure)
{
	uint8_t direction = r->facts.direction == ESPALIER_IN ? ESPALIER_OUT : ESPALIER_IN;
	unsigned int most = 0;
	struct record *best = NULL;

	*ret_unsure = false;
	for (struct record *o = table_pair_first(&m->table, r->facts.pair); o;
		o = table_pair_next(&m->table, o)) {
		unsigned int like;

		if (o->key.kind != RECORD_SA || o->presence == RECORD_LEAVING ||
			o->facts.direction != direction || record_is_shared_sa(o))
			continue;
		like = likeness(m, o, r);
		if (!best || like > most) {
			best = o;
			most = like;
			*ret_unsure = false;
		} else if (like == most && !(direction == ESPALIER_IN && is_alike(o, best))) {
			*ret_unsure = true;
		}
	}
	return best;
}

/* Its numbers are safe with whoever gets it. Those that cannot be told apart go to one member,
 * since our kernel may send through either; but an inbound one may be another member's. */
static void set_unsure(struct member *m, struct record *out, bool unsure)
{
	if (unsure && !out->unsure)
		m->ops->notice(m->ctx, NOTICE_UNSURE, &out->key, m->config.self);
	out->unsure = unsure;
}

/* Both SAs of a Child SA go to one member: the outbound one has the flow of the inbound one. */
void flow_choose(struct member *m, struct record *r)
{
	struct espalier_flow own = {.bucket = own_bucket(m, r), .pinned = r->pinned};
	struct record *other;
	bool unsure;

	if (r->facts.direction == ESPALIER_IN) {
		set_flow(m, r, own, false);
		if (record_is_shared_sa(r))
			return;
		other = mate(m, r, &unsure);
		if (!other || other->paired)
			return;
		set_unsure(m, other, unsure);
		set_flow(m, other, own, true);
		return;
	}
	other = mate(m, r, &unsure);
	/* When a peer moves, the one may do so before the other. */
	if (!other && r->paired)
		return;
	set_unsure(m, r, unsure);
	set_flow(m, r, other ? flow_of(other) : own, other != NULL);
}

/*
 * Which member owns what goes to a remote selector. Of several policies for it (those of two local
 * networks, say) that with the lowest key counts: the same one on all members, in whatever order
 * they came.
 */
static void apply_remote(struct member *m, const struct espalier_selector *remote)
{
	struct record *told = NULL, *counts = NULL;
	struct espalier_flow flow = {0};

	for (struct record *r = table_remote_first(&m->table, remote); r;
		r = table_remote_next(&m->table, r)) {
		const struct record *sa;

		if (r->selector_set)
			told = r;
		if (r->life != RECORD_ALIVE || r->key.kind != RECORD_POLICY ||
			(counts && memcmp(&r->key, &counts->key, sizeof(r->key)) > 0))
			continue;
		sa = flow_policy_sa(m, r);
		if (!sa)
			continue;
		counts = r;
		flow = flow_of(sa);
	}
	if (!counts && told)
		m->ops->selector(m->ctx, remote, NULL);
	else if (counts && (!told || memcmp(&told->selector_flow, &flow, sizeof(flow)) != 0))
		m->ops->selector(m->ctx, remote, &flow);
	if (told)
		told->selector_set = false;
	if (counts) {
		counts->selector_set = true;
		counts->selector_flow = flow;
	}
}

void flow_apply_pair(struct member *m, uint64_t pair)
{
	struct record *r;

	for (r = table_pair_first(&m->table, pair); r; r = table_pair_next(&m->table, r))
		if (r->facts.remote.prefixlen)
			apply_remote(m, &r->facts.remote);
}

void flow_apply(struct member *m, struct record *r)
{
	flow_apply_pair(m, r->facts.pair);
	if (!table_is_linked(r) && r->facts.remote.prefixlen)
		apply_remote(m, &r->facts.remote);
}

/* As far as we know. */
static bool may_emit(const struct member *m, const struct record *r, unsigned int id)
{
	if (id == m->config.self)
		return r->fence == FENCE_NONE;
	return r->creator != RECORD_CREATOR_DISPUTED && r->journals[id] != 0 &&
	       r->journals[id] == m->journals[id];
}

/* One of the view that may emit; ESPALIER_NOBODY: none may. Not the same one for all. */
static uint8_t someone_else(const struct member *m, const struct record *r)
{
	uint8_t able[ESPALIER_MEMBERS], n = 0;

	for (uint8_t id = 0; id < ESPALIER_MEMBERS; id++)
		if (id != m->config.self && m->view.live >> id & 1 && may_emit(m, r, id))
			able[n++] = id;
	return n ? able[r->facts.birth % n] : ESPALIER_NOBODY;
}

/* Its Child SA's flow, that is. */
static void pin_to(struct member *m, const struct record *out, uint8_t id)
{
	const struct espalier_flow before = flow_of(out),
				   flow = {.bucket = out->bucket, .pinned = id + 1};
	uint64_t pair = out->facts.pair;
	struct record *r;

	for (r = table_pair_first(&m->table, pair); r; r = table_pair_next(&m->table, r)) {
		if (r->key.kind != RECORD_SA || record_is_shared_sa(r) ||
			r->bucket != before.bucket || r->pinned != before.pinned)
			continue;
		set_flow(m, r, flow, r->paired);
		flow_steer(m, r);
	}
	flow_apply_pair(m, pair);
}

/* Once for each time that it was refused: whoever gets it may not have it, either. But its creator
 * has. */
static void give_refused(struct member *m, struct record *refused)
{
	struct record *out = flow_pair_sa(m, refused->facts.pair, ESPALIER_OUT);
	uint8_t to;

	if (refused->presence == RECORD_GIVEN_AWAY || !out ||
		member_flow_owner(m, out) != m->config.self)
		return;
	refused->presence = RECORD_GIVEN_AWAY;
	to = out->creator;
	if (to == m->config.self || to >= ESPALIER_MEMBERS || !(m->view.live >> to & 1) ||
		!may_emit(m, out, to))
		to = someone_else(m, out);
	if (to != ESPALIER_NOBODY)
		pin_to(m, out, to);
}

/* Will somebody get buckets who may not have this SA? (Of whom nothing is said it may be, yet.) */
static bool is_wanted_in_vain(const struct member *m, const struct record *r)
{
	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++)
		if (m->others[id].alive && !(m->view.live >> id & 1) && r->journals[id] != 0 &&
			!may_emit(m, r, id))
			return true;
	return false;
}

/* By a pin, somebody has it whom we hear, in another view than ours. If each of two that hold
 * themselves for the owner pinned it anew, both would tell all of it without end. */
static bool is_pinned_elsewhere(const struct member *m, const struct record *r)
{
	unsigned int id = r->pinned - 1U;

	return id < ESPALIER_MEMBERS && id != m->config.self && m->others[id].alive &&
	       m->others[id].heartbeat.view.live >> id & 1 && may_emit(m, r, id);
}

void flow_look(struct member *m, struct record *r)
{
	uint8_t self = m->config.self, to = self;

	sequence_look(m, r);
	if (r->life != RECORD_ALIVE || r->key.kind != RECORD_SA || !table_is_linked(r) ||
		(member_flow_owner(m, r) != self && !record_is_shared_sa(r)))
		return;
	if (record_is_refused(r)) {
		give_refused(m, r);
		return;
	}
	if (!record_is_outbound_sa(r))
		return;
	if (is_pinned_elsewhere(m, r))
		return;
	if (!may_emit(m, r, self))
		to = someone_else(m, r);
	else if (r->pinned == self + 1 || !is_wanted_in_vain(m, r))
		return;
	if (to != ESPALIER_NOBODY)
		pin_to(m, r, to);
}

static void sweep(struct member *m)
{
	for (unsigned int i = 0; i < SWEEP_SLOTS && m->sweep < m->table.high; i++, m->sweep++) {
		struct record *r = table_at(&m->table, m->sweep);

		if (work_busy(m))
			return;
		if (r)
			flow_look(m, r);
	}
	if (m->sweep < m->table.high)
		return;
	m->sweep = TABLE_NONE;
	inbound_swept(m);
}

void flow_tick(struct member *m)
{
	if (m->sweep == TABLE_NONE && m->sweep_due_us && m->now_us >= m->sweep_due_us) {
		m->sweep_due_us = 0;
		m->sweep = 0;
		m->put_off = false;
	}
	if (m->sweep != TABLE_NONE)
		sweep(m);
	inbound_tick(m);
}
