/* SPDX-License-Identifier: BSD-2-Clause */
/* happened.c - what has happened of late: a ring that espalierctl events shows. */
#include <json-c/json.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "agent.h"

#define LOOK_EVERY_US 1000000

static const char *const kinds[] = {
	[HAPPENED_VIEW] = "view",
	[HAPPENED_TAKEOVER] = "takeover",
	[HAPPENED_FENCE] = "fence",
	[HAPPENED_REPAIR] = "repair",
};

void happened(struct agent *a, enum happened_kind kind, const char *format, ...)
{
	struct happened *h = &a->happenings.ring[a->happenings.count % HAPPENED_MAX];
	struct timespec now;
	va_list args;

	clock_gettime(CLOCK_REALTIME, &now);
	h->at_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
	h->kind = kind;
	va_start(args, format);
	vsnprintf(h->text, sizeof(h->text), format, args);
	va_end(args);
	a->happenings.count++;
}

/* What only its counters tell. */
void happened_tick(struct agent *a, uint64_t now_us)
{
	struct happenings *h = &a->happenings;
	const struct member_counters *c = member_counters(a->member);
	uint32_t lost = member_fenced_for(a->member, FENCE_JOURNAL_LOST);

	if (now_us < h->look_due_us)
		return;
	h->look_due_us = now_us + LOOK_EVERY_US;
	if (c->repaired > h->repaired)
		happened(a, HAPPENED_REPAIR,
			"%llu records were sent since a comparison found a difference",
			(unsigned long long)(c->repaired - h->repaired));
	if (c->missing > h->missing)
		happened(a, HAPPENED_REPAIR,
			"%llu records were not in the kernel any more, and nobody had said so",
			(unsigned long long)(c->missing - h->missing));
	if (lost > h->fenced)
		happened(a, HAPPENED_FENCE,
			"%u SAs are shut here until they are rekeyed: they are older than the "
			"journal",
			lost - h->fenced);
	h->repaired = c->repaired;
	h->missing = c->missing;
	h->fenced = lost;
}

struct json_object *happened_json(const struct agent *a)
{
	const struct happenings *all = &a->happenings;
	struct json_object *array = json_object_new_array();

	for (uint64_t i = all->count > HAPPENED_MAX ? all->count - HAPPENED_MAX : 0; i < all->count;
		i++) {
		const struct happened *h = &all->ring[i % HAPPENED_MAX];
		struct json_object *o = json_object_new_object();

		json_object_object_add(o, "number", json_object_new_uint64(i));
		json_object_object_add(o, "at_ms", json_object_new_uint64(h->at_ms));
		json_object_object_add(o, "event", json_object_new_string(kinds[h->kind]));
		json_object_object_add(o, "text", json_object_new_string(h->text));
		json_object_array_add(array, o);
	}
	return array;
}
