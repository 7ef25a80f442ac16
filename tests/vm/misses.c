/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * miss.bpf.c with real packets: ESP that a peer sends for SPIs that this kernel does not know wakes
 * the agent, once a second for each and within a budget for all of them. Skipped, and said so,
 * where the kernel has no ESP or refuses fentry.
 */
#include "peer.h"

#include <fcntl.h>
#include <linux/udp.h>
#include <poll.h>

#define OTHER "192.0.2.99" /* this member's, but no cluster address */
#define BUDGET 50
#define FLOOD 20000
#define PACED 32 /* packets on their way at a time: no queue on it is shorter */

/* How it comes. */
enum way { BARE, BARE6, BEHIND_OPTIONS6, IN_UDP, IN_UDP6, AH, WAYS };

static const char *const way_name[WAYS] = {"bare, IPv4", "bare, IPv6",
	"behind destination options, IPv6", "in UDP, IPv4", "in UDP, IPv6", "AH, IPv4"};
static int sender[WAYS]; /* sockets of the peer's */
static int decapsulator[2]; /* this member's, as an IKE daemon has them */
static int own_net, peer_net; /* the namespaces */

static struct datapath *d;
static uint64_t before[ESPALIER_REASON_COUNT];
static struct espalier_event last;

static socklen_t endpoint(const char *text, uint16_t port, struct sockaddr_storage *ret)
{
	struct address address = address_of(text);
	struct sockaddr_in6 *in6 = (void *)ret;
	struct sockaddr_in *in = (void *)ret;

	memset(ret, 0, sizeof(*ret));
	ret->ss_family = address.family;
	if (address.family == AF_INET6) {
		in6->sin6_port = htons(port);
		memcpy(&in6->sin6_addr, address.bytes, 16);
		return sizeof(*in6);
	}
	in->sin_port = htons(port);
	memcpy(&in->sin_addr, address.bytes, 4);
	return sizeof(*in);
}

static int udp_socket(const char *address)
{
	struct sockaddr_storage at;
	socklen_t size = endpoint(address, 4500, &at);
	int fd = socket(at.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (void *)&at, size), 0);
	return fd;
}

static int raw_socket(int family, int protocol)
{
	int fd = socket(family, SOCK_RAW | SOCK_CLOEXEC, protocol);

	assert_true(fd >= 0);
	return fd;
}

static void open_sockets(void)
{
	const uint8_t options[8] = {0, 0, 1, 4}; /* padding */
	const int esp_in_udp = UDP_ENCAP_ESPINUDP;

	assert_int_equal(setns(peer_net, CLONE_NEWNET), 0);
	sender[BARE] = raw_socket(AF_INET, IPPROTO_ESP);
	sender[BARE6] = raw_socket(AF_INET6, IPPROTO_ESP);
	sender[BEHIND_OPTIONS6] = raw_socket(AF_INET6, IPPROTO_ESP);
	assert_int_equal(setsockopt(sender[BEHIND_OPTIONS6], IPPROTO_IPV6, IPV6_DSTOPTS, options,
				 sizeof(options)),
		0);
	sender[IN_UDP] = udp_socket(PEER);
	sender[IN_UDP6] = udp_socket(PEER6);
	sender[AH] = raw_socket(AF_INET, IPPROTO_AH);
	assert_int_equal(setns(own_net, CLONE_NEWNET), 0);
	decapsulator[0] = udp_socket(CLUSTER);
	decapsulator[1] = udp_socket(CLUSTER6);
	for (int i = 0; i < 2; i++)
		assert_int_equal(setsockopt(decapsulator[i], IPPROTO_UDP, UDP_ENCAP, &esp_in_udp,
					 sizeof(esp_in_udp)),
			0);
}

/* The kernel looks at ESP and AH only once it has had an SA of that kind. */
static bool load_ipsec(void)
{
	const char *esp = "aead 'rfc4106(gcm(aes))' 0x000102030405060708090a0b0c0d0e0f10111213 128";

	return shell("for ends in 'src " PEER " dst " CLUSTER "' 'src " PEER6 " dst " CLUSTER6 "'; "
		     "do ip xfrm state add $ends proto esp spi 1 mode transport %s || exit 1; done "
		     "2>/dev/null; ip xfrm state add src " PEER " dst " CLUSTER " proto ah spi 1 "
		     "mode transport auth 'hmac(sha1)' 0x01 2>/dev/null; "
		     "ip xfrm state count | grep -q 'SAD count 3' && ip xfrm state flush",
		       esp) == 0;
}

static int misses_begin(void **state)
{
	char path[64];

	if (group_begin(state) || shell("ip addr add " OTHER "/32 dev lo"))
		return -1;
	snprintf(path, sizeof(path), "/proc/%d/ns/net", peer);
	own_net = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	peer_net = open(path, O_RDONLY | O_CLOEXEC);
	if (own_net < 0 || peer_net < 0 ||
		shell("nsenter -t %d -n ip route add " OTHER "/32 dev outer-peer", peer) ||
		shell("nsenter -t %d -n sh -c 'ip neigh add " OTHER " dev outer-peer lladdr "
		      "$(ip -br neigh show " CLUSTER " dev outer-peer | awk \"{print \\$NF}\")'",
			peer))
		return -1;
	open_sockets();
	return 0;
}

static int begin(void **state)
{
	const char *why;

	if (setup(state) < 0)
		return -1;
	config.misses_per_second = BUDGET;
	d = open_it();
	datapath_publish(d, all_owned_by(1));
	if (!datapath_tells_misses(d, &why))
		print_message("skipped: %s\n", why);
	else if (!load_ipsec())
		print_message("skipped: this kernel has no ESP\n");
	else
		return datapath_reasons(d, before);
	datapath_close(d);
	d = NULL;
	return 0;
}

static int end(void **state)
{
	datapath_close(d);
	return teardown(state);
}

static void send_one(enum way way, const char *to, uint32_t spi)
{
	uint32_t esp[16] = {htonl(spi), htonl(1)};
	const uint32_t ah[6] = {htonl(0x32040000), htonl(spi), htonl(1)};
	bool udp = way == IN_UDP || way == IN_UDP6;
	struct sockaddr_storage at;
	socklen_t size = endpoint(to, udp ? 4500 : 0, &at);
	const void *packet = way == AH ? ah : esp;
	size_t packet_size = way == AH ? sizeof(ah) : sizeof(esp);

	assert_int_equal(sendto(sender[way], packet, packet_size, 0, (void *)&at, size),
		(ssize_t)packet_size);
}

static uint64_t counted(enum espalier_reason reason)
{
	uint64_t now[ESPALIER_REASON_COUNT];

	assert_int_equal(datapath_reasons(d, now), 0);
	return now[reason] - before[reason];
}

/* Packets that have come so far, for an SPI that the kernel does not know. */
static void told_and_limited(uint64_t told, uint64_t limited)
{
	for (int i = 0; i < 500; i++) {
		if (counted(ESPALIER_MISS_TOLD) + counted(ESPALIER_MISS_LIMITED) >= told + limited)
			break;
		usleep(10000);
	}
	assert_int_equal(counted(ESPALIER_MISS_TOLD), told);
	assert_int_equal(counted(ESPALIER_MISS_LIMITED), limited);
}

static void on_event(void *ctx, const struct espalier_event *event)
{
	(void)ctx;
	assert_int_equal(event->kind, ESPALIER_SPI_MISS);
	last = *event;
}

/* Is the agent woken within so many milliseconds, for how many events? */
static int woken(int timeout)
{
	struct pollfd wake = {.fd = datapath_wake_fd(d), .events = POLLIN};

	return poll(&wake, 1, timeout) == 1 ? datapath_wake(d, on_event, NULL) : 0;
}

static void test_each_way(void **state)
{
	(void)state;
	if (!d)
		skip();
	for (int way = BARE; way < AH; way++) {
		const char *to = way == BARE || way == IN_UDP ? CLUSTER : CLUSTER6;
		struct espalier_sa_key key = key_to(to, 0x1000 + way);

		print_message("%s\n", way_name[way]);
		send_one(way, to, 0x1000 + way);
		assert_int_equal(woken(5000), 1);
		assert_memory_equal(&last.key, &key, sizeof(key));
		told_and_limited(way + 1, 0);
	}
}

/* One a second of each SPI; another SPI, another family: another SA. */
static void test_again(void **state)
{
	(void)state;
	if (!d)
		skip();
	send_one(BARE, CLUSTER, 0x2000);
	send_one(BARE, CLUSTER, 0x2000);
	send_one(IN_UDP, CLUSTER, 0x2000);
	told_and_limited(1, 2);
	assert_int_equal(woken(0), 1);
	send_one(BARE, CLUSTER, 0x2001);
	send_one(BARE6, CLUSTER6, 0x2000);
	told_and_limited(3, 2);
	assert_int_equal(woken(0), 2);
	usleep(1100000);
	send_one(BARE, CLUSTER, 0x2000);
	told_and_limited(4, 2);
	assert_int_equal(woken(0), 1);
}

/* What is not ESP for a cluster address that has no SA. */
static void test_others(void **state)
{
	(void)state;
	if (!d)
		skip();
	send_one(BARE, OTHER, 0x3000);
	send_one(AH, CLUSTER, 0x3000);
	send_one(IN_UDP, CLUSTER, 0); /* IKE */
	assert_int_equal(shell("ip xfrm state add src " PEER " dst " CLUSTER " proto esp spi "
			       "0x3000 mode transport aead 'rfc4106(gcm(aes))' "
			       "0x000102030405060708090a0b0c0d0e0f10111213 128"),
		0);
	send_one(BARE, CLUSTER, 0x3000); /* it has an SA, if another key */
	usleep(200000);
	assert_int_equal(shell("ip xfrm state flush"), 0);
	/* the first two did get as far as that, and the one with an SA further */
	assert_int_equal(shell("grep -q '^XfrmInNoStates[^0-9]*[1-9]' /proc/net/xfrm_stat && "
			       "grep -q '^XfrmInStateProtoError[^0-9]*[1-9]' /proc/net/xfrm_stat"),
		0);
	told_and_limited(0, 0);
	assert_int_equal(woken(0), 0);
}

/* Members may run on one kernel: what another namespace has no SA for is its agent's. */
static void test_other_namespace(void **state)
{
	(void)state;
	if (!d)
		skip();
	assert_int_equal(shell("nsenter -t %d -n ip addr add " CLUSTER "/32 dev lo", peer), 0);
	send_one(BARE, CLUSTER, 0x4000);
	usleep(200000);
	assert_int_equal(shell("nsenter -t %d -n sh -c 'ip addr del " CLUSTER "/32 dev lo; "
			       "grep -q \"^XfrmInNoStates[^0-9]*1\" /proc/net/xfrm_stat'",
				 peer),
		0);
	told_and_limited(0, 0);
	assert_int_equal(woken(0), 0);
}

/* Whoever sends random SPIs gets no more of the agent's time than the budget. */
static void test_flood(void **state)
{
	uint64_t begun = program_now(), told, seconds;
	uint32_t spi = 0x5000;
	int events = 0;

	(void)state;
	if (!d)
		skip();
	for (int i = 0; i < FLOOD; i++) {
		spi = spi * 1664525 + 1013904223;
		send_one(i & 1 ? BARE : BARE6, i & 1 ? CLUSTER : CLUSTER6, spi | 1);
		while (i % PACED == 0 && counted(ESPALIER_LOCAL) < (uint64_t)i)
			usleep(100);
		if (i % 1000 == 0)
			events += woken(0);
	}
	while (counted(ESPALIER_LOCAL) < FLOOD)
		usleep(100);
	usleep(100000);
	seconds = (program_now() - begun) / 1000000000 + 1;
	told = counted(ESPALIER_MISS_TOLD);
	events += woken(0);
	print_message("%d packets with random SPIs in %u s: %u told\n", FLOOD,
		(unsigned int)seconds, (unsigned int)told);
	assert_in_range(told, BUDGET, BUDGET * seconds + BUDGET);
	told_and_limited(told, FLOOD - told);
	assert_int_equal(events, told);
	/* and when it is over the agent hears of an SPI again */
	usleep(1100000);
	send_one(BARE, CLUSTER, 0x5000);
	assert_int_equal(woken(5000), 1);
	assert_int_equal(last.key.spi, htonl(0x5000));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_each_way, begin, end),
		cmocka_unit_test_setup_teardown(test_again, begin, end),
		cmocka_unit_test_setup_teardown(test_others, begin, end),
		cmocka_unit_test_setup_teardown(test_other_namespace, begin, end),
		cmocka_unit_test_setup_teardown(test_flood, begin, end),
	};

	return cmocka_run_group_tests(tests, misses_begin, group_end);
}
