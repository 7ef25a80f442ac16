/* SPDX-License-Identifier: BSD-2-Clause */
/* test_xfrm.c - what of an SA or a policy travels, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "xfrm_payload.h"

/* From the kernel's payload to a body, and through it again: the second body is the same. */
static size_t to_body(enum record_kind kind, struct payload *p, uint8_t body[RECORD_BODY_MAX],
	struct xfrm_body *ret)
{
	_Alignas(8) uint8_t again[RECORD_BODY_MAX];
	struct xfrm_body b;
	int len;

	assert_int_equal(parse(kind, p, XFRM_BODY_KERNEL, &b), 0);
	len = xfrm_body_encode(&b, NOW, body, RECORD_BODY_MAX);
	assert_true(len > 0);
	assert_int_equal(xfrm_body_parse(kind, body, (size_t)len, XFRM_BODY_MEMBER, ret), 0);
	if (kind == RECORD_SA)
		ret->sa.curlft.add_time = NOW - ret->sa.curlft.add_time;
	assert_int_equal(xfrm_body_encode(ret, NOW, again, sizeof(again)), len);
	assert_memory_equal(body, again, (size_t)len);
	return (size_t)len;
}

static void test_local_things_stay(void **state)
{
	_Alignas(8) uint8_t body[RECORD_BODY_MAX];
	const struct xfrm_replay_state_esn *esn;
	const struct xfrm_user_offload crypto = {.ifindex = 7};
	struct xfrm_lifetime_cur ltime = {0};
	struct xfrm_body b;
	struct payload p;
	const char *name;
	size_t with, without;

	(void)state;
	make_esn_sa(&p, false);
	without = to_body(RECORD_SA, &p, body, &b);
	put(&p, XFRMA_LTIME_VAL, &ltime, sizeof(ltime));
	put(&p, XFRMA_ALG_AUTH, &ltime, sizeof(ltime));
	put(&p, XFRMA_LASTUSED, &ltime.bytes, 8);
	put_u32(&p, XFRMA_REPLAY_THRESH, 10);
	put(&p, XFRMA_OFFLOAD_DEV, &crypto, sizeof(crypto));
	put_u32(&p, 35, 1); /* XFRMA_SA_PCPU */
	put_u32(&p, 300, 1); /* of a kernel to come */
	with = to_body(RECORD_SA, &p, body, &b);
	assert_int_equal(with, without);

	assert_int_equal(b.sa.stats.replay, 0);
	assert_int_equal(b.sa.seq, 0);
	assert_int_equal(b.sa.curlft.bytes, 1000);
	assert_int_equal(b.sa.curlft.packets, 10);
	assert_int_equal(b.sa.curlft.use_time, 0);
	assert_int_equal(b.sa.lft.hard_add_expires_seconds, 3600);
	assert_int_equal(((struct xfrm_usersa_info *)body)->curlft.add_time, 60);
	assert_int_equal(mnl_attr_get_payload_len(b.attr[XFRMA_REPLAY_ESN_VAL]), sizeof(*esn));
	esn = mnl_attr_get_payload(b.attr[XFRMA_REPLAY_ESN_VAL]);
	assert_int_equal(esn->oseq | esn->oseq_hi | esn->seq | esn->seq_hi, 0);
	assert_int_equal(esn->replay_window, 128);
	name = mnl_attr_get_payload(b.attr[XFRMA_ALG_CRYPT]);
	for (size_t i = strlen("cbc(aes)"); i < 64; i++)
		assert_int_equal(name[i], 0);
}

static void test_everything_else_travels(void **state)
{
	const struct xfrm_encap_tmpl encap = {
		.encap_type = 2, .encap_sport = htons(4500), .encap_dport = htons(1024)};
	const xfrm_address_t coaddr = {.a6 = {1, 2, 3, 4}};
	const struct xfrm_mark mark = {5, 255};
	const uint8_t dir = 2;
	_Alignas(8) uint8_t body[RECORD_BODY_MAX];
	struct xfrm_body b;
	struct payload p;

	(void)state;
	make_sa(&p, true);
	put(&p, XFRMA_ENCAP, &encap, sizeof(encap));
	put(&p, XFRMA_MARK, &mark, sizeof(mark));
	put(&p, XFRMA_COADDR, &coaddr, sizeof(coaddr));
	put_u32(&p, XFRMA_TFCPAD, 1);
	put_u32(&p, XFRMA_SA_EXTRA_FLAGS, 2);
	put_u32(&p, XFRMA_SET_MARK, 3);
	put_u32(&p, XFRMA_SET_MARK_MASK, 4);
	put_u32(&p, XFRMA_IF_ID, 5);
	put_u32(&p, XFRMA_MTIMER_THRESH, 6);
	put_u32(&p, XFRM_BODY_NAT_KEEPALIVE, 7);
	put(&p, XFRM_BODY_SA_DIR, &dir, 1);
	to_body(RECORD_SA, &p, body, &b);
	assert_memory_equal(mnl_attr_get_payload(b.attr[XFRMA_ENCAP]), &encap, sizeof(encap));
	assert_memory_equal(mnl_attr_get_payload(b.attr[XFRMA_COADDR]), &coaddr, sizeof(coaddr));
	assert_int_equal(xfrm_body_mark(&b).v, 5);
	assert_int_equal(xfrm_body_mark(&b).m, 255);
	assert_int_equal(xfrm_body_u32(&b, XFRMA_TFCPAD), 1);
	assert_int_equal(xfrm_body_u32(&b, XFRMA_SA_EXTRA_FLAGS), 2);
	assert_int_equal(xfrm_body_u32(&b, XFRMA_SET_MARK), 3);
	assert_int_equal(xfrm_body_u32(&b, XFRMA_SET_MARK_MASK), 4);
	assert_int_equal(xfrm_body_u32(&b, XFRMA_IF_ID), 5);
	assert_int_equal(xfrm_body_u32(&b, XFRMA_MTIMER_THRESH), 6);
	assert_int_equal(xfrm_body_u32(&b, XFRM_BODY_NAT_KEEPALIVE), 7);
	assert_non_null(b.attr[XFRM_BODY_SA_DIR]);

	make_policy(&p, XFRM_POLICY_OUT);
	put(&p, XFRMA_MARK, &mark, sizeof(mark));
	put_u32(&p, XFRMA_IF_ID, 5);
	to_body(RECORD_POLICY, &p, body, &b);
	assert_int_equal(b.policy.priority, 100);
	assert_int_equal(b.policy.index, 0);
	assert_int_equal(b.policy.curlft.add_time, 0);
	assert_int_equal(xfrm_body_u32(&b, XFRMA_IF_ID), 5);
	assert_non_null(b.attr[XFRMA_TMPL]);
}

/* Its algorithm is part of the body. */
static void test_ipcomp(void **state)
{
	_Alignas(8) uint8_t body[RECORD_BODY_MAX];
	static const char name[64] = "deflate";
	struct xfrm_replay_state_esn esn = {.bmp_len = 1, .replay_window = 32};
	struct xfrm_body b;
	struct payload p;
	char *alg;
	int len;

	(void)state;
	make_ipcomp(&p, true);
	assert_int_equal(parse(RECORD_SA, &p, XFRM_BODY_KERNEL, &b), 0);
	len = xfrm_body_encode(&b, NOW, body, sizeof(body));
	assert_true(len > 0);
	assert_int_equal(xfrm_body_parse(RECORD_SA, body, (size_t)len, XFRM_BODY_MEMBER, &b), 0);
	assert_int_equal(b.sa.id.proto, IPPROTO_COMP);
	assert_non_null(b.attr[XFRMA_ALG_COMP]);
	assert_int_equal(mnl_attr_get_payload_len(b.attr[XFRMA_ALG_COMP]), 68);
	assert_memory_equal(mnl_attr_get_payload(b.attr[XFRMA_ALG_COMP]), name, sizeof(name));

	make_ipcomp(&p, true);
	alg = (char *)content(&p) + sizeof(struct xfrm_usersa_info) + MNL_ATTR_HDRLEN;
	alg[64] = 8; /* a key, which is not there */
	assert_int_equal(parse(RECORD_SA, &p, XFRM_BODY_MEMBER, &b), -EBADMSG);
	alg[64] = 0;
	alg[0] = 0; /* no name */
	assert_int_equal(parse(RECORD_SA, &p, XFRM_BODY_MEMBER, &b), -EBADMSG);
	make_ipcomp(&p, true);
	put(&p, XFRMA_REPLAY_ESN_VAL, &esn, sizeof(esn));
	assert_int_equal(parse(RECORD_SA, &p, XFRM_BODY_MEMBER, &b), -EBADMSG);
	/* A CPI that is reserved. */
	begin_sa(&p, true);
	((struct xfrm_usersa_info *)content(&p))->id.proto = IPPROTO_COMP;
	assert_int_equal(parse(RECORD_SA, &p, XFRM_BODY_KERNEL, &b), -EOPNOTSUPP);
}

static void test_counters(void **state)
{
	const struct xfrm_replay_state legacy = {.oseq = 5, .seq = 6};
	uint64_t oseq, seq;
	struct xfrm_body b;
	struct payload p;

	(void)state;
	make_esn_sa(&p, false);
	assert_int_equal(parse(RECORD_SA, &p, XFRM_BODY_KERNEL, &b), 0);
	xfrm_body_counters(&b, &oseq, &seq);
	assert_int_equal(oseq, 0x100000007);
	assert_int_equal(seq, 0x200000009);
	make_sa(&p, false);
	put(&p, XFRMA_REPLAY_VAL, &legacy, sizeof(legacy));
	assert_int_equal(parse(RECORD_SA, &p, XFRM_BODY_KERNEL, &b), 0);
	xfrm_body_counters(&b, &oseq, &seq);
	assert_int_equal(oseq, 5);
	assert_int_equal(seq, 6);
}

/* One field of an SA changed; what becomes of it. */
struct change {
	const char *what;
	size_t at;
	uint8_t value;
	int result;
};

static void test_structs_are_checked(void **state)
{
	static const struct change sa_changes[] = {
		{"AH", SA_FIELD(id.proto), IPPROTO_AH, -EOPNOTSUPP},
		{"IPComp with keys", SA_FIELD(id.proto), IPPROTO_COMP, -EBADMSG},
		{"of the kernel's own, for IPComp", SA_FIELD(id.proto), IPPROTO_IPIP, -EOPNOTSUPP},
		{"likewise, IPv6", SA_FIELD(id.proto), IPPROTO_IPV6, -EOPNOTSUPP},
		{"family", SA_FIELD(family), 99, -EBADMSG},
		{"route optimization", SA_FIELD(mode), XFRM_MODE_ROUTEOPTIMIZATION, -EOPNOTSUPP},
		{"a mode to come", SA_FIELD(mode), 77, -EOPNOTSUPP},
		{"BEET", SA_FIELD(mode), XFRM_MODE_BEET, 0},
		{"ESN without its state", SA_FIELD(flags), XFRM_STATE_ESN, -EBADMSG},
		{"prefix", SA_FIELD(sel.prefixlen_d), 33, -EBADMSG},
		{"prefix", SA_FIELD(sel.prefixlen_s), 255, -EBADMSG},
		{"selector's family", SA_FIELD(sel.family), 99, -EBADMSG},
		{"interface", SA_FIELD(sel.ifindex), 2, -EOPNOTSUPP},
	};
	static const struct change policy_changes[] = {
		{"a socket's", POLICY_FIELD(dir), 3, -EOPNOTSUPP},
		{"block", POLICY_FIELD(action), XFRM_POLICY_BLOCK, 0},
		{"an action to come", POLICY_FIELD(action), 2, -EBADMSG},
		{"share", POLICY_FIELD(share), 9, -EBADMSG},
		{"prefix", POLICY_FIELD(sel.prefixlen_d), 33, -EBADMSG},
		{"interface", POLICY_FIELD(sel.ifindex), 2, -EOPNOTSUPP},
	};
	struct xfrm_body b;
	struct payload p;

	(void)state;
	for (size_t i = 0; i < sizeof(sa_changes) / sizeof(*sa_changes); i++) {
		make_sa(&p, false);
		((uint8_t *)content(&p))[sa_changes[i].at] = sa_changes[i].value;
		if (parse(RECORD_SA, &p, XFRM_BODY_MEMBER, &b) != sa_changes[i].result)
			fail_msg("%s", sa_changes[i].what);
	}
	for (size_t i = 0; i < sizeof(policy_changes) / sizeof(*policy_changes); i++) {
		make_policy(&p, XFRM_POLICY_OUT);
		((uint8_t *)content(&p))[policy_changes[i].at] = policy_changes[i].value;
		if (parse(RECORD_POLICY, &p, XFRM_BODY_MEMBER, &b) != policy_changes[i].result)
			fail_msg("%s", policy_changes[i].what);
	}
	begin_sa(&p, false);
	assert_int_equal(parse(RECORD_SA, &p, XFRM_BODY_KERNEL, &b), -EOPNOTSUPP); /* larval */
	make_sa(&p, false);
	((struct xfrm_usersa_info *)content(&p))->id.spi = 0;
	assert_int_equal(parse(RECORD_SA, &p, XFRM_BODY_KERNEL, &b), -EOPNOTSUPP);
}

/* One attribute more, of this length and filled with this byte. */
struct more {
	const char *what;
	uint16_t type;
	uint8_t fill;
	uint16_t len;
	int kernel, member;
};

static void check_more(enum record_kind kind, const struct more *more, size_t n)
{
	char data[1024];
	struct xfrm_body b;
	struct payload p;

	for (size_t i = 0; i < n; i++) {
		for (int member = 0; member < 2; member++) {
			if (kind == RECORD_SA)
				make_sa(&p, false);
			else
				make_policy(&p, XFRM_POLICY_IN);
			memset(data, more[i].fill, sizeof(data));
			put(&p, more[i].type, data, more[i].len);
			if (parse(kind, &p, member ? XFRM_BODY_MEMBER : XFRM_BODY_KERNEL, &b) !=
				(member ? more[i].member : more[i].kernel))
				fail_msg("%s", more[i].what);
		}
	}
}

static void test_attributes_are_checked(void **state)
{
	static const struct more sa[] = {
		{"unknown", 200, 0, 4, 0, -EBADMSG},
		{"of policies", XFRMA_TMPL, 0, 64, 0, -EBADMSG},
		{"local", XFRMA_REPLAY_VAL, 0, 12, 0, -EBADMSG},
		{"crypto offload", XFRMA_OFFLOAD_DEV, 3, 8, 0, -EBADMSG},
		{"packet offload", XFRMA_OFFLOAD_DEV, 4, 8, -EOPNOTSUPP, -EBADMSG},
		{"short offload", XFRMA_OFFLOAD_DEV, 0, 4, -EBADMSG, -EBADMSG},
		{"label", XFRMA_SEC_CTX, 0, 8, -EOPNOTSUPP, -EBADMSG},
		{"short mark", XFRMA_MARK, 0, 7, -EBADMSG, -EBADMSG},
		{"long mark", XFRMA_MARK, 0, 9, -EBADMSG, -EBADMSG},
		{"short if_id", XFRMA_IF_ID, 0, 3, -EBADMSG, -EBADMSG},
		{"empty", XFRMA_TFCPAD, 0, 0, -EBADMSG, -EBADMSG},
		{"direction", XFRM_BODY_SA_DIR, 3, 1, -EBADMSG, -EBADMSG},
		{"direction", XFRM_BODY_SA_DIR, 1, 2, -EBADMSG, -EBADMSG},
		{"ESP in TCP", XFRMA_ENCAP, 7, 24, -EOPNOTSUPP, -EOPNOTSUPP},
		{"short encap", XFRMA_ENCAP, 2, 20, -EBADMSG, -EBADMSG},
		{"huge bitmap", XFRMA_REPLAY_ESN_VAL, 0xff, 24, -EBADMSG, -EBADMSG},
		{"short ESN", XFRMA_REPLAY_ESN_VAL, 0, 20, -EBADMSG, -EBADMSG},
		{"AEAD and others", XFRMA_ALG_CRYPT, 'a', 68, -EBADMSG, -EBADMSG},
		{"ESP with compression", XFRMA_ALG_COMP, 'a', 68, -EBADMSG, -EBADMSG},
		{"short algorithm", XFRMA_ALG_CRYPT, 'a', 67, -EBADMSG, -EBADMSG},
		{"twice", XFRMA_ALG_AEAD, 'a', 72, -EBADMSG, -EBADMSG},
	};
	static const struct more policy[] = {
		{"of SAs", XFRMA_ALG_AEAD, 0, 100, 0, -EBADMSG},
		{"part of a template", XFRMA_TMPL, 0, 65, -EBADMSG, -EBADMSG},
		{"no family", XFRMA_TMPL, 0, 64, -EBADMSG, -EBADMSG},
		{"sub policy", XFRMA_POLICY_TYPE, 1, 6, -EOPNOTSUPP, -EOPNOTSUPP},
		{"main policy", XFRMA_POLICY_TYPE, 0, 6, 0, 0},
		{"short type", XFRMA_POLICY_TYPE, 0, 5, -EBADMSG, -EBADMSG},
		{"label", XFRMA_SEC_CTX, 0, 8, -EOPNOTSUPP, -EBADMSG},
	};

	(void)state;
	check_more(RECORD_SA, sa, sizeof(sa) / sizeof(*sa));
	check_more(RECORD_POLICY, policy, sizeof(policy) / sizeof(*policy));
}

static void test_keys_are_checked(void **state)
{
	static const char zeros[64];
	struct xfrm_body b;
	struct payload p;
	char *alg;

	(void)state;
	/* The key's length, as it says, is not the attribute's. */
	for (unsigned int bits = 0; bits <= 400; bits++) {
		make_sa(&p, false);
		alg = (char *)content(&p) + sizeof(struct xfrm_usersa_info) + MNL_ATTR_HDRLEN;
		memcpy(alg + 64, &bits, sizeof(bits));
		assert_int_equal(parse(RECORD_SA, &p, XFRM_BODY_KERNEL, &b),
			(bits + 7) / 8 == 20 ? 0 : -EBADMSG);
	}
	for (unsigned int bits = 0xfffffff0; bits != 0; bits++) {
		make_sa(&p, false);
		alg = (char *)content(&p) + sizeof(struct xfrm_usersa_info) + MNL_ATTR_HDRLEN;
		memcpy(alg + 64, &bits, sizeof(bits));
		assert_int_equal(parse(RECORD_SA, &p, XFRM_BODY_KERNEL, &b), -EBADMSG);
	}
	/* A name without end, and none. */
	make_sa(&p, false);
	alg = (char *)content(&p) + sizeof(struct xfrm_usersa_info) + MNL_ATTR_HDRLEN;
	memset(alg, 'x', 64);
	assert_int_equal(parse(RECORD_SA, &p, XFRM_BODY_KERNEL, &b), -EBADMSG);
	alg[0] = 0;
	assert_int_equal(parse(RECORD_SA, &p, XFRM_BODY_KERNEL, &b), -EBADMSG);
	/* Keys that the kernel hides; no key is something else. */
	begin_sa(&p, false);
	put_algorithm(&p, XFRMA_ALG_AEAD, "rfc4106(gcm(aes))", 160, 128, zeros);
	assert_int_equal(parse(RECORD_SA, &p, XFRM_BODY_MEMBER, &b), -ENOKEY);
	assert_int_equal(parse(RECORD_SA, &p, XFRM_BODY_KERNEL, &b), -EOPNOTSUPP);
	begin_sa(&p, false);
	put_algorithm(&p, XFRMA_ALG_CRYPT, "ecb(cipher_null)", 0, 0, zeros);
	assert_int_equal(parse(RECORD_SA, &p, XFRM_BODY_KERNEL, &b), 0);
}

static void test_body_is_bounded(void **state)
{
	_Alignas(8) uint8_t body[RECORD_BODY_MAX];
	struct xfrm_body b;
	struct payload p;
	int len;

	(void)state;
	make_esn_sa(&p, false);
	assert_int_equal(parse(RECORD_SA, &p, XFRM_BODY_KERNEL, &b), 0);
	len = xfrm_body_encode(&b, NOW, body, sizeof(body));
	for (size_t size = 0; size < (size_t)len; size++)
		assert_int_equal(xfrm_body_encode(&b, NOW, body, size), -EMSGSIZE);
	assert_int_equal(xfrm_body_encode(&b, NOW, body, (size_t)len), len);
}

static uint32_t next_random(uint64_t *x)
{
	*x = *x * 6364136223846793005U + 1442695040888963407U;
	return (uint32_t)(*x >> 33);
}

/* Whatever comes: no crash, and what is taken is canonical after one pass. */
static void take_anything(
	enum record_kind kind, const uint8_t *data, size_t len, enum xfrm_body_origin origin)
{
	_Alignas(8) uint8_t one[RECORD_BODY_MAX], two[RECORD_BODY_MAX];
	/* Of exactly this size, so that reading behind it is seen. */
	uint8_t *exact = malloc(len ? len : 1);
	struct record_facts f;
	struct record_key key;
	struct xfrm_body b;
	int n;

	memcpy(exact, data, len);
	if (xfrm_body_parse(kind, exact, len, origin, &b) == 0) {
		(void)facts(&b, &key, &f);
		n = xfrm_body_encode(&b, NOW, one, sizeof(one));
		if (n > 0) {
			assert_int_equal(
				xfrm_body_parse(kind, one, (size_t)n, XFRM_BODY_MEMBER, &b), 0);
			if (kind == RECORD_SA)
				b.sa.curlft.add_time = NOW - b.sa.curlft.add_time;
			assert_int_equal(xfrm_body_encode(&b, NOW, two, sizeof(two)), n);
			assert_memory_equal(one, two, (size_t)n);
		}
	}
	(void)xfrm_body_parse_aevent(exact, len, &b);
	(void)xfrm_body_parse_gone(NULL, exact, len, &b);
	free(exact);
}

static void test_mutations(void **state)
{
	uint64_t x = 1;

	(void)state;
	for (int i = 0; i < 200000; i++) {
		enum record_kind kind = i % 2 ? RECORD_SA : RECORD_POLICY;
		struct payload p;
		uint8_t *bytes;
		size_t len;

		if (kind == RECORD_POLICY)
			make_policy(&p, (uint8_t)(i % 3));
		else if (i % 4 == 1)
			make_sa(&p, i % 8 == 1);
		else
			make_esn_sa(&p, i % 8 == 3);
		put_u32(&p, XFRMA_IF_ID, 7);
		bytes = content(&p);
		len = length(&p);
		for (unsigned int changes = next_random(&x) % 4; changes > 0; changes--)
			bytes[next_random(&x) % len] =
				(uint8_t)(next_random(&x) & (next_random(&x) | 1));
		if (next_random(&x) % 4 == 0)
			len = next_random(&x) % (len + 1);
		take_anything(kind, bytes, len, i % 5 ? XFRM_BODY_MEMBER : XFRM_BODY_KERNEL);
	}
}

static void test_every_length(void **state)
{
	struct payload p;

	(void)state;
	make_esn_sa(&p, false);
	for (size_t len = 0; len <= length(&p); len++)
		take_anything(RECORD_SA, content(&p), len, XFRM_BODY_KERNEL);
	make_policy(&p, XFRM_POLICY_OUT);
	for (size_t len = 0; len <= length(&p); len++)
		take_anything(RECORD_POLICY, content(&p), len, XFRM_BODY_MEMBER);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_local_things_stay),
		cmocka_unit_test(test_everything_else_travels),
		cmocka_unit_test(test_ipcomp),
		cmocka_unit_test(test_counters),
		cmocka_unit_test(test_structs_are_checked),
		cmocka_unit_test(test_attributes_are_checked),
		cmocka_unit_test(test_keys_are_checked),
		cmocka_unit_test(test_body_is_bounded),
		cmocka_unit_test(test_mutations),
		cmocka_unit_test(test_every_length),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
