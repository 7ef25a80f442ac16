/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* hostile.h - what hostile.bpf.c and test_hostile.c share. */
#ifndef HOSTILE_H
#define HOSTILE_H

#include <linux/types.h>

#define HOSTILE_SIZE 256 /* of a packet at most; a power of two */
#define HOSTILE_GUARD 64 /* bytes behind its end, at least */
#define HOSTILE_MEMBERS 3

enum hostile_kind {
	HOSTILE_CUT, /* run i ends i bytes early */
	HOSTILE_BYTE, /* run i has byte i % 256 at offset i / 256 */
	HOSTILE_RANDOM, /* one to four changes anywhere, and some end early */
};

/* What must not happen. */
enum hostile_sin {
	HOSTILE_NONE,
	HOSTILE_VERDICT, /* none of pass, drop and send */
	HOSTILE_BYTES, /* a byte has changed that must not, in the packet or behind its end */
	HOSTILE_HOP, /* sent on with other MAC addresses than ours and a member's */
	HOSTILE_SECOND_HOP, /* what a member has sent on was sent on again */
	HOSTILE_HARNESS, /* the test itself could not do what it wanted */
};

/* Map "hostile": what to do, and what has become of it. */
struct hostile {
	__u32 kind; /* enum hostile_kind */
	__u32 size; /* of the packet */
	__u64 random; /* state of the generator, not 0 */
	__u64 run; /* index of the next one */
	__u64 sent; /* to another member */
	__u32 sin; /* enum hostile_sin, the first one, and the packet as it came */
	__u32 sin_size;
	__u8 sin_packet[HOSTILE_SIZE + HOSTILE_GUARD];
	__u8 packet[HOSTILE_SIZE + HOSTILE_GUARD]; /* the valid one, then the guard */
	__u8 now[HOSTILE_SIZE + HOSTILE_GUARD]; /* as changed for this run */
	__u8 after[HOSTILE_SIZE + HOSTILE_GUARD]; /* as the program left it */
};

#endif
