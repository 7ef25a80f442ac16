/* SPDX-License-Identifier: BSD-2-Clause */
#include "io/udp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define RECEIVE_BUFFER (4 << 20) /* bytes: room for a snapshot's burst */

static struct sockaddr_in endpoint(struct in_addr address, uint16_t port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET,
		.sin_addr = address,
		.sin_port = htons(port),
	};
}

int udp_open(struct in_addr address, uint16_t port, unsigned int ifindex, int *ret_fd, char *err,
	size_t err_size)
{
	struct sockaddr_in local = endpoint(address, port);
	int size = RECEIVE_BUFFER, index = (int)ifindex;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int r;

	/* Without CAP_NET_ADMIN the buffer stays as it is, which costs only resends. */
	if (fd >= 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_BINDTOIFINDEX, &index, sizeof(index)) == 0 &&
		bind(fd, (const struct sockaddr *)&local, sizeof(local)) == 0) {
		*ret_fd = fd;
		return 0;
	}
	r = -errno;
	snprintf(err, err_size, "cannot bind the sync channel to %s, UDP port %u: %s",
		inet_ntoa(address), port, strerror(-r));
	if (fd >= 0)
		close(fd);
	return r;
}

int udp_send(int fd, struct in_addr to, uint16_t port, const void *buf, size_t len)
{
	struct sockaddr_in remote = endpoint(to, port);

	if (sendto(fd, buf, len, 0, (const struct sockaddr *)&remote, sizeof(remote)) >= 0)
		return 0;
	return errno == ENOBUFS ? -EAGAIN : -errno;
}

void udp_receive(int fd, carrier_handler handler, void *ctx)
{
	uint8_t buf[CARRIER_DATAGRAM_MAX +
		    1]; /* what is longer shows, and is no datagram of ours */
	struct sockaddr_in remote;

	for (unsigned int i = 0; i < CARRIER_BATCH; i++) {
		socklen_t size = sizeof(remote);
		ssize_t n = recvfrom(fd, buf, sizeof(buf), 0, (struct sockaddr *)&remote, &size);
		struct carrier_origin from;

		if (n < 0)
			return;
		from = (struct carrier_origin){.address = remote.sin_addr, .port = remote.sin_port};
		handler(ctx, &from, buf, (size_t)n);
	}
}
