/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * datapath_sas.c - the map "sas". An SA has an entry without its mark, as long as no other one has
 * its destination and SPI: so it is found with one look, whatever becomes of the packet's mark.
 * Of several, each has an entry with its mark, and the one without says which bits to look at.
 */
#include <errno.h>
#include <string.h>

#include <bpf/bpf.h>

#include "io/datapath_private.h"

static struct espalier_sa_key without_mark(const struct espalier_sa_key *key)
{
	struct espalier_sa_key base = *key;

	base.mark = base.mark_mask = 0;
	return base;
}

static struct espalier_sa_key with_mark(
	const struct espalier_sa_key *base, const struct espalier_sa *sa)
{
	struct espalier_sa_key key = *base;

	key.mark = sa->mark;
	key.mark_mask = sa->mark_mask;
	return key;
}

static int get(struct datapath *d, const struct espalier_sa_key *key, struct espalier_sa *ret)
{
	return bpf_map_lookup_elem_flags(d->sas, key, ret, BPF_F_LOCK);
}

static int put(struct datapath *d, const struct espalier_sa_key *key, const struct espalier_sa *sa)
{
	int r = bpf_map_update_elem(d->sas, key, sa, BPF_F_LOCK);

	return r == -E2BIG ? -ENOSPC : r;
}

static bool is_of_key(const struct espalier_sa *sa, const struct espalier_sa_key *key)
{
	return sa->mark == key->mark && sa->mark_mask == key->mark_mask;
}

/* Where its entry is, or would be. */
static struct espalier_sa_key place(struct datapath *d, const struct espalier_sa_key *key,
	struct espalier_sa *ret_base, int *ret)
{
	struct espalier_sa_key base = without_mark(key);

	*ret = get(d, &base, ret_base);
	return *ret == 0 && ret_base->slot == ESPALIER_SLOT_MARKED ? *key : base;
}

/* From now on there are several: they are told apart by the bits of one mask. */
static int part(
	struct datapath *d, const struct espalier_sa_key *base, const struct espalier_sa *first)
{
	const struct espalier_sa parted = {
		.birth = 1,
		.open = {{1, 0}, {1, 0}},
		.slot = ESPALIER_SLOT_MARKED,
		.mark_mask = first->mark_mask,
	};
	struct espalier_sa_key key = with_mark(base, first);
	int r = put(d, &key, first);

	return r < 0 ? r : put(d, base, &parted);
}

/* The entry that parts several counts them. */
static int count(struct datapath *d, const struct espalier_sa_key *key, int more)
{
	struct espalier_sa_key base = without_mark(key);
	struct espalier_sa parted;
	int r = get(d, &base, &parted);

	if (r < 0)
		return r;
	parted.birth += (uint64_t)more;
	return parted.birth ? put(d, &base, &parted) : bpf_map_delete_elem(d->sas, &base);
}

static int set_parted(struct datapath *d, const struct espalier_sa_key *key,
	const struct espalier_sa *sa, uint32_t mask)
{
	struct espalier_sa before;
	bool new = get(d, key, &before) < 0;
	int r;

	if (sa->mark_mask != mask)
		return -EEXIST;
	r = put(d, key, sa);
	return r == 0 && new ? count(d, key, 1) : r;
}

int datapath_sa_set(
	struct datapath *d, const struct espalier_sa_key *key, const struct espalier_sa *sa)
{
	struct espalier_sa_key base = without_mark(key);
	struct espalier_sa marked = *sa, first;
	int r;

	if (sa->slot >= d->config.max_sas && sa->slot != ESPALIER_SLOT_LOCAL)
		return -ENOSPC;
	marked.mark = key->mark;
	marked.mark_mask = key->mark_mask;
	r = get(d, &base, &first);
	if (r < 0 || (first.slot != ESPALIER_SLOT_MARKED && is_of_key(&first, key)))
		return put(d, &base, &marked);
	if (first.slot != ESPALIER_SLOT_MARKED)
		r = part(d, &base, &first);
	return r < 0 ? r : set_parted(d, key, &marked, first.mark_mask);
}

int datapath_sa_get(struct datapath *d, const struct espalier_sa_key *key, struct espalier_sa *ret)
{
	int r;
	struct espalier_sa_key at = place(d, key, ret, &r);

	if (r < 0)
		return r;
	if (ret->slot == ESPALIER_SLOT_MARKED)
		return key->mark_mask ? get(d, &at, ret) : -ENOENT;
	return is_of_key(ret, key) ? 0 : -ENOENT;
}

int datapath_sa_delete(struct datapath *d, const struct espalier_sa_key *key)
{
	struct espalier_sa base;
	int r;
	struct espalier_sa_key at = place(d, key, &base, &r);

	if (r < 0)
		return r;
	if (base.slot == ESPALIER_SLOT_MARKED ? !key->mark_mask : !is_of_key(&base, key))
		return -ENOENT;
	r = bpf_map_delete_elem(d->sas, &at);
	return r == 0 && base.slot == ESPALIER_SLOT_MARKED ? count(d, key, -1) : r;
}

int datapath_sa_next(struct datapath *d, const struct espalier_sa_key *previous,
	struct espalier_sa_key *ret_key, struct espalier_sa *ret)
{
	struct espalier_sa_key at;
	struct espalier_sa base;
	int r;

	if (previous)
		at = place(d, previous, &base, &r);
	do {
		r = bpf_map_get_next_key(d->sas, previous ? &at : NULL, &at);
		previous = &at;
		if (r == 0)
			r = get(d, &at, ret);
	} while (r == 0 && ret->slot == ESPALIER_SLOT_MARKED);
	if (r == 0)
		*ret_key = with_mark(&at, ret);
	return r == -ENOENT ? 0 : r < 0 ? r : 1;
}
