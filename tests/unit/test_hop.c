/* SPDX-License-Identifier: BSD-2-Clause */
/* test_hop.c - how packets get to another member: what follows from what is known. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <string.h>

#include "io/hop.h"

#define OURS 7 /* our interface */

static const uint8_t told[6] = {2, 1}, found[6] = {2, 2};

/* Another link's member, by a router, as it should be. */
static struct hop_facts by_router(void)
{
	struct hop_facts f = {
		.next_hop = true,
		.from = {AF_INET, {192, 0, 2, 11}},
		.to = {AF_INET, {198, 51, 100, 12}},
		.ifindex = OURS,
		.mtu = 1500,
		.route = {.ifindex = OURS, .gateway = {AF_INET, {192, 0, 2, 254}}},
	};

	memcpy(f.told, told, sizeof(told));
	memcpy(f.neighbour, found, sizeof(found));
	return f;
}

static struct espalier_hop compose(const struct hop_facts *f, enum hop_lack lack)
{
	struct espalier_hop hop;

	memset(&hop, 0x5a, sizeof(hop));
	assert_int_equal(hop_compose(f, &hop), lack);
	assert_int_equal(hop.reserved, 0);
	assert_memory_equal(hop.from, f->from.bytes, sizeof(hop.from));
	assert_memory_equal(hop.to, f->to.bytes, sizeof(hop.to));
	if (lack)
		assert_int_equal(hop.kind, ESPALIER_HOP_NONE);
	return hop;
}

static void assert_link(const struct hop_facts *f, const uint8_t mac[6])
{
	struct espalier_hop hop = compose(f, HOP_LACKS_NOTHING);

	assert_int_equal(hop.kind, ESPALIER_HOP_LINK);
	assert_memory_equal(hop.mac, mac, sizeof(hop.mac));
	assert_int_equal(hop.mtu, 0);
}

static void test_no_address(void **state)
{
	struct hop_facts f = {.next_hop = true, .ifindex = OURS, .mtu = 1500};

	(void)state;
	compose(&f, HOP_LACKS_WORD); /* it has no interface on this side */
	memcpy(f.told, told, sizeof(told));
	assert_link(&f, told);
	f.next_hop = false;
	compose(&f, HOP_LACKS_WORD);
}

static void test_same_link(void **state)
{
	struct hop_facts f = by_router();

	(void)state;
	f.route.gateway = (struct address){0};
	assert_link(&f, found);
	memset(f.neighbour, 0, sizeof(f.neighbour));
	assert_link(&f, told);
	memset(f.told, 0, sizeof(f.told));
	compose(&f, HOP_LACKS_WORD);
}

static void test_lacks(void **state)
{
	struct hop_facts f = by_router();

	(void)state;
	memset(f.neighbour, 0, sizeof(f.neighbour));
	compose(&f, HOP_LACKS_GATEWAY); /* what it has told is of no use there */
	f.route.ifindex = OURS + 1;
	compose(&f, HOP_LACKS_INTERFACE);
	f.route.ifindex = 0;
	compose(&f, HOP_LACKS_ROUTE);
	f.next_hop = false;
	compose(&f, HOP_LACKS_WORD);
}

/* The checksum of a whole header, as the programs make it. */
static void test_ipv4(void **state)
{
	/* 45 00 04 d2 00 00 40 00 40 29 xx xx c0 00 02 0b c6 33 64 0c: 1234 bytes, IPv6 inside */
	static const uint8_t header[20] = {
		0x45, 0, 0x04, 0xd2, 0, 0, 0x40, 0, 64, 41, 0, 0, 192, 0, 2, 11, 198, 51, 100, 12};
	struct hop_facts f = by_router();
	struct espalier_hop hop = compose(&f, HOP_LACKS_NOTHING);
	uint32_t whole = 0, sum = hop.check;

	(void)state;
	assert_int_equal(hop.kind, ESPALIER_HOP_IPV4);
	assert_memory_equal(hop.mac, found, sizeof(found));
	assert_int_equal(hop.mtu, 1480);
	for (unsigned int i = 0; i < sizeof(header); i += 2)
		whole += (uint32_t)(header[i] << 8 | header[i + 1]);
	while (whole >> 16)
		whole = (whole & 0xffff) + (whole >> 16);
	sum += htons(1234) + htons(41);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	assert_int_equal(ntohs((uint16_t)sum), whole);
}

static void test_ipv6(void **state)
{
	struct hop_facts f = by_router();
	struct espalier_hop hop;

	(void)state;
	f.from = (struct address){AF_INET6, {0x20, 1, 0xd, 0xb8, [15] = 11}};
	f.to = (struct address){AF_INET6, {0x20, 1, 0xd, 0xb8, 0, 9, [15] = 12}};
	f.route.gateway = (struct address){AF_INET6, {0xfe, 0x80, [15] = 1}};
	hop = compose(&f, HOP_LACKS_NOTHING);
	assert_int_equal(hop.kind, ESPALIER_HOP_IPV6);
	assert_int_equal(hop.mtu, 1460);
	assert_int_equal(hop.check, 0);
}

static void test_mtu(void **state)
{
	static const struct {
		uint32_t link, route;
		uint16_t inside;
	} cases[] = {{1500, 1400, 1380}, {1500, 9000, 1480}, {9000, 0, 8980}, {0, 0, 0}, {19, 0, 0},
		{65536, 0, 65516}, {70000, 0, 65535}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct hop_facts f = by_router();

		f.mtu = cases[i].link;
		f.route.mtu = cases[i].route;
		assert_int_equal(compose(&f, HOP_LACKS_NOTHING).mtu, cases[i].inside);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_address),
		cmocka_unit_test(test_same_link),
		cmocka_unit_test(test_lacks),
		cmocka_unit_test(test_ipv4),
		cmocka_unit_test(test_ipv6),
		cmocka_unit_test(test_mtu),
	};

	return cmocka_run_group_tests_name("hop", tests, NULL, NULL);
}
