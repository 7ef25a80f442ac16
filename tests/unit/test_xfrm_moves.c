/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_xfrm_moves.c - SAs whose peer goes elsewhere, on a kernel that is played here, as real ones
 * do it (tests/vm/xfrm_moves.c asks these): XFRM_MSG_UPDSA of a living SA changes limits and ports
 * and says nothing of the rest. Needs root, but no ESP.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/udp.h>

#include "xfrm_payload.h"
#include "io/xfrm_socket.h"

#define SAS 4

ssize_t __wrap_mnl_socket_sendto(const struct mnl_socket *s, const void *buf, size_t len);
ssize_t __wrap_mnl_socket_recvfrom(const struct mnl_socket *s, void *buf, size_t size);
ssize_t __real_recv(int fd, void *buf, size_t size, int flags);
ssize_t __wrap_recv(int fd, void *buf, size_t size, int flags);

/* The kernel. */

static struct payload sas[SAS]; /* nlmsg_len 0: none */
static char answers[65536];
static size_t n_answers, answered;
static unsigned int updates, deletes, makes;

static struct xfrm_usersa_info *info(struct payload *p)
{
	return content(p);
}

static struct nlattr *attr_of(struct payload *p, size_t head, uint16_t type)
{
	struct nlattr *a;

	mnl_attr_for_each(a, message(p), head)
	{
		if (mnl_attr_get_type(a) == type)
			return a;
	}
	return NULL;
}

static struct xfrm_mark mark_of(struct payload *p, size_t head)
{
	struct nlattr *a = attr_of(p, head, XFRMA_MARK);
	struct xfrm_mark mark = {0};

	if (a)
		memcpy(&mark, mnl_attr_get_payload(a), sizeof(mark));
	return mark;
}

static struct payload *find(const struct xfrm_usersa_id *id, struct xfrm_mark mark)
{
	for (unsigned int i = 0; i < SAS; i++) {
		struct xfrm_mark own;

		if (message(&sas[i])->nlmsg_len == 0)
			continue;
		own = mark_of(&sas[i], sizeof(struct xfrm_usersa_info));
		if (info(&sas[i])->id.spi == id->spi && info(&sas[i])->family == id->family &&
			info(&sas[i])->id.daddr.a4 == id->daddr.a4 &&
			((mark.v & mark.m) & own.m) == own.v)
			return &sas[i];
	}
	return NULL;
}

static void answer(const struct nlmsghdr *nlh)
{
	memcpy(answers + n_answers, nlh, nlh->nlmsg_len);
	n_answers += NLMSG_ALIGN(nlh->nlmsg_len);
}

static void acknowledge(const struct nlmsghdr *request, int error)
{
	struct {
		struct nlmsghdr nlh;
		struct nlmsgerr end;
	} end = {.nlh = {.nlmsg_len = sizeof(end),
			 .nlmsg_type = NLMSG_ERROR,
			 .nlmsg_seq = request->nlmsg_seq,
			 .nlmsg_pid = request->nlmsg_pid},
		.end = {.error = error, .msg = *request}};

	answer(&end.nlh);
}

static void answer_sa(const struct nlmsghdr *request, struct payload *sa)
{
	struct payload copy = *sa;

	message(&copy)->nlmsg_type = XFRM_MSG_NEWSA;
	message(&copy)->nlmsg_seq = request->nlmsg_seq;
	message(&copy)->nlmsg_pid = request->nlmsg_pid;
	answer(message(&copy));
}

static void answer_counters(const struct nlmsghdr *request, struct payload *sa)
{
	static const uint16_t types[] = {XFRMA_REPLAY_VAL, XFRMA_REPLAY_ESN_VAL, XFRMA_LTIME_VAL};
	struct xfrm_aevent_id *ae;
	struct payload p;

	mnl_nlmsg_put_header(p.data);
	ae = mnl_nlmsg_put_extra_header(message(&p), sizeof(*ae));
	ae->sa_id = (struct xfrm_usersa_id){.daddr = info(sa)->id.daddr,
		.spi = info(sa)->id.spi,
		.family = info(sa)->family,
		.proto = info(sa)->id.proto};
	for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++) {
		const struct nlattr *a = attr_of(sa, sizeof(struct xfrm_usersa_info), types[i]);

		if (a)
			put(&p, types[i], mnl_attr_get_payload(a), mnl_attr_get_payload_len(a));
	}
	message(&p)->nlmsg_type = XFRM_MSG_NEWAE;
	message(&p)->nlmsg_seq = request->nlmsg_seq;
	message(&p)->nlmsg_pid = request->nlmsg_pid;
	answer(message(&p));
}

static int make_it(struct payload *request)
{
	const struct xfrm_usersa_info *sa = info(request);
	const struct xfrm_usersa_id id = {
		.daddr = sa->id.daddr, .spi = sa->id.spi, .family = sa->family};

	makes++;
	if (find(&id, mark_of(request, sizeof(*sa))))
		return -EEXIST;
	for (unsigned int i = 0; i < SAS; i++) {
		if (message(&sas[i])->nlmsg_len)
			continue;
		sas[i] = *request;
		return 0;
	}
	return -ENOMEM;
}

static int update_it(struct payload *request)
{
	const size_t head = sizeof(struct xfrm_usersa_info);
	const struct xfrm_usersa_info *sa = info(request);
	const struct xfrm_usersa_id id = {
		.daddr = sa->id.daddr, .spi = sa->id.spi, .family = sa->family};
	struct payload *there = find(&id, mark_of(request, head));
	struct nlattr *from = attr_of(request, head, XFRMA_ENCAP), *to;

	updates++;
	if (!there)
		return -ESRCH;
	to = attr_of(there, head, XFRMA_ENCAP);
	if (!from != !to)
		return -EINVAL;
	if (to)
		memcpy(mnl_attr_get_payload(to), mnl_attr_get_payload(from),
			sizeof(struct xfrm_encap_tmpl));
	info(there)->lft = sa->lft;
	return 0;
}

static int move_it(struct payload *request)
{
	const struct xfrm_aevent_id *ae = content(request);
	struct payload *there = find(&ae->sa_id, mark_of(request, sizeof(*ae)));
	struct nlattr *from, *to;

	if (!there || !(message(request)->nlmsg_flags & NLM_F_REPLACE))
		return there ? -EINVAL : -ESRCH;
	from = attr_of(request, sizeof(*ae), XFRMA_LTIME_VAL);
	to = attr_of(there, sizeof(struct xfrm_usersa_info), XFRMA_LTIME_VAL);
	if (from && to)
		memcpy(mnl_attr_get_payload(to), mnl_attr_get_payload(from),
			sizeof(struct xfrm_lifetime_cur));
	from = attr_of(request, sizeof(*ae), XFRMA_REPLAY_VAL);
	to = attr_of(there, sizeof(struct xfrm_usersa_info), XFRMA_REPLAY_VAL);
	if (from && to)
		memcpy(mnl_attr_get_payload(to), mnl_attr_get_payload(from),
			sizeof(struct xfrm_replay_state));
	return 0;
}

static int carry_out(struct payload *request)
{
	const struct nlmsghdr *nlh = message(request);
	const struct xfrm_usersa_id *id = content(request); /* an XFRM_MSG_GETAE begins with one */
	size_t head =
		nlh->nlmsg_type == XFRM_MSG_GETAE ? sizeof(struct xfrm_aevent_id) : sizeof(*id);
	struct payload *sa;

	switch (nlh->nlmsg_type) {
	case XFRM_MSG_NEWSA:
		return make_it(request);
	case XFRM_MSG_UPDSA:
		return update_it(request);
	case XFRM_MSG_NEWAE:
		return move_it(request);
	}
	sa = find(id, mark_of(request, head));
	if (!sa)
		return -ESRCH;
	switch (nlh->nlmsg_type) {
	case XFRM_MSG_GETSA:
		answer_sa(nlh, sa);
		return 0;
	case XFRM_MSG_GETAE:
		answer_counters(nlh, sa);
		return 0;
	case XFRM_MSG_DELSA:
		deletes++;
		message(sa)->nlmsg_len = 0;
		return 0;
	}
	return -EINVAL;
}

ssize_t __wrap_mnl_socket_sendto(const struct mnl_socket *s, const void *buf, size_t len)
{
	const char *at = buf, *end = at + len;

	(void)s;
	n_answers = answered = 0;
	while (at < end) {
		struct payload request;

		memcpy(request.data, at, ((const struct nlmsghdr *)at)->nlmsg_len);
		at += NLMSG_ALIGN(message(&request)->nlmsg_len);
		acknowledge(message(&request), carry_out(&request));
	}
	return (ssize_t)len;
}

/* One message at a time. */
ssize_t __wrap_mnl_socket_recvfrom(const struct mnl_socket *s, void *buf, size_t size)
{
	const struct nlmsghdr *nlh = (const struct nlmsghdr *)(answers + answered);

	(void)s;
	if (answered == n_answers) {
		errno = EAGAIN;
		return -1;
	}
	assert_true(nlh->nlmsg_len <= size);
	memcpy(buf, nlh, nlh->nlmsg_len);
	answered += NLMSG_ALIGN(nlh->nlmsg_len);
	return nlh->nlmsg_len;
}

static struct xfrm *x;

ssize_t __wrap_recv(int fd, void *buf, size_t size, int flags)
{
	if (x && fd == mnl_socket_get_fd(x->requests))
		return __wrap_mnl_socket_recvfrom(x->requests, buf, size);
	return __real_recv(fd, buf, size, flags);
}

/* What is told. */

static struct xfrm_record told;
static uint8_t told_body[RECORD_BODY_MAX];
static unsigned int n_told;
static struct record_usage used; /* of what is installed */

static void on_added(void *ctx, const struct xfrm_record *record)
{
	(void)ctx;
	told = *record;
	memcpy(told_body, record->body, record->body_len);
	told.body = told_body;
	n_told++;
}

static int set_up(void **state)
{
	static const struct xfrm_handlers handlers = {.added = on_added};
	const struct xfrm_config config = {.addresses = cluster, .n_addresses = 3};

	(void)state;
	memset(sas, 0, sizeof(sas));
	updates = deletes = makes = n_told = 0;
	used = (struct record_usage){0};
	x = NULL;
	return geteuid() == 0 ? xfrm_open(&config, &handlers, NULL, &x) : 0;
}

static int tear_down(void **state)
{
	(void)state;
	xfrm_close(x);
	x = NULL;
	return 0;
}

/* SAs of other members. */

struct sa {
	struct payload payload;
	struct record_key key;
	struct record_facts facts;
	uint8_t body[RECORD_BODY_MAX];
	size_t body_len;
};

static void encode(struct sa *sa)
{
	struct xfrm_body b;
	int len;

	assert_int_equal(parse(RECORD_SA, &sa->payload, XFRM_BODY_KERNEL, &b), 0);
	assert_int_equal(facts(&b, &sa->key, &sa->facts), 0);
	len = xfrm_body_encode(&b, NOW, sa->body, sizeof(sa->body));
	assert_true(len > 0);
	sa->body_len = (size_t)len;
}

static void put_encap(struct sa *sa, bool outbound, uint16_t port)
{
	const struct xfrm_encap_tmpl encap = {.encap_type = UDP_ENCAP_ESPINUDP,
		.encap_sport = htons(outbound ? 4500 : port),
		.encap_dport = htons(outbound ? port : 4500)};

	put(&sa->payload, XFRMA_ENCAP, &encap, sizeof(encap));
}

static int install(struct sa *sa, uint64_t oseq, bool update)
{
	struct record_install item;

	encode(sa);
	item = (struct record_install){
		&sa->key, &sa->facts, sa->body, sa->body_len, oseq, update, 1, used, 0};
	xfrm_install(x, &item, 1);
	return item.result;
}

static uint64_t oseq_of(const struct record_key *key)
{
	uint64_t oseq, seq;

	assert_int_equal(xfrm_counters(x, key, &oseq, &seq), 0);
	return oseq;
}

/* The peer has sent up to there. */
static void receive(struct payload *sa, uint32_t seq)
{
	struct nlattr *a = attr_of(sa, sizeof(struct xfrm_usersa_info), XFRMA_REPLAY_VAL);

	assert_non_null(a);
	((struct xfrm_replay_state *)mnl_attr_get_payload(a))->seq = seq;
}

static uint64_t seq_of(const struct record_key *key)
{
	uint64_t oseq, seq;

	assert_int_equal(xfrm_counters(x, key, &oseq, &seq), 0);
	return seq;
}

#define NEEDS_ROOT()                                                                               \
	do {                                                                                       \
		(void)state;                                                                       \
		if (!x)                                                                            \
			skip();                                                                    \
	} while (0)

static void test_port(void **state)
{
	struct sa sa, other;

	NEEDS_ROOT();
	make_sa(&sa.payload, true);
	other = sa;
	put_encap(&sa, true, 1024);
	put_encap(&other, true, 2048);
	assert_int_equal(install(&sa, 1000, false), 0);
	assert_int_equal(install(&sa, 0, true), 0);
	assert_int_equal(updates, 0); /* it is so already */
	assert_int_equal(install(&other, 0, true), 0);
	assert_int_equal(updates, 1);
	assert_int_equal(deletes, 0);
	assert_int_equal(oseq_of(&sa.key), 1000);
	/* Not there: not made. */
	assert_int_equal(xfrm_remove(x, &sa.key), 0);
	assert_int_equal(install(&other, 0, true), -ENOENT);
}

static void test_what_cannot_be_changed(void **state)
{
	struct sa sa, other;

	NEEDS_ROOT();
	make_sa(&sa.payload, true);
	other = sa;
	info(&other.payload)->reqid = REQID + 1;
	assert_int_equal(install(&sa, 5000, false), 0);
	assert_int_equal(install(&other, 0, true), -EXDEV);
	assert_int_equal(deletes, 0);
	/* Its counter does not go back. */
	assert_int_equal(install(&other, 1000, false), 0);
	assert_int_equal(deletes, 1);
	assert_int_equal(oseq_of(&sa.key), 5000);
	assert_int_equal(install(&other, 0, true), 0);
	assert_int_equal(install(&sa, 9000, false), 0);
	assert_int_equal(oseq_of(&sa.key), 9000);
}

/* The encapsulation comes or goes: the kernel refuses that. */
static void test_nat_comes(void **state)
{
	struct sa sa, other;

	NEEDS_ROOT();
	make_sa(&sa.payload, true);
	other = sa;
	put_encap(&other, true, 2048);
	assert_int_equal(install(&sa, 5000, false), 0);
	assert_int_equal(install(&other, 0, true), -EXDEV);
	assert_int_equal(install(&other, 6000, false), 0);
	assert_int_equal(oseq_of(&sa.key), 6000);
}

static void test_source(void **state)
{
	struct sa sa, other;

	NEEDS_ROOT();
	make_sa(&sa.payload, false);
	other = sa;
	info(&other.payload)->saddr.a4 ^= htonl(1);
	assert_int_equal(install(&sa, 0, false), 0);
	receive(&sas[0], 0x500);
	assert_int_equal(install(&other, 0, true), -EXDEV);
	assert_int_equal(install(&other, 0, false), 0);
	assert_memory_equal(&sa.key, &other.key, sizeof(sa.key));
	assert_int_equal(seq_of(&sa.key), 0x500);
}

/* Of the same key, but another SA: nothing of it is carried on. */
static void test_another_birth(void **state)
{
	struct sa sa, other;

	NEEDS_ROOT();
	make_sa(&sa.payload, false);
	make_esn_sa(&other.payload, false);
	assert_int_equal(install(&sa, 0, false), 0);
	receive(&sas[0], 0x500);
	assert_int_equal(install(&other, 0, true), -ENOENT);
	assert_int_equal(install(&other, 0, false), 0);
	assert_int_equal(seq_of(&sa.key), 0);
}

static void test_marks(void **state)
{
	const struct xfrm_mark marks[] = {{1, 0xf}, {2, 0xf}};
	struct sa sa[2];

	NEEDS_ROOT();
	for (unsigned int i = 0; i < 2; i++) {
		make_sa(&sa[i].payload, true);
		put(&sa[i].payload, XFRMA_MARK, &marks[i], sizeof(marks[i]));
		assert_int_equal(install(&sa[i], 1000 * (i + 1), false), 0);
	}
	assert_int_equal(oseq_of(&sa[0].key), 1000);
	assert_int_equal(oseq_of(&sa[1].key), 2000);
	assert_int_equal(xfrm_move(x, &sa[1].key, 3000), 0);
	assert_int_equal(oseq_of(&sa[0].key), 1000);
	assert_int_equal(oseq_of(&sa[1].key), 3000);
	assert_int_equal(xfrm_remove(x, &sa[0].key), 0);
	assert_int_equal(xfrm_remove(x, &sa[0].key), -ENOENT);
	assert_int_equal(oseq_of(&sa[1].key), 3000);
}

static void used_is(const struct record_key *key, uint64_t bytes, uint64_t packets)
{
	struct record_usage now;

	assert_int_equal(xfrm_used(x, key, &now), 0);
	assert_int_equal(now.bytes, bytes);
	assert_int_equal(now.packets, packets);
}

static struct xfrm_lifetime_cur lifetime_of(struct payload *sa)
{
	struct xfrm_lifetime_cur now;

	memcpy(&now,
		mnl_attr_get_payload(attr_of(sa, sizeof(struct xfrm_usersa_info), XFRMA_LTIME_VAL)),
		sizeof(now));
	return now;
}

/* The body says 1,000 bytes and 10 packets. It never gets less, and all else stays as it is. */
static void test_usage(void **state)
{
	const struct record_usage more = {.bytes = 7000, .packets = 20},
				  less = {.bytes = 6000, .packets = 15},
				  mixed = {.bytes = 6500, .packets = 90};
	struct xfrm_lifetime_cur before;
	struct sa sa;

	NEEDS_ROOT();
	make_sa(&sa.payload, true);
	assert_int_equal(install(&sa, 1000, false), 0);
	used_is(&sa.key, 1000, 10);
	before = lifetime_of(&sas[0]);
	assert_int_equal(xfrm_use(x, &sa.key, &more), 0);
	used_is(&sa.key, 7000, 20);
	assert_int_equal(xfrm_use(x, &sa.key, &less), 0);
	used_is(&sa.key, 7000, 20);
	assert_int_equal(xfrm_use(x, &sa.key, &mixed), 0);
	used_is(&sa.key, 7000, 90);
	assert_int_equal(lifetime_of(&sas[0]).add_time, before.add_time);
	assert_int_equal(lifetime_of(&sas[0]).use_time, before.use_time);
	assert_int_equal(oseq_of(&sa.key), 1000);
	assert_int_equal(xfrm_remove(x, &sa.key), 0);
	assert_int_equal(xfrm_use(x, &sa.key, &more), -ENOENT);
	/* What is known of it counts, whoever sends the body. */
	used = more;
	assert_int_equal(install(&sa, 2000, false), 0);
	used_is(&sa.key, 7000, 20);
}

/* We do what an IKE daemon does when its peer moves. */
static void test_follow(void **state)
{
	struct xfrm_place_change change = {.port = htons(7777)};
	struct record_key before;
	struct sa sa;

	NEEDS_ROOT();
	change.from = change.to = (struct address){AF_INET, {198, 51, 100, 1}};
	make_sa(&sa.payload, true);
	put_encap(&sa, true, 1024);
	assert_int_equal(install(&sa, 1000, false), 0);
	assert_int_equal(xfrm_follow(x, &sa.key, &change), 0);
	assert_int_equal(n_told, 1);
	assert_memory_equal(&told.key, &sa.key, sizeof(sa.key));
	assert_true(told.facts.birth == sa.facts.birth && told.facts.form != sa.facts.form);
	assert_int_equal(deletes, 0);
	assert_int_equal(told.oseq, 1000);

	change.to.bytes[3] = 77;
	before = sa.key;
	assert_int_equal(xfrm_follow(x, &sa.key, &change), 0);
	assert_int_equal(n_told, 2);
	assert_int_equal(deletes, 1);
	assert_memory_not_equal(&told.key, &before, sizeof(before));
	assert_int_equal(told.key.addr[3], 77);
	assert_true(told.facts.birth == sa.facts.birth);
	assert_int_equal(told.oseq, 1000);
	assert_int_equal(xfrm_follow(x, &before, &change), -ENOENT);
	assert_int_equal(xfrm_follow(x, &told.key, &change), -ENOENT);
	assert_int_equal(n_told, 2);
}

static void test_follow_inbound(void **state)
{
	struct xfrm_place_change change = {.port = htons(7777)};
	struct sa sa;

	NEEDS_ROOT();
	change.from = change.to = (struct address){AF_INET, {198, 51, 100, 1}};
	change.to.bytes[3] = 77;
	make_sa(&sa.payload, false);
	put_encap(&sa, false, 1024);
	assert_int_equal(install(&sa, 0, false), 0);
	receive(&sas[0], 0x500);
	assert_int_equal(xfrm_follow(x, &sa.key, &change), 0);
	assert_int_equal(n_told, 1);
	assert_memory_equal(&told.key, &sa.key, sizeof(sa.key));
	assert_int_equal(told.seq, 0x500);
	assert_int_equal(ntohl(((const struct xfrm_usersa_info *)told_body)->saddr.a4) & 0xff, 77);
	/* Of another family, or from elsewhere. */
	change.from = change.to;
	change.to.family = AF_INET6;
	assert_int_equal(xfrm_follow(x, &sa.key, &change), -ENOENT);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_port),
		TEST(test_what_cannot_be_changed),
		TEST(test_nat_comes),
		TEST(test_source),
		TEST(test_another_birth),
		TEST(test_marks),
		TEST(test_usage),
		TEST(test_follow),
		TEST(test_follow_inbound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
