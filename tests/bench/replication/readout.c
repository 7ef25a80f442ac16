/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * readout.c - how far has each SA come? Read from the mmap'ed array, as the agent does; by
 * bpf_map_lookup_batch from a BPF hash map with the same values; by a dump of the kernel's SAs.
 *
 * The SAs of the dump are larval ones (XFRM_MSG_ALLOCSPI), since those need no ESP in the kernel.
 * They have no algorithm, key or ESN window, so a dump of real ones costs more than this one.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <libmnl/libmnl.h>
#include <linux/xfrm.h>

#include "replication.h"

#define ROUNDS 11U
#define BATCH 4096 /* entries of the hash map in one call */
#define REQUESTS 64 /* messages in one */
#define ACQ_EXPIRES "/proc/sys/net/core/xfrm_acq_expires"

struct readout {
	uint32_t sas, states;
	struct espalier_counter *counters; /* mmap'ed */
	uint64_t *positions; /* as the agent keeps them: what was told last */
	int hash;
	struct espalier_sa_key *keys;
	struct espalier_counter *values;
	struct mnl_socket *xfrm;
	uint64_t sum; /* what each way must find */
};

static void fill_hash(struct readout *r)
{
	LIBBPF_OPTS(bpf_map_batch_opts, opts);

	r->hash = bpf_map_create(BPF_MAP_TYPE_HASH, "by_sa", sizeof(struct espalier_sa_key),
		sizeof(struct espalier_counter), r->sas, NULL);
	r->keys = calloc(BATCH, sizeof(*r->keys));
	r->values = calloc(BATCH, sizeof(*r->values));
	if (r->hash < 0 || !r->keys || !r->values)
		die("cannot make a BPF hash map of %u entries", r->sas);
	for (uint32_t first = 0, n; first < r->sas; first += n) {
		uint32_t done;

		n = done = r->sas - first < BATCH ? r->sas - first : BATCH;
		for (uint32_t i = 0; i < n; i++) {
			struct record_facts facts;
			struct record_key key;

			kernel_sa(first + i, &key, &facts);
			memcpy(r->keys[i].daddr, key.addr, sizeof(key.addr));
			r->keys[i].spi = key.spi;
		}
		if (bpf_map_update_batch(r->hash, r->keys, &r->counters[first], &done, &opts) < 0 ||
			done != n)
			die("cannot fill a BPF hash map of %u entries", r->sas);
	}
}

static void fill_array(struct readout *r)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_MMAPABLE);
	int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "counters", sizeof(uint32_t),
		sizeof(struct espalier_counter), r->sas, &opts);
	void *map = mmap(NULL, r->sas * sizeof(struct espalier_counter), PROT_READ | PROT_WRITE,
		MAP_SHARED, fd, 0);

	r->positions = calloc(r->sas, sizeof(*r->positions));
	if (map == MAP_FAILED || !r->positions)
		die("cannot make a BPF array of %u entries", r->sas);
	close(fd);
	r->counters = map;
	for (uint32_t i = 0; i < r->sas; i++) {
		r->counters[i].seq = r->positions[i] = i % 1000 + 1;
		r->sum += r->counters[i].seq;
	}
}

static uint64_t read_array(struct readout *r)
{
	uint64_t sum = 0;

	for (uint32_t slot = 0; slot < r->sas; slot++) {
		uint64_t seq = ((volatile struct espalier_counter *)r->counters)[slot].seq;

		sum += seq;
		if (seq != r->positions[slot])
			die("a counter has moved by itself");
	}
	return sum;
}

static uint64_t read_hash(struct readout *r)
{
	LIBBPF_OPTS(bpf_map_batch_opts, opts);
	uint64_t sum = 0;
	uint32_t at = 0, n;
	void *from = NULL;
	int error;

	do {
		n = BATCH;
		error = bpf_map_lookup_batch(r->hash, from, &at, r->keys, r->values, &n, &opts);
		if (error < 0 && error != -ENOENT)
			die("bpf_map_lookup_batch: %s", strerror(-error));
		for (uint32_t i = 0; i < n; i++)
			sum += r->values[i].seq;
		from = &at;
	} while (error == 0);
	return sum;
}

/* The kernel's SAs. */

static uint64_t seq_of(const struct nlmsghdr *h)
{
	const struct nlattr *a;
	uint64_t seq = 0;

	mnl_attr_for_each(a, h, sizeof(struct xfrm_usersa_info))
	{
		if (mnl_attr_get_type(a) == XFRMA_REPLAY_VAL)
			seq = ((const struct xfrm_replay_state *)mnl_attr_get_payload(a))->seq;
	}
	return seq;
}

/* Returns how many there were. */
static uint64_t read_kernel(struct readout *r)
{
	static char buf[65536];
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	uint64_t n = 0;

	h->nlmsg_type = XFRM_MSG_GETSA;
	h->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	mnl_nlmsg_put_extra_header(h, sizeof(struct xfrm_usersa_id));
	if (mnl_socket_sendto(r->xfrm, h, h->nlmsg_len) < 0)
		die("XFRM_MSG_GETSA: %s", strerror(errno));
	for (;;) {
		ssize_t size = mnl_socket_recvfrom(r->xfrm, buf, sizeof(buf));
		int len = (int)size;

		if (size < 0)
			die("XFRM_MSG_GETSA: %s", strerror(errno));
		for (h = (void *)buf; mnl_nlmsg_ok(h, len); h = mnl_nlmsg_next(h, &len)) {
			if (h->nlmsg_type == NLMSG_DONE)
				return n;
			n += h->nlmsg_type == XFRM_MSG_NEWSA && seq_of(h) == 0;
		}
	}
}

/*
 * An SPI of 0 is never given out, but what was to get it stays. Other SPIs would be looked for
 * among all SAs, each time. All addresses are different: SAs of one pair of addresses stand in one
 * chain.
 */
static void put_request(struct mnl_nlmsg_batch *batch, uint32_t number)
{
	struct nlmsghdr *h = mnl_nlmsg_put_header(mnl_nlmsg_batch_current(batch));
	struct xfrm_userspi_info *request = mnl_nlmsg_put_extra_header(h, sizeof(*request));

	h->nlmsg_type = XFRM_MSG_ALLOCSPI;
	h->nlmsg_flags = NLM_F_REQUEST;
	request->info.id.daddr.a4 = htonl(0x0a000000 + number);
	request->info.saddr.a4 = htonl(0xc0000201);
	request->info.id.proto = IPPROTO_ESP;
	request->info.family = AF_INET;
	request->info.mode = XFRM_MODE_TUNNEL;
	mnl_nlmsg_batch_next(batch);
}

static void request_states(struct readout *r, uint32_t first, uint32_t n)
{
	char requests[REQUESTS * 512], buf[32768];
	struct mnl_nlmsg_batch *batch = mnl_nlmsg_batch_start(requests, sizeof(requests));

	for (uint32_t i = 0; i < n; i++)
		put_request(batch, first + i);
	if (mnl_socket_sendto(r->xfrm, mnl_nlmsg_batch_head(batch), mnl_nlmsg_batch_size(batch)) <
		0)
		die("XFRM_MSG_ALLOCSPI: %s", strerror(errno));
	mnl_nlmsg_batch_stop(batch);
	for (uint32_t answers = 0; answers < n;) {
		ssize_t size = mnl_socket_recvfrom(r->xfrm, buf, sizeof(buf));
		int len = (int)size;

		if (size < 0)
			die("XFRM_MSG_ALLOCSPI: %s", strerror(errno));
		for (struct nlmsghdr *h = (void *)buf; mnl_nlmsg_ok(h, len);
			h = mnl_nlmsg_next(h, &len))
			answers++;
	}
}

static void fill_kernel(struct readout *r)
{
	int fd = open(ACQ_EXPIRES, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, "86400", 5) != 5)
		die("cannot set " ACQ_EXPIRES);
	close(fd);
	r->xfrm = mnl_socket_open(NETLINK_XFRM);
	if (!r->xfrm || mnl_socket_bind(r->xfrm, 0, MNL_SOCKET_AUTOPID) < 0)
		die("cannot speak XFRM netlink: %s", strerror(errno));
	for (uint32_t first = 0; first < r->sas; first += REQUESTS)
		request_states(r, first, r->sas - first < REQUESTS ? r->sas - first : REQUESTS);
	r->states = (uint32_t)read_kernel(r);
	if (r->states == 0)
		die("the kernel has no larval SAs");
}

/* Milliseconds of CPU. */
static double timed(struct readout *r, uint64_t (*read)(struct readout *r), uint64_t expected)
{
	uint64_t begin = clock_ns(CLOCK_THREAD_CPUTIME_ID), found = read(r);
	uint64_t end = clock_ns(CLOCK_THREAD_CPUTIME_ID);

	if (found != expected)
		die("read %llu where %llu was to be read", (unsigned long long)found,
			(unsigned long long)expected);
	return (double)(end - begin) / 1e6;
}

static void tell(const struct readout *r, double array, double hash, double kernel)
{
	figure("readout_array_ms", "ms CPU", array, "%u counters from the mmap'ed array, compared",
		r->sas);
	figure("readout_hash_batch_ms", "ms CPU", hash, "the same by bpf_map_lookup_batch");
	figure("readout_xfrm_dump_ms", "ms CPU", kernel,
		"the same by XFRM dump (scaled from %u larval SAs)", r->states);
	figure("readout_ratio_hash_batch", "x", hash / array, "hash batch over array");
	figure("readout_ratio_xfrm_dump", "x", kernel / array, "XFRM dump over array");
}

void readout_measure(uint32_t sas)
{
	struct readout r = {.sas = sas};
	double array[ROUNDS], hash[ROUNDS], kernel[ROUNDS];

	say("reading counters: %u SAs in a hash map and in the kernel", sas);
	sync_namespace();
	fill_array(&r);
	fill_hash(&r);
	fill_kernel(&r);
	for (unsigned int i = 0; i < ROUNDS; i++) {
		array[i] = timed(&r, read_array, r.sum);
		hash[i] = timed(&r, read_hash, r.sum);
		kernel[i] = timed(&r, read_kernel, r.states) * sas / r.states;
	}
	tell(&r, median(array, ROUNDS), median(hash, ROUNDS), median(kernel, ROUNDS));
	mnl_socket_close(r.xfrm);
	munmap(r.counters, sas * sizeof(*r.counters));
	close(r.hash);
	free(r.positions);
	free(r.keys);
	free(r.values);
}
