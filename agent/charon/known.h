/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * known.h - the IKE SAs that the plugin knows, by their SPIs.
 *
 * One begins with the derivation of its keys, and ends when the agent has taken note that it is
 * gone. All of it is under known_lock.
 */
#ifndef CHARON_KNOWN_H
#define CHARON_KNOWN_H

#include <espalier_ike.h>
#include <pthread.h>

#include "charon/ours.h"
#include "charon/record.h"

/* A packet that waits until this version is committed. */
struct held {
	struct held *next;
	packet_t *packet;
	uint64_t version;
	uint64_t since; /* us */
};

/* The packets of one message. */
struct sent {
	uint32_t id;
	array_t *packets; /* chunk_t * */
};

struct known {
	uint64_t spi[2]; /* initiator's, responder's, as in packets */
	bool initiator; /* are we */
	bool live; /* charon has it, and it is established */
	bool gone; /* it has ended, the agent is being told */
	bool unsure; /* a message left before its record was committed */
	bool imported; /* another member had it before */
	bool resumes; /* `request` is another member's */
	bool offered; /* the peer has asked for RFC 6311 */
	bool syncing; /* Message IDs are being agreed on anew */
	bool asked; /* RFC 6311 has begun, since it was imported */
	bool doubtful; /* imported, and the peer may have seen more than the record says */
	bool unconfigured; /* given, but its connection is not loaded yet */
	bool dirty; /* the agent lacks the last record */
	uint64_t release_by; /* us: to be handed over, at the latest then; 0: not */
	uint32_t turn;
	uint64_t version, committed; /* of the last record; the newest that is committed */
	chunk_t key[RECORD_KEYS];
	chunk_t token; /* the peer's, RFC 6290 */
	uint32_t child_spi; /* of a Child SA that we are about to make */
	struct sent response, request; /* the last, the outstanding one */
	chunk_t body; /* the last record, with its Child SAs for the agent */
	uint16_t children_count;
	struct espalier_ike_child *children;
	array_t *parked; /* packet_t *, since the last record */
	struct held *held;
};

extern pthread_mutex_t known_lock;

void known_begin(void);
void known_end(void);

struct known *known_get(const uint64_t *spi);
struct known *known_of(ike_sa_t *sa);
struct known *known_make(const uint64_t *spi);
void known_forget(struct known *known);

/* For each: `act` may forget it. */
void known_each(void (*act)(struct known *known));

/* The SPIs of those, of which there are *ret_count; to be freed. Takes known_lock itself. */
struct espalier_ike_spis *known_list(
	bool (*which)(const struct known *known), unsigned int *ret_count);
unsigned int known_count(void);

void sent_clear(struct sent *sent);
/* Another packet of message `id`, or the first one of another. False: it was there. */
bool sent_add(struct sent *sent, uint32_t id, chunk_t packet);

#endif
