/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * xfrm_facts.h - what names an SA or a policy in the cluster, and which belong together: hashes
 * over what all members see alike, so that nobody has to be told.
 */
#ifndef XFRM_FACTS_H
#define XFRM_FACTS_H

#include "core/address.h"
#include "io/xfrm_body.h"

/*
 * Of a parsed record. A policy belongs to the SAs of its first ESP template that leads to one of
 * the addresses, or to none. -EADDRNOTAVAIL: an SA that leads to none of the addresses, or a policy
 * whose templates name only others as this side; -EOPNOTSUPP: an SA in UDP whose port on our side
 * is not 4500, which is named all the same.
 */
int xfrm_facts_make(const struct xfrm_body *b, const struct address *addresses,
	unsigned int n_addresses, struct record_key *ret_key, struct record_facts *ret_facts);

/* mark: all zero if there is none. */
void xfrm_facts_sa_key(const xfrm_address_t *daddr, __be32 spi, uint8_t proto, uint16_t family,
	struct xfrm_mark mark, struct record_key *ret);

/* The direction, selector, mark and if_id: what the kernel tells policies apart by. */
void xfrm_facts_policy_key(const struct xfrm_body *b, struct record_key *ret);

#endif
