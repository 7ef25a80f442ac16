/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * keys.h - the keys of an IKE SA, as they were derived elsewhere.
 *
 * charon has no function that sets them. It derives them, by a key derivation function of its
 * crypto factory: in a thread that imports this is one that gives what is in `ours.keys`.
 */
#ifndef CHARON_KEYS_H
#define CHARON_KEYS_H

#include "charon/known.h"

void keys_wrap(void);
void keys_unwrap(void);

/* charon has derived these keys, by the word of its bus for `sa`. When it rekeys an IKE SA itself
 * that one is the old one: the keys are kept until the new one is checked in, by the same thread.
 */
void keys_derived(ike_sa_t *sa, const chunk_t keys[RECORD_KEYS]);

/* Of an IKE SA that is checked in: takes what was kept, if it is for this one. */
void keys_claim(ike_sa_t *sa);

/* Gives an IKE SA that was just created the keys of the record. */
bool keys_set(ike_sa_t *sa, proposal_t *proposal, const struct record_ike *record);

#endif
