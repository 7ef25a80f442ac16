/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * replication.h - the parts of the benchmark of replication.
 *
 *   main.c     the figures that are asked for, one after the other
 *   figures.c  the table and the JSON object
 *   cluster.c  starts and ends members, waits for them
 *   member.c   one member: the agent's loop around the real core, channel and journal
 *   kernel.c   SAs, made up
 *   churn.c    SAs that are made and ended all the time
 *   sync.c     the network namespaces, their link, the XDP program of the sync interface
 *   readout.c  three ways to read a million counters
 *   audit.c    what comparing a million SAs with the kernel's costs
 */
#ifndef REPLICATION_H
#define REPLICATION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <netinet/in.h>
#include <sys/types.h>
#include <time.h>

#include "core/member.h"
#include "io/channel.h"

#define MEMBERS 2
#define MEMBERS_MOST 3 /* with churn */
#define HEARTBEAT_US 10000 /* these as the agent has them by default */
#define DEAD 3
#define BLOCK_BITS 16
#define POSITIONS_EVERY_US 100000
#define REPAIR_US 1000000
#define SYNC_PORT 4711

/* figures.c */

/* A table, a line at a time; or, at the end, a JSON object. */
void figures_begin(bool json);
/* `name` in JSON. The string stays the caller's. */
void figure(const char *name, const char *unit, double value, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
void figures_end(void);
double median(double *values, unsigned int n); /* sorts them */

/* "replication: ", and the process ends. */
void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
void say(const char *format, ...) __attribute__((format(printf, 1, 2))); /* progress: stderr */
uint64_t clock_ns(clockid_t clock);
void memory(uint64_t *ret_rss, uint64_t *ret_peak); /* resident, of this process, bytes */

/* kernel.c: the SAs of a made-up kernel follow from their number. Even ones are inbound, odd ones
 * outbound; two make a Child SA. */
void kernel_init(uint32_t children); /* pair n is of Child SA n % children */
uint32_t kernel_number(const struct record_key *key);
void kernel_sa(uint32_t number, struct record_key *ret_key, struct record_facts *ret_facts);
/* As the XFRM adapter would make it: tunnel mode, AES-GCM-128, ESN. Its length or -EMSGSIZE. */
int kernel_body(const struct record_key *key, void *buf, size_t size);

/* As the kernel tells it in a dump. Returns its length, 500 bytes at most. */
size_t kernel_message(uint32_t number, uint32_t sequence, void *buf);

/* sync.c */
struct sync_bpf;

void sync_namespace(void); /* a network namespace of our own */
void sync_link(pid_t other); /* from here to there: "sync" in both */
void sync_bridge(const pid_t *others, unsigned int n); /* the same for more than one */
void sync_up(uint8_t id); /* this end of it */
struct in_addr sync_address(uint8_t id);
/* The XDP program of the sync interface; attached, if asked. *ret_counters: the map "counters",
 * mmap'ed, for that many SAs. */
struct sync_bpf *sync_load(
	uint8_t id, uint32_t sas, bool attach, struct espalier_counter **ret_counters);

/* member.c */

struct traffic {
	uint64_t datagrams;
	uint64_t bytes; /* with DTLS, without UDP and below */
};

enum traffic_kind { HEARTBEATS, STREAM, ACKS, TRAFFIC_KINDS };

/* What a member tells of itself, some 200 times a second. Times: ns of CLOCK_MONOTONIC. */
struct report {
	uint64_t ns, cpu_ns; /* when; CPU time of the process until then */
	char carrier[160];
	bool started, synced; /* may be part of a view; has the other's records */
	uint32_t installed, queued, barred;
	uint64_t connected_ns; /* the first session */
	uint64_t full_ns; /* all SAs installed, the other's records known */
	uint64_t full_cpu_ns; /* used from `connected_ns` until then */
	uint64_t lost_ns; /* when records vanished last */
	uint64_t turn_ns, turn_cpu_ns; /* the longest turn of the loop, by the clock and by CPU */
	uint64_t rss, rss_peak; /* bytes more than before anything was opened */
	struct traffic sent[TRAFFIC_KINDS];
	uint64_t read; /* SAs read from the kernel, to be sent */
	uint64_t told; /* counters handed to the core */
	struct member_counters core;
	uint64_t rounds, rounds_ns; /* comparisons that this member asked for and got answered, and
				       what they took together */
};

enum order { ORDER_NONE, ORDER_LOSE, ORDER_MOVE, ORDER_CHURN, ORDER_STOP };

/* Of a member and of who started it. */
struct shared {
	_Atomic bool ready, go; /* has its network namespace; may begin */
	_Atomic uint32_t version; /* of the report; odd: it is being written */
	struct report report;
	_Atomic uint32_t order; /* enum order; ORDER_NONE: carried out */
	uint32_t argument; /* LOSE: records; MOVE: counters each POSITIONS_EVERY_US, from now on;
			      CHURN: pairs a second, 0: as many as are kept up with */
};

/* churn.c */

#define CHURN_RING 65536U /* pairs: more than are under way at a time */

/* Of all members and of who started them. Pairs are counted from the first that churn has made;
 * times: ns of CLOCK_MONOTONIC. */
struct churn_shared {
	_Atomic uint32_t pairs; /* are to be made, in all */
	_Atomic uint32_t made;
	_Atomic uint64_t made_ns[CHURN_RING];
	struct {
		_Atomic uint32_t n; /* pairs that it has had whole */
		_Atomic uint64_t ns[CHURN_RING]; /* since when: installed, and open in the guard */
	} done[MEMBERS_MOST];
};

struct end;
struct churn;

struct churn *churn_new(struct churn_shared *shared, uint8_t self, uint32_t children);
int churn_fd(const struct churn *c); /* readable: a pair is to be made */
void churn_begin(struct churn *c, uint32_t per_second);
/* Makes what is due. *ret_installed: SAs more, or less, in this kernel. True: at once again. */
bool churn_turn(struct churn *c, struct member *m, int *ret_installed);
void churn_installed(struct churn *c, const struct record_key *key);
void churn_guarded(struct churn *c, const struct record_key *key, const struct espalier_sa *sa);
void churn_measure(uint32_t rekeys);

struct setup {
	uint8_t id;
	uint8_t members;
	uint32_t sas, own; /* of the cluster; in its kernel at the start */
	uint32_t more; /* that are made later, for which there must be room */
	uint32_t life;
	bool af_xdp;
	uint8_t psk[32];
	pid_t link_to[MEMBERS_MOST - 1]; /* makes the link to these processes' network namespaces */
	unsigned int links;
	struct churn_shared *churn; /* NULL: there is none */
	char folder[128]; /* of its journal */
};

void member_run(const struct setup *setup, struct shared *shared) __attribute__((noreturn));

/* cluster.c */

struct cluster {
	uint32_t sas;
	uint8_t n;
	struct churn_shared *churn;
	char folder[128]; /* of the journals, in TMPDIR */
	struct {
		pid_t pid;
		struct shared *shared;
	} members[MEMBERS_MOST];
};

/* Member 0 runs, with all SAs; the others wait. */
void cluster_start(struct cluster *c, uint32_t sas, bool af_xdp);
/* Three, with room for `more` SAs that churn will make. */
void cluster_start_churn(struct cluster *c, uint32_t sas, uint32_t more);
void cluster_join(struct cluster *c); /* the others, with nothing */
void cluster_wait_full(struct cluster *c); /* until these have all SAs */
void cluster_settle(struct cluster *c); /* until only heartbeats and comparisons travel */
void cluster_sleep(struct cluster *c, unsigned int ms);
struct report cluster_report(const struct cluster *c, unsigned int id);
void cluster_order(struct cluster *c, unsigned int id, enum order order, uint32_t argument);
void cluster_stop(struct cluster *c);

/* readout.c */
void readout_measure(uint32_t sas);

/* audit.c */
void audit_measure(uint32_t sas);

#endif
