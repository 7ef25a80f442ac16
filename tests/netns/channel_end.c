/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * channel_end SELF INTERFACE SECONDS CARRIER RATE ADDRESS...
 *
 * One member's end of the sync channel, ADDRESS... being the sync addresses by member id. CARRIER
 * is "udp" or sync.bpf.o, which it attaches for as long as it runs. Every RATE'th part of a second
 * (0: as fast as it can) it sends a numbered datagram to each other member, and it checks what it
 * gets. At the end it prints what it saw, a line a member:
 *
 *     from 0: received N doubled N wrong N
 */
#include <arpa/inet.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "espalier.h"
#include "io/channel.h"

#define PORT 4711
#define SILENCE_US 400000
#define WINDOW 65536 /* numbers between which one is known from its double */
#define FLOOD_BATCH 32

struct source {
	unsigned int received, doubled, wrong;
	uint32_t seen[WINDOW]; /* number + 1 */
};

static struct source sources[ESPALIER_MEMBERS];
static volatile sig_atomic_t stopped;

static void die(const char *what, int error)
{
	fprintf(stderr, "channel_end: %s%s%s\n", what, error ? ": " : "",
		error ? strerror(error) : "");
	exit(1);
}

static void on_signal(int number)
{
	(void)number;
	stopped = 1;
}

static uint64_t clock_us(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* Number, then bytes that follow from it. Flooding: all as long as can be. */
static size_t payload_make(uint8_t *buf, uint32_t number, bool longest)
{
	size_t len = longest ? CHANNEL_DATAGRAM_MAX : 5 + number * 37 % (CHANNEL_DATAGRAM_MAX - 4);

	memcpy(buf, &number, sizeof(number));
	memset(buf + sizeof(number), (int)(number & 0xff), len - sizeof(number));
	return len;
}

static void on_datagram(void *ctx, uint8_t from, const void *buf, size_t len)
{
	struct source *s = &sources[from];
	uint8_t expected[CHANNEL_DATAGRAM_MAX];
	const bool *flood = ctx;
	uint32_t number = 0;

	s->received++;
	if (len >= sizeof(number))
		memcpy(&number, buf, sizeof(number));
	if (len != payload_make(expected, number, *flood) || memcmp(expected, buf, len) != 0)
		s->wrong++;
	if (s->seen[number % WINDOW] == number + 1)
		s->doubled++;
	s->seen[number % WINDOW] = number + 1;
}

static void settings_fill(struct bpf_object *object, struct in_addr address)
{
	struct bpf_map *map;

	bpf_object__for_each_map(map, object)
	{
		size_t size;
		struct espalier_settings *settings;

		bpf_map__set_pin_path(map, NULL);
		if (!strstr(bpf_map__name(map), ".rodata"))
			continue;
		settings = (struct espalier_settings *)bpf_map__initial_value(map, &size);
		if (!settings || size < sizeof(*settings))
			die("sync.bpf.o has no settings", 0);
		settings->sync_address = address.s_addr;
		settings->sync_port = htons(PORT);
	}
}

/* Loads the project's sync program and attaches it. */
static struct bpf_object *sync_attach(
	const char *path, unsigned int ifindex, struct in_addr address)
{
	struct bpf_object *object = bpf_object__open_file(path, NULL);
	struct bpf_program *program;

	if (!object)
		die(path, errno);
	settings_fill(object, address);
	if (bpf_object__load(object) < 0)
		die("cannot load sync.bpf.o", errno);
	program = bpf_object__find_program_by_name(object, "espalier_sync");
	if (!program || bpf_xdp_attach((int)ifindex, bpf_program__fd(program), 0, NULL) < 0)
		die("cannot attach sync.bpf.o", errno);
	return object;
}

/* False: the carrier is full. */
static bool send_all(struct channel *c, uint8_t self, uint8_t members, uint32_t number, bool flood)
{
	uint8_t buf[CHANNEL_DATAGRAM_MAX];
	size_t len = payload_make(buf, number, flood);

	for (uint8_t i = 0; i < members; i++)
		if (i != self && channel_send(c, i, buf, len) == -EAGAIN)
			return false;
	return true;
}

static void wait_for(struct channel *c, uint64_t until_us)
{
	struct pollfd fd = {.fd = channel_fd(c), .events = POLLIN};
	uint64_t next = channel_deadline(c), now = clock_us(CLOCK_MONOTONIC);

	if (until_us < next)
		next = until_us;
	poll(&fd, 1, next > now ? (int)((next - now + 999) / 1000) : 0);
	channel_process(c, clock_us(CLOCK_MONOTONIC));
}

static void run(struct channel *c, const struct channel_config *config, uint8_t members,
	uint64_t seconds, uint64_t interval_us)
{
	uint64_t next = clock_us(CLOCK_MONOTONIC), end = next + seconds * 1000000;
	uint32_t number = (uint32_t)getpid() << 16; /* other numbers than before a restart */

	while (!stopped && clock_us(CLOCK_MONOTONIC) < end) {
		if (interval_us == 0) {
			for (unsigned int i = 0; i < FLOOD_BATCH; i++)
				if (!send_all(c, config->self, members, number++, true))
					break;
		} else if (clock_us(CLOCK_MONOTONIC) >= next) {
			send_all(c, config->self, members, number++, false);
			next += interval_us;
		}
		wait_for(c, interval_us ? next : 0);
	}
}

static void report(const struct channel *c, uint8_t self, uint8_t members)
{
	struct channel_counters n;

	channel_counters(c, &n);
	printf("carrier: %s\n", channel_carrier(c));
	printf("sent %lu unsent %lu received %lu foreign %lu rejected %lu handshakes %lu\n", n.sent,
		n.unsent, n.received, n.foreign, n.rejected, n.handshakes);
	for (uint8_t i = 0; i < members; i++)
		if (i != self)
			printf("from %u: received %u doubled %u wrong %u connected %d\n", i,
				sources[i].received, sources[i].doubled, sources[i].wrong,
				channel_connected(c, i));
	printf("CPU %.3f s\n", (double)clock_us(CLOCK_PROCESS_CPUTIME_ID) / 1e6);
}

int main(int argc, char **argv)
{
	struct channel_config config = {
		.cluster = "test",
		.port = PORT,
		.xsks_map_fd = -1,
		.psk = (const uint8_t *)"an example of a pre-shared key.",
		.psk_len = 32,
		.silence_us = SILENCE_US,
	};
	struct bpf_object *sync = NULL;
	struct channel *c;
	char err[256];
	bool flood;
	uint8_t members = (uint8_t)(argc - 6);
	unsigned long rate;

	if (argc < 8 || argc - 6 > ESPALIER_MEMBERS)
		die("SELF INTERFACE SECONDS CARRIER RATE ADDRESS...", 0);
	config.self = (uint8_t)strtoul(argv[1], NULL, 10);
	config.ifindex = if_nametoindex(argv[2]);
	rate = strtoul(argv[5], NULL, 10);
	flood = rate == 0;
	for (uint8_t i = 0; i < members; i++)
		if (!inet_aton(argv[6 + i], &config.addresses[i]))
			die(argv[6 + i], EINVAL);
	if (strcmp(argv[4], "udp") != 0) {
		sync = sync_attach(argv[4], config.ifindex, config.addresses[config.self]);
		config.xsks_map_fd = bpf_object__find_map_fd_by_name(sync, "sync");
	}
	if (channel_open(&config, on_datagram, &flood, &c, err, sizeof(err)) < 0)
		die(err, 0);
	signal(SIGTERM, on_signal);
	signal(SIGINT, on_signal);
	run(c, &config, members, strtoul(argv[3], NULL, 10), rate ? 1000000 / rate : 0);
	report(c, config.self, members);
	channel_close(c);
	if (sync)
		bpf_xdp_detach((int)config.ifindex, 0, NULL);
	bpf_object__close(sync);
	return 0;
}
