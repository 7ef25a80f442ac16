/* SPDX-License-Identifier: BSD-2-Clause */
/* DTLS associations with a pre-shared key: faults, restarts, attacks. */
#include "dtls_link.h"

static void test_connects(void **state)
{
	struct link *l = link_open_psk();
	uint64_t began = now_us;

	(void)state;
	assert_int_equal(end_send(&l->ends[0], 1), -ENOTCONN);
	link_run(l, SECOND / 10);
	assert_true(link_is_up(l));
	assert_works(l, 1);
	assert_true(now_us - began < SECOND / 5);
	for (unsigned int i = 0; i < 2; i++) {
		assert_int_equal(dtls_handshakes(l->ends[i].dtls), 1);
		assert_int_equal(l->ends[i].rejected, 0);
	}
	link_close(l);
}

static void test_sizes(void **state)
{
	struct link *l = link_open_psk();
	uint8_t buf[DTLS_PAYLOAD_MAX + 1] = {0};

	(void)state;
	link_run(l, SECOND / 10);
	assert_int_equal(dtls_send(l->ends[0].dtls, buf, 0), -EMSGSIZE);
	assert_int_equal(dtls_send(l->ends[0].dtls, buf, sizeof(buf)), -EMSGSIZE);
	assert_int_equal(dtls_send(l->ends[0].dtls, buf, DTLS_PAYLOAD_MAX), 0);
	l->queued = 0;
	link_close(l);
}

/* Up, and what was under way has arrived. */
static struct link *link_open_up(void)
{
	struct link *l = link_open_psk();

	link_run(l, SECOND / 10);
	assert_true(link_is_up(l));
	assert_int_equal(l->queued, 0);
	return l;
}

/* A sealed datagram from end 1 that end 0 has not seen. */
static struct datagram capture(struct link *l, uint32_t number)
{
	l->cut = true;
	assert_int_equal(end_send(&l->ends[1], number), 0);
	l->cut = false;
	return l->last[1];
}

static void run_faulty(uint64_t seed, unsigned int loss, uint64_t jitter_us)
{
	struct link *l = link_open_psk();
	unsigned int sent = 0;

	l->rng = seed * 2654435761U + 1;
	l->loss = loss;
	l->twice = 15;
	l->corrupt = 10;
	l->jitter_us = jitter_us;
	for (uint32_t i = 0; i < 300; i++) {
		for (unsigned int e = 0; e < 2; e++)
			sent += end_send(&l->ends[e], i) == 0;
		link_run(l, 50000);
	}
	/* 15 s: far longer than a handshake takes, with most of its datagrams lost, too. */
	if (!link_is_up(l) || l->ends[0].delivered + l->ends[1].delivered < sent / 4)
		fail_msg("seed %llu: %u sent, %u and %u delivered", (unsigned long long)seed, sent,
			l->ends[0].delivered, l->ends[1].delivered);
	for (uint32_t i = 0; i < 300; i++)
		assert_true(l->ends[0].seen[i] <= 1 && l->ends[1].seen[i] <= 1);
	l->loss = l->twice = l->corrupt = 0;
	l->jitter_us = 0;
	link_run(l, 5 * SECOND);
	assert_works(l, 1000);
	link_close(l);
}

static void test_faulty_link(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 40; seed++)
		run_faulty(seed, 5 + seed % 30, seed % 4 * 5000);
}

static void test_bit_flips(void **state)
{
	struct link *l = link_open_up();
	struct datagram d = capture(l, 7);

	(void)state;
	for (size_t bit = 0; bit < d.len * 8; bit++) {
		struct datagram flipped = d;

		flipped.buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(receive(&l->ends[0], flipped.buf, flipped.len), -EBADMSG);
	}
	assert_int_equal(l->ends[0].delivered, 0);
	assert_int_equal(receive(&l->ends[0], d.buf, d.len), 1);
	assert_int_equal(l->ends[0].seen[7], 1);
	assert_works(l, 8);
	assert_int_equal(dtls_handshakes(l->ends[0].dtls), 1);
	link_close(l);
}

static void test_lengths(void **state)
{
	struct link *l = link_open_up();
	struct datagram d = capture(l, 9);
	uint8_t longer[DTLS_DATAGRAM_MAX + 64] = {0};

	(void)state;
	memcpy(longer, d.buf, d.len);
	for (size_t len = 0; len < sizeof(longer); len++)
		if (len != d.len)
			assert_int_equal(receive(&l->ends[0], longer, len), -EBADMSG);
	assert_int_equal(l->ends[0].delivered, 0);
	assert_int_equal(receive(&l->ends[0], d.buf, d.len), 1);
	assert_works(l, 10);
	link_close(l);
}

static void test_replays(void **state)
{
	struct link *l = link_open_up();
	struct datagram d[300];

	(void)state;
	for (uint32_t i = 0; i < 300; i++)
		d[i] = capture(l, i);
	for (uint32_t i = 0; i < 300; i++)
		assert_int_equal(receive(&l->ends[0], d[i].buf, d[i].len), 1);
	for (uint32_t i = 0; i < 300; i++)
		assert_int_equal(receive(&l->ends[0], d[i].buf, d[i].len), -EBADMSG);
	assert_int_equal(l->ends[0].delivered, 300);
	assert_int_equal(l->ends[0].rejected, 300);
	assert_works(l, 400);
	link_close(l);
}

/* Sent back to where it came from. */
static void test_reflection(void **state)
{
	struct link *l = link_open_up();
	struct datagram d = capture(l, 3);

	(void)state;
	assert_int_equal(receive(&l->ends[1], d.buf, d.len), -EBADMSG);
	assert_int_equal(l->ends[1].delivered, 0);
	assert_works(l, 4);
	link_close(l);

	l = link_open_psk();
	dtls_tick(l->ends[1].dtls, now_us); /* its ClientHello */
	d = l->last[1];
	assert_int_equal(receive(&l->ends[1], d.buf, d.len), -EBADMSG);
	link_close(l);
}

/* An alert in the clear, "handshake_failure", at every moment of a handshake. */
static void test_forged_alerts(void **state)
{
	const uint8_t alert[] = {21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 99, 0, 2, 2, 40};
	struct link *l = link_open_psk();

	(void)state;
	for (uint64_t until = now_us + SECOND / 10; now_us < until;) {
		link_step(l, until);
		assert_int_equal(receive(&l->ends[0], alert, sizeof(alert)), -EBADMSG);
		assert_int_equal(receive(&l->ends[1], alert, sizeof(alert)), -EBADMSG);
	}
	assert_true(link_is_up(l));
	assert_works(l, 1);
	link_close(l);
}

static void test_wrong_key(void **state)
{
	struct dtls_config a = psk_config(0), b = psk_config(1);

	(void)state;
	b.psk = (const uint8_t *)"an example of a pre-shared Key.";
	assert_never_up(link_open(&a, &b));
}

static void test_wrong_cluster(void **state)
{
	struct dtls_config a = psk_config(0), b = psk_config(1);

	(void)state;
	b.cluster = "another";
	assert_never_up(link_open(&a, &b));
}

/* The client has the key, but says that it is member 2 at member 1's address. */
static void test_wrong_client_identity(void **state)
{
	struct dtls_config a = psk_config(0), b = psk_config(1);
	struct link *l;

	(void)state;
	b.self = 2;
	l = link_open(&a, &b);
	end_close(&l->ends[0]);
	l->ends[0].other = 1;
	end_open(&l->ends[0], &a);
	assert_never_up(l);
}

/* What was for member 0 is led to member 1, who has the key: member 3 must notice. */
static void test_wrong_server_identity(void **state)
{
	struct dtls_config a = psk_config(1), b = psk_config(3);

	(void)state;
	assert_never_up(link_open_as(&a, &b, 0));
}

static void test_key_length(void **state)
{
	struct dtls_config config = psk_config(0);
	struct dtls_context *c = NULL;
	uint8_t longest[DTLS_PSK_MAX + 1] = {1};
	char err[256] = "";

	(void)state;
	config.psk = longest;
	for (size_t len = 0; len <= sizeof(longest); len++) {
		bool good = len >= DTLS_PSK_MIN && len <= DTLS_PSK_MAX;

		config.psk_len = len;
		assert_int_equal(
			dtls_context_open(&config, &c, err, sizeof(err)), good ? 0 : -EINVAL);
		assert_true(good || strstr(err, "pre-shared key has"));
		if (good)
			dtls_context_close(c);
	}
}

static void restart_and_check(bool first, bool second)
{
	struct dtls_config config[2] = {psk_config(0), psk_config(1)};
	struct link *l = link_open_up();
	struct datagram late = capture(l, 20);
	uint64_t began = now_us;

	if (first)
		end_restart(&l->ends[0], &config[0]);
	if (second)
		end_restart(&l->ends[1], &config[1]);
	/* Heartbeats, as the members send them all the time. */
	for (uint32_t i = 100; now_us < began + SILENCE_US + SECOND; i++) {
		end_send(&l->ends[0], i);
		end_send(&l->ends[1], i);
		link_run(l, 10000);
	}
	assert_true(link_is_up(l));
	assert_works(l, 21);
	assert_int_equal(dtls_handshakes(l->ends[0].dtls), first ? 1 : 2);
	assert_int_equal(dtls_handshakes(l->ends[1].dtls), second ? 1 : 2);
	assert_int_equal(receive(&l->ends[0], late.buf, late.len), -EBADMSG);
	assert_int_equal(l->ends[0].seen[20], 0);
	link_close(l);
}

static void test_restarts(void **state)
{
	(void)state;
	restart_and_check(true, false);
	restart_and_check(false, true);
	restart_and_check(true, true);
}

/* A member that ends in order says so: nobody waits for silence. */
static void test_close_notify(void **state)
{
	struct dtls_config config = psk_config(0);
	struct link *l = link_open_up();

	(void)state;
	end_close(&l->ends[0]);
	end_open(&l->ends[0], &config);
	link_run(l, SECOND / 10);
	assert_true(link_is_up(l));
	assert_works(l, 1);
	link_close(l);
}

static void test_silence(void **state)
{
	struct link *l = link_open_up();

	(void)state;
	l->cut = true;
	link_run(l, 7 * SECOND);
	assert_true(link_is_up(l)); /* the session waits for the cable */
	l->cut = false;
	assert_works(l, 1);
	link_run(l, SECOND + SECOND / 10); /* the longest pause between two tries */
	assert_true(dtls_handshakes(l->ends[0].dtls) >= 2);
	assert_works(l, 2);
	link_close(l);
}

/* The wall clock is set back by a day in the middle of a handshake. */
static void test_clock_jump(void **state)
{
	struct link *l = link_open_psk();

	(void)state;
	l->cut = true;
	link_run(l, 10000);
	wall_clock_s -= 86400;
	l->cut = false;
	link_run(l, 4 * SECOND);
	wall_clock_s += 86400;
	assert_true(link_is_up(l));
	assert_works(l, 1);
	link_close(l);
}

/* A second end 1, that the first one's link does not know. It need not have the key. */
static struct link *stranger_open(const char *psk)
{
	struct dtls_config a = psk_config(0), b = psk_config(1);

	b.psk = (const uint8_t *)psk;
	return link_open(&a, &b);
}

/* Somebody who can send with a member's address, but not see what goes to it. */
static void test_spoofed_hello(void **state)
{
	struct link *l = link_open_up();

	(void)state;
	for (uint32_t i = 0; i < 50; i++) {
		struct link *stranger = stranger_open("nobody's key, nobody's key, ...");

		stranger->cut = true;
		dtls_tick(stranger->ends[1].dtls, now_us);
		/* Answered with a cookie, that is all. */
		assert_int_equal(
			receive(&l->ends[0], stranger->last[1].buf, stranger->last[1].len), 0);
		assert_true(dtls_deadline(l->ends[0].dtls) == UINT64_MAX);
		link_close(stranger);
		assert_works(l, i);
	}
	assert_int_equal(dtls_handshakes(l->ends[0].dtls), 1);
	link_close(l);
}

/* ClientHellos with a cookie: one that another made, and one that was good once. */
static void test_old_cookies(void **state)
{
	struct link *l = link_open_psk(), *stranger = link_open_psk();
	struct datagram hello;

	(void)state;
	dtls_tick(stranger->ends[1].dtls, now_us);
	stranger->queued = 0;
	receive(&stranger->ends[0], stranger->last[1].buf, stranger->last[1].len);
	stranger->queued = 0;
	receive(&stranger->ends[1], stranger->last[0].buf, stranger->last[0].len);
	hello = stranger->last[1];
	assert_int_equal(receive(&l->ends[0], hello.buf, hello.len), 0);
	assert_true(dtls_deadline(l->ends[0].dtls) == UINT64_MAX);

	assert_int_equal(receive(&stranger->ends[0], hello.buf, hello.len), 0);
	assert_true(dtls_deadline(stranger->ends[0].dtls) != UINT64_MAX);
	link_run(stranger, SECOND / 10);
	assert_true(link_is_up(stranger));
	assert_int_equal(receive(&stranger->ends[0], hello.buf, hello.len), 0);
	assert_true(dtls_deadline(stranger->ends[0].dtls) == UINT64_MAX);
	assert_works(stranger, 1);
	link_close(stranger);
	link_close(l);
}

/* Somebody in the middle, without the key, gets as far as one can. */
static void test_hijack(void **state)
{
	struct link *l = link_open_up();
	struct link *stranger = stranger_open("nobody's key, nobody's key, ...");
	struct dtls_config config = psk_config(1);

	(void)state;
	end_close(&stranger->ends[0]);
	stranger->ends[0].dtls = l->ends[0].dtls; /* talks to the real end 0 */
	l->ends[0].link = stranger;
	link_run(stranger, SECOND);
	stranger->queued = 0;
	l->ends[0].link = l;
	assert_false(dtls_connected(stranger->ends[1].dtls));
	assert_int_equal(dtls_handshakes(l->ends[0].dtls), 1);
	assert_works(l, 5);

	/* Its handshake lies about, half done; the real member restarts and is let in at once. */
	end_restart(&l->ends[1], &config);
	link_run(l, SECOND / 10);
	assert_true(link_is_up(l));
	assert_works(l, 6);
	stranger->ends[0].dtls = NULL;
	link_close(stranger);
	link_close(l);
}

/* Datagrams of handshakes, as they were or damaged, again and at any time. */
static void test_old_handshakes(void **state)
{
	struct link *l = link_open_psk();
	struct datagram seen[64];
	unsigned int count = 0;

	(void)state;
	for (uint64_t until = now_us + SECOND / 10; now_us < until;) {
		link_step(l, until);
		for (unsigned int i = 0; i < l->queued && count < 64; i++)
			seen[count++] = l->queue[i];
	}
	assert_true(link_is_up(l) && count >= 6);
	for (uint32_t i = 0; i < 2000; i++) {
		struct datagram d = seen[random_below(l, count)];

		if (chance(l, 70))
			d.buf[random_below(l, (uint32_t)d.len)] ^= (uint8_t)random_below(l, 256);
		receive(&l->ends[d.to], d.buf, d.len);
		l->queued = 0; /* no answer arrives */
	}
	assert_int_equal(dtls_handshakes(l->ends[0].dtls), 1);
	assert_int_equal(dtls_handshakes(l->ends[1].dtls), 1);
	assert_works(l, 1);
	link_close(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_connects),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_faulty_link),
		cmocka_unit_test(test_bit_flips),
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_replays),
		cmocka_unit_test(test_reflection),
		cmocka_unit_test(test_forged_alerts),
		cmocka_unit_test(test_wrong_key),
		cmocka_unit_test(test_wrong_cluster),
		cmocka_unit_test(test_wrong_client_identity),
		cmocka_unit_test(test_wrong_server_identity),
		cmocka_unit_test(test_key_length),
		cmocka_unit_test(test_restarts),
		cmocka_unit_test(test_close_notify),
		cmocka_unit_test(test_silence),
		cmocka_unit_test(test_clock_jump),
		cmocka_unit_test(test_spoofed_hello),
		cmocka_unit_test(test_old_cookies),
		cmocka_unit_test(test_hijack),
		cmocka_unit_test(test_old_handshakes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
