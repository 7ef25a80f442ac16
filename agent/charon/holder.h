/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * holder.h - IKE SAs that come and go, by the agent's word. All of it is for the link's thread.
 */
#ifndef CHARON_HANDOVER_H
#define CHARON_HANDOVER_H

#include "charon/known.h"

/* Makes a record of each IKE SA that charon has. */
void holder_record_all(void);

void holder_give(const struct espalier_ike_record *given, chunk_t body);
void holder_drop(const struct espalier_ike_spis *spis);

/* Begins to hand one over, or all; holder_continue goes on with it while holder_waits. */
void holder_release(const struct espalier_ike_name *name);
void holder_continue(void);
bool holder_waits(void);

/* While the agent is away another member may go on with them: charon has none of them, their
 * records stay. */
void holder_freeze(void);
void holder_thaw(const struct espalier_ike_spis *spis);

/* Tries again, now and then, to go on with those whose connection was not loaded. */
void holder_retry(void);

#endif
