/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/block.h"

uint8_t block_modulus(uint8_t highest_id)
{
	uint8_t modulus = 1;

	while (modulus <= highest_id)
		modulus = (uint8_t)(modulus << 1);
	return modulus;
}

uint64_t block_of(const struct block_rule *rule, uint64_t seq)
{
	return seq >> rule->bits;
}

uint64_t block_first(const struct block_rule *rule, uint64_t block)
{
	return block << rule->bits;
}

uint64_t block_last(const struct block_rule *rule, uint64_t block)
{
	return block_first(rule, block) | ((1ULL << rule->bits) - 1);
}

uint64_t block_own(const struct block_rule *rule, uint64_t bound)
{
	uint64_t round = bound & ~((uint64_t)rule->modulus - 1); /* a power of two */
	uint64_t block = round + rule->self;

	if (block < bound || block == 0)
		block += rule->modulus;
	return block;
}

static uint64_t max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

bool block_need(const struct block_rule *rule, bool owner, uint64_t upto, uint64_t top,
	uint64_t seq, uint64_t *ret_block)
{
	uint64_t reserve = top + rule->modulus, bound = upto;

	if (!owner) {
		bool ours = upto && upto == top; /* others take us for the owner */

		if ((upto > reserve || ours) && seq <= block_last(rule, upto - 1))
			return false;
		bound = reserve;
	} else if (upto < top || upto == 0) {
		bound = reserve;
	} else if (seq < block_first(rule, upto - 1) + (1ULL << (rule->bits - 1))) {
		return false;
	}
	*ret_block = block_own(rule, max(max(bound, upto), block_of(rule, seq) + 1));
	return true;
}

uint64_t block_count(const struct block_rule *rule, bool esn)
{
	return 1ULL << ((esn ? 64 : 32) - rule->bits);
}

bool block_exists(const struct block_rule *rule, uint64_t block, bool esn)
{
	return block < block_count(rule, esn);
}

bool block_late(const struct block_rule *rule, uint64_t block, bool esn)
{
	return !esn && block >= 3ULL << (30 - rule->bits);
}
