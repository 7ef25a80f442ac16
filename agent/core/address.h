/* SPDX-License-Identifier: BSD-2-Clause */
/* address.h - an IP address of either family. */
#ifndef ADDRESS_H
#define ADDRESS_H

#include <stdint.h>

/* AF_INET and AF_INET6, for who knows no sockets. */
enum { ADDRESS_INET = 2, ADDRESS_INET6 = 10 };

/* No padding: compared and hashed as bytes. All zero: none. */
struct address {
	uint16_t family; /* AF_INET or AF_INET6, host byte order */
	uint8_t bytes[16]; /* network byte order; IPv4 in the first four, the rest zero */
};

#endif
