/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * watch.c - sees to it that guard and steering stay where they are (io/datapath_guard.c). In a
 * thread of its own: to ask takes a lock of the kernel's that others may hold for longer than
 * heartbeats can wait.
 *
 * While the guard cannot be on some interface the kernel emits nothing (io/rule.h), and this member
 * owns nothing.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "agent.h"
#include "io/change.h"
#include "io/rule.h"

#define ALL_EVERY_US 1000000
#define OUTER_EVERY_US 100000 /* programs in a chain come and go without an event */

static void say(void *ctx, const struct datapath_watched *what, enum datapath_change change)
{
	const char *program = what->guard ? "guard" : "steering program";
	struct agent *a = ctx;

	switch (change) {
	case DATAPATH_PUT_BACK:
		agent_say("%s: the %s had been taken off, or something had got before it: it is "
			  "back",
			what->name, program);
		atomic_store(&a->watch.gap, true);
		break;
	case DATAPATH_LOST:
		agent_say("%s: %s; %s", what->name, what->why,
			what->guard ? "nothing is emitted, this member gives its buckets away"
				    : "this member gives its buckets away");
		break;
	case DATAPATH_MENDED:
		agent_say("%s: the %s is back", what->name, program);
		atomic_store(&a->watch.gap, true);
		break;
	}
}

static void on_change(void *ctx, unsigned int ifindex)
{
	struct agent *a = ctx;

	datapath_look(a->datapath, ifindex, say, a);
}

/* Shuts the kernel up, or lets it speak again. */
static void set_rules(struct agent *a, bool guarded)
{
	struct watch *w = &a->watch;
	int r;

	if (w->rules == (guarded ? WATCH_RULES_NONE : WATCH_RULES_SET))
		return;
	r = guarded ? rule_permit() : rule_prohibit(a->config.outer.address, a->config.outer.count);
	if (r < 0 && !w->rules_failed)
		agent_say("cannot change the routing rules that keep the kernel from emitting: %s",
			strerror(-r));
	w->rules_failed = r < 0;
	w->rules = r < 0 ? WATCH_RULES_UNKNOWN : guarded ? WATCH_RULES_NONE : WATCH_RULES_SET;
}

/* What follows from how it stands. The event tells the agent's other thread. */
static void conclude(struct agent *a)
{
	struct datapath_watched lacking[DATAPATH_SIDES + 1];
	unsigned int n = datapath_lacking(a->datapath, lacking, DATAPATH_SIDES + 1);
	bool guarded = true, told = atomic_load(&a->watch.good);

	for (unsigned int i = 0; i < n; i++)
		guarded &= !lacking[i].guard;
	set_rules(a, guarded);
	atomic_store(&a->watch.good, n == 0);
	if (told != (n == 0) || atomic_load(&a->watch.gap))
		(void)eventfd_write(a->watch.news, 1);
}

static void *run(void *ctx)
{
	struct agent *a = ctx;
	struct watch *w = &a->watch;
	struct pollfd fds[] = {
		{.fd = w->begin, .events = POLLIN}, {.fd = w->end, .events = POLLIN}};
	uint64_t all_due_us = 0;

	(void)poll(fds, 2, -1);
	fds[0].fd = w->changes;
	for (;;) {
		uint64_t now_us = agent_now_us();

		(void)poll(fds, 2, OUTER_EVERY_US / 1000);
		if (fds[1].revents)
			return NULL;
		(void)change_read(w->changes, on_change, a);
		if (now_us >= all_due_us) {
			all_due_us = now_us + ALL_EVERY_US;
			datapath_look(a->datapath, 0, say, a);
		} else {
			datapath_look(a->datapath, datapath_outer(a->datapath), say, a);
		}
		conclude(a);
	}
}

/* It takes no signals: they are the loop's. */
static int start_thread(struct agent *a)
{
	sigset_t all, before;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = -pthread_create(&a->watch.thread, NULL, run, a);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return r;
}

int watch_open(struct agent *a, char *err, size_t err_size)
{
	struct watch *w = &a->watch;
	int r;

	w->changes = change_open();
	w->begin = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	w->news = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	w->end = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	w->open = true;
	r = w->changes < 0 ? w->changes : w->begin < 0 || w->news < 0 || w->end < 0 ? -errno : 0;
	if (r == 0)
		r = start_thread(a);
	w->runs = r == 0;
	if (r < 0)
		snprintf(err, err_size, "cannot watch over the guard: %s", strerror(-r));
	return r;
}

void watch_begin(struct agent *a)
{
	datapath_look(a->datapath, 0, say, a);
	conclude(a);
	(void)eventfd_write(a->watch.begin, 1);
}

void watch_close(struct agent *a)
{
	struct watch *w = &a->watch;

	if (w->runs) {
		(void)eventfd_write(w->end, 1);
		pthread_join(w->thread, NULL);
	}
	if (!w->open)
		return;
	close(w->changes);
	close(w->begin);
	close(w->news);
	close(w->end);
}

int watch_fd(const struct agent *a)
{
	return a->watch.news;
}

bool watch_is_good(const struct agent *a)
{
	return atomic_load(&a->watch.good);
}
