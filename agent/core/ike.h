/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ike.h - records of IKE SAs: what a member's IKE daemon must know to go on with one.
 *
 * A record is known by the cluster's own SPI, which no two IKE SAs share. One member's daemon has
 * the IKE SA at a time (RFC 6027 3.7): the holder. Each time that it changes hands `turn` rises, so
 * that what a former holder says counts no more. Its body is the daemon's, opaque here, and holds
 * keys: it is wiped.
 */
#ifndef IKE_H
#define IKE_H

#include "core/table.h"

#define IKE_BODY_MAX 65535 /* bytes */

enum ike_flags {
	IKE_INITIATOR = 1, /* the cluster is its original initiator */
	IKE_SYNC = 2, /* the peer may have seen more than the record tells: RFC 6311 first */
	IKE_BACKGROUND = 4, /* of a gift: nobody waits for it */
	IKE_SURE = 8, /* of an answer: we have all that the others have */
	IKE_ESTABLISHED = 16,
	IKE_V1 = 32,
};

#define IKE_KEPT (IKE_INITIATOR | IKE_SYNC | IKE_ESTABLISHED | IKE_V1) /* in a record */

/* The two SAs of a Child SA. */
struct ike_child {
	uint8_t protocol, family;
	uint16_t policies; /* that lead to it, at least */
	__be32 spi_in, spi_out; /* 0: none */
	uint8_t local[16], remote[16]; /* their destinations, as record_key.addr */
};

/* What travels, but for the body. SPIs in host byte order. */
struct ike_head {
	uint64_t own, peer; /* the cluster's SPI; the peer's, or 0 as long as it is not known */
	uint64_t version;
	uint32_t turn; /* odd: somebody has it; even: it was handed over */
	uint8_t holder; /* the member whose daemon has it; ESPALIER_NOBODY: it was handed over */
	bool dead;
	uint8_t flags; /* enum ike_flags */
	uint16_t children; /* for the user */
};

/* What waits to be told to our daemon, a bit each. */
enum ike_tell {
	IKE_TELL_COMMITTED = 1,
	IKE_TELL_GIVE = 2,
	IKE_TELL_RELEASE = 4,
	IKE_TELL_DROP = 8,
	IKE_TELL_NONE = 16, /* of no record */
	IKE_TELL_TAKEN = 32, /* likewise */
};

/* It has been heard of by our daemon, and waits for the member that would take over. */
struct ike_commit {
	uint64_t since_us;
	uint64_t stream; /* id of the stream that it has been sent in, with what it names, ... */
	uint32_t seq; /* up to this segment; */
	uint8_t to; /* to that member */
	bool sent, overdue;
	uint16_t count;
	struct ike_child children[]; /* that it waits for */
};

struct ike {
	struct ike_head head;
	uint8_t *body;
	uint32_t body_len;

	/* Of this member alone. */
	enum {
		IKE_STANDBY,
		IKE_HELD,
		IKE_LEAVING
	} state; /* does our daemon have it? LEAVING: it
		    is asked to hand it over */
	bool used; /* not a free slot */
	bool needed; /* a message waits for it */
	bool telling; /* stands among those of which something is to be told */
	uint8_t tell; /* enum ike_tell */
	uint16_t queued; /* members that must be sent it */
	uint64_t changed_us;
	uint64_t committed, taken; /* version: told to be committed; when we took it over */
	struct ike_commit *commit; /* or NULL */
	uint32_t slot, hash_next, tell_next, commit_next;
	uint64_t digest; /* as in the table's digests */
};

struct ikes {
	uint32_t capacity, slots, used, high, living;
	unsigned int hash_bits;
	struct ike **chunks;
	uint32_t *buckets;
	uint32_t free_head, evict;
	struct table *digests; /* IKE SAs' count in the same as SAs' */
};

/* capacity 0: there are none. -ENOMEM. */
int ikes_init(struct ikes *t, uint32_t capacity, struct table *digests);
void ikes_free(struct ikes *t); /* wipes */

struct ike *ike_find(const struct ikes *t, uint64_t own); /* a dead one too; or NULL */
struct ike *ike_at(const struct ikes *t, uint32_t slot); /* NULL: free */
void ike_unqueue(struct ikes *t, uint32_t slot, uint8_t member);
/* NULL: there is no room. A dead one may have made room. */
struct ike *ike_add(struct ikes *t, uint64_t own);
void ike_drop(struct ikes *t, struct ike *r);
/* 0 or -ENOMEM: then all is as it was. */
int ike_set(
	struct ikes *t, struct ike *r, const struct ike_head *head, const void *body, uint32_t len);
void ike_changed(struct ikes *t, struct ike *r); /* after each other change of the head */
uint32_t ike_leaf(const struct ike *r);
struct ike *ike_leaf_next(const struct ikes *t, uint32_t leaf, const struct ike *r);

/* Is a the newer? Of two that are alike in that, neither is. */
static inline bool ike_newer(const struct ike_head *a, const struct ike_head *b)
{
	if (a->turn != b->turn)
		return a->turn > b->turn;
	if (a->version != b->version)
		return a->version > b->version;
	return a->dead && !b->dead;
}

#endif
