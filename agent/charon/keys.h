/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * keys.h - the keys of an IKE SA, as they were derived elsewhere.
 *
 * charon has no function that sets them. It derives them, by a key derivation function of its
 * crypto factory: in a thread that imports this is one that gives what is in `ours.keys`.
 */
#ifndef CHARON_KEYS_H
#define CHARON_KEYS_H

#include "charon/ours.h"
#include "charon/record.h"

void keys_wrap(void);
void keys_unwrap(void);

/* Gives an IKE SA that was just created the keys of the record. */
bool keys_set(ike_sa_t *sa, proposal_t *proposal, const struct record_ike *record);

#endif
