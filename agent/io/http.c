/* SPDX-License-Identifier: BSD-2-Clause */
#include "io/http.h"

#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLIENTS 32
#define ACCEPTED_AT_ONCE 32 /* more than libmicrohttpd takes in one turn */
#define PARTS 8 /* of pages that are made in one of our turns, whoever asks */
#define IDLE_S 5
#define MEMORY 32768 /* of a connection: its request, and what is sent at once */
#define TURNS 2 /* of libmicrohttpd in one of ours */

/*
 * libmicrohttpd is linked with GnuTLS, which nobody here uses: it is not to set itself up when the
 * program is loaded, nor to complain if it cannot. (GnuTLS looks for this function.)
 */
int _gnutls_global_init_skip(void);
int _gnutls_global_init_skip(void)
{
	return 1;
}

struct http {
	struct MHD_Daemon *daemon;
	const union MHD_DaemonInfo *epoll;
	struct http_page page;
	int listener; /* the daemon's, once there is one */
	int clients[CLIENTS]; /* in the order of when they did something last */
	unsigned int n_clients, parts; /* made in this turn */
};

/* Who reads the page. */
struct reader {
	struct http *http;
	struct http_cursor cursor;
	char *part;
	size_t len, read; /* of the part */
	int client;
};

static int fd_of(struct MHD_Connection *connection)
{
	return MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
}

/* False: it is not there; it had to make room. */
static bool part_with(struct http *h, int fd)
{
	for (unsigned int i = 0; i < h->n_clients; i++) {
		if (h->clients[i] != fd)
			continue;
		h->n_clients--;
		memmove(&h->clients[i], &h->clients[i + 1],
			(h->n_clients - i) * sizeof(h->clients[0]));
		return true;
	}
	return false;
}

/* It goes to the end of those that have to make room. */
static void heard(struct http *h, int fd)
{
	if (part_with(h, fd))
		h->clients[h->n_clients++] = fd;
}

static void on_connection(void *ctx, struct MHD_Connection *connection, void **context,
	enum MHD_ConnectionNotificationCode what)
{
	struct http *h = ctx;
	int fd = fd_of(connection);

	(void)context;
	if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
		(void)part_with(h, fd);
		return;
	}
	if (h->n_clients == CLIENTS) {
		/* libmicrohttpd sees its end, and closes it */
		(void)shutdown(h->clients[0], SHUT_RDWR);
		(void)part_with(h, h->clients[0]);
	}
	h->clients[h->n_clients++] = fd;
}

static ssize_t read_page(void *ctx, uint64_t position, char *buf, size_t size)
{
	struct reader *r = ctx;

	(void)position;
	heard(r->http, r->client);
	while (r->read == r->len) {
		if (r->http->parts == PARTS)
			return 0; /* it asks again */
		r->http->parts++;
		free(r->part);
		r->read = r->len = 0;
		r->part = r->http->page.part(r->http->page.ctx, &r->cursor, &r->len);
		if (!r->part)
			return MHD_CONTENT_READER_END_OF_STREAM;
	}
	if (size > r->len - r->read)
		size = r->len - r->read;
	memcpy(buf, r->part + r->read, size);
	r->read += size;
	return (ssize_t)size;
}

static void end_reader(void *ctx)
{
	struct reader *r = ctx;

	free(r->part);
	free(r);
}

static enum MHD_Result reply(struct MHD_Connection *connection, unsigned int status,
	struct MHD_Response *response, const char *header, const char *value)
{
	enum MHD_Result r = MHD_NO;

	if (!response)
		return MHD_NO;
	if (MHD_add_response_header(response, header, value) == MHD_YES)
		r = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return r;
}

static enum MHD_Result refuse(struct MHD_Connection *connection, unsigned int status,
	const char *text, const char *header, const char *value)
{
	return reply(connection, status,
		MHD_create_response_from_buffer(strlen(text), (void *)text, MHD_RESPMEM_MUST_COPY),
		header, value);
}

static enum MHD_Result send_page(struct http *h, struct MHD_Connection *connection)
{
	struct reader *r = calloc(1, sizeof(*r));
	struct MHD_Response *response;

	if (!r)
		return MHD_NO;
	r->http = h;
	r->client = fd_of(connection);
	response = MHD_create_response_from_callback(
		MHD_SIZE_UNKNOWN, MEMORY / 2, read_page, r, end_reader);
	if (!response)
		end_reader(r);
	return reply(connection, MHD_HTTP_OK, response, MHD_HTTP_HEADER_CONTENT_TYPE, h->page.type);
}

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *connection, const char *url,
	const char *method, const char *version, const char *upload, size_t *upload_size,
	void **context)
{
	struct http *h = ctx;

	(void)version;
	(void)upload;
	(void)upload_size;
	heard(h, fd_of(connection));
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
		return refuse(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "GET or HEAD\n",
			MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	if (!*context) {
		*context = h; /* the headers are here; next time it is all here */
		return MHD_YES;
	}
	if (strcmp(url, h->page.path) != 0)
		return refuse(connection, MHD_HTTP_NOT_FOUND, "there is /metrics\n",
			MHD_HTTP_HEADER_CONTENT_TYPE, "text/plain");
	return send_page(h, connection);
}

static int listen_at(const struct address *address, unsigned int port)
{
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
	bool is_four = address->family == AF_INET;
	const struct sockaddr *at = is_four ? (struct sockaddr *)&four : (struct sockaddr *)&six;
	const int yes = 1;
	int fd = socket(address->family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), r;

	memcpy(&four.sin_addr, address->bytes, sizeof(four.sin_addr));
	memcpy(&six.sin6_addr, address->bytes, sizeof(six.sin6_addr));
	if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) == 0 &&
		bind(fd, at, is_four ? sizeof(four) : sizeof(six)) == 0 && listen(fd, CLIENTS) == 0)
		return fd;
	r = -errno;
	if (fd >= 0)
		close(fd);
	return r;
}

int http_open(const struct address *address, unsigned int port, const struct http_page *page,
	struct http **ret)
{
	struct http *h = calloc(1, sizeof(*h));
	int r;

	if (!h)
		return -ENOMEM;
	h->page = *page;
	h->listener = r = listen_at(address, port);
	if (r < 0)
		goto fail;
	h->daemon = MHD_start_daemon(
		MHD_USE_EPOLL | (address->family == AF_INET6 ? MHD_USE_IPv6 : 0), 0, NULL, NULL,
		on_request, h, MHD_OPTION_LISTEN_SOCKET, h->listener, MHD_OPTION_CONNECTION_LIMIT,
		(unsigned int)(CLIENTS + ACCEPTED_AT_ONCE), MHD_OPTION_CONNECTION_TIMEOUT,
		(unsigned int)IDLE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)MEMORY,
		MHD_OPTION_NOTIFY_CONNECTION, on_connection, h, MHD_OPTION_END);
	r = h->daemon ? 0 : -EIO;
	if (r < 0) {
		close(h->listener);
		goto fail;
	}
	h->epoll = MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	*ret = h;
	return 0;
fail:
	free(h);
	return r;
}

void http_close(struct http *h)
{
	if (!h)
		return;
	MHD_stop_daemon(h->daemon);
	free(h);
}

int http_fd(const struct http *h)
{
	return h->epoll->epoll_fd;
}

bool http_process(struct http *h)
{
	MHD_UNSIGNED_LONG_LONG wait_ms = 0;

	h->parts = 0;
	for (unsigned int i = 0; i < TURNS && wait_ms == 0; i++) {
		(void)MHD_run(h->daemon);
		if (MHD_get_timeout(h->daemon, &wait_ms) != MHD_YES)
			return false;
	}
	return wait_ms == 0;
}

unsigned int http_port(const struct http *h)
{
	union {
		struct sockaddr any;
		struct sockaddr_in four;
		struct sockaddr_in6 six;
	} at = {0};
	socklen_t len = sizeof(at);

	if (getsockname(h->listener, &at.any, &len) < 0)
		return 0;
	return ntohs(at.any.sa_family == AF_INET6 ? at.six.sin6_port : at.four.sin_port);
}
