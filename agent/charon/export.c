/* SPDX-License-Identifier: BSD-2-Clause */
#include "charon/export.h"

#include <netinet/in.h>
#include <sa/ikev2/keymat_v2.h>

#define TRANSFORM_TYPES 12 /* the highest that a proposal may have, RFC 9370 */

static int64_t offset;
static pthread_once_t offset_once = PTHREAD_ONCE_INIT;

static void set_offset(void)
{
	offset = (int64_t)time(NULL) - time_monotonic(NULL);
}

uint32_t export_time(uint32_t monotonic)
{
	pthread_once(&offset_once, set_offset);
	return monotonic ? (uint32_t)(monotonic + offset) : 0;
}

/* What was before this machine's start is past. */
uint32_t import_time(uint32_t unix_time)
{
	pthread_once(&offset_once, set_offset);
	if (!unix_time)
		return 0;
	return (int64_t)unix_time > offset + 1 ? (uint32_t)(unix_time - offset) : 1;
}

static struct bytes bytes_of(chunk_t chunk)
{
	return (struct bytes){.at = chunk.ptr, .len = chunk.len};
}

static struct bytes written_since(const struct writer *w, const uint8_t *start)
{
	return (struct bytes){.at = start, .len = (size_t)(w->at - start)};
}

static struct bytes proposal_of(struct writer *parts, proposal_t *proposal)
{
	const uint8_t *start = parts->at;

	for (uint8_t type = 1; proposal && type <= TRANSFORM_TYPES; type++) {
		uint16_t id = 0, bits = 0;

		if (proposal->get_algorithm(proposal, type, &id, &bits))
			record_put_transform(parts,
				&(struct record_transform){.type = type, .id = id, .bits = bits});
	}
	return written_since(parts, start);
}

static struct record_host host_of(host_t *host)
{
	return (struct record_host){
		.port = host->get_port(host), .address = bytes_of(host->get_address(host))};
}

/* Ends the enumerator. */
static struct bytes hosts_of(struct writer *parts, enumerator_t *enumerator)
{
	const uint8_t *start = parts->at;
	host_t *host;

	while (enumerator->enumerate(enumerator, &host)) {
		struct record_host item = host_of(host);

		record_put_host(parts, &item);
	}
	enumerator->destroy(enumerator);
	return written_since(parts, start);
}

static struct record_identity identity_of(identification_t *identity)
{
	return (struct record_identity){.type = identity->get_type(identity),
		.encoding = bytes_of(identity->get_encoding(identity))};
}

static struct bytes selectors_of(struct writer *parts, child_sa_t *child, bool here)
{
	enumerator_t *enumerator = child->create_ts_enumerator(child, here);
	const uint8_t *start = parts->at;
	traffic_selector_t *ts;

	while (enumerator->enumerate(enumerator, &ts))
		record_put_selector(parts, &(struct record_selector){.type = ts->get_type(ts),
						   .protocol = ts->get_protocol(ts),
						   .from_port = ts->get_from_port(ts),
						   .to_port = ts->get_to_port(ts),
						   .from = bytes_of(ts->get_from_address(ts)),
						   .to = bytes_of(ts->get_to_address(ts))});
	enumerator->destroy(enumerator);
	return written_since(parts, start);
}

static struct bytes packets_of(struct writer *parts, const struct sent *sent)
{
	const uint8_t *start = parts->at;
	chunk_t *packet;

	for (int i = 0; i < array_count(sent->packets); i++) {
		array_get(sent->packets, i, &packet);
		record_put_packet(parts, bytes_of(*packet));
	}
	return written_since(parts, start);
}

/* 0: none. */
static uint8_t child_state(child_sa_t *child)
{
	switch (child->get_state(child)) {
	case CHILD_INSTALLED:
	case CHILD_UPDATING:
		return RECORD_ESTABLISHED;
	case CHILD_REKEYING:
		return RECORD_REKEYING;
	case CHILD_REKEYED:
		return RECORD_REKEYED;
	case CHILD_DELETING:
		return RECORD_DELETING;
	case CHILD_DELETED:
		return RECORD_DELETED;
	default:
		return 0;
	}
}

static uint8_t ike_state(ike_sa_t *sa)
{
	switch (sa->get_state(sa)) {
	case IKE_ESTABLISHED:
		return RECORD_ESTABLISHED;
	case IKE_REKEYING:
		return RECORD_REKEYING;
	case IKE_REKEYED:
		return RECORD_REKEYED;
	case IKE_DELETING:
		return RECORD_DELETING;
	default:
		return 0;
	}
}

bool exportable(ike_sa_t *sa)
{
	return sa->get_version(sa) == IKEV2 && ike_state(sa);
}

static uint32_t rekeyed_by(child_sa_t *child)
{
#if CHARON_VERSION >= 60000
	child_sa_t *by = child->get_rekey_sa(child);

	return by ? by->get_spi(by, true) : 0;
#else
	return child->get_rekey_spi(child);
#endif
}

static void put_child(
	struct writer *children, struct writer *parts, child_sa_t *child, uint8_t state)
{
	struct record_child item = {
		.spi = {child->get_spi(child, true), child->get_spi(child, false)},
		.rekeyed = rekeyed_by(child),
		.cpi = {child->get_cpi(child, true), child->get_cpi(child, false)},
		.protocol = child->get_protocol(child),
		.mode = child->get_mode(child),
		.ipcomp = child->get_ipcomp(child),
		.encapsulated = child->has_encap(child),
		.state = state,
		.outbound = child->get_outbound_state(child),
		.close_action = child->get_close_action(child),
		.dpd_action = child->get_dpd_action(child),
		.reqid = child->get_reqid(child),
		.mark = {child->get_mark(child, true).value, child->get_mark(child, false).value},
		.if_id = {child->get_if_id(child, true), child->get_if_id(child, false)},
		.name = bytes_of(chunk_from_str(child->get_name(child))),
		.proposal = proposal_of(parts, child->get_proposal(child)),
		.here = selectors_of(parts, child, true),
		.there = selectors_of(parts, child, false),
	};

	record_put_child(children, &item);
}

/* What the agent is to find in the kernel. Policies are shared by a Child SA and its successor:
 * they are not waited for. */
static struct espalier_ike_child agents_child(ike_sa_t *sa, child_sa_t *child)
{
	host_t *here = sa->get_my_host(sa), *there = sa->get_other_host(sa);
	bool out = child->get_outbound_state(child) & CHILD_OUTBOUND_SA;
	struct espalier_ike_child item = {
		.protocol = child->get_protocol(child) == PROTO_AH ? IPPROTO_AH : IPPROTO_ESP,
		.family = (uint8_t)here->get_family(here),
		.spi_in = child->get_spi(child, true),
		.spi_out = out ? child->get_spi(child, false) : 0,
	};
	chunk_t local = here->get_address(here), remote = there->get_address(there);

	memcpy(item.local, local.ptr, min(local.len, sizeof(item.local)));
	memcpy(item.remote, remote.ptr, min(remote.len, sizeof(item.remote)));
	return item;
}

struct scratch {
	uint8_t body[RECORD_MAX], children[RECORD_MAX], parts[RECORD_MAX];
	struct espalier_ike_child named[ESPALIER_IKE_CHILDREN_MAX];
	uint16_t named_count;
};

/* False: there are more than a record can have. */
static bool put_children(
	ike_sa_t *sa, struct scratch *scratch, struct writer *children, struct writer *parts)
{
	enumerator_t *enumerator = sa->create_child_sa_enumerator(sa);
	child_sa_t *child;
	bool fits = true;

	while (enumerator->enumerate(enumerator, &child)) {
		uint8_t state = child_state(child);

		if (!state)
			continue;
		if (scratch->named_count == ESPALIER_IKE_CHILDREN_MAX) {
			fits = false;
			break;
		}
		put_child(children, parts, child, state);
		scratch->named[scratch->named_count++] = agents_child(sa, child);
	}
	enumerator->destroy(enumerator);
	return fits;
}

static bool waits_for_answer(ike_sa_t *sa)
{
	enumerator_t *enumerator = sa->create_task_enumerator(sa, TASK_QUEUE_ACTIVE);
	task_t *task;
	bool waits = enumerator->enumerate(enumerator, &task);

	enumerator->destroy(enumerator);
	return waits;
}

/* What was sent, as far as it still matters. */
static void put_messages(
	ike_sa_t *sa, struct known *known, struct record_ike *ike, struct writer *parts)
{
	if (known->request.id != ike->send || !waits_for_answer(sa)) {
		sent_clear(&known->request);
		known->child_spi = 0;
	}
	/* The answer to a Message ID sync is out of sequence. */
	if (known->response.id + 1 != ike->receive)
		sent_clear(&known->response);
	ike->request =
		(struct record_messages){known->request.id, packets_of(parts, &known->request)};
	ike->response =
		(struct record_messages){known->response.id, packets_of(parts, &known->response)};
	if (!ike->request.packets.len)
		ike->request.id = 0;
	if (!ike->response.packets.len)
		ike->response.id = 0;
	ike->request_spi = known->child_spi;
}

static void put_flags(ike_sa_t *sa, struct record_ike *ike)
{
	for (uint32_t bit = 1; bit; bit <<= 1) {
		ike->conditions |= sa->has_condition(sa, bit) ? bit : 0;
		ike->extensions |= sa->supports_extension(sa, bit) ? bit : 0;
	}
}

static void put_keys(ike_sa_t *sa, struct known *known, struct record_ike *ike)
{
	keymat_v2_t *keymat = (keymat_v2_t *)sa->get_keymat(sa);
	chunk_t sk_d;

	for (int i = 0; i < RECORD_KEYS; i++)
		ike->key[i] = bytes_of(known->key[i]);
	/* With a post-quantum preshared key it has changed since. */
	keymat->get_skd(keymat, &sk_d);
	ike->key[0] = bytes_of(sk_d);
}

/* Everything else, in the order of the record. */
static bool fill(ike_sa_t *sa, struct known *known, struct scratch *scratch, struct writer *body)
{
	struct writer parts = {
		.at = scratch->parts, .end = scratch->parts + sizeof(scratch->parts)};
	struct writer children = {
		.at = scratch->children, .end = scratch->children + sizeof(scratch->children)};
	identification_t *other = sa->get_other_id(sa), *eap = sa->get_other_eap_id(sa);
	struct record_ike ike = {
		.spi = {known->spi[0], known->spi[1]},
		.initiator = known->initiator,
		.state = ike_state(sa),
		.send = sa->get_message_id(sa, true),
		.receive = sa->get_message_id(sa, false),
		.established = export_time(sa->get_statistic(sa, STAT_ESTABLISHED)),
		.rekey = export_time(sa->get_statistic(sa, STAT_REKEY)),
		.reauthenticate = export_time(sa->get_statistic(sa, STAT_REAUTH)),
		.end = export_time(sa->get_statistic(sa, STAT_DELETE)),
		.proposal = proposal_of(&parts, sa->get_proposal(sa)),
		.me = identity_of(sa->get_my_id(sa)),
		.other = identity_of(other),
		.here = host_of(sa->get_my_host(sa)),
		.there = host_of(sa->get_other_host(sa)),
		.name = bytes_of(chunk_from_str(sa->get_name(sa))),
		.token = bytes_of(known->token),
		.peer_addresses = hosts_of(&parts, sa->create_peer_address_enumerator(sa)),
		.here_virtual = hosts_of(&parts, sa->create_virtual_ip_enumerator(sa, true)),
		.there_virtual = hosts_of(&parts, sa->create_virtual_ip_enumerator(sa, false)),
	};
	bool fits;

	if (!eap->equals(eap, other))
		ike.eap = identity_of(eap);
	put_keys(sa, known, &ike);
	put_flags(sa, &ike);
	fits = put_children(sa, scratch, &children, &parts);
	ike.children = written_since(&children, scratch->children);
	put_messages(sa, known, &ike, &parts);
	record_put(body, &ike);
	return fits && !parts.failed && !children.failed && !body->failed;
}

static void keep(struct known *known, struct scratch *scratch, chunk_t body)
{
	size_t children = scratch->named_count * sizeof(*scratch->named);

	chunk_clear(&known->body);
	known->body = chunk_clone(body);
	known->children = realloc(known->children, max(children, 1));
	memcpy(known->children, scratch->named, children);
	known->children_count = scratch->named_count;
}

bool export_ike(ike_sa_t *sa, struct known *known)
{
	struct scratch *scratch = malloc(sizeof(*scratch));
	struct writer w = {.at = scratch->body, .end = scratch->body + sizeof(scratch->body)};
	bool changed = false;
	chunk_t body;

	scratch->named_count = 0;
	if (!fill(sa, known, scratch, &w)) {
		SAY("%s[%u] is too large for a record: it ends with this member", sa->get_name(sa),
			sa->get_unique_id(sa));
	} else {
		body = chunk_create(scratch->body, (size_t)(w.at - scratch->body));
		changed = !chunk_equals(body, known->body);
		if (changed)
			keep(known, scratch, body);
	}
	/* Keys are in the body alone. */
	memwipe(scratch->body, (size_t)(w.at - scratch->body));
	free(scratch);
	return changed;
}
