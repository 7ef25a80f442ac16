/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * qcd.h - quick crash detection (RFC 6290): who has lost an IKE SA proves it by a token that only
 * the cluster can make, and the other side need not wait for its own patience to end.
 */
#ifndef CHARON_QCD_H
#define CHARON_QCD_H

#include "charon/known.h"

/* With the first messages our token goes to the peer, and its own is kept. */
void qcd_offer(struct known *known, message_t *message);
void qcd_keep(struct known *known, message_t *message);

/* To a message of an IKE SA that no member has. */
void qcd_answer(message_t *message);

/* A message that came without protection: if it holds the peer's token, the IKE SA has ended there,
 * and is made anew. */
void qcd_check(struct known *known, message_t *message);

#endif
