/* SPDX-License-Identifier: BSD-2-Clause */
/* datapath_places.c - all programs, each in its place: put there, kept, taken back, removed. */
#include "io/datapath_private.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Where the XDP programs go. */
static const enum datapath_program side_program[DATAPATH_SIDES] = {[DATAPATH_OUTER] = PROGRAM_STEER,
	[DATAPATH_INNER] = PROGRAM_CLEAR,
	[DATAPATH_SYNC] = PROGRAM_SYNC};

static const char *const map_names[] = {"view", "members", "sas", "counters", "selectors", "pins",
	"interfaces", "cpus", "reasons", "wake", "sync", "carriers", "proofs", DATAPATH_SETTINGS};

static int attach_side(struct datapath *d, enum datapath_side side, char *err, size_t err_size)
{
	enum datapath_program program = side_program[side];
	struct bpf_object *object;
	int r;

	d->xdp_mode[side] = "none";
	if (!d->config.ifindex[side])
		return 0;
	object = datapath_program_open(&d->config, program);
	if (!object) {
		r = -errno;
		snprintf(err, err_size, "cannot open the BPF programs: %s", strerror(-r));
		return r;
	}
	r = datapath_attach_xdp(object, datapath_program_name(program), d->config.ifindex[side],
		&d->xdp[side], &d->xdp_mode[side], err, err_size);
	bpf_object__close(object);
	return r;
}

int datapath_look_xdp(
	struct datapath *d, enum datapath_side side, uint32_t *program, char *err, size_t err_size)
{
	const char *name = datapath_program_name(side_program[side]);
	unsigned int ifindex = d->config.ifindex[side];
	uint32_t there = 0;
	int r;

	if (bpf_xdp_query_id((int)ifindex, 0, &there) == 0 && there && there == *program)
		return 0;
	if (*program && there && datapath_has_xdp(name, ifindex)) { /* others' came or went */
		*program = there;
		return 0;
	}
	if (d->xdp[side].before >= 0)
		close(d->xdp[side].before);
	d->xdp[side] = (struct datapath_place){.before = -1};
	r = attach_side(d, side, err, err_size);
	if (r == 0)
		r = datapath_attach_xdp_keep(name, ifindex, &d->xdp[side]);
	if (r < 0)
		return r;
	(void)bpf_xdp_query_id((int)ifindex, 0, program);
	return 1;
}

int datapath_leave_side(const struct datapath *d, enum datapath_side side)
{
	return datapath_attach_xdp_remove(
		datapath_program_name(side_program[side]), d->config.ifindex[side]);
}

/* A tracing program, if it is wanted. Never an error: the cluster works without; `why` says so. */
static void attach_tracing(struct datapath *d, enum datapath_program program, bool wanted,
	struct datapath_tracing *ret)
{
	struct bpf_object *object;
	int r;

	if (!wanted) {
		snprintf(ret->why, sizeof(ret->why), "not wanted");
		return;
	}
	object = datapath_program_open(&d->config, program);
	r = object ? datapath_attach_tracing(object, &ret->link) : -errno;
	if (r < 0)
		snprintf(ret->why, sizeof(ret->why), "the kernel refuses %s: %s",
			program == PROGRAM_MISS ? "fentry" : "fexit", strerror(-r));
	bpf_object__close(object);
}

int datapath_attach(struct datapath *d, char *err, size_t err_size)
{
	int r;

	datapath_fill_cpus(d);
	r = datapath_guard_begin(d, err, err_size);
	for (int side = 0; r == 0 && side < DATAPATH_SIDES; side++)
		r = attach_side(d, side, err, err_size);
	if (r < 0)
		return r;
	attach_tracing(d, PROGRAM_COUNT, d->config.fexit, &d->count);
	attach_tracing(d, PROGRAM_MISS, d->config.misses_per_second > 0, &d->miss);
	attach_tracing(d, PROGRAM_OUTPUT, true, &d->output);
	return 0;
}

static void watch_side(struct datapath *d, enum datapath_side side)
{
	struct datapath_watched *watched = &d->guards.side[side];

	watched->ifindex = d->config.ifindex[side];
	if (watched->ifindex)
		(void)bpf_xdp_query_id((int)watched->ifindex, 0, &watched->program);
}

/* Where the link would be pinned, something of an earlier agent may be. */
static void keep_tracing(
	const struct datapath *d, enum datapath_program program, const struct bpf_link *link)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", d->pin, datapath_program_link(program));
	(void)unlink(path);
	/* without a pin it ends with this process, as it should when the kernel has no room */
	if (link)
		(void)bpf_obj_pin(bpf_link__fd(link), path);
}

static struct datapath_map_ids pinned_maps(const char *pin)
{
	struct datapath_map_ids maps = {0};

	for (size_t i = 0; i < sizeof(map_names) / sizeof(map_names[0]); i++) {
		struct bpf_map_info info = {};
		__u32 size = sizeof(info);
		char path[PATH_MAX];
		int fd;

		snprintf(path, sizeof(path), "%s/%s", pin, map_names[i]);
		fd = bpf_obj_get(path);
		if (fd < 0)
			continue;
		if (bpf_obj_get_info_by_fd(fd, &info, &size) == 0)
			maps.ids[maps.n++] = info.id;
		close(fd);
	}
	return maps;
}

/* What an earlier agent has put on interfaces that are not ours any more; ifindex: by side. */
static int leave_others(const char *pin, const unsigned int ifindex[DATAPATH_SIDES])
{
	const struct datapath_map_ids maps = pinned_maps(pin);
	int first = 0;

	for (int side = 0; side < DATAPATH_SIDES; side++) {
		int r = datapath_attach_xdp_leave(
			datapath_program_name(side_program[side]), &maps, ifindex[side]);

		first = first ?: r;
	}
	return first;
}

int datapath_keep(struct datapath *d)
{
	int first = 0, r;

	d->kept = true;
	for (int side = 0; side < DATAPATH_SIDES; side++) {
		r = d->xdp[side].id
			    ? datapath_attach_xdp_keep(datapath_program_name(side_program[side]),
				      d->config.ifindex[side], &d->xdp[side])
			    : 0;
		first = first ?: r;
		watch_side(d, side);
	}
	r = leave_others(d->pin, d->config.ifindex);
	first = first ?: r;
	datapath_look(d, 0, NULL, NULL);
	keep_tracing(d, PROGRAM_COUNT, d->count.link);
	keep_tracing(d, PROGRAM_MISS, d->miss.link);
	keep_tracing(d, PROGRAM_OUTPUT, d->output.link);
	datapath_trim_cpus(d, d->config.cpus);
	r = datapath_pin_settings(d->object, d->pin);
	d->view->lease_ns = d->config.lease_ns;
	datapath_recount(d);
	return first ?: r;
}

static void remove_pin(const char *pin, const char *name, int *r)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", pin, name);
	if (unlink(path) < 0 && errno != ENOENT && *r == 0)
		*r = -errno;
}

/* What is pinned and empty folders; libxdp's in a namespace, then ours. */
static int remove_pins(const char *pin)
{
	char path[PATH_MAX];
	int r = 0;

	for (int i = 0; i < PROGRAMS; i++)
		if (datapath_program_link(i))
			remove_pin(pin, datapath_program_link(i), &r);
	for (size_t i = 0; i < sizeof(map_names) / sizeof(map_names[0]); i++)
		remove_pin(pin, map_names[i], &r);
	snprintf(path, sizeof(path), "%s/xdp", pin);
	rmdir(path);
	rmdir(pin);
	return r;
}

void datapath_take_back(struct datapath *d)
{
	for (int side = DATAPATH_SIDES - 1; side >= 0; side--)
		if (d->xdp[side].id)
			datapath_attach_xdp_undo(datapath_program_name(side_program[side]),
				d->config.ifindex[side], &d->xdp[side]);
	datapath_guard_undo(d);
	if (d->first)
		(void)remove_pins(d->pin);
	else if (d->wake)
		datapath_trim_cpus(d, d->cpus_before);
}

int datapath_remove(const struct datapath_config *config)
{
	int first = leave_others(config->pin, config->ifindex), r;

	for (int side = 0; side < DATAPATH_SIDES; side++) {
		r = config->ifindex[side]
			    ? datapath_attach_xdp_remove(datapath_program_name(side_program[side]),
				      config->ifindex[side])
			    : 0;
		first = first ?: r;
	}
	r = datapath_guard_remove_all();
	first = first ?: r;
	r = remove_pins(config->pin);
	return first ?: r;
}

const char *datapath_xdp_mode(const struct datapath *d, enum datapath_side side)
{
	return d->xdp_mode[side];
}

static bool is_attached(const struct datapath_tracing *tracing, const char **ret_why)
{
	if (ret_why)
		*ret_why = tracing->why;
	return !tracing->why[0];
}

bool datapath_counts_inbound(const struct datapath *d, const char **ret_why)
{
	return is_attached(&d->count, ret_why);
}

bool datapath_tells_misses(const struct datapath *d, const char **ret_why)
{
	return is_attached(&d->miss, ret_why);
}

bool datapath_guards_nested(const struct datapath *d, const char **ret_why)
{
	return is_attached(&d->output, ret_why);
}
