/* SPDX-License-Identifier: BSD-2-Clause */
/* clang-format off */
/*
 * packet.h - packets by name. A packet is a list of its headers from the outside in, such as
 * "vlan ip udp:4500 esp:1 data"; lengths, types and next header fields follow from the list.
 *
 *   from:N to:N        MAC addresses of member N (else: from the peer, to member 0, which is "we")
 *   vlan vlan-ad       a tag
 *   mpls:N             N labels
 *   gre                and gre:full (all fields), gre:routed (RFC 1701), gre:ppp (RFC 2637)
 *   ethernet           a frame in what is before
 *   ip ip-options ip6  from the peer to the cluster address; with :2 to the second one, :elsewhere
 *                      to none; :out from the cluster address to the peer, :transit from none;
 *                      :netN from the peer to what is beyond an SA of member N's; :tunnel from
 *                      member 1's (ip6: 2's) tunnel address to ours. Inside another one: IP-in-IP
 *   first:N later:N    a fragment of datagram N; overlap:N a later one that overlaps the first one
 *   hop-by-hop routing options   headers in front of another one
 *   esp:S ah:S         S: 0, 1, 2: an SPI of that member's; out: an outbound SA's; none: unknown.
 *                      Behind ah:S there may be another header
 *   udp:P udp-from:P   from and to that port; only from it
 *   marker             zero bytes in place of the SPI
 *   ike:M              M: see `ike_messages`
 *   keepalive tcp icmp:T icmp6:T    T: the ICMP type
 *   solicit solicit-bare     for the first IPv6 cluster address, behind ip6; without an option
 *   arp                the same for the first IPv4 one
 *   data               64 bytes; data:esp, :ah, :udp, :icmp: of a later fragment of such a packet
 *   |                  the IP packet ends here: the rest is padding of the frame
 *   cut:N              the last N bytes do not come
 */
/* clang-format on */
#ifndef PACKET_H
#define PACKET_H

#include "program.h"

#define CLUSTER "192.0.2.1"
#define CLUSTER_2 "192.0.2.2"
#define CLUSTER6 "2001:db8::1"
#define CLUSTER6_2 "2001:db8:0:2::1"
#define PEER "198.51.100.7"
#define PEER6 "2001:db8:7::7"

/* Bucket i belongs to member i % 3, so with `prefix` these are member 0's, 1's and 2's. */
#define SPI_0 0xc0000123 /* bucket 3072 */
#define SPI_1 0xc0100456 /* 3073 */
#define SPI_2 0xc0200789 /* 3074 */
#define SPI_OUT 0x00abc001 /* the peer's; its ESP SA is member 2's, its AH SA member 1's */
#define BUCKET_OUT 3074
#define BUCKET_OUT_AH 3073

static const struct {
	const char *name;
	uint32_t spi;
} spis[] = {{"0", SPI_0}, {"1", SPI_1}, {"2", SPI_2}, {"out", SPI_OUT}, {"none", 0x77}};

/* Member 0's by its top bits, member 1's by its hash. */
#define PEER_IKE 0xc000000000000002
#define OUR_IKE 0xc020000000000004 /* member 2 drew it; member 1's by its hash */

static const struct {
	const char *name;
	uint64_t initiator, responder;
	uint8_t version, exchange, flags;
} ike_messages[] = {
	{"first", PEER_IKE, 0, 0x20, 34, 0x08}, /* the peer's IKE_SA_INIT */
	{"auth", PEER_IKE, OUR_IKE, 0x20, 35, 0x08},
	{"init-answer", OUR_IKE, PEER_IKE, 0x20, 34, 0x20}, /* we are the initiator */
	{"request", OUR_IKE, PEER_IKE, 0x20, 37, 0x00},
	{"v1-first", PEER_IKE, 0, 0x10, 2, 0x00},
	{"v1-answer", OUR_IKE, PEER_IKE, 0x10, 2, 0x01},
	{"our-init", OUR_IKE, 0, 0x20, 34, 0x08}, /* these leave us: errors quote them */
	{"our-v1-init", OUR_IKE, 0, 0x10, 2, 0x00},
	{"our-answer", PEER_IKE, OUR_IKE, 0x20, 35, 0x20},
};

/* A packet as far as it is built. */
struct builder {
	struct frame *frame;
	uint8_t *next; /* where the next header's type goes; NULL: none has been asked for */
	bool linked; /* the Ethernet type has been written */
	void *type; /* where the next one is to be written; NULL: behind what is there */
	bool ip6;
	bool fragment; /* a first one: UDP's length is that of the whole datagram */
	struct iphdr *ip;
	struct { /* fields that tell how much follows */
		uint8_t *field;
		uint32_t from; /* offset in the frame */
	} lengths[8];
	int count;
};

static inline void builder_length(struct builder *b, void *field, uint32_t from)
{
	assert_true(b->count < 8);
	b->lengths[b->count].field = field;
	b->lengths[b->count++].from = from;
}

/* The IP packet ends: what its lengths say is what is there. */
static inline void builder_end(struct builder *b)
{
	while (b->count > 0) {
		uint16_t size = htons(b->frame->size - b->lengths[--b->count].from);

		memcpy(b->lengths[b->count].field, &size, sizeof(size));
	}
}

static inline void *builder_header(
	struct builder *b, uint8_t protocol, const void *bytes, uint32_t size)
{
	if (b->next)
		*b->next = protocol;
	b->next = NULL;
	return frame_add(b->frame, bytes, size);
}

static inline void builder_link(struct builder *b, uint16_t type)
{
	type = htons(type);
	if (b->type)
		memcpy(b->type, &type, sizeof(type));
	else if (!b->linked)
		frame_add(b->frame, &type, sizeof(type));
	b->type = NULL;
	b->linked = true;
}

/* Who sends a packet to whom, by the name behind "ip:" or "ip6:". */
static const struct way {
	const char *name;
	const char *from, *to, *from6, *to6;
} ways[] = {
	{"", PEER, CLUSTER, PEER6, CLUSTER6},
	{"2", PEER, CLUSTER_2, PEER6, CLUSTER6_2},
	{"elsewhere", PEER, "192.0.2.3", PEER6, "2001:db8::2"},
	{"out", CLUSTER, PEER, CLUSTER6, PEER6},
	{"transit", "192.0.2.3", PEER, "2001:db8::2", PEER6},
	{"net0", PEER, "10.30.0.9", PEER6, "2001:db8:30::9"},
	{"net1", PEER, "10.30.1.9", PEER6, "2001:db8:30:1::9"},
	{"net2", PEER, "10.30.2.9", PEER6, "2001:db8:30:2::9"},
	{"tunnel", "203.0.113.11", "203.0.113.10", "2001:db8:f::12", "2001:db8:f::10"},
	{"nobody", "0.0.0.0", CLUSTER, "::", CLUSTER6},
};

static inline const struct way *way_find(const char *name)
{
	size_t i = 0;

	while (strcmp(ways[i].name, name) != 0) {
		i++;
		assert_true(i < sizeof(ways) / sizeof(ways[0]));
	}
	return &ways[i];
}

static inline void builder_ip(struct builder *b, const char *how, unsigned int options)
{
	const struct way *way = way_find(how);
	uint32_t begin;

	if (b->next)
		*b->next = IPPROTO_IPIP;
	builder_link(b, ETH_P_IP);
	begin = b->frame->size;
	b->ip6 = false;
	b->ip = frame_ip(b->frame, way->from, way->to, 0, options);
	b->next = &b->ip->protocol;
	builder_length(b, &b->ip->tot_len, begin);
}

static inline void builder_ip6(struct builder *b, const char *how)
{
	struct ipv6hdr ip = {.version = 6, .hop_limit = 64}, *added;
	const struct way *way = way_find(how);

	if (b->next)
		*b->next = IPPROTO_IPV6;
	builder_link(b, ETH_P_IPV6);
	b->ip6 = true;
	assert_int_equal(inet_pton(AF_INET6, way->from6, &ip.saddr), 1);
	assert_int_equal(inet_pton(AF_INET6, way->to6, &ip.daddr), 1);
	added = frame_add(b->frame, &ip, sizeof(ip));
	b->next = &added->nexthdr;
	builder_length(b, &added->payload_len, b->frame->size);
}

/* RFC 4861 4.3; what no router has forwarded. */
static inline void builder_solicitation(struct builder *b, bool option)
{
	uint8_t nd[32] = {135, [24] = 1, 1, 2, 0, 0, 0, 9, 9};

	assert_int_equal(inet_pton(AF_INET6, CLUSTER6, nd + 8), 1);
	b->next[1] = 255; /* the hop limit */
	builder_header(b, IPPROTO_ICMPV6, nd, option ? 32 : 24);
}

/* The last header. */
static inline void builder_arp(struct builder *b)
{
	struct frame arp;

	frame_arp(&arp, mac_broadcast, mac_peer, PEER, CLUSTER, 0);
	builder_link(b, ETH_P_ARP);
	frame_add(b->frame, arp.bytes + ETH_HLEN, arp.size - ETH_HLEN);
}

/* offset: in units of 8 bytes. */
static inline void builder_fragment(struct builder *b, uint16_t offset, uint32_t id)
{
	uint8_t header[8] = {[2] = offset >> 5, [3] = offset << 3 | 1, [7] = id};

	b->fragment = true;
	if (b->ip6) {
		b->next = builder_header(b, IPPROTO_FRAGMENT, header, sizeof(header));
		return;
	}
	b->ip->frag_off = htons(0x2000 | offset);
	b->ip->id = htons(id);
}

static inline void builder_gre(struct builder *b, const char *how)
{
	const uint8_t flags = !strcmp(how, "full") ? 0xb0 : !strcmp(how, "routed") ? 0x40 : 0;
	const uint8_t gre[16] = {flags, !strcmp(how, "ppp")};

	uint8_t *added = builder_header(b, IPPROTO_GRE, gre, flags == 0xb0 ? 16 : 4);

	b->type = added + 2;
}

static inline void builder_mpls(struct builder *b, unsigned int labels)
{
	uint8_t label[4] = {0, 1, 0x20, 64};

	builder_link(b, ETH_P_MPLS_UC);
	for (unsigned int i = 1; i <= labels; i++) {
		label[2] |= i == labels;
		frame_add(b->frame, label, sizeof(label));
	}
}

static inline void builder_ethernet(struct builder *b)
{
	builder_link(b, ETH_P_TEB);
	frame_add(b->frame, mac_outer[0], 6);
	frame_add(b->frame, mac_peer, 6);
	b->linked = false;
}

static inline void builder_spi(struct builder *b, uint8_t protocol, const char *name)
{
	uint32_t esp[2] = {0, htonl(1)};
	size_t i = 0;

	while (strcmp(spis[i].name, name) != 0) {
		i++;
		assert_true(i < sizeof(spis) / sizeof(spis[0]));
	}
	esp[0] = htonl(spis[i].spi);
	builder_header(b, protocol, esp, protocol == IPPROTO_ESP ? sizeof(esp) : 0);
	if (protocol == IPPROTO_AH)
		b->next = frame_ah(b->frame, spis[i].spi, 1);
}

static inline void builder_udp(struct builder *b, uint16_t from, uint16_t to)
{
	struct udphdr udp = {.source = htons(from), .dest = htons(to)};
	struct udphdr *added = builder_header(b, IPPROTO_UDP, &udp, sizeof(udp));

	builder_length(b, &added->len, b->frame->size - sizeof(udp) - (b->fragment ? 1480 : 0));
}

static inline void builder_ike(struct builder *b, const char *name)
{
	struct {
		uint64_t initiator, responder;
		uint8_t next, version, exchange, flags;
		uint32_t id, length;
	} __attribute__((packed)) ike = {.next = 33, .length = htonl(28 + 64)};
	size_t i = 0;

	while (strcmp(ike_messages[i].name, name) != 0) {
		i++;
		assert_true(i < sizeof(ike_messages) / sizeof(ike_messages[0]));
	}
	ike.initiator = htobe64(ike_messages[i].initiator);
	ike.responder = htobe64(ike_messages[i].responder);
	ike.version = ike_messages[i].version;
	ike.exchange = ike_messages[i].exchange;
	ike.flags = ike_messages[i].flags;
	frame_add(b->frame, &ike, sizeof(ike));
}

static inline uint16_t number_of(const char *value)
{
	return (uint16_t)strtoul(value, NULL, 10);
}

/* What needs no IP header in front, or ends one. */
static inline bool builder_add_plain(struct builder *b, const char *name, const char *value)
{
	const uint8_t zero[4] = {0}, ff = 0xff;
	const uint8_t tag[2][4] = {{0x81, 0x00, 0x00, 0x05}, {0x88, 0xa8, 0x00, 0x05}};
	uint8_t data[64];

	for (unsigned int i = 0; i < sizeof(data); i++)
		data[i] = i * 7 + 3;
	if (!strcmp(name, "from"))
		memcpy(b->frame->bytes + 6, mac_outer[number_of(value)], 6);
	else if (!strcmp(name, "to"))
		memcpy(b->frame->bytes, mac_outer[number_of(value)], 6);
	else if (!strcmp(name, "vlan") || !strcmp(name, "vlan-ad"))
		frame_add(b->frame, tag[!strcmp(name, "vlan-ad")], 4);
	else if (!strcmp(name, "marker"))
		frame_add(b->frame, zero, sizeof(zero));
	else if (!strcmp(name, "keepalive"))
		frame_add(b->frame, &ff, 1);
	else if (!strcmp(name, "data"))
		builder_header(b,
			*value == 'e'   ? IPPROTO_ESP
			: *value == 'a' ? IPPROTO_AH
			: *value == 'u' ? IPPROTO_UDP
			: *value == 'i' ? IPPROTO_ICMP
					: IPPROTO_NONE,
			data, sizeof(data));
	else if (!strcmp(name, "|"))
		builder_end(b);
	else if (!strcmp(name, "cut"))
		b->frame->size -= number_of(value);
	else
		return false;
	return true;
}

static inline bool builder_add_fragment(struct builder *b, const char *name, const char *value)
{
	static const struct {
		const char *name;
		uint16_t offset;
	} fragments[] = {{"first", 0}, {"later", 185}, {"overlap", 1}};

	for (size_t i = 0; i < sizeof(fragments) / sizeof(fragments[0]); i++)
		if (!strcmp(name, fragments[i].name)) {
			builder_fragment(b, fragments[i].offset, number_of(value));
			return true;
		}
	return false;
}

static inline void builder_add(struct builder *b, const char *name, const char *value)
{
	const struct extension *extension = extension_find(name);
	uint8_t icmp[8] = {number_of(value), 0};

	if (builder_add_plain(b, name, value) || builder_add_fragment(b, name, value))
		return;
	if (!strcmp(name, "ip") || !strcmp(name, "ip-options"))
		builder_ip(b, value, !strcmp(name, "ip") ? 0 : 10);
	else if (!strcmp(name, "ip6"))
		builder_ip6(b, value);
	else if (!strcmp(name, "esp") || !strcmp(name, "ah"))
		builder_spi(b, *name == 'e' ? IPPROTO_ESP : IPPROTO_AH, value);
	else if (!strcmp(name, "gre"))
		builder_gre(b, value);
	else if (!strcmp(name, "mpls"))
		builder_mpls(b, number_of(value));
	else if (!strcmp(name, "ethernet"))
		builder_ethernet(b);
	else if (!strcmp(name, "udp"))
		builder_udp(b, number_of(value), number_of(value));
	else if (!strcmp(name, "udp-from"))
		builder_udp(b, number_of(value), 1024);
	else if (!strcmp(name, "ike"))
		builder_ike(b, value);
	else if (!strcmp(name, "icmp") || !strcmp(name, "icmp6"))
		builder_header(b, name[4] ? IPPROTO_ICMPV6 : IPPROTO_ICMP, icmp, sizeof(icmp));
	else if (!strcmp(name, "solicit") || !strcmp(name, "solicit-bare"))
		builder_solicitation(b, !name[7]);
	else if (!strcmp(name, "arp"))
		builder_arp(b);
	else if (!strcmp(name, "tcp"))
		builder_header(b, IPPROTO_TCP, icmp, 0);
	else if (extension)
		b->next = builder_header(b, extension->type, extension->bytes, extension->size);
	else
		fail_msg("there is no header \"%s\"", name);
}

static inline void packet_build(struct frame *frame, const char *headers)
{
	struct builder b = {.frame = frame};
	char list[256], *rest = list, *name;

	frame->size = 0;
	frame_add(frame, mac_outer[0], 6);
	frame_add(frame, mac_peer, 6);
	assert_in_range(snprintf(list, sizeof(list), "%s", headers), 1, sizeof(list) - 1);
	while ((name = strsep(&rest, " "))) {
		char *value = strchr(name, ':');

		if (value)
			*value++ = '\0';
		if (!strcmp(name, "cut"))
			builder_end(&b);
		builder_add(&b, name, value ?: "");
	}
	builder_end(&b);
}

/* Of member 0 of 3. */
static inline void packet_settings(struct espalier_settings *ret, enum espalier_hash hash)
{
	*ret = (struct espalier_settings){.cluster = {inet_addr(CLUSTER), inet_addr(CLUSTER_2)},
		.self = 0,
		.members = 3,
		.hash = hash,
		.block_bits = 16,
		.tick_ms = 255}; /* the timer may be late: the exact clock near a lease's end */
	inet_pton(AF_INET6, CLUSTER6, ret->cluster6[0]);
	inet_pton(AF_INET6, CLUSTER6_2, ret->cluster6[7]);
}

static inline void packet_open(
	struct program *p, enum espalier_hash hash, const void *elf, size_t size)
{
	struct espalier_settings settings;

	packet_settings(&settings, hash);
	program_load(p, elf, size, &settings);
}

/* The outbound SAs to the peer, of ESP and of AH, in both families, pinned as espalier_flow says.
 */
static inline void packet_set_sas(struct program *p, uint8_t pinned)
{
	static const enum espalier_protocol protocols[] = {ESPALIER_ESP, ESPALIER_AH};
	struct espalier_sa sa = {.direction = ESPALIER_OUT, .pinned = pinned};
	struct espalier_sa_key key = {.spi = htonl(SPI_OUT)};

	for (unsigned int i = 0; i < 4; i++) {
		key.family = i / 2 ? AF_INET6 : AF_INET;
		key.protocol = protocols[i % 2];
		sa.bucket = i % 2 ? BUCKET_OUT_AH : BUCKET_OUT;
		inet_pton(key.family, i / 2 ? PEER6 : PEER, key.daddr);
		assert_int_equal(bpf_map_update_elem(program_map(p, "sas"), &key, &sa, BPF_ANY), 0);
	}
}

/* What PINNED (packets.h) says; the view must say so too. */
static inline void packet_set_pins(struct program *p)
{
	const struct espalier_flow to_2 = {.bucket = 3073, .pinned = 2 + 1};
	const struct espalier_flow to_2_ipv6 = {.bucket = 3072, .pinned = 2 + 1};
	const struct espalier_flow to_1_ah = {.bucket = 3073}; /* the bucket of its pair */
	struct espalier_sa_key key = {.spi = htonl(SPI_1), .family = AF_INET};

	inet_pton(AF_INET, CLUSTER, key.daddr);
	assert_int_equal(bpf_map_update_elem(program_map(p, "pins"), &key, &to_2, BPF_ANY), 0);
	key.spi = htonl(SPI_2);
	key.protocol = ESPALIER_AH;
	assert_int_equal(bpf_map_update_elem(program_map(p, "pins"), &key, &to_1_ah, BPF_ANY), 0);
	key = (struct espalier_sa_key){.spi = htonl(SPI_0), .family = AF_INET6};
	inet_pton(AF_INET6, CLUSTER6, key.daddr);
	assert_int_equal(bpf_map_update_elem(program_map(p, "pins"), &key, &to_2_ipv6, BPF_ANY), 0);
}

#endif
