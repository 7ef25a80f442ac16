/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ours.h - what all files of the plugin know.
 *
 * charon's services are structs of function pointers on the heap: the plugin puts its own functions
 * there, which call the stock ones. `ours` says what they are to do in this thread, `stopping` that
 * the daemon ends.
 *
 * Locks, from the outside: an IKE SA that is checked out, charon's bus, known_lock. With known_lock
 * held nothing of charon is called that waits.
 */
#ifndef CHARON_OURS_H
#define CHARON_OURS_H

#include <collections/array.h>
#include <daemon.h>
#include <inttypes.h>

#ifndef CHARON_VERSION
#error CHARON_VERSION is that of strongSwan: 50908 for 5.9.8
#endif

struct ours {
	/* An IKE SA is imported or dropped: the kernel has its SAs and policies, and keeps them. */
	bool adopting;
	uint32_t reqid; /* of the Child SA that is imported */
	chunk_t keys; /* what the next key derivation gives */
};

extern __thread struct ours ours;
extern bool stopping;

#define SAY(format, ...) DBG1(DBG_CFG, "espalier: " format, ##__VA_ARGS__)

/* For SAY: the SPIs as charon's log has them. */
#define SPIS "%.16" PRIx64 "_i %.16" PRIx64 "_r"
#define SPIS_OF(spi) be64toh((spi)[0]), be64toh((spi)[1])

#endif
