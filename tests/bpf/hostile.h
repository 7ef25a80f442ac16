/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* hostile.h - what hostile.bpf.c and test_hostile.c share. */
#ifndef HOSTILE_H
#define HOSTILE_H

#include <linux/types.h>

#define HOSTILE_SIZE 256 /* of a packet at most; a power of two */
#define HOSTILE_HEAD 64 /* bytes before it: room for headers, and a guard before those */
#define HOSTILE_IMAGE 512 /* of memory around it, with a guard behind it; a power of two */
#define HOSTILE_MEMBERS 3

enum hostile_kind {
	HOSTILE_CUT, /* run i ends i bytes early */
	HOSTILE_BYTE, /* run i has byte i % 256 at offset i / 256 */
	HOSTILE_RANDOM, /* one to four changes anywhere, and some end early */
};

/* What must not happen. */
enum hostile_sin {
	HOSTILE_NONE,
	HOSTILE_VERDICT, /* none of pass, drop and send, or another one than the reason says */
	HOSTILE_BYTES, /* a byte is not what it must be, in the packet, before it or behind it */
	HOSTILE_PLACE, /* the packet begins or ends where it must not */
	HOSTILE_HOP, /* sent on, but to no member, or from one, or larger than fits, or lying */
	HOSTILE_ANSWER, /* an answer to what asks for none, or to nobody */
	HOSTILE_UNWRAPPED, /* IP-in-IP that is no member's, or not to us, was taken off */
	HOSTILE_SECOND_HOP, /* what a member has sent on was sent on again */
	HOSTILE_HARNESS, /* the test itself could not do what it wanted */
};

/* Where a packet is in an image. */
struct hostile_place {
	__u32 at;
	__u32 size;
};

/* Map "hostile", one for all members: what to do, and what has become of it. */
struct hostile {
	__u32 kind; /* enum hostile_kind */
	__u32 size; /* of the packet */
	__u64 random; /* state of the generator, not 0 */
	__u64 run; /* index of the next one */
	__u64 sent; /* to another member */
	__u64 origin; /* of the image, in memory; 0: the first run finds it */
	__u64 data; /* where the packet begins, in memory */
	struct hostile_place came, left; /* the packet of this run, before and after */
	struct hostile_place expected;
	__u32 to; /* the member that it is sent to; HOSTILE_MEMBERS: to none */
	__u32 sin; /* enum hostile_sin, the first one; the member; the packet as it came there */
	__u32 sin_member, sin_reason;
	struct hostile_place sin_came, sin_left;
	__u8 sin_image[HOSTILE_IMAGE];
	__u8 sin_after[HOSTILE_IMAGE];
	__u8 packet[HOSTILE_IMAGE]; /* the valid one */
	__u8 now[HOSTILE_IMAGE]; /* as changed for this run */
	__u8 after[HOSTILE_IMAGE]; /* as the program left it */
	__u8 wanted[HOSTILE_IMAGE]; /* as it should be left */
};

#endif
