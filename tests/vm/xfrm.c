/* SPDX-License-Identifier: BSD-2-Clause */
/* xfrm.c - SAs and policies read from one kernel's SAD and SPD, built in another's, moved, expired
 * and told of. The two are two network namespaces. Needs a kernel with ESP, and root. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <libmnl/libmnl.h>

#include "io/xfrm.h"
#include "io/xfrm_body.h"

#define LOCAL "192.0.2.1"
#define REMOTE "198.51.100.1"
#define RECORDS 64
#define GCM "aead 'rfc4106(gcm(aes))' 0x0102030405060708090a0b0c0d0e0f1011121314 128"
#define CBC                                                                                        \
	"auth-trunc 'hmac(sha256)' "                                                               \
	"0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f 128 "                  \
	"enc 'cbc(aes)' 0x202122232425262728292a2b2c2d2e2f"

/* A network namespace and what was told of it. */
struct side {
	int ns;
	struct xfrm *x;
	unsigned int n_added, n_removed, n_flushed, n_counters, n_overruns;
	struct {
		struct xfrm_record record;
		uint8_t body[RECORD_BODY_MAX];
	} added[RECORDS]; /* the last ones */
	struct record_key removed;
	enum record_kind flushed;
	uint64_t oseq, seq;
};

static struct side a, b;

static void on_added(void *ctx, const struct xfrm_record *record)
{
	struct side *s = ctx;
	unsigned int i = s->n_added++ % RECORDS;

	s->added[i].record = *record;
	memcpy(s->added[i].body, record->body, record->body_len);
	s->added[i].record.body = s->added[i].body;
}

static void on_removed(void *ctx, const struct record_key *key)
{
	struct side *s = ctx;

	s->n_removed++;
	s->removed = *key;
}

static void on_flushed(void *ctx, enum record_kind kind)
{
	struct side *s = ctx;

	s->n_flushed++;
	s->flushed = kind;
}

static void on_counters(void *ctx, const struct record_key *key, uint64_t oseq, uint64_t seq)
{
	struct side *s = ctx;

	(void)key;
	s->n_counters++;
	s->oseq = oseq;
	s->seq = seq;
}

static void on_overrun(void *ctx)
{
	struct side *s = ctx;

	s->n_overruns++;
}

static const struct xfrm_handlers handlers = {
	on_added, on_removed, on_flushed, on_counters, on_overrun};

static void enter(const struct side *s)
{
	assert_int_equal(setns(s->ns, CLONE_NEWNET), 0);
}

static struct xfrm *open_here(void *ctx)
{
	struct in_addr address = {inet_addr(LOCAL)};
	struct xfrm_config config = {
		.addresses = &address, .n_addresses = 1, .events_for_counters = true};
	struct xfrm *x;

	assert_int_equal(xfrm_open(&config, &handlers, ctx, &x), 0);
	return x;
}

static void make_side(struct side *s)
{
	memset(s, 0, sizeof(*s));
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	s->ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	assert_true(s->ns >= 0);
	s->x = open_here(s);
}

static int set_up(void **state)
{
	(void)state;
	make_side(&a);
	make_side(&b);
	enter(&a);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	xfrm_close(a.x);
	xfrm_close(b.x);
	close(a.ns);
	close(b.ns);
	return 0;
}

/* A shell command in a's namespace. */
__attribute__((format(printf, 1, 2))) static void run(const char *format, ...)
{
	char command[2048];
	va_list ap;

	va_start(ap, format);
	vsnprintf(command, sizeof(command), format, ap);
	va_end(ap);
	enter(&a);
	if (system(command) != 0)
		fail_msg("%s", command);
}

/* What the kernel has, without what is local to it and the time. */
static void show(const struct side *s, const char *what, char *buf, size_t size)
{
	char command[256];
	FILE *pipe;
	size_t n;

	snprintf(command, sizeof(command),
		"ip -s xfrm %s | sed -E 's/ add [0-9].*//; s/(index|replay-oseq|oseq) [^ ]+//' | "
		"grep -v 'replay [0-9]* failed' | sed -E 's/seq [^ ]+//'",
		what);
	enter(s);
	pipe = popen(command, "r");
	assert_non_null(pipe);
	n = fread(buf, 1, size - 1, pipe);
	assert_true(n < size - 1);
	buf[n] = 0;
	assert_int_equal(pclose(pipe), 0);
	enter(&a);
}

static void assert_same(const char *what)
{
	static char in_a[65536], in_b[65536];

	show(&a, what, in_a, sizeof(in_a));
	show(&b, what, in_b, sizeof(in_b));
	assert_true(strlen(in_a) > 100);
	assert_string_equal(in_b, in_a);
}

static void process(struct side *s)
{
	for (int i = 0; i < 8; i++)
		assert_int_equal(xfrm_process(s->x), 0);
}

static const struct xfrm_record *last(const struct side *s)
{
	assert_true(s->n_added > 0);
	return &s->added[(s->n_added - 1) % RECORDS].record;
}

static void add_sa(bool outbound, uint32_t spi, const char *more)
{
	run("ip xfrm state add src %s dst %s proto esp spi 0x%x %s", outbound ? LOCAL : REMOTE,
		outbound ? REMOTE : LOCAL, spi, more);
	process(&a);
}

static int install(struct side *s, const struct xfrm_record *r, uint64_t oseq)
{
	return xfrm_install(s->x, &r->key, &r->facts, r->body, r->body_len, oseq);
}

static const char *const kinds[] = {
	"reqid 1 mode tunnel " GCM,
	"reqid 1 mode transport " CBC,
	"reqid 2 mode beet " GCM " sel src 10.1.0.1/32 dst 10.2.0.1/32",
	"reqid 3 mode tunnel replay-window 32 " GCM,
	"reqid 4 mode tunnel replay-window 128 flag esn " GCM,
	"reqid 4 mode tunnel replay-window 256 " CBC,
	"reqid 5 mode tunnel replay-window 32 flag esn " CBC,
	"reqid 6 mode tunnel mark 0x5 mask 0xff " GCM,
	"reqid 6 mode tunnel if_id 0x7 " GCM,
	"reqid 6 mode tunnel mark 0x15 mask 0xff if_id 0x7 output-mark 0x9 mask 0xf " GCM,
	"reqid 7 mode tunnel encap espinudp 4500 1024 0.0.0.0 " GCM,
	"reqid 8 mode tunnel flag nopmtudisc flag af-unspec flag noecn flag decap-dscp " GCM,
	"reqid 8 mode tunnel flag align4 flag icmp extra-flag dont-encap-dscp " GCM,
	"reqid 8 mode tunnel extra-flag oseq-may-wrap " GCM,
	"reqid 9 mode tunnel limit time-soft 1000 limit time-hard 2000 limit byte-soft 5000000 "
	"limit byte-hard 6000000 "
	"limit packet-soft 70000 limit packet-hard 80000 limit time-use-soft 900 limit "
	"time-use-hard 950 " GCM,
	"reqid 10 mode tunnel " GCM " sel src 2001:db8:1::/64 dst 2001:db8:2::/64",
	"reqid 10 mode transport " CBC " sel src " LOCAL "/32 dst " REMOTE
	"/32 proto tcp sport 80 dport 443",
	"reqid 11 mode tunnel auth 'hmac(sha1)' 0x0001020304050607080910111213141516171819 enc "
	"'ecb(cipher_null)' ''",
	"reqid 12 mode tunnel " GCM " flag wildrecv",
	"mode tunnel " GCM,
};

/* Each kind of SA in both directions: the copy is the same to ip, and to us. */
static void test_sas(void **state)
{
	const unsigned int n = 2 * sizeof(kinds) / sizeof(*kinds);
	struct xfrm_record records[2 * sizeof(kinds) / sizeof(*kinds)];

	(void)state;
	for (unsigned int i = 0; i < n; i++)
		add_sa(i % 2, 0x1000 + i, kinds[i / 2]);
	assert_int_equal(a.n_added, n);
	for (unsigned int i = 0; i < n; i++) {
		records[i] = a.added[i].record;
		assert_int_equal(records[i].key.spi, htonl(0x1000 + i));
		assert_int_equal(records[i].facts.direction, i % 2 ? ESPALIER_OUT : ESPALIER_IN);
		assert_int_equal(install(&b, &records[i], 0), 0);
	}
	assert_same("state");
	/* Nobody was told of what we did ourselves. */
	process(&b);
	assert_int_equal(b.n_added, 0);

	assert_int_equal(xfrm_dump(b.x), 0);
	assert_int_equal(b.n_added, n);
	for (unsigned int i = 0; i < n; i++) {
		const struct xfrm_record *copy = &b.added[i].record, *from = NULL;

		for (unsigned int j = 0; j < n; j++)
			if (memcmp(&records[j].key, &copy->key, sizeof(copy->key)) == 0)
				from = &records[j];
		assert_non_null(from);
		assert_int_equal(copy->facts.birth, from->facts.birth);
		assert_int_equal(copy->facts.pair, from->facts.pair);
		assert_int_equal(copy->facts.direction, from->facts.direction);
		assert_int_equal(copy->facts.esn, from->facts.esn);
		assert_int_equal(copy->body_len, from->body_len);
	}
	for (unsigned int i = 0; i < n; i++)
		assert_int_equal(xfrm_remove(b.x, &records[i].key), 0);
	assert_int_equal(xfrm_remove(b.x, &records[0].key), -ENOENT);
	process(&b);
	assert_int_equal(b.n_removed, 0);
	b.n_added = 0;
	assert_int_equal(xfrm_dump(b.x), 0);
	assert_int_equal(b.n_added, 0);
}

/* The age of an SA is the copy's, too. */
static void test_age(void **state)
{
	(void)state;
	add_sa(true, 0x100, "mode tunnel limit time-hard 100 " GCM);
	sleep(3);
	assert_int_equal(xfrm_dump(a.x), 0);
	assert_in_range(((const struct xfrm_usersa_info *)last(&a)->body)->curlft.add_time, 2, 10);
	assert_int_equal(install(&b, last(&a), 0), 0);
	assert_int_equal(xfrm_dump(b.x), 0);
	assert_in_range(((const struct xfrm_usersa_info *)last(&b)->body)->curlft.add_time, 2, 10);
}

static const char *const policies[] = {
	"src 10.1.0.0/16 dst 10.2.0.0/16 dir out priority 10 tmpl src " LOCAL " dst " REMOTE
	" proto esp reqid 1 mode tunnel",
	"src 10.2.0.0/16 dst 10.1.0.0/16 dir in priority 10 tmpl src " REMOTE " dst " LOCAL
	" proto esp reqid 1 mode tunnel",
	"src 10.2.0.0/16 dst 10.1.0.0/16 dir fwd priority 10 tmpl src " REMOTE " dst " LOCAL
	" proto esp reqid 1 mode tunnel level use",
	"src 10.1.0.0/16 dst 10.2.0.0/16 dir out mark 5 mask 0xff priority 10 tmpl src " LOCAL
	" dst " REMOTE " proto esp spi 0x100 reqid 2 mode tunnel",
	"src 10.1.0.0/16 dst 10.2.0.0/16 dir out if_id 0x6 priority 10 tmpl src " LOCAL
	" dst " REMOTE " proto esp reqid 3 mode tunnel",
	"src 2001:db8:1::/64 dst 2001:db8:2::/64 dir out tmpl src " LOCAL " dst " REMOTE
	" proto esp reqid 4 mode tunnel",
	"src " LOCAL "/32 dst " REMOTE
	"/32 proto tcp sport 80 dir out flag icmp tmpl proto esp reqid 5 mode transport",
	"src 10.1.0.1/32 dst 10.2.0.1/32 dir out limit time-hard 1000 limit packet-soft 500 tmpl "
	"src " LOCAL " dst " REMOTE " proto comp reqid 6 mode tunnel level use tmpl src 0.0.0.0 "
	"dst 0.0.0.0 proto esp reqid 6 mode transport",
};
static const char *const foreign_policies[] = {
	"src 10.1.0.0/16 dst 10.3.0.0/16 dir out tmpl src 192.0.2.9 dst " REMOTE
	" proto esp reqid 1 mode tunnel",
	"src 10.1.0.0/16 dst 10.4.0.0/16 dir out action block",
	"src 10.1.0.0/16 dst 10.5.0.0/16 dir out tmpl src " LOCAL " dst " REMOTE
	" proto ah reqid 1 mode tunnel",
};

static void test_policies(void **state)
{
	const unsigned int n =
		sizeof(policies) / sizeof(*policies) - 1; /* the last has its ESP end elsewhere */
	char without[16384];

	(void)state;
	for (unsigned int i = 0; i < n; i++)
		run("ip xfrm policy add %s", policies[i]);
	process(&a);
	assert_int_equal(a.n_added, n);
	for (unsigned int i = 0; i < n; i++)
		assert_int_equal(install(&b, &a.added[i].record, 0), 0);
	assert_same("policy");
	/* Again: nothing changes. */
	for (unsigned int i = 0; i < n; i++)
		assert_int_equal(install(&b, &a.added[i].record, 0), 0);
	assert_same("policy");
	process(&b);
	assert_int_equal(b.n_added, 0);

	for (unsigned int i = 0; i < n; i++) {
		const struct xfrm_record *r = &a.added[i].record;
		uint8_t body[RECORD_BODY_MAX];

		assert_int_equal(xfrm_read(b.x, &r->key, body, sizeof(body)), r->body_len);
		assert_memory_equal(body, r->body, r->body_len);
	}

	for (unsigned int i = 0; i < sizeof(foreign_policies) / sizeof(*foreign_policies); i++)
		run("ip xfrm policy add %s", foreign_policies[i]);
	process(&a);
	assert_int_equal(a.n_added, n);
	a.n_added = 0;
	assert_int_equal(xfrm_dump(a.x), 0);
	assert_int_equal(a.n_added, n);

	for (unsigned int i = 0; i < n; i++)
		assert_int_equal(xfrm_remove(b.x, &a.added[i].record.key), 0);
	assert_int_equal(xfrm_remove(b.x, &a.added[0].record.key), -ENOENT);
	show(&b, "policy", without, sizeof(without));
	assert_string_equal(without, "");
	process(&b);
	assert_int_equal(b.n_removed, 0);
}

static void test_child_sa_is_a_pair(void **state)
{
	uint64_t pair;

	(void)state;
	add_sa(false, 0x100, "reqid 1 mode tunnel " GCM);
	add_sa(true, 0x200, "reqid 1 mode tunnel mark 5 mask 0xff " GCM);
	for (int i = 0; i < 3; i++)
		run("ip xfrm policy add %s", policies[i]);
	process(&a);
	assert_int_equal(a.n_added, 5);
	pair = a.added[0].record.facts.pair;
	for (int i = 1; i < 5; i++)
		assert_int_equal(a.added[i].record.facts.pair, pair);
	assert_int_equal(a.added[2].record.facts.remote.prefixlen, 16);
	assert_int_equal(a.added[2].record.facts.remote.addr, inet_addr("10.2.0.0"));
}

static void test_what_is_told(void **state)
{
	struct record_key key;

	(void)state;
	add_sa(true, 0x100, "reqid 1 mode tunnel " GCM);
	assert_int_equal(a.n_added, 1);
	key = last(&a)->key;

	/* Not ESP, or not the cluster's. */
	run("ip xfrm state add src " LOCAL " dst " REMOTE
	    " proto ah spi 0x5 mode tunnel auth 'hmac(sha1)' "
	    "0x0001020304050607080910111213141516171819");
	run("ip xfrm state add src 192.0.2.9 dst " REMOTE " proto esp spi 0x6 mode tunnel " GCM);
	run("ip xfrm state add src 2001:db8::1 dst 2001:db8::2 proto esp spi 0x7 mode tunnel " GCM);
	process(&a);
	assert_int_equal(a.n_added, 1);

	run("ip xfrm state delete src " LOCAL " dst " REMOTE " proto ah spi 0x5");
	process(&a);
	assert_int_equal(a.n_removed, 0);
	run("ip xfrm state delete src " LOCAL " dst " REMOTE " proto esp spi 0x100");
	process(&a);
	assert_int_equal(a.n_removed, 1);
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
	assert_int_equal(a.n_removed, 1);
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
	assert_int_equal(a.n_removed, 1);

	run("ip xfrm policy add %s", policies[3]);
	process(&a);
	key = last(&a)->key;
	run("ip xfrm policy delete src 10.1.0.0/16 dst 10.2.0.0/16 dir out mark 5 mask 0xff");
	process(&a);
	assert_int_equal(a.n_removed, 2);
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
	assert_int_equal(xfrm_dump(a.x), 0);
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

	/* A copy takes the place of a larval SA. */
	enter(&b);
	assert_int_equal(system("ip xfrm state allocspi src " REMOTE " dst " LOCAL
				" proto esp mode tunnel reqid 1 min 0x300 max 0x300 >/dev/null"),
		0);
	enter(&a);
	assert_int_equal(install(&b, last(&a), 0), 0);
	assert_same("state");
}

static void test_install_again(void **state)
{
	uint64_t oseq, seq;

	(void)state;
	add_sa(true, 0x100, "reqid 1 mode tunnel " GCM);
	assert_int_equal(install(&b, last(&a), 1000), 0);
	assert_int_equal(xfrm_counters(b.x, &last(&a)->key, &oseq, &seq), 0);
	assert_int_equal(oseq, 1000);
	/* Kept; its counter goes forth and not back. */
	assert_int_equal(install(&b, last(&a), 500), 0);
	assert_int_equal(xfrm_counters(b.x, &last(&a)->key, &oseq, &seq), 0);
	assert_int_equal(oseq, 1000);
	assert_int_equal(install(&b, last(&a), 2000), 0);
	assert_int_equal(xfrm_counters(b.x, &last(&a)->key, &oseq, &seq), 0);
	assert_int_equal(oseq, 2000);

	/* Another SA of the same SPI. */
	run("ip xfrm state flush");
	add_sa(true, 0x100, "reqid 1 mode tunnel " CBC);
	assert_int_equal(install(&b, last(&a), 10), 0);
	assert_int_equal(xfrm_counters(b.x, &last(&a)->key, &oseq, &seq), 0);
	assert_int_equal(oseq, 10);
	process(&b);
	assert_int_equal(b.n_removed, 0);
	assert_int_equal(b.n_added, 0);
}

static void test_refused(void **state)
{
	struct xfrm_record r;
	_Alignas(8) uint8_t body[RECORD_BODY_MAX + 8];

	(void)state;
	add_sa(true, 0x100, "reqid 1 mode tunnel " GCM);
	r = *last(&a);
	r.key.spi++;
	assert_int_equal(install(&b, &r, 0), -EBADMSG);
	r = *last(&a);
	r.facts.birth++;
	assert_int_equal(install(&b, &r, 0), -EBADMSG);
	r = *last(&a);
	r.facts.direction = ESPALIER_IN;
	assert_int_equal(install(&b, &r, 0), -EBADMSG);
	r = *last(&a);
	r.facts.pair++;
	assert_int_equal(install(&b, &r, 0), -EBADMSG);
	r = *last(&a);
	r.key.kind = 9;
	assert_int_equal(install(&b, &r, 0), -EBADMSG);
	r = *last(&a);
	r.body_len--;
	assert_int_equal(install(&b, &r, 0), -EBADMSG);
	r = *last(&a);
	r.body_len = RECORD_BODY_MAX + 1;
	assert_int_equal(install(&b, &r, 0), -EBADMSG);
	assert_int_equal(install(&b, last(&a), 0x100000000), -ERANGE); /* without ESN */

	/* Of no cluster address. */
	r = *last(&a);
	memcpy(body, r.body, r.body_len);
	r.body = body;
	((struct xfrm_usersa_info *)body)->saddr.a4++;
	assert_int_equal(install(&b, &r, 0), -EADDRNOTAVAIL);

	/* Unaligned is as good; nothing of the above was left behind. */
	r = *last(&a);
	memcpy(body + 1, r.body, r.body_len);
	r.body = body + 1;
	assert_int_equal(xfrm_dump(b.x), 0);
	assert_int_equal(b.n_added, 0);
	assert_int_equal(install(&b, &r, 0), 0);
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
	assert_int_equal(xfrm_dump(a.x), 0);
	assert_int_equal(a.n_added, 50);
}

/* From 6.10 on. */
static bool kernel_has_direction(void)
{
	unsigned int major, minor;
	struct utsname name;

	assert_int_equal(uname(&name), 0);
	assert_int_equal(sscanf(name.release, "%u.%u", &major, &minor), 2);
	return major > 6 || (major == 6 && minor >= 10);
}

/* XFRMA_SA_DIR, as a body of a kernel that has it: kept where this one has it, too, and left out
 * elsewhere. */
static void test_direction(void **state)
{
	_Alignas(8) uint8_t body[RECORD_BODY_MAX];
	struct xfrm_replay_state_esn *esn;
	struct xfrm_body parsed;
	struct xfrm_record r;
	struct nlattr *dir;
	uint64_t oseq, seq;
	bool known;

	(void)state;
	add_sa(true, 0x100, "reqid 1 mode tunnel flag esn replay-window 32 " GCM);
	r = *last(&a);
	memcpy(body, r.body, r.body_len);
	r.body = body;
	dir = (struct nlattr *)(body + r.body_len);
	dir->nla_type = XFRM_BODY_SA_DIR;
	dir->nla_len = MNL_ATTR_HDRLEN + 1;
	*((uint8_t *)mnl_attr_get_payload(dir)) = 2;
	r.body_len += 8;
	assert_int_equal(
		xfrm_body_parse(RECORD_SA, body, r.body_len, XFRM_BODY_MEMBER, &parsed), 0);
	esn = mnl_attr_get_payload(parsed.attr[XFRMA_REPLAY_ESN_VAL]);
	esn->replay_window = esn->bmp_len = 0;

	assert_int_equal(install(&b, &r, 0x100000010), 0);
	assert_int_equal(xfrm_counters(b.x, &r.key, &oseq, &seq), 0);
	assert_int_equal(oseq, 0x100000010);
	assert_int_equal(xfrm_move(b.x, &r.key, 0x100000020), 0);
	assert_int_equal(xfrm_dump(b.x), 0);
	assert_int_equal(xfrm_body_parse(RECORD_SA, last(&b)->body, last(&b)->body_len,
				 XFRM_BODY_MEMBER, &parsed),
		0);
	esn = mnl_attr_get_payload(parsed.attr[XFRMA_REPLAY_ESN_VAL]);
	known = parsed.attr[XFRM_BODY_SA_DIR] != NULL;
	assert_int_equal(esn->replay_window, known ? 0 : 1);
	assert_int_equal(known, kernel_has_direction());
	/* And from here to a third kernel. */
	assert_int_equal(xfrm_remove(b.x, &r.key), 0);
	assert_int_equal(install(&b, last(&b), 5), 0);

	/* Inbound, with counters of its own direction only. */
	add_sa(false, 0x200, "reqid 1 mode tunnel flag esn replay-window 32 " GCM);
	r = *last(&a);
	memcpy(body, r.body, r.body_len);
	r.body = body;
	dir = (struct nlattr *)(body + r.body_len);
	dir->nla_type = XFRM_BODY_SA_DIR;
	dir->nla_len = MNL_ATTR_HDRLEN + 1;
	*((uint8_t *)mnl_attr_get_payload(dir)) = 1;
	r.body_len += 8;
	assert_int_equal(install(&b, &r, 7), 0);
	assert_int_equal(xfrm_counters(b.x, &r.key, &oseq, &seq), 0);
	assert_int_equal(oseq, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_sas),
		TEST(test_age),
		TEST(test_policies),
		TEST(test_child_sa_is_a_pair),
		TEST(test_what_is_told),
		TEST(test_what_is_told_of_policies),
		TEST(test_hard_expire),
		TEST(test_larval),
		TEST(test_install_again),
		TEST(test_refused),
		TEST(test_move),
		TEST(test_marked_sa_moves),
		TEST(test_copy_starts_at),
		TEST(test_counters_are_told),
		TEST(test_expire),
		TEST(test_overrun),
		TEST(test_direction),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
