/* SPDX-License-Identifier: BSD-2-Clause */
/* test_ops.c - what the guard and the steering are told of SAs: of those of ESP, and of no others,
 * since their maps do not tell protocols apart. The datapath is played: the linker puts what is
 * here in its place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "agent.h"

#define SLOT 3U

int __wrap_datapath_sa_set(
	struct datapath *d, const struct espalier_sa_key *key, const struct espalier_sa *sa);
int __wrap_datapath_sa_get(
	struct datapath *d, const struct espalier_sa_key *key, struct espalier_sa *ret);
int __wrap_datapath_sa_delete(struct datapath *d, const struct espalier_sa_key *key);
int __wrap_datapath_pin_set(
	struct datapath *d, const struct espalier_sa_key *key, const struct espalier_flow *flow);
int __wrap_datapath_pin_delete(struct datapath *d, const struct espalier_sa_key *key);
struct espalier_counter *__wrap_datapath_counters(const struct datapath *d);
const struct espalier_view_half *__wrap_datapath_view(const struct datapath *d);
void __wrap_datapath_publish(struct datapath *d, const struct espalier_view_half *half);

static struct agent agent;
static struct espalier_counter counters[SLOT + 1];
static uint64_t positions[SLOT + 1];
static struct espalier_sa guarded; /* the only one */
static bool is_guarded, is_pinned;

int __wrap_datapath_sa_set(
	struct datapath *d, const struct espalier_sa_key *key, const struct espalier_sa *sa)
{
	(void)d;
	(void)key;
	guarded = *sa;
	is_guarded = true;
	return 0;
}

int __wrap_datapath_sa_get(
	struct datapath *d, const struct espalier_sa_key *key, struct espalier_sa *ret)
{
	(void)d;
	(void)key;
	*ret = guarded;
	return is_guarded ? 0 : -ENOENT;
}

int __wrap_datapath_sa_delete(struct datapath *d, const struct espalier_sa_key *key)
{
	(void)d;
	(void)key;
	is_guarded = false;
	return 0;
}

int __wrap_datapath_pin_set(
	struct datapath *d, const struct espalier_sa_key *key, const struct espalier_flow *flow)
{
	(void)d;
	(void)key;
	(void)flow;
	is_pinned = true;
	return 0;
}

int __wrap_datapath_pin_delete(struct datapath *d, const struct espalier_sa_key *key)
{
	(void)d;
	(void)key;
	is_pinned = false;
	return 0;
}

struct espalier_counter *__wrap_datapath_counters(const struct datapath *d)
{
	(void)d;
	return counters;
}

static struct espalier_view_half published;

const struct espalier_view_half *__wrap_datapath_view(const struct datapath *d)
{
	(void)d;
	return &published;
}

void __wrap_datapath_publish(struct datapath *d, const struct espalier_view_half *half)
{
	(void)d;
	published = *half;
}

/* What is not asked for here. */

void hops_told(struct agent *a, uint8_t member, const struct wire_macs *macs, bool next_hop)
{
	(void)a;
	(void)member;
	(void)macs;
	(void)next_hop;
}

void notice(void *ctx, enum member_notice what, const struct record_key *key, uint8_t who)
{
	(void)ctx;
	(void)what;
	(void)key;
	(void)who;
}

bool notice_journal_old(void *ctx, const struct record_key *key, uint8_t who)
{
	(void)ctx;
	(void)key;
	(void)who;
	return false;
}

void notice_doubled(void *ctx, uint8_t who, bool over)
{
	(void)ctx;
	(void)who;
	(void)over;
}

static int set_up(void **state)
{
	(void)state;
	agent.positions = positions;
	counters[SLOT] = (struct espalier_counter){.birth = 11, .seq = 77, .packets = 7};
	positions[SLOT] = 77;
	is_guarded = is_pinned = false;
	return 0;
}

static struct record_key key_of(uint8_t proto)
{
	return (struct record_key){
		.kind = RECORD_SA, .proto = proto, .family = AF_INET, .spi = htonl(0x1234)};
}

static void test_a_cpi_like_an_spi(void **state)
{
	const struct espalier_sa esp = {.slot = 1, .birth = 11, .open[0] = {0, 255}},
				 comp = {.slot = SLOT, .birth = 12};
	const struct espalier_flow flow = {.pinned = 1};
	struct record_key esp_key = key_of(IPPROTO_ESP), comp_key = key_of(IPPROTO_COMP);

	(void)state;
	agent_ops.guard(&agent, &comp_key, &comp);
	assert_false(is_guarded);
	agent_ops.guard(&agent, &esp_key, &esp);
	agent_ops.pin(&agent, &esp_key, &flow);
	agent_ops.guard(&agent, &comp_key, &comp);
	agent_ops.pin(&agent, &comp_key, NULL);
	assert_memory_equal(&guarded, &esp, sizeof(esp));
	agent_ops.guard(&agent, &comp_key, NULL);
	assert_true(is_guarded);
	assert_true(is_pinned);
	agent_ops.guard(&agent, &esp_key, NULL);
	agent_ops.pin(&agent, &esp_key, NULL);
	assert_false(is_guarded);
	assert_false(is_pinned);
	agent_ops.pin(&agent, &comp_key, &flow);
	assert_false(is_pinned);
}

/* What an SA before it in its slot has counted is not its own. What it has counted itself, before
 * the agent began anew, is. */
static void test_slots_are_used_again(void **state)
{
	static const uint8_t protocols[] = {IPPROTO_ESP, IPPROTO_COMP};
	struct espalier_sa sa = {.slot = SLOT, .birth = 12};

	for (unsigned int i = 0; i < 2; i++) {
		struct record_key key = key_of(protocols[i]);

		set_up(state);
		sa.birth = 11;
		agent_ops.guard(&agent, &key, &sa);
		assert_int_equal(counters[SLOT].seq, 77);
		assert_int_equal(positions[SLOT], 77);
		sa.birth = 12;
		agent_ops.guard(&agent, &key, &sa);
		assert_int_equal(counters[SLOT].birth, 12);
		assert_int_equal(counters[SLOT].seq, 0);
		assert_int_equal(counters[SLOT].packets, 0);
		assert_int_equal(positions[SLOT], 0);
	}
}

/* Buckets 0 to n - 1 are ours, the rest is another member's. */
static void publish(uint16_t live, unsigned int n)
{
	static uint8_t owner[ESPALIER_BUCKETS];
	const struct view view = {.live = live};

	for (unsigned int i = 0; i < ESPALIER_BUCKETS; i++)
		owner[i] = i < n ? 1 : 0;
	agent_ops.publish(&agent, &view, 0, owner);
}

static void marked(unsigned int from, unsigned int n, uint16_t turned)
{
	uint8_t owner[ESPALIER_BUCKETS] = {0};

	memset(owner, 1, n);
	memset(owner + from, 1 | ESPALIER_RAISING, n - from);
	assert_memory_equal(published.owner, owner, sizeof(owner));
	assert_int_equal(published.turned, turned);
}

/* What is taken over is marked until the kernel's windows have been raised. */
static void test_what_is_taken_over_is_marked(void **state)
{
	(void)state;
	agent.config.id = 1;
	agent.viewed = false;
	memset(published.owner, 1, sizeof(published.owner)); /* by an earlier life */
	publish(7, 1000);
	marked(0, 1000, UINT16_MAX);
	agent_ops.raised(&agent);
	marked(1000, 1000, 0);
	publish(3, 1500);
	marked(1000, 1500, 4);
	publish(2, 4096); /* before the first ones have been raised */
	marked(1000, 4096, 5);
	agent_ops.raised(&agent);
	marked(4096, 4096, 0);
	publish(3, 2000);
	marked(2000, 2000, 1);
}

/* All that is ours, when a window of it is behind; what is taken over then is no exception. */
static void test_all_of_ours_is_marked(void **state)
{
	(void)state;
	agent.config.id = 1;
	agent.viewed = true;
	publish(7, 1000);
	agent_ops.raised(&agent);
	agent_ops.raising(&agent);
	marked(0, 1000, UINT16_MAX);
	publish(3, 1500);
	marked(0, 1500, UINT16_MAX);
	agent_ops.raised(&agent);
	marked(1500, 1500, 0);
}

static void test_floors(void **state)
{
	(void)state;
	agent_ops.floor(&agent, SLOT, 4711);
	assert_int_equal(counters[SLOT].floor, 4711);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_a_cpi_like_an_spi, set_up),
		cmocka_unit_test_setup(test_slots_are_used_again, set_up),
		cmocka_unit_test_setup(test_what_is_taken_over_is_marked, set_up),
		cmocka_unit_test_setup(test_all_of_ours_is_marked, set_up),
		cmocka_unit_test_setup(test_floors, set_up),
	};

	return cmocka_run_group_tests_name("ops", tests, NULL, NULL);
}
