/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * udp.h - the sync channel's UDP socket: the carrier where there is no AF_XDP, and next to AF_XDP
 * the owner of the port, the way of what the kernel must route and resolve, and of what arrives on
 * queues without an AF_XDP socket.
 */
#ifndef UDP_H
#define UDP_H

#include "io/carrier.h"

/*
 * A non-blocking socket, bound to address:port (host byte order) and to the interface. *ret_fd is
 * the caller's to close. 0 or -errno; err: one sentence.
 */
int udp_open(struct in_addr address, uint16_t port, unsigned int ifindex, int *ret_fd, char *err,
	size_t err_size);

/* 0, -EAGAIN: the socket is full; other -errno: not sent. */
int udp_send(int fd, struct in_addr to, uint16_t port, const void *buf, size_t len);

void udp_receive(int fd, carrier_handler handler, void *ctx); /* at most CARRIER_BATCH */

#endif
