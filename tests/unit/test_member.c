/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_member.c - members over a perfect network: they find each other, copy SAs, take over, come
 * back. Random faults are the simulator's (tests/sim).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/member_state.h"

#define BITS 8
#define HEARTBEAT_US 10000
#define DEAD 3
#define MEMBERS 3
#define SAS 4
#define DATAGRAMS 4096

struct sa {
	bool present;
	uint64_t birth, oseq;
	struct espalier_sa guard;
	bool guarded;
	uint64_t journaled; /* one above the highest block that is durable */
};

struct gateway {
	struct member *m; /* NULL: off */
	uint32_t journal;
	struct sa sas[SAS];
	uint8_t owner[ESPALIER_BUCKETS];
	uint64_t queued, durable; /* journal ops */
	bool disk_stuck;
	unsigned int kernel_ops; /* install, remove, move, guard */
	unsigned int removed;
	unsigned int announced; /* datagrams sent */
	char last[64]; /* the last ops, a letter each */
};

struct datagram {
	uint8_t from, to;
	size_t len;
	uint8_t bytes[WIRE_MAX];
};

static struct gateway gateways[MEMBERS];
static struct datagram flying[DATAGRAMS];
static unsigned int n_flying;
static uint64_t now_us = 1000000;
static enum view_mode mode;

static struct record_key sa_key(unsigned int sa)
{
	struct record_key key = {.kind = RECORD_SA, .proto = 50, .family = 2};

	key.spi = __builtin_bswap32(0x10000000 * (sa + 1));
	key.addr[0] = 10;
	return key;
}

static struct sa *sa_of(struct gateway *g, const struct record_key *key)
{
	return &g->sas[(__builtin_bswap32(key->spi) >> 28) - 1];
}

static void note(struct gateway *g, char op)
{
	size_t len = strlen(g->last);

	g->kernel_ops += op != 's' && op != 'p';
	if (len == sizeof(g->last) - 1)
		memmove(g->last, g->last + 1, len--);
	g->last[len] = op;
	g->last[len + 1] = 0;
}

static void op_send(void *ctx, uint8_t to, const void *bytes, size_t len)
{
	struct gateway *g = ctx;

	note(g, 's');
	g->announced++;
	assert_in_range(n_flying, 0, DATAGRAMS - 1);
	flying[n_flying] = (struct datagram){.from = (uint8_t)(g - gateways), .to = to, .len = len};
	memcpy(flying[n_flying++].bytes, bytes, len);
}

/* No number may be within reach before its block is durable. */
static void check_durable(const struct sa *sa, uint64_t oseq)
{
	if (oseq >> BITS)
		assert_true(sa->journaled > oseq >> BITS);
}

static void op_install(void *ctx, struct record_install *list, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		struct sa *sa = sa_of(ctx, list[i].key);

		note(ctx, 'i');
		assert_int_equal(list[i].body_len, 8);
		assert_memory_equal(list[i].body, &list[i].facts->birth, 8);
		assert_false(sa->present);
		if (sa->guard.open[0].first <= sa->guard.open[0].last)
			check_durable(sa, list[i].oseq);
		*sa = (struct sa){.present = true,
			.birth = list[i].facts->birth,
			.oseq = list[i].oseq,
			.guard = sa->guard,
			.guarded = sa->guarded,
			.journaled = sa->journaled};
		list[i].result = 0;
	}
}

static void op_remove(void *ctx, const struct record_key *key)
{
	struct gateway *g = ctx;

	note(ctx, 'r');
	g->removed++;
	sa_of(ctx, key)->present = false;
}

static int op_move(void *ctx, const struct record_key *key, uint64_t oseq)
{
	struct sa *sa = sa_of(ctx, key);

	note(ctx, 'm');
	check_durable(sa, oseq);
	if (!sa->present)
		return -ENOENT;
	assert_true(oseq > sa->oseq);
	sa->oseq = oseq;
	return 0;
}

static int op_read(void *ctx, const struct record_key *key, void *body, size_t size)
{
	struct sa *sa = sa_of(ctx, key);

	assert_true(size >= RECORD_BODY_MAX);
	if (!sa->present)
		return -ENOENT;
	memcpy(body, &sa->birth, 8);
	return 8;
}

static void op_expire(void *ctx, const struct record_key *key)
{
	(void)key;
	note(ctx, 'e');
}

static void op_guard(void *ctx, const struct record_key *key, const struct espalier_sa *guard)
{
	struct sa *sa = sa_of(ctx, key);

	note(ctx, 'g');
	sa->guarded = guard != NULL;
	sa->guard = guard ? *guard : (struct espalier_sa){.open[0].first = 1, .open[1].first = 1};
	if (guard && guard->open[0].first <= guard->open[0].last)
		check_durable(sa, guard->open[0].first);
}

static void op_selector(void *ctx, const struct espalier_selector *selector, int bucket)
{
	(void)ctx;
	(void)selector;
	(void)bucket;
}

static void op_publish(
	void *ctx, const struct view *view, uint8_t ingress, const uint8_t owner[ESPALIER_BUCKETS])
{
	struct gateway *g = ctx;

	note(ctx, 'p');
	assert_int_equal(ingress, view_lowest(view->live));
	memcpy(g->owner, owner, sizeof(g->owner));
}

static void op_macs(void *ctx, uint8_t member, const struct espalier_member *macs)
{
	(void)ctx;
	(void)member;
	(void)macs;
}

static struct {
	struct sa *sa;
	uint64_t block;
} entries[MEMBERS][1024];

static void op_journal(void *ctx, const struct record_key *key, uint64_t birth, uint64_t block)
{
	struct gateway *g = ctx;

	(void)birth;
	note(ctx, 'j');
	assert_in_range(g->queued, 0, 1023);
	entries[g - gateways][g->queued].sa = sa_of(g, key);
	entries[g - gateways][g->queued++].block = block;
}

static void op_forget(void *ctx, const struct record_key *key, uint64_t birth)
{
	(void)birth;
	(void)ctx;
	(void)key;
}

static const struct member_ops ops = {op_send, op_install, op_remove, op_move, op_read, op_expire,
	op_guard, op_selector, op_publish, op_macs, op_journal, op_forget};

/* The world. */

static void start_with(unsigned int id, uint64_t settings)
{
	struct gateway *g = &gateways[id];
	struct member_config config = {
		.self = (uint8_t)id,
		.members = (1U << MEMBERS) - 1,
		.settings = settings,
		.mode = mode,
		.block_bits = BITS,
		.heartbeat_us = HEARTBEAT_US,
		.dead = DEAD,
		.repair_us = 200000,
		.tombstone_us = 1000000,
		.capacity = 64,
		.journal = g->journal,
		.life = (uint32_t)now_us + id + 1,
		.macs = {.outer_mac = {2, 0, 0, 0, 0, (uint8_t)id}},
	};

	g->queued = g->durable = 0;
	memset(g->owner, ESPALIER_NOBODY, sizeof(g->owner));
	assert_int_equal(member_new(&config, &ops, g, now_us, &g->m), 0);
	for (unsigned int sa = 0; sa < SAS; sa++) {
		struct record_key key = sa_key(sa);

		if (g->sas[sa].journaled)
			member_restore(g->m, &key, g->sas[sa].birth, g->sas[sa].journaled - 1);
	}
	member_started(g->m);
}

static void start(unsigned int id)
{
	start_with(id, 1);
}

static void power_off(unsigned int id)
{
	struct gateway *g = &gateways[id];

	member_free(g->m);
	g->m = NULL;
	for (unsigned int sa = 0; sa < SAS; sa++)
		g->sas[sa].present = g->sas[sa].guarded = false;
}

static void step(void)
{
	unsigned int n = n_flying;
	static struct datagram now[DATAGRAMS];

	now_us += 1000;
	memcpy(now, flying, n * sizeof(*now));
	n_flying = 0;
	for (unsigned int i = 0; i < n; i++)
		if (gateways[now[i].to].m)
			member_datagram(gateways[now[i].to].m, now[i].from, now[i].bytes,
				now[i].len, now_us);
	for (unsigned int id = 0; id < MEMBERS; id++) {
		struct gateway *g = &gateways[id];

		if (!g->m)
			continue;
		for (; !g->disk_stuck && g->durable < g->queued; g->durable++) {
			struct sa *sa = entries[id][g->durable].sa;

			if (sa->journaled < entries[id][g->durable].block + 1)
				sa->journaled = entries[id][g->durable].block + 1;
		}
		member_committed(g->m, g->durable);
		while (member_work(g->m, now_us))
			;
		if (now_us % (HEARTBEAT_US / 2) == 0)
			member_tick(g->m, now_us);
		member_flush(g->m, now_us);
	}
}

static void run(unsigned int ms)
{
	while (ms--)
		step();
}

static struct member_record kernel_record(unsigned int sa, uint64_t *birth)
{
	return (struct member_record){
		.key = sa_key(sa),
		.facts = {.birth = *birth, .pair = sa + 1, .direction = ESPALIER_OUT, .esn = true},
		.body = birth,
		.body_len = 8,
	};
}

static void create(unsigned int id, unsigned int sa, uint64_t birth)
{
	struct member_record record = kernel_record(sa, &birth);

	gateways[id].sas[sa].present = true;
	gateways[id].sas[sa].birth = birth;
	gateways[id].sas[sa].oseq = 0;
	gateways[id].sas[sa].journaled = 0; /* speaks of this SA from now on */
	member_added(gateways[id].m, &record);
}

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
	return gateways[id].owner[gateways[id].sas[sa].guard.bucket];
}

static int setup(void **state)
{
	(void)state;
	memset(gateways, 0, sizeof(gateways));
	n_flying = 0;
	mode = VIEW_LOAD_SHARING;
	for (unsigned int id = 0; id < MEMBERS; id++)
		gateways[id].journal = 100 + id;
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

static int teardown(void **state)
{
	(void)state;
	for (unsigned int id = 0; id < MEMBERS; id++)
		member_free(gateways[id].m);
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
	REFUSED(dead = 0);
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
			assert_int_equal(gateways[id].m->others[o].macs.next_hop, 1);
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
	assert_int_equal(member_barred(gateways[owner].m), 1);
	assert_true(member_flags(gateways[owner].m) & WIRE_BARRED);
	assert_true(gateways[owner].sas[0].guard.open[0].first >
		    gateways[owner].sas[0].guard.open[0].last);
	same_view(7 & ~(1 << owner));
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
	assert_int_equal(member_barred(gateways[owner].m), 0);
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
		assert_false(gateways[id].sas[0].guarded);
	}
	/* Its keys must not be used again. */
	create(0, 0, 77);
	assert_false(gateways[0].sas[0].present);
	assert_int_equal(member_counters(gateways[0].m)->refused, 1);
	assert_true(gateways[0].sas[0].guard.open[0].first > gateways[0].sas[0].guard.open[0].last);
	/* Forgotten when all are here and some time has passed. */
	run(1500);
	assert_int_equal(member_table(gateways[0].m)->used, 0);
	assert_false(gateways[0].sas[0].guarded);
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
	member_pinned(gateways[0].m, &key, &pinned);
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
	assert_int_equal(member_view(gateways[2].m)->live, 4);
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
		IN_CLUSTER(test_end_unseen),
		IN_CLUSTER(test_spi_again),
		IN_CLUSTER(test_stranger),
		IN_CLUSTER(test_leave),
		IN_CLUSTER(test_link_down),
	};

	return cmocka_run_group_tests_name("member", tests, NULL, NULL);
}
