/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * steering [--json] - what steering and the guard cost for each packet, beside an empty program
 * and the bare operations they are made of. All programs run in turns, on one CPU, a million
 * packets a turn; each figure is the median of the turns, in CPU time of this thread. Needs root.
 *
 * One packet runs a million times. A program that rewrites it runs behind a wrapper (see
 * steering.bpf.c) that puts it back, and so does each program that is to see other SPIs. What the
 * wrapper costs is known from an empty program behind it, and taken off: a ratio to an empty
 * program is one to an empty program alone. After each turn the counters of the program must say
 * that it was the same verdict a million times.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"
#include "espalier.h"
#include "guard.skel.h"
#include "steer.skel.h"
#include "steer_tunnel.skel.h"
#include "steering.h"
#include "steering.skel.h"
#include "steering_rows.h"

#define TURNS 21U
#define PACKETS 1000000U
#define N_FIGURES (sizeof(figures) / sizeof(figures[0]))

#define CLUSTER "192.0.2.1"
#define CLUSTER6 "2001:db8::1"
#define PEER "198.51.100.7"
#define PEER6 "2001:db8:7::7"

/* Member 0 is this one; of 3. */
static const uint8_t macs[3][6] = {{2, 0, 0, 0, 1, 0}, {2, 0, 0, 0, 1, 1}, {2, 0, 0, 0, 1, 2}};
static const uint8_t mac_peer[6] = {2, 0, 0, 0, 9, 9};

struct bytes {
	uint8_t bytes[256];
	uint32_t size;
};

static struct row {
	struct bpf_object *object, *wrapper;
	int fd; /* of what is run: the wrapper's, or the program's */
	struct bytes packet;
	double turns[TURNS]; /* ns a packet */
	double ns; /* their median */
} state[ROWS];

static struct bpf_object *receiver; /* at the far end of the veth pair */
static unsigned int near, far;

static void add(struct bytes *to, const void *bytes, size_t size)
{
	if (to->size + size > sizeof(to->bytes))
		die("a packet is too long");
	memcpy(to->bytes + to->size, bytes, size);
	to->size += (uint32_t)size;
}

static void add_ethernet(struct bytes *to, enum packet packet)
{
	bool v6 = packet == TO_CLUSTER6 || packet == TO_OTHER6;
	struct ethhdr ethernet = {.h_proto = htons(v6 ? ETH_P_IPV6 : ETH_P_IP)};

	memcpy(ethernet.h_dest, macs[0], ETH_ALEN);
	memcpy(ethernet.h_source, mac_peer, ETH_ALEN);
	add(to, &ethernet, sizeof(ethernet));
}

static void add_ip(struct bytes *to, enum packet packet)
{
	struct iphdr ip = {
		.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_ESP, .tot_len = htons(100)};
	struct ip6_hdr ip6 = {.ip6_flow = htonl(6U << 28),
		.ip6_hlim = 64,
		.ip6_nxt = IPPROTO_ESP,
		.ip6_plen = htons(80)};

	switch (packet) {
	case TO_CLUSTER6:
	case TO_OTHER6:
		inet_pton(AF_INET6, PEER6, &ip6.ip6_src);
		inet_pton(AF_INET6, packet == TO_CLUSTER6 ? CLUSTER6 : PEER6, &ip6.ip6_dst);
		add(to, &ip6, sizeof(ip6));
		break;
	default:
		ip.saddr = inet_addr(packet == FROM_CLUSTER ? CLUSTER : PEER);
		ip.daddr = inet_addr(packet == TO_CLUSTER ? CLUSTER : PEER);
		add(to, &ip, sizeof(ip));
	}
}

/* ESP, with room in front of it. *ret_wrapper: how to put it back. */
static void build_packet(
	const struct definition *def, struct bytes *ret, struct wrapper *ret_wrapper)
{
	const uint8_t zero[40] = {}, payload[72] = {};
	uint32_t esp[2] = {htonl(SPI_FIRST), htonl(1)};

	*ret_wrapper = (struct wrapper){.room = def->room, .spis = def->spis};
	ret->size = 0;
	add(ret, zero, def->room);
	add_ethernet(ret, def->packet);
	memcpy(ret_wrapper->ethernet, ret->bytes + def->room, ETH_HLEN);
	add_ip(ret, def->packet);
	ret_wrapper->spi_at = ret->size - def->room;
	add(ret, esp, sizeof(esp));
	add(ret, payload, sizeof(payload));
}

static int map_of(const struct bpf_object *object, const char *name)
{
	int fd = bpf_object__find_map_fd_by_name(object, name);

	if (fd < 0)
		die("there is no map '%s'", name);
	return fd;
}

static void put(int map, uint32_t key, const void *value)
{
	if (bpf_map_update_elem(map, &key, value, BPF_ANY) < 0)
		die("cannot write to a map: %s", strerror(errno));
}

/* Loads one program of an object, its constants set, its maps its own. Returns its fd. */
static int load(struct bpf_object *object, const char *name, const void *constants, size_t size)
{
	struct bpf_program *program;
	struct bpf_map *map;

	if (!object)
		die("cannot open a BPF object: %s", strerror(errno));
	bpf_object__for_each_program(program, object)
	{
		bpf_program__set_autoload(program, !strcmp(bpf_program__name(program), name));
	}
	bpf_object__for_each_map(map, object)
	{
		if (!bpf_map__is_internal(map))
			bpf_map__set_pin_path(map, NULL);
	}
	map = bpf_object__find_map_by_name(object, ".rodata");
	if (!map || bpf_map__set_initial_value(map, constants, size) < 0)
		die("%s: the constants have another size", name);
	if (bpf_object__load(object) < 0)
		die("cannot load the BPF program %s: %s", name, strerror(errno));
	return bpf_program__fd(bpf_object__find_program_by_name(object, name));
}

static struct bpf_object *open_bench(void)
{
	size_t size;
	const void *elf = steering_bpf__elf_bytes(&size);

	return bpf_object__open_mem(elf, size, NULL);
}

/* The way to another member: on the link, or in IP-in-IP by a router. */
static struct espalier_hop hop_of(enum espalier_hop_kind kind, uint32_t id)
{
	struct espalier_hop hop = {
		.kind = kind ? kind : ESPALIER_HOP_LINK, .mtu = 1480, .from = {10}, .to = {10}};

	memcpy(hop.mac, macs[id], sizeof(hop.mac));
	return hop;
}

static void set_pins(const struct bpf_object *object, uint32_t n)
{
	const struct espalier_flow flow = {.pinned = 1};

	for (uint32_t i = 0; i < n; i++) {
		struct espalier_sa_key key = {
			.spi = htonl(i), .family = AF_INET, .daddr = {203, 0, 113, 1}};

		if (bpf_map_update_elem(map_of(object, "pins"), &key, &flow, BPF_ANY) < 0)
			die("cannot pin an SA: %s", strerror(errno));
	}
}

static void set_view(const struct bpf_object *object, const struct definition *def)
{
	static struct espalier_view view;
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	view = (struct espalier_view){.heartbeat_ns = (uint64_t)now.tv_sec * 1000000000,
		.lease_ns = 86400000000000,
		.outer_macs = 7,
		.pins = def->pins};
	memcpy(view.outer_mac, macs[0], sizeof(view.outer_mac));
	for (unsigned int i = 0; i < ESPALIER_BUCKETS; i++)
		view.half[0].owner[i] = def->owner == MINE ? 0 : 1 + i % 2;
	put(map_of(object, "view"), 0, &view);
	for (uint32_t id = 0; id < 3; id++) {
		struct espalier_member member = {.outer = hop_of(def->hop, id)};

		memcpy(member.outer_mac, macs[id], sizeof(member.outer_mac));
		put(map_of(object, "members"), id, &member);
	}
}

/* Outbound SAs, the SPIs one after the other, each with one block that does not end. */
static void fill_sas(int map, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		struct espalier_sa_key key = {.spi = htonl(SPI_FIRST + i), .family = AF_INET};
		struct espalier_sa sa = {.open = {{0, UINT32_MAX}, {1, 0}},
			.slot = i,
			.bucket = (uint16_t)(i % ESPALIER_BUCKETS),
			.direction = ESPALIER_OUT};

		inet_pton(AF_INET, PEER, key.daddr);
		if (bpf_map_update_elem(map, &key, &sa, BPF_ANY) < 0)
			die("cannot add SA %u: %s", i, strerror(errno));
	}
}

static int load_own(const struct definition *def, struct row *row)
{
	struct espalier_settings settings = {.outer = 1, /* where BPF_PROG_TEST_RUN sends */
		.cluster = {inet_addr(CLUSTER)},
		.members = 3,
		.hash = def->hash,
		.block_bits = 31};
	bool guard = def->program == GUARD;
	size_t size;
	const void *elf = guard                    ? guard_bpf__elf_bytes(&size)
			  : def->program == TUNNEL ? steer_tunnel_bpf__elf_bytes(&size)
						   : steer_bpf__elf_bytes(&size);
	const char *const by_sa[] = {"sas", "counters"};
	int fd;

	inet_pton(AF_INET6, CLUSTER6, settings.cluster6[0]);
	row->object = bpf_object__open_mem(elf, size, NULL);
	for (unsigned int i = 0; row->object && guard && i < 2; i++)
		bpf_map__set_max_entries(
			bpf_object__find_map_by_name(row->object, by_sa[i]), def->sas);
	fd = load(row->object, guard ? "espalier_guard" : "espalier_steer", &settings,
		sizeof(settings));
	set_view(row->object, def);
	set_pins(row->object, def->pins);
	if (guard)
		fill_sas(map_of(row->object, "sas"), def->sas);
	return fd;
}

static void prepare(enum row_id id)
{
	const struct definition *def = &rows[id];
	struct row *row = &state[id];
	struct wrapper wrapper;

	build_packet(def, &row->packet, &wrapper);
	if (def->program == BENCH)
		row->fd = load(row->object = open_bench(), def->bench, &wrapper, sizeof(wrapper));
	else
		row->fd = load_own(def, row);
	if (def->with == RESTORED) {
		int target = row->fd;

		row->wrapper = open_bench();
		row->fd = load(row->wrapper, def->base == EMPTY_TC ? "wrap_tc" : "wrap", &wrapper,
			sizeof(wrapper));
		put(map_of(row->wrapper, "target"), 0, &target);
	}
}

/* A veth pair in a network namespace that ends with this process. */
static void make_veth(void)
{
	const struct wrapper none = {};
	int fd;

	if (unshare(CLONE_NEWNET) < 0)
		die("cannot make a network namespace: %s: run it as root", strerror(errno));
	if (system("ip link add near type veth peer name far && ip link set near up && "
		   "ip link set far up"))
		die("cannot make a veth pair");
	near = if_nametoindex("near");
	far = if_nametoindex("far");
	receiver = open_bench();
	fd = load(receiver, "receive", &none, sizeof(none));
	if (bpf_xdp_attach((int)far, fd, XDP_FLAGS_DRV_MODE, NULL) < 0)
		die("cannot attach to the veth: %s", strerror(errno));
}

/* The sum over all CPUs of a counter, in a per-CPU array of one entry of so many counters.
 */
static uint64_t counted(const struct bpf_object *object, const char *map, int index, int of)
{
	int cpus = libbpf_num_possible_cpus();
	uint64_t *by_cpu = calloc((size_t)cpus, sizeof(uint64_t) * (size_t)of), sum = 0;
	uint32_t zero = 0;

	if (!by_cpu || bpf_map_lookup_elem(map_of(object, map), &zero, by_cpu) < 0)
		die("cannot read the map '%s'", map);
	for (int cpu = 0; cpu < cpus; cpu++)
		sum += by_cpu[cpu * of + index];
	free(by_cpu);
	return sum;
}

static uint64_t counted_reason(enum row_id id)
{
	if (rows[id].reason < 0)
		return 0;
	return counted(state[id].object, "reasons", rows[id].reason, ESPALIER_REASON_COUNT);
}

static uint64_t counted_received(void)
{
	return counted(receiver, "received", 0, 1);
}

static double cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

/* One turn: ns a packet. It must have been that verdict, for that reason, each time. */
static double turn(enum row_id id)
{
	bool live = rows[id].base == LIVE_TX;
	struct xdp_md ctx = {.data_end = state[id].packet.size, .ingress_ifindex = near};
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = state[id].packet.bytes,
		.data_size_in = state[id].packet.size, .repeat = PACKETS,
		.ctx_in = live ? &ctx : NULL, .ctx_size_in = live ? sizeof(ctx) : 0,
		.flags = live ? BPF_F_TEST_XDP_LIVE_FRAMES : 0);
	uint64_t before = counted_reason(id), received = counted_received();
	double ns = cpu_ns();

	if (bpf_prog_test_run_opts(state[id].fd, &opts) < 0)
		die("%s: cannot run: %s", rows[id].name, strerror(errno));
	ns = cpu_ns() - ns;
	if ((int)opts.retval != rows[id].verdict)
		die("%s: the verdict is %d, not %d", rows[id].name, (int)opts.retval,
			rows[id].verdict);
	if (rows[id].reason >= 0 && counted_reason(id) - before != PACKETS)
		die("%s: not each packet got that verdict", rows[id].name);
	if (live && counted_received() - received < PACKETS / 100 * 99)
		die("%s: only %llu packets of %u came through the veth", rows[id].name,
			(unsigned long long)(counted_received() - received), PACKETS);
	return ns / PACKETS;
}

static void measure(void)
{
	for (unsigned int id = 0; id < ROWS; id++)
		turn(id); /* warms up */
	for (unsigned int i = 0; i < TURNS; i++)
		for (unsigned int id = 0; id < ROWS; id++)
			state[id].turns[i] = turn(id);
	for (unsigned int id = 0; id < ROWS; id++)
		state[id].ns = median(state[id].turns, TURNS);
}

/* What the program costs without its wrapper, in ns. */
static double cost(enum row_id id)
{
	return state[id].ns - state[rows[id].floor].ns + state[rows[id].base].ns;
}

static double value(const struct figure *figure)
{
	double a = cost(figure->row), b = cost(figure->over);

	return figure->ns ? a - b : a / b;
}

static void print_table(void)
{
	printf("%-34s %8s %8s %8s %6s\n", "CPU ns a packet", "measured", "alone", "added", "ratio");
	for (unsigned int id = 0; id < ROWS; id++) {
		double base = state[rows[id].base].ns;

		printf("%-34s %8.1f", rows[id].name, state[id].ns);
		if (rows[id].with == ALONE || rows[id].floor != id) {
			printf(" %8.1f %8.1f %6.2f", cost(id), cost(id) - base, cost(id) / base);
			if (rows[id].base == LIVE_TX)
				printf("   %.1f Mpps", 1e3 / cost(id));
		}
		printf("\n");
	}
	printf("\nMedians of %u turns of %u packets. alone: without what the wrapper costs.\n"
	       "added, ratio: to the first row of its kind.\n\n",
		TURNS, PACKETS);
	for (unsigned int i = 0; i < N_FIGURES; i++)
		printf("%-20s %7.2f%s%s\n", figures[i].name, value(&figures[i]),
			figures[i].target ? "   target: " : "",
			figures[i].target ? figures[i].target : "");
}

static void print_json(void)
{
	for (unsigned int i = 0; i < N_FIGURES; i++)
		printf("%s\"%s\": %.3f", i ? ", " : "{", figures[i].name, value(&figures[i]));
	printf("}\n");
}

int main(int argc, char **argv)
{
	bool json = argc == 2 && !strcmp(argv[1], "--json");

	if (argc > 1 && !json)
		die("it takes --json or nothing, not '%s'", argv[1]);
	stay_on_cpu();
	make_veth();
	for (unsigned int id = 0; id < ROWS; id++)
		prepare(id);
	measure();
	json ? print_json() : print_table();
	for (unsigned int id = 0; id < ROWS; id++) {
		bpf_object__close(state[id].wrapper);
		bpf_object__close(state[id].object);
	}
	bpf_object__close(receiver);
	return EXIT_SUCCESS;
}
