/* SPDX-License-Identifier: BSD-2-Clause */
#include "charon/import.h"

#include <processing/jobs/delete_child_sa_job.h>
#include <processing/jobs/delete_ike_sa_job.h>
#include <processing/jobs/rekey_ike_sa_job.h>

#include "charon/export.h"
#include "charon/keys.h"
#include "charon/resume.h"

#define LATE_PACKETS 5 /* seconds that a Child SA which was deleted stays, for these */
#define REKEYED_STAYS                                                                              \
	90 /* seconds for the peer to delete an IKE SA that it has rekeyed, as charon's own */
#define OVERDUE 1 /* seconds after the import: what should have been done before */

static chunk_t chunk_of(struct bytes bytes)
{
	return chunk_create((u_char *)bytes.at, bytes.len);
}

static host_t *host_from(const struct record_host *host)
{
	return host_create_from_chunk(
		host->address.len == 4 ? AF_INET : AF_INET6, chunk_of(host->address), host->port);
}

static identification_t *identity_from(const struct record_identity *identity)
{
	return identification_create_from_encoding(identity->type, chunk_of(identity->encoding));
}

static proposal_t *proposal_from(protocol_id_t protocol, struct bytes list)
{
	proposal_t *proposal = proposal_create(protocol, 0);
	struct reader r = record_list(list);
	struct record_transform transform;

	while (record_next_transform(&r, &transform))
		proposal->add_algorithm(proposal, transform.type, transform.id, transform.bits);
	return proposal;
}

static linked_list_t *selectors_from(struct bytes list)
{
	linked_list_t *selectors = linked_list_create();
	struct reader r = record_list(list);
	struct record_selector item;

	while (record_next_selector(&r, &item)) {
		traffic_selector_t *ts = traffic_selector_create_from_bytes(item.protocol,
			item.type, chunk_of(item.from), item.from_port, chunk_of(item.to),
			item.to_port);

		if (ts)
			selectors->insert_last(selectors, ts);
	}
	return selectors;
}

static bool same_text(const char *text, struct bytes bytes)
{
	return strlen(text) == bytes.len && memeq(text, bytes.at, bytes.len);
}

static child_cfg_t *child_config(ike_sa_t *sa, struct bytes name)
{
	peer_cfg_t *peer = sa->get_peer_cfg(sa);
	enumerator_t *enumerator = peer->create_child_cfg_enumerator(peer);
	child_cfg_t *config, *found = NULL;

	while (!found && enumerator->enumerate(enumerator, &config))
		if (same_text(config->get_name(config), name))
			found = config;
	enumerator->destroy(enumerator);
	return found;
}

static void schedule(job_t *job, uint32_t seconds)
{
	lib->scheduler->schedule_job(lib->scheduler, job, seconds);
}

/* Its SAs and policies, which the kernel has already: charon is told so. The outbound side of one
 * that the peer has rekeyed comes into use, or has gone out of use, before the inbound one. */
static bool install(child_sa_t *child, const struct record_child *item)
{
	uint32_t in = item->spi[0], out = item->spi[1];
	status_t status;

	status = child->install(
		child, chunk_empty, chunk_empty, in, item->cpi[0], false, true, true);
	if (item->outbound & CHILD_OUTBOUND_REGISTERED)
		status |= child->register_outbound(
			child, chunk_empty, chunk_empty, out, item->cpi[1], false, true);
	else
		status |= child->install(
			child, chunk_empty, chunk_empty, out, item->cpi[1], false, false, true);
	status |= child->install_policies(child);
	if (!(item->outbound & (CHILD_OUTBOUND_SA | CHILD_OUTBOUND_REGISTERED)))
		child->remove_outbound(child);
	return status == SUCCESS;
}

static void set_child_state(child_sa_t *child, uint8_t state)
{
	child->set_state(child, CHILD_INSTALLED);
	if (state == RECORD_REKEYED)
		child->set_state(child, CHILD_REKEYED);
	else if (state == RECORD_DELETING)
		child->set_state(child, CHILD_DELETING);
	else if (state == RECORD_DELETED)
		child->set_state(child, CHILD_DELETED);
}

static child_sa_t *child_from(ike_sa_t *sa, child_cfg_t *config, const struct record_child *item)
{
	child_sa_create_t data = {
		.reqid = item->reqid,
		.mark_in = item->mark[0],
		.mark_out = item->mark[1],
		.if_id_in = item->if_id[0],
		.if_id_out = item->if_id[1],
		.encap = item->encapsulated,
	};
	linked_list_t *here = selectors_from(item->here), *there = selectors_from(item->there);
	proposal_t *proposal = proposal_from(item->protocol, item->proposal);
	child_sa_t *child =
		child_sa_create(sa->get_my_host(sa), sa->get_other_host(sa), config, &data);
	bool done;

	ours.reqid = item->reqid;
	child->set_mode(child, item->mode);
	child->set_protocol(child, item->protocol);
	child->set_ipcomp(child, item->ipcomp);
	child->set_close_action(child, item->close_action);
	child->set_dpd_action(child, item->dpd_action);
	child->set_proposal(child, proposal);
	child->set_state(child, CHILD_INSTALLING);
	child->set_policies(child, here, there);
	done = install(child, item);
	proposal->destroy(proposal);
	here->destroy_offset(here, offsetof(traffic_selector_t, destroy));
	there->destroy_offset(there, offsetof(traffic_selector_t, destroy));
	if (!done) {
		child->destroy(child);
		return NULL;
	}
	set_child_state(child, item->state);
	return child;
}

/* 6.x points from the old one to its successor, 5.9 names the SPI. */
static void link_rekeyed(ike_sa_t *sa, struct bytes children)
{
	struct reader r = record_list(children);
	struct record_child item;

	while (record_next_child(&r, &item)) {
		child_sa_t *child = sa->get_child_sa(sa, item.protocol, item.spi[0], true);

		if (!item.rekeyed || !child)
			continue;
#if CHARON_VERSION >= 60000
		child->set_rekey_sa(child, sa->get_child_sa(sa, item.protocol, item.rekeyed, true));
#else
		child->set_rekey_spi(child, item.rekeyed);
#endif
	}
}

/* False: a Child SA cannot be imported. */
static bool add_children(ike_sa_t *sa, struct bytes children)
{
	struct reader r = record_list(children);
	struct record_child item;

	while (record_next_child(&r, &item)) {
		child_cfg_t *config = child_config(sa, item.name);
		child_sa_t *child = config ? child_from(sa, config, &item) : NULL;

		if (!child) {
			SAY("IKE SA %s: Child SA %.8x_i cannot be taken over: %s %.*s",
				sa->get_name(sa), ntohl(item.spi[0]),
				config ? "charon refuses" : "there is no configuration",
				(int)item.name.len, item.name.at);
			return false;
		}
		sa->add_child_sa(sa, child);
		if (item.state == RECORD_DELETED)
			schedule(
				(job_t *)delete_child_sa_job_create_id(child->get_unique_id(child)),
				LATE_PACKETS);
	}
	link_rekeyed(sa, children);
	return true;
}

static void add_hosts(ike_sa_t *sa, const struct record_ike *record)
{
	struct reader peer = record_list(record->peer_addresses),
		      there = record_list(record->there_virtual);
	struct reader here = record_list(record->here_virtual);
	struct record_host item;
	host_t *host;

	while (record_next_host(&peer, &item))
		sa->add_peer_address(sa, host_from(&item));
	while (record_next_host(&there, &item)) {
		host = host_from(&item);
		sa->add_virtual_ip(sa, false, host);
		host->destroy(host);
	}
	while (record_next_host(&here, &item)) {
		host = host_from(&item);
		sa->add_virtual_ip(sa, true, host);
		host->destroy(host);
	}
}

static void set_identities(ike_sa_t *sa, const struct record_ike *record)
{
	auth_cfg_t *eap;

	sa->set_my_id(sa, identity_from(&record->me));
	sa->set_other_id(sa, identity_from(&record->other));
	if (!record->eap.type)
		return;
	eap = auth_cfg_create();
	eap->add(eap, AUTH_RULE_EAP_IDENTITY, identity_from(&record->eap));
	sa->add_auth_cfg(sa, false, eap);
}

static void set_flags(ike_sa_t *sa, const struct record_ike *record)
{
	for (uint32_t bit = 1; bit; bit <<= 1) {
		if (!!(record->conditions & bit) != sa->has_condition(sa, bit))
			sa->set_condition(sa, bit, record->conditions & bit);
		if (record->extensions & bit)
			sa->enable_extension(sa, bit);
	}
}

static void fill_sent(struct sent *sent, const struct record_messages *messages)
{
	struct reader r = record_list(messages->packets);
	struct bytes packet;

	sent_clear(sent);
	while (record_next_packet(&r, &packet))
		sent_add(sent, messages->id, chunk_of(packet));
}

static void fill_known(
	const struct espalier_ike_record *given, const struct record_ike *record, chunk_t body)
{
	struct known *known;

	pthread_mutex_lock(&known_lock);
	known = known_make(record->spi);
	known->initiator = record->initiator;
	known->live = known->imported = true;
	known->unconfigured = known->asked = false;
	known->doubtful = given->flags & ESPALIER_IKE_SYNC;
	known->resumes = record->request.packets.len && !known->doubtful;
	known->turn = given->turn;
	known->version = known->committed = given->version;
	known->child_spi = record->request_spi;
	for (int i = 0; i < RECORD_KEYS; i++) {
		chunk_clear(&known->key[i]);
		known->key[i] = chunk_clone(chunk_of(record->key[i]));
	}
	chunk_free(&known->token);
	known->token = chunk_clone(chunk_of(record->token));
	chunk_clear(&known->body);
	known->body = chunk_clone(body);
	fill_sent(&known->response, &record->response);
	fill_sent(&known->request, &record->request);
	pthread_mutex_unlock(&known_lock);
}

/* charon is told its connections when it has started. */
static void keep(const struct espalier_ike_record *given, bool initiator, chunk_t body)
{
	struct known *known;

	pthread_mutex_lock(&known_lock);
	known = known_make((const uint64_t *)&given->spis);
	known->initiator = initiator;
	known->unconfigured = true;
	known->doubtful = given->flags & ESPALIER_IKE_SYNC;
	known->turn = given->turn;
	known->version = known->committed = given->version;
	if (known->body.ptr != body.ptr) {
		chunk_clear(&known->body);
		known->body = chunk_clone(body);
	}
	pthread_mutex_unlock(&known_lock);
}

/* Everything but the keys, the Child SAs and the state. */
static void fill(ike_sa_t *sa, const struct record_ike *record)
{
	sa->set_my_host(sa, host_from(&record->here));
	sa->set_other_host(sa, host_from(&record->there));
	set_identities(sa, record);
	set_flags(sa, record);
	add_hosts(sa, record);
	sa->set_message_id(sa, true, record->send);
	sa->set_message_id(sa, false, record->receive);
	sa->set_statistic(sa, STAT_ESTABLISHED, import_time(record->established));
	sa->set_statistic(sa, STAT_REKEY, import_time(record->rekey));
	sa->set_statistic(sa, STAT_REAUTH, import_time(record->reauthenticate));
	sa->set_statistic(sa, STAT_DELETE, import_time(record->end));
	sa->set_statistic(sa, STAT_INBOUND, (uint32_t)time_monotonic(NULL));
}

/* NULL: it cannot be made, which has been said. */
static ike_sa_t *create(const struct record_ike *record, peer_cfg_t *peer)
{
	ike_sa_id_t *id = ike_sa_id_create(
		IKEV2_MAJOR_VERSION, record->spi[0], record->spi[1], record->initiator);
	proposal_t *proposal = proposal_from(PROTO_IKE, record->proposal);
	ike_sa_t *sa = ike_sa_create(id, record->initiator, IKEV2);

	charon->bus->set_sa(charon->bus, sa);
	sa->set_peer_cfg(sa, peer);
	if (keys_set(sa, proposal, record)) {
		sa->set_proposal(sa, proposal);
		fill(sa, record);
		/* Not from CONNECTING: charon would begin with its timers anew. */
		sa->set_state(sa, IKE_REKEYING);
		sa->set_state(sa, IKE_ESTABLISHED);
	} else {
		SAY("IKE SA %s, " SPIS ": its keys do not fit its algorithms", peer->get_name(peer),
			SPIS_OF(record->spi));
		sa->destroy(sa);
		sa = NULL;
	}
	proposal->destroy(proposal);
	id->destroy(id);
	return sa;
}

static uint32_t seconds_until(ike_sa_t *sa, statistic_t which)
{
	uint32_t at = sa->get_statistic(sa, which), now = (uint32_t)time_monotonic(NULL);

	return at > now ? at - now : OVERDUE;
}

/* As charon sets them when an IKE SA is established. What is overdue is done at once, and then it
 * has the time that it would have had. */
static void start_timers(ike_sa_t *sa)
{
	peer_cfg_t *peer = sa->get_peer_cfg(sa);
	ike_sa_id_t *id = sa->get_id(sa);
	uint32_t end = seconds_until(sa, STAT_DELETE);

	if (sa->get_statistic(sa, STAT_REKEY))
		schedule(
			(job_t *)rekey_ike_sa_job_create(id, false), seconds_until(sa, STAT_REKEY));
	if (sa->get_statistic(sa, STAT_REAUTH))
		schedule(
			(job_t *)rekey_ike_sa_job_create(id, true), seconds_until(sa, STAT_REAUTH));
	if (sa->get_statistic(sa, STAT_DELETE)) {
		if (end == OVERDUE)
			end = max(peer->get_over_time(peer), OVERDUE + 1);
		schedule((job_t *)delete_ike_sa_job_create(id, true), end);
	}
	if (peer->get_dpd(peer))
		sa->send_dpd(sa);
}

/* What is left to do, now that it is whole. */
static void go_on(
	ike_sa_t *sa, const struct espalier_ike_record *given, const struct record_ike *record)
{
	if (record->state == RECORD_REKEYED)
		sa->set_state(sa, IKE_REKEYED);
	if (record->request.packets.len && !(given->flags & ESPALIER_IKE_SYNC))
		resume_request(sa, record);
	if (record->state == RECORD_REKEYED)
		schedule((job_t *)delete_ike_sa_job_create(sa->get_id(sa), true), REKEYED_STAYS);
	else
		start_timers(sa);
}

/* It ends here; the kernel keeps what it has. */
static void undo(ike_sa_t *sa, const uint64_t *spi)
{
	struct known *known;

	sa->destroy(sa);
	charon->bus->set_sa(charon->bus, NULL);
	pthread_mutex_lock(&known_lock);
	known = known_get(spi);
	if (known)
		known_forget(known);
	pthread_mutex_unlock(&known_lock);
}

static bool import_with(const struct espalier_ike_record *given, const struct record_ike *record,
	chunk_t body, peer_cfg_t *peer)
{
	ike_sa_t *sa;

	ours.adopting = true;
	sa = create(record, peer);
	if (sa) {
		fill_known(given, record, body);
		if (!add_children(sa, record->children)) {
			undo(sa, record->spi);
			sa = NULL;
		}
	}
	ours.adopting = false;
	if (!sa)
		return false;
	go_on(sa, given, record);
	SAY("IKE SA %s[%u] is ours now, with %d Child SAs: Message IDs %u, %u", sa->get_name(sa),
		sa->get_unique_id(sa), sa->get_child_count(sa), record->send, record->receive);
	charon->ike_sa_manager->checkin(charon->ike_sa_manager, sa);
	return true;
}

status_t import_ike(const struct espalier_ike_record *given, chunk_t body)
{
	struct record_ike record;
	peer_cfg_t *peer;
	char *name;
	bool done;

	if (!record_get(body.ptr, body.len, &record) || record.spi[0] != given->spis.initiator ||
		record.spi[1] != given->spis.responder) {
		SAY("IKE SA " SPIS ": its record is malformed",
			SPIS_OF(((uint64_t[]){given->spis.initiator, given->spis.responder})));
		return FAILED;
	}
	name = strndup((const char *)record.name.at, record.name.len);
	peer = charon->backends->get_peer_cfg_by_name(charon->backends, name);
	free(name);
	if (!peer) {
		keep(given, record.initiator, body);
		return INVALID_STATE;
	}
	done = import_with(given, &record, body, peer);
	peer->destroy(peer);
	return done ? SUCCESS : FAILED;
}
