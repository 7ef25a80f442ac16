/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * channel_frames INTERFACE MAC SOURCE DESTINATION COUNT
 *
 * What a stranger on the sync link can do: COUNT Ethernet frames to MAC with UDP datagrams that say
 * they are from SOURCE, a member, to DESTINATION's sync channel. Their lengths lie, their payloads
 * look like DTLS records at first sight.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ether.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PORT 4711
#define PAYLOAD_MAX 1400

struct frame {
	struct ether_header eth;
	struct iphdr ip;
	struct udphdr udp;
	uint8_t payload[PAYLOAD_MAX];
} __attribute__((packed));

static uint32_t random_below(uint32_t n)
{
	return (uint32_t)rand() % n;
}

static void die(const char *what)
{
	fprintf(stderr, "channel_frames: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* Now and then not the true one. */
static uint16_t length(size_t true_one)
{
	return htons(random_below(3) ? (uint16_t)true_one : (uint16_t)random_below(2000));
}

static uint16_t checksum(const struct iphdr *ip)
{
	const uint16_t *words = (const uint16_t *)ip;
	uint32_t sum = 0;

	for (size_t i = 0; i < sizeof(*ip) / 2; i++)
		sum += words[i];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* A record's header (RFC 6347, 4.1), epoch 0 or 1, and what follows at random. */
static size_t payload_fill(uint8_t *payload)
{
	size_t len = random_below(4) ? random_below(PAYLOAD_MAX) : random_below(16);
	uint8_t header[13] = {0};

	for (size_t i = 0; i < len; i++)
		payload[i] = (uint8_t)random_below(256);
	header[0] = (uint8_t)(20 + random_below(4));
	header[1] = 0xfe;
	header[2] = 0xfd;
	header[4] = (uint8_t)random_below(2);
	header[10] = (uint8_t)random_below(256);
	if (len > sizeof(header)) {
		header[11] = (uint8_t)((len - sizeof(header)) >> 8);
		header[12] = (uint8_t)(len - sizeof(header));
		memcpy(payload, header, sizeof(header));
	}
	if (len > sizeof(header) && header[0] == 22 && random_below(2))
		payload[sizeof(header)] = 1; /* ClientHello */
	return len;
}

static size_t frame_make(struct frame *f, struct in_addr source, struct in_addr destination)
{
	size_t len = payload_fill(f->payload);
	struct iphdr ip;

	f->eth.ether_type = htons(ETHERTYPE_IP);
	ip = (struct iphdr){
		.version = 4,
		.ihl = 5,
		.tot_len = length(sizeof(ip) + sizeof(f->udp) + len),
		.ttl = 64,
		.protocol = IPPROTO_UDP,
		.saddr = source.s_addr,
		.daddr = destination.s_addr,
	};
	ip.check = checksum(&ip);
	f->ip = ip;
	f->udp = (struct udphdr){
		.source = htons(random_below(8) ? PORT : PORT + 1),
		.dest = htons(PORT),
		.len = length(sizeof(f->udp) + len),
	};
	return sizeof(*f) - PAYLOAD_MAX + len;
}

int main(int argc, char **argv)
{
	struct sockaddr_ll link = {.sll_family = AF_PACKET, .sll_halen = ETH_ALEN};
	struct in_addr source, destination;
	const struct ether_addr *mac;
	struct frame f;
	int fd;

	if (argc != 6 || !inet_aton(argv[3], &source) || !inet_aton(argv[4], &destination)) {
		fprintf(stderr, "channel_frames INTERFACE MAC SOURCE DESTINATION COUNT\n");
		return 1;
	}
	mac = ether_aton(argv[2]);
	link.sll_ifindex = (int)if_nametoindex(argv[1]);
	fd = socket(AF_PACKET, SOCK_RAW, 0);
	if (!mac || fd < 0)
		die("cannot send frames");
	memcpy(f.eth.ether_dhost, mac, ETH_ALEN);
	memcpy(f.eth.ether_shost, "\x02\x00\x00\x00\x00\x99", ETH_ALEN);
	for (unsigned long i = strtoul(argv[5], NULL, 10); i > 0; i--) {
		size_t len = frame_make(&f, source, destination);

		if (sendto(fd, &f, len, 0, (struct sockaddr *)&link, sizeof(link)) < 0)
			die("sendto");
		if (i % 16 == 0)
			usleep(1000);
	}
	return 0;
}
