/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tcx COMMAND INTERFACE [ARGUMENT] - the chain of TCX programs at tc egress, as somebody else may
 * use it.
 *
 *   first          prints the name of the first program
 *   before N       puts N programs before all that are there; they let everything pass
 *   crowd-out      leaves no room for the guard
 *   take-off NAME  takes the programs of that name off
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/datapath_private.h"

static int fail(const char *what, int r)
{
	fprintf(stderr, "tcx: %s: %s\n", what, strerror(-r));
	return EXIT_FAILURE;
}

static int load(void)
{
	const struct bpf_insn pass[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0},
		{.code = BPF_JMP | BPF_EXIT},
	};

	return bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "other", "GPL", pass, 2, NULL);
}

static const char *name_of(int fd)
{
	static struct bpf_prog_info info;
	uint32_t size = sizeof(info);

	info = (struct bpf_prog_info){};
	return bpf_obj_get_info_by_fd(fd, &info, &size) < 0 ? "" : info.name;
}

static int put_before(unsigned int ifindex, unsigned long n)
{
	int r = 0;

	for (unsigned long i = 0; i < n && r == 0; i++) {
		int fd = load();

		r = fd < 0 ? fd : datapath_tcx_attach(ifindex, fd);
		close(fd);
	}
	return r;
}

/* How many programs of that name it has taken off. */
static int take_off(unsigned int ifindex, const char *name)
{
	uint32_t ids[DATAPATH_TCX_MOST];
	int n = datapath_tcx_query(ifindex, ids), r = n < 0 ? n : 0, count = 0;

	for (int i = 0; i < n && r >= 0; i++) {
		int fd = bpf_prog_get_fd_by_id(ids[i]);

		if (fd >= 0 && strcmp(name_of(fd), name) == 0) {
			r = datapath_tcx_detach(ifindex, fd);
			count++;
		}
		/* The agent moves its guard to the front: this one may have gone since. */
		if (r == -ENOENT)
			r = 0;
		if (fd >= 0)
			close(fd);
	}
	return r < 0 ? r : count;
}

/* Fills the chain; as long as the agent is quicker, its guard goes again. */
static int crowd_out(unsigned int ifindex)
{
	int r;

	do {
		r = put_before(ifindex, DATAPATH_TCX_MOST);
		if (r == 0 || r == -ERANGE)
			r = take_off(ifindex, DATAPATH_GUARD);
	} while (r > 0);
	return r;
}

int main(int argc, char **argv)
{
	unsigned int ifindex = argc > 2 ? if_nametoindex(argv[2]) : 0;
	uint32_t ids[DATAPATH_TCX_MOST];
	int r;

	if (!ifindex)
		return fail(
			"usage: tcx first|before|crowd-out|take-off INTERFACE [N|NAME]", -EINVAL);
	if (strcmp(argv[1], "first") == 0) {
		r = datapath_tcx_query(ifindex, ids);
		if (r > 0)
			puts(name_of(bpf_prog_get_fd_by_id(ids[0])));
	} else if (strcmp(argv[1], "before") == 0 && argc > 3) {
		r = put_before(ifindex, strtoul(argv[3], NULL, 10));
	} else if (strcmp(argv[1], "crowd-out") == 0) {
		r = crowd_out(ifindex);
	} else if (strcmp(argv[1], "take-off") == 0 && argc > 3) {
		r = take_off(ifindex, argv[3]);
	} else {
		r = -EINVAL;
	}
	return r < 0 ? fail(argv[1], r) : EXIT_SUCCESS;
}
