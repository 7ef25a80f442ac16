/* SPDX-License-Identifier: BSD-2-Clause */
/* datapath_programs.c - the programs as they are built, and their settings. */
#include "io/datapath_private.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "clear.skel.h"
#include "clear_tunnel.skel.h"
#include "counters.skel.h"
#include "guard.skel.h"
#include "miss.skel.h"
#include "output.skel.h"
#include "steer.skel.h"
#include "steer_tunnel.skel.h"
#include "sync.skel.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

static const struct {
	const char *name;
	const void *(*elf)(size_t *size);
	const void *(*tunnel)(size_t *size); /* the same, with IP-in-IP */
	const char *link;
} programs[PROGRAMS] = {
	[PROGRAM_STEER] = {"espalier_steer", steer_bpf__elf_bytes, steer_tunnel_bpf__elf_bytes},
	[PROGRAM_CLEAR] = {"espalier_clear", clear_bpf__elf_bytes, clear_tunnel_bpf__elf_bytes},
	[PROGRAM_SYNC] = {"espalier_sync", sync_bpf__elf_bytes},
	[PROGRAM_GUARD] = {DATAPATH_GUARD, guard_bpf__elf_bytes},
	[PROGRAM_COUNT] = {"espalier_count", counters_bpf__elf_bytes, NULL, "count"},
	[PROGRAM_MISS] = {"espalier_miss", miss_bpf__elf_bytes, NULL, "miss"},
	[PROGRAM_OUTPUT] = {"espalier_output", output_bpf__elf_bytes, NULL, "output"},
};

const char *datapath_program_name(enum datapath_program program)
{
	return programs[program].name;
}

const char *datapath_program_link(enum datapath_program program)
{
	return programs[program].link;
}

/* Where the program takes IP-in-IP from other members; NULL: nowhere. */
static const struct address *tunnel_of(
	const struct datapath_config *config, enum datapath_program program)
{
	const struct address *tunnel =
		&config->tunnel[program == PROGRAM_STEER ? DATAPATH_OUTER : DATAPATH_INNER];

	return programs[program].tunnel && tunnel->family ? tunnel : NULL;
}

/* Of the timer that jiffies count, in ms, rounded up. */
static uint8_t timer_tick_ms(void)
{
	struct timespec tick = {.tv_nsec = 10000000}; /* the longest that Linux is built with */

	(void)clock_getres(CLOCK_MONOTONIC_COARSE, &tick);
	return (uint8_t)((tick.tv_nsec + 999999) / 1000000);
}

static int fill_settings(const struct datapath_config *config, enum datapath_program program,
	struct espalier_settings *ret)
{
	const struct address *cluster = program == PROGRAM_CLEAR ? config->inner : config->outer;
	socklen_t size = sizeof(ret->netns_cookie);
	const struct address *tunnel = tunnel_of(config, program);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), r;

	*ret = (struct espalier_settings){
		.self = config->self,
		.members = config->members,
		.hash = config->hash,
		.block_bits = config->block_bits,
		.sync_address = config->sync_address.s_addr,
		.sync_port = htons(config->sync_port),
		.misses_per_second = config->misses_per_second,
		.outer = config->ifindex[DATAPATH_OUTER],
		.tick_ms = timer_tick_ms(),
	};
	if (program == PROGRAM_STEER) {
		ret->ingress_all = config->ingress_all;
		ret->cpus = (uint8_t)config->cpus;
	}
	if (tunnel) {
		ret->tunnel_family = (uint8_t)tunnel->family;
		memcpy(ret->tunnel, tunnel->bytes, sizeof(ret->tunnel));
	}
	for (int i = 0; i < ESPALIER_ADDRESSES; i++)
		if (cluster[i].family == AF_INET)
			memcpy(&ret->cluster[i], cluster[i].bytes, sizeof(ret->cluster[i]));
		else if (cluster[i].family == AF_INET6)
			memcpy(ret->cluster6[i], cluster[i].bytes, sizeof(ret->cluster6[i]));
	/* without a cookie (0) the tracing programs would see nothing of anybody */
	r = fd < 0 || getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &ret->netns_cookie, &size) < 0
		    ? -errno
		    : 0;
	if (fd >= 0)
		close(fd);
	return r;
}

struct bpf_object *datapath_program_open(
	const struct datapath_config *config, enum datapath_program program)
{
	LIBBPF_OPTS(bpf_object_open_opts, opts, .object_name = programs[program].name,
		.pin_root_path = config->pin);
	struct espalier_settings settings;
	struct bpf_object *object;
	struct bpf_map *map;
	const void *elf;
	size_t size;
	int r;

	r = fill_settings(config, program, &settings);
	if (r < 0) {
		errno = -r;
		return NULL;
	}
	elf = tunnel_of(config, program) ? programs[program].tunnel(&size)
					 : programs[program].elf(&size);
	object = bpf_object__open_mem(elf, size, &opts);
	if (!object)
		return NULL;
	bpf_object__for_each_map(map, object)
	{
		const char *name = bpf_map__name(map);

		if (bpf_map__is_internal(map)) {
			if (bpf_map__set_initial_value(map, &settings, sizeof(settings)) < 0) {
				bpf_object__close(object);
				errno = EINVAL;
				return NULL;
			}
		} else if (!strcmp(name, "sas") || !strcmp(name, "counters") ||
			   !strcmp(name, "selectors") || !strcmp(name, "pins"))
			bpf_map__set_max_entries(map, config->max_sas);
		else if (!strcmp(name, "cpus"))
			bpf_map__set_max_entries(map, libbpf_num_possible_cpus());
	}
	return object;
}
