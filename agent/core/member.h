/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * member.h - one member of the cluster as a state machine: datagrams, kernel events and time in;
 * decisions out.
 *
 * It does no I/O: no system call, no clock, no log. What it decides it says through `struct
 * member_ops`; the agent (espalierd.c) carries it out on a real kernel and network, the simulator
 * (tests/sim) on made-up ones.
 *
 * These files make it up, from the top; each calls only those below it (scripts/check-layers):
 *
 *   member.c     time, heartbeats, datagrams
 *   drain.c      what an administrator wants members to own
 *   clone.c      members that are there twice; takeover.c: views
 *   handover.c   buckets that change hands between living members
 *   claim.c      members that are there and do not agree with us
 *   execute.c    does what waits to be done in our kernel
 *   miss.c       SAs that ESP asks for
 *   kernel.c     what our kernel holds; replica.c: records as other members tell of them
 *   holder.c   which member's IKE daemon has an IKE SA; commit.c: what it may send already
 *   compare.c    how we differ from another member; life.c: the end of records
 *   flow.c       whose an SA's flow is: remote selectors, pins
 *   fence.c      SAs of which this member may emit nothing
 *   sequence.c   which numbers this member may emit
 *   inbound.c    which numbers it may take
 *   usage.c      what is used up of limits
 *   outbox.c     what is to be sent; work.c: what is to be done in our kernel
 *   state.c      looking in
 *
 * Times are microseconds of a clock that never goes back.
 */
#ifndef MEMBER_H
#define MEMBER_H

#include "core/block.h"
#include "core/ike.h"
#include "core/table.h"
#include "core/view.h"
#include "core/wire.h"

struct member;

struct member_config {
	uint8_t self;
	uint16_t members; /* configured ones, a bit each, self too */
	uint64_t settings; /* hash of what must be the same on all members */
	enum view_mode mode;
	enum espalier_hash hash;
	uint8_t block_bits;
	uint64_t heartbeat_us;
	unsigned int dead; /* heartbeats missed until a member is taken for dead: 3 or more */
	uint64_t repair_us; /* how often records are compared with another member's */
	uint64_t start_us; /* how long to look for members that are not heard, before being one */
	uint64_t claim_us; /* how long a claim holds that is not made again */
	uint64_t tombstone_us; /* how long a dead record is remembered */
	uint64_t doubled_us; /* a member that is there twice owns nothing for so long after that was
				seen last */
	uint32_t capacity; /* most SAs and policies that are alive */
	uint32_t idle; /* most that are not and have a record, for long; table_slots() less capacity
			* at most */
	uint32_t ikes; /* most IKE SAs that live; 0: their records are not kept */
	uint64_t commit_us; /* what an IKE daemon sends waits for others' word so long at most */
	bool first; /* this kernel has had no member before since it was booted: what has gone out
		       of the SAs that are there its counters tell */
	uint32_t journal; /* id of our journal, not 0 */
	uint32_t life; /* drawn at random by each start of the agent, not 0 */
	enum wire_order order; /* that an earlier life kept (member_ops.keep) */
	struct wire_macs macs; /* ours */
};

/* An SA or policy in this member's kernel. */
struct member_record {
	struct record_key key;
	struct record_facts facts;
	uint64_t oseq; /* outbound: last number used */
	uint64_t seq; /* inbound: highest number taken */
	uint64_t made_s; /* SA: seconds of CLOCK_REALTIME */
	const void *body;
	size_t body_len;
};

/* What is refused or closed, and worth a sentence to the user. */
enum member_notice {
	NOTICE_OUT_OF_BOUNDS, /* a member told of blocks that there are not or are not whose it
				 said; each member once */
	NOTICE_EPOCH, /* a member's view is counted absurdly high; each member once */
	NOTICE_STEPPED_DOWN, /* it was our own view: we count on from this member's */
	NOTICE_TWO_CREATORS, /* an SA is fenced, FENCE_TWO_CREATORS */
	NOTICE_JOURNAL_OLD, /* an SA is fenced, FENCE_JOURNAL_OLD: by what this member told */
	NOTICE_SPENT, /* we have no block left of an SA */
	NOTICE_DOUBLED, /* another member is there twice */
	NOTICE_MADE_HERE, /* a member deleted a policy that was made here, too: it stays; each
			     member once */
	NOTICE_KEPT, /* a policy was deleted or changed here, and is put back: it leads to living
			SAs, which this member has and we have not made */
	NOTICE_HELD, /* a member deleted or changed a policy that leads to living SAs of ours: it
			stays; each member once */
	NOTICE_FULL, /* an SA or policy is refused, as many live as may; ... */
	NOTICE_FULL_OF_DEAD, /* or so many are dead and may not be forgotten; not every one is told,
				all are counted */
	NOTICE_CROWDED, /* three quarters of what may live do */
	NOTICE_CROWDED_BY_DEAD, /* so many dead are remembered, of those that can be */
	NOTICE_ROOMY, /* neither is so any more */
	NOTICE_UNSURE, /* which inbound SA of its reqid an outbound one belongs to cannot be told */
	NOTICE_IKE_FULL, /* an IKE SA's record is refused, as many live as may: it is on this
			    member alone, or was not taken from `who` */
	NOTICES,
};

/* What the core wants done. None may call back into the core. */
struct member_ops {
	/* To another member; best effort. */
	void (*send)(void *ctx, uint8_t to, const void *datagram, size_t len);

	/* The kernel: install these, in this order. */
	void (*install)(void *ctx, struct record_install *list, unsigned int n);
	void (*remove)(void *ctx, const struct record_key *key);
	/* Moves the counter forward, never back, to `oseq` at least. -EAGAIN: it took so long that
	 * the kernel may have counted on past `oseq` between looking and moving, and have been set
	 * back; then the block is given up. Another -errno: the counter is below `oseq`, and it may
	 * be tried again. So for what install() says of an SA that was there already. */
	int (*move)(void *ctx, const struct record_key *key, uint64_t oseq);
	/* Other members have taken numbers of the inbound SA in this slot up to `seq`: nothing up
	 * to there is let in, of what publish() has brought and, since raising(), of all that is
	 * owned, until raised(). */
	void (*floor)(void *ctx, uint32_t slot, uint64_t seq);
	void (*raising)(void *ctx); /* a window of what is owned is below its floor */
	void (*raised)(void *ctx); /* all that is owned has the window that it is to have */
	/* Its kernel takes nothing of this inbound SA up to `seq` any more. 0 or -errno. */
	int (*raise)(void *ctx, const struct record_key *key, uint32_t slot, uint64_t seq);
	/* So much of the SA's limits is used up at least. */
	void (*use)(void *ctx, const struct record_key *key, const struct record_usage *used);
	int (*read)(void *ctx, const struct record_key *key, void *body,
		size_t size); /* its length or -errno */
	/* Ask for a rekey: it is shut for this reason, or three quarters of its sequence numbers
	 * are used up: FENCE_NONE. */
	void (*expire)(void *ctx, const struct record_key *key, enum record_fence why);

	/* The datapath: what the guard and the counters know of an SA; NULL: forget it. */
	void (*guard)(void *ctx, const struct record_key *key, const struct espalier_sa *sa);
	/* The clear side: who owns what goes to this prefix; NULL: nobody does. */
	void (*selector)(void *ctx, const struct espalier_selector *selector,
		const struct espalier_flow *flow);
	/* The outer side: who owns an inbound SA, if not its bucket's owner; NULL: he does. */
	void (*pin)(void *ctx, const struct record_key *key, const struct espalier_flow *flow);
	void (*publish)(void *ctx, const struct view *view, uint8_t ingress,
		const uint8_t owner[ESPALIER_BUCKETS]);
	/* Buckets are about to change hands: until that is over the guard lets out what is in the
	 * open blocks, whoever the owner is. publish() changes nothing of that. */
	void (*hand)(void *ctx, bool on);
	/* Another member: its MACs, and whether packets may be sent on to it. */
	void (*macs)(void *ctx, uint8_t member, const struct wire_macs *macs, bool next_hop);

	/* The journal: make durable that we enter this block; member_committed() says when it is.
	 */
	void (*journal)(void *ctx, const struct record_key *key, uint64_t birth, uint64_t block);
	void (*forget)(void *ctx, uint64_t birth);

	/*
	 * `who` knows of blocks of this SA that we entered and our journal does not: it is an old
	 * one. Once in a life. True: we begin anew, with a new journal, and nothing of ours is let
	 * out until then. False: not now; what is found in this way is fenced, an SA at a time.
	 */
	bool (*journal_old)(void *ctx, const struct record_key *key, uint8_t who);

	/*
	 * There is another machine with our id: nothing of ours is let out any more. Whatever
	 * becomes of us, the next life begins a new journal. `who` says so, or we have heard it
	 * ourselves. over: it has not been heard for doubled_us: now we begin anew.
	 */
	void (*doubled)(void *ctx, uint8_t who, bool over);
	/* Keeps for later lives what we are to own (member_config.order). 0, or -errno: it cannot
	 * be kept, and is not followed. */
	int (*keep)(void *ctx, enum wire_order order);
	/* key: the SA, or NULL; who: the member that it comes from, we if it is nobody else. */
	void (*notice)(
		void *ctx, enum member_notice notice, const struct record_key *key, uint8_t who);

	/*
	 * Our IKE daemon, while it is connected: to be told `what` (one bit) of this IKE SA; of
	 * IKE_TELL_TAKEN: NULL. Flags: member_ike_flags(). False: there is no room now;
	 * member_flush() tries again.
	 */
	bool (*ike)(void *ctx, enum ike_tell what, const struct ike *r);
};

#define MEMBER_DEAD_LEAST 3 /* heartbeats: with fewer a lease ends before the next heartbeat */

/*
 * What only one member may do at a time without harm to others' caches (answer ARP and neighbour
 * solicitations, send packets on) it does under a lease: for so long after it sent its last
 * heartbeat (member_heartbeat_sent_us()), whether anybody heard it or not.
 *
 * The others take over from it, and announce that, at a tick later than
 *
 *	heard + dead * heartbeat
 *
 * where they heard its last heartbeat or, if that was lost, the one before. Heartbeats are a
 * heartbeat apart, and late by less than a tick, which is half of one. So nobody begins before
 *
 *	sent - (heartbeat + heartbeat / 2) + dead * heartbeat
 *
 * and that is when the lease ends.
 */
static inline uint64_t member_lease_us(uint64_t heartbeat_us, unsigned int dead)
{
	return heartbeat_us * dead - (heartbeat_us + heartbeat_us / 2);
}

/* 0, -EINVAL, -ENOMEM. ctx is handed to every op. */
int member_new(const struct member_config *config, const struct member_ops *ops, void *ctx,
	uint64_t now_us, struct member **ret);
void member_free(struct member *m);

/*
 * Start, in this order: what the journal holds (member_restore(), an entry each), what the pinned
 * guard map of an earlier life holds (member_guarded(), an entry each), what the kernel holds
 * (member_added()), then member_started(): what the guard knows and the kernel lacks was deleted
 * while no agent ran, and is taken out of the map. Pins of an earlier life that have not been told
 * by then (record.pin_told) are to be taken out, too.
 */
void member_restore(struct member *m, const struct record_key *key, uint64_t birth, uint64_t block);
/* seq: the highest number that it has let out, read before the kernel's counter, or has taken in;
 * 0: not known. */
void member_guarded(
	struct member *m, const struct record_key *key, const struct espalier_sa *sa, uint64_t seq);
/*
 * Between the two: where an SA that was adopted stands, by the kernel's counter. Until then all of
 * it goes out, afterwards a block ahead. True: ask the kernel again, it may have got further before
 * the guard knew.
 */
bool member_settle(struct member *m, const struct record_key *key, uint64_t oseq);
void member_started(struct member *m);

/*
 * The user vouches for an SA that is fenced, FENCE_FOUND: nobody has sent more than our kernel's
 * counter says. -ENOENT: there is none; -EINVAL: it is not fenced so.
 */
int member_adopt(struct member *m, const struct record_key *key, uint64_t oseq);

/* Kernel events that are not echoes of our own ops. False: there is no room for it. */
bool member_added(struct member *m, const struct member_record *record);
void member_removed(struct member *m, const struct record_key *key);
/*
 * Somebody flushed the kernel's SAs or policies, as scripts do and IKE daemons' units when they
 * start or stop: that ends what was made here in this life. What was taken over, or had been here
 * before, is put back, from another member.
 */
void member_flushed(struct member *m, const struct record_key *key);
/* Is there an SA with that key or, `birth`, with these keys, or was there one? */
bool member_remembers(const struct member *m, const struct record_key *key, uint64_t birth);
/* The kernel lacks it, and has told nobody. */
void member_missing(struct member *m, const struct record_key *key);
/* ESP came for this SA, and the kernel has none. */
void member_missed(struct member *m, const struct record_key *key);

/* Our MAC addresses have changed. Others are no next hop until they have had the time to hear it.
 */
void member_own_macs(struct member *m, const struct wire_macs *macs);
void member_link(struct member *m, bool up); /* outer and inner links carry traffic */
void member_leave(struct member *m); /* others are to take over, we are being stopped */
/*
 * An administrator wants member `id`, which may be ours, to own nothing, or only if nobody else
 * can, or its share again. -EINVAL: there is no such member; -EHOSTDOWN: it is not heard;
 * -EPROTONOSUPPORT: its version takes no orders; -EBUSY: nobody else could own (member_heirs());
 * another -errno: of member_ops.keep. 0: it is done, or the other one is asked to for a while.
 */
int member_order(struct member *m, uint8_t id, enum wire_order order);
/* Hot standby: the next member in the order of ids is to own all. -EINVAL: no hot standby, or no
 * view; -EBUSY: no other member could; else as member_order(). */
int member_fail_over(struct member *m, uint8_t *ret_to);
/* Those that could own what member `id` owns: able to, and with all records; a bit each. */
uint16_t member_heirs(const struct member *m, uint8_t id);
bool member_is_handing(const struct member *m); /* buckets are about to change hands, ... */
uint16_t member_awaited(const struct member *m); /* ... as soon as these are ready */

void member_committed(
	struct member *m, uint64_t done); /* that many journal ops, from the first, are durable */

/* The highest sequence number seen, by slot: inbound after authentication, outbound at egress. */
void member_position(struct member *m, uint32_t slot, uint64_t seq);
/* How much our kernel says is used up of the limits of an SA. */
void member_used(struct member *m, uint32_t slot, const struct record_usage *used);
/* Where the kernel's counter of an outbound SA is. To be told when the guard drops a packet of it
 * because it is in no open block: the counter goes on whether packets get out or not. */
void member_counter(struct member *m, uint32_t slot, uint64_t oseq);
/* Likewise, after the guard was not there for a while: whoever owns it, all up to oseq may be out.
 */
void member_strayed(struct member *m, uint32_t slot, uint64_t oseq);

/* Another machine, that has our id and key, has been heard just now. */
void member_doubled(struct member *m, uint64_t now_us);

/* An authentic datagram of another member. */
void member_datagram(
	struct member *m, uint8_t from, const void *datagram, size_t len, uint64_t now_us);

/*
 * Our IKE daemon (espalier_ike.h). It is there, and tells what it has; that was all, what it lacks
 * is to be given to it; it has gone.
 */
void member_ike_hello(struct member *m);
void member_ike_ready(struct member *m);
void member_ike_lost(struct member *m);
/* What it tells. Each is answered by member_ops.ike, now or later. */
void member_ike_record(struct member *m, const struct ike_head *head, const void *body,
	uint32_t len, const struct ike_child *children, uint16_t n);
void member_ike_gone(struct member *m, const struct ike_head *head);
void member_ike_need(struct member *m, uint64_t own, uint64_t peer, uint8_t flags);
void member_ike_released(struct member *m, uint64_t own);
/* Our daemon has IKE SAs, or others have not heard yet of what it handed over. */
bool member_ike_busy(const struct member *m);
uint8_t member_ike_flags(const struct ike *r); /* of a gift */

/*
 * What a machine with this member's id says of itself outside of the sync channel, whether or not
 * its key and its settings are ours. Ours is told by member_claim().
 */
enum member_claim {
	CLAIM_NONE, /* it may own nothing: a link is down, it is being stopped */
	CLAIM_THERE,
	CLAIM_HOLDS, /* SAs or policies, in its kernel */
	CLAIM_SERVES, /* it is in the view that it follows */
};

void member_claims(struct member *m, uint8_t id, enum member_claim claim, uint64_t now_us);
enum member_claim member_claim(const struct member *m);
/* The member that we do not start beside, or ESPALIER_NOBODY. */
uint8_t member_held_back(const struct member *m);

/* Every half heartbeat: time passes. Then, and after each batch of other calls, member_flush()
 * sends what is due. */
void member_tick(struct member *m, uint64_t now_us);
void member_flush(struct member *m, uint64_t now_us);

/* Does a bounded part of what waits to be done in the kernel. True: more can be done at once. */
bool member_work(struct member *m, uint64_t now_us);

/* For status, tests and the simulator. */
struct member_counters {
	uint64_t malformed; /* datagrams refused by the decoder */
	uint64_t entered; /* sequence blocks */
	uint64_t adopted; /* SAs that were here before us, beyond block 0 */
	uint64_t repaired; /* records sent because a comparison found a difference */
	uint64_t install_failed; /* the kernel refused an SA or policy */
	uint64_t refused; /* SAs and policies not taken: the table is full */
	uint64_t out_of_bounds; /* records and heartbeats not taken: no honest member says that */
	uint64_t missing; /* records that the kernel lacked without a word */
	uint64_t kept; /* policies put back: living SAs need them */
	uint64_t misses; /* SAs that ESP came for and the kernel lacked; found at another member, or
			  * not */
	uint64_t misses_found, misses_unknown;
	uint64_t takeovers; /* views that took a member out */
	uint64_t slept; /* times that we were not run for longer than others wait for us */
};

struct ike_counters {
	uint64_t commits, hold_us,
		hold_most_us; /* all; the sum of how long they took, and the longest */
	uint64_t overdue; /* that took longer than commit_us */
	uint64_t gives, releases, drops; /* told to our daemon */
	uint64_t syncs; /* gives that need RFC 6311 */
	uint64_t nones; /* that nobody has */
	uint64_t refused; /* records, for want of room */
};

/* Of SAs and policies: those that live; those that do not and are remembered. */
struct member_room {
	uint32_t living, living_most, dead, dead_most;
};

struct member_other {
	bool alive, synced, settings_differ, doubled;
	uint64_t heard_us;
	uint16_t flags; /* enum wire_flags, as it last said */
	uint64_t resent;
	uint32_t queued; /* records waiting to be sent to it */
	uint32_t records; /* that it has in its kernel, as it last said */
};

const struct table *member_table(const struct member *m);
const struct view *member_view(const struct member *m);
/* The last one; 0: none since the start, or this life follows no view yet. */
uint64_t member_heartbeat_sent_us(const struct member *m);
uint8_t member_owner(const struct member *m, uint16_t bucket);
/* Who owns an SA, or ESPALIER_NOBODY: the member that it is pinned to as long as that one is in the
 * view, else its bucket's owner. */
uint8_t member_flow_owner(const struct member *m, const struct record *r);
uint32_t member_pins(const struct member *m); /* inbound SAs that are pinned */
uint32_t member_fenced(const struct member *m); /* SAs that we may emit nothing of, ... */
uint32_t member_fenced_for(const struct member *m, enum record_fence why); /* for this reason */
uint16_t member_flags(const struct member *m);
uint16_t member_doubles(const struct member *m); /* members that are there twice, a bit each */
const struct member_counters *member_counters(const struct member *m);
void member_other(const struct member *m, uint8_t id, struct member_other *ret);
struct member_room member_room(const struct member *m);
const struct ikes *member_ikes(const struct member *m);
uint8_t member_ike_owner(const struct member *m, const struct ike *r);
const struct ike_counters *member_ike_counters(const struct member *m);

#endif
