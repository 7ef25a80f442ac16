/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hop.h - how packets get to another member on one side, from what is known of it. Pure: no system
 * call.
 */
#ifndef HOP_H
#define HOP_H

#include <stdbool.h>
#include <stdint.h>

#include "espalier.h"
#include "io/route.h"

/* All zero: nothing is known. MAC addresses: all zero, not known. */
struct hop_facts {
	bool next_hop; /* it knows that what comes from us had its hop */
	uint8_t told[6]; /* the MAC address that it has told */
	struct address from, to; /* our address, and its; family 0: none is configured */
	unsigned int ifindex; /* our interface of this side, and its MTU in bytes */
	uint32_t mtu;
	struct route_answer route; /* from `from` to `to`; ifindex 0: there is none */
	uint8_t neighbour[6]; /* of it, or of the route's gateway */
};

/* What is missing, so that there is no way. */
enum hop_lack {
	HOP_LACKS_NOTHING,
	HOP_LACKS_WORD, /* its own: it has not told its MAC address, or not heard ours */
	HOP_LACKS_ROUTE,
	HOP_LACKS_INTERFACE, /* the route leaves by another interface than this side's */
	HOP_LACKS_GATEWAY, /* the gateway's MAC address */
};

/* ret->from and ->to are set even where there is no way: packets may come from there. */
enum hop_lack hop_compose(const struct hop_facts *facts, struct espalier_hop *ret);

#endif
