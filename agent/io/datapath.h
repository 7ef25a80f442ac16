/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * datapath.h - the BPF programs and their maps: attaching them, and the agent's side of what they
 * share (espalier.h). Programs and maps outlive the agent: steering and the guard go on without it,
 * and the next agent takes over from them.
 *
 * One agent at a time has a pin folder and a network namespace: both are locked. Functions return 0
 * or -errno unless said otherwise and print nothing; where there is `err`, it gets one sentence.
 */
#ifndef DATAPATH_H
#define DATAPATH_H

#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/address.h"
#include "espalier.h"

struct datapath;

enum datapath_side { DATAPATH_OUTER, DATAPATH_INNER, DATAPATH_SYNC, DATAPATH_SIDES };

#define DATAPATH_ALL_CPUS UINT32_MAX

struct datapath_config {
	uint8_t self; /* own member id */
	uint8_t members; /* the highest member id + 1 */
	enum espalier_hash hash;
	unsigned int block_bits; /* 1..31 */
	unsigned int max_sas; /* slots of counters, entries of sas and of selectors */
	uint64_t lease_ns; /* without a heartbeat for so long: answer no ARP, send nothing on */
	unsigned int ifindex[DATAPATH_SIDES]; /* 0: none (not allowed for the outer one) */
	struct address outer[ESPALIER_ADDRESSES], inner[ESPALIER_ADDRESSES]; /* family 0: unused */
	struct address tunnel[DATAPATH_SIDES]; /* this member's, for IP-in-IP; family 0: none */
	bool ingress_all; /* nobody answers for the outer cluster addresses */
	unsigned int cpus; /* that local ESP is spread over; 0: it is not; or DATAPATH_ALL_CPUS */
	struct in_addr sync_address; /* this member's */
	uint16_t sync_port; /* UDP, host byte order */
	const char *pin; /* folder on a bpffs; its last part is made if need be */
	bool fexit; /* count inbound packets by fexit, if the kernel lets us */
	uint32_t misses_per_second; /* ESPALIER_SPI_MISS events at most; 0: none */
	bool debug; /* let libbpf and libxdp say on stderr what they do */
};

/*
 * The first half of a start: takes the locks and loads the guard and the maps; nothing is attached,
 * and what an earlier agent has left is not changed. -EBUSY: another agent has the pin folder, or
 * runs in this network namespace. -EEXIST: what is pinned there is no beginning for this
 * configuration. A first start begins with a view in which nobody owns anything and nobody answers
 * ARP.
 */
int datapath_open(
	const struct datapath_config *config, struct datapath **ret, char *err, size_t err_size);

/*
 * The second half: attaches all programs, in place of an earlier agent's, without a gap. Until
 * datapath_keep(), datapath_close() takes it back: the earlier programs, or none, are there again.
 */
int datapath_attach(struct datapath *d, char *err, size_t err_size);

/* No earlier agent has left any maps. */
bool datapath_is_first(const struct datapath *d);

/* What is attached stays; the guard comes to all other interfaces. An error: something of an
 * earlier agent could not be removed. */
int datapath_keep(struct datapath *d);

/* After datapath_keep() the programs stay attached, the maps pinned. Takes NULL. */
void datapath_close(struct datapath *d);

/*
 * Removes all programs and maps that datapath_open() with this config left, and guards everywhere;
 * uses only `ifindex` and `pin`. From here on nothing guards: no SA of the cluster may be left in
 * the kernel. What is not there is no error. -EBUSY: an agent has it open. The clsact qdisc stays,
 * others may use it.
 */
int datapath_detach(const struct datapath_config *config, char *err, size_t err_size);

/*
 * The guard is to be on every interface of the network namespace but the loopback one, before all
 * that others have at tc egress there; XDP on the sides' interfaces, also when they have been
 * removed and made again. One that is renamed stays its side's until another one has its name.
 */
struct datapath_watched {
	unsigned int ifindex;
	char name[IF_NAMESIZE];
	bool guard; /* else: XDP */
	uint32_t program; /* its id */
	int error; /* -errno: it cannot be put there; 0: it is there */
	bool told; /* and the handler has heard of that */
	char why[256]; /* with an error: one sentence */
};

enum datapath_change {
	DATAPATH_PUT_BACK, /* somebody had taken it off, or had got before it */
	DATAPATH_LOST, /* it cannot be put there */
	DATAPATH_MENDED, /* it was lost, and is there again */
};

typedef void (*datapath_change_handler)(
	void *ctx, const struct datapath_watched *what, enum datapath_change change);

/* Looks whether all is there, on that interface (0: on all), and puts it where it is not. By one
 * thread at a time; all else may be called meanwhile. handler: may be NULL. */
void datapath_look(
	struct datapath *d, unsigned int ifindex, datapath_change_handler handler, void *ctx);

unsigned int datapath_outer(const struct datapath *d); /* its ifindex now; the same thread's */

/* On how many interfaces the guard is. *ret_how (may be NULL): "tcx" or "clsact". */
unsigned int datapath_guarded(struct datapath *d, const char **ret_how);

/* What is not there, n at most. Returns how many. */
unsigned int datapath_lacking(struct datapath *d, struct datapath_watched *ret, unsigned int n);

/* For status: "dispatcher, native", "alone, generic", "none", ... */
const char *datapath_xdp_mode(const struct datapath *d, enum datapath_side side);

/* Inbound counters by fexit? If not, *ret_why (may be NULL) says why; use XFRM async events. */
bool datapath_counts_inbound(const struct datapath *d, const char **ret_why);

/*
 * Is the agent told (ESPALIER_SPI_MISS) of ESP whose SPI the kernel does not know? If not, *ret_why
 * (may be NULL) says why.
 */
bool datapath_tells_misses(const struct datapath *d, const char **ret_why);

/*
 * Is ESP inside ESP guarded where its number is made? If not, *ret_why (may be NULL) says why; the
 * guard sees the numbers of the outer SA only, and drops what SAs send that carried some before.
 */
bool datapath_guards_nested(const struct datapath *d, const char **ret_why);

/* Over how many CPUs local ESP is spread. If fewer than wanted, *ret_why (may be NULL) says why. */
unsigned int datapath_cpus(const struct datapath *d, const char **ret_why);

/* The takeover: fills the spare half of the view and flips to it. The programs see it at once. */
void datapath_publish(struct datapath *d, const struct espalier_view_half *half);

/* The half that holds now. After a restart: what the earlier agent published last. */
const struct espalier_view_half *datapath_view(const struct datapath *d);

/* When the last heartbeat was sent, CLOCK_MONOTONIC; 0: none. */
void datapath_heartbeat(struct datapath *d, uint64_t sent_ns);

/* Own id too, for its MACs. -EINVAL: no such id. */
int datapath_member_get(const struct datapath *d, uint8_t id, struct espalier_member *ret);
int datapath_member_set(struct datapath *d, uint8_t id, const struct espalier_member *member);

/* -ENOSPC: more than max_sas, or its slot is no index and not ESPALIER_SLOT_LOCAL. sa->lock is not
 * used. The change is atomic for the guard. */
int datapath_sa_set(
	struct datapath *d, const struct espalier_sa_key *key, const struct espalier_sa *sa);
int datapath_sa_get(struct datapath *d, const struct espalier_sa_key *key,
	struct espalier_sa *ret); /* -ENOENT */
int datapath_sa_delete(struct datapath *d, const struct espalier_sa_key *key); /* -ENOENT */

/*
 * Walks over all SAs: previous is NULL for the first one. Returns 1, or 0 after the last one. When
 * `previous` has been deleted in between it begins anew.
 */
int datapath_sa_next(struct datapath *d, const struct espalier_sa_key *previous,
	struct espalier_sa_key *ret_key, struct espalier_sa *ret);

/* By slot, max_sas of them; the programs write to those whose `birth` is the SA's at any time. */
struct espalier_counter *datapath_counters(const struct datapath *d);

/* Of the SA of this birth; NULL: the slot counts for another one. */
static inline struct espalier_counter *datapath_counter(
	const struct datapath *d, uint32_t slot, uint64_t birth)
{
	struct espalier_counter *counter = &datapath_counters(d)[slot];

	return counter->birth == birth ? counter : NULL;
}

/* The clear side. -ENOSPC: more than max_sas. */
int datapath_selector_set(struct datapath *d, const struct espalier_selector *selector,
	const struct espalier_flow *flow);
int datapath_selector_delete(
	struct datapath *d, const struct espalier_selector *selector); /* -ENOENT */

/* Walks as datapath_sa_next(). */
int datapath_selector_next(struct datapath *d, const struct espalier_selector *previous,
	struct espalier_selector *ret_selector, struct espalier_flow *ret);

/* Inbound SAs that do not belong to the owner of their SPI's bucket. -ENOSPC: more than max_sas. */
int datapath_pin_set(
	struct datapath *d, const struct espalier_sa_key *key, const struct espalier_flow *flow);
int datapath_pin_delete(struct datapath *d, const struct espalier_sa_key *key); /* -ENOENT */
/* Walks as datapath_sa_next(). */
int datapath_pin_next(
	struct datapath *d, const struct espalier_sa_key *previous, struct espalier_sa_key *ret);

/* This machine's xfrm interfaces: what is routed to one is for the policies with its if_id.
 * -ENOSPC: more than ESPALIER_INTERFACES. */
int datapath_interface_set(struct datapath *d, unsigned int ifindex, uint32_t if_id);
int datapath_interface_delete(struct datapath *d, unsigned int ifindex); /* -ENOENT */
/* Walks as datapath_sa_next(). */
int datapath_interface_next(
	struct datapath *d, const unsigned int *previous, unsigned int *ret_ifindex);

/* Packets by enum espalier_reason, all CPUs. */
int datapath_reasons(const struct datapath *d, uint64_t ret[ESPALIER_REASON_COUNT]);

/* Readable: call datapath_wake(), which calls fn for each event. Returns how many. */
int datapath_wake_fd(const struct datapath *d);
int datapath_wake(
	struct datapath *d, void (*fn)(void *ctx, const struct espalier_event *event), void *ctx);

/* The XSKMAP of the sync interface, owned by the datapath; -1: no such interface. */
int datapath_sync_map_fd(const struct datapath *d);

#endif
