/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * link.h - the interfaces: their state over route netlink (linux/rtnetlink.h), by libmnl;
 * gratuitous ARP (RFC 5227).
 */
#ifndef LINK_H
#define LINK_H

#include <stdbool.h>
#include <stdint.h>

#include "core/address.h"

#define LINK_WATCHED 4 /* most interfaces that one watches */

struct link;

struct link_state {
	unsigned int ifindex;
	uint8_t mac[6];
	bool up; /* administratively, and there is a carrier */
};

typedef void (*link_handler)(void *ctx, const struct link_state *state);

/* Calls the handler for each interface now, and from link_process() for each that changed. -ENODEV:
 * one is not there. */
int link_open(const unsigned int *ifindexes, unsigned int n, link_handler handler, void *ctx,
	struct link **ret);
void link_close(struct link *l);

int link_fd(const struct link *l); /* readable: call link_process() */
int link_process(struct link *l); /* 0 or -errno */

/* Tells the whole link that the addresses are at this MAC address: an ARP announcement for each
 * IPv4 address of the list. 0 or -errno. */
int link_announce(const struct link_state *state, const struct address *addresses, unsigned int n);

/*
 * The arp_announce in effect (the kernel's ip-sysctl.rst). With less than 2, this member's ARP
 * requests may have a cluster address as sender, which draws the peers' traffic here. Or -errno.
 */
int link_arp_announce(const char *interface);

#endif
