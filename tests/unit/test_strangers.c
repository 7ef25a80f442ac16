/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_strangers.c - what is said of members that do not agree, and how often; what the core is
 * told. Beacons and the core are played: the linker puts what is here in their place.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "agent.h"
#include "core/wire.h"

#define SECOND 1000000ULL

static struct agent agent;
static struct beacon_config opened;
static struct beacon_heard waiting; /* the next beacon */
static bool is_waiting, alive[ESPALIER_MEMBERS];
static uint64_t now_us;
static unsigned int said, sent;
static char last[512];
static enum member_claim own, claimed[ESPALIER_MEMBERS];
static uint8_t holder;

void agent_say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(last, sizeof(last), format, args);
	va_end(args);
	said++;
}

uint64_t agent_now_us(void)
{
	return now_us;
}

int __wrap_beacon_open(const struct beacon_config *config, struct beacon **ret);
void __wrap_beacon_send(const struct beacon *b, uint8_t claim);
bool __wrap_beacon_hear(struct beacon *b, struct beacon_heard *ret);
void __wrap_member_other(const struct member *m, uint8_t id, struct member_other *ret);
enum member_claim __wrap_member_claim(const struct member *m);
void __wrap_member_claims(
	struct member *m, uint8_t id, enum member_claim claim, uint64_t claimed_us);
uint8_t __wrap_member_held_back(const struct member *m);

int __wrap_beacon_open(const struct beacon_config *config, struct beacon **ret)
{
	opened = *config;
	*ret = NULL;
	return 0;
}

void __wrap_beacon_send(const struct beacon *b, uint8_t claim)
{
	(void)b;
	assert_int_equal(claim, own);
	sent++;
}

bool __wrap_beacon_hear(struct beacon *b, struct beacon_heard *ret)
{
	bool is = is_waiting;

	(void)b;
	*ret = waiting;
	is_waiting = false;
	return is;
}

void __wrap_member_other(const struct member *m, uint8_t id, struct member_other *ret)
{
	(void)m;
	*ret = (struct member_other){.alive = alive[id]};
}

enum member_claim __wrap_member_claim(const struct member *m)
{
	(void)m;
	return own;
}

void __wrap_member_claims(
	struct member *m, uint8_t id, enum member_claim claim, uint64_t claimed_us)
{
	(void)m;
	assert_int_equal(claimed_us, now_us);
	claimed[id] = claim;
}

uint8_t __wrap_member_held_back(const struct member *m)
{
	(void)m;
	return holder;
}

static struct in_addr address_of(unsigned int id)
{
	return (struct in_addr){htonl(0x0aff000aU + id)};
}

/* We are member 0. */
static int setup(void **state)
{
	(void)state;
	agent = (struct agent){
		.config = {.name = "c",
			.outer = {.address = {{AF_INET, {192, 0, 2, 1}}}, .count = 1},
			.block_bits = 16,
			.sync_port = 6311,
			.members = 7,
			.psk_size = 32}};
	for (unsigned int id = 0; id < 3; id++)
		agent.config.member_sync[id] = address_of(id);
	memset(alive, 0, sizeof(alive));
	memset(claimed, 0, sizeof(claimed));
	is_waiting = false;
	now_us = 100 * SECOND;
	said = sent = 0;
	own = CLAIM_THERE;
	holder = ESPALIER_NOBODY;
	return strangers_open(&agent);
}

/* As ours would be, were we member 1. */
static struct beacon_heard agreeing(void)
{
	struct beacon_heard heard = {.id = 1, .claim = CLAIM_SERVES, .address = address_of(1)};

	memcpy(heard.settings, opened.settings, sizeof(heard.settings));
	return heard;
}

static void hear(const struct beacon_heard *heard)
{
	waiting = *heard;
	is_waiting = true;
	strangers_hear(&agent);
}

/* For so long it is heard once a second. */
static void go_on(const struct beacon_heard *heard, unsigned int seconds)
{
	while (seconds--) {
		if (heard)
			hear(heard);
		for (unsigned int i = 0; i < 10; i++, now_us += SECOND / 10)
			strangers_tick(&agent, now_us);
	}
}

static void assert_named(const struct beacon_heard *heard, const char *what)
{
	char sentence[512];

	setup(NULL);
	go_on(heard, 1);
	snprintf(sentence, sizeof(sentence),
		"member 1 at %s does not agree with us, nothing is copied between us; make the "
		"same on both: %s",
		inet_ntoa(heard->address), what);
	assert_int_equal(said, 1);
	assert_string_equal(last, sentence);
	assert_int_equal(claimed[1], CLAIM_SERVES);
	assert_true(agent.strangers.all[1].known);
}

static void test_what(void **state)
{
	struct beacon_heard heard = agreeing();

	(void)state;
	heard.other_key = true;
	assert_named(&heard, "PresharedKeyFile (or certificates)");
	heard.settings[CONFIG_SETTING_BLOCK_BITS]++;
	heard.settings[CONFIG_SETTING_NAME]++;
	assert_named(&heard, "PresharedKeyFile (or certificates), Name, BlockBits");
	heard = agreeing();
	heard.id = 2; /* in the place of 1 */
	assert_named(&heard, "Id");
	heard = agreeing();
	heard.address = address_of(99); /* it has our cluster addresses */
	assert_named(&heard, "Sync in [Member]");
	heard = agreeing();
	heard.settings[CONFIG_SETTINGS] = WIRE_VERSION + 1;
	assert_named(&heard, "version of espalierd");
}

static void test_how_often(void **state)
{
	struct beacon_heard heard = agreeing();

	(void)state;
	heard.settings[CONFIG_SETTING_SYNC_PORT]++;
	go_on(&heard, 59);
	assert_int_equal(said, 1);
	go_on(&heard, 60);
	assert_int_equal(said, 2);
	holder = 1;
	go_on(&heard, 30);
	assert_int_equal(said, 3);
	assert_non_null(strstr(last, "; this member owns nothing as long as that one does"));
	go_on(NULL, 120); /* it has gone */
	assert_int_equal(said, 3);
	assert_false(agent.strangers.all[1].known);
	assert_in_range(sent, 265, 272);
}

/* It agrees: it is given the time for a session. */
static void test_no_session(void **state)
{
	struct beacon_heard heard = agreeing();

	(void)state;
	go_on(&heard, 4);
	alive[1] = true;
	go_on(&heard, 100);
	assert_int_equal(said, 0);
	alive[1] = false;
	go_on(&heard, 4);
	assert_int_equal(said, 0);
	assert_false(agent.strangers.all[1].known);
	go_on(&heard, 2);
	assert_int_equal(said, 1);
	assert_string_equal(last, "member 1 at 10.255.0.11 is there, but no session with it comes "
				  "about: is UDP port 6311 let through?");
	agent.config.psk_size = 0;
	go_on(&heard, 60);
	assert_int_equal(said, 2);
	assert_non_null(strstr(last, "certificate, for server and client"));
}

static void test_none_of_ours(void **state)
{
	struct beacon_heard heard = agreeing();

	(void)state;
	heard.other_key = true;
	heard.address = address_of(99);
	heard.settings[CONFIG_SETTING_ADDRESS]++;
	go_on(&heard, 10); /* another cluster's */
	heard = agreeing();
	heard.address = address_of(99);
	heard.id = 200;
	go_on(&heard, 10); /* nobody's */
	heard = agreeing();
	heard.address = address_of(0);
	heard.id = 0;
	go_on(&heard, 10); /* a clone's */
	assert_int_equal(said, 0);
	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++)
		assert_int_equal(claimed[id], CLAIM_NONE);
	heard.other_key = true;
	go_on(&heard, 1); /* it has our place, and is not a clone */
	assert_int_equal(said, 1);
	assert_non_null(strstr(last, "member 0 at 10.255.0.10 does not agree"));
	assert_int_equal(claimed[0], CLAIM_SERVES);
	heard.claim = 200;
	hear(&heard);
	assert_int_equal(claimed[0], CLAIM_NONE);
}

/* At once when it is new, or our claim is another one. */
static void test_answer(void **state)
{
	struct beacon_heard heard = agreeing();

	(void)state;
	strangers_tick(&agent, now_us);
	strangers_tick(&agent, now_us);
	assert_int_equal(sent, 1);
	hear(&heard);
	strangers_tick(&agent, now_us);
	assert_int_equal(sent, 2);
	hear(&heard);
	strangers_tick(&agent, now_us);
	assert_int_equal(sent, 2);
	own = CLAIM_SERVES;
	strangers_tick(&agent, now_us);
	assert_int_equal(sent, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_what, setup),
		cmocka_unit_test_setup(test_how_often, setup),
		cmocka_unit_test_setup(test_no_session, setup),
		cmocka_unit_test_setup(test_none_of_ours, setup),
		cmocka_unit_test_setup(test_answer, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
