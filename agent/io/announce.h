/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * announce.h - tells a link where addresses are now: gratuitous ARP (RFC 5227) and unsolicited
 * neighbour advertisements (RFC 4861 7.2.6).
 */
#ifndef ANNOUNCE_H
#define ANNOUNCE_H

#include <stdint.h>

#include "core/address.h"

/* All that are on the link of this interface hear that the addresses are at this MAC address. 0 or
 * -errno. */
int announce(unsigned int ifindex, const uint8_t mac[6], const struct address *addresses,
	unsigned int n);

#endif
