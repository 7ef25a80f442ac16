/* SPDX-License-Identifier: BSD-2-Clause */
/* test_xfrm_facts.c - what SAs and policies are called by, which belong together, and how they are
 * found again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <linux/udp.h>

#include "xfrm_payload.h"
#include "io/xfrm_index.h"

static const uint8_t local6[16] = LOCAL6,
		     remote6[16] = {0x20, 0x01, 0x0d, 0xb8, [7] = 0x32, [15] = 1};

/* The same SA between the IPv6 addresses; what goes through it stays IPv4. */
static void make_outer6(struct payload *p, bool outbound)
{
	struct xfrm_usersa_info *sa = content(p);

	sa->family = AF_INET6;
	memcpy(&sa->id.daddr, outbound ? remote6 : local6, 16);
	memcpy(&sa->saddr, outbound ? local6 : remote6, 16);
}

static struct record_facts sa_facts(struct payload *p, struct record_key *key)
{
	struct record_facts f;
	struct xfrm_body b;

	assert_int_equal(parse(RECORD_SA, p, XFRM_BODY_KERNEL, &b), 0);
	assert_int_equal(facts(&b, key, &f), 0);
	return f;
}

static struct record_facts policy_facts(struct payload *p, struct record_key *key)
{
	struct record_facts f;
	struct xfrm_body b;

	assert_int_equal(parse(RECORD_POLICY, p, XFRM_BODY_KERNEL, &b), 0);
	assert_int_equal(facts(&b, key, &f), 0);
	return f;
}

static void test_child_sa_is_a_pair(void **state)
{
	const struct xfrm_mark mark = {9, 0xff};
	struct record_facts in, out, f;
	struct record_key key;
	struct payload p;

	(void)state;
	make_sa(&p, false);
	in = sa_facts(&p, &key);
	assert_int_equal(in.direction, ESPALIER_IN);
	assert_int_equal(key.kind, RECORD_SA);
	assert_int_equal(key.spi, htonl(SPI));
	assert_memory_equal(key.addr, &local, 4);
	assert_false(in.esn);

	/* Daemons put a mark on one direction only, and keep reqids apart. */
	make_esn_sa(&p, true);
	put(&p, XFRMA_MARK, &mark, sizeof(mark));
	out = sa_facts(&p, &key);
	assert_int_equal(out.direction, ESPALIER_OUT);
	assert_memory_equal(key.addr, &remote, 4);
	assert_true(out.esn);
	assert_int_equal(in.pair, out.pair);
	assert_int_not_equal(in.birth, out.birth);

	for (uint8_t dir = XFRM_POLICY_IN; dir <= (uint8_t)XFRM_POLICY_FWD; dir++) {
		make_policy(&p, dir);
		f = policy_facts(&p, &key);
		assert_int_equal(f.pair, in.pair);
		assert_int_equal(f.direction, dir == XFRM_POLICY_OUT ? ESPALIER_OUT : ESPALIER_IN);
		assert_int_equal(f.remote.prefixlen,
			dir == XFRM_POLICY_OUT ? ESPALIER_SELECTOR_BITS + 16 : 0);
		assert_int_equal(key.proto, dir);
	}
	make_policy(&p, XFRM_POLICY_OUT);
	f = policy_facts(&p, &key);
	assert_int_equal(f.remote.family, AF_INET);
	assert_int_equal(f.remote.if_id, 0);
	assert_memory_equal(f.remote.addr, ((uint8_t[16]){10, 1}), 16);

	assert_int_equal(f.spi, 0);

	put_u32(&p, XFRMA_IF_ID, 7);
	f = policy_facts(&p, &key);
	assert_int_equal(f.remote.if_id, 7);
	template(&p)->id.spi = htonl(SPI);
	f = policy_facts(&p, &key);
	assert_int_equal(f.spi, htonl(SPI));
	assert_int_equal(f.pair, in.pair);
	make_policy(&p, XFRM_POLICY_IN);
	template(&p)->id.spi = htonl(SPI);
	f = policy_facts(&p, &key);
	assert_int_equal(f.spi, 0);
}

static uint64_t pair_of(uint32_t reqid, uint32_t if_id, uint32_t mark)
{
	const struct xfrm_mark m = {mark, 0xff};
	struct record_key key;
	struct payload p;

	make_sa(&p, false);
	((struct xfrm_usersa_info *)content(&p))->reqid = reqid;
	put_u32(&p, XFRMA_IF_ID, if_id);
	put(&p, XFRMA_MARK, &m, sizeof(m));
	return sa_facts(&p, &key).pair;
}

static void test_pairs_are_told_apart(void **state)
{
	(void)state;
	assert_int_not_equal(pair_of(1, 0, 0), pair_of(2, 0, 0));
	assert_int_equal(pair_of(1, 1, 0), pair_of(1, 2, 0));
	assert_int_not_equal(pair_of(0, 1, 0), pair_of(0, 2, 0));
	assert_int_not_equal(pair_of(0, 0, 1), pair_of(0, 0, 2));
}

/* Between IPv6 addresses, what goes through it being IPv4. */
static void test_ipv6_outside(void **state)
{
	struct xfrm_userpolicy_info *policy;
	struct record_facts in, out, f;
	struct xfrm_user_tmpl *t;
	struct record_key key;
	struct payload p;

	(void)state;
	make_sa(&p, false);
	make_outer6(&p, false);
	in = sa_facts(&p, &key);
	assert_int_equal(in.direction, ESPALIER_IN);
	assert_int_equal(key.family, AF_INET6);
	assert_memory_equal(key.addr, local6, 16);
	make_sa(&p, true);
	f = sa_facts(&p, &key);
	make_outer6(&p, true);
	out = sa_facts(&p, &key);
	assert_int_equal(out.direction, ESPALIER_OUT);
	assert_memory_equal(key.addr, remote6, 16);
	assert_int_equal(in.pair, out.pair);
	assert_int_not_equal(out.pair, f.pair);

	make_policy(&p, XFRM_POLICY_OUT);
	t = template(&p);
	t->family = AF_INET6;
	memcpy(&t->saddr, local6, 16);
	memcpy(&t->id.daddr, remote6, 16);
	f = policy_facts(&p, &key);
	assert_int_equal(f.pair, out.pair);
	assert_int_equal(key.family, AF_INET);
	assert_int_equal(f.remote.family, AF_INET);

	/* IPv6 in IPv6 */
	policy = content(&p);
	policy->sel.family = AF_INET6;
	policy->sel.prefixlen_d = 48;
	memcpy(&policy->sel.daddr, remote6, 16);
	f = policy_facts(&p, &key);
	assert_int_equal(f.pair, out.pair);
	assert_int_equal(f.remote.prefixlen, ESPALIER_SELECTOR_BITS + 48);
	assert_int_equal(f.remote.family, AF_INET6);
	/* Without its host bits. */
	assert_memory_equal(f.remote.addr, remote6, 6);
	assert_memory_equal(f.remote.addr + 6, (uint8_t[10]){0}, 10);
	policy->sel.prefixlen_d = 59;
	f = policy_facts(&p, &key);
	assert_memory_equal(f.remote.addr, remote6, 7);
	assert_int_equal(f.remote.addr[7], remote6[7] & 0xe0);
	policy->sel.prefixlen_d = 128;
	f = policy_facts(&p, &key);
	assert_memory_equal(f.remote.addr, remote6, 16);
}

static void test_only_the_clusters(void **state)
{
	struct xfrm_usersa_info *sa;
	struct record_facts f;
	struct record_key key;
	struct xfrm_body b;
	struct payload p;

	(void)state;
	make_sa(&p, false);
	sa = content(&p);
	sa->id.daddr.a4 = htonl(0x0a000001);
	assert_int_equal(parse(RECORD_SA, &p, XFRM_BODY_KERNEL, &b), 0);
	assert_int_equal(facts(&b, &key, &f), -EADDRNOTAVAIL);
	/* An IPv6 address that begins with the same bytes is another. */
	sa->id.daddr.a4 = local;
	sa->family = AF_INET6;
	assert_int_equal(parse(RECORD_SA, &p, XFRM_BODY_KERNEL, &b), 0);
	assert_int_equal(facts(&b, &key, &f), -EADDRNOTAVAIL);
}

/* What the guard would not see must not be copied. */
static void test_encap_port(void **state)
{
	struct xfrm_encap_tmpl encap = {
		.encap_type = UDP_ENCAP_ESPINUDP, .encap_sport = htons(4500)};
	struct record_facts f;
	struct record_key key;
	struct xfrm_body b;
	struct payload p;

	(void)state;
	for (unsigned int ours = 4499; ours <= 4501; ours++) {
		encap.encap_dport = htons((uint16_t)ours);
		make_sa(&p, false);
		put(&p, XFRMA_ENCAP, &encap, sizeof(encap));
		assert_int_equal(parse(RECORD_SA, &p, XFRM_BODY_KERNEL, &b), 0);
		assert_int_equal(b.sa.id.daddr.a4, local);
		assert_int_equal(facts(&b, &key, &f), ours == 4500 ? 0 : -EOPNOTSUPP);
	}
}

static void test_birth(void **state)
{
	struct record_facts one, f;
	struct record_key key;
	struct payload p;
	char *alg;

	(void)state;
	make_sa(&p, false);
	one = sa_facts(&p, &key);
	alg = (char *)content(&p) + sizeof(struct xfrm_usersa_info) + MNL_ATTR_HDRLEN;

	/* What was in memory behind the name, and behind an IPv4 address, and what changes during
	 * life, is no matter. */
	alg[63] ^= 1;
	((struct xfrm_usersa_info *)content(&p))->saddr.a6[3] = 0x5555;
	((struct xfrm_usersa_info *)content(&p))->curlft.bytes++;
	put_u32(&p, XFRMA_IF_ID, 1);
	f = sa_facts(&p, &key);
	assert_int_equal(f.birth, one.birth);

	alg[72] ^= 1; /* the key */
	f = sa_facts(&p, &key);
	assert_int_not_equal(f.birth, one.birth);
	alg[72] ^= 1;
	alg[68] ^= 32; /* the ICV's length */
	f = sa_facts(&p, &key);
	assert_int_not_equal(f.birth, one.birth);
	alg[68] ^= 32;
	((struct xfrm_usersa_info *)content(&p))->id.spi ^= 1;
	f = sa_facts(&p, &key);
	assert_int_not_equal(f.birth, one.birth);
	/* Used by a peer in the other direction. */
	make_sa(&p, true);
	f = sa_facts(&p, &key);
	assert_int_not_equal(f.birth, one.birth);
}

/* It has no numbers, so it counts as inbound; and no keys, so that its addresses tell it from
 * others with its CPI. */
static void test_ipcomp(void **state)
{
	struct record_facts esp, one, f;
	struct record_key key;
	struct payload p;

	(void)state;
	make_sa(&p, true);
	esp = sa_facts(&p, &key);
	make_ipcomp(&p, true);
	one = sa_facts(&p, &key);
	assert_int_equal(key.proto, IPPROTO_COMP);
	assert_int_equal(key.spi, htonl(0x1234));
	assert_int_equal(one.direction, ESPALIER_IN);
	assert_int_equal(one.pair, esp.pair);
	assert_false(one.limited);
	make_ipcomp(&p, true);
	f = sa_facts(&p, &key);
	assert_int_equal(f.birth, one.birth);
	assert_int_equal(f.form, one.form);
	((struct xfrm_usersa_info *)content(&p))->id.daddr.a4 ^= 1;
	f = sa_facts(&p, &key);
	assert_int_not_equal(f.birth, one.birth);
	make_ipcomp(&p, true);
	((struct xfrm_usersa_info *)content(&p))->id.spi ^= htonl(1);
	f = sa_facts(&p, &key);
	assert_int_not_equal(f.birth, one.birth);
	make_ipcomp(&p, false);
	f = sa_facts(&p, &key);
	assert_int_equal(f.direction, ESPALIER_IN);
	assert_int_equal(f.pair, esp.pair);
	assert_int_not_equal(f.birth, one.birth);
	/* From another address to ours. */
	one = f;
	((struct xfrm_usersa_info *)content(&p))->saddr.a4 ^= 1;
	f = sa_facts(&p, &key);
	assert_int_not_equal(f.birth, one.birth);
}

/* The peer goes elsewhere; the marks that select it are others. */
static void test_birth_moves(void **state)
{
	const struct xfrm_encap_tmpl encap = {.encap_type = UDP_ENCAP_ESPINUDP,
		.encap_sport = htons(4500),
		.encap_dport = htons(1024)};
	const struct xfrm_mark mark = {5, 0xff};
	struct record_key key, key_before;
	struct record_facts one, f;
	struct payload p;

	(void)state;
	make_sa(&p, true);
	one = sa_facts(&p, &key_before);
	((struct xfrm_usersa_info *)content(&p))->id.daddr.a4 ^= 1;
	f = sa_facts(&p, &key);
	assert_int_equal(f.birth, one.birth);
	assert_memory_not_equal(&key, &key_before, sizeof(key));
	assert_int_equal(f.form, one.form);
	((struct xfrm_usersa_info *)content(&p))->id.daddr.a4 ^= 1;
	put(&p, XFRMA_ENCAP, &encap, sizeof(encap));
	f = sa_facts(&p, &key);
	assert_int_equal(f.birth, one.birth);
	assert_memory_equal(&key, &key_before, sizeof(key));
	assert_int_not_equal(f.form, one.form);
	put(&p, XFRMA_MARK, &mark, sizeof(mark));
	f = sa_facts(&p, &key);
	assert_int_equal(f.birth, one.birth);
	assert_int_equal(key.mark, 5);
	assert_int_equal(key.mark_mask, 0xff);
}

/* What may change of an SA. */
static void test_form(void **state)
{
	struct xfrm_usersa_info *sa;
	struct record_facts one, f;
	struct record_key key;
	struct payload p;

	(void)state;
	make_sa(&p, false);
	sa = content(&p);
	one = sa_facts(&p, &key);
	assert_int_not_equal(one.form, 0);
	sa->curlft.packets++;
	sa->curlft.add_time++;
	sa->stats.replay++;
	sa->saddr.a6[3] = 0x5555; /* behind an IPv4 address */
	f = sa_facts(&p, &key);
	assert_int_equal(f.form, one.form);
#define SEEN(field)                                                                                \
	do {                                                                                       \
		sa->field ^= 1;                                                                    \
		f = sa_facts(&p, &key);                                                            \
		assert_int_not_equal(f.form, one.form);                                            \
		assert_int_equal(f.birth, one.birth);                                              \
		sa->field ^= 1;                                                                    \
	} while (0)
	SEEN(saddr.a4);
	SEEN(reqid);
	SEEN(mode);
	SEEN(flags);
	SEEN(lft.soft_byte_limit);
	SEEN(lft.hard_use_expires_seconds);
	SEEN(sel.proto);
	SEEN(sel.prefixlen_s);
	put_u32(&p, XFRMA_SET_MARK, 3);
	f = sa_facts(&p, &key);
	assert_int_not_equal(f.form, one.form);
}

/* What is put again stays, what is not goes, however the index grows meanwhile. */
/* libreswan puts 2^63 where there is to be no limit. */
static void test_limits(void **state)
{
	static const struct {
		struct xfrm_lifetime_cfg limits;
		bool limited;
	} cases[] = {
#define NONE XFRM_INF, XFRM_INF, XFRM_INF, XFRM_INF
		{{NONE, 0, 0, 0, 0}, false},
		{{NONE, 3000, 3600, 0, 0}, false},
		{{1ULL << 63, 1ULL << 63, 1ULL << 63, 1ULL << 63, 0, 0, 0, 0}, false},
		{{5000, XFRM_INF, XFRM_INF, XFRM_INF, 0, 0, 0, 0}, true},
		{{XFRM_INF, 5000, XFRM_INF, XFRM_INF, 0, 0, 0, 0}, true},
		{{XFRM_INF, XFRM_INF, 5000, XFRM_INF, 0, 0, 0, 0}, true},
		{{XFRM_INF, XFRM_INF, XFRM_INF, 5000, 0, 0, 0, 0}, true},
#undef NONE
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct record_key key;
		struct record_facts f;
		struct xfrm_body b;
		struct payload p;

		make_sa(&p, true);
		((struct xfrm_usersa_info *)content(&p))->lft = cases[i].limits;
		assert_int_equal(parse(RECORD_SA, &p, XFRM_BODY_KERNEL, &b), 0);
		assert_int_equal(facts(&b, &key, &f), 0);
		assert_int_equal(f.limited, cases[i].limited);
	}
}

static void test_index_sweep(void **state)
{
	struct xfrm_index index = {0};
	struct xfrm_place place = {0};
	size_t at = 0;
	uint32_t more = 100000;

	(void)state;
	assert_false(xfrm_index_sweep(&index, &at, 1));
	place.key.kind = RECORD_POLICY;
	for (place.key.spi = 0; place.key.spi < 1000; place.key.spi++)
		assert_int_equal(xfrm_index_put(&index, &place), 0);
	index.generation++;
	for (place.key.spi = 0; place.key.spi < 1000; place.key.spi += 3)
		assert_int_equal(xfrm_index_put(&index, &place), 0);
	assert_int_equal(index.n, 1000);
	while (xfrm_index_sweep(&index, &at, 7)) {
		for (unsigned int i = 0; i < 20 && index.n_heads < 4096; i++) {
			place.key.spi = more++;
			assert_int_equal(xfrm_index_put(&index, &place), 0);
		}
	}
	assert_int_equal(index.n_heads, 4096);
	assert_int_equal(index.n, 334 + more - 100000);
	for (place.key.spi = 0; place.key.spi < 1000; place.key.spi++)
		assert_int_equal(
			xfrm_index_find(&index, &place.key) != NULL, place.key.spi % 3 == 0);
	xfrm_index_clear(&index);
}

static void test_index(void **state)
{
	struct xfrm_index index = {0};
	struct xfrm_place place = {0};

	(void)state;
	place.key.kind = RECORD_POLICY;
	assert_null(xfrm_index_find(&index, &place.key));
	assert_false(xfrm_index_drop(&index, &place.key));
	for (uint32_t round = 0; round < 2; round++) {
		for (uint32_t i = 0; i < 1000; i++) {
			place.key.spi = i;
			place.if_id = i + round;
			assert_int_equal(xfrm_index_put(&index, &place), 0);
		}
		assert_int_equal(index.n, 1000);
	}
	for (uint32_t i = 0; i < 1000; i += 3) {
		place.key.spi = i;
		assert_true(xfrm_index_drop(&index, &place.key));
	}
	for (uint32_t i = 0; i < 1000; i++) {
		const struct xfrm_place *found;

		place.key.spi = i;
		found = xfrm_index_find(&index, &place.key);
		assert_int_equal(found != NULL, i % 3 != 0);
		if (found)
			assert_int_equal(found->if_id, i + 1);
	}
	xfrm_index_clear(&index);
	assert_int_equal(index.n, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_child_sa_is_a_pair),
		cmocka_unit_test(test_pairs_are_told_apart),
		cmocka_unit_test(test_only_the_clusters),
		cmocka_unit_test(test_encap_port),
		cmocka_unit_test(test_birth),
		cmocka_unit_test(test_birth_moves),
		cmocka_unit_test(test_ipcomp),
		cmocka_unit_test(test_form),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_ipv6_outside),
		cmocka_unit_test(test_index),
		cmocka_unit_test(test_index_sweep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
