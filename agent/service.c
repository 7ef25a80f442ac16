/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * service.c - what the service manager is told (sd_notify(3)): ready, once the agent follows a
 * view, so that an IKE daemon that is ordered after it finds a guard; that its loop goes round; and
 * in a line how it stands.
 */
#include "agent.h"

#include <stdio.h>
#include <string.h>

#include "io/notify.h"

#define STATUS_US 1000000

static void tell(struct agent *a, const char *lines)
{
	int r = notify_send(lines);

	if (r < 0 && !a->service.failed)
		agent_say("the service manager cannot be told how we are: %s", strerror(-r));
	a->service.failed = r < 0;
}

void service_begin(struct agent *a)
{
	a->service.watchdog_us = notify_watchdog_us() / 2;
}

static void describe(const struct agent *a, char *ret, size_t size)
{
	const struct view *view = member_view(a->member);
	unsigned int owned = 0;

	for (unsigned int bucket = 0; bucket < ESPALIER_BUCKETS; bucket++)
		owned += member_owner(a->member, (uint16_t)bucket) == a->config.id;
	if (!view->live)
		snprintf(ret, size, "STATUS=follows no view yet");
	else if (!(view->live >> a->config.id & 1))
		snprintf(ret, size, "STATUS=follows view %llu, but is not in it%s%s",
			(unsigned long long)view->epoch, a->forward.lack[0] ? ": " : "",
			a->forward.lack);
	else
		snprintf(ret, size, "STATUS=in view %llu, with %u members; owns %u of %d buckets",
			(unsigned long long)view->epoch,
			(unsigned int)__builtin_popcount(view->live), owned, ESPALIER_BUCKETS);
}

void service_tick(struct agent *a, uint64_t now_us)
{
	struct service *s = &a->service;
	char status[sizeof(s->status)];

	if (!s->ready && member_view(a->member)->live) {
		s->ready = true;
		tell(a, "READY=1");
	}
	if (s->watchdog_us && now_us >= s->watchdog_due_us) {
		s->watchdog_due_us = now_us + s->watchdog_us;
		tell(a, "WATCHDOG=1");
	}
	if (now_us < s->status_due_us)
		return;
	s->status_due_us = now_us + STATUS_US;
	describe(a, status, sizeof(status));
	if (strcmp(status, s->status) == 0)
		return;
	memcpy(s->status, status, sizeof(s->status));
	tell(a, status);
}

void service_stop(struct agent *a)
{
	tell(a, "STOPPING=1\nSTATUS=hands over to the other members");
}
