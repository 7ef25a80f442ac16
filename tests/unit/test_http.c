/* SPDX-License-Identifier: BSD-2-Clause */
/* test_http.c - the page that is served by HTTP, and those who mean harm; files for others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/http.h"
#include "io/textfile.h"

#define PARTS 200U
#define PART_SIZE 5000U
#define IDLE 100U

static struct http *http;
static unsigned int parts = 1, part_size = 6;

static char *next_part(void *ctx, struct http_cursor *cursor, size_t *ret_len)
{
	char *text;

	assert_ptr_equal(ctx, &http);
	if (cursor->part >= parts)
		return NULL;
	text = malloc(part_size);
	memset(text, 'a' + (int)cursor->part % 26, part_size);
	*ret_len = part_size;
	cursor->part++;
	return text;
}

static const struct address loopback = {.family = AF_INET, .bytes = {127, 0, 0, 1}};

static int open_http(void **state)
{
	const struct http_page page = {"/metrics", "text/plain", next_part, &http};

	(void)state;
	parts = 1;
	part_size = 6;
	return http_open(&loopback, 0, &page, &http);
}

static int close_http(void **state)
{
	(void)state;
	http_close(http);
	return 0;
}

static void turn(void)
{
	struct pollfd fd = {.fd = http_fd(http), .events = POLLIN};

	if (http_process(http) || poll(&fd, 1, 10) > 0)
		(void)http_process(http);
}

static int connect_to(void)
{
	struct sockaddr_in to = {.sin_family = AF_INET,
		.sin_port = htons((uint16_t)http_port(http)),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	return fd;
}

/* Its length; until the other end closes, or so many turns. */
static size_t hear_for(unsigned int turns, int fd, char *ret, size_t size)
{
	size_t len = 0;
	ssize_t n = 1;

	for (unsigned int i = 0; n != 0 && i < turns; i++) {
		turn();
		n = recv(fd, ret + len, size - 1 - len, MSG_DONTWAIT);
		if (n > 0)
			len += (size_t)n;
		else if (n < 0 && errno != EAGAIN)
			break;
	}
	close(fd);
	ret[len] = '\0';
	return len;
}

static size_t hear(int fd, char *ret, size_t size)
{
	return hear_for(10000, fd, ret, size);
}

static size_t ask(const char *method, const char *path, char *ret, size_t size)
{
	char request[256];
	int fd = connect_to();

	snprintf(request, sizeof(request), "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		method, path);
	assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
	return hear(fd, ret, size);
}

static void test_asked(void **state)
{
	static char answer[4096];

	(void)state;
	ask("GET", "/metrics", answer, sizeof(answer));
	assert_memory_equal(answer, "HTTP/1.1 200 ", 13);
	assert_non_null(strstr(answer, "Content-Type: text/plain\r\n"));
	assert_non_null(strstr(answer, "aaaaaa"));
	ask("HEAD", "/metrics", answer, sizeof(answer));
	assert_memory_equal(answer, "HTTP/1.1 200 ", 13);
	assert_null(strstr(answer, "aaaaaa"));
	ask("GET", "/", answer, sizeof(answer));
	assert_memory_equal(answer, "HTTP/1.1 404 ", 13);
}

static void test_refused(void **state)
{
	static const char *const methods[] = {"POST", "PUT", "DELETE", "OPTIONS", "PATCH"};
	static char answer[4096];

	(void)state;
	for (unsigned int i = 0; i < sizeof(methods) / sizeof(*methods); i++) {
		ask(methods[i], "/metrics", answer, sizeof(answer));
		assert_memory_equal(answer, "HTTP/1.1 405 ", 13);
		assert_non_null(strstr(answer, "Allow: GET, HEAD\r\n"));
		assert_null(strstr(answer, "aaaaaa"));
	}
}

/* More than a socket takes at once, in parts. */
static void test_long_page(void **state)
{
	static char answer[PARTS * (PART_SIZE + 64)];
	size_t counted = 0;
	int fd;

	(void)state;
	parts = PARTS;
	part_size = PART_SIZE;
	/* HTTP/1.0 has no chunks: the page is as it is. */
	fd = connect_to();
	assert_int_equal(send(fd, "GET /metrics HTTP/1.0\r\n\r\n", 25, 0), 25);
	assert_true(hear(fd, answer, sizeof(answer)) > PARTS * PART_SIZE);
	for (const char *c = strstr(answer, "\r\n\r\n") + 4; *c; c++)
		assert_int_equal(*c, 'a' + (int)(counted++ / PART_SIZE) % 26);
	assert_int_equal(counted, PARTS * PART_SIZE);
}

/* They make room: who asks is answered at once, all the same. */
static void test_idle(void **state)
{
	static char answer[4096];
	int idle[IDLE];

	(void)state;
	for (unsigned int i = 0; i < IDLE; i++) {
		idle[i] = connect_to();
		if (i % 2)
			(void)send(idle[i], "GET /met", 8, MSG_NOSIGNAL);
		turn();
	}
	ask("GET", "/metrics", answer, sizeof(answer));
	assert_memory_equal(answer, "HTTP/1.1 200 ", 13);
	for (unsigned int i = 0; i < IDLE; i++)
		close(idle[i]);
	for (unsigned int i = 0; i < 10; i++)
		turn();
	ask("GET", "/metrics", answer, sizeof(answer));
	assert_memory_equal(answer, "HTTP/1.1 200 ", 13);
}

/* Those who do not read what they have asked for, and those who go in the middle of it. */
static void test_rude(void **state)
{
	static char answer[4096];
	int fd[8];

	(void)state;
	parts = 100 * PARTS; /* no socket takes that */
	part_size = PART_SIZE;
	for (unsigned int i = 0; i < 8; i++) {
		fd[i] = connect_to();
		(void)send(fd[i], "GET /metrics HTTP/1.0\r\n\r\n", 25, MSG_NOSIGNAL);
		for (unsigned int k = 0; k < 20; k++)
			turn();
	}
	for (unsigned int k = 0; k < 2; k++) {
		parts = 1; /* those above are in the middle, and end */
		ask("GET", "/metrics", answer, sizeof(answer));
		assert_memory_equal(answer, "HTTP/1.1 200 ", 13);
		for (unsigned int i = 0; i < 8 && k == 0; i++)
			close(fd[i]);
	}
}

static void test_malformed(void **state)
{
	static const char *const requests[] = {"\r\n\r\n\r\n", "GET\r\n\r\n",
		"\xff\xfe\x00\x01\r\n\r\n", "GET /metrics HTTP/9.9\r\n\r\n",
		"GET /metrics HTTP/1.1\r\n: x\r\n\r\n",
		"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\nx"};
	static char answer[4096], huge[100000];

	(void)state;
	for (unsigned int i = 0; i < sizeof(requests) / sizeof(*requests); i++) {
		int fd = connect_to();

		(void)send(fd, requests[i], strlen(requests[i]), MSG_NOSIGNAL);
		(void)shutdown(fd, SHUT_WR);
		hear_for(20, fd, answer, sizeof(answer));
		assert_null(strstr(answer, "aaaaaa\r\naaaaaa"));
	}
	memset(huge, 'x', sizeof(huge));
	huge[snprintf(huge, sizeof(huge), "GET /")] = 'x';
	for (unsigned int i = 0; i < 2; i++) {
		int fd = connect_to();

		(void)send(fd, huge, sizeof(huge), MSG_NOSIGNAL | MSG_DONTWAIT);
		(void)shutdown(fd, SHUT_WR);
		hear_for(20, fd, answer, sizeof(answer));
		assert_memory_not_equal(answer, "HTTP/1.1 200", 12);
	}
	ask("GET", "/metrics", answer, sizeof(answer));
	assert_memory_equal(answer, "HTTP/1.1 200 ", 13);
}

static void test_in_use(void **state)
{
	const struct http_page page = {"/metrics", "text/plain", next_part, &http};
	const struct address elsewhere = {.family = AF_INET, .bytes = {192, 0, 2, 1}};
	struct http *other;

	(void)state;
	assert_int_equal(http_open(&loopback, http_port(http), &page, &other), -EADDRINUSE);
	assert_int_equal(http_open(&elsewhere, 1, &page, &other), -EADDRNOTAVAIL);
}

static bool holds(const char *path, const char *text)
{
	char buf[64] = "";
	FILE *file = fopen(path, "r");

	if (!file)
		return false;
	(void)!fread(buf, 1, sizeof(buf) - 1, file);
	fclose(file);
	return strcmp(buf, text) == 0;
}

static void test_textfile(void **state)
{
	char folder[] = "/tmp/test_textfile.XXXXXX", path[64], next[80], other[64];
	struct textfile *f;
	struct stat st;

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/m.prom", folder);
	snprintf(next, sizeof(next), "%s.tmp", path);
	snprintf(other, sizeof(other), "%s/other", folder);
	assert_int_equal(symlink(other, next), 0);
	umask(077);
	assert_int_equal(textfile_open(path, &f), 0);
	textfile_write(f, strdup("one"), 3);
	for (unsigned int i = 0; i < 500 && !holds(path, "one"); i++)
		usleep(10000);
	assert_true(holds(path, "one"));
	textfile_write(f, strdup("two, longer"), 11);
	for (unsigned int i = 0; i < 500 && !holds(path, "two, longer"); i++) {
		assert_true(holds(path, "one") || holds(path, "two, longer"));
		usleep(1000);
	}
	assert_true(holds(path, "two, longer"));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	assert_int_equal(access(next, F_OK), -1);
	assert_int_equal(access(other, F_OK), -1);
	assert_int_equal(textfile_error(f), 0);
	textfile_close(f);
	assert_int_equal(rmdir(folder), 0);

	assert_int_equal(textfile_open(path, &f), 0); /* the folder has gone */
	textfile_write(f, strdup("one"), 3);
	for (unsigned int i = 0; i < 500 && textfile_error(f) == 0; i++)
		usleep(10000);
	assert_int_equal(textfile_error(f), -ENOENT);
	textfile_close(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_asked, open_http, close_http),
		cmocka_unit_test_setup_teardown(test_refused, open_http, close_http),
		cmocka_unit_test_setup_teardown(test_long_page, open_http, close_http),
		cmocka_unit_test_setup_teardown(test_idle, open_http, close_http),
		cmocka_unit_test_setup_teardown(test_rude, open_http, close_http),
		cmocka_unit_test_setup_teardown(test_malformed, open_http, close_http),
		cmocka_unit_test_setup_teardown(test_in_use, open_http, close_http),
		cmocka_unit_test(test_textfile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
