/* SPDX-License-Identifier: BSD-2-Clause */
#include "charon/need.h"

#include <processing/jobs/process_message_job.h>

#include "charon/commit.h"
#include "charon/link.h"
#include "charon/qcd.h"

#define NEED_MAX 256 /* messages */
#define NEED_STAYS 2000000 /* us */

struct need {
	struct espalier_ike_spis spis;
	uint64_t since; /* us */
	message_t *message;
};

static ike_sa_manager_t *manager;
static ike_sa_t *(*stock)(ike_sa_manager_t *this, message_t *message);
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct need needs[NEED_MAX];
static unsigned int count;

/* A copy whose header has been read: the original is its job's. */
static message_t *copy(message_t *message)
{
	packet_t *packet = message->get_packet(message);
	message_t *again = packet ? message_create_from_packet(packet) : NULL;

	if (again && again->parse_header(again) != SUCCESS) {
		again->destroy(again);
		again = NULL;
	}
	return again;
}

/* False: there are too many. */
static bool keep(const struct espalier_ike_spis *spis, message_t *message)
{
	bool room;

	pthread_mutex_lock(&lock);
	room = count < NEED_MAX;
	if (room)
		needs[count++] =
			(struct need){.spis = *spis, .since = commit_now(), .message = message};
	pthread_mutex_unlock(&lock);
	return room;
}

static void ask(message_t *message)
{
	ike_sa_id_t *id = message->get_ike_sa_id(message);
	struct espalier_ike_name name = {
		.spis = {message->get_initiator_spi(message), message->get_responder_spi(message)},
		/* Of a message: whether its sender is the initiator. */
		.flags = id->is_initiator(id) ? 0 : ESPALIER_IKE_INITIATOR,
	};
	message_t *again = copy(message);

	if (!again)
		return;
	if (!keep(&name.spis, again)) {
		again->destroy(again);
		return;
	}
	pthread_mutex_lock(&known_lock);
	link_ask(&name);
	pthread_mutex_unlock(&known_lock);
}

static ike_sa_t *checkout_by_message(ike_sa_manager_t *this, message_t *message)
{
	ike_sa_t *sa = stock(this, message);

	if (!sa && link_up() && !stopping &&
		message->get_major_version(message) == IKEV2_MAJOR_VERSION &&
		message->get_responder_spi(message) &&
		message->get_exchange_type(message) != IKE_SA_INIT)
		ask(message);
	return sa;
}

/* Takes out one of these, or if `spis` is NULL one that is too old; NULL: there is none. */
static message_t *take(const struct espalier_ike_spis *spis)
{
	uint64_t old = commit_now() - NEED_STAYS;
	message_t *message = NULL;

	pthread_mutex_lock(&lock);
	for (unsigned int i = 0; i < count; i++)
		if (spis ? memeq(&needs[i].spis, spis, sizeof(*spis)) : needs[i].since < old) {
			message = needs[i].message;
			needs[i] = needs[--count];
			break;
		}
	pthread_mutex_unlock(&lock);
	return message;
}

void need_met(const struct espalier_ike_spis *spis)
{
	message_t *message;

	while ((message = take(spis)))
		lib->processor->queue_job(
			lib->processor, (job_t *)process_message_job_create(message));
}

void need_none(const struct espalier_ike_name *name)
{
	message_t *message;

	while ((message = take(&name->spis))) {
		if (name->flags & ESPALIER_IKE_SURE)
			qcd_answer(message);
		message->destroy(message);
	}
}

void need_forget_old(void)
{
	message_t *message;

	while ((message = take(NULL)))
		message->destroy(message);
}

void need_wrap(void)
{
	manager = charon->ike_sa_manager;
	stock = manager->checkout_by_message;
	manager->checkout_by_message = checkout_by_message;
}

void need_unwrap(void)
{
	manager->checkout_by_message = stock;
	for (unsigned int i = 0; i < count; i++)
		needs[i].message->destroy(needs[i].message);
	count = 0;
}
