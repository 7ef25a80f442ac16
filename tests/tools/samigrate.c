/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * samigrate - moves the SAs and policies of a Child SA to other addresses, as libreswan does.
 *
 *	samigrate REQID LOCAL-NET REMOTE-NET LOCAL REMOTE NEW-LOCAL NEW-REMOTE
 *
 * One XFRM_MSG_MIGRATE for each of the policies out, in and fwd between the two networks. IPv4,
 * tunnel mode.
 */
#include <linux/netlink.h>
#include <linux/xfrm.h>
#include <sys/socket.h>

#include "tool.h"

struct migrate_request {
	struct nlmsghdr header;
	struct xfrm_userpolicy_id policy;
	struct nlattr attribute;
	struct xfrm_user_migrate change;
};

static void migrate_net(char *text, xfrm_address_t *ret_address, uint8_t *ret_length)
{
	char *length = strchr(text, '/');

	if (!length)
		tool_die(0, "%s: not a network", text);
	*length++ = '\0';
	ret_address->a4 = tool_address("NET", text).s_addr;
	*ret_length = (uint8_t)tool_number("NET", length, 32);
}

static void migrate_send(int fd, const struct migrate_request *request)
{
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
		char rest[1024];
	} answer;

	if (send(fd, request, sizeof(*request), 0) < 0 ||
		recv(fd, &answer, sizeof(answer), 0) < (ssize_t)NLMSG_LENGTH(sizeof(answer.error)))
		tool_die(errno, "the kernel cannot be asked");
	if (answer.error.error)
		tool_die(-answer.error.error, "direction %u cannot be moved", request->policy.dir);
}

int main(int argc, char **argv)
{
	struct migrate_request out =
				       {
					       .header = {.nlmsg_len = sizeof(out),
						       .nlmsg_type = XFRM_MSG_MIGRATE,
						       .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
					       .policy = {.dir = XFRM_POLICY_OUT,
						       .sel.family = AF_INET},
					       .attribute = {sizeof(out.attribute) +
								     sizeof(out.change),
						       XFRMA_MIGRATE},
					       .change = {.proto = IPPROTO_ESP,
						       .mode = XFRM_MODE_TUNNEL,
						       .old_family = AF_INET,
						       .new_family = AF_INET},
				       },
			       in;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_XFRM);

	if (argc != 8)
		tool_die(0, "usage: samigrate REQID LOCAL-NET REMOTE-NET LOCAL REMOTE NEW-LOCAL "
			    "NEW-REMOTE");
	if (fd < 0)
		tool_die(errno, "no netlink socket");
	out.change.reqid = (uint32_t)tool_number("REQID", argv[1], UINT32_MAX);
	migrate_net(argv[2], &out.policy.sel.saddr, &out.policy.sel.prefixlen_s);
	migrate_net(argv[3], &out.policy.sel.daddr, &out.policy.sel.prefixlen_d);
	out.change.old_saddr.a4 = tool_address("LOCAL", argv[4]).s_addr;
	out.change.old_daddr.a4 = tool_address("REMOTE", argv[5]).s_addr;
	out.change.new_saddr.a4 = tool_address("NEW-LOCAL", argv[6]).s_addr;
	out.change.new_daddr.a4 = tool_address("NEW-REMOTE", argv[7]).s_addr;

	in = out;
	in.policy.sel.saddr = out.policy.sel.daddr;
	in.policy.sel.prefixlen_s = out.policy.sel.prefixlen_d;
	in.policy.sel.daddr = out.policy.sel.saddr;
	in.policy.sel.prefixlen_d = out.policy.sel.prefixlen_s;
	in.change.old_saddr = out.change.old_daddr;
	in.change.old_daddr = out.change.old_saddr;
	in.change.new_saddr = out.change.new_daddr;
	in.change.new_daddr = out.change.new_saddr;

	migrate_send(fd, &out);
	in.policy.dir = XFRM_POLICY_IN;
	migrate_send(fd, &in);
	in.policy.dir = XFRM_POLICY_FWD;
	migrate_send(fd, &in);
	return 0;
}
