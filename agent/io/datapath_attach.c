/* SPDX-License-Identifier: BSD-2-Clause */
#include "io/datapath_private.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <xdp/libxdp.h>

#include "io/interface.h"

#define TC_PRIORITY                                                                                \
	1 /* the first: no other program may let a packet out before the guard sees it */
#define TC_HANDLE 0x45737001 /* ours among the BPF programs of that priority */
#define DISPATCHER_PROGRAMS 10 /* libxdp's limit */
#define PROGRAM_MAPS 64 /* the kernel's */

static const char *name_of(unsigned int ifindex, char ret[static IF_NAMESIZE])
{
	if (interface_name(ifindex, ret) < 0)
		snprintf(ret, IF_NAMESIZE, "%u", ifindex);
	return ret;
}

/* The kernel keeps 15 characters of a program's name. */
static bool is_ours(const char *found, const char *program)
{
	return found && !strncmp(found, program, BPF_OBJ_NAME_LEN - 1);
}

static struct bpf_program *only_program(struct bpf_object *object)
{
	return bpf_object__next_program(object, NULL);
}

/* 0: not known */
static uint32_t program_id(int fd)
{
	struct bpf_prog_info info = {};
	uint32_t size = sizeof(info);

	return bpf_obj_get_info_by_fd(fd, &info, &size) < 0 ? 0 : info.id;
}

/* What sits on the interface now, or NULL. */
static struct xdp_multiprog *xdp_present(unsigned int ifindex)
{
	struct xdp_multiprog *present = xdp_multiprog__get_from_ifindex(ifindex);

	return libxdp_get_error(present) ? NULL : present;
}

static const char *xdp_mode(unsigned int ifindex)
{
	struct xdp_multiprog *present = xdp_present(ifindex);
	bool generic, alone;

	if (!present)
		return "none";
	generic = xdp_multiprog__attach_mode(present) == XDP_MODE_SKB;
	/* libxdp falls back silently, and reports success: ask what has become of it */
	alone = xdp_multiprog__is_legacy(present);
	xdp_multiprog__close(present);
	if (alone)
		return generic ? "alone, generic" : "alone, native";
	return generic ? "dispatcher, generic" : "dispatcher, native";
}

/* Puts ours in the place of one that is attached alone: of an earlier agent. */
static int xdp_replace_alone(struct bpf_object *object, unsigned int ifindex,
	const struct xdp_multiprog *present, struct datapath_place *ret)
{
	bool generic = xdp_multiprog__attach_mode(present) == XDP_MODE_SKB;
	struct xdp_program *old = xdp_multiprog__main_prog(present);
	LIBBPF_OPTS(bpf_xdp_attach_opts, opts, .old_prog_fd = xdp_program__fd(old));
	int r, before;

	r = bpf_object__load(object);
	if (r < 0)
		return r;
	before = bpf_prog_get_fd_by_id(xdp_program__id(old));
	if (before < 0)
		return before;
	r = bpf_xdp_attach(ifindex, bpf_program__fd(only_program(object)),
		XDP_FLAGS_REPLACE | (generic ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE), &opts);
	if (r < 0) {
		close(before);
		return r;
	}
	*ret = (struct datapath_place){
		.id = program_id(bpf_program__fd(only_program(object))), .before = before};
	return 0;
}

/* Programs of one name on an interface. */
struct which {
	const char *name;
	uint32_t id; /* this one, or ... */
	bool others; /* ... all but it */
	const struct datapath_map_ids
		*maps; /* those that have one of these; NULL: whatever they have */
};

static bool has_map(int program, const struct datapath_map_ids *maps)
{
	uint32_t ids[PROGRAM_MAPS];
	struct bpf_prog_info info = {.nr_map_ids = PROGRAM_MAPS, .map_ids = (uintptr_t)ids};
	uint32_t size = sizeof(info);

	if (bpf_obj_get_info_by_fd(program, &info, &size) < 0)
		return false;
	for (uint32_t i = 0; i < info.nr_map_ids && i < PROGRAM_MAPS; i++)
		for (unsigned int k = 0; k < maps->n; k++)
			if (ids[i] == maps->ids[k])
				return true;
	return false;
}

static bool is_meant(const struct which *which, const struct xdp_program *found)
{
	return is_ours(xdp_program__name(found), which->name) &&
	       (xdp_program__id(found) == which->id) != which->others &&
	       (!which->maps || has_map(xdp_program__fd(found), which->maps));
}

static int xdp_remove(const struct which *which, unsigned int ifindex)
{
	struct xdp_program *remove[DISPATCHER_PROGRAMS], *found = NULL;
	struct xdp_multiprog *present = xdp_present(ifindex);
	enum xdp_attach_mode mode;
	size_t n = 0;
	int r = 0;

	if (!present)
		return 0;
	mode = xdp_multiprog__attach_mode(present);
	if (xdp_multiprog__is_legacy(present)) {
		found = xdp_multiprog__main_prog(present);
		if (found && is_meant(which, found))
			r = xdp_program__detach(found, ifindex, mode, 0);
	} else {
		while (n < DISPATCHER_PROGRAMS &&
			(found = xdp_multiprog__next_prog(found, present)))
			if (is_meant(which, found))
				remove[n++] = found;
		if (n > 0)
			r = xdp_program__detach_multi(remove, n, ifindex, mode, 0);
	}
	xdp_multiprog__close(present);
	return r;
}

/* Adds ours to the dispatcher, which is made if there is none. */
static int xdp_add(struct bpf_object *object, unsigned int ifindex, enum xdp_attach_mode mode,
	struct datapath_place *ret)
{
	struct xdp_program *xdp = xdp_program__from_bpf_obj(object, "xdp");
	int r = libxdp_get_error(xdp);

	if (r)
		return r;
	if (mode != XDP_MODE_UNSPEC) {
		r = xdp_program__attach(xdp, ifindex, mode, 0);
	} else {
		r = xdp_program__attach(xdp, ifindex, XDP_MODE_NATIVE, 0);
		if (r < 0 && r != -EBUSY && r != -EEXIST)
			r = xdp_program__attach(xdp, ifindex, XDP_MODE_SKB, 0);
	}
	if (r == 0)
		*ret = (struct datapath_place){.id = xdp_program__id(xdp), .before = -1};
	xdp_program__close(xdp);
	return r;
}

int datapath_attach_xdp(struct bpf_object *object, const char *program, unsigned int ifindex,
	struct datapath_place *ret, const char **ret_mode, char *err, size_t err_size)
{
	struct xdp_multiprog *present = xdp_present(ifindex);
	struct xdp_program *alone = NULL;
	char name[IF_NAMESIZE];
	int r;

	/* for an MTU beyond one buffer. Not by SEC("xdp.frags"): libxdp sees the flag only when it
	 * is set here, and takes it back where it shares the interface with a program without */
	bpf_program__set_flags(only_program(object), BPF_F_XDP_HAS_FRAGS);
	if (present && xdp_multiprog__is_legacy(present))
		alone = xdp_multiprog__main_prog(present);
	if (alone && !is_ours(xdp_program__name(alone), program)) {
		snprintf(err, err_size,
			"%s: the XDP program \"%s\" is attached there alone, so %s cannot be "
			"added; "
			"remove it (ip link set dev %s xdp off) or use another interface",
			name_of(ifindex, name), xdp_program__name(alone), program, name);
		r = -EBUSY;
		goto finish;
	}
	if (alone)
		r = xdp_replace_alone(object, ifindex, present, ret);
	else
		r = xdp_add(object, ifindex,
			present ? xdp_multiprog__attach_mode(present) : XDP_MODE_UNSPEC, ret);
	if (r < 0)
		snprintf(err, err_size, "%s: cannot attach the XDP program %s: %s",
			name_of(ifindex, name), program, strerror(-r));
	else
		*ret_mode = xdp_mode(ifindex);
finish:
	xdp_multiprog__close(present);
	return r;
}

int datapath_attach_xdp_keep(
	const char *program, unsigned int ifindex, const struct datapath_place *place)
{
	const struct which which = {.name = program, .id = place->id, .others = true};

	return xdp_remove(&which, ifindex);
}

bool datapath_has_xdp(const char *program, unsigned int ifindex)
{
	struct xdp_multiprog *present = xdp_present(ifindex);
	struct xdp_program *p = NULL;
	bool found = false;

	if (present && xdp_multiprog__is_legacy(present))
		found = is_ours(xdp_program__name(xdp_multiprog__main_prog(present)), program);
	else
		while (present && !found && (p = xdp_multiprog__next_prog(p, present)))
			found = is_ours(xdp_program__name(p), program);
	xdp_multiprog__close(present);
	return found;
}

int datapath_attach_xdp_remove(const char *program, unsigned int ifindex)
{
	const struct which which = {.name = program, .others = true};

	return xdp_remove(&which, ifindex);
}

int datapath_attach_xdp_leave(
	const char *program, const struct datapath_map_ids *maps, unsigned int ifindex)
{
	const struct which which = {.name = program, .others = true, .maps = maps};
	struct if_nameindex *all = if_nameindex();
	int first = 0;

	if (!all)
		return -errno;
	for (struct if_nameindex *i = all; i->if_index; i++) {
		int r = i->if_index == ifindex ? 0 : xdp_remove(&which, i->if_index);

		first = first ?: r;
	}
	if_freenameindex(all);
	return first;
}

void datapath_attach_xdp_undo(
	const char *program, unsigned int ifindex, const struct datapath_place *place)
{
	const struct which which = {.name = program, .id = place->id};
	struct xdp_multiprog *present;
	bool generic;

	if (place->before < 0) {
		(void)xdp_remove(&which, ifindex);
		return;
	}
	present = xdp_present(ifindex);
	generic = present && xdp_multiprog__attach_mode(present) == XDP_MODE_SKB;
	xdp_multiprog__close(present);
	(void)bpf_xdp_attach(
		ifindex, place->before, generic ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE, NULL);
}

/* The guard that is there: its descriptor, or -ENOENT. */
static int tc_present(const struct bpf_tc_hook *hook)
{
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = TC_HANDLE, .priority = TC_PRIORITY);

	return bpf_tc_query(hook, &opts) < 0 ? -ENOENT : bpf_prog_get_fd_by_id(opts.prog_id);
}

/* The id of the guard there; 0: there is none. */
static uint32_t tc_id(unsigned int ifindex, enum bpf_tc_attach_point point)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex, .attach_point = point);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = TC_HANDLE, .priority = TC_PRIORITY);

	return bpf_tc_query(&hook, &opts) == 0 ? opts.prog_id : 0;
}

int datapath_attach_tc(struct bpf_object *object, unsigned int ifindex, struct datapath_place *ret,
	char *err, size_t err_size)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex, .attach_point = BPF_TC_EGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .prog_fd = bpf_program__fd(only_program(object)),
		.handle = TC_HANDLE, .priority = TC_PRIORITY);
	char name[IF_NAMESIZE];
	int r, before = -1;

	r = bpf_tc_hook_create(&hook);
	if (r == 0 || r == -EEXIST) {
		before = tc_present(&hook);
		opts.flags = before == -ENOENT ? 0 : BPF_TC_F_REPLACE;
		r = before == -ENOENT || before >= 0 ? bpf_tc_attach(&hook, &opts) : before;
	}
	if (r < 0) {
		if (before >= 0)
			close(before);
		snprintf(err, err_size,
			"%s: cannot attach the guard at tc egress, priority %d: %s (is something "
			"else there? see: tc filter show dev %s egress)",
			name_of(ifindex, name), TC_PRIORITY, strerror(-r), name);
		return r;
	}
	*ret = (struct datapath_place){
		.id = program_id(opts.prog_fd), .before = before < 0 ? -1 : before};
	if (tc_id(ifindex, BPF_TC_INGRESS) != ret->id)
		return 0;
	snprintf(err, err_size,
		"%s: cannot attach the guard at tc egress: there is another qdisc where clsact has "
		"to be; clsact takes its filters, too (tc qdisc del dev %s ingress; tc qdisc add "
		"dev %s clsact)",
		name_of(ifindex, name), name, name);
	return -EBUSY;
}

void datapath_attach_tc_undo(unsigned int ifindex, const struct datapath_place *place)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex, .attach_point = BPF_TC_EGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .prog_fd = place->before, .handle = TC_HANDLE,
		.priority = TC_PRIORITY, .flags = BPF_TC_F_REPLACE);

	if (place->before < 0)
		(void)datapath_attach_tc_remove(ifindex);
	else
		(void)bpf_tc_attach(&hook, &opts);
}

int datapath_attach_tc_remove(unsigned int ifindex)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = BPF_TC_EGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = TC_HANDLE, .priority = TC_PRIORITY);
	int r = bpf_tc_detach(&hook, &opts);

	/* no such filter, no clsact, no such interface */
	return r == -ENOENT || r == -EINVAL || r == -ENODEV ? 0 : r;
}

/* With the qdisc ingress in clsact's place there is no egress: the kernel adds a filter for egress
 * to those at ingress, without an error. */
uint32_t datapath_attach_tc_id(unsigned int ifindex)
{
	uint32_t id = tc_id(ifindex, BPF_TC_EGRESS);

	return id == tc_id(ifindex, BPF_TC_INGRESS) ? 0 : id;
}

int datapath_attach_tracing(struct bpf_object *object, struct bpf_link **ret)
{
	int r = bpf_object__load(object);

	if (r < 0)
		return r;
	*ret = bpf_program__attach(only_program(object));
	return *ret ? 0 : -errno;
}
