/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BEHIND 16 /* more than a network puts out of order */

#define BACK_OFF                                                                                   \
	8 /* the longest wait, in first waits: a member that does not answer is soon held for dead \
	     anyway */

static void drop(struct segment *segment)
{
	if (segment->bytes)
		explicit_bzero(segment->bytes, segment->len);
	free(segment->bytes);
	*segment = (struct segment){0};
}

static int keep(struct segment *segment, const void *payload, size_t len)
{
	uint8_t *copy = malloc(len ? len : 1);

	if (!copy)
		return -ENOMEM;
	memcpy(copy, payload, len);
	*segment = (struct segment){.bytes = copy, .len = len};
	return 0;
}

void stream_init(struct stream *s, uint64_t id, uint64_t resend_us)
{
	*s = (struct stream){.id = id, .next = 1, .resend_us = resend_us};
}

static void drop_all(struct segment *segments)
{
	for (unsigned int i = 0; i < STREAM_WINDOW; i++)
		drop(&segments[i]);
}

void stream_free(struct stream *s)
{
	drop_all(s->sending);
	drop_all(s->early);
}

void stream_restart(struct stream *s)
{
	drop_all(s->sending);
	s->id++;
	s->next = 1;
	s->acked = s->behind = 0;
}

bool stream_room(const struct stream *s)
{
	return s->next - s->acked - 1 < STREAM_WINDOW;
}

bool stream_idle(const struct stream *s)
{
	return s->next - s->acked == 1;
}

int stream_push(struct stream *s, const void *payload, size_t len)
{
	int r;

	if (!stream_room(s))
		return -ENOBUFS;
	r = keep(&s->sending[s->next % STREAM_WINDOW], payload, len);
	if (r < 0)
		return r;
	s->next++;
	s->due_us = 0;
	return 0;
}

bool stream_next(struct stream *s, uint64_t now_us, uint32_t *ret_seq, const uint8_t **ret_payload,
	size_t *ret_len)
{
	uint64_t due_us = UINT64_MAX;

	if (now_us < s->due_us)
		return false;
	for (uint32_t seq = s->acked + 1; seq != s->next; seq++) {
		struct segment *segment = &s->sending[seq % STREAM_WINDOW];
		uint64_t again_us = segment->sent_us + segment->resend_us;

		if (!segment->bytes)
			continue;
		if (segment->sent_us && now_us < again_us) {
			due_us = again_us < due_us ? again_us : due_us;
			continue;
		}
		if (segment->sent_us) {
			s->resent++;
			segment->resend_us *= 2;
			if (segment->resend_us < s->resend_us)
				segment->resend_us = s->resend_us;
			if (segment->resend_us > BACK_OFF * s->resend_us)
				segment->resend_us = BACK_OFF * s->resend_us;
		} else {
			segment->resend_us = s->resend_us;
		}
		segment->sent_us = now_us;
		*ret_seq = seq;
		*ret_payload = segment->bytes;
		*ret_len = segment->len;
		return true;
	}
	s->due_us = due_us;
	return false;
}

void stream_header(struct stream *s, struct wire_header *h)
{
	unsigned int left = s->early_count;

	h->stream = s->id;
	h->ack_stream = s->heard_id;
	h->ack = s->heard;
	h->sack = 0;
	if (left && s->early[(s->heard + 1) % STREAM_WINDOW].bytes) {
		h->sack |= WIRE_SACK_NEXT;
		left--;
	}
	for (unsigned int i = 0; left && i + 2 <= STREAM_WINDOW; i++)
		if (s->early[(s->heard + 2 + i) % STREAM_WINDOW].bytes) {
			h->sack |= 1ULL << i;
			left--;
		}
	s->ack_due = false;
}

/* What arrived although it was sent later than a segment that did not: that one is lost. It does
 * not wait any longer, since all that follows waits for it. */
static void resend_before(struct stream *s, uint64_t sent_us)
{
	s->due_us = 0;
	for (uint32_t seq = s->acked + 1; seq != s->next; seq++) {
		struct segment *segment = &s->sending[seq % STREAM_WINDOW];

		if (segment->bytes && segment->sent_us && segment->sent_us < sent_us)
			segment->resend_us = 0;
	}
}

/* It has acknowledged the next segment, which we have dropped, and has it no more. */
static bool has_forgotten(const struct stream *s, const struct wire_header *h)
{
	return !stream_idle(s) && !s->sending[(s->acked + 1) % STREAM_WINDOW].bytes &&
	       !(h->sack & WIRE_SACK_NEXT);
}

static void acknowledged(struct stream *s, const struct wire_header *h)
{
	uint64_t latest_us = 0;

	if (h->ack_stream != s->id)
		return;
	if (h->ack - s->acked >= s->next - s->acked) {
		s->behind++;
		return;
	}
	while (s->acked != h->ack)
		drop(&s->sending[++s->acked % STREAM_WINDOW]);
	for (uint64_t sack = h->sack; sack; sack &= sack - 1) {
		uint32_t seq = s->acked + 2 + (uint32_t)__builtin_ctzll(sack);
		struct segment *segment = &s->sending[seq % STREAM_WINDOW];

		if (seq - s->acked >= s->next - s->acked)
			continue;
		if (segment->sent_us > latest_us)
			latest_us = segment->sent_us;
		drop(segment);
	}
	s->behind = has_forgotten(s, h) ? s->behind + 1 : 0;
	if (latest_us)
		resend_before(s, latest_us);
}

/* A stream's id: the upper half is drawn by each life of an agent, the lower half counts. */
static bool same_life(uint64_t a, uint64_t b)
{
	return a >> 32 == b >> 32;
}

enum stream_heard stream_hear(struct stream *s, const struct wire_header *h)
{
	enum stream_heard heard = STREAM_GOES_ON;

	if (h->stream != s->heard_id) {
		if (same_life(h->stream, s->heard_id) && h->stream < s->heard_id)
			return STREAM_OLD;
		heard = STREAM_NEW;
		if (!same_life(h->stream, s->heard_id)) {
			heard = h->stream >> 32 == s->earlier_life ? STREAM_TWO_LIVES
								   : STREAM_NEW_LIFE;
			s->earlier_life = (uint32_t)(s->heard_id >> 32);
		}
		s->heard_id = h->stream;
		s->heard = 0;
		s->early_count = 0;
		drop_all(s->early);
	}
	acknowledged(s, h);
	if (heard == STREAM_GOES_ON && s->behind > BEHIND)
		return STREAM_LOST;
	return heard;
}

bool stream_is_next(const struct stream *s, uint32_t seq)
{
	return seq == s->heard + 1 && !s->early[seq % STREAM_WINDOW].bytes;
}

void stream_arrived(struct stream *s, uint32_t seq, const void *payload, size_t len)
{
	struct segment *segment = &s->early[seq % STREAM_WINDOW];

	s->ack_due = true;
	if (seq - s->heard - 1 >= STREAM_WINDOW || segment->bytes)
		return;
	if (keep(segment, payload, len) == 0) /* no memory: as if lost, it will be sent again */
		s->early_count++;
}

const uint8_t *stream_take(struct stream *s, size_t *ret_len)
{
	const struct segment *segment = &s->early[(s->heard + 1) % STREAM_WINDOW];

	if (!s->early_count)
		return NULL;
	*ret_len = segment->len;
	return segment->bytes;
}

void stream_taken(struct stream *s)
{
	struct segment *segment = &s->early[++s->heard % STREAM_WINDOW];

	s->early_count -= segment->bytes != NULL;
	s->ack_due = true;
	drop(segment);
}
