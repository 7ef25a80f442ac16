/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * espalierd - the agent of one member.
 *
 * It starts the parts (start.c), then waits for events and hands them to the core (events.c), which
 * decides (core/member.h); what it decides is carried out (ops.c).
 */
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "agent.h"
#include "io/rule.h"
#include "version.h"

#define POSITIONS_EVERY_US 100000
#define LEAVE_US 10000000 /* most that a handover takes (core/handover.c), and as much again */
#define CLONE_EVERY_US 1000000

#define REST_EVERY_US 10000 /* of work without a pause, and then ... */
#define REST_SHARE 8 /* ... for an eighth of it, but ... */
#define REST_MOST_US 5000 /* ... no longer: it may have been stopped, and is behind */
#define IDLE_US 100 /* so long without an event is a pause */

enum source {
	TIMER,
	SIGNAL,
	XFRM,
	CHANNEL,
	LINK,
	ROUTE,
	JOURNAL,
	WAKE,
	WATCH,
	CLONE,
	STRANGERS,
	CONTROL,
	METRICS,
	IKE,
	SOURCES
};

struct loop {
	int epoll, timer, signal;
	sigset_t signals; /* that end it */
	uint64_t stop_us; /* 0: go on */
	uint64_t rested_us; /* when it last had nothing to do for a while, or took a rest */
};

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

	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	l->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	l->signal = signalfd(-1, &l->signals, SFD_NONBLOCK | SFD_CLOEXEC);
	if (l->epoll < 0 || l->timer < 0 || l->signal < 0 ||
		timerfd_settime(l->timer, 0, &every, NULL) < 0 || watch(l, l->timer, TIMER) < 0 ||
		watch(l, l->signal, SIGNAL) < 0 || watch(l, xfrm_fd(a->xfrm), XFRM) < 0 ||
		watch(l, channel_fd(a->channel), CHANNEL) < 0 ||
		watch(l, link_fd(a->link), LINK) < 0 || watch(l, route_fd(a->route), ROUTE) < 0 ||
		watch(l, journal_fd(a->journal), JOURNAL) < 0 ||
		watch(l, datapath_wake_fd(a->datapath), WAKE) < 0 ||
		watch(l, watch_fd(a), WATCH) < 0 || watch(l, clone_fd(a->clone), CLONE) < 0 ||
		watch(l, beacon_fd(a->strangers.beacon), STRANGERS) < 0 ||
		watch(l, control_fd(a->control), CONTROL) < 0 ||
		watch(l, plugin_fd(a->ike.link), IKE) < 0)
		return -errno;
	return 0;
}

/* See member_lease_us(). */
static bool holds_lease(const struct agent *a, uint64_t now_us)
{
	return now_us < member_heartbeat_sent_us(a->member) +
				member_lease_us(a->config.heartbeat_us, a->config.dead_after);
}

static void tick(struct agent *a, struct loop *l)
{
	uint64_t expirations, now = agent_now_us();
	bool may_announce;

	if (read(l->timer, &expirations, sizeof(expirations)) < 0)
		return;
	/* Before the tick, which renews it: others may have taken over in between. */
	may_announce = holds_lease(a, now);
	metrics_entered(a, now);
	member_tick(a->member, now);
	datapath_heartbeat(a->datapath, 1000 * member_heartbeat_sent_us(a->member));
	(void)datapath_wake(a->datapath, events_wake, a); /* some events wait for this */
	hops_tick(a, now);
	if (forward_tick(a, now))
		events_links_up(a);
	if (may_announce)
		ops_announce_again(a, now);
	if (now >= a->positions_due_us) {
		a->positions_due_us = now + POSITIONS_EVERY_US;
		a->positions_next = 0;
	}
	if (now >= a->clone_due_us) {
		a->clone_due_us = now + CLONE_EVERY_US;
		clone_ask(a->clone, CLONE_RUNS);
	}
	strangers_tick(a, now);
	progress_tick(a, now);
	ike_tick(a);
	service_tick(a, now);
	happened_tick(a, now);
	if (metrics_tick(a, now))
		(void)watch(l, metrics_fd(a), METRICS);
}

/* Until the others have all; where nobody could, only until they may have noticed. */
static uint64_t leave_for_us(const struct agent *a)
{
	return member_heirs(a->member, (uint8_t)a->config.id)
		       ? LEAVE_US
		       : 3ULL * a->config.heartbeat_us * a->config.dead_after;
}

static void on_signal(struct agent *a, struct loop *l)
{
	struct signalfd_siginfo info;

	if (read(l->signal, &info, sizeof(info)) != sizeof(info) || l->stop_us)
		return;
	agent_say("leaving: the others take over");
	service_stop(a);
	l->stop_us = agent_now_us() + leave_for_us(a);
	member_leave(a->member);
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
		events_kernel(a);
		break;
	case LINK:
		(void)link_process(a->link);
		break;
	case ROUTE:
		(void)route_process(a->route);
		break;
	case JOURNAL:
		events_journal(a);
		break;
	case WAKE:
		(void)datapath_wake(a->datapath, events_wake, a);
		break;
	case WATCH:
		events_watch(a);
		break;
	case CLONE:
		events_clone(a);
		break;
	case STRANGERS:
		strangers_hear(a);
		break;
	case CONTROL:
		control_process(a->control, a);
		break;
	case METRICS:
		(void)metrics_process(a);
		break;
	case IKE:
		ike_process(a);
		break;
	case CHANNEL: /* is looked at in each turn */
	case SOURCES:
		break;
	}
}

static int wait_ms(const struct agent *a, bool busy)
{
	uint64_t deadline = channel_deadline(a->channel), now = agent_now_us();

	if (busy)
		return 0;
	if (deadline == UINT64_MAX)
		return -1;
	return deadline <= now ? 0 : (int)((deadline - now + 999) / 1000);
}

static bool may_stop(const struct agent *a, const struct loop *l)
{
	return a->begins_anew ||
	       (l->stop_us &&
		       ((!(member_view(a->member)->live >> a->config.id & 1) &&
				!member_is_handing(a->member) && !member_ike_busy(a->member)) ||
			       agent_now_us() >= l->stop_us));
}

/*
 * With much to do, as when a member joins, this real-time process would keep its processor from
 * ksoftirqd, to which kernels before 6.5 leave all packets of a processor once it has been woken:
 * the other members' heartbeats too.
 */
static void rest(struct loop *l)
{
	uint64_t worked_us = agent_now_us() - l->rested_us, rest_us = worked_us / REST_SHARE;

	if (worked_us < REST_EVERY_US)
		return;
	usleep((useconds_t)(rest_us < REST_MOST_US ? rest_us : REST_MOST_US));
	l->rested_us = agent_now_us();
}

static int await(const struct agent *a, struct loop *l, struct epoll_event *ret, bool busy)
{
	uint64_t since = agent_now_us();
	int n = epoll_wait(l->epoll, ret, SOURCES, wait_ms(a, busy));

	if (agent_now_us() - since > IDLE_US)
		l->rested_us = agent_now_us();
	return n;
}

static int run(struct agent *a, struct loop *l)
{
	struct epoll_event events[SOURCES];
	bool busy = false;

	l->rested_us = agent_now_us();
	while (!may_stop(a, l)) {
		int n = await(a, l, events, busy);
		uint64_t since = agent_now_us();

		if (n < 0 && errno != EINTR)
			return -errno;
		metrics_entered(a, since);
		for (int i = 0; i < n; i++)
			handle(a, l, (enum source)events[i].data.u32);
		channel_process(a->channel, agent_now_us());
		busy = member_work(a->member, agent_now_us());
		busy |= positions_turn(a);
		usage_turn(a, agent_now_us());
		busy |= a->metrics.busy;
		busy |= audit_turn(a, agent_now_us());
		member_flush(a->member, agent_now_us());
		if (!a->doubled)
			journal_commit(a->journal);
		channel_process(a->channel, agent_now_us()); /* what was sent goes off */
		metrics_turn(a, since, agent_now_us());
		rest(l);
	}
	ops_hand(a, false); /* whatever we did not wait for */
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

/* A signal meanwhile is for the loop: what is begun here is not to be left half done. */
static int start(struct agent *a, struct loop *l, char *err, size_t err_size)
{
	int r;

	sigemptyset(&l->signals);
	sigaddset(&l->signals, SIGTERM);
	sigaddset(&l->signals, SIGINT);
	sigprocmask(SIG_BLOCK, &l->signals, NULL);
	if ((r = agent_prepare(a, err, err_size)) < 0 ||
		(r = agent_take_over(a, err, err_size)) < 0)
		return r;
	r = open_loop(a, l);
	if (r < 0) {
		snprintf(err, err_size, "cannot wait for events: %s", strerror(-r));
		return r;
	}
	return agent_begin(a, err, err_size);
}

static int serve(struct agent *a)
{
	struct loop l = {.epoll = -1, .timer = -1, .signal = -1};
	char err[512] = "out of memory";
	int r;

	hurry();
	r = start(a, &l, err, sizeof(err));
	if (r < 0) {
		agent_say("%s", err);
	} else {
		service_begin(a);
		r = run(a, &l);
		if (r < 0)
			agent_say("the event loop failed: %s", strerror(-r));
	}
	close(l.epoll);
	close(l.timer);
	close(l.signal);
	return r;
}

/* As if we had just been started, but for the journal. */
static int begin_anew(const char *journal_path, char **argv)
{
	int r = notice_set_aside(journal_path);

	if (r < 0)
		return r;
	(void)execv("/proc/self/exe", argv);
	r = -errno;
	agent_say("cannot begin anew: %s", strerror(-r));
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
	if (r == 0)
		r = rule_permit();
	else
		agent_say("%s", err);
	return r;
}

static int usage(FILE *to)
{
	fprintf(to, "usage: espalierd FILE            run with this configuration\n"
		    "       espalierd -t FILE         only check it, and this machine\n"
		    "       espalierd --detach FILE   remove the BPF programs and maps it left\n"
		    "       espalierd --version\n");
	return to == stdout ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"test", no_argument, NULL, 't'},
		{"detach", no_argument, NULL, 'd'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{0},
	};
	static struct agent agent;
	char err[512], journal_path[CONFIG_PATH_SIZE];
	int option, what = 0, r;

	while ((option = getopt_long(argc, argv, "thV", options, NULL)) != -1) {
		if (option == 'h' || option == '?')
			return usage(option == 'h' ? stdout : stderr);
		if (option == 'V')
			return puts("espalierd " ESPALIER_VERSION) < 0;
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
	memcpy(journal_path, agent.config.journal_path, sizeof(journal_path));
	agent_stop(&agent);
	if (r == 0 && agent.begins_anew)
		r = begin_anew(journal_path, argv);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
