/* SPDX-License-Identifier: BSD-2-Clause */
#include "io/xfrm_socket.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "io/xfrm_facts.h"

void *xfrm_socket_begin(struct xfrm_request *request, uint16_t type, uint16_t flags, size_t head)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(request->data);

	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = NLM_F_REQUEST | flags;
	return mnl_nlmsg_put_extra_header(nlh, head);
}

void xfrm_socket_put(struct xfrm_request *request, uint16_t type, const void *data, size_t len)
{
	mnl_attr_put((struct nlmsghdr *)request->data, type, len, data);
}

static int on_answer(const struct nlmsghdr *nlh, void *data)
{
	struct xfrm_answer *answer = data;

	if (answer && nlh->nlmsg_len <= sizeof(answer->data))
		memcpy(answer->data, nlh, nlh->nlmsg_len);
	return MNL_CB_OK;
}

static int wait_for_end(struct xfrm *x, struct xfrm_answer *answer)
{
	_Alignas(8) char buf[XFRM_RECEIVE_SIZE];
	int r;

	do {
		ssize_t n = mnl_socket_recvfrom(x->requests, buf, sizeof(buf));

		if (n < 0)
			return -errno;
		r = mnl_cb_run(buf, (size_t)n, x->sequence, x->portid, on_answer, answer);
		/* EPROTO: the end of an earlier request whose wait failed. */
		if (r < 0)
			r = errno == EPROTO ? MNL_CB_OK : -errno;
		explicit_bzero(buf, (size_t)n);
	} while (r > MNL_CB_STOP);
	return r == -ESRCH ? -ENOENT : r;
}

void xfrm_socket_address(struct xfrm *x, struct nlmsghdr *nlh)
{
	nlh->nlmsg_flags |= NLM_F_ACK;
	nlh->nlmsg_seq = ++x->sequence;
	nlh->nlmsg_pid = x->portid;
}

int xfrm_socket_transact(struct xfrm *x, struct xfrm_request *request, struct xfrm_answer *answer)
{
	struct nlmsghdr *nlh = (struct nlmsghdr *)request->data;
	int r = 0;

	xfrm_socket_address(x, nlh);
	if (answer)
		memset(answer, 0, sizeof(struct nlmsghdr));
	if (mnl_socket_sendto(x->requests, nlh, nlh->nlmsg_len) < 0)
		r = -errno;
	explicit_bzero(request->data, nlh->nlmsg_len);
	if (r == 0)
		r = wait_for_end(x, answer);
	if (r == 0 && answer && ((struct nlmsghdr *)answer->data)->nlmsg_len == 0)
		r = -EMSGSIZE;
	return r;
}

/* The kernel finds an SA with a mark only by it. */
static void name_sa(
	struct xfrm_request *request, struct xfrm_usersa_id *id, const struct record_key *key)
{
	const struct xfrm_mark mark = {.v = key->mark, .m = key->mark_mask};

	memcpy(&id->daddr, key->addr, sizeof(id->daddr));
	id->spi = key->spi;
	id->family = key->family;
	id->proto = key->proto;
	if ((mark.v | mark.m) != 0)
		xfrm_socket_put(request, XFRMA_MARK, &mark, sizeof(mark));
}

static int name_policy(const struct xfrm *x, struct xfrm_request *request, uint16_t type,
	const struct record_key *key)
{
	const struct xfrm_place *place = xfrm_index_find(&x->policies, key);
	struct xfrm_userpolicy_id *id;

	if (!place)
		return -ENOENT;
	id = xfrm_socket_begin(request, type, 0, sizeof(*id));
	id->sel = place->selector;
	id->dir = key->proto;
	if ((place->mark.v | place->mark.m) != 0)
		xfrm_socket_put(request, XFRMA_MARK, &place->mark, sizeof(place->mark));
	if (place->if_id != 0)
		xfrm_socket_put(request, XFRMA_IF_ID, &place->if_id, sizeof(place->if_id));
	return 0;
}

static int name(const struct xfrm *x, struct xfrm_request *request, uint16_t sa_type,
	uint16_t policy_type, const struct record_key *key)
{
	struct xfrm_usersa_id *id;

	if (key->kind == RECORD_POLICY)
		return name_policy(x, request, policy_type, key);
	id = xfrm_socket_begin(request, sa_type, 0, sizeof(*id));
	name_sa(request, id, key);
	return 0;
}

int xfrm_socket_get(struct xfrm *x, const struct record_key *key, struct xfrm_answer *ret)
{
	struct xfrm_request request;
	int r = name(x, &request, XFRM_MSG_GETSA, XFRM_MSG_GETPOLICY, key);

	return r < 0 ? r : xfrm_socket_transact(x, &request, ret);
}

/* The SA's counters, as an XFRM_MSG_NEWAE. */
static int get_aevent(struct xfrm *x, const struct record_key *key, struct xfrm_answer *answer,
	struct xfrm_body *ret)
{
	const struct nlmsghdr *nlh;
	struct xfrm_aevent_id *ae;
	struct xfrm_request request;
	int r;

	ae = xfrm_socket_begin(&request, XFRM_MSG_GETAE, 0, sizeof(*ae));
	name_sa(&request, &ae->sa_id, key);
	r = xfrm_socket_transact(x, &request, answer);
	if (r < 0)
		return r;
	nlh = (const struct nlmsghdr *)answer->data;
	return xfrm_body_parse_aevent(
		mnl_nlmsg_get_payload(nlh), mnl_nlmsg_get_payload_len(nlh), ret);
}

int xfrm_counters(
	struct xfrm *x, const struct record_key *key, uint64_t *ret_oseq, uint64_t *ret_seq)
{
	struct xfrm_answer answer;
	struct xfrm_body b;
	int r = get_aevent(x, key, &answer, &b);

	if (r == 0)
		xfrm_body_counters(&b, ret_oseq, ret_seq);
	return r;
}

/*
 * The kernel's own replay state, to be changed in the request. It takes a bitmap of the size it has
 * only, and silently nothing if the attribute is not the one of the SA's replay mode. *ret_esn: it
 * is a struct xfrm_replay_state_esn, else a struct xfrm_replay_state. NULL: the kernel told none.
 */
static void *put_replay(struct xfrm_request *request, const struct xfrm_body *now, bool *ret_esn)
{
	const struct nlattr *esn = now->attr[XFRMA_REPLAY_ESN_VAL];
	const struct nlattr *a = esn ? esn : now->attr[XFRMA_REPLAY_VAL];
	struct nlattr *copy = mnl_nlmsg_get_payload_tail((struct nlmsghdr *)request->data);

	*ret_esn = esn;
	if (!a)
		return NULL;
	xfrm_socket_put(request, esn ? XFRMA_REPLAY_ESN_VAL : XFRMA_REPLAY_VAL,
		mnl_attr_get_payload(a), mnl_attr_get_payload_len(a));
	return mnl_attr_get_payload(copy);
}

static int put_oseq(struct xfrm_request *request, const struct xfrm_body *now, uint64_t oseq)
{
	bool is_esn;
	void *state = put_replay(request, now, &is_esn);
	struct xfrm_replay_state_esn *esn = state;
	struct xfrm_replay_state *legacy = state;

	if (!state)
		return -EIO;
	if (!is_esn && oseq > UINT32_MAX)
		return -ERANGE;
	if (is_esn) {
		esn->oseq = (uint32_t)oseq;
		esn->oseq_hi = (uint32_t)(oseq >> 32);
	} else {
		legacy->oseq = (uint32_t)oseq;
	}
	return 0;
}

static int put_window(struct xfrm_request *request, const struct xfrm_body *now, uint64_t seq)
{
	bool is_esn;
	void *state = put_replay(request, now, &is_esn);

	if (!state)
		return -EIO;
	if (!is_esn && seq > UINT32_MAX)
		return -ERANGE;
	if (is_esn)
		xfrm_window_raise_esn(state, seq);
	else
		xfrm_window_raise_legacy(state, seq);
	return 0;
}

static int usage_of(const struct xfrm_body *b, struct xfrm_lifetime_cur *ret)
{
	const struct nlattr *a = b->attr[XFRMA_LTIME_VAL];

	if (!a)
		return -EIO;
	memcpy(ret, mnl_attr_get_payload(a), sizeof(*ret));
	return 0;
}

/*
 * At most so many numbers were used between two looks at an SA. A packet that is cut into segments
 * later uses one for each, and counts once; a segment has 32 bytes at least.
 */
static int used_between(
	const struct xfrm_body *before, const struct xfrm_body *after, uint64_t *ret_most)
{
	struct xfrm_lifetime_cur first, last;

	if (usage_of(before, &first) < 0 || usage_of(after, &last) < 0)
		return -EIO;
	*ret_most = last.packets - first.packets + (last.bytes - first.bytes) / 32;
	return 0;
}

int xfrm_move(struct xfrm *x, const struct record_key *key, uint64_t oseq)
{
	struct xfrm_answer answer, answer_after;
	struct xfrm_aevent_id *ae;
	struct xfrm_request request;
	uint64_t now_oseq, now_seq, after_oseq, used = 0;
	struct xfrm_body now, after;
	int r = get_aevent(x, key, &answer, &now);

	if (r < 0)
		return r;
	xfrm_body_counters(&now, &now_oseq, &now_seq);
	if (now_oseq >= oseq)
		return 0;
	ae = xfrm_socket_begin(&request, XFRM_MSG_NEWAE, NLM_F_REPLACE, sizeof(*ae));
	name_sa(&request, &ae->sa_id, key);
	r = put_oseq(&request, &now, oseq);
	if (r == 0)
		r = xfrm_socket_transact(x, &request, NULL);
	if (r < 0)
		return r;
	if (get_aevent(x, key, &answer_after, &after) < 0 || used_between(&now, &after, &used) < 0)
		return -EAGAIN; /* it was moved, and nobody can tell over what */
	xfrm_body_counters(&after, &after_oseq, &now_seq);
	if (after_oseq < oseq)
		return -EIO;
	return used < oseq - now_oseq ? 0 : -EAGAIN;
}

static bool is_windowless(const struct xfrm_body *b)
{
	const struct nlattr *a = b->attr[XFRMA_REPLAY_ESN_VAL];

	return a &&
	       ((const struct xfrm_replay_state_esn *)mnl_attr_get_payload(a))->replay_window == 0;
}

int xfrm_raise(struct xfrm *x, const struct record_key *key, uint64_t seq)
{
	struct xfrm_answer answer, answer_after;
	struct xfrm_aevent_id *ae;
	struct xfrm_request request;
	uint64_t oseq, after_seq, used = 0;
	struct xfrm_body now, after;
	int r = get_aevent(x, key, &answer, &now);

	if (r < 0)
		return r;
	ae = xfrm_socket_begin(&request, XFRM_MSG_NEWAE, NLM_F_REPLACE, sizeof(*ae));
	name_sa(&request, &ae->sa_id, key);
	r = put_window(&request, &now, seq);
	if (r == 0)
		r = xfrm_socket_transact(x, &request, NULL);
	if (r < 0)
		return r;
	r = get_aevent(x, key, &answer_after, &after);
	if (r < 0)
		return r;
	xfrm_body_counters(&after, &oseq, &after_seq);
	if (after_seq < seq && !is_windowless(&after))
		return -EIO;
	return used_between(&now, &after, &used) == 0 && used == 0 ? 0 : -EAGAIN;
}

bool xfrm_socket_use(struct xfrm_lifetime_cur *now, const struct record_usage *used)
{
	bool more = used->bytes > now->bytes || used->packets > now->packets;

	if (used->bytes > now->bytes)
		now->bytes = used->bytes;
	if (used->packets > now->packets)
		now->packets = used->packets;
	return more;
}

int xfrm_used(struct xfrm *x, const struct record_key *key, struct record_usage *ret)
{
	struct xfrm_lifetime_cur used = {0};
	struct xfrm_answer answer;
	struct xfrm_body b;
	int r = get_aevent(x, key, &answer, &b);

	if (r == 0)
		r = usage_of(&b, &used);
	*ret = (struct record_usage){.bytes = used.bytes, .packets = used.packets};
	return r;
}

int xfrm_use(struct xfrm *x, const struct record_key *key, const struct record_usage *used)
{
	struct xfrm_lifetime_cur now = {0};
	struct xfrm_request request;
	struct xfrm_answer answer;
	struct xfrm_aevent_id *ae;
	struct xfrm_body b;
	int r = get_aevent(x, key, &answer, &b);

	if (r == 0)
		r = usage_of(&b, &now);
	if (r < 0 || !xfrm_socket_use(&now, used))
		return r;
	ae = xfrm_socket_begin(&request, XFRM_MSG_NEWAE, NLM_F_REPLACE, sizeof(*ae));
	name_sa(&request, &ae->sa_id, key);
	xfrm_socket_put(&request, XFRMA_LTIME_VAL, &now, sizeof(now));
	return xfrm_socket_transact(x, &request, NULL);
}

int xfrm_expire(struct xfrm *x, const struct record_key *key)
{
	struct xfrm_user_expire *e;
	struct xfrm_usersa_id id;
	struct xfrm_request request;

	e = xfrm_socket_begin(&request, XFRM_MSG_EXPIRE, 0, sizeof(*e));
	name_sa(&request, &id, key);
	e->state.id.daddr = id.daddr;
	e->state.id.spi = id.spi;
	e->state.id.proto = id.proto;
	e->state.family = id.family;
	return xfrm_socket_transact(x, &request, NULL);
}

int xfrm_read(struct xfrm *x, const struct record_key *key, void *buf, size_t size)
{
	struct xfrm_answer answer;
	const struct nlmsghdr *nlh = (const struct nlmsghdr *)answer.data;
	struct xfrm_body b;
	int r = xfrm_socket_get(x, key, &answer);

	if (r < 0)
		return r;
	r = xfrm_body_parse(key->kind, mnl_nlmsg_get_payload(nlh), mnl_nlmsg_get_payload_len(nlh),
		XFRM_BODY_KERNEL, &b);
	if (r == 0)
		r = xfrm_body_encode(&b, (uint64_t)time(NULL), buf, size);
	explicit_bzero(&answer, sizeof(answer));
	return r;
}

int xfrm_reqid(struct xfrm *x, const struct record_key *key, uint32_t *ret)
{
	struct xfrm_answer answer;
	const struct nlmsghdr *nlh = (const struct nlmsghdr *)answer.data;
	int r = xfrm_socket_get(x, key, &answer);

	if (r < 0)
		return r;
	*ret = ((const struct xfrm_usersa_info *)mnl_nlmsg_get_payload(nlh))->reqid;
	explicit_bzero(&answer, sizeof(answer));
	return 0;
}

/* An attribute of what the kernel says of all its SAs, or policies. */
static int get_info(struct xfrm *x, uint16_t type, uint16_t attr, void *ret, size_t size)
{
	struct xfrm_answer answer;
	const struct nlmsghdr *nlh = (const struct nlmsghdr *)answer.data;
	const struct nlattr *a;
	struct xfrm_request request;
	int r;

	(void)xfrm_socket_begin(&request, type, 0, sizeof(uint32_t));
	r = xfrm_socket_transact(x, &request, &answer);
	if (r < 0)
		return r;
	mnl_attr_for_each(a, nlh, sizeof(uint32_t))
	{
		if (mnl_attr_get_type(a) != attr || mnl_attr_get_payload_len(a) < size)
			continue;
		memcpy(ret, mnl_attr_get_payload(a), size);
		return 0;
	}
	return -EBADMSG;
}

int xfrm_count(struct xfrm *x, uint32_t *ret)
{
	struct xfrmu_spdinfo policies;
	uint32_t sas;
	int r = get_info(x, XFRM_MSG_GETSADINFO, XFRMA_SAD_CNT, &sas, sizeof(sas));

	if (r == 0)
		r = get_info(x, XFRM_MSG_GETSPDINFO, XFRMA_SPD_INFO, &policies, sizeof(policies));
	if (r == 0)
		*ret = sas + policies.incnt + policies.outcnt + policies.fwdcnt;
	return r;
}

int xfrm_remove(struct xfrm *x, const struct record_key *key)
{
	struct xfrm_request request;
	int r = name(x, &request, XFRM_MSG_DELSA, XFRM_MSG_DELPOLICY, key);

	if (r == 0)
		r = xfrm_socket_transact(x, &request, NULL);
	if (key->kind == RECORD_POLICY && (r == 0 || r == -ENOENT))
		(void)xfrm_index_drop(&x->policies, key);
	return r;
}

struct xfrm_place xfrm_socket_place(const struct record_key *key, const struct xfrm_body *b)
{
	struct xfrm_place place = {.key = *key, .mark = xfrm_body_mark(b)};

	if (key->kind == RECORD_POLICY) {
		place.selector = b->policy.sel;
		place.if_id = xfrm_body_u32(b, XFRMA_IF_ID);
	}
	return place;
}

int xfrm_socket_remember(struct xfrm *x, const struct xfrm_place *place)
{
	return place->key.kind == RECORD_SA ? 0 : xfrm_index_put(&x->policies, place);
}

int xfrm_socket_probe_direction(struct xfrm *x)
{
	struct xfrm_usersa_id *id;
	struct xfrm_request request;
	const uint8_t neither = 3;
	int r;

	/* Kernels with the attribute check its range before they look for the SA. */
	id = xfrm_socket_begin(&request, XFRM_MSG_GETSA, 0, sizeof(*id));
	id->family = AF_INET;
	id->proto = IPPROTO_ESP;
	xfrm_socket_put(&request, XFRM_BODY_SA_DIR, &neither, sizeof(neither));
	r = xfrm_socket_transact(x, &request, NULL);
	if (r == -ENOENT)
		return 0;
	return r == -ERANGE || r == -EINVAL ? 1 : r;
}
