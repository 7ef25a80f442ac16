/* SPDX-License-Identifier: BSD-2-Clause */
/* xfrm_side.h - two network namespaces as two members' kernels, and what each one's XFRM adapter
 * tells. */
#ifndef XFRM_SIDE_H
#define XFRM_SIDE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libmnl/libmnl.h>

#include "io/xfrm.h"
#include "io/xfrm_body.h"

#define LOCAL "192.0.2.1"
#define REMOTE "198.51.100.1"
#define LOCAL6 "2001:db8:1::1"
#define REMOTE6 "2001:db8:2::1"
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
	unsigned int n_added, n_removed, n_flushed, n_counters, n_overruns, n_local, n_changed,
		n_stays;
	struct {
		struct xfrm_record record;
		uint8_t body[RECORD_BODY_MAX];
	} added[RECORDS]; /* the last ones */
	struct record_key removed, local;
	enum record_kind flushed;
	uint64_t oseq, seq;
	char stays[2 * XFRM_TEXT];
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

static void on_changed(void *ctx)
{
	struct side *s = ctx;

	s->n_changed++;
}

static void on_mapping(
	void *ctx, const struct record_key *key, const struct xfrm_place_change *change)
{
	(void)ctx;
	(void)key;
	(void)change;
}

static void on_local(
	void *ctx, const struct record_key *key, const struct record_facts *facts, const char *why)
{
	struct side *s = ctx;

	(void)facts;
	(void)why;
	s->n_local++;
	s->local = *key;
}

static void on_stays(void *ctx, const struct record_key *key, const char *text, const char *why)
{
	struct side *s = ctx;

	(void)key;
	s->n_stays++;
	snprintf(s->stays, sizeof(s->stays), "%s (%s)", text, why);
}

static const struct xfrm_handlers handlers = {on_added, on_removed, on_flushed, on_counters,
	on_overrun, on_changed, on_mapping, on_local, on_stays};

static void enter(const struct side *s)
{
	assert_int_equal(setns(s->ns, CLONE_NEWNET), 0);
}

static const struct address cluster[] = {
	{AF_INET, {192, 0, 2, 1}}, /* LOCAL */
	{AF_INET6, {0x20, 0x01, 0x0d, 0xb8, 0, 1, [15] = 1}}, /* LOCAL6 */
};

static struct xfrm *open_here(void *ctx)
{
	struct xfrm_config config = {.addresses = cluster, .n_addresses = 2};
	struct xfrm *x;

	assert_int_equal(xfrm_open(&config, &handlers, ctx, &x), 0);
	assert_int_equal(xfrm_tell_counters(x), 0);
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

static void process(struct side *s)
{
	for (int i = 0; i < 8; i++)
		assert_int_equal(xfrm_process(s->x), 0);
}

static int dump(struct side *s)
{
	int r;

	enter(s);
	r = xfrm_dump(s->x);
	enter(&a);
	return r;
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
	struct record_install one = {
		&r->key, &r->facts, r->body, r->body_len, oseq, false, 1, {0}, 0};

	xfrm_install(s->x, &one, 1);
	return one.result;
}

static inline int update(struct side *s, const struct xfrm_record *r)
{
	struct record_install one = {&r->key, &r->facts, r->body, r->body_len, 0, true, 1, {0}, 0};

	xfrm_install(s->x, &one, 1);
	return one.result;
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
	"src " LOCAL " dst " REMOTE " proto comp reqid 6 mode tunnel tmpl src 0.0.0.0 "
	"dst 0.0.0.0 proto esp reqid 6 mode transport",
	"src 10.1.0.0/16 dst 10.14.0.0/16 dir out action block",
	"src 10.1.0.0/16 dst 10.1.1.0/24 dir out priority 1 action allow",
	"src 10.1.0.0/16 dst 10.15.0.0/16 dir out tmpl src 0.0.0.0 dst 0.0.0.0 proto esp mode "
	"transport",
	"src 10.1.0.0/16 dst 10.16.0.0/16 dir out tmpl src " LOCAL " dst " REMOTE
	" proto ah reqid 7 mode tunnel",
};

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
