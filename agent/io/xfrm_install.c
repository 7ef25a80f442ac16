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
	if (memcmp(item->key, &own_key, sizeof(own_key)) != 0 || facts->birth != own.birth ||
		facts->pair != own.pair || facts->direction != own.direction ||
		facts->esn != own.esn ||
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

/*
 * The replay state of a new SA. Kernels without XFRMA_SA_DIR want a window in an outbound SA with
 * ESN too; kernels with it want none, and no counter of the other direction.
 */
static int put_replay(struct xfrm_request *request, const struct xfrm_body *b, uint64_t oseq)
{
	const struct xfrm_replay_state_esn *from;
	struct xfrm_replay_state_esn esn = {
		.oseq = (uint32_t)oseq, .oseq_hi = (uint32_t)(oseq >> 32)};

	if (!b->attr[XFRMA_REPLAY_ESN_VAL]) {
		struct xfrm_replay_state legacy = {.oseq = (uint32_t)oseq};

		if (oseq > UINT32_MAX)
			return -ERANGE;
		xfrm_socket_put(request, XFRMA_REPLAY_VAL, &legacy, sizeof(legacy));
		return 0;
	}
	from = mnl_attr_get_payload(b->attr[XFRMA_REPLAY_ESN_VAL]);
	esn.bmp_len = from->bmp_len;
	esn.replay_window = from->replay_window;
	if (esn.replay_window == 0 && !b->attr[XFRM_BODY_SA_DIR]) {
		esn.replay_window = 1;
		esn.bmp_len = esn.bmp_len ? esn.bmp_len : 1;
	}
	xfrm_socket_put(request, XFRMA_REPLAY_ESN_VAL, &esn, sizeof(esn));
	return 0;
}

static int make_sa(const struct xfrm *x, uint16_t type, const struct record_install *item,
	struct xfrm_body b, struct xfrm_request *request)
{
	struct xfrm_lifetime_cur used = b.sa.curlft;
	struct xfrm_usersa_info *sa;
	uint64_t now = (uint64_t)time(NULL);
	int r;

	sa = xfrm_socket_begin(request, type, 0, sizeof(*sa));
	*sa = b.sa;
	memset(&sa->curlft, 0, sizeof(sa->curlft));
	used.add_time = now > used.add_time ? now - used.add_time : 0;
	xfrm_socket_put(request, XFRMA_LTIME_VAL, &used, sizeof(used));
	if (!x->knows_direction)
		b.attr[XFRM_BODY_SA_DIR] = NULL;
	r = put_replay(request, &b, item->facts->direction == ESPALIER_OUT ? item->oseq : 0);
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
	return b->kind == RECORD_SA ? make_sa(x, XFRM_MSG_NEWSA, item, *b, request)
				    : make_policy(b, request);
}

/* Makes a request by `type`, or the one that makes the record, and carries it out. */
static int carry_out(
	struct xfrm *x, uint16_t type, const struct record_install *item, const struct xfrm_body *b)
{
	struct xfrm_request request;
	int r = type ? make_sa(x, type, item, *b, &request) : make(x, item, b, &request);

	if (r == 0)
		return xfrm_socket_transact(x, &request, NULL);
	explicit_bzero(&request, sizeof(request));
	return r;
}

/* What the kernel has under this key: its birth, and whether its body is the same but for its use.
 * A larval SA has no birth. */
static int read_present(
	struct xfrm *x, const struct record_install *item, uint64_t *ret_birth, bool *ret_same)
{
	const size_t use = offsetof(struct xfrm_usersa_info, curlft),
		     behind = use + sizeof(struct xfrm_lifetime_cur);
	_Alignas(8) uint8_t buf[RECORD_BODY_MAX];
	const uint8_t *body = item->body;
	struct record_facts facts;
	struct record_key key;
	struct xfrm_body b;
	int r = xfrm_read(x, item->key, buf, sizeof(buf));

	*ret_birth = 0;
	*ret_same = r > 0 && (size_t)r == item->body_len && memcmp(buf, body, use) == 0 &&
		    memcmp(buf + behind, body + behind, (size_t)r - behind) == 0;
	if (r == -EOPNOTSUPP)
		return 0;
	if (r > 0)
		r = xfrm_body_parse(RECORD_SA, buf, (size_t)r, XFRM_BODY_MEMBER, &b);
	if (r == 0)
		r = xfrm_facts_make(&b, x->addresses, x->n_addresses, &key, &facts);
	if (r == 0)
		*ret_birth = facts.birth;
	explicit_bzero(buf, sizeof(buf));
	return r;
}

/*
 * XFRM_MSG_UPDSA of a living SA: limits, ports of the encapsulation, marks that it sets. The kernel
 * leaves its counters alone.
 */
static int keep(
	struct xfrm *x, const struct record_install *item, const struct xfrm_body *b, bool same)
{
	int r = same ? 0 : carry_out(x, XFRM_MSG_UPDSA, item, b);

	if (r < 0 || item->facts->direction != ESPALIER_OUT)
		return r;
	return xfrm_move(x, item->key, item->oseq);
}

/* An SA where there is one under its key. */
static int install_over(
	struct xfrm *x, const struct record_install *item, const struct xfrm_body *b)
{
	struct xfrm_place place = xfrm_socket_place(item->key, b);
	uint64_t birth;
	bool same;
	int r = read_present(x, item, &birth, &same);

	if (r < 0)
		return r;
	if (birth == item->facts->birth)
		return keep(x, item, b, same);
	r = xfrm_remove(x, item->key);
	if (r == 0)
		r = xfrm_socket_remember(x, &place);
	return r < 0 ? r : carry_out(x, 0, item, b);
}

/* What a batch alone did not do. */
static int install_alone(struct xfrm *x, const struct record_install *item, int result)
{
	bool known = xfrm_index_find(&x->index[item->key->kind], item->key);
	struct xfrm_place place;
	struct parsed parsed;
	int r = parse(x, item, &parsed);

	if (r == 0) {
		place = xfrm_socket_place(item->key, &parsed.body);
		r = xfrm_socket_remember(x, &place);
	}
	if (r == 0)
		r = result == NO_ANSWER ? carry_out(x, 0, item, &parsed.body) : result;
	if (r == -EEXIST && item->key->kind == RECORD_SA)
		r = install_over(x, item, &parsed.body);
	if (r < 0 && !known)
		(void)xfrm_index_drop(&x->index[item->key->kind], item->key);
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
