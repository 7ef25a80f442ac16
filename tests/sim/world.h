/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * world.h - a made-up world around real cores: kernels, guards, journals, a network that loses,
 * repeats, delays and cuts, machines and agents that crash, and a peer gateway that remembers every
 * number it has seen.
 *
 * Everything follows from one seed.
 */
#ifndef WORLD_H
#define WORLD_H

#include <string.h>

#include "core/member.h"

#define MACHINES (ESPALIER_MEMBERS + 1)
#define CLONE ESPALIER_MEMBERS /* the machine that is up only as another one's clone */
#define SAS 48 /* SAs in the life of a world */
#define POLICIES 24
#define BLOCK_BITS 6
#define FEW_BLOCKS_BITS 24 /* so that a 32-bit counter has 256 blocks */
#define HEARTBEAT_US 10000
#define DEAD 3
#define DEAD_US (DEAD * HEARTBEAT_US)
#define CLAIMS_EVERY_US 50000
#define SILENCE_US 100000 /* so long nothing comes through that loses half of it */
#define REFUSES_US 1000000 /* a kernel, at most */
#define DOUBLED_US 1000000 /* from the last sign of a clone */
#define REPAIR_US 200000 /* a round of comparisons */

/* A set of numbers (numbers.c): a hash of pages, and the page used last. */
struct numbers {
	struct page **pages, *page;
	uint32_t size, used;
};

/* An SA as IKE made it: both ends agree on it. Its key is reused now and then, with another birth.
 */
struct child {
	bool used, ended;
	struct record_key key; /* at place 0 of its peer */
	uint32_t moves; /* of its peer */
	struct record_facts facts;
	uint8_t creator;
	uint8_t second_creator; /* the same script was run on two members; or ESPALIER_NOBODY */
	uint64_t made_us;
	uint64_t moved_us; /* its peer went elsewhere; 0: never */
	uint64_t found_upto; /* 1 + the last one in which it may be before its agent enters one */
	uint64_t found; /* 1 + the block in which it was before there was an agent; 0: it was not */
	uint8_t made_again; /* 1 + the machine on which it was deleted and made again, and whose
			       agent has not learned of it yet */
	bool remade; /* deleted and made again with its keys, ever */
	bool made_unseen; /* and again before that, without that any agent has seen it */
	bool doubtful; /* nobody may be able to send through it any more */
	uint8_t ended_by;
	uint32_t ended_boots; /* the life of the agent that was told; 0: none */
	uint64_t sent; /* inbound: by the peer; an attacker has recorded all of it */
	/* Outbound: what has been on a wire, and what the peer has seen (judge.c). */
	struct judged *judged;
	uint64_t highest;
	uint64_t highest_by_us; /* when */
	uint64_t ran_away_us; /* when its counter last ran on in a stopped agent's member */
	uint8_t last_from;
};

/* An SA in a member's kernel, and what its guard's pinned map says of it. */
struct kernel_sa {
	bool present;
	uint8_t place; /* of the peer: part of the key */
	uint64_t form;
	uint64_t oseq;
	uint64_t seq; /* inbound: nothing up to here is taken any more, */
	uint64_t floor; /* nor up to here while windows are being raised */
	bool guarded;
	uint8_t guard_place;
	struct espalier_sa guard;
	/* The entry for the place before, until it is taken out. */
	bool left;
	uint8_t left_place;
	struct espalier_sa left_guard;
	uint64_t counter; /* highest number let out */
	uint64_t used; /* of its limits: packets */
	bool rekey_asked; /* by XFRM_MSG_EXPIRE */
};

/* An entry of the map "pins". */
struct pin {
	struct record_key key; /* kind 0: none */
	struct espalier_flow flow;
};

struct journal_entry {
	struct record_key key;
	uint64_t birth, block;
};

/* What the kernel tells the agent, a little later: XFRM events wait in the socket. */
struct kernel_event {
	uint64_t due_us, oseq, form;
	unsigned int child;
	uint8_t place;
	bool added; /* else removed */
};

#define EVENTS (4 * SAS)

/* Packets get out past the guard. */
struct hole {
	unsigned int of_1000; /* packets; 0: there is none */
	uint64_t look_us; /* when the agent looks, and sees it */
	uint64_t until_us; /* it cannot be closed before */
	unsigned int number; /* judge.c's */
};

struct machine {
	uint8_t member; /* whose machine it is; its own number, but for the clone's */
	bool up; /* powered */
	struct member *agent; /* NULL: not running */
	bool frozen; /* SIGSTOP */
	uint64_t back_us; /* when agent or machine comes back; 0: it is there */
	bool fresh; /* no agent has run since it was booted */
	uint32_t boots; /* lives of the agent: a datagram of another life is not authentic (DTLS) */
	uint32_t heard_boots[MACHINES]; /* the life of another one that our DTLS association is
					   with */
	/* Since when without a break, and when last, something of another one has come. */
	uint64_t hears_since_us[MACHINES], heard_us[MACHINES];
	unsigned int ops_left; /* the agent dies after so many more ops; 0: it does not */
	struct kernel_event events[EVENTS];
	unsigned int n_events;
	struct kernel_sa sas[SAS];
	bool policies[POLICIES];
	/* Pinned maps: survive the agent, not the machine. */
	uint8_t owner[ESPALIER_BUCKETS];
	uint32_t live;
	/* Of these floors count: espalier_view_half. */
	bool marked[ESPALIER_BUCKETS];
	uint16_t turned;
	bool viewed; /* this life has followed a view */
	bool handing;
	struct pin pins[SAS];
	struct wire_macs macs[ESPALIER_MEMBERS];
	bool next_hop[ESPALIER_MEMBERS];
	/* The journal: what is durable, and what is on its way to the disk. */
	uint32_t journal_id;
	struct journal_entry *journal;
	uint32_t journaled, queued, journal_size;
	uint64_t commit_us; /* when what is queued becomes durable */
	uint64_t done; /* of this life */
	uint32_t life_start; /* entries at the start of this life */
	uint64_t tick_us;
	uint64_t heartbeat_us; /* when the agent sent the last one */
	uint64_t audit_us; /* when to compare the kernel with the agent's table */
	uint64_t missed_us; /* when ESP without an SA woke the agent last */
	bool link_up;
	struct hole hole;
	bool gap; /* the agent has to read how far the kernel has counted without it */
	bool journal_lost; /* some time */
	bool begins_anew, anew; /* its journal is an old one: is to be, and has been done */
	bool prohibited; /* a rule in the kernel: nothing is emitted */
	bool doubled; /* this life knows that its member is there twice */
	uint64_t
		doubted_us; /* when it was set back, or cloned; the clone: when it went; 0: never */
	uint64_t cloned_us; /* when it was there twice last; 0: never */
	uint64_t known_us[SAS]; /* since when somebody it hears knows that it entered more */
	uint64_t entered_in_the_wrong[SAS]; /* + 1: a block that it did not, for long */
	enum wire_order order; /* a file beside the journal */
	uint64_t ordered_us; /* since when */
	/* What is to happen to it. */
	struct kept *past;
	uint64_t refuses; /* SAs, a bit each */
	uint64_t refuses_until_us;
	uint64_t refused_block[SAS]; /* + 1 */
	unsigned int again; /* child that is to be made again, */
	uint64_t again_us; /* when; 0: none */
	unsigned int restarts_left, restarts;
	uint64_t restart_us;
};

struct datagram {
	struct datagram *next; /* of those that are free */
	uint8_t from; /* machine */
	uint32_t association; /* with a member that has a clone */
	uint32_t from_boot, to_boot;
	uint16_t len;
	uint8_t bytes[WIRE_MAX];
};

struct flying {
	uint64_t due_us;
	uint8_t to; /* machine */
	struct datagram *datagram;
};

/* Why a number may come twice: because nothing can stop it (README: what could make a number come
 * twice). */
enum excuse {
	EXCUSED_NOT,
	EXCUSED_UNGUARDED, /* the guard is gone or passed by, and who repeats cannot know it yet */
	EXCUSED_SET_BACK, /* a journal or machine is an old one or a clone's, and those who could
			     tell are not heard */
	EXCUSED_TWO_CREATORS, /* both use block 0, and do not hear each other */
	EXCUSED_MADE_AGAIN, /* with the same keys, and the agent has not learned it yet */
	EXCUSES
};

struct world {
	uint64_t seed, random;
	uint64_t now_us, begun_us;
	unsigned int members;
	enum view_mode mode;
	enum espalier_hash hash;
	uint8_t block_bits;
	struct machine machines[MACHINES];
	struct child children[SAS];
	unsigned int n_children;
	uint64_t next_birth;

	/* The network: chances in 1/1000. */
	unsigned int loss, repeat;
	uint64_t delay_us;
	bool cut[MACHINES][MACHINES];
	/* When the network lost the last but one and the last segment of a stream. */
	uint64_t lost_us[MACHINES][MACHINES][2];
	/* Of the two machines of one member, a DTLS association is with one at a time. */
	struct {
		bool with_clone;
		uint32_t number;
		uint64_t next_us; /* when the other one's handshake comes */
	} associations[ESPALIER_MEMBERS];
	struct flying *flying;
	uint32_t n_flying, flying_size;
	struct datagram *free;

	bool claims_pass; /* where datagrams do not */
	bool faults; /* they are allowed to happen now */
	uint32_t kinds; /* of faults, that may happen in this world */
	unsigned int fault_every_ms; /* on average */
	uint64_t doubts_random; /* so that the rest of the world does not change with them */
	bool plans, plans_alone; /* orders are given; and nothing else happens */
	uint64_t plans_random;
	uint64_t handing_us; /* when last buckets changed hands between living members */
	uint64_t fault_us, previous_fault_us; /* the last two */
	uint64_t retried_us; /* what a kernel has refused is tried again by then */
	bool obeys; /* no kernel refuses anything by chance any more */
	uint64_t quiet_us; /* IKE makes and ends no more */
	uint64_t settled_us; /* since when all members hear each other */
	uint64_t agreed_us; /* since when all have the same records; 0: they do not */
	bool views_changed, views_split;
	uint64_t split_us; /* when last somebody could hold itself for an owner that is not */
	uint64_t clone_until_us, cut_until_us; /* 0: for longer */
	bool clones_meet; /* the two machines of one member hear each other's questions */
	uint64_t meet_us; /* the next ones */
	uint64_t tombstone_us;
	uint32_t idle; /* most that are not alive and have a record, for long */
	bool verbose;

	/* Results. */
	char failure[200];
	struct judge *judge;
	uint64_t emitted, blocked, unowned, accepted, rejected, delivered, replays, taken_again,
		hops, takeovers, calm_takeovers, orders, not_owner, datagrams, faults_made, rounds,
		misses, pins;
	uint64_t excused[EXCUSES], doubled;
};

uint64_t world_random(struct world *w, uint64_t below);
bool world_chance(struct world *w, unsigned int of_1000);
__attribute__((format(printf, 2, 3))) void world_fail(struct world *w, const char *format, ...);
__attribute__((format(printf, 2, 3))) void world_say(struct world *w, const char *format, ...);

/* Most differ by the SPI. */
static inline bool same_key(const struct record_key *a, const struct record_key *b)
{
	return a->spi == b->spi && memcmp(a, b, sizeof(*a)) == 0;
}

/* ops.c */
struct machine_context {
	struct world *world;
	unsigned int id;
};

extern const struct member_ops machine_ops;
/* What the kernel tells of an SA; returns its length. */
size_t machine_body(const struct child *child, unsigned int index, uint8_t *body);
/* The key of an SA whose peer is there. The peer of an inbound one may be anywhere. */
static inline struct record_key machine_key(const struct child *child, uint8_t place)
{
	struct record_key key = child->key;

	key.addr[1] = child->facts.direction == ESPALIER_OUT ? place : 0;
	return key;
}

static inline bool is_key(const struct child *child, uint8_t place, const struct record_key *key)
{
	struct record_key own;

	if (child->key.spi != key->spi)
		return false;
	own = machine_key(child, place);
	return same_key(&own, key);
}

/* The one of this key that is in the kernel, or -1. */
int machine_child(
	const struct world *w, const struct machine *machine, const struct record_key *key);
/* Its pin, or NULL. */
const struct pin *machine_pin(const struct machine *machine, const struct record_key *key);
/* As bpf/maps.h view_owner(): by what was published last. */
uint8_t machine_owner(const struct machine *machine, uint16_t bucket, uint8_t pinned);

/* machine.c: a member's kernel and agent. */
void machine_boot(struct world *w, unsigned int id);
void machine_start_agent(struct world *w, unsigned int id);
void machine_kill_agent(struct world *w, unsigned int id);
void machine_power_off(struct world *w, unsigned int id);
void machine_lose_journal(struct world *w, unsigned int id);
void machine_run(struct world *w, unsigned int id);
void machine_free(struct world *w, unsigned int id);
/* IKE on this member made or ended an SA. */
void machine_add(struct world *w, unsigned int id, unsigned int child);
/* Whether two members may both hold themselves for the owner of a flow. */
bool machines_split(const struct world *w);
void machine_end(struct world *w, unsigned int id, unsigned int child);
/* IKE on this member follows the peer: deletes the SA, and makes it with the same keys. */
void machine_move(struct world *w, unsigned int id, unsigned int child);
/* ESP for this SA is here, and the kernel has none. */
void machine_miss(struct world *w, unsigned int id, unsigned int child);
/* Its link, as the agent tells the core. */
void machine_tell_link(struct world *w, unsigned int id);

/* guard.c */
/* The kernel encrypts `count` packets (a GSO packet if more than one) for this SA; the guard
 * decides. */
void machine_emit(struct world *w, unsigned int id, unsigned int child, unsigned int count);
/* From now on so many of 1000 packets get out past the guard; it cannot be mended before
 * `until_us`.
 */
void guard_hole(struct world *w, unsigned int id, unsigned int of_1000, uint64_t until_us);
void guard_look(struct world *w, unsigned int id); /* the agent does */

/* numbers.c */
bool numbers_note(struct numbers *n, uint64_t seq); /* was it there before? */
void numbers_free(struct numbers *n);

/* judge.c: what may be on the wire. */
/* `stopped`: the guard would not have let it out, but it did not see it. */
void judge_emitted(struct world *w, unsigned int id, unsigned int child, uint64_t first,
	uint64_t last, bool stopped);
void judge_entered(struct world *w, unsigned int id, unsigned int child, uint64_t block);
void judge_refused(struct world *w, unsigned int id, unsigned int child, uint64_t block);
unsigned int judge_hole(struct world *w, unsigned int id); /* there is one: its number */
void judge_started(struct world *w, unsigned int id, bool booted);
void judge_hole_seen(struct world *w, unsigned int number); /* and its agent knows */
/* From now on it knows of the blocks that its machine entered what its journal says. */
void judge_set_back(struct world *w, unsigned int id);
void judge_doubled(struct world *w, unsigned int member); /* somebody says that it is there twice */
void judge_restarts(struct world *w, unsigned int id); /* there were so many; how much was used up?
							*/
void judge_restarts_begin(struct world *w);
/* Is a 32-bit counter so far on that a member may have no block left? */
bool judge_is_spent(const struct world *w, unsigned int child);
void judge_time(struct world *w);
void judge_free(struct world *w);

/* load.c: IKE makes, rekeys and ends SAs; packets go in and out. */
/* Two SAs, made here and, if that is another one, by `second` as well; false: no room. */
bool load_make_pair(struct world *w, uint64_t pair, unsigned int creator, unsigned int second);
/* A gateway that carries traffic already, before its first agent. */
void load_found(struct world *w, unsigned int id);
void load_ike(struct world *w);
void load_traffic(struct world *w);

/* faults.c */
bool faults_read(const char *list, uint32_t *ret_kinds); /* false: there is no such fault */
void faults_begin(struct world *w, uint32_t kinds, bool chosen); /* which of them this world has */
bool faults_doubtful(const struct world *w); /* does it have any of doubts.c? */
void faults_note(struct world *w); /* one happens now */
void faults_happen(struct world *w);
void faults_end(struct world *w, unsigned int id); /* if it is time for it to come back */
void faults_heal(struct world *w); /* all come back, none happen any more */

/* plans.c: what an administrator orders. */
void plans_begin(struct world *w, bool alone);
void plans_happen(struct world *w);
void plans_undo(struct world *w);
void plans_lost(struct world *w, unsigned int id, unsigned int child, const char *why);

/* doubts.c: what makes it doubtful which numbers are out. Each happens to a machine, if it can, and
 * those that end do so at `until_us`. */
uint64_t doubts_random(struct world *w, uint64_t below);
void doubts_guard(struct world *w, unsigned int id, uint64_t until_us);
void doubts_second_way(struct world *w, unsigned int id, uint64_t until_us);
void doubts_passed_by(struct world *w, unsigned int id, uint64_t until_us);
void doubts_old_journal(struct world *w, unsigned int id, uint64_t until_us);
void doubts_rollback(struct world *w, unsigned int id, uint64_t until_us);
void doubts_clone(struct world *w, unsigned int id, uint64_t until_us);
void doubts_two_creators(struct world *w, unsigned int id, uint64_t until_us);
void doubts_made_again(struct world *w, unsigned int id, uint64_t until_us);
void doubts_refused(struct world *w, unsigned int id, uint64_t until_us);
void doubts_restarts(struct world *w, unsigned int id, uint64_t until_us);
void doubts_mad(struct world *w, unsigned int id, uint64_t until_us);
void doubts_run(struct world *w); /* what was begun goes on */
void doubts_end(struct world *w);

/* network.c */
/* `from`: a machine. */
void network_send(
	struct world *w, unsigned int from, unsigned int member, const void *bytes, size_t len);
void network_run(struct world *w);
void network_free(struct world *w);

#endif
