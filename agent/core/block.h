/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * block.h - sequence blocks: the never-repeat rule (RFC 6027 3.4).
 *
 * The sequence numbers of an outbound SA are cut into blocks of 2^bits. Block 0 belongs to the
 * member that created the SA, block b > 0 to member b mod M, M being the cluster's modulus, for
 * ever. A member emits only numbers of its own blocks and enters each of them at most once. So no
 * two members can emit the same number, whatever fails and whatever they believe of each other: no
 * clock, quorum or acknowledgement is needed.
 *
 * What a member has entered is kept as `upto`: the block after the highest one entered; 0: none. A
 * member never enters a block below its `upto`; sequence.c sees to it that `upto` survives
 * restarts.
 */
#ifndef BLOCK_H
#define BLOCK_H

#include <stdbool.h>
#include <stdint.h>

struct block_rule {
	uint8_t self; /* own member id, < modulus */
	uint8_t modulus; /* M: a power of two, at least the highest member id + 1 */
	uint8_t bits; /* a block has 2^bits numbers */
};

/* The smallest power of two above the highest member id. */
uint8_t block_modulus(uint8_t highest_id);

uint64_t block_of(const struct block_rule *rule, uint64_t seq);
uint64_t block_first(const struct block_rule *rule, uint64_t block);
uint64_t block_last(const struct block_rule *rule, uint64_t block);

/* The smallest own block that is neither below `bound` nor block 0. */
uint64_t block_own(const struct block_rule *rule, uint64_t bound);

/*
 * Which block must this member enter now? `top`: one above the highest block that an owner is known
 * to have emitted from or may be emitting from; `upto`: see above; `seq`: where this member's
 * counter is.
 *
 * The owner keeps ahead of its need by half a block, and goes above `top` with a round (M blocks)
 * to spare when somebody else has got above it. A standby keeps a reserve above `top` with a round
 * to spare, so that one lost announcement does not put it behind the peer's replay window; but not
 * above itself: whose view has it for the owner raises `top` to its reserve, and so on without end.
 * Either leaves a block that its counter has run out of: packets that the guard drops count, too.
 *
 * Returns false if none is needed.
 */
bool block_need(const struct block_rule *rule, bool owner, uint64_t upto, uint64_t top,
	uint64_t seq, uint64_t *ret_block);

/* So many blocks an SA has: its counter has 32 bits without ESN (RFC 4303 3.3.3). */
uint64_t block_count(const struct block_rule *rule, bool esn);
bool block_exists(const struct block_rule *rule, uint64_t block, bool esn);

/* Should the SA be rekeyed soon: three quarters of a 32-bit counter are used up. */
bool block_late(const struct block_rule *rule, uint64_t block, bool esn);

#endif
