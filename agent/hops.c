/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hops.c - how packets get to the other members (io/hop.h), told to the datapath and kept true:
 * what a member says itself, and, where addresses are configured, the kernel's routes and
 * neighbours.
 */
#include <arpa/inet.h>
#include <string.h>

#include "agent.h"

#define EVERY_US 1000000 /* not all that matters to a route is told: rules, learned MTUs */
#define PATIENCE_US 2000000 /* so long a way may be missing before it is worth a word */

static const char *const side_name[HOPS_SIDES] = {"outer", "inner"};

static const struct address *addresses_of(const struct agent *a, unsigned int side)
{
	return side == DATAPATH_OUTER ? a->config.member_outer : a->config.member_inner;
}

static void say_lack(const struct agent *a, unsigned int id, unsigned int side)
{
	const struct hop *hop = &a->hops.hop[id][side];
	char to[INET6_ADDRSTRLEN], from[INET6_ADDRSTRLEN], gateway[INET6_ADDRSTRLEN];
	const struct hop_facts *f = &hop->facts;

	inet_ntop(f->to.family, f->to.bytes, to, sizeof(to));
	inet_ntop(f->from.family, f->from.bytes, from, sizeof(from));
	if (hop->said == HOP_LACKS_NOTHING)
		agent_say("member %u can be reached on the %s side again", id, side_name[side]);
	else if (hop->said == HOP_LACKS_ROUTE)
		agent_say("member %u cannot be reached on the %s side: there is no route from %s "
			  "to %s, add one",
			id, side_name[side], from, to);
	else if (hop->said == HOP_LACKS_INTERFACE)
		agent_say("member %u cannot be reached on the %s side: the route from %s to %s "
			  "leaves by another interface than %s, correct it",
			id, side_name[side], from, to, a->links[side].name);
	else if (hop->said == HOP_LACKS_GATEWAY)
		agent_say("member %u cannot be reached on the %s side: the router %s to %s does "
			  "not answer on %s, look there",
			id, side_name[side],
			inet_ntop(f->route.gateway.family, f->route.gateway.bytes, gateway,
				sizeof(gateway)),
			to, a->links[side].name);
}

/* Each trouble once, when it lasts, and its end. */
static void note_lack(struct agent *a, unsigned int id, unsigned int side, enum hop_lack lack)
{
	struct hop *hop = &a->hops.hop[id][side];
	uint64_t now_us = agent_now_us();

	if (lack == HOP_LACKS_WORD)
		return; /* the member is dead, or just starts: that is said elsewhere */
	if (lack != hop->lack)
		hop->lacks_since_us = now_us;
	hop->lack = lack;
	if (lack == hop->said || (lack && now_us < hop->lacks_since_us + PATIENCE_US))
		return;
	hop->said = lack;
	say_lack(a, id, side);
}

/* Tells the datapath what is known now. */
static void tell(struct agent *a, unsigned int id)
{
	const struct wire_macs *macs = &a->hops.macs[id];
	struct espalier_hop *hops[HOPS_SIDES];
	struct espalier_member m = {0};

	memcpy(m.outer_mac, macs->outer, sizeof(m.outer_mac));
	memcpy(m.inner_mac, macs->inner, sizeof(m.inner_mac));
	hops[DATAPATH_OUTER] = &m.outer;
	hops[DATAPATH_INNER] = &m.inner;
	for (unsigned int side = 0; side < HOPS_SIDES; side++)
		note_lack(a, id, side, hop_compose(&a->hops.hop[id][side].facts, hops[side]));
	(void)datapath_member_set(a->datapath, (uint8_t)id, &m);
}

void hops_told(struct agent *a, uint8_t id, const struct wire_macs *macs, bool next_hop)
{
	struct hop *hop = a->hops.hop[id];

	a->hops.macs[id] = *macs;
	memcpy(hop[DATAPATH_OUTER].facts.told, macs->outer, sizeof(macs->outer));
	memcpy(hop[DATAPATH_INNER].facts.told, macs->inner, sizeof(macs->inner));
	for (unsigned int side = 0; side < HOPS_SIDES; side++)
		hop[side].facts.next_hop = next_hop;
	tell(a, id);
}

/* Asks the kernel. */
static void ask(struct agent *a, struct hop_facts *f, unsigned int side)
{
	const struct address *next = &f->to;

	f->ifindex = a->ifindex[side];
	f->mtu = a->links[side].mtu;
	f->route = (struct route_answer){0};
	memset(f->neighbour, 0, sizeof(f->neighbour));
	if (!f->to.family || route_ask(a->route, &f->from, &f->to, &f->route) < 0 ||
		f->route.ifindex != f->ifindex)
		return;
	if (f->route.gateway.family)
		next = &f->route.gateway;
	(void)route_neighbour(a->route, f->ifindex, next, f->neighbour);
}

void hops_tick(struct agent *a, uint64_t now_us)
{
	struct hops *hops = &a->hops;

	if (!hops->changed && now_us < hops->due_us)
		return;
	hops->changed = false;
	hops->due_us = now_us + EVERY_US;
	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++) {
		if (id == a->config.id || !(a->config.members >> id & 1))
			continue;
		for (unsigned int side = 0; side < HOPS_SIDES; side++)
			ask(a, &hops->hop[id][side].facts, side);
		tell(a, id);
	}
}

static bool covers(const struct address *prefix, unsigned int bits, const struct address *address)
{
	unsigned int bytes = bits / 8, rest = bits % 8;

	return prefix->family == address->family &&
	       memcmp(prefix->bytes, address->bytes, bytes) == 0 &&
	       (!rest || !((prefix->bytes[bytes] ^ address->bytes[bytes]) >> (8 - rest)));
}

void hops_route(void *ctx, const struct address *prefix, unsigned int bits)
{
	struct agent *a = ctx;

	for (unsigned int id = 0; id < ESPALIER_MEMBERS && !a->hops.changed; id++) {
		for (unsigned int side = 0; side < HOPS_SIDES; side++) {
			const struct hop_facts *f = &a->hops.hop[id][side].facts;

			a->hops.changed |= !prefix || covers(prefix, bits, &f->to) ||
					   covers(prefix, bits, &f->route.gateway);
		}
	}
}

/* Packets from MAC addresses of an earlier life count as forwarded; but to be sent to, a member
 * must speak to this life. */
static void recall(struct agent *a, unsigned int id)
{
	struct espalier_member m;

	if (datapath_member_get(a->datapath, (uint8_t)id, &m) < 0)
		return;
	memcpy(a->hops.macs[id].outer, m.outer_mac, sizeof(m.outer_mac));
	memcpy(a->hops.macs[id].inner, m.inner_mac, sizeof(m.inner_mac));
}

void hops_start(struct agent *a)
{
	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++)
		if (id != a->config.id)
			recall(a, id);
	for (unsigned int side = 0; side < HOPS_SIDES; side++) {
		const struct address *addresses = addresses_of(a, side);

		for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++) {
			struct hop_facts *f = &a->hops.hop[id][side].facts;

			if (id == a->config.id || !addresses[id].family)
				continue;
			f->from = addresses[a->config.id];
			f->to = addresses[id];
		}
	}
	hops_tick(a, agent_now_us());
}
