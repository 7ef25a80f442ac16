/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * audit.c - compares what the kernel holds with what the core takes it to hold: now and then, since
 * anybody may change the one without the other, and at once after kernel events were lost. A
 * bounded part of it in each turn of the loop.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"

#define SLOTS 4096 /* looked at in one turn */
#define DOUBTS 64 /* asked of the kernel in one turn */
#define DRAINS 16 /* reads of kernel events in one turn */
#define AGAIN_US 1000000 /* after one that failed, if events were lost before it */

static bool is_due(struct audit *audit, uint64_t now_us)
{
	return audit->asked || audit->events_lost || audit->gap || now_us >= audit->due_us;
}

static void end(struct agent *a, uint64_t now_us)
{
	free(a->audit.seen);
	a->audit.seen = NULL;
	a->audit.phase = AUDIT_IDLE;
	a->audit.due_us = now_us + a->config.audit_us;
}

static void fail(struct agent *a, uint64_t now_us, int r)
{
	agent_say("cannot compare the kernel's SAs and policies with ours: %s", strerror(-r));
	end(a, now_us);
	if (a->audit.after_loss || a->audit.unguarded)
		a->audit.due_us = now_us + AGAIN_US; /* and what is missing may still be deleted */
}

static void begin(struct agent *a, uint64_t now_us)
{
	struct audit *audit = &a->audit;
	int r = xfrm_dump_begin(a->xfrm);

	local_begin(a);
	local_policy_begin(a);
	audit->cursor = 0;
	audit->after_loss |= audit->events_lost;
	audit->asked = audit->events_lost = false;
	audit->unguarded |= audit->gap;
	audit->gap = false;
	audit->seen = calloc(member_table(a->member)->slots / AUDIT_BITS + 1, sizeof(*audit->seen));
	audit->phase = AUDIT_READING;
	if (audit->after_loss && !audit->flushed)
		agent_say("kernel events were lost: reading its SAs and policies again");
	if (r < 0 || !audit->seen)
		fail(a, now_us, r < 0 ? r : -ENOMEM);
}

static void read_on(struct agent *a, uint64_t now_us)
{
	int r;

	a->audit.reading = true;
	r = xfrm_dump_step(a->xfrm);
	a->audit.reading = false;
	if (r < 0)
		fail(a, now_us, r);
	if (r != 0)
		return;
	r = xfrm_dump_error(a->xfrm);
	if (r < 0) {
		agent_say("an SA or policy cannot be read from the kernel: %s", strerror(-r));
	} else {
		local_end(a);
		local_policy_end(a);
	}
	a->audit.phase = AUDIT_JUDGING;
}

static bool was_seen(const struct audit *audit, uint32_t slot)
{
	return audit->seen[slot / AUDIT_BITS] >> slot % AUDIT_BITS & 1;
}

/* It came or went while the kernel was read: what holds is what is there now. */
static bool is_there(struct agent *a, const struct record_key *key)
{
	uint8_t body[RECORD_BODY_MAX];
	int r = xfrm_read(a->xfrm, key, body, sizeof(body));

	explicit_bzero(body, sizeof(body));
	return r != -ENOENT;
}

/* Whatever was deleted up to now has been told to the core. */
static bool drain(struct agent *a)
{
	struct pollfd events = {.fd = xfrm_fd(a->xfrm), .events = POLLIN};

	for (unsigned int i = 0; i < DRAINS; i++) {
		events_kernel(a);
		if (poll(&events, 1, 0) == 0)
			return true;
	}
	return false;
}

/* What the kernel lacks and has not been told to be gone was taken away behind our back; unless
 * events were lost, then it may have been deleted in order. A flush tells of all at once. */
static void judge(struct agent *a, uint64_t now_us)
{
	struct audit *audit = &a->audit;
	const struct table *t = member_table(a->member);
	uint32_t slot = audit->cursor, last = slot + SLOTS < t->high ? slot + SLOTS : t->high;
	struct record_key lacking[DOUBTS];
	unsigned int doubts = 0, n = 0;

	for (; slot < last && doubts < DOUBTS; slot++) {
		const struct record *r = table_at(t, slot);

		if (!r || r->life != RECORD_ALIVE || !r->installed || was_seen(audit, slot))
			continue;
		doubts++;
		if (!is_there(a, &r->key))
			lacking[n++] = r->key;
	}
	if (n && !drain(a))
		return; /* so much goes on that we look again */
	for (unsigned int i = 0; i < n; i++) {
		if (audit->flushed)
			member_flushed(a->member, &lacking[i]);
		else if (audit->after_loss || audit->events_lost)
			member_removed(a->member, &lacking[i]);
		else
			member_missing(a->member, &lacking[i]);
	}
	audit->cursor = slot;
	if (slot < t->high)
		return;
	audit->after_loss = audit->unguarded = false;
	audit->flushed = audit->events_lost; /* another one since */
	end(a, now_us);
}

bool audit_turn(struct agent *a, uint64_t now_us)
{
	switch (a->audit.phase) {
	case AUDIT_IDLE:
		if (!is_due(&a->audit, now_us))
			return false;
		begin(a, now_us);
		break;
	case AUDIT_READING:
		read_on(a, now_us);
		break;
	case AUDIT_JUDGING:
		judge(a, now_us);
		break;
	}
	return a->audit.phase != AUDIT_IDLE;
}
