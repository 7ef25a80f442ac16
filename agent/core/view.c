/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/view.h"

#include "core/hash.h"

uint8_t view_lowest(uint16_t members)
{
	return members ? (uint8_t)__builtin_ctz(members) : ESPALIER_NOBODY;
}

/* Of equals the lowest. */
static uint8_t heaviest(uint16_t live, const uint64_t weights[ESPALIER_MEMBERS])
{
	uint8_t owner = view_lowest(live);

	for (uint16_t set = live; set; set &= (uint16_t)(set - 1))
		if (weights[view_lowest(set)] > weights[owner])
			owner = view_lowest(set);
	return owner;
}

uint8_t view_owner(uint16_t live, enum view_mode mode, uint16_t bucket)
{
	uint64_t weights[ESPALIER_MEMBERS];

	if (mode == VIEW_HOT_STANDBY)
		return view_lowest(live);
	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++)
		weights[id] = hash_add(bucket, id);
	return heaviest(live, weights);
}

/* What is hashed is the sum of bucket and id: each sum is hashed once. */
void view_owners(uint16_t live, enum view_mode mode, uint8_t ret[ESPALIER_BUCKETS])
{
	uint64_t weights[ESPALIER_BUCKETS + ESPALIER_MEMBERS];

	if (mode == VIEW_HOT_STANDBY) {
		memset(ret, view_lowest(live), ESPALIER_BUCKETS);
		return;
	}
	for (unsigned int sum = 0; sum < ESPALIER_BUCKETS + ESPALIER_MEMBERS; sum++)
		weights[sum] = hash_add(sum, 0);
	for (unsigned int bucket = 0; bucket < ESPALIER_BUCKETS; bucket++)
		ret[bucket] = heaviest(live, weights + bucket);
}

uint16_t view_ike_bucket(uint16_t members, uint8_t id)
{
	uint16_t bucket = VIEW_IKE_FIRST;

	while (bucket < ESPALIER_BUCKETS && view_owner(members, VIEW_LOAD_SHARING, bucket) != id)
		bucket++;
	return bucket;
}

bool view_newer(const struct view *heard, const struct view *present)
{
	if (heard->epoch != present->epoch)
		return heard->epoch > present->epoch;
	return heard->publisher < present->publisher;
}
