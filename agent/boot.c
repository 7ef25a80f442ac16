/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * boot.c - has there been an agent on this machine since it was booted? If not, no SA in its kernel
 * is a copy. A mark beside the journal says so, by the boot's id.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"

#define ID_SIZE 64

static void mark_path(const struct agent *a, char ret[CONFIG_PATH_SIZE + 5])
{
	snprintf(ret, CONFIG_PATH_SIZE + 5, "%s.boot", a->config.journal_path);
}

/* Its first line; "" if there is none. */
static void read_line(const char *path, char ret[ID_SIZE])
{
	FILE *f = fopen(path, "re");

	if (!f || !fgets(ret, ID_SIZE, f))
		ret[0] = '\0';
	if (f)
		fclose(f);
}

static void read_boot(char ret[ID_SIZE])
{
	read_line("/proc/sys/kernel/random/boot_id", ret);
}

bool boot_is_first(const struct agent *a)
{
	char path[CONFIG_PATH_SIZE + 5], marked[ID_SIZE], boot[ID_SIZE];

	mark_path(a, path);
	read_line(path, marked);
	read_boot(boot);
	return datapath_is_first(a->datapath) && boot[0] && strcmp(boot, marked) != 0;
}

void boot_mark(const struct agent *a)
{
	char path[CONFIG_PATH_SIZE + 5], boot[ID_SIZE];
	int fd, r = 0;

	mark_path(a, path);
	read_boot(boot);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || write(fd, boot, strlen(boot)) != (ssize_t)strlen(boot))
		r = errno;
	if (fd >= 0)
		close(fd);
	if (fd < 0 || r)
		agent_say("cannot write %s: %s; after espalierd --detach a start would take the "
			  "SAs that are here for this machine's own, until the next boot",
			path, strerror(r));
}

void boot_say(const struct agent *a)
{
	unsigned int adopted = (unsigned int)member_counters(a->member)->adopted;
	unsigned int unknown = member_fenced_for(a->member, FENCE_FOUND);

	if (adopted)
		agent_say("%u outbound SAs were here before and are adopted: their numbers go on "
			  "where they are",
			adopted);
	if (unknown)
		agent_say(
			"%u outbound SAs are shut until they are rekeyed, which is asked for: they "
			"are beyond their first block, and since espalierd ran here before in this "
			"boot, others may have sent for them; if you know that nobody has, use "
			"espalierctl adopt",
			unknown);
}
