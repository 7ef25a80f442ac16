/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * datapath_guard.c - keeps the guard on every interface of the network namespace, and steering on
 * those that packets are steered at: ESP leaves by whatever interface a route names, interfaces
 * come and go, and others take programs off or put theirs before ours.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/datapath_private.h"
#include "io/interface.h"

#define LOOPBACK 1 /* ifindex, in every network namespace */

struct looking {
	struct datapath *d;
	datapath_change_handler handler;
	void *ctx;
};

static struct bpf_object *guard_object(const struct datapath *d)
{
	return d->guards.object ?: d->object;
}

static int guard_fd(const struct datapath *d)
{
	return bpf_program__fd(bpf_object__next_program(guard_object(d), NULL));
}

static uint32_t id_of(int program, char ret_name[static BPF_OBJ_NAME_LEN])
{
	struct bpf_prog_info info = {};
	uint32_t size = sizeof(info);

	if (bpf_obj_get_info_by_fd(program, &info, &size) < 0)
		return 0;
	memcpy(ret_name, info.name, BPF_OBJ_NAME_LEN);
	return info.id;
}

static uint32_t guard_id(const struct datapath *d)
{
	char name[BPF_OBJ_NAME_LEN];

	return id_of(guard_fd(d), name);
}

/* A program can be in a chain once, and does not move there: another one of the same kind can. */
static int renew(struct datapath *d)
{
	struct bpf_object *object;
	int r = datapath_load_guard(d, &object);

	if (r < 0)
		return r;
	bpf_object__close(d->guards.object); /* it stays where it is attached */
	d->guards.object = object;
	return 0;
}

static bool is_guard(int program)
{
	char name[BPF_OBJ_NAME_LEN] = "";

	return id_of(program, name) && strcmp(name, DATAPATH_GUARD) == 0;
}

/* Takes guards out of the chain, all but one. */
static int remove_guards(
	unsigned int ifindex, const uint32_t ids[DATAPATH_TCX_MOST], int count, uint32_t keep)
{
	int r = 0;

	for (int i = 0; i < count; i++) {
		int fd = ids[i] == keep ? -1 : bpf_prog_get_fd_by_id(ids[i]);

		if (fd >= 0 && is_guard(fd) && r == 0)
			r = datapath_tcx_detach(ifindex, fd);
		if (fd >= 0)
			close(fd);
	}
	return r == -ENOENT ? 0 : r;
}

static bool has(const uint32_t *ids, int count, uint32_t id)
{
	for (int i = 0; i < count; i++)
		if (ids[i] == id)
			return true;
	return false;
}

/* Ours first in the chain; what an earlier agent has left there, or among the filters, goes. */
static int put_first(struct datapath *d, unsigned int ifindex, const uint32_t *ids, int count)
{
	bool is_first = count > 0 && ids[0] == guard_id(d);
	int r = !is_first && has(ids, count, guard_id(d)) ? renew(d) : 0;

	if (r == 0 && !is_first)
		r = datapath_tcx_attach(ifindex, guard_fd(d));
	if (r == 0)
		r = remove_guards(ifindex, ids, count, guard_id(d));
	if (r == 0)
		r = datapath_attach_tc_remove(ifindex);
	return r;
}

static void tell_tcx(int error, const char *name, char *ret, size_t size)
{
	if (error == -ERANGE)
		snprintf(ret, size,
			"cannot attach the guard at tc egress (TCX): the kernel allows no more "
			"programs there, take one off (see: bpftool net show dev %s)",
			name);
	else
		snprintf(ret, size, "cannot attach the guard at tc egress (TCX): %s",
			strerror(-error));
}

static int guard_by_tcx(
	struct datapath *d, struct datapath_watched *w, const uint32_t *ids, int count)
{
	int r;

	if (count > 0 && ids[0] == w->program)
		return 0;
	r = put_first(d, w->ifindex, ids, count);
	if (r < 0)
		tell_tcx(r, w->name, w->why, sizeof(w->why));
	return r < 0 ? r : 1;
}

static int guard_by_clsact(struct datapath *d, struct datapath_watched *w)
{
	struct datapath_place place = {.before = -1};
	char err[256];
	int r;

	d->guards.clsact = true;
	if (w->program && datapath_attach_tc_id(w->ifindex) == w->program)
		return 0;
	/* Not undone where it is in the wrong place: that would be an event, and we would look
	 * again. */
	r = datapath_attach_tc(guard_object(d), w->ifindex, &place, err, sizeof(err));
	if (place.before >= 0)
		close(place.before);
	if (r < 0)
		snprintf(w->why, sizeof(w->why), "%s", err);
	return r < 0 ? r : 1;
}

/* 1: it had to be put there; 0: it was there. If neither, w->why says why. */
static int guard(struct datapath *d, struct datapath_watched *w)
{
	uint32_t ids[DATAPATH_TCX_MOST];
	int r = datapath_tcx_query(w->ifindex, ids);

	w->why[0] = '\0';
	r = r == -EINVAL ? guard_by_clsact(d, w) : r < 0 ? r : guard_by_tcx(d, w, ids, r);
	if (r > 0)
		w->program = guard_id(d);
	else if (r < 0 && !w->why[0])
		snprintf(w->why, sizeof(w->why), "cannot read its TCX programs: %s", strerror(-r));
	w->error = r < 0 ? r : 0;
	return r;
}

/* Notes how it stands, and tells what has changed. r: as of guard(). */
static void note(const struct looking *l, struct datapath_watched *watched,
	const struct datapath_watched *now, int r, bool is_new)
{
	bool lacked = watched->told, lacks = now->error;

	pthread_mutex_lock(&l->d->guards.lock);
	*watched = *now;
	if (l->handler)
		watched->told = lacks;
	pthread_mutex_unlock(&l->d->guards.lock);
	if (!l->handler)
		return;
	if (lacks && !lacked)
		l->handler(l->ctx, watched, DATAPATH_LOST);
	else if (lacked && !lacks)
		l->handler(l->ctx, watched, DATAPATH_MENDED);
	else if (r > 0 && !is_new)
		l->handler(l->ctx, watched, DATAPATH_PUT_BACK);
}

static void look_at_guard(const struct looking *l, struct datapath_watched *watched)
{
	struct datapath_watched now = *watched;
	int r = guard(l->d, &now);

	if (r == -ENODEV)
		return; /* it goes just now: that is told, too */
	note(l, watched, &now, r, !watched->program);
}

int datapath_guard_begin(struct datapath *d, char *err, size_t err_size)
{
	unsigned int ifindex = d->config.ifindex[DATAPATH_OUTER];
	uint32_t ids[DATAPATH_TCX_MOST];
	const char *name = d->guards.names[DATAPATH_OUTER];
	int r = datapath_tcx_query(ifindex, ids);
	char why[200];

	if (r == -EINVAL)
		return datapath_attach_tc(d->object, ifindex, &d->guard, err, err_size);
	if (r >= 0) /* that of an earlier agent stays behind it until datapath_keep() */
		r = datapath_tcx_attach(ifindex, guard_fd(d));
	if (r < 0) {
		tell_tcx(r, name, why, sizeof(why));
		snprintf(err, err_size, "%s: %s", name, why);
		return r;
	}
	d->guards.begun = true;
	return 0;
}

void datapath_guard_undo(struct datapath *d)
{
	unsigned int ifindex = d->config.ifindex[DATAPATH_OUTER];

	if (d->guards.begun)
		(void)datapath_tcx_detach(ifindex, guard_fd(d));
	else if (d->guard.id)
		datapath_attach_tc_undo(ifindex, &d->guard);
}

static struct datapath_watched *find(struct datapath_guards *g, unsigned int ifindex)
{
	for (size_t i = 0; i < g->count; i++)
		if (g->all[i].ifindex == ifindex)
			return &g->all[i];
	return NULL;
}

static struct datapath_watched *add(struct datapath_guards *g, unsigned int ifindex)
{
	struct datapath_watched *all = g->all;

	pthread_mutex_lock(&g->lock);
	if (g->count == g->size) {
		size_t size = g->size ? 2 * g->size : 16;

		all = reallocarray(g->all, size, sizeof(*all));
		if (all) {
			g->all = all;
			g->size = size;
		}
	}
	if (all)
		all[g->count++] = (struct datapath_watched){.ifindex = ifindex, .guard = true};
	pthread_mutex_unlock(&g->lock);
	return all ? &all[g->count - 1] : NULL;
}

static void drop(struct datapath_guards *g, struct datapath_watched *watched)
{
	pthread_mutex_lock(&g->lock);
	*watched = g->all[--g->count];
	pthread_mutex_unlock(&g->lock);
}

static void look_at(const struct looking *l, unsigned int ifindex)
{
	struct datapath_guards *g = &l->d->guards;
	struct datapath_watched *watched = find(g, ifindex);
	char name[IF_NAMESIZE];
	int r;

	if (ifindex == LOOPBACK)
		return;
	r = interface_name(ifindex, name);
	if (r < 0) {
		if (watched && r == -ENODEV)
			drop(g, watched);
		return;
	}
	watched = watched ?: add(g, ifindex);
	if (!watched)
		return; /* out of memory: the next look comes soon */
	if (strcmp(watched->name, name) != 0) {
		pthread_mutex_lock(&g->lock);
		memcpy(watched->name, name, sizeof(name));
		pthread_mutex_unlock(&g->lock);
	}
	look_at_guard(l, watched);
}

static void look_at_all(const struct looking *l)
{
	struct datapath_guards *g = &l->d->guards;
	struct if_nameindex *all = if_nameindex();

	if (!all)
		return; /* as above */
	for (struct if_nameindex *i = all; i->if_index; i++)
		look_at(l, i->if_index);
	if_freenameindex(all);
	for (size_t i = g->count; i-- > 0;)
		look_at(l, g->all[i].ifindex); /* those that are gone */
}

/* The interface that has the side's name now; while there is none, the one that had it. 0: neither.
 */
static unsigned int find_side(
	const struct datapath_guards *g, enum datapath_side side, char ret_name[static IF_NAMESIZE])
{
	int found = g->names[side][0] ? interface_index(g->names[side]) : 0;
	unsigned int ifindex = found == -ENODEV ? g->side[side].ifindex
			       : found < 0      ? 0
						: (unsigned int)found;

	return ifindex && interface_name(ifindex, ret_name) == 0 ? ifindex : 0;
}

/* It is another one of the same name. */
static void replace_side(const struct looking *l, enum datapath_side side, unsigned int ifindex)
{
	struct datapath_guards *g = &l->d->guards;
	struct datapath_watched *guarded;

	(void)datapath_leave_side(l->d, side); /* it may be there still, renamed */
	l->d->config.ifindex[side] = ifindex;
	if (side != DATAPATH_OUTER || renew(l->d) < 0) /* the guard knows the outer one */
		return;
	guarded = find(g, ifindex);
	if (guarded)
		guarded->program = 0;
	look_at(l, ifindex);
}

static void look_at_side(const struct looking *l, enum datapath_side side)
{
	struct datapath_watched *watched = &l->d->guards.side[side], now = *watched;
	unsigned int ifindex = find_side(&l->d->guards, side, now.name);
	bool is_new = ifindex != watched->ifindex;
	int r;

	if (!ifindex)
		return; /* it is not there now: its link is down, that is told */
	if (is_new) {
		replace_side(l, side, ifindex);
		now.ifindex = ifindex;
		now.program = 0;
	}
	r = datapath_look_xdp(l->d, side, &now.program, now.why, sizeof(now.why));
	now.error = r < 0 ? r : 0;
	note(l, watched, &now, r, is_new);
}

void datapath_look(
	struct datapath *d, unsigned int ifindex, datapath_change_handler handler, void *ctx)
{
	const struct looking l = {.d = d, .handler = handler, .ctx = ctx};

	if (ifindex)
		look_at(&l, ifindex);
	else
		look_at_all(&l);
	for (int side = 0; side < DATAPATH_SIDES; side++)
		if (!ifindex || ifindex == d->guards.side[side].ifindex ||
			ifindex == if_nametoindex(d->guards.names[side]))
			look_at_side(&l, side);
}

unsigned int datapath_outer(const struct datapath *d)
{
	return d->config.ifindex[DATAPATH_OUTER];
}

/* For status, and for who decides by it. */

unsigned int datapath_guarded(struct datapath *d, const char **ret_how)
{
	unsigned int n = 0;

	pthread_mutex_lock(&d->guards.lock);
	for (size_t i = 0; i < d->guards.count; i++)
		n += !d->guards.all[i].error;
	pthread_mutex_unlock(&d->guards.lock);
	if (ret_how)
		*ret_how = d->guards.clsact ? "clsact" : "tcx";
	return n;
}

unsigned int datapath_lacking(struct datapath *d, struct datapath_watched *ret, unsigned int n)
{
	struct datapath_guards *g = &d->guards;
	unsigned int found = 0;

	pthread_mutex_lock(&g->lock);
	for (size_t i = 0; i < g->count; i++)
		if (g->all[i].error && found++ < n)
			ret[found - 1] = g->all[i];
	for (int side = 0; side < DATAPATH_SIDES; side++)
		if (g->side[side].error && found++ < n)
			ret[found - 1] = g->side[side];
	pthread_mutex_unlock(&g->lock);
	return found < n ? found : n;
}

int datapath_guard_remove(unsigned int ifindex)
{
	uint32_t ids[DATAPATH_TCX_MOST];
	int count = datapath_tcx_query(ifindex, ids), r = 0;

	if (count > 0)
		r = remove_guards(ifindex, ids, count, 0);
	return r ?: datapath_attach_tc_remove(ifindex);
}

int datapath_guard_remove_all(void)
{
	struct if_nameindex *all = if_nameindex();
	int first = 0;

	if (!all)
		return -errno;
	for (struct if_nameindex *i = all; i->if_index; i++) {
		int r = i->if_index == LOOPBACK ? 0 : datapath_guard_remove(i->if_index);

		first = first ?: r;
	}
	if_freenameindex(all);
	return first;
}

void datapath_guard_free(struct datapath *d)
{
	bpf_object__close(d->guards.object);
	free(d->guards.all);
}
