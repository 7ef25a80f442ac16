/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * decapsulate - takes ESP in UDP (RFC 3948) at these ports, until a signal, as an IKE daemon has
 *its kernel do.
 *
 *	decapsulate PORT...
 */
#include <sys/socket.h>
#include <unistd.h>

#include "tool.h"

#define DECAPSULATE_UDP_ENCAP 100 /* linux/udp.h */
#define DECAPSULATE_ESPINUDP 2

static void decapsulate(uint16_t port)
{
	const struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(port)};
	const int esp = DECAPSULATE_ESPINUDP;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (const struct sockaddr *)&any, sizeof(any)) ||
		setsockopt(fd, IPPROTO_UDP, DECAPSULATE_UDP_ENCAP, &esp, sizeof(esp)))
		tool_die(errno, "no ESP in UDP at port %u", port);
}

int main(int argc, char **argv)
{
	if (argc < 2)
		tool_die(0, "usage: decapsulate PORT...");
	tool_catch_signals();
	for (int i = 1; i < argc; i++)
		decapsulate((uint16_t)tool_number("PORT", argv[i], UINT16_MAX));
	while (!tool_stopped)
		pause();
	return 0;
}
