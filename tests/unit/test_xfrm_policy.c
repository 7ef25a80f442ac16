/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_xfrm_policy.c - policies: what they are called by, which SAs they belong to, which stay, and
 * what is told of them as they change. The latter on this kernel, in a network namespace of its
 * own; it needs root and no ESP.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "xfrm_payload.h"
#include "io/xfrm.h"

static struct record_facts sa_facts(struct payload *p)
{
	struct record_facts f;
	struct record_key key;
	struct xfrm_body b;

	assert_int_equal(parse(RECORD_SA, p, XFRM_BODY_KERNEL, &b), 0);
	assert_int_equal(facts(&b, &key, &f), 0);
	return f;
}

static struct record_facts policy_facts(struct payload *p, struct record_key *key)
{
	struct record_facts f;
	struct xfrm_body b;

	assert_int_equal(parse(RECORD_POLICY, p, XFRM_BODY_KERNEL, &b), 0);
	assert_int_equal(facts(&b, key, &f), 0);
	return f;
}

static void test_transport_policy_without_addresses(void **state)
{
	struct xfrm_userpolicy_info *policy;
	struct record_facts sa, f;
	struct xfrm_user_tmpl *t;
	struct record_key key;
	struct payload p;

	(void)state;
	make_sa(&p, true);
	sa = sa_facts(&p);
	make_policy(&p, XFRM_POLICY_OUT);
	policy = content(&p);
	policy->sel.daddr.a4 = remote;
	policy->sel.saddr.a4 = local;
	policy->sel.prefixlen_d = policy->sel.prefixlen_s = 32;
	t = template(&p);
	t->mode = XFRM_MODE_TRANSPORT;
	memset(&t->saddr, 0, sizeof(t->saddr));
	memset(&t->id.daddr, 0, sizeof(t->id.daddr));
	f = policy_facts(&p, &key);
	assert_int_equal(f.pair, sa.pair);

	/* Of a prefix it cannot be told: it is a trap. */
	policy->sel.prefixlen_s = 24;
	f = policy_facts(&p, &key);
	assert_int_equal(f.pair, 0);
	assert_int_equal(f.remote.prefixlen, ESPALIER_SELECTOR_BITS + 32);
}

/* The first ESP template may be of two hosts inside; the one of the cluster counts. */
static void test_several_templates(void **state)
{
	struct xfrm_user_tmpl t[3];
	struct record_facts one, f;
	struct record_key key;
	struct xfrm_body b;
	struct payload p;

	(void)state;
	make_policy(&p, XFRM_POLICY_OUT);
	one = policy_facts(&p, &key);
	t[0] = t[1] = t[2] = *template(&p);
	t[0].saddr.a4 = t[1].saddr.a4 = htonl(0x0a020001);
	t[0].id.proto = IPPROTO_COMP;
	t[0].optional = 1;
	make_policy(&p, XFRM_POLICY_OUT);
	message(&p)->nlmsg_len -= MNL_ATTR_HDRLEN + sizeof(*t);
	put(&p, XFRMA_TMPL, t, sizeof(t));
	f = policy_facts(&p, &key);
	assert_int_equal(f.pair, one.pair);

	memcpy(template(&p) + 2, t + 1, sizeof(*t));
	assert_int_equal(parse(RECORD_POLICY, &p, XFRM_BODY_KERNEL, &b), 0);
	assert_int_equal(facts(&b, &key, &f), -EADDRNOTAVAIL);
	template(&p)[1].id.proto = template(&p)[2].id.proto = IPPROTO_AH;
	assert_int_equal(facts(&b, &key, &f), -EADDRNOTAVAIL);
}

static void put_templates(struct payload *p, const struct xfrm_user_tmpl *t, size_t n)
{
	make_policy(p, XFRM_POLICY_OUT);
	message(p)->nlmsg_len -= MNL_ATTR_HDRLEN + sizeof(*t);
	if (n)
		put(p, XFRMA_TMPL, t, n * sizeof(*t));
}

/* They travel, though they lead to no SA, or do not say to which. */
static void test_policies_of_no_sa(void **state)
{
	const struct xfrm_user_tmpl trap = {
		.id.proto = IPPROTO_ESP, .family = AF_INET, .mode = XFRM_MODE_TRANSPORT};
	struct xfrm_user_tmpl t = trap;
	struct record_key one, key;
	struct record_facts f;
	struct xfrm_body b;
	struct payload p;

	(void)state;
	make_policy(&p, XFRM_POLICY_OUT);
	f = policy_facts(&p, &one);
	assert_int_not_equal(f.pair, 0);
	for (uint8_t action = XFRM_POLICY_ALLOW; action <= (uint8_t)XFRM_POLICY_BLOCK; action++) {
		put_templates(&p, NULL, 0);
		((struct xfrm_userpolicy_info *)content(&p))->action = action;
		f = policy_facts(&p, &key);
		assert_int_equal(f.pair, 0);
		assert_int_equal(f.direction, ESPALIER_OUT);
		assert_memory_equal(&key, &one, sizeof(key));
		assert_int_equal(f.remote.prefixlen, ESPALIER_SELECTOR_BITS + 16);
	}
	put_templates(&p, &trap, 1);
	f = policy_facts(&p, &key);
	assert_int_equal(f.pair, 0);
	assert_memory_equal(&key, &one, sizeof(key));
	t.mode = XFRM_MODE_TUNNEL;
	t.id.daddr.a4 = remote;
	put_templates(&p, &t, 1);
	f = policy_facts(&p, &key);
	assert_int_equal(f.pair, 0);
	t.saddr.a4 = local;
	t.id.proto = IPPROTO_AH;
	put_templates(&p, &t, 1);
	f = policy_facts(&p, &key);
	assert_int_equal(f.pair, 0);
	/* Another address of this machine. */
	t.saddr.a4 ^= htonl(0xff);
	put_templates(&p, &t, 1);
	assert_int_equal(parse(RECORD_POLICY, &p, XFRM_BODY_KERNEL, &b), 0);
	assert_int_equal(facts(&b, &key, &f), -EADDRNOTAVAIL);
}

/* As strongSwan has it: what IPComp wraps up ESP carries, between the same addresses. */
static void test_esp_behind_ipcomp(void **state)
{
	struct xfrm_user_tmpl t[2] = {
		{.id.proto = IPPROTO_COMP, .family = AF_INET, .mode = XFRM_MODE_TUNNEL},
		{.id.proto = IPPROTO_ESP, .family = AF_INET, .reqid = REQID}};
	struct record_facts one, f;
	struct record_key key;
	struct xfrm_body b;
	struct payload p;

	(void)state;
	make_sa(&p, true);
	one = sa_facts(&p);
	t[0].saddr.a4 = local;
	t[0].id.daddr.a4 = remote;
	put_templates(&p, t, 2);
	f = policy_facts(&p, &key);
	assert_int_equal(f.pair, one.pair);
	t[0].saddr.a4 ^= htonl(0xff);
	put_templates(&p, t, 2);
	assert_int_equal(parse(RECORD_POLICY, &p, XFRM_BODY_KERNEL, &b), 0);
	assert_int_equal(facts(&b, &key, &f), -EADDRNOTAVAIL);
}

/* The kernel has it beside the one without: it is another. */
static void test_policies_that_stay_have_keys_of_their_own(void **state)
{
	struct {
		struct xfrm_user_sec_ctx head;
		char text[600];
	} label = {.head = {.len = sizeof(label)}};
	struct record_key one, bound, labelled;
	struct xfrm_body b;
	struct payload p;

	(void)state;
	make_policy(&p, XFRM_POLICY_OUT);
	policy_facts(&p, &one);
	((struct xfrm_userpolicy_info *)content(&p))->sel.ifindex = 1;
	assert_int_equal(parse(RECORD_POLICY, &p, XFRM_BODY_KERNEL, &b), -EOPNOTSUPP);
	xfrm_facts_policy_key(&b, &bound);
	make_policy(&p, XFRM_POLICY_OUT);
	put(&p, XFRMA_SEC_CTX, &label, sizeof(label));
	assert_int_equal(parse(RECORD_POLICY, &p, XFRM_BODY_KERNEL, &b), -EOPNOTSUPP);
	xfrm_facts_policy_key(&b, &labelled);
	assert_memory_not_equal(&bound, &one, sizeof(one));
	assert_memory_not_equal(&labelled, &one, sizeof(one));
	assert_memory_not_equal(&labelled, &bound, sizeof(bound));
}

static void test_policy_keys(void **state)
{
	static const size_t fields[] = {POLICY_FIELD(sel.daddr), POLICY_FIELD(sel.saddr),
		POLICY_FIELD(sel.dport), POLICY_FIELD(sel.dport_mask), POLICY_FIELD(sel.sport),
		POLICY_FIELD(sel.sport_mask), POLICY_FIELD(sel.prefixlen_d),
		POLICY_FIELD(sel.prefixlen_s), POLICY_FIELD(sel.proto), POLICY_FIELD(sel.user),
		POLICY_FIELD(dir)};
	const struct xfrm_mark mark = {1, 1};
	struct record_key one, key;
	struct payload p;

	(void)state;
	make_policy(&p, XFRM_POLICY_IN);
	policy_facts(&p, &one);
	((struct xfrm_userpolicy_info *)content(&p))->priority++;
	((struct xfrm_userpolicy_info *)content(&p))->sel.daddr.a6[2] =
		77; /* behind an IPv4 address */
	policy_facts(&p, &key);
	assert_memory_equal(&key, &one, sizeof(key));

	for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++) {
		make_policy(&p, XFRM_POLICY_IN);
		((uint8_t *)content(&p))[fields[i]] ^= 2;
		policy_facts(&p, &key);
		assert_memory_not_equal(&key, &one, sizeof(key));
	}
	make_policy(&p, XFRM_POLICY_IN);
	put(&p, XFRMA_MARK, &mark, sizeof(mark));
	policy_facts(&p, &key);
	assert_memory_not_equal(&key, &one, sizeof(key));
	make_policy(&p, XFRM_POLICY_IN);
	put_u32(&p, XFRMA_IF_ID, 1);
	policy_facts(&p, &key);
	assert_memory_not_equal(&key, &one, sizeof(key));
}

/* A kernel's events. */

static struct xfrm *x;
static int home; /* the namespace before the test */

static struct {
	unsigned int n_added, n_removed, n_stays;
	struct record_key added, removed, stays;
	struct record_facts facts;
	_Alignas(8) uint8_t body[RECORD_BODY_MAX];
	size_t body_len;
	char text[XFRM_TEXT];
	const char *why;
} told;

static void on_added(void *ctx, const struct xfrm_record *record)
{
	(void)ctx;
	told.n_added++;
	told.added = record->key;
	told.facts = record->facts;
	memcpy(told.body, record->body, record->body_len);
	told.body_len = record->body_len;
}

static void on_removed(void *ctx, const struct record_key *key)
{
	(void)ctx;
	told.n_removed++;
	told.removed = *key;
}

static void on_stays(void *ctx, const struct record_key *key, const char *text, const char *why)
{
	(void)ctx;
	told.n_stays++;
	told.stays = *key;
	snprintf(told.text, sizeof(told.text), "%s", text);
	told.why = why;
}

static int set_up(void **state)
{
	static const struct xfrm_handlers handlers = {
		.added = on_added, .removed = on_removed, .stays = on_stays};
	const struct xfrm_config config = {.addresses = cluster, .n_addresses = 3};

	(void)state;
	memset(&told, 0, sizeof(told));
	x = NULL;
	home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (geteuid() == 0 && unshare(CLONE_NEWNET) == 0)
		assert_int_equal(xfrm_open(&config, &handlers, NULL, &x), 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	xfrm_close(x);
	assert_int_equal(setns(home, CLONE_NEWNET), 0);
	close(home);
	return 0;
}

#define NEEDS_ROOT()                                                                               \
	do {                                                                                       \
		(void)state;                                                                       \
		if (!x)                                                                            \
			skip();                                                                    \
	} while (0)

#define NETS "src 10.2.0.0/16 dst 10.1.0.0/16 dir out"
#define TUNNEL "tmpl src 192.0.2.1 dst 198.51.100.1 proto esp reqid 7 mode tunnel"
#define TRAP "tmpl src 0.0.0.0 dst 0.0.0.0 proto esp reqid 0 mode transport"

static void policy(const char *what)
{
	char command[512];

	snprintf(command, sizeof(command), "ip xfrm policy %s", what);
	assert_int_equal(system(command), 0);
	for (unsigned int i = 0; i < 8; i++)
		assert_int_equal(xfrm_process(x), 0);
}

static void assert_text(const char *text)
{
	char now[XFRM_TEXT];

	xfrm_policy_text(told.body, told.body_len, now, sizeof(now));
	assert_string_equal(now, text);
}

/* What was told is made in another namespace, and is the same there. */
static void assert_installs(void)
{
	struct record_install item = {
		&told.added, &told.facts, told.body, told.body_len, 0, false, 1, {0}, 0};
	_Alignas(8) uint8_t there[RECORD_BODY_MAX];
	const struct xfrm_config config = {.addresses = cluster, .n_addresses = 3};
	const struct xfrm_handlers none = {0};
	int here = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	struct xfrm *other;

	assert_int_equal(unshare(CLONE_NEWNET), 0);
	assert_int_equal(xfrm_open(&config, &none, NULL, &other), 0);
	xfrm_install(other, &item, 1);
	assert_int_equal(item.result, 0);
	assert_int_equal(xfrm_read(other, &told.added, there, sizeof(there)), told.body_len);
	assert_memory_equal(there, told.body, told.body_len);
	assert_int_equal(xfrm_remove(other, &told.added), 0);
	xfrm_close(other);
	assert_int_equal(setns(here, CLONE_NEWNET), 0);
	close(here);
}

/* Not once is it told to be gone. */
static void test_tunnel_trap_block(void **state)
{
	struct record_key key;

	NEEDS_ROOT();
	policy("add " NETS " " TUNNEL);
	key = told.added;
	assert_int_not_equal(told.facts.pair, 0);
	assert_text("out 10.2.0.0/16 to 10.1.0.0/16: esp tunnel 192.0.2.1 to 198.51.100.1 reqid 7");
	assert_installs();
	policy("update " NETS " " TRAP);
	assert_int_equal(told.facts.pair, 0);
	assert_text("out 10.2.0.0/16 to 10.1.0.0/16: esp transport 0.0.0.0 to 0.0.0.0 reqid 0");
	assert_installs();
	policy("update " NETS " action block");
	assert_text("out 10.2.0.0/16 to 10.1.0.0/16: block");
	assert_installs();
	policy("update " NETS " priority 7");
	assert_text("out 10.2.0.0/16 to 10.1.0.0/16: allow");
	assert_installs();
	policy("update " NETS " " TUNNEL);
	assert_int_not_equal(told.facts.pair, 0);
	assert_int_equal(told.n_added, 5);
	assert_int_equal(told.n_removed, 0);
	policy("delete " NETS);
	assert_int_equal(told.n_removed, 1);
	assert_memory_equal(&told.removed, &key, sizeof(key));
}

/* One more for the same traffic, but for one interface alone, leaves the cluster's as it is. */
static void test_beside_one_of_an_interface(void **state)
{
	struct record_key key;

	NEEDS_ROOT();
	policy("add " NETS " " TUNNEL);
	key = told.added;
	policy("add src 10.2.0.0/16 dst 10.1.0.0/16 dev lo dir out priority 1 action block");
	assert_int_equal(told.n_removed, 0);
	assert_int_equal(told.n_stays, 1);
	assert_string_equal(told.text, "out 10.2.0.0/16 to 10.1.0.0/16 dev lo: block");
	assert_string_equal(told.why, "its selector is bound to an interface");
	policy("delete src 10.2.0.0/16 dst 10.1.0.0/16 dev lo dir out");
	assert_int_equal(told.n_removed, 1);
	assert_memory_equal(&told.removed, &told.stays, sizeof(told.stays));
	assert_memory_not_equal(&told.removed, &key, sizeof(key));
}

/* Only a dump tells of them. */
static void test_of_a_socket(void **state)
{
	const struct xfrm_userpolicy_info allow = {
		.sel.family = AF_INET, .action = XFRM_POLICY_ALLOW, .dir = XFRM_POLICY_OUT};
	int fd;

	NEEDS_ROOT();
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, IPPROTO_IP, IP_XFRM_POLICY, &allow, sizeof(allow)), 0);
	assert_int_equal(xfrm_dump(x), 0);
	assert_int_equal(told.n_added, 0);
	assert_int_equal(told.n_stays, 1);
	assert_string_equal(told.text, "socket out 0.0.0.0/0 to 0.0.0.0/0: allow");
	assert_string_equal(told.why, "it is a socket's");
	close(fd);
}

/* What this machine has for itself. */
static void test_of_another_address(void **state)
{
	NEEDS_ROOT();
	policy("add " NETS " tmpl src 192.0.2.9 dst 198.51.100.1 proto esp reqid 7 mode tunnel");
	assert_int_equal(told.n_added + told.n_stays, 0);
}

#define LIVE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_transport_policy_without_addresses),
		cmocka_unit_test(test_several_templates),
		cmocka_unit_test(test_policies_of_no_sa),
		cmocka_unit_test(test_esp_behind_ipcomp),
		cmocka_unit_test(test_policies_that_stay_have_keys_of_their_own),
		cmocka_unit_test(test_policy_keys),
		LIVE(test_tunnel_trap_block),
		LIVE(test_beside_one_of_an_interface),
		LIVE(test_of_a_socket),
		LIVE(test_of_another_address),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
