/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The CPUs that local ESP is spread over. The map's key is the CPU's number and the program counts
 * from 0, so that a CPU which is off ends the row.
 */
#include <bpf/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/datapath_private.h"

#define ONLINE "/sys/devices/system/cpu/online"
#define QUEUE 2048 /* packets that wait for a CPU, at most */

/* CPUs that are on, from 0 without a gap; 0: not known. The kernel lists them as "0-3,6". */
static unsigned int row_of_cpus(void)
{
	FILE *f = fopen(ONLINE, "re");
	char text[64] = "";

	if (!f)
		return 0;
	if (!fgets(text, sizeof(text), f))
		text[0] = '\0';
	fclose(f);
	if (text[0] != '0')
		return 0;
	return text[1] == '-' ? (unsigned int)strtoul(text + 2, NULL, 10) + 1 : 1;
}

/* What is there already goes on as it is. */
static int fill(int map, uint32_t cpu)
{
	struct bpf_cpumap_val queue = {};

	if (bpf_map_lookup_elem(map, &cpu, &queue) == 0 && queue.qsize == QUEUE)
		return 0;
	queue = (struct bpf_cpumap_val){.qsize = QUEUE};
	return bpf_map_update_elem(map, &cpu, &queue, BPF_ANY);
}

unsigned int datapath_count_cpus(const struct datapath *d)
{
	struct bpf_cpumap_val queue = {};
	unsigned int n = 0;

	while (bpf_map_lookup_elem(d->cpus, &n, &queue) == 0 && queue.qsize)
		n++;
	return n;
}

void datapath_fill_cpus(struct datapath *d)
{
	unsigned int wanted = d->config.cpus, there = wanted ? row_of_cpus() : 0, n = 0;
	int r = 0;

	while (r == 0 && n < wanted && n < there && n < UINT8_MAX) {
		r = fill(d->cpus, n);
		n += r == 0;
	}
	d->config.cpus = n;
	if (r < 0)
		snprintf(d->no_cpus, sizeof(d->no_cpus), "the kernel refuses CPU %u: %s", n,
			strerror(-r));
	else if (n < wanted && wanted != DATAPATH_ALL_CPUS)
		snprintf(d->no_cpus, sizeof(d->no_cpus), "only so many are on, without a gap");
}

void datapath_trim_cpus(struct datapath *d, unsigned int keep)
{
	int n = libbpf_num_possible_cpus();

	for (int cpu = (int)keep; cpu < n; cpu++)
		(void)bpf_map_delete_elem(d->cpus, &cpu);
}

unsigned int datapath_cpus(const struct datapath *d, const char **ret_why)
{
	if (ret_why)
		*ret_why = d->no_cpus;
	return d->config.cpus;
}
