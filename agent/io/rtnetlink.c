/* SPDX-License-Identifier: BSD-2-Clause */
#include "io/rtnetlink.h"

#include <errno.h>
#include <sys/socket.h>

static int open_socket(struct mnl_socket **ret)
{
	*ret = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	return *ret ? mnl_socket_bind(*ret, 0, MNL_SOCKET_AUTOPID) : -1;
}

int rtnetlink_open(struct rtnetlink *n, const int *groups, unsigned int n_groups)
{
	if (open_socket(&n->events) < 0 || open_socket(&n->requests) < 0)
		return -errno;
	for (unsigned int i = 0; i < n_groups; i++) {
		int group = groups[i];

		if (mnl_socket_setsockopt(
			    n->events, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) < 0)
			return -errno;
	}
	return 0;
}

void rtnetlink_close(struct rtnetlink *n)
{
	if (n->events)
		mnl_socket_close(n->events);
	if (n->requests)
		mnl_socket_close(n->requests);
}

int rtnetlink_request(struct rtnetlink *n, struct nlmsghdr *nlh)
{
	nlh->nlmsg_flags |= NLM_F_REQUEST;
	nlh->nlmsg_seq = ++n->seq;
	return mnl_socket_sendto(n->requests, nlh, nlh->nlmsg_len) < 0 ? -errno : 0;
}
