/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * espwatch - reads every ESP packet on some interfaces and finds the numbers that come twice.
 *
 *	espwatch [--json FILE] [--destination ADDRESS]... [--port N] [--megabytes N] INTERFACE...
 *
 * The interfaces (of this network namespace) are watched as one wire; a packet is counted where it
 * comes in, and not where it goes out. IPv4, ESP bare and in UDP 4500, to ADDRESS alone if given;
 * also behind VLAN tags, and in GRE. Several ADDRESSes are those of one peer, which moves: to which
 * of them it goes does not tell SAs apart. With --port, ESP in UDP to that port alone.
 *
 * It says "watching" on stdout when it is, ends by SIGTERM or SIGINT, and then reports each SA: the
 * packets of each sender (source MAC address) with the first and last number, and the duplicates.
 * Exit status 0 means that nothing was missed: no packet dropped by the kernel, none larger than
 * the link's MTU (several in one), none that did not fit in memory.
 *
 * With extended sequence numbers the wire shows the low half only: a wrap looks like duplicates.
 */
#include <linux/if_ether.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stddef.h>

#include "capture.h"
#include "tool.h"

#define WATCH_INTERFACES 64
#define WATCH_PAGE 256 /* sequence numbers */
#define WATCH_THE_SA UINT32_MAX
#define WATCH_SENDERS 255
#define WATCH_DUPLICATES 16 /* reported for each SA; all are counted */
#define WATCH_NAT_T_PORT 4500
#define WATCH_TAGS 2
#define WATCH_TAG 4 /* bytes */
#define WATCH_DESTINATIONS 8
#define WATCH_GRE 4 /* bytes: no checksum, key or sequence number */

/* Of an SA (page WATCH_THE_SA) or of one of its pages; the first field of both. */
struct watch_key {
	uint32_t daddr; /* network byte order, as in the packet */
	uint32_t spi;
	uint32_t page;
};

struct watch_sighting {
	uint32_t sequence;
	uint8_t sender;
	uint8_t first_sender;
	uint64_t time;
	uint64_t first_time;
};

/* What one sender emitted of one SA. */
struct watch_sender {
	uint64_t packets;
	uint64_t first_time;
	uint64_t last_time;
	uint32_t first;
	uint32_t last;
	uint32_t lowest;
	uint32_t highest;
	uint8_t sender;
};

struct watch_sa {
	struct watch_key key;
	uint64_t packets;
	uint64_t duplicates;
	uint32_t lowest;
	uint32_t highest;
	struct watch_sender *senders;
	unsigned int sender_count;
	struct watch_sighting doubled[WATCH_DUPLICATES];
};

/* When and from whom each of WATCH_PAGE sequence numbers came first; time 0: not yet. */
struct watch_page {
	struct watch_key key;
	uint64_t time[WATCH_PAGE];
	uint8_t sender[WATCH_PAGE];
};

static struct {
	struct capture interfaces[WATCH_INTERFACES];
	unsigned int interface_count;
	struct watch_key **slots; /* open addressing; their number is a power of two */
	size_t slot_count;
	size_t slots_used;
	uint8_t senders[WATCH_SENDERS][ETH_ALEN];
	unsigned int sender_count;
	uint64_t memory;
	uint64_t memory_max;
	uint64_t packets;
	uint64_t dropped;
	uint64_t oversized;
	uint64_t not_kept;
	struct in_addr destinations[WATCH_DESTINATIONS];
	unsigned int destination_count;
	uint16_t port;
	const char *json;
} watch = {.memory_max = 512ULL << 20, .json = "-"};

/* Bounded by --megabytes; NULL when that is used up. */
static void *watch_allocate(size_t size)
{
	void *memory;

	if (watch.memory + size > watch.memory_max)
		return NULL;
	memory = calloc(1, size);
	if (memory)
		watch.memory += size;
	return memory;
}

static void watch_free(void *memory, size_t size)
{
	free(memory);
	watch.memory -= size;
}

/* The slot that holds the key, or the free one where it belongs. */
static struct watch_key **watch_slot(const struct watch_key *key)
{
	uint64_t hash = ((uint64_t)key->daddr << 32 | key->spi) ^ key->page * 0x9e3779b97f4a7c15ULL;
	size_t i;

	hash *= 0xbf58476d1ce4e5b9ULL;
	for (i = hash ^ (hash >> 31);; i++) {
		struct watch_key **slot = &watch.slots[i & (watch.slot_count - 1)];

		if (!*slot || !memcmp(*slot, key, sizeof(*key)))
			return slot;
	}
}

/* Makes room for one more entry: at least half of the slots stay free. */
static bool watch_grow(void)
{
	struct watch_key **old = watch.slots;
	size_t count = watch.slot_count;
	struct watch_key **slots;

	if (watch.slots_used < count / 2)
		return true;
	watch.slot_count = count ? count * 2 : 1024;
	slots = watch_allocate(watch.slot_count * sizeof(*slots));
	if (!slots) {
		watch.slot_count = count;
		return false;
	}
	watch.slots = slots;
	for (size_t i = 0; i < count; i++)
		if (old[i])
			*watch_slot(old[i]) = old[i];
	watch_free(old, count * sizeof(*old));
	return true;
}

/* The entry of that key, made if need be with `size` bytes; NULL: no memory. */
static void *watch_find(struct watch_key key, size_t size)
{
	struct watch_key **slot;

	if (!watch_grow())
		return NULL;
	slot = watch_slot(&key);
	if (!*slot) {
		*slot = watch_allocate(size);
		if (!*slot)
			return NULL;
		**slot = key;
		watch.slots_used++;
	}
	return *slot;
}

/* The index of a source MAC address; the last one stands for all that do not fit. */
static uint8_t watch_find_sender(const uint8_t *mac)
{
	unsigned int i;

	for (i = 0; i < watch.sender_count; i++)
		if (!memcmp(watch.senders[i], mac, ETH_ALEN))
			return (uint8_t)i;
	if (i == WATCH_SENDERS)
		return WATCH_SENDERS - 1;
	memcpy(watch.senders[i], mac, ETH_ALEN);
	watch.sender_count++;
	return (uint8_t)i;
}

static struct watch_sender *watch_sender_of(struct watch_sa *sa, uint8_t sender)
{
	size_t size = sa->sender_count * sizeof(*sa->senders);
	struct watch_sender *grown;

	for (unsigned int i = 0; i < sa->sender_count; i++)
		if (sa->senders[i].sender == sender)
			return &sa->senders[i];
	grown = watch_allocate(size + sizeof(*grown));
	if (!grown)
		return NULL;
	if (size)
		memcpy(grown, sa->senders, size);
	watch_free(sa->senders, size);
	sa->senders = grown;
	grown += sa->sender_count++;
	grown->sender = sender;
	return grown;
}

static void watch_duplicate(struct watch_sa *sa, const struct watch_sighting *sighting)
{
	struct watch_sighting *kept;

	if (sa->duplicates++ >= WATCH_DUPLICATES)
		return;
	kept = &sa->doubled[sa->duplicates - 1];
	*kept = *sighting;
	/* The interfaces are read one after the other: what was read first may be the later one. */
	if (kept->time < kept->first_time) {
		kept->time = sighting->first_time;
		kept->sender = sighting->first_sender;
		kept->first_time = sighting->time;
		kept->first_sender = sighting->sender;
	}
}

static void watch_count_sender(struct watch_sender *by, uint32_t sequence, uint64_t time)
{
	if (!by->packets++) {
		by->first = by->lowest = sequence;
		by->first_time = time;
	}
	by->last = sequence;
	by->last_time = time;
	if (sequence < by->lowest)
		by->lowest = sequence;
	if (sequence > by->highest)
		by->highest = sequence;
}

static void watch_esp(
	uint32_t daddr, uint32_t spi, uint32_t sequence, const uint8_t *mac, uint64_t time)
{
	uint8_t sender = watch_find_sender(mac);
	struct watch_key key = {.daddr = daddr, .spi = spi, .page = WATCH_THE_SA};
	struct watch_sa *sa = watch_find(key, sizeof(*sa));
	struct watch_sender *by = sa ? watch_sender_of(sa, sender) : NULL;
	uint32_t i = sequence % WATCH_PAGE;
	struct watch_page *page;

	key.page = sequence / WATCH_PAGE;
	page = watch_find(key, sizeof(*page));
	watch.packets++;
	if (!page || !by) {
		watch.not_kept++;
		return;
	}
	if (!sa->packets++ || sequence < sa->lowest)
		sa->lowest = sequence;
	if (sequence > sa->highest)
		sa->highest = sequence;
	watch_count_sender(by, sequence, time);
	if (page->time[i]) {
		watch_duplicate(sa, &(struct watch_sighting){
					    .sequence = sequence,
					    .sender = sender,
					    .first_sender = page->sender[i],
					    .time = time,
					    .first_time = page->time[i],
				    });
		return;
	}
	page->time[i] = time;
	page->sender[i] = sender;
}

static uint32_t watch_load32(const uint8_t *bytes)
{
	uint32_t value;

	memcpy(&value, bytes, sizeof(value));
	return ntohl(value);
}

static uint16_t watch_load16(const uint8_t *bytes)
{
	uint16_t value;

	memcpy(&value, bytes, sizeof(value));
	return ntohs(value);
}

/* Where the IPv4 header is, or 0: there is none. */
static unsigned int watch_find_ip(const uint8_t *frame, unsigned int length)
{
	unsigned int at = ETH_HLEN;

	for (unsigned int tags = 0; tags <= WATCH_TAGS && at <= length; tags++, at += WATCH_TAG) {
		uint16_t protocol = watch_load16(frame + at - 2);

		if (protocol != ETH_P_8021Q && protocol != ETH_P_8021AD)
			return protocol == ETH_P_IP ? at : 0;
	}
	return 0;
}

/* Where the IPv4 header inside of this one is, counted from it; 0: this is not GRE. */
static unsigned int watch_find_inner(const uint8_t *packet, unsigned int length)
{
	const struct iphdr *ip = (const struct iphdr *)packet;
	unsigned int offset;

	if (length < sizeof(*ip) || ip->protocol != IPPROTO_GRE)
		return 0;
	offset = ip->ihl * 4U;
	if (length < offset + WATCH_GRE || watch_load32(packet + offset) != ETH_P_IP)
		return 0;
	return offset + WATCH_GRE;
}

/*
 * Where the ESP header is, counted from the IPv4 header, or 0: not ESP. Fragments but the first
 * have none; on port 4500 an SPI of 0 is the non-ESP marker (RFC 3948).
 */
static unsigned int watch_find_esp(const uint8_t *packet, unsigned int length)
{
	const struct iphdr *ip = (const struct iphdr *)packet;
	unsigned int offset;

	if (length < sizeof(*ip) || ip->version != 4)
		return 0;
	offset = ip->ihl * 4U;
	if (ntohs(ip->frag_off) & IP_OFFMASK)
		return 0;
	if (ip->protocol == IPPROTO_UDP) {
		if (length < offset + sizeof(struct udphdr) ||
			(watch_load16(packet + offset) != WATCH_NAT_T_PORT &&
				watch_load16(packet + offset + 2) != WATCH_NAT_T_PORT))
			return 0;
		offset += sizeof(struct udphdr);
	} else if (ip->protocol != IPPROTO_ESP) {
		return 0;
	}
	if (length < offset + 8 || !watch_load32(packet + offset))
		return 0;
	return offset;
}

static bool watch_is_meant(const uint8_t *packet, unsigned int esp, struct in_addr destination)
{
	const struct iphdr *ip = (const struct iphdr *)packet;

	if (watch.port &&
		(ip->protocol != IPPROTO_UDP || watch_load16(packet + esp - 6) != watch.port))
		return false;
	for (unsigned int i = 0; i < watch.destination_count; i++)
		if (destination.s_addr == watch.destinations[i].s_addr)
			return true;
	return !watch.destination_count;
}

static void watch_frame(const struct capture *capture, const uint8_t *frame, unsigned int snapped,
	unsigned int length, uint64_t time)
{
	unsigned int ip = watch_find_ip(frame, snapped), tags = ip - ETH_HLEN, offset;
	const uint8_t *packet;
	struct in_addr daddr;

	if (!ip)
		return;
	ip += watch_find_inner(frame + ip, snapped - ip);
	packet = frame + ip;
	offset = watch_find_esp(packet, snapped - ip);
	if (!offset)
		return;
	memcpy(&daddr, packet + offsetof(struct iphdr, daddr), sizeof(daddr));
	if (!watch_is_meant(packet, offset, daddr))
		return;
	if (watch.destination_count > 1)
		daddr = watch.destinations[0];
	if (length - tags > capture->longest)
		watch.oversized++;
	watch_esp(daddr.s_addr, watch_load32(packet + offset), watch_load32(packet + offset + 4),
		frame + ETH_ALEN, time);
}

static void watch_drain_all(void)
{
	for (unsigned int i = 0; i < watch.interface_count; i++)
		capture_drain(&watch.interfaces[i], watch_frame);
}

/* Until a signal; then what the kernel still holds. */
static void watch_run(void)
{
	struct pollfd pollfds[WATCH_INTERFACES];
	int error;
	socklen_t length;

	for (unsigned int i = 0; i < watch.interface_count; i++)
		pollfds[i] = (struct pollfd){.fd = watch.interfaces[i].fd, .events = POLLIN};
	while (!tool_stopped) {
		poll(pollfds, watch.interface_count, 100);
		watch_drain_all();
		/* An interface that goes down says so once; it may come up again. */
		for (unsigned int i = 0; i < watch.interface_count; i++) {
			length = sizeof(error);
			if (pollfds[i].revents & POLLERR)
				getsockopt(pollfds[i].fd, SOL_SOCKET, SO_ERROR, &error, &length);
		}
	}
	/* Not until nothing comes any more: traffic may go on. */
	tool_sleep_until(tool_now() + 5 * CAPTURE_RETIRE_MS * TOOL_NS_PER_MS);
	watch_drain_all();
}

static int watch_compare(const void *a, const void *b)
{
	const struct watch_key *left = *(struct watch_key *const *)a;
	const struct watch_key *right = *(struct watch_key *const *)b;

	if (left->daddr != right->daddr)
		return ntohl(left->daddr) < ntohl(right->daddr) ? -1 : 1;
	return left->spi < right->spi ? -1 : left->spi > right->spi;
}

static const char *watch_mac(uint8_t sender)
{
	static char text[2][18];
	static unsigned int turn;
	const uint8_t *mac = watch.senders[sender];

	turn = !turn;
	snprintf(text[turn], sizeof(text[turn]), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1],
		mac[2], mac[3], mac[4], mac[5]);
	return text[turn];
}

static void watch_report_sa(FILE *report, const struct watch_sa *sa)
{
	struct in_addr daddr = {.s_addr = sa->key.daddr};

	fprintf(report,
		"{\"destination\": \"%s\", \"spi\": \"0x%08x\", \"packets\": %llu, \"lowest\": %u, "
		"\"highest\": %u, \"duplicates\": %llu,\n   \"senders\": [",
		inet_ntoa(daddr), sa->key.spi, (unsigned long long)sa->packets, sa->lowest,
		sa->highest, (unsigned long long)sa->duplicates);
	for (unsigned int i = 0; i < sa->sender_count; i++) {
		const struct watch_sender *by = &sa->senders[i];

		fprintf(report,
			"%s{\"mac\": \"%s\", \"packets\": %llu, \"lowest\": %u, \"highest\": %u, "
			"\"first\": %u, \"first_s\": %.6f, \"last\": %u, \"last_s\": %.6f}",
			i ? ",\n    " : "", watch_mac(by->sender), (unsigned long long)by->packets,
			by->lowest, by->highest, by->first, (double)by->first_time / TOOL_NS_PER_S,
			by->last, (double)by->last_time / TOOL_NS_PER_S);
	}
	fprintf(report, "],\n   \"doubled\": [");
	for (unsigned int i = 0; i < sa->duplicates && i < WATCH_DUPLICATES; i++) {
		const struct watch_sighting *twice = &sa->doubled[i];

		fprintf(report,
			"%s{\"sequence\": %u, \"first_mac\": \"%s\", \"first_s\": %.6f, "
			"\"mac\": \"%s\", \"s\": %.6f}",
			i ? ",\n    " : "", twice->sequence, watch_mac(twice->first_sender),
			(double)twice->first_time / TOOL_NS_PER_S, watch_mac(twice->sender),
			(double)twice->time / TOOL_NS_PER_S);
	}
	fprintf(report, "]}");
}

static void watch_report(void)
{
	FILE *report = tool_open_report(watch.json);
	struct watch_sa **sas = calloc(watch.slots_used + 1, sizeof(*sas));
	unsigned long long duplicates = 0;
	size_t count = 0;

	if (!sas)
		tool_die(ENOMEM, "no report");
	for (size_t i = 0; i < watch.slot_count; i++)
		if (watch.slots[i] && watch.slots[i]->page == WATCH_THE_SA)
			sas[count++] = (struct watch_sa *)watch.slots[i];
	qsort(sas, count, sizeof(*sas), watch_compare);
	for (size_t i = 0; i < count; i++)
		duplicates += sas[i]->duplicates;
	fprintf(report,
		"{\"packets\": %llu, \"duplicates\": %llu, \"dropped\": %llu, \"oversized\": %llu, "
		"\"not_kept\": %llu, \"sas\": [",
		(unsigned long long)watch.packets, duplicates, (unsigned long long)watch.dropped,
		(unsigned long long)watch.oversized, (unsigned long long)watch.not_kept);
	for (size_t i = 0; i < count; i++) {
		fprintf(report, "%s\n  ", i ? "," : "");
		watch_report_sa(report, sas[i]);
	}
	fprintf(report, "]}\n");
	tool_close_report(report, watch.json);
	free(sas);
}

static void watch_free_all(void)
{
	for (size_t i = 0; i < watch.slot_count; i++) {
		if (watch.slots[i] && watch.slots[i]->page == WATCH_THE_SA)
			free(((struct watch_sa *)watch.slots[i])->senders);
		free(watch.slots[i]);
	}
	free(watch.slots);
}

static void watch_parse(int argc, char **argv)
{
	static const struct option names[] = {
		{"json", required_argument, NULL, 'j'},
		{"destination", required_argument, NULL, 'd'},
		{"port", required_argument, NULL, 'p'},
		{"megabytes", required_argument, NULL, 'm'},
		{0},
	};
	int option;

	while ((option = getopt_long(argc, argv, "", names, NULL)) >= 0) {
		switch (option) {
		case 'j':
			watch.json = optarg;
			break;
		case 'd':
			if (watch.destination_count == WATCH_DESTINATIONS)
				tool_die(0, "--destination: at most %d", WATCH_DESTINATIONS);
			watch.destinations[watch.destination_count++] =
				tool_address("destination", optarg);
			break;
		case 'p':
			watch.port = (uint16_t)tool_number("port", optarg, UINT16_MAX);
			break;
		case 'm':
			watch.memory_max = tool_number("megabytes", optarg, 1 << 20) << 20;
			break;
		default:
			exit(1);
		}
	}
	watch.interface_count = (unsigned int)(argc - optind);
	if (!watch.interface_count || watch.interface_count > WATCH_INTERFACES)
		tool_die(0,
			"usage: espwatch [--json FILE] [--destination ADDRESS]... [--port N] "
			"[--megabytes N] INTERFACE... (at most %d)",
			WATCH_INTERFACES);
	for (unsigned int i = 0; i < watch.interface_count; i++)
		watch.interfaces[i].name = argv[optind + (int)i];
}

int main(int argc, char **argv)
{
	watch_parse(argc, argv);
	tool_catch_signals();
	for (unsigned int i = 0; i < watch.interface_count; i++)
		capture_open(&watch.interfaces[i]);
	puts("watching");
	fflush(stdout);

	watch_run();
	for (unsigned int i = 0; i < watch.interface_count; i++)
		watch.dropped += capture_close(&watch.interfaces[i]);
	watch_report();
	watch_free_all();
	if (watch.dropped || watch.oversized || watch.not_kept)
		tool_die(0,
			"packets were missed: %llu dropped by the kernel, %llu oversized, %llu "
			"beyond --megabytes",
			(unsigned long long)watch.dropped, (unsigned long long)watch.oversized,
			(unsigned long long)watch.not_kept);
	return 0;
}
