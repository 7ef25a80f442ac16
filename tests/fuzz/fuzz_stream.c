/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Two ends of a stream, and a network between them that does what the input says: it loses, repeats
 * and reorders; an end begins a new stream, or a new life. All that was pushed arrives once and in
 * order. If the input is hostile, headers and segments are made up too: then it has to stay within
 * its memory, and what the other end never said is not acknowledged.
 */
#include <errno.h>
#include <string.h>

#include "core/stream.h"
#include "fuzz.h"

#define RESEND_US 1000
#define FLYING 32
#define SETTLE 2000 /* steps; each resend waits for 8 first waits at most */

enum act { PUSH, PASS, SEND, ARRIVE, LOSE, REPEAT, RESTART, LIFE, FORGE, ACTS };

struct datagram {
	struct wire_header h;
	uint8_t payload[24];
	size_t len;
	unsigned int to;
};

struct end {
	struct stream s;
	uint32_t pushed; /* in this stream */
	uint64_t taking; /* the stream that is being taken from, and how much of it */
	uint32_t taken;
};

struct net {
	struct end end[2];
	struct datagram flying[FLYING];
	unsigned int n;
	uint64_t now_us;
	uint64_t lives;
	bool hostile, wraps;
};

/* A payload names its stream and its place there; some are longer. */
static void push(struct net *net, unsigned int id)
{
	struct end *e = &net->end[id];
	bool room = stream_room(&e->s);
	uint8_t payload[24] = {0};
	int r;

	memcpy(payload, &e->s.id, 8);
	memcpy(payload + 8, &e->pushed, 4);
	r = stream_push(&e->s, payload, 12 + e->pushed % 13);
	REQUIRE(r == (room ? 0 : -ENOBUFS));
	if (r == 0)
		e->pushed++;
}

static void fly(struct net *net, const struct datagram *d)
{
	if (net->n < FLYING)
		net->flying[net->n++] = *d; /* else lost */
}

static void send(struct net *net, unsigned int from, bool heartbeat)
{
	struct stream *s = &net->end[from].s;
	const uint8_t *payload;
	uint32_t seq;
	size_t len;

	while (stream_next(s, net->now_us, &seq, &payload, &len)) {
		struct datagram d = {.h = {.seq = seq, .segment = true}, .to = !from, .len = len};

		REQUIRE(len <= sizeof(d.payload));
		memcpy(d.payload, payload, len);
		stream_header(s, &d.h);
		fly(net, &d);
	}
	if (s->ack_due || heartbeat) {
		struct datagram d = {.to = !from};

		stream_header(s, &d.h);
		fly(net, &d);
	}
}

static void take(struct net *net, unsigned int id)
{
	struct end *e = &net->end[id];
	const uint8_t *payload;
	uint64_t stream;
	uint32_t number;
	size_t len;

	while ((payload = stream_take(&e->s, &len))) {
		if (!net->hostile) {
			REQUIRE(len >= 12);
			memcpy(&stream, payload, 8);
			memcpy(&number, payload + 8, 4);
			REQUIRE(len == 12 + number % 13);
			REQUIRE(stream >= e->taking && stream <= net->end[!id].s.id);
			if (stream != e->taking)
				e->taken = 0;
			e->taking = stream;
			REQUIRE(number == e->taken);
			e->taken++;
		}
		stream_taken(&e->s);
	}
}

/* As a member does (outbox_forget()): who restarted has lost what we sent. */
static void begin_stream(struct end *e)
{
	stream_restart(&e->s);
	e->pushed = 0;
}

static void hear(struct net *net, const struct datagram *d)
{
	struct end *e = &net->end[d->to];

	switch (stream_hear(&e->s, &d->h)) {
	case STREAM_OLD:
		return;
	case STREAM_NEW_LIFE:
	case STREAM_TWO_LIVES:
	case STREAM_LOST:
		begin_stream(e);
		break;
	case STREAM_NEW:
	case STREAM_GOES_ON:
		break;
	}
	if (d->h.segment) {
		stream_arrived(&e->s, d->h.seq, d->payload, d->len);
		take(net, d->to);
	}
}

static void arrive(struct net *net, unsigned int i, bool stays)
{
	struct datagram d;

	if (net->n == 0)
		return;
	i %= net->n;
	d = net->flying[i];
	if (!stays)
		net->flying[i] = net->flying[--net->n];
	hear(net, &d);
}

/* A new life has a channel of its own: what is under way in the old one is not heard. */
static void live(struct net *net, unsigned int id)
{
	struct end *e = &net->end[id];

	stream_free(&e->s);
	memset(e, 0, sizeof(*e));
	stream_init(&e->s, ++net->lives << 32 | 1, RESEND_US);
	net->end[!id].taking = 0;
	net->n = 0;
}

/* Anything at all, but mostly about the streams that there are. */
static void forge(struct net *net, struct reader *in)
{
	unsigned int what = (unsigned int)read_uint(in, 1), to = what & 1;
	const struct end *victim = &net->end[to], *other = &net->end[!to];
	struct datagram d = {.to = to, .h = {.segment = what & 2}};

	d.h.stream = what & 4 ? read_uint(in, 8) | 1 : other->s.id;
	d.h.ack_stream = what & 8 ? read_uint(in, 8) : victim->s.id;
	d.h.seq = (what & 16 ? 0 : other->s.next) + (uint32_t)read_uint(in, what & 16 ? 4 : 1);
	d.h.ack = (what & 32 ? 0 : victim->s.acked) + (uint32_t)read_uint(in, what & 32 ? 4 : 1);
	d.h.sack = read_uint(in, 8);
	d.len = what >> 6 ? sizeof(d.payload) : 0;
	hear(net, &d);
}

static void check_memory(const struct net *net)
{
	for (unsigned int id = 0; id < 2; id++) {
		const struct stream *s = &net->end[id].s;

		REQUIRE(s->next - s->acked - 1 <= STREAM_WINDOW);
		REQUIRE(stream_idle(s) == (s->next - s->acked == 1));
		for (unsigned int i = 0; i < STREAM_WINDOW; i++)
			REQUIRE((s->sending[i].len | s->early[i].len) < 32);
	}
}

static void act(struct net *net, struct reader *in)
{
	unsigned int what = (unsigned int)read_uint(in, 1), id = what >> 7;

	switch (what % 128 % ACTS) {
	case PUSH:
		for (unsigned int n = what % 128 / ACTS + 1; n; n--)
			push(net, id);
		break;
	case PASS:
		net->now_us += 100 * read_uint(in, 1);
		break;
	case SEND:
		send(net, id, false);
		break;
	case ARRIVE:
		arrive(net, (unsigned int)read_uint(in, 1), false);
		break;
	case LOSE:
		if (net->n)
			net->n--;
		break;
	case REPEAT:
		arrive(net, (unsigned int)read_uint(in, 1), true);
		break;
	case RESTART:
		begin_stream(&net->end[id]);
		break;
	case LIFE:
		/* A stream that wraps just now looks new to who has just begun to live. */
		if (!net->wraps)
			live(net, id);
		break;
	case FORGE:
		if (net->hostile)
			forge(net, in);
		break;
	}
}

static bool settled(const struct net *net)
{
	for (unsigned int id = 0; id < 2; id++) {
		const struct end *from = &net->end[id], *to = &net->end[!id];
		uint32_t taken = to->taking == from->s.id ? to->taken : 0;

		if (!stream_idle(&from->s) || taken != from->pushed)
			return false;
	}
	return true;
}

/* Nothing is lost any more. */
static void settle(struct net *net)
{
	for (unsigned int i = 0; i < SETTLE && !settled(net); i++) {
		net->now_us += 100;
		send(net, i & 1, true);
		while (net->n)
			arrive(net, 0, false);
	}
	REQUIRE(settled(net));
}

/* Their numbers are about to wrap. */
static void set_numbers(struct net *net, uint32_t numbers)
{
	for (unsigned int id = 0; id < 2; id++) {
		net->end[id].s.next = numbers + 1;
		net->end[id].s.acked = numbers;
		net->end[id].s.heard_id = net->end[!id].s.id;
		net->end[id].s.heard = numbers;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct net net;
	struct reader in = {.at = data, .end = data + size};
	unsigned int mode = (unsigned int)read_uint(&in, 1);

	net = (struct net){.now_us = 1000, .hostile = mode & 1, .wraps = mode & 2};
	for (unsigned int id = 0; id < 2; id++)
		live(&net, id);
	if (net.wraps)
		set_numbers(&net, UINT32_MAX - (mode >> 2));
	for (unsigned int n = 0; in.at < in.end && !in.failed; n++) {
		act(&net, &in);
		if (n % 16 == 0)
			check_memory(&net);
	}
	check_memory(&net);
	if (!net.hostile)
		settle(&net);
	for (unsigned int id = 0; id < 2; id++)
		stream_free(&net.end[id].s);
	return 0;
}

/* Runs of test_stream.c's kind, a link each that is good, loses, repeats, wraps, restarts. */
void fuzz_seeds(void)
{
	static const uint8_t modes[] = {0, 1, 2, 3, 0x42, 0x43};
	uint64_t random = 1;

	for (unsigned int i = 0; i < 4 * sizeof(modes); i++) {
		uint8_t script[400] = {modes[i % sizeof(modes)]};

		for (unsigned int at = 1; at < sizeof(script); at++) {
			random = random * 6364136223846793005ULL + 1442695040888963407ULL;
			script[at] = (uint8_t)(random >> 33);
			/* Few of them die. */
			if (script[at] % 128 % ACTS >= RESTART && random >> 60)
				script[at] = (uint8_t)(script[at] & 128) + ARRIVE;
		}
		fuzz_seed(script, sizeof(script));
	}
}
