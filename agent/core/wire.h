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

#include "core/address.h"
#include "core/bytes.h"
#include "core/ike.h"
#include "core/table.h"
#include "core/view.h"

#define WIRE_VERSION 4
#define WIRE_MAX 1280 /* bytes of a datagram */
#define WIRE_HEADER 36 /* bytes */
#define WIRE_SACK_NEXT (1ULL << 63)
#define WIRE_PAYLOAD (WIRE_MAX - WIRE_HEADER)
#define WIRE_DIGESTS 128 /* values in one message of digests */
#define WIRE_RECORD_MAX                                                                            \
	(RECORD_BODY_MAX +                                                                         \
		304) /* bytes, before packing; SAs have no selector, policies no blocks */

struct wire_header {
	uint8_t from, to; /* member ids */
	uint64_t stream; /* the sender's stream: the life of its agent, and how often it began anew
			    towards us */
	uint64_t ack_stream; /* the stream that `ack` speaks of; 0: none */
	bool segment; /* of the stream: its number is `seq` */
	uint32_t seq; /* from 1 on; wraps */
	uint32_t ack; /* all segments up to this one have arrived */
	uint64_t sack; /* bit i: segment ack + 2 + i has arrived too; WIRE_SACK_NEXT: ack + 1, and
			  waits to be taken */
};

enum wire_kind {
	WIRE_HEARTBEAT = 1, /* struct wire_heartbeat */
	WIRE_RECORD = 2, /* all of a record, with its body; packed */
	WIRE_STATE = 3, /* an SA's top, seq, used, upto and journals; packed */
	WIRE_POSITION = 4, /* an inbound SA's seq */
	/* A comparison (compare.c). */
	WIRE_DIGEST = 5, /* digests of ranges of the sender's table */
	WIRE_PULL = 6, /* send me what differs from the digests just sent */
	WIRE_LEAVES = 7, /* these ranges differ: the digests of their leaves */
	WIRE_LEAVES_END = 8, /* those were all */
	WIRE_HAVE = 9, /* this leaf differs: the digests of my records in it */
	WIRE_HAVE_END = 10, /* those were all */
	WIRE_PULLED = 11, /* you have been sent all, for the PULL of this number */
	/* Outside the stream, as heartbeats are. */
	WIRE_ASK = 12, /* do you have the SA of this key? */
	WIRE_LACK = 13, /* no */
	WIRE_USAGE = 14, /* in the stream: a limited SA's seq and used */
	WIRE_IKE = 15, /* a piece of an IKE SA's record; those of one follow each other */
	WIRE_ORDER = 20, /* outside: an administrator wants you to own or not, enum wire_order */
};

enum wire_order {
	ORDER_OWN, /* as all do */
	ORDER_YIELD, /* only if nobody else can */
	ORDER_DRAIN, /* nothing */
};

enum wire_flags {
	WIRE_STARTED = 1, /* has looked for others, may be part of a view */
	WIRE_HANDS = 2, /* knows the flags and orders below: earlier versions do not */
	WIRE_LINK_DOWN = 4, /* its outer or inner link is down */
	WIRE_LEAVING = 8, /* is being stopped */
	WIRE_DRAINED = 16, /* is to own nothing */
	WIRE_HANDING = 32, /* publishes, and is about to: buckets change hands (handover.c) */
	WIRE_READY = 64, /* for that */
	WIRE_YIELDS = 128, /* is to own something only if nobody else can */
	WIRE_IKE_READY = 256, /* its IKE daemon can go on with IKE SAs */
	WIRE_IKE_LOST = 512, /* it had one, which has been gone for a while */
};

/* A member's own, on its outer and inner interface. All zero: none. */
struct wire_macs {
	uint8_t outer[6], inner[6];
};

struct wire_heartbeat {
	uint64_t settings; /* hash of the cluster-wide settings: members must agree */
	uint32_t journal; /* id of the sender's journal */
	uint32_t records; /* alive and in the sender's kernel */
	uint16_t synced; /* members whose records the sender has */
	uint16_t doubled; /* members that the sender has seen to be there twice */
	uint16_t knows; /* members whose MACs, as their present life told them, the sender has */
	uint16_t flags; /* enum wire_flags */
	struct view view;
	struct wire_macs macs;
};

struct wire_digest {
	uint16_t first; /* DIGEST, LEAVES: of which range or leaf the first value is; HAVE: leaf */
	uint16_t count;
	uint64_t values[WIRE_DIGESTS];
};

/* A piece of a record: `len` bytes of its body, from `offset` on. */
struct wire_ike {
	struct ike_head head;
	uint32_t total, offset; /* bytes: of the body; of it before these */
	const uint8_t *bytes; /* in the datagram; may be keys */
	size_t len;
};

/* One decoded message; what does not belong to its kind is undefined. */
struct wire_message {
	enum wire_kind kind;
	union {
		struct wire_heartbeat heartbeat;
		struct wire_digest digest;
		uint32_t number; /* of a comparison: PULL, the ENDs and PULLED; ORDER */
		struct record_key key; /* ASK, LACK */
		struct wire_ike ike;
		struct {
			uint64_t name; /* table_name() */
			uint64_t seq;
			struct record_usage used; /* POSITION: 0 */
		} position; /* POSITION, USAGE */
		struct {
			struct record record; /* RECORD and STATE: the replicated fields */
			const uint8_t *body; /* in `unpacked` */
			size_t body_len;
			uint8_t unpacked[WIRE_RECORD_MAX]; /* may hold keys: to be wiped */
		};
	};
};

void wire_put_header(struct writer *w, const struct wire_header *h);
int wire_get_header(struct reader *r, struct wire_header *ret); /* -EBADMSG */

/* Each writes a whole message or none: then w->failed is set and w->at is where it was. */
void wire_put_heartbeat(struct writer *w, const struct wire_heartbeat *h);
void wire_put_record(struct writer *w, const struct record *r, const void *body, size_t body_len);
void wire_put_state(struct writer *w, const struct record *r);
void wire_put_position(struct writer *w, uint64_t name, uint64_t seq);
void wire_put_usage(struct writer *w, uint64_t name, uint64_t seq, const struct record_usage *used);
/* DIGEST, LEAVES or HAVE; count: at most WIRE_DIGESTS. */
void wire_put_digest(struct writer *w, enum wire_kind kind, uint16_t first, const uint64_t *values,
	uint16_t count);
void wire_put_key(struct writer *w, enum wire_kind kind, const struct record_key *key);
/* As many bytes from `offset` on as fit, of a whole body; returns how many. */
size_t wire_put_ike(struct writer *w, const struct ike_head *head, const uint8_t *body,
	uint32_t total, uint32_t offset);
void wire_put_number(struct writer *w, enum wire_kind kind, uint32_t number);

/* 1: a message, 0: the end, -EBADMSG. Wipe *ret when done with all: it may have held keys. */
int wire_get(struct reader *r, struct wire_message *ret);

#endif
