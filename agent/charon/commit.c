/* SPDX-License-Identifier: BSD-2-Clause */
#include "charon/commit.h"

#include <time.h>

#include "charon/export.h"
#include "charon/keys.h"
#include "charon/link.h"
#include "charon/sync.h"

#define IKE_HEADER 28 /* bytes */
#define IKE_EXCHANGE 18 /* offset */
#define IKE_FLAGS 19 /* offset */
#define IKE_FLAG_RESPONSE 0x20
#define IKE_MESSAGE_ID 20 /* offset */

static sender_t *sender;
static ike_sa_manager_t *manager;
static void (*stock_send)(sender_t *this, packet_t *packet);
static void (*stock_checkin)(ike_sa_manager_t *this, ike_sa_t *sa);
static unsigned int waiting; /* packets */

uint64_t commit_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

void commit_send(host_t *from, host_t *to, chunk_t packet)
{
	stock_send(sender,
		packet_create_from_data(from->clone(from), to->clone(to), chunk_clone(packet)));
}

/* While the agent is away others may have taken over: then the peer gets nothing from here. */
static void out(packet_t *packet)
{
	if (link_silent())
		packet->destroy(packet);
	else
		stock_send(sender, packet);
}

static struct held *take_first(struct known *known)
{
	struct held *held = known->held;

	known->held = held->next;
	waiting--;
	return held;
}

void commit_flush(struct known *known)
{
	while (known->held) {
		struct held *held = take_first(known);

		out(held->packet);
		free(held);
	}
}

void commit_discard(struct known *known)
{
	packet_t *packet;

	while (known->parked && array_remove(known->parked, ARRAY_HEAD, &packet))
		packet->destroy(packet);
	while (known->held) {
		struct held *held = take_first(known);

		held->packet->destroy(held->packet);
		free(held);
	}
}

void commit_acknowledge(struct known *known, uint64_t version)
{
	known->committed = max(known->committed, version);
	while (known->held && known->held->version <= known->committed) {
		struct held *held = take_first(known);

		out(held->packet);
		free(held);
	}
	if (known->unsure && known->committed >= known->version) {
		/* Now the others have all that the peer has seen. */
		known->unsure = false;
		known->version++;
		link_tell(known);
	}
	if (known->gone && known->committed >= known->version)
		known_forget(known);
}

static uint64_t overdue_before;

/* An agent that has stood still since cannot have marked the record, and others may take over. */
static bool is_overdue(const struct held *held)
{
	return held && held->since < overdue_before;
}

static void send_overdue(struct known *known)
{
	bool any = is_overdue(known->held);

	while (is_overdue(known->held)) {
		struct held *held = take_first(known);

		out(held->packet);
		free(held);
	}
	if (any && !known->unsure && !known->gone) {
		known->unsure = true;
		known->version++;
		link_tell(known);
	}
}

bool commit_overdue(uint32_t ms)
{
	overdue_before = link_heard() - ms * 1000ULL;
	if (waiting)
		known_each(send_overdue);
	return waiting;
}

bool commit_waits(void)
{
	return waiting;
}

static void hold(struct known *known, packet_t *packet)
{
	struct held *held, **end = &known->held;

	INIT(held, .packet = packet, .version = known->version, .since = commit_now());
	while (*end)
		end = &(*end)->next;
	*end = held;
	if (waiting++ == 0)
		link_wake();
}

/* What was parked waits for the last record; if that is committed, or there is none, it leaves. */
static void settle(struct known *known)
{
	packet_t *packet;

	while (known->parked && array_remove(known->parked, ARRAY_HEAD, &packet)) {
		if (known->committed >= known->version && !known->held)
			out(packet);
		else
			hold(known, packet);
	}
}

/* The record of this IKE SA is told if it has changed. */
static void checked_in(ike_sa_t *sa)
{
	struct known *known = known_of(sa);

	if (!known || known->gone || sa->get_state(sa) == IKE_PASSIVE)
		return;
	if (link_up() && exportable(sa) && !known->syncing) {
		known->live = true;
		if (export_ike(sa, known)) {
			known->version++;
			link_tell(known);
		}
	}
	settle(known);
}

static void checkin(ike_sa_manager_t *this, ike_sa_t *sa)
{
	if (!ours.adopting && !stopping) {
		keys_claim(sa);
		pthread_mutex_lock(&known_lock);
		checked_in(sa);
		pthread_mutex_unlock(&known_lock);
	}
	stock_checkin(this, sa);
}

void commit_gone(struct known *known)
{
	if (!known->version || !link_up()) {
		settle(known);
		commit_flush(known);
		known_forget(known);
		return;
	}
	known->gone = true;
	known->live = false;
	known->version++;
	link_tell(known);
	settle(known);
}

/* Instead of our own form of a request that another member has sent before: its packets. */
static void park_resumed(struct known *known, packet_t *packet)
{
	host_t *from = packet->get_source(packet), *to = packet->get_destination(packet);
	chunk_t *sent;

	for (int i = 0; i < array_count(known->request.packets); i++) {
		array_get(known->request.packets, i, &sent);
		array_insert_create(&known->parked, ARRAY_TAIL,
			packet_create_from_data(
				from->clone(from), to->clone(to), chunk_clone(*sent)));
	}
	packet->destroy(packet);
}

/* It goes on record. */
static void park(struct known *known, packet_t *packet)
{
	chunk_t data = packet->get_data(packet);
	uint32_t id = untoh32(data.ptr + IKE_MESSAGE_ID);

	if (data.ptr[IKE_FLAGS] & IKE_FLAG_RESPONSE) {
		sent_add(&known->response, id, data);
	} else if (known->resumes && id == known->request.id) {
		park_resumed(known, packet);
		return;
	} else {
		known->resumes = false;
		if (!sent_add(&known->request, id, data))
			sync_sent_again(known);
	}
	array_insert_create(&known->parked, ARRAY_TAIL, packet);
}

/* True: it waits, or is dropped. */
static bool parked(packet_t *packet)
{
	chunk_t data = packet->get_data(packet);
	struct known *known;
	uint64_t spi[2];

	if (data.len < IKE_HEADER || data.ptr[IKE_EXCHANGE] == IKE_SA_INIT)
		return false;
	memcpy(spi, data.ptr, sizeof(spi));
	pthread_mutex_lock(&known_lock);
	known = known_get(spi);
	if (known)
		park(known, packet);
	pthread_mutex_unlock(&known_lock);
	return known;
}

static void send_packet(sender_t *this, packet_t *packet)
{
	if (!parked(packet))
		stock_send(this, packet);
}

void commit_wrap(void)
{
	sender = charon->sender;
	manager = charon->ike_sa_manager;
	stock_send = sender->send;
	sender->send = send_packet;
	stock_checkin = manager->checkin;
	manager->checkin = checkin;
}

void commit_unwrap(void)
{
	sender->send = stock_send;
	manager->checkin = stock_checkin;
}
