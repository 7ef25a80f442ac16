/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One agent at a time has a pin folder and a network namespace, see lock.h. Not an interface: that
 * may be renamed, or made again, and the guard is on all of them.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/datapath_private.h"
#include "io/lock.h"

int datapath_lock_pin(const char *pin, struct datapath_locks *ret, char *err, size_t err_size)
{
	char holder[32];
	int fd = lock_folder(pin, holder, sizeof(holder));

	ret->pin = fd < 0 ? -1 : fd;
	if (fd >= 0)
		return 0;
	if (fd == -EBUSY)
		snprintf(err, err_size, "the pin folder %s is in use by %s: stop that first", pin,
			holder);
	else
		snprintf(err, err_size, "cannot lock the pin folder %s: %s", pin, strerror(-fd));
	return fd;
}

int datapath_lock_namespace(struct datapath_locks *ret, char *err, size_t err_size)
{
	int fd = lock_namespace();

	ret->namespace = fd < 0 ? -1 : fd;
	if (fd >= 0)
		return 0;
	if (fd == -EBUSY)
		snprintf(err, err_size,
			"another espalierd runs in this network namespace: stop that first");
	else
		snprintf(err, err_size, "cannot lock the network namespace: %s", strerror(-fd));
	return fd;
}

void datapath_unlock(struct datapath_locks *locks)
{
	if (locks->pin >= 0)
		close(locks->pin);
	if (locks->namespace >= 0)
		close(locks->namespace);
	*locks = DATAPATH_NO_LOCKS;
}
