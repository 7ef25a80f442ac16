/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * dtls_link.h - two DTLS associations in one process, in the test's own time, over a link that
 * loses, doubles, reorders and corrupts. Defines gettimeofday(): include it in one file a program.
 */
#ifndef DTLS_LINK_H
#define DTLS_LINK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "io/dtls.h"

#define SILENCE_US 200000
#define LINK_SLOTS 256
#define SECOND 1000000

static uint64_t now_us = SECOND;
static uint64_t wall_clock_s = 1700000000;

/* OpenSSL's retransmit timer asks this: it lives in the test's time. */
int gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
	(void)zone;
	tv->tv_sec = (time_t)(wall_clock_s + now_us / SECOND);
	tv->tv_usec = (suseconds_t)(now_us % SECOND);
	return 0;
}

struct datagram {
	uint8_t to; /* 0 or 1 */
	uint64_t at_us;
	size_t len;
	uint8_t buf[DTLS_DATAGRAM_MAX];
};

struct end {
	struct link *link;
	uint8_t id; /* 0 or 1: which end, and the member id unless a test says otherwise */
	uint8_t other; /* the member id it takes the other end for */
	struct dtls_context *context;
	struct dtls *dtls;
	unsigned int delivered;
	unsigned int rejected;
	uint8_t seen[4096]; /* times that payload number i arrived */
};

struct link {
	struct end ends[2];
	struct datagram queue[LINK_SLOTS];
	unsigned int queued;
	unsigned int loss, twice, corrupt; /* per cent */
	uint64_t jitter_us;
	bool cut;
	struct datagram last[2]; /* the last datagram sent by each end */
	uint64_t rng;
};

static inline uint32_t random_below(struct link *l, uint32_t n)
{
	l->rng ^= l->rng << 13;
	l->rng ^= l->rng >> 7;
	l->rng ^= l->rng << 17;
	return n ? (uint32_t)(l->rng >> 16) % n : 0;
}

static inline bool chance(struct link *l, unsigned int percent)
{
	return random_below(l, 100) < percent;
}

static inline void link_put(struct link *l, uint8_t to, const void *buf, size_t len)
{
	struct datagram *d = &l->queue[l->queued];

	if (l->queued == LINK_SLOTS)
		return;
	l->queued++;
	d->to = to;
	d->at_us = now_us + 100 + (l->jitter_us ? random_below(l, (uint32_t)l->jitter_us) : 0);
	d->len = len;
	memcpy(d->buf, buf, len);
	if (chance(l, l->corrupt))
		d->buf[random_below(l, (uint32_t)len)] ^= (uint8_t)(1 + random_below(l, 255));
}

static inline int on_output(void *ctx, bool established, const void *buf, size_t len)
{
	struct end *e = ctx;
	struct link *l = e->link;

	(void)established;
	assert_true(len > 0 && len <= DTLS_DATAGRAM_MAX);
	l->last[e->id].len = len;
	memcpy(l->last[e->id].buf, buf, len);
	if (l->cut || chance(l, l->loss))
		return 0;
	link_put(l, !e->id, buf, len);
	if (chance(l, l->twice))
		link_put(l, !e->id, buf, len);
	return 0;
}

/* A payload: its number, its length is told by its number, its bytes too. */
static inline size_t payload_make(uint8_t *buf, uint32_t number)
{
	size_t len = 4 + number * 37 % (DTLS_PAYLOAD_MAX - 3);

	memset(buf, (int)(number & 0xff), len);
	memcpy(buf, &number, sizeof(number));
	return len;
}

static inline void on_deliver(void *ctx, const void *buf, size_t len)
{
	struct end *e = ctx;
	uint8_t expected[DTLS_PAYLOAD_MAX];
	uint32_t number;

	assert_true(len >= sizeof(number));
	memcpy(&number, buf, sizeof(number));
	assert_true(number < sizeof(e->seen));
	assert_int_equal(payload_make(expected, number), len);
	assert_memory_equal(expected, buf, len);
	e->seen[number]++;
	e->delivered++;
}

static inline struct in_addr address_of(uint8_t id)
{
	return (struct in_addr){htonl(0x0a090001U + id)};
}

static const uint8_t key[32] = "an example of a pre-shared key.";

static inline struct dtls_config psk_config(uint8_t id)
{
	return (struct dtls_config){
		.cluster = "test",
		.self = id,
		.address = address_of(id),
		.psk = key,
		.psk_len = sizeof(key),
		.silence_us = SILENCE_US,
	};
}

static inline void end_open(struct end *e, const struct dtls_config *config)
{
	const struct dtls_callbacks callbacks = {on_output, on_deliver, e};
	char err[256] = "";

	if (dtls_context_open(config, &e->context, err, sizeof(err)) < 0)
		fail_msg("%s", err);
	assert_int_equal(
		dtls_open(e->context, e->other, address_of(!e->id), &callbacks, &e->dtls), 0);
}

static inline void end_close(struct end *e)
{
	dtls_close(e->dtls);
	e->dtls = NULL;
	dtls_context_close(e->context);
	e->context = NULL;
}

/* As if its process had been killed: nothing is said to the other end. */
static inline void end_restart(struct end *e, const struct dtls_config *config)
{
	bool cut = e->link->cut;

	e->link->cut = true;
	end_close(e);
	e->link->cut = cut;
	end_open(e, config);
}

/* `other`: the member id that end 1 takes end 0 for. */
static inline struct link *link_open_as(
	const struct dtls_config *a, const struct dtls_config *b, uint8_t other)
{
	struct link *l = calloc(1, sizeof(*l));

	assert_non_null(l);
	l->rng = 88172645463325252ULL;
	for (uint8_t i = 0; i < 2; i++) {
		l->ends[i].link = l;
		l->ends[i].id = i;
		l->ends[i].other = i == 0 ? b->self : other;
		end_open(&l->ends[i], i == 0 ? a : b);
	}
	return l;
}

static inline struct link *link_open(const struct dtls_config *a, const struct dtls_config *b)
{
	return link_open_as(a, b, a->self);
}

static inline struct link *link_open_psk(void)
{
	struct dtls_config a = psk_config(0), b = psk_config(1);

	return link_open(&a, &b);
}

static inline void link_close(struct link *l)
{
	end_close(&l->ends[0]);
	end_close(&l->ends[1]);
	free(l);
}

static inline int receive(struct end *e, const void *buf, size_t len)
{
	int r = dtls_receive(e->dtls, buf, len, now_us);

	if (r < 0)
		e->rejected++;
	return r;
}

/* One step: the first datagram or deadline that is due. */
static inline void link_step(struct link *l, uint64_t until_us)
{
	uint64_t next = until_us;
	unsigned int first = LINK_SLOTS;
	struct datagram d;

	for (unsigned int i = 0; i < l->queued; i++)
		if (l->queue[i].at_us <= next) {
			next = l->queue[i].at_us;
			first = i;
		}
	for (unsigned int i = 0; i < 2; i++)
		if (dtls_deadline(l->ends[i].dtls) < next) {
			next = dtls_deadline(l->ends[i].dtls);
			first = LINK_SLOTS;
		}
	if (next > now_us)
		now_us = next;
	if (first == LINK_SLOTS) {
		for (unsigned int i = 0; i < 2; i++)
			if (now_us >= dtls_deadline(l->ends[i].dtls))
				dtls_tick(l->ends[i].dtls, now_us);
		return;
	}
	d = l->queue[first];
	l->queue[first] = l->queue[--l->queued];
	receive(&l->ends[d.to], d.buf, d.len);
}

static inline void link_run(struct link *l, uint64_t us)
{
	uint64_t until = now_us + us;

	while (now_us < until)
		link_step(l, until);
}

static inline bool link_is_up(const struct link *l)
{
	return dtls_connected(l->ends[0].dtls) && dtls_connected(l->ends[1].dtls);
}

static inline int end_send(struct end *e, uint32_t number)
{
	uint8_t buf[DTLS_PAYLOAD_MAX];

	return dtls_send(e->dtls, buf, payload_make(buf, number));
}

/* Payloads pass both ways now. */
static inline void assert_works(struct link *l, uint32_t number)
{
	for (unsigned int i = 0; i < 2; i++)
		assert_int_equal(end_send(&l->ends[i], number), 0);
	link_run(l, 2000);
	for (unsigned int i = 0; i < 2; i++)
		assert_int_equal(l->ends[i].seen[number], 1);
}

static inline void assert_never_up(struct link *l)
{
	link_run(l, 10 * SECOND);
	for (unsigned int i = 0; i < 2; i++) {
		assert_int_equal(dtls_handshakes(l->ends[i].dtls), 0);
		assert_false(dtls_connected(l->ends[i].dtls));
		assert_int_equal(end_send(&l->ends[i], 1), -ENOTCONN);
	}
	link_close(l);
}

#endif
