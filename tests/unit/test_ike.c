/* SPDX-License-Identifier: BSD-2-Clause */
/* IKE SAs in a cluster: which member's daemon has one, what is committed, what is handed over. */
#include "cluster.h"

#define IKES 64
#define PEER 0x1122334455667788ULL

/* A made-up IKE daemon's IKE SA. */
struct daemon_ike {
	uint64_t own;
	uint32_t turn, body_len;
	uint64_t version, committed;
	bool has, gone;
	uint8_t flags; /* of the last gift */
	uint8_t body[3000];
};

struct daemon {
	bool up, deaf; /* deaf: takes nothing now */
	struct daemon_ike ikes[IKES];
	unsigned int n, gives, drops, releases, nones, taken;
	bool slow; /* answers no RELEASE */
	uint8_t none_flags;
};

static struct daemon daemons[MEMBERS];

static struct daemon_ike *ike_of(unsigned int id, uint64_t own)
{
	struct daemon *d = &daemons[id];

	for (unsigned int i = 0; i < d->n; i++)
		if (d->ikes[i].own == own)
			return &d->ikes[i];
	assert_in_range(d->n, 0, IKES - 1);
	d->ikes[d->n].own = own;
	return &d->ikes[d->n++];
}

static bool told(struct gateway *g, enum ike_tell what, const struct ike *r)
{
	unsigned int id = (unsigned int)(g - gateways);
	struct daemon *d = &daemons[id];
	struct daemon_ike *i;

	assert_true(d->up);
	if (d->deaf)
		return false;
	d->taken += what == IKE_TELL_TAKEN;
	if (what == IKE_TELL_TAKEN)
		return true;
	i = ike_of(id, r->head.own);
	switch (what) {
	case IKE_TELL_COMMITTED:
		assert_in_range(r->committed, i->committed, i->version);
		i->committed = r->committed;
		break;
	case IKE_TELL_GIVE:
		d->gives++;
		i->has = true;
		i->turn = r->head.turn;
		i->version = r->head.version;
		i->flags = member_ike_flags(r);
		i->body_len = r->body_len;
		memcpy(i->body, r->body, r->body_len);
		break;
	case IKE_TELL_RELEASE:
		d->releases++;
		i->gone = true; /* to be answered */
		break;
	case IKE_TELL_DROP:
		d->drops++;
		i->has = false;
		break;
	case IKE_TELL_NONE:
		d->nones++;
		d->none_flags = r->head.flags;
		break;
	case IKE_TELL_TAKEN:
		break;
	}
	return true;
}

static struct ike_head head_of(const struct daemon_ike *i)
{
	return (struct ike_head){.own = i->own,
		.peer = PEER,
		.turn = i->turn,
		.version = i->version,
		.flags = IKE_ESTABLISHED};
}

static void record_with(unsigned int id, uint64_t own, const struct ike_child *children, uint16_t n)
{
	struct daemon_ike *i = ike_of(id, own);
	struct ike_head head;

	i->has = true;
	i->turn = i->turn ? i->turn : 1;
	i->version++;
	i->body_len = i->body_len ? i->body_len : 400;
	memset(i->body, (int)(i->version ^ own), i->body_len);
	head = head_of(i);
	member_ike_record(gateways[id].m, &head, i->body, i->body_len, children, n);
}

static void record(unsigned int id, uint64_t own)
{
	record_with(id, own, NULL, 0);
}

static void gone(unsigned int id, uint64_t own)
{
	struct daemon_ike *i = ike_of(id, own);
	struct ike_head head;

	i->has = false;
	i->version++;
	head = head_of(i);
	member_ike_gone(gateways[id].m, &head);
}

static void connect_daemon(unsigned int id)
{
	struct daemon *d = &daemons[id];

	d->up = true;
	member_ike_hello(gateways[id].m);
	for (unsigned int i = 0; i < d->n; i++) {
		struct ike_head head = head_of(&d->ikes[i]);

		if (d->ikes[i].has)
			member_ike_record(gateways[id].m, &head, d->ikes[i].body,
				d->ikes[i].body_len, NULL, 0);
	}
	member_ike_ready(gateways[id].m);
}

static void answer_releases(void)
{
	for (unsigned int id = 0; id < members; id++)
		for (unsigned int k = 0; k < daemons[id].n; k++) {
			struct daemon_ike *i = &daemons[id].ikes[k];
			bool answers = i->gone && gateways[id].m && !daemons[id].slow;

			if (!answers)
				continue;
			i->gone = i->has = false;
			member_ike_released(gateways[id].m, i->own);
		}
}

static const struct ike *seen(unsigned int id, uint64_t own)
{
	return ike_find(member_ikes(gateways[id].m), own);
}

static bool views_differ(unsigned int a, unsigned int b)
{
	const struct view *x = member_view(gateways[a].m), *y = member_view(gateways[b].m);

	return x->epoch != y->epoch || x->live != y->live;
}

/* RFC 6027 3.7: of those that follow one view. */
static void check_one(void)
{
	for (unsigned int a = 0; a < members; a++)
		for (unsigned int b = 0; b < a && gateways[a].m; b++) {
			const struct ikes *t = &gateways[a].m->holder.ikes;

			if (!gateways[b].m || views_differ(a, b))
				continue;
			for (uint32_t slot = 0; slot < t->high; slot++) {
				const struct ike *r = ike_at(t, slot), *other;

				other = r && r->state == IKE_HELD ? seen(b, r->head.own) : NULL;
				assert_true(!other || other->state != IKE_HELD);
			}
		}
}

static void run_daemons(unsigned int ms)
{
	while (ms--) {
		answer_releases();
		step();
		check_one();
	}
}

/* An SPI whose bucket this member owns while `live` are there. */
static uint64_t own_spi(unsigned int id, uint16_t live, unsigned int n)
{
	uint64_t bucket = 0;

	for (;; bucket++)
		if (view_owner(live, VIEW_LOAD_SHARING, (uint16_t)bucket) == id && !n--)
			return bucket << 52 | 0xabcdULL << 8 | 1;
}

static void begin(unsigned int count)
{
	setup_sas(4);
	members = count;
	daemon_told = told;
	most_ikes = 16;
	memset(daemons, 0, sizeof(daemons));
	for (unsigned int id = 0; id < count; id++)
		start(id);
	run(100);
	for (unsigned int id = 0; id < count; id++)
		connect_daemon(id);
	run_daemons(20);
}

static void test_committed(void **state)
{
	uint64_t own = own_spi(0, 3, 0);

	(void)state;
	begin(2);
	record(0, own);
	step();
	assert_int_equal(ike_of(0, own)->committed, 0);
	run_daemons(4);
	assert_int_equal(ike_of(0, own)->committed, 1);
	assert_non_null(seen(1, own));
	assert_int_equal(seen(1, own)->head.holder, 0);
	assert_int_equal(seen(1, own)->body_len, 400);
	assert_int_equal(member_ike_counters(gateways[0].m)->commits, 1);
	assert_int_equal(member_ike_counters(gateways[0].m)->overdue, 0);
	assert_true(member_ike_counters(gateways[0].m)->hold_most_us > 0);
}

static void test_alone(void **state)
{
	uint64_t own = own_spi(0, 1, 0);

	(void)state;
	begin(1);
	record(0, own);
	step();
	assert_int_equal(ike_of(0, own)->committed, 1);
}

/* A body that takes several datagrams; some of them are lost. */
static void test_large(void **state)
{
	uint64_t own = own_spi(0, 3, 0);

	(void)state;
	begin(2);
	loss = 200;
	for (unsigned int n = 0; n < 20; n++) {
		ike_of(0, own)->body_len = 3000 - n;
		record(0, own);
		run_daemons(n % 3);
	}
	run_daemons(400);
	loss = 0;
	run_daemons(400);
	assert_int_equal(ike_of(0, own)->committed, 20);
	assert_int_equal(seen(1, own)->body_len, 3000 - 19);
	assert_memory_equal(seen(1, own)->body, ike_of(0, own)->body, 3000 - 19);
}

/* Not before the SAs that it names are there: they come from the kernel. */
static void test_names(void **state)
{
	const struct record_key key = sa_key(0), out = sa_key(1);
	struct ike_child child = {
		.protocol = 50, .family = 2, .spi_in = key.spi, .spi_out = out.spi};
	uint64_t own = own_spi(0, 3, 0);

	(void)state;
	begin(2);
	memcpy(child.local, key.addr, 16);
	memcpy(child.remote, out.addr, 16);
	record_with(0, own, &child, 1);
	run_daemons(20);
	assert_int_equal(ike_of(0, own)->committed, 0);
	create(0, 0, 1);
	run_daemons(20);
	assert_int_equal(ike_of(0, own)->committed, 0);
	create(0, 1, 2);
	step();
	assert_int_equal(ike_of(0, own)->committed, 0);
	run_daemons(4);
	assert_int_equal(ike_of(0, own)->committed, 1);
	assert_true(gateways[1].sas[1].present);
	/* One that never comes. */
	child.spi_in = htobe32(0x12345678);
	record_with(0, own, &child, 1);
	run_daemons(60);
	assert_int_equal(ike_of(0, own)->committed, 1);
	assert_int_equal(member_ike_counters(gateways[0].m)->overdue, 1);
	assert_true(seen(1, own)->head.flags & IKE_SYNC);
}

/* The one that would take over counts, not any other. */
static void test_successor(void **state)
{
	unsigned int n = 0, next, third;
	uint64_t own;

	(void)state;
	begin(3);
	own = own_spi(0, 7, n);
	next = view_owner(6, VIEW_LOAD_SHARING, (uint16_t)(own >> 52));
	third = 3 - next;
	gateways[next].mute = true; /* it hears, and acknowledges nothing */
	record(0, own);
	run_daemons(10);
	assert_non_null(seen(third, own));
	assert_int_equal(ike_of(0, own)->committed, 0);
	gateways[next].mute = false;
	run_daemons(100);
	assert_int_equal(ike_of(0, own)->committed, 1);
}

static void test_takeover(void **state)
{
	uint64_t own = own_spi(0, 3, 0);

	(void)state;
	begin(2);
	record(0, own);
	run_daemons(10);
	record(0, own);
	run_daemons(10);
	assert_int_equal(ike_of(0, own)->committed, 2);
	power_off(0);
	daemons[0] = (struct daemon){0};
	run_daemons(60);
	assert_true(ike_of(1, own)->has);
	assert_int_equal(ike_of(1, own)->version, 2);
	assert_int_equal(ike_of(1, own)->turn, 3);
	assert_int_equal(ike_of(1, own)->flags, IKE_ESTABLISHED | IKE_BACKGROUND);
	assert_int_equal(ike_of(1, own)->body[0], (uint8_t)(2 ^ own));
	/* It goes on, and back to where it was, with what has changed meanwhile. */
	record(1, own);
	step();
	assert_int_equal(ike_of(1, own)->committed, 3);
	start(0);
	connect_daemon(0);
	run_daemons(500);
	assert_true(ike_of(0, own)->has);
	assert_false(ike_of(1, own)->has);
	assert_int_equal(ike_of(0, own)->version, 3);
	assert_int_equal(ike_of(0, own)->turn, 5);
	assert_int_equal(daemons[1].releases, 1);
	assert_false(ike_of(0, own)->flags & IKE_SYNC);
	record(0, own);
	run_daemons(10);
	assert_int_equal(ike_of(0, own)->committed, 4);
}

/* A message waits: at once, whatever else there is. */
static void test_need(void **state)
{
	uint64_t own = own_spi(0, 3, 0);

	(void)state;
	begin(2);
	record(0, own);
	run_daemons(10);
	member_ike_need(gateways[1].m, own + 1, PEER, 0);
	assert_int_equal(daemons[1].nones, 1);
	assert_true(daemons[1].none_flags & IKE_SURE);
	power_off(0);
	daemons[0] = (struct daemon){0};
	daemons[1].deaf = true;
	run_daemons(60);
	daemons[1].deaf = false;
	member_ike_need(gateways[1].m, own, PEER, 0);
	step();
	assert_true(ike_of(1, own)->has);
	assert_int_equal(ike_of(1, own)->flags, IKE_ESTABLISHED);
	member_ike_need(gateways[1].m, own, PEER + 1, 0);
	assert_int_equal(daemons[1].nones, 2);
	assert_false(daemons[1].none_flags & IKE_SURE); /* member 0 may know more */
}

/* The agent was not there, the daemon was: another member has gone on, or ended it. */
static void test_ran_on(void **state)
{
	uint64_t a = own_spi(0, 3, 0), b = own_spi(0, 3, 1), c = own_spi(0, 3, 2);

	(void)state;
	begin(2);
	record(0, a);
	record(0, b);
	run_daemons(10);
	kill_agent(0);
	run_daemons(60);
	assert_true(ike_of(1, a)->has && ike_of(1, b)->has);
	gone(1, b);
	record(1, a);
	ike_of(0, a)->version = 7; /* as it counts */
	ike_of(0, b)->version = 7;
	run_daemons(10);
	ike_of(0, c)->has = true; /* what it has begun meanwhile nobody else knows */
	ike_of(0, c)->turn = ike_of(0, c)->version = 1;
	ike_of(0, c)->body_len = 10;
	start(0);
	connect_daemon(0);
	run_daemons(500);
	assert_false(ike_of(0, b)->has);
	assert_true(seen(0, b) == NULL || seen(0, b)->head.dead);
	assert_true(seen(1, b)->head.dead);
	assert_true(daemons[0].drops + daemons[0].releases >= 2);
	assert_true(ike_of(0, a)->has);
	assert_int_equal(ike_of(0, a)->turn, 5);
	assert_int_equal(ike_of(0, a)->version, 2);
	assert_true(ike_of(0, a)->flags & IKE_SYNC);
	assert_true(ike_of(0, c)->has);
	assert_non_null(seen(1, c));
}

/* The daemon alone is started again: it gets back what it had. */
static void test_daemon_dies(void **state)
{
	uint64_t own = own_spi(0, 3, 0);

	(void)state;
	begin(2);
	record(0, own);
	run_daemons(10);
	member_ike_lost(gateways[0].m);
	daemons[0] = (struct daemon){0};
	run_daemons(100);
	assert_false(ike_of(1, own)->has);
	connect_daemon(0);
	run_daemons(10);
	assert_true(ike_of(0, own)->has);
	assert_int_equal(ike_of(0, own)->turn, 3);
	assert_int_equal(daemons[0].taken, 1);
}

/* It does not come back: another member's daemon goes on, and gives all back when it does. */
static void test_daemon_stays_away(void **state)
{
	uint64_t own = own_spi(0, 3, 0);

	(void)state;
	begin(2);
	record(0, own);
	run_daemons(10);
	member_ike_lost(gateways[0].m);
	daemons[0] = (struct daemon){0};
	run_daemons(900);
	assert_int_equal(member_view(gateways[1].m)->live, 3);
	run_daemons(300);
	assert_int_equal(member_view(gateways[1].m)->live, 2);
	assert_true(ike_of(1, own)->has);
	record(1, own);
	run_daemons(10);
	assert_int_equal(ike_of(1, own)->committed, ike_of(1, own)->version);
	connect_daemon(0);
	run_daemons(300);
	assert_int_equal(member_view(gateways[1].m)->live, 3);
	assert_true(ike_of(0, own)->has);
	assert_false(ike_of(1, own)->has);
	assert_int_equal(ike_of(0, own)->version, 2);
	assert_false(ike_of(0, own)->flags & IKE_SYNC);
}

/* Nobody has one: buckets stay where they are. */
static void test_no_daemon(void **state)
{
	(void)state;
	begin(2);
	member_ike_lost(gateways[0].m);
	member_ike_lost(gateways[1].m);
	memset(daemons, 0, sizeof(daemons));
	run_daemons(1500);
	assert_int_equal(member_view(gateways[0].m)->live, 3);
	assert_int_equal(member_view(gateways[1].m)->live, 3);
}

/* Its agent alone: the daemon goes on with what it has. */
static void test_agent_restarts(void **state)
{
	uint64_t own = own_spi(0, 3, 0);

	(void)state;
	begin(2);
	record(0, own);
	run_daemons(10);
	kill_agent(0);
	run_daemons(5);
	start(0);
	run_daemons(5);
	connect_daemon(0);
	run_daemons(500);
	assert_true(ike_of(0, own)->has);
	assert_false(ike_of(1, own)->has);
	assert_int_equal(ike_of(0, own)->version, 1);
	record(0, own);
	run_daemons(10);
	assert_int_equal(ike_of(0, own)->committed, 2);
}

/* What has ended is ended everywhere, also for one that was not there to hear it. */
static void test_gone(void **state)
{
	uint64_t own = own_spi(0, 7, 0);

	(void)state;
	begin(3);
	record(0, own);
	run_daemons(10);
	gateways[2].mute = true;
	run_daemons(60);
	kill_agent(2);
	gateways[2].mute = false;
	gone(0, own);
	run_daemons(60);
	assert_int_equal(ike_of(0, own)->committed, 2);
	assert_true(seen(1, own)->head.dead);
	assert_null(seen(1, own)->body);
	start(2);
	run_daemons(500);
	assert_true(seen(2, own) == NULL || seen(2, own)->head.dead);
	run_daemons(2500);
	assert_null(seen(0, own)); /* forgotten */
	assert_null(seen(1, own));
	assert_int_equal(member_ikes(gateways[1].m)->used, 0);
}

/* Leaving: the last record is handed over first. */
static void test_leave(void **state)
{
	uint64_t own = own_spi(0, 3, 0);

	(void)state;
	begin(2);
	record(0, own);
	run_daemons(10);
	member_leave(gateways[0].m);
	assert_true(member_ike_busy(gateways[0].m));
	daemons[0].slow = true;
	run_daemons(200);
	assert_int_equal(daemons[0].releases, 1);
	assert_false(ike_of(1, own)->has);
	record(0, own); /* what was in flight */
	daemons[0].slow = false;
	run_daemons(10);
	assert_true(ike_of(1, own)->has);
	assert_int_equal(ike_of(1, own)->version, 2);
	assert_int_equal(ike_of(1, own)->turn, 3);
	assert_false(ike_of(1, own)->flags & IKE_SYNC);
	assert_false(member_ike_busy(gateways[0].m));
}

/* A daemon that does not hand over is not waited for for ever; it is told, and the peer asked. */
static void test_hangs(void **state)
{
	uint64_t own = own_spi(0, 3, 0);

	(void)state;
	begin(2);
	record(0, own);
	run_daemons(10);
	member_leave(gateways[0].m);
	daemons[0].slow = true;
	run(900);
	assert_false(ike_of(1, own)->has);
	run(300);
	assert_true(ike_of(1, own)->has);
	assert_true(ike_of(1, own)->flags & IKE_SYNC);
	assert_false(ike_of(0, own)->has);
	assert_int_equal(daemons[0].drops, 1);
}

/* Both had it for a while. One of them goes on with it. */
static void test_split(void **state)
{
	uint64_t own = own_spi(0, 3, 0);

	(void)state;
	begin(2);
	record(0, own);
	run_daemons(10);
	gateways[0].mute = gateways[1].mute = true;
	run_daemons(100);
	assert_true(ike_of(0, own)->has && ike_of(1, own)->has);
	record(0, own);
	record(1, own);
	record(1, own);
	run_daemons(100);
	assert_int_equal(ike_of(0, own)->committed, 2);
	gateways[0].mute = gateways[1].mute = false;
	for (unsigned int ms = 0; ms < 1000; ms++) {
		answer_releases();
		step();
	}
	assert_true(ike_of(0, own)->has);
	assert_false(ike_of(1, own)->has);
	assert_int_equal(ike_of(0, own)->version, 3);
	assert_true(ike_of(0, own)->flags & IKE_SYNC);
	run_daemons(100);
}

/* A record that got lost on its way is found by a comparison; a newcomer is given all. */
static void test_repair(void **state)
{
	uint64_t own = own_spi(0, 3, 0);

	(void)state;
	begin(2);
	for (unsigned int n = 0; n < 8; n++)
		record(0, own_spi(0, 3, n));
	run_daemons(10);
	ike_drop(&gateways[1].m->holder.ikes, ike_find(&gateways[1].m->holder.ikes, own));
	assert_null(seen(1, own));
	run_daemons(500);
	assert_non_null(seen(1, own));
	kill_agent(1);
	run_daemons(60);
	start(1);
	run_daemons(500);
	for (unsigned int n = 0; n < 8; n++)
		assert_non_null(seen(1, own_spi(0, 3, n)));
	assert_int_equal(gateways[0].m->table.digests[5], gateways[1].m->table.digests[5]);
	assert_memory_equal(gateways[0].m->table.digests, gateways[1].m->table.digests,
		sizeof(gateways[0].m->table.digests));
}

/* No more than may be; what ended makes room. */
static void test_full(void **state)
{
	(void)state;
	begin(2);
	for (unsigned int n = 0; n < 16; n++)
		record(0, own_spi(0, 3, n));
	run_daemons(10);
	record(0, own_spi(0, 3, 16));
	assert_int_equal(ike_of(0, own_spi(0, 3, 16))->committed, 1); /* nobody waits for it */
	assert_int_equal(member_ike_counters(gateways[0].m)->refused, 1);
	assert_int_equal(gateways[0].notices[NOTICE_IKE_FULL], 1);
	for (unsigned int round = 0; round < 16; round++) {
		gone(0, own_spi(0, 3, round));
		run_daemons(10);
		record(0, own_spi(0, 3, 17 + round));
		run_daemons(10);
		assert_int_equal(ike_of(0, own_spi(0, 3, 17 + round))->committed, 1);
		assert_non_null(seen(1, own_spi(0, 3, 17 + round)));
	}
	assert_int_equal(member_ikes(gateways[1].m)->living, 16);
}

/* A daemon that takes nothing loses nothing. */
static void test_deaf(void **state)
{
	(void)state;
	begin(2);
	daemons[0].deaf = true;
	for (unsigned int n = 0; n < 8; n++)
		record(0, own_spi(0, 3, n));
	run_daemons(100);
	daemons[0].deaf = false;
	step();
	for (unsigned int n = 0; n < 8; n++)
		assert_int_equal(ike_of(0, own_spi(0, 3, n))->committed, 1);
}

/* One member has all of them. */
static void test_hot_standby(void **state)
{
	(void)state;
	setup_sas(4);
	members = 2;
	mode = VIEW_HOT_STANDBY;
	daemon_told = told;
	most_ikes = 16;
	memset(daemons, 0, sizeof(daemons));
	for (unsigned int id = 0; id < 2; id++)
		start(id);
	run(100);
	connect_daemon(0);
	connect_daemon(1);
	for (unsigned int n = 0; n < 8; n++)
		record(0, own_spi(0, 3, n));
	run_daemons(10);
	power_off(0);
	daemons[0] = (struct daemon){0};
	run_daemons(60);
	for (unsigned int n = 0; n < 8; n++)
		assert_true(ike_of(1, own_spi(0, 3, n))->has);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_committed, teardown),
		cmocka_unit_test_teardown(test_alone, teardown),
		cmocka_unit_test_teardown(test_large, teardown),
		cmocka_unit_test_teardown(test_names, teardown),
		cmocka_unit_test_teardown(test_successor, teardown),
		cmocka_unit_test_teardown(test_takeover, teardown),
		cmocka_unit_test_teardown(test_need, teardown),
		cmocka_unit_test_teardown(test_ran_on, teardown),
		cmocka_unit_test_teardown(test_daemon_dies, teardown),
		cmocka_unit_test_teardown(test_daemon_stays_away, teardown),
		cmocka_unit_test_teardown(test_no_daemon, teardown),
		cmocka_unit_test_teardown(test_agent_restarts, teardown),
		cmocka_unit_test_teardown(test_gone, teardown),
		cmocka_unit_test_teardown(test_leave, teardown),
		cmocka_unit_test_teardown(test_hangs, teardown),
		cmocka_unit_test_teardown(test_split, teardown),
		cmocka_unit_test_teardown(test_repair, teardown),
		cmocka_unit_test_teardown(test_full, teardown),
		cmocka_unit_test_teardown(test_deaf, teardown),
		cmocka_unit_test_teardown(test_hot_standby, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
