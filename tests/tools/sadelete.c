/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sadelete - deletes an ESP SA behind an agent's back.
 *
 *	sadelete --destination ADDRESS --spi SPI --port-id N
 *
 * The kernel tells its listeners of the deletion with the port id that stands in the request: with
 * that of the agent's own netlink socket the agent takes it for an echo of what it did itself.
 */
#include <linux/netlink.h>
#include <linux/xfrm.h>
#include <sys/socket.h>

#include "tool.h"

struct delete_request {
	struct nlmsghdr header;
	struct xfrm_usersa_id id;
};

static void delete_usage(void)
{
	tool_die(0, "usage: sadelete --destination ADDRESS --spi SPI --port-id N");
}

static void delete_send(const struct delete_request *request)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_XFRM);
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
		char rest[256];
	} answer;

	if (fd < 0 || send(fd, request, sizeof(*request), 0) < 0 ||
		recv(fd, &answer, sizeof(answer), 0) < (ssize_t)NLMSG_LENGTH(sizeof(answer.error)))
		tool_die(errno, "the kernel cannot be asked");
	if (answer.error.error)
		tool_die(-answer.error.error, "the SA cannot be deleted");
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"destination", required_argument, NULL, 'd'},
		{"spi", required_argument, NULL, 's'},
		{"port-id", required_argument, NULL, 'p'},
		{0},
	};
	struct delete_request request = {
		.header = {.nlmsg_len = sizeof(request),
			.nlmsg_type = XFRM_MSG_DELSA,
			.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
		.id = {.family = AF_INET, .proto = IPPROTO_ESP},
	};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'd')
			request.id.daddr.a4 = tool_address("destination", optarg).s_addr;
		else if (option == 's')
			request.id.spi = htonl((uint32_t)tool_number("spi", optarg, UINT32_MAX));
		else if (option == 'p')
			request.header.nlmsg_pid =
				(uint32_t)tool_number("port-id", optarg, UINT32_MAX);
		else
			delete_usage();
	}
	if (optind != argc || !request.id.daddr.a4 || !request.id.spi || !request.header.nlmsg_pid)
		delete_usage();
	delete_send(&request);
	return 0;
}
