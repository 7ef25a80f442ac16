/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sync.c - what the two members' sync channel runs over. The network namespaces have no name: they
 * and all that is in them go with the processes.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "replication.h"
#include "sync.skel.h"

static void shell(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void shell(const char *format, ...)
{
	char command[256];
	va_list ap;

	va_start(ap, format);
	vsnprintf(command, sizeof(command), format, ap);
	va_end(ap);
	if (system(command) != 0)
		die("failed: %s", command);
}

void sync_namespace(void)
{
	if (unshare(CLONE_NEWNET) < 0)
		die("cannot make a network namespace: %s", strerror(errno));
}

void sync_link(pid_t other)
{
	shell("ip link add sync type veth peer name sync netns %d", other);
}

/* All ends are on a bridge in this network namespace. */
void sync_bridge(const pid_t *others, unsigned int n)
{
	shell("ip link add lan type bridge && ip link set lan up");
	shell("ip link add sync type veth peer name port");
	shell("ip link set port master lan up");
	for (unsigned int i = 0; i < n; i++) {
		shell("ip link add port%u type veth peer name sync netns %d", i, others[i]);
		shell("ip link set port%u master lan up", i);
	}
}

void sync_up(uint8_t id)
{
	char address[INET_ADDRSTRLEN];
	struct in_addr in = sync_address(id);

	inet_ntop(AF_INET, &in, address, sizeof(address));
	shell("ip address add %s/24 dev sync && ip link set sync up", address);
}

struct in_addr sync_address(uint8_t id)
{
	return (struct in_addr){.s_addr = htonl(0x0a090001U + id)}; /* 10.9.0.1 and up */
}

static void fill_settings(struct sync_bpf *program, uint8_t id)
{
	struct espalier_settings *settings;
	struct bpf_map *map;
	size_t size;

	bpf_object__for_each_map(map, program->obj)
	{
		bpf_map__set_pin_path(map, NULL);
		if (!strstr(bpf_map__name(map), ".rodata"))
			continue;
		settings = (struct espalier_settings *)bpf_map__initial_value(map, &size);
		if (!settings || size < sizeof(*settings))
			die("the sync program has no settings");
		settings->sync_address = sync_address(id).s_addr;
		settings->sync_port = htons(SYNC_PORT);
	}
}

struct sync_bpf *sync_load(uint8_t id, uint32_t sas, bool attach, struct espalier_counter **ret)
{
	struct sync_bpf *program = sync_bpf__open();
	void *counters;

	if (!program)
		die("cannot open the sync program: %s", strerror(errno));
	fill_settings(program, id);
	if (bpf_map__set_max_entries(program->maps.counters, sas) < 0 ||
		sync_bpf__load(program) < 0)
		die("cannot load the sync program: %s", strerror(errno));
	counters = mmap(NULL, sas * sizeof(struct espalier_counter), PROT_READ | PROT_WRITE,
		MAP_SHARED, bpf_map__fd(program->maps.counters), 0);
	if (counters == MAP_FAILED)
		die("cannot map the counters: %s", strerror(errno));
	if (attach && bpf_xdp_attach((int)if_nametoindex("sync"),
			      bpf_program__fd(program->progs.espalier_sync), 0, NULL) < 0)
		die("cannot attach the sync program: %s", strerror(errno));
	*ret = counters;
	return program;
}
