/* SPDX-License-Identifier: BSD-2-Clause */
#include "charon/sync.h"

#include <encoding/payloads/notify_payload.h>
#include <processing/jobs/callback_job.h>
#include <sa/task.h>

/* What the peer expects may be so far above what we know, and it takes no less. */
#define SYNC_MARGIN 1024

struct sync {
	task_t task;
	ike_sa_t *sa;
	uint32_t nonce, send, receive; /* Message IDs of the next request either way */
	bool done;
	array_t *later; /* task_t *: all others */
};

static status_t build(task_t *task, message_t *message)
{
	struct sync *this = (struct sync *)task;
	uint8_t data[3 * sizeof(uint32_t)];
	struct writer w = {.at = data, .end = data + sizeof(data)};

	/* Back in the queue after set_message_id: there is nothing more to send. */
	if (this->done) {
		message->set_exchange_type(message, EXCHANGE_TYPE_UNDEFINED);
		return SUCCESS;
	}
	write_bytes(&w, &this->nonce, sizeof(this->nonce));
	write_uint(&w, this->send, sizeof(this->send));
	write_uint(&w, this->receive, sizeof(this->receive));
	message->set_message_id(message, 0);
	message->add_notify(message, false, IKEV2_MESSAGE_ID_SYNC, chunk_from_thing(data));
	SAY("%s[%u]: Message IDs are agreed on anew: we send from %u, expect %u",
		this->sa->get_name(this->sa), this->sa->get_unique_id(this->sa), this->send,
		this->receive);
	return NEED_MORE;
}

/* False: it is no answer to ours. */
static bool read_answer(
	const struct sync *this, message_t *message, uint32_t *ret_send, uint32_t *ret_receive)
{
	notify_payload_t *notify = message->get_notify(message, IKEV2_MESSAGE_ID_SYNC);
	chunk_t data = notify ? notify->get_notification_data(notify) : chunk_empty;
	struct reader r = {.at = data.ptr, .end = data.ptr + data.len};
	uint32_t nonce;

	read_bytes(&r, &nonce, sizeof(nonce));
	*ret_send = (uint32_t)read_uint(&r, sizeof(*ret_send));
	*ret_receive = (uint32_t)read_uint(&r, sizeof(*ret_receive));
	return !r.failed && r.at == r.end && nonce == this->nonce;
}

/* Meanwhile the record stays as it is: Message ID 0 is none to go on from. */
static void set_syncing(ike_sa_t *sa, bool syncing)
{
	struct known *known;

	pthread_mutex_lock(&known_lock);
	known = known_of(sa);
	if (known)
		known->syncing = syncing;
	pthread_mutex_unlock(&known_lock);
}

/* set_message_id resets charon's task manager, which puts this task back into its queue: it may not
 * end before it has been built once more. */
static status_t process(task_t *task, message_t *message)
{
	struct sync *this = (struct sync *)task;
	ike_sa_t *sa = this->sa;
	uint32_t send, receive;
	task_t *later;

	if (!read_answer(this, message, &send, &receive)) {
		SAY("%s[%u]: no answer about Message IDs", sa->get_name(sa), sa->get_unique_id(sa));
		return SUCCESS;
	}
	this->done = true;
	while (array_remove(this->later, ARRAY_HEAD, &later))
		sa->queue_task(sa, later);
	set_syncing(sa, false);
	sa->set_message_id(sa, false, max(send, this->receive));
	sa->set_message_id(sa, true, max(receive, this->send));
	return NEED_MORE;
}

static task_type_t get_type(task_t *task)
{
	return TASK_IKE_DPD;
}

static void migrate(task_t *task, ike_sa_t *sa)
{
	((struct sync *)task)->sa = sa;
}

static void destroy(task_t *task)
{
	array_destroy_offset(((struct sync *)task)->later, offsetof(task_t, destroy));
	free(task);
}

/* charon would begin with any of them, under Message ID 0. */
static void set_aside(ike_sa_t *sa, struct sync *this)
{
	enumerator_t *enumerator = sa->create_task_enumerator(sa, TASK_QUEUE_QUEUED);
	task_t *task;

	while (enumerator->enumerate(enumerator, &task)) {
		sa->remove_task(sa, enumerator);
		array_insert(this->later, ARRAY_TAIL, task);
	}
	enumerator->destroy(enumerator);
}

static bool draw_nonce(uint32_t *ret)
{
	rng_t *rng = lib->crypto->create_rng(lib->crypto, RNG_STRONG);
	bool done = rng && rng->get_bytes(rng, sizeof(*ret), (uint8_t *)ret);

	DESTROY_IF(rng);
	return done;
}

static void ask(ike_sa_t *sa)
{
	struct sync *this;

	INIT(this,
		.task = {.get_type = get_type,
			.build = build,
			.process = process,
			.migrate = migrate,
			.destroy = destroy},
		.sa = sa, .send = sa->get_message_id(sa, true) + SYNC_MARGIN,
		.receive = sa->get_message_id(sa, false), .later = array_create(0, 0));
	if (!draw_nonce(&this->nonce)) {
		destroy(&this->task);
		return;
	}
	set_syncing(sa, true);
	/* What waits for its answer goes back into the queue. */
	sa->set_message_id(sa, true, 0);
	set_aside(sa, this);
	sa->queue_task(sa, &this->task);
	sa->initiate(sa, NULL, NULL);
}

/* With AES-GCM a strongSwan peer makes its IV of the Message ID, each at most twice: one that has
 * sent requests and responses has used up Message ID 0, and would drop the IKE SA. */
static bool can_be_asked(ike_sa_t *sa, bool unanswered)
{
	proposal_t *proposal = sa->get_proposal(sa);
	uint16_t algorithm = 0, bits;

	if (!sa->supports_extension(sa, EXT_IKE_MESSAGE_ID_SYNC))
		return false;
	proposal->get_algorithm(proposal, ENCRYPTION_ALGORITHM, &algorithm, &bits);
	if (!encryption_algorithm_is_aead(algorithm))
		return true;
	return !unanswered &&
	       (sa->get_message_id(sa, true) == 0 || sa->get_message_id(sa, false) == 0);
}

static void start(void *data, bool unanswered)
{
	ike_sa_manager_t *manager = charon->ike_sa_manager;
	ike_sa_t *sa = manager->checkout(manager, data);

	if (!sa)
		return;
	if (sa->get_state(sa) != IKE_ESTABLISHED) {
		manager->checkin(manager, sa);
	} else if (can_be_asked(sa, unanswered)) {
		ask(sa);
		manager->checkin(manager, sa);
	} else {
		SAY("%s[%u]: its record is old, and the peer cannot be asked (RFC 6311): it is "
		    "made anew",
			sa->get_name(sa), sa->get_unique_id(sa));
		sa->reestablish(sa);
		manager->checkin_and_destroy(manager, sa);
	}
}

static job_requeue_t start_heard(void *data)
{
	start(data, false);
	return JOB_REQUEUE_NONE;
}

static job_requeue_t start_unanswered(void *data)
{
	start(data, true);
	return JOB_REQUEUE_NONE;
}

static void id_destroy(void *data)
{
	ike_sa_id_t *id = data;

	id->destroy(id);
}

/* Once: the doubt ends with the answer. */
static void start_soon(struct known *known, callback_job_cb_t how)
{
	ike_sa_id_t *id = ike_sa_id_create(
		IKEV2_MAJOR_VERSION, known->spi[0], known->spi[1], known->initiator);

	known->doubtful = false;
	known->asked = true;
	lib->processor->queue_job(
		lib->processor, (job_t *)callback_job_create(how, id, id_destroy, NULL));
}

void sync_heard(struct known *known, ike_sa_t *sa, message_t *message)
{
	/* The peer has had an answer to all before it: not of ours. */
	if ((known->doubtful || (known->imported && !known->asked)) &&
		message->get_request(message) &&
		message->get_message_id(message) > sa->get_message_id(sa, false))
		start_soon(known, start_heard);
}

void sync_sent_again(struct known *known)
{
	if (known->doubtful)
		start_soon(known, start_unanswered);
}
