/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_past.c - what cannot be known of an SA's past: a journal that was put back, two members that
 * made the same SA, an SA made again with the same keys. Nothing of it is let out a second time.
 */
#include "traffic.h"

static int setup(void **state)
{
	(void)state;
	setup_sas(2);
	forget_traffic();
	return 0;
}

static int setup_cluster(void **state)
{
	setup(state);
	for (unsigned int id = 0; id < MEMBERS; id++)
		start(id);
	run(500);
	return 0;
}

static void end(unsigned int id, unsigned int sa)
{
	struct record_key key = sa_key(sa);

	gateways[id].sas[sa].present = false;
	member_removed(gateways[id].m, &key);
}

static void emit_everywhere(unsigned int sa, unsigned int packets)
{
	for (unsigned int id = 0; id < MEMBERS; id++)
		if (gateways[id].m)
			(void)emit(id, sa, packets);
}

static uint8_t owner_of(unsigned int sa)
{
	const struct gateway *g = gateways;

	while (!g->m)
		g++;
	return guard_owner(g, sa);
}

static void cut(bool on)
{
	loss = on ? 1000 : 0;
}

static unsigned int all_notices(unsigned int id)
{
	unsigned int sum = 0;

	for (unsigned int i = 0; i < NOTICES; i++)
		sum += gateways[id].notices[i];
	return sum;
}

/* Two creators. */

static void make_twice(void)
{
	create(0, 0, 77);
	run(100);
	end(0, 0);
	run(TOMBSTONE_US / 1000 + 500);
	cut(true);
	run(200);
	create(0, 0, 78);
	create(1, 0, 78);
	run(100);
}

static void check_two_creators(void)
{
	for (unsigned int id = 0; id < MEMBERS; id++) {
		assert_int_equal(record_of(id, 0)->creator, RECORD_CREATOR_DISPUTED);
		assert_true(is_shut(&gateways[id].sas[0]));
		assert_int_equal(member_fenced_for(gateways[id].m, FENCE_TWO_CREATORS), 1);
		assert_int_equal(gateways[id].notices[NOTICE_TWO_CREATORS], 1);
		assert_int_equal(all_notices(id), 1);
	}
	assert_true(gateways[0].expires[FENCE_TWO_CREATORS] > 0);
	assert_true(gateways[1].expires[FENCE_TWO_CREATORS] > 0);
}

static void test_two_creators(void **state)
{
	unsigned int entered;

	(void)state;
	make_twice();
	cut(false);
	run(1000);
	check_two_creators();
	assert_int_equal(member_view(gateways[0].m)->live, 7);
	entered = (unsigned int)member_counters(gateways[0].m)->entered;
	emit_everywhere(0, 300);
	assert_int_equal(repeated, 0);
	assert_int_equal(member_counters(gateways[0].m)->entered, entered);
	/* A rekey heals it. */
	create(0, 1, 79);
	run(100);
	end(0, 0);
	run(100);
	assert_int_equal(member_fenced_for(gateways[1].m, FENCE_TWO_CREATORS), 0);
	assert_int_equal(emit(owner_of(1), 1, 300), 300);
}

static void test_two_creators_outlive_an_agent(void **state)
{
	(void)state;
	make_twice();
	cut(false);
	run(1000);
	kill_agent(1);
	start(1);
	assert_true(is_shut(&gateways[1].sas[0]));
	run(500);
	assert_true(is_shut(&gateways[1].sas[0]));
	assert_int_equal(member_fenced_for(gateways[1].m, FENCE_TWO_CREATORS), 1);
}

/* The copy of another's SA is known here when our kernel tells that it was made here, too. */
static void test_two_creators_in_one_kernel(void **state)
{
	(void)state;
	gateways[1].refuse = UINT32_MAX;
	create(0, 0, 78);
	run(100);
	gateways[1].refuse = 0;
	create(1, 0, 78);
	run(1000);
	check_two_creators();
	emit_everywhere(0, 300);
	assert_int_equal(repeated, 0);
}

/* Numbers of an inbound SA are the peer's. */
static void test_two_creators_of_an_inbound_one(void **state)
{
	(void)state;
	pairs = true;
	cut(true);
	run(200);
	create(0, 0, 78);
	create(1, 0, 78);
	cut(false);
	run(1000);
	for (unsigned int id = 0; id < MEMBERS; id++) {
		assert_int_equal(record_of(id, 0)->creator, 0);
		assert_int_equal(all_notices(id), 0);
	}
}

/* Made again with the same keys. */

static void others_off(void)
{
	members = 1;
	for (unsigned int id = 1; id < MEMBERS; id++)
		power_off(id);
	run(100);
}

static void test_made_again_while_the_agent_was_stopped(void **state)
{
	uint8_t owner;

	(void)state;
	create(0, 0, 77);
	run(100);
	owner = owner_of(0);
	if (owner != 0) {
		end(0, 0);
		others_off();
		create(0, 0, 78);
		run(100);
	}
	forget_traffic();
	assert_int_equal(emit(0, 0, 50), 50);
	kill_agent(0);
	gateways[0].sas[0].oseq = 0; /* another one, but who could tell? */
	start(0);
	assert_false(is_open(&gateways[0].sas[0], 1));
	(void)emit(0, 0, 100);
	assert_int_equal(repeated, 0);
	assert_true(emit(0, 0, 300) > 200);
	assert_int_equal(repeated, 0);
}

/* Beyond block 0 the guard knows what it let out, and the kernel's counter is below that. */
static void test_made_again_in_a_later_block(void **state)
{
	struct sa *sa = &gateways[0].sas[0];

	(void)state;
	others_off();
	create(0, 0, 77);
	run(100);
	for (unsigned int i = 0; i < 20; i++) {
		(void)emit(0, 0, 50);
		run(10);
	}
	assert_true(is_open(sa, sa->oseq));
	kill_agent(0);
	sa->oseq -= 20;
	start(0);
	assert_false(is_open(sa, sa->oseq + 1));
	(void)emit(0, 0, 100);
	run(100);
	assert_true(emit(0, 0, 100) > 0);
	assert_int_equal(repeated, 0);
}

/* Never seen before the start: who could tell that it was made only once? */
static void test_made_twice_while_the_agent_was_stopped(void **state)
{
	(void)state;
	kill_agent(0);
	gateways[0].sas[0] = (struct sa){.present = true, .birth = 77};
	assert_int_equal(emit(0, 0, 50), 50);
	gateways[0].sas[0].oseq = 0;
	start(0);
	assert_false(is_open(&gateways[0].sas[0], 1));
	assert_int_equal(record_of(0, 0)->creator, 0);
	run(500);
	emit_everywhere(0, 300);
	assert_int_equal(repeated, 0);
	assert_true(record_of(0, 0)->upto[0] > 1);
}

static void test_ended_key_stays_shut(void **state)
{
	uint8_t owner;

	(void)state;
	create(0, 0, 77);
	run(100);
	owner = owner_of(0);
	(void)emit(owner, 0, 300);
	end(owner, 0);
	run(100);
	for (unsigned int id = 0; id < MEMBERS; id++)
		assert_true(is_shut(&gateways[id].sas[0]));
	/* Made again with the same keys, before the agent has seen it. */
	gateways[owner].sas[0].oseq = 0;
	gateways[owner].sas[0].present = true;
	(void)emit(owner, 0, 100);
	assert_int_equal(repeated, 0);
	gateways[owner].sas[0].present = false;
	/* Over, for all: the map has room again. */
	run(TOMBSTONE_US / 1000 + 500);
	for (unsigned int id = 0; id < MEMBERS; id++)
		assert_false(gateways[id].sas[0].guarded);
}

static void test_ended_key_with_other_keys(void **state)
{
	uint8_t owner;

	(void)state;
	create(0, 0, 77);
	run(100);
	owner = owner_of(0);
	end(owner, 0);
	create(owner, 0, 78);
	run(TOMBSTONE_US / 1000 + 500);
	assert_int_equal(gateways[owner].sas[0].guard.birth, 78);
	assert_int_equal(emit(owner_of(0), 0, 300), 300);
	/* The one before is forgotten; this one's entry is not. */
	for (unsigned int id = 0; id < MEMBERS; id++)
		assert_int_equal(gateways[id].sas[0].guard.birth, 78);
}

static void test_ended_key_stays_shut_over_a_restart(void **state)
{
	uint8_t owner, other;

	(void)state;
	create(0, 0, 77);
	run(100);
	owner = owner_of(0);
	other = (owner + 1) % MEMBERS;
	end(owner, 0);
	run(100);
	for (unsigned int id = 0; id < MEMBERS; id++) {
		kill_agent(id);
		start(id);
		assert_true(is_shut(&gateways[id].sas[0]));
	}
	run(200);
	assert_true(is_shut(&gateways[other].sas[0]));
	run(2 * TOMBSTONE_US / 1000 + 500);
	for (unsigned int id = 0; id < MEMBERS; id++)
		assert_false(gateways[id].sas[0].guarded);
}

/* Nothing is forgotten unless all members were together for as long. */

/* It hears the others, they do not hear it: nobody can send it again what its kernel lost. */
static void test_unheard_member_forgets_nothing(void **state)
{
	const struct record_key key = sa_key(0);
	struct gateway *g = &gateways[1];

	(void)state;
	create(0, 0, 77);
	run(100);
	assert_true(record_of(2, 0)->upto[1] > 0);
	g->mute = true;
	run(200);
	g->sas[0].present = false;
	member_missing(g->m, &key);
	run(2 * TOMBSTONE_US / 1000 + 500);
	g->mute = false;
	run(1000);
	assert_int_equal(g->journals_old, 0);
	assert_int_equal(all_notices(1), 0);
	assert_true(g->sas[0].present);
	assert_false(is_shut(&g->sas[0]));
	assert_int_equal(member_fenced(g->m), 0);
}

static void test_tombstones_wait_for_who_was_away(void **state)
{
	(void)state;
	create(0, 0, 77);
	run(100);
	power_off(2);
	end(owner_of(0) == 2 ? 0 : owner_of(0), 0);
	run(2 * TOMBSTONE_US / 1000);
	start(2);
	run(TOMBSTONE_US / 1000 - 100);
	for (unsigned int id = 0; id < 2; id++)
		assert_true(is_shut(&gateways[id].sas[0]));
	run(500);
	for (unsigned int id = 0; id < 2; id++)
		assert_false(gateways[id].sas[0].guarded);
}

/* An old journal. */

static uint8_t use_old_journal(void)
{
	uint8_t owner = owner_of(0);
	uint64_t old = gateways[owner].sas[0].journaled;

	assert_int_equal(emit(owner, 0, 2000), 2000);
	power_off(owner);
	run(100);
	assert_true(gateways[owner].sas[0].journaled > old + 4);
	gateways[owner].sas[0].journaled = old;
	return owner;
}

static uint8_t put_old_journal_back(void)
{
	create(0, 0, 77);
	run(100);
	return use_old_journal();
}

static void test_old_journal_is_noticed(void **state)
{
	struct gateway *g;
	uint8_t id;

	(void)state;
	id = put_old_journal_back();
	g = &gateways[id];
	g->begins_anew = true;
	start(id);
	run(1000);
	assert_int_equal(g->journals_old, 1);
	assert_false(member_view(gateways[(id + 1) % MEMBERS].m)->live >> id & 1);
	for (unsigned int sa = 0; sa < n_sas; sa++)
		assert_true(!g->sas[sa].guarded || is_shut(&g->sas[sa]));
	/* Nor is anything else let out, or moved, until the next life. */
	create((id + 1) % MEMBERS, 1, 78);
	run(200);
	assert_false(g->sas[1].present);
	(void)emit(id, 0, 100);
	assert_int_equal(repeated, 0);
	/* That begins a journal. */
	kill_agent(id);
	g->journal += 1000;
	g->sas[0].journaled = 0;
	start(id);
	run(1000);
	assert_int_equal(g->journals_old, 1);
	assert_int_equal(member_fenced_for(g->m, FENCE_JOURNAL_LOST), 1);
	assert_int_equal(member_fenced_for(g->m, FENCE_JOURNAL_OLD), 1);
	assert_true(is_shut(&g->sas[0]));
	create(id, 1, 79);
	run(100);
	assert_int_equal(repeated, 0);
}

/* Who made the SA named its members' journals, but no agent of that time is left. */
static void test_old_journal_is_noticed_after_all_restarted(void **state)
{
	uint8_t id;

	(void)state;
	create(0, 0, 77);
	run(100);
	for (id = 0; id < MEMBERS; id++)
		kill_agent(id);
	for (id = 0; id < MEMBERS; id++)
		start(id);
	run(500);
	id = use_old_journal();
	assert_int_equal(record_of((id + 1) % MEMBERS, 0)->journals[id], 0);
	start(id);
	run(1000);
	assert_int_equal(gateways[id].journals_old, 1);
	assert_int_equal(member_fenced_for(gateways[id].m, FENCE_JOURNAL_OLD), 1);
	assert_true(is_shut(&gateways[id].sas[0]));
	(void)emit(id, 0, 300);
	assert_int_equal(repeated, 0);
}

/* The agent has done it just now, and does not do it again at the word of others. */
static void test_old_journal_once_more(void **state)
{
	struct gateway *g;
	uint8_t id;

	(void)state;
	id = put_old_journal_back();
	g = &gateways[id];
	create((id + 1) % MEMBERS, 1, 78);
	start(id);
	run(1000);
	assert_int_equal(g->journals_old, 1);
	assert_int_equal(g->notices[NOTICE_JOURNAL_OLD], 1);
	assert_int_equal(member_fenced_for(g->m, FENCE_JOURNAL_OLD), 1);
	assert_true(is_shut(&g->sas[0]));
	/* All but this SA is as ever. */
	assert_int_equal(member_view(g->m)->live, 7);
	assert_int_equal(g->m->view.epoch, gateways[(id + 1) % MEMBERS].m->view.epoch);
	assert_true(g->sas[1].present);
	assert_false(is_shut(&g->sas[1]));
	(void)emit(id, 0, 300);
	assert_int_equal(repeated, 0);
	/* It works where nothing is doubtful. */
	assert_int_not_equal(owner_of(0), id);
	assert_int_equal(emit(owner_of(0), 0, 300), 300);
	assert_int_equal(repeated, 0);
}

/* A lie that an SA was entered further does no more than to shut that one. */
static void test_lie_about_our_blocks(void **state)
{
	struct record *r;

	(void)state;
	create(0, 0, 77);
	create(0, 1, 78);
	run(100);
	r = record_of(1, 0);
	r->upto[0] += 400;
	table_changed(&gateways[1].m->table, r);
	outbox_mark_state(gateways[1].m, r);
	run(1000);
	assert_int_equal(gateways[0].journals_old, 1);
	assert_int_equal(member_fenced_for(gateways[0].m, FENCE_JOURNAL_OLD), 1);
	assert_true(is_shut(&gateways[0].sas[0]));
	assert_false(is_shut(&gateways[0].sas[1]));
	r = record_of(1, 1);
	r->upto[0] += 400;
	table_changed(&gateways[1].m->table, r);
	outbox_mark_state(gateways[1].m, r);
	run(1000);
	assert_int_equal(gateways[0].journals_old, 1);
	assert_int_equal(member_fenced_for(gateways[0].m, FENCE_JOURNAL_OLD), 2);
	assert_int_equal(gateways[0].notices[NOTICE_JOURNAL_OLD], 2);
	assert_int_equal(gateways[0].expires[FENCE_JOURNAL_OLD], 2);
	assert_int_equal(gateways[0].expires[FENCE_NONE], 0);
	assert_int_equal(member_view(gateways[0].m)->live, 7);
}

/* That we have seen block 0 is told before it is durable: no sign of an old journal. */
static void test_block_0_is_not_waited_for(void **state)
{
	(void)state;
	gateways[0].disk_stuck = true;
	create(0, 0, 77);
	run(100);
	assert_true(gateways[1].sas[0].present);
	power_off(0);
	gateways[0].disk_stuck = false;
	gateways[0].sas[0].journaled = 0;
	run(100);
	start(0);
	run(1000);
	assert_int_equal(gateways[0].journals_old, 0);
	assert_int_equal(member_fenced(gateways[0].m), 0);
	assert_true(gateways[0].sas[0].present);
}

static void test_lost_journal_is_not_an_old_one(void **state)
{
	uint8_t id;

	(void)state;
	id = put_old_journal_back();
	gateways[id].journal += 1000;
	gateways[id].sas[0].journaled = 0;
	start(id);
	run(1000);
	assert_int_equal(gateways[id].journals_old, 0);
	assert_int_equal(member_fenced_for(gateways[id].m, FENCE_JOURNAL_LOST), 1);
}

int main(void)
{
#define IN_CLUSTER(test) cmocka_unit_test_setup_teardown(test, setup_cluster, teardown)
	const struct CMUnitTest tests[] = {
		IN_CLUSTER(test_two_creators),
		IN_CLUSTER(test_two_creators_outlive_an_agent),
		IN_CLUSTER(test_two_creators_in_one_kernel),
		IN_CLUSTER(test_two_creators_of_an_inbound_one),
		IN_CLUSTER(test_made_again_while_the_agent_was_stopped),
		IN_CLUSTER(test_made_again_in_a_later_block),
		IN_CLUSTER(test_made_twice_while_the_agent_was_stopped),
		IN_CLUSTER(test_ended_key_stays_shut),
		IN_CLUSTER(test_ended_key_with_other_keys),
		IN_CLUSTER(test_ended_key_stays_shut_over_a_restart),
		IN_CLUSTER(test_unheard_member_forgets_nothing),
		IN_CLUSTER(test_tombstones_wait_for_who_was_away),
		IN_CLUSTER(test_old_journal_is_noticed),
		IN_CLUSTER(test_old_journal_is_noticed_after_all_restarted),
		IN_CLUSTER(test_old_journal_once_more),
		IN_CLUSTER(test_lie_about_our_blocks),
		IN_CLUSTER(test_block_0_is_not_waited_for),
		IN_CLUSTER(test_lost_journal_is_not_an_old_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
