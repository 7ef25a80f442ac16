/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * commit.h - no IKE message leaves before another member has the record that it implies.
 *
 * What charon sends for an IKE SA is parked. All that it does to an IKE SA ends with a checkin:
 * there the record is made, told to the agent, and the packets wait for its version to be
 * committed. No thread of charon waits.
 */
#ifndef CHARON_COMMIT_H
#define CHARON_COMMIT_H

#include "charon/known.h"

void commit_wrap(void);
void commit_unwrap(void);

/* Sends past all this: what has been committed by another member. */
void commit_send(host_t *from, host_t *to, chunk_t packet);

/* The clock of all that waits, us. */
uint64_t commit_now(void);

/* With known_lock, all of these. */

/* It is committed up to this version: what waited for that leaves. */
void commit_acknowledge(struct known *known, uint64_t version);

/* Sends what has waited for `ms`. True: more is waiting. */
bool commit_overdue(uint32_t ms);

/* Sends what waits, or drops it. */
void commit_flush(struct known *known);
void commit_discard(struct known *known);

/* Whether packets wait. */
bool commit_waits(void);

/* Of one that ends: the agent is told, what waits is sent afterwards. */
void commit_gone(struct known *known);

#endif
