/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_flow.c - whose a flow is: SAs that stay with the member that negotiated them though their
 * bucket is another member's, and policies that share a remote selector.
 */
#include "cluster.h"

#define SAS 64

static __be32 named_spi; /* by policies that are added; 0: none */

static int setup(void **state)
{
	(void)state;
	setup_sas(SAS);
	pairs = true;
	named_spi = 0;
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

static const struct record *record_of(unsigned int id, unsigned int sa)
{
	struct record_key key = sa_key(sa);

	return table_find(member_table(gateways[id].m), &key);
}

static uint8_t owner_of(unsigned int id, unsigned int sa)
{
	return member_flow_owner(gateways[id].m, record_of(id, sa));
}

/* An inbound SA, the nth one, whose bucket this member owns when all are there. */
static unsigned int inbound_of(uint8_t owner, unsigned int nth)
{
	for (unsigned int sa = 0; sa < SAS; sa += 2)
		if (view_owner(7, VIEW_LOAD_SHARING, (uint16_t)(sa + 1)) == owner && nth-- == 0)
			return sa;
	fail();
	return 0;
}

static void end(unsigned int id, unsigned int sa)
{
	struct record_key key = sa_key(sa);

	gateways[id].sas[sa].present = false;
	member_removed(gateways[id].m, &key);
}

/* An SA is pinned to a member, or to none, on all: in the datapath if it is inbound, and for the
 * guard. */
static void pinned_to(unsigned int sa, uint8_t pin)
{
	for (unsigned int id = 0; id < MEMBERS; id++) {
		if (!gateways[id].m)
			continue;
		assert_int_equal(gateways[id].sas[sa].pin, sa % 2 == 0 ? pin : 0);
		assert_int_equal(gateways[id].sas[sa].guard.pinned, pin);
		if (pin)
			assert_int_equal(owner_of(id, sa), pin - 1);
	}
}

static void pins_are(unsigned int n)
{
	for (unsigned int id = 0; id < MEMBERS; id++)
		if (gateways[id].m)
			assert_int_equal(member_pins(gateways[id].m), n);
}

/* Pins. */

static void test_pin(void **state)
{
	unsigned int in = inbound_of(1, 0), out = in + 1;

	(void)state;
	create(0, in, 77);
	assert_int_equal(gateways[0].sas[in].pin, 1);
	create(0, out, 78);
	run(100);
	pinned_to(in, 1);
	pinned_to(out, 1);
	pins_are(1);
	assert_int_equal(gateways[2].sas[out].guard.bucket, in + 1);
	end(0, in);
	end(0, out);
	run(100);
	for (unsigned int id = 0; id < MEMBERS; id++)
		assert_int_equal(gateways[id].sas[in].pin, 0);
	pins_are(0);
}

static void test_own_bucket(void **state)
{
	unsigned int in = inbound_of(1, 0);

	(void)state;
	create(1, in, 77);
	create(1, in + 1, 78);
	run(100);
	pinned_to(in, 0);
	pinned_to(in + 1, 0);
	pins_are(0);
	assert_int_equal(owner_of(2, in + 1), 1);
}

/* The peer's SPI says nothing of whose the outbound SA is. */
static void test_outbound_first(void **state)
{
	unsigned int in = inbound_of(2, 0), out = in + 1;

	(void)state;
	create(0, out, 78);
	run(100);
	pinned_to(out, 0);
	create(0, in, 77);
	run(100);
	pinned_to(in, 1);
	pinned_to(out, 1);
	assert_int_equal(gateways[1].sas[out].guard.bucket, in + 1);
}

/* The new SAs of a rekey are pinned or not by themselves. */
static void test_rekey(void **state)
{
	unsigned int old = inbound_of(1, 0), in = inbound_of(0, 0), out = in + 1;
	uint8_t body[RECORD_BODY_MAX];
	struct member_record record = {.body = body, .body_len = body_len};

	(void)state;
	create(0, old, 77);
	create(0, old + 1, 78);
	for (unsigned int sa = in; sa <= out; sa++) {
		make_body(80 + sa, body);
		record.key = sa_key(sa);
		record.facts = sa_facts(sa, 80 + sa);
		record.facts.pair = old / 2 + 1;
		gateways[0].sas[sa].present = true;
		gateways[0].sas[sa].birth = 80 + sa;
		member_added(gateways[0].m, &record);
	}
	run(100);
	pinned_to(old + 1, 1);
	pinned_to(in, 0);
	pinned_to(out, 0);
	assert_int_equal(owner_of(1, out), 0);
	end(0, old);
	end(0, old + 1);
	run(100);
	pins_are(0);
}

static void test_moved_to_pair(void **state)
{
	unsigned int in = inbound_of(1, 0), out = inbound_of(0, 0) + 1;
	struct member_record record = {.key = sa_key(in), .facts = sa_facts(in, 77)};

	(void)state;
	create(0, in, 77);
	create(0, out, 78);
	run(100);
	pinned_to(out, 0);
	record.facts.pair = sa_facts(out, 78).pair;
	member_added(gateways[0].m, &record);
	run(100);
	pinned_to(in, 1);
	pinned_to(out, 1);
}

/* Who has no view, or is not in it, owns nothing. */
static void test_no_view(void **state)
{
	unsigned int in = inbound_of(1, 0);

	(void)state;
	for (unsigned int id = 0; id < MEMBERS; id++)
		start(id);
	create(0, in, 77);
	run(500);
	pinned_to(in, 0);
	member_link(gateways[2].m, false);
	run(100);
	create(2, inbound_of(1, 1), 78);
	run(100);
	pinned_to(inbound_of(1, 1), 0);
	assert_int_equal(owner_of(2, inbound_of(1, 1)), 1);
}

/* Its flows go to their buckets' owner, and come back with it. */
static void test_pinned_dies(void **state)
{
	unsigned int in = inbound_of(1, 0);

	(void)state;
	create(0, in, 77);
	create(0, in + 1, 78);
	run(100);
	power_off(0);
	run(100);
	for (unsigned int id = 1; id < MEMBERS; id++) {
		assert_int_equal(gateways[id].sas[in].pin, 1);
		assert_int_equal(owner_of(id, in), 1);
		assert_int_equal(owner_of(id, in + 1), 1);
	}
	start(0);
	run(500);
	pinned_to(in, 1);
	pinned_to(in + 1, 1);
	pins_are(1);
}

/* The standby that is pinned to owns its own; all else is the active one's. */
static void test_hot_standby(void **state)
{
	(void)state;
	mode = VIEW_HOT_STANDBY;
	for (unsigned int id = 0; id < MEMBERS; id++)
		start(id);
	run(500);
	create(1, 0, 77);
	create(0, 2, 78);
	run(100);
	pinned_to(0, 2);
	pinned_to(2, 0);
}

/* The agent of member 0 starts again, its kernel and its pinned maps as they were. */
static void restart(void)
{
	struct gateway *g = &gateways[0];
	uint8_t body[RECORD_BODY_MAX];

	member_free(g->m);
	for (unsigned int sa = 0; sa < SAS; sa++)
		g->sas[sa].pin = 0; /* to be told again */
	start(0);
	for (unsigned int sa = 0; sa < SAS; sa++) {
		struct record_key key = sa_key(sa);

		if (g->sas[sa].guarded)
			member_guarded(g->m, &key, &g->sas[sa].guard, 0);
	}
	for (unsigned int sa = 0; sa < SAS; sa++) {
		struct member_record record = {
			.key = sa_key(sa),
			.facts = sa_facts(sa, g->sas[sa].birth),
			.oseq = g->sas[sa].oseq,
			.body = body,
			.body_len = body_len,
		};

		make_body(g->sas[sa].birth, body);
		if (g->sas[sa].present)
			member_added(g->m, &record);
	}
	member_started(g->m);
}

static void test_restart(void **state)
{
	unsigned int in = inbound_of(1, 0), other = inbound_of(2, 0), gone = inbound_of(1, 1);
	unsigned int unseen = inbound_of(1, 2);

	(void)state;
	create(0, in, 77);
	create(0, in + 1, 78);
	create(1, other, 79);
	create(0, gone, 80);
	run(100);
	pins_are(3);
	gateways[0].sas[gone].present = false;
	gateways[0].sas[unseen].present = true;
	gateways[0].sas[unseen].birth = 81;
	restart();
	assert_int_equal(gateways[0].sas[in].pin, 1);
	assert_int_equal(gateways[0].sas[in].guard.pinned, 1);
	assert_int_equal(gateways[0].sas[in + 1].guard.pinned, 1);
	assert_int_equal(gateways[0].sas[other].pin, 2);
	run(500);
	pinned_to(in, 1);
	pinned_to(in + 1, 1);
	pinned_to(other, 2);
	pinned_to(unseen, 0);
	pins_are(2);
}

/* A kernel that has it not yet is no reason to send its packets elsewhere. */
static void test_before_install(void **state)
{
	unsigned int in = inbound_of(1, 0);

	(void)state;
	gateways[2].refuse = UINT32_MAX;
	create(0, in, 77);
	run(50);
	assert_false(gateways[2].sas[in].present);
	assert_int_equal(gateways[2].sas[in].pin, 1);
	gateways[2].refuse = 0;
	run(500);
	pinned_to(in, 1);
}

/* Its kernel has lost the SA, and it is not told of its end: nobody has it any more. */
static void test_stray(void **state)
{
	unsigned int in = inbound_of(1, 0);
	struct record_key key = sa_key(in);
	struct record *r;

	(void)state;
	create(0, in, 77);
	run(100);
	gateways[2].sas[in].present = false;
	member_missing(gateways[2].m, &key);
	for (unsigned int id = 0; id < 2; id++) {
		r = table_find(member_table(gateways[id].m), &key);
		gateways[id].sas[in].present = false;
		life_end(gateways[id].m, r);
		r->dirty = 0;
	}
	run(100);
	assert_int_equal(gateways[2].sas[in].pin, 1);
	run(TOMBSTONE_US / 1000 + 100);
	assert_int_equal(gateways[2].sas[in].pin, 0);
	pins_are(0);
	run(TOMBSTONE_US / 1000 + 500);
	assert_int_equal(member_table(gateways[2].m)->used, 0);
}

/* An SPI is given out again, by another member. */
static void test_key_again(void **state)
{
	unsigned int in = inbound_of(2, 0);

	(void)state;
	create(0, in, 77);
	run(100);
	pinned_to(in, 1);
	create(1, in, 78);
	assert_int_equal(gateways[1].sas[in].pin, 2);
	run(100);
	pinned_to(in, 2);
	pins_are(1);
	create(2, in, 79);
	run(100);
	pinned_to(in, 0);
	pins_are(0);
}

/* Several Child SAs with one reqid: SAs 0 and 1, and 2 and 3. */

static void create_at(unsigned int sa, uint64_t made_s)
{
	gateways[0].sas[sa].made_s = made_s;
	create(0, sa, 100 + sa);
}

/* An outbound SA has the flow of that inbound one, on all members. */
static void goes_with(unsigned int out, unsigned int in)
{
	for (unsigned int id = 0; id < MEMBERS; id++) {
		if (!gateways[id].m)
			continue;
		assert_int_equal(gateways[id].sas[out].guard.bucket, in + 1);
		assert_int_equal(owner_of(id, out), owner_of(id, in));
	}
}

static void test_one_by_one(void **state)
{
	(void)state;
	pair_sas = 8;
	for (unsigned int sa = 0; sa < 4; sa++)
		create_at(sa, 1000);
	/* The responder of a rekey makes the outbound SA later. */
	create_at(4, 2000);
	run(100);
	create_at(5, 2060);
	run(100);
	for (unsigned int sa = 0; sa < 6; sa += 2)
		goes_with(sa + 1, sa);
	assert_int_equal(gateways[0].notices[NOTICE_UNSURE], 0);
}

/* What is ending belongs to nothing new. */
static void test_rekeyed_at_once(void **state)
{
	(void)state;
	pair_sas = 8;
	create_at(0, 1000);
	create_at(1, 1000);
	run(100);
	end(0, 1);
	run(30);
	end(0, 0);
	run(30);
	create_at(2, 1000);
	create_at(3, 1000);
	run(100);
	goes_with(3, 2);
	assert_int_equal(gateways[0].notices[NOTICE_UNSURE], 0);
}

/* As the kernel tells them when the agent starts, or two IKE SAs at one time. */
static void test_by_time(void **state)
{
	(void)state;
	pair_sas = 4;
	create_at(0, 1000);
	create_at(2, 1005);
	create_at(1, 1001);
	create_at(3, 1005);
	run(100);
	goes_with(1, 0);
	goes_with(3, 2);
	power_off(0);
	run(200);
	goes_with(1, 0);
	goes_with(3, 2);
	assert_int_equal(gateways[0].notices[NOTICE_UNSURE], 0);
}

static void test_by_time_outbound_first(void **state)
{
	(void)state;
	pair_sas = 4;
	create_at(1, 1001);
	create_at(3, 1005);
	create_at(0, 1000);
	create_at(2, 1005);
	run(100);
	goes_with(1, 0);
	goes_with(3, 2);
	assert_int_equal(gateways[0].notices[NOTICE_UNSURE], 0);
}

/* Two at one time: it is said, and both outbound SAs are one member's. */
static void test_unsure(void **state)
{
	(void)state;
	pair_sas = 8;
	create_at(0, 1000);
	create_at(2, 1000);
	create_at(1, 1000);
	create_at(3, 1000);
	run(100);
	assert_int_equal(gateways[0].notices[NOTICE_UNSURE], 2);
	assert_true(record_of(0, 1)->unsure && record_of(0, 3)->unsure);
	goes_with(1, 2);
	goes_with(3, 2);
	/* The next ones are told apart again. */
	create_at(4, 2000);
	create_at(5, 2000);
	run(100);
	goes_with(5, 4);
	assert_false(record_of(0, 5)->unsure);
	/* None of them opens what is another member's. */
	power_off(0);
	run(200);
	for (unsigned int sa = 1; sa < 6; sa += 2)
		for (unsigned int id = 1; id < MEMBERS; id++)
			assert_int_equal(
				(gateways[id].sas[sa].guard.open[0].first >> BITS) % 4, id);
}

/* Remote selectors. */

static struct espalier_selector remote_of(uint8_t net)
{
	return (struct espalier_selector){
		.prefixlen = ESPALIER_SELECTOR_BITS + 24, .family = 2, .addr = {10, net}};
}

static struct record_key policy_key(uint8_t policy)
{
	return (struct record_key){
		.kind = RECORD_POLICY, .proto = 1, .family = 2, .addr = {policy}};
}

/* A policy that leads to the pair of this inbound SA. */
static void add_policy(unsigned int id, uint8_t policy, unsigned int in, uint8_t net)
{
	struct member_record record = {
		.key = policy_key(policy),
		.facts = {.pair = sa_facts(in, 1).pair,
			.direction = ESPALIER_OUT,
			.remote = remote_of(net),
			.spi = named_spi},
		.body = named_spi ? (const void *)&named_spi : "policy",
		.body_len = named_spi ? sizeof(named_spi) : 6,
	};

	gateways[id].policies[policy] = true;
	member_added(gateways[id].m, &record);
}

static void remove_policy(unsigned int id, uint8_t policy)
{
	struct record_key key = policy_key(policy);

	gateways[id].policies[policy] = false;
	member_removed(gateways[id].m, &key);
}

/* On all members, what goes to this net goes with that SA. */
static void leads_to(uint8_t net, unsigned int in)
{
	struct espalier_selector remote = remote_of(net);

	for (unsigned int id = 0; id < MEMBERS; id++) {
		const struct selector *s = selector_of(&gateways[id], &remote);

		if (!gateways[id].m)
			continue;
		assert_non_null(s);
		assert_int_equal(s->flow.bucket, in + 1);
		assert_int_equal(s->flow.pinned, gateways[id].sas[in].guard.pinned);
	}
}

static void leads_nowhere(uint8_t net)
{
	struct espalier_selector remote = remote_of(net);

	for (unsigned int id = 0; id < MEMBERS; id++)
		assert_null(selector_of(&gateways[id], &remote));
}

static void create_pair(unsigned int id, unsigned int in)
{
	create(id, in, 100 + in);
	create(id, in + 1, 101 + in);
}

/* The clear side follows the pin. */
static void test_selector(void **state)
{
	unsigned int in = inbound_of(1, 0);

	(void)state;
	add_policy(0, 9, in, 1);
	run(100);
	leads_nowhere(1);
	create_pair(0, in);
	run(100);
	leads_to(1, in);
	assert_int_equal(gateways[2].selectors[0].flow.pinned, 1);
	end(0, in + 1);
	run(100);
	leads_nowhere(1);
}

/* Two local networks that talk to one remote network: whichever comes first, all members steer by
 * the same one; when it goes, by the other. */
static void shares(bool other_first)
{
	unsigned int a = inbound_of(1, 0), b = inbound_of(2, 0);

	create_pair(0, a);
	create_pair(1, b);
	add_policy(other_first, other_first ? 9 : 5, other_first ? b : a, 1);
	add_policy(0, 7, a, 2);
	run(100);
	leads_to(1, other_first ? b : a);
	add_policy(!other_first, other_first ? 5 : 9, other_first ? a : b, 1);
	run(100);
	leads_to(1, a);
	remove_policy(0, 5);
	run(100);
	leads_to(1, b);
	leads_to(2, a);
	remove_policy(1, 9);
	run(100);
	leads_nowhere(1);
	leads_to(2, a);
}

static void test_shared_selector(void **state)
{
	(void)state;
	shares(false);
}

static void test_shared_selector_backwards(void **state)
{
	(void)state;
	shares(true);
}

/* Of two Child SAs with one reqid each has a policy that names its outbound SA. A rekey makes the
 * SAs first, and then changes the policy. */
static void test_policy_names_spi(void **state)
{
	(void)state;
	pair_sas = 8;
	create_pair(0, 0);
	create_pair(0, 2);
	named_spi = sa_key(1).spi;
	add_policy(0, 5, 0, 1);
	named_spi = sa_key(3).spi;
	add_policy(0, 6, 0, 2);
	run(100);
	leads_to(1, 0);
	leads_to(2, 2);
	create_pair(0, 4);
	run(100);
	leads_to(1, 0);
	named_spi = sa_key(5).spi;
	add_policy(0, 5, 0, 1);
	run(100);
	leads_to(1, 4);
	leads_to(2, 2);
	/* Also by those who are left. */
	power_off(0);
	run(200);
	leads_to(1, 4);
	leads_to(2, 2);
}

/* A policy whose SA is gone does not count. */
static void test_shared_selector_rekey(void **state)
{
	unsigned int a = inbound_of(1, 0), b = inbound_of(2, 0);

	(void)state;
	create_pair(0, a);
	create_pair(1, b);
	add_policy(0, 5, a, 1);
	add_policy(1, 9, b, 1);
	run(100);
	leads_to(1, a);
	end(0, a + 1);
	run(100);
	leads_to(1, b);
	create(0, a + 1, 1000);
	run(100);
	leads_to(1, a);
}

int main(void)
{
#define IN_CLUSTER(test) cmocka_unit_test_setup_teardown(test, setup_cluster, teardown)
	const struct CMUnitTest tests[] = {
		IN_CLUSTER(test_pin),
		IN_CLUSTER(test_own_bucket),
		IN_CLUSTER(test_outbound_first),
		IN_CLUSTER(test_rekey),
		IN_CLUSTER(test_moved_to_pair),
		cmocka_unit_test_setup_teardown(test_no_view, setup, teardown),
		IN_CLUSTER(test_pinned_dies),
		cmocka_unit_test_setup_teardown(test_hot_standby, setup, teardown),
		IN_CLUSTER(test_restart),
		IN_CLUSTER(test_before_install),
		IN_CLUSTER(test_stray),
		IN_CLUSTER(test_key_again),
		IN_CLUSTER(test_one_by_one),
		IN_CLUSTER(test_rekeyed_at_once),
		IN_CLUSTER(test_by_time),
		IN_CLUSTER(test_by_time_outbound_first),
		IN_CLUSTER(test_unsure),
		IN_CLUSTER(test_selector),
		IN_CLUSTER(test_policy_names_spi),
		IN_CLUSTER(test_shared_selector),
		IN_CLUSTER(test_shared_selector_backwards),
		IN_CLUSTER(test_shared_selector_rekey),
	};

	return cmocka_run_group_tests_name("flow", tests, NULL, NULL);
}
