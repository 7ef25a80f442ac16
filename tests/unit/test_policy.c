/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_policy.c - policies that lead to no SA, or do not say to which: they are on all members
 * until whoever made them deletes them, and no member's mishap takes them from the others.
 */
#include "cluster.h"

#define POLICY 9
#define TUNNEL 't'
#define MOVED 'm'
#define OTHER 'o'
#define TRAP 'a'
#define BLOCK 'b'

static struct record_key policy_key(void)
{
	return (struct record_key){
		.kind = RECORD_POLICY, .proto = 1, .family = 2, .addr = {POLICY}};
}

static uint64_t pair_of(uint8_t what)
{
	switch (what) {
	case TUNNEL:
		return pair_at(0, 0);
	case MOVED:
		return pair_at(0, 1);
	case OTHER:
		return pair_at(2, 0);
	default:
		return 0;
	}
}

/* As the kernel tells it. A tunnel's leads to the pair of SA 0, where its peer is first or has
 * moved to; another one's to that of SA 2. */
static void tell(struct gateway *g, uint8_t what)
{
	struct member_record record = {
		.key = policy_key(),
		.facts = {.pair = pair_of(what),
			.direction = ESPALIER_OUT,
			.remote = {.prefixlen = ESPALIER_SELECTOR_BITS + 24,
				.family = 2,
				.addr = {10, 1}}},
		.body = &what,
		.body_len = 1,
	};

	g->policies[POLICY] = true;
	g->policy_bodies[POLICY] = what;
	member_added(g->m, &record);
}

static void make(unsigned int id, uint8_t what)
{
	tell(&gateways[id], what);
	run(100);
}

static void unmake(unsigned int id)
{
	struct record_key key = policy_key();

	gateways[id].policies[POLICY] = false;
	member_removed(gateways[id].m, &key);
	run(100);
}

static void start_policies(struct gateway *g)
{
	if (g->policies[POLICY])
		tell(g, g->policy_bodies[POLICY]);
}

static int setup(void **state)
{
	(void)state;
	setup_sas(4);
	pairs = placed = true;
	start_more = start_policies;
	for (unsigned int id = 0; id < MEMBERS; id++)
		start(id);
	run(500);
	return 0;
}

static void all_have(uint8_t what)
{
	for (unsigned int id = 0; id < MEMBERS; id++) {
		assert_true(gateways[id].policies[POLICY]);
		assert_int_equal(gateways[id].policy_bodies[POLICY], what);
	}
}

static void none_has(void)
{
	for (unsigned int id = 0; id < MEMBERS; id++)
		assert_false(gateways[id].policies[POLICY]);
}

static void test_travels(void **state)
{
	(void)state;
	make(0, BLOCK);
	all_have(BLOCK);
	make(0, TRAP);
	all_have(TRAP);
	unmake(0);
	none_has();
	make(1, BLOCK);
	all_have(BLOCK);
}

/* The traffic must not leave in the clear meanwhile, anywhere. */
static void test_tunnel_becomes_a_trap(void **state)
{
	unsigned int removed[MEMBERS];

	(void)state;
	create(0, 0, 100);
	create(0, 1, 101);
	make(0, TUNNEL);
	all_have(TUNNEL);
	assert_int_not_equal(gateways[1].selectors[0].key.prefixlen, 0);
	for (unsigned int id = 0; id < MEMBERS; id++)
		removed[id] = gateways[id].removed;
	make(0, TRAP);
	all_have(TRAP);
	for (unsigned int id = 0; id < MEMBERS; id++) {
		assert_int_equal(gateways[id].removed, removed[id]);
		assert_int_equal(gateways[id].selectors[0].key.prefixlen, 0);
	}
	make(0, TUNNEL);
	all_have(TUNNEL);
	assert_int_not_equal(gateways[1].selectors[0].key.prefixlen, 0);
}

static void flush(unsigned int id)
{
	struct record_key key = policy_key();

	gateways[id].policies[POLICY] = false;
	member_flushed(gateways[id].m, &key);
	run(300);
}

static void end_sas(unsigned int id)
{
	for (unsigned int sa = 0; sa < 2; sa++) {
		struct record_key key = sa_key(sa);

		gateways[id].sas[sa].present = false;
		member_removed(gateways[id].m, &key);
	}
	run(100);
}

static void hot_standby(void)
{
	for (unsigned int id = 0; id < MEMBERS; id++)
		kill_agent(id);
	mode = VIEW_HOT_STANDBY;
	for (unsigned int id = 0; id < MEMBERS; id++)
		start(id);
	run(500);
}

/* A tunnel that member 0 makes, where all have a trap of their own before. */
static void tunnel_over_traps(void)
{
	for (unsigned int id = 0; id < MEMBERS; id++)
		make(id, TRAP);
	create(0, 0, 100);
	create(0, 1, 101);
	make(0, TUNNEL);
	all_have(TUNNEL);
}

/* An IKE daemon that has made a policy of this selector before, and none of these SAs, is stopped:
 * without the policy what the SAs are for would leave in the clear. */
static void test_daemon_of_a_standby_stops(void **state)
{
	(void)state;
	hot_standby();
	tunnel_over_traps();
	unmake(1);
	all_have(TUNNEL);
	assert_int_equal(gateways[1].notices[NOTICE_KEPT], 1);
	assert_int_equal(gateways[0].notices[NOTICE_HELD], 0);
	end_sas(0);
	unmake(0);
	all_have(TUNNEL); /* member 2 has made one, too */
	unmake(2);
	none_has();
}

/* A flush ends what was made on that member: this policy was, before. */
static void test_flush_of_a_standby(void **state)
{
	(void)state;
	hot_standby();
	tunnel_over_traps();
	flush(1);
	all_have(TUNNEL);
}

/* Its trap would take the place of the tunnel's policy everywhere. */
static void test_daemon_of_a_standby_starts(void **state)
{
	(void)state;
	create(0, 0, 100);
	create(0, 1, 101);
	make(0, TUNNEL);
	make(1, TRAP);
	all_have(TUNNEL);
	assert_int_equal(gateways[1].notices[NOTICE_KEPT], 1);
	make(1, BLOCK);
	all_have(TUNNEL);
	/* Its own SAs may take it, those of before still living. */
	create(1, 2, 102);
	create(1, 3, 103);
	make(1, OTHER);
	all_have(OTHER);
	end_sas(0);
	all_have(OTHER);
}

/* Neither made these SAs, and nobody is left who has. */
static void test_daemon_of_a_new_owner_stops(void **state)
{
	(void)state;
	hot_standby();
	tunnel_over_traps();
	power_off(0);
	run(500);
	for (unsigned int id = 1; id < MEMBERS; id++) {
		unmake(id);
		assert_true(gateways[1].policies[POLICY] && gateways[2].policies[POLICY]);
	}
	/* Nobody but the owner has deleted it: then it ends with its SAs. */
	end_sas(1);
	assert_false(gateways[1].policies[POLICY] || gateways[2].policies[POLICY]);
}

/* The IKE daemon that made it deletes first the policy, then the SAs. */
static void test_daemon_of_the_maker_stops(void **state)
{
	(void)state;
	hot_standby();
	create(0, 0, 100);
	create(0, 1, 101);
	make(0, TUNNEL);
	kill_agent(0);
	memset(gateways[0].selectors, 0, sizeof(gateways[0].selectors)); /* as agent/start.c */
	run(500);
	start(0);
	run(500);
	unmake(0);
	none_has();
	end_sas(0);
	none_has();
}

/* Its peer is elsewhere, and an IKE daemon, or our agent, says so. */
static void move_sas(unsigned int id)
{
	for (unsigned int sa = 0; sa < 2; sa++) {
		struct record_key key = sa_key(sa);

		gateways[id].sas[sa].present = false;
		member_removed(gateways[id].m, &key);
		gateways[id].sas[sa].present = true;
		gateways[id].sas[sa].place = 1;
		tell_kernel(&gateways[id], sa);
	}
}

static void all_moved(void)
{
	run(300);
	all_have(MOVED);
	for (unsigned int id = 0; id < MEMBERS; id++) {
		for (unsigned int sa = 0; sa < 2; sa++)
			assert_true(
				gateways[id].sas[sa].present && gateways[id].sas[sa].place == 1);
		assert_int_equal(gateways[id].notices[NOTICE_KEPT], 0);
		assert_int_equal(gateways[id].notices[NOTICE_HELD], 0);
		assert_int_not_equal(gateways[id].selectors[0].key.prefixlen, 0);
	}
}

/* A tunnel that member 0 made and that is member `owner`'s now. */
static void tunnel_of(unsigned int owner)
{
	hot_standby();
	create(0, 0, 100);
	create(0, 1, 101);
	make(0, TUNNEL);
	for (unsigned int id = 0; id < owner; id++)
		member_link(gateways[id].m, false);
	run(500);
	all_have(TUNNEL);
	assert_int_equal(guard_owner(&gateways[2], 1), owner);
}

/* Policies and SAs move one by one. */
static void moves_in_any_order(unsigned int id, unsigned int owner, unsigned int between_ms)
{
	tunnel_of(owner);
	tell(&gateways[id], MOVED);
	run(between_ms);
	move_sas(id);
	run(15);
	all_have(MOVED);
	all_moved();
}

static void test_moves_on_the_maker(void **state)
{
	(void)state;
	moves_in_any_order(0, 0, 0);
}

static void test_moves_slowly_on_the_maker(void **state)
{
	(void)state;
	moves_in_any_order(0, 0, 30);
}

static void test_moves_on_the_maker_for_another_owner(void **state)
{
	(void)state;
	moves_in_any_order(0, 1, 30);
}

/* Its kernel has heard where the peer is. */
static void test_moves_on_a_new_owner(void **state)
{
	(void)state;
	moves_in_any_order(1, 1, 0);
}

static void test_moves_slowly_on_a_new_owner(void **state)
{
	(void)state;
	moves_in_any_order(1, 1, 30);
}

static void test_sas_move_first(void **state)
{
	(void)state;
	tunnel_of(1);
	move_sas(1);
	run(30);
	tell(&gateways[1], MOVED);
	all_moved();
}

/* Between the SAs, one of which has just been deleted. */
static void test_moves_amidst_its_sas(void **state)
{
	struct record_key key = sa_key(1);

	(void)state;
	tunnel_of(1);
	gateways[1].sas[1].present = false;
	member_removed(gateways[1].m, &key);
	tell(&gateways[1], MOVED);
	run(20);
	move_sas(1);
	all_moved();
}

/* Others hear in the order of a comparison what was done in another one. */
static void send_last_first(unsigned int id)
{
	for (unsigned int to = 0; to < MEMBERS; to++) {
		struct queue *q = &gateways[id].m->others[to].queue;

		for (uint32_t i = 0; i < q->count / 2; i++) {
			struct queue_entry *a = &q->entries[(q->head + i) % q->size];
			struct queue_entry *b = &q->entries[(q->head + q->count - 1 - i) % q->size];
			struct queue_entry first = *a;

			*a = *b;
			*b = first;
		}
	}
}

static void heard_in_another_order(unsigned int id)
{
	tunnel_of(1);
	move_sas(id);
	tell(&gateways[id], MOVED);
	send_last_first(id);
	run(300);
	all_have(MOVED);
}

static void test_maker_hears_of_the_policy_first(void **state)
{
	(void)state;
	heard_in_another_order(1);
	assert_int_equal(gateways[0].notices[NOTICE_HELD], 1);
}

static void test_owner_hears_of_the_policy_first(void **state)
{
	(void)state;
	heard_in_another_order(0);
	assert_int_equal(gateways[1].notices[NOTICE_HELD], 1);
}

/* Nobody is there to hear of it, and afterwards what each has is compared in whatever order. */
static void test_moves_while_apart(void **state)
{
	(void)state;
	tunnel_of(0);
	for (unsigned int id = 0; id < MEMBERS; id++)
		gateways[id].mute = true;
	run(500);
	move_sas(1);
	tell(&gateways[1], MOVED);
	run(500);
	for (unsigned int id = 0; id < MEMBERS; id++)
		gateways[id].mute = false;
	run(3000);
	all_have(MOVED);
}

/* A trap may have addresses, too, and none of the SAs that it waits for is there. */
static void test_trap_with_addresses(void **state)
{
	(void)state;
	tunnel_of(0);
	tell(&gateways[1], MOVED);
	run(40);
	assert_int_equal(gateways[0].policy_bodies[POLICY], TUNNEL);
	run(60);
	all_have(TUNNEL);
	assert_int_equal(gateways[1].notices[NOTICE_KEPT], 1);
	make(0, MOVED);
	all_have(MOVED);
}

/* What comes last counts. */
static void test_changes_its_mind(void **state)
{
	(void)state;
	tunnel_of(1);
	tell(&gateways[1], MOVED);
	run(20);
	tell(&gateways[1], TUNNEL);
	move_sas(1);
	run(300);
	all_have(TUNNEL);
	assert_int_equal(gateways[1].notices[NOTICE_KEPT], 0);
}

/* And before any of them has been judged. */
static void test_changes_twice(void **state)
{
	(void)state;
	tunnel_of(1);
	tell(&gateways[1], OTHER);
	run(20);
	tell(&gateways[1], MOVED);
	move_sas(1);
	all_moved();
}

static void test_deleted_while_it_changes(void **state)
{
	(void)state;
	tunnel_of(1);
	tell(&gateways[1], MOVED);
	run(20);
	unmake(1);
	all_have(TUNNEL);
	assert_int_equal(gateways[1].notices[NOTICE_KEPT], 1);
}

/* A member hears of the SAs after it has changed or deleted the policy. */
static void test_who_does_not_know(void **state)
{
	(void)state;
	create(0, 0, 100);
	create(0, 1, 101);
	make(0, TUNNEL);
	power_off(1);
	run(500);
	start(1);
	for (unsigned int n = 0; n < 10; n++)
		tell(&gateways[1], n % 2 ? BLOCK : TRAP); /* the later news */
	run(1000);
	all_have(TUNNEL);
	assert_int_equal(gateways[0].notices[NOTICE_HELD], 1);
}

/* Somebody flushes them on a member that has copies only. */
static void test_a_copy_comes_back(void **state)
{
	(void)state;
	make(0, BLOCK);
	unmake(1);
	all_have(BLOCK);
	unmake(0);
	none_has();
}

/* A flush ends what was made on that member since its agent started. */
static void test_flush(void **state)
{
	(void)state;
	make(0, BLOCK);
	flush(1);
	all_have(BLOCK);
	kill_agent(0);
	start(0);
	run(500);
	flush(0);
	all_have(BLOCK);
	unmake(0);
	none_has();
	make(1, BLOCK);
	all_have(BLOCK);
	flush(1);
	none_has();
}

/* The same script, or an IKE daemon, on two members: each takes back what it made. */
static void test_made_on_two(void **state)
{
	(void)state;
	make(0, BLOCK);
	make(1, BLOCK);
	unmake(0);
	all_have(BLOCK);
	assert_int_equal(gateways[1].notices[NOTICE_MADE_HERE], 1);
	unmake(1);
	none_has();
	assert_int_equal(gateways[0].notices[NOTICE_MADE_HERE], 0);
}

/* As if our journal were an old one. */
static void test_numbers_of_a_policy(void **state)
{
	struct record_key key = policy_key();
	struct record *r;

	(void)state;
	make(1, BLOCK);
	r = table_find(&gateways[1].m->table, &key);
	r->upto[0] = 5;
	r->journals[0] = gateways[0].journal;
	outbox_mark(gateways[1].m, r);
	run(20);
	assert_int_equal(gateways[0].journals_old, 0);
	assert_true(member_counters(gateways[0].m)->out_of_bounds > 0);
}

/* A member that finds it in its kernel at its start has not made it. */
static void test_maker_is_remembered(void **state)
{
	(void)state;
	make(0, BLOCK);
	for (unsigned int id = MEMBERS - 1; id < MEMBERS; id--) {
		kill_agent(id);
		run(500);
		start(id);
		run(500);
	}
	unmake(2);
	all_have(BLOCK);
	unmake(0);
	none_has();
}

/* Of those who found it one is as good as another. */
static void test_all_start_again(void **state)
{
	(void)state;
	make(0, BLOCK);
	for (unsigned int id = 0; id < MEMBERS; id++)
		kill_agent(id);
	for (unsigned int id = 0; id < MEMBERS; id++)
		start(id);
	run(500);
	all_have(BLOCK);
	unmake(0);
	none_has();
	for (unsigned int id = 0; id < MEMBERS; id++)
		assert_int_equal(member_counters(gateways[id].m)->malformed, 0);
}

/* By who made it, and not by an old copy of it. */
static void test_changed_while_stopped(void **state)
{
	(void)state;
	make(0, TUNNEL);
	make(0, TRAP);
	kill_agent(0);
	run(500);
	gateways[0].policy_bodies[POLICY] = BLOCK;
	start(0);
	run(500);
	all_have(BLOCK);
	kill_agent(1);
	run(500);
	gateways[1].policy_bodies[POLICY] = TRAP;
	start(1);
	run(500);
	all_have(BLOCK);
}

/* What an administrator had before the first agent is his. */
static void test_first_day(void **state)
{
	(void)state;
	for (unsigned int id = 0; id < MEMBERS; id++) {
		kill_agent(id);
		gateways[id].policies[POLICY] = id < 2;
		gateways[id].policy_bodies[POLICY] = BLOCK;
	}
	first_day = true;
	for (unsigned int id = 0; id < MEMBERS; id++)
		start(id);
	run(500);
	all_have(BLOCK);
	unmake(1);
	all_have(BLOCK);
	unmake(0);
	none_has();
}

static void test_maker_is_gone(void **state)
{
	(void)state;
	make(0, BLOCK);
	power_off(0);
	run(500);
	unmake(1);
	assert_false(gateways[1].policies[POLICY]);
	assert_false(gateways[2].policies[POLICY]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_travels),
		TEST(test_tunnel_becomes_a_trap),
		TEST(test_daemon_of_a_standby_stops),
		TEST(test_flush_of_a_standby),
		TEST(test_daemon_of_a_standby_starts),
		TEST(test_daemon_of_a_new_owner_stops),
		TEST(test_daemon_of_the_maker_stops),
		TEST(test_moves_on_the_maker),
		TEST(test_moves_slowly_on_the_maker),
		TEST(test_moves_on_the_maker_for_another_owner),
		TEST(test_moves_on_a_new_owner),
		TEST(test_moves_slowly_on_a_new_owner),
		TEST(test_sas_move_first),
		TEST(test_moves_amidst_its_sas),
		TEST(test_maker_hears_of_the_policy_first),
		TEST(test_owner_hears_of_the_policy_first),
		TEST(test_moves_while_apart),
		TEST(test_trap_with_addresses),
		TEST(test_changes_its_mind),
		TEST(test_changes_twice),
		TEST(test_deleted_while_it_changes),
		TEST(test_who_does_not_know),
		TEST(test_a_copy_comes_back),
		TEST(test_flush),
		TEST(test_numbers_of_a_policy),
		TEST(test_made_on_two),
		TEST(test_maker_is_remembered),
		TEST(test_all_start_again),
		TEST(test_changed_while_stopped),
		TEST(test_first_day),
		TEST(test_maker_is_gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
