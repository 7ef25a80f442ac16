/* SPDX-License-Identifier: BSD-2-Clause */
/* ops.c - what the core decides, carried out on the kernel, the datapath, the network and the
 * journal. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "agent.h"
#include "io/announce.h"

static void op_send(void *ctx, uint8_t to, const void *datagram, size_t len)
{
	struct agent *a = ctx;

	(void)channel_send(
		a->channel, to, datagram, len); /* lost is lost: the core sends it again */
}

static void op_install(void *ctx, struct record_install *list, unsigned int n)
{
	const struct record_install *refused = NULL;
	struct agent *a = ctx;
	unsigned int count = 0;

	xfrm_install(a->xfrm, list, n);
	for (unsigned int i = 0; i < n; i++) {
		if (list[i].result == 0)
			continue;
		refused = &list[i];
		count++;
	}
	if (count)
		agent_say(
			"the kernel refuses %u SAs or policies of other members, the last of them "
			"%s: %s",
			count, agent_name(refused->key), strerror(-refused->result));
}

static void op_remove(void *ctx, const struct record_key *key)
{
	struct agent *a = ctx;
	int r = xfrm_remove(a->xfrm, key);

	if (r < 0 && r != -ENOENT)
		agent_say("cannot remove %s: %s", agent_name(key), strerror(-r));
}

static int op_move(void *ctx, const struct record_key *key, uint64_t oseq)
{
	struct agent *a = ctx;
	int r = xfrm_move(a->xfrm, key, oseq);

	if (r < 0)
		agent_say("cannot move the counter of %s: %s", agent_name(key), strerror(-r));
	return r;
}

#define RAISES 8 /* tries: packets that the kernel took meanwhile may be forgotten by it */

static int op_raise(void *ctx, const struct record_key *key, uint32_t slot, uint64_t seq)
{
	struct agent *a = ctx;
	const struct espalier_counter *counter = &datapath_counters(a->datapath)[slot];
	int r = xfrm_raise(a->xfrm, key, seq);

	for (unsigned int i = 1; r == -EAGAIN && i < RAISES; i++)
		r = xfrm_raise(a->xfrm, key, counter->seq > seq ? counter->seq : seq);
	if (r == -EAGAIN)
		return 0; /* it is there; of the last packets one may be taken again */
	if (r < 0 && r != -ENOENT)
		agent_say(
			"cannot raise the replay window of %s: %s", agent_name(key), strerror(-r));
	return r;
}

/* The kernel may have ended it just now; if it has not, it is told again with the next packets. */
static void op_use(void *ctx, const struct record_key *key, const struct record_usage *used)
{
	struct agent *a = ctx;

	(void)xfrm_use(a->xfrm, key, used);
}

static int op_read(void *ctx, const struct record_key *key, void *body, size_t size)
{
	struct agent *a = ctx;

	return xfrm_read(a->xfrm, key, body, size);
}

static void op_expire(void *ctx, const struct record_key *key, enum record_fence why)
{
	static const char *const reasons[FENCES] = {
		[FENCE_NONE] = "three quarters of its sequence numbers are used up",
		[FENCE_TWO_CREATORS] = "it is shut, since it was made on two members",
		[FENCE_JOURNAL_OLD] = "it is shut here, since our journal does not tell all of its "
				      "blocks that we entered",
		[FENCE_FOUND] = "it is shut, since nobody knows which of its sequence numbers went "
				"out before this start of espalierd",
	};
	struct agent *a = ctx;

	agent_say("asking for a rekey of %s: %s", agent_name(key), reasons[why]);
	if (why != FENCE_NONE)
		happened(a, HAPPENED_FENCE, "%s: %s", agent_name(key), reasons[why]);
	(void)xfrm_expire(a->xfrm, key);
}

struct espalier_sa_key ops_map_key(const struct record_key *key)
{
	struct espalier_sa_key k = {.spi = key->spi,
		.family = (uint8_t)key->family,
		.mark = key->mark,
		.mark_mask = key->mark_mask};

	memcpy(k.daddr, key->addr, sizeof(k.daddr));
	return k;
}

struct record_key ops_record_key(const struct espalier_sa_key *key)
{
	struct record_key k = {.kind = RECORD_SA,
		.proto = IPPROTO_ESP,
		.family = key->family,
		.spi = key->spi,
		.mark = key->mark,
		.mark_mask = key->mark_mask};

	memcpy(k.addr, key->daddr, sizeof(k.addr));
	return k;
}

/* The slot is this SA's from now on. */
static void count(struct agent *a, const struct espalier_sa *sa)
{
	struct espalier_counter *counter = &datapath_counters(a->datapath)[sa->slot];

	if (counter->birth == sa->birth)
		return;
	/* not while a program counts for the one before */
	__atomic_store_n(&counter->birth, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&counter->seq, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&counter->packets, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&counter->floor, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&counter->birth, sa->birth, __ATOMIC_RELEASE);
	a->positions[sa->slot] = 0;
}

/* The datapath's keys are those of ESP SAs: a CPI may be the same as an SPI. */
static void op_guard(void *ctx, const struct record_key *key, const struct espalier_sa *sa)
{
	struct agent *a = ctx;
	struct espalier_sa_key k = ops_map_key(key);
	int r;

	if (sa)
		count(a, sa);
	if (key->proto != IPPROTO_ESP)
		return;
	if (!sa) {
		(void)datapath_sa_delete(a->datapath, &k);
		return;
	}
	r = datapath_sa_set(a->datapath, &k, sa);
	if (r == -EEXIST)
		agent_say("%s is kept shut: another SA has its destination and SPI, and the guard "
			  "cannot tell them apart, since their marks have different masks",
			agent_name(key));
	else if (r < 0)
		agent_say("cannot tell the guard of %s: %s", agent_name(key), strerror(-r));
}

/* Of one address, which is this machine's: that is not steered, whatever a policy says. */
static bool is_own_address(const struct agent *a, const struct espalier_selector *selector)
{
	struct address address = {.family = (uint16_t)selector->family};
	uint32_t bits = address.family == AF_INET ? 32 : 128;

	memcpy(address.bytes, selector->addr, sizeof(address.bytes));
	return selector->prefixlen == ESPALIER_SELECTOR_BITS + bits &&
	       link_has_address(a->link, &address);
}

static void op_selector(
	void *ctx, const struct espalier_selector *selector, const struct espalier_flow *flow)
{
	struct agent *a = ctx;

	if (is_own_address(a, selector))
		return;
	if (!flow)
		(void)datapath_selector_delete(a->datapath, selector);
	else if (datapath_selector_set(a->datapath, selector, flow) < 0)
		agent_say("cannot steer a remote selector: the table is full, raise MaxSAs");
}

static void op_pin(void *ctx, const struct record_key *key, const struct espalier_flow *flow)
{
	struct agent *a = ctx;
	struct espalier_sa_key k = ops_map_key(key);

	if (key->proto != IPPROTO_ESP)
		return;
	k.mark = k.mark_mask = 0; /* XDP sees none */
	if (!flow)
		(void)datapath_pin_delete(a->datapath, &k);
	else if (datapath_pin_set(a->datapath, &k, flow) < 0)
		agent_say("cannot pin %s: the table is full, raise MaxSAs", agent_name(key));
}

/* The addresses that one member answers for on that side. */
static const struct config_addresses *answered_for(const struct agent *a, enum datapath_side side)
{
	static const struct config_addresses none;

	if (!a->ifindex[side] ||
		(side == DATAPATH_OUTER && a->config.ingress == CONFIG_INGRESS_ALL))
		return &none;
	return side == DATAPATH_OUTER ? &a->config.outer : &a->config.inner;
}

void ops_announce(struct agent *a, enum datapath_side side)
{
	const struct config_addresses *addresses = answered_for(a, side);
	const struct link_state *link = &a->links[side];
	int r = announce(link->ifindex, link->mac, addresses->address, addresses->count);

	if (r < 0)
		agent_say("cannot announce the cluster addresses: %s", strerror(-r));
}

static void announce_both(struct agent *a)
{
	ops_announce(a, DATAPATH_OUTER);
	ops_announce(a, DATAPATH_INNER);
}

static void plan_announcement(struct agent *a, uint64_t now_us)
{
	uint64_t dead_us = (uint64_t)a->config.heartbeat_us * a->config.dead_after;

	a->announce_due_us = a->announced_us + announce_next_us(now_us - a->announced_us, dead_us);
}

void ops_announce_again(struct agent *a, uint64_t now_us)
{
	if (!a->announce_due_us || now_us < a->announce_due_us)
		return;
	announce_both(a);
	plan_announcement(a, now_us);
}

void ops_listen(struct agent *a, enum datapath_side side)
{
	const struct config_addresses *addresses = answered_for(a, side);
	int r = announce_join(a->ifindex[side], addresses->address, addresses->count, &a->groups);

	if (r < 0)
		agent_say("neighbour solicitations for the cluster addresses may not reach the %s "
			  "interface: its multicast groups cannot be joined: %s (is IPv6 off "
			  "there? see net.ipv6.conf.NAME.disable_ipv6)",
			side == DATAPATH_OUTER ? "outer" : "inner", strerror(-r));
}

static void op_floor(void *ctx, uint32_t slot, uint64_t seq)
{
	struct agent *a = ctx;

	__atomic_store_n(&datapath_counters(a->datapath)[slot].floor, seq, __ATOMIC_RELAXED);
}

/* What was not ours until now; in a life's first view all: what others took in between is not
 * known.
 */
static void mark_taken_over(struct agent *a, struct espalier_view_half *half)
{
	const struct espalier_view_half *before = datapath_view(a->datapath);
	uint8_t self = (uint8_t)a->config.id;

	for (unsigned int i = 0; i < ESPALIER_BUCKETS; i++)
		if (half->owner[i] == self && (!a->viewed || before->owner[i] != self))
			half->owner[i] |= ESPALIER_RAISING;
	half->turned = UINT16_MAX;
	if (a->viewed)
		half->turned = before->turned | (uint16_t)(before->live ^ half->live);
	a->viewed = true;
}

/* All that is ours. */
static void mark(struct agent *a, bool marked)
{
	struct espalier_view_half half = *datapath_view(a->datapath);
	uint8_t self = (uint8_t)a->config.id, to = marked ? self | ESPALIER_RAISING : self;

	for (unsigned int i = 0; i < ESPALIER_BUCKETS; i++)
		if ((half.owner[i] & ~ESPALIER_RAISING) == self)
			half.owner[i] = to;
	half.turned = marked ? UINT16_MAX : 0;
	datapath_publish(a->datapath, &half);
}

static void op_raising(void *ctx)
{
	mark(ctx, true);
}

static void op_raised(void *ctx)
{
	mark(ctx, false);
}

static void op_publish(
	void *ctx, const struct view *view, uint8_t ingress, const uint8_t owner[ESPALIER_BUCKETS])
{
	struct agent *a = ctx;
	struct espalier_view_half half = {
		.epoch = view->epoch,
		.live = view->live,
		.ingress = ingress,
		.handing = datapath_view(a->datapath)->handing,
	};

	memcpy(half.owner, owner, sizeof(half.owner));
	mark_taken_over(a, &half);
	datapath_publish(a->datapath, &half);
	metrics_flipped(a);
	a->ingress = ingress == a->config.id;
	a->announce_due_us = 0;
	if (a->ingress) {
		/* Even if we were it before: another one may have been it too, in a view of its
		 * own. */
		announce_both(a);
		a->announced_us = agent_now_us();
		plan_announcement(a, a->announced_us);
	}
	happened(a, HAPPENED_VIEW, "view %llu of member %u: live members 0x%04x",
		(unsigned long long)view->epoch, view->publisher, view->live);
	agent_say("view %llu: live members 0x%04x, ARP is answered by %s",
		(unsigned long long)view->epoch, view->live, a->ingress ? "us" : "another member");
}

void ops_hand(void *ctx, bool on)
{
	struct agent *a = ctx;
	struct espalier_view_half half = *datapath_view(a->datapath);

	half.handing = on;
	datapath_publish(a->datapath, &half);
}

static int op_keep(void *ctx, enum wire_order order)
{
	struct agent *a = ctx;

	return order_keep(&a->config, order);
}

static void op_macs(void *ctx, uint8_t member, const struct wire_macs *macs, bool next_hop)
{
	hops_told(ctx, member, macs, next_hop);
}

static void op_journal(void *ctx, const struct record_key *key, uint64_t birth, uint64_t block)
{
	struct agent *a = ctx;

	journal_add(a->journal, key, birth, block);
}

static void op_forget(void *ctx, uint64_t birth)
{
	struct agent *a = ctx;

	journal_forget(a->journal, birth);
}

const struct member_ops agent_ops = {
	.send = op_send,
	.install = op_install,
	.remove = op_remove,
	.move = op_move,
	.floor = op_floor,
	.raising = op_raising,
	.raised = op_raised,
	.raise = op_raise,
	.use = op_use,
	.read = op_read,
	.expire = op_expire,
	.guard = op_guard,
	.selector = op_selector,
	.pin = op_pin,
	.publish = op_publish,
	.hand = ops_hand,
	.keep = op_keep,
	.macs = op_macs,
	.journal = op_journal,
	.forget = op_forget,
	.journal_old = notice_journal_old,
	.doubled = notice_doubled,
	.notice = notice,
	.ike = ike_told,
};
