/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The configuration file: whatever is in it, it is either refused with one sentence, and nothing is
 * changed, or all that it gives is within its limits.
 */
#include <arpa/inet.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "config.h"
#include "fuzz.h"

static char path[64]; /* of a file in memory */

static void write_file(const uint8_t *data, size_t size)
{
	static int fd = -1;

	if (fd < 0) {
		fd = memfd_create("espalier.conf", 0);
		REQUIRE(fd >= 0);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	}
	REQUIRE(ftruncate(fd, 0) == 0);
	REQUIRE(pwrite(fd, data, size, 0) == (ssize_t)size);
}

static void check_sentence(const char *err, size_t size)
{
	size_t len = strnlen(err, size), prefix = strlen(path);

	REQUIRE(len < size - 1); /* not cut off */
	REQUIRE(strncmp(err, path, prefix) == 0 && err[prefix] == ':');
	REQUIRE(len > prefix + 10);
	REQUIRE(!strchr(err, '\n'));
}

static void check_text(const char *text, size_t size, bool path_or_none)
{
	REQUIRE(strnlen(text, size) < size);
	REQUIRE(!path_or_none || text[0] == '/' || text[0] == '\0');
}

static void check_addresses(const struct config_addresses *list)
{
	static const struct config_addresses none;

	REQUIRE(list->count <= ESPALIER_ADDRESSES);
	for (unsigned int i = 0; i < list->count; i++) {
		const struct address *a = &list->address[i];

		REQUIRE(a->family == AF_INET || a->family == AF_INET6);
		REQUIRE(a->family == AF_INET6 || memcmp(a->bytes + 4, none.address, 12) == 0);
		REQUIRE(memcmp(a->bytes, none.address, sizeof(a->bytes)) != 0);
		REQUIRE(list->line[i] > 0);
		for (unsigned int j = 0; j < i; j++)
			REQUIRE(memcmp(a, &list->address[j], sizeof(*a)) != 0);
	}
	REQUIRE(memcmp(&list->address[list->count], none.address,
			(ESPALIER_ADDRESSES - list->count) * sizeof(list->address[0])) == 0);
}

/* No two alike; all members have one of this family, or none has. */
static void check_side(const struct config *c, const struct address *address)
{
	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++) {
		REQUIRE(c->members >> id & 1 ? address[id].family == address[c->id].family
					     : address[id].family == 0);
		for (unsigned int other = 0; other < id; other++)
			REQUIRE(address[id].family == 0 ||
				memcmp(&address[id], &address[other], sizeof(*address)) != 0);
	}
}

static void check_members(const struct config *c)
{
	REQUIRE(c->members < 1U << ESPALIER_MEMBERS && c->members >> c->id & 1);
	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++) {
		REQUIRE(!(c->members >> id & 1) == (c->member_sync[id].s_addr == 0));
		for (unsigned int other = 0; other < id; other++)
			REQUIRE(c->member_sync[id].s_addr == 0 ||
				c->member_sync[id].s_addr != c->member_sync[other].s_addr);
	}
	check_side(c, c->member_outer);
	check_side(c, c->member_inner);
}

#define IN_RANGE(value, min, max) REQUIRE((value) >= (min) && (value) <= (max))

static void check(const struct config *c)
{
	check_text(c->name, sizeof(c->name), false);
	REQUIRE(c->outer.count > 0);
	check_addresses(&c->outer);
	check_addresses(&c->inner);
	REQUIRE(c->mode <= CONFIG_HOT_STANDBY && c->hash <= ESPALIER_HASH_MIX);
	IN_RANGE(c->block_bits, 8, 24);
	IN_RANGE(c->heartbeat_us, 1000, 10000000);
	IN_RANGE(c->dead_after, 3, 100);
	IN_RANGE(c->sync_port, 1, 65535);
	check_text(c->psk_path, sizeof(c->psk_path), true);
	check_text(c->cert_path, sizeof(c->cert_path), true);
	check_text(c->key_path, sizeof(c->key_path), true);
	check_text(c->ca_path, sizeof(c->ca_path), true);
	REQUIRE(!c->psk_path[0] == (c->cert_path[0] && c->key_path[0] && c->ca_path[0]));
	REQUIRE(c->psk_size == 0);
	REQUIRE(c->id < ESPALIER_MEMBERS);
	check_text(c->outer_interface, sizeof(c->outer_interface), false);
	check_text(c->inner_interface, sizeof(c->inner_interface), false);
	check_text(c->sync_interface, sizeof(c->sync_interface), false);
	REQUIRE(c->outer_interface[0] && c->sync_interface[0]);
	REQUIRE(c->inner_interface[0] || c->inner.count == 0);
	check_text(c->journal_path, sizeof(c->journal_path), true);
	check_text(c->pin_path, sizeof(c->pin_path), true);
	check_text(c->control_path, sizeof(c->control_path), true);
	REQUIRE(c->journal_path[0] && c->pin_path[0] && c->control_path[0]);
	REQUIRE(c->transport <= CONFIG_TRANSPORT_UDP && c->counters <= CONFIG_COUNTERS_EVENTS);
	IN_RANGE(c->max_sas, 16, 4194304);
	IN_RANGE(c->audit_us, 1000000, 3600000000U);
	IN_RANGE(c->misses_per_second, 1, 100000);
	IN_RANGE(c->cpus, 0, CONFIG_CPUS_ALL);
	check_members(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t untouched[sizeof(struct config)];
	static struct config config, again;
	const void *ret = &config;
	char err[1024] = "";
	int r;

	write_file(data, size);
	memset(&config, 0x5a, sizeof(config));
	memset(untouched, 0x5a, sizeof(untouched));
	r = config_read(path, &config, err, sizeof(err));
	if (r < 0) {
		check_sentence(err, sizeof(err));
		REQUIRE(memcmp(ret, untouched, sizeof(untouched)) == 0);
		return 0;
	}
	REQUIRE(r == 0 && err[0] == '\0');
	check(&config);
	REQUIRE(config_read(path, &again, err, sizeof(err)) == 0);
	REQUIRE(config_cluster_digest(&config) == config_cluster_digest(&again));
	config_wipe(&config);
	config_wipe(&again);
	return 0;
}

/* The rest comes from test_config.c and test_config_system.c: see run. */
void fuzz_seeds(void)
{
	static char text[8192];
	FILE *file = fopen("docs/espalier.conf.example", "r");
	size_t size;

	REQUIRE(file);
	size = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	fuzz_seed(text, size);
	/* With every default uncommented. */
	for (char *line = text; (line = strstr(line, "\n# ")); line++)
		if (strcspn(line + 3, " ") + 1 == strcspn(line + 3, "="))
			line[1] = ' ';
	fuzz_seed(text, size);
}
