/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * member.c - one member: the agent's loop (agent/espalierd.c) around the real core, sync channel,
 * journal and counters map. The kernel's SAs and the guard are made up and cost nothing.
 */
#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "core/state.h"
#include "io/digest.h"
#include "io/journal.h"
#include "replication.h"
#include "sync.skel.h"

#define SPARE 16 /* slots above the SAs that are needed */
#define MEMORY_EVERY_US 100000
#define TOMBSTONE_US 600000000ULL /* as the agent has it */

enum source { TIMER, CHANNEL, JOURNAL, CHURN, SOURCES };

struct end {
	const struct setup *setup;
	struct shared *shared;
	uint8_t other; /* the one that is looked at */
	struct member *member;
	struct churn *churn; /* NULL: there is none */
	struct channel *channel;
	struct journal *journal;
	struct sync_bpf *program;
	struct espalier_counter *counters; /* mmap'ed */
	uint64_t *positions; /* by slot: what the core was told last */
	uint64_t positions_due_us, memory_due_us;
	uint32_t move, cursor; /* counters to be moved each time they are read; the next slot */
	uint64_t rss, connected_cpu_ns;
	uint32_t asked; /* the comparison under way */
	uint64_t asked_ns;
	int epoll, timer;
	struct report report;
	bool stop;
};

static uint32_t room(const struct setup *setup)
{
	return setup->sas + setup->more + SPARE;
}

static uint64_t now_us(void)
{
	return clock_ns(CLOCK_MONOTONIC) / 1000;
}

/* What the core decides. */

static enum traffic_kind traffic_of(const void *datagram, size_t len)
{
	struct reader r = {.at = datagram, .end = (const uint8_t *)datagram + len};
	struct wire_header h;

	if (wire_get_header(&r, &h) < 0 || h.segment)
		return STREAM;
	return r.at == r.end ? ACKS : HEARTBEATS;
}

static void op_send(void *ctx, uint8_t to, const void *datagram, size_t len)
{
	struct end *e = ctx;
	struct traffic *t = &e->report.sent[traffic_of(datagram, len)];
	struct channel_counters before, after;

	channel_counters(e->channel, &before);
	(void)channel_send(e->channel, to, datagram, len);
	channel_counters(e->channel, &after);
	t->datagrams += after.sent - before.sent;
	t->bytes += after.sent_bytes - before.sent_bytes;
}

static void op_install(void *ctx, struct record_install *list, unsigned int n)
{
	struct end *e = ctx;

	for (unsigned int i = 0; i < n; i++) {
		list[i].result = 0;
		if (e->churn)
			churn_installed(e->churn, list[i].key);
	}
	e->report.installed += n;
}

static void op_remove(void *ctx, const struct record_key *key)
{
	struct end *e = ctx;

	(void)key;
	e->report.installed--;
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
	struct end *e = ctx;

	e->report.read++;
	return kernel_body(key, body, size);
}

static void op_expire(void *ctx, const struct record_key *key, enum record_fence why)
{
	(void)ctx, (void)key, (void)why;
}

static void op_guard(void *ctx, const struct record_key *key, const struct espalier_sa *sa)
{
	struct end *e = ctx;

	if (e->churn)
		churn_guarded(e->churn, key, sa);
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
	(void)ctx, (void)view, (void)ingress, (void)owner;
}

static void op_macs(void *ctx, uint8_t member, const struct wire_macs *macs, bool next_hop)
{
	(void)ctx, (void)member, (void)macs, (void)next_hop;
}

static void op_journal(void *ctx, const struct record_key *key, uint64_t birth, uint64_t block)
{
	struct end *e = ctx;

	journal_add(e->journal, key, birth, block);
}

static void op_forget(void *ctx, uint64_t birth)
{
	struct end *e = ctx;

	journal_forget(e->journal, birth);
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

/* What happens. */

static void on_datagram(void *ctx, uint8_t from, const void *buf, size_t len)
{
	struct end *e = ctx;

	member_datagram(e->member, from, buf, len, now_us());
}

static void on_journal(struct end *e)
{
	uint64_t done = 0;

	if (journal_process(e->journal, &done) < 0)
		die("%s", journal_error(e->journal));
	member_committed(e->member, done);
}

/* In the kernel's place. The slots follow the SAs' numbers where they were added in order. */
static void move_counters(struct end *e)
{
	for (uint32_t i = 0; i < e->move; i++) {
		e->counters[e->cursor].seq += 64;
		e->counters[e->cursor].packets += 64;
		e->cursor = (e->cursor + 2) % e->setup->sas;
	}
}

/* As events_positions() does. */
static void read_counters(struct end *e)
{
	uint32_t high = member_table(e->member)->high;

	for (uint32_t slot = 0; slot < high; slot++) {
		uint64_t seq = e->counters[slot].seq;

		if (seq == e->positions[slot])
			continue;
		e->positions[slot] = seq;
		member_position(e->member, slot, seq);
		e->report.told++;
	}
}

/* Records that vanish from the table and the kernel, as by a mistake of somebody's. */
static void lose(struct end *e, uint32_t n)
{
	struct table *table = &e->member->table;

	while (n) {
		uint32_t slot;
		struct record *r;

		digest_random(&slot, sizeof(slot));
		r = table_at(table, slot % table->high);
		if (!r || r->life != RECORD_ALIVE || !record_is_installed(r))
			continue;
		table_drop(table, r);
		e->report.installed--;
		n--;
	}
}

static void obey(struct end *e)
{
	switch ((enum order)atomic_load(&e->shared->order)) {
	case ORDER_NONE:
		return;
	case ORDER_LOSE:
		lose(e, e->shared->argument);
		e->report.full_ns = 0;
		e->report.lost_ns = clock_ns(CLOCK_MONOTONIC);
		break;
	case ORDER_MOVE:
		e->move = e->shared->argument;
		break;
	case ORDER_CHURN:
		churn_begin(e->churn, e->shared->argument);
		break;
	case ORDER_STOP:
		e->stop = true;
		break;
	}
	atomic_store(&e->shared->order, ORDER_NONE);
}

/* What is told of it. */

/* How long does a comparison take? */
static void watch_rounds(struct end *e, uint64_t now)
{
	const struct asking *asking = &e->member->others[e->other].asking;

	if (asking->asked != e->asked) {
		e->asked = asking->asked;
		e->asked_ns = now;
	}
	if (e->asked_ns && asking->answered == e->asked) {
		e->report.rounds++;
		e->report.rounds_ns += now - e->asked_ns;
		e->asked_ns = 0;
	}
}

/* Each turn: when did what happen? */
static void watch_progress(struct end *e)
{
	struct report *r = &e->report;
	uint64_t now = clock_ns(CLOCK_MONOTONIC);

	watch_rounds(e, now);
	if (!r->connected_ns && channel_connected(e->channel, e->other)) {
		r->connected_ns = now;
		e->connected_cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	}
	if (!r->full_ns && r->installed >= e->setup->sas && e->member->synced >> e->other & 1) {
		r->full_ns = now;
		r->full_cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - e->connected_cpu_ns;
	}
}

static void publish(struct end *e, uint64_t now)
{
	e->report.synced = true;
	e->report.queued = 0;
	for (uint8_t id = 0; id < e->setup->members; id++) {
		struct member_other other;

		if (id == e->setup->id)
			continue;
		member_other(e->member, id, &other);
		e->report.synced &= other.synced;
		e->report.queued += other.queued;
	}
	e->report.started = member_flags(e->member) & WIRE_STARTED;
	e->report.barred = member_fenced(e->member);
	e->report.core = *member_counters(e->member);
	e->report.ns = clock_ns(CLOCK_MONOTONIC);
	e->report.cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	if (now >= e->memory_due_us) {
		e->memory_due_us = now + MEMORY_EVERY_US;
		memory(&e->report.rss, &e->report.rss_peak);
		e->report.rss -= e->rss;
		e->report.rss_peak -= e->rss;
	}
	atomic_fetch_add(&e->shared->version, 1);
	e->shared->report = e->report;
	atomic_fetch_add(&e->shared->version, 1);
}

/* The loop. */

static void tick(struct end *e)
{
	uint64_t expirations, now = now_us();

	if (read(e->timer, &expirations, sizeof(expirations)) < 0)
		return;
	member_tick(e->member, now);
	if (now >= e->positions_due_us) {
		e->positions_due_us = now + POSITIONS_EVERY_US;
		move_counters(e);
		read_counters(e);
	}
	obey(e);
	publish(e, now);
}

/* What the kernel tells of SAs that were made and deleted. */
static bool rekey(struct end *e)
{
	int more = 0;
	bool busy = e->churn && churn_turn(e->churn, e->member, &more);

	e->report.installed += (uint32_t)more;
	return busy;
}

static int wait_ms(const struct end *e, bool busy)
{
	uint64_t deadline = channel_deadline(e->channel), now = now_us();

	if (busy)
		return 0;
	if (deadline == UINT64_MAX)
		return -1;
	return deadline <= now ? 0 : (int)((deadline - now + 999) / 1000);
}

/* A member that is kept from its heartbeats by its own work is taken for dead. */
static void watch_turn(struct end *e, uint64_t begin, uint64_t cpu)
{
	uint64_t took = clock_ns(CLOCK_MONOTONIC) - begin;
	uint64_t cpu_took = clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;

	if (took > e->report.turn_ns)
		e->report.turn_ns = took;
	if (cpu_took > e->report.turn_cpu_ns)
		e->report.turn_cpu_ns = cpu_took;
}

static void loop(struct end *e)
{
	struct epoll_event events[SOURCES];
	bool busy = false;

	while (!e->stop) {
		int n = epoll_wait(e->epoll, events, SOURCES, wait_ms(e, busy));
		uint64_t begin = clock_ns(CLOCK_MONOTONIC);
		uint64_t cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);

		for (int i = 0; i < n; i++) {
			if (events[i].data.u32 == TIMER)
				tick(e);
			else if (events[i].data.u32 == JOURNAL)
				on_journal(e);
		}
		channel_process(e->channel, now_us());
		busy = rekey(e);
		busy |= member_work(e->member, now_us());
		member_flush(e->member, now_us());
		journal_commit(e->journal);
		channel_process(e->channel, now_us());
		watch_progress(e);
		watch_turn(e, begin, cpu);
	}
}

/* Start. */

static void watch(const struct end *e, int fd, enum source source)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u32 = source};

	if (fd < 0 || epoll_ctl(e->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
		die("cannot watch: %s", strerror(errno));
}

static void open_loop(struct end *e)
{
	struct itimerspec every = {
		.it_interval.tv_nsec = HEARTBEAT_US * 500, .it_value.tv_nsec = 1};

	e->epoll = epoll_create1(EPOLL_CLOEXEC);
	e->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (e->timer < 0 || timerfd_settime(e->timer, 0, &every, NULL) < 0)
		die("no timer: %s", strerror(errno));
	watch(e, e->timer, TIMER);
	watch(e, channel_fd(e->channel), CHANNEL);
	watch(e, journal_fd(e->journal), JOURNAL);
	if (e->churn)
		watch(e, churn_fd(e->churn), CHURN);
}

static void open_channel(struct end *e)
{
	struct channel_config config = {
		.cluster = "bench",
		.self = e->setup->id,
		.port = SYNC_PORT,
		.ifindex = if_nametoindex("sync"),
		.xsks_map_fd = e->setup->af_xdp ? bpf_map__fd(e->program->maps.sync) : -1,
		.psk = e->setup->psk,
		.psk_len = sizeof(e->setup->psk),
		.silence_us = 4ULL * HEARTBEAT_US * DEAD,
	};
	char err[256];

	for (uint8_t id = 0; id < e->setup->members; id++)
		config.addresses[id] = sync_address(id);
	if (channel_open(&config, on_datagram, e, &e->channel, err, sizeof(err)) < 0)
		die("%s", err);
	snprintf(e->report.carrier, sizeof(e->report.carrier), "%s", channel_carrier(e->channel));
}

static void on_entry(void *ctx, const struct record_key *key, uint64_t birth, uint64_t block)
{
	(void)ctx, (void)key, (void)birth, (void)block; /* a new journal has none */
}

static void open_journal(struct end *e)
{
	char path[192], err[512];
	const struct journal_config config = {
		.path = path,
		.self = e->setup->id,
		.block_bits = BLOCK_BITS,
		.modulus = block_modulus(e->setup->members - 1),
	};

	snprintf(path, sizeof(path), "%s/journal-%u", e->setup->folder, e->setup->id);
	if (journal_open(&config, on_entry, NULL, &e->journal, err, sizeof(err)) < 0 ||
		journal_begin(e->journal, err, sizeof(err)) < 0)
		die("%s", err);
}

/* All buckets are the first live member's, so that what is measured does not depend on which falls
 * to whom. */
static void open_member(struct end *e)
{
	const struct member_config config = {
		.self = e->setup->id,
		.members = (uint16_t)((1U << e->setup->members) - 1),
		.mode = VIEW_HOT_STANDBY,
		.hash = ESPALIER_HASH_PREFIX,
		.block_bits = BLOCK_BITS,
		.heartbeat_us = HEARTBEAT_US,
		.dead = DEAD,
		.repair_us = REPAIR_US,
		.start_us = 1200000 + 4ULL * HEARTBEAT_US * DEAD,
		.tombstone_us = TOMBSTONE_US,
		.capacity = room(e->setup),
		.idle = table_slots(room(e->setup)) - room(e->setup),
		.journal = journal_id(e->journal),
		.life = e->setup->life,
	};

	if (member_new(&config, &ops, e, now_us(), &e->member) < 0)
		die("no memory for a member");
}

static void add_own(struct end *e)
{
	uint8_t body[RECORD_BODY_MAX];

	for (uint32_t number = 0; number < e->setup->own; number++) {
		struct member_record record = {.body = body};

		kernel_sa(number, &record.key, &record.facts);
		record.body_len = (size_t)kernel_body(&record.key, body, sizeof(body));
		member_added(e->member, &record);
	}
	e->report.installed = e->setup->own;
}

/* As the agent: heartbeats do not wait for other work of the machine. */
static void hurry(void)
{
	const struct sched_param lowest = {.sched_priority = 1};

	if (sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &lowest) < 0)
		say("without SCHED_RR: %s", strerror(errno));
}

void member_run(const struct setup *setup, struct shared *shared)
{
	struct end e = {.setup = setup, .shared = shared, .other = !setup->id};
	uint64_t peak;

	sync_namespace();
	atomic_store(&shared->ready, true);
	while (!atomic_load(&shared->go))
		usleep(1000);
	if (setup->links == 1)
		sync_link(setup->link_to[0]);
	else if (setup->links)
		sync_bridge(setup->link_to, setup->links);
	sync_up(setup->id);
	kernel_init(setup->churn ? setup->sas / 2 : UINT32_MAX);
	memory(&e.rss, &peak);
	hurry();
	e.program = sync_load(setup->id, table_slots(room(setup)), setup->af_xdp, &e.counters);
	e.positions = calloc(table_slots(room(setup)), sizeof(*e.positions));
	if (!e.positions)
		die("no memory");
	if (setup->churn)
		e.churn = churn_new(setup->churn, setup->id, setup->sas / 2);
	open_journal(&e);
	open_channel(&e);
	open_member(&e);
	add_own(&e);
	journal_commit(e.journal);
	member_started(e.member);
	open_loop(&e);
	loop(&e);
	member_free(e.member);
	channel_close(e.channel);
	journal_close(e.journal);
	sync_bpf__destroy(e.program);
	exit(EXIT_SUCCESS);
}
