/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * forward.c - would this machine's kernel take what is sent to the cluster, and send on what is in
 * it? Each cluster address has to be on lo, and both interfaces have to forward: the families of
 * the inner addresses or, where the protected hosts are reached without any, one at least.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "agent.h"

#define EVERY_US 100000

static const struct address *missing(const struct agent *a, const struct config_addresses *list)
{
	for (unsigned int i = 0; i < list->count; i++)
		if (!link_has_on_lo(a->link, &list->address[i]))
			return &list->address[i];
	return NULL;
}

/* An interface that does not forward, or NULL. What cannot be read does not count. */
static const char *closed(const struct agent *a, uint16_t family)
{
	static const enum datapath_side sides[] = {DATAPATH_OUTER, DATAPATH_INNER};

	for (unsigned int i = 0; i < 2; i++) {
		const char *name = a->links[sides[i]].name;

		if (name[0] && link_forwards(name, family) == 0)
			return name;
	}
	return NULL;
}

static bool needs(const struct config *c, uint16_t family)
{
	for (unsigned int i = 0; i < c->inner.count; i++)
		if (c->inner.address[i].family == family)
			return true;
	return c->member_inner[c->id].family == family;
}

static void find(const struct agent *a, char *ret, size_t size)
{
	const struct config *c = &a->config;
	const char *four = closed(a, AF_INET), *six = closed(a, AF_INET6);
	bool needs_four = needs(c, AF_INET), needs_six = needs(c, AF_INET6);
	const struct address *address = missing(a, &c->outer);
	char text[INET6_ADDRSTRLEN];

	if (!needs_four && !needs_six)
		needs_four = c->inner_interface[0] && six;
	if (!address)
		address = missing(a, &c->inner);
	ret[0] = '\0';
	if (address) {
		inet_ntop(address->family, address->bytes, text, sizeof(text));
		snprintf(ret, size, "%s is not on lo: ip address add %s/%d dev lo", text, text,
			address->family == AF_INET ? 32 : 128);
	} else if (needs_four && four) {
		snprintf(ret, size,
			"net.ipv4.conf.%s.forwarding is 0: sysctl net.ipv4.ip_forward=1", four);
	} else if (needs_six && six) {
		snprintf(ret, size,
			"net.ipv6.conf.all.forwarding is 0: sysctl net.ipv6.conf.all.forwarding=1");
	}
}

bool forward_tick(struct agent *a, uint64_t now_us)
{
	struct forward *f = &a->forward;
	char lack[sizeof(f->lack)];

	if (now_us < f->due_us)
		return false;
	f->due_us = now_us + EVERY_US;
	find(a, lack, sizeof(lack));
	if (strcmp(lack, f->lack) == 0)
		return false;
	if (lack[0])
		agent_say("this member cannot forward and gives its buckets away: %s", lack);
	else
		agent_say("this member can forward again");
	snprintf(f->lack, sizeof(f->lack), "%s", lack);
	return true;
}
