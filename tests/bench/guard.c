/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * guard [--json] - what the guard costs beside the ESP encryption of the same packet. Needs root
 * and a kernel with ESP.
 *
 * UDP packets go through SAs (tunnel mode, AES-GCM), each through a random one of a thousand, out
 * to a dummy interface: from the system call to the interface all of it is done by the sending
 * thread, and is its CPU time. The guard knows these SAs alone, or among a million. In each turn it
 * is attached for one half and not for the other; a figure is the median of the turns. The
 * interface must have had all packets, as ESP, and the guard must have let them out.
 *
 * An emulated machine says nothing in absolute numbers, AES being slow there beyond proportion:
 * only ratios of one run count, and on a real one the guard's share is larger.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"
#include "io/datapath_private.h"

#define TURNS 301U
#define PACKETS 50U /* a half of a turn: few, so that in most the machine does nothing else */
#define WARM 5U /* before those */
#define BATCH 1000U /* SAs */
#define FLOWS 1000U /* SAs that have traffic */
#define CLUSTER "192.0.2.1"
#define SPI_FIRST 256U
#define ESP_MIN 50 /* bytes that ESP in tunnel mode adds to a packet at least */
#define UDP_IP 28 /* bytes before the payload */

/* Ways out. The first one is without ESP: what the rest of the way costs. */
static struct way {
	const char *name, *interface;
	unsigned int sas; /* in the guard's map; 0: neither ESP nor guard */
	struct datapath *datapath;
	struct datapath_config config;
	char pin[64];
} ways[] = {
	{.name = "clear", .interface = "clear"},
	{.name = "ESP, 1,000 SAs", .interface = "thousand", .sas = 1000},
	{.name = "ESP, 1,000,000 SAs", .interface = "million", .sas = 1000000},
};
enum way_id { CLEAR, THOUSAND, MILLION, WAYS };

static const unsigned int sizes[] = {1400, 64}; /* bytes of payload */
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

static struct figures {
	double ns[2][TURNS]; /* a packet, without and with the guard */
	double share[TURNS]; /* what the guard adds to a packet without */
} figures[WAYS][SIZES];
static char folder[] = "/tmp/espalier-guard-XXXXXX";
static int udp;

/* Where a flow of a way goes: 10.ID.x.x, in host byte order. */
static uint32_t address_of(enum way_id id, uint32_t flow)
{
	return 10U << 24 | (uint32_t)id << 16 | flow;
}

/* The kernel's SAs and policies, a flow each; in the guard's map they are far from each other. */
static void make_flows(enum way_id id)
{
	FILE *ip = popen("ip -batch -", "we");

	for (uint32_t flow = 0; ip && flow < FLOWS; flow++) {
		struct in_addr to = {htonl(address_of(id, flow))};

		fprintf(ip,
			"xfrm state add src " CLUSTER " dst 198.51.100.%d proto esp spi %u reqid "
			"%u mode tunnel aead rfc4106(gcm(aes)) "
			"0x0102030405060708090a0b0c0d0e0f1011121314 128\n",
			id, SPI_FIRST + flow * (ways[id].sas / FLOWS), flow + 1);
		fprintf(ip,
			"xfrm policy add src " CLUSTER "/32 dst %s/32 dir out tmpl src " CLUSTER
			" dst 198.51.100.%d proto esp reqid %u mode tunnel\n",
			inet_ntoa(to), id, flow + 1);
	}
	if (!ip || pclose(ip))
		die("cannot add SAs and policies to the kernel");
}

/* An interface, and a network behind it: 10.ID.0.0/16, by the peer 198.51.100.ID. */
static void make_way(enum way_id id)
{
	const char *interface = ways[id].interface;

	shell("ip link add %s type dummy && ip link set %s up", interface, interface);
	shell("ip route add 198.51.100.%d/32 dev %s src " CLUSTER, id, interface);
	shell("ip route add 10.%d.0.0/16 dev %s src " CLUSTER, id, interface);
	if (ways[id].sas)
		make_flows(id);
}

/* Outbound SAs to the way's peer, each with a block that does not end. */
static void fill_sas(const struct way *way, enum way_id id)
{
	static struct espalier_sa_key keys[BATCH];
	static struct espalier_sa values[BATCH];

	for (uint32_t done = 0; done < way->sas; done += BATCH) {
		uint32_t n = BATCH;

		for (uint32_t i = 0; i < BATCH; i++) {
			keys[i] = (struct espalier_sa_key){.daddr = {198, 51, 100, (uint8_t)id},
				.spi = htonl(SPI_FIRST + done + i),
				.family = AF_INET};
			values[i] = (struct espalier_sa){.open = {{0, UINT32_MAX}, {1, 0}},
				.slot = done + i,
				.bucket = (uint16_t)((done + i) % ESPALIER_BUCKETS),
				.direction = ESPALIER_OUT};
		}
		if (bpf_map_update_batch(way->datapath->sas, keys, values, &n, NULL) < 0)
			die("cannot add SAs: %s", strerror(errno));
	}
}

static void open_datapath(enum way_id id)
{
	static const struct espalier_view_half mine = {.epoch = 1, .live = 1}; /* member 0's: all */
	struct way *way = &ways[id];
	char err[256];

	snprintf(way->pin, sizeof(way->pin), "%s/%s", folder, way->interface);
	way->config = (struct datapath_config){.members = 1,
		.block_bits = 31,
		.max_sas = way->sas,
		.lease_ns = 1000000000,
		.ifindex = {if_nametoindex(way->interface)},
		.outer = {{.family = AF_INET, .bytes = {192, 0, 2, 1}}},
		.pin = way->pin};
	if (datapath_open(&way->config, &way->datapath, err, sizeof(err)) < 0 ||
		datapath_attach(way->datapath, err, sizeof(err)) < 0 ||
		datapath_keep(way->datapath) < 0)
		die("%s", err);
	datapath_publish(way->datapath, &mine);
	fill_sas(way, id);
}

/* In a network namespace and on a bpffs that end with this process. */
static void set_up(void)
{
	struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = inet_addr(CLUSTER)};

	if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0)
		die("cannot make namespaces: %s: run it as root", strerror(errno));
	if (mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || !mkdtemp(folder) ||
		mount("bpf", folder, "bpf", 0, NULL) < 0)
		die("cannot mount a bpffs: %s", strerror(errno));
	shell("ip link set lo up && ip address add " CLUSTER "/32 dev lo");
	for (enum way_id id = 0; id < WAYS; id++) {
		make_way(id);
		if (ways[id].sas)
			open_datapath(id);
	}
	udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (udp < 0 || bind(udp, (struct sockaddr *)&from, sizeof(from)) < 0)
		die("no UDP socket: %s", strerror(errno));
}

static void tear_down(void)
{
	for (enum way_id id = 0; id < WAYS; id++) {
		if (!ways[id].sas)
			continue;
		datapath_close(ways[id].datapath);
		datapath_detach(&ways[id].config, NULL, 0);
	}
	umount(folder);
	rmdir(folder);
}

/* What has left by the interface. */
static void read_sent(const char *interface, uint64_t *ret_packets, uint64_t *ret_bytes)
{
	FILE *file = fopen("/proc/self/net/dev", "re");
	char line[512], *name, *rest = NULL;
	uint64_t fields[10]; /* received: eight; sent: bytes, packets */

	while (file && fgets(line, sizeof(line), file)) {
		rest = line + strspn(line, " ");
		name = strsep(&rest, ":");
		if (rest && !strcmp(name, interface))
			break;
		rest = NULL;
	}
	if (!rest)
		die("there are no counters of %s", interface);
	for (unsigned int i = 0; i < 10; i++)
		fields[i] = strtoull(rest, &rest, 10);
	fclose(file);
	*ret_bytes = fields[8];
	*ret_packets = fields[9];
}

static uint64_t emitted(enum way_id id)
{
	uint64_t reasons[ESPALIER_REASON_COUNT] = {};

	if (ways[id].sas && datapath_reasons(ways[id].datapath, reasons) < 0)
		die("cannot read the reasons");
	return reasons[ESPALIER_EMITTED];
}

static double cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static void send_packets(enum way_id id, unsigned int size, unsigned int n)
{
	static const uint8_t payload[2048];
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)};

	for (unsigned int i = 0; i < n; i++) {
		to.sin_addr.s_addr = htonl(address_of(id, (uint32_t)(drand48() * FLOWS)));
		if (sendto(udp, payload, size, 0, (struct sockaddr *)&to, sizeof(to)) < 0)
			die("%s: cannot send: %s", ways[id].name, strerror(errno));
	}
}

/* Half of a turn: ns a packet. */
static double half(enum way_id id, unsigned int size, bool guarded)
{
	uint64_t packets, bytes, packets_before, bytes_before, emitted_before = emitted(id);
	uint32_t least = size + UDP_IP + (ways[id].sas ? ESP_MIN : 0), n = WARM + PACKETS;
	double before, spent;

	read_sent(ways[id].interface, &packets_before, &bytes_before);
	send_packets(id, size, WARM);
	before = cpu_ns();
	send_packets(id, size, PACKETS);
	spent = cpu_ns() - before;
	read_sent(ways[id].interface, &packets, &bytes);
	if (packets - packets_before < n || bytes - bytes_before < (uint64_t)n * least)
		die("%s: not all packets left, or not as ESP", ways[id].name);
	if (emitted(id) - emitted_before != (guarded ? n : 0))
		die("%s: not all packets met the guard", ways[id].name);
	return spent / PACKETS;
}

static void set_guard(const struct way *way, bool guarded)
{
	unsigned int ifindex = way->config.ifindex[DATAPATH_OUTER];

	if (guarded)
		datapath_look(way->datapath, ifindex, NULL, NULL);
	else if (datapath_guard_remove(ifindex) < 0)
		die("cannot detach the guard");
}

/* Without the guard first in one turn, with it first in the next one. */
static void turn(enum way_id id, unsigned int i)
{
	for (unsigned int step = 0; step < 2; step++) {
		bool guarded = ways[id].sas && (i + step) % 2;

		if (ways[id].sas)
			set_guard(&ways[id], guarded);
		for (unsigned int size = 0; size < SIZES; size++)
			figures[id][size].ns[guarded][i] = half(id, sizes[size], guarded);
	}
	for (unsigned int size = 0; size < SIZES; size++) {
		struct figures *f = &figures[id][size];

		f->share[i] = f->ns[1][i] / f->ns[0][i] - 1;
	}
}

static void print_table(void)
{
	printf("%-20s %8s %10s %10s %8s\n", "CPU ns a packet", "payload", "no guard", "guard",
		"share");
	for (enum way_id id = 0; id < WAYS; id++)
		for (unsigned int size = 0; size < SIZES; size++) {
			struct figures *f = &figures[id][size];

			printf("%-20s %8u %10.0f", ways[id].name, sizes[size],
				median(f->ns[0], TURNS));
			if (ways[id].sas)
				printf(" %10.0f %7.1f%%", median(f->ns[1], TURNS),
					100 * median(f->share, TURNS));
			printf("\n");
		}
	printf("\nMedians of %u turns of %u packets, from the system call to the interface.\n"
	       "share: of a packet without the guard, turn by turn.\n",
		TURNS, PACKETS);
}

static void print_json(void)
{
	printf("{\"guard_share_of_esp_1k\": %.4f, \"guard_share_of_esp_1m\": %.4f, "
	       "\"guard_share_of_esp_1k_64_bytes\": %.4f, "
	       "\"guard_share_of_esp_1m_64_bytes\": %.4f}\n",
		median(figures[THOUSAND][0].share, TURNS), median(figures[MILLION][0].share, TURNS),
		median(figures[THOUSAND][1].share, TURNS),
		median(figures[MILLION][1].share, TURNS));
}

int main(int argc, char **argv)
{
	bool json = argc == 2 && !strcmp(argv[1], "--json");

	if (argc > 1 && !json)
		die("it takes --json or nothing, not '%s'", argv[1]);
	stay_on_cpu();
	set_up();
	for (unsigned int i = 0; i < TURNS; i++)
		for (enum way_id id = 0; id < WAYS; id++)
			turn(id, i);
	json ? print_json() : print_table();
	tear_down();
	return EXIT_SUCCESS;
}
