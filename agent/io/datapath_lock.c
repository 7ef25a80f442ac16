/* SPDX-License-Identifier: BSD-2-Clause */
/* One agent at a time has a pin folder and its interfaces, see lock.h. */
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/datapath_private.h"
#include "io/interface.h"
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

static bool is_locked_already(const struct datapath_config *config, int side)
{
	for (int i = 0; i < side; i++)
		if (config->ifindex[i] == config->ifindex[side])
			return true;
	return false;
}

int datapath_lock_interfaces(const struct datapath_config *config, struct datapath_locks *ret,
	char *err, size_t err_size)
{
	for (int side = 0; side < DATAPATH_SIDES; side++) {
		char name[IF_NAMESIZE];
		int fd;

		if (!config->ifindex[side] || is_locked_already(config, side))
			continue;
		if (interface_name(config->ifindex[side], name) < 0)
			snprintf(name, sizeof(name), "%u", config->ifindex[side]);
		fd = lock_interface(config->ifindex[side]);
		ret->side[side] = fd < 0 ? -1 : fd;
		if (fd >= 0)
			continue;
		if (fd == -EBUSY)
			snprintf(err, err_size,
				"the %s interface %s is in use by another espalierd: stop that "
				"first",
				datapath_side_names[side], name);
		else
			snprintf(err, err_size, "cannot lock the %s interface %s: %s",
				datapath_side_names[side], name, strerror(-fd));
		return fd;
	}
	return 0;
}

void datapath_unlock(struct datapath_locks *locks)
{
	if (locks->pin >= 0)
		close(locks->pin);
	for (int side = 0; side < DATAPATH_SIDES; side++)
		if (locks->side[side] >= 0)
			close(locks->side[side]);
	*locks = DATAPATH_NO_LOCKS;
}
