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

#define TC_PRIORITY                                                                                \
	1 /* the first: no other program may let a packet out before the guard sees it */
#define TC_HANDLE 0x45737001 /* ours among the BPF programs of that priority */
#define DISPATCHER_PROGRAMS 10 /* libxdp's limit */

static const char *interface_name(unsigned int ifindex, char buf[static IF_NAMESIZE])
{
	return if_indextoname(ifindex, buf) ? buf : "?";
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

/* Puts ours in the place of one that is attached alone: `old`, of an earlier agent. */
static int xdp_replace_alone(
	struct bpf_object *object, unsigned int ifindex, const struct xdp_multiprog *present)
{
	bool generic = xdp_multiprog__attach_mode(present) == XDP_MODE_SKB;
	LIBBPF_OPTS(bpf_xdp_attach_opts, opts,
		.old_prog_fd = xdp_program__fd(xdp_multiprog__main_prog(present)));
	int r;

	r = bpf_object__load(object);
	if (r < 0)
		return r;
	return bpf_xdp_attach(ifindex, bpf_program__fd(only_program(object)),
		XDP_FLAGS_REPLACE | (generic ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE), &opts);
}

/* Removes the programs of that name from the interface, except the one with this id. */
static int xdp_remove_others(const char *program, unsigned int ifindex, uint32_t keep)
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
		if (found && is_ours(xdp_program__name(found), program) &&
			xdp_program__id(found) != keep)
			r = xdp_program__detach(found, ifindex, mode, 0);
	} else {
		while (n < DISPATCHER_PROGRAMS &&
			(found = xdp_multiprog__next_prog(found, present)))
			if (is_ours(xdp_program__name(found), program) &&
				xdp_program__id(found) != keep)
				remove[n++] = found;
		if (n > 0)
			r = xdp_program__detach_multi(remove, n, ifindex, mode, 0);
	}
	xdp_multiprog__close(present);
	return r;
}

/* Adds ours to the dispatcher (made, if there is none), then removes those of an earlier agent. */
static int xdp_add(struct bpf_object *object, const char *program, unsigned int ifindex,
	enum xdp_attach_mode mode)
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
		r = xdp_remove_others(program, ifindex, xdp_program__id(xdp));
	xdp_program__close(xdp);
	return r;
}

int datapath_attach_xdp(struct bpf_object *object, const char *program, unsigned int ifindex,
	const char **ret_mode, char *err, size_t err_size)
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
			interface_name(ifindex, name), xdp_program__name(alone), program, name);
		r = -EBUSY;
		goto finish;
	}
	if (alone)
		r = xdp_replace_alone(object, ifindex, present);
	else
		r = xdp_add(object, program, ifindex,
			present ? xdp_multiprog__attach_mode(present) : XDP_MODE_UNSPEC);
	if (r < 0)
		snprintf(err, err_size, "%s: cannot attach the XDP program %s: %s",
			interface_name(ifindex, name), program, strerror(-r));
	else
		*ret_mode = xdp_mode(ifindex);
finish:
	xdp_multiprog__close(present);
	return r;
}

int datapath_attach_xdp_remove(const char *program, unsigned int ifindex)
{
	return xdp_remove_others(program, ifindex, 0);
}

int datapath_attach_tc(struct bpf_object *object, unsigned int ifindex, char *err, size_t err_size)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = BPF_TC_EGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .prog_fd = bpf_program__fd(only_program(object)),
		.handle = TC_HANDLE, .priority = TC_PRIORITY, .flags = BPF_TC_F_REPLACE);
	char name[IF_NAMESIZE];
	int r;

	r = bpf_tc_hook_create(&hook);
	if (r == 0 || r == -EEXIST)
		r = bpf_tc_attach(&hook, &opts);
	if (r < 0)
		snprintf(err, err_size,
			"%s: cannot attach the guard at tc egress, priority %d: %s (is something "
			"else there? see: tc filter show dev %s egress)",
			interface_name(ifindex, name), TC_PRIORITY, strerror(-r), name);
	return r;
}

int datapath_attach_tc_remove(unsigned int ifindex)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = BPF_TC_EGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = TC_HANDLE, .priority = TC_PRIORITY);
	int r = bpf_tc_detach(&hook, &opts);

	/* no such filter, no clsact, no such interface */
	return r == -ENOENT || r == -EINVAL || r == -ENODEV ? 0 : r;
}

int datapath_attach_tracing(struct bpf_object *object, const char *pin)
{
	struct bpf_link *link;
	int r;

	r = bpf_object__load(object);
	if (r < 0)
		return r;
	link = bpf_program__attach(only_program(object));
	if (!link)
		return -errno;
	if (unlink(pin) < 0 && errno != ENOENT)
		r = -errno;
	else
		r = bpf_link__pin(link, pin);
	bpf_link__destroy(link); /* the pin holds it */
	return r;
}
