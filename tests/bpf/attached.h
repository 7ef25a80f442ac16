/* SPDX-License-Identifier: BSD-2-Clause */
/* attached.h - what of the datapath is attached, and the lives of agents one after the other. */
#ifndef ATTACHED_H
#define ATTACHED_H

#include "namespace.h"

#include "io/datapath_private.h"

#include <linux/pkt_cls.h>
#include <sys/wait.h>

/* How many lines of the command's output say so. */
static inline int lines_with(const char *command, const char *word)
{
	FILE *f = popen(command, "r");
	char line[512];
	int n = 0;

	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		n += strstr(line, word) != NULL;
	pclose(f);
	return n;
}

/* On the outer interface: in the chain, among the filters. */
static inline int guards(void)
{
	int n = lines_with("tc filter show dev outer egress", "espalier_guard");
	uint32_t ids[DATAPATH_TCX_MOST];
	int count = datapath_tcx_query(if_nametoindex("outer"), ids);

	for (int i = 0; i < count; i++) {
		struct bpf_prog_info info = {};
		uint32_t size = sizeof(info);
		int fd = bpf_prog_get_fd_by_id(ids[i]);

		assert_int_equal(bpf_obj_get_info_by_fd(fd, &info, &size), 0);
		n += strcmp(info.name, "espalier_guard") == 0;
		close(fd);
	}
	return n;
}

/* How many programs there are, attached anywhere, that count into our reasons. */
static inline int programs(void)
{
	struct bpf_map_info reasons = {};
	uint32_t id = 0, reasons_size = sizeof(reasons);
	int n = 0, reasons_fd = pinned("reasons");

	assert_int_equal(bpf_obj_get_info_by_fd(reasons_fd, &reasons, &reasons_size), 0);
	close(reasons_fd);
	while (bpf_prog_get_next_id(id, &id) == 0) {
		struct bpf_prog_info info = {};
		uint32_t maps[16], size = sizeof(info);
		int fd = bpf_prog_get_fd_by_id(id);

		info.nr_map_ids = 16;
		info.map_ids = (uintptr_t)maps;
		if (fd < 0)
			continue; /* gone in between */
		if (bpf_obj_get_info_by_fd(fd, &info, &size) == 0)
			for (uint32_t i = 0; i < info.nr_map_ids && i < 16; i++)
				n += maps[i] == reasons.id;
		close(fd);
	}
	return n;
}

/* The id of what XDP runs on the interface; 0: nothing. */
static inline uint32_t xdp_id(const char *interface)
{
	uint32_t id = 0;

	assert_int_equal(bpf_xdp_query_id(if_nametoindex(interface), 0, &id), 0);
	return id;
}

/* A program of somebody else's that lets everything pass. */
static inline int load_other(enum bpf_prog_type type)
{
	const struct bpf_insn pass[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K,
			.dst_reg = 0,
			.imm = type == BPF_PROG_TYPE_XDP ? XDP_PASS : TC_ACT_UNSPEC},
		{.code = BPF_JMP | BPF_EXIT}};
	int fd = bpf_prog_load(type, "somebody_else", "GPL", pass, 2, NULL);

	assert_true(fd >= 0);
	return fd;
}

/* Runs one agent's life in a process of its own, as it is: descriptors do not outlive it. */
static inline bool lives(bool (*life)(struct datapath *d))
{
	pid_t child = fork();
	struct datapath *d;
	int status = -1;

	if (child == 0) {
		bool ok = start_it(&d) == 0 && life(d);

		datapath_close(ok ? d : NULL);
		_exit(!ok);
	}
	return waitpid(child, &status, 0) == child && status == 0;
}

static const struct espalier_sa restart_sa = {
	.open = {{K, 2 * K - 1}, {1, 0}}, .slot = 5, .bucket = 31};

static inline bool first_life(struct datapath *d)
{
	const struct espalier_sa_key key = key_of(SPI);

	datapath_publish(d, all_owned_by(2));
	datapath_counters(d)[5].seq = 77;
	return datapath_sa_set(d, &key, &restart_sa) == 0;
}

static inline bool next_life(struct datapath *d)
{
	const struct espalier_sa_key key = key_of(SPI);
	struct espalier_sa found;

	return datapath_view(d)->owner[4095] == 2 && datapath_counters(d)[5].seq == 77 &&
	       datapath_sa_get(d, &key, &found) == 0 &&
	       memcmp(&found, &restart_sa, sizeof(found)) == 0;
}

#endif
