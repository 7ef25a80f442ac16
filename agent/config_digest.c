/* SPDX-License-Identifier: BSD-2-Clause */
/* config_cluster_digest(): do members mean the same cluster? */
#include "config.h"

#include <arpa/inet.h>

static void digest_byte(uint64_t *hash, uint8_t byte)
{
	*hash = (*hash ^ byte) * 0x100000001b3ULL;
}

static void digest_number(uint64_t *hash, uint32_t value)
{
	for (unsigned int i = 0; i < 4; i++)
		digest_byte(hash, (uint8_t)(value >> 8 * i));
}

static void digest_address(uint64_t *hash, const struct address *address)
{
	digest_number(hash, address->family);
	for (unsigned int i = 0; i < sizeof(address->bytes); i++)
		digest_byte(hash, address->bytes[i]);
}

static void digest_addresses(uint64_t *hash, const struct config_addresses *list)
{
	digest_number(hash, list->count);
	for (unsigned int i = 0; i < list->count; i++)
		digest_address(hash, &list->address[i]);
}

uint64_t config_cluster_digest(const struct config *config)
{
	uint64_t hash = 0xcbf29ce484222325ULL;

	for (const char *c = config->name; *c; c++)
		digest_byte(&hash, (uint8_t)*c);
	digest_byte(&hash, 0);
	digest_addresses(&hash, &config->outer);
	digest_addresses(&hash, &config->inner);
	digest_number(&hash, config->mode);
	digest_number(&hash, config->hash);
	digest_number(&hash, config->ingress);
	digest_number(&hash, config->block_bits);
	digest_number(&hash, config->heartbeat_us);
	digest_number(&hash, config->dead_after);
	digest_number(&hash, config->sync_port);
	digest_number(&hash, config->members);
	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++) {
		digest_number(&hash, ntohl(config->member_sync[id].s_addr));
		digest_address(&hash, &config->member_outer[id]);
		digest_address(&hash, &config->member_inner[id]);
	}
	return hash;
}
