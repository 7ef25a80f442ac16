/* SPDX-License-Identifier: BSD-2-Clause */
#include "io/hop.h"

#include <arpa/inet.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <string.h>

#define TTL 64

static bool is_known(const uint8_t mac[6])
{
	static const uint8_t none[6];

	return memcmp(mac, none, sizeof(none)) != 0;
}

/* The sum of the header that the programs put in front, without its length and protocol. */
static uint16_t header_sum(const struct hop_facts *f)
{
	struct iphdr ip = {.version = 4, .ihl = 5, .frag_off = htons(IP_DF), .ttl = TTL};
	uint16_t words[sizeof(ip) / 2];
	uint32_t sum = 0;

	memcpy(&ip.saddr, f->from.bytes, sizeof(ip.saddr));
	memcpy(&ip.daddr, f->to.bytes, sizeof(ip.daddr));
	memcpy(words, &ip, sizeof(ip));
	for (unsigned int i = 0; i < sizeof(ip) / 2; i++)
		sum += words[i];
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

/* What fits in, bytes. */
static uint16_t inner_mtu(const struct hop_facts *f)
{
	uint32_t header = f->to.family == AF_INET ? sizeof(struct iphdr) : sizeof(struct ip6_hdr);
	uint32_t mtu = f->route.mtu && f->route.mtu < f->mtu ? f->route.mtu : f->mtu;

	if (mtu < header)
		return 0;
	return mtu - header < UINT16_MAX ? (uint16_t)(mtu - header) : UINT16_MAX;
}

static enum hop_lack compose_link(const uint8_t mac[6], struct espalier_hop *ret)
{
	if (!is_known(mac))
		return HOP_LACKS_WORD;
	memcpy(ret->mac, mac, sizeof(ret->mac));
	ret->kind = ESPALIER_HOP_LINK;
	return HOP_LACKS_NOTHING;
}

static enum hop_lack compose_tunnel(const struct hop_facts *f, struct espalier_hop *ret)
{
	if (!is_known(f->neighbour))
		return HOP_LACKS_GATEWAY;
	memcpy(ret->mac, f->neighbour, sizeof(ret->mac));
	ret->kind = f->to.family == AF_INET ? ESPALIER_HOP_IPV4 : ESPALIER_HOP_IPV6;
	ret->mtu = inner_mtu(f);
	if (f->to.family == AF_INET)
		ret->check = header_sum(f);
	return HOP_LACKS_NOTHING;
}

enum hop_lack hop_compose(const struct hop_facts *f, struct espalier_hop *ret)
{
	*ret = (struct espalier_hop){.kind = ESPALIER_HOP_NONE};
	memcpy(ret->from, f->from.bytes, sizeof(ret->from));
	memcpy(ret->to, f->to.bytes, sizeof(ret->to));
	if (!f->next_hop)
		return HOP_LACKS_WORD;
	if (!f->to.family)
		return compose_link(f->told, ret);
	if (!f->route.ifindex)
		return HOP_LACKS_ROUTE;
	if (f->route.ifindex != f->ifindex)
		return HOP_LACKS_INTERFACE;
	if (f->route.gateway.family)
		return compose_tunnel(f, ret);
	return compose_link(is_known(f->neighbour) ? f->neighbour : f->told, ret);
}
