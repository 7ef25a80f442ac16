/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * record.h - all that another member's charon needs to go on with an IKE SA, as bytes.
 *
 * The format is described once, in record.c, for both directions. Numbers are in network byte
 * order, except SPIs, which are as they are in packets; what has a length has it first. A list is a
 * run of encoded items that fills its bytes. Decoded, `struct bytes` point into the record.
 *
 * A record holds keys: who has one wipes it after use.
 */
#ifndef CHARON_RECORD_H
#define CHARON_RECORD_H

#include "core/bytes.h"

#define RECORD_FORMAT 1
#define RECORD_MAX 60000 /* bytes */
#define RECORD_KEYS 7 /* SK_d, ai, ar, ei, er, pi, pr */

/* Of IKE SAs and Child SAs. (charon's own numbers differ from version to version.) */
enum record_state {
	RECORD_ESTABLISHED = 1,
	RECORD_REKEYING = 2, /* by a request of ours */
	RECORD_REKEYED = 3, /* another one has replaced it */
	RECORD_DELETING = 4, /* by a request of ours */
	RECORD_DELETED = 5, /* a Child SA that is kept for packets that are under way */
};

struct bytes {
	const uint8_t *at;
	size_t len;
};

/* Of a proposal: type of the transform, its id, bits of its key (0: they are not said). */
struct record_transform {
	uint8_t type;
	uint16_t id, bits;
};

struct record_host {
	uint16_t port;
	struct bytes address; /* 4 or 16 bytes */
};

struct record_identity {
	uint8_t type; /* ID_* */
	struct bytes encoding;
};

/* Messages as they were sent: the last response, or the outstanding request. */
struct record_messages {
	uint32_t id;
	struct bytes packets; /* list of packets: none, one, or all fragments of one message */
};

/* Times are in seconds of UNIX time, 0: never. */
struct record_ike {
	uint64_t spi[2]; /* initiator's, responder's */
	uint8_t initiator, state; /* are we; enum record_state */
	uint32_t send, receive; /* Message IDs of the next request either way */
	uint32_t conditions, extensions;
	uint32_t established, rekey, reauthenticate, end;
	struct bytes proposal; /* list of transforms */
	struct bytes key[RECORD_KEYS];
	struct record_identity me, other, eap; /* eap: type 0 if it is `other` */
	struct record_host here, there;
	struct bytes name; /* of the connection */
	struct bytes token; /* the peer's, for quick crash detection (RFC 6290) */
	struct bytes peer_addresses, here_virtual, there_virtual; /* lists of hosts */
	struct bytes children; /* list */
	struct record_messages response, request;
	uint32_t request_spi; /* of the Child SA that the outstanding request is about to make, or 0
			       */
};

struct record_selector {
	uint8_t type, protocol;
	uint16_t from_port, to_port;
	struct bytes from, to;
};

struct record_child {
	uint32_t spi[2], rekeyed; /* in, out; the SPI of the one that replaces it */
	uint16_t cpi[2];
	uint8_t protocol, mode, ipcomp, encapsulated, state, outbound;
	uint8_t close_action, dpd_action;
	uint32_t reqid;
	uint32_t mark[2], if_id[2]; /* in, out */
	struct bytes name;
	struct bytes proposal; /* list of transforms */
	struct bytes here, there; /* lists of selectors */
};

/* Writes; w->failed if it does not fit. */
void record_put(struct writer *w, const struct record_ike *ike);
void record_put_child(struct writer *w, const struct record_child *child);
void record_put_transform(struct writer *w, const struct record_transform *transform);
void record_put_host(struct writer *w, const struct record_host *host);
void record_put_selector(struct writer *w, const struct record_selector *selector);
void record_put_packet(struct writer *w, struct bytes packet);

/* Reads a whole record, also all of its lists, so that going through these cannot fail. False: it
 * is malformed. */
bool record_get(const uint8_t *body, size_t len, struct record_ike *ret);

/* The next of a list; false at its end. */
struct reader record_list(struct bytes list);
bool record_next_child(struct reader *list, struct record_child *ret);
bool record_next_transform(struct reader *list, struct record_transform *ret);
bool record_next_host(struct reader *list, struct record_host *ret);
bool record_next_selector(struct reader *list, struct record_selector *ret);
bool record_next_packet(struct reader *list, struct bytes *ret);

#endif
