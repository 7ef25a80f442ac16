/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * metrics_out.c - where metrics go: to who asks by HTTP, and into a file. Neither may harm the
 * gateway: what fails is said once, and tried again.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "exposition.h"

#define OPEN_EVERY_US 10000000
#define WRITE_EVERY_US 10000000
#define LOOK_EVERY_US 500000 /* connections that are idle end */
#define FRESH_US 100000 /* a page is good for so long: who asks all the time costs no more */

static char *put_text(const struct agent *a, size_t *ret_len)
{
	char *text = NULL;
	FILE *to = open_memstream(&text, ret_len);

	if (!to)
		return NULL;
	metrics_put(to, a);
	if (fclose(to) == 0)
		return text;
	free(text);
	return NULL;
}

/* Owned by the agent. */
static const char *fresh_text(struct agent *a, size_t *ret_len)
{
	struct metrics *m = &a->metrics;
	uint64_t now = agent_now_us();

	if (!m->text || now - m->text_us > FRESH_US) {
		free(m->text);
		m->text = put_text(a, &m->text_len);
		m->text_us = now;
	}
	*ret_len = m->text_len;
	return m->text;
}

static char *put_sas(const struct agent *a, struct http_cursor *cursor, size_t *ret_len)
{
	char *text = NULL;
	FILE *to = open_memstream(&text, ret_len);
	bool more;

	if (!to)
		return NULL;
	more = metrics_put_sas(to, a, cursor->part - 1, &cursor->at);
	if (cursor->at == 0)
		cursor->part++;
	if (fclose(to) == 0 && more)
		return text;
	free(text);
	return NULL;
}

/* Part 0 is of the member, each one behind it a family of the SAs'. */
static char *next_part(void *ctx, struct http_cursor *cursor, size_t *ret_len)
{
	struct agent *a = ctx;
	const char *text;
	char *copy;

	if (cursor->part > 0)
		return a->config.metrics_sas == CONFIG_SAS_YES ? put_sas(a, cursor, ret_len) : NULL;
	cursor->part++;
	text = fresh_text(a, ret_len);
	copy = text ? malloc(*ret_len) : NULL;
	return copy ? memcpy(copy, text, *ret_len) : NULL;
}

static void serve(struct agent *a, uint64_t now_us)
{
	const struct http_page page = {"/metrics", EXPOSITION_TYPE, next_part, a};
	const struct config *c = &a->config;
	struct metrics *m = &a->metrics;
	char at[INET6_ADDRSTRLEN];
	int r = http_open(&c->metrics_address, c->metrics_port, &page, &m->http);

	m->open_due_us = now_us + OPEN_EVERY_US;
	if (r == m->open_error)
		return;
	m->open_error = r;
	inet_ntop(c->metrics_address.family, c->metrics_address.bytes, at, sizeof(at));
	if (r == 0)
		agent_say("metrics are served at %s, port %u", at, c->metrics_port);
	else
		agent_say("no metrics at %s, port %u: %s%s; this is tried again every %u s", at,
			c->metrics_port, strerror(-r),
			r == -EADDRINUSE ? ", by another program: stop that, or set Metrics to "
					   "another address, or off"
					 : "",
			OPEN_EVERY_US / 1000000);
}

static void write_file(struct agent *a, uint64_t now_us)
{
	struct metrics *m = &a->metrics;
	int r = m->file ? textfile_error(m->file) : textfile_open(a->config.metrics_path, &m->file);
	char *text;
	size_t len;

	m->write_due_us = now_us + WRITE_EVERY_US;
	if (r != m->write_error)
		agent_say("metrics %s %s%s%s", r < 0 ? "cannot be written to" : "are written to",
			a->config.metrics_path, r < 0 ? ": " : " again", r < 0 ? strerror(-r) : "");
	m->write_error = r;
	text = m->file ? put_text(a, &len) : NULL;
	if (text)
		textfile_write(m->file, text, len);
}

bool metrics_process(struct agent *a)
{
	struct metrics *m = &a->metrics;

	m->busy = m->http && http_process(m->http);
	return m->busy;
}

int metrics_fd(const struct agent *a)
{
	return a->metrics.http ? http_fd(a->metrics.http) : -1;
}

bool metrics_tick(struct agent *a, uint64_t now_us)
{
	struct metrics *m = &a->metrics;
	bool opened = false;

	if (a->config.metrics_port && !m->http && now_us >= m->open_due_us) {
		serve(a, now_us);
		opened = m->http;
	}
	if (a->config.metrics_path[0] && now_us >= m->write_due_us)
		write_file(a, now_us);
	if (m->busy || now_us >= m->look_due_us) {
		m->look_due_us = now_us + LOOK_EVERY_US;
		(void)metrics_process(a);
	}
	return opened;
}

void metrics_close(struct agent *a)
{
	http_close(a->metrics.http);
	textfile_close(a->metrics.file);
	free(a->metrics.text);
}
