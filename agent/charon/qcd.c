/* SPDX-License-Identifier: BSD-2-Clause */
#include "charon/qcd.h"

#include <crypto/signers/signer.h>
#include <encoding/payloads/notify_payload.h>
#include <processing/jobs/callback_job.h>

#include "charon/commit.h"
#include "charon/link.h"

#define QUICK_CRASH_DETECTION 16419
#define TOKEN_MIN 16 /* bytes, RFC 6290 */
#define TOKEN_MAX 128

#define IKE_HEADER 28 /* bytes */
#define IKE_NEXT_PAYLOAD 16 /* offset */
#define PAYLOAD_HEADER 4 /* bytes: next payload, flags, length */
#define NOTIFY_HEADER 8 /* with protocol, length of the SPI, type */

/* False: there is no secret yet. */
static bool make_token(const uint64_t *spi, chunk_t *ret)
{
	uint8_t secret[ESPALIER_IKE_SECRET];
	signer_t *signer;
	bool done = false;

	if (!link_secret(secret))
		return false;
	signer = lib->crypto->create_signer(lib->crypto, AUTH_HMAC_SHA2_256_256);
	if (signer) {
		done = signer->set_key(signer, chunk_from_thing(secret)) &&
		       signer->allocate_signature(
			       signer, chunk_create((u_char *)spi, 2 * sizeof(*spi)), ret);
		signer->destroy(signer);
	}
	memwipe(secret, sizeof(secret));
	return done;
}

void qcd_offer(struct known *known, message_t *message)
{
	chunk_t token;

	if (!make_token(known->spi, &token))
		return;
	message->add_notify(message, false, QUICK_CRASH_DETECTION, token);
	chunk_free(&token);
}

void qcd_keep(struct known *known, message_t *message)
{
	notify_payload_t *notify = message->get_notify(message, QUICK_CRASH_DETECTION);
	chunk_t token;

	if (!notify)
		return;
	token = notify->get_notification_data(notify);
	if (token.len < TOKEN_MIN || token.len > TOKEN_MAX)
		return;
	chunk_free(&known->token);
	known->token = chunk_clone(token);
}

void qcd_answer(message_t *message)
{
	uint64_t spi[] = {message->get_initiator_spi(message), message->get_responder_spi(message)};
	host_t *from = message->get_source(message), *to = message->get_destination(message);
	message_t *answer;
	packet_t *packet;
	chunk_t token;

	if (!message->get_request(message) || !make_token(spi, &token))
		return;
	answer = message_create(IKEV2_MAJOR_VERSION, IKEV2_MINOR_VERSION);
	answer->set_exchange_type(answer, INFORMATIONAL);
	answer->set_request(answer, false);
	answer->set_message_id(answer, message->get_message_id(message));
	answer->set_ike_sa_id(answer, message->get_ike_sa_id(message));
	answer->set_source(answer, to->clone(to));
	answer->set_destination(answer, from->clone(from));
	answer->add_notify(answer, false, INVALID_IKE_SPI, chunk_empty);
	answer->add_notify(answer, false, QUICK_CRASH_DETECTION, token);
	chunk_free(&token);
	if (answer->generate(answer, NULL, &packet) == SUCCESS) {
		SAY("nobody has IKE SA " SPIS ": its peer is told", SPIS_OF(spi));
		charon->sender->send(charon->sender, packet);
	}
	answer->destroy(answer);
}

/* The first token in the payloads behind a header, which are in the clear. */
static chunk_t find_token(chunk_t data)
{
	uint8_t type = data.len >= IKE_HEADER ? data.ptr[IKE_NEXT_PAYLOAD] : 0;
	size_t at = IKE_HEADER;

	while (type == PLV2_NOTIFY && data.len - at >= NOTIFY_HEADER) {
		size_t len = untoh16(data.ptr + at + 2), spi = data.ptr[at + PAYLOAD_HEADER + 1];

		if (len < NOTIFY_HEADER + spi || len > data.len - at)
			break;
		if (untoh16(data.ptr + at + PAYLOAD_HEADER + 2) == QUICK_CRASH_DETECTION)
			return chunk_create(
				data.ptr + at + NOTIFY_HEADER + spi, len - NOTIFY_HEADER - spi);
		type = data.ptr[at];
		at += len;
	}
	return chunk_empty;
}

static job_requeue_t make_anew(void *data)
{
	ike_sa_t *sa = charon->ike_sa_manager->checkout(charon->ike_sa_manager, data);

	if (sa) {
		SAY("%s[%u]: the peer has lost it, as its token proves", sa->get_name(sa),
			sa->get_unique_id(sa));
		sa->reestablish(sa);
		charon->ike_sa_manager->checkin_and_destroy(charon->ike_sa_manager, sa);
	}
	return JOB_REQUEUE_NONE;
}

static void id_destroy(void *data)
{
	ike_sa_id_t *id = data;

	id->destroy(id);
}

void qcd_check(struct known *known, message_t *message)
{
	chunk_t token = find_token(message->get_packet_data(message));
	ike_sa_id_t *id = message->get_ike_sa_id(message);

	if (!known->live || !token.len || !chunk_equals_const(token, known->token))
		return;
	id = ike_sa_id_create(IKEV2_MAJOR_VERSION, id->get_initiator_spi(id),
		id->get_responder_spi(id), known->initiator);
	lib->processor->queue_job(
		lib->processor, (job_t *)callback_job_create(make_anew, id, id_destroy, NULL));
}
