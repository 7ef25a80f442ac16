/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * clone.h - is there another machine with our id, our cluster and our key: a copy of this one?
 *
 * A question is broadcast on the sync link, in Ethernet frames of their own; who has the same id
 * and key answers those that are not its own. Tags (HMAC-SHA-256) and a nonce show that an answer
 * is one to our last question. So neither a proxy nor a switch that answers for addresses, an old
 * frame of ours, nor one that comes back to us is taken for a clone's. It need not have another MAC
 * address.
 */
#ifndef CLONE_H
#define CLONE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct clone_config {
	const char *cluster;
	uint8_t self; /* own member id */
	unsigned int ifindex; /* the sync interface */
	const uint8_t
		*secret; /* what a clone has, too: the pre-shared key, or else the private one */
	size_t secret_len;
};

struct clone;

enum clone_asks { CLONE_STARTS, CLONE_RUNS };

/* 0 or -errno; the secret may go afterwards. */
int clone_open(const struct clone_config *config, struct clone **ret);
void clone_close(struct clone *c); /* takes NULL */

/* Best effort; voids earlier questions. */
void clone_ask(struct clone *c, enum clone_asks asks);
int clone_fd(const struct clone *c); /* readable: call clone_process() */
/* Answers what is asked; who starts answers only others that start. True: somebody answers our
 * question, from this MAC address. */
bool clone_process(struct clone *c, uint8_t ret_mac[6]);
/* Waits for an answer until so long after the question. */
bool clone_wait(struct clone *c, unsigned int ms, uint8_t ret_mac[6]);

#endif
