/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/view.h"

#include "core/hash.h"

uint8_t view_lowest(uint16_t members)
{
	return members ? (uint8_t)__builtin_ctz(members) : ESPALIER_NOBODY;
}

uint8_t view_owner(uint16_t live, enum view_mode mode, uint16_t bucket)
{
	uint8_t owner = ESPALIER_NOBODY;
	uint64_t best = 0;

	if (mode == VIEW_HOT_STANDBY)
		return view_lowest(live);
	for (; live; live &= (uint16_t)(live - 1)) {
		uint8_t id = view_lowest(live);
		uint64_t weight = hash_add(bucket, id);

		if (owner == ESPALIER_NOBODY || weight > best) {
			owner = id;
			best = weight;
		}
	}
	return owner;
}

/* What view_owner() hashes is the sum of bucket and id: each sum is hashed once. */
void view_owners(uint16_t live, enum view_mode mode, uint8_t ret[ESPALIER_BUCKETS])
{
	uint64_t weights[ESPALIER_BUCKETS + ESPALIER_MEMBERS];

	if (mode == VIEW_HOT_STANDBY || !live) {
		memset(ret, view_lowest(live), ESPALIER_BUCKETS);
		return;
	}
	for (unsigned int sum = 0; sum < ESPALIER_BUCKETS + ESPALIER_MEMBERS; sum++)
		weights[sum] = hash_add(sum, 0);
	for (unsigned int bucket = 0; bucket < ESPALIER_BUCKETS; bucket++) {
		uint8_t owner = view_lowest(live);

		for (uint16_t set = live; set; set &= (uint16_t)(set - 1))
			if (weights[bucket + view_lowest(set)] > weights[bucket + owner])
				owner = view_lowest(set);
		ret[bucket] = owner;
	}
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
