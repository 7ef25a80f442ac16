/* SPDX-License-Identifier: BSD-2-Clause */
#include "charon/reqid.h"

#include <collections/hashtable.h>
#include <pthread.h>

struct entry {
	uint32_t reqid;
	unsigned int users;
	chunk_t selectors; /* and marks and interfaces, as bytes */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static hashtable_t *by_reqid, *by_selectors;
static uint32_t first = 1, last = UINT32_MAX, next = 1;

static u_int reqid_hash(const void *key)
{
	return *(const uint32_t *)key;
}

static bool reqid_equals(const void *a, const void *b)
{
	return *(const uint32_t *)a == *(const uint32_t *)b;
}

static u_int selectors_hash(const void *key)
{
	return chunk_hash(*(const chunk_t *)key);
}

static bool selectors_equals(const void *a, const void *b)
{
	return chunk_equals(*(const chunk_t *)a, *(const chunk_t *)b);
}

void reqid_begin(void)
{
	by_reqid = hashtable_create(reqid_hash, reqid_equals, 64);
	by_selectors = hashtable_create(selectors_hash, selectors_equals, 64);
}

void reqid_draw(uint32_t from, uint32_t to)
{
	pthread_mutex_lock(&lock);
	if (from && (first != from || last != to)) {
		first = next = from;
		last = to;
	}
	pthread_mutex_unlock(&lock);
}

static chunk_t selector_bytes(traffic_selector_t *ts)
{
	uint16_t plain[] = {
		ts->get_type(ts), ts->get_protocol(ts), ts->get_from_port(ts), ts->get_to_port(ts)};

	return chunk_cat(
		"ccc", chunk_from_thing(plain), ts->get_from_address(ts), ts->get_to_address(ts));
}

/* In an order of their own: they are the same whichever comes first. */
static int compare(const void *a, const void *b)
{
	return chunk_compare(*(const chunk_t *)a, *(const chunk_t *)b);
}

static chunk_t selectors_bytes(chunk_t before, linked_list_t *list)
{
	int count = list->get_count(list), i = 0;
	chunk_t *parts = calloc(count + 1, sizeof(*parts)), all = before;
	enumerator_t *enumerator = list->create_enumerator(list);
	traffic_selector_t *ts;

	while (i < count && enumerator->enumerate(enumerator, &ts))
		parts[i++] = selector_bytes(ts);
	enumerator->destroy(enumerator);
	qsort(parts, i, sizeof(*parts), compare);
	all = chunk_cat("mc", all, chunk_from_thing(i));
	for (int k = 0; k < i; k++)
		all = chunk_cat("mm", all, parts[k]);
	free(parts);
	return all;
}

static void insert(uint32_t reqid, chunk_t selectors)
{
	struct entry *entry;

	INIT(entry, .reqid = reqid, .users = 1, .selectors = selectors);
	by_reqid->put(by_reqid, &entry->reqid, entry);
	/* The newest of those with the same selectors is the one that others join. */
	by_selectors->remove(by_selectors, &entry->selectors);
	by_selectors->put(by_selectors, &entry->selectors, entry);
}

/* 0: all are in use. */
static uint32_t draw(void)
{
	uint32_t began = next, reqid;

	do {
		reqid = next;
		next = next == last ? first : next + 1;
		if (!by_reqid->get(by_reqid, &reqid))
			return reqid;
	} while (next != began);
	return 0;
}

status_t reqid_alloc(kernel_interface_t *kernel, linked_list_t *here, linked_list_t *there,
	mark_t mark_in, mark_t mark_out, uint32_t if_id_in, uint32_t if_id_out, sec_label_t *label,
	uint32_t *reqid)
{
	uint32_t plain[] = {
		mark_in.value, mark_in.mask, mark_out.value, mark_out.mask, if_id_in, if_id_out};
	uint32_t want = ours.adopting ? ours.reqid : *reqid;
	chunk_t selectors =
		selectors_bytes(selectors_bytes(chunk_clone(chunk_from_thing(plain)), here), there);
	struct entry *entry;
	status_t status = SUCCESS;

	pthread_mutex_lock(&lock);
	entry = want ? by_reqid->get(by_reqid, &want) : NULL;
	/* As in the stock one, one that is not known is not forced, by a Child SA that is new. */
	if (!entry && !ours.adopting)
		entry = by_selectors->get(by_selectors, &selectors);
	if (entry) {
		entry->users++;
		*reqid = entry->reqid;
		chunk_free(&selectors);
	} else {
		if (!ours.adopting || !want)
			want = draw();
		if (want)
			insert(want, selectors);
		else
			status = FAILED;
		*reqid = want;
	}
	pthread_mutex_unlock(&lock);
	return status;
}

static void entry_remove(struct entry *entry)
{
	by_reqid->remove(by_reqid, &entry->reqid);
	if (by_selectors->get(by_selectors, &entry->selectors) == entry)
		by_selectors->remove(by_selectors, &entry->selectors);
	chunk_free(&entry->selectors);
	free(entry);
}

static status_t change(uint32_t reqid, int by)
{
	struct entry *entry;

	pthread_mutex_lock(&lock);
	entry = by_reqid->get(by_reqid, &reqid);
	if (entry && (entry->users += by) == 0)
		entry_remove(entry);
	pthread_mutex_unlock(&lock);
	return entry ? SUCCESS : NOT_FOUND;
}

#if CHARON_VERSION >= 60000
status_t reqid_ref(kernel_interface_t *kernel, uint32_t reqid)
{
	return change(reqid, 1);
}

status_t reqid_release(kernel_interface_t *kernel, uint32_t reqid)
#else
status_t reqid_release(kernel_interface_t *kernel, uint32_t reqid, mark_t mark_in, mark_t mark_out,
	uint32_t if_id_in, uint32_t if_id_out, sec_label_t *label)
#endif
{
	return change(reqid, -1);
}

void reqid_end(void)
{
	enumerator_t *enumerator = by_reqid->create_enumerator(by_reqid);
	struct entry *entry;
	void *key;

	while (enumerator->enumerate(enumerator, &key, &entry)) {
		chunk_free(&entry->selectors);
		free(entry);
	}
	enumerator->destroy(enumerator);
	by_reqid->destroy(by_reqid);
	by_selectors->destroy(by_selectors);
}
