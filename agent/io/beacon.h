/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * beacon.h - who else is on the sync link, whatever its key, port and settings are.
 *
 * Each member broadcasts what it is, in the clear, in Ethernet frames of their own beside those of
 * clone.h. Settings are told by their digests alone. The tag (HMAC-SHA-256) shows whether two have
 * the same key; nothing else of a beacon is to be relied on.
 */
#ifndef BEACON_H
#define BEACON_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BEACON_SETTINGS 16

struct beacon_config {
	unsigned int ifindex; /* the sync interface */
	uint8_t self; /* own member id */
	struct in_addr address; /* own sync address */
	uint32_t settings[BEACON_SETTINGS]; /* digests, in an order that all members know */
	const uint8_t *key; /* the pre-shared one; NULL: certificates */
	size_t key_len;
};

struct beacon_heard {
	uint8_t id; /* as it says itself, any number; so the rest */
	uint8_t claim; /* enum member_claim, or any other number */
	bool other_key; /* its key is not ours, or only one of the two has certificates */
	struct in_addr address;
	uint32_t settings[BEACON_SETTINGS];
};

struct beacon;

/* 0 or -errno; the key may go afterwards. */
int beacon_open(const struct beacon_config *config, struct beacon **ret);
void beacon_close(struct beacon *b); /* takes NULL */

void beacon_send(const struct beacon *b, uint8_t claim); /* best effort */
int beacon_fd(const struct beacon *b); /* readable: call beacon_hear() */
/* The next one of another machine. False: there is none now, or not among the next 64 frames. */
bool beacon_hear(struct beacon *b, struct beacon_heard *ret);

#endif
