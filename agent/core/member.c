/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * member.c - a member's life: its beginning and end, time and heartbeats, datagrams.
 */
#include "core/member.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "core/state.h"

#define REAP_SLOTS 1024 /* looked at in one tick */
#define PASTS 16 /* SAs without a record, for each that may be alive */
#define EPOCH_AHEAD (1ULL << 32) /* views that another member may be ahead of ours */
#define EPOCH_MOST (1ULL << 62) /* where there is nothing to compare with */

int member_new(const struct member_config *config, const struct member_ops *ops, void *ctx,
	uint64_t now_us, struct member **ret)
{
	struct member *m;
	int error;

	if (config->self >= ESPALIER_MEMBERS || !(config->members >> config->self & 1) ||
		config->journal == 0 || config->journal == RECORD_JOURNAL_DISPUTED ||
		config->life == 0 || config->heartbeat_us == 0 ||
		config->dead < MEMBER_DEAD_LEAST || config->block_bits < 1 ||
		config->block_bits > 24)
		return -EINVAL;
	m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	m->config = *config;
	m->ops = ops;
	m->ctx = ctx;
	m->rule = (struct block_rule){
		.self = config->self,
		.modulus = block_modulus((uint8_t)(31 - __builtin_clz(config->members))),
		.bits = config->block_bits,
	};
	m->now_us = m->ticked_us = m->started_us = now_us;
	m->view.publisher = config->self;
	m->journals[config->self] = config->journal;
	m->starting = true;
	m->flags = WIRE_HANDS | (config->order == ORDER_DRAIN ? WIRE_DRAINED : 0) |
		   (config->order == ORDER_YIELD ? WIRE_YIELDS : 0);
	m->sweep = TABLE_NONE;
	memset(m->owner, ESPALIER_NOBODY, sizeof(m->owner));
	error = table_init(&m->table, config->capacity);
	if (error < 0) {
		free(m);
		return error;
	}
	error = holder_init(m);
	if (error < 0) {
		member_free(m);
		return error;
	}
	m->past.most = PASTS * config->capacity;
	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++) {
		m->others[id].ike_sending.slot = TABLE_NONE;
		stream_init(&m->others[id].stream, (uint64_t)config->life << 32 | 1,
			4 * config->heartbeat_us);
	}
	*ret = m;
	return 0;
}

void member_free(struct member *m)
{
	if (!m)
		return;
	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++) {
		stream_free(&m->others[id].stream);
		free(m->others[id].queue.entries);
	}
	work_free_all(m);
	free(m->departures.all);
	policy_free(m);
	past_free(&m->past);
	holder_free(m);
	table_free(&m->table);
	free(m);
}

void member_link(struct member *m, bool up)
{
	member_set_flag(m, WIRE_LINK_DOWN, !up);
}

void member_leave(struct member *m)
{
	member_set_flag(m, WIRE_LEAVING, true);
	m->heartbeat_due_us = 0;
}

/* Time. */

static uint16_t known_macs(const struct member *m)
{
	uint16_t set = 0;

	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++)
		if (m->others[id].told)
			set |= member_bit(id);
	return set;
}

/* A packet is sent to another member only if that one will see that it came from us (one hop). */
static void set_macs(struct member *m, unsigned int id)
{
	struct other *o = &m->others[id];
	bool next_hop = o->alive && o->knows_us;

	if (memcmp(&o->macs, &o->heartbeat.macs, sizeof(o->macs)) == 0 && o->next_hop == next_hop)
		return;
	o->macs = o->heartbeat.macs;
	o->next_hop = next_hop;
	m->ops->macs(m->ctx, (uint8_t)id, &o->macs, next_hop);
}

void member_own_macs(struct member *m, const struct wire_macs *macs)
{
	if (memcmp(&m->config.macs, macs, sizeof(*macs)) == 0)
		return;
	m->config.macs = *macs;
	m->heartbeat_due_us = 0;
	m->macs_heard_us = m->now_us + m->config.dead * m->config.heartbeat_us;
	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++) {
		m->others[id].knows_us = false;
		if (member_is_other(m, id))
			set_macs(m, id);
	}
}

static void heartbeat(struct member *m)
{
	struct wire_heartbeat h = {
		.knows = known_macs(m),
		.settings = m->config.settings,
		.journal = m->config.journal,
		.records = m->table.present,
		.synced = m->synced,
		.doubled = clone_seen(m),
		.flags = m->flags,
		.view = m->view,
		.macs = m->config.macs,
	};
	uint8_t payload[64];
	struct writer w = {.at = payload, .end = payload + sizeof(payload)};

	m->heartbeat_due_us = m->now_us + m->config.heartbeat_us;
	m->heartbeat_sent_us = m->now_us;
	m->heartbeat_ticks = 0;
	wire_put_heartbeat(&w, &h);
	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++)
		if (member_is_other(m, id))
			outbox_send(m, (uint8_t)id, payload, (size_t)(w.at - payload));
}

/* We have said nothing for so long that the others have taken us out, and may have restarted
 * meanwhile: we are the one that must catch up, and nothing counts that was sent before now. */
static void begin_anew(struct member *m)
{
	uint16_t heard = 0;

	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++) {
		struct other *o = &m->others[id];

		if (!o->alive)
			continue;
		heard |= member_bit(id);
		o->knows_us = false;
		set_macs(m, id);
		outbox_forget(m, (uint8_t)id);
		compare_forget(m, (uint8_t)id);
	}
	m->synced = 0;
	if (heard)
		takeover_step_out(m, member_bit(m->config.self));
}

/* Our own sleep is no sign of another's death. */
static void notice_sleep(struct member *m)
{
	uint64_t dead_us = m->config.heartbeat_us * m->config.dead;
	uint64_t slept_us = m->now_us - m->ticked_us;

	if (slept_us <= dead_us / 2)
		return;
	m->ticked_us = m->now_us;
	m->counters.slept++;
	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++)
		if (m->others[id].alive)
			m->others[id].heard_us = m->now_us;
	if (m->now_us > m->heartbeat_sent_us + dead_us)
		begin_anew(m);
}

static void suspect(struct member *m, unsigned int id)
{
	m->others[id].alive = m->others[id].knows_us = false;
	set_macs(m, id);
	m->synced &= (uint16_t)~member_bit(id);
	takeover_step_out(m, member_bit(id));
}

static void watch(struct member *m)
{
	uint64_t dead_us = m->config.heartbeat_us * m->config.dead;

	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++)
		if (m->others[id].alive && m->now_us > m->others[id].heard_us + dead_us)
			suspect(m, id);
}

/* Who has not looked for the others yet would make a cluster of its own, and answer ARP for it. */
static void start(struct member *m)
{
	bool all_here = (m->synced | member_bit(m->config.self)) == m->config.members;

	if (all_here || (m->now_us >= m->started_us + m->config.start_us &&
				member_held_back(m) == ESPALIER_NOBODY))
		member_set_flag(m, WIRE_STARTED, true);
}

/* Our kernel lacks it. */
static bool is_stray(const struct record *r)
{
	return r->life == RECORD_ALIVE && !record_is_installed(r) && !r->work;
}

/* One that we hear and that does not hear us compares nothing with us. */
static bool are_together(const struct member *m)
{
	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++)
		if (member_is_other(m, id) &&
			!(m->synced >> id & 1 &&
				m->others[id].heartbeat.synced >> m->config.self & 1))
			return false;
	return true;
}

static void reap_past(struct member *m)
{
	uint64_t before_us = m->now_us - m->config.tombstone_us;

	for (unsigned int i = 0; i < REAP_SLOTS && i < m->past.size; i++) {
		m->reaped_past = m->reaped_past < m->past.size ? m->reaped_past : 0;
		m->reaped_past += !life_forget_past(m, m->reaped_past, before_us);
	}
}

/*
 * Dead records, and journal entries that nobody spoke of, are forgotten after a while, but not as
 * long as a member is away, or has not been told: it could bring the SA back, and we would not know
 * any more which blocks of it we entered. What our kernel lacks and nobody has sent us for as long
 * has ended, and we were not told.
 */
static void reap(struct member *m)
{
	uint64_t together_us = m->together_us;

	m->together_us = !are_together(m) ? 0 : together_us ? together_us : m->now_us;
	if (!m->together_us || m->now_us < m->together_us + m->config.tombstone_us)
		return;
	for (unsigned int i = 0; i < REAP_SLOTS && i < m->table.high; i++) {
		struct record *r;

		m->reaped = m->reaped < m->table.high ? m->reaped : 0;
		r = table_at(&m->table, m->reaped++);
		if (!r || r->dirty || m->now_us < r->died_us + m->config.tombstone_us)
			continue;
		if (is_stray(r))
			life_set_aside(m, r);
		else if (r->life != RECORD_ALIVE)
			life_forget(m, r);
	}
	reap_past(m);
	holder_reap(m);
}

/* Somebody is sending us all he has, and nobody has before: let the others have less to send. */
static bool is_joining(const struct member *m)
{
	for (unsigned int id = 0; id < ESPALIER_MEMBERS && !m->synced; id++) {
		const struct other *o = &m->others[id];

		if (o->alive && o->asking.answered != o->asking.asked)
			return true;
	}
	return false;
}

static bool compares(const struct member *m, unsigned int id)
{
	const struct other *o = &m->others[id];

	/* One that has not heard of our stream begins its own anew when it does, and voids this. */
	if (!o->alive || !o->hears_us || o->asking.answered != o->asking.asked)
		return false;
	if (!(m->synced >> id & 1))
		return !is_joining(m);
	/* One that is catching up with us differs, and will not when it has. */
	return m->now_us >= o->asking.due_us && o->heartbeat.synced >> m->config.self & 1;
}

static void compare(struct member *m)
{
	for (unsigned int id = 0; id < ESPALIER_MEMBERS; id++)
		if (compares(m, id))
			compare_pull(m, (uint8_t)id);
}

void member_tick(struct member *m, uint64_t now_us)
{
	m->now_us = now_us;
	notice_sleep(m);
	m->ticked_us = now_us;
	start(m);
	if (m->begins_anew)
		member_set_flag(m, WIRE_LEAVING, true);
	watch(m);
	clone_look(m, m->config.self);
	drain_tick(m);
	takeover_publish(m);
	handover_tick(m);
	/* After a tick that was late the second one from there is less than a heartbeat away. */
	if (++m->heartbeat_ticks >= 2 || now_us >= m->heartbeat_due_us)
		heartbeat(m);
	compare(m);
	kernel_tick(m);
	policy_tick(m);
	flow_tick(m);
	miss_tick(m);
	life_tick(m);
	holder_tick(m);
	reap(m);
	member_flush(m, now_us);
}

void member_flush(struct member *m, uint64_t now_us)
{
	m->now_us = now_us;
	replica_flush(m);
	handover_flushed(m);
	holder_flush(m);
}

/* Datagrams. */

/* No cluster has so many views. To believe it would be the last: none could be newer. Who follows
 * none yet has nothing to compare it with. */
static bool is_absurd(const struct member *m, const struct view *heard)
{
	return heard->epoch > (m->view.live ? m->view.epoch + EPOCH_AHEAD : EPOCH_MOST);
}

/* Ours was absurd, and we followed none then: from here on it counts as theirs does. */
static void step_down(struct member *m, uint8_t from, const struct view *heard)
{
	if (!m->view.live || !heard->live || m->view.epoch <= heard->epoch + EPOCH_AHEAD)
		return;
	m->view.epoch = heard->epoch;
	member_notice(m, NOTICE_STEPPED_DOWN, NULL, from);
}

static void hear_heartbeat(struct member *m, uint8_t from, const struct wire_heartbeat *h)
{
	struct other *o = &m->others[from];
	const struct view before = o->heartbeat.view;

	if (is_absurd(m, &h->view)) {
		m->counters.out_of_bounds++;
		member_notice(m, NOTICE_EPOCH, NULL, from);
		return;
	}
	o->differs = h->settings != m->config.settings;
	if (o->differs) {
		claim_heard(m, from, h);
		return;
	}
	step_down(m, from, &h->view);
	o->heartbeat = *h;
	o->heard_us = m->now_us;
	if (!o->alive) {
		o->alive = true;
		m->synced &= (uint16_t)~member_bit(from);
		compare_void(m, from);
	}
	o->told = true;
	o->knows_us =
		o->hears_us && h->knows >> m->config.self & 1 && m->now_us >= m->macs_heard_us;
	set_macs(m, from);
	if (m->journals[from] != h->journal) {
		m->journals[from] = h->journal;
		m->sweep = 0;
	}
	clone_look(m, from);
	handover_look(m);
	takeover_adopt(m, from, &before);
}

/* What comes outside the stream. */
static void hear(struct member *m, uint8_t from, struct reader *r)
{
	struct wire_message message;
	int n;

	while ((n = wire_get(r, &message)) > 0) {
		if (message.kind == WIRE_HEARTBEAT)
			hear_heartbeat(m, from, &message.heartbeat);
		else if (message.kind == WIRE_ASK || message.kind == WIRE_LACK)
			miss_heard(m, from, &message);
		else if (message.kind == WIRE_ORDER)
			drain_heard(m, message.number);
	}
	if (n < 0)
		m->counters.malformed++;
}

void member_datagram(
	struct member *m, uint8_t from, const void *datagram, size_t len, uint64_t now_us)
{
	struct reader r = {.at = datagram, .end = (const uint8_t *)datagram + len};
	struct other *o = &m->others[from < ESPALIER_MEMBERS ? from : 0];
	struct wire_header h;

	m->now_us = now_us;
	notice_sleep(m);
	if (wire_get_header(&r, &h) < 0 || !member_is_other(m, from) || h.from != from ||
		h.to != m->config.self) {
		m->counters.malformed++;
		return;
	}
	switch (stream_hear(&o->stream, &h)) {
	case STREAM_OLD:
		return;
	case STREAM_TWO_LIVES:
		clone_sign(m, from);
		/* fallthrough */
	case STREAM_NEW_LIFE:
		o->told = o->knows_us = false;
		set_macs(m, from);
		/* fallthrough */
	case STREAM_LOST:
		outbox_forget(m, from);
		/* fallthrough */
	case STREAM_NEW:
		m->synced &= (uint16_t)~member_bit(from);
		compare_forget(m, from);
		holder_forget(m, from);
		break;
	case STREAM_GOES_ON:
		break;
	}
	o->hears_us = h.ack_stream == o->stream.id;
	if (!h.segment) {
		hear(m, from, &r);
		return;
	}
	if (!o->alive)
		return; /* not acknowledged: it comes again when we have heard that it agrees with
			   us */
	replica_arrived(m, from, h.seq, &r);
}
