/* SPDX-License-Identifier: BSD-2-Clause */
/* test_stream.c - what is pushed on one side is taken on the other, once and in order, whatever the
 * network does; restarts; numbers that wrap. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "core/stream.h"

#define RESEND_US 1000
#define FLYING 256

struct datagram {
	struct wire_header h;
	uint8_t payload[16];
	size_t len;
	uint64_t due_us;
	unsigned int to;
};

/* Two ends and the network between them. */
struct link {
	struct stream end[2];
	uint32_t pushed[2], taken[2];
	struct datagram flying[FLYING];
	unsigned int n_flying;
	uint64_t now_us, random;
	unsigned int loss, repeat, delay_us; /* of 1000 */
	bool stuck; /* end 1 takes nothing */
};

static uint64_t draw(struct link *l, uint64_t below)
{
	l->random = l->random * 6364136223846793005ULL + 1442695040888963407ULL;
	return (l->random >> 33) % below;
}

static void begin(struct link *l, uint64_t seed)
{
	*l = (struct link){.random = seed * 2 + 1, .now_us = 1000, .delay_us = 1};
	stream_init(&l->end[0], 1ULL << 32 | 1, RESEND_US);
	stream_init(&l->end[1], 2ULL << 32 | 1, RESEND_US);
}

static void end(struct link *l)
{
	stream_free(&l->end[0]);
	stream_free(&l->end[1]);
}

static void send(struct link *l, unsigned int from, uint32_t seq, const void *payload, size_t len)
{
	struct datagram d = {.h = {.seq = seq}, .len = len, .to = !from};

	d.h.segment = payload != NULL;
	stream_header(&l->end[from], &d.h);
	if (payload)
		memcpy(d.payload, payload, len);
	for (unsigned int n = 1 + (draw(l, 1000) < l->repeat); n; n--) {
		if (draw(l, 1000) < l->loss || l->n_flying == FLYING)
			continue;
		d.due_us = l->now_us + 1 + draw(l, l->delay_us);
		l->flying[l->n_flying++] = d;
	}
}

static void take(struct link *l, unsigned int id)
{
	const uint8_t *payload;
	uint32_t number;
	size_t len;

	while (!(l->stuck && id == 1) && (payload = stream_take(&l->end[id], &len))) {
		assert_int_equal(len, sizeof(number));
		memcpy(&number, payload, sizeof(number));
		assert_int_equal(number, l->taken[id]);
		l->taken[id]++;
		stream_taken(&l->end[id]);
	}
}

static void arrive(struct link *l)
{
	for (unsigned int i = 0; i < l->n_flying;) {
		struct datagram d = l->flying[i];

		if (d.due_us > l->now_us) {
			i++;
			continue;
		}
		l->flying[i] = l->flying[--l->n_flying]; /* reorders what is due together */
		if (stream_hear(&l->end[d.to], &d.h) == STREAM_OLD || !d.h.segment)
			continue;
		stream_arrived(&l->end[d.to], d.h.seq, d.payload, d.len);
		take(l, d.to);
	}
}

static void step(struct link *l)
{
	const uint8_t *payload;
	uint32_t seq;
	size_t len;

	l->now_us += 100;
	arrive(l);
	for (unsigned int id = 0; id < 2; id++) {
		while (stream_next(&l->end[id], l->now_us, &seq, &payload, &len))
			send(l, id, seq, payload, len);
		if (l->end[id].ack_due)
			send(l, id, 0, NULL, 0);
	}
}

static void push(struct link *l, unsigned int id)
{
	if (!stream_room(&l->end[id]))
		return;
	assert_int_equal(stream_push(&l->end[id], &l->pushed[id], sizeof(l->pushed[id])), 0);
	l->pushed[id]++;
}

static void run(struct link *l, unsigned int steps)
{
	for (unsigned int i = 0; i < steps; i++) {
		for (uint64_t n = draw(l, 4); n; n--)
			push(l, (unsigned int)draw(l, 2));
		step(l);
	}
}

static void settle(struct link *l)
{
	l->loss = 0;
	for (unsigned int i = 0; i < 1000; i++)
		step(l);
	for (unsigned int id = 0; id < 2; id++) {
		assert_int_equal(l->taken[!id], l->pushed[id]);
		assert_true(stream_idle(&l->end[id]));
	}
}

static void test_good_link(void **state)
{
	struct link l;

	(void)state;
	begin(&l, 1);
	run(&l, 2000);
	settle(&l);
	assert_true(l.pushed[0] > 1000);
	assert_int_equal(l.end[0].resent + l.end[1].resent, 0);
	end(&l);
}

static void test_bad_links(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 60; seed++) {
		struct link l;

		begin(&l, seed);
		l.loss = (unsigned int)draw(&l, 600);
		l.repeat = (unsigned int)draw(&l, 400);
		l.delay_us = 1 + (unsigned int)draw(&l, 3000);
		run(&l, 2000);
		settle(&l);
		assert_true(l.pushed[0] > 50);
		end(&l);
	}
}

static void set_numbers(struct link *l, uint32_t numbers)
{
	for (unsigned int id = 0; id < 2; id++) {
		l->end[id].next = numbers + 1;
		l->end[id].acked = numbers;
		l->end[id].heard_id = l->end[!id].id;
		l->end[id].heard = numbers;
	}
}

/* Segment numbers wrap. */
static void test_wrap(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct link l;

		begin(&l, seed);
		set_numbers(&l, UINT32_MAX - 300);
		l.loss = l.repeat = 200;
		l.delay_us = 2000;
		run(&l, 2000);
		settle(&l);
		assert_true(l.end[0].next < 1U << 31);
		end(&l);
	}
}

static void test_window(void **state)
{
	struct stream s;

	(void)state;
	stream_init(&s, 1ULL << 32 | 1, RESEND_US);
	for (unsigned int i = 0; i < STREAM_WINDOW; i++)
		assert_int_equal(stream_push(&s, "x", 1), 0);
	assert_false(stream_room(&s));
	assert_int_equal(stream_push(&s, "x", 1), -ENOBUFS);
	stream_free(&s);
}

/* One end takes nothing for a while: the other sends no more than a window, and that not over and
 * over; then all comes, once and in order. The way back goes on. */
static void test_stuck(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct link l;
		uint32_t taken[2];

		begin(&l, seed);
		l.delay_us = 500;
		l.loss = seed % 2 ? 0 : 200;
		run(&l, 200);
		l.stuck = true;
		memcpy(taken, l.taken, sizeof(taken));
		run(&l, 500);
		assert_false(stream_room(&l.end[0]));
		assert_int_equal(l.end[0].next - l.end[0].acked - 1, STREAM_WINDOW);
		assert_int_equal(l.taken[1], taken[1]);
		assert_true(l.taken[0] > taken[0]);
		l.loss = 0;
		run(&l, 100);
		taken[0] = (uint32_t)l.end[0].resent;
		run(&l, 1000); /* 100 first waits */
		assert_in_range(l.end[0].resent - taken[0], 0, 100);
		l.stuck = false;
		settle(&l);
		end(&l);
	}
}

/* An acknowledgement of what was never sent, or of another stream, changes nothing. */
static void test_false_acks(void **state)
{
	struct stream s;
	struct wire_header h = {.stream = 2ULL << 32 | 1,
		.ack_stream = 1ULL << 32 | 1,
		.ack = 7,
		.sack = UINT64_MAX};

	(void)state;
	stream_init(&s, 1ULL << 32 | 1, RESEND_US);
	(void)stream_push(&s, "x", 1);
	(void)stream_push(&s, "y", 1);
	(void)stream_hear(&s, &h);
	assert_int_equal(s.acked, 0);
	h.ack = 1;
	h.ack_stream = 1ULL << 32 | 2;
	(void)stream_hear(&s, &h);
	assert_int_equal(s.acked, 0);
	h.ack_stream = s.id;
	(void)stream_hear(&s, &h);
	assert_int_equal(s.acked, 1);
	stream_free(&s);
}

/* A segment that others overtook is sent again at once, but once. */
static void test_overtaken(void **state)
{
	struct wire_header h = {.stream = 2ULL << 32 | 1, .ack_stream = 1ULL << 32 | 1, .sack = 1};
	const uint8_t *payload;
	struct stream s;
	uint32_t seq;
	size_t len;

	(void)state;
	stream_init(&s, 1ULL << 32 | 1, RESEND_US);
	(void)stream_push(&s, "x", 1);
	assert_true(stream_next(&s, 1, &seq, &payload, &len));
	(void)stream_push(&s, "y", 1);
	assert_true(stream_next(&s, 2, &seq, &payload, &len));
	assert_false(stream_next(&s, 3, &seq, &payload, &len));
	(void)stream_hear(&s, &h); /* y has arrived */
	assert_true(stream_next(&s, 3, &seq, &payload, &len));
	assert_int_equal(seq, 1);
	(void)stream_hear(&s, &h);
	assert_false(stream_next(&s, 4, &seq, &payload, &len));
	assert_true(stream_next(&s, 3 + RESEND_US, &seq, &payload, &len));
	stream_free(&s);
}

static void test_restarts(void **state)
{
	struct stream s;
	struct wire_header h = {.stream = 2ULL << 32 | 1};

	(void)state;
	stream_init(&s, 1ULL << 32 | 1, RESEND_US);
	assert_int_equal(stream_hear(&s, &h), STREAM_NEW_LIFE);
	assert_int_equal(stream_hear(&s, &h), STREAM_GOES_ON);
	h.stream++;
	assert_int_equal(stream_hear(&s, &h), STREAM_NEW);
	h.stream--;
	assert_int_equal(stream_hear(&s, &h), STREAM_OLD);
	h.stream = 3ULL << 32 | 1;
	assert_int_equal(stream_hear(&s, &h), STREAM_NEW_LIFE);
	/* A life that had ended cannot come back: there are two machines. */
	h.stream = 2ULL << 32 | 1;
	assert_int_equal(stream_hear(&s, &h), STREAM_TWO_LIVES);
	h.stream = 3ULL << 32 | 1;
	assert_int_equal(stream_hear(&s, &h), STREAM_TWO_LIVES);
	h.stream = 4ULL << 32 | 1;
	assert_int_equal(stream_hear(&s, &h), STREAM_NEW_LIFE);
	(void)stream_push(&s, "x", 1);
	stream_restart(&s);
	assert_true(stream_idle(&s));
	assert_true(s.id == (1ULL << 32 | 2));
	stream_free(&s);
}

/* A clone of ours spoke to the other end, and is gone: that has forgotten how far we were. */
static void test_forgotten(void **state)
{
	struct wire_header h = {.stream = 2ULL << 32 | 1, .ack_stream = 1ULL << 32 | 1, .ack = 2};
	enum stream_heard heard = STREAM_GOES_ON;
	struct stream s;

	(void)state;
	stream_init(&s, 1ULL << 32 | 1, RESEND_US);
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(stream_push(&s, "x", 1), 0);
	assert_int_equal(stream_hear(&s, &h), STREAM_NEW_LIFE);
	/* Overtaken ones may say less, between others. */
	for (unsigned int i = 0; i < 100; i++) {
		h.ack = i % 2 ? 2 : 0;
		assert_int_equal(stream_hear(&s, &h), STREAM_GOES_ON);
	}
	h.ack = 0;
	for (unsigned int i = 0; i < 100 && heard == STREAM_GOES_ON; i++)
		heard = stream_hear(&s, &h);
	assert_int_equal(heard, STREAM_LOST);
	stream_restart(&s);
	h.ack_stream = s.id;
	assert_int_equal(stream_hear(&s, &h), STREAM_GOES_ON);
	stream_free(&s);
}

/* Likewise, of what had arrived early: nobody has it any more. */
static void test_forgotten_early(void **state)
{
	struct wire_header h = {.stream = 2ULL << 32 | 1, .ack_stream = 1ULL << 32 | 1};
	enum stream_heard heard = STREAM_GOES_ON;
	struct stream s;

	(void)state;
	stream_init(&s, 1ULL << 32 | 1, RESEND_US);
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(stream_push(&s, "x", 1), 0);
	h.sack = 1; /* segment 2 */
	assert_int_equal(stream_hear(&s, &h), STREAM_NEW_LIFE);
	/* Of those in order it may take one, and the next one later. */
	h.ack = 1;
	h.sack = WIRE_SACK_NEXT;
	for (unsigned int i = 0; i < 100; i++)
		assert_int_equal(stream_hear(&s, &h), STREAM_GOES_ON);
	h.sack = 0;
	for (unsigned int i = 0; i < 100 && heard == STREAM_GOES_ON; i++)
		heard = stream_hear(&s, &h);
	assert_int_equal(heard, STREAM_LOST);
	stream_free(&s);
}

static void test_next_is_told(void **state)
{
	struct wire_header h;
	struct stream s;

	(void)state;
	stream_init(&s, 1ULL << 32 | 1, RESEND_US);
	stream_arrived(&s, 2, "x", 1);
	stream_header(&s, &h);
	assert_true(h.sack == 1);
	stream_arrived(&s, 1, "x", 1);
	stream_header(&s, &h);
	assert_true(h.ack == 0 && h.sack == (1 | WIRE_SACK_NEXT));
	stream_taken(&s);
	stream_header(&s, &h);
	assert_true(h.ack == 1 && h.sack == WIRE_SACK_NEXT);
	stream_taken(&s);
	stream_header(&s, &h);
	assert_true(h.ack == 2 && h.sack == 0);
	stream_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good_link),
		cmocka_unit_test(test_bad_links),
		cmocka_unit_test(test_wrap),
		cmocka_unit_test(test_window),
		cmocka_unit_test(test_stuck),
		cmocka_unit_test(test_false_acks),
		cmocka_unit_test(test_overtaken),
		cmocka_unit_test(test_restarts),
		cmocka_unit_test(test_forgotten),
		cmocka_unit_test(test_forgotten_early),
		cmocka_unit_test(test_next_is_told),
	};

	return cmocka_run_group_tests_name("stream", tests, NULL, NULL);
}
