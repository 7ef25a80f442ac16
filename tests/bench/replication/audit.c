/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * audit.c - what it costs to compare all SAs with the kernel's: the agent's own code around the
 * real core. The kernel is played: it tells an SA by copying it, as the kernel does, and makes it
 * for nothing. What it costs the kernel to make it: readout.c.
 */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent.h"
#include "core/state.h"
#include "io/xfrm_socket.h"
#include "replication.h"

#define ROUNDS 3U
#define SHARE_S 10
#define PART 32768 /* bytes of a dump in one read, as the kernel has it */

ssize_t __real_recv(int fd, void *buf, size_t size, int flags);
ssize_t __wrap_recv(int fd, void *buf, size_t size, int flags);
int __real_xfrm_count(struct xfrm *x, uint32_t *ret);
int __wrap_xfrm_count(struct xfrm *x, uint32_t *ret);
struct espalier_counter *__wrap_datapath_counters(const struct datapath *d);

static struct agent agent;
static struct espalier_counter *counters;
static uint32_t told, all; /* SAs of the dump under way */
static uint32_t sequence; /* of it */

struct espalier_counter *__wrap_datapath_counters(const struct datapath *d)
{
	(void)d;
	return counters;
}

int __wrap_xfrm_count(struct xfrm *x, uint32_t *ret)
{
	int r = __real_xfrm_count(x, ret);

	*ret = all;
	return r;
}

struct espalier_sa_key ops_map_key(const struct record_key *key)
{
	return (struct espalier_sa_key){.spi = key->spi};
}

static size_t put_done(void *buf)
{
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);

	h->nlmsg_type = NLMSG_DONE;
	h->nlmsg_seq = sequence;
	memset(mnl_nlmsg_put_extra_header(h, sizeof(int)), 0, sizeof(int));
	return h->nlmsg_len;
}

/* A part of the dump. */
ssize_t __wrap_recv(int fd, void *buf, size_t size, int flags)
{
	const struct xfrm *x = agent.xfrm;
	size_t len = 0;

	if (!x || !x->dumps || fd != mnl_socket_get_fd(x->dumps))
		return __real_recv(fd, buf, size, flags);
	if (sequence != x->dump.sequence)
		told = 0;
	sequence = x->dump.sequence;
	if (x->dump.kind != RECORD_SA || told == all)
		return (ssize_t)put_done(buf);
	while (told < all && len + 512 <= PART)
		len += kernel_message(told++, sequence, (char *)buf + len);
	return (ssize_t)len;
}

/* What the core decides while SAs are added, and no other member is there. */

static void op_guard(void *ctx, const struct record_key *key, const struct espalier_sa *sa)
{
	(void)ctx, (void)key, (void)sa;
}

static void op_pin(void *ctx, const struct record_key *key, const struct espalier_flow *flow)
{
	(void)ctx, (void)key, (void)flow;
}

static void op_journal(void *ctx, const struct record_key *key, uint64_t birth, uint64_t block)
{
	(void)ctx, (void)key, (void)birth, (void)block;
	member_committed(agent.member, agent.member->tickets);
}

static const struct member_ops ops = {.guard = op_guard, .pin = op_pin, .journal = op_journal};

static void open_xfrm(void)
{
	const uint32_t cluster = htonl(0xc0000201); /* kernel.c has it, too */
	struct address address = {.family = AF_INET};
	const struct xfrm_config config = {.addresses = &address, .n_addresses = 1};
	int r;

	memcpy(address.bytes, &cluster, sizeof(cluster));
	r = xfrm_open(&config, &events_xfrm, &agent, &agent.xfrm);
	if (r < 0)
		die("cannot speak XFRM netlink: %s", strerror(-r));
}

static void open_agent(uint32_t sas)
{
	const struct member_config config = {
		.members = 1,
		.hash = ESPALIER_HASH_PREFIX,
		.block_bits = BLOCK_BITS,
		.heartbeat_us = HEARTBEAT_US,
		.dead = DEAD,
		.repair_us = REPAIR_US,
		.capacity = sas,
		.journal = 1,
		.life = 1,
	};

	all = sas;
	counters = calloc(sas, sizeof(*counters));
	if (!counters || member_new(&config, &ops, NULL, agent_now_us(), &agent.member) < 0)
		die("no memory");
	agent.config.audit_us = 1000000;
	open_xfrm();
	if (xfrm_dump(agent.xfrm) < 0 || member_table(agent.member)->sas != sas)
		die("the agent does not know all SAs");
	member_started(agent.member);
}

/* Microseconds of CPU for an SA. */
static double audit_once(void)
{
	uint64_t begin = clock_ns(CLOCK_THREAD_CPUTIME_ID);

	agent.audit.asked = true;
	while (audit_turn(&agent, agent_now_us()))
		;
	return (double)(clock_ns(CLOCK_THREAD_CPUTIME_ID) - begin) / 1e3 / all;
}

/* Of a processor, while nothing happens. */
static double audit_share(void)
{
	uint64_t begin = clock_ns(CLOCK_MONOTONIC), now = begin, used = 0;

	agent.audit.due_us = 0;
	for (; now < begin + SHARE_S * 1000000000ULL; now = clock_ns(CLOCK_MONOTONIC)) {
		uint64_t cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);
		bool busy = audit_turn(&agent, now / 1000);

		used += clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
		if (!busy)
			usleep(HEARTBEAT_US / 2);
	}
	return (double)used / (double)(now - begin);
}

void audit_measure(uint32_t sas)
{
	double took[ROUNDS];

	say("comparing %u SAs with the kernel's", sas);
	sync_namespace();
	open_agent(sas);
	for (unsigned int i = 0; i < ROUNDS; i++)
		took[i] = audit_once();
	figure("audit_us_per_sa", "us CPU", median(took, ROUNDS),
		"comparing %u SAs with the kernel's, without what it takes to make a dump", sas);
	figure("audit_cpu", "CPU", audit_share(),
		"of the agent, for comparing them while nothing happens (%d s of it)", SHARE_S);
	xfrm_close(agent.xfrm);
	member_free(agent.member);
	free(counters);
}
