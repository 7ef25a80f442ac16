/* SPDX-License-Identifier: BSD-2-Clause */
/* xfrm_moves.c - SAs whose peer goes elsewhere, and SAs that only their marks tell apart. Needs ESP
 * and root. */
#include "xfrm_side.h"

#define ELSEWHERE "198.51.100.77"
#define NAT "reqid 1 mode tunnel encap espinudp %s 0.0.0.0 "

static const struct address remote = {AF_INET, {198, 51, 100, 1}},
			    elsewhere = {AF_INET, {198, 51, 100, 77}};

static void run_in(const struct side *s, const char *command)
{
	enter(s);
	assert_int_equal(system(command), 0);
	enter(&a);
}

static uint64_t oseq_of(struct side *s, const struct record_key *key)
{
	uint64_t oseq, seq;

	assert_int_equal(xfrm_counters(s->x, key, &oseq, &seq), 0);
	return oseq;
}

static uint64_t seq_of(struct side *s, const struct record_key *key)
{
	uint64_t oseq, seq;

	assert_int_equal(xfrm_counters(s->x, key, &oseq, &seq), 0);
	return seq;
}

static void assert_form(void)
{
	assert_int_equal(dump(&b), 0);
	assert_true(last(&b)->facts.form == last(&a)->facts.form);
}

/* One destination, one SPI, two marks: two SAs, in the copies, too. */
static void test_marks(void **state)
{
	struct xfrm_record one, two;

	(void)state;
	add_sa(true, 0x100, "mode tunnel mark 1 mask 0xf " GCM);
	one = a.added[0].record;
	add_sa(true, 0x100, "mode tunnel mark 2 mask 0xf " CBC);
	two = a.added[1].record;
	assert_memory_not_equal(&one.key, &two.key, sizeof(one.key));
	assert_int_equal(one.key.mark, 1);
	assert_int_equal(two.key.mark_mask, 0xf);
	assert_int_equal(install(&b, &one, 100), 0);
	assert_int_equal(install(&b, &two, 200), 0);
	assert_int_equal(oseq_of(&b, &one.key), 100);
	assert_int_equal(oseq_of(&b, &two.key), 200);
	assert_int_equal(xfrm_move(b.x, &two.key, 300), 0);
	assert_int_equal(oseq_of(&b, &one.key), 100);
	run("ip xfrm state delete src " LOCAL " dst " REMOTE
	    " proto esp spi 0x100 mark 2 mask 0xf");
	process(&a);
	assert_int_equal(a.n_removed, 1);
	assert_memory_equal(&a.removed, &two.key, sizeof(two.key));
	assert_int_equal(xfrm_remove(b.x, &two.key), 0);
	assert_int_equal(oseq_of(&b, &one.key), 100);
	assert_int_equal(xfrm_remove(b.x, &two.key), -ENOENT);
}

/* Another port: the same SA, which is changed as it lives. */
static void test_port(void **state)
{
	(void)state;
	add_sa(true, 0x100, "reqid 1 mode tunnel encap espinudp 4500 1024 0.0.0.0 " GCM);
	assert_int_equal(install(&b, last(&a), 1000), 0);
	assert_int_equal(update(&b, last(&a)), 0);
	run("ip xfrm state update src " LOCAL " dst " REMOTE
	    " proto esp spi 0x100 reqid 1 mode tunnel encap espinudp 4500 2048 0.0.0.0 " GCM);
	process(&a);
	assert_int_equal(a.n_added, 2);
	assert_memory_equal(
		&a.added[0].record.key, &a.added[1].record.key, sizeof(struct record_key));
	assert_true(a.added[0].record.facts.birth == a.added[1].record.facts.birth);
	assert_true(a.added[0].record.facts.form != a.added[1].record.facts.form);
	assert_int_equal(update(&b, last(&a)), 0);
	assert_int_equal(oseq_of(&b, &last(&a)->key), 1000);
	assert_form();
	/* Not there: it is not made by an update. */
	assert_int_equal(xfrm_remove(b.x, &last(&a)->key), 0);
	assert_int_equal(update(&b, last(&a)), -ENOENT);
}

/* What strongSwan does when the peer moves: inbound, the key is the same, and the kernel does not
 * change the source of a living SA. */
static void test_source(void **state)
{
	(void)state;
	add_sa(false, 0x100, "reqid 1 mode tunnel replay-window 64 " GCM);
	run_in(&b,
		"ip xfrm state add src " REMOTE " dst " LOCAL " proto esp spi 0x100 reqid 1 mode "
		"tunnel replay-window 64 replay-seq 0x500 " GCM);
	run("ip xfrm state delete src " REMOTE " dst " LOCAL " proto esp spi 0x100");
	run("ip xfrm state add src " ELSEWHERE " dst " LOCAL
	    " proto esp spi 0x100 reqid 1 mode tunnel replay-window 64 " GCM);
	process(&a);
	assert_int_equal(a.n_added, 2);
	assert_memory_equal(
		&a.added[0].record.key, &a.added[1].record.key, sizeof(struct record_key));
	assert_true(a.added[0].record.facts.birth == a.added[1].record.facts.birth);
	assert_int_equal(update(&b, last(&a)), -EXDEV);
	assert_int_equal(install(&b, last(&a), 0), 0);
	assert_int_equal(seq_of(&b, &last(&a)->key), 0x500);
	assert_int_equal(update(&b, last(&a)), 0);
	assert_form();
}

static void test_destination(void **state)
{
	struct xfrm_record before;

	(void)state;
	add_sa(true, 0x100, "reqid 1 mode tunnel " GCM);
	before = *last(&a);
	run("ip xfrm state delete src " LOCAL " dst " REMOTE " proto esp spi 0x100");
	run("ip xfrm state add src " LOCAL " dst " ELSEWHERE
	    " proto esp spi 0x100 reqid 1 mode tunnel " GCM);
	process(&a);
	assert_int_equal(a.n_removed, 1);
	assert_memory_equal(&a.removed, &before.key, sizeof(before.key));
	assert_memory_not_equal(&last(&a)->key, &before.key, sizeof(before.key));
	assert_true(last(&a)->facts.birth == before.facts.birth);
}

/* Outbound, what cannot be changed: replaced, and never with a lower counter. */
static void test_replaced(void **state)
{
	(void)state;
	add_sa(true, 0x100, "reqid 1 mode tunnel " GCM);
	assert_int_equal(install(&b, last(&a), 5000), 0);
	run("ip xfrm state delete src " LOCAL " dst " REMOTE " proto esp spi 0x100");
	add_sa(true, 0x100, "reqid 2 mode tunnel " GCM);
	assert_int_equal(update(&b, last(&a)), -EXDEV);
	assert_int_equal(install(&b, last(&a), 1000), 0);
	assert_int_equal(oseq_of(&b, &last(&a)->key), 5000);
	assert_form();
}

/* We do for a peer that has moved what an IKE daemon does. */
static void test_follow(void **state)
{
	struct xfrm_place_change change = {.from = remote, .to = remote, .port = htons(7777)};
	struct xfrm_record before;

	(void)state;
	add_sa(true, 0x100,
		"reqid 1 mode tunnel encap espinudp 4500 1024 0.0.0.0 limit packet-hard "
		"90000 " GCM);
	before = *last(&a);
	assert_int_equal(xfrm_move(a.x, &before.key, 1000), 0);
	assert_int_equal(xfrm_follow(a.x, &before.key, &change), 0);
	assert_int_equal(a.n_added, 2); /* told, though we did it */
	assert_true(last(&a)->facts.form != before.facts.form);
	assert_int_equal(oseq_of(&a, &before.key), 1000);
	change.to = elsewhere;
	assert_int_equal(xfrm_follow(a.x, &before.key, &change), 0);
	assert_int_equal(a.n_added, 3);
	assert_memory_not_equal(&last(&a)->key, &before.key, sizeof(before.key));
	assert_true(last(&a)->facts.birth == before.facts.birth);
	assert_int_equal(last(&a)->oseq, 1000);
	assert_int_equal(xfrm_follow(a.x, &before.key, &change), -ENOENT);
	assert_int_equal(xfrm_follow(a.x, &last(&a)->key, &change), -ENOENT); /* it is there */
	process(&a);
	assert_int_equal(a.n_added, 3);
	assert_int_equal(a.n_removed, 0);

	run("ip xfrm policy add %s", policies[0]);
	process(&a);
	before = *last(&a);
	assert_int_equal(xfrm_follow(a.x, &before.key, &change), 0);
	assert_memory_equal(&last(&a)->key, &before.key, sizeof(before.key));
	assert_true(last(&a)->facts.pair != before.facts.pair);
	assert_int_equal(xfrm_follow(a.x, &before.key, &change), -ENOENT);
}

static void test_follow_inbound(void **state)
{
	const struct xfrm_place_change change = {
		.from = remote, .to = elsewhere, .port = htons(7777)};

	(void)state;
	add_sa(false, 0x100,
		"reqid 1 mode tunnel replay-window 64 replay-seq 0x500 encap espinudp 1024 4500 "
		"0.0.0.0 " GCM);
	assert_int_equal(xfrm_follow(a.x, &last(&a)->key, &change), 0);
	assert_int_equal(a.n_added, 2);
	assert_memory_equal(
		&a.added[0].record.key, &a.added[1].record.key, sizeof(struct record_key));
	assert_int_equal(last(&a)->seq, 0x500);
	run("ip xfrm state | grep -q 'src " ELSEWHERE " dst " LOCAL "'");
	run("ip xfrm state | grep -q 'sport 7777 dport 4500'");
}

/* libreswan's way. The kernel tells of it, but not what it did. */
static void test_migrate(void **state)
{
	_Alignas(8) char data[1024] = {0};
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(data);
	struct xfrm_userpolicy_id *id = mnl_nlmsg_put_extra_header(nlh, sizeof(*id));
	struct mnl_socket *s = mnl_socket_open(NETLINK_XFRM);
	struct xfrm_user_migrate m = {.proto = IPPROTO_ESP,
		.mode = XFRM_MODE_TUNNEL,
		.reqid = 1,
		.old_family = AF_INET,
		.new_family = AF_INET};
	struct xfrm_record before;

	(void)state;
	run("ip xfrm policy add %s", policies[0]);
	add_sa(true, 0x100, "reqid 1 mode tunnel " GCM);
	before = *last(&a);
	nlh->nlmsg_type = XFRM_MSG_MIGRATE;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	id->dir = XFRM_POLICY_OUT;
	id->sel.family = AF_INET;
	id->sel.saddr.a4 = inet_addr("10.1.0.0");
	id->sel.daddr.a4 = inet_addr("10.2.0.0");
	id->sel.prefixlen_s = id->sel.prefixlen_d = 16;
	m.old_saddr.a4 = m.new_saddr.a4 = inet_addr(LOCAL);
	m.old_daddr.a4 = inet_addr(REMOTE);
	m.new_daddr.a4 = inet_addr(ELSEWHERE);
	mnl_attr_put(nlh, XFRMA_MIGRATE, sizeof(m), &m);
	assert_non_null(s);
	assert_int_equal(mnl_socket_bind(s, 0, MNL_SOCKET_AUTOPID), 0);
	assert_true(mnl_socket_sendto(s, nlh, nlh->nlmsg_len) > 0);
	assert_true(mnl_socket_recvfrom(s, data, sizeof(data)) > 0);
	assert_int_equal(nlh->nlmsg_type, NLMSG_ERROR);
	assert_int_equal(((struct nlmsgerr *)mnl_nlmsg_get_payload(nlh))->error, 0);
	mnl_socket_close(s);
	process(&a);
	assert_true(a.n_changed >= 1);
	a.n_added = 0;
	assert_int_equal(dump(&a), 0);
	assert_int_equal(a.n_added, 2);
	assert_memory_not_equal(&a.added[0].record.key, &before.key, sizeof(before.key));
	assert_true(a.added[0].record.facts.birth == before.facts.birth);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_marks),
		TEST(test_port),
		TEST(test_source),
		TEST(test_destination),
		TEST(test_replaced),
		TEST(test_follow),
		TEST(test_follow_inbound),
		TEST(test_migrate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
