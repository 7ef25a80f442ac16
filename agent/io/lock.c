/* SPDX-License-Identifier: BSD-2-Clause */
#include "io/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

/* Who has the flock of that file; 0: not known, as of another PID namespace. */
static int find_holder(const struct stat *st)
{
	static const char kind[] = ": FLOCK  ADVISORY  WRITE ";
	FILE *f = fopen("/proc/locks", "re");
	char file[64], line[256];
	int holder = 0;

	snprintf(file, sizeof(file), " %02x:%02x:%lu ", major(st->st_dev), minor(st->st_dev),
		(unsigned long)st->st_ino);
	while (f && holder <= 0 && fgets(line, sizeof(line), f)) {
		const char *found = strstr(line, kind);

		if (found && strstr(line, file))
			holder = (int)strtol(found + strlen(kind), NULL, 10);
	}
	if (f)
		fclose(f);
	return holder;
}

static int lock(int fd, char *holder, size_t holder_size)
{
	struct stat st;
	int pid;

	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	if (errno != EWOULDBLOCK)
		return -errno;
	pid = fstat(fd, &st) == 0 ? find_holder(&st) : 0;
	if (pid > 0)
		snprintf(holder, holder_size, "process %d", pid);
	else
		snprintf(holder, holder_size, "another process");
	return -EBUSY;
}

static int lock_or_close(int fd, char *holder, size_t holder_size)
{
	int r = fd < 0 ? -errno : lock(fd, holder, holder_size);

	if (r == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return r;
}

int lock_file(const char *path, char *holder, size_t holder_size)
{
	return lock_or_close(
		open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600), holder, holder_size);
}

int lock_folder(const char *path, char *holder, size_t holder_size)
{
	for (;;) {
		int fd = lock_or_close(
			open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), holder, holder_size);
		struct stat locked, there;

		if (fd < 0)
			return fd;
		if (fstat(fd, &locked) == 0 && stat(path, &there) == 0 &&
			locked.st_dev == there.st_dev && locked.st_ino == there.st_ino)
			return fd;
		close(fd); /* removed since it was opened */
	}
}

/* An abstract address: each network namespace has its own, a file would be there for all. */
int lock_namespace(void)
{
	static const char name[] = "espalier";
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), r;

	if (fd < 0)
		return -errno;
	memcpy(address.sun_path + 1, name, sizeof(name) - 1);
	if (bind(fd, (const struct sockaddr *)&address,
		    offsetof(struct sockaddr_un, sun_path) + sizeof(name)) == 0)
		return fd;
	r = errno == EADDRINUSE ? -EBUSY : -errno;
	close(fd);
	return r;
}
