/* SPDX-License-Identifier: BSD-2-Clause */
#include "io/xfrm_facts.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include <libmnl/libmnl.h>

#include "io/digest.h"

/* What is hashed; the longest: addresses and three algorithms. */
struct input {
	uint8_t data[1024];
	size_t len;
};

static void put(struct input *in, const void *data, size_t len)
{
	memcpy(in->data + in->len, data, len);
	in->len += len;
}

static void put_u32(struct input *in, uint32_t v)
{
	put(in, &v, sizeof(v));
}

static size_t address_size(uint16_t family)
{
	return family == AF_INET ? 4 : 16;
}

/* The bytes behind an IPv4 address are whatever its author had in memory. */
static void put_address(struct input *in, uint16_t family, const xfrm_address_t *a)
{
	xfrm_address_t clean = {0};

	memcpy(&clean, a, address_size(family));
	put(in, &clean, sizeof(clean));
}

static void digest(struct input *in, void *out, size_t len)
{
	uint8_t full[DIGEST_SIZE];

	digest_sha256(in->data, in->len, full);
	memcpy(out, full, len);
	explicit_bzero(in->data, in->len);
	explicit_bzero(full, sizeof(full));
}

/* Name, key length, truncation and key; xfrm_body_parse() has bounded the key. */
static void put_algorithm(struct input *in, const struct xfrm_body *b, uint16_t type)
{
	const struct xfrm_algo *alg = NULL;

	put_u32(in, type);
	if (!b->attr[type])
		return;
	alg = mnl_attr_get_payload(b->attr[type]);
	put(in, alg->alg_name, strlen(alg->alg_name) + 1);
	put(in, (const char *)alg + sizeof(alg->alg_name),
		mnl_attr_get_payload_len(b->attr[type]) - sizeof(alg->alg_name));
}

static uint64_t birth(const struct xfrm_body *b, enum espalier_direction direction)
{
	struct input in = {.len = 0};
	uint64_t v;

	put_u32(&in, b->sa.id.proto);
	put_u32(&in, direction);
	put_u32(&in, b->sa.id.spi);
	put_algorithm(&in, b, XFRMA_ALG_AUTH_TRUNC);
	put_algorithm(&in, b, XFRMA_ALG_CRYPT);
	put_algorithm(&in, b, XFRMA_ALG_AEAD);
	digest(&in, &v, sizeof(v));
	return v;
}

static void put_selector(struct input *in, const struct xfrm_selector *sel)
{
	put_u32(in, sel->family);
	put_address(in, sel->family, &sel->daddr);
	put_address(in, sel->family, &sel->saddr);
	put(in, &sel->dport, sizeof(sel->dport));
	put(in, &sel->dport_mask, sizeof(sel->dport_mask));
	put(in, &sel->sport, sizeof(sel->sport));
	put(in, &sel->sport_mask, sizeof(sel->sport_mask));
	put_u32(in, sel->prefixlen_d);
	put_u32(in, sel->prefixlen_s);
	put_u32(in, sel->proto);
	put_u32(in, sel->user);
}

static void put_encap(struct input *in, const struct xfrm_body *b, uint16_t family)
{
	struct xfrm_encap_tmpl encap = {0};

	if (b->attr[XFRMA_ENCAP])
		memcpy(&encap, mnl_attr_get_payload(b->attr[XFRMA_ENCAP]), sizeof(encap));
	put_u32(in, encap.encap_type);
	put_u32(in, encap.encap_sport);
	put_u32(in, encap.encap_dport);
	put_address(in, family, &encap.encap_oa);
}

/* Not: keys, replay windows and directions, which kernels of different versions show differently,
 * nor what has been used up of the limits. */
static uint64_t form(const struct xfrm_body *b)
{
	static const uint16_t numbers[] = {XFRMA_SET_MARK, XFRMA_SET_MARK_MASK, XFRMA_IF_ID,
		XFRMA_SA_EXTRA_FLAGS, XFRMA_TFCPAD, XFRMA_MTIMER_THRESH};
	const struct xfrm_usersa_info *sa = &b->sa;
	xfrm_address_t coaddr = {0};
	struct input in = {.len = 0};
	uint64_t v;

	put_address(&in, sa->family, &sa->saddr);
	put_u32(&in, sa->mode);
	put_u32(&in, sa->flags);
	put_u32(&in, sa->reqid);
	put(&in, &sa->lft, sizeof(sa->lft));
	put_selector(&in, &sa->sel);
	put_encap(&in, b, sa->family);
	if (b->attr[XFRMA_COADDR])
		memcpy(&coaddr, mnl_attr_get_payload(b->attr[XFRMA_COADDR]), sizeof(coaddr));
	put_address(&in, sa->family, &coaddr);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++)
		put_u32(&in, xfrm_body_u32(b, numbers[i]));
	digest(&in, &v, sizeof(v));
	return v ? v : 1; /* 0: none */
}

/* Where a record leads. */
struct ends {
	enum espalier_direction direction;
	uint16_t family;
	const xfrm_address_t *local, *remote;
	uint32_t reqid;
};

/*
 * IKE daemons give every Child SA between two addresses a reqid of its own, but may put different
 * marks on its two directions, or on the policies only. So these count only where there is no
 * reqid.
 */
static uint64_t pair(const struct xfrm_body *b, const struct ends *e)
{
	struct xfrm_mark mark = xfrm_body_mark(b);
	struct input in = {.len = 0};
	uint64_t v;

	put_u32(&in, e->family);
	put_address(&in, e->family, e->local);
	put_address(&in, e->family, e->remote);
	put_u32(&in, e->reqid);
	if (e->reqid == 0) {
		put(&in, &mark, sizeof(mark));
		put_u32(&in, xfrm_body_u32(b, XFRMA_IF_ID));
	}
	digest(&in, &v, sizeof(v));
	return v;
}

static bool is_cluster_address(
	uint16_t family, const xfrm_address_t *a, const struct address *addresses, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		if (addresses[i].family == family &&
			memcmp(addresses[i].bytes, a, address_size(family)) == 0)
			return true;
	return false;
}

static int sa_ends(const struct xfrm_usersa_info *sa, const struct address *addresses,
	unsigned int n, struct ends *ret)
{
	*ret = (struct ends){ESPALIER_IN, sa->family, &sa->id.daddr, &sa->saddr, sa->reqid};
	if (is_cluster_address(sa->family, &sa->id.daddr, addresses, n))
		return 0;
	*ret = (struct ends){ESPALIER_OUT, sa->family, &sa->saddr, &sa->id.daddr, sa->reqid};
	return is_cluster_address(sa->family, &sa->saddr, addresses, n) ? 0 : -EADDRNOTAVAIL;
}

/* A transport mode template may leave the addresses to the packet, that is, to the policy's
 * selector. */
static const xfrm_address_t *template_end(const struct xfrm_user_tmpl *t,
	const xfrm_address_t *in_template, const struct xfrm_selector *sel,
	const xfrm_address_t *in_selector, uint8_t prefixlen)
{
	static const xfrm_address_t any;

	if (t->mode != XFRM_MODE_TRANSPORT ||
		memcmp(in_template, &any, address_size(t->family)) != 0)
		return in_template;
	return sel->family == t->family && prefixlen == address_size(t->family) * 8 ? in_selector
										    : in_template;
}

static struct ends template_ends(
	const struct xfrm_userpolicy_info *policy, const struct xfrm_user_tmpl *t)
{
	const struct xfrm_selector *sel = &policy->sel;
	const xfrm_address_t *src, *dst;

	src = template_end(t, &t->saddr, sel, &sel->saddr, sel->prefixlen_s);
	dst = template_end(t, &t->id.daddr, sel, &sel->daddr, sel->prefixlen_d);
	if (policy->dir == XFRM_POLICY_OUT)
		return (struct ends){ESPALIER_OUT, t->family, src, dst, t->reqid};
	return (struct ends){ESPALIER_IN, t->family, dst, src, t->reqid};
}

static int policy_ends(const struct xfrm_body *b, const struct address *addresses, unsigned int n,
	struct ends *ret)
{
	const struct xfrm_user_tmpl *t = mnl_attr_get_payload(b->attr[XFRMA_TMPL]);
	size_t n_templates = mnl_attr_get_payload_len(b->attr[XFRMA_TMPL]) / sizeof(*t);
	int r = -EOPNOTSUPP;

	for (size_t i = 0; i < n_templates; i++) {
		if (t[i].id.proto != IPPROTO_ESP)
			continue;
		*ret = template_ends(&b->policy, &t[i]);
		if (is_cluster_address(t[i].family, ret->local, addresses, n))
			return 0;
		r = -EADDRNOTAVAIL;
	}
	return r;
}

void xfrm_facts_sa_key(const xfrm_address_t *daddr, __be32 spi, uint8_t proto, uint16_t family,
	struct xfrm_mark mark, struct record_key *ret)
{
	*ret = (struct record_key){.kind = RECORD_SA,
		.proto = proto,
		.family = family,
		.spi = spi,
		.mark = mark.v,
		.mark_mask = mark.m};
	memcpy(ret->addr, daddr, address_size(family));
}

void xfrm_facts_policy_key(const struct xfrm_body *b, struct record_key *ret)
{
	const struct xfrm_selector *sel = &b->policy.sel;
	struct xfrm_mark mark = xfrm_body_mark(b);
	struct input in = {.len = 0};

	*ret = (struct record_key){
		.kind = RECORD_POLICY, .proto = b->policy.dir, .family = sel->family};
	put_u32(&in, b->policy.dir);
	put_selector(&in, sel);
	put(&in, &mark, sizeof(mark));
	put_u32(&in, xfrm_body_u32(b, XFRMA_IF_ID));
	digest(&in, ret->addr, sizeof(ret->addr));
}

#define NAT_T_PORT 4500 /* RFC 3948 */

/* The guard and the steering know UDP-encapsulated ESP by our port. */
static bool is_encap_known(const struct xfrm_body *b, enum espalier_direction direction)
{
	const struct xfrm_encap_tmpl *encap;

	if (!b->attr[XFRMA_ENCAP])
		return true;
	encap = mnl_attr_get_payload(b->attr[XFRMA_ENCAP]);
	return (direction == ESPALIER_OUT ? encap->encap_sport : encap->encap_dport) ==
	       htons(NAT_T_PORT);
}

static void remote_selector(const struct xfrm_body *b, struct espalier_selector *ret)
{
	const struct xfrm_selector *sel = &b->policy.sel;

	if (sel->family != AF_INET && sel->family != AF_INET6)
		return;
	ret->prefixlen = ESPALIER_SELECTOR_BITS + sel->prefixlen_d;
	ret->if_id = xfrm_body_u32(b, XFRMA_IF_ID);
	ret->family = sel->family;
	memcpy(ret->addr, &sel->daddr, address_size(sel->family));
	/* The datapath would take those that differ in host bits only for one. */
	for (unsigned int bit = sel->prefixlen_d; bit < 8 * sizeof(ret->addr); bit++)
		ret->addr[bit / 8] &= (uint8_t) ~(0x80 >> bit % 8);
}

int xfrm_facts_make(const struct xfrm_body *b, const struct address *addresses,
	unsigned int n_addresses, struct record_key *ret_key, struct record_facts *ret_facts)
{
	struct ends e;
	int r = b->kind == RECORD_SA ? sa_ends(&b->sa, addresses, n_addresses, &e)
				     : policy_ends(b, addresses, n_addresses, &e);

	if (r < 0)
		return r;
	memset(ret_facts, 0, sizeof(*ret_facts));
	ret_facts->direction = (uint8_t)e.direction;
	ret_facts->pair = pair(b, &e);
	if (b->kind == RECORD_SA) {
		xfrm_facts_sa_key(&b->sa.id.daddr, b->sa.id.spi, b->sa.id.proto, b->sa.family,
			xfrm_body_mark(b), ret_key);
		ret_facts->birth = birth(b, e.direction);
		ret_facts->form = form(b);
		ret_facts->esn = b->sa.flags & XFRM_STATE_ESN;
		return is_encap_known(b, e.direction) ? 0 : -EOPNOTSUPP;
	}
	xfrm_facts_policy_key(b, ret_key);
	if (b->policy.dir == XFRM_POLICY_OUT)
		remote_selector(b, &ret_facts->remote);
	return 0;
}
