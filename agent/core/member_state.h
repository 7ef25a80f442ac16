/* SPDX-License-Identifier: BSD-2-Clause */
/* member_state.h - shared by member.c, kernel.c, replica.c, sequence.c and takeover.c only. */
#ifndef MEMBER_STATE_H
#define MEMBER_STATE_H

#include "core/member.h"
#include "core/stream.h"

/* Slots of records to be sent to a member, in order, each at most once; or a QUEUE_ value. */
struct queue {
	uint32_t *slots;
	uint32_t size, head, count;
};

#define QUEUE_DIGEST 0xfffffff0U /* + part */
#define QUEUE_PULL 0xfffffff8U
#define QUEUE_PULLED 0xfffffff9U
#define QUEUE_SPECIAL QUEUE_DIGEST

struct other {
	bool alive;
	bool differs; /* its settings are not ours */
	uint64_t heard_us;
	struct wire_heartbeat heartbeat;
	struct espalier_member macs; /* as the datapath has them */
	bool told; /* this life of it has told us its MACs */
	bool hears_us; /* it has heard what we said after our start or our last long sleep */
	bool knows_us; /* and has said that it knows our MACs */
	struct stream stream;
	struct queue queue;
	uint64_t pull_due_us; /* when to compare records with it again */
	uint32_t asked, answered; /* comparisons, by number: the last one counts */
	/* It asked for what differs from these. */
	uint64_t digests[TABLE_RANGES];
	bool serving;
	uint32_t serving_number;
	uint32_t cursor;
};

/* A block on its way through the journal. */
struct entering {
	uint64_t ticket; /* the journal op it waits for */
	uint32_t slot;
	uint64_t birth, block;
	uint8_t *body; /* to be installed when it is entered; NULL: is in the kernel already */
	size_t body_len;
};

struct member {
	struct member_config config;
	const struct member_ops *ops;
	void *ctx;
	struct block_rule rule;
	bool starting; /* until member_started() */
	uint64_t now_us, ticked_us, started_us, heartbeat_due_us;
	struct table table;
	struct other others[ESPALIER_MEMBERS];
	struct view view;
	uint8_t owner[ESPALIER_BUCKETS];
	uint16_t synced; /* members whose records we have */
	uint64_t contested_us; /* since when a member's view differs from the one we publish; 0:
				  none does */
	uint8_t flags;
	uint32_t journals[ESPALIER_MEMBERS]; /* as last heard */
	uint32_t barred;

	struct entering *entering; /* ring */
	uint32_t entering_size, entering_head, entering_count;
	uint64_t tickets;

	uint32_t sweep; /* next slot to look at; TABLE_NONE: done */
	uint64_t sweep_due_us; /* when to sweep again; 0: only if something happens */
	uint32_t reaped; /* next slot to look at */
	struct member_counters counters;
};

static inline uint16_t member_bit(unsigned int id)
{
	return (uint16_t)(1U << id);
}

static inline bool member_is_other(const struct member *m, unsigned int id)
{
	return id < ESPALIER_MEMBERS && id != m->config.self && (m->config.members >> id & 1);
}

static inline bool record_is_outbound_sa(const struct record *r)
{
	return r->key.kind == RECORD_SA && r->facts.direction == ESPALIER_OUT;
}

/* replica.c */
void replica_mark(struct member *m, struct record *r); /* all of it, to all */
void replica_mark_state(struct member *m, struct record *r); /* top, seq, upto, to all */
void replica_pull(struct member *m, uint8_t from);
void replica_message(struct member *m, uint8_t from, const struct wire_message *message);
void replica_flush(struct member *m, uint8_t to);
void replica_forget(struct member *m, uint8_t id); /* it restarted: what was on its way is void */
void replica_send(struct member *m, uint8_t to, const uint8_t *payload, size_t len); /* once */

/* sequence.c */
void sequence_consider(struct member *m, struct record *r); /* enter a block if one is needed */
void sequence_look(struct member *m, struct record *r); /* what is known of it, or who owns it, has
							   changed */
void sequence_install(struct member *m, struct record *r, const void *body, size_t body_len);
void sequence_adopt(
	struct member *m, struct record *r, uint64_t oseq); /* it is in our kernel already */
void sequence_guard(struct member *m, const struct record *r);
void sequence_bar(struct member *m, struct record *r); /* sets or lifts `barred` */
void sequence_reset(struct member *m, struct record *r);
void sequence_tick(struct member *m);

/* kernel.c */
void member_apply_pair(struct member *m, uint64_t pair); /* buckets of policies follow their SAs' */
void member_died(struct member *m, struct record *r); /* by what another member says */
void member_end(struct member *m, struct record *r); /* because we say so */

/* takeover.c */
void takeover_watch(struct member *m);
void takeover_publish(struct member *m);
void takeover_adopt(struct member *m, uint8_t from); /* the view that it told */
void takeover_step_out(struct member *m, uint16_t members); /* of our view, at once */

/* member.c */
void member_set_macs(struct member *m, unsigned int id);

#endif
