/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_move.c - an SA is its keys: it goes where its peer goes, there and back, on all members, and
 * its numbers go on; whatever it was that an IKE daemon did, and whoever died meanwhile.
 */
#include "traffic.h"

#define HOME 0

static int setup(void **state)
{
	(void)state;
	setup_sas(3);
	forget_traffic();
	for (unsigned int id = 0; id < MEMBERS; id++)
		start(id);
	run(500);
	return 0;
}

static uint8_t owner_of(unsigned int sa)
{
	const struct gateway *g = gateways;

	while (!g->m)
		g++;
	return guard_owner(g, sa);
}

static struct record *find(unsigned int id, unsigned int sa, uint8_t place)
{
	struct record_key key = sa_key_at(sa, place);

	return table_find(&gateways[id].m->table, &key);
}

static void delete (unsigned int id, unsigned int sa)
{
	struct record_key key = sa_key_at(sa, gateways[id].sas[sa].place);

	gateways[id].sas[sa].present = false;
	if (gateways[id].m)
		member_removed(gateways[id].m, &key);
}

/* With the same keys; `carried`: where its counter begins. */
static void make(unsigned int id, unsigned int sa, uint8_t place, uint64_t carried)
{
	struct sa *s = &gateways[id].sas[sa];

	s->present = true;
	s->place = place;
	s->oseq = carried;
	if (gateways[id].m)
		tell_kernel(&gateways[id], sa);
}

/* As strongSwan does: the counter is read, and packets go out before the SA is deleted. */
static void move_to(unsigned int id, unsigned int sa, uint8_t place)
{
	uint64_t oseq = gateways[id].sas[sa].oseq;

	delete (id, sa);
	make(id, sa, place, oseq - (oseq > 5 ? 5 : 0));
}

static void all_at(unsigned int sa, uint8_t place)
{
	for (unsigned int id = 0; id < MEMBERS; id++) {
		if (!gateways[id].m)
			continue;
		assert_true(gateways[id].sas[sa].present);
		assert_int_equal(gateways[id].sas[sa].place, place);
		assert_int_equal(gateways[id].sas[sa].guarded_at, 1 << place);
		assert_non_null(find(id, sa, place));
		assert_int_equal(member_fenced(gateways[id].m), 0);
	}
}

static void none_has(unsigned int sa)
{
	for (unsigned int id = 0; id < MEMBERS; id++)
		assert_false(gateways[id].m && gateways[id].sas[sa].present);
}

/* An SA that its owner has used beyond block 0, or within it. */
static uint8_t use(unsigned int packets)
{
	uint8_t owner;

	create(0, 0, 77);
	run(100);
	owner = owner_of(0);
	assert_int_equal(emit(owner, 0, packets), packets);
	return owner;
}

static void sends_again(unsigned int sa)
{
	uint8_t owner = owner_of(sa);

	assert_in_range(emit(owner, sa, 100), 80, 100);
	assert_int_equal(emit(owner, sa, 600), 600);
	assert_int_equal(repeated, 0);
}

static void test_move(void **state)
{
	uint8_t owner = use(1000);
	unsigned int removed = gateways[owner].removed;

	(void)state;
	move_to(owner, 0, 1);
	run(200);
	all_at(0, 1);
	assert_int_equal(gateways[owner].removed, removed); /* it is the daemon's */
	sends_again(0);
	power_off(owner);
	run(200);
	sends_again(0);
}

/* In block 0 a counter that was carried on says nothing. */
static void test_move_in_block_0(void **state)
{
	uint8_t owner = use(30);

	(void)state;
	move_to(owner, 0, 1);
	run(200);
	all_at(0, 1);
	sends_again(0);
}

static void test_there_and_back(void **state)
{
	uint8_t owner = use(1000);

	(void)state;
	for (unsigned int round = 0; round < 6; round++) {
		move_to(owner, 0, round % 2 ? HOME : 1);
		run(100);
		all_at(0, round % 2 ? HOME : 1);
		sends_again(0);
	}
	/* Over it is all the same. */
	delete (owner, 0);
	run(100);
	none_has(0);
}

/* By one member, and back by the one that took over. */
static void test_back_after_a_takeover(void **state)
{
	uint8_t owner = use(1000), next;

	(void)state;
	move_to(owner, 0, 1);
	run(200);
	power_off(owner);
	run(200);
	next = owner_of(0);
	sends_again(0);
	move_to(next, 0, HOME);
	run(200);
	sends_again(0);
	start(owner);
	run(1000);
	all_at(0, HOME);
	sends_again(0);
}

/* A member that was away all the time knows it by its journal only. */
static void test_moved_while_one_was_away(void **state)
{
	uint8_t owner = use(1000), away = (uint8_t)((owner + 1) % MEMBERS);

	(void)state;
	kill_agent(away);
	run(200);
	move_to(owner, 0, 1);
	run(100);
	move_to(owner, 0, 2);
	run(100);
	start(away);
	run(1000);
	all_at(0, 2);
	sends_again(0);
}

static void test_deleted_only(void **state)
{
	uint8_t owner = use(1000), other = (uint8_t)((owner + 1) % MEMBERS);

	(void)state;
	delete (owner, 0);
	assert_true(is_shut(&gateways[owner].sas[0]));
	run(20);
	assert_true(gateways[other].sas[0].present);
	run(80);
	none_has(0);
}

/* Others do not bring back what was deleted here just now. */
static void test_copy_does_not_come_back(void **state)
{
	uint8_t owner = use(1000), other = (uint8_t)((owner + 1) % MEMBERS);

	(void)state;
	delete (owner, 0);
	outbox_mark_for(gateways[other].m, record_of(other, 0), owner);
	run(20);
	assert_false(gateways[owner].sas[0].present);
	run(100);
	none_has(0);
}

/* Too late for a move; its numbers go on all the same. */
static void test_made_again_after_its_end(void **state)
{
	uint8_t owner = use(1000);

	(void)state;
	delete (owner, 0);
	run(200);
	none_has(0);
	make(owner, 0, HOME, 0);
	run(200);
	all_at(0, HOME);
	sends_again(0);
}

/* A member's kernel still tells of an SA that it has just been made to remove. */
static void test_event_comes_late(void **state)
{
	uint8_t owner = use(1000), other = (uint8_t)((owner + 1) % MEMBERS);

	(void)state;
	delete (owner, 0);
	run(200);
	none_has(0);
	tell_kernel(&gateways[other], 0);
	run(200);
	none_has(0);
	assert_null(record_of(other, 0));
}

/* XFRM_MSG_UPDSA. */
static void change_form(unsigned int id, unsigned int sa, uint64_t form)
{
	gateways[id].sas[sa].form = form;
	tell_kernel(&gateways[id], sa);
}

static void all_have(unsigned int sa, uint64_t form)
{
	for (unsigned int id = 0; id < MEMBERS; id++)
		assert_true(gateways[id].sas[sa].present && gateways[id].sas[sa].form == form);
}

static void test_port(void **state)
{
	uint8_t owner = use(1000), other = (uint8_t)((owner + 1) % MEMBERS);
	uint64_t journaled = gateways[other].sas[0].journaled, oseq = gateways[other].sas[0].oseq;

	(void)state;
	change_form(owner, 0, 5);
	run(100);
	all_have(0, 5);
	/* It costs no block. */
	assert_true(gateways[other].sas[0].journaled == journaled);
	assert_true(gateways[other].sas[0].oseq == oseq);
	assert_int_equal(gateways[other].removed, 0);
	assert_int_equal(emit(owner, 0, 100), 100);
	sends_again(0);
}

/* DELSA and NEWSA. */
static void test_port_by_a_new_sa(void **state)
{
	uint8_t owner = use(1000);

	(void)state;
	delete (owner, 0);
	gateways[owner].sas[0].form = 5;
	make(owner, 0, HOME, 990);
	run(100);
	all_have(0, 5);
	sends_again(0);
}

static void test_what_cannot_be_changed(void **state)
{
	uint8_t owner = use(1000), other = (uint8_t)((owner + 1) % MEMBERS);
	uint64_t oseq = gateways[other].sas[0].oseq;

	(void)state;
	change_form(owner, 0, RIGID | 5);
	run(100);
	all_have(0, RIGID | 5);
	assert_true(gateways[other].sas[0].oseq > oseq);
	power_off(owner);
	run(200);
	sends_again(0);
}

/* The news is lost, and a comparison finds it; as does one that a kernel refused. */
static void test_form_is_repaired(void **state)
{
	uint8_t owner = use(1000), other = (uint8_t)((owner + 1) % MEMBERS);

	(void)state;
	change_form(owner, 0, 5);
	record_of(owner, 0)->dirty = 0;
	run(2 * REPAIR_US / 1000);
	all_have(0, 5);
	gateways[other].refuse = 1;
	gateways[other].refusal = -ENOMEM;
	change_form(owner, 0, 6);
	run(20);
	assert_true(gateways[other].sas[0].form == 5);
	assert_true(gateways[other].sas[0].present);
	run(3 * REPAIR_US / 1000);
	all_have(0, 6);
}

/* While no agent ran: what the kernel has is newer than what others know. */
static void test_changed_unseen(void **state)
{
	uint8_t owner = use(1000);

	(void)state;
	change_form(owner, 0, 5);
	run(100);
	kill_agent(owner);
	gateways[owner].sas[0].form = 6;
	start(owner);
	run(500);
	all_have(0, 6);
	sends_again(0);
	kill_agent(owner);
	start(owner);
	assert_int_equal(record_of(owner, 0)->moves, 1); /* not again */
	run(500);
	all_have(0, 6);
}

/* Crashes. */

static void test_agent_dies_between(void **state)
{
	uint8_t owner = use(1000);
	uint64_t oseq = gateways[owner].sas[0].oseq;

	(void)state;
	delete (owner, 0);
	kill_agent(owner);
	make(owner, 0, 1, oseq);
	start(owner);
	run(500);
	all_at(0, 1);
	sends_again(0);
}

static void test_agent_dies_before_it_told(void **state)
{
	uint8_t owner = use(1000);

	(void)state;
	move_to(owner, 0, 1);
	kill_agent(owner);
	start(owner);
	run(500);
	all_at(0, 1);
	sends_again(0);
	/* It knows how often it has moved. */
	kill_agent(owner);
	move_to(owner, 0, HOME);
	start(owner);
	run(500);
	all_at(0, HOME);
	sends_again(0);
}

/* The guard knew it at both places. */
static void test_agent_dies_while_the_guard_is_told(void **state)
{
	uint8_t owner = use(1000);

	(void)state;
	move_to(owner, 0, 1);
	kill_agent(owner);
	gateways[owner].sas[0].guarded_at |= 1 << HOME;
	start(owner);
	run(500);
	all_at(0, 1);
	sends_again(0);
}

static void test_machine_dies_between(void **state)
{
	uint8_t owner = use(1000);

	(void)state;
	delete (owner, 0);
	power_off(owner);
	run(200);
	all_at(0, HOME);
	sends_again(0);
}

/* Two at one time with the same keys, as an administrator may have it: two, on all members. */
static void test_twins(void **state)
{
	(void)state;
	create(0, 0, 77);
	gateways[0].sas[1].birth = 77;
	make(0, 1, 1, 0);
	run(200);
	for (unsigned int id = 0; id < MEMBERS; id++) {
		assert_true(gateways[id].sas[0].present && gateways[id].sas[1].present);
		assert_non_null(find(id, 0, 0));
		assert_non_null(find(id, 1, 1));
	}
	assert_int_equal(emit(owner_of(0), 0, 300), 300);
	forget_traffic();
	assert_int_equal(emit(owner_of(1), 1, 300), 300);
	/* Over a restart, in whatever order they are told. */
	for (unsigned int id = 0; id < MEMBERS; id++) {
		kill_agent(id);
		start(id);
	}
	run(500);
	for (unsigned int id = 0; id < MEMBERS; id++)
		assert_true(find(id, 0, 0) && find(id, 1, 1));
	assert_true(emit(owner_of(1), 1, 300) > 280);
	assert_int_equal(repeated, 0);
	delete (0, 0);
	delete (0, 1);
	run(200);
	none_has(0);
	none_has(1);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_move),
		TEST(test_move_in_block_0),
		TEST(test_there_and_back),
		TEST(test_back_after_a_takeover),
		TEST(test_moved_while_one_was_away),
		TEST(test_deleted_only),
		TEST(test_copy_does_not_come_back),
		TEST(test_made_again_after_its_end),
		TEST(test_event_comes_late),
		TEST(test_port),
		TEST(test_port_by_a_new_sa),
		TEST(test_what_cannot_be_changed),
		TEST(test_form_is_repaired),
		TEST(test_changed_unseen),
		TEST(test_agent_dies_between),
		TEST(test_agent_dies_before_it_told),
		TEST(test_agent_dies_while_the_guard_is_told),
		TEST(test_machine_dies_between),
		TEST(test_twins),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
