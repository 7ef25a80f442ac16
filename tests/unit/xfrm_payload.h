/* SPDX-License-Identifier: BSD-2-Clause */
/* xfrm_payload.h - SAs and policies as the kernel would tell them, for the tests of what is made of
 * them. */
#ifndef XFRM_PAYLOAD_H
#define XFRM_PAYLOAD_H

#include <arpa/inet.h>
#include <string.h>

#include <libmnl/libmnl.h>

#include "io/xfrm_facts.h"

#define NOW 1800000000U /* seconds */
#define SPI 0xc0000001U
#define REQID 7U

#define LOCAL6                                                                                     \
	{                                                                                          \
		0x20, 0x01, 0x0d, 0xb8, [7] = 1, [15] = 1                                          \
	} /* 2001:db8:0:1::1 */
#define REMOTE6                                                                                    \
	{                                                                                          \
		0x20, 0x01, 0x0d, 0xb8, [7] = 2, [15] = 1                                          \
	}

static const struct address cluster[] = {
	{AF_INET, {192, 0, 2, 1}}, {AF_INET, {192, 0, 2, 2}}, {AF_INET6, LOCAL6}};
static const uint32_t local = 0x010200c0, remote = 0x016433c6; /* 198.51.100.1 */

/* A payload as the kernel would tell it; the netlink header before it is only for libmnl's sake. */
struct payload {
	_Alignas(8) char data[4096];
};

static struct nlmsghdr *message(struct payload *p)
{
	return (struct nlmsghdr *)p->data;
}

static void *content(struct payload *p)
{
	return mnl_nlmsg_get_payload(message(p));
}

static size_t length(struct payload *p)
{
	return mnl_nlmsg_get_payload_len(message(p));
}

static void put(struct payload *p, uint16_t type, const void *data, size_t len)
{
	mnl_attr_put(message(p), type, len, data);
}

static inline void put_u32(struct payload *p, uint16_t type, uint32_t v)
{
	put(p, type, &v, sizeof(v));
}

/* Name, key length in bits, for two of the structs another number, key. Behind the name there may
 * be anything. */
static void put_algorithm(struct payload *p, uint16_t type, const char *name, unsigned int bits,
	unsigned int other, const char *key)
{
	size_t len = (bits + 7) / 8;
	size_t head = type == XFRMA_ALG_CRYPT || type == XFRMA_ALG_COMP ? 68 : 72;
	char alg[512];

	memset(alg, 0xee, sizeof(alg));
	memcpy(alg, name, strlen(name) + 1);
	memcpy(alg + 64, &bits, sizeof(bits));
	memcpy(alg + 68, &other, sizeof(other));
	memcpy(alg + head, key, len);
	put(p, type, alg, head + len);
}

static void begin_sa(struct payload *p, bool outbound)
{
	struct xfrm_usersa_info *sa;

	mnl_nlmsg_put_header(p->data);
	sa = mnl_nlmsg_put_extra_header(message(p), sizeof(*sa));
	sa->id.daddr.a4 = outbound ? remote : local;
	sa->saddr.a4 = outbound ? local : remote;
	sa->id.spi = htonl(SPI);
	sa->id.proto = IPPROTO_ESP;
	sa->family = AF_INET;
	sa->sel.family = AF_INET;
	sa->mode = XFRM_MODE_TUNNEL;
	sa->reqid = REQID;
	sa->replay_window = 32;
	sa->lft.hard_add_expires_seconds = 3600;
	sa->curlft = (struct xfrm_lifetime_cur){
		.bytes = 1000, .packets = 10, .add_time = NOW - 60, .use_time = NOW};
	sa->stats.replay = 5;
	sa->seq = 99;
}

static inline void make_sa(struct payload *p, bool outbound)
{
	begin_sa(p, outbound);
	put_algorithm(p, XFRMA_ALG_AEAD, "rfc4106(gcm(aes))", 160, 128, "abcdefghijklmnopqrst");
}

static inline void make_ipcomp(struct payload *p, bool outbound)
{
	struct xfrm_usersa_info *sa;

	begin_sa(p, outbound);
	sa = content(p);
	sa->id.proto = IPPROTO_COMP;
	sa->id.spi = htonl(0x1234);
	sa->replay_window = 0;
	put_algorithm(p, XFRMA_ALG_COMP, "deflate", 0, 0, "");
}

static inline void make_esn_sa(struct payload *p, bool outbound)
{
	struct {
		struct xfrm_replay_state_esn esn;
		uint32_t bitmap[4];
	} state = {.esn = {.bmp_len = 4,
			   .oseq = 7,
			   .oseq_hi = 1,
			   .seq = 9,
			   .seq_hi = 2,
			   .replay_window = 128}};
	struct xfrm_usersa_info *sa;

	state.bitmap[0] = 0xff;
	begin_sa(p, outbound);
	sa = content(p);
	sa->flags = XFRM_STATE_ESN;
	sa->replay_window = 0;
	put_algorithm(p, XFRMA_ALG_AUTH_TRUNC, "hmac(sha256)", 256, 128,
		"0123456789abcdef0123456789abcdef");
	put_algorithm(p, XFRMA_ALG_CRYPT, "cbc(aes)", 128, 0, "abcdefghijklmnop");
	put(p, XFRMA_REPLAY_ESN_VAL, &state, sizeof(state));
}

static inline void make_policy(struct payload *p, uint8_t dir)
{
	bool outbound = dir == XFRM_POLICY_OUT;
	struct xfrm_user_tmpl t = {.family = AF_INET, .reqid = REQID, .mode = XFRM_MODE_TUNNEL};
	struct xfrm_userpolicy_info *policy;

	mnl_nlmsg_put_header(p->data);
	policy = mnl_nlmsg_put_extra_header(message(p), sizeof(*policy));
	policy->dir = dir;
	policy->priority = 100;
	policy->index = 4711;
	policy->curlft.add_time = NOW;
	policy->sel.family = AF_INET;
	policy->sel.daddr.a4 = htonl(0x0a010000);
	policy->sel.prefixlen_d = 16;
	policy->sel.saddr.a4 = htonl(0x0a020000);
	policy->sel.prefixlen_s = 16;
	t.id.proto = IPPROTO_ESP;
	t.id.daddr.a4 = outbound ? remote : local;
	t.saddr.a4 = outbound ? local : remote;
	put(p, XFRMA_TMPL, &t, sizeof(t));
}

static inline struct xfrm_user_tmpl *template(struct payload *p)
{
	return (struct xfrm_user_tmpl *)((char *)content(p) + sizeof(struct xfrm_userpolicy_info) +
					 MNL_ATTR_HDRLEN);
}

static int parse(enum record_kind kind, struct payload *p, enum xfrm_body_origin origin,
	struct xfrm_body *ret)
{
	return xfrm_body_parse(kind, content(p), length(p), origin, ret);
}

static int facts(const struct xfrm_body *b, struct record_key *key, struct record_facts *f)
{
	return xfrm_facts_make(b, cluster, sizeof(cluster) / sizeof(*cluster), key, f);
}

#define SA_FIELD(field) offsetof(struct xfrm_usersa_info, field)
#define POLICY_FIELD(field) offsetof(struct xfrm_userpolicy_info, field)

#endif
