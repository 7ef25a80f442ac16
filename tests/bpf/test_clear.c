/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The inner side: every verdict of clear.bpf.c; and of sync.bpf.c. This is member 0 of 3.
 */
#include "program.h"
#include "clear.skel.h"
#include "sync.skel.h"

#include <linux/if_xdp.h>
#include <net/if.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLUSTER "10.1.0.1"
#define CLUSTER6 "2001:db8::1"
#define HOST "10.1.0.77"
#define HOST6 "2001:db8::77"
#define SYNC_ADDRESS "10.9.0.1"
#define SYNC_PORT 4711

static const uint8_t thirds[] = {0, 1, 2};
static struct program clear, sync_program;

static int group_setup(void **state)
{
	struct espalier_settings settings = {.cluster = {inet_addr(CLUSTER)},
		.cluster6 = {{0x20, 0x01, 0x0d, 0xb8, [15] = 1}}, /* CLUSTER6 */
		.self = 0,
		.members = 3,
		.block_bits = 16,
		.sync_address = inet_addr(SYNC_ADDRESS),
		.sync_port = htons(SYNC_PORT)};
	const void *elf;
	size_t size;

	(void)state;
	elf = clear_bpf__elf_bytes(&size);
	program_load(&clear, elf, size, &settings);
	elf = sync_bpf__elf_bytes(&size);
	program_load(&sync_program, elf, size, &settings);
	return 0;
}

static int group_teardown(void **state)
{
	(void)state;
	program_close(&clear);
	program_close(&sync_program);
	return 0;
}

static void set_selector(const char *address, uint32_t prefix, uint32_t bucket)
{
	const struct espalier_flow flow = {.bucket = bucket};
	struct espalier_selector key = {
		.prefixlen = ESPALIER_SELECTOR_BITS + prefix, .family = AF_INET};

	inet_pton(AF_INET, address, key.addr);

	assert_int_equal(
		bpf_map_update_elem(program_map(&clear, "selectors"), &key, &flow, BPF_ANY), 0);
}

static void set_selector6(const char *address, uint32_t prefix, uint32_t bucket)
{
	const struct espalier_flow flow = {.bucket = bucket};
	struct espalier_selector key = {
		.prefixlen = ESPALIER_SELECTOR_BITS + prefix, .family = AF_INET6};

	inet_pton(AF_INET6, address, key.addr);
	assert_int_equal(
		bpf_map_update_elem(program_map(&clear, "selectors"), &key, &flow, BPF_ANY), 0);
}

static int setup(void **state)
{
	(void)state;
	program_set_view(&clear, 1, thirds, 3, 0, program_now());
	program_set_members(&clear, true);
	set_selector("10.20.0.0", 16, 30); /* member 0's bucket */
	set_selector("10.20.30.0", 24, 31); /* 1 */
	set_selector("10.20.30.40", 32, 32); /* 2 */
	set_selector("10.64.0.0", 10, 4094); /* 2 */
	set_selector("10.65.0.5", 32, ESPALIER_HERE);
	return 0;
}

static void clear_frame(struct frame *frame, const uint8_t from[6], const char *to)
{
	const uint8_t payload[24] = "twenty-four bytes of it";

	frame_begin(frame, mac_inner[0], from, 0, ETH_P_IP);
	frame_ip(frame, HOST, to, IPPROTO_TCP, 0);
	frame_add(frame, payload, sizeof(payload));
}

static void untouched(
	struct program *p, struct frame *frame, int verdict, enum espalier_reason reason)
{
	struct frame before = *frame;

	assert_int_equal(program_run(p, frame, NULL, 0), verdict);
	assert_int_equal(p->reason, reason);
	assert_int_equal(frame->size, before.size);
	assert_memory_equal(frame->bytes, before.bytes, before.size);
}

static void forwarded(struct frame *frame, int member)
{
	struct frame before = *frame;

	assert_int_equal(program_run(&clear, frame, NULL, 0), XDP_TX);
	assert_int_equal(clear.reason, ESPALIER_CLEAR_FORWARDED);
	assert_memory_equal(frame->bytes, mac_inner[member], 6);
	assert_memory_equal(frame->bytes + 6, mac_inner[0], 6);
	assert_int_equal(frame->size, before.size);
	assert_memory_equal(frame->bytes + 12, before.bytes + 12, before.size - 12);
}

static void test_longest_prefix(void **state)
{
	struct frame frame;

	(void)state;
	clear_frame(&frame, mac_peer, "10.20.99.1");
	untouched(&clear, &frame, XDP_PASS, ESPALIER_CLEAR_LOCAL);
	clear_frame(&frame, mac_peer, "10.20.30.1");
	forwarded(&frame, 1);
	clear_frame(&frame, mac_peer, "10.20.30.40");
	forwarded(&frame, 2);
	clear_frame(&frame, mac_peer, "10.127.255.255");
	forwarded(&frame, 2);
	clear_frame(&frame, mac_peer, "10.128.0.0");
	untouched(&clear, &frame, XDP_PASS, ESPALIER_CLEAR_NO_SA);
}

/* A flow's packets of any kind, fragments and options too, go one way. */
static void test_any_packet(void **state)
{
	struct frame frame;
	struct iphdr *ip;

	(void)state;
	for (int tags = 0; tags <= 2; tags++) {
		frame_begin(&frame, mac_inner[0], mac_peer, tags, ETH_P_IP);
		ip = frame_ip(&frame, HOST, "10.20.30.1", IPPROTO_UDP, 3);
		ip->frag_off = htons(100);
		forwarded(&frame, 1);
	}
}

static void clear_frame6(struct frame *frame, const char *to)
{
	struct ipv6hdr ip = {.version = 6, .nexthdr = IPPROTO_TCP, .payload_len = htons(24)};
	const uint8_t payload[24] = "twenty-four bytes of it";

	frame_begin(frame, mac_inner[0], mac_peer, 1, ETH_P_IPV6);
	inet_pton(AF_INET6, HOST6, &ip.saddr);
	inet_pton(AF_INET6, to, &ip.daddr);
	frame_add(frame, &ip, sizeof(ip));
	frame_add(frame, payload, sizeof(payload));
}

static void test_ipv6(void **state)
{
	static const char *const links[] = {"fe80::1", "febf::1", "ff02::1", "ff0e::1"};
	struct frame frame;

	(void)state;
	set_selector("0.0.0.0", 0, 32); /* IPv4's do not count, */
	clear_frame6(&frame, "2001:db8:20::1");
	untouched(&clear, &frame, XDP_PASS, ESPALIER_CLEAR_NO_SA);
	set_selector6("::", 0, 32); /* nor IPv6's for IPv4 */
	clear_frame(&frame, mac_peer, "8.8.8.8");
	forwarded(&frame, 2);
	set_selector6("2001:db8:20::", 48, 30);
	set_selector6("2001:db8:20:1::", 64, 31);
	set_selector6("2001:db8:20:1::5", 128, ESPALIER_HERE);
	clear_frame6(&frame, "2001:db8:20::1");
	untouched(&clear, &frame, XDP_PASS, ESPALIER_CLEAR_LOCAL);
	clear_frame6(&frame, "2001:db8:20:1::1");
	forwarded(&frame, 1);
	clear_frame6(&frame, "2001:db9::1");
	forwarded(&frame, 2);
	clear_frame6(&frame, "2001:db8:20:1::5");
	untouched(&clear, &frame, XDP_PASS, ESPALIER_NOT_OURS);
	clear_frame6(&frame, CLUSTER6);
	untouched(&clear, &frame, XDP_PASS, ESPALIER_NOT_OURS);
	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
		clear_frame6(&frame, links[i]); /* no router forwards that */
		untouched(&clear, &frame, XDP_PASS, ESPALIER_NOT_OURS);
	}
	/* looks like neighbour discovery, and is an echo request (RFC 4443 4.1) */
	clear_frame6(&frame, "2001:db9::1");
	((struct ipv6hdr *)(frame.bytes + 18))->nexthdr = IPPROTO_ICMPV6;
	((struct ipv6hdr *)(frame.bytes + 18))->hop_limit = 255;
	frame.bytes[18 + 40] = 128;
	forwarded(&frame, 2);
	clear_frame6(&frame, "2001:db9::1");
	frame.size = 14 + 4 + 39;
	untouched(&clear, &frame, XDP_PASS, ESPALIER_NOT_OURS);

	struct espalier_selector all = {.prefixlen = ESPALIER_SELECTOR_BITS, .family = AF_INET};

	assert_int_equal(bpf_map_delete_elem(program_map(&clear, "selectors"), &all), 0);
	all.family = AF_INET6;
	assert_int_equal(bpf_map_delete_elem(program_map(&clear, "selectors"), &all), 0);
}

static void test_pinned(void **state)
{
	const struct espalier_flow flow = {.bucket = 30, .pinned = 2 + 1};
	struct espalier_selector key = {
		.prefixlen = ESPALIER_SELECTOR_BITS + 24, .family = AF_INET, .addr = {10, 20, 40}};
	struct espalier_view *view;
	struct frame frame;

	(void)state;
	assert_int_equal(
		bpf_map_update_elem(program_map(&clear, "selectors"), &key, &flow, BPF_ANY), 0);
	clear_frame(&frame, mac_peer, "10.20.40.1");
	forwarded(&frame, 2);
	view = program_view(&clear);
	view->half[view->active].live = 3; /* without member 2: the bucket's owner */
	program_keep_view(&clear, view);
	clear_frame(&frame, mac_peer, "10.20.40.1");
	untouched(&clear, &frame, XDP_PASS, ESPALIER_CLEAR_LOCAL);
}

/* As from that interface. */
static int run_from(struct frame *frame, const char *interface)
{
	struct xdp_md ctx = {.data_end = frame->size, .ingress_ifindex = if_nametoindex(interface)};

	return program_run(&clear, frame, &ctx, sizeof(ctx));
}

/* 10.40.0.0/16 is routed to an xfrm interface; of it 10.40.9.0/24 is not. */
static void test_route(void **state)
{
	const struct espalier_flow plain = {.bucket = 31}, routed = {.bucket = 32};
	struct espalier_selector any = {
		.prefixlen = ESPALIER_SELECTOR_BITS, .family = AF_INET, .if_id = 7};
	struct espalier_view *view;
	struct frame frame;
	uint32_t ifindex, if_id = 7;

	(void)state;
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	/* the kernel routes to it as to an xfrm interface, which not each kernel has */
	assert_int_equal(system("ip link add in type veth peer name host && ip link set in up && "
				"ip address add 10.1.0.11/24 dev in && ip link set host up && "
				"ip link add ipsec7 type ifb && ip link set ipsec7 up && "
				"ip route add 10.40.0.0/16 dev ipsec7 && "
				"ip route add 10.40.9.0/24 via 10.1.0.99 && "
				"ip -6 address add 2001:db8::11/64 dev in nodad && "
				"ip -6 route add 2001:db8:40::/48 dev ipsec7 && "
				"sysctl -q -w net.ipv4.ip_forward=1 "
				"net.ipv6.conf.all.forwarding=1"),
		0);
	ifindex = if_nametoindex("ipsec7");
	assert_int_equal(
		bpf_map_update_elem(program_map(&clear, "interfaces"), &ifindex, &if_id, BPF_ANY),
		0);
	assert_int_equal(
		bpf_map_update_elem(program_map(&clear, "selectors"), &any, &routed, BPF_ANY), 0);
	any.family = AF_INET6;
	assert_int_equal(
		bpf_map_update_elem(program_map(&clear, "selectors"), &any, &routed, BPF_ANY), 0);
	any = (struct espalier_selector){
		.prefixlen = ESPALIER_SELECTOR_BITS + 8, .family = AF_INET, .addr = {10}};
	assert_int_equal(
		bpf_map_update_elem(program_map(&clear, "selectors"), &any, &plain, BPF_ANY), 0);

	clear_frame(&frame, mac_peer, "10.40.1.1"); /* nobody asks for a route */
	assert_int_equal(run_from(&frame, "in"), XDP_TX);
	assert_memory_equal(frame.bytes, mac_inner[1], 6);
	view = program_view(&clear);
	view->interfaces = 1;
	program_keep_view(&clear, view);
	clear_frame(&frame, mac_peer, "10.40.1.1");
	assert_int_equal(run_from(&frame, "in"), XDP_TX);
	assert_memory_equal(frame.bytes, mac_inner[2], 6);
	clear_frame(&frame, mac_peer, "10.40.9.1"); /* by the longer route: not through it */
	assert_int_equal(run_from(&frame, "in"), XDP_TX);
	assert_memory_equal(frame.bytes, mac_inner[1], 6);
	clear_frame(&frame, mac_peer, "10.41.0.1"); /* no route */
	assert_int_equal(run_from(&frame, "in"), XDP_TX);
	assert_memory_equal(frame.bytes, mac_inner[1], 6);
	clear_frame6(&frame, "2001:db8:40::1");
	assert_int_equal(run_from(&frame, "in"), XDP_TX);
	assert_memory_equal(frame.bytes, mac_inner[2], 6);
	clear_frame6(&frame, "2001:db8:41::1");
	assert_int_equal(run_from(&frame, "in"), XDP_PASS);
	assert_int_equal(clear.reason, ESPALIER_CLEAR_NO_SA);
	assert_int_equal(bpf_map_delete_elem(program_map(&clear, "selectors"), &any), 0);
}

static void test_one_hop(void **state)
{
	struct frame frame;

	(void)state;
	for (int id = 0; id < 3; id++) {
		clear_frame(&frame, mac_inner[id], "10.20.30.1");
		untouched(&clear, &frame, XDP_PASS, ESPALIER_CLEAR_ONE_HOP);
	}
	clear_frame(&frame, mac_inner[1], "10.20.1.1");
	untouched(&clear, &frame, XDP_PASS, ESPALIER_CLEAR_LOCAL);
}

static void test_no_owner_no_next_hop(void **state)
{
	const uint8_t nobody = ESPALIER_NOBODY;
	struct frame frame;

	(void)state;
	clear_frame(&frame, mac_peer, "10.20.30.40");
	program_set_members(&clear, false);
	untouched(&clear, &frame, XDP_PASS, ESPALIER_CLEAR_NO_NEXT_HOP);
	program_set_view(&clear, 0, &nobody, 1, 0, program_now());
	untouched(&clear, &frame, XDP_DROP, ESPALIER_CLEAR_NO_OWNER);
}

static void test_not_ours(void **state)
{
	struct frame frame;

	(void)state;
	set_selector("0.0.0.0", 0, 32); /* everything goes through the tunnel, */
	clear_frame(&frame, mac_peer, "8.8.8.8");
	forwarded(&frame, 2);
	clear_frame(&frame, mac_peer, "10.65.0.5"); /* except what is for this machine, */
	untouched(&clear, &frame, XDP_PASS, ESPALIER_NOT_OURS);
	clear_frame(&frame, mac_peer, CLUSTER); /* or for the cluster, */
	untouched(&clear, &frame, XDP_PASS, ESPALIER_NOT_OURS);
	clear_frame(&frame, mac_peer, "8.8.8.8"); /* or for another machine, */
	memcpy(frame.bytes, mac_peer, 6);
	untouched(&clear, &frame, XDP_PASS, ESPALIER_NOT_OURS);
	clear_frame(&frame, mac_peer, "10.1.0.255"); /* or for all, */
	memcpy(frame.bytes, mac_broadcast, 6);
	untouched(&clear, &frame, XDP_PASS, ESPALIER_NOT_OURS);
	clear_frame(&frame, mac_peer, "8.8.8.8"); /* or too short to say, */
	frame.size = 14 + 19;
	untouched(&clear, &frame, XDP_PASS, ESPALIER_NOT_OURS);
	clear_frame(&frame, mac_peer, "8.8.8.8"); /* or not IPv4 */
	frame.bytes[13] = 0x06;
	untouched(&clear, &frame, XDP_PASS, ESPALIER_NOT_OURS);

	struct espalier_selector all = {.prefixlen = ESPALIER_SELECTOR_BITS, .family = AF_INET};

	assert_int_equal(bpf_map_delete_elem(program_map(&clear, "selectors"), &all), 0);
}

static void test_arp(void **state)
{
	struct frame frame, expected;
	struct arp_packet *arp;

	(void)state;
	arp = frame_arp(&expected, mac_peer, mac_inner[0], CLUSTER, HOST, 0);
	arp->operation = htons(2);
	memcpy(arp->target_mac, mac_peer, 6);
	frame_arp(&frame, mac_broadcast, mac_peer, HOST, CLUSTER, 0);
	assert_int_equal(program_run(&clear, &frame, NULL, 0), XDP_TX);
	assert_int_equal(clear.reason, ESPALIER_ARP_ANSWERED);
	assert_memory_equal(frame.bytes, expected.bytes, expected.size);

	frame_arp(&frame, mac_broadcast, mac_peer, HOST, CLUSTER, 0);
	program_set_view(&clear, 0, thirds, 3, 2, program_now());
	untouched(&clear, &frame, XDP_DROP, ESPALIER_ARP_LEFT);
	frame_arp(&frame, mac_broadcast, mac_peer, HOST, "10.1.0.78", 0);
	untouched(&clear, &frame, XDP_PASS, ESPALIER_NOT_OURS);
}

static void test_clear_said_all(void **state)
{
	(void)state;
	program_said_all(&clear, IN_CLEAR);
}

static void sync_frame(struct frame *frame, const char *to, uint16_t port)
{
	struct udphdr udp = {.source = htons(SYNC_PORT), .dest = htons(port), .len = htons(40)};
	const uint8_t payload[32] = "a datagram";

	frame_begin(frame, mac_inner[0], mac_inner[1], 0, ETH_P_IP);
	frame_ip(frame, "10.9.0.2", to, IPPROTO_UDP, 0);
	frame_add(frame, &udp, sizeof(udp));
	frame_add(frame, payload, sizeof(payload));
}

static void test_sync(void **state)
{
	struct xdp_md other_queue = {.data_end = 14 + 20 + 8 + 32, .ingress_ifindex = 1};
	int fd = socket(AF_XDP, SOCK_RAW, 0);
	struct frame frame;
	uint32_t queue = 0;

	(void)state;
	assert_true(fd >= 0);
	sync_frame(&frame, SYNC_ADDRESS, SYNC_PORT);
	untouched(&sync_program, &frame, XDP_PASS, ESPALIER_NOT_OURS); /* no socket yet */
	assert_int_equal(
		bpf_map_update_elem(program_map(&sync_program, "sync"), &queue, &fd, BPF_ANY), 0);
	untouched(&sync_program, &frame, XDP_REDIRECT, ESPALIER_SYNC);
	assert_int_equal(program_run(&sync_program, &frame, &other_queue, sizeof(other_queue)),
		XDP_REDIRECT);
	assert_int_equal(bpf_map_delete_elem(program_map(&sync_program, "sync"), &queue), 0);
	queue = 1; /* the socket of another queue does not do */
	assert_int_equal(
		bpf_map_update_elem(program_map(&sync_program, "sync"), &queue, &fd, BPF_ANY), 0);
	untouched(&sync_program, &frame, XDP_PASS, ESPALIER_NOT_OURS);
	assert_int_equal(bpf_map_delete_elem(program_map(&sync_program, "sync"), &queue), 0);
	close(fd);
}

static void test_sync_others(void **state)
{
	int fd = socket(AF_XDP, SOCK_RAW, 0);
	struct frame frame;
	uint32_t queue = 0;

	(void)state;
	assert_int_equal(
		bpf_map_update_elem(program_map(&sync_program, "sync"), &queue, &fd, BPF_ANY), 0);
	sync_frame(&frame, SYNC_ADDRESS, SYNC_PORT + 1);
	untouched(&sync_program, &frame, XDP_PASS, ESPALIER_NOT_OURS);
	sync_frame(&frame, "10.9.0.2", SYNC_PORT);
	untouched(&sync_program, &frame, XDP_PASS, ESPALIER_NOT_OURS);
	sync_frame(&frame, SYNC_ADDRESS, SYNC_PORT);
	frame.bytes[14 + 9] = IPPROTO_TCP;
	untouched(&sync_program, &frame, XDP_PASS, ESPALIER_NOT_OURS);
	sync_frame(&frame, SYNC_ADDRESS, SYNC_PORT);
	frame.bytes[14 + 6] = 0x20; /* a first fragment */
	untouched(&sync_program, &frame, XDP_PASS, ESPALIER_NOT_OURS);
	sync_frame(&frame, SYNC_ADDRESS, SYNC_PORT);
	frame.bytes[14] = 0x46; /* options */
	untouched(&sync_program, &frame, XDP_PASS, ESPALIER_NOT_OURS);
	sync_frame(&frame, SYNC_ADDRESS, SYNC_PORT);
	frame.size = 14 + 20 + 7;
	untouched(&sync_program, &frame, XDP_PASS, ESPALIER_NOT_OURS);
	frame_begin(&frame, mac_inner[0], mac_inner[1], 1, ETH_P_IP);
	frame_ip(&frame, "10.9.0.2", SYNC_ADDRESS, IPPROTO_UDP, 0);
	frame_add(&frame, (uint16_t[4]){htons(SYNC_PORT), htons(SYNC_PORT), htons(8)}, 8);
	untouched(&sync_program, &frame, XDP_PASS, ESPALIER_NOT_OURS); /* VLAN */
	sync_frame(&frame, SYNC_ADDRESS, SYNC_PORT); /* and this socket would take it */
	untouched(&sync_program, &frame, XDP_REDIRECT, ESPALIER_SYNC);
	close(fd);
}

static void test_sync_said_all(void **state)
{
	(void)state;
	program_said_all(&sync_program, IN_SYNC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_longest_prefix, setup),
		cmocka_unit_test_setup(test_any_packet, setup),
		cmocka_unit_test_setup(test_ipv6, setup),
		cmocka_unit_test_setup(test_pinned, setup),
		cmocka_unit_test_setup(test_route, setup),
		cmocka_unit_test_setup(test_one_hop, setup),
		cmocka_unit_test_setup(test_no_owner_no_next_hop, setup),
		cmocka_unit_test_setup(test_not_ours, setup),
		cmocka_unit_test_setup(test_arp, setup),
		cmocka_unit_test(test_clear_said_all),
		cmocka_unit_test(test_sync),
		cmocka_unit_test(test_sync_others),
		cmocka_unit_test(test_sync_said_all),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
