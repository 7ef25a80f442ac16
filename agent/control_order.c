/* SPDX-License-Identifier: BSD-2-Clause */
/* control_order.c - "drain", "undrain" and "failover": what an administrator wants members to own,
 * or why not. */
#include <errno.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"

#define WHY 512

__attribute__((format(printf, 1, 2))) static struct json_object *refusal(const char *format, ...)
{
	struct json_object *o = json_object_new_object();
	char text[WHY + 128];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	json_object_object_add(o, "error", json_object_new_string(text));
	return o;
}

static bool read_id(const char *text, uint8_t *ret)
{
	unsigned long id;
	char *end;

	errno = 0;
	id = strtoul(text, &end, 10);
	if (errno || end == text || *end || id >= ESPALIER_MEMBERS || *text == '-')
		return false;
	*ret = (uint8_t)id;
	return true;
}

/* Why a member could not own what another one does. */
static const char *lack_of(const struct agent *a, uint8_t id)
{
	struct member_other other;
	uint16_t flags;

	member_other(a->member, id, &other);
	flags = id == a->config.id ? member_flags(a->member) : other.flags;
	if (id != a->config.id && !other.alive)
		return "is not there";
	if (flags & WIRE_DRAINED)
		return "is drained";
	if (flags & WIRE_LEAVING)
		return "is being stopped";
	if (flags & WIRE_LINK_DOWN)
		return "cannot: a link of it is down, or it is not guarded, or cannot forward";
	if (member_doubles(a->member) >> id & 1)
		return "is there twice";
	if (!(flags & WIRE_STARTED))
		return "is starting";
	return "has not got all SAs yet";
}

static const char *no_heirs(const struct agent *a, uint8_t from, char why[WHY])
{
	size_t len = 0;

	why[0] = '\0';
	for (uint8_t id = 0; id < ESPALIER_MEMBERS && len < WHY; id++)
		if (a->config.members >> id & 1 && id != from)
			len += (size_t)snprintf(why + len, WHY - len, "%smember %u %s",
				len ? "; " : "", id, lack_of(a, id));
	return len ? why : "there is no other member";
}

static struct json_object *answer(const struct agent *a, uint8_t id, int r)
{
	struct json_object *o;
	char why[WHY];

	if (r == -EINVAL)
		return refusal("there is no member %u in the configuration", id);
	if (r == -EHOSTDOWN)
		return refusal("member %u is not there (espalierctl members)", id);
	if (r == -EPROTONOSUPPORT)
		return refusal("member %u runs an earlier version, that takes no orders", id);
	if (r == -EBUSY)
		return refusal(
			"nobody else could own what member %u owns: %s", id, no_heirs(a, id, why));
	if (r < 0)
		return refusal(
			"member %u cannot keep that beside its journal: %s", id, strerror(-r));
	o = json_object_new_object();
	json_object_object_add(o, "member", json_object_new_int(id));
	return o;
}

static struct json_object *fail_over(const struct agent *a)
{
	uint8_t from = view_lowest(member_view(a->member)->live), to = from;
	int r = member_fail_over(a->member, &to);
	struct json_object *o;

	if (r == -EINVAL)
		return refusal(from == ESPALIER_NOBODY
				       ? "this member follows no view yet"
				       : "with Mode = load-sharing no member is the active one: "
					 "use drain");
	if (r < 0)
		return answer(a, from, r);
	o = answer(a, to, 0);
	json_object_object_add(o, "from", json_object_new_int(from));
	return o;
}

struct json_object *control_order(const struct agent *a, const char *word, const char *argument)
{
	enum wire_order order = strcmp(word, "drain") == 0 ? ORDER_DRAIN : ORDER_OWN;
	uint8_t id;

	if (strcmp(word, "failover") == 0)
		return fail_over(a);
	if (!read_id(argument, &id))
		return refusal("%s which member? Its Id, from 0 to %d", word, ESPALIER_MEMBERS - 1);
	return answer(a, id, member_order(a->member, id, order));
}
