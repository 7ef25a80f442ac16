/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * carrier.h - what the two carriers of the sync channel, udp.c and xsk.c, hand up.
 */
#ifndef CARRIER_H
#define CARRIER_H

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>

#define CARRIER_DATAGRAM_MAX 1344 /* bytes of UDP payload, the longest that is sent */
#define CARRIER_BATCH 256 /* datagrams at once; then the rest of the agent gets its turn */

struct carrier_origin {
	struct in_addr address;
	in_port_t port; /* network byte order */
	const uint8_t *mac; /* 6 bytes, the sender's on this link; NULL: not seen */
};

typedef void (*carrier_handler)(
	void *ctx, const struct carrier_origin *from, const void *buf, size_t len);

#endif
