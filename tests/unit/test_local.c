/* SPDX-License-Identifier: BSD-2-Clause */
/* test_local.c - what the guard is told of SAs that cannot be copied, and when it is told no more;
 * policies that are not copied. The datapath and the core are played: the linker puts what is here
 * in their place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "agent.h"

#define ENTRIES (LOCAL_MAX + 2)

int __wrap_datapath_sa_set(
	struct datapath *d, const struct espalier_sa_key *key, const struct espalier_sa *sa);
int __wrap_datapath_sa_get(
	struct datapath *d, const struct espalier_sa_key *key, struct espalier_sa *ret);
int __wrap_datapath_sa_delete(struct datapath *d, const struct espalier_sa_key *key);
const struct table *__wrap_member_table(const struct member *m);
bool __wrap_member_remembers(const struct member *m, const struct record_key *key, uint64_t birth);

static struct agent agent;
static struct table table;
static struct {
	struct espalier_sa_key key;
	struct espalier_sa sa;
} entries[ENTRIES];
static unsigned int n_entries, said;
static char sentence[512];

static unsigned int entry_of(const struct espalier_sa_key *key)
{
	unsigned int i = 0;

	while (i < n_entries && memcmp(&entries[i].key, key, sizeof(*key)) != 0)
		i++;
	return i;
}

int __wrap_datapath_sa_set(
	struct datapath *d, const struct espalier_sa_key *key, const struct espalier_sa *sa)
{
	unsigned int i = entry_of(key);

	(void)d;
	assert_true(i < ENTRIES);
	entries[i].key = *key;
	entries[i].sa = *sa;
	n_entries += i == n_entries;
	return 0;
}

int __wrap_datapath_sa_get(
	struct datapath *d, const struct espalier_sa_key *key, struct espalier_sa *ret)
{
	unsigned int i = entry_of(key);

	(void)d;
	if (i == n_entries)
		return -ENOENT;
	*ret = entries[i].sa;
	return 0;
}

int __wrap_datapath_sa_delete(struct datapath *d, const struct espalier_sa_key *key)
{
	unsigned int i = entry_of(key);

	(void)d;
	if (i == n_entries)
		return -ENOENT;
	entries[i] = entries[--n_entries];
	return 0;
}

void agent_say(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(sentence, sizeof(sentence), format, ap);
	va_end(ap);
	said++;
}

struct espalier_sa_key ops_map_key(const struct record_key *key)
{
	return (struct espalier_sa_key){.spi = key->spi, .family = (uint8_t)key->family};
}

const struct table *__wrap_member_table(const struct member *m)
{
	(void)m;
	return &table;
}

bool __wrap_member_remembers(const struct member *m, const struct record_key *key, uint64_t birth)
{
	const struct record *r = table_find(&table, key);

	(void)m;
	return (r && r->life == RECORD_ALIVE) || table_find_birth(&table, key, birth);
}

static struct record_key key_of(uint32_t spi)
{
	return (struct record_key){
		.kind = RECORD_SA, .proto = IPPROTO_ESP, .family = AF_INET, .spi = htonl(spi)};
}

static void tell(uint32_t spi, enum espalier_direction direction, uint64_t birth)
{
	const struct record_facts facts = {.birth = birth, .direction = (uint8_t)direction};
	struct record_key key = key_of(spi);

	local_told(&agent, &key, &facts, "why");
}

static bool all_leave(uint32_t spi)
{
	struct record_key key = key_of(spi);
	struct espalier_sa_key k = ops_map_key(&key);
	struct espalier_sa sa;

	return __wrap_datapath_sa_get(NULL, &k, &sa) == 0 && sa.slot == ESPALIER_SLOT_LOCAL;
}

static void put_record(uint32_t spi, uint64_t birth, enum record_life life)
{
	struct record_key key = key_of(spi);

	table_add(&table, &key, birth)->life = life;
}

static int set_up(void **state)
{
	(void)state;
	memset(&agent, 0, sizeof(agent));
	n_entries = said = 0;
	return table_init(&table, 64);
}

static int tear_down(void **state)
{
	(void)state;
	table_free(&table);
	return 0;
}

static void test_comes_and_goes(void **state)
{
	struct record_key key = key_of(1);

	(void)state;
	tell(1, ESPALIER_OUT, 11);
	assert_true(all_leave(1));
	assert_int_equal(said, 1);
	assert_non_null(strstr(sentence, "0x00000001"));
	assert_non_null(strstr(sentence, "why"));
	tell(1, ESPALIER_OUT, 11);
	assert_int_equal(said, 1);
	assert_int_equal(agent.local.count, 1);
	local_gone(&agent, &key);
	assert_int_equal(n_entries, 0);
	assert_int_equal(agent.local.count, 0);

	/* Nothing of an inbound one goes out. */
	tell(2, ESPALIER_IN, 12);
	assert_int_equal(said, 2);
	assert_int_equal(n_entries, 0);
	assert_int_equal(agent.local.count, 1);
}

static void test_not_told_is_gone(void **state)
{
	struct record_key old = key_of(1), kept = key_of(2);
	const struct espalier_sa sa = {.slot = ESPALIER_SLOT_LOCAL};
	struct espalier_sa_key k = ops_map_key(&old);

	/* An earlier life's: one is still there, one is not. */
	(void)state;
	__wrap_datapath_sa_set(NULL, &k, &sa);
	local_restore(&agent, &old);
	k = ops_map_key(&kept);
	__wrap_datapath_sa_set(NULL, &k, &sa);
	local_restore(&agent, &kept);
	tell(2, ESPALIER_OUT, 12);
	assert_int_equal(said, 1); /* in this life */
	local_end(&agent);
	assert_false(all_leave(1));
	assert_true(all_leave(2));

	local_begin(&agent);
	tell(3, ESPALIER_OUT, 13);
	local_end(&agent);
	assert_false(all_leave(2));
	assert_true(all_leave(3));
}

/* One that the core had no room for has sent more than a block holds: it stays local when there is
 * room, also for the next life of the agent. */
static void test_no_room(void **state)
{
	const struct record_facts facts = {.birth = 11, .direction = ESPALIER_OUT};
	struct record_key key = key_of(1), other = key_of(2);

	(void)state;
	assert_false(local_stays(&agent, &key));
	local_told(&agent, &key, &facts, local_no_room);
	assert_true(all_leave(1));
	assert_true(local_stays(&agent, &key));
	assert_non_null(strstr(sentence, "MaxSAs"));
	local_gone(&agent, &key);
	assert_false(local_stays(&agent, &key));
	local_restore(&agent, &key);
	assert_true(local_stays(&agent, &key));

	tell(2, ESPALIER_OUT, 12);
	assert_false(local_stays(&agent, &other));
}

/* What others may have sent must not come again. */
static void test_known_to_the_cluster(void **state)
{
	struct record_key key = key_of(4);
	const struct espalier_sa cores = {.slot = 4};
	struct espalier_sa_key k = ops_map_key(&key);

	(void)state;
	put_record(1, 11, RECORD_DEAD);
	tell(1, ESPALIER_OUT, 11); /* its keys */
	assert_false(all_leave(1));
	assert_int_equal(said, 1);
	table_drop(&table, table_find_birth(&table, &agent.local.sas[0].key, 11));
	tell(1, ESPALIER_OUT, 11); /* the core has forgotten it, it is the same SA still */
	assert_false(all_leave(1));
	assert_int_equal(said, 1);

	put_record(2, 11, RECORD_DEAD);
	tell(2, ESPALIER_OUT, 12); /* its SPI, with other keys */
	assert_true(all_leave(2));
	put_record(3, 11, RECORD_ALIVE);
	tell(3, ESPALIER_OUT, 12); /* in place of one that lives */
	assert_false(all_leave(3));

	/* It becomes known, and the core tells the guard of it: that stays. */
	tell(4, ESPALIER_OUT, 14);
	assert_true(all_leave(4));
	put_record(4, 14, RECORD_ALIVE);
	__wrap_datapath_sa_set(NULL, &k, &cores);
	tell(4, ESPALIER_OUT, 14);
	local_gone(&agent, &key);
	assert_int_equal(entries[entry_of(&k)].sa.slot, 4);
	assert_true(entry_of(&k) < n_entries);
}

static void hide(uint32_t spi)
{
	const struct record_facts facts = {.birth = 1, .direction = ESPALIER_OUT};
	struct record_key key = key_of(spi);

	local_told(&agent, &key, &facts, xfrm_keys_hidden);
}

/* What it is cannot be told: it works if it was made just now, where nothing was. */
static void test_hidden_keys(void **state)
{
	struct record_key key = key_of(1);

	(void)state;
	hide(1);
	assert_false(all_leave(1)); /* found at the start */
	local_gone(&agent, &key);
	agent.local.started = true;
	hide(1);
	assert_true(all_leave(1));
	agent.audit.reading = true;
	hide(1);
	assert_true(all_leave(1));
	hide(2);
	assert_false(all_leave(2));
	agent.audit.reading = false;
	put_record(3, 11, RECORD_HINTED);
	hide(3);
	assert_false(all_leave(3));

	/* An earlier life made sure. */
	agent.local.started = false;
	key = key_of(4);
	local_restore(&agent, &key);
	hide(4);
	assert_true(all_leave(4));
	agent.first = true;
	hide(5);
	assert_true(all_leave(5));
}

/* The guard knows ESP; one with this SPI may be there, too. */
static void test_ah(void **state)
{
	const struct record_facts facts = {.birth = 1, .direction = ESPALIER_OUT};
	struct record_key key = key_of(1);

	(void)state;
	tell(1, ESPALIER_OUT, 11);
	key.proto = IPPROTO_AH;
	local_told(&agent, &key, &facts, "why");
	assert_int_equal(agent.local.count, 2);
	assert_int_equal(entries[0].sa.birth, 11);
	local_gone(&agent, &key);
	assert_true(all_leave(1));
	key.spi = htonl(2);
	local_told(&agent, &key, &facts, "why");
	assert_false(all_leave(2));
}

static void test_too_many(void **state)
{
	struct record_key key = key_of(LOCAL_MAX + 1);

	(void)state;
	for (uint32_t spi = 1; spi <= LOCAL_MAX + 2; spi++)
		tell(spi, ESPALIER_OUT, spi);
	assert_int_equal(agent.local.count, LOCAL_MAX);
	assert_int_equal(n_entries, LOCAL_MAX);
	assert_int_equal(said, LOCAL_MAX + 1); /* once of all that are too many */
	__wrap_datapath_sa_set(NULL, &(struct espalier_sa_key){.spi = key.spi, .family = AF_INET},
		&(struct espalier_sa){.slot = ESPALIER_SLOT_LOCAL});
	local_restore(&agent, &key);
	assert_false(all_leave(LOCAL_MAX + 1));
}

/* Policies: the guard has nothing to do with them. */

static void tell_policy(uint8_t number, uint8_t direction)
{
	const struct record_key key = {.kind = RECORD_POLICY, .proto = direction, .addr = {number}};

	local_policy_told(&agent, &key, "out, say", "why");
}

static void test_policies_come_and_go(void **state)
{
	const struct record_key key = {.kind = RECORD_POLICY, .proto = 1, .addr = {1}};

	(void)state;
	tell_policy(1, 1);
	assert_int_equal(said, 1);
	assert_non_null(strstr(sentence, "out, say"));
	assert_non_null(strstr(sentence, "why"));
	tell_policy(1, 1);
	tell_policy(2, 4); /* a socket's */
	tell_policy(3, 1);
	assert_int_equal(said, 2);
	assert_int_equal(agent.local_policies.count, 3);
	local_policy_gone(&agent, &key);
	local_policy_gone(&agent, &key);
	assert_int_equal(agent.local_policies.count, 2);

	local_policy_begin(&agent);
	tell_policy(3, 1);
	tell_policy(4, 1);
	local_policy_end(&agent);
	assert_int_equal(agent.local_policies.count, 2);
	local_policy_begin(&agent);
	local_policy_end(&agent);
	assert_int_equal(agent.local_policies.count, 0);
	assert_int_equal(n_entries, 0);
}

static void test_too_many_policies(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < LOCAL_POLICIES_MAX; i++)
		tell_policy((uint8_t)i, 4);
	assert_int_equal(said, 0);
	tell_policy(0, 1);
	tell_policy(1, 1);
	assert_int_equal(agent.local_policies.count, LOCAL_POLICIES_MAX);
	assert_int_equal(said, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_comes_and_goes),
		TEST(test_not_told_is_gone),
		TEST(test_no_room),
		TEST(test_known_to_the_cluster),
		TEST(test_hidden_keys),
		TEST(test_ah),
		TEST(test_too_many),
		TEST(test_policies_come_and_go),
		TEST(test_too_many_policies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
