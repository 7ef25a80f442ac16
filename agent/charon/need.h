/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * need.h - messages for IKE SAs that charon does not have, until the agent has answered.
 *
 * Anybody can send such messages: few are kept, and for a short time.
 */
#ifndef CHARON_NEED_H
#define CHARON_NEED_H

#include "charon/known.h"

void need_wrap(void);
void need_unwrap(void);

/* The IKE SA is here: its messages are processed. */
void need_met(const struct espalier_ike_spis *spis);

/* Nobody has it. */
void need_none(const struct espalier_ike_name *name);

void need_forget_old(void);

#endif
