/* SPDX-License-Identifier: BSD-2-Clause */
/* test_forward.c - what keeps a member from forwarding, and what does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent.h"

#define AGAIN_US 1000000

static struct address off_lo; /* the only one */
static int forwards4[2], forwards6; /* outer, inner */
static unsigned int said;
static char last[512];

void agent_say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(last, sizeof(last), format, args);
	va_end(args);
	said++;
}

bool __wrap_link_has_on_lo(const struct link *l, const struct address *address);
int __wrap_link_forwards(const char *interface, uint16_t family);

bool __wrap_link_has_on_lo(const struct link *l, const struct address *address)
{
	(void)l;
	return memcmp(address, &off_lo, sizeof(off_lo)) != 0;
}

int __wrap_link_forwards(const char *interface, uint16_t family)
{
	return family == AF_INET ? forwards4[strcmp(interface, "inner") == 0] : forwards6;
}

static const struct address outer = {AF_INET, {192, 0, 2, 1}}, inner4 = {AF_INET, {10, 1, 0, 1}},
			    inner6 = {AF_INET6, {0x20, 1, 0xd, 0xb8, [15] = 1}};

static struct agent *member(const struct address *inner)
{
	static struct agent a;

	a = (struct agent){
		.config = {.outer = {.address = {outer}, .count = 1}, .inner_interface = "inner"},
		.links = {[DATAPATH_OUTER] = {.name = "outer"},
			[DATAPATH_INNER] = {.name = "inner"}}};
	if (inner)
		a.config.inner = (struct config_addresses){.address = {*inner}, .count = 1};
	off_lo = (struct address){0};
	forwards4[0] = forwards4[1] = forwards6 = 1;
	said = 0;
	return &a;
}

/* "" for good. */
static void assert_lack(struct agent *a, const char *lack)
{
	static uint64_t now_us;
	unsigned int before = said;
	bool other = strcmp(a->forward.lack, lack) != 0;

	now_us += AGAIN_US;
	assert_int_equal(forward_tick(a, now_us), other);
	assert_string_equal(a->forward.lack, lack);
	assert_int_equal(said, before + other);
	if (other && lack[0])
		assert_non_null(strstr(last, lack));
	assert_false(forward_tick(a, now_us + 1)); /* not yet */
}

#define OUTER_CLOSED "net.ipv4.conf.outer.forwarding is 0: sysctl net.ipv4.ip_forward=1"
#define INNER_CLOSED "net.ipv4.conf.inner.forwarding is 0: sysctl net.ipv4.ip_forward=1"
#define SIX_CLOSED "net.ipv6.conf.all.forwarding is 0: sysctl net.ipv6.conf.all.forwarding=1"

static void test_addresses(void **state)
{
	struct agent *a = member(&inner6);

	(void)state;
	assert_lack(a, "");
	off_lo = outer;
	assert_lack(a, "192.0.2.1 is not on lo: ip address add 192.0.2.1/32 dev lo");
	assert_lack(a, "192.0.2.1 is not on lo: ip address add 192.0.2.1/32 dev lo");
	off_lo = inner6;
	assert_lack(a, "2001:db8::1 is not on lo: ip address add 2001:db8::1/128 dev lo");
	off_lo = inner4;
	assert_lack(a, "");
	assert_string_equal(last, "this member can forward again");
}

static void test_settings(void **state)
{
	struct agent *a = member(&inner4);

	(void)state;
	forwards6 = 0; /* not needed */
	assert_lack(a, "");
	forwards4[0] = 0;
	assert_lack(a, OUTER_CLOSED);
	forwards4[0] = 1;
	forwards4[1] = 0;
	assert_lack(a, INNER_CLOSED);
	forwards4[1] = -ENOENT; /* not known */
	assert_lack(a, "");
	a = member(&inner6);
	forwards4[0] = forwards4[1] = 0; /* not needed */
	assert_lack(a, "");
	forwards6 = 0;
	assert_lack(a, SIX_CLOSED);
	a->config.member_inner[0] = inner4;
	assert_lack(a, OUTER_CLOSED);
}

/* No inner address says which family is needed. */
static void test_either_family(void **state)
{
	struct agent *a = member(NULL);

	(void)state;
	forwards6 = 0;
	assert_lack(a, "");
	forwards4[1] = 0;
	assert_lack(a, INNER_CLOSED);
	forwards6 = 1;
	assert_lack(a, "");
	forwards6 = 0;
	assert_lack(a, INNER_CLOSED);
	/* nobody to forward to */
	a->config.inner_interface[0] = a->links[DATAPATH_INNER].name[0] = '\0';
	assert_lack(a, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_settings),
		cmocka_unit_test(test_either_family),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
