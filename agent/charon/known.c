/* SPDX-License-Identifier: BSD-2-Clause */
#include "charon/known.h"

#include <collections/hashtable.h>

pthread_mutex_t known_lock = PTHREAD_MUTEX_INITIALIZER;
static hashtable_t *table;

static u_int spis_hash(const void *key)
{
	return chunk_hash(chunk_create((u_char *)key, 2 * sizeof(uint64_t)));
}

static bool spis_equal(const void *a, const void *b)
{
	return memeq(a, b, 2 * sizeof(uint64_t));
}

void known_begin(void)
{
	table = hashtable_create(spis_hash, spis_equal, 64);
}

struct known *known_get(const uint64_t *spi)
{
	return table->get(table, spi);
}

struct known *known_of(ike_sa_t *sa)
{
	ike_sa_id_t *id = sa->get_id(sa);
	uint64_t spi[] = {id->get_initiator_spi(id), id->get_responder_spi(id)};

	return known_get(spi);
}

struct known *known_make(const uint64_t *spi)
{
	struct known *known = known_get(spi);

	if (!known) {
		INIT(known, .spi = {spi[0], spi[1]}, .turn = 1);
		table->put(table, known->spi, known);
	}
	return known;
}

void sent_clear(struct sent *sent)
{
	chunk_t *packet;

	while (sent->packets && array_remove(sent->packets, ARRAY_TAIL, &packet)) {
		free(packet->ptr);
		free(packet);
	}
}

bool sent_add(struct sent *sent, uint32_t id, chunk_t data)
{
	chunk_t *packet;

	if (sent->id != id)
		sent_clear(sent);
	sent->id = id;
	for (int i = 0; i < array_count(sent->packets); i++) {
		array_get(sent->packets, i, &packet);
		if (chunk_equals(*packet, data))
			return false;
	}
	INIT(packet);
	*packet = chunk_clone(data);
	array_insert_create(&sent->packets, ARRAY_TAIL, packet);
	return true;
}

void known_forget(struct known *known)
{
	struct held *held;

	table->remove(table, known->spi);
	for (int i = 0; i < RECORD_KEYS; i++)
		chunk_clear(&known->key[i]);
	chunk_free(&known->token);
	chunk_clear(&known->body);
	free(known->children);
	sent_clear(&known->response);
	array_destroy(known->response.packets);
	sent_clear(&known->request);
	array_destroy(known->request.packets);
	array_destroy_offset(known->parked, offsetof(packet_t, destroy));
	while ((held = known->held)) {
		known->held = held->next;
		held->packet->destroy(held->packet);
		free(held);
	}
	free(known);
}

void known_each(void (*act)(struct known *known))
{
	unsigned int count = known_count(), n = 0;
	struct known **all = calloc(count + 1, sizeof(struct known *));
	enumerator_t *enumerator = table->create_enumerator(table);
	void *key;

	while (n < count && enumerator->enumerate(enumerator, &key, &all[n]))
		n++;
	enumerator->destroy(enumerator);
	while (n > 0)
		act(all[--n]);
	free(all);
}

struct espalier_ike_spis *known_list(
	bool (*which)(const struct known *known), unsigned int *ret_count)
{
	struct espalier_ike_spis *list;
	enumerator_t *enumerator;
	struct known *known;
	unsigned int n = 0;
	void *key;

	pthread_mutex_lock(&known_lock);
	list = calloc(known_count() + 1, sizeof(*list));
	enumerator = table->create_enumerator(table);
	while (enumerator->enumerate(enumerator, &key, &known))
		if (which(known))
			list[n++] = (struct espalier_ike_spis){known->spi[0], known->spi[1]};
	enumerator->destroy(enumerator);
	pthread_mutex_unlock(&known_lock);
	*ret_count = n;
	return list;
}

unsigned int known_count(void)
{
	return table->get_count(table);
}

void known_end(void)
{
	known_each(known_forget);
	table->destroy(table);
}
