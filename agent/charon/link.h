/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * link.h - the plugin's end of the link to the agent (espalier_ike.h).
 *
 * A thread of its own reads, and does what takes time: it imports, drops and hands over. Others
 * write when there is room, and leave the rest to it: they never wait.
 */
#ifndef CHARON_LINK_H
#define CHARON_LINK_H

#include "charon/known.h"

/* Connects, again whenever it has to, until link_end. False: no thread. */
bool link_begin(void);
void link_end(void);

/* The agent has been told who we are, and has answered. */
bool link_up(void);

/* The agent is away: others may have taken over. */
bool link_silent(void);
/* us: when the agent spoke last; now, if it does not matter since there is nobody else. */
uint64_t link_heard(void);

/* The secret of RFC 6290's tokens; false: none yet. */
bool link_secret(uint8_t *ret);

/* An IKE SPI that this member draws, as in a packet. 0: any. */
uint64_t link_draw_spi(void);

/* The link's thread looks for what there is to do. */
void link_wake(void);

/* With known_lock: its record, or that it is gone, is told. */
void link_tell(struct known *known);

/* For the link's own thread. Tells all that is to be told, and waits for room; false: the link is
 * gone. */
bool link_tell_all(void);
void link_answer(uint8_t type, const struct espalier_ike_name *name);

/* With known_lock: asks for an IKE SA, if there is room. */
void link_ask(const struct espalier_ike_name *name);

#endif
