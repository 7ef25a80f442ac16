/* SPDX-License-Identifier: BSD-2-Clause */
/* xfrm_compare.h - all that two kernels show of an SA or a policy, compared field by field. */
#ifndef XFRM_COMPARE_H
#define XFRM_COMPARE_H

#include <arpa/inet.h>
#include <linux/xfrm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libmnl/libmnl.h>

#define ATTRIBUTES 64 /* more types than there are */

/* An SA or a policy as the kernel shows it: a struct and attributes. */
struct shown {
	uint16_t type; /* XFRM_MSG_NEWSA or XFRM_MSG_NEWPOLICY */
	const struct nlattr *attr[ATTRIBUTES];
	_Alignas(8) char data[4096];
};

struct shown_list {
	struct shown **all;
	size_t n;
};

struct field {
	const char *name;
	size_t at, size;
	int within; /* may differ by so much; -1: by anything */
};

#define FIELD(type, field, difference)                                                             \
	{.name = #field,                                                                           \
		.at = offsetof(struct type, field),                                                \
		.size = sizeof(((struct type *)NULL)->field),                                      \
		.within = (difference)},
#define SA(field) FIELD(xfrm_usersa_info, field, 0)
#define POLICY(field) FIELD(xfrm_userpolicy_info, field, 0)

/* clang-format off */
#define SELECTOR(X) \
	X(sel.daddr) X(sel.saddr) X(sel.dport) X(sel.dport_mask) X(sel.sport) X(sel.sport_mask) \
	X(sel.family) X(sel.prefixlen_d) X(sel.prefixlen_s) X(sel.proto) X(sel.ifindex) X(sel.user)
#define LIFETIME(X) \
	X(lft.soft_byte_limit) X(lft.hard_byte_limit) \
	X(lft.soft_packet_limit) X(lft.hard_packet_limit) \
	X(lft.soft_add_expires_seconds) X(lft.hard_add_expires_seconds) \
	X(lft.soft_use_expires_seconds) X(lft.hard_use_expires_seconds) \
	X(curlft.bytes) X(curlft.packets) X(curlft.use_time)

static const struct field sa_fields[] = {
	SELECTOR(SA) LIFETIME(SA)
	SA(id.daddr) SA(id.spi) SA(id.proto) SA(saddr)
	SA(stats.replay_window) SA(stats.replay) SA(stats.integrity_failed)
	SA(seq) SA(reqid) SA(family) SA(mode) SA(replay_window) SA(flags)
	/* Ages are whole seconds, and the copy takes a moment. */
	FIELD(xfrm_usersa_info, curlft.add_time, 2)
};

static const struct field policy_fields[] = {
	SELECTOR(POLICY) LIFETIME(POLICY)
	POLICY(priority) POLICY(dir) POLICY(action) POLICY(flags) POLICY(share)
	FIELD(xfrm_userpolicy_info, curlft.add_time, -1) /* the kernel takes no other than now */
	FIELD(xfrm_userpolicy_info, index, -1) /* each kernel gives its own */
};
/* clang-format on */

/* Each member counts outbound packets in blocks of its own. */
static void without_oseq(uint16_t type, char *data)
{
	if (type == XFRMA_REPLAY_VAL)
		((struct xfrm_replay_state *)data)->oseq = 0;
	else if (type == XFRMA_REPLAY_ESN_VAL)
		((struct xfrm_replay_state_esn *)data)->oseq =
			((struct xfrm_replay_state_esn *)data)->oseq_hi = 0;
}

static size_t shown_head(uint16_t type)
{
	return type == XFRM_MSG_NEWSA ? sizeof(struct xfrm_usersa_info)
				      : sizeof(struct xfrm_userpolicy_info);
}

static int on_shown(const struct nlmsghdr *nlh, void *data)
{
	struct shown_list *list = data;
	struct shown *s = calloc(1, sizeof(*s));
	const struct nlattr *a;
	const char *end = s->data + nlh->nlmsg_len - MNL_NLMSG_HDRLEN;

	if (nlh->nlmsg_len > sizeof(s->data))
		abort();
	s->type = nlh->nlmsg_type;
	memcpy(s->data, mnl_nlmsg_get_payload(nlh), mnl_nlmsg_get_payload_len(nlh));
	a = (const struct nlattr *)(s->data + MNL_ALIGN(shown_head(s->type)));
	for (; mnl_attr_ok(a, (int)(end - (const char *)a)); a = mnl_attr_next(a)) {
		if (mnl_attr_get_type(a) >= ATTRIBUTES)
			abort();
		s->attr[mnl_attr_get_type(a)] = a;
		without_oseq(mnl_attr_get_type(a), mnl_attr_get_payload(a));
	}
	list->all = reallocarray(list->all, list->n + 1, sizeof(*list->all));
	list->all[list->n++] = s;
	return MNL_CB_OK;
}

/* Reads all SAs and policies of the network namespace one is in. */
static void show(struct shown_list *ret)
{
	static const uint16_t types[] = {XFRM_MSG_GETSA, XFRM_MSG_GETPOLICY};
	struct mnl_socket *s = mnl_socket_open(NETLINK_XFRM);
	_Alignas(8) static char buf[65536];

	ret->all = NULL;
	ret->n = 0;
	for (unsigned int i = 0; i < 2; i++) {
		struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
		ssize_t n = 0;
		int r;

		nlh->nlmsg_type = types[i];
		nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
		r = s && mnl_socket_sendto(s, nlh, nlh->nlmsg_len) > 0 ? 1 : -1;
		while (r > 0 && (n = mnl_socket_recvfrom(s, buf, sizeof(buf))) > 0)
			r = mnl_cb_run(buf, (size_t)n, 0, 0, on_shown, ret);
		if (r < 0 || n < 0) {
			perror("reading the kernel's SAs and policies");
			exit(2);
		}
	}
	mnl_socket_close(s);
}

static void shown_free(struct shown_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		free(list->all[i]);
	free(list->all);
}

static bool same_attr(const struct shown *a, const struct shown *b, uint16_t type)
{
	const struct nlattr *x = a->attr[type], *y = b->attr[type];

	return x == y || (x && y && x->nla_len == y->nla_len &&
				 memcmp(mnl_attr_get_payload(x), mnl_attr_get_payload(y),
					 mnl_attr_get_payload_len(x)) == 0);
}

static bool field_differs(const struct field *f, const char *a, const char *b)
{
	uint64_t x, y;

	if (f->within < 0 || memcmp(a + f->at, b + f->at, f->size) == 0)
		return false;
	if (f->within == 0 || f->size != sizeof(x))
		return true;
	memcpy(&x, a + f->at, sizeof(x));
	memcpy(&y, b + f->at, sizeof(y));
	return (x > y ? x - y : y - x) > (uint64_t)f->within;
}

static bool same_selector(const struct shown *a, const struct shown *b)
{
	for (size_t i = 0; i < sizeof(policy_fields) / sizeof(*policy_fields); i++)
		if (strncmp(policy_fields[i].name, "sel.", 4) == 0 &&
			field_differs(&policy_fields[i], a->data, b->data))
			return false;
	return true;
}

/* Whether both are the same SA or policy to the kernel, whatever else may differ. */
static bool same_name(const struct shown *a, const struct shown *b)
{
	const struct xfrm_usersa_info *s = (const void *)a->data, *t = (const void *)b->data;
	const struct xfrm_userpolicy_info *p = (const void *)a->data, *q = (const void *)b->data;

	if (a->type != b->type)
		return false;
	if (a->type == XFRM_MSG_NEWSA)
		return s->id.spi == t->id.spi && s->id.proto == t->id.proto &&
		       s->family == t->family &&
		       memcmp(&s->id.daddr, &t->id.daddr, s->family == AF_INET ? 4 : 16) == 0;
	return p->dir == q->dir && same_selector(a, b) && same_attr(a, b, XFRMA_MARK) &&
	       same_attr(a, b, XFRMA_IF_ID);
}

static const struct shown *find_shown(const struct shown_list *list, const struct shown *like)
{
	for (size_t i = 0; i < list->n; i++)
		if (same_name(list->all[i], like))
			return list->all[i];
	return NULL;
}

static void print_name(const struct shown *s)
{
	const struct xfrm_userpolicy_info *p = (const void *)s->data;

	if (s->type == XFRM_MSG_NEWSA)
		printf("# SA 0x%x", ntohl(((const struct xfrm_usersa_info *)s->data)->id.spi));
	else
		printf("# %s policy", p->dir == XFRM_POLICY_OUT ? "outbound" : "inbound");
}

static void print_bytes(const char *what, const void *data, size_t len)
{
	printf(" %s", what);
	for (size_t i = 0; i < len; i++)
		printf("%02x", ((const uint8_t *)data)[i]);
}

static void print_attr(const char *what, const struct nlattr *a)
{
	if (a)
		print_bytes(what, mnl_attr_get_payload(a), mnl_attr_get_payload_len(a));
	else
		printf(" %snone", what);
}

/* Prints what differs, as TAP diagnostics; returns how much. */
static unsigned int compare(const struct shown *a, const struct shown *b)
{
	bool sa = a->type == XFRM_MSG_NEWSA;
	const struct field *fields = sa ? sa_fields : policy_fields;
	size_t n_fields = sa ? sizeof(sa_fields) / sizeof(*sa_fields)
			     : sizeof(policy_fields) / sizeof(*policy_fields);
	unsigned int n = 0;

	for (size_t i = 0; i < n_fields; i++) {
		if (!field_differs(&fields[i], a->data, b->data))
			continue;
		n++;
		print_name(a);
		printf(": %s", fields[i].name);
		print_bytes("", a->data + fields[i].at, fields[i].size);
		print_bytes("became ", b->data + fields[i].at, fields[i].size);
		putchar('\n');
	}
	for (uint16_t type = 0; type < ATTRIBUTES; type++) {
		if (same_attr(a, b, type))
			continue;
		n++;
		print_name(a);
		printf(": attribute %u", type);
		print_attr("", a->attr[type]);
		print_attr("became ", b->attr[type]);
		putchar('\n');
	}
	return n;
}

#endif
