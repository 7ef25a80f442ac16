/* SPDX-License-Identifier: BSD-2-Clause */
#include "io/clone.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "io/digest.h"

#define PROTOCOL 0x88b5 /* IEEE 802: local experimental EtherType 1 */
#define BATCH 16 /* frames at once; then the rest of the agent gets its turn */

enum kind { QUESTION = 1, ANSWER = 2, QUESTION_AT_START = 3 };

struct frame {
	uint8_t magic[8];
	uint8_t kind; /* enum kind */
	uint8_t nonce[16]; /* the question's */
	uint8_t tag[DIGEST_SIZE]; /* of all before it */
};

static_assert(sizeof(struct frame) == 8 + 1 + 16 + DIGEST_SIZE, "no padding");

static const char magic[8] = "espalier";

struct clone {
	uint8_t key[DIGEST_SIZE];
	uint8_t nonce[16];
	unsigned int ifindex;
	int fd;
	enum clone_asks asks;
	int64_t asked_ms;
};

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int clone_open(const struct clone_config *config, struct clone **ret)
{
	const struct sockaddr_ll link = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(PROTOCOL),
		.sll_ifindex = (int)config->ifindex,
	};
	struct clone *c = calloc(1, sizeof(*c));
	char name[128];
	int n, r = 0;

	if (!c)
		return -ENOMEM;
	n = snprintf(name, sizeof(name), "espalier/%s/%u/clone", config->cluster, config->self);
	digest_hmac(config->secret, config->secret_len, name, (size_t)n, c->key);
	digest_random(c->nonce, sizeof(c->nonce));
	c->ifindex = config->ifindex;
	c->fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || bind(c->fd, (const struct sockaddr *)&link, sizeof(link)) < 0)
		r = -errno;
	if (r < 0)
		clone_close(c);
	else
		*ret = c;
	return r;
}

void clone_close(struct clone *c)
{
	if (!c)
		return;
	if (c->fd >= 0)
		close(c->fd);
	explicit_bzero(c, sizeof(*c));
	free(c);
}

static void tag(const struct clone *c, const struct frame *f, uint8_t ret[DIGEST_SIZE])
{
	digest_hmac(c->key, sizeof(c->key), f, offsetof(struct frame, tag), ret);
}

/* To all: the answer to a copy of our MAC address, too, has to get out of this port. */
static void send_frame(const struct clone *c, enum kind kind, const uint8_t nonce[16])
{
	struct sockaddr_ll all = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(PROTOCOL),
		.sll_ifindex = (int)c->ifindex,
		.sll_halen = ETH_ALEN,
		.sll_addr = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
	};
	struct frame f = {.kind = (uint8_t)kind};

	memcpy(f.magic, magic, sizeof(f.magic));
	memcpy(f.nonce, nonce, sizeof(f.nonce));
	tag(c, &f, f.tag);
	(void)sendto(c->fd, &f, sizeof(f), 0, (const struct sockaddr *)&all, sizeof(all));
}

/* A copy of our memory may draw the same random bytes for a while. The time tells the two apart. */
void clone_ask(struct clone *c, enum clone_asks asks)
{
	struct timespec now;

	digest_random(c->nonce, sizeof(c->nonce));
	clock_gettime(CLOCK_MONOTONIC, &now);
	for (unsigned int i = 0; i < 4; i++)
		c->nonce[i] ^= (uint8_t)(now.tv_nsec >> 8 * i);
	c->asks = asks;
	c->asked_ms = now_ms();
	send_frame(c, asks == CLONE_STARTS ? QUESTION_AT_START : QUESTION, c->nonce);
}

int clone_fd(const struct clone *c)
{
	return c->fd;
}

static bool is_authentic(const struct clone *c, const struct frame *f)
{
	uint8_t right[DIGEST_SIZE], differs = 0;

	if (memcmp(f->magic, magic, sizeof(f->magic)) != 0)
		return false;
	tag(c, f, right);
	for (unsigned int i = 0; i < sizeof(right); i++)
		differs |= right[i] ^ f->tag[i];
	return !differs;
}

/* Who starts, and may be refused, is no reason for one that runs to own nothing. */
static bool is_to_answer(const struct clone *c, enum kind kind)
{
	return kind == QUESTION_AT_START || (kind == QUESTION && c->asks == CLONE_RUNS);
}

bool clone_process(struct clone *c, uint8_t ret_mac[6])
{
	bool answered = false;

	for (unsigned int i = 0; i < BATCH; i++) {
		struct sockaddr_ll from;
		socklen_t size = sizeof(from);
		uint8_t bytes[sizeof(struct frame) + ETH_ZLEN]; /* frames are padded */
		ssize_t n =
			recvfrom(c->fd, bytes, sizeof(bytes), 0, (struct sockaddr *)&from, &size);
		struct frame f;
		bool own;

		if (n < 0)
			break;
		if ((size_t)n < sizeof(f))
			continue;
		memcpy(&f, bytes, sizeof(f));
		if (!is_authentic(c, &f))
			continue;
		own = memcmp(f.nonce, c->nonce, sizeof(f.nonce)) == 0;
		if (!own && is_to_answer(c, f.kind)) {
			send_frame(c, ANSWER, f.nonce);
		} else if (f.kind == ANSWER && own) {
			answered = true;
			memcpy(ret_mac, from.sll_addr, ETH_ALEN);
		}
	}
	return answered;
}

bool clone_wait(struct clone *c, unsigned int ms, uint8_t ret_mac[6])
{
	struct pollfd readable = {.fd = c->fd, .events = POLLIN};
	int64_t left;

	do {
		if (clone_process(c, ret_mac))
			return true;
		left = c->asked_ms + ms - now_ms();
	} while (left > 0 && poll(&readable, 1, (int)left) >= 0);
	return false;
}
