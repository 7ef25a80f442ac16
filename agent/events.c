/* SPDX-License-Identifier: BSD-2-Clause */
/* events.c - what happens, handed to the core: datagrams, links, the journal; what the
 * kernel says of SAs and policies: events_kernel.c. */
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#include "agent.h"
#include "io/interface.h"

void events_datagram(void *ctx, uint8_t from, const void *buf, size_t len)
{
	struct agent *a = ctx;

	uint64_t now = agent_now_us();

	metrics_entered(a, now);
	member_datagram(a->member, from, buf, len, now);
}

static bool side_down(const struct agent *a, enum datapath_side side)
{
	return a->ifindex[side] && !a->links[side].up;
}

void events_links_up(struct agent *a)
{
	member_link(a->member, !side_down(a, DATAPATH_OUTER) && !side_down(a, DATAPATH_INNER) &&
				       !a->journal_failed && !a->forward.lack[0] &&
				       watch_is_good(a));
}

void events_watch(struct agent *a)
{
	eventfd_t n;

	(void)eventfd_read(a->watch.news, &n);
	if (atomic_exchange(&a->watch.gap, false))
		a->audit.gap = true;
	events_links_up(a);
}

void events_own_macs(struct agent *a)
{
	struct wire_macs macs;

	memcpy(macs.outer, a->links[DATAPATH_OUTER].mac, sizeof(macs.outer));
	memcpy(macs.inner, a->links[DATAPATH_INNER].mac, sizeof(macs.inner));
	hops_told(a, (uint8_t)a->config.id, &macs, false);
	if (a->member)
		member_own_macs(a->member, &macs);
}

static void on_replaced(void *ctx, unsigned int side, unsigned int ifindex)
{
	struct agent *a = ctx;

	a->ifindex[side] = ifindex;
	if (side != DATAPATH_SYNC)
		ops_listen(a, side);
}

static void say_change(
	unsigned int side, const struct link_state *before, const struct link_state *now)
{
	if (before->ifindex != now->ifindex)
		agent_say("another interface has the name %s now, and is used in place of the "
			  "former one%s",
			now->name,
			side == DATAPATH_SYNC ? ": the sync channel ends here, restart espalierd"
					      : "");
	else if (!now->here && before->here)
		agent_say("interface %s has gone", now->name);
	else if (now->renamed && strcmp(before->name, now->name) != 0)
		agent_say("interface %s is called %s now, and is used on: give it its name back, "
			  "or change the configuration before espalierd is started again",
			before->name, now->name);
	else if (strcmp(before->name, now->name) != 0)
		agent_say("interface %s is called %s again", before->name, now->name);
	if (now->here && before->up != now->up)
		agent_say("interface %s is %s", now->name, now->up ? "up" : "down");
}

static void on_state(void *ctx, unsigned int side, const struct link_state *state)
{
	struct agent *a = ctx;
	struct link_state before = a->links[side];

	a->links[side] = *state;
	a->hops.changed = true;
	if (!a->member)
		return;
	say_change(side, &before, state);
	if (side != DATAPATH_SYNC && memcmp(before.mac, state->mac, sizeof(state->mac)) != 0) {
		events_own_macs(a);
		if (a->ingress)
			ops_announce(a, side);
	}
	events_links_up(a);
}

static struct espalier_selector own_selector(const struct address *address)
{
	struct espalier_selector selector = {.family = address->family,
		.prefixlen = ESPALIER_SELECTOR_BITS + (address->family == AF_INET ? 32 : 128)};

	memcpy(selector.addr, address->bytes, sizeof(selector.addr));
	return selector;
}

/* The machine's own addresses are not to be steered, even if a remote selector covers them. */
static void on_address(void *ctx, const struct address *address, bool here)
{
	const struct espalier_flow flow = {.bucket = ESPALIER_HERE};
	struct espalier_selector selector = own_selector(address);
	struct agent *a = ctx;

	a->forward.due_us = 0;
	if (!here)
		(void)datapath_selector_delete(a->datapath, &selector);
	else if (datapath_selector_set(a->datapath, &selector, &flow) < 0)
		agent_say("cannot keep an own address from being steered: the table is full, raise "
			  "MaxSAs");
}

static void on_xfrm(void *ctx, unsigned int ifindex, uint32_t if_id, bool here)
{
	struct agent *a = ctx;
	char name[IF_NAMESIZE];

	if (!here) {
		(void)datapath_interface_delete(a->datapath, ifindex);
	} else if (datapath_interface_set(a->datapath, ifindex, if_id) < 0) {
		if (interface_name(ifindex, name) < 0)
			snprintf(name, sizeof(name), "%u", ifindex); /* it has gone */
		agent_say("cannot steer by the xfrm interface %s: the table is full", name);
	}
}

const struct link_handlers events_links = {
	.replaced = on_replaced,
	.state = on_state,
	.address = on_address,
	.xfrm = on_xfrm,
};

void events_wake(void *ctx, const struct espalier_event *event)
{
	struct agent *a = ctx;
	struct record_key key = ops_record_key(&event->key);

	if (event->kind != ESPALIER_SPI_MISS) {
		positions_wake(a, event);
		return;
	}
	events_kernel(a); /* perhaps we are told there what became of it */
	member_missed(a->member, &key);
}

void events_clone(struct agent *a)
{
	if (clone_process(a->clone, a->clone_mac))
		member_doubled(a->member, agent_now_us());
}

void events_journal(struct agent *a)
{
	uint64_t done = 0;

	if (journal_process(a->journal, &done) < 0 && !a->journal_failed) {
		a->journal_failed = true;
		agent_say("%s; this member gives its buckets away", journal_error(a->journal));
		member_link(a->member, false);
	}
	member_committed(a->member, done);
}
