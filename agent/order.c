/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * order.c - what an administrator wants this member to own, kept over the lives of its agent: a
 * file beside the journal, by the name of the journal and ".order", with one word in it; none if
 * the member is to own its share. It is not synced to the disk, since the loop waits for none:
 * after a power failure within seconds of the order that may be lost.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"

static const char *const words[] = {[ORDER_YIELD] = "yield\n", [ORDER_DRAIN] = "drain\n"};
static const char *const meanings[] = {
	[ORDER_OWN] = "it owns its share of the buckets, once it has all SAs",
	[ORDER_YIELD] = "it owns nothing as long as another member can (espalierctl failover)",
	[ORDER_DRAIN] = "it owns nothing until espalierctl undrain",
};

static void path_of(const struct config *c, char ret[CONFIG_PATH_SIZE + 8])
{
	snprintf(ret, CONFIG_PATH_SIZE + 8, "%s.order", c->journal_path);
}

static int write_word(const char *path, const char *word)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ssize_t len = (ssize_t)strlen(word);
	int r = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, word, (size_t)len) != len)
		r = errno ? -errno : -EIO;
	close(fd);
	return r;
}

int order_keep(const struct config *c, enum wire_order order)
{
	char path[CONFIG_PATH_SIZE + 8];
	int r;

	path_of(c, path);
	if (order == ORDER_OWN)
		r = unlink(path) < 0 && errno != ENOENT ? -errno : 0;
	else
		r = write_word(path, words[order]);
	if (r < 0)
		agent_say("an administrator's order is refused, since it cannot be kept in %s: %s",
			path, strerror(-r));
	else
		agent_say("an administrator's order for this member: %s", meanings[order]);
	return r;
}

enum wire_order order_kept(const struct config *c)
{
	char path[CONFIG_PATH_SIZE + 8], word[16] = "";
	enum wire_order order = ORDER_DRAIN;
	ssize_t len;
	int fd;

	path_of(c, path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return ORDER_OWN;
	len = fd < 0 ? -1 : read(fd, word, sizeof(word) - 1);
	if (fd >= 0)
		close(fd);
	if (len > 0 && strcmp(word, words[ORDER_YIELD]) == 0)
		order = ORDER_YIELD;
	agent_say("by an administrator's order, in %s: %s", path, meanings[order]);
	return order;
}
