/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * table.h - the records of this member: SAs and policies, by key, by slot and by pair.
 *
 * An SA is its keys, that is, its birth. What is known of its numbers is in its one record,
 * whatever key it comes under in its life. A peer gives out an SPI again, too: there may be several
 * records of one key, of which at most one is alive: the present one.
 *
 * A record is state that merges: every replicated field has a rule by which two members that have
 * seen different histories come to the same value, in any order of arrival, with any repetition
 * (table_merge()).
 */
#ifndef TABLE_H
#define TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/record.h"

#define TABLE_NONE UINT32_MAX

/* Records are compared between members by ranges of their keys' hash, and those by leaves. */
#define TABLE_RANGE_BITS 9
#define TABLE_RANGES (1U << TABLE_RANGE_BITS)
#define TABLE_LEAF_BITS 15
#define TABLE_LEAVES (1U << TABLE_LEAF_BITS)
#define TABLE_FANOUT (TABLE_LEAVES / TABLE_RANGES) /* leaves in a range */

/* record.journals: the value for "its creator and others disagree"; that member may never enter a
 * block of it */
#define RECORD_JOURNAL_DISPUTED UINT32_MAX

/* record.version of a policy or a shared SA that was in the kernel at an agent's start: nobody says
 * who made it */
#define RECORD_FOUND 1

enum record_life {
	RECORD_HINTED, /* only the journal, the guard or others said something of its numbers */
	RECORD_ALIVE,
	RECORD_DEAD,
};

/* How this life of this agent met it. */
enum record_origin {
	RECORD_OTHERS, /* of other members, of the journal, or it was in the kernel before */
	RECORD_GUARD, /* SA: at the start the guard of an earlier life had it, shut, ... */
	RECORD_OPEN, /* or, outbound, with a block open */
	RECORD_HERE, /* it was made here, and not by us. SA: we may say `journals` of members that
			we learn of. Policy: another member's word does not end it if it is of no
			pair */
};

/* Where it is in this member's kernel. */
enum record_presence {
	RECORD_ABSENT,
	RECORD_REFUSED, /* absent: the kernel has refused it, ... */
	RECORD_GIVEN_AWAY, /* and for that its flow has been given to another member, or to none */
	RECORD_LEAVING, /* SA: it was deleted here just now, and may come back in a moment */
	RECORD_INSTALLED,
};

/* Why this member may emit nothing of an SA until it is rekeyed. */
enum record_fence {
	FENCE_NONE,
	FENCE_JOURNAL_LOST, /* the journal that could tell what we entered is lost */
	FENCE_JOURNAL_OLD, /* others know of blocks of ours that our journal does not */
	FENCE_TWO_CREATORS,
	FENCE_FOUND, /* it was here before us, far along, and nobody knows what else may be out */
	FENCES,
};

/* What we know of the blocks that this member entered. */
enum record_entries {
	ENTRIES_UNKNOWN, /* neither our journal nor our guard tells of any */
	ENTRIES_KNOWN, /* we may enter more */
	ENTRIES_LAST_UNUSED, /* likewise; and the block below our `upto` is open nowhere: the kernel
				refused what it was entered for */
};

/* record.creator: two members made it, each with numbers of its own in block 0 */
#define RECORD_CREATOR_DISPUTED 0xfe

struct record {
	struct record_key key;
	struct record_facts facts;

	/* Replicated. */
	uint32_t moves; /* SA: how often it has come under another key; above table_life() */
	uint64_t version; /* counts changes of key's facts, flow and life; the higher (moves,
			     version, author) is the newer */
	uint8_t author;
	enum record_life life; /* ALIVE or DEAD; HINTED is of this member alone */
	uint8_t creator; /* of an SA; or ESPALIER_NOBODY: not known; or RECORD_CREATOR_DISPUTED */
	uint8_t pinned; /* with `bucket`: struct espalier_flow. Both SAs of a Child SA have the same
			   of both */
	uint16_t bucket;
	bool paired; /* outbound: its flow is that of its inbound SA */
	uint64_t top; /* one above the highest block an owner may be emitting from; grows only */
	uint64_t seq; /* inbound: highest authenticated by the owner; grows only */
	struct record_usage used; /* limited SA: the most that any kernel has counted; both grow
				     only */
	uint64_t upto[ESPALIER_MEMBERS]; /* one above the highest block each member entered; grows
					    only */
	uint32_t journals[ESPALIER_MEMBERS]; /* the journal of each member that may enter blocks; 0:
						not said */

	/* Of this member alone. */
	enum record_presence presence;
	enum record_origin origin;
	enum record_fence fence;
	enum record_entries entries;
	uint64_t form_done; /* SA: the form in which this kernel has it */
	uint64_t made_s; /* SA: when, by our kernel's clock, in seconds */
	bool unsure; /* outbound: which inbound SA of its pair it belongs to cannot be told */
	bool unwanted; /* policy: whoever had it deleted it while SAs that it leads to lived: it
			  goes when they go */
	bool selector_set; /* policy: the datapath has its remote selector, with this flow: */
	uint8_t pin_told; /* inbound: `pinned` as the datapath has it */
	struct espalier_flow selector_flow;
	uint64_t work; /* id of what waits to be done for it in our kernel (work.c); 0: nothing
			*/
	uint64_t windows[2]; /* blocks open in the guard, + 1; newest first; 0: none */
	uint64_t raised; /* inbound: up to here at least our kernel takes nothing any more */
	uint64_t position; /* outbound: where this member's counter is known to be */
	uint64_t jump_us; /* do not get above another owner again before */
	uint64_t refused_us; /* when our kernel last refused to install or to move it, ... */
	int refused; /* why: -errno, ... */
	uint8_t refusals; /* and how often since it was otherwise */
	bool spent; /* there is no block left for us, and that has been told */
	uint64_t rekey_asked; /* so many blocks were used up when a rekey was last asked for; 1: it
				 was shut; 0: not asked */
	uint64_t died_us; /* or, of one that our kernel lacks: when another member last had it */
	uint16_t dirty; /* members that must be sent all of it */
	uint16_t dirty_state; /* members that must be sent top, seq, used, upto and journals */
	uint16_t dirty_position; /* members that must be sent seq and used */
	uint16_t queued; /* members in whose queue this slot stands */

	uint8_t *body; /* policies; SAs' are read from the kernel when sent */
	uint16_t body_len;

	uint32_t slot;
	uint32_t hash_next, key_next, pair_next, remote_next;
	uint32_t idle_next, idle_prev; /* of those that are not alive */
	bool counted; /* in table.sas or .policies */
	uint32_t change; /* policy: it was changed here and waits for its SAs (policy.c); 0: no */
	uint64_t digest; /* as it stands in table.digests and .leaves; 0: does not count */
};

static inline bool record_is_installed(const struct record *r)
{
	return r->presence == RECORD_INSTALLED;
}

static inline bool record_is_refused(const struct record *r)
{
	return r->presence == RECORD_REFUSED || r->presence == RECORD_GIVEN_AWAY;
}

/* It has no sequence numbers (IPComp): all members use it at once, and nobody owns it. */
static inline bool record_is_shared_sa(const struct record *r)
{
	return r->key.kind == RECORD_SA && r->key.proto == RECORD_IPCOMP;
}

struct table {
	uint32_t capacity; /* of what is alive */
	uint32_t slots, used, high; /* records; slots below `high` have been in use */
	uint32_t sas, policies; /* alive */
	uint32_t present; /* and in this kernel */
	struct record **chunks;
	uint32_t *buckets, *keys, *pairs, *remotes; /* hash chains; a leaf is a run of `buckets` */
	unsigned int hash_bits, remote_bits;
	uint32_t free_head;
	uint32_t idle_first, idle_last; /* records that are not alive, the oldest first */
	uint64_t digests[TABLE_RANGES]; /* XOR of the digests of what is present */
	uint64_t *leaves; /* likewise, TABLE_LEAVES of them */
};

/* Records there can be where so many may be alive: the dead have room of their own. */
static inline uint32_t table_slots(uint32_t capacity)
{
	return capacity + (capacity + 1) / 2;
}

/* capacity: the most that may be alive. -ENOMEM. */
int table_init(struct table *t, uint32_t capacity);
void table_free(struct table *t);

/* The present record of this key; NULL: there is none. */
struct record *table_find(const struct table *t, const struct record_key *key);
/* Another one of the same key that is alive. */
struct record *table_rival(const struct table *t, const struct record *r);
/* Another one of the same key, whatever is known of it. */
const struct record *table_other(const struct table *t, const struct record *r);
/* The first one that is alive, or the next one of those after it, whose key differs in its mark at
 * most. r: NULL for the first. */
struct record *table_spi_next(
	const struct table *t, const struct record_key *key, const struct record *r);
/* Any of this key. */
struct record *table_keyed(const struct table *t, const struct record_key *key);
/* The record of the SA of this birth, whatever its key, or of this policy; dead ones too. */
struct record *table_find_birth(
	const struct table *t, const struct record_key *key, uint64_t birth);
struct record *table_at(const struct table *t, uint32_t slot); /* NULL: free */
/* It stands in this member's queue no more, whatever is in it by now. */
void table_unqueue(struct table *t, uint32_t slot, uint8_t member);

static inline uint32_t table_idle_count(const struct table *t)
{
	return t->used - t->sas - t->policies; /* not alive */
}

bool table_is_full(const struct table *t); /* of what is alive */
bool table_has_slot(const struct table *t);
/* A zeroed record; NULL: there is no slot, or no memory. */
struct record *table_add(struct table *t, const struct record_key *key, uint64_t birth);
void table_drop(struct table *t, struct record *r);

/* The one that has not been alive for longest, or NULL; and makes it the last. */
struct record *table_idle(const struct table *t);
void table_idle_last(struct table *t, struct record *r);

/* An SA comes under another key. To be followed by table_changed(). */
void table_move(struct table *t, struct record *r, const struct record_key *key);

/* Does it stand in its pair's chain? */
static inline bool table_is_linked(const struct record *r)
{
	return r->counted && r->facts.pair != 0;
}

/* Walks the living records of a pair, newest first; of none, if it is 0. */
struct record *table_pair_first(const struct table *t, uint64_t pair);
struct record *table_pair_next(const struct table *t, const struct record *r);

/* Walks the policies with a remote selector, dead ones too. */
struct record *table_remote_first(const struct table *t, const struct espalier_selector *remote);
struct record *table_remote_next(const struct table *t, const struct record *r);

/* Sets facts; keeps the chains right. The remote selector of a policy is part of what its key is a
 * hash of: it stays as it was first. */
void table_set_facts(struct table *t, struct record *r, const struct record_facts *facts);

/* 0 or -ENOMEM. */
int table_set_body(struct record *r, const void *body, size_t len);

/* To be called after each change of a replicated field or of `presence`. */
void table_changed(struct table *t, struct record *r);

uint32_t table_leaf(const struct record *r);
uint32_t table_range(const struct record *r);

/*
 * Walks the records whose digests count in a leaf; r: NULL for the first one. NULL: no more.
 */
struct record *table_leaf_next(const struct table *t, uint32_t leaf, const struct record *r);

/* A short name of an SA, the same on all members. */
uint64_t table_name(const struct record *r);
struct record *table_find_name(const struct table *t, uint64_t name); /* alive, or NULL */

/* Makes a record's content newer than all that has been heard of it: `author` says so. */
void table_renew(struct record *r, uint8_t author);

/* Is a's content newer than b's? Of SAs: also what key it is under, and whether it lives. */
bool table_newer(const struct record *a, const struct record *b);

/* SA: how often it has come again after its end. Who did not know of the end may have moved it, and
 * that does not make it live again. */
static inline uint32_t table_life(uint32_t moves)
{
	return moves >> 16;
}

/* So much of an SA's limits is used up. False: that was known. */
bool table_use(struct record *r, const struct record_usage *used);

/* What a merge changed. */
enum table_merged {
	TABLE_CONTENT = 1, /* facts, flow, life, creator or journals */
	TABLE_STATE = 2, /* top, seq, used or upto */
	TABLE_OURS_NEWER = 4, /* `heard` is older than what we have */
};

/* Takes over from `heard`, which speaks of the same SA or policy, whatever is newer there. Returns
 * enum table_merged flags. */
int table_merge(struct table *t, struct record *r, const struct record *heard);

#endif
