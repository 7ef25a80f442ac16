/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * link_facts.h - private to link.c: which addresses and xfrm interfaces there are, in order, so
 * that those are found which a new reading of all does not show.
 */
#ifndef LINK_FACTS_H
#define LINK_FACTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/address.h"

/* An address of an interface; family 0: it is an xfrm interface, with this if_id. */
struct link_fact {
	struct address address;
	unsigned int ifindex;
	uint32_t if_id;
	unsigned int round; /* of reading all, that has shown it last */
};

/* In the order of address, ifindex. */
struct link_facts {
	struct link_fact *all;
	size_t count, size;
};

/* The first one that is not before this address and interface; or the end. */
size_t link_facts_find(
	const struct link_facts *f, const struct address *address, unsigned int ifindex);
/* Is there one of this address, for this interface; ifindex 0: for any? */
bool link_facts_has(
	const struct link_facts *f, const struct address *address, unsigned int ifindex);
/* 1: it is new, or its if_id is; 0: it is not; -ENOMEM. */
int link_facts_set(struct link_facts *f, const struct link_fact *fact);
void link_facts_remove(struct link_facts *f, size_t at);
void link_facts_free(struct link_facts *f);

#endif
