/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * local.c - SAs that cannot be copied, since something of this machine is in them. They work on
 * this member alone and end with it. Nobody else can use their numbers: the guard lets all of them
 * out.
 */
#include <arpa/inet.h>
#include <string.h>

#include "agent.h"

static struct local_sa *find(struct agent *a, const struct record_key *key)
{
	struct local *l = &a->local;

	for (unsigned int i = 0; i < l->count; i++)
		if (memcmp(&l->sas[i].key, key, sizeof(*key)) == 0)
			return &l->sas[i];
	return NULL;
}

static struct local_sa *add(struct agent *a, const struct record_key *key)
{
	struct local *l = &a->local;

	if (l->count == LOCAL_MAX)
		return NULL;
	l->sas[l->count] = (struct local_sa){.key = *key, .direction = ESPALIER_OUT};
	return &l->sas[l->count++];
}

/* The core may have put an SA of its own there. The guard knows ESP only. */
static void close_guard(struct agent *a, const struct record_key *key)
{
	struct espalier_sa_key k = ops_map_key(key);
	struct espalier_sa sa;

	if (key->proto != IPPROTO_ESP)
		return;
	if (datapath_sa_get(a->datapath, &k, &sa) == 0 && sa.slot == ESPALIER_SLOT_LOCAL)
		(void)datapath_sa_delete(a->datapath, &k);
}

static void drop(struct agent *a, struct local_sa *sa)
{
	close_guard(a, &sa->key);
	*sa = a->local.sas[--a->local.count];
}

/* An SA whose keys are hidden may be a copy, or anybody's, unless it was made here just now. */
static bool is_doubtful(const struct agent *a, const struct local_sa *sa)
{
	bool found = a->audit.reading || (!a->local.started && !a->first);

	return table_keyed(member_table(a->member), &sa->key) || (!sa->why && found);
}

static int open_guard(struct agent *a, const struct record_key *key, uint64_t birth)
{
	struct espalier_sa_key k = ops_map_key(key);
	const struct espalier_sa sa = {.birth = birth,
		.open = {{1, 0}, {1, 0}},
		.slot = ESPALIER_SLOT_LOCAL,
		.direction = ESPALIER_OUT,
		.creator = ESPALIER_NOBODY};

	return datapath_sa_set(a->datapath, &k, &sa);
}

static void say(const struct local_sa *sa)
{
	unsigned int spi = ntohl(sa->key.spi);

	if (sa->known)
		agent_say(
			"the SA with SPI 0x%08x cannot be copied: %s; its keys or its SPI may have "
			"been the cluster's before, so it stays in its blocks until it is rekeyed",
			spi, sa->why);
	else
		agent_say("the SA with SPI 0x%08x cannot be copied: %s; it works on this member "
			  "only, and ends with it",
			spi, sa->why);
}

void local_restore(struct agent *a, const struct record_key *key)
{
	struct local_sa *sa = add(a, key);

	if (sa)
		sa->why = "";
	else
		close_guard(a, key);
}

static void refuse(struct agent *a, const struct record_key *key, const char *why)
{
	if (!a->local.full_said)
		agent_say("the SA with SPI 0x%08x cannot be copied (%s) and sends no more than one "
			  "block: there are %u such SAs, no more are kept",
			ntohl(key->spi), why, LOCAL_MAX);
	a->local.full_said = true;
}

void local_told(struct agent *a, const struct record_key *key, const struct record_facts *facts,
	const char *why)
{
	struct local_sa *sa = find(a, key), before;

	if (!sa)
		sa = add(a, key);
	if (!sa) {
		refuse(a, key, why);
		return;
	}
	before = *sa;
	sa->direction = facts->direction;
	/* Others may have it, or have had it; or one that lives is in its place. */
	sa->known |= why == xfrm_keys_hidden ? is_doubtful(a, sa)
					     : member_remembers(a->member, key, facts->birth);
	sa->why = why;
	sa->seen = true;
	if (sa->why != before.why || sa->known != before.known)
		say(sa);
	if (sa->direction != ESPALIER_OUT || key->proto != IPPROTO_ESP)
		return;
	if (sa->known)
		close_guard(a, key);
	else if (open_guard(a, key, facts->birth) < 0)
		agent_say("cannot tell the guard of the SA with SPI 0x%08x: the table is full, "
			  "raise MaxSAs",
			ntohl(key->spi));
}

const char local_no_room[] = "there was no room for it when it was made (MaxSAs)";

bool local_stays(struct agent *a, const struct record_key *key)
{
	const struct local_sa *sa = a->local.count ? find(a, key) : NULL;

	return sa && (sa->why == local_no_room || !*sa->why);
}

void local_gone(struct agent *a, const struct record_key *key)
{
	struct local_sa *sa = a->local.count ? find(a, key) : NULL;

	if (sa)
		drop(a, sa);
}

void local_begin(struct agent *a)
{
	for (unsigned int i = 0; i < a->local.count; i++)
		a->local.sas[i].seen = false;
}

void local_end(struct agent *a)
{
	for (unsigned int i = a->local.count; i-- > 0;)
		if (!a->local.sas[i].seen)
			drop(a, &a->local.sas[i]);
}
