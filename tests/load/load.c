/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * load [-a] COMPILER OBJECT... - does this kernel take the BPF programs as that compiler built
 * them? Each object is loaded with all kinds of settings, since they are constants to the verifier,
 * and attached as the agent does it: XDP in libxdp's dispatcher, alone there and beside another
 * program; the guard at tc egress; tracing programs to what they trace. Prints TAP, one test for
 * each object, and how many instructions the verifier went through at most. Needs root.
 *
 * Some kernels refuse all tracing programs and the dispatcher (EPERM). That is skipped, unless -a
 * says that this kernel takes all.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>
#include <xdp/libxdp.h>

#include "io/datapath_private.h"

#define PASS "build/tests/pass.bpf.o" /* the other program in the dispatcher */
#define LOG_TAIL 3000U

static char folder[] = "/tmp/espalier-load-XXXXXX"; /* a bpffs of our own */
static unsigned int alone, shared; /* interfaces; PASS is on `shared` */
static bool dispatcher; /* the kernel takes one */
static char *verifier_log; /* what libbpf and libxdp said last, on an error the verifier's log */
static char why[512]; /* what failed */

static __attribute__((noreturn, format(printf, 1, 2))) void die(const char *format, ...)
{
	va_list ap;

	printf("Bail out! load: ");
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	printf("\n");
	exit(EXIT_FAILURE);
}

static __attribute__((format(printf, 2, 3))) int failed(int r, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(why, sizeof(why), format, ap);
	va_end(ap);
	return r;
}

/* libbpf passes the whole of the verifier's log in one call. */
static int keep_log(const char *format, va_list ap)
{
	char *text;

	if (vasprintf(&text, format, ap) < 0)
		return 0;
	if (strstr(text, "LOG") || !verifier_log) {
		free(verifier_log);
		verifier_log = text;
	} else
		free(text);
	return 0;
}

static int print_libbpf(enum libbpf_print_level level, const char *format, va_list ap)
{
	return level == LIBBPF_WARN ? keep_log(format, ap) : 0;
}

static int print_libxdp(enum libxdp_print_level level, const char *format, va_list ap)
{
	return level == LIBXDP_WARN ? keep_log(format, ap) : 0;
}

static void forget_log(void)
{
	free(verifier_log);
	verifier_log = NULL;
}

/* The end of the log, as comments. */
static void show_log(void)
{
	char *rest = verifier_log, *line;
	size_t size = rest ? strlen(rest) : 0;

	if (size > LOG_TAIL)
		rest += size - LOG_TAIL;
	while ((line = strsep(&rest, "\n")))
		printf("# %s\n", line);
	forget_log();
}

/*
 * The settings: each two values of two of them meet in some row; the last rows have all that a
 * cluster may have. `attach`: those are attached too.
 */
static const struct variant {
	bool addresses; /* all of them, or none */
	__u8 hash, cpus, members;
	int tunnel; /* family */
	bool attach;
} variants[] = {
	{false, ESPALIER_HASH_PREFIX, 0, 1, 0, true},
	{true, ESPALIER_HASH_MIX, 4, 16, 0, false},
	{true, ESPALIER_HASH_PREFIX, 4, 1, AF_INET, false},
	{false, ESPALIER_HASH_MIX, 0, 16, AF_INET, false},
	{true, ESPALIER_HASH_MIX, 0, 1, AF_INET6, false},
	{false, ESPALIER_HASH_PREFIX, 4, 16, AF_INET6, false},
	{true, ESPALIER_HASH_PREFIX, 4, 16, AF_INET, false},
	{true, ESPALIER_HASH_MIX, 4, 16, AF_INET6, true},
};
#define VARIANTS (sizeof(variants) / sizeof(variants[0]))

static struct espalier_settings settings_of(const struct variant *variant)
{
	struct espalier_settings settings = {.block_bits = 16,
		.misses_per_second = 100,
		.hash = variant->hash,
		.cpus = variant->cpus,
		.members = variant->members,
		.tunnel_family = (__u8)variant->tunnel};

	if (variant->tunnel == AF_INET)
		inet_pton(AF_INET, "198.51.100.1", settings.tunnel);
	else if (variant->tunnel)
		inet_pton(AF_INET6, "2001:db8:1::1", settings.tunnel);
	if (!variant->addresses)
		return settings;
	for (__u8 i = 0; i < ESPALIER_ADDRESSES; i++) {
		settings.cluster[i] = htonl(0xc0000201 + i);
		inet_pton(AF_INET6, "2001:db8::1", settings.cluster6[i]);
		settings.cluster6[i][14] = i;
	}
	settings.netns_cookie = 1;
	settings.sync_address = htonl(0x0aff0001);
	settings.sync_port = htons(4711);
	return settings;
}

static struct bpf_program *program_of(struct bpf_object *object)
{
	return bpf_object__next_program(object, NULL);
}

/* As the agent opens it, but with maps of its own. */
static struct bpf_object *open_object(const char *path, const struct variant *variant)
{
	struct espalier_settings settings = settings_of(variant);
	struct bpf_object *object = bpf_object__open_file(path, NULL);
	struct bpf_map *map;

	if (!object)
		die("cannot open %s: %s", path, strerror(errno));
	bpf_object__for_each_map(map, object)
	{
		if (!bpf_map__is_internal(map))
			bpf_map__set_pin_path(map, NULL);
		else if (bpf_map__set_initial_value(map, &settings, sizeof(settings)) < 0)
			die("%s: its settings have another size", path);
		if (!strcmp(bpf_map__name(map), "cpus"))
			bpf_map__set_max_entries(map, (__u32)libbpf_num_possible_cpus());
	}
	if (bpf_program__type(program_of(object)) == BPF_PROG_TYPE_XDP)
		bpf_program__set_flags(program_of(object), BPF_F_XDP_HAS_FRAGS);
	return object;
}

/* *ret_insns: raised to what the verifier went through, if that is more. */
static int load(const char *path, const struct variant *variant, __u32 *ret_insns)
{
	struct bpf_object *object = open_object(path, variant);
	struct bpf_prog_info info = {};
	__u32 size = sizeof(info);
	int r = bpf_object__load(object);

	if (r < 0)
		failed(r, "cannot be loaded: %s", strerror(-r));
	else if (bpf_obj_get_info_by_fd(bpf_program__fd(program_of(object)), &info, &size) < 0)
		r = failed(-errno, "the kernel says nothing about it: %s", strerror(errno));
	else if (info.verified_insns > *ret_insns)
		*ret_insns = info.verified_insns;
	bpf_object__close(object);
	return r;
}

/* How many programs are in the interface's dispatcher; 0: it has none. */
static int in_dispatcher(unsigned int ifindex)
{
	struct xdp_multiprog *present = xdp_multiprog__get_from_ifindex(ifindex);
	int n;

	if (libxdp_get_error(present))
		return 0;
	n = xdp_multiprog__is_legacy(present) ? 0 : xdp_multiprog__program_count(present);
	xdp_multiprog__close(present);
	return n;
}

/* Beside `others` programs. */
static int attach_xdp(struct bpf_object *object, unsigned int ifindex, int others)
{
	const char *name = bpf_program__name(program_of(object)), *mode;
	struct datapath_place place;
	char err[256];
	int r = datapath_attach_xdp(object, name, ifindex, &place, &mode, err, sizeof(err));

	if (r < 0)
		return failed(r, "%s", err);
	if (dispatcher && in_dispatcher(ifindex) != 1 + others)
		r = failed(
			-EINVAL, "attached (%s), but not in a dispatcher of %d", mode, 1 + others);
	if (datapath_attach_xdp_remove(name, ifindex) < 0 && r == 0)
		r = failed(-EINVAL, "cannot be detached");
	return r;
}

static int attach_tc(struct bpf_object *object)
{
	struct datapath_place place;
	char err[256];
	int r = bpf_object__load(object);

	if (r < 0)
		return failed(r, "cannot be loaded: %s", strerror(-r));
	r = datapath_attach_tc(object, alone, &place, err, sizeof(err));
	if (r < 0)
		return failed(r, "%s", err);
	r = datapath_attach_tc_remove(alone);
	return r < 0 ? failed(r, "cannot be detached: %s", strerror(-r)) : 0;
}

static int attach_tracing(struct bpf_object *object)
{
	struct bpf_link *link = NULL;
	int r = datapath_attach_tracing(object, &link);

	bpf_link__destroy(link);
	return r < 0 ? failed(r, "cannot be attached: %s", strerror(-r)) : 0;
}

static int attach(const char *path, const struct variant *variant)
{
	struct bpf_object *object = open_object(path, variant);
	enum bpf_prog_type type = bpf_program__type(program_of(object));
	int r;

	switch (type) {
	case BPF_PROG_TYPE_XDP:
		r = attach_xdp(object, alone, 0);
		if (!dispatcher || r < 0)
			break;
		bpf_object__close(object);
		object = open_object(path, variant);
		r = attach_xdp(object, shared, 1);
		break;
	case BPF_PROG_TYPE_SCHED_CLS:
		r = attach_tc(object);
		break;
	case BPF_PROG_TYPE_TRACING:
		r = attach_tracing(object);
		break;
	default:
		die("%s: a program of another type: say here how it is attached", path);
	}
	bpf_object__close(object);
	return r;
}

/* With all settings. *ret_variant: if not 0 is returned, those that failed. */
static int try_object(const char *path, __u32 *ret_insns, const struct variant **ret_variant)
{
	for (const struct variant *variant = variants; variant < variants + VARIANTS; variant++) {
		int r;

		forget_log();
		r = load(path, variant, ret_insns);
		if (r == 0 && variant->attach)
			r = attach(path, variant);
		if (r < 0) {
			*ret_variant = variant;
			return r;
		}
	}
	return 0;
}

static bool is_tracing(const char *path)
{
	struct bpf_object *object = open_object(path, variants);
	bool tracing = bpf_program__type(program_of(object)) == BPF_PROG_TYPE_TRACING;

	bpf_object__close(object);
	return tracing;
}

/* Prints its line. Returns whether it failed. */
static bool test(const char *compiler, const char *path, bool all, int number)
{
	const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
	struct utsname kernel;
	__u32 insns = 0;
	const struct variant *failing;
	int r;

	uname(&kernel);
	r = try_object(path, &insns, &failing);
	if (r == -EPERM && !all && is_tracing(path)) {
		printf("ok %d - %s, %s, kernel %s # skip the kernel refuses tracing programs\n",
			number, name, compiler, kernel.release);
		return false;
	}
	printf("%s %d - %s, %s, kernel %s\n", r < 0 ? "not ok" : "ok", number, name, compiler,
		kernel.release);
	if (r < 0) {
		printf("# with the settings of row %d: %s\n", (int)(failing - variants), why);
		show_log();
	} else
		printf("# %s, %s, kernel %s: %u instructions verified\n", name, compiler,
			kernel.release, insns);
	return r < 0;
}

/* Puts PASS on `shared`; a kernel without dispatchers gets it off again. */
static void try_dispatcher(void)
{
	struct xdp_program *pass = xdp_program__open_file(PASS, "xdp", NULL);

	if (libxdp_get_error(pass))
		die("cannot open %s: make tests builds it", PASS);
	if (xdp_program__attach(pass, (int)shared, XDP_MODE_NATIVE, 0) < 0)
		die("cannot attach %s to a veth", PASS);
	dispatcher = in_dispatcher(shared) == 1;
	if (!dispatcher)
		xdp_program__detach(pass, (int)shared, XDP_MODE_NATIVE, 0);
	xdp_program__close(pass);
}

/* Namespaces and a bpffs that end with this process. */
static void set_up(void)
{
	if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0)
		die("cannot make namespaces: %s: run it as root", strerror(errno));
	if (mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || !mkdtemp(folder) ||
		mount("bpf", folder, "bpf", 0, NULL) < 0)
		die("cannot mount a bpffs: %s", strerror(errno));
	setenv(XDP_BPFFS_ENVVAR, folder, true);
	if (system("for i in alone shared; do ip link add $i type veth peer name $i-peer && "
		   "ip link set $i up && ip link set $i-peer up || exit 1; done"))
		die("cannot make veth pairs");
	alone = if_nametoindex("alone");
	shared = if_nametoindex("shared");
	libbpf_set_print(print_libbpf);
	libxdp_set_print(print_libxdp);
	try_dispatcher();
}

int main(int argc, char **argv)
{
	bool all = argc > 1 && !strcmp(argv[1], "-a");
	char **objects = argv + 2 + all;
	int n = argc - 2 - all, bad = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (n < 1)
		die("usage: load [-a] COMPILER OBJECT...");
	set_up();
	if (!dispatcher && all)
		die("this kernel takes no dispatcher: %s", verifier_log ? verifier_log : "");
	printf("# XDP: %s\n",
		dispatcher ? "in libxdp's dispatcher" : "attached alone, no dispatcher");
	for (int i = 0; i < n; i++)
		bad += test(argv[1 + all], objects[i], all, i + 1);
	printf("1..%d\n", n);
	forget_log();
	umount(folder);
	rmdir(folder);
	return bad ? EXIT_FAILURE : EXIT_SUCCESS;
}
