/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * agent.h - the parts of a running espalierd, from the top; each calls only those below it
 * (scripts/check-layers).
 *
 *   espalierd.c      waits for events
 *   start.c          starts the parts
 *   control.c        serves espalierctl; control_answer.c: what it is told; control_ike.c: what an
 *                    IKE daemon needs
 *   metrics_out.c    where metrics go; metrics.c: what they are, exposition.c: in which words;
 *                    metrics_times.c: how long things take
 *   audit.c          compares the kernel with the core's records
 *   progress.c       how far a member that joins has come; service.c: what the service manager is
 *                    told
 *   events.c         hands what happens to the core; events_kernel.c: what happens to SAs
 *   ike.c            serves the IKE daemon's plugin
 *   local.c          SAs that no other member can have; usage.c: limits of SAs that can
 *   ops.c            carries out what the core decides (core/member.h, struct member_ops)
 *   boot.c           has there been an agent since the machine was booted?
 *   hops.c           how packets get to the other members; notice.c: what the core refuses or shuts
 *   watch.c          keeps guard and steering where they are; forward.c: can our kernel forward?
 *   strangers.c      members that are there and do not agree with us
 *   happened.c       what espalierctl events shows
 *   agent.c          the log and the clock
 */
#ifndef AGENT_H
#define AGENT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "config.h"
#include "core/member.h"
#include "histogram.h"
#include "io/beacon.h"
#include "io/channel.h"
#include "io/clone.h"
#include "io/datapath.h"
#include "io/hop.h"
#include "io/http.h"
#include "io/journal.h"
#include "io/link.h"
#include "io/plugin.h"
#include "io/route.h"
#include "io/textfile.h"
#include "io/xfrm.h"

#define AUDIT_BITS 64 /* in each of audit.seen */

struct audit {
	enum { AUDIT_IDLE, AUDIT_READING, AUDIT_JUDGING } phase;
	uint64_t due_us; /* when to begin the next one */
	bool asked; /* begin at once, ... */
	bool events_lost; /* since events were lost */
	bool after_loss; /* none has been completed since they were lost */
	bool flushed; /* nor since somebody flushed SAs or policies */
	bool gap; /* the guard was not there for a while: begin at once, ... */
	bool unguarded; /* and tell what may be out */
	bool hurried; /* it was begun since something had happened: no rest until it is over */
	uint64_t rest_us; /* until then */
	uint64_t count_us; /* when to ask how many there are */
	unsigned int fewer; /* times in turn that they were fewer than we know */
	bool reading; /* the adapter tells what is there, not what happens */
	uint64_t *seen; /* a bit a slot: the kernel has it */
	uint32_t cursor; /* next slot to judge */
};

struct progress {
	uint64_t measured_us, said_us;
	uint32_t have, total; /* records; total 0: caught up */
	uint64_t per_second, seconds_left; /* 0: not known */
	bool said; /* something, so that its end is told, too */
};

/* Its thread's, but for what is atomic and the news. */
struct watch {
	pthread_t thread;
	bool open, runs;
	int begin, changes, end; /* what the thread waits for */
	int news; /* an event: call events_watch() */
	atomic_bool good; /* all is where it has to be */
	atomic_bool gap; /* the guard is not, or was not for a while */
	enum { WATCH_RULES_UNKNOWN, WATCH_RULES_NONE, WATCH_RULES_SET } rules;
	bool rules_failed;
};

/* Another member, on one side. */
struct hop {
	struct hop_facts facts;
	enum hop_lack lack, said; /* there is no way, and what we have said of it */
	uint64_t lacks_since_us;
};

#define HOPS_SIDES 2 /* DATAPATH_OUTER, DATAPATH_INNER */

struct hops {
	struct hop hop[ESPALIER_MEMBERS][HOPS_SIDES];
	struct wire_macs macs[ESPALIER_MEMBERS]; /* as each member has told */
	bool changed; /* routes, neighbours or interfaces: ask again */
	uint64_t due_us; /* ask again in any case */
};

struct forward {
	uint64_t due_us; /* look again */
	char lack[160]; /* what keeps us from forwarding, or "" */
};

/* A machine in the place of that member, as its beacons tell. */
struct stranger {
	uint64_t heard_us; /* last; 0: never */
	uint64_t since_us; /* it is there and does not take part; 0: it does, or has gone */
	uint64_t said_us;
	bool known; /* to disagree, or to have no session in spite of all */
	uint32_t differs; /* in this, a bit each */
	struct in_addr address;
};

struct strangers {
	struct beacon *beacon;
	uint64_t due_us; /* the next one */
	enum member_claim claim; /* as told */
	uint32_t settings[CONFIG_SETTINGS]; /* ours */
	struct stranger all[ESPALIER_MEMBERS];
};

struct agent_entries; /* of the journal, while the agent starts */

#define LOCAL_MAX 1024

#define AGENT_DOUBLED_S 10U /* a member that is there twice owns nothing for so long after that */

/* An SA that cannot be copied. */
struct local_sa {
	struct record_key key;
	uint8_t direction; /* enum espalier_direction */
	const char *why; /* "": an earlier life's, not told of in this one */
	bool seen; /* told of since local_begin() */
	bool known; /* the core knew it once, or may have, so its blocks hold */
};

struct local {
	struct local_sa sas[LOCAL_MAX];
	unsigned int count;
	bool started; /* what is told now is made now, or read by an audit */
	uint64_t started_s; /* since when, seconds of CLOCK_REALTIME */
	bool full_said;
};

#define LOCAL_POLICIES_MAX 256
#define LOCAL_POLICY_FWD 2 /* record_key.proto: those above are of sockets */

/* A policy that is not copied. */
struct local_policy {
	struct record_key key;
	char text[XFRM_TEXT];
	const char *why;
	bool seen; /* told of since local_policy_begin() */
};

struct local_policies {
	struct local_policy policies[LOCAL_POLICIES_MAX];
	unsigned int count;
	bool full_said;
};

struct usage {
	uint64_t *moved; /* a bit a slot: to be asked for */
	uint32_t next; /* slot to be asked for next */
	uint64_t due_us;
};

/* What the service manager has been told. */
struct service {
	bool ready, failed;
	uint64_t watchdog_us; /* how often it hears of us; 0: it does not want to */
	uint64_t watchdog_due_us, status_due_us;
	char status[256];
};

#define HAPPENED_MAX 256

enum happened_kind { HAPPENED_VIEW, HAPPENED_TAKEOVER, HAPPENED_FENCE, HAPPENED_REPAIR };

struct happened {
	uint64_t at_ms; /* of CLOCK_REALTIME */
	enum happened_kind kind;
	char text[192];
};

/* The latest; the one after count is the oldest. */
struct happenings {
	struct happened ring[HAPPENED_MAX];
	uint64_t count; /* of all there have been */
	uint64_t look_due_us, repaired, missing; /* counters as they were then */
	uint32_t fenced;
};

struct metrics_times {
	struct histogram flip, silence, loop;
	uint64_t entered_us; /* when the core was last handed something that may make it decide */
	uint64_t flipped_us, flip_us; /* when a view was published last, and how long after that */
	uint64_t takeovers; /* that are counted */
	uint16_t live; /* in the view, in the turn before */
};

struct metrics {
	struct metrics_times times;
	struct http *http;
	struct textfile *file;
	uint64_t open_due_us, write_due_us, look_due_us;
	int open_error, write_error; /* as said */
	bool busy; /* there is more to do at once */
	char *text; /* the page */
	size_t text_len;
	uint64_t text_us; /* how old it is */
};

struct agent {
	struct config config;
	unsigned int ifindex[DATAPATH_SIDES];
	struct link_state links[DATAPATH_SIDES];
	struct member *member;
	struct datapath *datapath;
	struct channel *channel;
	struct xfrm *xfrm;
	struct journal *journal;
	struct agent_entries *entries;
	struct control *control;
	struct link *link;
	struct route *route;
	bool viewed; /* this life has published a view */
	uint64_t *positions; /* by slot: what the core was told last */
	uint64_t positions_due_us;
	uint32_t positions_next; /* slot to be read next; behind the last one: all have been */
	struct usage usage;
	struct {
		struct plugin *link;
		char daemon[60]; /* as it calls itself; "": none is connected */
	} ike;
	int groups; /* a socket: multicast groups that we are in; -1: in none */
	bool ingress;
	uint64_t announced_us; /* the cluster addresses, for the first time in this view */
	uint64_t announce_due_us; /* again; 0: another member is the ingress */
	uint64_t kept_us; /* policies put back are named, a few a minute: when that began, */
	unsigned int kept; /* and how many have been */
	uint64_t unfollowed_us; /* when we said last that a peer moved and nothing could follow */
	bool first; /* since the machine was booted: SAs that are there are no copies */
	bool journal_failed;
	bool begins_anew; /* with a new journal: the present one is an old copy, or we are doubled
			   */
	struct clone *clone;
	uint64_t clone_due_us; /* when to ask for one */
	uint8_t clone_mac[6]; /* of the one that answered last */
	bool doubled; /* there is one: nothing more is written to the journal */
	struct audit audit;
	struct local local;
	struct local_policies local_policies;
	struct progress progress;
	struct service service;
	struct watch watch;
	struct forward forward;
	struct strangers strangers;
	struct hops hops;
	struct metrics metrics;
	struct happenings happenings;
};

/* agent.c */
uint64_t agent_now_ns(void); /* CLOCK_MONOTONIC */
uint64_t agent_now_us(void);
uint64_t agent_cpu_us(void); /* that the calling thread has used */
__attribute__((format(printf, 1, 2))) void agent_say(const char *format, ...);
/* A record in messages, never more than this of it; good until the next call. */
const char *agent_name(const struct record_key *key);

/*
 * start.c, in this order. 0 or -errno; err: one sentence. Whatever fails, after agent_stop() all is
 * as it was before; what agent_begin() has begun stays.
 */
int agent_prepare(struct agent *a, char *err, size_t err_size);
int agent_take_over(struct agent *a, char *err, size_t err_size);
int agent_begin(struct agent *a, char *err, size_t err_size);
void agent_stop(struct agent *a); /* also what is started in part */

/* events_kernel.c. While audit.reading it notes what it sees in audit.seen. */
extern const struct xfrm_handlers events_xfrm; /* ctx: struct agent */
void events_kernel(struct agent *a); /* what has been told up to now */
bool events_kernel_has(struct agent *a, const struct record_key *key); /* at this moment */

/* events.c. What takes a void pointer is handed to the adapters; ctx: struct agent. */
void events_datagram(void *ctx, uint8_t from, const void *buf, size_t len);
extern const struct link_handlers events_links;
void events_links_up(struct agent *a); /* tells the core whether our links carry traffic */
void events_watch(struct agent *a);
void events_own_macs(struct agent *a); /* tells what our MAC addresses are */
void events_wake(void *ctx, const struct espalier_event *event);
void events_journal(struct agent *a);
void events_clone(struct agent *a);

/* audit.c. True: go on in the next turn. */
bool audit_turn(struct agent *a, uint64_t now_us);

/* progress.c */
void progress_tick(struct agent *a, uint64_t now_us);

/* positions.c */
bool positions_turn(struct agent *a); /* reads counters: what has moved is told; true: go on */
void positions_wake(struct agent *a, const struct espalier_event *event); /* ESPALIER_BLOCK_* */
bool progress_goes_on(const struct agent *a); /* what the last tick has measured still holds */

/* service.c */
void service_begin(struct agent *a);
void service_tick(struct agent *a, uint64_t now_us);
void service_stop(struct agent *a); /* we are being stopped */

/* watch.c. From its beginning on only its thread calls datapath_look(). */
int watch_open(struct agent *a, char *err, size_t err_size);
void watch_begin(struct agent *a);
void watch_close(struct agent *a);
int watch_fd(const struct agent *a); /* readable: call events_watch() */
bool watch_is_good(const struct agent *a);

/* forward.c. True: a->forward.lack has changed, call events_links_up(). */
bool forward_tick(struct agent *a, uint64_t now_us);

/* strangers.c */
int strangers_open(struct agent *a); /* 0 or -errno */
void strangers_hear(struct agent *a);
void strangers_tick(struct agent *a, uint64_t now_us);
void strangers_differ(const struct agent *a, uint8_t id, char *ret, size_t size); /* in what */

/* hops.c */
void hops_start(struct agent *a);
void hops_told(struct agent *a, uint8_t id, const struct wire_macs *macs, bool next_hop);
void hops_route(void *ctx, const struct address *prefix, unsigned int bits); /* route_handler */
void hops_tick(struct agent *a, uint64_t now_us);

/* boot.c */
bool boot_is_first(const struct agent *a);
void boot_mark(const struct agent *a); /* from now on there has been one */
void boot_say(const struct agent *a); /* what became of the SAs that were here */

/* ike.c */
int ike_open(struct agent *a, char *err, size_t err_size); /* 0 or -errno */
void ike_close(struct agent *a);
void ike_process(struct agent *a);
void ike_tick(struct agent *a);
bool ike_told(void *ctx, enum ike_tell what, const struct ike *r); /* of struct member_ops */

/* usage.c */
int usage_open(struct agent *a); /* 0 or -ENOMEM */
void usage_close(struct agent *a);
void usage_moved(struct agent *a, uint32_t slot); /* packets of it have passed */
void usage_turn(struct agent *a, uint64_t now_us);

/* local.c */
void local_restore(struct agent *a, const struct record_key *key); /* the guard has it */
void local_told(struct agent *a, const struct record_key *key, const struct record_facts *facts,
	const char *why);
void local_gone(struct agent *a, const struct record_key *key); /* it need not be one */
extern const char local_no_room[]; /* why: the core had none */
/* It has sent what no block holds, so it is local until it ends, though it could be copied now. */
bool local_stays(struct agent *a, const struct record_key *key);
/* All that the kernel has is told between these two; what is not, is gone. */
void local_begin(struct agent *a);
void local_end(struct agent *a);

/* local_policy.c: likewise. */
void local_policy_told(
	struct agent *a, const struct record_key *key, const char *text, const char *why);
void local_policy_gone(struct agent *a, const struct record_key *key);
void local_policy_begin(struct agent *a);
void local_policy_end(struct agent *a);

/* notice.c: struct member_ops. */
void notice(void *ctx, enum member_notice what, const struct record_key *key, uint8_t who);
bool notice_journal_old(void *ctx, const struct record_key *key, uint8_t who);
void notice_doubled(void *ctx, uint8_t who, bool over);
/* Takes the journal, if it is there still, out of the way of the next life. 0 or -errno. */
int notice_set_aside(const char *journal_path);

/* order.c: what this member is to own, kept beside the journal. */
int order_keep(const struct config *c, enum wire_order order); /* 0 or -errno; says so */
/* What was kept; if that cannot be read, ORDER_DRAIN: who was drained must not come back. */
enum wire_order order_kept(const struct config *c);

/* ops.c */
extern const struct member_ops agent_ops; /* ctx: struct agent */
void ops_hand(void *ctx, bool on); /* ctx: struct agent; member_ops.hand */
/* Tells the link of a side that the cluster addresses are here now. */
void ops_announce(struct agent *a, enum datapath_side side);
void ops_announce_again(struct agent *a, uint64_t now_us); /* on both sides, if it is due */
/* Lets what asks for them through, whoever is to answer. */
void ops_listen(struct agent *a, enum datapath_side side);
struct record_key ops_record_key(const struct espalier_sa_key *key);
struct espalier_sa_key ops_map_key(const struct record_key *key);

/* control.c: the socket that espalierctl speaks to. */
struct control;
/* 0 or -errno; err: one sentence. -EADDRINUSE: somebody listens there. */
int control_open(const char *path, struct control **ret, char *err, size_t err_size);
void control_close(struct control *c); /* removes the socket, and its folder if it was made */
int control_fd(const struct control *c); /* an epoll set */
void control_process(struct control *c, const struct agent *a);

/* control_answer.c: to one request, which it changes; owned by the caller. */
struct json_object *control_answer(const struct agent *a, char *request);

/* control_policy.c: from this number on; owned by the caller. */
struct json_object *control_policies(const struct agent *a, const char *from);

/* control_adopt.c: "all", or an SPI; owned by the caller. */
struct json_object *control_adopt(const struct agent *a, const char *argument);

/* control_order.c: "drain", "undrain", with a member's id, or "failover"; owned by the caller. */
struct json_object *control_order(const struct agent *a, const char *word, const char *argument);

/* control_ike.c: what each member's IKE daemon is to be told; owned by the caller. */
struct json_object *control_ike_config(const struct config *c);
/* The IKE SAs, from this number on; what status tells of them. */
struct json_object *control_ikes(const struct agent *a, const char *from);
struct json_object *control_ike_status(const struct agent *a);

/* happened.c */
__attribute__((format(printf, 3, 4))) void happened(
	struct agent *a, enum happened_kind kind, const char *format, ...);
void happened_tick(struct agent *a, uint64_t now_us);
struct json_object *happened_json(const struct agent *a); /* from the oldest on; the caller's */

/* metrics.c. The second one, until it is false: family by family from 0 on, each from SA 0 on;
 * *from is 0 again when a family has ended. */
void metrics_put(FILE *to, const struct agent *a);
bool metrics_put_sas(FILE *to, const struct agent *a, unsigned int family, uint32_t *from);

/* metrics_out.c */
int metrics_fd(const struct agent *a); /* readable: call metrics_process(); -1: not served */
bool metrics_process(struct agent *a); /* true: go on in the next turn */
bool metrics_tick(struct agent *a, uint64_t now_us); /* true: metrics_fd() is new */
void metrics_close(struct agent *a);

/* metrics_times.c */
void metrics_entered(struct agent *a, uint64_t now_us); /* the core is handed something */
void metrics_flipped(struct agent *a); /* a view is published */
void metrics_turn(struct agent *a, uint64_t since_us, uint64_t now_us); /* of the loop, over */

#endif
