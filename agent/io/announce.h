/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * announce.h - tells a link where addresses are now: gratuitous ARP (RFC 5227) and unsolicited
 * neighbour advertisements (RFC 4861 7.2.6); and that solicitations for them are to come here.
 *
 * Some neighbours follow ARP requests only, others replies only: they get both. Nobody confirms an
 * announcement, so it is repeated (announce_next_us()).
 */
#ifndef ANNOUNCE_H
#define ANNOUNCE_H

#include <stdint.h>

#include "core/address.h"

/* All that are on the link of this interface hear that the addresses are at this MAC address. 0 or
 * -errno. */
int announce(unsigned int ifindex, const uint8_t mac[6], const struct address *addresses,
	unsigned int n);

/*
 * When to announce again: microseconds after the first announcement. `last_us`, likewise: when that
 * was done last. `others_us`: by then the member that answered before has heard of its successor;
 * what neighbours asked it until then is corrected.
 */
uint64_t announce_next_us(uint64_t last_us, uint64_t others_us);

/*
 * Joins the solicited-node groups (RFC 4291 2.7.1) of those that are IPv6: else NICs, and switches
 * that know who listens, keep solicitations from us. *fd: a socket of the caller's that holds the
 * groups, made if it is below 0. 0 or -errno.
 */
int announce_join(unsigned int ifindex, const struct address *addresses, unsigned int n, int *fd);

#endif
