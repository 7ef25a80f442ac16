/* SPDX-License-Identifier: BSD-2-Clause */
/* control_adopt.c - an administrator vouches for SAs that were here before us. */
#include <arpa/inet.h>
#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"

static bool adopt(const struct agent *a, const struct record *r)
{
	const struct record_key key = r->key;
	uint64_t oseq, seq;

	return xfrm_counters(a->xfrm, &key, &oseq, &seq) == 0 &&
	       member_adopt(a->member, &key, oseq) == 0;
}

static bool is_meant(const struct record *r, bool all, uint32_t spi)
{
	return r && r->life == RECORD_ALIVE && r->fence == FENCE_FOUND &&
	       (all || ntohl(r->key.spi) == spi);
}

/* SPI: 0xffffffff at most. */
static bool read_spi(const char *text, uint32_t *ret)
{
	unsigned long spi;
	char *end;

	errno = 0;
	spi = strtoul(text, &end, 0);
	if (errno || end == text || *end || spi > UINT32_MAX || *text == '-')
		return false;
	*ret = (uint32_t)spi;
	return true;
}

struct json_object *control_adopt(const struct agent *a, const char *argument)
{
	struct json_object *o = json_object_new_object();
	const struct table *t = member_table(a->member);
	bool all = strcmp(argument, "all") == 0;
	unsigned int adopted = 0;
	uint32_t spi = 0;

	if (!all && !read_spi(argument, &spi)) {
		json_object_object_add(o, "error",
			json_object_new_string("adopt what? An SPI, from 0 to 0xffffffff, or all"));
		return o;
	}
	for (uint32_t slot = 0; slot < t->high; slot++) {
		const struct record *r = table_at(t, slot);

		adopted += is_meant(r, all, spi) && adopt(a, r);
	}
	if (!adopted)
		json_object_object_add(o, "error",
			json_object_new_string("no such SA is in this kernel and shut because its "
					       "past is unknown (espalierctl sa)"));
	else
		agent_say("%u SAs are adopted: an administrator says that nobody else has sent "
			  "for them",
			adopted);
	json_object_object_add(o, "adopted", json_object_new_int64(adopted));
	return o;
}
