/* SPDX-License-Identifier: BSD-2-Clause */
#include "config.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>

#include "config_endpoint.h"
#include "config_report.h"
#include "core/member.h"

struct parser {
	struct config config;
	struct config_report report;
	FILE *file;
	unsigned int line; /* of the line read last */
	unsigned int section; /* how many headings so far: tells one [Member] from the next */
	unsigned int member_section;
	int member; /* the id this [Member] began with, or -1 */
	unsigned int failed_line; /* 0: no error so far */
};

struct key {
	const char *section;
	const char *name;
	int (*parse)(struct parser *p, const struct key *key, const char *value);
	size_t offset; /* of the field in struct config */
	unsigned int min, max; /* numbers: the range; text: the size of the field is max */
	const char *const *words; /* words: by their value, NULL ends */
	const char *initial; /* as if written in the file; NULL: no default */
};

static int fail(struct parser *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int fail(struct parser *p, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	config_vreport(&p->report, p->line, format, args);
	va_end(args);
	p->failed_line = p->line;
	return -EINVAL;
}

static void *field(struct parser *p, const struct key *key)
{
	return (char *)&p->config + key->offset;
}

/* strtoul() takes signs and spaces; this takes digits only. */
static int parse_digits(const char *text, unsigned int *ret)
{
	unsigned long value;

	if (text[0] == '\0' || text[strspn(text, "0123456789")] != '\0')
		return -EINVAL;
	errno = 0;
	value = strtoul(text, NULL, 10);
	*ret = errno || value > UINT32_MAX ? UINT32_MAX : (unsigned int)value;
	return 0;
}

static int read_number(struct parser *p, const char *what, const char *value, unsigned int min,
	unsigned int max, unsigned int *ret)
{
	unsigned int number;

	if (parse_digits(value, &number) < 0)
		return fail(p, "%s '%s' is not a number: use %u to %u", what, value, min, max);
	if (number < min || number > max)
		return fail(p, "%s %s is out of range: use %u to %u", what, value, min, max);
	*ret = number;
	return 0;
}

static int parse_number(struct parser *p, const struct key *key, const char *value)
{
	return read_number(p, key->name, value, key->min, key->max, field(p, key));
}

static int parse_id(struct parser *p, const struct key *key, const char *value)
{
	return read_number(p, "member id", value, 0, ESPALIER_MEMBERS - 1, field(p, key));
}

/* A number, or all there are. */
static int parse_cpus(struct parser *p, const struct key *key, const char *value)
{
	if (strcasecmp(value, "all") != 0)
		return parse_number(p, key, value);
	*(unsigned int *)field(p, key) = CONFIG_CPUS_ALL;
	return 0;
}

/* ADDRESS:PORT; or off: port 0. */
static int parse_metrics(struct parser *p, const struct key *key, const char *value)
{
	struct config *c = &p->config;

	c->metrics_port = 0;
	if (strcasecmp(value, "off") == 0 ||
		config_endpoint(value, &c->metrics_address, &c->metrics_port))
		return 0;
	return fail(p,
		"%s '%s' is no address with a port: write it like 127.0.0.1:9742, [::1]:9742, or "
		"off",
		key->name, value);
}

static int fail_duration(struct parser *p, const struct key *key, const char *value, const char *is)
{
	return fail(p, "%s '%s' is %s: use %ums to %us", key->name, value, is, key->min,
		key->max / 1000);
}

/* Milliseconds, seconds or minutes; a number alone is milliseconds. */
static int parse_duration(struct parser *p, const struct key *key, const char *value)
{
	static const struct {
		const char *name;
		unsigned int ms;
	} units[] = {{"", 1}, {"ms", 1}, {"s", 1000}, {"min", 60000}};
	size_t length = strspn(value, "0123456789");
	const char *unit = value + length + strspn(value + length, " \t");
	unsigned int number;
	char digits[256];

	snprintf(digits, sizeof(digits), "%.*s", (int)length, value);
	if (parse_digits(digits, &number) < 0)
		return fail_duration(p, key, value, "not a time");
	for (unsigned int i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		uint64_t ms = (uint64_t)number * units[i].ms;

		if (strcasecmp(unit, units[i].name) != 0)
			continue;
		if (ms < key->min || ms > key->max)
			return fail_duration(p, key, value, "out of range");
		*(unsigned int *)field(p, key) = (unsigned int)ms * 1000;
		return 0;
	}
	return fail_duration(p, key, value, "not a time");
}

static int parse_word(struct parser *p, const struct key *key, const char *value)
{
	for (unsigned int i = 0; key->words[i]; i++) {
		if (strcasecmp(value, key->words[i]) == 0) {
			*(unsigned int *)field(p, key) = i;
			return 0;
		}
	}
	return fail(p, "%s '%s' is unknown: use %s or %s", key->name, value, key->words[0],
		key->words[1]);
}

static int copy_text(struct parser *p, const struct key *key, const char *value)
{
	size_t size = strlen(value) + 1;

	if (size > key->max)
		return fail(
			p, "%s is too long: use at most %u characters", key->name, key->max - 1);
	memcpy(field(p, key), value, size);
	return 0;
}

static int parse_name(struct parser *p, const struct key *key, const char *value)
{
	for (const char *c = value; *c; c++)
		if (!isalnum((unsigned char)*c) && !strchr("-_.", *c))
			return fail(p, "%s '%s' holds '%c': use letters, digits, '-', '_' and '.'",
				key->name, value, *c);
	return copy_text(p, key, value);
}

static int parse_path(struct parser *p, const struct key *key, const char *value)
{
	if (value[0] != '/')
		return fail(p, "%s '%s' is not a full path: let it begin with /", key->name, value);
	return copy_text(p, key, value);
}

static bool is_unicast4(const uint8_t *address)
{
	return address[0] != 0 && address[0] != IN_LOOPBACKNET && address[0] < 0xe0;
}

/* The same on every link, so not fe80::/10 either; an IPv4 address is to be written as one. */
static bool is_unicast6(const struct in6_addr *address)
{
	return !IN6_IS_ADDR_UNSPECIFIED(address) && !IN6_IS_ADDR_LOOPBACK(address) &&
	       !IN6_IS_ADDR_MULTICAST(address) && !IN6_IS_ADDR_LINKLOCAL(address) &&
	       !IN6_IS_ADDR_V4MAPPED(address);
}

static int parse_address(struct parser *p, const char *name, const char *value, struct address *ret)
{
	struct address address = {.family = AF_INET};
	struct in6_addr six;
	bool unicast;

	if (inet_pton(AF_INET, value, address.bytes) == 1) {
		unicast = is_unicast4(address.bytes);
	} else if (inet_pton(AF_INET6, value, &six) == 1) {
		address.family = AF_INET6;
		memcpy(address.bytes, &six, sizeof(six));
		unicast = is_unicast6(&six);
	} else {
		return fail(p,
			"%s '%s' is not an IP address: write it like 192.0.2.1 or 2001:db8::1",
			name, value);
	}
	if (!unicast)
		return fail(p, "%s %s cannot be a host's address%s address", name, value,
			address.family == AF_INET ? ": use a unicast"
						  : " on any link: use a global or unique local");
	*ret = address;
	return 0;
}

static int parse_addresses(struct parser *p, const struct key *key, const char *value)
{
	struct config_addresses *list = field(p, key);
	char text[256], *rest = text, *item;

	snprintf(text, sizeof(text), "%s", value);
	while ((item = strsep(&rest, ","))) {
		item += strspn(item, " \t");
		item[strcspn(item, " \t")] = '\0';
		if (list->count == ESPALIER_ADDRESSES)
			return fail(p, "%s has too many addresses: use at most %u", key->name,
				ESPALIER_ADDRESSES);
		if (parse_address(p, key->name, item, &list->address[list->count]) < 0)
			return -EINVAL;
		list->line[list->count++] = p->line;
	}
	return 0;
}

static int parse_member_id(struct parser *p, const struct key *key, const char *value)
{
	struct config *c = &p->config;
	unsigned int id = 0;

	(void)key;
	if (p->member >= 0)
		return fail(p, "this [Member] has an Id already: begin a new [Member]");
	if (read_number(p, "member id", value, 0, ESPALIER_MEMBERS - 1, &id) < 0)
		return -EINVAL;
	if (c->members >> id & 1)
		return fail(p, "member id %u was given already in line %u: each member has its own",
			id, c->member_line[id]);
	c->members |= 1U << id;
	c->member_line[id] = p->line;
	p->member = (int)id;
	return 0;
}

static int fail_no_id(struct parser *p)
{
	return fail(p, "this [Member] does not begin with its Id: put Id first");
}

/* `given`: this [Member] has had one of that name. */
static int read_member_address(
	struct parser *p, const struct key *key, const char *value, bool given, struct address *ret)
{
	if (given)
		return fail(
			p, "member %d was given its %s already: remove one", p->member, key->name);
	return parse_address(p, key->name, value, ret);
}

static int parse_member_address(struct parser *p, const struct key *key, const char *value)
{
	struct address *address = field(p, key);

	if (p->member < 0)
		return fail_no_id(p);
	address += p->member;
	return read_member_address(p, key, value, address->family != 0, address);
}

static int parse_member_sync(struct parser *p, const struct key *key, const char *value)
{
	struct address address = {0};
	struct in_addr *sync;

	if (p->member < 0)
		return fail_no_id(p);
	sync = &p->config.member_sync[p->member];
	if (read_member_address(p, key, value, sync->s_addr != 0, &address) < 0)
		return -EINVAL;
	if (address.family != AF_INET)
		return fail(p,
			"%s %s is an IPv6 address: the sync channel is IPv4, write an address like "
			"10.255.0.1",
			key->name, value);
	memcpy(sync, address.bytes, sizeof(*sync));
	return 0;
}

static const char *const mode_words[] = {"load-sharing", "hot-standby", NULL};
static const char *const hash_words[] = {"prefix", "mix", NULL};
static const char *const ingress_words[] = {"one", "all", NULL};
static const char *const transport_words[] = {"auto", "udp", NULL};
static const char *const sas_words[] = {"no", "yes", NULL};
static const char *const counters_words[] = {"auto", "events", NULL};

static_assert(ESPALIER_HASH_PREFIX == 0 && ESPALIER_HASH_MIX == 1, "hash_words");
static_assert(sizeof(enum config_mode) == sizeof(unsigned int), "parse_word() stores it so");

#define FIELD(member) offsetof(struct config, member)
#define SIZE(member) 0, sizeof(((struct config *)NULL)->member)
#define SUN_PATH_SIZE sizeof(((struct sockaddr_un *)NULL)->sun_path)

/* clang-format off */
static const struct key keys[CONFIG_KEYS] = {
	[CONFIG_NAME] = {"Cluster", "Name", parse_name, FIELD(name), SIZE(name), NULL, "espalier"},
	[CONFIG_ADDRESS] = {"Cluster", "Address", parse_addresses, FIELD(outer), 0, 0, NULL, NULL},
	[CONFIG_INNER_ADDRESS] = {"Cluster", "InnerAddress", parse_addresses, FIELD(inner), 0, 0, NULL, NULL},
	[CONFIG_MODE] = {"Cluster", "Mode", parse_word, FIELD(mode), 0, 0, mode_words, "load-sharing"},
	[CONFIG_HASH] = {"Cluster", "Hash", parse_word, FIELD(hash), 0, 0, hash_words, "prefix"},
	[CONFIG_INGRESS] = {"Cluster", "Ingress", parse_word, FIELD(ingress), 0, 0, ingress_words, "one"},
	[CONFIG_BLOCK_BITS] = {"Cluster", "BlockBits", parse_number, FIELD(block_bits), 8, 24, NULL, "16"},
	[CONFIG_HEARTBEAT] = {"Cluster", "Heartbeat", parse_duration, FIELD(heartbeat_us), 1, 10000, NULL, "10ms"},
	[CONFIG_DEAD] = {"Cluster", "Dead", parse_number, FIELD(dead_after), MEMBER_DEAD_LEAST, 100, NULL, "3"},
	[CONFIG_SYNC_PORT] = {"Cluster", "SyncPort", parse_number, FIELD(sync_port), 1, 65535, NULL, "6311"},
	[CONFIG_PSK_FILE] = {"Cluster", "PresharedKeyFile", parse_path, FIELD(psk_path), SIZE(psk_path), NULL, NULL},
	[CONFIG_CERT_FILE] = {"Cluster", "CertificateFile", parse_path, FIELD(cert_path), SIZE(cert_path), NULL, NULL},
	[CONFIG_KEY_FILE] = {"Cluster", "PrivateKeyFile", parse_path, FIELD(key_path), SIZE(key_path), NULL, NULL},
	[CONFIG_CA_FILE] = {"Cluster", "CAFile", parse_path, FIELD(ca_path), SIZE(ca_path), NULL, NULL},
	[CONFIG_ID] = {"Interface", "Id", parse_id, FIELD(id), 0, 0, NULL, NULL},
	[CONFIG_OUTER] = {"Interface", "Outer", copy_text, FIELD(outer_interface), SIZE(outer_interface), NULL, NULL},
	[CONFIG_INNER] = {"Interface", "Inner", copy_text, FIELD(inner_interface), SIZE(inner_interface), NULL, NULL},
	[CONFIG_SYNC] = {"Interface", "Sync", copy_text, FIELD(sync_interface), SIZE(sync_interface), NULL, NULL},
	[CONFIG_JOURNAL] = {"Interface", "Journal", parse_path, FIELD(journal_path), SIZE(journal_path), NULL, "/var/lib/espalier/journal"},
	[CONFIG_PIN] = {"Interface", "Pin", parse_path, FIELD(pin_path), SIZE(pin_path), NULL, "/sys/fs/bpf/espalier"},
	[CONFIG_CONTROL] = {"Interface", "Control", parse_path, FIELD(control_path), 0, SUN_PATH_SIZE, NULL, "/run/espalier/control"},
	[CONFIG_TRANSPORT] = {"Interface", "Transport", parse_word, FIELD(transport), 0, 0, transport_words, "auto"},
	[CONFIG_COUNTERS] = {"Interface", "Counters", parse_word, FIELD(counters), 0, 0, counters_words, "auto"},
	[CONFIG_MAX_SAS] = {"Interface", "MaxSAs", parse_number, FIELD(max_sas), 16, 1048576 * 4, NULL, "65536"},
	[CONFIG_AUDIT] = {"Interface", "Audit", parse_duration, FIELD(audit_us), 1000, 3600000, NULL, "60s"},
	[CONFIG_MISSES] = {"Interface", "Misses", parse_number, FIELD(misses_per_second), 1, 100000, NULL, "100"},
	[CONFIG_CPUS] = {"Interface", "Cpus", parse_cpus, FIELD(cpus), 0, CONFIG_CPUS_MAX, NULL, "0"},
	[CONFIG_METRICS] = {"Interface", "Metrics", parse_metrics, 0, 0, 0, NULL, "127.0.0.1:9742"},
	[CONFIG_METRICS_FILE] = {"Interface", "MetricsFile", parse_path, FIELD(metrics_path), SIZE(metrics_path), NULL, NULL},
	[CONFIG_METRICS_SAS] = {"Interface", "MetricsSas", parse_word, FIELD(metrics_sas), 0, 0, sas_words, "no"},
	[CONFIG_MAX_IKES] = {"Interface", "MaxIkeSAs", parse_number, FIELD(max_ikes), 0, 1048576, NULL, "100000"},
	[CONFIG_IKE_COMMIT] = {"Interface", "IkeCommit", parse_duration, FIELD(ike_commit_us), 1, 2000, NULL, "50ms"},
	[CONFIG_MEMBER_ID] = {"Member", "Id", parse_member_id, 0, 0, 0, NULL, NULL},
	[CONFIG_MEMBER_SYNC] = {"Member", "Sync", parse_member_sync, 0, 0, 0, NULL, NULL},
	[CONFIG_MEMBER_OUTER] = {"Member", "Outer", parse_member_address, FIELD(member_outer), 0, 0, NULL, NULL},
	[CONFIG_MEMBER_INNER] = {"Member", "Inner", parse_member_address, FIELD(member_inner), 0, 0, NULL, NULL},
};
/* clang-format on */

static int fail_unknown(struct parser *p, const char *section, const char *name)
{
	char known[256] = "";
	size_t length = 0;

	if (section[0] == '\0')
		return fail(p, "%s stands before any section: begin with [Cluster]", name);
	for (unsigned int i = 0; i < CONFIG_KEYS; i++)
		if (strcasecmp(section, keys[i].section) == 0)
			length += (size_t)snprintf(known + length, sizeof(known) - length, "%s%s",
				length > 0 ? ", " : "", keys[i].name);
	if (length == 0)
		return fail(p, "unknown section [%s]: use [Cluster], [Interface] and [Member]",
			section);
	return fail(p, "unknown key %s in [%s]: use %s", name, section, known);
}

static int set(struct parser *p, enum config_key i, const char *value)
{
	const struct key *key = &keys[i];
	unsigned int *line = &p->config.line[i];

	if (value[0] == '\0')
		return fail(p, "%s has no value: give one or remove the line", key->name);
	if (*line > 0 && i < CONFIG_MEMBER_ID && key->parse != parse_addresses)
		return fail(p, "%s was given already in line %u: remove one", key->name, *line);
	*line = p->line;
	return key->parse(p, key, value);
}

/* inih's callback: not 0 is success. */
static int handle(void *user, const char *section, const char *name, const char *value)
{
	struct parser *p = user;

	if (p->failed_line > 0)
		return 0;
	if (p->member_section != p->section) {
		p->member_section = p->section;
		p->member = -1;
	}
	for (unsigned int i = 0; i < CONFIG_KEYS; i++)
		if (strcasecmp(section, keys[i].section) == 0 &&
			strcasecmp(name, keys[i].name) == 0)
			return set(p, i, value) == 0;
	fail_unknown(p, section, name);
	return 0;
}

/*
 * inih's reader, one line a call, NULL ends. Debian's inih tells its callback neither the line nor
 * that a section began, so both are counted here. Leading space goes, as inih would take it for
 * the continuation of the line before; and `#` begins a comment anywhere.
 */
static char *read_line(char *line, int size, void *user)
{
	struct parser *p = user;
	size_t skip;

	if (p->failed_line > 0 || !fgets(line, size, p->file))
		return NULL;
	p->line++;
	if (!strchr(line, '\n') && !feof(p->file)) {
		fail(p, "the line is too long: use at most %d characters", size - 2);
		return NULL;
	}
	line[strcspn(line, "#")] = '\0';
	skip = strspn(line, " \t");
	memmove(line, line + skip, strlen(line + skip) + 1);
	if (line[0] == '[')
		p->section++;
	return line;
}

static int parse_file(struct parser *p, const char *path)
{
	int line;

	p->file = fopen(path, "re");
	if (!p->file) {
		int error = errno;

		p->line = 0;
		fail(p, "cannot open the configuration: %s", strerror(error));
		return -error;
	}
	line = ini_parse_stream(read_line, p, handle, p);
	if (ferror(p->file)) {
		p->line = 0;
		fail(p, "cannot read the configuration to its end");
		line = -1;
	} else if (line > 0 && (unsigned int)line < p->failed_line) {
		p->failed_line = 0; /* inih goes on after a line it does not understand */
	}
	fclose(p->file);
	if (line < 0)
		return -EIO;
	if (line > 0 && p->failed_line == 0) {
		p->line = (unsigned int)line;
		fail(p, "this is neither a [Section] nor Key = Value: correct the line");
	}
	return p->failed_line > 0 ? -EINVAL : 0;
}

static void set_defaults(struct parser *p)
{
	for (unsigned int i = 0; i < CONFIG_KEYS; i++)
		if (keys[i].initial && p->config.line[i] == 0)
			keys[i].parse(p, &keys[i], keys[i].initial);
}

int config_read(const char *path, struct config *ret, char *err, size_t err_size)
{
	struct parser p = {.report = {path, err, err_size}, .member = -1};
	int r;

	snprintf(p.config.path, sizeof(p.config.path), "%s", path);
	r = parse_file(&p, path);
	if (r < 0)
		return r;
	set_defaults(&p);
	r = config_check(&p.config, &p.report);
	if (r < 0)
		return r;
	*ret = p.config;
	return 0;
}

void config_wipe(struct config *config)
{
	if (config)
		explicit_bzero(config, sizeof(*config));
}
