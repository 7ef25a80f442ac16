/* SPDX-License-Identifier: BSD-2-Clause */
#include "io/xfrm_body.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include <libmnl/libmnl.h>

#define KEY_MAX 128 /* bytes: twice the longest there is (HMAC-SHA-512) */
#define NAME_SIZE 64 /* of alg_name */
#define TEMPLATES_MAX 6 /* XFRM_MAX_DEPTH, net/xfrm.h */
#define UDP_ENCAP_ESPINUDP 2 /* linux/udp.h */

/* One attribute that we know: how long it is, what is in it, whether it travels. */
struct rule {
	size_t size; /* of the fixed part; 0: not known to this kind of record */
	bool stays; /* read from the kernel, never part of a body */
	int (*check)(const void *data, size_t len); /* NULL: exactly `size` long */
	const char *local; /* -EOPNOTSUPP of `check`: why the record does not travel */
};

const char xfrm_keys_hidden[] = "the kernel hides its keys (lockdown=confidentiality)";

static size_t key_bytes(unsigned int bits)
{
	return ((size_t)bits + 7) / 8;
}

/* The three algorithm structs begin with a name and a key length, and end with the key. */
static int check_key(const struct xfrm_algo *alg, const char *key, size_t room)
{
	size_t len = key_bytes(alg->alg_key_len);
	uint8_t any = 0;

	if (!memchr(alg->alg_name, 0, sizeof(alg->alg_name)) || alg->alg_name[0] == 0)
		return -EBADMSG;
	if (alg->alg_key_len > KEY_MAX * 8 || len != room)
		return -EBADMSG;
	for (size_t i = 0; i < len; i++)
		any |= (uint8_t)key[i];
	return len > 0 && any == 0 ? -ENOKEY : 0;
}

static int check_crypt(const void *data, size_t len)
{
	const struct xfrm_algo *alg = data;

	return check_key(alg, alg->alg_key, len - sizeof(*alg));
}

/* It has no key. */
static int check_comp(const void *data, size_t len)
{
	const struct xfrm_algo *alg = data;

	return alg->alg_key_len ? -EBADMSG : check_crypt(data, len);
}

static int check_auth(const void *data, size_t len)
{
	const struct xfrm_algo_auth *alg = data;
	int r = check_key(data, alg->alg_key, len - sizeof(*alg));

	return r == 0 && alg->alg_trunc_len > 512 ? -EBADMSG : r;
}

static int check_aead(const void *data, size_t len)
{
	const struct xfrm_algo_aead *alg = data;
	int r = check_key(data, alg->alg_key, len - sizeof(*alg));

	return r == 0 && alg->alg_icv_len > 512 ? -EBADMSG : r;
}

static int check_encap(const void *data, size_t len)
{
	const struct xfrm_encap_tmpl *encap = data;

	if (len != sizeof(*encap))
		return -EBADMSG;
	return encap->encap_type == UDP_ENCAP_ESPINUDP ? 0 : -EOPNOTSUPP;
}

/* With the bitmap, as the kernel has it, or without, as it travels. */
static int check_esn(const void *data, size_t len)
{
	const struct xfrm_replay_state_esn *esn = data;

	if (esn->bmp_len > XFRMA_REPLAY_ESN_MAX / 32 || esn->replay_window > esn->bmp_len * 32)
		return -EBADMSG;
	return len == sizeof(*esn) || len == sizeof(*esn) + esn->bmp_len * 4 ? 0 : -EBADMSG;
}

static int check_direction(const void *data, size_t len)
{
	uint8_t dir = *(const uint8_t *)data;

	return len == 1 && (dir == 1 || dir == 2) ? 0 : -EBADMSG;
}

static int check_templates(const void *data, size_t len)
{
	const struct xfrm_user_tmpl *t = data;

	if (len % sizeof(*t) != 0 || len / sizeof(*t) > TEMPLATES_MAX)
		return -EBADMSG;
	for (size_t i = 0; i < len / sizeof(*t); i++)
		if ((t[i].family != AF_INET && t[i].family != AF_INET6) ||
			t[i].mode >= XFRM_MODE_MAX)
			return -EBADMSG;
	return 0;
}

static int check_type(const void *data, size_t len)
{
	const struct xfrm_userpolicy_type *type = data;

	if (len != sizeof(*type))
		return -EBADMSG;
	return type->type == XFRM_POLICY_TYPE_MAIN ? 0 : -EOPNOTSUPP;
}

/* Crypto offload leaves the numbers to the kernel; packet offload makes them in the device. */
static int check_offload(const void *data, size_t len)
{
	const struct xfrm_user_offload *offload = data;

	if (len != sizeof(*offload))
		return -EBADMSG;
	return offload->flags & XFRM_BODY_OFFLOAD_PACKET ? -EOPNOTSUPP : 0;
}

static int refuse(const void *data, size_t len)
{
	(void)data;
	(void)len;
	return -EOPNOTSUPP;
}

/* What is not here (statistics, per-CPU, thresholds of async events) is local to a kernel. */
static const struct rule sa_rules[XFRM_BODY_ATTRS] = {
	/* The kernel reports the authentication twice; XFRMA_ALG_AUTH lacks the truncation. */
	[XFRMA_ALG_AUTH_TRUNC] = {sizeof(struct xfrm_algo_auth), false, check_auth, NULL},
	[XFRMA_ALG_CRYPT] = {sizeof(struct xfrm_algo), false, check_crypt, NULL},
	[XFRMA_ALG_AEAD] = {sizeof(struct xfrm_algo_aead), false, check_aead, NULL},
	[XFRMA_ENCAP] = {sizeof(struct xfrm_encap_tmpl), false, check_encap, "it is not in UDP"},
	[XFRMA_ALG_COMP] = {sizeof(struct xfrm_algo), false, check_comp, NULL},
	[XFRMA_REPLAY_ESN_VAL] = {sizeof(struct xfrm_replay_state_esn), false, check_esn, NULL},
	[XFRMA_REPLAY_VAL] = {sizeof(struct xfrm_replay_state), true, NULL, NULL},
	[XFRMA_LTIME_VAL] = {sizeof(struct xfrm_lifetime_cur), true, NULL, NULL},
	[XFRMA_COADDR] = {sizeof(xfrm_address_t), false, NULL, NULL},
	[XFRMA_TFCPAD] = {sizeof(uint32_t), false, NULL, NULL},
	[XFRMA_MARK] = {sizeof(struct xfrm_mark), false, NULL, NULL},
	[XFRMA_SET_MARK] = {sizeof(uint32_t), false, NULL, NULL},
	[XFRMA_SET_MARK_MASK] = {sizeof(uint32_t), false, NULL, NULL},
	[XFRMA_SA_EXTRA_FLAGS] = {sizeof(uint32_t), false, NULL, NULL},
	[XFRMA_IF_ID] = {sizeof(uint32_t), false, NULL, NULL},
	[XFRMA_MTIMER_THRESH] = {sizeof(uint32_t), false, NULL, NULL},
	[XFRM_BODY_NAT_KEEPALIVE] = {sizeof(uint32_t), false, NULL, NULL},
	[XFRM_BODY_SA_DIR] = {sizeof(uint8_t), false, check_direction, NULL},
	[XFRMA_OFFLOAD_DEV] = {sizeof(struct xfrm_user_offload), true, check_offload,
		"its device makes its numbers (packet offload)"},
	[XFRMA_SEC_CTX] = {sizeof(struct xfrm_user_sec_ctx), true, refuse,
		"it has a security label"},
};

static const struct rule policy_rules[XFRM_BODY_ATTRS] = {
	[XFRMA_TMPL] = {sizeof(struct xfrm_user_tmpl), false, check_templates, NULL},
	[XFRMA_POLICY_TYPE] = {sizeof(struct xfrm_userpolicy_type), false, check_type, NULL},
	[XFRMA_MARK] = {sizeof(struct xfrm_mark), false, NULL, NULL},
	[XFRMA_IF_ID] = {sizeof(uint32_t), false, NULL, NULL},
	[XFRMA_SEC_CTX] = {sizeof(struct xfrm_user_sec_ctx), true, refuse,
		"it has a security label"},
	[XFRMA_POLICY] = {sizeof(struct xfrm_userpolicy_info), true, NULL, NULL},
};

static const struct rule *rules(enum record_kind kind)
{
	return kind == RECORD_SA ? sa_rules : policy_rules;
}

static int take_attr(struct xfrm_body *b, const struct nlattr *a, enum xfrm_body_origin origin)
{
	uint16_t type = mnl_attr_get_type(a), len = mnl_attr_get_payload_len(a);
	const struct rule *rule;
	int r;

	if (type >= XFRM_BODY_ATTRS || rules(b->kind)[type].size == 0)
		return origin == XFRM_BODY_KERNEL ? 0 : -EBADMSG;
	rule = &rules(b->kind)[type];
	if (origin == XFRM_BODY_MEMBER && (rule->stays || b->attr[type]))
		return -EBADMSG;
	if (len < rule->size || (!rule->check && len != rule->size))
		return -EBADMSG;
	r = rule->check ? rule->check(mnl_attr_get_payload(a), len) : 0;
	if (r == -EOPNOTSUPP && rule->local && origin == XFRM_BODY_KERNEL)
		b->local = rule->local; /* the rest says what it is */
	else if (r == -ENOKEY && origin == XFRM_BODY_KERNEL)
		b->local = xfrm_keys_hidden;
	else if (r < 0)
		return r;
	b->attr[type] = a;
	return 0;
}

static int take_attrs(
	struct xfrm_body *b, const void *attrs, size_t len, enum xfrm_body_origin origin)
{
	const struct nlattr *a = attrs;
	const char *end = (const char *)attrs + len;

	while (mnl_attr_ok(a, (int)(end - (const char *)a))) {
		int r = take_attr(b, a, origin);

		if (r < 0)
			return r;
		a = mnl_attr_next(a);
	}
	return (const char *)a == end ? 0 : -EBADMSG;
}

static int check_selector(const struct xfrm_selector *sel)
{
	unsigned int bits = sel->family == AF_INET ? 32 : 128;

	if (sel->family != AF_UNSPEC && sel->family != AF_INET && sel->family != AF_INET6)
		return -EBADMSG;
	return sel->prefixlen_d > bits || sel->prefixlen_s > bits ? -EBADMSG : 0;
}

static int check_algorithms(const struct xfrm_body *b)
{
	bool aead = b->attr[XFRMA_ALG_AEAD];
	bool other = b->attr[XFRMA_ALG_AUTH_TRUNC] || b->attr[XFRMA_ALG_CRYPT];
	bool comp = b->attr[XFRMA_ALG_COMP];

	if (!aead && !other && !comp)
		return -EOPNOTSUPP; /* larval */
	if (b->sa.id.proto == IPPROTO_COMP)
		return aead || other || b->attr[XFRMA_REPLAY_ESN_VAL] ? -EBADMSG : 0;
	return comp || (aead && other) ? -EBADMSG : 0;
}

static int check_sa(struct xfrm_body *b)
{
	const struct xfrm_usersa_info *sa = &b->sa;
	int r;

	if (sa->id.spi == 0)
		return -EOPNOTSUPP;
	if (sa->id.proto == IPPROTO_AH)
		b->local = "AH is not copied";
	else if (sa->id.proto != IPPROTO_ESP && sa->id.proto != IPPROTO_COMP)
		return -EOPNOTSUPP;
	if (sa->family != AF_INET && sa->family != AF_INET6)
		return -EBADMSG;
	if ((sa->flags & XFRM_STATE_ESN) && !b->attr[XFRMA_REPLAY_ESN_VAL])
		return -EBADMSG;
	r = check_selector(&sa->sel);
	if (r == 0)
		r = check_algorithms(b);
	if (sa->sel.ifindex != 0)
		b->local = "its selector is bound to an interface";
	if (sa->mode != XFRM_MODE_TRANSPORT && sa->mode != XFRM_MODE_TUNNEL &&
		sa->mode != XFRM_MODE_BEET)
		b->local = "its mode is not known";
	return r;
}

static int check_policy(struct xfrm_body *b)
{
	const struct xfrm_userpolicy_info *p = &b->policy;

	if (p->action > XFRM_POLICY_BLOCK || p->share > XFRM_SHARE_UNIQUE)
		return -EBADMSG;
	if (p->dir > XFRM_POLICY_FWD)
		b->local = "it is a socket's";
	else if (p->sel.ifindex != 0)
		b->local = "its selector is bound to an interface";
	return check_selector(&p->sel);
}

static size_t info_size(enum record_kind kind)
{
	return kind == RECORD_SA ? sizeof(struct xfrm_usersa_info)
				 : sizeof(struct xfrm_userpolicy_info);
}

static void *info(struct xfrm_body *b)
{
	return b->kind == RECORD_SA ? (void *)&b->sa : (void *)&b->policy;
}

int xfrm_body_parse(enum record_kind kind, const void *payload, size_t len,
	enum xfrm_body_origin origin, struct xfrm_body *ret)
{
	size_t head = info_size(kind), at = NLMSG_ALIGN(head);
	int r;

	memset(ret, 0, sizeof(*ret));
	ret->kind = kind;
	if (len < at)
		return -EBADMSG;
	memcpy(info(ret), payload, head);
	r = take_attrs(ret, (const char *)payload + at, len - at, origin);
	if (r == 0)
		r = kind == RECORD_SA ? check_sa(ret) : check_policy(ret);
	if (r == 0 && ret->local)
		return -EOPNOTSUPP;
	ret->local = NULL;
	return r;
}

int xfrm_body_parse_gone(const struct xfrm_userpolicy_info *policy, const void *attrs, size_t len,
	struct xfrm_body *ret)
{
	int r;

	memset(ret, 0, sizeof(*ret));
	ret->kind = RECORD_POLICY;
	r = take_attrs(ret, attrs, len, XFRM_BODY_KERNEL);
	if (r < 0)
		return r;
	if (!policy && ret->attr[XFRMA_POLICY])
		policy = mnl_attr_get_payload(ret->attr[XFRMA_POLICY]);
	if (!policy)
		return -EBADMSG;
	memcpy(&ret->policy, policy, sizeof(*policy));
	return 0;
}

struct xfrm_mark xfrm_body_find_mark(const void *attrs, size_t len)
{
	const char *end = (const char *)attrs + len;
	struct xfrm_mark mark = {0};

	for (const struct nlattr *a = attrs; mnl_attr_ok(a, (int)(end - (const char *)a));
		a = mnl_attr_next(a))
		if (mnl_attr_get_type(a) == XFRMA_MARK &&
			mnl_attr_get_payload_len(a) >= sizeof(mark))
			memcpy(&mark, mnl_attr_get_payload(a), sizeof(mark));
	return mark;
}

int xfrm_body_parse_aevent(const void *payload, size_t len, struct xfrm_body *ret)
{
	const struct xfrm_aevent_id *ae = payload;
	size_t at = NLMSG_ALIGN(sizeof(*ae));

	memset(ret, 0, sizeof(*ret));
	ret->kind = RECORD_SA;
	if (len < at)
		return -EBADMSG;
	ret->sa.id.daddr = ae->sa_id.daddr;
	ret->sa.id.spi = ae->sa_id.spi;
	ret->sa.id.proto = ae->sa_id.proto;
	ret->sa.family = ae->sa_id.family;
	return take_attrs(ret, (const char *)payload + at, len - at, XFRM_BODY_KERNEL);
}

static void clean_info(struct xfrm_body *b, uint64_t now)
{
	struct xfrm_lifetime_cur *cur = &b->sa.curlft;

	if (b->kind == RECORD_POLICY) {
		memset(&b->policy.curlft, 0, sizeof(b->policy.curlft));
		b->policy.index = 0;
		return;
	}
	cur->add_time = now > cur->add_time ? now - cur->add_time : 0;
	cur->use_time = 0;
	memset(&b->sa.stats, 0, sizeof(b->sa.stats));
	b->sa.seq = 0; /* of the XFRM_MSG_ACQUIRE that it answered */
}

/* What follows the name's end is whatever the one who made the SA had in memory. */
static void clean_name(char *name)
{
	size_t len = strlen(name);

	memset(name + len, 0, NAME_SIZE - len);
}

static void clean_attr(uint16_t type, void *data)
{
	struct xfrm_replay_state_esn *esn = data;

	switch (type) {
	case XFRMA_ALG_AUTH_TRUNC:
	case XFRMA_ALG_CRYPT:
	case XFRMA_ALG_AEAD:
	case XFRMA_ALG_COMP:
		clean_name(data);
		break;
	case XFRMA_REPLAY_ESN_VAL:
		*esn = (struct xfrm_replay_state_esn){
			.bmp_len = esn->bmp_len, .replay_window = esn->replay_window};
		break;
	}
}

/* Returns how much it takes. */
static size_t encode_attr(uint16_t type, const struct nlattr *from, char *to, size_t room)
{
	size_t len = type == XFRMA_REPLAY_ESN_VAL ? sizeof(struct xfrm_replay_state_esn)
						  : mnl_attr_get_payload_len(from);
	size_t total = MNL_ATTR_HDRLEN + MNL_ALIGN(len);
	struct nlattr *a = (struct nlattr *)to;

	if (total > room)
		return total;
	memset(to, 0, total);
	a->nla_type = type;
	a->nla_len = (uint16_t)(MNL_ATTR_HDRLEN + len);
	memcpy(to + MNL_ATTR_HDRLEN, mnl_attr_get_payload(from), len);
	clean_attr(type, to + MNL_ATTR_HDRLEN);
	return total;
}

int xfrm_body_encode(const struct xfrm_body *b, uint64_t now, void *buf, size_t size)
{
	struct xfrm_body head = *b;
	size_t at = NLMSG_ALIGN(info_size(b->kind));

	if (size < at)
		return -EMSGSIZE;
	clean_info(&head, now);
	memset(buf, 0, at);
	memcpy(buf, info(&head), info_size(b->kind));
	for (uint16_t type = 0; type < (uint16_t)XFRM_BODY_ATTRS; type++) {
		if (!b->attr[type] || rules(b->kind)[type].stays)
			continue;
		at += encode_attr(type, b->attr[type], (char *)buf + at, size - at);
		if (at > size)
			return -EMSGSIZE;
	}
	return (int)at;
}

void xfrm_body_counters(const struct xfrm_body *b, uint64_t *ret_oseq, uint64_t *ret_seq)
{
	*ret_oseq = *ret_seq = 0;
	if (b->attr[XFRMA_REPLAY_ESN_VAL]) {
		const struct xfrm_replay_state_esn *esn =
			mnl_attr_get_payload(b->attr[XFRMA_REPLAY_ESN_VAL]);

		*ret_oseq = (uint64_t)esn->oseq_hi << 32 | esn->oseq;
		*ret_seq = (uint64_t)esn->seq_hi << 32 | esn->seq;
	} else if (b->attr[XFRMA_REPLAY_VAL]) {
		const struct xfrm_replay_state *legacy =
			mnl_attr_get_payload(b->attr[XFRMA_REPLAY_VAL]);

		*ret_oseq = legacy->oseq;
		*ret_seq = legacy->seq;
	}
}

struct xfrm_user_tmpl *xfrm_body_templates(const struct xfrm_body *b, size_t *ret_n)
{
	const struct nlattr *a = b->attr[XFRMA_TMPL];

	*ret_n = a ? mnl_attr_get_payload_len(a) / sizeof(struct xfrm_user_tmpl) : 0;
	return a ? mnl_attr_get_payload(a) : NULL;
}

struct xfrm_mark xfrm_body_mark(const struct xfrm_body *b)
{
	struct xfrm_mark mark = {0};

	if (b->attr[XFRMA_MARK])
		memcpy(&mark, mnl_attr_get_payload(b->attr[XFRMA_MARK]), sizeof(mark));
	return mark;
}

uint32_t xfrm_body_u32(const struct xfrm_body *b, uint16_t type)
{
	return b->attr[type] ? mnl_attr_get_u32(b->attr[type]) : 0;
}
