/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * miss.c - ESP came for an SPI that our kernel does not know: is there such an SA? The others are
 * asked; who has it sends it as it sends any record.
 */
#include <string.h>

#include "core/state.h"

#define ASK_AGAIN_US 50000
#define GIVE_UP_US 500000

static struct miss *find(struct member *m, const struct record_key *key)
{
	for (unsigned int i = 0; i < MISSES; i++)
		if (memcmp(&m->misses[i].key, key, sizeof(*key)) == 0)
			return &m->misses[i];
	return NULL;
}

static void tell(struct member *m, uint8_t to, enum wire_kind kind, const struct record_key *key)
{
	uint8_t payload[64];
	struct writer w = {.at = payload, .end = payload + sizeof(payload)};

	wire_put_key(&w, kind, key);
	outbox_send(m, to, payload, (size_t)(w.at - payload));
}

static void ask(struct member *m, struct miss *miss)
{
	miss->asked_us = m->now_us;
	for (uint8_t id = 0; id < ESPALIER_MEMBERS; id++)
		if (miss->waiting >> id & 1)
			tell(m, id, WIRE_ASK, &miss->key);
}

/* Those that can answer. */
static uint16_t others_alive(const struct member *m)
{
	uint16_t set = 0;

	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++)
		if (m->others[id].alive)
			set |= member_bit(id);
	return set;
}

static void not_found(struct member *m, struct miss *miss)
{
	m->counters.misses_unknown++;
	*miss = (struct miss){0};
}

/* Our table may know better than an event that was on its way. What mark the SA would have is not
 * known. */
static bool is_lacking(struct member *m, const struct record_key *key)
{
	bool lacking = !table_spi_next(&m->table, key, NULL);

	for (struct record *r = NULL; (r = table_spi_next(&m->table, key, r));) {
		if (!record_is_installed(r)) {
			lacking |= r->work == 0;
		} else if (!kernel_has(m, &r->key)) {
			const struct record_key lost = r->key;

			member_missing(m, &lost);
			lacking = true;
		}
	}
	return lacking;
}

static bool send_what_we_have(struct member *m, uint8_t to, const struct record_key *key)
{
	bool any = false;

	for (struct record *r = NULL; (r = table_spi_next(&m->table, key, r));) {
		if (!record_is_installed(r))
			continue;
		outbox_mark_for(m, r, to);
		any = true;
	}
	return any;
}

void member_missed(struct member *m, const struct record_key *key)
{
	const struct record_key none = {0};
	struct miss *miss = find(m, &none);

	if (!miss || find(m, key) || !is_lacking(m, key))
		return;
	m->counters.misses++;
	*miss = (struct miss){.key = *key, .first_us = m->now_us, .waiting = others_alive(m)};
	if (miss->waiting)
		ask(m, miss);
	else
		not_found(m, miss);
}

void miss_heard(struct member *m, uint8_t from, const struct wire_message *message)
{
	struct miss *miss = find(m, &message->key);

	if (message->kind == WIRE_ASK) {
		if (!send_what_we_have(m, from, &message->key))
			tell(m, from, WIRE_LACK, &message->key);
	} else if (miss) {
		miss->waiting &= (uint16_t)~member_bit(from);
		if (!miss->waiting)
			not_found(m, miss);
	}
}

void miss_installed(struct member *m, const struct record_key *key)
{
	struct record_key asked = *key;
	struct miss *miss;

	asked.mark = asked.mark_mask = 0;
	miss = find(m, &asked);
	if (!miss)
		return;
	m->counters.misses_found++;
	*miss = (struct miss){0};
}

/* Questions and answers may be lost. */
void miss_tick(struct member *m)
{
	for (unsigned int i = 0; i < MISSES; i++) {
		struct miss *miss = &m->misses[i];

		if (!miss->key.kind)
			continue;
		miss->waiting &= others_alive(m);
		if (!miss->waiting || m->now_us > miss->first_us + GIVE_UP_US)
			not_found(m, miss);
		else if (m->now_us > miss->asked_us + ASK_AGAIN_US)
			ask(m, miss);
	}
}
