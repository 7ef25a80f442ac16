/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * espsend - sends packets of ESP's shape, for steering on kernels without ESP.
 *
 *	espsend --from ADDRESS --to ADDRESS --spi SPI[-SPI][,...] [--sequence START] [--count N]
 *		[--interval-us N] [--length BYTES] [--interface NAME --to-mac MAC [--past-tc]]
 *
 * N rounds (by default 1); a round sends one packet for each SPI, all with the same sequence
 * number, which goes up by one a round. They go the kernel's way (routes, ARP), or with --to-mac
 * straight to that MAC address on the interface, with --past-tc also past its queues and tc
 * programs. LENGTH counts what follows the ESP header. Prints how many were sent
 * and not dropped here.
 */
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/ether.h>
#include <netinet/ip.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tool.h"

#define SEND_RANGES 256
#define SEND_LENGTH_MAX 1400

struct send_frame {
	struct ethhdr ethernet;
	struct iphdr ip;
	uint32_t spi; /* network byte order */
	uint32_t sequence; /* network byte order */
	uint8_t payload[SEND_LENGTH_MAX];
} __attribute__((packed));

static struct {
	struct in_addr from;
	struct in_addr to;
	uint32_t first_spi[SEND_RANGES];
	uint32_t last_spi[SEND_RANGES];
	unsigned int ranges;
	uint32_t sequence;
	uint64_t count;
	uint64_t interval;
	unsigned int length;
	const char *interface;
	const char *to_mac;
	int past_tc;
	int fd;
	struct sockaddr_ll link; /* with --to-mac */
	uint64_t sent;
} esp = {.sequence = 1, .count = 1, .length = 64};

static void send_usage(void)
{
	tool_die(0, "usage: espsend --from ADDRESS --to ADDRESS --spi SPI[-SPI][,...] "
		    "[--sequence START] [--count N] [--interval-us N] [--length BYTES] "
		    "[--interface NAME --to-mac MAC [--past-tc]]");
}

static void send_parse_spis(char *text)
{
	char *position = NULL;

	for (char *item = strtok_r(text, ",", &position); item;
		item = strtok_r(NULL, ",", &position)) {
		char *dash = strchr(item, '-');

		if (esp.ranges == SEND_RANGES)
			tool_die(0, "--spi: more than %d ranges", SEND_RANGES);
		if (dash)
			*dash = '\0';
		esp.first_spi[esp.ranges] = (uint32_t)tool_number("spi", item, UINT32_MAX);
		esp.last_spi[esp.ranges] =
			(uint32_t)tool_number("spi", dash ? dash + 1 : item, UINT32_MAX);
		esp.ranges++;
	}
}

static void send_parse(int argc, char **argv)
{
	static const struct option names[] = {
		{"from", required_argument, NULL, 'f'},
		{"to", required_argument, NULL, 't'},
		{"spi", required_argument, NULL, 's'},
		{"sequence", required_argument, NULL, 'q'},
		{"count", required_argument, NULL, 'c'},
		{"interval-us", required_argument, NULL, 'i'},
		{"length", required_argument, NULL, 'l'},
		{"interface", required_argument, NULL, 'n'},
		{"to-mac", required_argument, NULL, 'm'},
		{"past-tc", no_argument, NULL, 'p'},
		{0},
	};
	int option;

	while ((option = getopt_long(argc, argv, "", names, NULL)) >= 0) {
		switch (option) {
		case 'f':
			esp.from = tool_address("from", optarg);
			break;
		case 't':
			esp.to = tool_address("to", optarg);
			break;
		case 's':
			send_parse_spis(optarg);
			break;
		case 'q':
			esp.sequence = (uint32_t)tool_number("sequence", optarg, UINT32_MAX);
			break;
		case 'c':
			esp.count = tool_number("count", optarg, UINT32_MAX);
			break;
		case 'i':
			esp.interval = tool_number("interval-us", optarg, 60000000) * 1000;
			break;
		case 'l':
			esp.length = (unsigned int)tool_number("length", optarg, SEND_LENGTH_MAX);
			break;
		case 'n':
			esp.interface = optarg;
			break;
		case 'm':
			esp.to_mac = optarg;
			break;
		case 'p':
			esp.past_tc = 1;
			break;
		default:
			send_usage();
		}
	}
	if (optind != argc || !esp.from.s_addr || !esp.to.s_addr || !esp.ranges ||
		!esp.interface != !esp.to_mac || (esp.past_tc && !esp.to_mac))
		send_usage();
}

static uint16_t send_checksum(const void *header, size_t length)
{
	const uint8_t *bytes = header;
	uint32_t sum = 0;

	for (size_t i = 0; i < length; i += 2)
		sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
	sum = (sum & 0xffff) + (sum >> 16);
	sum += sum >> 16;
	return htons((uint16_t)~sum);
}

static void send_open_link(struct send_frame *frame)
{
	struct ifreq request = {0};

	if (!ether_aton_r(esp.to_mac, (struct ether_addr *)frame->ethernet.h_dest))
		tool_die(0, "--to-mac %s: not a MAC address", esp.to_mac);
	esp.link.sll_family = AF_PACKET;
	esp.link.sll_protocol = htons(ETH_P_IP);
	esp.link.sll_ifindex = (int)if_nametoindex(esp.interface);
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", esp.interface);
	esp.fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (esp.fd < 0 || ioctl(esp.fd, SIOCGIFHWADDR, &request) ||
		setsockopt(
			esp.fd, SOL_PACKET, PACKET_QDISC_BYPASS, &esp.past_tc, sizeof(esp.past_tc)))
		tool_die(errno, "no packet socket on %s", esp.interface);
	memcpy(frame->ethernet.h_source, request.ifr_hwaddr.sa_data, ETH_ALEN);
	frame->ethernet.h_proto = htons(ETH_P_IP);
}

static void send_prepare(struct send_frame *frame)
{
	frame->ip = (struct iphdr){
		.version = 4,
		.ihl = sizeof(frame->ip) / 4,
		.tot_len = htons((uint16_t)(sizeof(frame->ip) + 8 + esp.length)),
		.frag_off = htons(IP_DF),
		.ttl = 64,
		.protocol = IPPROTO_ESP,
		.saddr = esp.from.s_addr,
		.daddr = esp.to.s_addr,
	};
	frame->ip.check = send_checksum(&frame->ip, sizeof(frame->ip));
	for (unsigned int i = 0; i < esp.length; i++)
		frame->payload[i] = (uint8_t)i;
	if (esp.to_mac) {
		send_open_link(frame);
		return;
	}
	esp.fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	if (esp.fd < 0)
		tool_die(errno, "no raw socket");
}

static void send_packet(struct send_frame *frame, uint32_t spi, uint32_t sequence)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr = esp.to};
	size_t length = sizeof(frame->ip) + 8 + esp.length;
	ssize_t sent;

	frame->spi = htonl(spi);
	frame->sequence = htonl(sequence);
	if (esp.to_mac)
		sent = sendto(esp.fd, frame, sizeof(frame->ethernet) + length, 0,
			(const struct sockaddr *)&esp.link, sizeof(esp.link));
	else
		sent = sendto(
			esp.fd, &frame->ip, length, 0, (const struct sockaddr *)&to, sizeof(to));
	if (sent < 0 && errno == ENOBUFS) /* a tc program has dropped it */
		return;
	if (sent < 0)
		tool_die(errno, "packet %u of SPI 0x%08x cannot be sent", sequence, spi);
	esp.sent++;
}

int main(int argc, char **argv)
{
	static struct send_frame frame;
	uint64_t next;

	send_parse(argc, argv);
	tool_catch_signals();
	send_prepare(&frame);
	next = tool_now();
	for (uint64_t round = 0; round < esp.count && !tool_stopped; round++) {
		for (unsigned int i = 0; i < esp.ranges; i++)
			for (uint64_t spi = esp.first_spi[i]; spi <= esp.last_spi[i]; spi++)
				send_packet(&frame, (uint32_t)spi, esp.sequence + (uint32_t)round);
		next += esp.interval;
		tool_sleep_until(next);
	}
	close(esp.fd);
	printf("%llu\n", (unsigned long long)esp.sent);
	return 0;
}
