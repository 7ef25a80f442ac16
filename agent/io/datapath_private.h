/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * datapath_private.h - between the files of datapath.h: datapath.c opens and closes,
 * datapath_attach.c gets one program onto its interface and off it again, datapath_maps.c reads and
 * writes the maps.
 */
#ifndef DATAPATH_PRIVATE_H
#define DATAPATH_PRIVATE_H

#include <bpf/libbpf.h>

#include "io/datapath.h"

struct datapath {
	struct datapath_config config;
	char *pin;
	struct bpf_object *object; /* the guard's: any would do, each has all maps */
	struct espalier_view *view;
	struct espalier_member *members;
	struct espalier_counter *counters;
	int sas, selectors, pins, interfaces, cpus, reasons,
		sync; /* map descriptors, the object's */
	struct ring_buffer *wake;
	void (*wake_fn)(void *ctx, const struct espalier_event *event);
	void *wake_ctx;
	const char *xdp_mode[DATAPATH_SIDES];
	char no_count[96], no_miss[96]; /* why they are not attached, or "" */
	char no_cpus[96]; /* why local ESP is not spread as wanted, or "" */
};

/*
 * Makes entries of "cpus" for as many as config.cpus wants and there are; config.cpus then says how
 * many. The rest goes by datapath_trim_cpus(), when no program sends there any more.
 */
void datapath_fill_cpus(struct datapath *d);
void datapath_trim_cpus(struct datapath *d);

/* An earlier agent may have died between an entry and the count of them in the view. */
void datapath_recount(struct datapath *d);

int datapath_on_wake(
	void *ctx, void *data, size_t size); /* ring_buffer_sample_fn; ctx: the datapath */

/* An attached program is ours if it has the given name; names are unique to espalier. */

/*
 * XDP, through libxdp's dispatcher; where the kernel refuses freplace: alone. Loads the object,
 * which has one program. A program of that name that is there already is replaced, without a gap.
 * *ret_mode: a constant string, as of datapath_xdp_mode().
 */
int datapath_attach_xdp(struct bpf_object *object, const char *program, unsigned int ifindex,
	const char **ret_mode, char *err, size_t err_size);
int datapath_attach_xdp_remove(const char *program, unsigned int ifindex);

/* tc egress, before all others. Replaces the one that is there already in one step. */
int datapath_attach_tc(struct bpf_object *object, unsigned int ifindex, char *err, size_t err_size);
int datapath_attach_tc_remove(unsigned int ifindex);

/* A tracing program; its link is pinned as `pin`, replacing what is there. Loads the object. */
int datapath_attach_tracing(struct bpf_object *object, const char *pin);

#endif
