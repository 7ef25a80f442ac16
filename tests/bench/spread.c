/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * spread [--json] - what it brings to spread local ESP over the CPUs by its SPI (`Cpus`), where all
 * of it comes in on one: eight SAs between one pair of addresses. Needs root, a kernel with ESP,
 * and at least two CPUs that are not busy with something else.
 *
 * A veth pair between two network namespaces. One ESP packet of each SA is made and sent again and
 * again from CPU 0, which so receives them all, as with a NIC that has them on one queue. The
 * receiver's SAs have no replay window, so it decrypts each packet, and has no route for what comes
 * out. The steering program takes turns with and without `cpus`.
 *
 * A sender that sends as fast as it can leaves no time to the thread that decrypts on its CPU. So
 * it is paced: several paces, as multiples of what is decrypted without spreading, and of each side
 * the best counts.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"
#include "espalier.h"
#include "steer.skel.h"

#define TURNS 5U
#define TURN_NS 500000000.0
#define REST_US 200000 /* after a turn: what still waits for a CPU is done */
#define SAS 8U
#define SPI_FIRST 256U
#define PAYLOAD 1400U
#define CPUS_MAX 64U
#define QUEUE 192U /* packets that may wait for a CPU */
#define CLUSTER "192.0.2.1"
#define PEER "192.0.2.100"

static const double paces[] = {0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.8};
#define PACES (sizeof(paces) / sizeof(paces[0]))

static struct side {
	struct bpf_object *object;
	struct paced {
		double rate[TURNS]; /* packets decrypted a second */
		double busy[CPUS_MAX]; /* ticks that were not idle, all turns */
		double ticks; /* of a CPU, all turns */
	} paced[PACES], *best;
} sides[2]; /* not spread, spread */
static struct frame {
	uint8_t bytes[PAYLOAD + 200];
	ssize_t size;
} frames[SAS];
static unsigned int cpus;
static struct sockaddr_ll far; /* the sender's end */
static int out; /* a packet socket there */

static int packet_socket(const char *interface, struct sockaddr_ll *ret)
{
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

	*ret = (struct sockaddr_ll){.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_IP),
		.sll_ifindex = (int)if_nametoindex(interface)};
	if (fd < 0 || bind(fd, (struct sockaddr *)ret, sizeof(*ret)) < 0)
		die("no packet socket on %s: %s", interface, strerror(errno));
	return fd;
}

static void add_sas(void)
{
	for (unsigned int i = 0; i < SAS; i++)
		shell("ip xfrm state add src " PEER " dst " CLUSTER " proto esp spi %u reqid %u "
		      "mode tunnel replay-window 0 aead 'rfc4106(gcm(aes))' "
		      "0x0102030405060708090a0b0c0d0e0f1011121314 128",
			SPI_FIRST + i, i + 1);
}

/* The sender's side: an SA for each of 10.1.0.1 and so on. Returns a UDP socket there. */
static int make_sender(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	shell("ip link set lo up && ip link set far up && ip address add " PEER "/24 dev far && "
	      "ip route add 10.1.0.0/24 via " CLUSTER);
	add_sas();
	for (unsigned int i = 1; i <= SAS; i++)
		shell("ip xfrm policy add dst 10.1.0.%u/32 dir out tmpl src " PEER " dst " CLUSTER
		      " proto esp reqid %u mode tunnel",
			i, i);
	out = packet_socket("far", &far);
	return fd;
}

/* One packet of each SA, as it comes in. */
static void make_frames(int udp, int in)
{
	static const uint8_t payload[PAYLOAD - 100];
	const struct timeval patience = {.tv_sec = 5};

	setsockopt(in, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	for (unsigned int i = 0; i < SAS; i++) {
		struct sockaddr_in to = {.sin_family = AF_INET,
			.sin_port = htons(9),
			.sin_addr.s_addr = htonl(0x0a010001 + i)};
		const struct iphdr *ip = (const void *)(frames[i].bytes + ETH_HLEN);

		if (sendto(udp, payload, sizeof(payload), 0, (struct sockaddr *)&to, sizeof(to)) <
			0)
			die("cannot send: %s", strerror(errno));
		do
			frames[i].size = recv(in, frames[i].bytes, sizeof(frames[i].bytes), 0);
		while (frames[i].size > 0 && ip->protocol != IPPROTO_ESP);
		if (frames[i].size < 0)
			die("no ESP has come in: %s", strerror(errno));
	}
}

/* The process is in the receiver's network namespace afterwards. */
static void set_up(void)
{
	struct sockaddr_ll outer;
	int sender, receiver, udp, in;

	if (unshare(CLONE_NEWNET) < 0)
		die("cannot make a network namespace: %s: run it as root", strerror(errno));
	sender = open("/proc/self/ns/net", O_RDONLY); /* not O_CLOEXEC: for ip */
	if (unshare(CLONE_NEWNET) < 0)
		die("cannot make a network namespace: %s", strerror(errno));
	receiver = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	shell("ip link set lo up && ip link add outer type veth peer name far && "
	      "ip link set far netns /proc/self/fd/%d && ip link set outer up && "
	      "ip address add " CLUSTER "/24 dev outer && ip route add blackhole 10.1.0.0/24",
		sender);
	add_sas();
	in = packet_socket("outer", &outer);
	if (setns(sender, CLONE_NEWNET) < 0)
		die("cannot enter a network namespace: %s", strerror(errno));
	udp = make_sender();
	make_frames(udp, in);
	close(in);
	close(udp);
	if (setns(receiver, CLONE_NEWNET) < 0)
		die("cannot enter a network namespace: %s", strerror(errno));
}

static void put(const struct bpf_object *object, const char *map, uint32_t key, const void *value)
{
	if (bpf_map_update_elem(
		    bpf_object__find_map_fd_by_name(object, map), &key, value, BPF_ANY) < 0)
		die("cannot write to the map '%s': %s", map, strerror(errno));
}

/* The steering program, with maps of its own; all is this member's. */
static void load(struct side *side, unsigned int over)
{
	static struct espalier_view view = {.lease_ns = 1000000000};
	struct espalier_settings settings = {.cluster = {inet_addr(CLUSTER)},
		.members = 1,
		.hash = ESPALIER_HASH_MIX,
		.cpus = (__u8)over};
	struct bpf_cpumap_val queue = {.qsize = QUEUE};
	struct bpf_map *map;
	size_t size;
	const void *elf = steer_bpf__elf_bytes(&size);

	side->object = bpf_object__open_mem(elf, size, NULL);
	if (!side->object)
		die("cannot open the steering program: %s", strerror(errno));
	bpf_object__for_each_map(map, side->object)
	{
		if (bpf_map__is_internal(map))
			bpf_map__set_initial_value(map, &settings, sizeof(settings));
		else
			bpf_map__set_pin_path(map, NULL);
	}
	bpf_map__set_max_entries(bpf_object__find_map_by_name(side->object, "cpus"), cpus);
	if (bpf_object__load(side->object) < 0)
		die("cannot load the steering program: %s", strerror(errno));
	put(side->object, "view", 0, &view);
	for (uint32_t cpu = 0; cpu < over; cpu++)
		put(side->object, "cpus", cpu, &queue);
}

static uint64_t counted(const struct side *side, enum espalier_reason reason)
{
	static struct espalier_reasons by_cpu[CPUS_MAX];
	uint32_t zero = 0;
	uint64_t sum = 0;

	if (bpf_map_lookup_elem(
		    bpf_object__find_map_fd_by_name(side->object, "reasons"), &zero, by_cpu) < 0)
		die("cannot read the reasons: %s", strerror(errno));
	for (unsigned int cpu = 0; cpu < cpus; cpu++)
		sum += ((const uint64_t *)&by_cpu[cpu])[reason];
	return sum;
}

/* Packets that the receiver's SAs have decrypted: of each "lifetime current", 1(bytes), 2(packets)
 */
static uint64_t decrypted(void)
{
	FILE *file = popen("ip -s xfrm state", "re");
	char line[256], *at;
	uint64_t sum = 0;

	while (file && fgets(line, sizeof(line), file))
		if ((at = strstr(line, "(bytes), ")))
			sum += strtoull(at + strlen("(bytes), "), NULL, 10);
	if (!file || pclose(file))
		die("cannot read the SAs");
	return sum;
}

/* Ticks since boot: those not idle by CPU; all of a CPU as the value. */
static double read_ticks(double ret_busy[CPUS_MAX])
{
	FILE *file = fopen("/proc/stat", "re");
	char line[512];
	double all = 0;

	for (unsigned int cpu = 0; file && fgets(line, sizeof(line), file);) {
		char *rest = line + strcspn(line, " ");
		double fields[7];

		if (strncmp(line, "cpu", 3) != 0 || line[3] == ' ' || cpu >= cpus)
			continue;
		all = 0;
		for (unsigned int i = 0; i < 7; i++)
			all += fields[i] = (double)strtoull(rest, &rest, 10);
		ret_busy[cpu++] = all - fields[3] - fields[4]; /* idle, waiting for a disk */
	}
	if (!file)
		die("cannot read /proc/stat");
	fclose(file);
	return all;
}

static double now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

/* pace: packets a second. */
static void turn(struct side *side, double pace, struct paced *ret, unsigned int i)
{
	enum espalier_reason reason = side == &sides[1] ? ESPALIER_LOCAL_SPREAD : ESPALIER_LOCAL;
	int fd = bpf_program__fd(bpf_object__next_program(side->object, NULL));
	double before[CPUS_MAX] = {}, after[CPUS_MAX] = {}, begin, ticks;
	uint64_t done, said = counted(side, reason), sent = 0;

	if (bpf_xdp_attach((int)if_nametoindex("outer"), fd, XDP_FLAGS_DRV_MODE, NULL) < 0)
		die("cannot attach the steering program: %s", strerror(errno));
	ticks = read_ticks(before);
	done = decrypted();
	for (begin = now_ns(); now_ns() - begin < TURN_NS; sent++) {
		while (now_ns() < begin + (double)sent * 1e9 / pace)
			usleep(100);
		if (sendto(out, frames[sent % SAS].bytes, (size_t)frames[sent % SAS].size, 0,
			    (struct sockaddr *)&far, sizeof(far)) < 0 &&
			errno != ENOBUFS)
			die("cannot send: %s", strerror(errno));
	}
	done = decrypted() - done;
	ret->rate[i] = (double)done * 1e9 / (now_ns() - begin);
	ret->ticks += read_ticks(after) - ticks;
	for (unsigned int cpu = 0; cpu < cpus; cpu++)
		ret->busy[cpu] += after[cpu] - before[cpu];
	if (!done || counted(side, reason) - said < done)
		die("%llu packets were decrypted, but fewer were %s", (unsigned long long)done,
			side == &sides[1] ? "spread" : "passed");
	usleep(REST_US);
}

static double rate(const struct side *side)
{
	return side->best->rate[TURNS / 2];
}

/* How many CPUs were at work on average. */
static double at_work(const struct side *side)
{
	double sum = 0;

	for (unsigned int cpu = 0; cpu < cpus; cpu++)
		sum += side->best->busy[cpu] / side->best->ticks;
	return sum;
}

static void choose_best(struct side *side)
{
	side->best = side->paced;
	for (struct paced *p = side->paced; p < side->paced + PACES; p++) {
		qsort(p->rate, TURNS, sizeof(double), compare_doubles);
		if (p->rate[TURNS / 2] > rate(side))
			side->best = p;
	}
}

static void measure(void)
{
	struct paced unpaced = {};
	double most = 0;

	for (unsigned int i = 0; i < TURNS; i++) { /* the first ones are slow */
		turn(&sides[0], 1e9, &unpaced, i);
		if (unpaced.rate[i] > most)
			most = unpaced.rate[i];
	}
	for (unsigned int i = 0; i < TURNS; i++)
		for (unsigned int pace = 0; pace < PACES; pace++)
			for (unsigned int side = 0; side < 2; side++)
				turn(&sides[side], paces[pace] * most, &sides[side].paced[pace], i);
	choose_best(&sides[0]);
	choose_best(&sides[1]);
}

static void print_table(void)
{
	printf("%-12s %18s %14s  busy, by CPU\n", "", "decrypted a second", "CPUs at work");
	for (unsigned int i = 0; i < 2; i++) {
		printf("%-12s %18.0f %14.2f ", i ? "spread" : "not spread", rate(&sides[i]),
			at_work(&sides[i]));
		for (unsigned int cpu = 0; cpu < cpus; cpu++)
			printf(" %3.0f%%", 100 * sides[i].best->busy[cpu] / sides[i].best->ticks);
		printf("\n");
	}
	printf("\nMedians of %u turns at the best pace; CPUs at work count the sender's.\n", TURNS);
}

int main(int argc, char **argv)
{
	bool json = argc == 2 && !strcmp(argv[1], "--json");
	cpu_set_t first;

	if (argc > 1 && !json)
		die("it takes --json or nothing, not '%s'", argv[1]);
	cpus = (unsigned int)libbpf_num_possible_cpus();
	if (cpus < 2 || cpus > CPUS_MAX)
		die("it needs 2 to %u CPUs, here are %u", CPUS_MAX, cpus);
	CPU_ZERO(&first);
	CPU_SET(0, &first);
	if (sched_setaffinity(0, sizeof(first), &first) < 0)
		die("cannot stay on CPU 0: %s", strerror(errno));
	set_up();
	load(&sides[0], 0);
	load(&sides[1], cpus);
	measure();
	if (json)
		printf("{\"spread_over_not\": %.3f, \"cpus_at_work_spread\": %.3f, "
		       "\"cpus_at_work_not\": %.3f}\n",
			rate(&sides[1]) / rate(&sides[0]), at_work(&sides[1]), at_work(&sides[0]));
	else
		print_table();
	bpf_object__close(sides[0].object);
	bpf_object__close(sides[1].object);
	return EXIT_SUCCESS;
}
