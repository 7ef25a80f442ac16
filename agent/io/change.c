/* SPDX-License-Identifier: BSD-2-Clause */
#include "io/change.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#define SIZE 32768 /* bytes: the kernel's largest message */

int change_open(void)
{
	struct sockaddr_nl address = {
		.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK | RTMGRP_TC};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);

	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	return fd;
}

/* 0: of no interest. */
static unsigned int interface_of(const struct nlmsghdr *nlh)
{
	const struct ifinfomsg *link = NLMSG_DATA(nlh);
	const struct tcmsg *tc = NLMSG_DATA(nlh);

	if (nlh->nlmsg_len >= NLMSG_LENGTH(sizeof(*link)) &&
		(nlh->nlmsg_type == RTM_NEWLINK || nlh->nlmsg_type == RTM_DELLINK))
		return (unsigned int)link->ifi_index;
	if (nlh->nlmsg_len >= NLMSG_LENGTH(sizeof(*tc)) &&
		(nlh->nlmsg_type == RTM_NEWQDISC || nlh->nlmsg_type == RTM_DELQDISC ||
			nlh->nlmsg_type == RTM_DELTFILTER))
		return (unsigned int)tc->tcm_ifindex;
	return 0;
}

int change_read(int fd, void (*fn)(void *ctx, unsigned int ifindex), void *ctx)
{
	static _Thread_local _Alignas(8) uint8_t buf[SIZE];

	for (;;) {
		ssize_t n = recv(fd, buf, sizeof(buf), 0);
		unsigned int left = (unsigned int)n;

		if (n < 0 && errno == ENOBUFS) {
			fn(ctx, 0);
			continue;
		}
		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		for (struct nlmsghdr *nlh = (void *)buf; NLMSG_OK(nlh, left);
			nlh = NLMSG_NEXT(nlh, left)) {
			unsigned int ifindex = interface_of(nlh);

			if (ifindex)
				fn(ctx, ifindex);
		}
	}
}
