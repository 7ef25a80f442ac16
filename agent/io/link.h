/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * link.h - this machine's interfaces: the state of a few that are watched, the addresses of all,
 * and which are xfrm interfaces. Over route netlink (linux/rtnetlink.h), by libmnl.
 */
#ifndef LINK_H
#define LINK_H

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/address.h"

#define LINK_WATCHED 4 /* most interfaces that one watches */

struct link;

struct link_state {
	unsigned int ifindex;
	uint32_t mtu; /* bytes */
	uint8_t mac[6];
	bool here; /* else: it was removed */
	bool up; /* administratively, and there is a carrier */
	bool renamed; /* since it is watched */
	char name[IF_NAMESIZE]; /* the last one that is known */
};

/* which: the place of a watched interface in link_open()'s array. */
struct link_handlers {
	/* Another one has the name of a watched interface, and is watched instead; its state comes
	 * next. One that is renamed is watched until then. */
	void (*replaced)(void *ctx, unsigned int which, unsigned int ifindex);
	void (*state)(void *ctx, unsigned int which, const struct link_state *state);
	/* An address that no interface had, or that none has any more. */
	void (*address)(void *ctx, const struct address *address, bool here);
	/* An xfrm interface, and the policies it is for. */
	void (*xfrm)(void *ctx, unsigned int ifindex, uint32_t if_id, bool here);
};

/* Tells the handlers of what there is now, and from link_process() of what has changed since.
 * -ENODEV: an interface that is to be watched is not there; 0 in `ifindexes` is none. `handlers` is
 * kept. */
int link_open(const unsigned int *ifindexes, unsigned int n, const struct link_handlers *handlers,
	void *ctx, struct link **ret);
void link_close(struct link *l); /* takes NULL */

int link_fd(const struct link *l); /* readable: call link_process() */
int link_process(struct link *l); /* 0 or -errno */

/* As the handlers were told. */
bool link_has_address(const struct link *l, const struct address *address);
bool link_has_on_lo(const struct link *l, const struct address *address);
bool link_has_xfrm(const struct link *l, unsigned int ifindex);

/*
 * The arp_announce in effect (the kernel's ip-sysctl.rst). With less than 2, this member's ARP
 * requests may have a cluster address as sender, which draws the peers' traffic here. Or -errno.
 */
int link_arp_announce(const char *interface);

/* Does the kernel send on what of this family comes in there? Most of IPv6 has one setting for all
 * interfaces. 1, 0 or -errno. */
int link_forwards(const char *interface, uint16_t family);

#endif
