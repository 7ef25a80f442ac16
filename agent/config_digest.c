/* SPDX-License-Identifier: BSD-2-Clause */
/* config_digest.c - do members mean the same cluster, and if not, in what do they differ? */
#include "config.h"

#include <arpa/inet.h>

#define BEGIN 0xcbf29ce484222325ULL

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

static void digest_text(uint64_t *hash, const char *text)
{
	for (; *text; text++)
		digest_byte(hash, (uint8_t)*text);
	digest_byte(hash, 0);
}

static void digest_members(uint64_t *hash, const struct config *c)
{
	digest_number(hash, c->members);
	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++) {
		digest_number(hash, ntohl(c->member_sync[id].s_addr));
		digest_address(hash, &c->member_outer[id]);
		digest_address(hash, &c->member_inner[id]);
	}
}

const char *const config_setting_names[CONFIG_SETTINGS] = {
	[CONFIG_SETTING_NAME] = "Name",
	[CONFIG_SETTING_ADDRESS] = "Address",
	[CONFIG_SETTING_INNER_ADDRESS] = "InnerAddress",
	[CONFIG_SETTING_MODE] = "Mode",
	[CONFIG_SETTING_HASH] = "Hash",
	[CONFIG_SETTING_INGRESS] = "Ingress",
	[CONFIG_SETTING_BLOCK_BITS] = "BlockBits",
	[CONFIG_SETTING_HEARTBEAT] = "Heartbeat",
	[CONFIG_SETTING_DEAD] = "Dead",
	[CONFIG_SETTING_SYNC_PORT] = "SyncPort",
	[CONFIG_SETTING_MEMBERS] = "[Member]",
};

static void digest_setting(uint64_t *hash, const struct config *c, enum config_setting setting)
{
	switch (setting) {
	case CONFIG_SETTING_NAME:
		digest_text(hash, c->name);
		break;
	case CONFIG_SETTING_ADDRESS:
		digest_addresses(hash, &c->outer);
		break;
	case CONFIG_SETTING_INNER_ADDRESS:
		digest_addresses(hash, &c->inner);
		break;
	case CONFIG_SETTING_MODE:
		digest_number(hash, c->mode);
		break;
	case CONFIG_SETTING_HASH:
		digest_number(hash, c->hash);
		break;
	case CONFIG_SETTING_INGRESS:
		digest_number(hash, c->ingress);
		break;
	case CONFIG_SETTING_BLOCK_BITS:
		digest_number(hash, c->block_bits);
		break;
	case CONFIG_SETTING_HEARTBEAT:
		digest_number(hash, c->heartbeat_us);
		break;
	case CONFIG_SETTING_DEAD:
		digest_number(hash, c->dead_after);
		break;
	case CONFIG_SETTING_SYNC_PORT:
		digest_number(hash, c->sync_port);
		break;
	case CONFIG_SETTING_MEMBERS:
		digest_members(hash, c);
		break;
	case CONFIG_SETTINGS:
		break;
	}
}

uint64_t config_cluster_digest(const struct config *config)
{
	uint64_t hash = BEGIN;

	for (unsigned int i = 0; i < CONFIG_SETTINGS; i++)
		digest_setting(&hash, config, i);
	return hash;
}

void config_setting_digests(const struct config *config, uint32_t ret[CONFIG_SETTINGS])
{
	for (unsigned int i = 0; i < CONFIG_SETTINGS; i++) {
		uint64_t hash = BEGIN;

		digest_setting(&hash, config, i);
		ret[i] = (uint32_t)(hash ^ hash >> 32);
	}
}
