/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * espreplay - an attacker on the outer link: records ESP to an address, and plays it back.
 *
 *	espreplay record FILE INTERFACE ADDRESS
 *	espreplay play FILE forward|backward [INTERFACE MAC]
 *
 * Records what leaves by the interface, bare or in UDP, until SIGTERM or SIGINT. Plays it the
 * kernel's way (routes, ARP), or straight to that MAC address, from the first packet to the last or
 * from the last to the first, 2,000 a second. Prints how many packets. IPv4.
 */
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/ether.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tool.h"

#define REPLAY_MOST 200000U
#define REPLAY_BYTES 2048U
#define REPLAY_EVERY_NS 500000U
#define REPLAY_POLL_MS 100
#define REPLAY_NAT_T 4500

struct replay_packet {
	uint32_t size;
	uint8_t bytes[REPLAY_BYTES]; /* from the IP header on */
};

__attribute__((noreturn)) static void replay_usage(void)
{
	tool_die(0, "usage: espreplay record FILE INTERFACE ADDRESS\n"
		    "       espreplay play FILE forward|backward [INTERFACE MAC]");
}

static int replay_socket(const char *interface, struct sockaddr_ll *ret)
{
	int fd = socket(AF_PACKET, SOCK_DGRAM, 0);

	*ret = (struct sockaddr_ll){.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = (int)if_nametoindex(interface)};
	if (fd < 0 || !ret->sll_ifindex)
		tool_die(errno, "cannot open the interface %s", interface);
	return fd;
}

static bool replay_wanted(const struct replay_packet *packet, struct in_addr to)
{
	const struct iphdr *ip = (const void *)packet->bytes;
	const struct udphdr *udp = (const void *)(packet->bytes + sizeof(*ip));

	if (packet->size < sizeof(*ip) + sizeof(*udp) || ip->version != 4 || ip->daddr != to.s_addr)
		return false;
	return ip->protocol == IPPROTO_ESP ||
	       (ip->protocol == IPPROTO_UDP && udp->dest == htons(REPLAY_NAT_T));
}

static unsigned int replay_record(FILE *file, const char *interface, const char *address)
{
	static struct replay_packet packet;
	struct sockaddr_ll link, from = {0};
	int fd = replay_socket(interface, &link);
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
	unsigned int n = 0;
	struct in_addr to;

	if (inet_pton(AF_INET, address, &to) != 1)
		replay_usage();
	if (bind(fd, (struct sockaddr *)&link, sizeof(link)) < 0)
		tool_die(errno, "cannot listen on %s", interface);
	while (!tool_stopped) {
		socklen_t len = sizeof(from);
		ssize_t size;

		if (poll(&poll_fd, 1, REPLAY_POLL_MS) <= 0)
			continue;
		size = recvfrom(fd, packet.bytes, REPLAY_BYTES, 0, (struct sockaddr *)&from, &len);
		if (size < 0)
			continue;
		packet.size = (uint32_t)size;
		if (from.sll_pkttype != PACKET_OUTGOING || !replay_wanted(&packet, to) ||
			n == REPLAY_MOST)
			continue;
		if (fwrite(&packet, sizeof(packet), 1, file) != 1)
			tool_die(errno, "cannot write");
		n++;
	}
	close(fd);
	return n;
}

static void replay_send(int fd, const struct replay_packet *packet, const struct sockaddr_ll *link)
{
	const struct iphdr *ip = (const void *)packet->bytes;
	const struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = ip->daddr};

	/* What the kernel has no room for now is lost, as on any link. */
	if (link)
		(void)sendto(fd, packet->bytes, packet->size, 0, (const struct sockaddr *)link,
			sizeof(*link));
	else
		(void)sendto(fd, packet->bytes, packet->size, 0, (const struct sockaddr *)&to,
			sizeof(to));
}

static unsigned int replay_play(FILE *file, bool backward, const char *interface, const char *mac)
{
	static struct replay_packet packet;
	struct sockaddr_ll link;
	int fd = interface ? replay_socket(interface, &link)
			   : socket(AF_INET, SOCK_RAW, IPPROTO_RAW);
	uint64_t next = tool_now();
	long n;

	if (fd < 0)
		tool_die(errno, "cannot send");
	if (interface) {
		const struct ether_addr *to = ether_aton(mac);

		if (!to)
			replay_usage();
		link.sll_protocol = htons(ETH_P_IP);
		link.sll_halen = ETH_ALEN;
		memcpy(link.sll_addr, to, ETH_ALEN);
	}
	fseek(file, 0, SEEK_END);
	n = ftell(file) / (long)sizeof(packet);
	for (long i = 0; i < n && !tool_stopped; i++) {
		long at = backward ? n - 1 - i : i;

		if (fseek(file, at * (long)sizeof(packet), SEEK_SET) < 0 ||
			fread(&packet, sizeof(packet), 1, file) != 1)
			tool_die(errno, "cannot read");
		replay_send(fd, &packet, interface ? &link : NULL);
		next += REPLAY_EVERY_NS;
		tool_sleep_until(next);
	}
	close(fd);
	return (unsigned int)n;
}

int main(int argc, char **argv)
{
	bool record = argc == 5 && strcmp(argv[1], "record") == 0;
	bool play = (argc == 4 || argc == 6) && strcmp(argv[1], "play") == 0;
	bool backward = play && strcmp(argv[3], "backward") == 0;
	unsigned int n;
	FILE *file;

	if (!record && (!play || (!backward && strcmp(argv[3], "forward") != 0)))
		replay_usage();
	tool_catch_signals();
	file = fopen(argv[2], record ? "we" : "re");
	if (!file)
		tool_die(errno, "cannot open %s", argv[2]);
	n = record ? replay_record(file, argv[3], argv[4])
		   : replay_play(file, backward, argc == 6 ? argv[4] : NULL,
			     argc == 6 ? argv[5] : NULL);
	if (fclose(file) != 0)
		tool_die(errno, "cannot write %s", argv[2]);
	printf("%u\n", n);
	return 0;
}
