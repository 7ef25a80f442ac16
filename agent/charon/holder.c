/* SPDX-License-Identifier: BSD-2-Clause */
#include "charon/holder.h"

#include "charon/commit.h"
#include "charon/export.h"
#include "charon/import.h"
#include "charon/link.h"

#define RETRY_LEAST 200000 /* us between attempts */
#define RETRY_MOST 10000000
#define RELEASE_PATIENCE 1000000 /* us that an exchange of ours may take before its IKE SA goes */

static bool releasing;

static ike_sa_t *checkout(const struct espalier_ike_spis *spis)
{
	ike_sa_id_t *id;
	ike_sa_t *sa;
	const struct known *known;
	bool initiator;

	pthread_mutex_lock(&known_lock);
	known = known_get((const uint64_t *)spis);
	initiator = known && known->initiator;
	pthread_mutex_unlock(&known_lock);
	id = ike_sa_id_create(IKEV2_MAJOR_VERSION, spis->initiator, spis->responder, initiator);
	sa = charon->ike_sa_manager->checkout(charon->ike_sa_manager, id);
	id->destroy(id);
	return sa;
}

/* Tells neither the peer nor the kernel. */
static void drop(ike_sa_t *sa)
{
	ours.adopting = true;
	charon->ike_sa_manager->checkin_and_destroy(charon->ike_sa_manager, sa);
	ours.adopting = false;
}

static void forget(const struct espalier_ike_spis *spis)
{
	struct known *known;

	pthread_mutex_lock(&known_lock);
	known = known_get((const uint64_t *)spis);
	if (known) {
		commit_discard(known);
		known_forget(known);
	}
	pthread_mutex_unlock(&known_lock);
}

void holder_record_all(void)
{
	ike_sa_manager_t *manager = charon->ike_sa_manager;
	enumerator_t *enumerator = manager->create_enumerator(manager, true);
	linked_list_t *ids = linked_list_create();
	ike_sa_id_t *id;
	ike_sa_t *sa;

	while (enumerator->enumerate(enumerator, &sa))
		if (exportable(sa))
			ids->insert_last(ids, sa->get_id(sa)->clone(sa->get_id(sa)));
	enumerator->destroy(enumerator);
	while (ids->remove_first(ids, (void **)&id) == SUCCESS) {
		sa = manager->checkout(manager, id);
		if (sa)
			manager->checkin(manager, sa);
		id->destroy(id);
	}
	ids->destroy(ids);
}

void holder_drop(const struct espalier_ike_spis *spis)
{
	ike_sa_t *sa = checkout(spis);

	if (sa) {
		SAY("%s[%u] goes on elsewhere", sa->get_name(sa), sa->get_unique_id(sa));
		drop(sa);
	}
	forget(spis);
}

static struct {
	uint64_t us, at; /* the pause, 0: nothing to try; when it is over */
} retry;

/* When charon has just started it has not been told its connections. */
static void import(const struct espalier_ike_record *given, chunk_t body)
{
	if (import_ike(given, body) != INVALID_STATE || retry.us)
		return;
	SAY("IKE SA " SPIS ", and maybe others, wait: there is no connection for them yet",
		SPIS_OF(((uint64_t[]){given->spis.initiator, given->spis.responder})));
	retry.us = RETRY_LEAST;
	retry.at = commit_now() + retry.us;
	link_wake();
}

void holder_give(const struct espalier_ike_record *given, chunk_t body)
{
	struct known *known;
	bool have;

	pthread_mutex_lock(&known_lock);
	known = known_get((const uint64_t *)&given->spis);
	have = known && known->live &&
	       (known->turn > given->turn ||
		       (known->turn == given->turn && known->version >= given->version));
	if (have && given->flags & ESPALIER_IKE_SYNC)
		known->doubtful = true;
	pthread_mutex_unlock(&known_lock);
	if (have)
		return;
	holder_drop(&given->spis);
	import(given, body);
}

/* A record that is kept, and is still the newest. */
void holder_thaw(const struct espalier_ike_spis *spis)
{
	struct espalier_ike_record given = {.spis = *spis};
	struct known *known;
	chunk_t body = chunk_empty;

	pthread_mutex_lock(&known_lock);
	known = known_get((const uint64_t *)spis);
	if (known) {
		given.version = known->version;
		given.turn = known->turn;
		given.flags = known->doubtful ? ESPALIER_IKE_SYNC : 0;
		body = chunk_clone(known->body);
	}
	pthread_mutex_unlock(&known_lock);
	if (body.len)
		import(&given, body);
	chunk_clear(&body);
}

static bool is_unconfigured(const struct known *known)
{
	return known->unconfigured && !known->gone && !known->release_by;
}

void holder_retry(void)
{
	unsigned int count;
	struct espalier_ike_spis *spis;

	if (!retry.us || commit_now() < retry.at)
		return;
	spis = known_list(is_unconfigured, &count);
	retry.us = count ? min(2 * retry.us, RETRY_MOST) : 0;
	for (unsigned int i = 0; i < count; i++)
		holder_thaw(&spis[i]);
	free(spis);
	retry.at = commit_now() + retry.us;
}

static bool is_live(const struct known *known)
{
	return known->live && known->body.len;
}

void holder_freeze(void)
{
	unsigned int count;
	struct espalier_ike_spis *spis = known_list(is_live, &count);

	for (unsigned int i = 0; i < count; i++) {
		ike_sa_t *sa = checkout(&spis[i]);
		struct known *known;

		if (!sa)
			continue;
		pthread_mutex_lock(&known_lock);
		known = known_get((const uint64_t *)&spis[i]);
		if (known) {
			known->live = false;
			commit_discard(known);
		}
		pthread_mutex_unlock(&known_lock);
		drop(sa);
	}
	free(spis);
}

/* Handing over. */

static void mark(struct known *known)
{
	known->release_by = commit_now() + RELEASE_PATIENCE;
	releasing = true;
}

void holder_release(const struct espalier_ike_name *name)
{
	struct espalier_ike_name none = {.spis = name->spis, .flags = name->flags};
	bool all = !name->spis.initiator && !name->spis.responder;
	struct known *known;

	pthread_mutex_lock(&known_lock);
	known = all ? NULL : known_get((const uint64_t *)&name->spis);
	if (all)
		known_each(mark);
	else if (known)
		mark(known);
	pthread_mutex_unlock(&known_lock);
	if (!all && !known)
		link_answer(ESPALIER_IKE_RELEASED, &none);
}

bool holder_waits(void)
{
	return releasing;
}

static bool busy(ike_sa_t *sa)
{
	enumerator_t *enumerator = sa->create_task_enumerator(sa, TASK_QUEUE_ACTIVE);
	task_t *task;
	bool some = enumerator->enumerate(enumerator, &task);

	enumerator->destroy(enumerator);
	return some;
}

/* With its last record told: `known` is not live any more, and the answer is in `ret`. */
static void conclude(
	ike_sa_t *sa, const struct espalier_ike_spis *spis, struct espalier_ike_name *ret)
{
	struct known *known;

	pthread_mutex_lock(&known_lock);
	known = known_get((const uint64_t *)spis);
	if (known) {
		if (sa && exportable(sa) && export_ike(sa, known)) {
			known->version++;
			link_tell(known);
		}
		commit_flush(known);
		ret->version = known->version;
		ret->turn = known->turn;
		ret->flags = known->initiator ? ESPALIER_IKE_INITIATOR : 0;
	}
	pthread_mutex_unlock(&known_lock);
}

/* False: an exchange of ours is not over. */
static bool release(const struct espalier_ike_spis *spis)
{
	struct espalier_ike_name name = {.spis = *spis};
	ike_sa_t *sa = checkout(spis);
	const struct known *known;
	bool late;

	pthread_mutex_lock(&known_lock);
	known = known_get((const uint64_t *)spis);
	late = !known || commit_now() > known->release_by;
	pthread_mutex_unlock(&known_lock);
	if (sa && busy(sa) && !late) {
		charon->ike_sa_manager->checkin(charon->ike_sa_manager, sa);
		return false;
	}
	conclude(sa, spis, &name);
	link_tell_all();
	if (sa) {
		SAY("%s[%u] is handed over", sa->get_name(sa), sa->get_unique_id(sa));
		drop(sa);
	}
	forget(spis);
	link_answer(ESPALIER_IKE_RELEASED, &name);
	return true;
}

static bool is_marked(const struct known *known)
{
	return known->release_by && !known->gone;
}

void holder_continue(void)
{
	unsigned int count;
	struct espalier_ike_spis *spis;
	bool all = true;

	if (!releasing)
		return;
	spis = known_list(is_marked, &count);
	for (unsigned int i = 0; i < count; i++)
		all &= release(&spis[i]);
	free(spis);
	releasing = !all;
}
