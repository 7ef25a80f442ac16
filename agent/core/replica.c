/* SPDX-License-Identifier: BSD-2-Clause */
/* replica.c - records as other members tell of them. */
#include <string.h>

#include "core/state.h"

static void apply_policy(struct member *m, struct record *r, const struct wire_message *message)
{
	if (r->life == RECORD_ALIVE && message->body_len) {
		if (table_set_body(r, message->body, message->body_len) == 0)
			sequence_install(m, r, NULL, 0);
	} else if (r->life != RECORD_ALIVE) {
		if (record_is_installed(r))
			m->ops->remove(m->ctx, &r->key);
		life_died(m, r);
	}
	table_changed(&m->table, r);
}

/* Our kernel lacks it, or has it in another form. */
static bool is_behind(const struct record *r)
{
	return r->life == RECORD_ALIVE &&
	       (!record_is_installed(r) || r->form_done != r->facts.form);
}

static void apply_sa(
	struct member *m, struct record *r, const struct wire_message *message, int merged)
{
	fence_judge(m, r);
	if (r->life != RECORD_ALIVE) {
		if (record_is_installed(r))
			m->ops->remove(m->ctx, &r->key);
		life_died(m, r);
	} else if (r->presence == RECORD_LEAVING) {
		return;
	} else if (!record_is_installed(r) && message->body_len) {
		sequence_install(m, r, message->body, message->body_len);
	} else if (record_is_installed(r)) {
		if (merged & TABLE_CONTENT)
			sequence_guard(m, r);
		if (is_behind(r) && message->body_len &&
			message->record.facts.form == r->facts.form)
			sequence_update(m, r, message->body, message->body_len);
	}
}

static bool has_numbers(const struct record *heard)
{
	uint64_t any = heard->top | heard->seq;

	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++)
		any |= heard->upto[id];
	return any;
}

/* No block that there is not, and nobody in another's blocks; a policy has no numbers. */
static bool is_in_bounds(const struct member *m, const struct record *heard, bool esn)
{
	uint64_t count = block_count(&m->rule, esn);

	if (heard->key.kind == RECORD_POLICY)
		return !has_numbers(heard);
	if (heard->top > count || block_of(&m->rule, heard->seq) >= count)
		return false;
	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++)
		if (heard->upto[id] > count ||
			(heard->upto[id] > 1 && (heard->upto[id] - 1) % m->rule.modulus != id))
			return false;
	return true;
}

static bool check_bounds(struct member *m, uint8_t from, const struct record *heard, bool esn)
{
	if (is_in_bounds(m, heard, esn))
		return true;
	m->counters.out_of_bounds++;
	member_notice(m, NOTICE_OUT_OF_BOUNDS, &heard->key, from);
	return false;
}

/*
 * Which blocks we entered our journal knows best, of an SA whose record names it; but that we have
 * seen block 0 is not waited for. Who knows of more has it from a later life than the journal.
 * After all agents were stopped at once no record names a journal; then ours counts as named if it
 * has entries of the SA.
 */
static bool knows_more_of_us(
	const struct member *m, const struct record *r, const struct record *heard)
{
	uint8_t self = m->config.self;
	uint32_t named = r->journals[self] ? r->journals[self] : heard->journals[self];

	return (named ? named == m->config.journal : r->entries != ENTRIES_UNKNOWN) &&
	       heard->upto[self] > 1 && heard->upto[self] > r->upto[self];
}

/* Our kernel lacks it, and for two rounds of comparisons nobody has told of it. */
static bool is_gone(const struct member *m, const struct record *r)
{
	return !record_is_installed(r) && m->now_us > r->died_us + 2 * m->config.repair_us;
}

/*
 * The peer gave out an SPI again, and not all members knew that the SA before was over. Who made
 * one of the two just now knows, and says so; the others go by what was changed last, of two that
 * somebody has. Is `r`, of which we have just heard, the one?
 */
static bool contest(struct member *m, struct record *r)
{
	struct record *other = table_rival(&m->table, r), *loser;
	bool ours = r->origin == RECORD_HERE;

	if (!other)
		return true;
	if (ours != (other->origin == RECORD_HERE)) {
		loser = ours ? other : r;
		if (record_is_installed(loser))
			m->ops->remove(m->ctx, &loser->key);
		life_end(m, loser);
	} else {
		loser = is_gone(m, other) || table_newer(r, other) ? other : r;
		life_set_aside(m, loser);
	}
	if (loser == r)
		return false;
	if (record_is_outbound_sa(r))
		sequence_guard(m, r); /* shut, until it is installed */
	else
		m->ops->guard(m->ctx, &r->key, NULL);
	return true;
}

/* Under another key than here, and later. */
static bool moves(const struct record *r, const struct record *heard)
{
	return memcmp(&r->key, &heard->key, sizeof(r->key)) != 0 &&
	       (r->life == RECORD_HINTED || table_newer(heard, r));
}

/* Somebody else deleted a policy that was made here, too. Each who made it says so, or traffic that
 * it keeps from leaving in the clear would leave. */
static bool outlives(const struct member *m, const struct record *r, const struct record *heard)
{
	return r->origin == RECORD_HERE && heard->life == RECORD_DEAD && !life_has_sa(m, r);
}

/* We said that last, and found another one at our start: it was changed while no agent ran. */
static bool has_changed(
	const struct member *m, const struct record *r, const struct wire_message *message)
{
	uint8_t self = m->config.self;

	return r->version == RECORD_FOUND && r->author == self && record_is_installed(r) &&
	       message->record.author == self &&
	       (r->body_len != message->body_len ||
		       memcmp(r->body, message->body, r->body_len) != 0);
}

/* A policy of ours stays as it is, whatever is heard of it. */
static bool insists(
	struct member *m, uint8_t from, struct record *r, const struct wire_message *message)
{
	const struct record *heard = &message->record;

	if (r->key.kind != RECORD_POLICY || r->life != RECORD_ALIVE ||
		heard->version == UINT64_MAX || !table_newer(heard, r))
		return false;
	if (outlives(m, r, heard)) {
		member_notice(m, NOTICE_MADE_HERE, &r->key, from);
	} else if (life_holds(m, r, heard)) {
		member_notice(m, NOTICE_HELD, &r->key, from);
		r->unwanted |= heard->life == RECORD_DEAD;
	} else if (!has_changed(m, r, message)) {
		return false;
	}
	r->version = heard->version;
	table_renew(r, m->config.self);
	table_changed(&m->table, r);
	outbox_mark(m, r);
	return true;
}

/* Positions are told once, to those who have the record, and are not compared: who shows that it is
 * behind has got its copy from one that was. */
static void put_right(struct member *m, uint8_t from, struct record *r, uint64_t seq,
	const struct record_usage *used)
{
	bool uses = r->facts.limited && usage_is_less(used, &r->used);

	if (r->life == RECORD_ALIVE && (r->seq > seq || uses))
		outbox_mark_position_for(m, r, from);
}

static void receive_record(struct member *m, uint8_t from, const struct wire_message *message)
{
	const struct record *heard = &message->record;
	struct record *r = table_find_birth(&m->table, &heard->key, heard->facts.birth);
	struct record_usage used;
	uint64_t old_pair;
	bool doubt;
	int merged;

	if (!check_bounds(m, from, heard, heard->facts.esn))
		return;
	if (!r) {
		if (heard->life != RECORD_ALIVE)
			return;
		r = life_begin(m, &heard->key, heard->facts.birth);
		if (!r)
			return;
	}
	if (r->life == RECORD_DEAD && heard->life == RECORD_DEAD && heard->moves <= r->moves)
		return;
	if (insists(m, from, r, message))
		return;
	if (!record_is_installed(r))
		r->died_us = m->now_us; /* somebody has it: remembered until all have heard */
	old_pair = r->facts.pair;
	used = r->used;
	doubt = knows_more_of_us(m, r, heard);
	if (moves(r, heard))
		life_moved(m, r, &heard->key);
	if (r->presence == RECORD_LEAVING && table_life(heard->moves) > table_life(r->moves))
		r->presence = RECORD_ABSENT;
	merged = table_merge(&m->table, r, heard);
	if (merged & TABLE_OURS_NEWER)
		outbox_mark_for(m, r, from);
	put_right(m, from, r, heard->seq, &heard->used);
	if (r->key.kind == RECORD_SA && r->life == RECORD_ALIVE && !contest(m, r)) {
		flow_apply_pair(m, old_pair);
		return;
	}
	if (doubt && r->life == RECORD_ALIVE)
		fence_doubt(m, r, from);
	if (merged & TABLE_CONTENT)
		r->refusals = 0;
	flow_steer(m, r);
	if (r->key.kind == RECORD_POLICY && (merged & TABLE_CONTENT || !record_is_installed(r)))
		apply_policy(m, r, message);
	else if (r->key.kind == RECORD_SA && (merged & ~TABLE_OURS_NEWER || is_behind(r)))
		apply_sa(m, r, message, merged);
	usage_follow(m, r, used);
	if (old_pair != r->facts.pair)
		flow_apply_pair(m, old_pair);
	if (merged & TABLE_CONTENT)
		flow_apply(m, r);
	flow_look(m, r);
}

static void receive_state(struct member *m, uint8_t from, const struct record *heard)
{
	struct record *r = table_find_birth(&m->table, &heard->key, heard->facts.birth);
	struct record_usage used;
	struct record merged;
	bool doubt;

	if (!r || r->life == RECORD_HINTED || !check_bounds(m, from, heard, r->facts.esn))
		return;
	merged = *r; /* the rest of it is ours */
	merged.top = heard->top;
	merged.seq = heard->seq;
	merged.used = heard->used;
	memcpy(merged.upto, heard->upto, sizeof(merged.upto));
	memcpy(merged.journals, heard->journals, sizeof(merged.journals));
	used = r->used;
	doubt = knows_more_of_us(m, r, heard);
	(void)table_merge(&m->table, r, &merged);
	put_right(m, from, r, heard->seq, &heard->used);
	usage_follow(m, r, used);
	if (doubt && r->life == RECORD_ALIVE)
		fence_doubt(m, r, from);
	fence_judge(m, r);
	flow_look(m, r);
}

static void receive_position(struct member *m, uint8_t from, const struct wire_message *message)
{
	struct record *r = table_find_name(&m->table, message->position.name);
	struct record_usage used;

	if (!r || r->key.kind != RECORD_SA)
		return;
	if (r->facts.direction == ESPALIER_IN && message->position.seq > r->seq &&
		block_of(&m->rule, message->position.seq) < block_count(&m->rule, r->facts.esn))
		r->seq = message->position.seq;
	inbound_look(m, r);
	used = r->used;
	(void)table_use(r, &message->position.used);
	put_right(m, from, r, message->position.seq, &message->position.used);
	usage_follow(m, r, used);
}

static void receive(struct member *m, uint8_t from, const struct wire_message *message)
{
	switch (message->kind) {
	case WIRE_RECORD:
		receive_record(m, from, message);
		break;
	case WIRE_STATE:
		receive_state(m, from, &message->record);
		break;
	case WIRE_POSITION:
	case WIRE_USAGE:
		receive_position(m, from, message);
		break;
	case WIRE_IKE:
		holder_heard(m, from, &message->ike);
		break;
	case WIRE_HEARTBEAT:
	case WIRE_ASK:
	case WIRE_LACK:
	case WIRE_ORDER:
		break; /* do not come in the stream */
	default:
		compare_heard(m, from, message);
	}
}

static void receive_segment(struct member *m, uint8_t from, const uint8_t *payload, size_t len)
{
	struct reader r = {.at = payload, .end = payload + len};
	struct wire_message message;
	bool keys = false;
	int n;

	while ((n = wire_get(&r, &message)) != 0) {
		keys |= message.kind == WIRE_RECORD;
		if (n < 0)
			break;
		receive(m, from, &message);
	}
	if (n < 0)
		m->counters.malformed++;
	if (keys)
		explicit_bzero(&message, sizeof(message));
}

/* What has arrived in order. */
static void take(struct member *m, uint8_t from)
{
	struct stream *s = &m->others[from].stream;
	const uint8_t *payload;
	size_t len;

	while (!work_busy(m) && (payload = stream_take(s, &len))) {
		receive_segment(m, from, payload, len);
		stream_taken(s);
	}
}

void replica_arrived(struct member *m, uint8_t from, uint32_t seq, const struct reader *payload)
{
	struct stream *s = &m->others[from].stream;
	size_t len = (size_t)(payload->end - payload->at);

	if (stream_is_next(s, seq) && !work_busy(m)) {
		receive_segment(m, from, payload->at, len);
		stream_taken(s);
	} else {
		stream_arrived(s, seq, payload->at, len);
	}
	take(m, from);
}

void replica_worked(struct member *m)
{
	for (uint16_t set = member_others(m); set; set &= (uint16_t)(set - 1)) {
		take(m, view_lowest(set));
		compare_worked(m, view_lowest(set));
	}
}

void replica_flush(struct member *m)
{
	for (uint16_t set = member_others(m); set; set &= (uint16_t)(set - 1)) {
		uint8_t id = view_lowest(set);

		if (!m->others[id].alive)
			continue;
		compare_go_on(m, id);
		outbox_flush(m, id);
	}
}
