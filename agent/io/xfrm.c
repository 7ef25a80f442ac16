/* SPDX-License-Identifier: BSD-2-Clause */
#include "io/xfrm_socket.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "io/xfrm_facts.h"

#define EVENT_READS 64 /* reads in one xfrm_process(): others want their turn */
#define EVENT_BUFFER                                                                               \
	(16 * 1024 * 1024) /* bytes the kernel may queue: some 20,000 SAs made at once */
#define REQUEST_BUFFER (512 * 1024) /* bytes: the ends of several hundred requests */

struct mnl_socket *xfrm_socket_open(void)
{
	struct mnl_socket *s = mnl_socket_open2(NETLINK_XFRM, SOCK_CLOEXEC);

	if (!s)
		return NULL;
	if (mnl_socket_bind(s, 0, MNL_SOCKET_AUTOPID) < 0) {
		int e = errno;

		mnl_socket_close(s);
		errno = e;
		return NULL;
	}
	return s;
}

static int subscribe(struct mnl_socket *s)
{
	static const int groups[] = {XFRMNLGRP_SA, XFRMNLGRP_POLICY, XFRMNLGRP_EXPIRE,
		XFRMNLGRP_MIGRATE, XFRMNLGRP_MAPPING};
	int size = EVENT_BUFFER;

	/* Without the privilege the buffer is smaller and events are lost sooner, which is told. */
	(void)setsockopt(mnl_socket_get_fd(s), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	for (size_t i = 0; i < sizeof(groups) / sizeof(*groups); i++) {
		int group = groups[i];

		if (mnl_socket_setsockopt(s, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) < 0)
			return -errno;
	}
	return 0;
}

/* The ends of a whole batch of requests are to fit, and none is to bring keys back. */
static int prepare_requests(struct mnl_socket *s)
{
	int size = REQUEST_BUFFER, yes = 1;

	(void)setsockopt(mnl_socket_get_fd(s), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	return mnl_socket_setsockopt(s, NETLINK_CAP_ACK, &yes, sizeof(yes)) < 0 ? -errno : 0;
}

/* The events' socket first: it gets this process's id as port id, which others might put into their
 * requests, too; the others' are arbitrary. */
static int open_sockets(struct xfrm *x)
{
	int r;

	x->events = xfrm_socket_open();
	if (!x->events)
		return -errno;
	r = subscribe(x->events);
	if (r < 0)
		return r;
	x->requests = xfrm_socket_open();
	if (!x->requests)
		return -errno;
	r = prepare_requests(x->requests);
	if (r < 0)
		return r;
	x->portid = mnl_socket_get_portid(x->requests);
	r = xfrm_socket_probe_direction(x);
	if (r < 0)
		return r;
	x->knows_direction = r > 0;
	return 0;
}

int xfrm_open(const struct xfrm_config *config, const struct xfrm_handlers *handlers, void *ctx,
	struct xfrm **ret)
{
	struct xfrm *x;
	int r;

	if (config->n_addresses > ESPALIER_ADDRESSES)
		return -EINVAL;
	x = calloc(1, sizeof(*x));
	if (!x)
		return -ENOMEM;
	x->handlers = *handlers;
	x->ctx = ctx;
	memcpy(x->addresses, config->addresses, config->n_addresses * sizeof(*x->addresses));
	x->n_addresses = config->n_addresses;
	r = open_sockets(x);
	if (r < 0) {
		xfrm_close(x);
		return r;
	}
	*ret = x;
	return 0;
}

void xfrm_close(struct xfrm *x)
{
	if (!x)
		return;
	if (x->events)
		mnl_socket_close(x->events);
	if (x->requests)
		mnl_socket_close(x->requests);
	if (x->dumps)
		mnl_socket_close(x->dumps);
	xfrm_index_clear(&x->policies);
	free(x);
}

int xfrm_tell_counters(struct xfrm *x)
{
	int group = XFRMNLGRP_AEVENTS;

	return mnl_socket_setsockopt(x->events, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) < 0
		       ? -errno
		       : 0;
}

int xfrm_fd(const struct xfrm *x)
{
	return mnl_socket_get_fd(x->events);
}

/* It does not travel, by what it is (b->local) or by its port. */
static int tell_local(struct xfrm *x, const struct xfrm_body *b)
{
	struct record_facts facts;
	struct record_key key;
	int r = xfrm_facts_make(b, x->addresses, x->n_addresses, &key, &facts);

	if (r == 0 || r == -EOPNOTSUPP)
		x->handlers.local(x->ctx, &key, &facts,
			b->local ? b->local : "its port on our side is not 4500");
	return r == -EADDRNOTAVAIL ? r : -EOPNOTSUPP;
}

/* A policy that does not travel. */
static int tell_stays(struct xfrm *x, const struct xfrm_body *b)
{
	char text[XFRM_TEXT];
	struct record_key key;

	xfrm_facts_policy_key(b, &key);
	xfrm_text(b, text, sizeof(text));
	x->handlers.stays(x->ctx, &key, text, b->local);
	return -EOPNOTSUPP;
}

static void take_sa(const struct xfrm_body *b, struct xfrm_record *ret)
{
	xfrm_body_counters(b, &ret->oseq, &ret->seq);
	ret->made_s = b->sa.curlft.add_time;
}

int xfrm_socket_tell(struct xfrm *x, enum record_kind kind, const struct nlmsghdr *nlh)
{
	_Alignas(8) uint8_t buf[RECORD_BODY_MAX];
	struct xfrm_record record = {.body = buf};
	struct xfrm_place place;
	struct xfrm_body b;
	bool whole;
	int r;

	r = xfrm_body_parse(kind, mnl_nlmsg_get_payload(nlh), mnl_nlmsg_get_payload_len(nlh),
		XFRM_BODY_KERNEL, &b);
	whole = r == 0 || b.local;
	if (r == 0)
		r = xfrm_facts_make(&b, x->addresses, x->n_addresses, &record.key, &record.facts);
	if (r == -EOPNOTSUPP && whole)
		return kind == RECORD_SA ? tell_local(x, &b) : tell_stays(x, &b);
	if (r < 0)
		return r;
	place = xfrm_socket_place(&record.key, &b);
	r = xfrm_socket_remember(x, &place);
	if (r < 0)
		return r;
	r = xfrm_body_encode(&b, (uint64_t)time(NULL), buf, sizeof(buf));
	if (r >= 0) {
		record.body_len = (size_t)r;
		if (kind == RECORD_SA)
			take_sa(&b, &record);
		x->handlers.added(x->ctx, &record);
	}
	explicit_bzero(buf, sizeof(buf));
	return r < 0 ? r : 0;
}

int xfrm_tell(struct xfrm *x, const struct record_key *key)
{
	struct xfrm_answer answer;
	int r = xfrm_socket_get(x, key, &answer);

	if (r == 0)
		r = xfrm_socket_tell(x, key->kind, (struct nlmsghdr *)answer.data);
	explicit_bzero(&answer, sizeof(answer));
	return r;
}

/*
 * XFRM_MSG_UPDSA tells what was asked for; of a living SA the kernel takes only some of it. So what
 * it has is read. An SA that began as XFRM_MSG_ALLOCSPI is told of in no other way.
 */
static int tell_updated(struct xfrm *x, const struct nlmsghdr *nlh)
{
	struct record_key key;
	struct xfrm_body b;
	int r;

	r = xfrm_body_parse(RECORD_SA, mnl_nlmsg_get_payload(nlh), mnl_nlmsg_get_payload_len(nlh),
		XFRM_BODY_KERNEL, &b);
	if (r < 0 && !b.local)
		return r;
	xfrm_facts_sa_key(
		&b.sa.id.daddr, b.sa.id.spi, b.sa.id.proto, b.sa.family, xfrm_body_mark(&b), &key);
	r = xfrm_tell(x, &key);
	return r == -ENOENT ? 0 : r;
}

static int tell_removed(struct xfrm *x, const struct record_key *key)
{
	if (key->kind == RECORD_POLICY)
		(void)xfrm_index_drop(&x->policies, key);
	x->handlers.removed(x->ctx, key);
	return 0;
}

/* A policy that is gone: what follows the first `head` bytes are attributes. */
static int tell_policy_gone(struct xfrm *x, const struct xfrm_userpolicy_info *policy, size_t head,
	const struct nlmsghdr *nlh)
{
	const char *payload = mnl_nlmsg_get_payload(nlh);
	size_t len = mnl_nlmsg_get_payload_len(nlh), at = NLMSG_ALIGN(head);
	struct record_key key;
	struct xfrm_body b;

	if (len < at || xfrm_body_parse_gone(policy, payload + at, len - at, &b) < 0)
		return 0;
	xfrm_facts_policy_key(&b, &key);
	return tell_removed(x, &key);
}

/* One that now leads elsewhere is no longer the cluster's. */
static int tell_policy(struct xfrm *x, const struct nlmsghdr *nlh)
{
	int r = xfrm_socket_tell(x, RECORD_POLICY, nlh);

	if (r != -EADDRNOTAVAIL)
		return r;
	return tell_policy_gone(
		x, mnl_nlmsg_get_payload(nlh), sizeof(struct xfrm_userpolicy_info), nlh);
}

/* The mark that follows the first `head` bytes. */
static struct xfrm_mark mark_behind(const struct nlmsghdr *nlh, size_t head)
{
	size_t at = NLMSG_ALIGN(head), len = mnl_nlmsg_get_payload_len(nlh);

	if (len < at)
		return (struct xfrm_mark){0};
	return xfrm_body_find_mark((const char *)mnl_nlmsg_get_payload(nlh) + at, len - at);
}

/* Nothing else is told of an SA or a policy that the kernel itself ends. */
static int tell_expired(struct xfrm *x, const struct nlmsghdr *nlh)
{
	const struct xfrm_user_expire *e = mnl_nlmsg_get_payload(nlh);
	struct record_key key;

	if (mnl_nlmsg_get_payload_len(nlh) < sizeof(*e) || !e->hard)
		return 0;
	xfrm_facts_sa_key(&e->state.id.daddr, e->state.id.spi, e->state.id.proto, e->state.family,
		mark_behind(nlh, sizeof(*e)), &key);
	return tell_removed(x, &key);
}

static int tell_policy_expired(struct xfrm *x, const struct nlmsghdr *nlh)
{
	const struct xfrm_user_polexpire *e = mnl_nlmsg_get_payload(nlh);

	if (mnl_nlmsg_get_payload_len(nlh) < sizeof(*e) || !e->hard)
		return 0;
	return tell_policy_gone(x, &e->pol, sizeof(*e), nlh);
}

static int tell_deleted(struct xfrm *x, const struct nlmsghdr *nlh)
{
	const struct xfrm_usersa_id *id = mnl_nlmsg_get_payload(nlh);
	struct record_key key;

	if (mnl_nlmsg_get_payload_len(nlh) < sizeof(*id))
		return -EBADMSG;
	xfrm_facts_sa_key(
		&id->daddr, id->spi, id->proto, id->family, mark_behind(nlh, sizeof(*id)), &key);
	return tell_removed(x, &key);
}

/* XFRM_MSG_FLUSHSA begins with the protocol; 0 and 255 (IPSEC_PROTO_ANY) are all. */
static int tell_flushed(struct xfrm *x, const struct nlmsghdr *nlh)
{
	const struct xfrm_usersa_flush *flush = mnl_nlmsg_get_payload(nlh);

	if (mnl_nlmsg_get_payload_len(nlh) < sizeof(*flush))
		return -EBADMSG;
	if (flush->proto != 0 && flush->proto != 255 && flush->proto != IPPROTO_ESP &&
		flush->proto != IPPROTO_COMP)
		return 0;
	x->handlers.flushed(x->ctx, RECORD_SA);
	return 0;
}

/* XFRM_MSG_FLUSHPOLICY: attributes only, the type of the policies among them. */
static int tell_policies_flushed(struct xfrm *x, const struct nlmsghdr *nlh)
{
	const struct xfrm_userpolicy_info none = {0};
	struct xfrm_body b;

	if (xfrm_body_parse_gone(
		    &none, mnl_nlmsg_get_payload(nlh), mnl_nlmsg_get_payload_len(nlh), &b) < 0)
		return 0; /* of another type */
	xfrm_index_clear(&x->policies);
	x->handlers.flushed(x->ctx, RECORD_POLICY);
	return 0;
}

static int tell_counters(struct xfrm *x, const struct nlmsghdr *nlh)
{
	struct record_key key;
	struct xfrm_body b;
	uint64_t oseq, seq;
	int r = xfrm_body_parse_aevent(
		mnl_nlmsg_get_payload(nlh), mnl_nlmsg_get_payload_len(nlh), &b);

	if (r < 0 || b.sa.id.proto != IPPROTO_ESP)
		return r;
	xfrm_facts_sa_key(
		&b.sa.id.daddr, b.sa.id.spi, b.sa.id.proto, b.sa.family, xfrm_body_mark(&b), &key);
	xfrm_body_counters(&b, &oseq, &seq);
	x->handlers.counters(x->ctx, &key, oseq, seq);
	return 0;
}

static struct address address_of(uint16_t family, const xfrm_address_t *a)
{
	struct address address = {.family = family};

	memcpy(address.bytes, a, family == AF_INET ? 4 : sizeof(address.bytes));
	return address;
}

static int tell_mapping(struct xfrm *x, const struct nlmsghdr *nlh)
{
	const struct xfrm_user_mapping *m = mnl_nlmsg_get_payload(nlh);
	struct xfrm_place_change change;
	struct record_key key;

	if (mnl_nlmsg_get_payload_len(nlh) < sizeof(*m))
		return -EBADMSG;
	xfrm_facts_sa_key(
		&m->id.daddr, m->id.spi, m->id.proto, m->id.family, (struct xfrm_mark){0}, &key);
	change = (struct xfrm_place_change){
		.from = address_of(m->id.family, &m->old_saddr),
		.to = address_of(m->id.family, &m->new_saddr),
		.port = m->new_sport,
	};
	x->handlers.mapping(x->ctx, &key, &change);
	return 0;
}

static int dispatch(struct xfrm *x, const struct nlmsghdr *nlh)
{
	switch (nlh->nlmsg_type) {
	case XFRM_MSG_NEWSA:
		return xfrm_socket_tell(x, RECORD_SA, nlh);
	case XFRM_MSG_UPDSA:
		return tell_updated(x, nlh);
	case XFRM_MSG_DELSA:
		return tell_deleted(x, nlh);
	case XFRM_MSG_EXPIRE:
		return tell_expired(x, nlh);
	case XFRM_MSG_FLUSHSA:
		return tell_flushed(x, nlh);
	case XFRM_MSG_NEWPOLICY:
	case XFRM_MSG_UPDPOLICY:
		return tell_policy(x, nlh);
	case XFRM_MSG_DELPOLICY:
		return tell_policy_gone(x, NULL, sizeof(struct xfrm_userpolicy_id), nlh);
	case XFRM_MSG_POLEXPIRE:
		return tell_policy_expired(x, nlh);
	case XFRM_MSG_FLUSHPOLICY:
		return tell_policies_flushed(x, nlh);
	case XFRM_MSG_NEWAE:
		return tell_counters(x, nlh);
	case XFRM_MSG_MAPPING:
		return tell_mapping(x, nlh);
	case XFRM_MSG_MIGRATE:
		x->handlers.changed(x->ctx);
		return 0;
	}
	if (nlh->nlmsg_type > XFRM_MSG_MAX)
		x->handlers.changed(x->ctx);
	return 0;
}

struct run {
	struct xfrm *x;
	int error; /* the first that the agent should know of */
};

void xfrm_socket_note(int *error, int r)
{
	if (r < 0 && r != -EADDRNOTAVAIL && r != -EOPNOTSUPP && *error == 0)
		*error = r;
}

static int on_event(const struct nlmsghdr *nlh, void *data)
{
	struct run *run = data;

	if (nlh->nlmsg_pid != run->x->portid)
		xfrm_socket_note(&run->error, dispatch(run->x, nlh));
	return MNL_CB_OK;
}

int xfrm_process(struct xfrm *x)
{
	_Alignas(8) char buf[XFRM_RECEIVE_SIZE];
	struct run run = {.x = x};

	for (int i = 0; i < EVENT_READS; i++) {
		ssize_t n = recv(xfrm_fd(x), buf, sizeof(buf), MSG_DONTWAIT);

		if (n < 0 && errno == ENOBUFS) {
			x->handlers.overrun(x->ctx);
			continue;
		}
		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? run.error : -errno;
		(void)mnl_cb_run(buf, (size_t)n, 0, 0, on_event, &run);
		explicit_bzero(buf, (size_t)n);
	}
	return run.error;
}
