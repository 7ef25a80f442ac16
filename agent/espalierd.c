/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * espalierd - the agent of one member.
 *
 * It starts the parts (agent.h), then waits for events and hands them to the core, which decides.
 * Order at the start: what we entered in earlier lives (journal, pinned maps) before what the
 * kernel holds, and all of that before another member is heard.
 */
#include <errno.h>
#include <getopt.h>
#include <ifaddrs.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"
#include "io/digest.h"

#define POSITIONS_EVERY_US 100000
#define TOMBSTONE_US 3600000000ULL
#define REPAIR_US 1000000
#define START_US 1200000 /* a handshake of the sync channel is tried once a second */

enum source { TIMER, SIGNAL, XFRM, CHANNEL, LINK, JOURNAL, WAKE, CONTROL, SOURCES };

struct loop {
	int epoll, timer, signal;
	struct control *control;
	uint64_t stop_us; /* 0: go on */
};

uint64_t agent_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static uint64_t now_us(void)
{
	return agent_now_ns() / 1000;
}

void agent_say(const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	fprintf(stderr, "espalierd: %s\n", text);
}

/* Kernel events. */

static struct record *find_installed(struct agent *a, const struct record_key *key, uint64_t birth)
{
	struct record *r = table_find(member_table(a->member), key);

	return r && r->known && r->alive && r->installed && r->facts.birth == birth ? r : NULL;
}

static void on_added(void *ctx, const struct xfrm_record *record)
{
	struct agent *a = ctx;
	struct member_record kernel = {
		.key = record->key,
		.facts = record->facts,
		.oseq = record->oseq,
		.body = record->body,
		.body_len = record->body_len,
	};
	struct record *r = find_installed(a, &record->key, record->facts.birth);

	if (r && a->seen)
		a->seen[r->slot] = 1;
	if (r && a->seen && r->key.kind == RECORD_SA)
		return; /* read again, and nothing new */
	member_added(a->member, &kernel);
	r = table_find(member_table(a->member), &record->key);
	if (r && a->seen)
		a->seen[r->slot] = 1;
}

static void on_removed(void *ctx, const struct record_key *key)
{
	struct agent *a = ctx;

	member_removed(a->member, key);
}

static void on_flushed(void *ctx, enum record_kind kind)
{
	struct agent *a = ctx;

	agent_say("somebody flushed the kernel's %s", kind == RECORD_SA ? "SAs" : "policies");
	member_flushed(a->member, kind);
	a->resync = true; /* what we installed since the flush is there all the same */
}

/* Async events: only where fexit cannot count. */
static void on_counters(void *ctx, const struct record_key *key, uint64_t oseq, uint64_t seq)
{
	struct agent *a = ctx;
	const struct record *r = table_find(member_table(a->member), key);
	struct espalier_counter *counter;

	(void)oseq; /* the guard counts what goes out */
	if (!r || r->facts.direction != ESPALIER_IN)
		return;
	counter = &datapath_counters(a->datapath)[r->slot];
	if (seq > counter->seq)
		counter->seq = seq;
}

static void on_overrun(void *ctx)
{
	struct agent *a = ctx;

	a->resync = true;
}

static const struct xfrm_handlers xfrm_handlers = {
	.added = on_added,
	.removed = on_removed,
	.flushed = on_flushed,
	.counters = on_counters,
	.overrun = on_overrun,
};

static void report(const char *what, int r)
{
	if (r < 0)
		agent_say("%s: %s", what, strerror(-r));
}

/* Events were lost: what is there is told again, what is not there any more is found by its
 * absence. */
static void resync(struct agent *a)
{
	const struct table *table = member_table(a->member);

	a->resync = false;
	agent_say("reading the kernel's SAs and policies again");
	a->seen = calloc(table->capacity, 1);
	if (!a->seen)
		return;
	report("reading SAs and policies", xfrm_dump(a->xfrm));
	for (uint32_t slot = 0; slot < table->high; slot++) {
		const struct record *r = table_at(table, slot);

		if (r && r->known && r->alive && r->installed && !a->seen[slot])
			member_removed(a->member, &r->key);
	}
	free(a->seen);
	a->seen = NULL;
}

/* Other events. */

static void on_datagram(void *ctx, uint8_t from, const void *buf, size_t len)
{
	struct agent *a = ctx;

	member_datagram(a->member, from, buf, len, now_us());
}

static bool side_down(const struct agent *a, enum datapath_side side)
{
	return a->ifindex[side] && !a->links[side].up;
}

static void on_link(void *ctx, const struct link_state *state)
{
	struct agent *a = ctx;

	for (unsigned int side = 0; side < DATAPATH_SIDES; side++) {
		if (a->ifindex[side] != state->ifindex)
			continue;
		if (a->member && a->links[side].up != state->up)
			agent_say("interface %u is %s", state->ifindex, state->up ? "up" : "down");
		a->links[side] = *state;
	}
	if (a->member)
		member_link(a->member, !side_down(a, DATAPATH_OUTER) &&
					       !side_down(a, DATAPATH_INNER) && !a->journal_failed);
}

static void on_wake(void *ctx, const struct espalier_event *event)
{
	struct agent *a = ctx;
	const struct record *r = table_at(member_table(a->member), event->slot);
	uint64_t oseq, seq;

	if (event->kind == ESPALIER_BLOCK_LOW)
		member_position(a->member, event->slot, event->seq);
	else if (event->kind == ESPALIER_BLOCK_OUT && r && r->installed &&
		 xfrm_counters(a->xfrm, &r->key, &oseq, &seq) == 0)
		member_counter(a->member, event->slot, oseq);
}

static void read_positions(struct agent *a)
{
	const struct espalier_counter *counters = datapath_counters(a->datapath);
	uint32_t high = member_table(a->member)->high;

	for (uint32_t slot = 0; slot < high; slot++) {
		uint64_t seq = counters[slot].seq;

		if (seq == a->positions[slot])
			continue;
		a->positions[slot] = seq;
		member_position(a->member, slot, seq);
	}
}

static void on_journal(struct agent *a)
{
	uint64_t done = 0;

	if (journal_process(a->journal, &done) < 0 && !a->journal_failed) {
		a->journal_failed = true;
		agent_say("%s; this member gives its buckets away", journal_error(a->journal));
		member_link(a->member, false);
	}
	member_committed(a->member, done);
}

/* Start. */

struct entry {
	struct record_key key;
	uint64_t birth, block;
};

struct entries {
	struct entry *all;
	size_t count, size;
	bool failed;
};

static void on_entry(void *ctx, const struct record_key *key, uint64_t birth, uint64_t block)
{
	struct entries *e = ctx;

	if (e->count == e->size) {
		size_t size = e->size ? 2 * e->size : 1024;
		struct entry *all = reallocarray(e->all, size, sizeof(*all));

		if (!all) {
			e->failed = true;
			return;
		}
		e->all = all;
		e->size = size;
	}
	e->all[e->count++] = (struct entry){.key = *key, .birth = birth, .block = block};
}

static struct record_key record_key_of(const struct espalier_sa_key *key)
{
	struct record_key k = {
		.kind = RECORD_SA, .proto = IPPROTO_ESP, .family = AF_INET, .spi = key->spi};

	memcpy(k.addr, key->daddr, sizeof(k.addr));
	return k;
}

/* What the guard of an earlier life knows. */
static void restore_pins(struct agent *a)
{
	struct espalier_sa_key key;
	struct espalier_sa sa;

	for (int r = datapath_sa_next(a->datapath, NULL, &key, &sa); r > 0;
		r = datapath_sa_next(a->datapath, &key, &key, &sa)) {
		struct record_key k = record_key_of(&key);

		member_pinned(a->member, &k, &sa);
	}
}

/* The machine's own addresses are not to be steered, even if a remote selector covers them. */
static void keep_own_addresses(struct agent *a)
{
	struct ifaddrs *all;

	if (getifaddrs(&all) < 0)
		return;
	for (const struct ifaddrs *i = all; i; i = i->ifa_next) {
		const struct sockaddr_in *in = (const void *)i->ifa_addr;

		if (in && in->sin_family == AF_INET)
			(void)datapath_selector_set(a->datapath, in->sin_addr, 32, ESPALIER_HERE);
	}
	freeifaddrs(all);
}

static int start_member(struct agent *a, char *err, size_t err_size)
{
	const struct config *c = &a->config;
	struct entries entries = {0};
	struct journal_config journal = {
		.path = c->journal_path,
		.self = (uint8_t)c->id,
		.block_bits = c->block_bits,
		.modulus = block_modulus((uint8_t)(31 - __builtin_clz(c->members))),
	};
	struct member_config member = {
		.self = (uint8_t)c->id,
		.members = (uint16_t)c->members,
		.settings = config_cluster_digest(c),
		.mode = c->mode == CONFIG_HOT_STANDBY ? VIEW_HOT_STANDBY : VIEW_LOAD_SHARING,
		.hash = c->hash,
		.block_bits = (uint8_t)c->block_bits,
		.heartbeat_us = c->heartbeat_us,
		.dead = c->dead_after,
		.repair_us = REPAIR_US,
		.start_us = START_US + 4ULL * c->heartbeat_us * c->dead_after,
		.tombstone_us = TOMBSTONE_US,
		.capacity = c->max_sas,
		.life = 1,
	};
	int r = journal_open(&journal, on_entry, &entries, &a->journal, err, err_size);

	if (r < 0)
		goto out;
	if (journal_is_new(a->journal))
		agent_say("%s: a new journal is begun; SAs older than it are not ours until they "
			  "are rekeyed",
			journal_is_new(a->journal));
	digest_random(&member.life, sizeof(member.life));
	member.life |= 1;
	member.journal = journal_id(a->journal);
	memcpy(member.macs.outer_mac, a->links[DATAPATH_OUTER].mac, 6);
	memcpy(member.macs.inner_mac, a->links[DATAPATH_INNER].mac, 6);
	(void)datapath_member_set(a->datapath, member.self, &member.macs);
	r = member_new(&member, &agent_ops, a, now_us(), &a->member);
	if (r == 0 && entries.failed)
		r = -ENOMEM;
	if (r < 0) {
		snprintf(err, err_size, "cannot start: %s", strerror(-r));
		goto out;
	}
	for (size_t i = 0; i < entries.count; i++)
		member_restore(
			a->member, &entries.all[i].key, entries.all[i].birth, entries.all[i].block);
	restore_pins(a);
out:
	free(entries.all);
	return r;
}

static int start_datapath(struct agent *a, char *err, size_t err_size)
{
	const struct config *c = &a->config;
	struct datapath_config datapath = {
		.self = (uint8_t)c->id,
		.members = (uint8_t)(32 - __builtin_clz(c->members)),
		.hash = c->hash,
		.block_bits = c->block_bits,
		.max_sas = c->max_sas,
		.dead_ns = 1000ULL * c->heartbeat_us * c->dead_after,
		.sync_address = c->member_sync[c->id],
		.sync_port = (uint16_t)c->sync_port,
		.pin = c->pin_path,
		.fexit = c->counters == CONFIG_COUNTERS_AUTO,
	};

	memcpy(datapath.ifindex, a->ifindex, sizeof(datapath.ifindex));
	if (c->transport == CONFIG_TRANSPORT_UDP)
		datapath.ifindex[DATAPATH_SYNC] = 0;
	memcpy(datapath.outer, c->outer.address, sizeof(datapath.outer));
	memcpy(datapath.inner, c->inner.address, sizeof(datapath.inner));
	return datapath_open(&datapath, &a->datapath, err, err_size);
}

static int start_channel(struct agent *a, char *err, size_t err_size)
{
	const struct config *c = &a->config;
	struct channel_config channel = {
		.cluster = c->name,
		.self = (uint8_t)c->id,
		.port = (uint16_t)c->sync_port,
		.ifindex = a->ifindex[DATAPATH_SYNC],
		.xsks_map_fd = c->transport == CONFIG_TRANSPORT_UDP
				       ? -1
				       : datapath_sync_map_fd(a->datapath),
		.psk = c->psk_size ? c->psk : NULL,
		.psk_len = c->psk_size,
		.certificate = c->cert_path,
		.private_key = c->key_path,
		.ca = c->ca_path,
		.silence_us = 4ULL * c->heartbeat_us * c->dead_after,
	};

	memcpy(channel.addresses, c->member_sync, sizeof(channel.addresses));
	return channel_open(&channel, on_datagram, a, &a->channel, err, err_size);
}

static int start_xfrm(struct agent *a, char *err, size_t err_size)
{
	struct xfrm_config xfrm = {
		.addresses = a->config.outer.address,
		.n_addresses = a->config.outer.count,
		.events_for_counters = !datapath_counts_inbound(a->datapath, NULL),
	};
	int r = xfrm_open(&xfrm, &xfrm_handlers, a, &a->xfrm);

	if (r == 0)
		r = xfrm_dump(a->xfrm);
	if (r < 0)
		snprintf(err, err_size,
			"cannot read the kernel's SAs and policies (XFRM netlink): %s",
			strerror(-r));
	return r;
}

static void warn_about_arp(const char *interface)
{
	if (interface[0] && link_arp_announce(interface) < 2)
		agent_say("set net.ipv4.conf.%s.arp_announce to 2: else our own ARP requests draw "
			  "traffic for "
			  "the cluster address to us",
			interface);
}

static int start(struct agent *a, char *err, size_t err_size)
{
	const char *names[DATAPATH_SIDES] = {
		[DATAPATH_OUTER] = a->config.outer_interface,
		[DATAPATH_INNER] = a->config.inner_interface,
		[DATAPATH_SYNC] = a->config.sync_interface,
	};
	unsigned int watched[DATAPATH_SIDES], n = 0;
	int r;

	for (unsigned int side = 0; side < DATAPATH_SIDES; side++) {
		a->ifindex[side] = names[side][0] ? if_nametoindex(names[side]) : 0;
		if (a->ifindex[side])
			watched[n++] = a->ifindex[side];
	}
	a->positions = calloc(a->config.max_sas, sizeof(*a->positions));
	if (!a->positions)
		return -ENOMEM;
	r = link_open(watched, n, on_link, a, &a->link);
	if (r < 0) {
		snprintf(err, err_size, "cannot watch the interfaces: %s", strerror(-r));
		return r;
	}
	warn_about_arp(names[DATAPATH_OUTER]);
	warn_about_arp(names[DATAPATH_INNER]);
	if ((r = start_datapath(a, err, err_size)) < 0 ||
		(r = start_member(a, err, err_size)) < 0 ||
		(r = start_xfrm(a, err, err_size)) < 0 || (r = start_channel(a, err, err_size)) < 0)
		return r;
	keep_own_addresses(a);
	on_link(a, &a->links[DATAPATH_OUTER]);
	member_started(a->member);
	agent_say("member %u of cluster %s: sync channel by %s; XDP outer %s, inner %s, sync %s",
		a->config.id, a->config.name, channel_carrier(a->channel),
		datapath_xdp_mode(a->datapath, DATAPATH_OUTER),
		datapath_xdp_mode(a->datapath, DATAPATH_INNER),
		datapath_xdp_mode(a->datapath, DATAPATH_SYNC));
	return 0;
}

static void stop(struct agent *a)
{
	channel_close(a->channel);
	xfrm_close(a->xfrm);
	member_free(a->member);
	journal_close(a->journal);
	link_close(a->link);
	datapath_close(a->datapath);
	free(a->positions);
	config_wipe(&a->config);
}

/* The loop. */

static int watch(const struct loop *l, int fd, enum source source)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u32 = source};

	return fd < 0 ? 0 : epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &event);
}

static int open_loop(struct agent *a, struct loop *l)
{
	uint64_t half_ns = 500ULL * a->config.heartbeat_us;
	struct itimerspec every = {
		.it_interval = {.tv_sec = (time_t)(half_ns / 1000000000),
			.tv_nsec = (long)(half_ns % 1000000000)},
		.it_value = {.tv_nsec = 1},
	};
	sigset_t signals;
	int r = control_open(a->config.control_path, &l->control);

	if (r < 0)
		return r;
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	l->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	l->signal = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
	if (l->epoll < 0 || l->timer < 0 || l->signal < 0 ||
		timerfd_settime(l->timer, 0, &every, NULL) < 0 || watch(l, l->timer, TIMER) < 0 ||
		watch(l, l->signal, SIGNAL) < 0 || watch(l, xfrm_fd(a->xfrm), XFRM) < 0 ||
		watch(l, channel_fd(a->channel), CHANNEL) < 0 ||
		watch(l, link_fd(a->link), LINK) < 0 ||
		watch(l, journal_fd(a->journal), JOURNAL) < 0 ||
		watch(l, datapath_wake_fd(a->datapath), WAKE) < 0 ||
		watch(l, control_fd(l->control), CONTROL) < 0)
		return -errno;
	return 0;
}

static void tick(struct agent *a, struct loop *l)
{
	uint64_t expirations, now = now_us();

	if (read(l->timer, &expirations, sizeof(expirations)) < 0)
		return;
	/* First the core: after a long sleep it must know before the datapath takes us for alive.
	 */
	member_tick(a->member, now);
	datapath_alive(a->datapath, agent_now_ns());
	(void)datapath_wake(a->datapath, on_wake, a); /* some events wait for this */
	if (now >= a->positions_due_us) {
		a->positions_due_us = now + POSITIONS_EVERY_US;
		read_positions(a);
	}
}

static void on_signal(struct agent *a, struct loop *l)
{
	struct signalfd_siginfo info;

	if (read(l->signal, &info, sizeof(info)) != sizeof(info) || l->stop_us)
		return;
	agent_say("leaving: the others take over");
	member_leave(a->member);
	l->stop_us = now_us() + 3ULL * a->config.heartbeat_us * a->config.dead_after;
}

static void handle(struct agent *a, struct loop *l, enum source source)
{
	switch (source) {
	case TIMER:
		tick(a, l);
		break;
	case SIGNAL:
		on_signal(a, l);
		break;
	case XFRM:
		report("kernel events", xfrm_process(a->xfrm));
		break;
	case LINK:
		(void)link_process(a->link);
		break;
	case JOURNAL:
		on_journal(a);
		break;
	case WAKE:
		(void)datapath_wake(a->datapath, on_wake, a);
		break;
	case CONTROL:
		control_process(l->control, a);
		break;
	case CHANNEL: /* is looked at in each turn */
	case SOURCES:
		break;
	}
}

static int wait_ms(const struct agent *a)
{
	uint64_t deadline = channel_deadline(a->channel), now = now_us();

	if (deadline == UINT64_MAX)
		return -1;
	return deadline <= now ? 0 : (int)((deadline - now + 999) / 1000);
}

static bool may_stop(const struct agent *a, const struct loop *l)
{
	return l->stop_us &&
	       (!(member_view(a->member)->live >> a->config.id & 1) || now_us() >= l->stop_us);
}

static int run(struct agent *a, struct loop *l)
{
	struct epoll_event events[SOURCES];

	while (!may_stop(a, l)) {
		int n = epoll_wait(l->epoll, events, SOURCES, wait_ms(a));

		if (n < 0 && errno != EINTR)
			return -errno;
		for (int i = 0; i < n; i++)
			handle(a, l, (enum source)events[i].data.u32);
		channel_process(a->channel, now_us());
		if (a->resync)
			resync(a);
		member_flush(a->member, now_us());
		journal_commit(a->journal);
		channel_process(a->channel, now_us()); /* what was sent goes off */
	}
	return 0;
}

/* Keys are in our memory while they travel: not in a core dump, not for a debugger, not in swap. */
static void hide(void)
{
	const struct rlimit none = {0, 0};

	(void)setrlimit(RLIMIT_CORE, &none);
	(void)prctl(PR_SET_DUMPABLE, 0);
	if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) < 0)
		agent_say("keys may get into swap: mlockall: %s", strerror(errno));
}

/* A heartbeat that waits for other work of the machine looks like a death. Threads are not meant.
 */
static void hurry(void)
{
	const struct sched_param lowest = {.sched_priority = 1};

	if (sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &lowest) < 0)
		agent_say("heartbeats may be late when the machine is busy: SCHED_RR: %s",
			strerror(errno));
}

static int serve(struct agent *a)
{
	struct loop l = {.epoll = -1, .timer = -1, .signal = -1};
	char err[512] = "out of memory";
	int r;

	hurry();
	r = start(a, err, sizeof(err));
	if (r < 0) {
		agent_say("%s", err);
		return r;
	}
	r = open_loop(a, &l);
	if (r == 0)
		r = run(a, &l);
	if (r < 0)
		agent_say("%s: %s", l.control ? "the event loop failed" : a->config.control_path,
			strerror(-r));
	control_close(l.control);
	close(l.epoll);
	close(l.timer);
	close(l.signal);
	return r;
}

static int detach(struct agent *a)
{
	struct datapath_config config = {.pin = a->config.pin_path};
	char err[512];
	int r;

	config.ifindex[DATAPATH_OUTER] = if_nametoindex(a->config.outer_interface);
	config.ifindex[DATAPATH_INNER] = if_nametoindex(a->config.inner_interface);
	config.ifindex[DATAPATH_SYNC] = if_nametoindex(a->config.sync_interface);
	r = datapath_detach(&config, err, sizeof(err));
	if (r < 0)
		agent_say("%s", err);
	return r;
}

static int usage(FILE *to)
{
	fprintf(to, "usage: espalierd FILE            run with this configuration\n"
		    "       espalierd -t FILE         only check it, and this machine\n"
		    "       espalierd --detach FILE   remove the BPF programs and maps it left\n");
	return to == stdout ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"test", no_argument, NULL, 't'},
		{"detach", no_argument, NULL, 'd'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	static struct agent agent;
	char err[512];
	int option, what = 0, r;

	while ((option = getopt_long(argc, argv, "th", options, NULL)) != -1) {
		if (option == 'h' || option == '?')
			return usage(option == 'h' ? stdout : stderr);
		what = option;
	}
	if (argc != optind + 1)
		return usage(stderr);
	hide();
	r = config_read(argv[optind], &agent.config, err, sizeof(err));
	if (r == 0 && what != 'd')
		r = config_check_system(&agent.config, err, sizeof(err));
	if (r < 0)
		agent_say("%s", err);
	else if (what == 'd')
		r = detach(&agent);
	else if (what == 't')
		printf("%s: good\n", argv[optind]);
	else
		r = serve(&agent);
	stop(&agent);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
