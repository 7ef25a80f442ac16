/* SPDX-License-Identifier: BSD-2-Clause */
#include "io/xfrm_socket.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "io/xfrm_facts.h"

#define BATCH_MESSAGES 64 /* their ends fit the buffer that xfrm.c asks for */
#define BATCH_SIZE 32768 /* bytes: some 70 SAs */
#define NO_ANSWER 1 /* a result, for now */

/* Requests that the kernel gets at once. To be wiped after use. */
struct batch {
	_Alignas(8) char data[BATCH_SIZE];
	size_t len;
	unsigned int n;
	uint32_t first; /* the sequence number of the first one */
	struct record_install *items[BATCH_MESSAGES];
	struct xfrm_place places[BATCH_MESSAGES];
};

/* A body taken apart; its attributes point to the copy of it. To be wiped after use. */
struct parsed {
	_Alignas(8) uint8_t data[RECORD_BODY_MAX];
	struct xfrm_body body;
};

/* A body is what its sender says only if the key and the facts follow from it. */
static int check(
	const struct xfrm *x, const struct record_install *item, const struct xfrm_body *body)
{
	const struct record_facts *facts = item->facts;
	struct record_facts own;
	struct record_key own_key;
	int r = xfrm_facts_make(body, x->addresses, x->n_addresses, &own_key, &own);

	if (r < 0)
		return r;
	if (memcmp(item->key, &own_key, sizeof(own_key)) != 0 ||
		!record_is_birth(facts, own.birth, &own_key) || facts->form != own.form ||
		facts->pair != own.pair || facts->direction != own.direction ||
		facts->esn != own.esn || facts->limited != own.limited || facts->spi != own.spi ||
		memcmp(&facts->remote, &own.remote, sizeof(own.remote)) != 0)
		return -EBADMSG;
	return 0;
}

static int parse(const struct xfrm *x, const struct record_install *item, struct parsed *ret)
{
	uint8_t kind = item->key->kind;
	int r;

	if (item->body_len > sizeof(ret->data) || (kind != RECORD_SA && kind != RECORD_POLICY))
		return -EBADMSG;
	memcpy(ret->data, item->body, item->body_len);
	r = xfrm_body_parse(kind, ret->data, item->body_len, XFRM_BODY_MEMBER, &ret->body);
	return r < 0 ? r : check(x, item, &ret->body);
}

static void put_attrs(struct xfrm_request *request, const struct xfrm_body *b)
{
	for (uint16_t type = 0; type < (uint16_t)XFRM_BODY_ATTRS; type++)
		if (b->attr[type])
			xfrm_socket_put(request, type, mnl_attr_get_payload(b->attr[type]),
				mnl_attr_get_payload_len(b->attr[type]));
}

/* That of the one whose place it takes, which is of the same mode. */
static bool put_replay_of(
	struct xfrm_request *request, const struct xfrm_body *b, const struct xfrm_body *before)
{
	uint16_t type = b->attr[XFRMA_REPLAY_ESN_VAL] ? XFRMA_REPLAY_ESN_VAL : XFRMA_REPLAY_VAL;
	const struct nlattr *a = before ? before->attr[type] : NULL;

	if (a)
		xfrm_socket_put(
			request, type, mnl_attr_get_payload(a), mnl_attr_get_payload_len(a));
	return a;
}

static int put_legacy(
	struct xfrm_request *request, const struct xfrm_body *b, uint64_t oseq, uint64_t seq)
{
	struct xfrm_replay_state legacy = {.oseq = (uint32_t)oseq};

	if (oseq > UINT32_MAX || seq > UINT32_MAX)
		return -ERANGE;
	if (b->sa.replay_window && seq)
		xfrm_window_raise_legacy(&legacy, seq);
	xfrm_socket_put(request, XFRMA_REPLAY_VAL, &legacy, sizeof(legacy));
	return 0;
}

/*
 * The replay state of a new SA: outbound from `oseq` on, inbound above `seq`. Kernels without
 * XFRMA_SA_DIR want a window in an outbound SA with ESN too; kernels with it want none, and no
 * counter of the other direction.
 */
static int put_replay(
	struct xfrm_request *request, const struct xfrm_body *b, uint64_t oseq, uint64_t seq)
{
	const struct xfrm_replay_state_esn *from;
	struct {
		struct xfrm_replay_state_esn esn;
		uint32_t bitmap[XFRMA_REPLAY_ESN_MAX / 32];
	} state = {.esn = {.oseq = (uint32_t)oseq, .oseq_hi = (uint32_t)(oseq >> 32)}};
	struct xfrm_replay_state_esn *esn = &state.esn;

	if (!b->attr[XFRMA_REPLAY_ESN_VAL])
		return put_legacy(request, b, oseq, seq);
	from = mnl_attr_get_payload(b->attr[XFRMA_REPLAY_ESN_VAL]);
	esn->bmp_len = from->bmp_len;
	esn->replay_window = from->replay_window;
	if (esn->replay_window == 0 && !b->attr[XFRM_BODY_SA_DIR]) {
		esn->replay_window = 1;
		esn->bmp_len = esn->bmp_len ? esn->bmp_len : 1;
	}
	if (seq)
		xfrm_window_raise_esn(esn, seq);
	xfrm_socket_put(request, XFRMA_REPLAY_ESN_VAL, esn,
		sizeof(*esn) + esn->bmp_len * sizeof(esn->bmp[0]));
	return 0;
}

/* before: the one in our kernel whose place an inbound one takes, or NULL. */
static int make_sa(const struct xfrm *x, uint16_t type, const struct record_install *item,
	struct xfrm_body b, const struct xfrm_body *before, struct xfrm_request *request)
{
	bool out = item->facts->direction == ESPALIER_OUT;
	struct xfrm_lifetime_cur used = b.sa.curlft;
	struct xfrm_usersa_info *sa;
	uint64_t now = (uint64_t)time(NULL);
	int r = 0;

	sa = xfrm_socket_begin(request, type, 0, sizeof(*sa));
	*sa = b.sa;
	memset(&sa->curlft, 0, sizeof(sa->curlft));
	used.add_time = now > used.add_time ? now - used.add_time : 0;
	(void)xfrm_socket_use(&used, &item->used);
	xfrm_socket_put(request, XFRMA_LTIME_VAL, &used, sizeof(used));
	if (!x->knows_direction)
		b.attr[XFRM_BODY_SA_DIR] = NULL;
	if (out || !put_replay_of(request, &b, before))
		r = put_replay(request, &b, out ? item->oseq : 0, out ? 0 : item->seq);
	b.attr[XFRMA_REPLAY_ESN_VAL] = NULL;
	put_attrs(request, &b);
	return r;
}

/* Unlike XFRM_MSG_NEWPOLICY this makes or replaces. */
static int make_policy(const struct xfrm_body *b, struct xfrm_request *request)
{
	struct xfrm_userpolicy_info *policy =
		xfrm_socket_begin(request, XFRM_MSG_UPDPOLICY, 0, sizeof(*policy));

	*policy = b->policy;
	policy->index = 0;
	put_attrs(request, b);
	return 0;
}

static int make(const struct xfrm *x, const struct record_install *item, const struct xfrm_body *b,
	struct xfrm_request *request)
{
	return b->kind == RECORD_SA ? make_sa(x, XFRM_MSG_NEWSA, item, *b, NULL, request)
				    : make_policy(b, request);
}

/* Carries a request out, which is whole if r is 0. */
static int carry_out(struct xfrm *x, struct xfrm_request *request, int r)
{
	if (r == 0)
		return xfrm_socket_transact(x, request, NULL);
	explicit_bzero(request, sizeof(*request));
	return r;
}

/* What the kernel has under a key. To be wiped after use. */
struct present {
	struct xfrm_answer answer;
	struct xfrm_body body;
	struct record_facts facts; /* all zero: a larval SA, or one that does not travel */
};

static int read_present(struct xfrm *x, const struct record_key *key, struct present *ret)
{
	const struct nlmsghdr *nlh = (const struct nlmsghdr *)ret->answer.data;
	struct record_key own;
	int r = xfrm_socket_get(x, key, &ret->answer);

	memset(&ret->facts, 0, sizeof(ret->facts));
	if (r < 0)
		return r;
	r = xfrm_body_parse(RECORD_SA, mnl_nlmsg_get_payload(nlh), mnl_nlmsg_get_payload_len(nlh),
		XFRM_BODY_KERNEL, &ret->body);
	if (r == 0)
		r = xfrm_facts_make(&ret->body, x->addresses, x->n_addresses, &own, &ret->facts);
	return r == -EOPNOTSUPP ? 0 : r;
}

/*
 * XFRM_MSG_UPDSA of a living SA: limits, ports of the encapsulation, marks that it sets. The kernel
 * leaves its counters alone, and of what else differs it says nothing. -EXDEV: it is not what it
 * should be.
 */
static int update(struct xfrm *x, const struct record_install *item, const struct xfrm_body *b,
	struct present *present)
{
	struct xfrm_request request;
	int r;

	if (present->facts.form == item->facts->form)
		return 0;
	r = carry_out(x, &request, make_sa(x, XFRM_MSG_UPDSA, item, *b, NULL, &request));
	if (r == 0)
		r = read_present(x, item->key, present);
	return r == 0 && present->facts.form == item->facts->form ? 0 : -EXDEV;
}

/* Takes its place: outbound, from `oseq` on at least; inbound, with its window. */
static int replace(struct xfrm *x, const struct record_install *item, const struct xfrm_body *b,
	const struct present *present)
{
	bool same = record_is_birth(item->facts, present->facts.birth, item->key);
	struct record_install above = *item;
	struct xfrm_request request;
	uint64_t oseq = 0, seq;
	int r;

	if (same)
		xfrm_body_counters(&present->body, &oseq, &seq);
	above.oseq = oseq > item->oseq ? oseq : item->oseq;
	r = xfrm_remove(x, item->key);
	if (r < 0)
		return r;
	return carry_out(x, &request,
		make_sa(x, XFRM_MSG_NEWSA, &above, *b, same ? &present->body : NULL, &request));
}

/* An SA where there is one under its key. */
static int install_over(
	struct xfrm *x, const struct record_install *item, const struct xfrm_body *b)
{
	struct present present;
	int r = read_present(x, item->key, &present);
	bool same = r == 0 && record_is_birth(item->facts, present.facts.birth, item->key);

	if (same)
		r = update(x, item, b, &present);
	if (r == -EXDEV || (r == 0 && !same))
		r = replace(x, item, b, &present);
	else if (r == 0 && item->facts->direction == ESPALIER_OUT)
		r = xfrm_move(x, item->key, item->oseq);
	/* What the kernel takes meanwhile is in its window, but for a moment. */
	if (r == 0 && item->facts->direction == ESPALIER_IN && item->seq) {
		r = xfrm_raise(x, item->key, item->seq);
		r = r == -EAGAIN ? 0 : r;
	}
	explicit_bzero(&present, sizeof(present));
	return r;
}

/* -ENOENT: another one, or none, is under its key. */
static int update_alone(struct xfrm *x, const struct record_install *item)
{
	struct present present;
	struct parsed parsed;
	int r = parse(x, item, &parsed);

	if (r == 0)
		r = read_present(x, item->key, &present);
	if (r == 0)
		r = record_is_birth(item->facts, present.facts.birth, item->key)
			    ? update(x, item, &parsed.body, &present)
			    : -ENOENT;
	explicit_bzero(&present, sizeof(present));
	explicit_bzero(&parsed, sizeof(parsed));
	return r;
}

/* What a batch alone did not do. */
static int install_alone(struct xfrm *x, const struct record_install *item, int result)
{
	bool known = xfrm_index_find(&x->policies, item->key);
	struct xfrm_request request;
	struct xfrm_place place;
	struct parsed parsed;
	int r = parse(x, item, &parsed);

	if (r == 0) {
		place = xfrm_socket_place(item->key, &parsed.body);
		r = xfrm_socket_remember(x, &place);
	}
	if (r == 0 && result == NO_ANSWER)
		r = carry_out(x, &request, make(x, item, &parsed.body, &request));
	else if (r == 0)
		r = result;
	if (r == -EEXIST && item->key->kind == RECORD_SA)
		r = install_over(x, item, &parsed.body);
	if (r < 0 && !known)
		(void)xfrm_index_drop(&x->policies, item->key);
	explicit_bzero(&parsed, sizeof(parsed));
	return r;
}

/* The ends of a batch's requests, which the kernel has ready. One that is lost (ENOBUFS) leaves its
 * item without an answer. */
static void collect(struct xfrm *x, struct batch *batch)
{
	struct {
		struct nlmsghdr nlh;
		struct nlmsgerr end;
	} answer;
	unsigned int answered = 0;

	while (answered < batch->n) {
		ssize_t n =
			recv(mnl_socket_get_fd(x->requests), &answer, sizeof(answer), MSG_DONTWAIT);
		uint32_t i = answer.nlh.nlmsg_seq - batch->first;

		if (n < 0 && (errno == EINTR || errno == ENOBUFS))
			continue;
		if (n < 0)
			return;
		if ((size_t)n < sizeof(answer) || answer.nlh.nlmsg_type != NLMSG_ERROR ||
			i >= batch->n)
			continue; /* of an earlier request whose wait failed */
		batch->items[i]->result = answer.end.error;
		answered++;
	}
}

/* An SA that is there already, and what has no answer, goes alone; the rest is done. */
static void finish(struct xfrm *x, struct record_install *item, const struct xfrm_place *place)
{
	if (item->result == 0)
		item->result = xfrm_socket_remember(x, place);
	else if (item->result == -EEXIST || item->result == NO_ANSWER)
		item->result = install_alone(x, item, item->result);
}

static void send_batch(struct xfrm *x, struct batch *batch)
{
	if (batch->n > 0 && mnl_socket_sendto(x->requests, batch->data, batch->len) >= 0)
		collect(x, batch);
	explicit_bzero(batch->data, batch->len);
	for (unsigned int i = 0; i < batch->n; i++)
		finish(x, batch->items[i], &batch->places[i]);
	batch->n = 0;
	batch->len = 0;
}

static void add(struct xfrm *x, struct batch *batch, struct record_install *item,
	const struct xfrm_place *place, const struct xfrm_request *request)
{
	struct nlmsghdr *nlh = (struct nlmsghdr *)request->data;
	size_t len = NLMSG_ALIGN(nlh->nlmsg_len);

	if (batch->n == BATCH_MESSAGES || batch->len + len > sizeof(batch->data))
		send_batch(x, batch);
	xfrm_socket_address(x, nlh);
	if (batch->n == 0)
		batch->first = nlh->nlmsg_seq;
	memcpy(batch->data + batch->len, nlh, len);
	batch->len += len;
	batch->items[batch->n] = item;
	batch->places[batch->n++] = *place;
	item->result = NO_ANSWER;
}

void xfrm_install(struct xfrm *x, struct record_install *list, unsigned int n)
{
	struct xfrm_request request;
	struct xfrm_place place;
	struct parsed parsed;
	struct batch batch;

	batch.n = 0;
	batch.len = 0;
	for (unsigned int i = 0; i < n; i++) {
		if (list[i].update) {
			list[i].result = update_alone(x, &list[i]);
			continue;
		}
		list[i].result = parse(x, &list[i], &parsed);
		if (list[i].result == 0)
			list[i].result = make(x, &list[i], &parsed.body, &request);
		if (list[i].result < 0)
			continue;
		place = xfrm_socket_place(list[i].key, &parsed.body);
		add(x, &batch, &list[i], &place, &request);
	}
	send_batch(x, &batch);
	explicit_bzero(&request, sizeof(request));
	explicit_bzero(&parsed, sizeof(parsed));
}
