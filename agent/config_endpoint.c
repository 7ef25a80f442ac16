/* SPDX-License-Identifier: BSD-2-Clause */
#include "config_endpoint.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool config_endpoint(const char *text, struct address *ret_address, unsigned int *ret_port)
{
	struct address address = {.family = *text == '[' ? AF_INET6 : AF_INET};
	const char *colon = strrchr(text, ':'), *digits = colon ? colon + 1 : "";
	char host[INET6_ADDRSTRLEN + 2];
	size_t len = strspn(digits, "0123456789");
	unsigned long port;

	if (!colon || len == 0 || len > 5 || digits[len])
		return false;
	port = strtoul(digits, NULL, 10);
	if (port == 0 || port > 65535)
		return false;
	if (address.family == AF_INET6)
		text++;
	len = (size_t)(colon - text);
	if (address.family == AF_INET6 && (len == 0 || text[--len] != ']'))
		return false;
	if (len >= sizeof(host))
		return false;
	memcpy(host, text, len);
	host[len] = '\0';
	if (inet_pton(address.family, host, address.bytes) != 1)
		return false;
	*ret_address = address;
	*ret_port = (unsigned int)port;
	return true;
}
