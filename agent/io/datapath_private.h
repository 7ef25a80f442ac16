/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * datapath_private.h - between the files of datapath.h: datapath.c opens and closes,
 * datapath_lock.c keeps others out, datapath_programs.c has the programs as they are built,
 * datapath_places.c puts all of them into their places, datapath_attach.c and datapath_tcx.c get
 * one onto its interface and off it again, datapath_guard.c keeps it there, datapath_earlier.c
 * knows what an earlier agent has left, datapath_maps.c reads and writes the maps.
 */
#ifndef DATAPATH_PRIVATE_H
#define DATAPATH_PRIVATE_H

#include <bpf/libbpf.h>
#include <pthread.h>

#include "io/datapath.h"

#define DATAPATH_GUARD "espalier_guard" /* the program's name */
#define DATAPATH_TCX_MOST 64 /* programs that the kernel allows in a chain */

/* Where a program was put, and what was there before. */
struct datapath_place {
	uint32_t id; /* of the program; 0: it was not put there */
	int before; /* descriptor of the program whose place it took, or -1 */
};

struct datapath_tracing {
	struct bpf_link *link;
	char why[96]; /* it is not attached, or "" */
};

struct datapath_locks {
	int pin, namespace; /* descriptors, or -1 */
};

#define DATAPATH_NO_LOCKS ((struct datapath_locks){-1, -1})

/* What is looked after. One thread changes it, under the lock where others read. */
struct datapath_guards {
	pthread_mutex_t lock;
	struct datapath_watched *all; /* every interface: the guard */
	size_t count, size;
	struct datapath_watched side[DATAPATH_SIDES]; /* XDP */
	char names[DATAPATH_SIDES][IF_NAMESIZE]; /* theirs at the start; "": there is none */
	struct bpf_object *object; /* the guard that is attached from now on; NULL: the first one */
	bool clsact; /* the kernel has no TCX */
	bool begun; /* it is in the chain of the outer interface, and may be taken back */
};

struct datapath {
	struct datapath_config config;
	char *pin;
	struct bpf_object *object; /* the guard's: any would do, each has all maps */
	struct espalier_view *view;
	struct espalier_member *members;
	struct espalier_counter *counters;
	int sas, selectors, pins, interfaces, cpus, reasons,
		sync; /* map descriptors, the object's */
	struct datapath_locks locks;
	struct datapath_place guard, xdp[DATAPATH_SIDES];
	struct datapath_tracing count, miss, output;
	bool first; /* nothing was pinned before */
	bool kept; /* what is attached stays */
	unsigned int cpus_before; /* entries of "cpus" */
	struct ring_buffer *wake;
	void (*wake_fn)(void *ctx, const struct espalier_event *event);
	void *wake_ctx;
	const char *xdp_mode[DATAPATH_SIDES];
	struct datapath_guards guards;
	char no_cpus[96]; /* why local ESP is not spread as wanted, or "" */
};

extern const char *const datapath_side_names[DATAPATH_SIDES]; /* for messages */

enum datapath_program {
	PROGRAM_STEER,
	PROGRAM_CLEAR,
	PROGRAM_SYNC,
	PROGRAM_GUARD,
	PROGRAM_COUNT,
	PROGRAM_MISS,
	PROGRAM_OUTPUT,
	PROGRAMS
};

const char *datapath_program_name(enum datapath_program program); /* as in bpf/ */
/* Tracing: where its link is pinned, beside the maps. Others: NULL. */
const char *datapath_program_link(enum datapath_program program);

/* Its object with its settings, ready to be loaded; the caller closes it. NULL, errno: out of
 * memory, or not as built. */
struct bpf_object *datapath_program_open(
	const struct datapath_config *config, enum datapath_program program);

/* A start that failed: programs, pins and CPUs become what they were before. */
void datapath_take_back(struct datapath *d);
/* All programs and pins; the caller has the locks. */
int datapath_remove(const struct datapath_config *config);

/* Both go with datapath_unlock(), also after an error. -ENOENT: there is no such folder. */
int datapath_lock_pin(const char *pin, struct datapath_locks *ret, char *err, size_t err_size);
int datapath_lock_namespace(struct datapath_locks *ret, char *err, size_t err_size);
void datapath_unlock(struct datapath_locks *locks);

/*
 * Makes entries of "cpus" for as many as config.cpus wants and there are; config.cpus then says how
 * many. All but `keep` go by datapath_trim_cpus(), when no program sends there any more.
 */
void datapath_fill_cpus(struct datapath *d);
unsigned int datapath_count_cpus(const struct datapath *d); /* entries that are there */
void datapath_trim_cpus(struct datapath *d, unsigned int keep);

/* An earlier agent may have died between an entry and the count of them in the view. */
void datapath_recount(struct datapath *d);

int datapath_on_wake(
	void *ctx, void *data, size_t size); /* ring_buffer_sample_fn; ctx: the datapath */

/* An attached program is ours if it has the given name; names are unique to espalier. */

/*
 * XDP, through libxdp's dispatcher; where the kernel refuses freplace: alone. Loads the object,
 * which has one program. A program of that name that is there already: in a dispatcher, both run
 * until datapath_attach_xdp_keep() removes the others; alone, it is replaced in one step.
 * *ret_mode: a constant string, as of datapath_xdp_mode().
 */
int datapath_attach_xdp(struct bpf_object *object, const char *program, unsigned int ifindex,
	struct datapath_place *ret, const char **ret_mode, char *err, size_t err_size);
int datapath_attach_xdp_keep(
	const char *program, unsigned int ifindex, const struct datapath_place *place);
int datapath_attach_xdp_remove(const char *program, unsigned int ifindex);

struct datapath_map_ids {
	unsigned int n;
	uint32_t ids[16];
};

/* Removes those that have one of these maps from all interfaces but one; 0: from all. */
int datapath_attach_xdp_leave(
	const char *program, const struct datapath_map_ids *maps, unsigned int ifindex);

/*
 * tc egress, before all others. Replaces the one that is there already in one step; where none was,
 * -EEXIST if another one has come meanwhile. -EBUSY: the interface has the qdisc ingress,
 * and the guard is among its filters, where it guards nothing: undo that, or leave it.
 */
int datapath_attach_tc(struct bpf_object *object, unsigned int ifindex, struct datapath_place *ret,
	char *err, size_t err_size);
int datapath_attach_tc_remove(unsigned int ifindex);
uint32_t datapath_attach_tc_id(unsigned int ifindex); /* of the program at egress, or 0 */

/* The chain at tc egress, from its first program on: how many there are, or -errno; -EINVAL: the
 * kernel has none. */
int datapath_tcx_query(unsigned int ifindex, uint32_t ret_ids[DATAPATH_TCX_MOST]);
/* program: a descriptor. It becomes the first one. -EEXIST: it is in the chain; -ERANGE: the chain
 * is full. */
int datapath_tcx_attach(unsigned int ifindex, int program);
int datapath_tcx_detach(unsigned int ifindex, int program);

/* Another guard with the settings of now, loaded; the caller closes it. */
int datapath_load_guard(struct datapath *d, struct bpf_object **ret);

/*
 * Is XDP there? *program: the id of what runs on the interface; 0: attach it anew. 1: it was
 * attached; 0: it was there.
 */
int datapath_look_xdp(
	struct datapath *d, enum datapath_side side, uint32_t *program, char *err, size_t err_size);
int datapath_leave_side(const struct datapath *d, enum datapath_side side); /* takes it off */
bool datapath_has_xdp(const char *program, unsigned int ifindex);

int datapath_guard_remove(unsigned int ifindex);
int datapath_guard_remove_all(void); /* of this network namespace */
void datapath_guard_free(struct datapath *d);

/* The outer interface's, as a part of the start that can be undone. */
int datapath_guard_begin(struct datapath *d, char *err, size_t err_size);
void datapath_guard_undo(struct datapath *d);

/* Puts back what was there before. */
void datapath_attach_xdp_undo(
	const char *program, unsigned int ifindex, const struct datapath_place *place);
void datapath_attach_tc_undo(unsigned int ifindex, const struct datapath_place *place);

/* A tracing program, which runs as long as *ret, or a pin of it, is there. Loads the object. */
int datapath_attach_tracing(struct bpf_object *object, struct bpf_link **ret);

/*
 * The pinned maps of an earlier agent must have the layout that ours have, and, while SAs are in
 * the guard's, mean the same: -EEXIST. The object is the guard's, not loaded yet.
 */
int datapath_check_earlier(struct bpf_object *object, const char *pin, char *err, size_t err_size);
/* Pins the settings for the next agent. */
int datapath_pin_settings(struct bpf_object *object, const char *pin);
#define DATAPATH_SETTINGS "settings" /* name of that pin */

#endif
