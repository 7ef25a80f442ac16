/* SPDX-License-Identifier: BSD-2-Clause */
#include "io/interface.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static int ask(unsigned long what, struct ifreq *request)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), r;

	if (fd < 0)
		return -errno;
	r = ioctl(fd, what, request) < 0 ? -errno : 0;
	close(fd);
	return r;
}

int interface_index(const char *name)
{
	struct ifreq request = {0};
	int r;

	if (strlen(name) >= sizeof(request.ifr_name))
		return -ENODEV;
	memcpy(request.ifr_name, name, strlen(name));
	r = ask(SIOCGIFINDEX, &request);
	return r < 0 ? r : request.ifr_ifindex;
}

int interface_name(unsigned int ifindex, char ret[static IF_NAMESIZE])
{
	struct ifreq request = {.ifr_ifindex = (int)ifindex};
	int r = ask(SIOCGIFNAME, &request);

	if (r == 0)
		memcpy(ret, request.ifr_name, IF_NAMESIZE);
	return r;
}
