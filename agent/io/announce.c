/* SPDX-License-Identifier: BSD-2-Clause */
#include "io/announce.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if_arp.h>
#include <netinet/icmp6.h>
#include <netinet/if_ether.h>
#include <netinet/ip6.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct arp_frame {
	struct ether_header ethernet;
	struct ether_arp arp;
} __attribute__((packed));

struct advertisement_frame {
	struct ether_header ethernet;
	struct ip6_hdr ip;
	struct nd_neighbor_advert advert;
	struct nd_opt_hdr option;
	uint8_t mac[6];
} __attribute__((packed));

#define ADVERTISEMENT_SIZE                                                                         \
	(sizeof(struct advertisement_frame) - offsetof(struct advertisement_frame, advert))
#define MS 1000 /* microseconds */
#define HOP_LIMIT 255 /* RFC 4861: from this link, no router has sent it on */

static int send_frame(int fd, unsigned int ifindex, const void *frame, size_t size)
{
	const struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = (int)ifindex};

	return sendto(fd, frame, size, 0, (const struct sockaddr *)&to, sizeof(to)) < 0 ? -errno
											: 0;
}

/* A reply is gratuitous to Linux if its target has the sender's MAC address (arp_is_garp()). */
static int announce4(int fd, unsigned int ifindex, const uint8_t mac[6], const uint8_t *address)
{
	int r;

	struct arp_frame f = {
		.ethernet.ether_type = htons(ETHERTYPE_ARP),
		.arp.ea_hdr = {.ar_hrd = htons(ARPHRD_ETHER),
			.ar_pro = htons(ETHERTYPE_IP),
			.ar_hln = sizeof(f.arp.arp_sha),
			.ar_pln = sizeof(f.arp.arp_spa),
			.ar_op = htons(ARPOP_REQUEST)},
	};

	memset(f.ethernet.ether_dhost, 0xff, sizeof(f.ethernet.ether_dhost));
	memcpy(f.ethernet.ether_shost, mac, sizeof(f.ethernet.ether_shost));
	memcpy(f.arp.arp_sha, mac, sizeof(f.arp.arp_sha));
	memcpy(f.arp.arp_spa, address, sizeof(f.arp.arp_spa));
	memcpy(f.arp.arp_tpa, address, sizeof(f.arp.arp_tpa));
	r = send_frame(fd, ifindex, &f, sizeof(f));
	f.arp.ea_hdr.ar_op = htons(ARPOP_REPLY);
	memcpy(f.arp.arp_tha, mac, sizeof(f.arp.arp_tha));
	return r < 0 ? r : send_frame(fd, ifindex, &f, sizeof(f));
}

/* RFC 1071; `sum`: of what comes before. */
static uint16_t checksum(const void *data, size_t size, uint32_t sum)
{
	const uint8_t *bytes = data;

	for (size_t i = 0; i < size; i += 2)
		sum += (uint32_t)(bytes[i] << 8 | bytes[i + 1]);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static int announce6(int fd, unsigned int ifindex, const uint8_t mac[6], const uint8_t *address)
{
	static const uint8_t all_nodes[] = {0x33, 0x33, 0, 0, 0, 1};
	static const struct in6_addr all_nodes6 = {{{0xff, 2, [15] = 1}}};
	struct advertisement_frame f = {
		.ethernet.ether_type = htons(ETHERTYPE_IPV6),
		.ip = {.ip6_flow = htonl(6U << 28),
			.ip6_plen = htons(ADVERTISEMENT_SIZE),
			.ip6_nxt = IPPROTO_ICMPV6,
			.ip6_hlim = HOP_LIMIT,
			.ip6_dst = all_nodes6},
		.advert = {.nd_na_type = ND_NEIGHBOR_ADVERT,
			.nd_na_flags_reserved = ND_NA_FLAG_ROUTER | ND_NA_FLAG_OVERRIDE},
		.option = {.nd_opt_type = ND_OPT_TARGET_LINKADDR, .nd_opt_len = 1},
	};

	memcpy(f.ethernet.ether_dhost, all_nodes, sizeof(all_nodes));
	memcpy(f.ethernet.ether_shost, mac, sizeof(f.ethernet.ether_shost));
	memcpy(&f.ip.ip6_src, address, sizeof(f.ip.ip6_src));
	memcpy(&f.advert.nd_na_target, address, sizeof(f.advert.nd_na_target));
	memcpy(f.mac, mac, sizeof(f.mac));
	/* The pseudo header (RFC 8200 8.1): both addresses, the length, the next header. */
	f.advert.nd_na_cksum =
		checksum(&f.ip.ip6_src, 2 * sizeof(struct in6_addr) + ADVERTISEMENT_SIZE,
			ADVERTISEMENT_SIZE + IPPROTO_ICMPV6);
	return send_frame(fd, ifindex, &f, sizeof(f));
}

int announce_join(unsigned int ifindex, const struct address *addresses, unsigned int n, int *fd)
{
	struct ipv6_mreq group = {.ipv6mr_interface = ifindex,
		.ipv6mr_multiaddr = {{{0xff, 2, [11] = 1, [12] = 0xff}}}};

	for (unsigned int i = 0; i < n; i++) {
		if (addresses[i].family != AF_INET6)
			continue;
		if (*fd < 0)
			*fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		if (*fd < 0)
			return -errno;
		memcpy(&group.ipv6mr_multiaddr.s6_addr[13], &addresses[i].bytes[13], 3);
		/* EADDRINUSE: addresses that end alike have one group */
		if (setsockopt(*fd, IPPROTO_IPV6, IPV6_JOIN_GROUP, &group, sizeof(group)) < 0 &&
			errno != EADDRINUSE)
			return -errno;
	}
	return 0;
}

int announce(
	unsigned int ifindex, const uint8_t mac[6], const struct address *addresses, unsigned int n)
{
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0); /* protocol 0: receives nothing */
	int r = 0;

	if (fd < 0)
		return -errno;
	for (unsigned int i = 0; i < n && r == 0; i++)
		r = addresses[i].family == AF_INET
			    ? announce4(fd, ifindex, mac, addresses[i].bytes)
			    : announce6(fd, ifindex, mac, addresses[i].bytes);
	close(fd);
	return r;
}

uint64_t announce_next_us(uint64_t last_us, uint64_t others_us)
{
	const uint64_t early[] = {20 * MS, 100 * MS, others_us, 1000 * MS};
	uint64_t next = last_us + 60000 * MS;

	for (unsigned int i = 0; i < sizeof(early) / sizeof(*early); i++)
		if (early[i] > last_us && early[i] < next)
			next = early[i];
	return next;
}
