/* SPDX-License-Identifier: BSD-2-Clause */
/* config_check_system(): what only the machine can tell about a configuration. */
#include "config.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config_report.h"
#include "io/dtls.h"
#include "io/interface.h"

#define KEY_FILE_MAX 4096

struct check {
	struct config *config;
	struct config_report report;
	struct ifaddrs *addresses;
};

static int fail(const struct check *check, unsigned int line, int error, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

static int fail(const struct check *check, unsigned int line, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	config_vreport(&check->report, line, format, args);
	va_end(args);
	return -error;
}

/* Opens a file that holds a secret, when nobody but this user and root can have read or put it. */
static int open_secret(const struct check *check, unsigned int line, const char *path)
{
	struct stat st;
	int fd, r;

	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return fail(
			check, line, errno, "cannot open key file %s: %s", path, strerror(errno));
	if (fstat(fd, &st) < 0)
		r = fail(check, line, errno, "cannot stat key file %s: %s", path, strerror(errno));
	else if (!S_ISREG(st.st_mode))
		r = fail(check, line, EINVAL, "key file %s is not a regular file: name one", path);
	else if (st.st_uid != 0 && st.st_uid != geteuid())
		r = fail(check, line, EPERM, "key file %s belongs to user %u: chown it to root",
			path, st.st_uid);
	else if (st.st_mode & 077)
		r = fail(check, line, EPERM,
			"key file %s is open to others (mode %04o): chmod it to 0600", path,
			st.st_mode & 07777);
	else if (st.st_size == 0)
		r = fail(check, line, EINVAL, "key file %s is empty: write the key to it", path);
	else
		return fd;
	close(fd);
	return r;
}

static int base64_digit(char c)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *found = c ? strchr(digits, c) : NULL;

	return found ? (int)(found - digits) : -1;
}

static int hex_digit(char c)
{
	return isdigit((unsigned char)c) ? c - '0' : tolower((unsigned char)c) - 'a' + 10;
}

/*
 * Text (no space in it) of hexadecimal digits, else base64 (RFC 4648, padded), to bytes; those that
 * do not fit are counted only. 48 bytes of base64 that happen to be all hexadecimal digits: 2^-98.
 */
static ssize_t decode_psk(const char *text, size_t length, uint8_t *ret, size_t size)
{
	size_t count = 0, padding;
	bool hex = strspn(text, "0123456789abcdefABCDEF") == length;
	unsigned int bits = 0, value = 0;

	for (padding = 0; !hex && padding < 2 && padding < length; padding++)
		if (text[length - 1 - padding] != '=')
			break;
	if (length % (hex ? 2 : 4) != 0)
		return -EINVAL;
	for (size_t i = 0; i < length - padding; i++) {
		int digit = hex ? hex_digit(text[i]) : base64_digit(text[i]);

		if (digit < 0)
			return -EINVAL;
		value = value << (hex ? 4 : 6) | (unsigned int)digit;
		bits += hex ? 4 : 6;
		if (bits < 8)
			continue;
		bits -= 8;
		if (count < size)
			ret[count] = (uint8_t)(value >> bits);
		count++;
	}
	return (ssize_t)count;
}

/* Reads all of fd without its white space, so that a key may end in a newline or be wrapped. */
static ssize_t read_text(int fd, char *ret, size_t size)
{
	size_t length = 0, kept = 0;
	ssize_t r;

	while (length < size - 1 && (r = read(fd, ret + length, size - 1 - length)) != 0) {
		if (r < 0)
			return -errno;
		length += (size_t)r;
	}
	for (size_t i = 0; i < length; i++)
		if (!isspace((unsigned char)ret[i]))
			ret[kept++] = ret[i];
	ret[kept] = '\0';
	return (ssize_t)kept;
}

static int read_psk(struct check *check)
{
	struct config *c = check->config;
	unsigned int line = c->line[CONFIG_PSK_FILE];
	char text[KEY_FILE_MAX];
	ssize_t size;
	int fd;

	fd = open_secret(check, line, c->psk_path);
	if (fd < 0)
		return fd;
	size = read_text(fd, text, sizeof(text));
	close(fd);
	if (size >= 0)
		size = decode_psk(text, (size_t)size, c->psk, sizeof(c->psk));
	explicit_bzero(text, sizeof(text));
	if (size == -EINVAL)
		return fail(check, line, EINVAL,
			"key file %s is neither base64 nor hexadecimal: write it with openssl rand "
			"-base64 32",
			c->psk_path);
	if (size < 0)
		return fail(check, line, (int)-size, "cannot read key file %s: %s", c->psk_path,
			strerror((int)-size));
	if (size < CONFIG_PSK_MIN || size > CONFIG_PSK_MAX)
		return fail(check, line, EINVAL,
			"key file %s holds %zd bytes: use %u to %u, as openssl rand -base64 32 "
			"writes them",
			c->psk_path, size, CONFIG_PSK_MIN, CONFIG_PSK_MAX);
	c->psk_size = (size_t)size;
	return 0;
}

static int check_readable(const struct check *check, enum config_key key, const char *path)
{
	if (access(path, R_OK) == 0)
		return 0;
	return fail(check, check->config->line[key], errno, "cannot read %s: %s", path,
		strerror(errno));
}

/* As others will see them. */
static int check_certificates(const struct check *check)
{
	const struct config *c = check->config;
	const struct dtls_config dtls = {
		.cluster = c->name,
		.self = (uint8_t)c->id,
		.address = c->member_sync[c->id],
		.certificate = c->cert_path,
		.private_key = c->key_path,
		.ca = c->ca_path,
	};
	char why[448];

	if (dtls_check(&dtls, why, sizeof(why)) == 0)
		return 0;
	return fail(check, 0, EINVAL, "%s", why);
}

static int check_keys(struct check *check)
{
	const struct config *c = check->config;
	int r;

	if (c->psk_path[0] != '\0')
		return read_psk(check);
	r = open_secret(check, c->line[CONFIG_KEY_FILE], c->key_path);
	if (r < 0)
		return r;
	close(r);
	if ((r = check_readable(check, CONFIG_CERT_FILE, c->cert_path)) < 0 ||
		(r = check_readable(check, CONFIG_CA_FILE, c->ca_path)) < 0)
		return r;
	return check_certificates(check);
}

/* Each is there, and the outer one is no other one, too, whatever its names are. */
static int check_interfaces(const struct check *check)
{
	const struct config *c = check->config;
	const struct {
		enum config_key key;
		const char *side, *name;
	} given[] = {{CONFIG_OUTER, "Outer", c->outer_interface},
		{CONFIG_INNER, "Inner", c->inner_interface},
		{CONFIG_SYNC, "Sync", c->sync_interface}};
	int outer = 0;

	for (unsigned int i = 0; i < sizeof(given) / sizeof(given[0]); i++) {
		unsigned int line = c->line[given[i].key];
		const char *name = given[i].name;
		int index = name[0] ? interface_index(name) : 0;

		if (index == -ENODEV)
			return fail(check, line, ENODEV,
				"interface %s is not there: create it or name another", name);
		if (index < 0)
			return fail(check, line, -index, "cannot look for the interface %s: %s",
				name, strerror(-index));
		if (i == 0)
			outer = index;
		else if (index == outer)
			return fail(check, line, EINVAL,
				"%s %s is the interface of Outer, too: the peers' side needs one "
				"of its own",
				given[i].side, name);
	}
	return 0;
}

static bool same_address(const struct sockaddr *sockaddr, const struct address *address)
{
	if (!sockaddr || sockaddr->sa_family != address->family)
		return false;
	if (address->family == AF_INET)
		return memcmp(&((const struct sockaddr_in *)sockaddr)->sin_addr, address->bytes,
			       sizeof(struct in_addr)) == 0;
	return memcmp(&((const struct sockaddr_in6 *)sockaddr)->sin6_addr, address->bytes,
		       sizeof(struct in6_addr)) == 0;
}

static bool has_address(
	const struct check *check, const char *interface, const struct address *address)
{
	size_t length = strlen(interface);

	for (const struct ifaddrs *a = check->addresses; a; a = a->ifa_next) {
		/* An address with a label: "lo:1" is on lo. */
		if (strncmp(a->ifa_name, interface, length) == 0 &&
			strchr(":", a->ifa_name[length]) && same_address(a->ifa_addr, address))
			return true;
	}
	return false;
}

static int check_address(const struct check *check, unsigned int line, const char *interface,
	const struct address *address)
{
	char text[INET6_ADDRSTRLEN];

	if (has_address(check, interface, address))
		return 0;
	inet_ntop(address->family, address->bytes, text, sizeof(text));
	return fail(check, line, EADDRNOTAVAIL,
		"address %s is not on %s: ip address add %s/%u dev %s", text, interface, text,
		address->family == AF_INET ? 32 : 128, interface);
}

/* This member's own. */
static int check_own_addresses(const struct check *check)
{
	const struct config *c = check->config;
	struct address sync = {.family = AF_INET};
	const struct {
		const struct address *address;
		const char *interface;
	} own[] = {{&sync, c->sync_interface}, {&c->member_outer[c->id], c->outer_interface},
		{&c->member_inner[c->id], c->inner_interface}};
	int r = 0;

	memcpy(sync.bytes, &c->member_sync[c->id], sizeof(c->member_sync[c->id]));
	for (unsigned int i = 0; i < sizeof(own) / sizeof(own[0]) && r == 0; i++)
		if (own[i].address->family)
			r = check_address(
				check, c->member_line[c->id], own[i].interface, own[i].address);
	return r;
}

static int check_cpus(const struct check *check)
{
	const struct config *c = check->config;
	long online = sysconf(_SC_NPROCESSORS_ONLN);

	if (c->cpus == CONFIG_CPUS_ALL || (long)c->cpus <= online)
		return 0;
	return fail(check, c->line[CONFIG_CPUS], EINVAL,
		"Cpus %u is more than this machine has: use at most %ld, or all", c->cpus, online);
}

static int check_cluster_addresses(const struct check *check, const struct config_addresses *list)
{
	for (unsigned int i = 0; i < list->count; i++) {
		int r = check_address(check, list->line[i], "lo", &list->address[i]);

		if (r < 0)
			return r;
	}
	return 0;
}

/* If it is there. */
static int check_kind(const struct check *check, enum config_key key, const char *path, mode_t kind,
	const char *what)
{
	struct stat st;

	if (stat(path, &st) < 0 || (st.st_mode & S_IFMT) == kind)
		return 0;
	return fail(check, check->config->line[key], S_ISDIR(st.st_mode) ? EISDIR : EINVAL,
		"%s %s is %s: name a file%s", what, path,
		S_ISDIR(st.st_mode) ? "a folder" : "something else already",
		S_ISDIR(st.st_mode) ? " in it" : " of its own");
}

static int check_journal(const struct check *check)
{
	const struct config *c = check->config;
	char folder[CONFIG_PATH_SIZE];
	struct stat st;

	memcpy(folder, c->journal_path, sizeof(folder));
	strrchr(folder, '/')[1] = '\0';
	if (stat(folder, &st) < 0)
		return fail(check, c->line[CONFIG_JOURNAL], errno,
			"the journal's folder %s cannot be used (%s): create it", folder,
			strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return fail(check, c->line[CONFIG_JOURNAL], ENOTDIR,
			"the journal's folder %s is not a folder: name another", folder);
	if (access(folder, W_OK | X_OK) < 0)
		return fail(check, c->line[CONFIG_JOURNAL], errno,
			"the journal's folder %s cannot be written to: %s", folder,
			strerror(errno));
	return check_kind(check, CONFIG_JOURNAL, c->journal_path, S_IFREG, "the journal");
}

static int check_all(struct check *check)
{
	const struct config *c = check->config;
	int r;

	if ((r = check_interfaces(check)) < 0 ||
		(r = check_cluster_addresses(check, &c->outer)) < 0 ||
		(r = check_cluster_addresses(check, &c->inner)) < 0 ||
		(r = check_own_addresses(check)) < 0 || (r = check_cpus(check)) < 0 ||
		(r = check_journal(check)) < 0 ||
		(r = check_kind(check, CONFIG_CONTROL, c->control_path, S_IFSOCK,
			 "the control socket")) < 0)
		return r;
	return check_keys(check); /* last: it alone leaves something in the config */
}

int config_check_system(struct config *config, char *err, size_t err_size)
{
	struct check check = {config, {config->path, err, err_size}, NULL};
	int r;

	config->psk_size = 0;
	if (getifaddrs(&check.addresses) < 0)
		return fail(&check, 0, errno, "cannot list this machine's addresses: %s",
			strerror(errno));
	r = check_all(&check);
	freeifaddrs(check.addresses);
	if (r < 0) {
		explicit_bzero(config->psk, sizeof(config->psk));
		config->psk_size = 0;
	}
	return r;
}
