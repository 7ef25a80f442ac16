/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ikeplug SOCKET - plays the IKE daemon's plugin: what it reads from its standard input, a line a
 * message, it says to the agent; what the agent says it prints, a line a message.
 *
 *	hello | ready
 *	record OWN VERSION TURN BYTES [SPI-IN LOCAL SPI-OUT REMOTE]
 *	gone OWN VERSION TURN | need OWN | released OWN
 *	raw BYTES		a packet that is none
 *
 * OWN: the cluster's SPI, as a number; the cluster is the responder. Addresses are IPv4.
 */
#include <arpa/inet.h>
#include <endian.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "espalier_ike.h"

#define PEER 0x1122334455667788ULL

static uint8_t packet[ESPALIER_IKE_MESSAGE_MAX] __attribute__((aligned(8)));

static void say(int fd, uint8_t type, size_t len)
{
	*(struct espalier_ike_header *)packet = (struct espalier_ike_header){
		.type = type, .version = ESPALIER_IKE_VERSION, .length = (uint32_t)len};
	if (send(fd, packet, sizeof(struct espalier_ike_header) + len, MSG_NOSIGNAL) < 0)
		printf("lost\n");
}

static void say_name(int fd, uint8_t type, uint64_t own, uint64_t version, unsigned int turn)
{
	struct espalier_ike_name name = {
		.spis = {htobe64(PEER), htobe64(own)}, .version = version, .turn = turn};

	memcpy(packet + sizeof(struct espalier_ike_header), &name, sizeof(name));
	say(fd, type, sizeof(name));
}

static void say_record(int fd, const char *arguments)
{
	struct espalier_ike_record r = {.flags = ESPALIER_IKE_ESTABLISHED};
	struct espalier_ike_child child = {.protocol = IPPROTO_ESP, .family = AF_INET};
	uint8_t *at = packet + sizeof(struct espalier_ike_header);
	char local[32], remote[32];
	uint64_t own;
	unsigned int in, out;
	int n = sscanf(arguments, "%" SCNx64 " %" SCNu64 " %u %u %x %31s %x %31s", &own,
		(uint64_t *)&r.version, &r.turn, &r.body_length, &in, local, &out, remote);

	r.spis = (struct espalier_ike_spis){htobe64(PEER), htobe64(own)};
	r.children = n == 8;
	memcpy(at, &r, sizeof(r));
	at += sizeof(r);
	if (n == 8) {
		child.spi_in = htonl(in);
		child.spi_out = htonl(out);
		inet_pton(AF_INET, local, child.local);
		inet_pton(AF_INET, remote, child.remote);
		memcpy(at, &child, sizeof(child));
		at += sizeof(child);
	}
	for (uint32_t i = 0; i < r.body_length; i++)
		at[i] = (uint8_t)(own + r.version + i * 7);
	say(fd, ESPALIER_IKE_RECORD,
		(size_t)(at - packet) - sizeof(struct espalier_ike_header) + r.body_length);
}

static void do_line(int fd, char *line)
{
	struct espalier_ike_hello hello = {.protocol = ESPALIER_IKE_VERSION, .daemon = "ikeplug"};
	char *word = strsep(&line, " \n");
	uint64_t own = 0, version = 0;
	unsigned int turn = 0;

	line = line ? line : word + strlen(word);
	(void)sscanf(line, "%" SCNx64 " %" SCNu64 " %u", &own, &version, &turn);
	if (strcmp(word, "hello") == 0) {
		memcpy(packet + sizeof(struct espalier_ike_header), &hello, sizeof(hello));
		say(fd, ESPALIER_IKE_HELLO, sizeof(hello));
	} else if (strcmp(word, "ready") == 0) {
		say(fd, ESPALIER_IKE_READY, 0);
	} else if (strcmp(word, "record") == 0) {
		say_record(fd, line);
	} else if (strcmp(word, "gone") == 0) {
		say_name(fd, ESPALIER_IKE_GONE, own, version, turn);
	} else if (strcmp(word, "need") == 0) {
		say_name(fd, ESPALIER_IKE_NEED, own, 0, 0);
	} else if (strcmp(word, "released") == 0) {
		say_name(fd, ESPALIER_IKE_RELEASED, own, version, turn);
	} else if (strcmp(word, "raw") == 0) {
		(void)send(fd, packet, (size_t)own, MSG_NOSIGNAL);
	}
}

static const char *flags_of(uint32_t flags)
{
	static char text[64];

	snprintf(text, sizeof(text), "%s%s%s", flags & ESPALIER_IKE_SYNC ? " sync" : "",
		flags & ESPALIER_IKE_BACKGROUND ? " background" : "",
		flags & ESPALIER_IKE_SURE ? " sure" : "");
	return text;
}

static void print_name(const char *word, const struct espalier_ike_name *n)
{
	printf("%s 0x%" PRIx64 " %" PRIu64 " %u%s\n", word, be64toh(n->spis.responder),
		(uint64_t)n->version, n->turn, flags_of(n->flags));
}

static void print_gift(const struct espalier_ike_record *r)
{
	const uint8_t *body = (const uint8_t *)(r + 1);
	uint64_t own = be64toh(r->spis.responder);
	bool good = be64toh(r->spis.initiator) == PEER;

	for (uint32_t i = 0; i < r->body_length; i++)
		good &= body[i] == (uint8_t)(own + r->version + i * 7);
	printf("give 0x%" PRIx64 " %" PRIu64 " %u %u%s%s\n", own, (uint64_t)r->version, r->turn,
		r->body_length, good ? "" : " WRONG", flags_of(r->flags));
}

static bool hear(int fd)
{
	ssize_t len = recv(fd, packet, sizeof(packet), 0);
	const void *at = packet + sizeof(struct espalier_ike_header);
	const struct espalier_ike_settings *s = at;

	if (len <= 0) {
		printf("closed\n");
		return false;
	}
	switch (((struct espalier_ike_header *)packet)->type) {
	case ESPALIER_IKE_SETTINGS:
		printf("settings member %u of %u commit %u away %u reqids %u-%u esp %08x-%08x ike "
		       "%016" PRIx64 "/%016" PRIx64 " secret %u\n",
			s->member, s->members, s->commit_ms, s->away_ms, s->reqid_first,
			s->reqid_last, s->esp_spi_first, s->esp_spi_last,
			(uint64_t)s->ike_spi_value, (uint64_t)s->ike_spi_mask, s->has_secret);
		break;
	case ESPALIER_IKE_COMMITTED:
		print_name("committed", at);
		break;
	case ESPALIER_IKE_GIVE:
		print_gift(at);
		break;
	case ESPALIER_IKE_NONE:
		print_name("none", at);
		break;
	case ESPALIER_IKE_RELEASE:
		print_name("release", at);
		break;
	case ESPALIER_IKE_DROP:
		print_name("drop", at);
		break;
	case ESPALIER_IKE_TAKEN:
		printf("taken\n");
		break;
	case ESPALIER_IKE_ALIVE:
		break;
	default:
		printf("unknown\n");
	}
	return true;
}

int main(int argc, char **argv)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct pollfd fds[] = {{.fd = fd, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
	char line[256];

	if (argc != 2)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	setvbuf(stdin, NULL, _IONBF, 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", argv[1]);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		perror(argv[1]);
		return 1;
	}
	while (poll(fds, 2, -1) >= 0) {
		if (fds[0].revents && !hear(fd))
			return 0;
		if (fds[1].revents && !fgets(line, sizeof(line), stdin))
			return 0;
		if (fds[1].revents)
			do_line(fd, line);
	}
	return 1;
}
