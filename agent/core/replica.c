/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * replica.c - records to and from the other members.
 *
 * What must be sent is a mark on the record, and its slot in a queue for that member; when the
 * stream has room, the record is encoded as it is then. So memory is bounded, a record that changes
 * often is sent seldom, and a change, an announcement, a snapshot for a newcomer and the repair of
 * a loss are all the same thing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/member_state.h"

static int queue_push(struct queue *q, uint32_t slot)
{
	if (q->count == q->size) {
		uint32_t size = q->size ? 2 * q->size : 64;
		uint32_t *slots = malloc(size * sizeof(*slots));

		if (!slots)
			return -ENOMEM;
		for (uint32_t i = 0; i < q->count; i++)
			slots[i] = q->slots[(q->head + i) % q->size];
		free(q->slots);
		*q = (struct queue){.slots = slots, .size = size, .count = q->count};
	}
	q->slots[(q->head + q->count++) % q->size] = slot;
	return 0;
}

static void queue_pop(struct queue *q)
{
	q->head = (q->head + 1) % q->size;
	q->count--;
}

/* Records stand in a queue once; of the rest, another member must not make us keep any amount. */
void replica_queue(struct member *m, uint8_t to, uint32_t what)
{
	struct queue *q = &m->others[to].queue;

	if (q->count < m->config.capacity + 2 * TABLE_LEAVES)
		(void)queue_push(q, what);
}

static void mark(struct member *m, struct record *r, unsigned int id, uint16_t *dirty)
{
	uint16_t bit = member_bit(id);

	*dirty |= bit;
	if (!(r->queued & bit) && queue_push(&m->others[id].queue, r->slot) == 0)
		r->queued |= bit;
}

static void mark_all(struct member *m, struct record *r, uint16_t *dirty)
{
	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++)
		if (member_is_other(m, id) && m->others[id].stream.heard_id)
			mark(m, r, id, dirty);
}

void replica_mark(struct member *m, struct record *r)
{
	mark_all(m, r, &r->dirty);
}

void replica_mark_state(struct member *m, struct record *r)
{
	mark_all(m, r, &r->dirty_state);
}

void replica_mark_position(struct member *m, struct record *r)
{
	mark_all(m, r, &r->dirty_position);
}

void replica_mark_for(struct member *m, struct record *r, unsigned int id)
{
	mark(m, r, id, &r->dirty);
}

static void unmark(struct record *r, uint8_t id)
{
	uint16_t others = (uint16_t)~member_bit(id);

	r->queued &= others;
	r->dirty &= others;
	r->dirty_state &= others;
	r->dirty_position &= others;
}

void replica_forget(struct member *m, uint8_t id)
{
	struct other *o = &m->others[id];

	for (; o->queue.count; queue_pop(&o->queue)) {
		struct record *r = table_at(&m->table, o->queue.slots[o->queue.head]);

		if (r)
			unmark(r, id);
	}
	stream_restart(&o->stream);
	compare_forget(m, id);
}

/* Sending. */

static void put_record(struct member *m, struct writer *w, const struct record *r)
{
	uint8_t body[RECORD_BODY_MAX];
	int len;

	if (r->key.kind == RECORD_POLICY) {
		wire_put_record(w, r, r->body, r->alive ? r->body_len : 0);
		return;
	}
	/* Without a body the other learns of the SA, and asks again until we have one. */
	len = r->alive ? m->ops->read(m->ctx, &r->key, body, sizeof(body)) : 0;
	wire_put_record(w, r, body, len > 0 ? (size_t)len : 0);
	explicit_bzero(body, sizeof(body));
}

/* Writes what stands first in the queue. False: it does not fit. */
static bool put_first(struct member *m, uint8_t to, struct writer *w)
{
	uint32_t slot = m->others[to].queue.slots[m->others[to].queue.head];
	uint16_t bit = member_bit(to);
	struct record *r;

	if (slot >= QUEUE_SPECIAL) {
		compare_put(m, to, w, slot);
		return !w->failed;
	}
	r = table_at(&m->table, slot);
	if (!r || !(r->queued & bit))
		return true;
	if (!r->known)
		; /* set aside meanwhile */
	else if (r->dirty & bit)
		put_record(m, w, r);
	else if (r->dirty_state & bit && r->key.kind == RECORD_SA)
		wire_put_state(w, r);
	else if (r->dirty_position & bit)
		wire_put_position(w, table_name(r), r->seq);
	if (w->failed)
		return false;
	unmark(r, to);
	return true;
}

static void fill(struct member *m, uint8_t to)
{
	struct other *o = &m->others[to];
	uint8_t payload[WIRE_PAYLOAD];

	while (o->queue.count && stream_room(&o->stream)) {
		struct writer w = {.at = payload, .end = payload + sizeof(payload)};

		while (o->queue.count && put_first(m, to, &w))
			queue_pop(&o->queue);
		if (w.at == payload)
			break;
		if (stream_push(&o->stream, payload, (size_t)(w.at - payload)) < 0)
			break;
	}
	explicit_bzero(payload, sizeof(payload));
}

static void put_datagram(
	struct member *m, uint8_t to, struct wire_header *h, const uint8_t *payload, size_t len)
{
	uint8_t datagram[WIRE_MAX];
	struct writer w = {.at = datagram, .end = datagram + sizeof(datagram)};

	h->from = m->config.self;
	h->to = to;
	stream_header(&m->others[to].stream, h);
	wire_put_header(&w, h);
	write_bytes(&w, payload, len);
	m->ops->send(m->ctx, to, datagram, (size_t)(w.at - datagram));
	explicit_bzero(datagram, sizeof(datagram));
}

void replica_send(struct member *m, uint8_t to, const uint8_t *payload, size_t len)
{
	put_datagram(m, to, &(struct wire_header){.segment = false}, payload, len);
}

void replica_flush(struct member *m, uint8_t to)
{
	struct other *o = &m->others[to];
	const uint8_t *payload;
	uint32_t seq;
	size_t len;

	if (!o->alive)
		return;
	compare_go_on(m, to);
	fill(m, to);
	while (stream_next(&o->stream, m->now_us, &seq, &payload, &len))
		put_datagram(
			m, to, &(struct wire_header){.segment = true, .seq = seq}, payload, len);
	if (o->stream.ack_due)
		replica_send(m, to, NULL, 0);
}

/* Receiving. */

static void apply_policy(struct member *m, struct record *r, const struct wire_message *message)
{
	if (r->alive && message->body_len) {
		if (table_set_body(r, message->body, message->body_len) == 0)
			sequence_install(m, r, NULL, 0);
	} else if (!r->alive) {
		if (r->installed)
			m->ops->remove(m->ctx, &r->key);
		member_died(m, r);
	}
	table_changed(&m->table, r);
}

static void apply_sa(
	struct member *m, struct record *r, const struct wire_message *message, int merged)
{
	sequence_bar(m, r);
	if (!r->alive) {
		if (r->installed)
			m->ops->remove(m->ctx, &r->key);
		member_died(m, r);
	} else if (!r->installed && message->body_len) {
		sequence_install(m, r, message->body, message->body_len);
	} else if (r->installed && merged & TABLE_CONTENT) {
		sequence_guard(m, r);
	}
}

/* Another SA of the same key is meant. What is known of the numbers of this one is kept. */
void replica_set_aside(struct member *m, struct record *r)
{
	if (r->installed)
		m->ops->remove(m->ctx, &r->key);
	member_died(m, r);
	r->known = false;
	member_apply_pair(m, r->facts.pair);
}

/*
 * The peer gave out an SPI again, and not all members knew that the SA before was over. Who made
 * one of the two just now knows, and says so; the others go by what was changed last. Is `r` the
 * one?
 */
static bool contest(struct member *m, struct record *r)
{
	struct record *other = table_rival(&m->table, r), *loser;

	if (!other)
		return true;
	if (r->created_here != other->created_here)
		loser = r->created_here ? other : r;
	else
		loser = table_newer(r, other) ? other : r;
	if (r->created_here != other->created_here) {
		if (loser->installed)
			m->ops->remove(m->ctx, &loser->key);
		member_end(m, loser);
	} else {
		replica_set_aside(m, loser);
	}
	if (loser == r)
		return false;
	sequence_guard(m, r); /* shut, until it is installed */
	return true;
}

static void receive_record(struct member *m, uint8_t from, const struct wire_message *message)
{
	const struct record *heard = &message->record;
	struct record *r = table_find_birth(&m->table, &heard->key, heard->facts.birth);
	uint64_t old_pair;
	int merged;

	if (!r) {
		if (!heard->alive)
			return;
		r = table_add(&m->table, &heard->key, heard->facts.birth);
		if (!r) {
			m->counters.refused++;
			return;
		}
	}
	if (r->known && !r->alive && !heard->alive)
		return;
	if (!r->installed)
		r->died_us = m->now_us; /* somebody has it: remembered until all have heard */
	old_pair = r->facts.pair;
	merged = table_merge(&m->table, r, heard);
	if (merged & TABLE_OURS_NEWER)
		replica_mark_for(m, r, from);
	if (r->key.kind == RECORD_SA && r->alive && !contest(m, r)) {
		member_apply_pair(m, old_pair);
		return;
	}
	member_steer(m, r);
	if (r->key.kind == RECORD_POLICY && (merged & TABLE_CONTENT || !r->installed))
		apply_policy(m, r, message);
	else if (r->key.kind == RECORD_SA &&
		 (merged & ~TABLE_OURS_NEWER || (r->alive && !r->installed)))
		apply_sa(m, r, message, merged);
	if (old_pair != r->facts.pair)
		member_apply_pair(m, old_pair);
	if (merged & TABLE_CONTENT)
		member_apply_pair(m, r->facts.pair);
	sequence_look(m, r);
}

static void receive_state(struct member *m, const struct record *heard)
{
	struct record *r = table_find_birth(&m->table, &heard->key, heard->facts.birth);
	struct record merged;

	if (!r || !r->known)
		return;
	merged = *r; /* the rest of it is ours */
	merged.top = heard->top;
	merged.seq = heard->seq;
	memcpy(merged.upto, heard->upto, sizeof(merged.upto));
	memcpy(merged.journals, heard->journals, sizeof(merged.journals));
	(void)table_merge(&m->table, r, &merged);
	sequence_bar(m, r);
	sequence_look(m, r);
}

static void receive_position(struct member *m, uint64_t name, uint64_t seq)
{
	struct record *r = table_find_name(&m->table, name);

	if (r && r->key.kind == RECORD_SA && seq > r->seq)
		r->seq = seq;
}

static void receive(struct member *m, uint8_t from, const struct wire_message *message)
{
	switch (message->kind) {
	case WIRE_RECORD:
		receive_record(m, from, message);
		break;
	case WIRE_STATE:
		receive_state(m, &message->record);
		break;
	case WIRE_POSITION:
		receive_position(m, message->position.name, message->position.seq);
		break;
	case WIRE_HEARTBEAT:
	case WIRE_ASK:
	case WIRE_LACK:
		break; /* do not come in the stream */
	default:
		compare_heard(m, from, message);
	}
}

static void receive_segment(struct member *m, uint8_t from, const uint8_t *payload, size_t len)
{
	struct reader r = {.at = payload, .end = payload + len};
	struct wire_message message;
	int n;

	while ((n = wire_get(&r, &message)) > 0)
		receive(m, from, &message);
	if (n < 0)
		m->counters.malformed++;
	explicit_bzero(&message, sizeof(message));
}

void replica_take(struct member *m, uint8_t from)
{
	struct stream *s = &m->others[from].stream;
	const uint8_t *payload;
	size_t len;

	while (!work_busy(m) && (payload = stream_take(s, &len))) {
		receive_segment(m, from, payload, len);
		stream_taken(s);
	}
}

void replica_worked(struct member *m)
{
	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++)
		if (member_is_other(m, id)) {
			replica_take(m, (uint8_t)id);
			compare_worked(m, (uint8_t)id);
		}
}
