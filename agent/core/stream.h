/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stream.h - one end of the acknowledged, ordered stream between two members, over datagrams that
 * may be lost, repeated or overtaken. A window of segments; cumulative and selective
 * acknowledgement; resend with back-off, or as soon as something sent later has arrived.
 *
 * What does not fit the window waits as marks on records, not as bytes (outbox.c): memory is
 * bounded, and what changed twice is sent once.
 */
#ifndef STREAM_H
#define STREAM_H

#include "core/wire.h"

#define STREAM_WINDOW 64 /* segments under way */

struct segment {
	uint8_t *bytes; /* payload; wiped before it is freed, since it may hold keys */
	size_t len;
	uint64_t sent_us, resend_us; /* last sent; wait before it is sent again */
};

struct stream {
	/* Sending: segments acked + 1 .. next - 1 are under way, at index seq % STREAM_WINDOW. */
	uint64_t id;
	uint32_t next, acked;
	uint64_t resend_us; /* first wait */
	uint64_t resent; /* counter */
	uint64_t due_us; /* nothing is to be sent, or sent again, before */
	unsigned int behind; /* headers in a row that acknowledge less than some before did */

	/* Receiving: the other's stream, what has arrived in order, how much has arrived early. */
	uint64_t heard_id;
	uint32_t earlier_life; /* the other's, before that one; 0: none */
	uint32_t heard;
	unsigned int early_count;
	bool ack_due;

	struct segment sending[STREAM_WINDOW], early[STREAM_WINDOW];
};

/* id: not 0, and greater than the last one of the same life. */
void stream_init(struct stream *s, uint64_t id, uint64_t resend_us);
void stream_free(struct stream *s); /* wipes */

/* Begins anew with the next id, forgetting what was under way. */
void stream_restart(struct stream *s);

bool stream_room(const struct stream *s);
bool stream_idle(const struct stream *s); /* all that was sent has been acknowledged */

/* Takes a copy of a payload as the next segment; stream_next() then sends it. 0 or -ENOMEM,
 * -ENOBUFS. */
int stream_push(struct stream *s, const void *payload, size_t len);

/* Gives the next segment to send or to send again; false: none is due. The payload stays the
 * stream's. */
bool stream_next(struct stream *s, uint64_t now_us, uint32_t *ret_seq, const uint8_t **ret_payload,
	size_t *ret_len);

/* Fills in stream, ack_stream, ack and sack. */
void stream_header(struct stream *s, struct wire_header *h);

/* What a header says of the other end. */
enum stream_heard {
	STREAM_GOES_ON,
	STREAM_NEW, /* the other end began anew; ours goes on */
	STREAM_NEW_LIFE, /* the other's agent restarted: it knows nothing of our stream */
	STREAM_TWO_LIVES, /* likewise; but it is an earlier life, that was heard before the last
			     one: the other's id is there twice */
	STREAM_OLD, /* left over from before: to be ignored */
	STREAM_LOST, /* the other end knows nothing of ours any more: it has heard another life of
			our id since, that of a clone */
};

enum stream_heard stream_hear(struct stream *s, const struct wire_header *h);

/* Is it the one that is to be taken next? Then it need not be kept: stream_taken(). */
bool stream_is_next(const struct stream *s, uint32_t seq);

/* A segment's payload: kept if early, dropped if known. Then take what is in order with
 * stream_take(). */
void stream_arrived(struct stream *s, uint32_t seq, const void *payload, size_t len);

/* The next payload in order, to be given back with stream_taken(); NULL: none. */
const uint8_t *stream_take(struct stream *s, size_t *ret_len);
void stream_taken(struct stream *s);

#endif
