/* SPDX-License-Identifier: BSD-2-Clause */
/* rtnetlink.h - between link.c and route.c: their sockets of route netlink. */
#ifndef RTNETLINK_H
#define RTNETLINK_H

#include <libmnl/libmnl.h>

#define RTNETLINK_SIZE 32768 /* bytes: the kernel's largest message, or part of a dump */

struct rtnetlink {
	struct mnl_socket *events, *requests; /* apart: an answer is not behind what happens */
	unsigned int seq; /* of the last request */
};

/* Events of these groups (enum rtnetlink_groups). 0 or -errno; to be closed in any case. */
int rtnetlink_open(struct rtnetlink *n, const int *groups, unsigned int n_groups);
void rtnetlink_close(struct rtnetlink *n);

/* Sends a request, with a number of its own. 0 or -errno. */
int rtnetlink_request(struct rtnetlink *n, struct nlmsghdr *nlh);

#endif
