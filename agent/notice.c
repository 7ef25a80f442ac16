/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * notice.c - what the core refuses or shuts, in a sentence; and what is done about a journal that
 * is an old copy: put back from a backup, or of a machine that was rolled back to a snapshot.
 *
 * Then nothing that it says of any SA can be relied on. Everything is shut, at once, and the agent
 * begins anew with a new journal. The older SAs are those of a lost journal from then on. Likewise
 * while another machine has our id, and enters what we may enter; but then it waits until that one
 * has gone.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "agent.h"

#define ANEW_EVERY_S 600 /* at most: a member that lies must not keep us busy */

#define KEPT_EVERY_US 60000000
#define KEPT_SAID 16 /* so many policies are named in that time */

#define OLD_SIZE (CONFIG_PATH_SIZE + 4)

/* What is full, or gets full. */
static void notice_room(
	const struct member_room *room, enum member_notice what, const struct record_key *key)
{
	const char *name = key ? agent_name(key) : "";

	if (what == NOTICE_FULL)
		agent_say("%s is refused: %u SAs and policies live, as many as MaxSAs lets. This "
			  "member neither shares it nor can take it over; raise MaxSAs (others are "
			  "counted by records_refused in espalierctl status)",
			name, room->living);
	else if (what == NOTICE_FULL_OF_DEAD)
		agent_say("%s is refused: %u that ended cannot be forgotten, since not all "
			  "members know. Start the member that is away, or take it out of the "
			  "configuration (others are counted by records_refused in espalierctl "
			  "status)",
			name, room->dead);
	else if (what == NOTICE_CROWDED)
		agent_say(
			"%u SAs and policies live: three quarters of MaxSAs (%u) or more, raise it",
			room->living, room->living_most);
	else if (what == NOTICE_CROWDED_BY_DEAD)
		agent_say("%u SAs and policies that ended are remembered, since not all members "
			  "know: three quarters of what there is room for (%u), or more. Start the "
			  "member that is away, or take it out of the configuration",
			room->dead, room->dead_most);
	else
		agent_say("there is room again: %u SAs and policies live, of %u; %u that ended are "
			  "remembered, of %u",
			room->living, room->living_most, room->dead, room->dead_most);
}

static void say_unsure(struct agent *a, const struct record_key *key)
{
	const struct table *t = member_table(a->member);
	const struct record *out = table_find(t, key);
	char spis[160] = "";
	uint32_t reqid = 0;
	size_t len = 0;

	(void)xfrm_reqid(a->xfrm, key, &reqid);
	for (const struct record *r = out ? table_pair_first(t, out->facts.pair) : NULL;
		r && len < sizeof(spis); r = table_pair_next(t, r))
		if (r->key.kind == RECORD_SA && r->life == RECORD_ALIVE && !record_is_shared_sa(r))
			len += (size_t)snprintf(spis + len, sizeof(spis) - len, " %s 0x%08x",
				r->facts.direction == ESPALIER_OUT ? "out" : "in",
				ntohl(r->key.spi));
	agent_say(
		"reqid %u is of several Child SAs (%s ), and which inbound SA %s belongs to cannot "
		"be told: another member may own that one; give each a reqid of its own",
		reqid, spis, agent_name(key));
}

static void say_kept(struct agent *a, const struct record_key *key, uint8_t who)
{
	const struct record *r = table_find(member_table(a->member), key);
	uint64_t now_us = agent_now_us();
	char text[XFRM_TEXT];

	if (now_us >= a->kept_us + KEPT_EVERY_US) {
		a->kept_us = now_us;
		a->kept = 0;
	}
	if (!r || !r->body || ++a->kept > KEPT_SAID)
		return;
	xfrm_policy_text(r->body, r->body_len, text, sizeof(text));
	agent_say("a policy was deleted or changed here, and is put back, since living SAs that "
		  "member %u has need it; to end it, delete these: %s%s",
		who, text,
		a->kept == KEPT_SAID
			? " (others are counted by policies_kept in espalierctl status)"
			: "");
}

static void say_ike_full(const struct agent *a, uint8_t who)
{
	unsigned int most = member_ikes(a->member)->capacity;

	if (who == a->config.id)
		agent_say("there are %u IKE SAs, as many as may be (MaxIkeSAs): more of them are "
			  "on this member alone, and end with it (ike.refused in espalierctl "
			  "status)",
			most);
	else
		agent_say("there are %u IKE SAs, as many as may be (MaxIkeSAs): more of member %u "
			  "are not taken (ike.refused in espalierctl status)",
			most, who);
}

void notice(void *ctx, enum member_notice what, const struct record_key *key, uint8_t who)
{
	const struct agent *a = ctx;
	struct member_room room;

	switch (what) {
	case NOTICE_OUT_OF_BOUNDS:
		agent_say(
			"member %u tells of numbers that %s cannot have: what it says of them is "
			"refused (records_out_of_bounds in espalierctl status), and not said again",
			who, agent_name(key));
		break;
	case NOTICE_EPOCH:
		agent_say("member %u counts its views absurdly high: it is not heard until it has "
			  "been started again",
			who);
		break;
	case NOTICE_STEPPED_DOWN:
		agent_say("our views were counted absurdly high: we count on from the view of "
			  "member %u",
			who);
		break;
	case NOTICE_TWO_CREATORS:
		agent_say("%s was made on two members, each with numbers of its own from 1 on: it "
			  "is shut on all members until it is rekeyed",
			agent_name(key));
		break;
	case NOTICE_JOURNAL_OLD:
		agent_say("member %u knows of sequence blocks of ours, of %s, that our journal "
			  "does not: this SA is shut here until it is rekeyed",
			who, agent_name(key));
		break;
	case NOTICE_SPENT:
		agent_say("%s has no sequence numbers left for us: rekey it", agent_name(key));
		break;
	case NOTICE_DOUBLED:
		agent_say("member %u is there twice: two machines have its id and key. Is one of "
			  "them a clone? It owns nothing until one has been gone for %u s",
			who, AGENT_DOUBLED_S);
		break;
	case NOTICE_MADE_HERE:
		agent_say("member %u deleted a policy that was made here, too: it stays, on all "
			  "members, until it is deleted here (espalierctl policy)",
			who);
		break;
	case NOTICE_KEPT:
		say_kept(ctx, key, who);
		break;
	case NOTICE_HELD:
		agent_say("member %u deleted or changed a policy that living SAs of ours need: it "
			  "stays, on all members (espalierctl policy)",
			who);
		break;
	case NOTICE_FULL:
	case NOTICE_FULL_OF_DEAD:
	case NOTICE_CROWDED:
	case NOTICE_CROWDED_BY_DEAD:
	case NOTICE_ROOMY:
		room = member_room(a->member);
		notice_room(&room, what, key);
		break;
	case NOTICE_UNSURE:
		say_unsure(ctx, key);
		break;
	case NOTICE_IKE_FULL:
		say_ike_full(a, who);
		break;
	case NOTICES:
		break;
	}
}

static void old_path(const char *journal_path, char ret[OLD_SIZE])
{
	snprintf(ret, OLD_SIZE, "%s.old", journal_path);
}

static bool was_just_now(const char *journal_path)
{
	char old[OLD_SIZE];
	struct stat st;

	old_path(journal_path, old);
	return stat(old, &st) == 0 && labs((long)(time(NULL) - st.st_mtime)) < ANEW_EVERY_S;
}

/* For the next life, too: an open block in the guard tells it what was entered. */
static int shut_all(const struct agent *a)
{
	const struct espalier_window none = {.first = 1, .last = 0};
	struct espalier_sa_key key;
	struct espalier_sa sa;
	int r, set = 0;

	for (r = datapath_sa_next(a->datapath, NULL, &key, &sa); r > 0 && set == 0;
		r = datapath_sa_next(a->datapath, &key, &key, &sa)) {
		sa.open[0] = sa.open[1] = none;
		set = datapath_sa_set(a->datapath, &key, &sa);
	}
	return set < 0 ? set : r;
}

bool notice_journal_old(void *ctx, const struct record_key *key, uint8_t who)
{
	struct agent *a = ctx;
	const char *path = a->config.journal_path;
	int r;

	if (was_just_now(path))
		return false;
	r = shut_all(a);
	if (r < 0) {
		agent_say("cannot shut all SAs in the guard: %s", strerror(-r));
		return false;
	}
	a->begins_anew = true;
	agent_say(
		"member %u knows of sequence blocks of ours, of %s, that the journal %s does not: "
		"it is an old copy (put back, or of a machine rolled back to a snapshot). All SAs "
		"are shut here and a new journal is begun; the old one is %s.old",
		who, agent_name(key), path, path);
	return true;
}

void notice_doubled(void *ctx, uint8_t who, bool over)
{
	struct agent *a = ctx;
	const uint8_t *mac = a->clone_mac;
	char by[64];
	int r;

	if (over) {
		agent_say("no other machine has had our id for %u s", AGENT_DOUBLED_S);
		a->begins_anew = true;
		return;
	}
	r = shut_all(a);
	if (r < 0)
		agent_say("cannot shut all SAs in the guard: %s", strerror(-r));
	if (who == a->config.id)
		snprintf(by, sizeof(by), "at MAC address %02x:%02x:%02x:%02x:%02x:%02x", mac[0],
			mac[1], mac[2], mac[3], mac[4], mac[5]);
	else
		snprintf(by, sizeof(by), "by the word of member %u", who);
	agent_say("another machine, %s, has our id and key. Is one of us a clone? All SAs are shut "
		  "on both; when one has been gone for %u s the other one begins anew, with a new "
		  "journal (the old one is %s.old)",
		by, AGENT_DOUBLED_S, a->config.journal_path);
	a->doubled = true;
	(void)notice_set_aside(a->config.journal_path);
}

int notice_set_aside(const char *journal_path)
{
	char old[OLD_SIZE];
	int r = 0;

	old_path(journal_path, old);
	if ((rename(journal_path, old) < 0 && errno != ENOENT) ||
		utimensat(AT_FDCWD, old, NULL, 0) < 0) {
		r = -errno;
		agent_say(
			"cannot rename the journal %s to %s: %s", journal_path, old, strerror(-r));
	}
	return r;
}
