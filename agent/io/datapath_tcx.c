/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * datapath_tcx.c - the chain of BPF programs at tc egress of an interface (TCX, Linux 6.6), which
 * come before all tc filters there. A program of it that lets a packet pass, keeps those behind it
 * from seeing it: so ours has to be the first one.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "io/datapath_private.h"

#define TCX_EGRESS 47 /* BPF_TCX_EGRESS of enum bpf_attach_type */
#define BEFORE_ALL 8 /* BPF_F_BEFORE, and before none in particular */

/* What these commands take of union bpf_attr since 6.6: linux/bpf.h may be older. */
struct attach {
	uint32_t ifindex;
	uint32_t program; /* descriptor */
	uint32_t type;
	uint32_t flags;
	uint32_t replaced;
	uint32_t relative;
	uint64_t expected_revision;
};

struct query {
	uint32_t ifindex;
	uint32_t type;
	uint32_t query_flags;
	uint32_t attach_flags;
	uint64_t ids; /* pointer */
	uint32_t count; /* of what `ids` has room for, then of what there is */
	uint32_t padding;
	uint64_t id_flags, link_ids, link_flags; /* pointers */
	uint64_t revision;
};

static int call(enum bpf_cmd command, void *attr, unsigned int size)
{
	return syscall(SYS_bpf, command, attr, size) < 0 ? -errno : 0;
}

int datapath_tcx_query(unsigned int ifindex, uint32_t ret_ids[DATAPATH_TCX_MOST])
{
	struct query query = {.ifindex = ifindex,
		.type = TCX_EGRESS,
		.ids = (uintptr_t)ret_ids,
		.count = DATAPATH_TCX_MOST};
	int r = call(BPF_PROG_QUERY, &query, sizeof(query));

	return r < 0 ? r : (int)query.count;
}

int datapath_tcx_attach(unsigned int ifindex, int program)
{
	struct attach attach = {.ifindex = ifindex,
		.program = (uint32_t)program,
		.type = TCX_EGRESS,
		.flags = BEFORE_ALL};

	return call(BPF_PROG_ATTACH, &attach, sizeof(attach));
}

int datapath_tcx_detach(unsigned int ifindex, int program)
{
	struct attach attach = {
		.ifindex = ifindex, .program = (uint32_t)program, .type = TCX_EGRESS};

	return call(BPF_PROG_DETACH, &attach, sizeof(attach));
}
