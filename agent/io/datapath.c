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

/* Where the XDP programs go. */
static const enum datapath_program side_program[DATAPATH_SIDES] = {[DATAPATH_OUTER] = PROGRAM_STEER,
	[DATAPATH_INNER] = PROGRAM_CLEAR,
	[DATAPATH_SYNC] = PROGRAM_SYNC};
const char *const datapath_side_names[DATAPATH_SIDES] = {"outer", "inner", "sync"};

static const char *const map_names[] = {"view", "members", "sas", "counters", "selectors", "pins",
	"interfaces", "cpus", "reasons", "wake", "sync", "carriers", "proofs", DATAPATH_SETTINGS};

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
			r = find_interface(
				&d->config, side, d->guards.side[side].name, err, err_size);
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

static int attach_side(struct datapath *d, enum datapath_side side, char *err, size_t err_size)
{
	enum datapath_program program = side_program[side];
	struct bpf_object *object;
	int r;

	d->xdp_mode[side] = "none";
	if (!d->config.ifindex[side])
		return 0;
	object = datapath_program_open(&d->config, program);
	if (!object)
		return fail(
			-errno, err, err_size, "cannot open the BPF programs: %s", strerror(errno));
	r = datapath_attach_xdp(object, datapath_program_name(program), d->config.ifindex[side],
		&d->xdp[side], &d->xdp_mode[side], err, err_size);
	bpf_object__close(object);
	return r;
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

int datapath_look_xdp(
	struct datapath *d, enum datapath_side side, uint32_t *program, char *err, size_t err_size)
{
	const char *name = datapath_program_name(side_program[side]);
	unsigned int ifindex = d->config.ifindex[side];
	uint32_t there = 0;
	int r;

	if (bpf_xdp_query_id((int)ifindex, 0, &there) == 0 && there && there == *program)
		return 0;
	if (*program && there && datapath_has_xdp(name, ifindex)) { /* others' came or went */
		*program = there;
		return 0;
	}
	if (d->xdp[side].before >= 0)
		close(d->xdp[side].before);
	d->xdp[side] = (struct datapath_place){.before = -1};
	r = attach_side(d, side, err, err_size);
	if (r == 0)
		r = datapath_attach_xdp_keep(name, ifindex, &d->xdp[side]);
	if (r < 0)
		return r;
	(void)bpf_xdp_query_id((int)ifindex, 0, program);
	return 1;
}

/* A tracing program, if it is wanted. Never an error: the cluster works without; `why` says so. */
static void attach_tracing(struct datapath *d, enum datapath_program program, bool wanted,
	struct datapath_tracing *ret)
{
	struct bpf_object *object;
	int r;

	if (!wanted) {
		snprintf(ret->why, sizeof(ret->why), "not wanted");
		return;
	}
	object = datapath_program_open(&d->config, program);
	r = object ? datapath_attach_tracing(object, &ret->link) : -errno;
	if (r < 0)
		snprintf(ret->why, sizeof(ret->why), "the kernel refuses %s: %s",
			program == PROGRAM_MISS ? "fentry" : "fexit", strerror(-r));
	bpf_object__close(object);
}

int datapath_attach(struct datapath *d, char *err, size_t err_size)
{
	int r;

	datapath_fill_cpus(d);
	r = datapath_guard_begin(d, err, err_size);
	for (int side = 0; r == 0 && side < DATAPATH_SIDES; side++)
		r = attach_side(d, side, err, err_size);
	if (r < 0)
		return r;
	attach_tracing(d, PROGRAM_COUNT, d->config.fexit, &d->count);
	attach_tracing(d, PROGRAM_MISS, d->config.misses_per_second > 0, &d->miss);
	attach_tracing(d, PROGRAM_OUTPUT, true, &d->output);
	return 0;
}

static void watch_side(struct datapath *d, enum datapath_side side)
{
	struct datapath_watched *watched = &d->guards.side[side];

	watched->ifindex = d->config.ifindex[side];
	if (watched->ifindex)
		(void)bpf_xdp_query_id((int)watched->ifindex, 0, &watched->program);
}

/* Where the link would be pinned, something of an earlier agent may be. */
static void keep_tracing(
	const struct datapath *d, enum datapath_program program, const struct bpf_link *link)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", d->pin, datapath_program_link(program));
	(void)unlink(path);
	/* without a pin it ends with this process, as it should when the kernel has no room */
	if (link)
		(void)bpf_obj_pin(bpf_link__fd(link), path);
}

static struct datapath_map_ids pinned_maps(const char *pin)
{
	struct datapath_map_ids maps = {0};

	for (size_t i = 0; i < sizeof(map_names) / sizeof(map_names[0]); i++) {
		struct bpf_map_info info = {};
		__u32 size = sizeof(info);
		char path[PATH_MAX];
		int fd;

		snprintf(path, sizeof(path), "%s/%s", pin, map_names[i]);
		fd = bpf_obj_get(path);
		if (fd < 0)
			continue;
		if (bpf_obj_get_info_by_fd(fd, &info, &size) == 0)
			maps.ids[maps.n++] = info.id;
		close(fd);
	}
	return maps;
}

/* What an earlier agent has put on interfaces that are not ours any more; ifindex: by side. */
static int leave_others(const char *pin, const unsigned int ifindex[DATAPATH_SIDES])
{
	const struct datapath_map_ids maps = pinned_maps(pin);
	int first = 0;

	for (int side = 0; side < DATAPATH_SIDES; side++) {
		int r = datapath_attach_xdp_leave(
			datapath_program_name(side_program[side]), &maps, ifindex[side]);

		first = first ?: r;
	}
	return first;
}

int datapath_keep(struct datapath *d)
{
	int first = 0, r;

	d->kept = true;
	for (int side = 0; side < DATAPATH_SIDES; side++) {
		r = d->xdp[side].id
			    ? datapath_attach_xdp_keep(datapath_program_name(side_program[side]),
				      d->config.ifindex[side], &d->xdp[side])
			    : 0;
		first = first ?: r;
		watch_side(d, side);
	}
	r = leave_others(d->pin, d->config.ifindex);
	first = first ?: r;
	datapath_look(d, 0, NULL, NULL);
	keep_tracing(d, PROGRAM_COUNT, d->count.link);
	keep_tracing(d, PROGRAM_MISS, d->miss.link);
	keep_tracing(d, PROGRAM_OUTPUT, d->output.link);
	datapath_trim_cpus(d, d->config.cpus);
	r = datapath_pin_settings(d->object, d->pin);
	d->view->lease_ns = d->config.lease_ns;
	datapath_recount(d);
	return first ?: r;
}

static void remove_pin(const char *pin, const char *name, int *r)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", pin, name);
	if (unlink(path) < 0 && errno != ENOENT && *r == 0)
		*r = -errno;
}

/* What is pinned and empty folders; libxdp's in a namespace, then ours. */
static int remove_pins(const char *pin)
{
	char path[PATH_MAX];
	int r = 0;

	for (int i = 0; i < PROGRAMS; i++)
		if (datapath_program_link(i))
			remove_pin(pin, datapath_program_link(i), &r);
	for (size_t i = 0; i < sizeof(map_names) / sizeof(map_names[0]); i++)
		remove_pin(pin, map_names[i], &r);
	snprintf(path, sizeof(path), "%s/xdp", pin);
	rmdir(path);
	rmdir(pin);
	return r;
}

/* A start that failed: all is to be as it was before. */
static void take_back(struct datapath *d)
{
	for (int side = DATAPATH_SIDES - 1; side >= 0; side--)
		if (d->xdp[side].id)
			datapath_attach_xdp_undo(datapath_program_name(side_program[side]),
				d->config.ifindex[side], &d->xdp[side]);
	datapath_guard_undo(d);
	if (d->first)
		(void)remove_pins(d->pin);
	else if (d->wake)
		datapath_trim_cpus(d, d->cpus_before);
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
	return datapath_lock_interfaces(&d->config, &d->locks, err, err_size);
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
		take_back(d);
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

static int detach(const struct datapath_config *config)
{
	int first = leave_others(config->pin, config->ifindex), r;

	for (int side = 0; side < DATAPATH_SIDES; side++) {
		r = config->ifindex[side]
			    ? datapath_attach_xdp_remove(datapath_program_name(side_program[side]),
				      config->ifindex[side])
			    : 0;
		first = first ?: r;
	}
	r = datapath_guard_remove_all();
	first = first ?: r;
	r = remove_pins(config->pin);
	return first ?: r;
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
		r = datapath_lock_interfaces(config, &locks, err, err_size);
	if (r == 0) {
		r = detach(config);
		if (r < 0)
			fail(r, err, err_size, "cannot remove all programs and maps of %s: %s",
				config->pin, strerror(-r));
	}
	datapath_unlock(&locks);
	return r;
}

const char *datapath_xdp_mode(const struct datapath *d, enum datapath_side side)
{
	return d->xdp_mode[side];
}

static bool is_attached(const struct datapath_tracing *tracing, const char **ret_why)
{
	if (ret_why)
		*ret_why = tracing->why;
	return !tracing->why[0];
}

bool datapath_counts_inbound(const struct datapath *d, const char **ret_why)
{
	return is_attached(&d->count, ret_why);
}

bool datapath_tells_misses(const struct datapath *d, const char **ret_why)
{
	return is_attached(&d->miss, ret_why);
}

bool datapath_guards_nested(const struct datapath *d, const char **ret_why)
{
	return is_attached(&d->output, ret_why);
}
