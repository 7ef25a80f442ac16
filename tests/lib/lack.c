/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lack.c - preloaded into a member's agent: its kernel lacks an algorithm. (The members of a test
 * share one kernel.) As long as there is a file of the name that LACK has, the agent asks for the
 * algorithm by a name that no kernel knows, and is answered as where its module is missing.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ALGORITHM "rfc4106(gcm(aes))"
#define UNKNOWN "rfc4106(gcm(xyz))"

/* All netlink requests go this way. */
ssize_t sendto(
	int fd, const void *data, size_t len, int flags, __CONST_SOCKADDR_ARG to, socklen_t to_len)
{
	const char *file = getenv("LACK");
	char *copy = NULL, *name;
	ssize_t r;

	if (file && memmem(data, len, ALGORITHM, sizeof(ALGORITHM)) && access(file, F_OK) == 0) {
		copy = malloc(len);
		if (!copy)
			return -1;
		memcpy(copy, data, len);
		while ((name = memmem(copy, len, ALGORITHM, sizeof(ALGORITHM))))
			memcpy(name, UNKNOWN, sizeof(UNKNOWN));
	}
	r = syscall(SYS_sendto, fd, copy ? copy : data, len, flags, to.__sockaddr__, to_len);
	free(copy);
	return r;
}
