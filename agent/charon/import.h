/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * import.h - a record as an IKE SA.
 */
#ifndef CHARON_IMPORT_H
#define CHARON_IMPORT_H

#include "charon/known.h"

/* charon goes on with it; its timers run. `sync`: the record may be old (RFC 6311). What is in
 * `given` but for the body's length counts. INVALID_STATE: its connection is not loaded. FAILED: it
 * cannot, which has been said. */
status_t import_ike(const struct espalier_ike_record *given, chunk_t body);

#endif
