/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/wire.h"

#include <assert.h>
#include <errno.h>

#include "core/pack.h"

/* Every message begins with its kind (1 byte) and the length of what follows (2 bytes). */
#define MESSAGE_HEADER 3

static_assert(MESSAGE_HEADER + PACK_MAX(WIRE_RECORD_MAX) <= WIRE_PAYLOAD, "any record fits");
static_assert(ESPALIER_NOBODY >= ESPALIER_MEMBERS, "holder");
static_assert(RECORD_BODY_MAX % 8 == 0, "netlink's alignment");

void wire_put_header(struct writer *w, const struct wire_header *h)
{
	write_uint(w, WIRE_VERSION, 1);
	write_uint(w, h->from, 1);
	write_uint(w, h->to, 1);
	write_uint(w, h->segment, 1);
	write_uint(w, h->stream, 8);
	write_uint(w, h->ack_stream, 8);
	write_uint(w, h->seq, 4);
	write_uint(w, h->ack, 4);
	write_uint(w, h->sack, 8);
}

int wire_get_header(struct reader *r, struct wire_header *ret)
{
	uint8_t version = (uint8_t)read_uint(r, 1), segment;

	ret->from = (uint8_t)read_uint(r, 1);
	ret->to = (uint8_t)read_uint(r, 1);
	segment = (uint8_t)read_uint(r, 1);
	ret->segment = segment;
	ret->stream = read_uint(r, 8);
	ret->ack_stream = read_uint(r, 8);
	ret->seq = (uint32_t)read_uint(r, 4);
	ret->ack = (uint32_t)read_uint(r, 4);
	ret->sack = read_uint(r, 8);
	if (r->failed || version != WIRE_VERSION || segment > 1 || ret->from >= ESPALIER_MEMBERS ||
		ret->to >= ESPALIER_MEMBERS || ret->stream == 0)
		return -EBADMSG;
	return 0;
}

static struct writer begin(struct writer *w, enum wire_kind kind)
{
	struct writer start = *w;

	write_uint(w, kind, 1);
	write_uint(w, 0, 2);
	return start;
}

static void end(struct writer *w, struct writer *start)
{
	size_t len = (size_t)(w->at - start->at) - MESSAGE_HEADER;

	if (w->failed) {
		w->at = start->at;
		return;
	}
	start->at[1] = (uint8_t)(len >> 8);
	start->at[2] = (uint8_t)len;
}

void wire_put_heartbeat(struct writer *w, const struct wire_heartbeat *h)
{
	struct writer start = begin(w, WIRE_HEARTBEAT);

	write_uint(w, h->settings, 8);
	write_uint(w, h->journal, 4);
	write_uint(w, h->records, 4);
	write_uint(w, h->synced, 2);
	write_uint(w, h->doubled, 2);
	write_uint(w, h->knows, 2);
	write_uint(w, h->flags, 2);
	write_uint(w, h->view.epoch, 8);
	write_uint(w, h->view.live, 2);
	write_uint(w, h->view.publisher, 1);
	write_bytes(w, h->macs.outer, 6);
	write_bytes(w, h->macs.inner, 6);
	end(w, &start);
}

static void get_heartbeat(struct reader *r, struct wire_heartbeat *h)
{
	h->settings = read_uint(r, 8);
	h->journal = (uint32_t)read_uint(r, 4);
	h->records = (uint32_t)read_uint(r, 4);
	h->synced = (uint16_t)read_uint(r, 2);
	h->doubled = (uint16_t)read_uint(r, 2);
	h->knows = (uint16_t)read_uint(r, 2);
	h->flags = (uint16_t)read_uint(r, 2);
	h->view.epoch = read_uint(r, 8);
	h->view.live = (uint16_t)read_uint(r, 2);
	h->view.publisher = (uint8_t)read_uint(r, 1);
	h->macs = (struct wire_macs){0};
	read_bytes(r, h->macs.outer, 6);
	read_bytes(r, h->macs.inner, 6);
}

static void put_key(struct writer *w, const struct record_key *key)
{
	write_uint(w, key->kind, 1);
	write_uint(w, key->proto, 1);
	write_uint(w, key->family, 2);
	write_bytes(w, &key->spi, 4);
	write_bytes(w, key->addr, sizeof(key->addr));
	write_uint(w, key->mark, 4);
	write_uint(w, key->mark_mask, 4);
}

static void get_key(struct reader *r, struct record_key *key)
{
	key->kind = (uint8_t)read_uint(r, 1);
	key->proto = (uint8_t)read_uint(r, 1);
	key->family = (uint16_t)read_uint(r, 2);
	read_bytes(r, &key->spi, 4);
	read_bytes(r, key->addr, sizeof(key->addr));
	key->mark = (uint32_t)read_uint(r, 4);
	key->mark_mask = (uint32_t)read_uint(r, 4);
	if (key->kind != RECORD_SA && key->kind != RECORD_POLICY)
		r->failed = true;
}

/* A value for each member, of which most are 0: a bit a member, then those that are not. */
static void put_sparse(
	struct writer *w, const uint64_t values[ESPALIER_MEMBERS], unsigned int width)
{
	uint16_t set = 0;

	for (unsigned int i = 0; i < ESPALIER_MEMBERS; i++)
		set |= (uint16_t)((values[i] != 0) << i);
	write_uint(w, set, 2);
	for (; set; set &= (uint16_t)(set - 1))
		write_uint(w, values[__builtin_ctz(set)], width);
}

static void put_usage(struct writer *w, const struct record_usage *used)
{
	write_uint(w, used->bytes, 8);
	write_uint(w, used->packets, 8);
}

static void get_usage(struct reader *r, struct record_usage *ret)
{
	ret->bytes = read_uint(r, 8);
	ret->packets = read_uint(r, 8);
}

static void put_state(struct writer *w, const struct record *r)
{
	uint64_t journals[ESPALIER_MEMBERS];

	for (unsigned int i = 0; i < ESPALIER_MEMBERS; i++)
		journals[i] = r->journals[i];
	write_uint(w, r->top, 8);
	write_uint(w, r->seq, 8);
	put_usage(w, &r->used);
	put_sparse(w, r->upto, 8);
	put_sparse(w, journals, 4);
}

static void get_state(struct reader *r, struct record *ret)
{
	uint16_t set;

	ret->top = read_uint(r, 8);
	ret->seq = read_uint(r, 8);
	get_usage(r, &ret->used);
	set = (uint16_t)read_uint(r, 2);
	for (unsigned int i = 0; i < ESPALIER_MEMBERS; i++)
		ret->upto[i] = set >> i & 1 ? read_uint(r, 8) : 0;
	set = (uint16_t)read_uint(r, 2);
	for (unsigned int i = 0; i < ESPALIER_MEMBERS; i++)
		ret->journals[i] = set >> i & 1 ? (uint32_t)read_uint(r, 4) : 0;
}

/* What is packed: an SA's name and numbers, of WIRE_STATE all there is. */
static void put_numbers(struct writer *w, const struct record *r)
{
	put_key(w, &r->key);
	write_uint(w, r->facts.birth, 8);
	put_state(w, r);
}

static void get_numbers(struct reader *r, struct record *ret)
{
	get_key(r, &ret->key);
	ret->facts.birth = read_uint(r, 8);
	get_state(r, ret);
}

static void put_packed(
	struct writer *w, enum wire_kind kind, const uint8_t *bytes, const struct writer *written)
{
	struct writer start = begin(w, kind);

	if (written->failed)
		w->failed = true;
	pack(w, bytes, (size_t)(written->at - bytes));
	end(w, &start);
}

void wire_put_state(struct writer *w, const struct record *r)
{
	uint8_t plain[WIRE_RECORD_MAX];
	struct writer p = {.at = plain, .end = plain + sizeof(plain)};

	put_numbers(&p, r);
	put_packed(w, WIRE_STATE, plain, &p);
}

/* Family 0: none. */
static void put_selector(struct writer *w, const struct espalier_selector *s)
{
	write_uint(w, s->family, 1);
	if (!s->family)
		return;
	write_uint(w, s->prefixlen - ESPALIER_SELECTOR_BITS, 1);
	write_uint(w, s->if_id, 4);
	write_bytes(w, s->addr, s->family == ADDRESS_INET ? 4 : 16);
}

static void get_selector(struct reader *r, struct espalier_selector *ret)
{
	uint32_t bits;

	*ret = (struct espalier_selector){.family = (uint32_t)read_uint(r, 1)};
	if (!ret->family)
		return;
	bits = ret->family == ADDRESS_INET ? 32 : 128;
	ret->prefixlen = ESPALIER_SELECTOR_BITS + (uint32_t)read_uint(r, 1);
	ret->if_id = (uint32_t)read_uint(r, 4);
	read_bytes(r, ret->addr, bits / 8);
	if ((ret->family != ADDRESS_INET && ret->family != ADDRESS_INET6) ||
		ret->prefixlen > ESPALIER_SELECTOR_BITS + bits)
		r->failed = true;
}

enum { FLAG_ALIVE = 1, FLAG_ESN = 2, FLAG_PAIRED = 4, FLAG_LIMITED = 8 };

void wire_put_record(struct writer *w, const struct record *r, const void *body, size_t body_len)
{
	uint8_t plain[WIRE_RECORD_MAX];
	struct writer p = {.at = plain, .end = plain + sizeof(plain)};

	put_numbers(&p, r);
	write_uint(&p, r->facts.pair, 8);
	write_uint(&p, r->facts.form, 8);
	write_uint(&p, r->facts.direction, 1);
	write_uint(&p,
		(r->life == RECORD_ALIVE ? FLAG_ALIVE : 0) | (r->facts.esn ? FLAG_ESN : 0) |
			(r->paired ? FLAG_PAIRED : 0) | (r->facts.limited ? FLAG_LIMITED : 0),
		1);
	put_selector(&p, &r->facts.remote);
	if (r->key.kind == RECORD_POLICY)
		write_bytes(&p, &r->facts.spi, 4);
	write_uint(&p, r->moves, 4);
	write_uint(&p, r->version, 8);
	write_uint(&p, r->author, 1);
	write_uint(&p, r->creator, 1);
	write_uint(&p, r->bucket, 2);
	write_uint(&p, r->pinned, 1);
	write_bytes(&p, body, body_len);
	put_packed(w, WIRE_RECORD, plain, &p);
	explicit_bzero(plain, sizeof(plain));
}

static void get_rest(struct reader *r, struct wire_message *m)
{
	struct record *ret = &m->record;
	uint8_t flags;

	ret->facts.pair = read_uint(r, 8);
	ret->facts.form = read_uint(r, 8);
	ret->facts.direction = (uint8_t)read_uint(r, 1);
	flags = (uint8_t)read_uint(r, 1);
	ret->life = flags & FLAG_ALIVE ? RECORD_ALIVE : RECORD_DEAD;
	ret->facts.esn = flags & FLAG_ESN;
	ret->paired = flags & FLAG_PAIRED;
	ret->facts.limited = flags & FLAG_LIMITED;
	get_selector(r, &ret->facts.remote);
	if (ret->key.kind == RECORD_POLICY)
		read_bytes(r, &ret->facts.spi, 4);
	ret->moves = (uint32_t)read_uint(r, 4);
	ret->version = read_uint(r, 8);
	ret->author = (uint8_t)read_uint(r, 1);
	ret->creator = (uint8_t)read_uint(r, 1);
	ret->bucket = (uint16_t)read_uint(r, 2);
	ret->pinned = (uint8_t)read_uint(r, 1);
	m->body_len = (size_t)(r->end - r->at);
	m->body = reader_take(r, m->body_len);
	if (m->body_len > RECORD_BODY_MAX || ret->bucket >= ESPALIER_BUCKETS ||
		ret->pinned > ESPALIER_MEMBERS || ret->version == 0 ||
		ret->author >= ESPALIER_MEMBERS ||
		(ret->creator >= ESPALIER_MEMBERS && ret->creator != ESPALIER_NOBODY &&
			ret->creator != RECORD_CREATOR_DISPUTED) ||
		(ret->facts.direction != ESPALIER_IN && ret->facts.direction != ESPALIER_OUT))
		r->failed = true;
}

/* WIRE_STATE or WIRE_RECORD. */
static void get_packed(struct reader *r, struct wire_message *m)
{
	size_t len = unpack(r, m->unpacked, sizeof(m->unpacked));
	struct reader plain = {.at = m->unpacked, .end = m->unpacked + len};

	m->record = (struct record){0};
	get_numbers(&plain, &m->record);
	if (m->kind == WIRE_RECORD)
		get_rest(&plain, m);
	if (plain.failed || plain.at != plain.end)
		r->failed = true;
}

void wire_put_position(struct writer *w, uint64_t name, uint64_t seq)
{
	struct writer start = begin(w, WIRE_POSITION);
	unsigned int width = 1;

	while (width < 8 && seq >> (8 * width))
		width++;
	write_uint(w, name, 8);
	write_uint(w, seq, width);
	end(w, &start);
}

static void get_position(struct reader *r, struct wire_message *m)
{
	size_t width;

	m->position.name = read_uint(r, 8);
	m->position.used = (struct record_usage){0};
	width = (size_t)(r->end - r->at);
	if (width < 1 || width > 8)
		r->failed = true;
	else
		m->position.seq = read_uint(r, (unsigned int)width);
}

void wire_put_usage(struct writer *w, uint64_t name, uint64_t seq, const struct record_usage *used)
{
	struct writer start = begin(w, WIRE_USAGE);

	write_uint(w, name, 8);
	write_uint(w, seq, 8);
	put_usage(w, used);
	end(w, &start);
}

static void get_limited(struct reader *r, struct wire_message *m)
{
	m->position.name = read_uint(r, 8);
	m->position.seq = read_uint(r, 8);
	get_usage(r, &m->position.used);
}

void wire_put_digest(struct writer *w, enum wire_kind kind, uint16_t first, const uint64_t *values,
	uint16_t count)
{
	struct writer start = begin(w, kind);

	write_uint(w, first, 2);
	for (unsigned int i = 0; i < count; i++)
		write_uint(w, values[i], 8);
	end(w, &start);
}

static void get_digest(struct reader *r, enum wire_kind kind, struct wire_digest *d)
{
	uint32_t ranges = kind == WIRE_DIGEST ? TABLE_RANGES : TABLE_LEAVES;
	uint32_t span;
	size_t len;

	d->first = (uint16_t)read_uint(r, 2);
	len = (size_t)(r->end - r->at);
	if (len % 8 || len / 8 > WIRE_DIGESTS) {
		r->failed = true;
		return;
	}
	d->count = (uint16_t)(len / 8);
	for (unsigned int i = 0; i < d->count; i++)
		d->values[i] = read_uint(r, 8);
	span = kind == WIRE_HAVE ? 1 : d->count;
	if (d->first + span > ranges)
		r->failed = true;
}

void wire_put_number(struct writer *w, enum wire_kind kind, uint32_t number)
{
	struct writer start = begin(w, kind);

	write_uint(w, number, 4);
	end(w, &start);
}

void wire_put_key(struct writer *w, enum wire_kind kind, const struct record_key *key)
{
	struct writer start = begin(w, kind);

	put_key(w, key);
	end(w, &start);
}

enum { IKE_DEAD = 0x80 };

#define IKE_PIECE_LEAST 128 /* bytes, of one that is not the last */

size_t wire_put_ike(struct writer *w, const struct ike_head *head, const uint8_t *body,
	uint32_t total, uint32_t offset)
{
	struct writer start = begin(w, WIRE_IKE);
	size_t room, len = total - offset;

	write_uint(w, head->own, 8);
	write_uint(w, head->peer, 8);
	write_uint(w, head->version, 8);
	write_uint(w, head->turn, 4);
	write_uint(w, head->holder, 1);
	write_uint(w, (head->flags & IKE_KEPT) | (head->dead ? IKE_DEAD : 0), 1);
	write_uint(w, head->children, 2);
	write_uint(w, total, 3);
	write_uint(w, offset, 4);
	room = (size_t)(w->end - w->at);
	if (len > room)
		len = room;
	if (len < total - offset && len < IKE_PIECE_LEAST)
		w->failed = true;
	write_bytes(w, body ? body + offset : NULL, len);
	end(w, &start);
	return w->failed ? 0 : len;
}

static void get_ike(struct reader *r, struct wire_ike *ret)
{
	uint8_t flags;

	ret->head.own = read_uint(r, 8);
	ret->head.peer = read_uint(r, 8);
	ret->head.version = read_uint(r, 8);
	ret->head.turn = (uint32_t)read_uint(r, 4);
	ret->head.holder = (uint8_t)read_uint(r, 1);
	flags = (uint8_t)read_uint(r, 1);
	ret->head.dead = flags & IKE_DEAD;
	ret->head.flags = flags & IKE_KEPT;
	ret->head.children = (uint16_t)read_uint(r, 2);
	ret->total = (uint32_t)read_uint(r, 3);
	ret->offset = (uint32_t)read_uint(r, 4);
	ret->len = (size_t)(r->end - r->at);
	ret->bytes = reader_take(r, ret->len);
	if (ret->head.turn == 0 || ret->head.turn == UINT32_MAX ||
		(ret->head.holder >= ESPALIER_MEMBERS && ret->head.holder != ESPALIER_NOBODY) ||
		flags & ~(IKE_KEPT | IKE_DEAD) || ret->total > IKE_BODY_MAX ||
		(ret->head.dead && ret->total) || ret->offset > ret->total ||
		ret->len > ret->total - ret->offset)
		r->failed = true;
}

static void get_content(struct reader *r, struct wire_message *m)
{
	switch (m->kind) {
	case WIRE_HEARTBEAT:
		get_heartbeat(r, &m->heartbeat);
		break;
	case WIRE_RECORD:
	case WIRE_STATE:
		get_packed(r, m);
		break;
	case WIRE_POSITION:
		get_position(r, m);
		break;
	case WIRE_USAGE:
		get_limited(r, m);
		break;
	case WIRE_DIGEST:
	case WIRE_LEAVES:
	case WIRE_HAVE:
		get_digest(r, m->kind, &m->digest);
		break;
	case WIRE_PULL:
	case WIRE_LEAVES_END:
	case WIRE_HAVE_END:
	case WIRE_PULLED:
	case WIRE_ORDER:
		m->number = (uint32_t)read_uint(r, 4);
		break;
	case WIRE_IKE:
		get_ike(r, &m->ike);
		break;
	case WIRE_ASK:
	case WIRE_LACK:
		get_key(r, &m->key);
		break;
	default:
		r->failed = true;
	}
}

int wire_get(struct reader *r, struct wire_message *ret)
{
	struct reader in;
	size_t len;

	if (r->at == r->end)
		return 0;
	ret->kind = (enum wire_kind)read_uint(r, 1);
	len = (size_t)read_uint(r, 2);
	in.at = reader_take(r, len);
	if (r->failed)
		return -EBADMSG;
	in = (struct reader){.at = in.at, .end = in.at + len};
	get_content(&in, ret);
	return in.failed || in.at != in.end ? -EBADMSG : 1;
}
