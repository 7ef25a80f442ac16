/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * control_ike.c - "ike": the IKE SAs; "ike-config": the SPIs that each member's IKE daemon is to
 * draw.
 *
 * strongSwan asks the kernel for a Child SA's SPI from spi_min to spi_max, both included. An IKE
 * SPI of its own is (random & ~spi_mask) | spi_label, so that the bits set in spi_mask, here the
 * top 12, are those of spi_label.
 */
#include <assert.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent.h"
#include "core/view.h"

#define IKES_PER_PACKET 256 /* of some 250 bytes */
#define SPI_LOW 0x000fffffU /* the bits of an SPI that do not name its bucket */
#define IKE_MASK 0xfff0000000000000ULL

static_assert(SPI_LOW == UINT32_MAX >> ESPALIER_BUCKET_BITS, "below the bucket");
static_assert(IKE_MASK == UINT64_MAX << (64 - ESPALIER_BUCKET_BITS), "the bucket");

static void add_hex(struct json_object *o, const char *name, unsigned int digits, uint64_t value)
{
	char text[32];

	snprintf(text, sizeof(text), "0x%0*llx", digits, (unsigned long long)value);
	json_object_object_add(o, name, json_object_new_string(text));
}

static struct json_object *member_spis(const struct config *c, uint8_t id)
{
	struct json_object *o = json_object_new_object();
	uint16_t bucket = view_ike_bucket((uint16_t)c->members, id);
	uint32_t first = (uint32_t)bucket * (SPI_LOW + 1);

	json_object_object_add(o, "member", json_object_new_int(id));
	json_object_object_add(o, "bucket", json_object_new_int(bucket));
	add_hex(o, "spi_min", 8, first);
	add_hex(o, "spi_max", 8, first | SPI_LOW);
	add_hex(o, "spi_label", 16, (uint64_t)first << 32);
	add_hex(o, "spi_mask", 16, IKE_MASK);
	return o;
}

/* In hot standby too: no two members may give out the same SPI (RFC 6027 3.9). */
struct json_object *control_ike_config(const struct config *c)
{
	struct json_object *list;

	if (c->hash == ESPALIER_HASH_MIX) {
		list = json_object_new_object();
		json_object_object_add(list, "error",
			json_object_new_string("with Hash = mix no range of SPIs is one member's: "
					       "set Hash = prefix on all members"));
		return list;
	}
	list = json_object_new_array();
	for (uint8_t id = 0; id < ESPALIER_MEMBERS; id++)
		if (c->members >> id & 1)
			json_object_array_add(list, member_spis(c, id));
	return list;
}

static struct json_object *ike_json(const struct agent *a, const struct ike *r, uint64_t now_us)
{
	static const char *const states[] = {
		[IKE_STANDBY] = "standby", [IKE_HELD] = "owned", [IKE_LEAVING] = "leaving"};
	bool initiator = r->head.flags & IKE_INITIATOR;
	struct json_object *o = json_object_new_object();
	uint8_t owner = member_ike_owner(a->member, r), holder = r->head.holder;

	add_hex(o, "initiator_spi", 16, initiator ? r->head.own : r->head.peer);
	add_hex(o, "responder_spi", 16, initiator ? r->head.peer : r->head.own);
	json_object_object_add(o, "initiator", json_object_new_boolean(initiator));
	json_object_object_add(
		o, "owner", owner >= ESPALIER_MEMBERS ? NULL : json_object_new_int(owner));
	json_object_object_add(
		o, "holder", holder >= ESPALIER_MEMBERS ? NULL : json_object_new_int(holder));
	json_object_object_add(o, "state", json_object_new_string(states[r->state]));
	json_object_object_add(o, "unsure", json_object_new_boolean(r->head.flags & IKE_SYNC));
	json_object_object_add(
		o, "established", json_object_new_boolean(r->head.flags & IKE_ESTABLISHED));
	json_object_object_add(o, "children", json_object_new_int(r->head.children));
	json_object_object_add(o, "turn", json_object_new_int64(r->head.turn));
	json_object_object_add(o, "version", json_object_new_uint64(r->head.version));
	json_object_object_add(
		o, "changed_s_ago", json_object_new_uint64((now_us - r->changed_us) / 1000000));
	return o;
}

struct json_object *control_ikes(const struct agent *a, const char *from)
{
	struct json_object *o = json_object_new_object(), *array = json_object_new_array();
	const struct ikes *t = member_ikes(a->member);
	uint32_t slot = (uint32_t)strtoul(from, NULL, 10);
	uint64_t now_us = agent_now_us();

	for (unsigned int n = 0; slot < t->high && n < IKES_PER_PACKET; slot++) {
		const struct ike *r = ike_at(t, slot);

		if (!r || r->head.dead)
			continue;
		json_object_array_add(array, ike_json(a, r, now_us));
		n++;
	}
	json_object_object_add(o, "ikes", array);
	if (slot < t->high)
		json_object_object_add(o, "next", json_object_new_int64(slot));
	return o;
}

static void add_count(struct json_object *o, const char *name, uint64_t value)
{
	json_object_object_add(o, name, json_object_new_uint64(value));
}

struct json_object *control_ike_status(const struct agent *a)
{
	const struct ike_counters *c = member_ike_counters(a->member);
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "daemon",
		json_object_new_string(a->ike.daemon[0] ? a->ike.daemon : "not connected"));
	add_count(o, "ike_sas", member_ikes(a->member)->living);
	add_count(o, "max_ike_sas", member_ikes(a->member)->capacity);
	add_count(o, "commits", c->commits);
	add_count(o, "hold_us_mean", c->commits ? c->hold_us / c->commits : 0);
	add_count(o, "hold_us_most", c->hold_most_us);
	add_count(o, "overdue", c->overdue);
	add_count(o, "gives", c->gives);
	add_count(o, "syncs", c->syncs);
	add_count(o, "releases", c->releases);
	add_count(o, "drops", c->drops);
	add_count(o, "unknown", c->nones);
	add_count(o, "refused", c->refused);
	return o;
}
