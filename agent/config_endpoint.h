/* SPDX-License-Identifier: BSD-2-Clause */
/* config_endpoint.h - private to config*.c. */
#ifndef CONFIG_ENDPOINT_H
#define CONFIG_ENDPOINT_H

#include <stdbool.h>

#include "core/address.h"

/* "ADDRESS:PORT", IPv6 as "[ADDRESS]:PORT". False: it is none. ret_port: host byte order, not 0. */
bool config_endpoint(const char *text, struct address *ret_address, unsigned int *ret_port);

#endif
