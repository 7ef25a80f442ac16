/* SPDX-License-Identifier: BSD-2-Clause */
/* xfrm_events.c - what the kernel does is told, what we do is done, on the wire too. Needs ESP and
 * root. */
#include "xfrm_side.h"

#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <poll.h>

static void test_what_is_told(void **state)
{
	struct record_key key;

	(void)state;
	add_sa(true, 0x100, "reqid 1 mode tunnel " GCM);
	assert_int_equal(a.n_added, 1);
	key = last(&a)->key;

	/* AH, or not the cluster's. */
	run("ip xfrm state add src " LOCAL " dst " REMOTE
	    " proto ah spi 0x5 mode tunnel auth 'hmac(sha1)' "
	    "0x0001020304050607080910111213141516171819");
	run("ip xfrm state add src 192.0.2.9 dst " REMOTE " proto esp spi 0x6 mode tunnel " GCM);
	run("ip xfrm state add src 2001:db8::1 dst 2001:db8::2 proto esp spi 0x7 mode tunnel " GCM);
	process(&a);
	assert_int_equal(a.n_added, 1);
	assert_int_equal(a.n_local, 1);
	assert_int_equal(a.local.proto, IPPROTO_AH);
	assert_int_equal(xfrm_dump(a.x), 0);
	assert_int_equal(a.n_local, 2);
	a.n_added = 1;

	run("ip xfrm state delete src " LOCAL " dst " REMOTE " proto ah spi 0x5");
	process(&a);
	assert_int_equal(a.n_removed, 1);
	assert_memory_equal(&a.removed, &a.local, sizeof(a.local));
	run("ip xfrm state delete src " LOCAL " dst " REMOTE " proto esp spi 0x100");
	process(&a);
	assert_int_equal(a.n_removed, 2);
	assert_memory_equal(&a.removed, &key, sizeof(key));

	add_sa(true, 0x100, "reqid 1 mode tunnel mark 5 mask 0xff " GCM);
	run("ip xfrm state flush proto ah");
	process(&a);
	assert_int_equal(a.n_flushed, 0);
	run("ip xfrm state flush proto esp");
	process(&a);
	assert_int_equal(a.n_flushed, 1);
	assert_int_equal(a.flushed, RECORD_SA);
	run("ip xfrm state flush"); /* nothing was there: nothing is told */
	process(&a);
	assert_int_equal(a.n_flushed, 1);
	add_sa(true, 0x100, "mode tunnel " GCM);
	run("ip xfrm state flush");
	process(&a);
	assert_int_equal(a.n_flushed, 2);
	assert_int_equal(a.n_removed, 2);
}

/* With an SA of IPComp in tunnel mode the kernel makes one of its own, which is nobody's business.
 */
static void test_ipcomp(void **state)
{
	const struct xfrm_record *copy;
	struct record_key key;

	(void)state;
	run("ip xfrm state add src " LOCAL " dst " REMOTE
	    " proto comp spi 0x100 reqid 1 mode tunnel comp deflate");
	process(&a);
	assert_int_equal(a.n_added, 1);
	copy = last(&a);
	key = copy->key;
	assert_int_equal(key.proto, IPPROTO_COMP);
	assert_int_equal(install(&b, copy, 0), 0);
	assert_int_equal(install(&b, copy, 0), 0); /* it is there */
	for (struct side *s = &a; s; s = s == &a ? &b : NULL) {
		s->n_added = 0;
		assert_int_equal(dump(s), 0);
		assert_int_equal(s->n_added, 1);
		assert_memory_equal(&last(s)->key, &key, sizeof(key));
		assert_int_equal(last(s)->facts.birth, copy->facts.birth);
		assert_int_equal(s->n_local, 0);
	}
	assert_int_equal(xfrm_remove(b.x, &key), 0);
	assert_int_equal(xfrm_remove(b.x, &key), -ENOENT);
	assert_int_equal(install(&b, copy, 0), 0); /* its CPI is free again at once */
	run("ip xfrm state flush proto comp");
	process(&a);
	assert_int_equal(a.n_flushed, 1);
	assert_int_equal(a.n_removed, 0);
}

/* Bound to an interface: another kernel has another one. */
static void test_local(void **state)
{
	(void)state;
	add_sa(true, 0x100, "mode tunnel " GCM " sel dev lo");
	assert_int_equal(a.n_added, 0);
	assert_int_equal(a.n_local, 1);
	assert_int_equal(a.local.spi, htonl(0x100));
	assert_int_equal(xfrm_dump(a.x), 0);
	assert_int_equal(a.n_added, 0);
	assert_int_equal(a.n_local, 2);
	run("ip xfrm state delete src " LOCAL " dst " REMOTE " proto esp spi 0x100");
	process(&a);
	assert_int_equal(a.n_removed, 1);
	assert_memory_equal(&a.removed, &a.local, sizeof(a.local));
}

static void test_what_is_told_of_policies(void **state)
{
	static const char elsewhere[] =
		"src 10.1.0.0/16 dst 10.2.0.0/16 dir out priority 10 "
		"tmpl src 192.0.2.9 dst " REMOTE " proto esp reqid 1 mode tunnel";
	struct record_key key;

	(void)state;
	run("ip xfrm policy add %s", policies[0]);
	process(&a);
	key = last(&a)->key;
	run("ip xfrm policy update src 10.1.0.0/16 dst 10.2.0.0/16 dir out priority 11 flag icmp "
	    "tmpl src " LOCAL " dst " REMOTE " proto esp reqid 1 mode tunnel");
	process(&a);
	assert_int_equal(a.n_added, 2);
	assert_memory_equal(&last(&a)->key, &key, sizeof(key));
	assert_int_equal(((const struct xfrm_userpolicy_info *)last(&a)->body)->priority, 11);

	run("ip xfrm policy update %s", elsewhere);
	process(&a);
	assert_int_equal(a.n_removed, 1);
	assert_memory_equal(&a.removed, &key, sizeof(key));
	run("ip xfrm policy delete src 10.1.0.0/16 dst 10.2.0.0/16 dir out");
	process(&a);
	assert_int_equal(a.n_removed, 2);

	run("ip xfrm policy add %s", policies[3]);
	process(&a);
	key = last(&a)->key;
	run("ip xfrm policy delete src 10.1.0.0/16 dst 10.2.0.0/16 dir out mark 5 mask 0xff");
	process(&a);
	assert_int_equal(a.n_removed, 3);
	assert_memory_equal(&a.removed, &key, sizeof(key));

	run("ip xfrm policy add %s", policies[1]);
	run("ip xfrm policy flush");
	process(&a);
	assert_int_equal(a.n_flushed, 1);
	assert_int_equal(a.flushed, RECORD_POLICY);
}

static void wait_removed(struct side *s, unsigned int n)
{
	struct pollfd p = {.fd = xfrm_fd(s->x), .events = POLLIN};

	while (s->n_removed < n) {
		if (poll(&p, 1, 10000) != 1)
			fail_msg("nothing was told for 10 s");
		process(s);
	}
}

/* The kernel tells of it by XFRM_MSG_EXPIRE only. */
static void test_hard_expire(void **state)
{
	struct record_key key;

	(void)state;
	add_sa(true, 0x100, "mode tunnel limit time-soft 1 limit time-hard 2 " GCM);
	key = last(&a)->key;
	wait_removed(&a, 1);
	assert_memory_equal(&a.removed, &key, sizeof(key));
	assert_int_equal(xfrm_remove(a.x, &key), -ENOENT);

	run("ip xfrm policy add src 10.1.0.0/16 dst 10.2.0.0/16 dir out limit time-hard 1 tmpl "
	    "src " LOCAL " dst " REMOTE " proto esp mode tunnel");
	process(&a);
	key = last(&a)->key;
	wait_removed(&a, 2);
	assert_memory_equal(&a.removed, &key, sizeof(key));
	sleep(1);
	process(&a);
	assert_int_equal(a.n_removed, 2);
}

/* IKE daemons reserve an SPI, then fill in the SA. */
static void test_larval(void **state)
{
	struct record_key key;

	(void)state;
	run("ip xfrm state allocspi src " REMOTE " dst " LOCAL
	    " proto esp mode tunnel reqid 1 min 0x300 max 0x300 >/dev/null");
	process(&a);
	assert_int_equal(dump(&a), 0);
	assert_int_equal(a.n_added, 0);
	run("ip xfrm state update src " REMOTE " dst " LOCAL
	    " proto esp spi 0x300 reqid 1 mode tunnel " GCM);
	process(&a);
	assert_int_equal(a.n_added, 1);
	key = last(&a)->key;
	assert_int_equal(key.spi, htonl(0x300));

	/* Of a living SA the kernel takes no other key, and no other is told. */
	run("ip xfrm state update src " REMOTE " dst " LOCAL
	    " proto esp spi 0x300 reqid 1 mode tunnel " CBC);
	process(&a);
	assert_int_equal(a.n_added, 2);
	assert_int_equal(a.added[1].record.facts.birth, a.added[0].record.facts.birth);
	assert_memory_equal(
		a.added[1].body + 240, a.added[0].body + 240, a.added[0].record.body_len - 240);
}

/* Reads the sequence number of the next ESP packet that leaves by the interface. */
static uint32_t emitted(const struct side *s)
{
	struct sockaddr_in to = {.sin_family = AF_INET,
		.sin_port = htons(9),
		.sin_addr.s_addr = inet_addr("10.2.0.1")};
	struct sockaddr_ll on = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
	struct timeval patience = {.tv_sec = 5};
	uint32_t words[64] = {0};
	int packets, udp;

	enter(s);
	on.sll_ifindex = (int)if_nametoindex("d0");
	packets = socket(AF_PACKET, SOCK_DGRAM, 0);
	assert_int_equal(bind(packets, (struct sockaddr *)&on, sizeof(on)), 0);
	setsockopt(packets, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	udp = socket(AF_INET, SOCK_DGRAM, 0);
	assert_int_equal(sendto(udp, "x", 1, 0, (struct sockaddr *)&to, sizeof(to)), 1);
	do {
		assert_true(recv(packets, words, sizeof(words), 0) > 28);
	} while (((struct iphdr *)words)->protocol != IPPROTO_ESP);
	close(udp);
	close(packets);
	enter(&a);
	return ntohl(words[6]); /* behind the IPv4 header and the SPI */
}

static void make_path(const struct side *s)
{
	enter(s);
	assert_int_equal(
		system("ip link add d0 type dummy && ip address add " LOCAL "/24 dev d0 && "
		       "ip address add 10.1.0.1/32 dev d0 && ip link set d0 up && "
		       "ip route add default dev d0 src 10.1.0.1"),
		0);
	enter(&a);
}

static void move_and_emit(const char *more, uint64_t oseq, uint32_t first)
{
	uint64_t now, seq;
	struct record_key key;

	add_sa(true, 0x100, more);
	run("ip xfrm policy add %s", policies[0]);
	process(&a);
	key = a.added[a.n_added - 2].record.key;
	assert_int_equal(emitted(&a), 1);
	assert_int_equal(xfrm_move(a.x, &key, oseq), 0);
	assert_int_equal(xfrm_counters(a.x, &key, &now, &seq), 0);
	assert_int_equal(now, oseq);
	assert_int_equal(emitted(&a), first);
	assert_int_equal(emitted(&a), first + 1);
	/* Never back. */
	assert_int_equal(xfrm_move(a.x, &key, oseq), 0);
	assert_int_equal(emitted(&a), first + 2);
	run("ip xfrm state flush");
	run("ip xfrm policy flush");
}

static void test_move(void **state)
{
	(void)state;
	make_path(&a);
	move_and_emit("reqid 1 mode tunnel replay-window 32 " GCM, 0x20000, 0x20001);
	move_and_emit("reqid 1 mode tunnel replay-window 256 " CBC, 0x20000, 0x20001);
	move_and_emit("reqid 1 mode tunnel replay-window 128 flag esn " GCM, 0x30000ffff, 0x10000);
	move_and_emit("reqid 1 mode tunnel replay-window 32 flag esn " GCM, 0x3ffffffff, 0);
	move_and_emit("reqid 1 mode tunnel replay-window 32 " GCM, 0xfffffff0, 0xfffffff1);
}

static void test_marked_sa_moves(void **state)
{
	uint64_t oseq, seq;

	(void)state;
	add_sa(true, 0x100, "mode tunnel mark 5 mask 0xff " GCM);
	assert_int_equal(xfrm_move(a.x, &last(&a)->key, 777), 0);
	assert_int_equal(xfrm_counters(a.x, &last(&a)->key, &oseq, &seq), 0);
	assert_int_equal(oseq, 777);
	assert_int_equal(xfrm_move(a.x, &last(&a)->key, 0x100000000), -ERANGE);
	assert_int_equal(xfrm_expire(a.x, &last(&a)->key), 0);
	assert_int_equal(install(&b, last(&a), 888), 0);
	assert_int_equal(xfrm_move(b.x, &last(&a)->key, 999), 0);
	assert_int_equal(xfrm_remove(b.x, &last(&a)->key), 0);
	assert_int_equal(xfrm_move(b.x, &last(&a)->key, 999), -ENOENT);
}

/* A copy's first number, on the wire. */
static void test_copy_starts_at(void **state)
{
	(void)state;
	add_sa(true, 0x100, "reqid 1 mode tunnel replay-window 32 flag esn " GCM);
	run("ip xfrm policy add %s", policies[0]);
	process(&a);
	assert_int_equal(install(&b, &a.added[0].record, 0x40000), 0);
	assert_int_equal(install(&b, &a.added[1].record, 0), 0);
	make_path(&b);
	assert_int_equal(emitted(&b), 0x40001);
}

/* Counters by async event; and what others do is told, what we do is not. */
static void test_counters_are_told(void **state)
{
	struct xfrm *other = open_here(&b);

	(void)state;
	add_sa(true, 0x100, "reqid 1 mode tunnel flag esn replay-window 32 " GCM);
	assert_int_equal(xfrm_move(a.x, &last(&a)->key, 0x100000005), 0);
	process(&a);
	assert_int_equal(a.n_counters, 0);
	assert_int_equal(xfrm_move(other, &last(&a)->key, 0x200000005), 0);
	process(&a);
	assert_int_equal(a.n_counters, 1);
	assert_int_equal(a.oseq, 0x200000005);
	assert_int_equal(a.seq, 0);

	assert_int_equal(xfrm_remove(a.x, &last(&a)->key), 0);
	process(&a);
	assert_int_equal(a.n_removed, 0);
	b.n_removed = 0;
	assert_int_equal(xfrm_process(other), 0);
	assert_int_equal(b.n_removed, 1);
	xfrm_close(other);
}

static void test_expire(void **state)
{
	_Alignas(8) char buf[8192];
	struct mnl_socket *s = mnl_socket_open(NETLINK_XFRM);
	const struct nlmsghdr *nlh = (const struct nlmsghdr *)buf;
	const struct xfrm_user_expire *e;
	int group = XFRMNLGRP_EXPIRE;

	(void)state;
	add_sa(true, 0x100, "reqid 1 mode tunnel " GCM);
	assert_int_equal(mnl_socket_bind(s, 0, MNL_SOCKET_AUTOPID), 0);
	assert_int_equal(
		mnl_socket_setsockopt(s, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)), 0);
	assert_int_equal(xfrm_expire(a.x, &last(&a)->key), 0);
	assert_true(mnl_socket_recvfrom(s, buf, sizeof(buf)) > 0);
	assert_int_equal(nlh->nlmsg_type, XFRM_MSG_EXPIRE);
	e = mnl_nlmsg_get_payload(nlh);
	assert_int_equal(e->hard, 0);
	assert_int_equal(e->state.id.spi, htonl(0x100));
	mnl_socket_close(s);
	process(&a);
	assert_int_equal(a.n_removed, 0);
	assert_int_equal(xfrm_remove(a.x, &last(&a)->key), 0);
	assert_int_equal(xfrm_expire(a.x, &last(&a)->key), -ENOENT);
}

static void test_overrun(void **state)
{
	int size = 4096;

	(void)state;
	assert_int_equal(setsockopt(xfrm_fd(a.x), SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)), 0);
	run("for i in $(seq 1 50); do echo xfrm state add src " LOCAL " dst " REMOTE
	    " proto esp spi $i mode tunnel " GCM "; done | tr -d \\' | ip -batch -");
	process(&a);
	assert_true(a.n_overruns >= 1);
	assert_true(a.n_added < 50);
	a.n_added = 0;
	assert_int_equal(dump(&a), 0);
	assert_int_equal(a.n_added, 50);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_what_is_told),
		TEST(test_ipcomp),
		TEST(test_local),
		TEST(test_what_is_told_of_policies),
		TEST(test_hard_expire),
		TEST(test_larval),
		TEST(test_move),
		TEST(test_marked_sa_moves),
		TEST(test_copy_starts_at),
		TEST(test_counters_are_told),
		TEST(test_expire),
		TEST(test_overrun),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
