/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * IP-in-IP between members, on both sides: what a packet becomes on the way, byte by byte, and that
 * the other end makes of it what it was; what does not fit, and what nobody sent. Member 0 sends;
 * member 1 is reached over IPv4, member 2 over IPv6.
 */
#include "program.h"
#include "clear_tunnel.skel.h"
#include "steer_tunnel.skel.h"

#include "packet.h"
#include "tunnel.h"

#define MTU 1200 /* of what fits in */
#define QUOTE 128 /* of what does not, bytes told to its sender */

enum { OUTER, INNER, SIDES };

/* By side and member. Members 0 and 1 have an IPv4 address to be reached by, 2 an IPv6 one. */
static struct program programs[SIDES][3];

static void open_program(struct program *p, int side, uint32_t self)
{
	struct espalier_settings settings;
	const void *elf;
	size_t size;

	packet_settings(&settings, ESPALIER_HASH_PREFIX);
	settings.self = self;
	tunnel_settings(&settings, self == 2 ? AF_INET6 : AF_INET);
	elf = side == OUTER ? steer_tunnel_bpf__elf_bytes(&size)
			    : clear_tunnel_bpf__elf_bytes(&size);
	program_load(p, elf, size, &settings);
	tunnel_set_members(p, self, MTU);
}

static int group_setup(void **state)
{
	(void)state;
	for (int side = 0; side < SIDES; side++)
		for (uint32_t id = 0; id < 3; id++)
			open_program(&programs[side][id], side, id);
	for (uint32_t id = 0; id < 3; id++)
		tunnel_set_selectors(&programs[INNER][id]);
	return 0;
}

static int group_teardown(void **state)
{
	(void)state;
	for (int side = 0; side < SIDES; side++)
		for (uint32_t id = 0; id < 3; id++)
			program_close(&programs[side][id]);
	return 0;
}

static int setup(void **state)
{
	static const uint8_t thirds[] = {0, 1, 2};

	(void)state;
	for (int side = 0; side < SIDES; side++)
		for (uint32_t id = 0; id < 3; id++)
			program_set_view(&programs[side][id], 0, thirds, 3, 0, program_now());
	return 0;
}

static const uint8_t *mac_of(int side, int id)
{
	return side == OUTER ? mac_outer[id] : mac_inner[id];
}

/* A clear packet for what is beyond an SA of that member's. */
static void build_clear(struct frame *frame, int tags, bool ipv6, int to, uint16_t size)
{
	const uint8_t payload[64] = "a clear packet";
	struct ipv6hdr ip6 = {.version = 6, .nexthdr = IPPROTO_NONE, .hop_limit = 9};
	char address[32];

	frame_begin(frame, mac_inner[0], mac_peer, tags, ipv6 ? ETH_P_IPV6 : ETH_P_IP);
	snprintf(address, sizeof(address), ipv6 ? "2001:db8:30:%d::9" : "10.30.%d.9", to);
	if (ipv6) {
		ip6.payload_len = htons(size - sizeof(ip6));
		inet_pton(AF_INET6, PEER6, &ip6.saddr);
		inet_pton(AF_INET6, address, &ip6.daddr);
		frame_add(frame, &ip6, sizeof(ip6));
	} else {
		frame_ip(frame, PEER, address, IPPROTO_TCP, 0)->tot_len = htons(size);
	}
	frame_add(frame, payload, size - (ipv6 ? 40 : 20));
}

/* Where the IP header of a frame is. */
static uint32_t ip_of(const struct frame *frame)
{
	uint32_t at = 12;

	while (frame->bytes[at] == 0x81 || frame->bytes[at] == 0x88)
		at += 4;
	return at + 2;
}

/* What goes to a member: the packet with a header before it, and the MAC addresses of the way. */
static void wrap(const struct frame *in, int side, int to, struct frame *ret)
{
	uint32_t at = ip_of(in), size = in->size - at;
	bool ipv6 = in->bytes[at] >> 4 == 6;
	uint16_t type = htons(to == 2 ? ETH_P_IPV6 : ETH_P_IP);
	struct iphdr ip = outer_ipv4(tunnel4[0], tunnel4[to == 2 ? 0 : to]);
	struct ipv6hdr ip6 = {.version = 6,
		.payload_len = htons(size),
		.nexthdr = ipv6 ? IPPROTO_IPV6 : IPPROTO_IPIP,
		.hop_limit = 64};

	ret->size = 0;
	frame_add(ret, mac_router, 6);
	frame_add(ret, mac_of(side, 0), 6);
	frame_add(ret, in->bytes + 12, at - 14);
	frame_add(ret, &type, 2);
	ip.protocol = ipv6 ? IPPROTO_IPV6 : IPPROTO_IPIP;
	ip.tot_len = htons(20 + size);
	ip.check = ~sum_of(&ip, sizeof(ip));
	inet_pton(AF_INET6, tunnel6[0], &ip6.saddr);
	inet_pton(AF_INET6, tunnel6[2], &ip6.daddr);
	if (to == 2)
		frame_add(ret, &ip6, sizeof(ip6));
	else
		frame_add(ret, &ip, sizeof(ip));
	frame_add(ret, in->bytes + at, size);
}

static enum espalier_reason reason_of(
	int side, enum espalier_reason outer, enum espalier_reason inner)
{
	return side == OUTER ? outer : inner;
}

/* Through member 0, and to the member that it is for, which passes it up as it was. */
static void round_trip(const struct frame *in, int side, int to)
{
	struct program *sender = &programs[side][0], *receiver = &programs[side][to];
	struct frame frame = *in, wrapped;

	wrap(in, side, to, &wrapped);
	assert_int_equal(program_run(sender, &frame, NULL, 0), XDP_TX);
	assert_int_equal(
		sender->reason, reason_of(side, ESPALIER_TUNNELLED, ESPALIER_CLEAR_TUNNELLED));
	assert_int_equal(frame.size, wrapped.size);
	assert_memory_equal(frame.bytes, wrapped.bytes, wrapped.size);

	memcpy(frame.bytes, mac_of(side, to), 6); /* the router's work */
	memcpy(frame.bytes + 6, mac_router, 6);
	assert_int_equal(program_run(receiver, &frame, NULL, 0), XDP_PASS);
	assert_int_equal(receiver->reason, reason_of(side, ESPALIER_LOCAL, ESPALIER_CLEAR_LOCAL));
	assert_int_equal(frame.size, in->size);
	assert_memory_equal(frame.bytes + 12, in->bytes + 12, in->size - 12);
}

static void test_outer(void **state)
{
	static const char *const packets[] = {"ip esp:%d data", "vlan ip esp:%d data",
		"vlan-ad vlan ip-options esp:%d data", "ip6 esp:%d data",
		"vlan ip6 hop-by-hop esp:%d data", "ip udp:4500 esp:%d data",
		"ip first:1 esp:%d data"};
	struct frame frame;
	char packet[64];

	(void)state;
	for (size_t i = 0; i < sizeof(packets) / sizeof(packets[0]); i++)
		for (int to = 1; to <= 2; to++) {
			snprintf(packet, sizeof(packet), packets[i], to);
			packet_build(&frame, packet);
			round_trip(&frame, OUTER, to);
		}
	packet_build(&frame, "ip later:1 data:esp"); /* of the last one above */
	round_trip(&frame, OUTER, 2);
}

static void test_inner(void **state)
{
	struct frame frame;

	(void)state;
	for (int to = 1; to <= 2; to++)
		for (int tags = 0; tags <= 2; tags++)
			for (int ipv6 = 0; ipv6 <= 1; ipv6++) {
				build_clear(&frame, tags, ipv6, to, 90);
				round_trip(&frame, INNER, to);
			}
}

/* Ethernet pads short frames: what is behind the packet goes along, and does not count. */
static void test_padding(void **state)
{
	const uint8_t padding[6] = {0xaa};
	struct program *p = &programs[INNER][0];
	struct iphdr ip;
	struct frame frame;

	(void)state;
	build_clear(&frame, 0, false, 1, 40);
	frame_add(&frame, padding, sizeof(padding));
	assert_int_equal(program_run(p, &frame, NULL, 0), XDP_TX);
	memcpy(&ip, frame.bytes + 14, sizeof(ip));
	assert_int_equal(ntohs(ip.tot_len), 60);
	assert_int_equal(sum_of(&ip, sizeof(ip)), 0xffff);

	build_clear(&frame, 0, false, 1, 40); /* says that there is more of it than comes */
	frame.size--;
	assert_int_equal(program_run(p, &frame, NULL, 0), XDP_DROP);
	assert_int_equal(p->reason, ESPALIER_MALFORMED);
}

/* A packet of that size, as the program leaves it in `out`. Returns its verdict. */
static int run_large(struct program *p, const struct frame *frame, uint16_t size, uint8_t out[2048],
	uint32_t *ret_size)
{
	uint8_t in[2048] = {0};
	uint32_t at = ip_of(frame);
	bool ipv6 = frame->bytes[at] >> 4 == 6;
	uint16_t length = htons(ipv6 ? size - 40 : size);
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = in, .data_size_in = at + size,
		.data_out = out, .data_size_out = 2048, .repeat = 1);

	memcpy(in, frame->bytes, frame->size);
	memcpy(in + at + (ipv6 ? 4 : 2), &length, 2);
	assert_int_equal(bpf_prog_test_run_opts(p->fd, &opts), 0);
	*ret_size = opts.data_size_out;
	return (int)opts.retval;
}

static uint64_t said(const struct program *p, enum espalier_reason reason)
{
	uint64_t reasons[ESPALIER_REASON_COUNT];

	program_reasons(p, reasons);
	return reasons[reason];
}

/* ICMPv6's checksum with the pseudo header (RFC 4443 2.3); of a right one: 0xffff. */
static uint16_t icmp6_sum(const uint8_t *ip, uint16_t size)
{
	uint8_t pseudo[40] = {0};

	memcpy(pseudo, ip + 8, 32);
	pseudo[34] = size >> 8;
	pseudo[35] = size & 0xff;
	pseudo[39] = IPPROTO_ICMPV6;
	return sum_of((uint16_t[2]){sum_of(pseudo, 40), sum_of(ip + 40, size)}, 4);
}

/* The sender is told, from the address that it knows, how large its packets may be. */
static void told(int side, const struct frame *frame, const char *from, uint32_t mtu)
{
	uint8_t out[2048];
	uint32_t size, at = ip_of(frame);
	bool ipv6 = frame->bytes[at] >> 4 == 6;
	struct program *p = &programs[side][0];
	uint32_t header = ipv6 ? 40 : 20;
	uint8_t address[16];
	uint64_t before = said(p, reason_of(side, ESPALIER_TOO_BIG, ESPALIER_CLEAR_TOO_BIG));

	assert_int_equal(run_large(p, frame, mtu + 1, out, &size), XDP_TX);
	assert_int_equal(
		said(p, reason_of(side, ESPALIER_TOO_BIG, ESPALIER_CLEAR_TOO_BIG)), before + 1);
	assert_int_equal(size, at + header + 8 + QUOTE);
	assert_memory_equal(out, mac_peer, 6);
	assert_memory_equal(out + 6, mac_of(side, 0), 6);
	assert_memory_equal(out + 12, frame->bytes + 12, at - 12);
	inet_pton(ipv6 ? AF_INET6 : AF_INET, from, address);
	assert_memory_equal(out + at + (ipv6 ? 8 : 12), address, ipv6 ? 16 : 4);
	inet_pton(ipv6 ? AF_INET6 : AF_INET, ipv6 ? PEER6 : PEER, address);
	assert_memory_equal(out + at + (ipv6 ? 24 : 16), address, ipv6 ? 16 : 4);
	assert_int_equal(out[at + header], ipv6 ? 2 : 3);
	assert_int_equal(out[at + header + 1], ipv6 ? 0 : 4);
	assert_int_equal(out[at + header + 6] << 8 | out[at + header + 7], mtu);
	/* the quote begins with the packet's IP header, whose length is the one that was too much
	 */
	assert_memory_equal(out + at + header + 8 + (ipv6 ? 6 : 4),
		frame->bytes + at + (ipv6 ? 6 : 4),
		frame->size - at - (ipv6 ? 6 : 4) < QUOTE - 6 ? frame->size - at - (ipv6 ? 6 : 4)
							      : QUOTE - 6);
	if (ipv6) {
		assert_int_equal(icmp6_sum(out + at, 8 + QUOTE), 0xffff);
		return;
	}
	assert_int_equal(sum_of(out + at, 20), 0xffff);
	assert_int_equal(sum_of(out + at + 20, 8 + QUOTE), 0xffff);
	assert_int_equal(out[at + 2] << 8 | out[at + 3], 20 + 8 + QUOTE);
}

static void test_too_big(void **state)
{
	static const char *const packets[] = {"ip esp:1 data", "vlan vlan ip-options esp:1 data",
		"ip6 esp:1 data", "vlan ip6 options esp:2 data", "ip first:1 udp:4500 esp:2 data"};
	struct frame frame;
	uint8_t out[2048];
	uint32_t size;

	(void)state;
	for (size_t i = 0; i < sizeof(packets) / sizeof(packets[0]); i++) {
		packet_build(&frame, packets[i]);
		told(OUTER, &frame, strstr(packets[i], "ip6") ? CLUSTER6 : CLUSTER, MTU);
		assert_int_equal(run_large(&programs[OUTER][0], &frame, MTU, out, &size), XDP_TX);
		assert_int_equal(size,
			ip_of(&frame) + MTU + (strchr(strstr(packets[i], "esp"), '2') ? 40 : 20));
	}
	for (int tags = 0; tags <= 2; tags++) {
		build_clear(&frame, tags, false, 1, 80);
		told(INNER, &frame, CLUSTER, MTU);
		build_clear(&frame, tags, true, 2, 80);
		told(INNER, &frame, CLUSTER6, MTU);
	}
}

/* RFC 1122 3.2.2: of what nobody may be told. */
static void test_too_big_left(void **state)
{
	struct program *p = &programs[OUTER][0];
	uint64_t before;
	struct frame frame;
	uint8_t out[2048];
	uint32_t size;

	(void)state;
	packet_set_sas(p, 0);
	packet_build(&frame, "ip first:4 esp:1 data");
	run_large(p, &frame, 400, out, &size);
	before = said(p, ESPALIER_TOO_BIG_LEFT);
	packet_build(&frame, "ip later:4 data:esp");
	assert_int_equal(run_large(p, &frame, MTU + 1, out, &size), XDP_DROP);
	packet_build(&frame, "ip icmp:3 ip:out esp:out data");
	assert_int_equal(run_large(p, &frame, MTU + 1, out, &size), XDP_DROP);
	packet_build(&frame, "ip6 icmp6:2 ip6:out esp:out data");
	assert_int_equal(run_large(p, &frame, MTU + 1, out, &size), XDP_DROP);
	packet_build(&frame, "ip esp:1 data");
	memset(frame.bytes + 14 + 12, 0, 4); /* from nobody */
	assert_int_equal(run_large(p, &frame, MTU + 1, out, &size), XDP_DROP);
	frame.bytes[14 + 12] = 224; /* from all */
	assert_int_equal(run_large(p, &frame, MTU + 1, out, &size), XDP_DROP);
	packet_build(&frame, "ip6 esp:1 data");
	frame.bytes[14 + 8] = 0xff;
	assert_int_equal(run_large(p, &frame, MTU + 1, out, &size), XDP_DROP);
	packet_build(&frame, "ip6:nobody esp:1 data");
	assert_int_equal(run_large(p, &frame, MTU + 1, out, &size), XDP_DROP);
	assert_int_equal(said(p, ESPALIER_TOO_BIG_LEFT), before + 7);

	p = &programs[INNER][0];
	before = said(p, ESPALIER_TOO_BIG_LEFT);
	build_clear(&frame, 0, false, 1, 80);
	memset(frame.bytes + 14 + 12, 0, 4);
	assert_int_equal(run_large(p, &frame, MTU + 1, out, &size), XDP_DROP);
	assert_int_equal(said(p, ESPALIER_TOO_BIG_LEFT), before + 1);
	for (int side = 0; side < SIDES; side++)
		program_reasons(&programs[side][0], programs[side][0].said);
}

/* Takes a frame from member 0 to member 1 and changes a byte on the way. */
static void on_the_way(int side, const struct frame *in, uint32_t offset, uint8_t byte, int verdict,
	enum espalier_reason reason)
{
	struct program *p = &programs[side][1];
	struct frame frame;

	wrap(in, side, 1, &frame);
	memcpy(frame.bytes, mac_of(side, 1), 6);
	memcpy(frame.bytes + 6, mac_router, 6);
	frame.bytes[offset] = byte;
	if (program_run(p, &frame, NULL, 0) != verdict || p->reason != reason)
		fail_msg("side %d, byte %u: reason %d, not %d", side, offset, p->reason, reason);
}

static void test_received(void **state)
{
	const struct espalier_member none = {};
	struct frame frame, wrapped;
	const uint32_t id = 2;

	(void)state;
	packet_build(&frame, "ip esp:1 data");
	on_the_way(OUTER, &frame, 14 + 15, 13, XDP_PASS, ESPALIER_NOT_OURS); /* not a member */
	on_the_way(OUTER, &frame, 14 + 19, 13, XDP_PASS, ESPALIER_NOT_OURS); /* not to us */
	on_the_way(OUTER, &frame, 14 + 6, 0x20, XDP_PASS, ESPALIER_NOT_OURS); /* a fragment */
	on_the_way(OUTER, &frame, 14 + 9, IPPROTO_GRE, XDP_PASS, ESPALIER_NOT_OURS);
	/* not for a cluster address; of no SA; not what its protocol says */
	on_the_way(OUTER, &frame, 34 + 19, 13, XDP_DROP, ESPALIER_TUNNEL_STRANGER);
	on_the_way(OUTER, &frame, 34 + 9, IPPROTO_TCP, XDP_DROP, ESPALIER_TUNNEL_STRANGER);
	on_the_way(OUTER, &frame, 14 + 9, IPPROTO_IPV6, XDP_DROP, ESPALIER_TUNNEL_STRANGER);
	/* one hop: what is another member's is not sent on, nor passed up */
	packet_build(&frame, "ip esp:2 data");
	on_the_way(OUTER, &frame, 14 + 8, 63, XDP_DROP, ESPALIER_TUNNEL_LEFT);
	build_clear(&frame, 0, false, 2, 80);
	on_the_way(INNER, &frame, 14 + 8, 63, XDP_DROP, ESPALIER_TUNNEL_LEFT);
	/* while buckets change hands its sender may hold us for the owner */
	program_set_handing(&programs[OUTER][1], true);
	packet_build(&frame, "ip esp:2 data");
	on_the_way(OUTER, &frame, 14 + 8, 63, XDP_PASS, ESPALIER_LOCAL);
	program_set_handing(&programs[OUTER][1], false);
	on_the_way(OUTER, &frame, 14 + 8, 63, XDP_DROP, ESPALIER_TUNNEL_LEFT);
	build_clear(&frame, 0, false, 2, 80);
	build_clear(&frame, 0, false, 7, 80);
	on_the_way(INNER, &frame, 14 + 8, 63, XDP_DROP, ESPALIER_TUNNEL_STRANGER);
	/* from nobody, of whom there is one more */
	packet_build(&frame, "ip esp:1 data");
	assert_int_equal(bpf_map_update_elem(
				 program_map(&programs[OUTER][1], "members"), &id, &none, BPF_ANY),
		0);
	wrap(&frame, OUTER, 1, &wrapped);
	memset(wrapped.bytes + 14 + 12, 0, 4);
	assert_int_equal(program_run(&programs[OUTER][1], &wrapped, NULL, 0), XDP_PASS);
	assert_int_equal(programs[OUTER][1].reason, ESPALIER_NOT_OURS);
	packet_build(&frame, "ip:2 tcp data"); /* for a cluster address on the inner side */
	on_the_way(INNER, &frame, 14 + 8, 63, XDP_DROP, ESPALIER_TUNNEL_STRANGER);
}

/* Cut short on the way, so that what is in it is no packet: as it came, not half of the work. */
static void test_received_short(void **state)
{
	struct frame in, frame, before;

	(void)state;
	for (int side = 0; side < SIDES; side++) {
		packet_build(&in, "ip esp:1 data");
		wrap(&in, side, 1, &frame);
		for (frame.size = 14 + 20; frame.size < 14 + 20 + 20; frame.size++) {
			before = frame;
			assert_int_equal(
				program_run(&programs[side][1], &frame, NULL, 0), XDP_PASS);
			assert_int_equal(programs[side][1].reason,
				side == OUTER ? ESPALIER_NOT_OURS : ESPALIER_CLEAR_NO_SA);
			assert_int_equal(frame.size, before.size);
			assert_memory_equal(frame.bytes, before.bytes, before.size);
		}
	}
}

/* The members' reasons taken together: 0 sends, 1 receives. */
static void test_said(void **state)
{
	(void)state;
	for (int side = 0; side < SIDES; side++)
		for (int i = 0; i < ESPALIER_REASON_COUNT; i++)
			if (said_by[i] & (side == OUTER ? IN_TUNNEL : IN_CLEAR_TUNNEL))
				assert_true(programs[side][0].said[i] + programs[side][1].said[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_outer, setup),
		cmocka_unit_test_setup(test_inner, setup),
		cmocka_unit_test_setup(test_padding, setup),
		cmocka_unit_test_setup(test_too_big, setup),
		cmocka_unit_test_setup(test_too_big_left, setup),
		cmocka_unit_test_setup(test_received, setup),
		cmocka_unit_test_setup(test_received_short, setup),
		cmocka_unit_test(test_said),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
