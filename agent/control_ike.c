/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * control_ike.c - "ike-config": the SPIs that each member's IKE daemon is to draw.
 *
 * strongSwan asks the kernel for a Child SA's SPI from spi_min to spi_max, both included. An IKE
 * SPI of its own is (random & ~spi_mask) | spi_label, so that the bits set in spi_mask, here the
 * top 12, are those of spi_label.
 */
#include <assert.h>
#include <json-c/json.h>
#include <stdio.h>

#include "agent.h"
#include "core/view.h"

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
