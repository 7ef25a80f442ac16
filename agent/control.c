/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * control.c - the socket that espalierctl speaks to: SOCK_SEQPACKET, a request is one packet
 * ("status", "members", "reasons", "owner SPI", "sa FROM", "ike FROM", "events", "adopt SPI|all",
 * "drain ID", "undrain ID", "failover", "ike-config"), its answer one packet of JSON. A list too
 * long for one packet says where it goes on (`next`). Only root may connect. All but "adopt" and
 * orders read. No keys. When all places are taken, who has said nothing for the longest time makes
 * room.
 */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent.h"

#define CLIENTS 8

struct control {
	int epoll, listener;
	int clients[CLIENTS]; /* in the order of when they were heard last */
	unsigned int n_clients;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	char folder[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* that we have made, or "" */
};

/* The last folder of the path, if it is not there: /run is empty after a boot. */
static void make_folder(struct control *c, const char *path)
{
	char *slash;

	snprintf(c->folder, sizeof(c->folder), "%s", path);
	slash = strrchr(c->folder, '/');
	if (!slash || slash == c->folder) {
		c->folder[0] = '\0';
		return;
	}
	*slash = '\0';
	if (mkdir(c->folder, 0755) < 0)
		c->folder[0] = '\0';
}

/* What an earlier agent has left; nothing else. */
static int remove_left(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), r;
	struct stat st;

	if (fd < 0)
		return -errno;
	r = connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;
	close(fd);
	if (r == 0 || r == -EAGAIN) /* EAGAIN: to many others */
		return -EADDRINUSE;
	if (r != -ECONNREFUSED)
		return r == -ENOENT ? 0 : r;
	/* also of a file that is no socket */
	if (lstat(address->sun_path, &st) == 0 && !S_ISSOCK(st.st_mode))
		return -EEXIST;
	return unlink(address->sun_path) < 0 ? -errno : 0;
}

static int listen_at(struct control *c, const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct epoll_event event = {.events = EPOLLIN};
	mode_t mask;
	int r;

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	c->epoll = epoll_create1(EPOLL_CLOEXEC);
	c->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->epoll < 0 || c->listener < 0)
		return -errno;
	make_folder(c, path);
	r = remove_left(&address);
	if (r < 0)
		return r;
	mask = umask(0177);
	r = bind(c->listener, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
	umask(mask);
	if (r < 0)
		return r;
	snprintf(c->path, sizeof(c->path), "%s", path);
	event.data.fd = c->listener;
	return listen(c->listener, CLIENTS) < 0 ||
			       epoll_ctl(c->epoll, EPOLL_CTL_ADD, c->listener, &event) < 0
		       ? -errno
		       : 0;
}

int control_open(const char *path, struct control **ret, char *err, size_t err_size)
{
	struct control *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->epoll = c->listener = -1;
	r = listen_at(c, path);
	if (r == 0) {
		*ret = c;
		return 0;
	}
	control_close(c);
	if (r == -EADDRINUSE)
		snprintf(err, err_size,
			"the control socket %s is in use by another process: stop that, or give "
			"this one another (Control)",
			path);
	else
		snprintf(
			err, err_size, "cannot make the control socket %s: %s", path, strerror(-r));
	return r;
}

static void part(struct control *c, unsigned int i)
{
	close(c->clients[i]);
	c->n_clients--;
	memmove(&c->clients[i], &c->clients[i + 1], (c->n_clients - i) * sizeof(c->clients[0]));
}

void control_close(struct control *c)
{
	if (!c)
		return;
	if (c->path[0])
		(void)unlink(c->path);
	if (c->folder[0])
		(void)rmdir(c->folder);
	while (c->n_clients)
		part(c, c->n_clients - 1);
	if (c->listener >= 0)
		close(c->listener);
	if (c->epoll >= 0)
		close(c->epoll);
	free(c);
}

int control_fd(const struct control *c)
{
	return c->epoll;
}

static void meet(struct control *c)
{
	int fd = accept4(c->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

	if (fd < 0)
		return;
	if (epoll_ctl(c->epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
		close(fd);
		return;
	}
	if (c->n_clients == CLIENTS)
		part(c, 0);
	c->clients[c->n_clients++] = fd;
}

static void heard(struct control *c, unsigned int i)
{
	int fd = c->clients[i];

	memmove(&c->clients[i], &c->clients[i + 1], (c->n_clients - 1 - i) * sizeof(c->clients[0]));
	c->clients[c->n_clients - 1] = fd;
}

static void talk(struct control *c, int fd, const struct agent *a)
{
	char request[64];
	ssize_t len = recv(fd, request, sizeof(request) - 1, 0);
	struct json_object *o;
	unsigned int i = 0;
	const char *text;

	while (c->clients[i] != fd)
		i++;
	if (len <= 0) {
		part(c, i);
		return;
	}
	heard(c, i);
	request[len] = '\0';
	o = control_answer(a, request);
	text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);
	(void)send(fd, text, strlen(text), MSG_NOSIGNAL);
	json_object_put(o);
}

void control_process(struct control *c, const struct agent *a)
{
	struct epoll_event events[CLIENTS + 1];
	int n = epoll_wait(c->epoll, events, CLIENTS + 1, 0);
	bool knocks = false;

	/* Who has asked gets its answer before it may have to make room. */
	for (int i = 0; i < n; i++) {
		if (events[i].data.fd == c->listener)
			knocks = true;
		else
			talk(c, events[i].data.fd, a);
	}
	if (knocks)
		meet(c);
}
