/* SPDX-License-Identifier: BSD-2-Clause */
#include "io/rule.h"

#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PRIORITY 0 /* as the kernel's own rule for the table "local", which is there before */
#define ORIGIN 229 /* rtm_protocol: by this the rules are ours */

struct request {
	struct nlmsghdr nlh;
	struct fib_rule_hdr rule;
	uint8_t attributes[64];
};

static void add_attribute(struct request *q, uint16_t type, const void *value, size_t size)
{
	struct rtattr *a = (void *)((uint8_t *)q + NLMSG_ALIGN(q->nlh.nlmsg_len));

	a->rta_type = type;
	a->rta_len = (unsigned short)RTA_LENGTH(size);
	memcpy(RTA_DATA(a), value, size);
	q->nlh.nlmsg_len = NLMSG_ALIGN(q->nlh.nlmsg_len) + RTA_ALIGN(a->rta_len);
}

static struct request new_request(uint16_t type, uint16_t flags, uint16_t family)
{
	const uint32_t priority = PRIORITY;
	const uint8_t origin = ORIGIN;
	struct request q = {
		.nlh = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct fib_rule_hdr)),
			.nlmsg_type = type,
			.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags)},
		.rule = {.family = (uint8_t)family, .action = FR_ACT_PROHIBIT},
	};

	add_attribute(&q, FRA_PRIORITY, &priority, sizeof(priority));
	add_attribute(&q, FRA_PROTOCOL, &origin, sizeof(origin));
	return q;
}

/* The kernel's answer: 0 or -errno. */
static int ask(int fd, const struct request *q)
{
	struct {
		struct nlmsghdr nlh;
		struct nlmsgerr error;
		uint8_t rest[512];
	} answer;

	if (send(fd, q, q->nlh.nlmsg_len, 0) < 0)
		return -errno;
	if (recv(fd, &answer, sizeof(answer), 0) < (ssize_t)NLMSG_LENGTH(sizeof(answer.error)) ||
		answer.nlh.nlmsg_type != NLMSG_ERROR)
		return -EIO;
	return answer.error.error;
}

static int open_socket(void)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	return fd < 0 ? -errno : fd;
}

int rule_prohibit(const struct address *addresses, unsigned int n)
{
	int fd = open_socket(), first = 0;

	if (fd < 0)
		return fd;
	for (unsigned int i = 0; i < n; i++) {
		const struct address *from = &addresses[i];
		uint8_t size = from->family == AF_INET ? 4 : 16;
		struct request q;
		int r;

		if (!from->family)
			continue;
		q = new_request(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, from->family);
		q.rule.src_len = (uint8_t)(size * 8);
		add_attribute(&q, FRA_SRC, from->bytes, size);
		r = ask(fd, &q);
		if (r < 0 && r != -EEXIST && first == 0)
			first = r;
	}
	close(fd);
	return first;
}

int rule_permit(void)
{
	static const uint16_t families[] = {AF_INET, AF_INET6};
	int fd = open_socket(), first = 0;

	if (fd < 0)
		return fd;
	for (unsigned int i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
		const struct request q = new_request(RTM_DELRULE, 0, families[i]);
		int r = 0;

		while (r == 0) /* one at a time */
			r = ask(fd, &q);
		if (r != -ENOENT && r != -EAFNOSUPPORT && r != -EOPNOTSUPP && first == 0)
			first = r;
	}
	close(fd);
	return first;
}
