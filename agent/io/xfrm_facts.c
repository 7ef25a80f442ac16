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

/* A compression has no keys, and its CPIs (RFC 3173) are few: by its addresses it is told apart. */
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
	if (b->sa.id.proto == RECORD_IPCOMP) {
		put_algorithm(&in, b, XFRMA_ALG_COMP);
		put_u32(&in, b->sa.family);
		put_address(&in, b->sa.family, &b->sa.saddr);
		put_address(&in, b->sa.family, &b->sa.id.daddr);
	}
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

/* As good as none: XFRM_INF is 2^64 - 1, and libreswan puts 2^63 for it. */
#define NO_LIMIT (1ULL << 63)

static bool is_limited(const struct xfrm_lifetime_cfg *limits)
{
	return limits->soft_byte_limit < NO_LIMIT || limits->hard_byte_limit < NO_LIMIT ||
	       limits->soft_packet_limit < NO_LIMIT || limits->hard_packet_limit < NO_LIMIT;
}

/* Where a record leads. */
struct ends {
	enum espalier_direction direction;
	uint16_t family;
	const xfrm_address_t *local, *remote;
	uint32_t reqid;
	__be32 spi; /* a template's; 0: any */
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
	*ret = (struct ends){ESPALIER_IN, sa->family, &sa->id.daddr, &sa->saddr, sa->reqid, 0};
	if (is_cluster_address(sa->family, &sa->id.daddr, addresses, n))
		return 0;
	*ret = (struct ends){ESPALIER_OUT, sa->family, &sa->saddr, &sa->id.daddr, sa->reqid, 0};
	return is_cluster_address(sa->family, &sa->saddr, addresses, n) ? 0 : -EADDRNOTAVAIL;
}

static bool is_any(uint16_t family, const xfrm_address_t *a)
{
	static const xfrm_address_t any;

	return memcmp(a, &any, address_size(family)) == 0;
}

/* What a template leaves to the packet: that is, to the template before it, which wraps it up, or
 * to the policy's selector, if that is of one address. */
static struct ends packet_ends(const struct xfrm_userpolicy_info *policy)
{
	const struct xfrm_selector *sel = &policy->sel;
	static const xfrm_address_t any;
	const xfrm_address_t *src = &any, *dst = &any;

	if (sel->prefixlen_s == address_size(sel->family) * 8)
		src = &sel->saddr;
	if (sel->prefixlen_d == address_size(sel->family) * 8)
		dst = &sel->daddr;
	if (policy->dir == XFRM_POLICY_OUT)
		return (struct ends){ESPALIER_OUT, sel->family, src, dst, 0, 0};
	return (struct ends){ESPALIER_IN, sel->family, dst, src, 0, 0};
}

static struct ends template_ends(const struct xfrm_user_tmpl *t, const struct ends *packet)
{
	bool out = packet->direction == ESPALIER_OUT;
	struct ends e = {packet->direction, t->family, out ? &t->saddr : &t->id.daddr,
		out ? &t->id.daddr : &t->saddr, t->reqid, t->id.spi};

	if (t->mode != XFRM_MODE_TRANSPORT || packet->family != t->family)
		return e;
	if (is_any(e.family, e.local))
		e.local = packet->local;
	if (is_any(e.family, e.remote))
		e.remote = packet->remote;
	return e;
}

/*
 * 1: an ESP template leads to a cluster address. 0: a policy without one, which is the cluster's
 * all the same. -EADDRNOTAVAIL: its templates say that it leads to another address of this machine.
 */
static int policy_ends(const struct xfrm_body *b, const struct address *addresses, unsigned int n,
	struct ends *ret)
{
	struct ends packet = packet_ends(&b->policy);
	bool ours = false, others = false;
	size_t n_templates;
	const struct xfrm_user_tmpl *t = xfrm_body_templates(b, &n_templates);

	ret->direction = packet.direction;
	for (size_t i = 0; i < n_templates; i++) {
		struct ends e = template_ends(&t[i], &packet);
		bool here = is_cluster_address(e.family, e.local, addresses, n);

		if (here && t[i].id.proto == IPPROTO_ESP) {
			*ret = e;
			return 1;
		}
		ours |= here;
		others |= !here && !is_any(e.family, e.local) && e.local != packet.local;
		if (t[i].mode != XFRM_MODE_TRANSPORT)
			packet = e;
	}
	return others && !ours ? -EADDRNOTAVAIL : 0;
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

#define LABEL_HASHED 512 /* more bytes than any label has */

void xfrm_facts_policy_key(const struct xfrm_body *b, struct record_key *ret)
{
	const struct xfrm_selector *sel = &b->policy.sel;
	const struct nlattr *label = b->attr[XFRMA_SEC_CTX];
	size_t label_len = label ? mnl_attr_get_payload_len(label) : 0;
	struct xfrm_mark mark = xfrm_body_mark(b);
	struct input in = {.len = 0};

	*ret = (struct record_key){
		.kind = RECORD_POLICY, .proto = b->policy.dir, .family = sel->family};
	put_u32(&in, b->policy.dir);
	put_selector(&in, sel);
	put(&in, &mark, sizeof(mark));
	put_u32(&in, xfrm_body_u32(b, XFRMA_IF_ID));
	if (sel->ifindex != 0)
		put_u32(&in, (uint32_t)sel->ifindex);
	if (label)
		put(&in, mnl_attr_get_payload(label),
			label_len < LABEL_HASHED ? label_len : LABEL_HASHED);
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

static int sa_facts(const struct xfrm_body *b, const struct ends *e, struct record_key *key,
	struct record_facts *f)
{
	xfrm_facts_sa_key(&b->sa.id.daddr, b->sa.id.spi, b->sa.id.proto, b->sa.family,
		xfrm_body_mark(b), key);
	f->birth = birth(b, e->direction);
	f->form = form(b);
	f->pair = pair(b, e);
	if (key->proto == RECORD_IPCOMP) {
		f->direction = ESPALIER_IN;
		return 0;
	}
	f->esn = b->sa.flags & XFRM_STATE_ESN;
	f->limited = is_limited(&b->sa.lft);
	return is_encap_known(b, e->direction) ? 0 : -EOPNOTSUPP;
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
	if (b->kind == RECORD_SA)
		return sa_facts(b, &e, ret_key, ret_facts);
	if (r > 0)
		ret_facts->pair = pair(b, &e);
	xfrm_facts_policy_key(b, ret_key);
	if (b->policy.dir == XFRM_POLICY_OUT)
		remote_selector(b, &ret_facts->remote);
	if (b->policy.dir == XFRM_POLICY_OUT && r > 0)
		ret_facts->spi = e.spi;
	return 0;
}
