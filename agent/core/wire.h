/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * wire.h - the sync protocol's bytes: what a datagram inside the sync channel looks like.
 *
 * A datagram is a header and any number of messages. Integers are in network byte order. A datagram
 * that is a segment of the sender's stream is resent until acknowledged; another is sent once.
 *
 * The decoder trusts nothing: lengths, ranges and counts are checked, what is not understood is
 * refused.
 */
#ifndef WIRE_H
#define WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "core/bytes.h"
#include "core/table.h"
#include "core/view.h"

#define WIRE_VERSION 1
#define WIRE_MAX 1280 /* bytes of a datagram */
#define WIRE_HEADER 36 /* bytes */
#define WIRE_PAYLOAD (WIRE_MAX - WIRE_HEADER)
#define WIRE_DIGESTS 128 /* ranges in one WIRE_DIGEST message */

struct wire_header {
	uint8_t from, to; /* member ids */
	uint64_t stream; /* the sender's stream: the life of its agent, and how often it began anew
			    towards us */
	uint64_t ack_stream; /* the stream that `ack` speaks of; 0: none */
	bool segment; /* of the stream: its number is `seq` */
	uint32_t seq; /* from 1 on; wraps */
	uint32_t ack; /* all segments up to this one have arrived */
	uint64_t sack; /* bit i: segment ack + 2 + i has arrived too */
};

enum wire_kind {
	WIRE_HEARTBEAT = 1, /* struct wire_heartbeat */
	WIRE_RECORD = 2, /* all of a record, with its body */
	WIRE_STATE = 3, /* a record's top, seq and upto */
	WIRE_DIGEST = 4, /* some of the digests of the sender's table */
	WIRE_PULL = 5, /* send me what differs from the digests just sent */
	WIRE_PULLED = 6, /* that was all, for the PULL of this number */
};

enum wire_flags {
	WIRE_STARTED = 1, /* has looked for others, may be part of a view */
	WIRE_BARRED = 2, /* holds SAs it may not own: its journal was lost */
	WIRE_LINK_DOWN = 4, /* its outer or inner link is down */
	WIRE_LEAVING = 8, /* is being stopped */
};

struct wire_heartbeat {
	uint64_t settings; /* hash of the cluster-wide settings: members must agree */
	uint32_t journal; /* id of the sender's journal */
	uint16_t synced; /* members whose records the sender has */
	uint16_t knows; /* members whose MACs, as their present life told them, the sender has */
	uint8_t flags; /* enum wire_flags */
	struct view view;
	struct espalier_member macs;
};

struct wire_digest {
	uint16_t first, count;
	uint64_t values[WIRE_DIGESTS];
};

/* One decoded message. Pointers lead into the datagram. */
struct wire_message {
	enum wire_kind kind;
	struct wire_heartbeat heartbeat;
	struct wire_digest digest;
	uint32_t number; /* PULL and PULLED: which comparison */
	struct record record; /* RECORD and STATE: the replicated fields */
	const uint8_t *body;
	size_t body_len;
};

void wire_put_header(struct writer *w, const struct wire_header *h);
int wire_get_header(struct reader *r, struct wire_header *ret); /* -EBADMSG */

/* Each writes a whole message or none: then w->failed is set and w->at is where it was. */
void wire_put_heartbeat(struct writer *w, const struct wire_heartbeat *h);
void wire_put_record(struct writer *w, const struct record *r, const void *body, size_t body_len);
void wire_put_state(struct writer *w, const struct record *r);
void wire_put_digest(struct writer *w, const uint64_t *values, uint16_t first, uint16_t count);
void wire_put_number(struct writer *w, enum wire_kind kind, uint32_t number);

/* 1: a message, 0: the end, -EBADMSG. */
int wire_get(struct reader *r, struct wire_message *ret);

#endif
