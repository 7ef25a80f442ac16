/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * audit.c - compares what the kernel holds with what the core takes it to hold, since anybody may
 * change the one without the other. A bounded part of it in each turn of the loop.
 *
 * At once, as fast as it goes, if something has happened: events were lost, the guard was not
 * there, or the kernel holds fewer SAs and policies than we know (it is asked for their number
 * every second, which costs the same however many they are).
 *
 * Else every `Audit`, by parts between which it rests, so that it takes less than 1 % of a
 * processor: a million SAs take minutes then. A dump may be held open for that long: the kernel
 * keeps a place in its list, in the front of which it puts what is new. So what is there from the
 * beginning to the end is told once. What is made behind that place is not told, or doubted in the
 * end and asked for singly; what is deleted is told by events; and what a part tells may have
 * changed while it waited to be read, so that the kernel is asked again for all that is not as the
 * core has it (events_kernel.c).
 *
 * What it sees late only: an SA that is gone, or another one, while as many others are there that
 * are not the cluster's. If ESP comes for it, bpf/miss.bpf.c sees it at once. A counter that runs
 * out of our blocks where the guard is, the guard sees.
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
#define SHARE 125 /* of the time it works, the rest it rests */
#define LATE_US 1000000 /* a loop that is late by so much may make up for it */
#define COUNT_EVERY_US 1000000
#define FEWER 2 /* times in turn that the kernel holds fewer: then some are gone */

/* Something has happened. */
static bool is_urgent(const struct audit *audit)
{
	return audit->asked || audit->events_lost || audit->gap;
}

static void end(struct agent *a)
{
	free(a->audit.seen);
	a->audit.seen = NULL;
	a->audit.phase = AUDIT_IDLE;
}

static void fail(struct agent *a, uint64_t now_us, int r)
{
	agent_say("cannot compare the kernel's SAs and policies with ours: %s", strerror(-r));
	end(a);
	if (a->audit.after_loss || a->audit.unguarded)
		a->audit.due_us = now_us + AGAIN_US; /* and what is missing may still be deleted */
}

static void begin(struct agent *a, uint64_t now_us)
{
	struct audit *audit = &a->audit;
	int r = xfrm_dump_begin(a->xfrm);

	local_begin(a);
	local_policy_begin(a);
	free(audit->seen);
	audit->due_us = now_us + a->config.audit_us;
	audit->hurried = is_urgent(audit);
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
static void judge(struct agent *a)
{
	struct audit *audit = &a->audit;
	const struct table *t = member_table(a->member);
	uint32_t slot = audit->cursor, last = slot + SLOTS < t->high ? slot + SLOTS : t->high;
	struct record_key lacking[DOUBTS];
	unsigned int doubts = 0, n = 0;

	for (; slot < last && doubts < DOUBTS; slot++) {
		const struct record *r = table_at(t, slot);

		if (!r || r->life != RECORD_ALIVE || !record_is_installed(r) ||
			was_seen(audit, slot))
			continue;
		doubts++; /* it came or went while the kernel was read */
		if (!events_kernel_has(a, &r->key))
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
	end(a);
}

static void work(struct agent *a, uint64_t now_us)
{
	if (a->audit.phase == AUDIT_READING)
		read_on(a, now_us);
	else
		judge(a);
}

/* As much of it as fits into its share of the time. */
static void work_and_rest(struct agent *a, uint64_t now_us)
{
	struct audit *audit = &a->audit;
	uint64_t cpu_us = agent_cpu_us();

	if (now_us < audit->rest_us)
		return;
	work(a, now_us);
	if (audit->rest_us + LATE_US < now_us)
		audit->rest_us = now_us - LATE_US;
	audit->rest_us += (agent_cpu_us() - cpu_us) * SHARE;
}

/* What happens between looking there and looking here makes a difference, but not twice. */
static bool lacks_some(struct agent *a)
{
	const struct table *t = member_table(a->member);
	uint32_t n;

	return drain(a) && xfrm_count(a->xfrm, &n) == 0 && n < t->present && drain(a) &&
	       n < t->present;
}

static void count(struct agent *a, uint64_t now_us)
{
	struct audit *audit = &a->audit;

	if (now_us < audit->count_us)
		return;
	audit->count_us = now_us + COUNT_EVERY_US;
	audit->fewer = lacks_some(a) ? audit->fewer + 1 : 0;
	if (audit->fewer != FEWER)
		return;
	agent_say("the kernel holds fewer SAs and policies than are known: comparing them");
	audit->asked = true;
}

bool audit_turn(struct agent *a, uint64_t now_us)
{
	struct audit *audit = &a->audit;

	if (audit->phase != AUDIT_IDLE && audit->hurried) {
		work(a, now_us);
		return audit->phase != AUDIT_IDLE;
	}
	count(a, now_us);
	if (is_urgent(audit) || (audit->phase == AUDIT_IDLE && now_us >= audit->due_us))
		begin(a, now_us);
	else if (audit->phase != AUDIT_IDLE)
		work_and_rest(a, now_us);
	return audit->phase != AUDIT_IDLE && (audit->hurried || audit->rest_us <= now_us);
}
