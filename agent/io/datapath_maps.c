/* SPDX-License-Identifier: BSD-2-Clause */
#include "io/datapath_private.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

void datapath_publish(struct datapath *d, const struct espalier_view_half *half)
{
	uint32_t spare = !(d->view->active & 1);

	d->view->half[spare] = *half;
	__atomic_store_n(&d->view->active, spare, __ATOMIC_RELEASE);
}

const struct espalier_view_half *datapath_view(const struct datapath *d)
{
	return &d->view->half[d->view->active & 1];
}

void datapath_heartbeat(struct datapath *d, uint64_t sent_ns)
{
	__atomic_store_n(&d->view->heartbeat_ns, sent_ns, __ATOMIC_RELAXED);
}

/* What the view says of the members' MAC addresses. */
static void note_macs(struct datapath *d)
{
	uint64_t outer = 0, inner = 0;

	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++) {
		outer |= espalier_mac_bit(d->members[id].outer_mac);
		inner |= espalier_mac_bit(d->members[id].inner_mac);
	}
	d->view->outer_macs = outer;
	d->view->inner_macs = inner;
	memcpy(d->view->outer_mac, d->members[d->config.self].outer_mac,
		sizeof(d->view->outer_mac));
	memcpy(d->view->inner_mac, d->members[d->config.self].inner_mac,
		sizeof(d->view->inner_mac));
}

int datapath_member_set(struct datapath *d, uint8_t id, const struct espalier_member *member)
{
	if (id >= ESPALIER_MEMBERS)
		return -EINVAL;
	/* in between there may be a bit too many, never one too few */
	d->view->outer_macs |= espalier_mac_bit(member->outer_mac);
	d->view->inner_macs |= espalier_mac_bit(member->inner_mac);
	__atomic_thread_fence(__ATOMIC_RELEASE);
	d->members[id] = *member;
	__atomic_thread_fence(__ATOMIC_RELEASE);
	note_macs(d);
	return 0;
}

int datapath_member_get(const struct datapath *d, uint8_t id, struct espalier_member *ret)
{
	if (id >= ESPALIER_MEMBERS)
		return -EINVAL;
	*ret = d->members[id];
	return 0;
}

struct espalier_counter *datapath_counters(const struct datapath *d)
{
	return d->counters;
}

int datapath_selector_set(struct datapath *d, const struct espalier_selector *selector,
	const struct espalier_flow *flow)
{
	return bpf_map_update_elem(d->selectors, selector, flow, BPF_ANY);
}

int datapath_selector_delete(struct datapath *d, const struct espalier_selector *selector)
{
	return bpf_map_delete_elem(d->selectors, selector);
}

int datapath_selector_next(struct datapath *d, const struct espalier_selector *previous,
	struct espalier_selector *ret_selector, struct espalier_flow *ret)
{
	int r = bpf_map_get_next_key(d->selectors, previous, ret_selector);

	if (r == 0)
		r = bpf_map_lookup_elem(d->selectors, ret_selector, ret);
	return r == -ENOENT ? 0 : r < 0 ? r : 1;
}

/* Sets an entry of a map that is asked only if `count`, in the view, is not 0. */
static int counted_set(int map, const void *key, const void *value, uint32_t *count)
{
	int r = bpf_map_update_elem(map, key, value, BPF_NOEXIST);

	if (r == -EEXIST)
		return bpf_map_update_elem(map, key, value, BPF_EXIST);
	if (r == 0)
		__atomic_add_fetch(count, 1, __ATOMIC_RELEASE);
	return r == -E2BIG ? -ENOSPC : r;
}

static int counted_delete(int map, const void *key, uint32_t *count)
{
	int r = bpf_map_delete_elem(map, key);

	if (r == 0)
		__atomic_sub_fetch(count, 1, __ATOMIC_RELEASE);
	return r;
}

static uint32_t count(int map, void *key)
{
	uint32_t n = 0;

	for (const void *previous = NULL; bpf_map_get_next_key(map, previous, key) == 0; n++)
		previous = key;
	return n;
}

void datapath_recount(struct datapath *d)
{
	struct espalier_sa_key pin;
	uint32_t interface;

	d->view->pins = count(d->pins, &pin);
	d->view->interfaces = count(d->interfaces, &interface);
}

int datapath_pin_set(
	struct datapath *d, const struct espalier_sa_key *key, const struct espalier_flow *flow)
{
	return counted_set(d->pins, key, flow, &d->view->pins);
}

int datapath_pin_delete(struct datapath *d, const struct espalier_sa_key *key)
{
	return counted_delete(d->pins, key, &d->view->pins);
}

int datapath_pin_next(
	struct datapath *d, const struct espalier_sa_key *previous, struct espalier_sa_key *ret)
{
	int r = bpf_map_get_next_key(d->pins, previous, ret);

	return r == -ENOENT ? 0 : r < 0 ? r : 1;
}

int datapath_interface_set(struct datapath *d, unsigned int ifindex, uint32_t if_id)
{
	return counted_set(d->interfaces, &ifindex, &if_id, &d->view->interfaces);
}

int datapath_interface_delete(struct datapath *d, unsigned int ifindex)
{
	return counted_delete(d->interfaces, &ifindex, &d->view->interfaces);
}

int datapath_interface_next(
	struct datapath *d, const unsigned int *previous, unsigned int *ret_ifindex)
{
	int r = bpf_map_get_next_key(d->interfaces, previous, ret_ifindex);

	return r == -ENOENT ? 0 : r < 0 ? r : 1;
}

int datapath_reasons(const struct datapath *d, uint64_t ret[ESPALIER_REASON_COUNT])
{
	int cpus = libbpf_num_possible_cpus(), r;
	uint64_t(*by_cpu)[ESPALIER_REASON_COUNT]; /* struct espalier_reasons, to be counted through
						   */
	uint32_t zero = 0;

	if (cpus < 0)
		return cpus;
	by_cpu = calloc(cpus, sizeof(*by_cpu));
	if (!by_cpu)
		return -ENOMEM;
	r = bpf_map_lookup_elem(d->reasons, &zero, by_cpu);
	memset(ret, 0, sizeof(*by_cpu));
	for (int cpu = 0; r == 0 && cpu < cpus; cpu++)
		for (int i = 0; i < ESPALIER_REASON_COUNT; i++)
			ret[i] += by_cpu[cpu][i];
	free(by_cpu);
	return r;
}

int datapath_wake_fd(const struct datapath *d)
{
	return ring_buffer__epoll_fd(d->wake);
}

int datapath_on_wake(void *ctx, void *data, size_t size)
{
	struct datapath *d = ctx;

	if (size >= sizeof(struct espalier_event))
		d->wake_fn(d->wake_ctx, data);
	return 0;
}

int datapath_wake(
	struct datapath *d, void (*fn)(void *ctx, const struct espalier_event *event), void *ctx)
{
	d->wake_fn = fn;
	d->wake_ctx = ctx;
	return ring_buffer__consume(d->wake);
}

int datapath_sync_map_fd(const struct datapath *d)
{
	return d->config.ifindex[DATAPATH_SYNC] ? d->sync : -1;
}
