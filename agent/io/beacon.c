/* SPDX-License-Identifier: BSD-2-Clause */
#include "io/beacon.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/digest.h"

#define PROTOCOL 0x88b5 /* IEEE 802: local experimental EtherType 1 */
#define BATCH 64 /* frames at once; then the rest of the agent gets its turn */
#define KIND 3 /* clone.c has 1 and 2 */
#define LABEL "espalier/beacon" /* what the tag's key is made of; without a key, what it is */

/* Integers in network byte order. */
struct frame {
	uint8_t magic[8];
	uint8_t kind, id, claim, reserved;
	uint32_t address;
	uint8_t life[8]; /* drawn at random by each start: a frame of ours may come back to us */
	uint32_t settings[BEACON_SETTINGS];
	uint8_t tag[DIGEST_SIZE]; /* of all before it */
};

static_assert(
	sizeof(struct frame) == 8 + 4 + 4 + 8 + 4 * BEACON_SETTINGS + DIGEST_SIZE, "no padding");

static const char magic[8] = "espalier";

struct beacon {
	uint8_t key[DIGEST_SIZE];
	struct frame own;
	unsigned int ifindex;
	int fd;
};

int beacon_open(const struct beacon_config *config, struct beacon **ret)
{
	const struct sockaddr_ll link = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(PROTOCOL),
		.sll_ifindex = (int)config->ifindex,
	};
	struct beacon *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return -ENOMEM;
	digest_hmac(config->key ? config->key : (const uint8_t *)LABEL,
		config->key ? config->key_len : sizeof(LABEL), LABEL, sizeof(LABEL), b->key);
	memcpy(b->own.magic, magic, sizeof(magic));
	b->own.kind = KIND;
	b->own.id = config->self;
	b->own.address = config->address.s_addr;
	digest_random(b->own.life, sizeof(b->own.life));
	for (unsigned int i = 0; i < BEACON_SETTINGS; i++)
		b->own.settings[i] = htonl(config->settings[i]);
	b->ifindex = config->ifindex;
	b->fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (b->fd >= 0 && bind(b->fd, (const struct sockaddr *)&link, sizeof(link)) == 0) {
		*ret = b;
		return 0;
	}
	r = -errno;
	beacon_close(b);
	return r;
}

void beacon_close(struct beacon *b)
{
	if (!b)
		return;
	if (b->fd >= 0)
		close(b->fd);
	explicit_bzero(b, sizeof(*b));
	free(b);
}

static void tag(const struct beacon *b, const struct frame *f, uint8_t ret[DIGEST_SIZE])
{
	digest_hmac(b->key, sizeof(b->key), f, offsetof(struct frame, tag), ret);
}

void beacon_send(const struct beacon *b, uint8_t claim)
{
	const struct sockaddr_ll all = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(PROTOCOL),
		.sll_ifindex = (int)b->ifindex,
		.sll_halen = ETH_ALEN,
		.sll_addr = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
	};
	struct frame f = b->own;

	f.claim = claim;
	tag(b, &f, f.tag);
	(void)sendto(b->fd, &f, sizeof(f), 0, (const struct sockaddr *)&all, sizeof(all));
}

int beacon_fd(const struct beacon *b)
{
	return b->fd;
}

static bool is_others(const struct beacon *b, const struct frame *f)
{
	return memcmp(f->magic, magic, sizeof(magic)) == 0 && f->kind == KIND &&
	       memcmp(f->life, b->own.life, sizeof(f->life)) != 0;
}

static void read_frame(const struct beacon *b, const struct frame *f, struct beacon_heard *ret)
{
	uint8_t right[DIGEST_SIZE];

	tag(b, f, right);
	*ret = (struct beacon_heard){.id = f->id,
		.claim = f->claim,
		.other_key = memcmp(right, f->tag, sizeof(right)) != 0,
		.address = {f->address}};
	for (unsigned int i = 0; i < BEACON_SETTINGS; i++)
		ret->settings[i] = ntohl(f->settings[i]);
}

bool beacon_hear(struct beacon *b, struct beacon_heard *ret)
{
	for (unsigned int i = 0; i < BATCH; i++) {
		struct frame f;
		ssize_t n = recv(b->fd, &f, sizeof(f), 0);

		if (n < 0)
			return false;
		if (n < (ssize_t)sizeof(f) || !is_others(b, &f))
			continue;
		read_frame(b, &f, ret);
		return true;
	}
	return false;
}
