/* SPDX-License-Identifier: BSD-2-Clause */
#include "io/plugin.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define MESSAGES 256 /* taken in one turn */

struct plugin {
	int epoll, listener, peer;
	bool greeted, full;
	const struct plugin_handlers *handlers;
	void *ctx;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	uint8_t packet[ESPALIER_IKE_MESSAGE_MAX] __attribute__((aligned(8)));
};

/* Decoding. */

static int decode_record(const uint8_t *at, size_t len, struct plugin_message *ret)
{
	const struct espalier_ike_record *r = (const void *)at;
	size_t children;

	if (len < sizeof(*r) || r->children > ESPALIER_IKE_CHILDREN_MAX ||
		r->body_length > ESPALIER_IKE_BODY_MAX || r->reserved)
		return -EBADMSG;
	children = r->children * sizeof(struct espalier_ike_child);
	if (len != sizeof(*r) + children + r->body_length || r->turn == 0 || r->turn == UINT32_MAX)
		return -EBADMSG;
	ret->record = r;
	ret->children = (const void *)(at + sizeof(*r));
	ret->body = at + sizeof(*r) + children;
	return 0;
}

int plugin_decode(const void *packet, size_t len, struct plugin_message *ret)
{
	const struct espalier_ike_header *h = packet;
	const uint8_t *at = (const uint8_t *)packet + sizeof(*h);

	*ret = (struct plugin_message){0};
	if (len < sizeof(*h) || h->version != ESPALIER_IKE_VERSION || h->reserved ||
		h->length != len - sizeof(*h))
		return -EBADMSG;
	ret->type = h->type;
	len -= sizeof(*h);
	switch (h->type) {
	case ESPALIER_IKE_HELLO:
		ret->hello = (const void *)at;
		if (len != sizeof(*ret->hello) ||
			!memchr(ret->hello->daemon, 0, sizeof(ret->hello->daemon)))
			return -EBADMSG;
		return 0;
	case ESPALIER_IKE_READY:
		return len ? -EBADMSG : 0;
	case ESPALIER_IKE_RECORD:
		return decode_record(at, len, ret);
	case ESPALIER_IKE_GONE:
	case ESPALIER_IKE_NEED:
	case ESPALIER_IKE_RELEASED:
		ret->name = (const void *)at;
		return len == sizeof(*ret->name) ? 0 : -EBADMSG;
	default:
		return -EBADMSG;
	}
}

/* The socket. */

static int listen_at(struct plugin *l, const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct epoll_event event = {.events = EPOLLIN};
	struct stat st;
	mode_t mask;
	int r;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path) + 1);
	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	l->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (l->epoll < 0 || l->listener < 0)
		return -errno;
	/* The journal's lock says that no other agent of this member runs. */
	if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
		(void)unlink(path);
	mask = umask(0177);
	r = bind(l->listener, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
	umask(mask);
	if (r < 0)
		return r;
	snprintf(l->path, sizeof(l->path), "%s", path);
	event.data.fd = l->listener;
	return listen(l->listener, 1) < 0 ||
			       epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->listener, &event) < 0
		       ? -errno
		       : 0;
}

int plugin_open(
	const char *path, const struct plugin_handlers *handlers, void *ctx, struct plugin **ret)
{
	struct plugin *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return -ENOMEM;
	l->epoll = l->listener = l->peer = -1;
	l->handlers = handlers;
	l->ctx = ctx;
	r = listen_at(l, path);
	if (r < 0)
		plugin_close(l);
	else
		*ret = l;
	return r;
}

void plugin_close(struct plugin *l)
{
	if (!l)
		return;
	if (l->path[0])
		(void)unlink(l->path);
	if (l->peer >= 0)
		close(l->peer);
	if (l->listener >= 0)
		close(l->listener);
	if (l->epoll >= 0)
		close(l->epoll);
	explicit_bzero(l->packet, sizeof(l->packet));
	free(l);
}

int plugin_fd(const struct plugin *l)
{
	return l ? l->epoll : -1;
}

static void part(struct plugin *l, const char *why)
{
	bool greeted = l->greeted;

	close(l->peer);
	l->peer = -1;
	l->greeted = l->full = false;
	if (why)
		l->handlers->refused(l->ctx, why);
	if (greeted)
		l->handlers->lost(l->ctx);
}

static bool is_root(int fd)
{
	struct ucred who;
	socklen_t len = sizeof(who);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 && who.uid == 0;
}

static void meet(struct plugin *l)
{
	int fd = accept4(l->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

	if (fd < 0)
		return;
	if (!is_root(fd) || l->peer >= 0 || epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
		l->handlers->refused(
			l->ctx, l->peer >= 0 ? "another one is connected" : "it is not root's");
		close(fd);
		return;
	}
	l->peer = fd;
}

static void watch(struct plugin *l, bool full)
{
	struct epoll_event event = {.events = EPOLLIN | (full ? EPOLLOUT : 0), .data.fd = l->peer};

	if (full != l->full && epoll_ctl(l->epoll, EPOLL_CTL_MOD, l->peer, &event) == 0)
		l->full = full;
}

static void hear(struct plugin *l)
{
	struct plugin_message message;

	for (unsigned int n = 0; n < MESSAGES && l->peer >= 0; n++) {
		ssize_t len = recv(l->peer, l->packet, sizeof(l->packet), MSG_TRUNC);

		if (len < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (len <= 0) {
			part(l, NULL);
		} else if ((size_t)len > sizeof(l->packet) ||
			   plugin_decode(l->packet, (size_t)len, &message) < 0) {
			part(l, "it sent what this agent does not understand");
		} else if (!l->greeted && message.type != ESPALIER_IKE_HELLO) {
			part(l, "it did not begin with HELLO");
		} else {
			l->greeted = true;
			l->handlers->message(l->ctx, &message);
		}
	}
	explicit_bzero(l->packet, sizeof(l->packet));
}

void plugin_process(struct plugin *l)
{
	struct epoll_event events[2];
	int n = epoll_wait(l->epoll, events, 2, 0);

	for (int i = 0; i < n; i++) {
		if (events[i].data.fd == l->listener) {
			meet(l);
			continue;
		}
		if (l->peer >= 0 && events[i].events & EPOLLOUT) {
			watch(l, false);
			l->handlers->room(l->ctx);
		}
		if (l->peer >= 0 && events[i].events & ~(uint32_t)EPOLLOUT)
			hear(l);
	}
}

int plugin_send(struct plugin *l, enum espalier_ike_type type, const void *fixed, size_t fixed_len,
	const void *body, size_t body_len)
{
	struct espalier_ike_header h = {.type = (uint8_t)type,
		.version = ESPALIER_IKE_VERSION,
		.length = (uint32_t)(fixed_len + body_len)};
	struct iovec parts[] = {{&h, sizeof(h)}, {(void *)(uintptr_t)fixed, fixed_len},
		{(void *)(uintptr_t)body, body_len}};
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = 3};

	if (!l || l->peer < 0)
		return -ENOTCONN;
	if (sendmsg(l->peer, &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
		return 0;
	if (errno != EAGAIN && errno != ENOBUFS && errno != EINTR)
		return -errno;
	watch(l, true);
	return -EAGAIN;
}
