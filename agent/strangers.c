/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * strangers.c - members that are there and do not take part with us: in what they differ is said
 * once a minute, and the core is told what they claim to be (core/claim.c).
 *
 * They are known by their beacons (io/beacon.h), if these come from the sync address of a member,
 * or of who has our cluster addresses: several clusters may share a sync network.
 */
#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "agent.h"
#include "core/wire.h"

#define BEACON_EVERY_US 1000000
#define SILENT_US 3500000 /* it has gone */
#define SESSION_US 5000000 /* a session takes no longer, if it comes at all */
#define SAY_EVERY_US 60000000
#define BATCH 64 /* beacons at once; then the rest of the agent gets its turn */

/* What differs, in the order in which it is named; settings by their digests. */
enum {
	KEY,
	ID,
	SYNC,
	VERSION,
	SETTINGS, /* and those that follow, as enum config_setting has them */
	NAMES = SETTINGS + CONFIG_SETTINGS
};

static const char *name_of(unsigned int what)
{
	static const char *const names[] = {[KEY] = "PresharedKeyFile (or certificates)",
		[ID] = "Id",
		[SYNC] = "Sync in [Member]",
		[VERSION] = "version of espalierd"};

	return what < SETTINGS ? names[what] : config_setting_names[what - SETTINGS];
}

static_assert(CONFIG_SETTINGS < BEACON_SETTINGS, "and the version");

int strangers_open(struct agent *a)
{
	const struct config *c = &a->config;
	struct beacon_config beacon = {
		.ifindex = a->ifindex[DATAPATH_SYNC],
		.self = (uint8_t)c->id,
		.address = c->member_sync[c->id],
		.key = c->psk_size ? c->psk : NULL,
		.key_len = c->psk_size,
	};

	config_setting_digests(c, a->strangers.settings);
	memcpy(beacon.settings, a->strangers.settings, sizeof(a->strangers.settings));
	beacon.settings[CONFIG_SETTINGS] = WIRE_VERSION;
	return beacon_open(&beacon, &a->strangers.beacon);
}

/* Whose place it has, or wants; ESPALIER_NOBODY: it is of another cluster. */
static uint8_t place_of(const struct agent *a, const struct beacon_heard *heard)
{
	const struct config *c = &a->config;

	for (uint8_t id = 0; id < ESPALIER_MEMBERS; id++)
		if (c->members >> id & 1 && c->member_sync[id].s_addr == heard->address.s_addr)
			return id;
	return heard->id < ESPALIER_MEMBERS && heard->settings[CONFIG_SETTING_ADDRESS] ==
						       a->strangers.settings[CONFIG_SETTING_ADDRESS]
		       ? heard->id
		       : ESPALIER_NOBODY;
}

static uint32_t compare(const struct agent *a, uint8_t id, const struct beacon_heard *heard)
{
	uint32_t differs = 0;

	differs |= (uint32_t)heard->other_key << KEY;
	differs |= (uint32_t)(heard->id != id) << ID;
	differs |= (uint32_t)(heard->address.s_addr != a->config.member_sync[id].s_addr) << SYNC;
	differs |= (uint32_t)(heard->settings[CONFIG_SETTINGS] != WIRE_VERSION) << VERSION;
	for (unsigned int i = 0; i < CONFIG_SETTINGS; i++)
		differs |= (uint32_t)(heard->settings[i] != a->strangers.settings[i])
			   << (SETTINGS + i);
	return differs;
}

static void hear(struct agent *a, const struct beacon_heard *heard, uint64_t now_us)
{
	uint8_t id = place_of(a, heard);
	struct stranger *s;

	if (id == ESPALIER_NOBODY || (id == a->config.id && !heard->other_key))
		return; /* the latter is a clone, see io/clone.h */
	s = &a->strangers.all[id];
	if (now_us >= s->heard_us + SILENT_US)
		a->strangers.due_us = 0; /* it is new, and is to know of us at once */
	s->heard_us = now_us;
	s->address = heard->address;
	s->differs = compare(a, id, heard);
	member_claims(
		a->member, id, heard->claim <= CLAIM_SERVES ? heard->claim : CLAIM_NONE, now_us);
}

void strangers_hear(struct agent *a)
{
	struct beacon_heard heard;

	for (unsigned int i = 0; i < BATCH && beacon_hear(a->strangers.beacon, &heard); i++)
		hear(a, &heard, agent_now_us());
}

void strangers_differ(const struct agent *a, uint8_t id, char *ret, size_t size)
{
	size_t len = 0;

	ret[0] = '\0';
	for (unsigned int what = 0; what < NAMES; what++)
		if (a->strangers.all[id].differs >> what & 1 && len < size)
			len += (size_t)snprintf(
				ret + len, size - len, "%s%s", len ? ", " : "", name_of(what));
}

static void say(const struct agent *a, uint8_t id)
{
	const struct stranger *s = &a->strangers.all[id];
	const char *held = member_held_back(a->member) == id
				   ? "; this member owns nothing as long as that one does"
				   : "";
	char address[INET_ADDRSTRLEN], differs[256];

	inet_ntop(AF_INET, &s->address, address, sizeof(address));
	strangers_differ(a, id, differs, sizeof(differs));
	if (s->differs)
		agent_say("member %u at %s does not agree with us, nothing is copied between us; "
			  "make the same on both: %s%s",
			id, address, differs, held);
	else
		agent_say("member %u at %s is there, but no session with it comes about: is UDP "
			  "port %u let through%s?%s",
			id, address, a->config.sync_port,
			a->config.psk_size ? ""
					   : ", has each a good certificate, for server and client",
			held);
}

static bool is_stranger(const struct agent *a, uint8_t id, uint64_t now_us)
{
	const struct stranger *s = &a->strangers.all[id];
	struct member_other other;

	member_other(a->member, id, &other);
	return s->heard_us && now_us < s->heard_us + SILENT_US && !other.alive;
}

static void look(struct agent *a, uint8_t id, uint64_t now_us)
{
	struct stranger *s = &a->strangers.all[id];

	if (!is_stranger(a, id, now_us)) {
		s->since_us = 0;
		s->known = false;
		return;
	}
	if (!s->since_us)
		s->since_us = now_us;
	s->known = s->differs || now_us >= s->since_us + SESSION_US;
	if (!s->known || (s->said_us && now_us < s->said_us + SAY_EVERY_US))
		return;
	s->said_us = now_us;
	say(a, id);
}

void strangers_tick(struct agent *a, uint64_t now_us)
{
	struct strangers *s = &a->strangers;
	enum member_claim claim = member_claim(a->member);

	if (now_us >= s->due_us || claim != s->claim) {
		beacon_send(s->beacon, (uint8_t)claim);
		s->claim = claim;
		s->due_us = now_us + BEACON_EVERY_US;
	}
	for (uint8_t id = 0; id < ESPALIER_MEMBERS; id++)
		look(a, id, now_us);
}
