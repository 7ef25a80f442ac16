/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_lease.c - what only one member may do at a time: the one that does it has ended before the
 * next one begins (the arithmetic of core/member.h), and does not end while it lives. Ticks are
 * late by less than a tick, datagrams take their time, and the last heartbeat of a dying member may
 * be lost.
 */
#include "cluster.h"

#define TICK_US (HEARTBEAT_US / 2)
#define STEP_US 50
#define WORLDS 2000

static uint64_t ticks[MEMBERS]; /* when each member's next tick is due, and ... */
static uint64_t late_us[MEMBERS]; /* ... how late it will be */

static uint64_t lease_ends(const struct member *m)
{
	return member_heartbeat_sent_us(m) + member_lease_us(HEARTBEAT_US, DEAD);
}

static void tick(unsigned int id)
{
	struct gateway *g = &gateways[id];

	ticks[id] += TICK_US;
	late_us[id] = draw(TICK_US - STEP_US);
	/* Not while it lives, once it follows a view. */
	if (member_heartbeat_sent_us(g->m))
		assert_true(now_us < lease_ends(g->m));
	member_tick(g->m, now_us);
	member_flush(g->m, now_us);
}

/* A step. What is on its way arrives in it, or not. */
static void pass_time(void)
{
	now_us += STEP_US;
	for (unsigned int i = 0; i < n_flying; i++) {
		struct datagram *d = &flying[i];
		struct gateway *to = &gateways[d->to];

		if (!d->len || draw(4))
			continue;
		if (to->m)
			member_datagram(to->m, d->from, d->bytes, d->len, now_us);
		d->len = 0;
	}
	while (n_flying && !flying[n_flying - 1].len)
		n_flying--;
	for (unsigned int id = 0; id < members; id++)
		if (gateways[id].m && now_us >= ticks[id] + late_us[id])
			tick(id);
}

static bool are_one(void)
{
	for (unsigned int id = 0; id < members; id++)
		if (member_view(gateways[id].m)->live != (1U << members) - 1)
			return false;
	return true;
}

static void begin_world(uint64_t seed)
{
	setup_sas(1);
	random_state = seed;
	for (unsigned int id = 0; id < members; id++) {
		start(id);
		ticks[id] = now_us + draw(TICK_US);
	}
	for (unsigned int i = 0; !are_one(); i++) {
		assert_in_range(i, 0, 100000);
		pass_time();
	}
	for (unsigned int i = draw(1000); i; i--)
		pass_time();
}

/* Nothing that it sent last, with the heartbeat, arrives. */
static void lose_last_heartbeat(unsigned int id)
{
	uint64_t last_us = member_heartbeat_sent_us(gateways[id].m);

	while (member_heartbeat_sent_us(gateways[id].m) == last_us)
		pass_time();
	for (unsigned int i = 0; i < n_flying; i++)
		if (flying[i].from == id)
			flying[i].len = 0;
}

static void test_silent_first(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= WORLDS; seed++) {
		uint64_t silent_us;

		begin_world(seed);
		assert_int_equal(view_lowest(member_view(gateways[1].m)->live), 0);
		if (draw(2))
			lose_last_heartbeat(0);
		silent_us = lease_ends(gateways[0].m);
		power_off(0);
		while (member_view(gateways[1].m)->live & 1 || member_view(gateways[2].m)->live & 1)
			pass_time();
		for (unsigned int id = 1; id < members; id++)
			assert_true(gateways[id].published_us > silent_us);
		teardown(NULL);
	}
}

/* What its earlier life left in the datapath is old: no lease for it. */
static void test_new_life(void **state)
{
	(void)state;
	begin_world(1);
	power_off(0);
	while (member_view(gateways[1].m)->live & 1)
		pass_time();
	start(0);
	gateways[0].m->config.start_us = 1000000; /* it looks for the others first */
	ticks[0] = now_us;
	tick(0);
	assert_int_equal(gateways[0].m->heartbeat_sent_us, now_us);
	for (; !member_view(gateways[0].m)->live; pass_time())
		assert_int_equal(member_heartbeat_sent_us(gateways[0].m), 0);
	assert_int_equal(view_lowest(member_view(gateways[0].m)->live), 1);
	teardown(NULL);
}

/* Stopped for longer than the others waited, if not for that long at once: it steps out of its view
 * before it sends a heartbeat. */
static void test_late(void **state)
{
	(void)state;
	begin_world(1);
	while (now_us < member_heartbeat_sent_us(gateways[0].m) + HEARTBEAT_US - 1000)
		now_us += STEP_US;
	gateways[0].m->ticked_us = now_us;
	now_us += DEAD * HEARTBEAT_US - 500;
	member_tick(gateways[0].m, now_us);
	assert_int_equal(member_view(gateways[0].m)->live & 1, 0);
	teardown(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_silent_first),
		cmocka_unit_test(test_new_life),
		cmocka_unit_test(test_late),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
