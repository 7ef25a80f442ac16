/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * export.h - an IKE SA as a record.
 */
#ifndef CHARON_EXPORT_H
#define CHARON_EXPORT_H

#include "charon/known.h"

/* Whether there is a record of it. The caller has it checked out. */
bool exportable(ike_sa_t *sa);

/* Makes the record of an IKE SA that is checked out. True: it differs from the last one, and is now
 * known->body and its children, whose version is to be raised. With known_lock. */
bool export_ike(ike_sa_t *sa, struct known *known);

/* charon's time, which stands still when the machine sleeps, and UNIX time, both in seconds. */
uint32_t export_time(uint32_t monotonic);
uint32_t import_time(uint32_t unix_time);

#endif
