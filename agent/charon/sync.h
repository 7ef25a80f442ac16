/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sync.h - Message ID synchronization after a failover (RFC 6311), by the new owner.
 *
 * Of a record that may be old. The peer is asked when a message shows that it is: a request of the
 * peer's with a higher Message ID, or one of ours without an answer. Not before: a peer with
 * AES-GCM cannot answer under Message ID 0 twice.
 */
#ifndef CHARON_SYNC_H
#define CHARON_SYNC_H

#include "charon/known.h"

/* With known_lock. A message of the peer's, before it is processed; or that a request of ours is
 * sent once more. */
void sync_heard(struct known *known, ike_sa_t *sa, message_t *message);
void sync_sent_again(struct known *known);

#endif
