/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * view.h - who is in the cluster, and which member owns which bucket.
 *
 * Ownership follows from the set of live members alone, by rendezvous hashing: members that agree
 * on the set agree on the table, and a death moves only the dead member's buckets.
 */
#ifndef VIEW_H
#define VIEW_H

#include <stdbool.h>
#include <stdint.h>

#include "espalier.h"

enum view_mode {
	VIEW_LOAD_SHARING,
	VIEW_HOT_STANDBY, /* all buckets belong to the lowest live id */
};

struct view {
	uint64_t epoch; /* counts views; the highest is the one in force */
	uint16_t live; /* bit i: member i has its share of the buckets */
	uint8_t publisher; /* the member that made it */
};

/* Lowest member id of a set, or ESPALIER_NOBODY. The view's ingress member answers ARP. */
uint8_t view_lowest(uint16_t members);

/* The owner of a bucket, or ESPALIER_NOBODY in an empty view. */
uint8_t view_owner(uint16_t live, enum view_mode mode, uint16_t bucket);
void view_owners(uint16_t live, enum view_mode mode, uint8_t ret[ESPALIER_BUCKETS]); /* of all */

#define VIEW_IKE_FIRST 0xc00 /* of SPIs from 0xc0000000 on, where IKE daemons draw them anyway */

/*
 * The bucket that a member's IKE daemon is to draw its SPIs from (ESPALIER_HASH_PREFIX): the first
 * one from VIEW_IKE_FIRST on that is its own when all these members live and share the load. There
 * is one for each member of any set; another one for each. ESPALIER_BUCKETS: it is none of them.
 */
uint16_t view_ike_bucket(uint16_t members, uint8_t id);

/* Should a view heard from its publisher replace the present one? Higher epoch; at a tie, the lower
 * publisher. */
bool view_newer(const struct view *heard, const struct view *present);

#endif
