/* SPDX-License-Identifier: BSD-2-Clause */
/* rig.h - what stands around the member that is fuzzed: a kernel, a guard, a journal, a network. */
#ifndef RIG_H
#define RIG_H

#include <errno.h>
#include <string.h>

#include "core/member.h"
#include "fuzz.h"

#define MEMBERS 3
#define CAPACITY 16 /* so small that it gets full */
#define SLOTS 24 /* table_slots() of it */
#define BLOCK_BITS 4
#define ENTRIES 1024
#define OTHERS(id) ((id) < MEMBERS && (id) != rig->self)

struct entry {
	struct record_key key;
	uint64_t birth, block;
};

/* What the datapath was told of steering. */
struct pin {
	struct record_key key; /* kind 0: none */
	uint8_t pinned;
};

struct selector {
	struct espalier_selector key; /* prefixlen 0: none */
	struct espalier_flow flow;
};

/* What the other members' streams are. */
struct remote {
	uint64_t stream, heard_stream;
	uint32_t next, heard;
};

struct rig {
	struct member *m;
	uint8_t self;
	uint64_t now_us;
	struct remote remotes[MEMBERS];
	bool kernel_fails;
	struct entry entries[ENTRIES]; /* of the journal; those of earlier lives come first */
	uint64_t restored, journaled, committed;
	struct pin pins[SLOTS];
	struct selector selectors[SLOTS];
	bool doubled; /* it has been: nothing is open from then on */
};

static struct pin *find_pin(struct rig *rig, const struct record_key *key)
{
	for (unsigned int i = 0; i < SLOTS; i++)
		if (memcmp(&rig->pins[i].key, key, sizeof(*key)) == 0)
			return &rig->pins[i];
	return NULL;
}

static struct selector *find_selector(struct rig *rig, const struct espalier_selector *key)
{
	for (unsigned int i = 0; i < SLOTS; i++)
		if (memcmp(&rig->selectors[i].key, key, sizeof(*key)) == 0)
			return &rig->selectors[i];
	return NULL;
}

/* Ops: what must hold of what the member wants done. */

static void op_send(void *ctx, uint8_t to, const void *datagram, size_t len)
{
	static struct wire_message m;
	struct rig *rig = ctx;
	struct reader r = {.at = datagram, .end = (const uint8_t *)datagram + len};
	struct wire_header h;
	int n;

	REQUIRE(OTHERS(to) && len <= WIRE_MAX);
	REQUIRE(wire_get_header(&r, &h) == 0 && h.from == rig->self && h.to == to);
	while ((n = wire_get(&r, &m)) > 0)
		;
	REQUIRE(n == 0);
	if (!h.segment)
		return;
	if (rig->remotes[to].heard_stream != h.stream)
		rig->remotes[to].heard = 0;
	rig->remotes[to].heard_stream = h.stream;
	if (h.seq == rig->remotes[to].heard + 1)
		rig->remotes[to].heard++;
}

static void op_install(void *ctx, struct record_install *list, unsigned int n)
{
	const struct rig *rig = ctx;

	REQUIRE(n > 0);
	for (; n; n--, list++) {
		REQUIRE(list->key->kind == RECORD_SA || list->key->kind == RECORD_POLICY);
		REQUIRE(list->body && list->body_len > 0 && list->body_len <= RECORD_BODY_MAX);
		list->result = rig->kernel_fails ? -EINVAL : 0;
	}
}

static void op_remove(void *ctx, const struct record_key *key)
{
	(void)ctx;
	(void)key;
}

static int op_move(void *ctx, const struct record_key *key, uint64_t oseq)
{
	const struct rig *rig = ctx;

	(void)key;
	(void)oseq;
	return rig->kernel_fails ? -EAGAIN : 0;
}

static void op_floor(void *ctx, uint32_t slot, uint64_t seq)
{
	(void)ctx, (void)slot, (void)seq;
}

static void op_raised(void *ctx)
{
	(void)ctx;
}

static int op_raise(void *ctx, const struct record_key *key, uint32_t slot, uint64_t seq)
{
	const struct rig *rig = ctx;

	(void)key, (void)slot, (void)seq;
	return rig->kernel_fails ? -EAGAIN : 0;
}

static void op_use(void *ctx, const struct record_key *key, const struct record_usage *used)
{
	(void)ctx;
	REQUIRE(key->kind == RECORD_SA && (used->bytes || used->packets));
}

static int op_read(void *ctx, const struct record_key *key, void *body, size_t size)
{
	const struct rig *rig = ctx;
	size_t len = 200 + key->addr[0];

	if (rig->kernel_fails)
		return -ESRCH;
	REQUIRE(len <= size);
	memset(body, key->addr[0], len);
	return (int)len;
}

static void op_expire(void *ctx, const struct record_key *key, enum record_fence why)
{
	(void)ctx;
	REQUIRE(key->kind == RECORD_SA && why != FENCE_JOURNAL_LOST);
}

/* Under whatever key: an SA may have moved since. */
static bool in_journal(const struct rig *rig, uint64_t birth, uint64_t block)
{
	for (uint64_t i = 0; i < rig->restored + rig->committed; i++)
		if (rig->entries[i].birth == birth && rig->entries[i].block == block)
			return true;
	return false;
}

static void op_guard(void *ctx, const struct record_key *key, const struct espalier_sa *sa)
{
	const struct rig *rig = ctx;

	REQUIRE(key->kind == RECORD_SA);
	if (!sa)
		return;
	REQUIRE(sa->slot < SLOTS && sa->bucket < ESPALIER_BUCKETS);
	REQUIRE(sa->pinned <= ESPALIER_MEMBERS);
	for (unsigned int i = 0; i < 2; i++) {
		uint64_t block = sa->open[i].first >> BLOCK_BITS;

		if (sa->open[i].first > sa->open[i].last)
			continue;
		REQUIRE(!rig->doubled && sa->open[i].last >> BLOCK_BITS == block);
		if (block > 0) /* block 0 is the creator's without being entered */
			REQUIRE(block % 4 == rig->self && in_journal(rig, sa->birth, block));
	}
}

static void op_selector(
	void *ctx, const struct espalier_selector *selector, const struct espalier_flow *flow)
{
	struct selector *s = find_selector(ctx, selector);

	REQUIRE(selector->prefixlen >= ESPALIER_SELECTOR_BITS &&
		selector->prefixlen <= ESPALIER_SELECTOR_BITS + 128);
	REQUIRE(!flow || (flow->bucket < ESPALIER_BUCKETS && flow->pinned <= ESPALIER_MEMBERS));
	/* Not for nothing. */
	REQUIRE(s || flow);
	REQUIRE(!s || !flow || memcmp(&s->flow, flow, sizeof(*flow)) != 0);
	if (!s)
		s = find_selector(ctx, &(struct espalier_selector){0});
	REQUIRE(s);
	*s = flow ? (struct selector){.key = *selector, .flow = *flow} : (struct selector){0};
}

static void op_pin(void *ctx, const struct record_key *key, const struct espalier_flow *flow)
{
	struct pin *pin = find_pin(ctx, key);

	REQUIRE(key->kind == RECORD_SA);
	REQUIRE(!flow || (flow->bucket < ESPALIER_BUCKETS && flow->pinned > 0 &&
				 flow->pinned <= ESPALIER_MEMBERS));
	REQUIRE((pin ? pin->pinned : 0) != (flow ? flow->pinned : 0)); /* not for nothing */
	if (!pin)
		pin = find_pin(ctx, &(struct record_key){0});
	REQUIRE(pin);
	*pin = flow ? (struct pin){.key = *key, .pinned = flow->pinned} : (struct pin){0};
}

static void op_hand(void *ctx, bool on)
{
	(void)ctx;
	(void)on;
}

static int op_keep(void *ctx, enum wire_order order)
{
	(void)ctx;
	(void)order;
	return 0;
}

static void op_publish(
	void *ctx, const struct view *view, uint8_t ingress, const uint8_t owner[ESPALIER_BUCKETS])
{
	(void)ctx;
	REQUIRE(ingress == ESPALIER_NOBODY || (ingress < MEMBERS && view->live >> ingress & 1));
	for (unsigned int i = 0; i < ESPALIER_BUCKETS; i++)
		REQUIRE(owner[i] == ESPALIER_NOBODY || owner[i] < MEMBERS);
}

static void op_macs(void *ctx, uint8_t member, const struct wire_macs *macs, bool next_hop)
{
	const struct rig *rig = ctx;

	(void)macs;
	(void)next_hop;
	REQUIRE(OTHERS(member));
}

static void op_journal(void *ctx, const struct record_key *key, uint64_t birth, uint64_t block)
{
	struct rig *rig = ctx;

	REQUIRE(key->kind == RECORD_SA && rig->restored + rig->journaled < ENTRIES);
	rig->entries[rig->restored + rig->journaled++] =
		(struct entry){.key = *key, .birth = birth, .block = block};
}

static void op_forget(void *ctx, uint64_t birth)
{
	(void)ctx;
	(void)birth;
}

static bool op_journal_old(void *ctx, const struct record_key *key, uint8_t who)
{
	const struct rig *rig = ctx;

	REQUIRE(key->kind == RECORD_SA && OTHERS(who));
	return false;
}

static void op_doubled(void *ctx, uint8_t who, bool over)
{
	struct rig *rig = ctx;

	REQUIRE(who < MEMBERS && (rig->doubled || !over));
	rig->doubled = true;
}

static void op_notice(
	void *ctx, enum member_notice notice, const struct record_key *key, uint8_t who)
{
	bool of_sa = notice != NOTICE_MADE_HERE && notice != NOTICE_KEPT && notice != NOTICE_HELD &&
		     notice != NOTICE_FULL && notice != NOTICE_FULL_OF_DEAD &&
		     notice != NOTICE_OUT_OF_BOUNDS;
	bool of_none = notice == NOTICE_EPOCH || notice == NOTICE_STEPPED_DOWN ||
		       notice == NOTICE_DOUBLED || notice == NOTICE_CROWDED ||
		       notice == NOTICE_CROWDED_BY_DEAD || notice == NOTICE_ROOMY;

	(void)ctx;
	REQUIRE(notice < NOTICES && who < MEMBERS);
	REQUIRE(of_none ? key == NULL : key && (!of_sa || key->kind == RECORD_SA));
}

static const struct member_ops ops = {
	.send = op_send,
	.install = op_install,
	.remove = op_remove,
	.move = op_move,
	.raise = op_raise,
	.floor = op_floor,
	.raising = op_raised,
	.raised = op_raised,
	.use = op_use,
	.read = op_read,
	.expire = op_expire,
	.guard = op_guard,
	.selector = op_selector,
	.pin = op_pin,
	.publish = op_publish,
	.hand = op_hand,
	.keep = op_keep,
	.macs = op_macs,
	.journal = op_journal,
	.forget = op_forget,
	.journal_old = op_journal_old,
	.doubled = op_doubled,
	.notice = op_notice,
};

#endif
