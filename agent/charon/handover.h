/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * handover.h - IKE SAs that come and go, by the agent's word. All of it is for the link's thread.
 */
#ifndef CHARON_HANDOVER_H
#define CHARON_HANDOVER_H

#include "charon/known.h"

/* Makes a record of each IKE SA that charon has. */
void handover_record_all(void);

void handover_give(const struct espalier_ike_record *given, chunk_t body);
void handover_drop(const struct espalier_ike_spis *spis);

/* Begins to hand one over, or all; handover_continue goes on with it while handover_waits. */
void handover_release(const struct espalier_ike_name *name);
void handover_continue(void);
bool handover_waits(void);

/* While the agent is away another member may go on with them: charon has none of them, their
 * records stay. */
void handover_freeze(void);
void handover_thaw(const struct espalier_ike_spis *spis);

#endif
