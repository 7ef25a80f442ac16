/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * http.h - a page for who asks by HTTP (libmicrohttpd): GET and HEAD of one path, in the agent's
 * own loop. Connections are bounded; when all places are taken, who has done nothing for the
 * longest time makes room.
 */
#ifndef HTTP_H
#define HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/address.h"

/* How far a reader has come; begins as zero. */
struct http_cursor {
	unsigned int part;
	uint32_t at;
};

/* The page's next part, from malloc(), owned by the caller; NULL: it has ended. */
typedef char *(*http_part)(void *ctx, struct http_cursor *cursor, size_t *ret_len);

struct http_page {
	const char *path, *type; /* not copied */
	http_part part;
	void *ctx;
};

struct http;

/* port: host byte order. 0 or -errno, so -EADDRINUSE. */
int http_open(const struct address *address, unsigned int port, const struct http_page *page,
	struct http **ret);
void http_close(struct http *h);
int http_fd(const struct http *h); /* an epoll set */
/* Never waits. To be called when the set is readable, and now and then: time passes. True: call it
 * again at once. */
bool http_process(struct http *h);
/* That it listens at, as the kernel has it. */
unsigned int http_port(const struct http *h);

#endif
