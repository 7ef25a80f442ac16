/* SPDX-License-Identifier: BSD-2-Clause */
/* xfrm_follow.c - a peer is at another address or UDP port: its SAs and policies go there. */
#include "io/xfrm_socket.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "io/xfrm_facts.h"

static size_t address_size(uint16_t family)
{
	return family == AF_INET ? 4 : 16;
}

static bool is_address(const xfrm_address_t *a, uint16_t family, const struct address *address)
{
	return family == address->family && memcmp(a, address->bytes, address_size(family)) == 0;
}

static void put_attrs(struct xfrm_request *request, const struct xfrm_body *b)
{
	for (uint16_t type = 0; type < (uint16_t)XFRM_BODY_ATTRS; type++)
		if (b->attr[type])
			xfrm_socket_put(request, type, mnl_attr_get_payload(b->attr[type]),
				mnl_attr_get_payload_len(b->attr[type]));
}

/* All of it, with its counters: as it is, or as it is to be. */
static int send_sa(struct xfrm *x, uint16_t type, const struct xfrm_body *b)
{
	struct xfrm_request request;
	struct xfrm_usersa_info *sa = xfrm_socket_begin(&request, type, 0, sizeof(*sa));

	*sa = b->sa;
	memset(&sa->curlft, 0, sizeof(sa->curlft)); /* XFRMA_LTIME_VAL says it */
	sa->seq = 0; /* of the XFRM_MSG_ACQUIRE that it answered */
	put_attrs(&request, b);
	return xfrm_socket_transact(x, &request, NULL);
}

static void set_port(struct xfrm_body *b, bool out, __be16 port)
{
	struct xfrm_encap_tmpl *encap;

	if (!b->attr[XFRMA_ENCAP])
		return;
	encap = mnl_attr_get_payload(b->attr[XFRMA_ENCAP]);
	*(out ? &encap->encap_dport : &encap->encap_sport) = port;
}

/* The kernel changes ports in a living SA; addresses make it another one, whose numbers go on. */
static int move_sa(struct xfrm *x, const struct record_key *key, struct xfrm_body *b, bool out,
	const struct xfrm_place_change *change)
{
	xfrm_address_t *remote = out ? &b->sa.id.daddr : &b->sa.saddr;
	int r;

	set_port(b, out, change->port);
	if (is_address(remote, b->sa.family, &change->to))
		return send_sa(x, XFRM_MSG_UPDSA, b);
	memset(remote, 0, sizeof(*remote));
	memcpy(remote, change->to.bytes, address_size(b->sa.family));
	r = xfrm_remove(x, key);
	return r < 0 ? r : send_sa(x, XFRM_MSG_NEWSA, b);
}

static int follow_sa(struct xfrm *x, const struct record_key *key, struct xfrm_body *b,
	const struct xfrm_place_change *change, struct record_key *ret_key)
{
	struct record_facts facts;
	int r = xfrm_facts_make(b, x->addresses, x->n_addresses, ret_key, &facts);
	bool out = facts.direction == ESPALIER_OUT;

	if (r < 0)
		return r;
	if (!is_address(out ? &b->sa.id.daddr : &b->sa.saddr, b->sa.family, &change->from) ||
		b->sa.family != change->to.family)
		return -ENOENT;
	r = move_sa(x, key, b, out, change);
	return r < 0 ? r : xfrm_facts_make(b, x->addresses, x->n_addresses, ret_key, &facts);
}

static int follow_policy(
	struct xfrm *x, struct xfrm_body *b, const struct xfrm_place_change *change)
{
	size_t n, changed = 0;
	struct xfrm_user_tmpl *t = xfrm_body_templates(b, &n);
	struct xfrm_userpolicy_info *policy;
	struct xfrm_request request;

	for (size_t i = 0; i < n; i++) {
		xfrm_address_t *remote =
			b->policy.dir == XFRM_POLICY_OUT ? &t[i].id.daddr : &t[i].saddr;

		if (!is_address(remote, t[i].family, &change->from) ||
			t[i].family != change->to.family)
			continue;
		memcpy(remote, change->to.bytes, address_size(t[i].family));
		changed++;
	}
	if (!changed)
		return -ENOENT;
	policy = xfrm_socket_begin(&request, XFRM_MSG_UPDPOLICY, 0, sizeof(*policy));
	*policy = b->policy;
	put_attrs(&request, b);
	return xfrm_socket_transact(x, &request, NULL);
}

int xfrm_follow(
	struct xfrm *x, const struct record_key *key, const struct xfrm_place_change *change)
{
	enum record_kind kind = (enum record_kind)key->kind;
	struct record_key now = *key;
	struct xfrm_answer answer;
	struct xfrm_body b;
	int r = xfrm_socket_get(x, key, &answer);
	const struct nlmsghdr *nlh = (const struct nlmsghdr *)answer.data;

	if (r == 0)
		r = xfrm_body_parse(kind, mnl_nlmsg_get_payload(nlh),
			mnl_nlmsg_get_payload_len(nlh), XFRM_BODY_KERNEL, &b);
	if (r == 0)
		r = kind == RECORD_SA ? follow_sa(x, key, &b, change, &now)
				      : follow_policy(x, &b, change);
	/* Our own echo is not told. */
	if (r == 0)
		r = xfrm_socket_get(x, &now, &answer);
	if (r == 0)
		r = xfrm_socket_tell(x, kind, nlh);
	explicit_bzero(&answer, sizeof(answer));
	return r;
}
