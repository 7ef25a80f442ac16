/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * outbox.c - what is to be sent to the other members, and its sending.
 *
 * What must be sent is a mark on the record, and its slot in a queue for that member; when the
 * stream has room, the record is encoded as it is then. So memory is bounded, a record that changes
 * often is sent seldom, and a change, an announcement, a snapshot for a newcomer and the repair of
 * a loss are all the same thing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/state.h"

static int queue_push(struct queue *q, enum queue_kind kind, uint32_t index)
{
	if (q->count == q->size) {
		uint32_t size = q->size ? 2 * q->size : 64;
		struct queue_entry *entries = malloc(size * sizeof(*entries));

		if (!entries)
			return -ENOMEM;
		for (uint32_t i = 0; i < q->count; i++)
			entries[i] = q->entries[(q->head + i) % q->size];
		free(q->entries);
		*q = (struct queue){.entries = entries, .size = size, .count = q->count};
	}
	q->entries[(q->head + q->count++) % q->size] =
		(struct queue_entry){.kind = kind, .index = index};
	return 0;
}

static void queue_pop(struct queue *q)
{
	q->head = (q->head + 1) % q->size;
	q->count--;
}

/* Records stand in a queue once; of the rest, another member must not make us keep any amount. */
void outbox_queue(struct member *m, uint8_t to, enum queue_kind kind, uint32_t index)
{
	struct queue *q = &m->others[to].queue;

	if (q->count < m->table.slots + 2 * TABLE_LEAVES)
		(void)queue_push(q, kind, index);
}

static void mark(struct member *m, struct record *r, unsigned int id, uint16_t *dirty)
{
	uint16_t bit = member_bit(id);

	*dirty |= bit;
	if (!(r->queued & bit) && queue_push(&m->others[id].queue, QUEUE_RECORD, r->slot) == 0)
		r->queued |= bit;
}

static void mark_all(struct member *m, struct record *r, uint16_t *dirty)
{
	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++)
		if (member_is_other(m, id) && m->others[id].stream.heard_id)
			mark(m, r, id, dirty);
}

void outbox_mark(struct member *m, struct record *r)
{
	mark_all(m, r, &r->dirty);
}

void outbox_mark_state(struct member *m, struct record *r)
{
	mark_all(m, r, &r->dirty_state);
}

void outbox_mark_position(struct member *m, struct record *r)
{
	mark_all(m, r, &r->dirty_position);
}

void outbox_mark_position_for(struct member *m, struct record *r, unsigned int id)
{
	mark(m, r, id, &r->dirty_position);
}

void outbox_mark_for(struct member *m, struct record *r, unsigned int id)
{
	mark(m, r, id, &r->dirty);
}

void outbox_mark_ike_for(struct member *m, struct ike *r, unsigned int id)
{
	uint16_t bit = member_bit(id);

	if (!(r->queued & bit) && queue_push(&m->others[id].queue, QUEUE_IKE, r->slot) == 0)
		r->queued |= bit;
}

void outbox_mark_ike(struct member *m, struct ike *r)
{
	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++)
		if (member_is_other(m, id) && m->others[id].stream.heard_id)
			outbox_mark_ike_for(m, r, id);
}

static void unmark(struct record *r, uint8_t id)
{
	uint16_t others = (uint16_t)~member_bit(id);

	r->queued &= others;
	r->dirty &= others;
	r->dirty_state &= others;
	r->dirty_position &= others;
}

void outbox_forget(struct member *m, uint8_t id)
{
	struct other *o = &m->others[id];

	for (; o->queue.count; queue_pop(&o->queue)) {
		const struct queue_entry *first = &o->queue.entries[o->queue.head];
		struct record *r = table_at(&m->table, first->index);

		if (first->kind == QUEUE_IKE)
			ike_unqueue(&m->holder.ikes, first->index, id);
		if (first->kind != QUEUE_RECORD)
			continue;
		table_unqueue(&m->table, first->index, id);
		if (r)
			unmark(r, id);
	}
	o->ike_sending = (struct ike_sending){.slot = TABLE_NONE};
	stream_restart(&o->stream);
}

/* Sending. */

static void put_record(struct member *m, struct writer *w, const struct record *r)
{
	uint8_t body[RECORD_BODY_MAX];
	int len;

	if (r->key.kind == RECORD_POLICY) {
		wire_put_record(w, r, r->body, r->life == RECORD_ALIVE ? r->body_len : 0);
		return;
	}
	/* Without a body the other learns of the SA, and asks again until we have one. */
	len = r->life == RECORD_ALIVE ? m->ops->read(m->ctx, &r->key, body, sizeof(body)) : 0;
	wire_put_record(w, r, body, len > 0 ? (size_t)len : 0);
	explicit_bzero(body, sizeof(body));
}

/* The digests of our records in a leaf. More than fit one message are as good as not there: they
 * are sent to us again. */
static void put_have(struct member *m, struct writer *w, uint32_t leaf)
{
	uint64_t values[WIRE_DIGESTS];
	uint16_t n = 0;

	for (struct record *r = NULL;
		n < WIRE_DIGESTS && (r = table_leaf_next(&m->table, leaf, r));)
		values[n++] = r->digest;
	for (struct ike *r = NULL;
		n < WIRE_DIGESTS && (r = ike_leaf_next(&m->holder.ikes, leaf, r));)
		values[n++] = r->digest;
	wire_put_digest(w, WIRE_HAVE, (uint16_t)leaf, values, n);
}

static void put_comparison(
	struct member *m, uint8_t to, struct writer *w, const struct queue_entry *entry)
{
	const struct other *o = &m->others[to];
	const struct table *t = &m->table;
	uint16_t first;

	switch (entry->kind) {
	case QUEUE_RECORD:
	case QUEUE_IKE:
		break;
	case QUEUE_DIGEST:
		first = (uint16_t)(entry->index * WIRE_DIGESTS);
		wire_put_digest(w, WIRE_DIGEST, first, &t->digests[first], WIRE_DIGESTS);
		break;
	case QUEUE_PULL:
		wire_put_number(w, WIRE_PULL, o->asking.asked);
		break;
	case QUEUE_LEAVES:
		first = (uint16_t)(entry->index * TABLE_FANOUT);
		wire_put_digest(w, WIRE_LEAVES, first, &t->leaves[first], TABLE_FANOUT);
		break;
	case QUEUE_LEAVES_END:
		wire_put_number(w, WIRE_LEAVES_END, o->serving.number);
		break;
	case QUEUE_HAVE:
		put_have(m, w, entry->index);
		break;
	case QUEUE_HAVE_END:
		wire_put_number(w, WIRE_HAVE_END, o->asking.asked);
		break;
	case QUEUE_PULLED:
		wire_put_number(w, WIRE_PULLED, o->serving.number);
		break;
	}
}

/* Writes as much of it as fits. False: not all of it is written. */
static bool put_ike(struct member *m, uint8_t to, struct writer *w, uint32_t slot)
{
	struct ike_sending *s = &m->others[to].ike_sending;
	const struct ike *r = ike_at(&m->holder.ikes, slot);

	if (r && r->queued & member_bit(to)) {
		if (s->slot != slot || s->turn != r->head.turn || s->version != r->head.version ||
			s->offset > r->body_len)
			*s = (struct ike_sending){slot, r->head.turn, 0, r->head.version};
		s->offset += (uint32_t)wire_put_ike(w, &r->head, r->body, r->body_len, s->offset);
		if (w->failed || s->offset < r->body_len)
			return false;
	}
	s->slot = TABLE_NONE;
	ike_unqueue(&m->holder.ikes, slot, to);
	return true;
}

/* Writes what stands first in the queue. False: it does not fit. */
static bool put_first(struct member *m, uint8_t to, struct writer *w)
{
	const struct queue *q = &m->others[to].queue;
	const struct queue_entry *first = &q->entries[q->head];
	uint16_t bit = member_bit(to);
	struct record *r;

	if (first->kind == QUEUE_IKE)
		return put_ike(m, to, w, first->index);
	if (first->kind != QUEUE_RECORD) {
		put_comparison(m, to, w, first);
		return !w->failed;
	}
	r = table_at(&m->table, first->index);
	if (!r)
		table_unqueue(&m->table, first->index, to); /* what stood here is forgotten */
	if (!r || !(r->queued & bit))
		return true;
	if (r->life == RECORD_HINTED)
		; /* set aside meanwhile */
	else if (r->dirty & bit)
		put_record(m, w, r);
	else if (r->dirty_state & bit && r->key.kind == RECORD_SA)
		wire_put_state(w, r);
	else if (r->dirty_position & bit && r->facts.limited)
		wire_put_usage(w, table_name(r), r->seq, &r->used);
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

	if (!o->queue.count)
		return;
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
	explicit_bzero(datagram, (size_t)(w.at - datagram));
}

void outbox_send(struct member *m, uint8_t to, const uint8_t *payload, size_t len)
{
	put_datagram(m, to, &(struct wire_header){.segment = false}, payload, len);
}

void outbox_flush(struct member *m, uint8_t to)
{
	struct other *o = &m->others[to];
	const uint8_t *payload;
	uint32_t seq;
	size_t len;

	fill(m, to);
	while (stream_next(&o->stream, m->now_us, &seq, &payload, &len))
		put_datagram(
			m, to, &(struct wire_header){.segment = true, .seq = seq}, payload, len);
	if (o->stream.ack_due)
		outbox_send(m, to, NULL, 0);
}
