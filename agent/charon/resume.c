/* SPDX-License-Identifier: BSD-2-Clause */
#include "charon/resume.h"

#include <encoding/payloads/delete_payload.h>
#include <encoding/payloads/notify_payload.h>
#include <processing/jobs/rekey_child_sa_job.h>
#include <sa/task.h>

#define IKE_EXCHANGE 18 /* offset in a message */

struct resume {
	task_t task;
	ike_sa_t *sa;
	exchange_type_t exchange;
	uint32_t child_spi; /* of the Child SA that it was to make; 0: none */
	bool ends; /* it deletes the IKE SA */
};

/* The message that is built gives charon what to expect; what is sent is the other member's
 * (commit.c). */
static status_t build(task_t *task, message_t *message)
{
	message->set_exchange_type(message, ((struct resume *)task)->exchange);
	return NEED_MORE;
}

/* What it was to delete is gone at the peer. */
static void destroy_deleted(ike_sa_t *sa)
{
	enumerator_t *enumerator = sa->create_child_sa_enumerator(sa);
	child_sa_t *child;

	while (enumerator->enumerate(enumerator, &child))
		if (child->get_state(child) == CHILD_DELETING) {
			sa->remove_child_sa(sa, enumerator);
			child->destroy(child);
		}
	enumerator->destroy(enumerator);
}

static void delete_child(ike_sa_t *sa, uint32_t spi);

static status_t process(task_t *task, message_t *message)
{
	struct resume *this = (struct resume *)task;
	ike_sa_t *sa = this->sa;

	if (this->ends)
		return DESTROY_ME;
	destroy_deleted(sa);
	/* Otherwise the peer has refused. */
	if (this->exchange != CREATE_CHILD_SA ||
		!message->get_payload(message, PLV2_SECURITY_ASSOCIATION))
		return SUCCESS;
	if (this->child_spi) {
		SAY("IKE SA %s[%u]: Child SA %.8x_i, which another member asked for, is deleted",
			sa->get_name(sa), sa->get_unique_id(sa), ntohl(this->child_spi));
		delete_child(sa, this->child_spi);
		return SUCCESS;
	}
	SAY("IKE SA %s[%u]: it was being rekeyed by another member, and has to be made anew",
		sa->get_name(sa), sa->get_unique_id(sa));
	return sa->reauth(sa) == DESTROY_ME ? DESTROY_ME : SUCCESS;
}

static task_type_t get_type(task_t *task)
{
	return TASK_IKE_DPD;
}

static void migrate(task_t *task, ike_sa_t *sa)
{
	((struct resume *)task)->sa = sa;
}

static void destroy(task_t *task)
{
	free(task);
}

/* A task of a type that charon begins in an exchange of its own. */
static struct resume *task_create(ike_sa_t *sa, status_t (*builds)(task_t *, message_t *),
	status_t (*processes)(task_t *, message_t *))
{
	struct resume *this;

	INIT(this,
		.task = {.get_type = get_type,
			.build = builds,
			.process = processes,
			.migrate = migrate,
			.destroy = destroy},
		.sa = sa);
	return this;
}

/* Deletes a Child SA that we have not, as if we had. */
static status_t build_delete(task_t *task, message_t *message)
{
	delete_payload_t *payload = delete_payload_create(PLV2_DELETE, PROTO_ESP);

	payload->add_spi(payload, ((struct resume *)task)->child_spi);
	message->add_payload(message, (payload_t *)payload);
	return NEED_MORE;
}

static status_t process_delete(task_t *task, message_t *message)
{
	return SUCCESS;
}

static void delete_child(ike_sa_t *sa, uint32_t spi)
{
	struct resume *this = task_create(sa, build_delete, process_delete);

	this->child_spi = spi;
	sa->queue_task(sa, &this->task);
}

/* What it was about to replace is rekeyed by us. */
static void rekey_again(ike_sa_t *sa, const struct record_ike *record)
{
	struct reader r = record_list(record->children);
	struct record_child item;

	while (record_next_child(&r, &item))
		if (item.state == RECORD_REKEYING)
			sa->rekey_child_sa(sa, item.protocol, item.spi[0]);
}

void resume_request(ike_sa_t *sa, const struct record_ike *record)
{
	struct reader packets = record_list(record->request.packets);
	bool ends = record->state == RECORD_DELETING;
	struct bytes first;
	struct resume *this;

	if (!record_next_packet(&packets, &first) || first.len <= IKE_EXCHANGE)
		return;
	SAY("IKE SA %s[%u]: request %u of another member is sent again", sa->get_name(sa),
		sa->get_unique_id(sa), record->request.id);
	this = task_create(sa, build, process);
	this->exchange = first.at[IKE_EXCHANGE];
	this->child_spi = record->request_spi;
	this->ends = ends;
	sa->queue_task(sa, &this->task);
	sa->initiate(sa, NULL, NULL);
	rekey_again(sa, record);
	if (ends)
		sa->set_state(sa, IKE_DELETING);
}
