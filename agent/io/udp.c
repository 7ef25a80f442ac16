/* SPDX-License-Identifier: BSD-2-Clause */
#include "io/udp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define MTU_MIN (int)(sizeof(struct iphdr) + sizeof(struct udphdr) + CARRIER_DATAGRAM_MAX)
#define RECEIVE_BUFFER (4 << 20) /* bytes: room for a snapshot's burst */

static struct sockaddr_in endpoint(struct in_addr address, uint16_t port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET,
		.sin_addr = address,
		.sin_port = htons(port),
	};
}

static int mtu_check(int fd, unsigned int ifindex, char *err, size_t err_size)
{
	struct ifreq request = {.ifr_ifindex = (int)ifindex};

	if (ioctl(fd, SIOCGIFNAME, &request) < 0 || ioctl(fd, SIOCGIFMTU, &request) < 0) {
		snprintf(err, err_size, "the sync interface, number %u, is not there", ifindex);
		return -ENODEV;
	}
	if (request.ifr_mtu < MTU_MIN) {
		snprintf(err, err_size, "sync interface %s has an MTU of %d; give it %d or more",
			request.ifr_name, request.ifr_mtu, MTU_MIN);
		return -EMSGSIZE;
	}
	return 0;
}

static int bind_to(int fd, struct in_addr address, uint16_t port, unsigned int ifindex, char *err,
	size_t err_size)
{
	struct sockaddr_in local = endpoint(address, port);
	int size = RECEIVE_BUFFER, index = (int)ifindex;

	/* Without CAP_NET_ADMIN the buffer stays as it is, which costs only resends. */
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	if (setsockopt(fd, SOL_SOCKET, SO_BINDTOIFINDEX, &index, sizeof(index)) < 0 ||
		bind(fd, (const struct sockaddr *)&local, sizeof(local)) < 0) {
		int r = -errno;

		snprintf(err, err_size, "cannot bind the sync channel to %s, UDP port %u: %s",
			inet_ntoa(address), port, strerror(-r));
		return r;
	}
	return 0;
}

int udp_open(struct in_addr address, uint16_t port, unsigned int ifindex, int *ret_fd, char *err,
	size_t err_size)
{
	int r, fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0) {
		r = -errno;
		snprintf(err, err_size, "cannot make the sync channel's socket: %s", strerror(-r));
		return r;
	}
	r = mtu_check(fd, ifindex, err, err_size);
	if (r == 0)
		r = bind_to(fd, address, port, ifindex, err, err_size);
	if (r < 0) {
		close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
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
