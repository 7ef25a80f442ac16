/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * maps.h - the settings and the maps. Every object declares all maps; libbpf pins them by name in
 * the cluster's bpffs folder, so there is one of each. Layouts and who writes what: espalier.h.
 */
#ifndef MAPS_H
#define MAPS_H

#include <stdbool.h>
#include "espalier.h"
#include <bpf/bpf_helpers.h>

char license_text[] SEC("license") = "Dual BSD/GPL";

/* Filled in by the agent before loading; constants to the verifier. */
const volatile struct espalier_settings settings;

/* The agent sets the real size of sas, counters, selectors and pins before loading. */
#define MAPS_SAS 65536

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, struct espalier_view);
} view SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ESPALIER_MEMBERS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, struct espalier_member);
} members SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAPS_SAS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct espalier_sa_key);
	__type(value, struct espalier_sa);
} sas SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAPS_SAS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, struct espalier_counter);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, MAPS_SAS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct espalier_selector);
	__type(value, struct espalier_flow);
} selectors SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAPS_SAS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct espalier_sa_key);
	__type(value, struct espalier_flow);
} pins SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ESPALIER_INTERFACES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, __u32);
} interfaces SEC(".maps");

/* As many as there may be CPUs: the agent says. */
struct {
	__uint(type, BPF_MAP_TYPE_CPUMAP);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, struct bpf_cpumap_val);
} cpus SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, struct espalier_reasons);
} reasons SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} wake SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, ESPALIER_SYNC_QUEUES);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, __u32);
} sync SEC(".maps");

/* One that was forgotten is noted again before its next packet is judged. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct espalier_sa_key);
	__type(value, __u8);
} carriers SEC(".maps");

/* More than can be between an SA and the guard, where a crypto device works on them. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct espalier_proof);
	__type(value, __u8);
} proofs SEC(".maps");

#define FAMILY_INET 2 /* AF_INET */
#define FAMILY_INET6 10 /* AF_INET6 */

static __always_inline void count(enum espalier_reason reason)
{
	__u32 zero = 0;
	__u64 *packets = bpf_map_lookup_elem(&reasons, &zero);

	if (packets && reason < ESPALIER_REASON_COUNT)
		packets[reason] += 1;
}

/* Never NULL; each lookup costs as much as all of the parsing, so it is done once. */
static __always_inline struct espalier_view *view_map(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&view, &zero);
}

/* NULL: its slot counts for another SA. */
static __always_inline struct espalier_counter *counter_of(const struct espalier_sa *sa)
{
	struct espalier_counter *counter = bpf_map_lookup_elem(&counters, &sa->slot);

	return counter && counter->birth == sa->birth ? counter : NULL;
}

/* The half of the view that holds now. The agent flips `active` with one store. */
static __always_inline const struct espalier_view_half *view_active(const struct espalier_view *v)
{
	return &v->half[*(const volatile __u32 *)&v->active & 1];
}

/* Which member owns a flow: its id, or ESPALIER_NOBODY; if ESPALIER_RAISING is set and that is this
 * member, it has just taken it over. */
static __always_inline __u8 view_owner_marked(
	const struct espalier_view *v, const struct espalier_flow *flow)
{
	const struct espalier_view_half *half = view_active(v);
	__u8 pinned = flow->pinned, owner, mark;

	if (!pinned)
		return half->owner[flow->bucket % ESPALIER_BUCKETS];
	mark = half->turned >> (pinned - 1 & 31) & 1 ? ESPALIER_RAISING : 0;
	if (half->live >> (pinned - 1 & 31) & 1)
		return (pinned - 1) | mark;
	owner = half->owner[flow->bucket % ESPALIER_BUCKETS];
	return owner | mark;
}

static __always_inline bool view_is_own(
	const struct espalier_view *v, const struct espalier_flow *flow)
{
	return (view_owner_marked(v, flow) & ~ESPALIER_RAISING) == settings.self;
}

#endif
