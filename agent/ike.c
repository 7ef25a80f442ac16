/* SPDX-License-Identifier: BSD-2-Clause */
/* ike.c - the IKE daemon's plugin (espalier_ike.h) and the core, brought together. */
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent.h"
#include "io/digest.h"

#define REQIDS 0x1000000U /* of a member; 0 is none */
#define LABEL "espalier QCD secret"

#define SAME(name) static_assert((int)IKE_##name == (int)ESPALIER_IKE_##name, "the core's own")
SAME(INITIATOR);
SAME(SYNC);
SAME(BACKGROUND);
SAME(SURE);
SAME(ESTABLISHED);
SAME(V1);
SAME(BODY_MAX);

static struct espalier_ike_spis spis_of(const struct ike_head *head)
{
	bool initiator = head->flags & IKE_INITIATOR;

	return (struct espalier_ike_spis){.initiator = htobe64(initiator ? head->own : head->peer),
		.responder = htobe64(initiator ? head->peer : head->own)};
}

static struct ike_head head_of(
	const struct espalier_ike_spis *spis, uint32_t turn, uint64_t version, uint32_t flags)
{
	uint64_t i = be64toh(spis->initiator), r = be64toh(spis->responder);
	bool initiator = flags & ESPALIER_IKE_INITIATOR;

	return (struct ike_head){
		.own = initiator ? i : r,
		.peer = initiator ? r : i,
		.turn = turn,
		.version = version,
		.flags = (uint8_t)(flags & IKE_KEPT),
	};
}

static void settings_of(const struct agent *a, struct espalier_ike_settings *ret)
{
	const struct config *c = &a->config;
	uint64_t bucket = view_ike_bucket((uint16_t)c->members, (uint8_t)c->id);
	uint32_t spi = (uint32_t)bucket << (32 - ESPALIER_BUCKET_BITS);

	*ret = (struct espalier_ike_settings){
		.member = (uint8_t)c->id,
		.members = (uint8_t)__builtin_popcount(c->members),
		.commit_ms = c->ike_commit_us / 1000,
		.reqid_first = (c->id + 1) * REQIDS,
		.reqid_last = (c->id + 2) * REQIDS - 1,
	};
	if (ret->members > 1)
		ret->away_ms = c->heartbeat_us / 1000 * c->dead_after;
	if (c->hash == ESPALIER_HASH_PREFIX && bucket < ESPALIER_BUCKETS) {
		ret->has_ranges = 1;
		ret->esp_spi_first = spi;
		ret->esp_spi_last = spi | (UINT32_MAX >> ESPALIER_BUCKET_BITS);
		ret->ike_spi_mask = ~(UINT64_MAX >> ESPALIER_BUCKET_BITS);
		ret->ike_spi_value = bucket << (64 - ESPALIER_BUCKET_BITS);
	}
	if (c->psk_size) {
		ret->has_secret = 1;
		digest_hmac(c->psk, c->psk_size, LABEL, sizeof(LABEL), ret->qcd_secret);
	}
}

static void greet(struct agent *a, const struct espalier_ike_hello *hello)
{
	struct espalier_ike_settings settings;

	snprintf(a->ike.daemon, sizeof(a->ike.daemon), "%s", hello->daemon);
	agent_say("the IKE daemon is here: %s", a->ike.daemon);
	settings_of(a, &settings);
	(void)plugin_send(a->ike.link, ESPALIER_IKE_SETTINGS, &settings, sizeof(settings), NULL, 0);
	explicit_bzero(&settings, sizeof(settings));
	member_ike_hello(a->member);
}

static void take_record(struct agent *a, const struct plugin_message *m)
{
	const struct espalier_ike_record *r = m->record;
	struct ike_head head = head_of(&r->spis, r->turn, r->version, r->flags);
	struct ike_child children[ESPALIER_IKE_CHILDREN_MAX];

	head.children = r->children;
	for (unsigned int i = 0; i < r->children; i++) {
		const struct espalier_ike_child *c = &m->children[i];

		children[i] = (struct ike_child){.protocol = c->protocol,
			.family = c->family,
			.policies = c->policies,
			.spi_in = c->spi_in,
			.spi_out = c->spi_out};
		memcpy(children[i].local, c->local, sizeof(c->local));
		memcpy(children[i].remote, c->remote, sizeof(c->remote));
	}
	member_ike_record(a->member, &head, m->body, r->body_length, children, r->children);
}

static void on_message(void *ctx, const struct plugin_message *m)
{
	struct ike_head head = {0};
	struct agent *a = ctx;

	if (m->name)
		head = head_of(&m->name->spis, m->name->turn, m->name->version, m->name->flags);
	switch (m->type) {
	case ESPALIER_IKE_HELLO:
		greet(a, m->hello);
		break;
	case ESPALIER_IKE_READY:
		member_ike_ready(a->member);
		break;
	case ESPALIER_IKE_RECORD:
		take_record(a, m);
		break;
	case ESPALIER_IKE_GONE:
		member_ike_gone(a->member, &head);
		break;
	case ESPALIER_IKE_NEED:
		member_ike_need(a->member, head.own, head.peer, head.flags);
		break;
	case ESPALIER_IKE_RELEASED:
		member_ike_released(a->member, head.own);
		break;
	}
}

static void on_lost(void *ctx)
{
	struct agent *a = ctx;

	agent_say("the IKE daemon is gone: %s", a->ike.daemon);
	a->ike.daemon[0] = '\0';
	member_ike_lost(a->member);
}

static void on_refused(void *ctx, const char *why)
{
	(void)ctx;
	agent_say("a connection of an IKE daemon is closed: %s", why);
}

static void on_room(void *ctx)
{
	(void)ctx; /* member_flush() follows in this turn */
}

static const struct plugin_handlers handlers = {on_message, on_lost, on_refused, on_room};

static int tell_name(
	struct plugin *l, enum espalier_ike_type type, const struct ike *r, uint64_t version)
{
	struct espalier_ike_name name = {.spis = spis_of(&r->head),
		.version = version,
		.turn = r->head.turn,
		.flags = r->head.flags};

	return plugin_send(l, type, &name, sizeof(name), NULL, 0);
}

static int give(struct plugin *l, const struct ike *r)
{
	struct espalier_ike_record record = {.spis = spis_of(&r->head),
		.version = r->head.version,
		.turn = r->head.turn,
		.flags = member_ike_flags(r),
		.body_length = r->body_len};

	return plugin_send(l, ESPALIER_IKE_GIVE, &record, sizeof(record), r->body, r->body_len);
}

bool ike_told(void *ctx, enum ike_tell what, const struct ike *r)
{
	struct agent *a = ctx;
	struct plugin *l = a->ike.link;
	int sent = 0;

	switch (what) {
	case IKE_TELL_COMMITTED:
		sent = tell_name(l, ESPALIER_IKE_COMMITTED, r, r->committed);
		break;
	case IKE_TELL_GIVE:
		sent = give(l, r);
		break;
	case IKE_TELL_RELEASE:
		sent = tell_name(l, ESPALIER_IKE_RELEASE, r, r->head.version);
		break;
	case IKE_TELL_DROP:
		sent = tell_name(l, ESPALIER_IKE_DROP, r, r->head.version);
		break;
	case IKE_TELL_NONE:
		sent = tell_name(l, ESPALIER_IKE_NONE, r, 0);
		break;
	case IKE_TELL_TAKEN:
		sent = plugin_send(l, ESPALIER_IKE_TAKEN, NULL, 0, NULL, 0);
		break;
	}
	return sent != -EAGAIN; /* what a broken connection loses is told anew by the next one */
}

void ike_tick(struct agent *a)
{
	if (a->ike.daemon[0])
		(void)plugin_send(a->ike.link, ESPALIER_IKE_ALIVE, NULL, 0, NULL, 0);
}

void ike_process(struct agent *a)
{
	plugin_process(a->ike.link);
}

/* Beside the control socket. */
int ike_open(struct agent *a, char *err, size_t err_size)
{
	char path[CONFIG_PATH_SIZE];
	const char *slash = strrchr(a->config.control_path, '/');
	int r;

	if (!a->config.max_ikes)
		return 0;
	snprintf(path, sizeof(path), "%.*s/ike", (int)(slash - a->config.control_path),
		a->config.control_path);
	r = plugin_open(path, &handlers, a, &a->ike.link);
	if (r < 0)
		snprintf(err, err_size, "cannot make the IKE daemon's socket %s: %s", path,
			strerror(-r));
	return r;
}

void ike_close(struct agent *a)
{
	plugin_close(a->ike.link);
}
