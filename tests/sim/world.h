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

#include "core/member.h"

#define SAS 48 /* SAs in the life of a world */
#define POLICIES 24
#define NUMBERS (1U << 22) /* sequence numbers an SA may use here */
#define BLOCK_BITS 6
#define HEARTBEAT_US 10000
#define DEAD_US (3 * HEARTBEAT_US)
#define REPAIR_US 200000 /* a round of comparisons */

/* An SA as IKE made it: both ends agree on it. Its key is reused now and then, with another birth.
 */
struct child {
	bool used, ended;
	struct record_key key;
	struct record_facts facts;
	uint8_t creator;
	uint8_t ended_by;
	uint32_t ended_boots; /* the life of the agent that was told; 0: none */
	/* Outbound: what the peer has seen. */
	uint8_t *seen; /* a bit a number */
	uint64_t highest;
	uint64_t highest_by_us; /* when */
	uint64_t ran_away_us; /* when its counter last ran on in a stopped agent's member */
	uint8_t last_from;
};

/* An SA in a member's kernel, and what its guard's pinned map says of it. */
struct kernel_sa {
	bool present;
	uint64_t oseq;
	bool guarded;
	struct espalier_sa guard;
	uint64_t counter; /* highest number let out */
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
	uint64_t due_us;
	unsigned int child;
	bool added; /* else removed */
};

#define EVENTS (4 * SAS)

struct machine {
	bool up; /* powered */
	struct member *agent; /* NULL: not running */
	bool frozen; /* SIGSTOP */
	uint64_t back_us; /* when agent or machine comes back; 0: it is there */
	uint32_t boots; /* lives of the agent: a datagram of another life is not authentic (DTLS) */
	uint32_t heard_boots[ESPALIER_MEMBERS]; /* the life of another one that our DTLS association
						   is with */
	unsigned int ops_left; /* the agent dies after so many more ops; 0: it does not */
	struct kernel_event events[EVENTS];
	unsigned int n_events;
	struct kernel_sa sas[SAS];
	bool policies[POLICIES];
	/* Pinned maps: survive the agent, not the machine. */
	uint8_t owner[ESPALIER_BUCKETS];
	uint32_t live;
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
	uint64_t alive_us; /* when the agent last said that it lives */
	uint64_t audit_us; /* when to compare the kernel with the agent's table */
	uint64_t missed_us; /* when ESP without an SA woke the agent last */
	bool link_up;
};

struct datagram {
	uint64_t due_us;
	uint8_t from, to;
	uint32_t from_boot, to_boot;
	uint16_t len;
	uint8_t bytes[WIRE_MAX];
};

struct world {
	uint64_t seed, random;
	uint64_t now_us;
	unsigned int members;
	enum view_mode mode;
	enum espalier_hash hash;
	struct machine machines[ESPALIER_MEMBERS];
	struct child children[SAS];
	unsigned int n_children;
	uint64_t next_birth;

	/* The network: chances in 1/1000. */
	unsigned int loss, repeat;
	uint64_t delay_us;
	bool cut[ESPALIER_MEMBERS][ESPALIER_MEMBERS];
	/* When the network lost the last but one and the last segment of a stream. */
	uint64_t lost_us[ESPALIER_MEMBERS][ESPALIER_MEMBERS][2];
	struct datagram **flying;
	uint32_t n_flying, flying_size;

	bool faults; /* they are allowed to happen now */
	unsigned int fault_every_ms; /* on average */
	uint64_t fault_us, previous_fault_us; /* the last two */
	uint64_t quiet_us; /* IKE makes and ends no more */
	uint64_t settled_us; /* since when all members hear each other */
	uint64_t agreed_us; /* since when all have the same records; 0: they do not */
	bool views_changed, views_split;
	uint64_t split_us; /* when last somebody could hold itself for an owner that is not */
	bool verbose;

	/* Results. */
	char failure[200];
	uint64_t emitted, blocked, unowned, accepted, rejected, delivered, hops, takeovers,
		calm_takeovers, datagrams, faults_made, rounds, misses, pins;
};

uint64_t world_random(struct world *w, uint64_t below);
bool world_chance(struct world *w, unsigned int of_1000);
__attribute__((format(printf, 2, 3))) void world_fail(struct world *w, const char *format, ...);
__attribute__((format(printf, 2, 3))) void world_say(struct world *w, const char *format, ...);

/* ops.c */
struct machine_context {
	struct world *world;
	unsigned int id;
};

extern const struct member_ops machine_ops;
/* What the kernel tells of an SA; returns its length. */
size_t machine_body(const struct child *child, unsigned int index, uint8_t *body);
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
/* ESP for this SA is here, and the kernel has none. */
void machine_miss(struct world *w, unsigned int id, unsigned int child);
/* guard.c */
/* The kernel encrypts `count` packets (a GSO packet if more than one) for this SA; the guard
 * decides. */
void machine_emit(struct world *w, unsigned int id, unsigned int child, unsigned int count);

/* load.c: IKE makes, rekeys and ends SAs; packets go in and out. */
void load_ike(struct world *w);
void load_traffic(struct world *w);

/* faults.c */
void faults_happen(struct world *w);
void faults_end(struct world *w, unsigned int id); /* if it is time for it to come back */
void faults_heal(struct world *w); /* all come back, none happen any more */

/* network.c */
void network_send(struct world *w, uint8_t from, uint8_t to, const void *bytes, size_t len);
void network_run(struct world *w);
void network_free(struct world *w);

#endif
