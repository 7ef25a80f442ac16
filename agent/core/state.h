/* SPDX-License-Identifier: BSD-2-Clause */
/* state.h - shared by the files that make up a member (member.h) only. */
#ifndef STATE_H
#define STATE_H

#include "core/member.h"
#include "core/past.h"
#include "core/stream.h"

/* What is to be sent to a member, in order. */
enum queue_kind {
	QUEUE_RECORD, /* index: its slot; stands in a queue once */
	/* A comparison, by the messages of enum wire_kind. */
	QUEUE_DIGEST, /* index: part, WIRE_DIGESTS ranges each */
	QUEUE_PULL,
	QUEUE_LEAVES, /* index: range */
	QUEUE_LEAVES_END,
	QUEUE_HAVE, /* index: leaf */
	QUEUE_HAVE_END,
	QUEUE_PULLED,
	QUEUE_IKE, /* index: slot of an IKE SA; stands in a queue once */
};

struct queue_entry {
	enum queue_kind kind;
	uint32_t index; /* 0: the kind has none */
};

struct queue {
	struct queue_entry *entries;
	uint32_t size, head, count;
};

/* One side of a comparison: we asked. */
struct asking {
	uint32_t asked, answered; /* by number: the last one counts */
	uint64_t due_us; /* when to compare again */
	uint32_t leaves; /* in the queue: never more than there are */
	bool pulled; /* all has been sent to us; ... */
	uint64_t pulled_work; /* ... and is in our kernel when this work has been done */
};

/* The other side: it asked for what differs from its digests. */
struct serving {
	uint32_t number;
	bool walking; /* through our table, for what it has nothing of */
	bool narrowing; /* it has yet to say what it has in the leaves that differ */
	uint32_t cursor, ike_cursor;
	uint64_t digests[TABLE_RANGES];
};

/* An IKE SA's record travels in pieces. */
struct ike_sending {
	uint32_t slot, turn, offset;
	uint64_t version;
};

struct ike_arriving {
	struct ike_head head;
	uint8_t *bytes; /* NULL: none */
	uint32_t total, got;
};

/* Our IKE daemon, and the IKE SAs (holder.c, commit.c). */
struct holder {
	struct ikes ikes;
	enum { DAEMON_NONE, DAEMON_TELLS, DAEMON_READY } daemon; /* TELLS: what it has already */
	uint32_t sweep; /* next slot to look at; TABLE_NONE: done */
	uint64_t lost_us; /* since when it has been gone; 0: it is there, or never was */
	bool waits; /* for another member to hand something over */
	bool taken_due; /* to be told when the sweep is over */
	unsigned int gifts; /* in the background, until the next tick */
	uint32_t tell_first, tell_last, commit_first; /* slots */
	uint32_t reaped;
	uint64_t full_said_us;
	struct ike_counters counters;
};

struct other {
	bool alive;
	bool differs; /* its settings are not ours */
	uint64_t heard_us;
	struct wire_heartbeat heartbeat;
	struct wire_macs macs; /* as the datapath has them, */
	bool next_hop; /* and whether it sends on to it */
	bool told; /* this life of it has told us its MACs */
	bool hears_us; /* it has heard what we said after our start or our last long sleep */
	bool knows_us; /* and has said that it knows our MACs */
	struct queue queue;
	struct asking asking;
	struct serving serving;
	struct stream stream;
	/* What we knew when a handover began (handover.c): it has all up to this segment of this
	 * stream, ... */
	uint64_t handed_stream; /* 0: it is not in the stream yet */
	uint32_t handed_seq;
	bool handed; /* ... as it has acknowledged */
	struct ike_sending ike_sending;
	struct ike_arriving ike_arriving;
};

/*
 * Work in our kernel that waits its turn: to install a record, to move an SA's counter, or to raise
 * its window. What enters a block waits until that is in the journal.
 */
struct work {
	uint64_t id; /* rises */
	uint64_t ticket; /* the journal op it waits for */
	uint32_t slot;
	bool installs;
	bool updates; /* an SA that is there, to the form of the body */
	bool raises; /* the window of an inbound SA */
	bool enters; /* `block` */
	uint64_t block;
	uint64_t form; /* of the body */
	uint8_t *body; /* of an SA to be installed; a policy's is in its record */
	size_t body_len;
};

/* An SA that was deleted here. If it does not come back, it has ended. */
struct departure {
	uint64_t us, birth;
	uint32_t slot;
};

/* In order of time: a ring; its size is a power of two. */
struct departures {
	struct departure *all;
	uint32_t size, head, count;
};

/* A policy that was changed here before its SAs. Nothing came of it if its record names another
 * change, or none. */
struct policy_change {
	uint64_t us;
	uint32_t slot;
	struct member_record record;
	uint8_t *body; /* of that */
};

/* In order of time: a ring; its size is a power of two. */
struct policy_changes {
	struct policy_change *all;
	uint32_t size, head, count;
	uint32_t gone; /* so many were there before; with 1 for the first, what records name */
};

#define WORK_MAX 4096 /* so much of it, and nothing more is taken from the others' streams */

/* ESP came for an SA that our kernel lacks: who has it? */
struct miss {
	struct record_key key; /* kind 0: free */
	uint64_t first_us, asked_us; /* asked first, last */
	uint16_t waiting; /* for these members' answers */
};

#define MISSES 64 /* asked for at a time */

struct member {
	struct member_config config;
	const struct member_ops *ops;
	void *ctx;
	struct block_rule rule;
	bool starting; /* until member_started() */
	uint64_t now_us, ticked_us, started_us, heartbeat_due_us, heartbeat_sent_us;
	unsigned int heartbeat_ticks; /* since then */
	uint64_t macs_heard_us; /* from then on all who hear us know our MAC addresses of now */
	struct table table;
	struct pasts past;
	struct holder holder;
	struct other others[ESPALIER_MEMBERS];
	struct view view;
	uint8_t owner[ESPALIER_BUCKETS];
	uint16_t synced; /* members whose records we have */
	uint64_t contested_us; /* since when a member's view differs from the one we publish; 0:
				  none does */
	uint16_t flags;
	uint32_t journals[ESPALIER_MEMBERS]; /* as last heard */
	uint32_t fenced[FENCES], pins;
	bool doubted; /* member_ops.journal_old has been called, ... */
	bool begins_anew; /* and has said that nothing is ours until the next life; or we are
			     doubled */
	uint64_t doubled_until_us[ESPALIER_MEMBERS]; /* as we have seen ourselves */
	uint16_t doubled; /* as anybody says: in no view */
	uint16_t noticed[NOTICES]; /* members of whom it has been told */
	uint64_t flipped_us; /* when buckets last changed hands */
	bool handing; /* as the datapath knows (handover.c) */
	uint64_t handed_us; /* when that last changed */
	uint64_t handing_work; /* what was to be done when that began: up to this id */
	bool awaits; /* we publish, and wait until all are ready; ... */
	uint64_t awaited_us; /* ... since then; 0: we do not */
	struct {
		enum wire_order what;
		uint64_t until_us; /* 0: none */
	} orders[ESPALIER_MEMBERS]; /* to other members, until they say that they follow */

	struct work *work; /* ring; its size is a power of two */
	uint32_t work_size, work_head, work_count;
	uint32_t work_released; /* so much of it waits for nothing but its turn */
	uint64_t work_ids;
	uint64_t tickets, committed; /* journal ops: asked for, durable */
	struct miss misses[MISSES];
	struct departures departures;
	struct policy_changes changes;
	struct {
		enum member_claim claim;
		uint64_t until_us;
	} claims[ESPALIER_MEMBERS]; /* by who is there and may not agree with us */

	uint32_t sweep; /* next slot to look at; TABLE_NONE: done */
	uint64_t sweep_due_us; /* when to sweep again; 0: only if something happens */
	bool raising; /* windows of what we took over: raised() has not been told yet */
	bool all_raising; /* and raising() has been told */
	bool put_off; /* one of them, in this sweep */
	uint64_t raising_work; /* it is when this work has been done; UINT64_MAX: not known yet */
	uint64_t full_said_us; /* when it was last told that something is refused; 0: never */
	bool crowded, crowded_by_dead; /* as told */
	uint32_t reaped, reaped_past; /* next slot or place to look at */
	uint64_t together_us; /* since when all members have each other's records; 0: they do not */
	struct member_counters counters;
};

static inline uint16_t member_bit(unsigned int id)
{
	return (uint16_t)(1U << id);
}

/* All other members, a bit each. */
static inline uint16_t member_others(const struct member *m)
{
	return m->config.members & (uint16_t)~member_bit(m->config.self);
}

static inline bool member_is_other(const struct member *m, unsigned int id)
{
	return id < ESPALIER_MEMBERS && id != m->config.self && (m->config.members >> id & 1);
}

/* Of our heartbeats. */
static inline void member_set_flag(struct member *m, enum wire_flags flag, bool on)
{
	m->flags = (uint16_t)(on ? m->flags | flag : m->flags & ~flag);
}

/* Says it of each member once. */
static inline void member_notice(
	struct member *m, enum member_notice notice, const struct record_key *key, uint8_t who)
{
	if (m->noticed[notice] & member_bit(who))
		return;
	m->noticed[notice] |= member_bit(who);
	m->ops->notice(m->ctx, notice, key, who);
}

static inline bool record_is_outbound_sa(const struct record *r)
{
	return r->key.kind == RECORD_SA && r->facts.direction == ESPALIER_OUT;
}

/*
 * What the files offer each other, from the top. A file calls those below it only
 * (scripts/check-layers).
 */

/* clone.c */
void clone_sign(struct member *m, unsigned int id); /* it is there twice: we have seen it now */
void clone_look(struct member *m, uint8_t by); /* who is, by now; by: who may have said so */
uint16_t clone_seen(const struct member *m); /* to be told to the others */

/* claim.c */
void claim_heard(struct member *m, uint8_t from, const struct wire_heartbeat *h);

/* takeover.c */
void takeover_publish(struct member *m);
/* The view that it told; before: what it had told before. */
void takeover_adopt(struct member *m, uint8_t from, const struct view *before);
void takeover_step_out(struct member *m, uint16_t members); /* of our view, at once */

/* drain.c */
void drain_tick(struct member *m);
void drain_heard(struct member *m, uint32_t order);

/* handover.c */
/* We publish, and buckets are to change hands between members that live. False: not yet. */
bool handover_is_due(struct member *m);
void handover_look(struct member *m); /* somebody's heartbeat may have begun or ended it */
void handover_tick(struct member *m);
void handover_flushed(struct member *m); /* what was to be sent is in the streams */

/* miss.c */
void miss_heard(struct member *m, uint8_t from, const struct wire_message *message);
void miss_installed(struct member *m, const struct record_key *key);
void miss_tick(struct member *m);

/* replica.c */
void replica_arrived(struct member *m, uint8_t from, uint32_t seq, const struct reader *payload);
void replica_worked(struct member *m); /* some work has been done: what waited for that? */
void replica_flush(struct member *m); /* sends to all what is due */

/* compare.c */
void compare_pull(struct member *m, uint8_t from);
void compare_void(struct member *m, uint8_t from);
void compare_go_on(struct member *m, uint8_t with);
void compare_forget(struct member *m, uint8_t with); /* its stream began anew */
void compare_heard(struct member *m, uint8_t from, const struct wire_message *message);
void compare_worked(struct member *m, uint8_t with);

/* holder.c */
int holder_init(struct member *m); /* -ENOMEM */
void holder_heard(struct member *m, uint8_t from, const struct wire_ike *heard);
void holder_look(struct member *m); /* the view has changed */
void holder_tick(struct member *m);
void holder_flush(struct member *m);
void holder_reap(struct member *m);
void holder_forget(struct member *m, uint8_t from); /* its stream began anew */
void holder_free(struct member *m);

/* commit.c */
void commit_begin(struct member *m, struct ike *r, const struct ike_child *children, uint16_t n);
void commit_end(struct member *m, struct ike *r); /* nobody waits for it any more */
void commit_flush(struct member *m);
void commit_tell(struct member *m, struct ike *r, enum ike_tell what);

/* kernel.c */
bool kernel_has(struct member *m, const struct record_key *key); /* asks it */
void kernel_tick(struct member *m);

/* policy.c */
/* False: there is no room for it. */
bool policy_added(struct member *m, const struct member_record *record);
void policy_tick(struct member *m);
void policy_free(struct member *m);

/* life.c */
void life_shut(struct member *m, struct record *r); /* in the guard, if its key has no other SA */
/* The record of an SA or policy, if there is one or was. */
struct record *life_find(struct member *m, const struct record_key *key, uint64_t birth);
/* Likewise, or a new one; NULL: refused, there is no room for it. */
struct record *life_begin(struct member *m, const struct record_key *key, uint64_t birth);
void life_tick(struct member *m);
void life_forget(struct member *m, struct record *r); /* that it ever was */
/* Likewise, of one without a record, if it ended before. True: another one may be there now. */
bool life_forget_past(struct member *m, uint32_t place, uint64_t before_us);
void life_died(struct member *m, struct record *r); /* by what another member says */
void life_end(struct member *m, struct record *r); /* because we say so */
void life_lost(struct member *m, struct record *r); /* our kernel lacks it, others need not */
/*
 * Without a policy the traffic of its SAs leaves in the clear, so as long as they live only the
 * member that they were made on may end it. Here it was deleted or, to: changed to that; is it to
 * be put back?
 */
bool life_is_held(
	const struct member *m, const struct record *policy, const struct record_facts *to);
void life_keep(struct member *m, struct record *policy, bool deleted);
/* Likewise, by the word of another member: does it stay since SAs of ours need it? */
bool life_holds(const struct member *m, const struct record *policy, const struct record *heard);
/* Is there a living SA that it leads to? */
bool life_has_sa(const struct member *m, const struct record *policy);
/* It was deleted here: it is shut, and has ended or comes back. */
void life_depart(struct member *m, struct record *r);
/* It comes under another key: what is under the present one goes. */
void life_moved(struct member *m, struct record *r, const struct record_key *key);
void life_vacate(struct member *m, const struct record_key *key); /* an SA left it: guard */
void life_set_aside(struct member *m, struct record *r); /* nobody has it any more */

/* flow.c */
/* Sets whose an SA, just made here or paired anew, is, and with it its pair's other SA. */
void flow_choose(struct member *m, struct record *r);
uint8_t flow_own_pin(const struct member *m, const struct record *r); /* `pinned`, made here */
/* The living SA of a pair, or NULL. */
struct record *flow_pair_sa(
	const struct member *m, uint64_t pair, enum espalier_direction direction);
/* The outbound SA that a policy leads to, or NULL. */
struct record *flow_policy_sa(const struct member *m, const struct record *policy);
void flow_apply_pair(struct member *m, uint64_t pair); /* flows of policies follow their SAs' */
void flow_apply(struct member *m, struct record *r); /* those of its pair, or its own */
void flow_steer(struct member *m, struct record *r); /* it has, or has no more, a pin */
/* What is known of it, or who owns it, has changed. */
void flow_look(struct member *m, struct record *r);
void flow_tick(struct member *m);
void flow_unpin(struct member *m, struct record *r); /* as long as it is not steered again */

/* fence.c */
void fence_judge(struct member *m, struct record *r); /* sets or lifts `fence` */
/* Our journal lacks what `from` knows of our blocks of this SA. */
void fence_doubt(struct member *m, struct record *r, uint8_t from);

/* sequence.c */
void sequence_consider(struct member *m, struct record *r); /* enter a block if one is needed */
void sequence_look(struct member *m, struct record *r); /* what is known of it, or who owns it, has
							   changed */
void sequence_install(struct member *m, struct record *r, const void *body, size_t body_len);
/* Our kernel has it in another form than its record says. */
void sequence_update(struct member *m, struct record *r, const void *body, size_t body_len);
void sequence_name(struct member *m, struct record *r); /* the journals that we know of by now */
void sequence_announce(struct member *m, struct record *r, uint64_t block);
void sequence_installed(struct member *m, struct record *r, const struct work *w);
void sequence_refused(struct member *m, struct record *r, const struct work *w, int error);
void sequence_move(struct member *m, struct record *r, const struct work *w);
void sequence_adopt(
	struct member *m, struct record *r, uint64_t oseq); /* it is in our kernel already */
/* Likewise, and it was here before: what its counter says is not to be relied on. */
void sequence_return(struct member *m, struct record *r, uint64_t oseq);
/* We have started: where one is that was adopted and never settled nobody knows. */
void sequence_started(struct member *m, struct record *r);
void sequence_guard(struct member *m, const struct record *r);
void sequence_reset(struct record *r); /* it is not in our kernel any more */
void sequence_shut(struct member *m, struct record *r); /* also what is about to open is void */

/* inbound.c */
bool record_is_windowed(const struct record *r); /* inbound, with sequence numbers */
/* Our kernel has taken numbers up to this one; whoever owns it: they are not to be taken again. */
void inbound_taken(struct member *m, struct record *r, uint64_t seq);
void inbound_look(struct member *m, struct record *r); /* is its window to be raised? */
void inbound_raise(struct member *m, struct record *r);
void inbound_swept(struct member *m); /* all SAs have been looked at since the last flip */
void inbound_tick(struct member *m);

/* usage.c */
bool usage_is_less(const struct record_usage *a, const struct record_usage *b); /* in any part */
/* More than `before` may be known to be used up, by another member: our kernel counts on there. */
void usage_follow(struct member *m, const struct record *r, struct record_usage before);

/* outbox.c */
void outbox_mark(struct member *m, struct record *r); /* all of it, to all */
void outbox_mark_state(struct member *m, struct record *r); /* its numbers, to all */
void outbox_mark_position(struct member *m, struct record *r); /* seq and used, to all */
void outbox_mark_position_for(struct member *m, struct record *r, unsigned int id); /* to one */
void outbox_mark_for(struct member *m, struct record *r, unsigned int id); /* all of it, to one */
void outbox_mark_ike(struct member *m, struct ike *r);
void outbox_mark_ike_for(struct member *m, struct ike *r, unsigned int id);
/* Of a comparison: not a record. */
void outbox_queue(struct member *m, uint8_t to, enum queue_kind kind, uint32_t index);
void outbox_flush(struct member *m, uint8_t to);
void outbox_forget(struct member *m, uint8_t id); /* it restarted: what was on its way is void */
void outbox_send(struct member *m, uint8_t to, const uint8_t *payload, size_t len); /* once */

/* work.c */
/*
 * Adds work for a record, taking a copy of the body. NULL: something waits to be done for it
 * already, or no memory; it will be tried again.
 */
struct work *work_add(
	struct member *m, struct record *r, uint64_t block, const void *body, size_t body_len);
struct work *work_at(const struct member *m, uint32_t index); /* 0: the next one */
/* What waits to be done for a record that has some. */
struct work *work_of(const struct member *m, const struct record *r);
/* Takes out the next one of those that are released; to be given to work_free(). False: none is. */
bool work_take(struct member *m, struct work *ret);
void work_free(struct work *w);
void work_free_all(struct member *m);
bool work_busy(const struct member *m); /* WORK_MAX waits */

#endif
