/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * takeover - how long is it from the decision that a member is dead to the flip of the view that
 * the BPF programs read? Three members in one process, real cores, a real mmap'ed BPF array; SAs
 * made up. Needs root.
 */
#include <bpf/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "core/member.h"

#define MEMBERS 3
#define ROUNDS 51U
#define QUEUE 4096

struct end {
	struct member *member;
	bool dead;
	uint64_t tickets;
	struct espalier_view *view;
	uint64_t decided_ns, flipped_ns;
};

static struct end ends[MEMBERS];
static uint64_t now_us = 1000000;

static struct {
	uint8_t from, to;
	size_t len;
	uint8_t bytes[WIRE_MAX];
} queue[QUEUE];
static unsigned int head, count;

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static uint8_t id_of(const struct end *end)
{
	return (uint8_t)(end - ends);
}

static void op_send(void *ctx, uint8_t to, const void *datagram, size_t len)
{
	unsigned int at = (head + count) % QUEUE;

	if (count == QUEUE)
		return; /* lost, and sent again */
	count++;
	queue[at].from = id_of(ctx);
	queue[at].to = to;
	queue[at].len = len;
	memcpy(queue[at].bytes, datagram, len);
}

static void op_install(void *ctx, struct record_install *list, unsigned int n)
{
	(void)ctx;
	for (unsigned int i = 0; i < n; i++)
		list[i].result = 0;
}

static void op_remove(void *ctx, const struct record_key *key)
{
	(void)ctx, (void)key;
}

static void op_expire(void *ctx, const struct record_key *key, enum record_fence why)
{
	(void)ctx, (void)key, (void)why;
}

static int op_move(void *ctx, const struct record_key *key, uint64_t oseq)
{
	(void)ctx, (void)key, (void)oseq;
	return 0;
}

static void op_floor(void *ctx, uint32_t slot, uint64_t seq)
{
	(void)ctx, (void)slot, (void)seq;
}

static void op_raised(void *ctx)
{
	(void)ctx;
}

static int op_raise(void *ctx, const struct record_key *key, uint32_t slot, uint64_t seq)
{
	(void)ctx, (void)key, (void)slot, (void)seq;
	return 0;
}

static void op_use(void *ctx, const struct record_key *key, const struct record_usage *used)
{
	(void)ctx, (void)key, (void)used;
}

static int op_read(void *ctx, const struct record_key *key, void *body, size_t size)
{
	(void)ctx, (void)key;
	memset(body, 1, size);
	return 300;
}

static void op_guard(void *ctx, const struct record_key *key, const struct espalier_sa *sa)
{
	(void)ctx, (void)key, (void)sa;
}

static void op_selector(
	void *ctx, const struct espalier_selector *selector, const struct espalier_flow *flow)
{
	(void)ctx, (void)selector, (void)flow;
}

static void op_pin(void *ctx, const struct record_key *key, const struct espalier_flow *flow)
{
	(void)ctx;
	(void)key;
	(void)flow;
}

static void op_hand(void *ctx, bool on)
{
	(void)ctx;
	(void)on;
}

static int op_keep(void *ctx, enum wire_order order)
{
	(void)ctx;
	(void)order;
	return 0;
}

static void op_publish(
	void *ctx, const struct view *view, uint8_t ingress, const uint8_t owner[ESPALIER_BUCKETS])
{
	struct end *end = ctx;
	uint32_t spare = !end->view->active;
	struct espalier_view_half *half = &end->view->half[spare];

	half->epoch = view->epoch;
	half->live = view->live;
	half->ingress = ingress;
	memcpy(half->owner, owner, ESPALIER_BUCKETS);
	__atomic_store_n(&end->view->active, spare, __ATOMIC_RELEASE);
	end->flipped_ns = now_ns();
}

static void op_macs(void *ctx, uint8_t member, const struct wire_macs *macs, bool next_hop)
{
	(void)ctx, (void)member, (void)macs, (void)next_hop;
}

static void op_journal(void *ctx, const struct record_key *key, uint64_t birth, uint64_t block)
{
	struct end *end = ctx;

	(void)key, (void)birth, (void)block;
	end->tickets++;
}

static void op_forget(void *ctx, uint64_t birth)
{
	(void)ctx, (void)birth;
}

static bool op_journal_old(void *ctx, const struct record_key *key, uint8_t who)
{
	(void)ctx, (void)key, (void)who;
	return false;
}

static void op_doubled(void *ctx, uint8_t who, bool over)
{
	(void)ctx, (void)who, (void)over;
}

static void op_notice(
	void *ctx, enum member_notice notice, const struct record_key *key, uint8_t who)
{
	(void)ctx, (void)notice, (void)key, (void)who;
}

static const struct member_ops ops = {
	.send = op_send,
	.install = op_install,
	.remove = op_remove,
	.move = op_move,
	.raise = op_raise,
	.floor = op_floor,
	.raising = op_raised,
	.raised = op_raised,
	.use = op_use,
	.read = op_read,
	.expire = op_expire,
	.guard = op_guard,
	.selector = op_selector,
	.pin = op_pin,
	.publish = op_publish,
	.hand = op_hand,
	.keep = op_keep,
	.macs = op_macs,
	.journal = op_journal,
	.forget = op_forget,
	.journal_old = op_journal_old,
	.doubled = op_doubled,
	.notice = op_notice,
};

static struct espalier_view *map_view(void)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_MMAPABLE);
	int fd = bpf_map_create(
		BPF_MAP_TYPE_ARRAY, "view", 4, sizeof(struct espalier_view), 1, &opts);
	void *map = fd < 0 ? MAP_FAILED
			   : mmap(NULL, sizeof(struct espalier_view), PROT_READ | PROT_WRITE,
				     MAP_SHARED, fd, 0);

	if (map == MAP_FAILED) {
		perror("takeover: cannot map a BPF array (root?)");
		exit(EXIT_FAILURE);
	}
	close(fd);
	return map;
}

static void deliver(void)
{
	while (count) {
		unsigned int at = head;

		head = (head + 1) % QUEUE;
		count--;
		if (!ends[queue[at].from].dead && !ends[queue[at].to].dead)
			member_datagram(ends[queue[at].to].member, queue[at].from, queue[at].bytes,
				queue[at].len, now_us);
	}
}

static void run(uint64_t us)
{
	for (uint64_t until = now_us + us; now_us < until; now_us += 5000) {
		for (unsigned int i = 0; i < MEMBERS; i++) {
			if (ends[i].dead)
				continue;
			ends[i].decided_ns = now_ns();
			member_tick(ends[i].member, now_us);
			member_committed(ends[i].member, ends[i].tickets);
			while (member_work(ends[i].member, now_us))
				;
		}
		for (unsigned int i = 0; i < 8; i++) {
			deliver();
			for (unsigned int end = 0; end < MEMBERS; end++)
				if (!ends[end].dead)
					member_flush(ends[end].member, now_us);
		}
	}
}

static void add_sas(unsigned int n)
{
	static const uint8_t body[300];

	for (unsigned int i = 0; i < n; i++) {
		struct member_record record = {
			.key = {.kind = RECORD_SA,
				.proto = 50,
				.family = 2,
				.spi = i + 256,
				.addr = {192, 0, 2, 1}},
			.facts = {.birth = i + 1,
				.pair = i / 2,
				.direction = i % 2 ? ESPALIER_OUT : ESPALIER_IN},
			.body = body,
			.body_len = sizeof(body),
		};

		member_added(ends[0].member, &record);
	}
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void start(unsigned int sas)
{
	for (unsigned int i = 0; i < MEMBERS; i++) {
		struct member_config config = {
			.self = (uint8_t)i,
			.members = (1 << MEMBERS) - 1,
			.block_bits = 16,
			.heartbeat_us = 10000,
			.dead = 3,
			.repair_us = 1000000,
			.start_us = 200000,
			.tombstone_us = 3600000000,
			.capacity = sas + 16,
			.idle = sas,
			.journal = i + 1,
			.life = i + 1,
		};

		ends[i] = (struct end){.view = map_view()};
		if (member_new(&config, &ops, &ends[i], now_us, &ends[i].member) < 0)
			exit(EXIT_FAILURE);
		member_started(ends[i].member);
	}
}

static unsigned int sas_on(unsigned int end)
{
	const struct table *table = member_table(ends[end].member);
	unsigned int n = 0;

	for (uint32_t slot = 0; slot < table->high; slot++) {
		const struct record *r = table_at(table, slot);

		n += r && r->life == RECORD_ALIVE && record_is_installed(r);
	}
	return n;
}

/* Member 2 falls silent, ROUNDS times; how long does member 0 take? */
static void measure(unsigned int sas)
{
	const unsigned int median = ROUNDS / 2;
	uint64_t took[ROUNDS];

	start(sas);
	run(2000000);
	add_sas(sas);
	for (unsigned int i = 0; i < 400 && sas_on(1) + sas_on(2) < 2 * sas; i++)
		run(500000);
	if (sas_on(1) + sas_on(2) < 2 * sas) {
		fprintf(stderr, "takeover: the members did not get all SAs\n");
		exit(EXIT_FAILURE);
	}
	for (unsigned int round = 0; round < ROUNDS; round++) {
		ends[2].dead = true;
		while (member_view(ends[0].member)->live >> 2 & 1) {
			ends[0].flipped_ns = 0;
			run(5000);
		}
		took[round] = ends[0].flipped_ns - ends[0].decided_ns;
		ends[2].dead = false;
		for (unsigned int i = 0; i < 100 && !(member_view(ends[0].member)->live >> 2 & 1);
			i++)
			run(500000);
	}
	qsort(took, ROUNDS, sizeof(*took), compare);
	printf("%7u SAs: %6.1f us median, %6.1f us max of %u takeovers\n", sas,
		(double)took[median] / 1e3, (double)took[ROUNDS - 1] / 1e3, ROUNDS);
	for (unsigned int i = 0; i < MEMBERS; i++) {
		member_free(ends[i].member);
		munmap(ends[i].view, sizeof(struct espalier_view));
	}
	head = count = 0;
}

int main(void)
{
	measure(10);
	measure(100000);
	return EXIT_SUCCESS;
}
