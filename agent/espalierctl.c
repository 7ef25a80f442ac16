/* SPDX-License-Identifier: BSD-2-Clause */
/* espalierctl - shows what an espalierd is doing, and tells it a thing or two: asks its control
 * socket and prints the answer, as text or as JSON. */
#include <errno.h>
#include <getopt.h>
#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "version.h"

#define ANSWER_MAX (1 << 20)
#define PATIENCE_S 3
#define FOLLOW_S 30 /* how long to wait until an order is done */

static void say_silent(void)
{
	fprintf(stderr,
		"espalierctl: espalierd has not answered for %d s: it hangs, or is stopped; kill "
		"it, and start it again\n",
		PATIENCE_S);
}

/* A connection that gives up what takes too long: EAGAIN. */
static int connect_to(const char *path)
{
	const struct timeval patience = {.tv_sec = PATIENCE_S};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof(address.sun_path)) {
		fprintf(stderr, "espalierctl: %s is too long for a socket's path\n", path);
		return -1;
	}
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) == 0 &&
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == 0 &&
		connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	if (errno == EAGAIN)
		say_silent();
	else
		fprintf(stderr, "espalierctl: cannot reach espalierd at %s: %s%s\n", path,
			strerror(errno), errno == EACCES ? " (are you root?)" : " (does it run?)");
	return -1;
}

/* NULL: said why. */
static struct json_object *ask(int fd, const char *request)
{
	static char text[ANSWER_MAX];
	struct json_object *answer, *error;
	ssize_t len = send(fd, request, strlen(request), MSG_NOSIGNAL);

	if (len > 0)
		len = recv(fd, text, sizeof(text) - 1, 0);
	if (len < 0 && errno == EAGAIN) {
		say_silent();
		return NULL;
	}
	if (len <= 0) {
		fprintf(stderr, "espalierctl: espalierd gave no answer\n");
		return NULL;
	}
	text[len] = '\0';
	answer = json_tokener_parse(text);
	if (answer && json_object_object_get_ex(answer, "error", &error)) {
		fprintf(stderr, "espalierctl: %s\n", json_object_get_string(error));
		json_object_put(answer);
		return NULL;
	}
	return answer;
}

static const char *text_of(struct json_object *o, const char *name)
{
	struct json_object *value;

	if (!json_object_object_get_ex(o, name, &value))
		return "-";
	if (json_object_is_type(value, json_type_boolean))
		return json_object_get_boolean(value) ? "yes" : "no";
	return value ? json_object_get_string(value) : "nobody";
}

/* "name: value" for each; "outer.name: value" for what is inside. */
static void print_fields(struct json_object *o, const char *outer)
{
	json_object_object_foreach(o, name, value)
	{
		if (json_object_is_type(value, json_type_object))
			continue; /* print_status() has them */
		if (json_object_is_type(value, json_type_array)) {
			printf("%s%s:", outer, name);
			for (size_t i = 0; i < json_object_array_length(value); i++)
				printf(" %s", json_object_get_string(
						      json_object_array_get_idx(value, i)));
			printf("\n");
		} else {
			printf("%s%s: %s\n", outer, name, text_of(o, name));
		}
	}
}

static void print_members(struct json_object *list)
{
	printf("%-6s  %-17s  %7s  %8s  %-6s  %-7s  %8s  %6s  %6s  %-5s  %-5s  %s\n", "member",
		"state", "buckets", "records", "synced", "session", "heard ms", "queued", "resent",
		"outer", "inner", "sync address");
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *m = json_object_array_get_idx(list, i);
		const char *differs = text_of(m, "differs");
		bool has = *differs && strcmp(differs, "-") != 0;

		printf("%-6s  %-17s  %7s  %8s  %-6s  %-7s  %8s  %6s  %6s  %-5s  %-5s  %s%s%s%s\n",
			text_of(m, "member"), text_of(m, "state"), text_of(m, "buckets"),
			text_of(m, "records"), text_of(m, "synced"), text_of(m, "session"),
			text_of(m, "heard_ms_ago"), text_of(m, "queued"), text_of(m, "resent"),
			text_of(m, "outer_hop"), text_of(m, "inner_hop"),
			text_of(m, "sync_address"),
			strcmp(text_of(m, "self"), "yes") == 0 ? " (this one)" : "",
			has ? ", differs in: " : "", has ? differs : "");
	}
}

static void print_reasons(struct json_object *list)
{
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *o = json_object_array_get_idx(list, i);

		printf("%-18s %12s  %s\n", text_of(o, "reason"), text_of(o, "packets"),
			text_of(o, "meaning"));
	}
}

static void print_sas(struct json_object *list)
{
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *o = json_object_array_get_idx(list, i), *why;
		bool barred = strcmp(text_of(o, "barred"), "yes") == 0;
		bool refused = json_object_object_get_ex(o, "refused", NULL);
		bool unsure = json_object_object_get_ex(o, "pair_unsure", NULL);
		bool lacks = strcmp(text_of(o, "installed"), "yes") != 0;

		if (json_object_object_get_ex(o, "local", &why)) {
			printf("%-10s  %-3s  to %-15s  not copied: %s\n", text_of(o, "spi"),
				text_of(o, "direction"), text_of(o, "destination"),
				json_object_get_string(why));
			continue;
		}
		if (strcmp(text_of(o, "protocol"), "comp") == 0) {
			printf("%-10s  %-3s  to %-15s  IPComp, of all members  %s%s%s\n",
				text_of(o, "spi"), text_of(o, "direction"),
				text_of(o, "destination"), lacks ? "not in the kernel" : "",
				refused ? ", which refuses it: " : "",
				refused ? text_of(o, "refused") : "");
			continue;
		}
		printf("%-10s  %-3s  to %-15s  bucket %-4s  pin %-2s  owner %-6s  seq %-10s  "
		       "%s%s%s%s\n",
			text_of(o, "spi"), text_of(o, "direction"), text_of(o, "destination"),
			text_of(o, "bucket"), text_of(o, "pinned"), text_of(o, "owner"),
			text_of(o, "seq"),
			barred  ? "shut until rekeyed: "
			: lacks ? "not in the kernel"
				: "",
			barred    ? text_of(o, "barred_why")
			: refused ? ", which refuses it: "
				  : "",
			refused && !barred ? text_of(o, "refused") : "",
			unsure ? " (its inbound SA cannot be told: one reqid for several)" : "");
	}
}

static void print_policies(struct json_object *list)
{
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *o = json_object_array_get_idx(list, i), *why;

		if (json_object_object_get_ex(o, "local", &why))
			printf("%s (not copied: %s)\n", text_of(o, "policy"),
				json_object_get_string(why));
		else
			printf("%s (made by member %s%s)\n", text_of(o, "policy"),
				text_of(o, "made_by"),
				strcmp(text_of(o, "installed"), "yes") == 0
					? ""
					: ", not in the kernel");
	}
}

static void print_ikes(struct json_object *list)
{
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *o = json_object_array_get_idx(list, i);

		printf("%s_%s  owner %-6s  holder %-6s  %-12s  %s Child SAs  changed %s s ago%s\n",
			text_of(o, "initiator_spi"), text_of(o, "responder_spi"),
			text_of(o, "owner"), text_of(o, "holder"), text_of(o, "state"),
			text_of(o, "children"), text_of(o, "changed_s_ago"),
			strcmp(text_of(o, "unsure"), "yes") == 0
				? " (unsure: the peer may have seen more)"
				: "");
	}
}

static void print_owner(struct json_object *o)
{
	struct json_object *list;

	printf("bucket %s, owner %s\n", text_of(o, "bucket"), text_of(o, "owner"));
	if (!json_object_object_get_ex(o, "pinned", &list))
		return;
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *sa = json_object_array_get_idx(list, i);

		printf("but the SA to %s is pinned to member %s, owner %s\n",
			text_of(sa, "destination"), text_of(sa, "pinned"), text_of(sa, "owner"));
	}
}

static void print_ike_config(struct json_object *list)
{
	printf("# For strongswan.conf: what a member's IKE daemon negotiates is that member's own\n"
	       "# then, and needs no pin. Its Child SAs' SPIs are from spi_min to spi_max; its "
	       "IKE\n"
	       "# SPIs are (random & ~spi_mask) | spi_label.\n");
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *m = json_object_array_get_idx(list, i);

		printf("\n# member %s\n"
		       "charon {\n"
		       "\tspi_min = %s\n\tspi_max = %s\n"
		       "\tspi_label = %s\n\tspi_mask = %s\n"
		       "}\n",
			text_of(m, "member"), text_of(m, "spi_min"), text_of(m, "spi_max"),
			text_of(m, "spi_label"), text_of(m, "spi_mask"));
	}
}

/* In local time. */
static void print_events(struct json_object *list)
{
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *o = json_object_array_get_idx(list, i);
		uint64_t at_ms = strtoull(text_of(o, "at_ms"), NULL, 10);
		time_t at = (time_t)(at_ms / 1000);
		struct tm tm;
		char when[32] = "";

		if (localtime_r(&at, &tm))
			(void)strftime(when, sizeof(when), "%F %T", &tm);
		printf("%s.%03u  %-8s  %s\n", when, (unsigned int)(at_ms % 1000),
			text_of(o, "event"), text_of(o, "text"));
	}
}

static void print_adopted(struct json_object *o)
{
	printf("%s SAs are adopted\n", text_of(o, "adopted"));
}

static void print_order(struct json_object *o)
{
	if (json_object_object_get_ex(o, "from", NULL))
		printf("member %s hands all over to member %s\n", text_of(o, "from"),
			text_of(o, "member"));
	else
		printf("member %s is told\n", text_of(o, "member"));
}

static void print_status(struct json_object *o)
{
	struct json_object *inside;

	print_fields(o, "");
	if (json_object_object_get_ex(o, "catching_up", &inside))
		print_fields(inside, "catching_up.");
	if (json_object_object_get_ex(o, "sync", &inside))
		print_fields(inside, "sync.");
	if (json_object_object_get_ex(o, "datapath", &inside))
		print_fields(inside, "datapath.");
	if (json_object_object_get_ex(o, "ike", &inside))
		print_fields(inside, "ike.");
}

/* All pages of a list. */
static struct json_object *ask_all(int fd, const char *command, const char *name)
{
	struct json_object *all = json_object_new_array(), *page, *list, *next;
	char request[32];

	snprintf(request, sizeof(request), "%s 0", command);
	while ((page = ask(fd, request))) {
		bool more = json_object_object_get_ex(page, "next", &next);

		if (json_object_object_get_ex(page, name, &list))
			for (size_t i = 0; i < json_object_array_length(list); i++)
				json_object_array_add(
					all, json_object_get(json_object_array_get_idx(list, i)));
		if (more)
			snprintf(request, sizeof(request), "%s %s", command,
				json_object_get_string(next));
		json_object_put(page);
		if (!more)
			return all;
	}
	json_object_put(all);
	return NULL;
}

static struct json_object *ask_for(int fd, const char *command, const char *argument)
{
	char request[64];

	if (strcmp(command, "sa") == 0)
		return ask_all(fd, command, "sas");
	if (strcmp(command, "ike") == 0)
		return ask_all(fd, command, "ikes");
	if (strcmp(command, "policy") == 0)
		return ask_all(fd, command, "policies");
	snprintf(request, sizeof(request), "%s%s%s", command, *argument ? " " : "", argument);
	return ask(fd, request);
}

static struct json_object *of_member(struct json_object *members, int id)
{
	for (size_t i = 0; i < json_object_array_length(members); i++) {
		struct json_object *m = json_object_array_get_idx(members, i), *value;

		if (json_object_object_get_ex(m, "member", &value) &&
			json_object_get_int(value) == id)
			return m;
	}
	return NULL;
}

/* How far it is, in `text`. 1: done, 0: not yet, -1: said why. */
static int look(int fd, const char *command, int id, char *text, size_t size)
{
	struct json_object *members = ask(fd, "members"), *m, *status, *awaits;
	bool owns, drained, done;

	if (!members)
		return -1;
	m = of_member(members, id);
	owns = strcmp(text_of(m, "buckets"), "0") != 0;
	drained = strcmp(text_of(m, "drained"), "yes") == 0;
	/* who is not able to own anything now is not waited for */
	done = strcmp(command, "drain") == 0 ? drained && !owns
	       : strcmp(command, "undrain") == 0
		       ? !drained && (owns || strcmp(text_of(m, "state"), "standby") != 0)
		       : owns;
	snprintf(text, size, "member %d: %s, %s buckets", id, text_of(m, "state"),
		text_of(m, "buckets"));
	json_object_put(members);
	status = ask(fd, "status");
	if (!status)
		return -1;
	if (json_object_object_get_ex(status, "handover_awaits", &awaits) &&
		json_object_array_length(awaits)) {
		size_t len = strlen(text);

		snprintf(text + len, size - len, "; waiting until these members are ready: %s",
			json_object_get_string(awaits));
	}
	json_object_put(status);
	return done;
}

/* Shows how far an order is, until it is done. In hot standby a standby owns nothing for good. */
static int follow(int fd, const char *command, struct json_object *order, bool quiet)
{
	struct json_object *member = NULL;
	char text[256], last[256] = "";
	int done = 0, id;

	json_object_object_get_ex(order, "member", &member);
	id = json_object_get_int(member);
	for (unsigned int looks = 0; !done && looks < FOLLOW_S * 10; looks++) {
		if (looks)
			usleep(100000);
		done = look(fd, command, id, text, sizeof(text));
		if (done >= 0 && !quiet && strcmp(text, last) != 0)
			printf("%s\n", text);
		fflush(stdout);
		snprintf(last, sizeof(last), "%s", text);
	}
	if (done > 0)
		return EXIT_SUCCESS;
	if (done == 0)
		fprintf(stderr,
			"espalierctl: not done within %d s (%s); the order holds, and is followed "
			"when it can be\n",
			FOLLOW_S, text);
	return EXIT_FAILURE;
}

static int usage(FILE *to)
{
	fprintf(to,
		"usage: espalierctl [--json] [--socket PATH] [--no-wait] COMMAND\n"
		"       espalierctl --version\n"
		"  status      this member: view, state, sync channel, datapath\n"
		"  members     all members, as this one sees them\n"
		"  sa          the SAs, who owns them, and their sequence blocks\n"
		"  policy      the policies, who made them, and which are not copied\n"
		"  ike         the IKE SAs, whose they are, and which daemon has them\n"
		"  owner SPI   which member owns the bucket of this SPI, or has it pinned\n"
		"  adopt SPI   you vouch for SAs that are shut since their past is unknown\n"
		"              (past-unknown): nobody but this machine has sent for them;\n"
		"              adopt all: for all of them\n"
		"  drain ID    that member is to own nothing, until undrain ID: the others take\n"
		"              its SAs over without loss; it stays a standby\n"
		"  undrain ID  it is to own its share again\n"
		"  failover    hot standby: the next member is to own all\n"
		"              (--no-wait: without waiting until it is done)\n"
		"  reasons     packets by what became of them\n"
		"  events      what happened of late: views, takeovers, SAs shut, repairs\n"
		"  ike-config  for strongswan.conf: the SPIs that each member is to draw\n");
	return to == stdout ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"json", no_argument, NULL, 'j'},
		{"socket", required_argument, NULL, 's'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{"no-wait", no_argument, NULL, 'n'},
		{0},
	};
	static const struct {
		const char *name;
		int arguments;
		void (*print)(struct json_object *);
	} commands[] = {
		{"status", 0, print_status},
		{"members", 0, print_members},
		{"sa", 0, print_sas},
		{"policy", 0, print_policies},
		{"ike", 0, print_ikes},
		{"owner", 1, print_owner},
		{"adopt", 1, print_adopted},
		{"drain", 1, print_order},
		{"undrain", 1, print_order},
		{"failover", 0, print_order},
		{"reasons", 0, print_reasons},
		{"events", 0, print_events},
		{"ike-config", 0, print_ike_config},
	};
	const char *path = "/run/espalier/control";
	struct json_object *answer;
	bool json = false, wait = true;
	int option, fd, r = EXIT_SUCCESS;
	size_t i;

	while ((option = getopt_long(argc, argv, "hV", options, NULL)) != -1) {
		if (option == 'j')
			json = true;
		else if (option == 's')
			path = optarg;
		else if (option == 'V')
			return puts("espalierctl " ESPALIER_VERSION) < 0;
		else if (option == 'n')
			wait = false;
		else
			return usage(option == 'h' ? stdout : stderr);
	}
	for (i = 0; i < sizeof(commands) / sizeof(*commands); i++)
		if (optind < argc && strcmp(argv[optind], commands[i].name) == 0 &&
			argc - optind - 1 == commands[i].arguments)
			break;
	if (i == sizeof(commands) / sizeof(*commands))
		return usage(stderr);
	fd = connect_to(path);
	if (fd < 0)
		return EXIT_FAILURE;
	answer = ask_for(fd, commands[i].name, commands[i].arguments ? argv[optind + 1] : "");
	if (!answer)
		return EXIT_FAILURE;
	if (json)
		printf("%s\n", json_object_to_json_string_ext(answer, JSON_C_TO_STRING_PRETTY));
	else
		commands[i].print(answer);
	if (wait && commands[i].print == print_order)
		r = follow(fd, commands[i].name, answer, json);
	json_object_put(answer);
	close(fd);
	return r;
}
