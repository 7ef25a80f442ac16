/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the kernel or another member says of SAs and policies. The first byte says how it comes, the
 * rest is the payload. What is taken from the kernel can be sent, what is sent can be taken, and
 * names the same SA there.
 */
#include <errno.h>

#include "core/record.h"
#include "fuzz.h"
#include "../unit/xfrm_payload.h"

enum way { KERNEL_SA, MEMBER_SA, KERNEL_POLICY, MEMBER_POLICY, GONE, GONE_INSIDE, COUNTERS, WAYS };

/* A body that is read again has another age, if it is read at another time. */
static void forget_age(enum record_kind kind, uint8_t *body)
{
	if (kind == RECORD_SA)
		memset(body + SA_FIELD(curlft.add_time), 0, sizeof(uint64_t));
}

static void check_travel(const struct xfrm_body *b)
{
	_Alignas(8) uint8_t body[RECORD_BODY_MAX], again[RECORD_BODY_MAX];
	struct record_key key, key_there;
	struct record_facts f, f_there;
	struct xfrm_body there;
	int len = xfrm_body_encode(b, NOW, body, sizeof(body)), r, r_there;

	if (len < 0) {
		REQUIRE(len == -EMSGSIZE);
		return;
	}
	REQUIRE(len % 4 == 0 && (size_t)len <= sizeof(body));
	REQUIRE(xfrm_body_encode(b, NOW, again, (size_t)len - 1) == -EMSGSIZE);
	REQUIRE(xfrm_body_parse(b->kind, body, (size_t)len, XFRM_BODY_MEMBER, &there) == 0);
	memset(again, 0xee, sizeof(again));
	REQUIRE(xfrm_body_encode(&there, NOW, again, sizeof(again)) == len);
	r = facts(b, &key, &f);
	r_there = facts(&there, &key_there, &f_there);
	REQUIRE(r == r_there);
	if (r == 0) {
		REQUIRE(memcmp(&key, &key_there, sizeof(key)) == 0);
		REQUIRE(f.birth == f_there.birth && f.pair == f_there.pair);
		REQUIRE(f.direction == f_there.direction && f.esn == f_there.esn);
		REQUIRE(memcmp(&f.remote, &f_there.remote, sizeof(f.remote)) == 0);
	}
	forget_age(b->kind, body);
	forget_age(b->kind, again);
	REQUIRE(memcmp(body, again, (size_t)len) == 0);
}

static void use(const struct xfrm_body *b)
{
	uint64_t oseq, seq;
	char text[40];

	xfrm_body_counters(b, &oseq, &seq);
	(void)xfrm_body_mark(b);
	(void)xfrm_body_u32(b, XFRMA_IF_ID);
	if (b->kind != RECORD_POLICY)
		return;
	xfrm_text(b, text, sizeof(text));
	REQUIRE(strnlen(text, sizeof(text)) < sizeof(text));
}

static void take(enum way way, const uint8_t *payload, size_t len)
{
	enum record_kind kind = way == KERNEL_SA || way == MEMBER_SA ? RECORD_SA : RECORD_POLICY;
	enum xfrm_body_origin origin =
		way == MEMBER_SA || way == MEMBER_POLICY ? XFRM_BODY_MEMBER : XFRM_BODY_KERNEL;
	size_t policy = NLMSG_ALIGN(sizeof(struct xfrm_userpolicy_info));
	struct record_key key;
	struct xfrm_body b;

	if (way == GONE && len >= policy) {
		if (xfrm_body_parse_gone(
			    (const void *)payload, payload + policy, len - policy, &b) == 0)
			xfrm_facts_policy_key(&b, &key);
	} else if (way == GONE_INSIDE) {
		if (xfrm_body_parse_gone(NULL, payload, len, &b) == 0)
			xfrm_facts_policy_key(&b, &key);
	} else if (way == COUNTERS) {
		if (xfrm_body_parse_aevent(payload, len, &b) == 0)
			use(&b);
	} else if (way < GONE && xfrm_body_parse(kind, payload, len, origin, &b) == 0) {
		use(&b);
		check_travel(&b);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy;

	if (size == 0)
		return 0;
	/* Aligned to 4 bytes and not to 8; nothing behind its end. */
	copy = malloc(size + 3);
	REQUIRE(copy);
	memcpy(copy + 4, data + 1, size - 1);
	take(data[0] % WAYS, copy + 4, size - 1);
	free(copy);
	return 0;
}

static void seed(enum way way, const void *payload, size_t len)
{
	uint8_t input[4097];

	input[0] = (uint8_t)way;
	memcpy(input + 1, payload, len);
	fuzz_seed(input, len + 1);
}

/* As the kernel tells it, as it travels, and with what an SA or policy may have besides. */
static void seed_record(enum record_kind kind, struct payload *p)
{
	const struct xfrm_mark mark = {.v = 1, .m = 0xff};
	const struct xfrm_replay_state replay = {.oseq = 7};
	const struct xfrm_lifetime_cur lifetime = {.packets = 7};
	const struct xfrm_userpolicy_type type = {.type = XFRM_POLICY_TYPE_MAIN};
	_Alignas(8) uint8_t body[RECORD_BODY_MAX];
	struct xfrm_body b;
	int len;

	seed(kind == RECORD_SA ? KERNEL_SA : KERNEL_POLICY, content(p), length(p));
	put(p, XFRMA_MARK, &mark, sizeof(mark));
	put_u32(p, XFRMA_IF_ID, 9);
	if (kind == RECORD_SA) {
		put(p, XFRMA_REPLAY_VAL, &replay, sizeof(replay));
		put(p, XFRMA_LTIME_VAL, &lifetime, sizeof(lifetime));
	} else {
		put(p, XFRMA_POLICY_TYPE, &type, sizeof(type));
	}
	seed(kind == RECORD_SA ? KERNEL_SA : KERNEL_POLICY, content(p), length(p));
	REQUIRE(parse(kind, p, XFRM_BODY_KERNEL, &b) == 0);
	len = xfrm_body_encode(&b, NOW, body, sizeof(body));
	REQUIRE(len > 0);
	seed(kind == RECORD_SA ? MEMBER_SA : MEMBER_POLICY, body, (size_t)len);
}

static void seed_gone(void)
{
	struct xfrm_userpolicy_info policy;
	struct payload p;

	make_policy(&p, XFRM_POLICY_OUT);
	seed(GONE, content(&p), length(&p));
	memcpy(&policy, content(&p), sizeof(policy));
	mnl_nlmsg_put_header(p.data);
	put(&p, XFRMA_POLICY, &policy, sizeof(policy));
	seed(GONE_INSIDE, content(&p), length(&p));
}

static void seed_counters(void)
{
	const struct xfrm_replay_state legacy = {.oseq = 7, .seq = 9};
	const struct xfrm_replay_state_esn esn = {.oseq = 7, .seq_hi = 1, .replay_window = 32};
	struct xfrm_aevent_id *ae;
	struct payload p;

	mnl_nlmsg_put_header(p.data);
	ae = mnl_nlmsg_put_extra_header(message(&p), sizeof(*ae));
	ae->sa_id.family = AF_INET;
	ae->sa_id.spi = htonl(SPI);
	put(&p, XFRMA_REPLAY_VAL, &legacy, sizeof(legacy));
	seed(COUNTERS, content(&p), length(&p));
	put(&p, XFRMA_REPLAY_ESN_VAL, &esn, sizeof(esn));
	seed(COUNTERS, content(&p), length(&p));
}

void fuzz_seeds(void)
{
	const struct xfrm_encap_tmpl encap = {.encap_type = 2, .encap_sport = htons(4500)};
	struct payload p;

	for (unsigned int outbound = 0; outbound < 2; outbound++) {
		make_sa(&p, outbound);
		seed_record(RECORD_SA, &p);
		make_esn_sa(&p, outbound);
		put(&p, XFRMA_ENCAP, &encap, sizeof(encap));
		seed_record(RECORD_SA, &p);
	}
	for (unsigned int dir = XFRM_POLICY_IN; dir <= XFRM_POLICY_FWD; dir++) {
		make_policy(&p, (uint8_t)dir);
		seed_record(RECORD_POLICY, &p);
	}
	make_policy(&p, XFRM_POLICY_OUT);
	message(&p)->nlmsg_len -= MNL_ATTR_HDRLEN + sizeof(struct xfrm_user_tmpl); /* none */
	seed_record(RECORD_POLICY, &p);
	seed_gone();
	seed_counters();
}
