/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * plugin.c - a plugin for strongSwan's charon with which the other members go on with its IKE SAs.
 */
#include <encoding/payloads/sa_payload.h>
#include <plugins/plugin.h>

#include "charon/commit.h"
#include "charon/export.h"
#include "charon/fits.h"
#include "charon/kernel.h"
#include "charon/keys.h"
#include "charon/link.h"
#include "charon/need.h"
#include "charon/qcd.h"
#include "charon/sync.h"

#define REPLAY_COUNTER_SYNC_SUPPORTED 16421 /* RFC 6311; charon has names for the other ones */
#define STOP_PATIENCE 100 /* ms that packets may still wait when the daemon ends */

__attribute__((visibility("default"))) plugin_t *espalier_plugin_create(void);

__thread struct ours ours;
bool stopping;

static void (*stock_flush)(ike_sa_manager_t *this);

/* What charon's bus tells. */

static bool on_keys(listener_t *this, ike_sa_t *sa, chunk_t sk_d, chunk_t sk_ai, chunk_t sk_ar,
	chunk_t sk_ei, chunk_t sk_er, chunk_t sk_pi, chunk_t sk_pr)
{
	chunk_t keys[RECORD_KEYS] = {sk_d, sk_ai, sk_ar, sk_ei, sk_er, sk_pi, sk_pr};

	if (sa && sa->get_version(sa) == IKEV2)
		keys_derived(sa, keys);
	return true;
}

/* All ends of IKE SAs come by here, also those that charon's manager makes by itself. */
static bool on_state(listener_t *this, ike_sa_t *sa, ike_sa_state_t state)
{
	struct known *known;

	if (state != IKE_DESTROYING || ours.adopting || stopping || sa->get_version(sa) != IKEV2)
		return true;
	pthread_mutex_lock(&known_lock);
	known = known_of(sa);
	if (known && !known->gone)
		commit_gone(known);
	pthread_mutex_unlock(&known_lock);
	return true;
}

/* RFC 6311 as responder: charon has what it takes, and does not offer it. */
static void negotiate(struct known *known, ike_sa_t *sa, message_t *message, bool incoming)
{
	if (incoming) {
		if (message->get_request(message) &&
			message->get_notify(message, IKEV2_MESSAGE_ID_SYNC_SUPPORTED))
			known->offered = true;
		qcd_keep(known, message);
		return;
	}
	if (!message->get_request(message) && known->offered) {
		message->add_notify(message, false, IKEV2_MESSAGE_ID_SYNC_SUPPORTED, chunk_empty);
		message->add_notify(message, false, REPLAY_COUNTER_SYNC_SUPPORTED, chunk_empty);
		sa->enable_extension(sa, EXT_IKE_MESSAGE_ID_SYNC);
	}
	qcd_offer(known, message);
}

/* The SPI of the Child SA that our request is about to make; 0: it is for none. */
static uint32_t proposed_spi(message_t *message)
{
	sa_payload_t *payload =
		(sa_payload_t *)message->get_payload(message, PLV2_SECURITY_ASSOCIATION);
	linked_list_t *proposals;
	proposal_t *proposal;
	uint32_t spi = 0;

	if (!payload)
		return 0;
	proposals = payload->get_proposals(payload);
	if (proposals->get_first(proposals, (void **)&proposal) == SUCCESS &&
		proposal->get_protocol(proposal) != PROTO_IKE)
		spi = (uint32_t)proposal->get_spi(proposal);
	proposals->destroy_offset(proposals, offsetof(proposal_t, destroy));
	return spi;
}

/* The first fragment of a message, or the whole of it. */
static bool is_first(message_t *message)
{
	chunk_t data = message->get_packet_data(message);

	/* Behind the headers of message and payload is the fragment's number. */
	return message->get_first_payload_type(message) != PLV2_FRAGMENT ||
	       (data.len >= 34 && untoh16(data.ptr + 32) == 1);
}

/* A request that another member has answered: charon does not have that answer. */
static void repeat_response(const struct known *known, ike_sa_t *sa, message_t *message)
{
	chunk_t *packet;

	if (!known->imported || !message->get_request(message) || !is_first(message) ||
		message->get_message_id(message) != known->response.id ||
		sa->get_message_id(sa, false) != known->response.id + 1 || link_silent())
		return;
	for (int i = 0; i < array_count(known->response.packets); i++) {
		array_get(known->response.packets, i, &packet);
		commit_send(sa->get_my_host(sa), sa->get_other_host(sa), *packet);
	}
}

static void see(struct known *known, ike_sa_t *sa, message_t *message, bool incoming, bool plain)
{
	exchange_type_t exchange = message->get_exchange_type(message);

	if (plain && exchange == IKE_AUTH)
		negotiate(known, sa, message, incoming);
	if (plain && !incoming && message->get_request(message))
		known->child_spi = exchange == CREATE_CHILD_SA ? proposed_spi(message) : 0;
	if (incoming && !plain) {
		repeat_response(known, sa, message);
		sync_heard(known, sa, message);
		if (exchange == INFORMATIONAL &&
			message->get_first_payload_type(message) == PLV2_NOTIFY)
			qcd_check(known, message);
	}
}

static bool on_message(
	listener_t *this, ike_sa_t *sa, message_t *message, bool incoming, bool plain)
{
	struct known *known;

	if (!sa || sa->get_version(sa) != IKEV2)
		return true;
	pthread_mutex_lock(&known_lock);
	known = known_of(sa);
	if (known)
		see(known, sa, message, incoming, plain);
	pthread_mutex_unlock(&known_lock);
	return true;
}

static listener_t listener = {
	.ike_derived_keys = on_keys, .ike_state_change = on_state, .message = on_message};

/* Start and stop. */

static bool packets_wait(void)
{
	bool wait;

	pthread_mutex_lock(&known_lock);
	wait = commit_waits();
	pthread_mutex_unlock(&known_lock);
	return wait;
}

/* The daemon ends, the IKE SAs do not: neither the peers nor the kernel are told. */
static void flush(ike_sa_manager_t *this)
{
	enumerator_t *enumerator;
	ike_sa_t *sa;

	for (int ms = 0; ms < STOP_PATIENCE && packets_wait(); ms += 5)
		usleep(5000);
	stopping = link_up();
	if (stopping) {
		enumerator = this->create_enumerator(this, true);
		while (enumerator->enumerate(enumerator, &sa))
			if (exportable(sa))
				sa->set_state(sa, IKE_PASSIVE);
		enumerator->destroy(enumerator);
	}
	stock_flush(this);
}

static uint64_t draw_spi(void *unused)
{
	return link_draw_spi();
}

static bool begin(void)
{
	ike_sa_manager_t *manager = charon->ike_sa_manager;

	known_begin();
	kernel_wrap();
	keys_wrap();
	commit_wrap();
	need_wrap();
	stock_flush = manager->flush;
	manager->flush = flush;
	manager->set_spi_cb(manager, draw_spi, NULL);
	charon->bus->add_listener(charon->bus, &listener);
	return link_begin();
}

static void end(void)
{
	ike_sa_manager_t *manager = charon->ike_sa_manager;

	link_end();
	charon->bus->remove_listener(charon->bus, &listener);
	manager->flush = stock_flush;
	need_unwrap();
	commit_unwrap();
	keys_unwrap();
	kernel_unwrap();
	known_end();
}

static bool on_feature(plugin_t *this, plugin_feature_t *feature, bool reg, void *data)
{
	if (reg)
		return begin();
	end();
	return true;
}

static char *get_name(plugin_t *this)
{
	return "espalier";
}

static int get_features(plugin_t *this, plugin_feature_t *ret[])
{
	static plugin_feature_t features[] = {
		PLUGIN_CALLBACK(on_feature, NULL),
		PLUGIN_PROVIDE(CUSTOM, "espalier"),
		PLUGIN_DEPENDS(CUSTOM, "libcharon-sa-managers"),
		PLUGIN_DEPENDS(CUSTOM, "libcharon-receiver"),
		PLUGIN_DEPENDS(CUSTOM, "kernel-ipsec"),
	};

	*ret = features;
	return countof(features);
}

static void destroy(plugin_t *this)
{
}

plugin_t *espalier_plugin_create(void)
{
	static plugin_t plugin = {
		.get_name = get_name, .get_features = get_features, .destroy = destroy};
	char loaded[BUILD_ID_MAX];

	fits_loaded(loaded, sizeof(loaded));
	if (strcmp(loaded, CHARON_BUILD_ID) != 0) {
		SAY("this charon (build id %s) is not the one that the plugin was built for "
		    "(strongSwan %s, build id %s): "
		    "it stays away, IKE SAs end with this member",
			loaded, CHARON_TEXT, CHARON_BUILD_ID);
		return NULL;
	}
	return &plugin;
}
