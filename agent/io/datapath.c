/* SPDX-License-Identifier: BSD-2-Clause */
#include "io/datapath.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <xdp/libxdp.h>

#include "io/datapath_private.h"
#include "io/interface.h"

#define BPFFS "/sys/fs/bpf"

const char *const datapath_side_names[DATAPATH_SIDES] = {"outer", "inner", "sync"};

static __attribute__((format(printf, 4, 5))) int fail(
	int r, char *err, size_t err_size, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(err, err_size, format, ap);
	va_end(ap);
	return r;
}

static int print_nothing(enum libbpf_print_level level, const char *format, va_list ap)
{
	(void)level;
	(void)format;
	(void)ap;
	return 0;
}

static int print_nothing_xdp(enum libxdp_print_level level, const char *format, va_list ap)
{
	(void)level;
	(void)format;
	(void)ap;
	return 0;
}

static int print_all(enum libbpf_print_level level, const char *format, va_list ap)
{
	(void)level;
	return vfprintf(stderr, format, ap);
}

static int print_all_xdp(enum libxdp_print_level level, const char *format, va_list ap)
{
	(void)level;
	return vfprintf(stderr, format, ap);
}

static void set_print(bool debug)
{
	libbpf_set_print(debug ? print_all : print_nothing);
	libxdp_set_print(debug ? print_all_xdp : print_nothing_xdp);
}

/* CAP_BPF alone does not do: to find the programs of an earlier agent takes CAP_SYS_ADMIN. */
static bool may_use_bpf(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
	const uint32_t need = 1U << CAP_SYS_ADMIN | 1U << CAP_NET_ADMIN;

	return syscall(SYS_capget, &header, data) == 0 && (data[0].effective & need) == need;
}

static bool is_bpffs(const char *path)
{
	struct statfs s;

	return statfs(path, &s) == 0 && (unsigned long)s.f_type == BPF_FS_MAGIC;
}

static int find_interface(const struct datapath_config *config, enum datapath_side side,
	char ret_name[static IF_NAMESIZE], char *err, size_t err_size)
{
	unsigned int ifindex = config->ifindex[side];
	int r = interface_name(ifindex, ret_name);

	if (r == 0)
		return 0;
	if (r == -ENODEV)
		return fail(r, err, err_size, "the %s interface (index %u) is not there",
			datapath_side_names[side], ifindex);
	return fail(r, err, err_size, "cannot look for the %s interface (index %u): %s",
		datapath_side_names[side], ifindex, strerror(-r));
}

static int check_machine(char *err, size_t err_size)
{
	if (!may_use_bpf())
		return fail(-EPERM, err, err_size,
			"not allowed to load BPF programs (CAP_BPF): run as root, or with "
			"CAP_SYS_ADMIN and CAP_NET_ADMIN");
	if (access("/sys/kernel/btf/vmlinux", R_OK) < 0)
		return fail(-ENOTSUP, err, err_size,
			"this kernel has no BTF (/sys/kernel/btf/vmlinux): use one that is built "
			"with CONFIG_DEBUG_INFO_BTF=y");
	return 0;
}

static int find_interfaces(struct datapath *d, char *err, size_t err_size)
{
	int r = 0;

	for (int side = 0; r == 0 && side < DATAPATH_SIDES; side++)
		if (d->config.ifindex[side] || side == DATAPATH_OUTER)
			r = find_interface(&d->config, side, d->guards.names[side], err, err_size);
	return r;
}

/* libxdp keeps its dispatchers on the machine's bpffs; a namespace may not have that. */
static void choose_dispatcher_bpffs(const char *pin)
{
	if (!is_bpffs(BPFFS))
		setenv(XDP_BPFFS_ENVVAR, pin, false);
}

static int make_pin_folder(const char *pin, char *err, size_t err_size)
{
	bool made = mkdir(pin, 0700) == 0;

	if (!made && errno != EEXIST)
		return fail(-errno, err, err_size, "cannot make the pin folder %s: %s", pin,
			strerror(errno));
	if (is_bpffs(pin))
		return 0;
	if (made)
		rmdir(pin);
	return fail(-EINVAL, err, err_size,
		"the pin folder %s is not on a bpffs: mount one (mount -t bpf bpf " BPFFS ")", pin);
}

static void *map_memory(struct datapath *d, const char *name)
{
	struct bpf_map *map = bpf_object__find_map_by_name(d->object, name);
	size_t size = (size_t)bpf_map__value_size(map) * bpf_map__max_entries(map);
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(map), 0);

	return p == MAP_FAILED ? NULL : p;
}

static void unmap_memory(struct datapath *d, const char *name, void *p)
{
	struct bpf_map *map;

	if (!p)
		return;
	map = bpf_object__find_map_by_name(d->object, name);
	munmap(p, (size_t)bpf_map__value_size(map) * bpf_map__max_entries(map));
}

static int open_maps(struct datapath *d)
{
	d->view = map_memory(d, "view");
	d->members = map_memory(d, "members");
	d->counters = map_memory(d, "counters");
	if (!d->view || !d->members || !d->counters)
		return -ENOMEM;
	d->sas = bpf_object__find_map_fd_by_name(d->object, "sas");
	d->selectors = bpf_object__find_map_fd_by_name(d->object, "selectors");
	d->pins = bpf_object__find_map_fd_by_name(d->object, "pins");
	d->interfaces = bpf_object__find_map_fd_by_name(d->object, "interfaces");
	d->cpus = bpf_object__find_map_fd_by_name(d->object, "cpus");
	d->reasons = bpf_object__find_map_fd_by_name(d->object, "reasons");
	d->sync = bpf_object__find_map_fd_by_name(d->object, "sync");
	d->wake = ring_buffer__new(
		bpf_object__find_map_fd_by_name(d->object, "wake"), datapath_on_wake, d, NULL);
	if (!d->wake)
		return -errno;
	return 0;
}

/* No owner, no ingress member: what holds until the first view is published. */
static void begin_view(struct espalier_view *view)
{
	if (view->half[view->active & 1].live)
		return;
	for (int i = 0; i < 2; i++) {
		view->half[i].ingress = ESPALIER_NOBODY;
		memset(view->half[i].owner, ESPALIER_NOBODY, sizeof(view->half[i].owner));
	}
}

/* Has an earlier agent been here? */
static bool is_pinned(const char *pin)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/sas", pin);
	return access(path, F_OK) == 0;
}

static const char *advice(int error)
{
	return error == -ENOMEM ? "; give it more memory, or lower MaxSAs" : "";
}

static int load_guard(struct datapath *d, char *err, size_t err_size)
{
	int r;

	d->object = datapath_program_open(&d->config, PROGRAM_GUARD);
	if (!d->object)
		return fail(
			-errno, err, err_size, "cannot open the BPF programs: %s", strerror(errno));
	r = datapath_check_earlier(d->object, d->pin, err, err_size);
	if (r < 0)
		return r;
	r = bpf_object__load(d->object);
	if (r < 0)
		return fail(r, err, err_size, "the kernel does not take the BPF program %s: %s%s",
			datapath_program_name(PROGRAM_GUARD), strerror(-r), advice(r));
	r = open_maps(d);
	if (r < 0)
		return fail(
			r, err, err_size, "cannot use the BPF maps: %s%s", strerror(-r), advice(r));
	begin_view(d->view);
	d->cpus_before = datapath_count_cpus(d);
	return 0;
}

int datapath_load_guard(struct datapath *d, struct bpf_object **ret)
{
	struct bpf_object *object = datapath_program_open(&d->config, PROGRAM_GUARD);
	int r = object ? bpf_object__load(object) : -errno;

	if (r < 0) {
		bpf_object__close(object);
		return r;
	}
	*ret = object;
	return 0;
}

/* Nothing but the pin folder is made before the locks are there. */
static int take_locks(struct datapath *d, char *err, size_t err_size)
{
	int r = make_pin_folder(d->pin, err, err_size);

	if (r < 0)
		return r;
	r = datapath_lock_pin(d->pin, &d->locks, err, err_size);
	if (r < 0)
		return r;
	d->first = !is_pinned(d->pin);
	return datapath_lock_namespace(&d->locks, err, err_size);
}

static struct datapath *new_datapath(const struct datapath_config *config)
{
	struct datapath *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	d->locks = DATAPATH_NO_LOCKS;
	pthread_mutex_init(&d->guards.lock, NULL);
	d->guard.before = -1;
	for (int side = 0; side < DATAPATH_SIDES; side++)
		d->xdp[side].before = -1;
	d->config = *config;
	d->pin = strdup(config->pin);
	d->config.pin = d->pin;
	if (d->pin)
		return d;
	free(d);
	return NULL;
}

int datapath_open(
	const struct datapath_config *config, struct datapath **ret, char *err, size_t err_size)
{
	struct datapath *d;
	int r;

	if (config->self >= config->members || config->members > ESPALIER_MEMBERS ||
		config->block_bits < 1 || config->block_bits > 31 || !config->max_sas)
		return fail(-EINVAL, err, err_size,
			"the datapath cannot have these settings: member %u of %u, block bits %u, "
			"%u SAs",
			config->self, config->members, config->block_bits, config->max_sas);
	set_print(config->debug);
	r = check_machine(err, err_size);
	if (r < 0)
		return r;
	d = new_datapath(config);
	if (!d)
		return fail(-ENOMEM, err, err_size, "out of memory");
	r = find_interfaces(d, err, err_size);
	if (r == 0)
		r = take_locks(d, err, err_size);
	if (r == 0) {
		choose_dispatcher_bpffs(config->pin);
		r = load_guard(d, err, err_size);
	}
	if (r < 0) {
		datapath_close(d);
		return r;
	}
	*ret = d;
	return 0;
}

bool datapath_is_first(const struct datapath *d)
{
	return d->first;
}

static void close_places(const struct datapath *d)
{
	if (d->guard.before >= 0)
		close(d->guard.before);
	for (int side = 0; side < DATAPATH_SIDES; side++)
		if (d->xdp[side].before >= 0)
			close(d->xdp[side].before);
}

void datapath_close(struct datapath *d)
{
	if (!d)
		return;
	if (!d->kept)
		datapath_take_back(d);
	ring_buffer__free(d->wake);
	unmap_memory(d, "counters", d->counters);
	unmap_memory(d, "members", d->members);
	unmap_memory(d, "view", d->view);
	datapath_guard_free(d);
	bpf_object__close(d->object);
	bpf_link__destroy(d->count.link); /* a pin holds it */
	bpf_link__destroy(d->miss.link);
	bpf_link__destroy(d->output.link);
	close_places(d);
	datapath_unlock(&d->locks);
	free(d->pin);
	free(d);
}

int datapath_detach(const struct datapath_config *config, char *err, size_t err_size)
{
	struct datapath_locks locks = DATAPATH_NO_LOCKS;
	int r;

	set_print(config->debug);
	choose_dispatcher_bpffs(config->pin);
	r = datapath_lock_pin(config->pin, &locks, err, err_size);
	if (r == -ENOENT)
		r = 0;
	if (r == 0)
		r = datapath_lock_namespace(&locks, err, err_size);
	if (r == 0) {
		r = datapath_remove(config);
		if (r < 0)
			fail(r, err, err_size, "cannot remove all programs and maps of %s: %s",
				config->pin, strerror(-r));
	}
	datapath_unlock(&locks);
	return r;
}
