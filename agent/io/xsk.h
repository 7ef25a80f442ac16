/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * xsk.h - AF_XDP sockets (Linux, Documentation/networking/af_xdp.rst) as a carrier of UDP datagrams
 * over IPv4: one socket for each receive queue of the interface, at most ESPALIER_SYNC_QUEUES;
 * all sends go through the first. An XDP program redirects the datagrams to the sockets.
 */
#ifndef XSK_H
#define XSK_H

#include <stdbool.h>

#include "io/carrier.h"

struct xsk;

struct xsk_config {
	unsigned int ifindex;
	struct in_addr address; /* own; other destinations are not handed up */
	uint16_t port; /* UDP, of both ends, host byte order */
	int map_fd; /* XSKMAP by receive queue; stays the caller's */
};

/* 0 or -errno; err: one sentence. May wait up to a second for queues just closed by another. */
int xsk_open(const struct xsk_config *config, struct xsk **ret, char *err, size_t err_size);
void xsk_close(struct xsk *x);

int xsk_watch(const struct xsk *x, int epoll_fd); /* adds all sockets. 0 or -errno */
bool xsk_is_zero_copy(const struct xsk *x);

/* Queues a datagram, to go out with the next xsk_flush(). 0, -EAGAIN: full, -EMSGSIZE. */
int xsk_send(struct xsk *x, struct in_addr to, const uint8_t mac[6], const void *buf, size_t len);
bool xsk_is_queued(const struct xsk *x);
void xsk_flush(struct xsk *x);

void xsk_receive(struct xsk *x, carrier_handler handler, void *ctx); /* <= CARRIER_BATCH a queue */

#endif
