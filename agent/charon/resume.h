/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * resume.h - a request that another member sent, and that may have been answered or not.
 *
 * It is sent again byte for byte, as often as any request, until it is answered: only so the peer
 * can tell that it is the same one. What the answer would have made is not ours: who asked had the
 * secret of the key exchange. The Child SA that the peer made of it is deleted.
 */
#ifndef CHARON_RESUME_H
#define CHARON_RESUME_H

#include "charon/known.h"

void resume_request(ike_sa_t *sa, const struct record_ike *record);

#endif
