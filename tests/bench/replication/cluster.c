/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/digest.h"
#include "replication.h"

#define PATIENCE_S 300 /* what is not reached by then never will be */
#define QUIET_MS 2500 /* two comparisons of each member's */

static struct cluster *running; /* to be cleaned up, however we end */
static volatile sig_atomic_t stopped;

static uint64_t deadline(void)
{
	return clock_ns(CLOCK_MONOTONIC) + PATIENCE_S * 1000000000ULL;
}

static void hope(uint64_t until, const char *what)
{
	if (clock_ns(CLOCK_MONOTONIC) >= until)
		die("waited %d s in vain until %s", PATIENCE_S, what);
}

static void remove_journals(const struct cluster *c)
{
	static const char *const suffixes[] = {"", ".lock", ".new", ".old"};
	char path[192];

	for (unsigned int id = 0; id < c->n; id++)
		for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
			snprintf(path, sizeof(path), "%s/journal-%u%s", c->folder, id, suffixes[i]);
			unlink(path);
		}
	rmdir(c->folder);
}

static void clean_up(void)
{
	struct cluster *c = running;

	if (!c)
		return;
	running = NULL;
	for (unsigned int id = 0; id < c->n; id++) {
		if (c->members[id].pid <= 0)
			continue;
		kill(c->members[id].pid, SIGKILL);
		waitpid(c->members[id].pid, NULL, 0);
	}
	remove_journals(c);
}

static void on_signal(int number)
{
	(void)number;
	stopped = 1;
}

static void prepare(struct cluster *c)
{
	const char *folder = getenv("TMPDIR");
	static bool prepared;

	if (!prepared)
		atexit(clean_up);
	prepared = true;
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	signal(SIGPIPE, SIG_IGN); /* nobody reads the table any more: figures_end() says so */
	snprintf(c->folder, sizeof(c->folder), "%s/espalier-replication-XXXXXX",
		folder ? folder : "/tmp");
	if (!mkdtemp(c->folder))
		die("%s: %s", c->folder, strerror(errno));
	running = c;
}

/* It ends with its parent, and leaves the cleaning up to it. */
static void child(const struct setup *setup, struct shared *shared, pid_t parent)
{
	running = NULL;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(EXIT_FAILURE);
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_DFL);
	member_run(setup, shared);
}

static void begin(struct cluster *c, const struct setup *setup)
{
	struct shared *shared = mmap(
		NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t parent = getpid(), pid;

	if (shared == MAP_FAILED)
		die("no memory");
	fflush(NULL);
	pid = fork();
	if (pid < 0)
		die("fork: %s", strerror(errno));
	if (pid == 0)
		child(setup, shared, parent);
	c->members[setup->id].pid = pid;
	c->members[setup->id].shared = shared;
	while (!atomic_load(&shared->ready))
		cluster_sleep(c, 1);
}

static void start(struct cluster *c, struct setup *setup)
{
	c->sas = setup->sas;
	c->n = setup->members;
	c->churn = setup->churn;
	prepare(c);
	memcpy(setup->folder, c->folder, sizeof(setup->folder));
	digest_random(setup->psk, sizeof(setup->psk));
	for (setup->id = 1; setup->id < c->n; setup->id++) {
		begin(c, setup);
		setup->link_to[setup->id - 1] = c->members[setup->id].pid;
	}
	setup->id = 0;
	setup->links = c->n - 1U;
	setup->own = setup->sas;
	begin(c, setup);
	explicit_bzero(setup->psk, sizeof(setup->psk));
	atomic_store(&c->members[0].shared->go, true);
	for (uint64_t until = deadline(); !cluster_report(c, 0).started; cluster_sleep(c, 10))
		hope(until, "member 0 starts");
}

void cluster_start(struct cluster *c, uint32_t sas, bool af_xdp)
{
	struct setup setup = {.members = MEMBERS, .sas = sas, .af_xdp = af_xdp, .life = 1};

	*c = (struct cluster){0};
	start(c, &setup);
}

void cluster_start_churn(struct cluster *c, uint32_t sas, uint32_t more)
{
	struct setup setup = {
		.members = MEMBERS_MOST, .sas = sas, .more = more, .af_xdp = true, .life = 1};

	setup.churn = mmap(NULL, sizeof(*setup.churn), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (setup.churn == MAP_FAILED)
		die("no memory");
	*c = (struct cluster){0};
	start(c, &setup);
}

void cluster_join(struct cluster *c)
{
	for (unsigned int id = 1; id < c->n; id++)
		atomic_store(&c->members[id].shared->go, true);
}

void cluster_wait_full(struct cluster *c)
{
	for (unsigned int id = 1; id < c->n; id++)
		for (uint64_t until = deadline(); !cluster_report(c, id).full_ns;
			cluster_sleep(c, 2))
			hope(until, "the others have all SAs");
}

/* What moves where anything but heartbeats and comparisons is under way. */
static uint64_t activity(const struct cluster *c)
{
	uint64_t sum = 0;

	for (unsigned int id = 0; id < c->n; id++) {
		struct report r = cluster_report(c, id);

		sum += r.core.entered + r.core.repaired + r.told;
		sum += r.queued || r.barred || !r.synced ? r.ns : 0;
	}
	return sum;
}

void cluster_settle(struct cluster *c)
{
	uint64_t until = deadline(), before;

	do {
		hope(until, "the members are equal");
		before = activity(c);
		cluster_sleep(c, QUIET_MS);
	} while (activity(c) != before);
}

struct report cluster_report(const struct cluster *c, unsigned int id)
{
	struct shared *shared = c->members[id].shared;
	struct report report;
	uint32_t version;

	do {
		version = atomic_load(&shared->version);
		report = shared->report;
	} while (version % 2 || version != atomic_load(&shared->version));
	return report;
}

void cluster_sleep(struct cluster *c, unsigned int ms)
{
	const struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};

	nanosleep(&time, NULL);
	if (stopped)
		die("stopped");
	for (unsigned int id = 0; id < c->n; id++)
		if (c->members[id].pid && waitpid(c->members[id].pid, NULL, WNOHANG) > 0) {
			c->members[id].pid = 0;
			die("member %u has ended", id);
		}
}

void cluster_order(struct cluster *c, unsigned int id, enum order order, uint32_t argument)
{
	struct shared *shared = c->members[id].shared;

	shared->argument = argument;
	atomic_store(&shared->order, order);
	for (uint64_t until = deadline(); atomic_load(&shared->order); cluster_sleep(c, 1))
		hope(until, "a member obeys");
}

/* A machine that is busy with other things lets members take each other for dead. */
static void judge(const struct cluster *c)
{
	for (unsigned int id = 0; id < c->n; id++) {
		struct report r = cluster_report(c, id);

		if (r.core.takeovers)
			say("member %u took another one for dead, %llu times: these figures are "
			    "not to be trusted",
				id, (unsigned long long)r.core.takeovers);
	}
}

void cluster_stop(struct cluster *c)
{
	judge(c);
	for (unsigned int id = 0; id < c->n; id++) {
		int status = 0;

		atomic_store(&c->members[id].shared->order, ORDER_STOP);
		waitpid(c->members[id].pid, &status, 0);
		c->members[id].pid = 0;
		if (status != 0)
			die("member %u ended with status %d", id, status);
		munmap(c->members[id].shared, sizeof(*c->members[id].shared));
	}
	if (c->churn)
		munmap(c->churn, sizeof(*c->churn));
	clean_up();
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
}
