/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * route.h - how the kernel gets packets to an address: its routes and neighbours, over route
 * netlink (linux/rtnetlink.h, linux/neighbour.h), by libmnl.
 */
#ifndef ROUTE_H
#define ROUTE_H

#include <stdint.h>

#include "core/address.h"

struct route;

struct route_answer {
	unsigned int ifindex; /* packets leave there */
	uint32_t mtu; /* the route's own, bytes; 0: it has none */
	struct address gateway; /* family 0: none, the address is on that link */
};

/* Routes to addresses of this prefix, or a neighbour with that address, have changed. NULL: any may
 * have. */
typedef void (*route_handler)(void *ctx, const struct address *prefix, unsigned int bits);

int route_open(route_handler handler, void *ctx, struct route **ret);
void route_close(struct route *r); /* takes NULL */

int route_fd(const struct route *r); /* readable: call route_process() */
int route_process(struct route *r); /* 0 or -errno */

/* How do packets from our own address `from` get to `to`, of the same family? -ENETUNREACH or
 * another -errno: not at all. */
int route_ask(struct route *r, const struct address *from, const struct address *to,
	struct route_answer *ret);

/* The MAC address of a neighbour, which the kernel is asked to find out and to keep fresh. -ENOENT:
 * not known, or not any more. */
int route_neighbour(
	struct route *r, unsigned int ifindex, const struct address *address, uint8_t ret_mac[6]);

#endif
