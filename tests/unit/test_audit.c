/* SPDX-License-Identifier: BSD-2-Clause */
/* test_audit.c - what the audit takes of the time, and what it makes of SAs that come, change and
 * go while it reads, or behind everybody's back. The core is real, the kernel is played: what a
 * dump tells was read a step before. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "agent.h"
#include "core/state.h"

#define SAS 2000U
#define ROOM 1000U /* for more of them */
#define PART 10U /* SAs told in a step */
#define COST_US 500 /* of CPU, each step */
#define TURN_US 5000 /* of the loop, with nothing to do */
#define AUDIT_US 60000000U

int __wrap_xfrm_dump_begin(struct xfrm *x);
int __wrap_xfrm_dump_step(struct xfrm *x);
int __wrap_xfrm_dump_error(const struct xfrm *x);
int __wrap_xfrm_read(struct xfrm *x, const struct record_key *key, void *buf, size_t size);
int __wrap_xfrm_tell(struct xfrm *x, const struct record_key *key);
int __wrap_xfrm_count(struct xfrm *x, uint32_t *ret);
int __wrap_xfrm_process(struct xfrm *x);
int __wrap_xfrm_fd(const struct xfrm *x);
struct espalier_counter *__wrap_datapath_counters(const struct datapath *d);

struct sa {
	bool there;
	uint64_t form;
};

static struct agent agent;
static struct espalier_counter counters[SAS + ROOM];
static struct sa kernel[SAS + ROOM + 1];
static uint32_t place, last; /* of the dump: the next SA; below here was there when it began */
static struct sa part[PART]; /* read, but not told yet */
static uint32_t part_first, part_n;
static uint32_t events[SAS + ROOM], n_events; /* SAs that were made, changed or deleted */
static int events_fd;
static uint64_t now_us, cpu_us;
static unsigned int begun, steps, looked, locals;
static uint64_t made_s;
static void (*before_count)(void), (*after_count)(void);

static struct record_key key_of(uint32_t sa)
{
	return (struct record_key){
		.kind = RECORD_SA, .proto = IPPROTO_ESP, .family = AF_INET, .spi = htonl(sa + 1)};
}

static void tell_as(uint32_t sa, const struct sa *as)
{
	const struct xfrm_record record = {.key = key_of(sa),
		.made_s = made_s,
		.facts = {.birth = sa + 1,
			.form = as->form,
			.pair = sa + 1,
			.direction = ESPALIER_IN}};

	events_xfrm.added(&agent, &record);
}

/* The kernel. */

static void read_part(void)
{
	part_first = place;
	for (part_n = 0; part_n < PART && place < last; part_n++)
		part[part_n] = kernel[place++];
}

int __wrap_xfrm_dump_begin(struct xfrm *x)
{
	(void)x;
	begun++;
	place = 0;
	read_part();
	return 0;
}

int __wrap_xfrm_dump_step(struct xfrm *x)
{
	struct sa now[PART];
	uint32_t first = part_first, n = part_n;

	(void)x;
	steps++;
	cpu_us += COST_US;
	memcpy(now, part, sizeof(now));
	read_part();
	for (uint32_t i = 0; i < n; i++)
		if (now[i].there)
			tell_as(first + i, &now[i]);
	return n > 0;
}

int __wrap_xfrm_dump_error(const struct xfrm *x)
{
	(void)x;
	return 0;
}

static uint32_t sa_of(const struct record_key *key)
{
	return ntohl(key->spi) - 1;
}

int __wrap_xfrm_read(struct xfrm *x, const struct record_key *key, void *buf, size_t size)
{
	(void)x, (void)buf, (void)size;
	looked++;
	cpu_us += 5;
	return kernel[sa_of(key)].there ? 0 : -ENOENT;
}

int __wrap_xfrm_tell(struct xfrm *x, const struct record_key *key)
{
	uint32_t sa = sa_of(key);

	(void)x;
	if (!kernel[sa].there)
		return -ENOENT;
	tell_as(sa, &kernel[sa]);
	return 0;
}

int __wrap_xfrm_count(struct xfrm *x, uint32_t *ret)
{
	(void)x;
	if (before_count)
		before_count();
	*ret = 0;
	for (uint32_t sa = 0; sa < SAS + ROOM; sa++)
		*ret += kernel[sa].there;
	if (after_count)
		after_count();
	return 0;
}

int __wrap_xfrm_process(struct xfrm *x)
{
	eventfd_t n;

	(void)x;
	(void)eventfd_read(events_fd, &n);
	for (uint32_t i = 0; i < n_events; i++) {
		struct record_key key = key_of(events[i]);

		if (kernel[events[i]].there)
			tell_as(events[i], &kernel[events[i]]);
		else
			events_xfrm.removed(&agent, &key);
	}
	n_events = 0;
	return 0;
}

int __wrap_xfrm_fd(const struct xfrm *x)
{
	(void)x;
	return events_fd;
}

static void happens(uint32_t sa, struct sa now)
{
	kernel[sa] = now;
	events[n_events++] = sa;
	assert_int_equal(eventfd_write(events_fd, 1), 0);
}

/* The rest of the agent. */

struct espalier_counter *__wrap_datapath_counters(const struct datapath *d)
{
	(void)d;
	return counters;
}

uint64_t agent_now_us(void)
{
	return now_us;
}

uint64_t agent_cpu_us(void)
{
	return cpu_us;
}

void agent_say(const char *format, ...)
{
	(void)format;
}

const char *agent_name(const struct record_key *key)
{
	(void)key;
	return "";
}

void local_told(struct agent *a, const struct record_key *key, const struct record_facts *facts,
	const char *why)
{
	(void)a, (void)key, (void)facts;
	locals += why == local_no_room;
}

const char local_no_room[] = "";

bool local_stays(struct agent *a, const struct record_key *key)
{
	(void)a, (void)key;
	return locals > 0;
}

void local_gone(struct agent *a, const struct record_key *key)
{
	(void)a, (void)key;
}

void local_begin(struct agent *a)
{
	(void)a;
}

void local_end(struct agent *a)
{
	(void)a;
}

void local_policy_told(
	struct agent *a, const struct record_key *key, const char *text, const char *why)
{
	(void)a, (void)key, (void)text, (void)why;
}

void local_policy_gone(struct agent *a, const struct record_key *key)
{
	(void)a, (void)key;
}

void local_policy_begin(struct agent *a)
{
	(void)a;
}

void local_policy_end(struct agent *a)
{
	(void)a;
}

static void op_guard(void *ctx, const struct record_key *key, const struct espalier_sa *sa)
{
	(void)ctx, (void)key, (void)sa;
}

static void op_pin(void *ctx, const struct record_key *key, const struct espalier_flow *flow)
{
	(void)ctx, (void)key, (void)flow;
}

static void op_forget(void *ctx, uint64_t birth)
{
	(void)ctx, (void)birth;
}

static int op_read(void *ctx, const struct record_key *key, void *body, size_t size)
{
	(void)ctx, (void)body, (void)size;
	return kernel[sa_of(key)].there ? 1 : -ENOENT;
}

static void op_notice(void *ctx, enum member_notice what, const struct record_key *key, uint8_t who)
{
	(void)ctx, (void)what, (void)key, (void)who;
}

static const struct member_ops ops = {.guard = op_guard,
	.pin = op_pin,
	.forget = op_forget,
	.read = op_read,
	.notice = op_notice};

static int set_up(void **state)
{
	const struct member_config config = {
		.members = 1,
		.block_bits = 16,
		.heartbeat_us = 10000,
		.dead = 3,
		.capacity = SAS + ROOM,
		.journal = 1,
		.life = 1,
	};

	(void)state;
	memset(&agent, 0, sizeof(agent));
	memset(kernel, 0, sizeof(kernel));
	now_us = 1000000000;
	n_events = begun = steps = looked = locals = place = part_n = 0;
	before_count = after_count = NULL;
	last = SAS;
	events_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	agent.config.audit_us = AUDIT_US;
	agent.config.block_bits = config.block_bits;
	agent.audit.due_us = now_us;
	if (events_fd < 0 || member_new(&config, &ops, NULL, now_us, &agent.member) < 0)
		return -1;
	for (uint32_t sa = 0; sa < SAS; sa++) {
		kernel[sa] = (struct sa){true, 1};
		tell_as(sa, &kernel[sa]);
	}
	member_started(agent.member);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	free(agent.audit.seen);
	member_free(agent.member);
	close(events_fd);
	return 0;
}

static const struct record *find(uint32_t sa)
{
	struct record_key key = key_of(sa);

	return table_find(member_table(agent.member), &key);
}

static bool is_installed(uint32_t sa)
{
	const struct record *r = find(sa);

	return r && record_is_installed(r);
}

/* A turn of the loop, and what is waited until the next one. */
static void turn(void)
{
	uint64_t before = cpu_us;
	bool busy = audit_turn(&agent, now_us);

	now_us += cpu_us - before;
	if (!busy)
		now_us += TURN_US;
}

static void run_to_end(void)
{
	do
		turn();
	while (agent.audit.phase != AUDIT_IDLE);
}

static void run_until(bool (*reached)(void))
{
	while (!reached())
		turn();
}

static bool is_half_read(void)
{
	return place >= SAS / 2;
}

static bool is_judging(void)
{
	return agent.audit.phase == AUDIT_JUDGING;
}

static uint64_t missing(void)
{
	return member_counters(agent.member)->missing;
}

static void test_share(void **state)
{
	uint64_t begin = now_us, cpu = cpu_us;

	(void)state;
	run_to_end();
	assert_int_equal(steps, SAS / PART + 1);
	assert_int_equal(missing(), 0);
	assert_int_equal(looked, 0);
	/* What it may make up for is the first second's. */
	assert_true((cpu_us - cpu) * 100 <= now_us - begin + 1000000);

	/* One that takes longer than its interval is followed by the next one. */
	agent.config.audit_us = 1000000;
	agent.audit.due_us = now_us;
	begin = now_us;
	cpu = cpu_us;
	begun = 0;
	while (now_us < begin + 120000000)
		turn();
	assert_true(begun > 5);
	assert_true((cpu_us - cpu) * 100 <= now_us - begin + 1000000);
}

/* A loop that comes round seldom does more at a time. */
static void test_slow_loop(void **state)
{
	uint64_t begin = now_us;

	(void)state;
	do
		if (!audit_turn(&agent, now_us))
			now_us += 500000;
	while (agent.audit.phase != AUDIT_IDLE);
	assert_true(now_us - begin <= (SAS / PART + 2) * COST_US * 150ULL);
}

static void test_urgent(void **state)
{
	uint64_t begin;

	(void)state;
	run_until(is_half_read);
	assert_int_equal(begun, 1);
	agent.audit.events_lost = true;
	begin = now_us;
	while (audit_turn(&agent, now_us))
		;
	assert_int_equal(now_us, begin);
	assert_int_equal(begun, 2);
	assert_int_equal(agent.audit.phase, AUDIT_IDLE);
	assert_false(agent.audit.after_loss);
	assert_false(audit_turn(&agent, now_us)); /* and no other one */
	assert_int_equal(begun, 2);
}

static void test_gone_unseen(void **state)
{
	(void)state;
	run_until(is_half_read);
	kernel[SAS - 1].there = false;
	run_until(is_judging);
	assert_true(is_installed(SAS - 1));
	run_to_end();
	assert_int_equal(missing(), 1);
	assert_false(is_installed(SAS - 1));
	assert_true(is_installed(SAS - 2));
}

/* Deleted after it was read and before that is told. */
static void test_deleted_meanwhile(void **state)
{
	const uint32_t sa = SAS / 2, forgotten = sa + 1;

	(void)state;
	run_until(is_half_read);
	while (part_first < sa)
		turn();
	assert_true(part[0].there);
	happens(sa, (struct sa){0});
	happens(forgotten, (struct sa){0});
	events_kernel(&agent);
	table_drop(
		&agent.member->table, (struct record *)table_at(&agent.member->table, forgotten));
	run_to_end();
	assert_false(is_installed(sa));
	assert_null(find(forgotten));
	assert_int_equal(missing(), 0);
}

static void test_changed_meanwhile(void **state)
{
	const uint32_t sa = SAS / 2, unheard = sa + 1;
	uint64_t version;

	(void)state;
	run_until(is_half_read);
	while (part_first < sa)
		turn();
	happens(sa, (struct sa){true, 2});
	events_kernel(&agent);
	version = find(sa)->version;
	kernel[unheard].form = part[1].form = 3;
	run_to_end();
	assert_int_equal(find(sa)->form_done, 2);
	assert_true(find(sa)->version > 0 && find(sa)->version <= version + 1);
	assert_int_equal(find(unheard)->form_done, 3);
	assert_int_equal(missing(), 0);
}

/* Behind the place of the dump, which does not tell them. */
static void test_made_meanwhile(void **state)
{
	uint64_t begin, cpu;

	(void)state;
	run_until(is_half_read);
	for (uint32_t sa = SAS; sa < SAS + ROOM; sa++)
		happens(sa, (struct sa){true, 1});
	events_kernel(&agent);
	run_until(is_judging);
	begin = now_us;
	cpu = cpu_us;
	run_to_end();
	assert_int_equal(looked, ROOM);
	assert_int_equal(missing(), 0);
	assert_true(is_installed(SAS + ROOM - 1));
	assert_true((cpu_us - cpu) * 100 <= now_us - begin + 100000);
}

static void wait_s(unsigned int seconds)
{
	for (uint64_t until = now_us + seconds * 1000000ULL; now_us < until;)
		turn();
}

static void delete_one(void)
{
	static uint32_t next;

	happens(next++, (struct sa){0});
}

static void make_one(void)
{
	static uint32_t next = SAS;

	happens(next++, (struct sa){true, 1});
}

/* SAs come and go at each moment. */
static void test_count_in_churn(void **state)
{
	(void)state;
	agent.audit.due_us = UINT64_MAX;
	before_count = delete_one;
	wait_s(20);
	before_count = NULL;
	after_count = make_one;
	for (unsigned int i = 0; i < 20; i++) {
		delete_one();
		wait_s(1);
	}
	assert_int_equal(begun, 0);
}

static void test_count(void **state)
{
	(void)state;
	agent.audit.due_us = UINT64_MAX;
	wait_s(5);
	assert_int_equal(begun, 0);

	/* In order, though it is told late. */
	happens(1, (struct sa){0});
	wait_s(5);
	assert_int_equal(begun, 0);

	kernel[2].there = false;
	wait_s(3);
	assert_int_equal(begun, 1);
	assert_int_equal(missing(), 1);
	assert_false(is_installed(2));
	wait_s(5);
	assert_int_equal(begun, 1);
}

/* What the core has no room for is local, and is not handed to the core any more: if it was made
 * just now, so that nobody else can have sent of it. */
static void test_no_room(void **state)
{
	const uint32_t more = SAS + ROOM;
	const struct sa sa = {true, 1};

	(void)state;
	for (uint32_t i = SAS; i < more; i++)
		tell_as(i, &sa);
	assert_true(is_installed(more - 1));
	agent.local.started = true;
	agent.local.started_s = made_s;
	tell_as(more, &sa);
	assert_int_equal(locals, 0);
	made_s++;
	tell_as(more, &sa);
	assert_int_equal(locals, 1);
	life_end(agent.member, table_at(&agent.member->table, 0));
	tell_as(more, &sa);
	assert_int_equal(locals, 2);
	assert_null(find(more));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_share, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_slow_loop, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_urgent, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_gone_unseen, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_deleted_meanwhile, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_changed_meanwhile, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_made_meanwhile, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_count, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_count_in_churn, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_no_room, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
