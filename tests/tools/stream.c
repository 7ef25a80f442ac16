/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stream - a UDP stream that shows an outage as its receiver sees it.
 *
 *	stream send --to ADDRESS:PORT [--from ADDRESS] [--interval-us N]
 *		[--count N] [--seconds S] [--json FILE] [--namespace FILE]
 *	stream receive --bind ADDRESS:PORT [--seconds S] [--json FILE] [--namespace FILE]
 *
 * It goes to a network namespace by itself, since nsenter would be one more program to load for
 *each of many streams.
 *
 * The sender numbers its packets and ends with a few that say how many there were. The receiver
 *ends with those, after S seconds, or by SIGTERM or SIGINT, and reports what was lost, doubled or
 * reordered and the longest time between two arrivals. When no end was seen, the silence since the
 * last arrival counts too, since a stream that never came back is not a short outage; what was sent
 * and lost is then not known here, but in the sender's report.
 */
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tool.h"

#define STREAM_MAGIC 0x65737072u
#define STREAM_MAX (1ULL << 30) /* packets: the receiver keeps a bit for each */
#define STREAM_ENDS 5 /* packets that say the end, in case some are lost */
#define STREAM_END_NS (20 * TOOL_NS_PER_MS)
#define STREAM_LINGER_NS (200 * TOOL_NS_PER_MS) /* for stragglers, after the end */
#define STREAM_POLL_MS 100
#define STREAM_SLOT_NS 10000 /* resolution of the median interval */
#define STREAM_SLOTS 100000

/* Host byte order: both ends are on one machine. */
struct stream_packet {
	uint32_t magic;
	uint32_t end; /* 1: `sequence` is the number of packets sent */
	uint64_t run; /* random; tells this stream from another to the same port */
	uint64_t sequence;
	uint8_t padding[40];
};

struct stream_options {
	struct sockaddr_in to;
	struct sockaddr_in from;
	uint64_t interval;
	uint64_t count;
	uint64_t duration;
	const char *json;
};

struct stream_gap {
	uint64_t from;
	uint64_t until;
	uint64_t after; /* sequence number of the arrival before it */
	uint64_t before; /* and of the one that ended it, unless open */
	bool open;
};

struct stream_receiver {
	uint64_t run;
	uint64_t received;
	uint64_t duplicates;
	uint64_t reordered;
	uint64_t foreign;
	uint64_t highest;
	uint64_t sent; /* valid when ended */
	uint64_t ended; /* when the end was seen, or 0 */
	uint64_t first_arrival;
	uint64_t last_arrival;
	uint64_t last_sequence;
	struct stream_gap gap;
	uint8_t *seen;
	size_t seen_size;
	uint32_t intervals[STREAM_SLOTS];
};

static void stream_usage(void)
{
	tool_die(0, "usage: stream send --to ADDRESS:PORT [--from ADDRESS] [--interval-us N] "
		    "[--count N] [--seconds S] [--json FILE] [--namespace FILE] | "
		    "stream receive --bind ADDRESS:PORT [--seconds S] [--json FILE] "
		    "[--namespace FILE]");
}

static struct sockaddr_in stream_endpoint(const char *option, char *text)
{
	char *colon = strrchr(text, ':');
	struct sockaddr_in endpoint = {.sin_family = AF_INET};

	if (!colon)
		tool_die(0, "--%s %s: not ADDRESS:PORT", option, text);
	*colon = '\0';
	endpoint.sin_addr = tool_address(option, text);
	endpoint.sin_port = htons((uint16_t)tool_number(option, colon + 1, UINT16_MAX));
	return endpoint;
}

static void stream_enter(const char *namespace)
{
	int fd = open(namespace, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || setns(fd, CLONE_NEWNET))
		tool_die(errno, "--namespace %s cannot be entered", namespace);
	close(fd);
}

static void stream_parse(struct stream_options *options, int argc, char **argv)
{
	static const struct option names[] = {
		{"to", required_argument, NULL, 't'},
		{"bind", required_argument, NULL, 't'},
		{"from", required_argument, NULL, 'f'},
		{"interval-us", required_argument, NULL, 'i'},
		{"count", required_argument, NULL, 'c'},
		{"seconds", required_argument, NULL, 's'},
		{"json", required_argument, NULL, 'j'},
		{"namespace", required_argument, NULL, 'n'},
		{0},
	};
	int option, index;

	while ((option = getopt_long(argc, argv, "", names, &index)) >= 0) {
		switch (option) {
		case 't':
			options->to = stream_endpoint(names[index].name, optarg);
			break;
		case 'f':
			options->from.sin_addr = tool_address("from", optarg);
			break;
		case 'i':
			options->interval = tool_number("interval-us", optarg, 60000000) * 1000;
			break;
		case 'c':
			options->count = tool_number("count", optarg, STREAM_MAX);
			break;
		case 's':
			options->duration = tool_number("seconds", optarg, 86400) * TOOL_NS_PER_S;
			break;
		case 'j':
			options->json = optarg;
			break;
		case 'n':
			stream_enter(optarg);
			break;
		default:
			stream_usage();
		}
	}
	if (optind != argc || !options->to.sin_family || !options->interval)
		stream_usage();
}

static int stream_socket(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		tool_die(errno, "no UDP socket");
	return fd;
}

/*
 * A packet that cannot be sent counts as sent: the client wanted it to go. A sender that is late
 * goes on from now and does not make up for it with a burst.
 */
static int stream_send(const struct stream_options *options)
{
	struct stream_packet packet = {.magic = STREAM_MAGIC};
	uint64_t begun = tool_now(), next = begun, refused = 0;
	int fd = stream_socket();
	FILE *report;

	if (bind(fd, (const struct sockaddr *)&options->from, sizeof(options->from)))
		tool_die(errno, "the source address cannot be used");
	if (getrandom(&packet.run, sizeof(packet.run), 0) != sizeof(packet.run))
		tool_die(errno, "no random number");

	while (!tool_stopped && packet.sequence < options->count) {
		uint64_t now = tool_now();

		if (options->duration && now - begun >= options->duration)
			break;
		if (sendto(fd, &packet, sizeof(packet), 0, (const struct sockaddr *)&options->to,
			    sizeof(options->to)) < 0)
			refused++;
		packet.sequence++;
		next += options->interval;
		if (next < now)
			next = now;
		tool_sleep_until(next);
	}

	packet.end = 1;
	for (int i = 0; i < STREAM_ENDS; i++) {
		if (sendto(fd, &packet, sizeof(packet), 0, (const struct sockaddr *)&options->to,
			    sizeof(options->to)) < 0 &&
			i == STREAM_ENDS - 1)
			fprintf(stderr, "stream: the end cannot be sent: %s\n", strerror(errno));
		tool_sleep_until(tool_now() + STREAM_END_NS);
	}
	close(fd);

	report = tool_open_report(options->json);
	fprintf(report, "{\"sent\": %llu, \"refused\": %llu, \"interval_ms\": %.3f}\n",
		(unsigned long long)packet.sequence, (unsigned long long)refused,
		(double)options->interval / TOOL_NS_PER_MS);
	tool_close_report(report, options->json);
	return 0;
}

/* Returns whether `sequence` was seen before. */
static bool stream_mark(struct stream_receiver *receiver, uint64_t sequence)
{
	size_t byte = sequence / 8;
	uint8_t bit = (uint8_t)(1U << (sequence % 8));
	bool seen;

	if (byte >= receiver->seen_size) {
		size_t size = (byte + 1) * 2;
		uint8_t *grown = realloc(receiver->seen, size);

		if (!grown)
			tool_die(ENOMEM, "the packets seen cannot be kept");
		memset(grown + receiver->seen_size, 0, size - receiver->seen_size);
		receiver->seen = grown;
		receiver->seen_size = size;
	}
	seen = receiver->seen[byte] & bit;
	receiver->seen[byte] |= bit;
	return seen;
}

static void stream_gap(
	struct stream_receiver *receiver, uint64_t until, uint64_t sequence, bool open)
{
	struct stream_gap gap = {
		.from = receiver->last_arrival,
		.until = until,
		.after = receiver->last_sequence,
		.before = sequence,
		.open = open,
	};

	if (gap.until - gap.from > receiver->gap.until - receiver->gap.from)
		receiver->gap = gap;
}

static void stream_arrival(struct stream_receiver *receiver, uint64_t now, uint64_t sequence)
{
	uint64_t slot;

	if (!receiver->received) {
		receiver->first_arrival = now;
	} else {
		slot = (now - receiver->last_arrival) / STREAM_SLOT_NS;
		receiver->intervals[slot < STREAM_SLOTS ? slot : STREAM_SLOTS - 1]++;
		stream_gap(receiver, now, sequence, false);
	}
	if (receiver->received && sequence < receiver->highest)
		receiver->reordered++;
	else
		receiver->highest = sequence;
	receiver->received++;
	receiver->last_arrival = now;
	receiver->last_sequence = sequence;
}

/* A doubled packet is no arrival: it must not make an outage look shorter. */
static void stream_packet(struct stream_receiver *receiver, const struct stream_packet *packet,
	ssize_t length, uint64_t now)
{
	if (length != sizeof(*packet) || packet->magic != STREAM_MAGIC ||
		packet->sequence > STREAM_MAX || (receiver->run && packet->run != receiver->run)) {
		receiver->foreign++;
		return;
	}
	receiver->run = packet->run;
	if (packet->end) {
		if (!receiver->ended)
			receiver->ended = now;
		receiver->sent = packet->sequence;
	} else if (stream_mark(receiver, packet->sequence)) {
		receiver->duplicates++;
	} else {
		stream_arrival(receiver, now, packet->sequence);
	}
}

static double stream_median_ms(const struct stream_receiver *receiver)
{
	uint64_t left = receiver->received / 2;

	for (int slot = 0; left && slot < STREAM_SLOTS; slot++) {
		if (left <= receiver->intervals[slot])
			return (slot + 0.5) * STREAM_SLOT_NS / TOOL_NS_PER_MS;
		left -= receiver->intervals[slot];
	}
	return 0;
}

static void stream_report(const struct stream_receiver *receiver, const char *path)
{
	FILE *report = tool_open_report(path);
	const struct stream_gap *gap = &receiver->gap;

	fprintf(report, "{\"complete\": %s, ", receiver->ended ? "true" : "false");
	if (receiver->ended)
		fprintf(report, "\"sent\": %llu, \"lost\": %llu, ",
			(unsigned long long)receiver->sent,
			(unsigned long long)(receiver->sent - receiver->received));
	else
		fprintf(report, "\"sent\": null, \"lost\": null, ");
	fprintf(report,
		"\"received\": %llu, \"duplicates\": %llu, \"reordered\": %llu, \"foreign\": "
		"%llu, ",
		(unsigned long long)receiver->received, (unsigned long long)receiver->duplicates,
		(unsigned long long)receiver->reordered, (unsigned long long)receiver->foreign);
	fprintf(report,
		"\"first_s\": %.6f, \"last_s\": %.6f, \"median_interval_ms\": %.3f, "
		"\"longest_gap\": {\"ms\": %.3f, \"from_s\": %.6f, \"until_s\": %.6f, "
		"\"after_sequence\": %llu, \"before_sequence\": ",
		(double)receiver->first_arrival / TOOL_NS_PER_S,
		(double)receiver->last_arrival / TOOL_NS_PER_S, stream_median_ms(receiver),
		(double)(gap->until - gap->from) / TOOL_NS_PER_MS,
		(double)gap->from / TOOL_NS_PER_S, (double)gap->until / TOOL_NS_PER_S,
		(unsigned long long)gap->after);
	if (gap->open)
		fprintf(report, "null}}\n");
	else
		fprintf(report, "%llu}}\n", (unsigned long long)gap->before);
	tool_close_report(report, path);
}

static int stream_receive(const struct stream_options *options)
{
	static struct stream_receiver receiver;
	uint64_t begun = tool_now();
	struct pollfd pollfd = {.fd = stream_socket(), .events = POLLIN};

	if (bind(pollfd.fd, (const struct sockaddr *)&options->to, sizeof(options->to)))
		tool_die(errno, "the address given by --bind cannot be used");

	while (!tool_stopped) {
		struct stream_packet packet;
		uint64_t now = tool_now();

		if (options->duration && now - begun >= options->duration)
			break;
		if (receiver.ended && now - receiver.ended >= STREAM_LINGER_NS)
			break;
		if (poll(&pollfd, 1, STREAM_POLL_MS) > 0) {
			ssize_t length = recv(pollfd.fd, &packet, sizeof(packet), MSG_TRUNC);

			stream_packet(&receiver, &packet, length, tool_now());
		}
	}
	if (receiver.received && !receiver.ended)
		stream_gap(&receiver, tool_now(), 0, true);
	stream_report(&receiver, options->json);
	free(receiver.seen);
	close(pollfd.fd);
	return 0;
}

int main(int argc, char **argv)
{
	struct stream_options options = {
		.from = {.sin_family = AF_INET},
		.interval = 10 * TOOL_NS_PER_MS,
		.count = STREAM_MAX,
		.json = "-",
	};

	if (argc < 2)
		stream_usage();
	stream_parse(&options, argc - 1, argv + 1);
	tool_catch_signals();
	if (!strcmp(argv[1], "send"))
		return stream_send(&options);
	if (!strcmp(argv[1], "receive"))
		return stream_receive(&options);
	stream_usage();
}
