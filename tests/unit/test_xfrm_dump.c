/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_xfrm_dump.c - the SPD of this kernel, installed in batches and read step by step; and what
 * becomes of a dump when the kernel, played here, does not do as usual. Needs root, but no ESP. And
 * which SAs are told as local.
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

#include "xfrm_payload.h"
#include "io/xfrm_socket.h"

#define POLICIES 2000U

static struct xfrm *x;
static int home, kernel; /* the namespace before the test; the end of one that plays the kernel */
static unsigned int n_added, n_removed, told[POLICIES];
static void (*when_added)(const struct xfrm_record *record);

/* A policy for each number. */
static void make_number(struct payload *p, uint32_t number)
{
	make_policy(p, XFRM_POLICY_OUT);
	((struct xfrm_userpolicy_info *)content(p))->sel.daddr.a4 =
		htonl(0x0a010000 | (number & 0xffff));
	((struct xfrm_userpolicy_info *)content(p))->sel.prefixlen_d = 32;
}

static uint32_t number_of(const void *body)
{
	return ntohl(((const struct xfrm_userpolicy_info *)body)->sel.daddr.a4) & 0xffff;
}

static void on_added(void *ctx, const struct xfrm_record *record)
{
	(void)ctx;
	n_added++;
	told[number_of(record->body)]++;
	if (when_added)
		when_added(record);
}

static void on_removed(void *ctx, const struct record_key *key)
{
	(void)ctx;
	(void)key;
	n_removed++;
}

static int set_up(void **state)
{
	static const struct xfrm_handlers handlers = {.added = on_added, .removed = on_removed};
	const struct xfrm_config config = {.addresses = cluster, .n_addresses = 3};

	(void)state;
	n_added = n_removed = 0;
	memset(told, 0, sizeof(told));
	when_added = NULL;
	home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	x = NULL;
	if (unshare(CLONE_NEWNET) < 0)
		return 0; /* without root: skipped */
	return xfrm_open(&config, &handlers, NULL, &x);
}

static int tear_down(void **state)
{
	(void)state;
	xfrm_close(x);
	if (setns(home, CLONE_NEWNET) < 0)
		return -1;
	close(home);
	return 0;
}

static void need_root(void)
{
	if (!x)
		skip();
}

/* A record of another member, all of whose parts are on the heap. */
static struct record_install make_record(uint32_t number)
{
	struct record_facts *f = malloc(sizeof(*f));
	struct record_key *key = malloc(sizeof(*key));
	uint8_t *body = malloc(RECORD_BODY_MAX);
	struct xfrm_body b;
	struct payload p;
	int len;

	make_number(&p, number);
	assert_int_equal(parse(RECORD_POLICY, &p, XFRM_BODY_KERNEL, &b), 0);
	assert_int_equal(facts(&b, key, f), 0);
	len = xfrm_body_encode(&b, NOW, body, RECORD_BODY_MAX);
	assert_true(len > 0);
	return (struct record_install){key, f, body, (size_t)len, 0, false, 1, {0}, 0};
}

static void free_records(struct record_install *list, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		free((void *)list[i].key);
		free((void *)list[i].facts);
		free((void *)list[i].body);
	}
	free(list);
}

static struct record_install *install_all(unsigned int n)
{
	struct record_install *list = calloc(n, sizeof(*list));

	for (uint32_t i = 0; i < n; i++)
		list[i] = make_record(i);
	xfrm_install(x, list, n);
	return list;
}

static void process(void)
{
	for (int i = 0; i < 100; i++)
		assert_int_equal(xfrm_process(x), 0);
}

static void test_batches(void **state)
{
	struct record_install *list;
	uint8_t body[RECORD_BODY_MAX];

	(void)state;
	need_root();
	list = install_all(POLICIES);
	for (uint32_t i = 0; i < POLICIES; i++) {
		assert_int_equal(list[i].result, 0);
		assert_true(xfrm_read(x, list[i].key, body, sizeof(body)) > 0);
		assert_memory_equal(body, list[i].body, sizeof(struct xfrm_userpolicy_info));
	}
	process();
	assert_int_equal(n_added, 0);

	/* Refused ones in the midst are refused alone. */
	for (uint32_t i = 0; i < 200; i++)
		assert_int_equal(xfrm_remove(x, list[i].key), 0);
	list[0].body_len--;
	((struct record_facts *)list[100].facts)->birth++;
	xfrm_install(x, list, 200);
	for (uint32_t i = 0; i < 200; i++) {
		int expected = i == 0 || i == 100 ? -EBADMSG : 0;

		assert_int_equal(list[i].result, expected);
		assert_int_equal(xfrm_read(x, list[i].key, body, sizeof(body)) > 0, expected == 0);
	}
	free_records(list, POLICIES);
}

static void test_counted_and_told(void **state)
{
	struct record_install *list;
	uint32_t n = 1;

	(void)state;
	need_root();
	assert_int_equal(xfrm_count(x, &n), 0);
	assert_int_equal(n, 0);
	list = install_all(100);
	assert_int_equal(xfrm_count(x, &n), 0);
	assert_int_equal(n, 100);
	assert_int_equal(xfrm_tell(x, list[7].key), 0);
	assert_int_equal(told[7], 1);
	assert_int_equal(n_added, 1);
	assert_int_equal(xfrm_remove(x, list[7].key), 0);
	assert_int_equal(xfrm_tell(x, list[7].key), -ENOENT);
	assert_int_equal(xfrm_count(x, &n), 0);
	assert_int_equal(n, 99);
	free_records(list, 100);
}

/* A template that this kernel refuses and our parser does not: one of many fails. */
static void test_one_of_a_batch_fails(void **state)
{
	struct record_install *list;
	uint8_t body[RECORD_BODY_MAX];
	struct xfrm_userpolicy_info *policy;

	(void)state;
	need_root();
	list = calloc(3, sizeof(*list));
	for (uint32_t i = 0; i < 3; i++)
		list[i] = make_record(i);
	/* Mode transport between families: -EINVAL. */
	policy = (struct xfrm_userpolicy_info *)list[1].body;
	((struct xfrm_user_tmpl *)((char *)(policy + 1) + MNL_ATTR_HDRLEN))->mode =
		XFRM_MODE_TRANSPORT;
	policy->sel.family = AF_INET6;
	{
		_Alignas(8) uint8_t copy[RECORD_BODY_MAX];
		struct xfrm_body b;

		memcpy(copy, list[1].body, list[1].body_len);
		assert_int_equal(xfrm_body_parse(RECORD_POLICY, copy, list[1].body_len,
					 XFRM_BODY_MEMBER, &b),
			0);
		assert_int_equal(facts(&b, (struct record_key *)list[1].key,
					 (struct record_facts *)list[1].facts),
			0);
	}
	xfrm_install(x, list, 3);
	assert_int_equal(list[0].result, 0);
	assert_int_equal(list[1].result, -EINVAL);
	assert_int_equal(list[2].result, 0);
	assert_int_equal(xfrm_read(x, list[1].key, body, sizeof(body)), -ENOENT);
	assert_int_equal(x->policies.n, 2);
	free_records(list, 3);
}

static struct record_install *installed;

/* Whatever is there is found at each moment of a dump. */
static void find_another(const struct xfrm_record *record)
{
	uint8_t body[RECORD_BODY_MAX];
	const struct record_install *other =
		&installed[(number_of(record->body) + POLICIES / 2) % POLICIES];

	assert_true(xfrm_read(x, other->key, body, sizeof(body)) > 0);
}

static void test_steps(void **state)
{
	unsigned int steps = 0, most = 0, before;
	int r;

	(void)state;
	need_root();
	installed = install_all(POLICIES);
	process();
	when_added = find_another;
	assert_int_equal(xfrm_dump_step(x), 0); /* none is under way */
	assert_int_equal(xfrm_dump_begin(x), 0);
	do {
		before = n_added;
		r = xfrm_dump_step(x);
		most = n_added - before > most ? n_added - before : most;
		steps++;
	} while (r > 0);
	assert_int_equal(r, 0);
	assert_int_equal(xfrm_dump_error(x), 0);
	for (uint32_t i = 0; i < POLICIES; i++)
		assert_int_equal(told[i], 1);
	assert_in_range(most, 1, POLICIES / 2);
	assert_true(steps >= 4);
	assert_int_equal(x->policies.n, POLICIES);

	/* Over again in the midst: all is told from the start. */
	memset(told, 0, sizeof(told));
	assert_int_equal(xfrm_dump_begin(x), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(xfrm_dump_step(x), 1);
	assert_int_equal(xfrm_dump(x), 0);
	for (uint32_t i = 0; i < POLICIES; i++)
		assert_in_range(told[i], 1, 2);
	free_records(installed, POLICIES);
}

/* What was removed without our knowing is forgotten, but only at the end of a dump. */
static void test_what_is_gone(void **state)
{
	struct record_install *list;
	struct xfrm_index *index;
	struct mnl_socket *events;

	(void)state;
	need_root();
	index = &x->policies;
	list = install_all(100);
	events = x->events; /* deaf from here */
	x->events = xfrm_socket_open();
	assert_int_equal(
		system("ip xfrm policy delete src 10.2.0.0/16 dst 10.1.0.7/32 dir out"), 0);
	assert_int_equal(index->n, 100);
	assert_int_equal(xfrm_dump_begin(x), 0);
	while (xfrm_dump_step(x) > 0 && !(x->dump.kind == RECORD_POLICY && x->dump.sweeping))
		assert_int_equal(index->n, 100);
	assert_int_equal(index->n, 100);
	xfrm_install(x, list, 2); /* meanwhile */
	while (xfrm_dump_step(x) > 0)
		;
	assert_int_equal(index->n, 99);
	assert_null(xfrm_index_find(index, list[7].key));
	assert_non_null(xfrm_index_find(index, list[0].key));
	mnl_socket_close(events);
	free_records(list, 100);
}

/* From here on the test is the kernel, at the other end of the dump's socket. */
static void play_kernel(void)
{
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	assert_int_equal(dup2(ends[0], mnl_socket_get_fd(x->dumps)), mnl_socket_get_fd(x->dumps));
	close(ends[0]);
	kernel = ends[1];
}

/* Begins a dump whose first request went to the kernel proper. */
static void begin_played(void)
{
	assert_int_equal(xfrm_dump_begin(x), 0);
	play_kernel();
}

static void answer(uint16_t type, uint16_t flags, const void *data, size_t len)
{
	_Alignas(8) char buf[4096];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);

	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = NLM_F_MULTI | flags;
	nlh->nlmsg_seq = x->dump.sequence;
	if (len > 0)
		memcpy(mnl_nlmsg_put_extra_header(nlh, len), data, len);
	assert_int_equal(send(kernel, buf, nlh->nlmsg_len, 0), nlh->nlmsg_len);
}

static void answer_done(uint16_t flags, int status)
{
	answer(NLMSG_DONE, flags, &status, sizeof(status));
}

static void answer_policy(uint32_t number)
{
	struct payload p;

	make_number(&p, number);
	answer(XFRM_MSG_NEWPOLICY, 0, content(&p), length(&p));
}

/* The request that is to be waiting. */
static void assert_asked(uint16_t type)
{
	_Alignas(8) char buf[4096];

	assert_true(recv(kernel, buf, sizeof(buf), MSG_DONTWAIT) > 0);
	assert_int_equal(((struct nlmsghdr *)buf)->nlmsg_type, type);
}

static void test_interrupted(void **state)
{
	(void)state;
	need_root();
	begin_played();
	assert_int_equal(xfrm_dump_step(x), 1); /* nothing yet */
	answer_done(0, 0);
	assert_int_equal(xfrm_dump_step(x), 1);
	assert_int_equal(xfrm_dump_step(x), 1);
	assert_asked(XFRM_MSG_GETPOLICY);
	answer_policy(1);
	answer_done(NLM_F_DUMP_INTR, 0);
	assert_int_equal(xfrm_dump_step(x), 1);
	assert_asked(XFRM_MSG_GETPOLICY);
	answer_policy(1);
	answer_policy(2);
	answer_done(0, 0);
	assert_int_equal(xfrm_dump_step(x), 1);
	assert_int_equal(xfrm_dump_step(x), 0);
	assert_int_equal(n_added, 3);
	assert_int_equal(x->policies.n, 2);
	close(kernel);

	/* Not for ever. */
	begin_played();
	for (int i = 0; i < 3; i++) {
		answer_done(NLM_F_DUMP_INTR, 0);
		assert_int_equal(xfrm_dump_step(x), 1);
		assert_asked(XFRM_MSG_GETSA);
	}
	answer_done(NLM_F_DUMP_INTR, 0);
	assert_int_equal(xfrm_dump_step(x), -EINTR);
	assert_int_equal(xfrm_dump_step(x), 0);
	close(kernel);
}

static void test_failures(void **state)
{
	const int denied = -EPERM;
	struct nlmsgerr error = {.error = -EBUSY};

	(void)state;
	need_root();
	begin_played();
	answer(NLMSG_ERROR, 0, &error, sizeof(error));
	assert_int_equal(xfrm_dump_step(x), -EBUSY);
	assert_int_equal(xfrm_dump_step(x), 0);
	close(kernel);

	/* In the end, and cut short. */
	begin_played();
	answer_done(0, denied);
	assert_int_equal(xfrm_dump_step(x), -EPERM);
	close(kernel);
	begin_played();
	answer(NLMSG_DONE, 0, NULL, 0);
	assert_int_equal(xfrm_dump_step(x), -EBADMSG);
	close(kernel);

	/* A record that is malformed is an error of the dump's, told after the rest. */
	begin_played();
	answer(XFRM_MSG_NEWSA, 0, &denied, sizeof(denied));
	answer_done(0, 0);
	assert_int_equal(xfrm_dump_step(x), 1);
	assert_int_equal(xfrm_dump_error(x), -EBADMSG);
	assert_int_equal(xfrm_dump_step(x), 1);
	answer_policy(5);
	answer_done(0, 0);
	assert_int_equal(xfrm_dump_step(x), 1);
	assert_int_equal(xfrm_dump_step(x), 0);
	assert_int_equal(n_added, 1);
	assert_int_equal(xfrm_dump_error(x), -EBADMSG);
	close(kernel);
}

/* SAs that do not travel. Neither root nor a kernel is needed. */

static unsigned int n_local;
static struct record_key local_key;
static struct record_facts local_facts;
static const char *local_why;

static void on_local(
	void *ctx, const struct record_key *key, const struct record_facts *f, const char *why)
{
	(void)ctx;
	n_local++;
	local_key = *key;
	local_facts = *f;
	local_why = why;
}

/* Tells of an outbound SA to which an attribute is put, or whose field is changed. */
static int tell_sa(uint16_t type, const void *data, size_t len, size_t at, uint8_t value)
{
	static struct xfrm listener = {.handlers = {.added = on_added, .local = on_local},
		.n_addresses = sizeof(cluster) / sizeof(*cluster)};
	struct payload p;

	memcpy(listener.addresses, cluster, sizeof(cluster));
	make_sa(&p, true);
	if (data)
		put(&p, type, data, len);
	else
		((uint8_t *)content(&p))[at] = value;
	n_added = n_local = 0;
	return xfrm_socket_tell(&listener, RECORD_SA, message(&p));
}

static void assert_local(int result, const char *why)
{
	assert_int_equal(result, -EOPNOTSUPP);
	assert_int_equal(n_added, 0);
	assert_int_equal(n_local, 1);
	assert_string_equal(local_why, why);
	assert_int_equal(local_key.spi, htonl(SPI));
	assert_memory_equal(local_key.addr, &remote, sizeof(remote));
	assert_int_equal(local_facts.direction, ESPALIER_OUT);
	assert_true(local_facts.birth != 0);
}

static void test_what_stays_is_told(void **state)
{
	struct xfrm_user_offload offload = {.ifindex = 7, .flags = 4};
	struct xfrm_encap_tmpl encap = {.encap_type = 7, .encap_sport = htons(4500)};
	const struct xfrm_user_sec_ctx label = {.len = sizeof(label)};
	const struct {
		struct xfrm_algo_aead alg;
		char key[20];
	} hidden = {.alg = {"rfc4106(gcm(aes))", .alg_key_len = 160, .alg_icv_len = 128}};
	uint64_t birth;

	(void)state;
	assert_local(tell_sa(XFRMA_OFFLOAD_DEV, &offload, sizeof(offload), 0, 0),
		"its device makes its numbers (packet offload)");
	birth = local_facts.birth;
	assert_local(
		tell_sa(XFRMA_SEC_CTX, &label, sizeof(label), 0, 0), "it has a security label");
	assert_local(tell_sa(XFRMA_ENCAP, &encap, sizeof(encap), 0, 0), "it is not in UDP");
	encap = (struct xfrm_encap_tmpl){.encap_type = 2, .encap_sport = htons(4501)};
	assert_local(tell_sa(XFRMA_ENCAP, &encap, sizeof(encap), 0, 0),
		"its port on our side is not 4500");
	assert_local(tell_sa(0, NULL, 0, SA_FIELD(sel.ifindex), 2),
		"its selector is bound to an interface");
	assert_local(tell_sa(0, NULL, 0, SA_FIELD(mode), 5), "its mode is not known");
	assert_int_equal(local_facts.birth, birth); /* the same keys */

	assert_local(tell_sa(0, NULL, 0, SA_FIELD(id.proto), IPPROTO_AH), "AH is not copied");
	assert_local(tell_sa(XFRMA_ALG_AEAD, &hidden, sizeof(hidden), 0, 0),
		"the kernel hides its keys (lockdown=confidentiality)");

	/* None of the cluster's, no IPsec, malformed. */
	assert_int_equal(tell_sa(0, NULL, 0, SA_FIELD(saddr) + 3, 9), -EADDRNOTAVAIL);
	assert_int_equal(tell_sa(0, NULL, 0, SA_FIELD(id.proto), IPPROTO_IPIP), -EOPNOTSUPP);
	assert_int_equal(tell_sa(XFRMA_OFFLOAD_DEV, &offload, 4, 0, 0), -EBADMSG);
	assert_int_equal(n_local, 0);
}

/* No algorithm yet: an SPI that is reserved, for whatever it will be. */
static void test_larval_is_not_told(void **state)
{
	const struct xfrm_user_offload offload = {.ifindex = 7, .flags = 4};
	struct xfrm listener = {.handlers = {.added = on_added, .local = on_local},
		.n_addresses = sizeof(cluster) / sizeof(*cluster)};
	struct payload p;

	(void)state;
	memcpy(listener.addresses, cluster, sizeof(cluster));
	begin_sa(&p, true);
	put(&p, XFRMA_OFFLOAD_DEV, &offload, sizeof(offload));
	n_local = 0;
	assert_int_equal(xfrm_socket_tell(&listener, RECORD_SA, message(&p)), -EOPNOTSUPP);
	assert_int_equal(n_local, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_batches),
		TEST(test_counted_and_told),
		TEST(test_one_of_a_batch_fails),
		TEST(test_steps),
		TEST(test_what_is_gone),
		TEST(test_interrupted),
		TEST(test_failures),
		cmocka_unit_test(test_what_stays_is_told),
		cmocka_unit_test(test_larval_is_not_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
