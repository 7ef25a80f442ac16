/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_member.c - members over a perfect network: they find each other, copy SAs, take over, come
 * back.
 */
#include "cluster.h"

#define SAS 4

static void send_packets(unsigned int id, unsigned int sa, uint64_t n)
{
	struct sa *s = &gateways[id].sas[sa];

	for (; n; n--) {
		s->oseq++;
		assert_true(
			(s->oseq >= s->guard.open[0].first && s->oseq <= s->guard.open[0].last) ||
			(s->oseq >= s->guard.open[1].first && s->oseq <= s->guard.open[1].last));
		member_position(gateways[id].m, s->guard.slot, s->oseq);
		step();
	}
}

static void same_view(uint16_t live)
{
	for (unsigned int id = 0; id < MEMBERS; id++) {
		if (!gateways[id].m)
			continue;
		assert_int_equal(member_view(gateways[id].m)->live, live);
		assert_int_equal(member_view(gateways[id].m)->epoch,
			member_view(gateways[view_lowest(live)].m)->epoch);
		for (uint16_t bucket = 0; bucket < ESPALIER_BUCKETS; bucket++)
			assert_int_equal(
				gateways[id].owner[bucket], view_owner(live, mode, bucket));
	}
}

static uint8_t owner_of(unsigned int id, unsigned int sa)
{
	return guard_owner(&gateways[id], sa);
}

static int setup(void **state)
{
	(void)state;
	setup_sas(SAS);
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

/* Tests. */

static void test_config(void **state)
{
	const struct member_config good = {.self = 1,
		.members = 3,
		.block_bits = 16,
		.heartbeat_us = 1,
		.dead = 3,
		.capacity = 1,
		.journal = 1,
		.life = 1};
	struct member_config c;
	struct member *m;

	(void)state;
	assert_int_equal(member_new(&good, &ops, &gateways[1], 0, &m), 0);
	member_free(m);
#define REFUSED(change)                                                                            \
	c = good;                                                                                  \
	c.change;                                                                                  \
	assert_int_equal(member_new(&c, &ops, &gateways[1], 0, &m), -EINVAL)
	REFUSED(self = 2);
	REFUSED(self = 16);
	REFUSED(journal = 0);
	REFUSED(life = 0);
	REFUSED(heartbeat_us = 0);
	REFUSED(dead = 2);
	REFUSED(block_bits = 0);
	member_free(NULL);
}

static void test_meet(void **state)
{
	struct member_other other;

	(void)state;
	same_view(7);
	for (unsigned int id = 0; id < MEMBERS; id++) {
		for (uint8_t o = 0; o < MEMBERS; o++) {
			if (o == id)
				continue;
			member_other(gateways[id].m, o, &other);
			assert_true(other.alive && other.synced);
			assert_int_equal(gateways[id].m->others[o].next_hop, 1);
		}
	}
}

static void test_create(void **state)
{
	(void)state;
	create(0, 0, 77);
	/* Its first numbers wait for nothing. */
	assert_int_equal(gateways[0].sas[0].guard.open[0].first, 0);
	assert_int_equal(gateways[0].sas[0].guard.open[0].last, (1 << BITS) - 1);
	run(100);
	for (unsigned int id = 1; id < MEMBERS; id++) {
		const struct sa *sa = &gateways[id].sas[0];

		assert_true(sa->present);
		assert_int_equal((sa->oseq >> BITS) % 4, id);
		assert_int_equal(sa->guard.open[0].first, sa->oseq);
		assert_int_equal(sa->guard.bucket, gateways[0].sas[0].guard.bucket);
		assert_int_equal(sa->guard.creator, 0);
	}
}

/* Journal, announcement, counter, guard: in this order. */
static void test_order(void **state)
{
	uint8_t owner;
	struct sa *sa;
	char *at;

	(void)state;
	create(0, 0, 77);
	run(100);
	owner = owner_of(0, 0);
	sa = &gateways[owner].sas[0];
	gateways[owner].disk_stuck = true;
	memset(gateways[owner].last, 0, sizeof(gateways[owner].last));
	send_packets(owner, 0, 1 + (1 << (BITS - 1)));
	run(50);
	assert_non_null(strchr(gateways[owner].last, 'j'));
	assert_null(strchr(gateways[owner].last, 'm'));
	assert_null(strchr(gateways[owner].last, 'g'));
	gateways[owner].disk_stuck = false;
	memset(gateways[owner].last, 0, sizeof(gateways[owner].last));
	step();
	at = strpbrk(gateways[owner].last, "mg");
	assert_non_null(at);
	assert_int_equal(strncmp(at, "mg", 2), 0);
	assert_true(at > gateways[owner].last && at[-1] == 's');
	assert_int_equal(sa->guard.open[0].first, sa->oseq);
	send_packets(owner, 0, 1000);
}

static void test_takeover(void **state)
{
	uint64_t emitted;
	uint8_t owner, next;

	(void)state;
	create(0, 0, 77);
	run(100);
	owner = owner_of(0, 0);
	send_packets(owner, 0, 2000);
	emitted = gateways[owner].sas[0].oseq;
	power_off(owner);
	for (unsigned int id = 0; id < MEMBERS; id++)
		gateways[id].kernel_ops = 0;
	for (unsigned int ms = 0; owner_of((owner + 1) % MEMBERS, 0) == owner; ms++) {
		assert_in_range(ms, 0, (DEAD + 1) * HEARTBEAT_US / 1000);
		step();
	}
	/* It took nothing but the flip, and the next number is above. */
	next = owner_of((owner + 1) % MEMBERS, 0);
	assert_int_equal(gateways[next].kernel_ops, 0);
	assert_true(gateways[next].sas[0].oseq > emitted);
	send_packets(next, 0, 2000);
	run(100);
	same_view(7 & ~(1 << owner));
}

static void test_return(void **state)
{
	uint8_t owner;
	uint64_t upto;

	(void)state;
	create(0, 0, 77);
	create(1, 1, 78);
	run(100);
	owner = owner_of(0, 0);
	send_packets(owner, 0, 1000);
	power_off(owner);
	run(100);
	send_packets(owner_of((owner + 1) % MEMBERS, 0), 0, 1000);
	upto = gateways[owner].sas[0].journaled;
	start(owner);
	/* A standby until it has what the others have. */
	for (unsigned int ms = 0; gateways[owner].owner[0] == ESPALIER_NOBODY ||
				  !(member_view(gateways[owner].m)->live >> owner & 1);
		ms++) {
		assert_in_range(ms, 0, 500);
		step();
	}
	assert_int_equal(member_table(gateways[owner].m)->used, 2);
	run(100);
	same_view(7);
	assert_int_equal(owner_of(owner, 0), owner);
	assert_true(gateways[owner].sas[0].present);
	assert_true(gateways[owner].sas[0].oseq >> BITS >= upto);
	send_packets(owner, 0, 1000);
}

static void test_lost_journal(void **state)
{
	uint8_t owner;

	(void)state;
	create(0, 0, 77);
	run(100);
	owner = owner_of(0, 0);
	send_packets(owner, 0, 1000);
	power_off(owner);
	gateways[owner].journal = 999;
	gateways[owner].sas[0].journaled = 0;
	start(owner);
	run(500);
	assert_int_equal(member_fenced(gateways[owner].m), 1);
	assert_true(gateways[owner].sas[0].guard.open[0].first >
		    gateways[owner].sas[0].guard.open[0].last);
	/* It has its buckets, but for this SA. */
	same_view(7);
	for (unsigned int id = 0; id < MEMBERS; id++) {
		assert_int_not_equal(owner_of(id, 0), owner);
		assert_int_equal(owner_of(id, 0), owner_of(0, 0));
	}
	send_packets(owner_of(0, 0), 0, 1000);
	/* Until it is rekeyed. */
	create((owner + 1) % MEMBERS, 1, 78);
	gateways[(owner + 1) % MEMBERS].sas[0].present = false;
	member_removed(gateways[(owner + 1) % MEMBERS].m, &(struct record_key){0});
	for (unsigned int id = 0; id < MEMBERS; id++) {
		struct record_key key = sa_key(0);

		if (id == owner)
			continue;
		gateways[id].sas[0].present = false;
		member_removed(gateways[id].m, &key);
	}
	run(500);
	assert_false(gateways[owner].sas[0].present);
	assert_int_equal(member_fenced(gateways[owner].m), 0);
	same_view(7);
}

static void test_hot_standby(void **state)
{
	(void)state;
	mode = VIEW_HOT_STANDBY;
	for (unsigned int id = 0; id < MEMBERS; id++)
		start(id);
	run(500);
	same_view(7);
	create(0, 0, 77);
	run(100);
	assert_int_equal(owner_of(2, 0), 0);
	send_packets(0, 0, 1000);
	power_off(0);
	run(100);
	assert_int_equal(owner_of(2, 0), 1);
	send_packets(1, 0, 1000);
}

static void test_end(void **state)
{
	struct record_key key = sa_key(0);

	(void)state;
	create(0, 0, 77);
	run(100);
	gateways[0].sas[0].present = false;
	member_removed(gateways[0].m, &key);
	run(100);
	for (unsigned int id = 0; id < MEMBERS; id++) {
		assert_false(gateways[id].sas[0].present);
		assert_true(is_shut(&gateways[id].sas[0]));
	}
	/* Forgotten when all are here and some time has passed. */
	run(1500);
	assert_int_equal(member_table(gateways[0].m)->used, 0);
	assert_false(gateways[0].sas[0].guarded);
}

static void flush(unsigned int id, unsigned int sa)
{
	struct record_key key = sa_key(sa);

	gateways[id].sas[sa].present = false;
	member_flushed(gateways[id].m, &key);
	run(300);
}

static bool all_have(unsigned int sa)
{
	return gateways[0].sas[sa].present && gateways[1].sas[sa].present &&
	       gateways[2].sas[sa].present;
}

/* A flush ends what was made on that member since its agent started, and nothing else. */
static void test_flush(void **state)
{
	(void)state;
	create(0, 0, 77);
	run(100);
	flush(1, 0);
	assert_true(all_have(0));
	power_off(0);
	run(300);
	flush(owner_of(2, 0), 0);
	assert_true(gateways[1].sas[0].present && gateways[2].sas[0].present);
	start(0);
	run(500);
	flush(0, 0);
	assert_true(all_have(0));
	send_packets(owner_of(0, 0), 0, 1000);
	create(0, 1, 78);
	run(100);
	flush(0, 1);
	for (unsigned int id = 0; id < MEMBERS; id++)
		assert_false(gateways[id].sas[1].present);
}

/* What the guard knows as created here, and the kernel lacks at the start, has ended. */
static void test_end_unseen(void **state)
{
	struct espalier_sa pinned;
	struct record_key key = sa_key(0);

	(void)state;
	create(0, 0, 77);
	run(100);
	pinned = gateways[0].sas[0].guard;
	power_off(0);
	run(100);
	assert_true(gateways[1].sas[0].present);
	start(0);
	member_guarded(gateways[0].m, &key, &pinned, 0);
	member_started(gateways[0].m);
	run(500);
	assert_false(gateways[1].sas[0].present);
	assert_false(gateways[2].sas[0].present);
}

/* The peer gives out an SPI again: to another member, which has a copy of the SA before. */
static void test_spi_again(void **state)
{
	(void)state;
	create(0, 0, 77);
	run(100);
	create(1, 0, 78);
	run(100);
	for (unsigned int id = 0; id < MEMBERS; id++) {
		assert_true(gateways[id].sas[0].present);
		assert_int_equal(gateways[id].sas[0].birth, 78);
		assert_int_equal(gateways[id].sas[0].guard.birth, 78);
	}
}

static void test_stranger(void **state)
{
	uint8_t junk[200] = {WIRE_VERSION, 1, 0, 0, 1};
	struct member_other other;

	(void)state;
	member_datagram(gateways[0].m, 1, junk, 20, now_us); /* cut short */
	member_datagram(gateways[0].m, 2, junk, sizeof(junk), now_us); /* says that it is 1 */
	member_datagram(gateways[0].m, 9, junk, sizeof(junk), now_us); /* no member */
	assert_int_equal(member_counters(gateways[0].m)->malformed, 3);
	power_off(2);
	start_with(2, 2);
	run(500);
	member_other(gateways[0].m, 2, &other);
	assert_true(other.settings_differ && !other.alive);
	assert_int_equal(member_view(gateways[0].m)->live, 3);
	assert_int_equal(member_view(gateways[2].m)->live, 0);
}

static void test_leave(void **state)
{
	(void)state;
	member_leave(gateways[0].m);
	run(30);
	assert_int_equal(member_view(gateways[1].m)->live, 6);
	assert_int_equal(member_view(gateways[2].m)->live, 6);
	assert_int_equal(member_view(gateways[0].m)->live, 6);
}

static void test_link_down(void **state)
{
	(void)state;
	member_link(gateways[1].m, false);
	run(30);
	same_view(5);
	member_link(gateways[1].m, true);
	run(100);
	same_view(7);
}

/* Another MAC address: told at once, and nobody is a next hop who may not know it. */
static void test_own_macs(void **state)
{
	static const struct wire_macs macs = {.outer = {2, 9}, .inner = {2, 8}};
	struct member *m = gateways[0].m;

	(void)state;
	member_own_macs(m, &m->config.macs); /* the same: nothing */
	assert_int_equal(m->others[1].next_hop, 1);
	member_own_macs(m, &macs);
	assert_int_equal(m->others[1].next_hop, 0);
	assert_int_equal(m->others[2].next_hop, 0);
	run(HEARTBEAT_US / 2000 + 2);
	assert_memory_equal(&gateways[1].m->others[0].macs, &macs, sizeof(macs));
	run(HEARTBEAT_US / 1000);
	assert_int_equal(m->others[1].next_hop, 0); /* it may have lost a few heartbeats */
	run((DEAD + 1) * HEARTBEAT_US / 1000);
	assert_int_equal(m->others[1].next_hop, 1);
	assert_int_equal(m->others[2].next_hop, 1);
	same_view(7);
}

int main(void)
{
#define IN_CLUSTER(test) cmocka_unit_test_setup_teardown(test, setup_cluster, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_config, setup, teardown),
		IN_CLUSTER(test_meet),
		IN_CLUSTER(test_create),
		IN_CLUSTER(test_order),
		IN_CLUSTER(test_takeover),
		IN_CLUSTER(test_return),
		IN_CLUSTER(test_lost_journal),
		cmocka_unit_test_setup_teardown(test_hot_standby, setup, teardown),
		IN_CLUSTER(test_end),
		IN_CLUSTER(test_flush),
		IN_CLUSTER(test_end_unseen),
		IN_CLUSTER(test_spi_again),
		IN_CLUSTER(test_stranger),
		IN_CLUSTER(test_leave),
		IN_CLUSTER(test_link_down),
		IN_CLUSTER(test_own_macs),
	};

	return cmocka_run_group_tests_name("member", tests, NULL, NULL);
}
