/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What an earlier agent has left pinned, and whether this one may go on from there. The settings of
 * its guard are pinned, too: what is in the guard's map is true only by them.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/block.h"
#include "io/datapath_private.h"

/* The map with the program's settings. */
static struct bpf_map *settings_map(struct bpf_object *object)
{
	struct bpf_map *map;

	bpf_object__for_each_map(map, object)
	{
		if (bpf_map__is_internal(map))
			return map;
	}
	return NULL;
}

/* A map that is pinned already must be as we would make it. */
static int check_layout(struct bpf_object *object, char *err, size_t err_size)
{
	struct bpf_map *map;

	bpf_object__for_each_map(map, object)
	{
		const char *path = bpf_map__pin_path(map);
		struct bpf_map_info info = {};
		__u32 size = sizeof(info);
		int fd = path ? bpf_obj_get(path) : -1;

		if (fd < 0)
			continue;
		bpf_obj_get_info_by_fd(fd, &info, &size);
		close(fd);
		if (info.type != bpf_map__type(map) || info.key_size != bpf_map__key_size(map) ||
			info.value_size != bpf_map__value_size(map) ||
			info.max_entries != bpf_map__max_entries(map) ||
			info.map_flags != bpf_map__map_flags(map)) {
			snprintf(err, err_size,
				"the pinned map %s has another layout (another version, or another "
				"number of SAs): detach the old programs first",
				path);
			return -EEXIST;
		}
	}
	return 0;
}

static bool has_entries(const char *pin, const char *name)
{
	struct espalier_sa_key first;
	char path[PATH_MAX];
	bool has;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", pin, name);
	fd = bpf_obj_get(path);
	if (fd < 0)
		return false;
	has = bpf_map_get_next_key(fd, NULL, &first) == 0;
	close(fd);
	return has;
}

/* 0; -ENOENT: not known; -EINVAL: of another version. */
static int earlier_settings(const char *pin, struct espalier_settings *ret)
{
	struct bpf_map_info info = {};
	__u32 size = sizeof(info), zero = 0;
	char path[PATH_MAX];
	int fd, r;

	*ret = (struct espalier_settings){0};
	snprintf(path, sizeof(path), "%s/" DATAPATH_SETTINGS, pin);
	fd = bpf_obj_get(path);
	if (fd < 0)
		return -ENOENT;
	r = bpf_obj_get_info_by_fd(fd, &info, &size);
	if (r == 0)
		r = info.value_size == sizeof(*ret) ? bpf_map_lookup_elem(fd, &zero, ret) : -EINVAL;
	close(fd);
	return r;
}

static bool has_address(const struct espalier_settings *s, __be32 address)
{
	for (int i = 0; i < ESPALIER_ADDRESSES; i++)
		if (s->cluster[i] == address)
			return true;
	return false;
}

static bool has_address6(const struct espalier_settings *s, const __u8 address[16])
{
	for (int i = 0; i < ESPALIER_ADDRESSES; i++)
		if (memcmp(s->cluster6[i], address, sizeof(s->cluster6[i])) == 0)
			return true;
	return false;
}

/* A cluster address whose packets would not be guarded any more. */
static bool find_lost_address(const struct espalier_settings *was,
	const struct espalier_settings *is, char ret[static INET6_ADDRSTRLEN])
{
	static const __u8 none[16];

	for (int i = 0; i < ESPALIER_ADDRESSES; i++) {
		if (was->cluster[i] && !has_address(is, was->cluster[i]))
			return inet_ntop(AF_INET, &was->cluster[i], ret, INET6_ADDRSTRLEN);
		if (memcmp(was->cluster6[i], none, sizeof(none)) != 0 &&
			!has_address6(is, was->cluster6[i]))
			return inet_ntop(AF_INET6, was->cluster6[i], ret, INET6_ADDRSTRLEN);
	}
	return false;
}

static unsigned int modulus_of(const struct espalier_settings *s)
{
	return (unsigned int)block_modulus((uint8_t)(s->members - 1));
}

/* What has changed so that the numbers in the guard's map would be others' now. */
static bool find_change(const struct espalier_settings *was, const struct espalier_settings *is,
	char *ret, size_t size)
{
	char address[INET6_ADDRSTRLEN];

	if (was->self != is->self)
		snprintf(ret, size, "Id was %u, is %u", was->self, is->self);
	else if (was->block_bits != is->block_bits)
		snprintf(ret, size, "BlockBits was %u, is %u", was->block_bits, is->block_bits);
	else if (modulus_of(was) != modulus_of(is))
		snprintf(ret, size, "there was room for %u members, is for %u", modulus_of(was),
			modulus_of(is));
	else if (find_lost_address(was, is, address))
		snprintf(ret, size, "Address %s is gone", address);
	else
		return false;
	return true;
}

int datapath_check_earlier(struct bpf_object *object, const char *pin, char *err, size_t err_size)
{
	struct espalier_settings was, is;
	char change[128];
	size_t size;
	const void *ours;
	int r = check_layout(object, err, err_size);

	if (r < 0 || !has_entries(pin, "sas"))
		return r;
	r = earlier_settings(pin, &was);
	if (r == -ENOENT)
		return 0;
	ours = bpf_map__initial_value(settings_map(object), &size);
	memcpy(&is, ours, sizeof(is));
	if (r < 0)
		snprintf(change, sizeof(change), "they are of another version");
	else if (!find_change(&was, &is, change, sizeof(change)))
		return 0;
	snprintf(err, err_size,
		"%s has SAs that are guarded by other settings (%s): put those back, or remove the "
		"cluster's SAs and detach the old programs first",
		pin, change);
	return -EEXIST;
}

int datapath_pin_settings(struct bpf_object *object, const char *pin)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/" DATAPATH_SETTINGS, pin);
	if (unlink(path) < 0 && errno != ENOENT)
		return -errno;
	return bpf_obj_pin(bpf_map__fd(settings_map(object)), path) < 0 ? -errno : 0;
}
