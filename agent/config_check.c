/* SPDX-License-Identifier: BSD-2-Clause */
/* config_check(): what the file says as a whole. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "config.h"
#include "config_report.h"
#include "core/block.h"

struct check {
	const struct config *config;
	const struct config_report *report;
};

static int fail(const struct check *check, unsigned int line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static int fail(const struct check *check, unsigned int line, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	config_vreport(check->report, line, format, args);
	va_end(args);
	return -EINVAL;
}

static int check_required(
	const struct check *check, enum config_key key, const char *name, const char *what)
{
	if (check->config->line[key] > 0)
		return 0;
	return fail(check, 0, "%s is missing: give %s", name, what);
}

static int check_authentication(const struct check *check)
{
	static const struct {
		enum config_key key;
		const char *name;
	} certificates[] = {{CONFIG_CERT_FILE, "CertificateFile"},
		{CONFIG_KEY_FILE, "PrivateKeyFile"}, {CONFIG_CA_FILE, "CAFile"}};
	const unsigned int *line = check->config->line;
	unsigned int given = 0;

	for (unsigned int i = 0; i < 3; i++) {
		unsigned int at = line[certificates[i].key];

		given += at > 0;
		if (at > 0 && line[CONFIG_PSK_FILE] > 0)
			return fail(check, at,
				"%s and PresharedKeyFile exclude each other: remove one",
				certificates[i].name);
	}
	if (given == 0)
		return check_required(check, CONFIG_PSK_FILE, "[Cluster] PresharedKeyFile",
			"it, or CertificateFile, PrivateKeyFile and CAFile");
	for (unsigned int i = 0; i < 3; i++)
		if (line[certificates[i].key] == 0)
			return fail(check, 0,
				"[Cluster] %s is missing: give all of CertificateFile, "
				"PrivateKeyFile, CAFile",
				certificates[i].name);
	return 0;
}

static int check_members(const struct check *check)
{
	const struct config *c = check->config;

	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++)
		if (c->members >> id & 1 && c->member_sync[id].s_addr == 0)
			return fail(check, c->member_line[id],
				"member %u has no Sync: give its address on the sync network", id);
	if (c->members >> c->id & 1)
		return 0;
	return fail(check, c->line[CONFIG_ID],
		"this member's id %u has no [Member]: add one for each member", c->id);
}

/*
 * A takeover skips two rounds of blocks at most. A receiver of an ESN SA works out the upper half
 * of a number by how far the lower one is from its window (RFC 4303 A2.2): four takeovers of which
 * it gets no packet in between are to stay within half of that.
 */
static int check_blocks(const struct check *check)
{
	const struct config *c = check->config;
	unsigned int highest = 31 - (unsigned int)__builtin_clz(c->members);
	uint64_t round = (uint64_t)block_modulus((uint8_t)highest) << c->block_bits;

	if (4 * 2 * round < 1ULL << 31)
		return 0;
	return fail(check, c->line[CONFIG_BLOCK_BITS],
		"BlockBits %u with member ids up to %u: four takeovers would skip 2^31 sequence "
		"numbers, more than a peer may follow (RFC 4303 A2.2): use smaller blocks or lower "
		"ids",
		c->block_bits, highest);
}

/* Members reach each other in both directions, so all have an address or none has, of one family.
 */
static int check_side(const struct check *check, const char *name, const struct address *address)
{
	const struct config *c = check->config;
	int with = -1;

	for (int id = 0; id < ESPALIER_MEMBERS && with < 0; id++)
		if (address[id].family)
			with = id;
	for (int id = 0; id < ESPALIER_MEMBERS && with >= 0; id++) {
		if (!(c->members >> id & 1) || address[id].family == address[with].family)
			continue;
		if (!address[id].family)
			return fail(check, c->member_line[id],
				"member %d has no %s, but member %d has: give it to all members or "
				"to none",
				id, name, with);
		return fail(check, c->member_line[id],
			"%s of member %d is IPv%c, that of member %d is not: use one family", name,
			id, address[id].family == AF_INET ? '4' : '6', with);
	}
	return 0;
}

#define CLUSTER ESPALIER_MEMBERS /* whose address it is, if not a member's */

struct places {
	struct place {
		struct address address;
		unsigned int line, whose;
	} place[2 * ESPALIER_ADDRESSES + 3 * ESPALIER_MEMBERS];
	unsigned int count;
};

static void add_place(
	struct places *p, const struct address *address, unsigned int line, unsigned int whose)
{
	if (address->family)
		p->place[p->count++] = (struct place){*address, line, whose};
}

static void add_cluster(struct places *p, const struct config_addresses *list)
{
	for (unsigned int i = 0; i < list->count; i++)
		add_place(p, &list->address[i], list->line[i], CLUSTER);
}

static void add_member(struct places *p, const struct config *c, unsigned int id)
{
	struct address sync = {.family = AF_INET};

	memcpy(sync.bytes, &c->member_sync[id], sizeof(c->member_sync[id]));
	add_place(p, &sync, c->member_line[id], id);
	add_place(p, &c->member_outer[id], c->member_line[id], id);
	add_place(p, &c->member_inner[id], c->member_line[id], id);
}

/* One address, one use; only a member may have one for several sides. */
static int check_addresses(const struct check *check)
{
	const struct config *c = check->config;
	char text[INET6_ADDRSTRLEN];
	struct places places = {0};

	add_cluster(&places, &c->outer);
	add_cluster(&places, &c->inner);
	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++)
		if (c->members >> id & 1)
			add_member(&places, c, id);
	for (unsigned int i = 0; i < places.count; i++) {
		for (unsigned int j = 0; j < i; j++) {
			const struct place *a = &places.place[i], *b = &places.place[j];
			bool in_order = b->line < a->line;

			if (memcmp(&a->address, &b->address, sizeof(a->address)) != 0 ||
				(a->whose == b->whose && a->whose != CLUSTER))
				continue;
			inet_ntop(a->address.family, a->address.bytes, text, sizeof(text));
			return fail(check, in_order ? a->line : b->line,
				"address %s was given already in line %u: use each one once", text,
				in_order ? b->line : a->line);
		}
	}
	return 0;
}

static int check_all(const struct check *check)
{
	const struct config *c = check->config;
	bool inner = c->line[CONFIG_INNER_ADDRESS] > 0 || c->line[CONFIG_MEMBER_INNER] > 0;
	int r;

	if ((r = check_required(check, CONFIG_ADDRESS, "[Cluster] Address",
		     "the address that the peers send to")) < 0 ||
		(r = check_authentication(check)) < 0 ||
		(r = check_required(
			 check, CONFIG_ID, "[Interface] Id", "this member's id, 0 to 15")) < 0 ||
		(r = check_required(check, CONFIG_OUTER, "[Interface] Outer",
			 "the interface that the peers are behind")) < 0 ||
		(inner && (r = check_required(check, CONFIG_INNER, "[Interface] Inner",
				   "the interface of the protected hosts")) < 0) ||
		(r = check_required(check, CONFIG_SYNC, "[Interface] Sync",
			 "the interface of the sync network")) < 0 ||
		(r = check_members(check)) < 0 || (r = check_blocks(check)) < 0 ||
		(r = check_side(check, "Outer", c->member_outer)) < 0 ||
		(r = check_side(check, "Inner", c->member_inner)) < 0)
		return r;
	return check_addresses(check);
}

int config_check(const struct config *config, const struct config_report *report)
{
	return check_all(&(struct check){config, report});
}
