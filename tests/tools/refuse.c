/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * refuse - runs a command for which the kernel refuses a system call.
 *
 *	refuse CALL[:ARGUMENT=VALUE]... N ERROR COMMAND...
 *
 * The N-th such call (0: every one) of the command and of what it starts fails with ERROR, a
 * number. With ARGUMENT, from 0 on, those count whose argument has that VALUE. Says so on stderr
 * once it has come to that; the exit status is the command's.
 */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tool.h"

#define REFUSE_ARGUMENTS 6

struct refuse {
	int call;
	bool matters[REFUSE_ARGUMENTS];
	uint64_t value[REFUSE_ARGUMENTS];
	unsigned long nth, seen;
	int error;
	int listener;
};

static int refuse_number(const char *name)
{
	static const struct {
		const char *name;
		int number;
	} calls[] = {
		{"bind", SYS_bind},
		{"bpf", SYS_bpf},
		{"clone3", SYS_clone3},
		{"epoll_create1", SYS_epoll_create1},
		{"epoll_ctl", SYS_epoll_ctl},
		{"eventfd2", SYS_eventfd2},
		{"ioctl", SYS_ioctl},
		{"mmap", SYS_mmap},
		{"openat", SYS_openat},
		{"recvmsg", SYS_recvmsg},
		{"rename", SYS_rename},
		{"sendmsg", SYS_sendmsg},
		{"sendto", SYS_sendto},
		{"setsockopt", SYS_setsockopt},
		{"signalfd4", SYS_signalfd4},
		{"socket", SYS_socket},
		{"timerfd_create", SYS_timerfd_create},
	};

	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		if (strcmp(calls[i].name, name) == 0)
			return calls[i].number;
	tool_die(EINVAL, "%s", name);
}

static void refuse_parse(struct refuse *r, char *what)
{
	char *part = strtok(what, ":");

	r->call = refuse_number(part ? part : "");
	while ((part = strtok(NULL, ":"))) {
		char *value;
		unsigned long argument = strtoul(part, &value, 10);

		if (*value != '=' || argument >= REFUSE_ARGUMENTS)
			tool_die(EINVAL, "%s", part);
		r->matters[argument] = true;
		r->value[argument] = strtoull(value + 1, NULL, 0);
	}
}

/* Asks us about each such call. Returns the descriptor by which it does. */
static int refuse_filter(const struct refuse *r)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)r->call, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = {.len = sizeof(code) / sizeof(code[0]), .filter = code};

	return (int)syscall(
		SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
}

/* The command: it ends with us. */
static void refuse_become(const struct refuse *r, int to_parent, char **command)
{
	int listener;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	listener = refuse_filter(r);
	if (listener < 0 || write(to_parent, &listener, sizeof(listener)) != sizeof(listener) ||
		read(to_parent, &listener, sizeof(listener)) != sizeof(listener))
		tool_die(errno, "seccomp");
	execvp(command[0], command);
	tool_die(errno, "%s", command[0]);
}

static pid_t refuse_start(struct refuse *r, char **command)
{
	int pair[2], theirs = -1, pidfd;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 || (pid = fork()) < 0)
		tool_die(errno, "cannot start it");
	if (pid == 0)
		refuse_become(r, pair[1], command);
	close(pair[1]);
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (read(pair[0], &theirs, sizeof(theirs)) == sizeof(theirs))
		r->listener = (int)syscall(SYS_pidfd_getfd, pidfd, theirs, 0);
	if (r->listener < 0 || write(pair[0], &theirs, sizeof(theirs)) != sizeof(theirs))
		tool_die(errno, "cannot listen");
	close(pidfd);
	close(pair[0]);
	return pid;
}

static bool refuse_is_meant(const struct refuse *r, const struct seccomp_data *data)
{
	for (int i = 0; i < REFUSE_ARGUMENTS; i++)
		if (r->matters[i] && r->value[i] != data->args[i])
			return false;
	return true;
}

static void refuse_answer(struct refuse *r)
{
	struct seccomp_notif call = {};
	struct seccomp_notif_resp answer = {};

	if (ioctl(r->listener, SECCOMP_IOCTL_NOTIF_RECV, &call) < 0)
		return; /* it is killed meanwhile */
	answer.id = call.id;
	if (refuse_is_meant(r, &call.data) && (++r->seen == r->nth || !r->nth)) {
		answer.error = -r->error;
		if (r->seen <= 1 || r->nth)
			fprintf(stderr, "refuse: refused\n");
	} else {
		answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
	}
	(void)ioctl(r->listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
}

int main(int argc, char **argv)
{
	struct refuse r = {.listener = -1};
	struct pollfd ready = {.events = POLLIN};
	int status = 0;
	pid_t pid;

	if (argc < 5)
		tool_die(0, "usage: refuse CALL[:ARGUMENT=VALUE]... N ERROR COMMAND...");
	refuse_parse(&r, argv[1]);
	r.nth = strtoul(argv[2], NULL, 10);
	r.error = (int)tool_number("ERROR", argv[3], INT32_MAX);
	pid = refuse_start(&r, argv + 4);
	ready.fd = r.listener;
	while (poll(&ready, 1, -1) > 0 && ready.revents & POLLIN)
		refuse_answer(&r);
	if (waitpid(pid, &status, 0) < 0)
		tool_die(errno, "waitpid");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
