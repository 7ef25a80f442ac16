/* SPDX-License-Identifier: BSD-2-Clause */
/* control_policy.c - the policies: those that all members have, then those that stay here. */
#include <json-c/json.h>
#include <stdlib.h>

#include "agent.h"

#define POLICIES_PER_PACKET 256 /* of some 300 bytes */

static struct json_object *named(const char *text)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "policy", json_object_new_string(text));
	return o;
}

static struct json_object *copied(const struct record *r)
{
	char text[XFRM_TEXT];
	struct json_object *o;

	xfrm_policy_text(r->body, r->body_len, text, sizeof(text));
	o = named(text);
	json_object_object_add(o, "made_by", json_object_new_int(r->author));
	json_object_object_add(o, "made_here", json_object_new_boolean(r->origin == RECORD_HERE));
	json_object_object_add(o, "installed", json_object_new_boolean(record_is_installed(r)));
	return o;
}

static struct json_object *staying(const struct local_policy *p)
{
	struct json_object *o = named(p->text);

	json_object_object_add(o, "local", json_object_new_string(p->why));
	return o;
}

struct json_object *control_policies(const struct agent *a, const char *from)
{
	const struct local_policies *l = &a->local_policies;
	const struct table *t = member_table(a->member);
	struct json_object *o = json_object_new_object(), *array = json_object_new_array();
	uint32_t slot = (uint32_t)strtoul(from, NULL, 10);
	unsigned int n = 0;

	for (; slot < t->high && n < POLICIES_PER_PACKET; slot++) {
		const struct record *r = table_at(t, slot);

		if (!r || r->life != RECORD_ALIVE || r->key.kind != RECORD_POLICY || !r->body)
			continue;
		json_object_array_add(array, copied(r));
		n++;
	}
	if (slot >= t->high && slot < t->slots)
		slot = t->slots;
	for (; slot - t->slots < l->count && n < POLICIES_PER_PACKET; slot++, n++)
		json_object_array_add(array, staying(&l->policies[slot - t->slots]));
	json_object_object_add(o, "policies", array);
	if (slot < t->high || slot - t->slots < l->count)
		json_object_object_add(o, "next", json_object_new_int64(slot));
	return o;
}
