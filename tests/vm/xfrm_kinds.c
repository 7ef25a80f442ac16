/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * xfrm_kinds.c - each kind of SA and policy of kinds.sh, built in one kernel, is the same in
 * another, field by field. Prints TAP, one test a kind.
 *
 *   xfrm_kinds                  two network namespaces of its own, the XFRM adapter between them
 *   xfrm_kinds compare A B      compares what is in two network namespaces by name
 *
 * Needs ESP and root; is run in the project's folder.
 */
#include "xfrm_compare.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include "io/xfrm.h"

#define SCRIPT "tests/vm/kinds.sh"
#define KINDS 128
#define RECORDS 512

struct kind {
	char name[80];
	uint32_t reqid;
	unsigned int lines; /* as many SAs and policies */
};

static struct kind kinds[KINDS];
static unsigned int n_kinds, n_tests, n_failed;

struct copy {
	struct xfrm_record record;
	uint8_t body[RECORD_BODY_MAX];
};

/* What one member's adapter tells. */
static struct copy copies[RECORDS];
static unsigned int n_copies;

__attribute__((noreturn)) static void give_up(const char *what)
{
	printf("Bail out! %s: %s\n", what, strerror(errno));
	exit(2);
}

static void verdict(bool good, const char *what)
{
	n_failed += !good;
	printf("%sok %u - %s\n", good ? "" : "not ", ++n_tests, what);
}

/* A comment is the name of the lines that follow it. */
static void read_kinds(void)
{
	FILE *script = popen(SCRIPT, "r");
	char *line = NULL;
	size_t size = 0;

	if (!script)
		give_up(SCRIPT);
	while (getline(&line, &size, script) > 0) {
		struct kind *k = &kinds[n_kinds - 1];
		const char *reqid = strstr(line, " reqid ");
		const char *number = reqid ? reqid : strstr(line, " priority ");

		if (line[0] == '#' && n_kinds < KINDS) {
			k = &kinds[n_kinds++];
			snprintf(k->name, sizeof(k->name), "%.*s", (int)strcspn(line, "\n") - 2,
				line + 2);
		} else if (n_kinds > 0 && number) {
			k->reqid = (uint32_t)strtoul(strpbrk(number, "0123456789"), NULL, 10);
			k->lines++;
		}
	}
	free(line);
	if (pclose(script) != 0 || n_kinds == 0)
		give_up(SCRIPT);
}

/* A policy that has none has its priority instead. */
static uint32_t reqid_of(const struct shown *s)
{
	const struct nlattr *t = s->attr[XFRMA_TMPL];
	uint32_t reqid = 0;

	if (s->type == XFRM_MSG_NEWSA)
		return ((const struct xfrm_usersa_info *)s->data)->reqid;
	if (t)
		reqid = ((const struct xfrm_user_tmpl *)mnl_attr_get_payload(t))->reqid;
	return reqid ? reqid : ((const struct xfrm_userpolicy_info *)s->data)->priority;
}

static unsigned int count(const struct shown_list *list, uint32_t reqid)
{
	unsigned int n = 0;

	for (size_t i = 0; i < list->n; i++)
		n += reqid_of(list->all[i]) == reqid;
	return n;
}

static void compare_kind(
	const struct kind *k, const struct shown_list *a, const struct shown_list *b)
{
	unsigned int in_a = count(a, k->reqid), in_b = count(b, k->reqid), differences = 0;

	for (size_t i = 0; i < a->n; i++) {
		const struct shown *other;

		if (reqid_of(a->all[i]) != k->reqid)
			continue;
		other = find_shown(b, a->all[i]);
		if (other) {
			differences += compare(a->all[i], other);
		} else {
			differences++;
			print_name(a->all[i]);
			printf(" is not there\n");
		}
	}
	if (in_a != k->lines || in_b != k->lines)
		printf("# %u SAs and policies were told; there are %u and %u\n", k->lines, in_a,
			in_b);
	verdict(differences == 0 && in_a == k->lines && in_b == k->lines, k->name);
}

static void enter(int ns)
{
	if (setns(ns, CLONE_NEWNET) < 0)
		give_up("entering a network namespace");
}

static void compare_namespaces(int ns_a, int ns_b)
{
	struct shown_list a, b;

	enter(ns_a);
	show(&a);
	enter(ns_b);
	show(&b);
	for (unsigned int i = 0; i < n_kinds; i++)
		compare_kind(&kinds[i], &a, &b);
	shown_free(&a);
	shown_free(&b);
}

static void on_added(void *ctx, const struct xfrm_record *record)
{
	struct copy *c = &copies[n_copies];

	(void)ctx;
	if (n_copies++ == RECORDS)
		give_up("too many SAs and policies");
	c->record = *record;
	memcpy(c->body, record->body, record->body_len);
}

static void on_removed(void *ctx, const struct record_key *key)
{
	(void)ctx;
	(void)key;
}

static void on_flushed(void *ctx, enum record_kind kind)
{
	(void)ctx;
	(void)kind;
}

static void on_overrun(void *ctx)
{
	(void)ctx;
	give_up("events were lost");
}

static struct xfrm *make_side(int *ret_ns)
{
	static const struct address addresses[] = {
		{AF_INET, {192, 0, 2, 1}},
		{AF_INET6, {0x20, 0x01, 0x0d, 0xb8, 0, 1, [15] = 1}},
	};
	static const struct xfrm_handlers handlers = {
		on_added, on_removed, on_flushed, NULL, on_overrun, NULL, NULL, NULL, NULL};
	const struct xfrm_config config = {addresses, 2};
	struct xfrm *x;

	if (unshare(CLONE_NEWNET) < 0)
		give_up("making a network namespace");
	*ret_ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (*ret_ns < 0 || xfrm_open(&config, &handlers, NULL, &x) < 0)
		give_up("opening XFRM netlink");
	return x;
}

/* All at once. */
static bool install(struct xfrm *x)
{
	static struct record_install list[RECORDS];
	bool good = true;

	for (unsigned int i = 0; i < n_copies; i++)
		list[i] = (struct record_install){&copies[i].record.key, &copies[i].record.facts,
			copies[i].body, copies[i].record.body_len, 0, false, 1, {0}, 0};
	xfrm_install(x, list, n_copies);
	for (unsigned int i = 0; i < n_copies; i++) {
		if (list[i].result == 0)
			continue;
		good = false;
		printf("# %s 0x%x: %s\n", list[i].key->kind == RECORD_SA ? "SA" : "policy",
			ntohl(list[i].key->spi), strerror(-list[i].result));
	}
	return good;
}

static void test_adapter(void)
{
	struct xfrm *a, *b;
	int ns_a, ns_b;

	a = make_side(&ns_a);
	b = make_side(&ns_b);
	enter(ns_a);
	if (system(SCRIPT " | ip -batch -") != 0)
		give_up("ip refuses a kind");
	while (n_copies < RECORDS) {
		unsigned int before = n_copies;

		if (xfrm_process(a) < 0)
			give_up("reading events");
		if (n_copies == before)
			break;
	}
	verdict(install(b), "all kinds are told by events, and installed");
	compare_namespaces(ns_a, ns_b);
	verdict(install(b), "all kinds are installed again");
	compare_namespaces(ns_a, ns_b);
	enter(ns_a);
	n_copies = 0;
	if (xfrm_dump(a) < 0)
		give_up("reading all");
	enter(ns_b);
	if (system("ip xfrm state flush && ip xfrm policy flush") != 0)
		give_up("ip cannot flush");
	verdict(install(b), "all kinds are told by a dump, and installed");
	compare_namespaces(ns_a, ns_b);
	xfrm_close(a);
	xfrm_close(b);
}

static int open_namespace(const char *name)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "/run/netns/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		give_up(path);
	return fd;
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	read_kinds();
	if (argc == 4 && strcmp(argv[1], "compare") == 0) {
		compare_namespaces(open_namespace(argv[2]), open_namespace(argv[3]));
	} else if (argc == 1) {
		test_adapter();
	} else {
		fprintf(stderr, "usage: xfrm_kinds [compare NAMESPACE NAMESPACE]\n");
		return 2;
	}
	printf("1..%u\n", n_tests);
	return n_failed ? 1 : 0;
}
