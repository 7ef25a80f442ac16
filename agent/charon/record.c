/* SPDX-License-Identifier: BSD-2-Clause */
#include "charon/record.h"

/* One of both. */
struct codec {
	struct writer *w;
	struct reader *r;
	bool writes; /* to w, else reads from r */
};

#define NUMBER(codec, field) number(codec, &(field), sizeof(field))

static void number(struct codec *c, void *field, size_t width)
{
	union {
		uint8_t u8;
		uint16_t u16;
		uint32_t u32;
	} value;

	if (c->writes) {
		memcpy(&value, field, width);
		write_uint(c->w,
			width == 1   ? value.u8
			: width == 2 ? value.u16
				     : value.u32,
			(unsigned int)width);
		return;
	}
	if (width == 1)
		value.u8 = (uint8_t)read_uint(c->r, 1);
	else if (width == 2)
		value.u16 = (uint16_t)read_uint(c->r, 2);
	else
		value.u32 = (uint32_t)read_uint(c->r, 4);
	memcpy(field, &value, width);
}

/* As it is in memory. */
static void raw(struct codec *c, void *field, size_t len)
{
	if (c->writes)
		write_bytes(c->w, field, len);
	else
		read_bytes(c->r, field, len);
}

/* At most 65,535. */
static void run(struct codec *c, struct bytes *bytes)
{
	if (c->writes) {
		c->w->failed |= bytes->len > UINT16_MAX;
		write_uint(c->w, bytes->len, 2);
		write_bytes(c->w, bytes->at, bytes->len);
		return;
	}
	bytes->len = read_uint(c->r, 2);
	bytes->at = reader_take(c->r, bytes->len);
	if (!bytes->at)
		bytes->len = 0;
}

static void transform_fields(struct codec *c, struct record_transform *transform)
{
	NUMBER(c, transform->type);
	NUMBER(c, transform->id);
	NUMBER(c, transform->bits);
}

static void host_fields(struct codec *c, struct record_host *host)
{
	NUMBER(c, host->port);
	run(c, &host->address);
	if (!c->writes && host->address.len != 4 && host->address.len != 16)
		c->r->failed = true;
}

static void identity_fields(struct codec *c, struct record_identity *identity)
{
	NUMBER(c, identity->type);
	run(c, &identity->encoding);
}

static void selector_fields(struct codec *c, struct record_selector *selector)
{
	NUMBER(c, selector->type);
	NUMBER(c, selector->protocol);
	NUMBER(c, selector->from_port);
	NUMBER(c, selector->to_port);
	run(c, &selector->from);
	run(c, &selector->to);
	if (!c->writes && (selector->from.len != selector->to.len ||
				  (selector->from.len != 4 && selector->from.len != 16)))
		c->r->failed = true;
}

static void messages_fields(struct codec *c, struct record_messages *messages)
{
	NUMBER(c, messages->id);
	run(c, &messages->packets);
}

static void child_fields(struct codec *c, struct record_child *child)
{
	raw(c, child->spi, sizeof(child->spi));
	raw(c, &child->rekeyed, sizeof(child->rekeyed));
	raw(c, child->cpi, sizeof(child->cpi));
	NUMBER(c, child->protocol);
	NUMBER(c, child->mode);
	NUMBER(c, child->ipcomp);
	NUMBER(c, child->encapsulated);
	NUMBER(c, child->state);
	NUMBER(c, child->outbound);
	NUMBER(c, child->close_action);
	NUMBER(c, child->dpd_action);
	NUMBER(c, child->reqid);
	for (int out = 0; out < 2; out++) {
		NUMBER(c, child->mark[out]);
		NUMBER(c, child->if_id[out]);
	}
	run(c, &child->name);
	run(c, &child->proposal);
	run(c, &child->here);
	run(c, &child->there);
}

static void ike_fields(struct codec *c, struct record_ike *ike)
{
	raw(c, ike->spi, sizeof(ike->spi));
	NUMBER(c, ike->initiator);
	NUMBER(c, ike->state);
	NUMBER(c, ike->send);
	NUMBER(c, ike->receive);
	NUMBER(c, ike->conditions);
	NUMBER(c, ike->extensions);
	NUMBER(c, ike->established);
	NUMBER(c, ike->rekey);
	NUMBER(c, ike->reauthenticate);
	NUMBER(c, ike->end);
	run(c, &ike->proposal);
	for (int i = 0; i < RECORD_KEYS; i++)
		run(c, &ike->key[i]);
	identity_fields(c, &ike->me);
	identity_fields(c, &ike->other);
	identity_fields(c, &ike->eap);
	host_fields(c, &ike->here);
	host_fields(c, &ike->there);
	run(c, &ike->name);
	run(c, &ike->token);
	run(c, &ike->peer_addresses);
	run(c, &ike->here_virtual);
	run(c, &ike->there_virtual);
	run(c, &ike->children);
	messages_fields(c, &ike->response);
	messages_fields(c, &ike->request);
	raw(c, &ike->request_spi, sizeof(ike->request_spi));
}

/* Another struct of a list; what is written stays as it is. */
#define PUT(fields, w_, item) fields(&(struct codec){.w = (w_), .writes = true}, (void *)(item))

static bool next(struct reader *list)
{
	return !list->failed && list->at != list->end;
}

void record_put_child(struct writer *w, const struct record_child *child)
{
	PUT(child_fields, w, child);
}

void record_put_transform(struct writer *w, const struct record_transform *transform)
{
	PUT(transform_fields, w, transform);
}

void record_put_host(struct writer *w, const struct record_host *host)
{
	PUT(host_fields, w, host);
}

void record_put_selector(struct writer *w, const struct record_selector *selector)
{
	PUT(selector_fields, w, selector);
}

/* False as well if it is malformed: then the list has failed. */
#define NEXT(fields, list, ret)                                                                    \
	(next(list) && (fields(&(struct codec){.r = (list)}, ret), !(list)->failed))

bool record_next_child(struct reader *list, struct record_child *ret)
{
	return NEXT(child_fields, list, ret);
}

bool record_next_transform(struct reader *list, struct record_transform *ret)
{
	return NEXT(transform_fields, list, ret);
}

bool record_next_host(struct reader *list, struct record_host *ret)
{
	return NEXT(host_fields, list, ret);
}

bool record_next_selector(struct reader *list, struct record_selector *ret)
{
	return NEXT(selector_fields, list, ret);
}

bool record_next_packet(struct reader *list, struct bytes *ret)
{
	return NEXT(run, list, ret);
}

void record_put_packet(struct writer *w, struct bytes packet)
{
	run(&(struct codec){.w = w, .writes = true}, &packet);
}

void record_put(struct writer *w, const struct record_ike *ike)
{
	write_uint(w, RECORD_FORMAT, 1);
	ike_fields(&(struct codec){.w = w, .writes = true}, (struct record_ike *)ike);
}

struct reader record_list(struct bytes list)
{
	return (struct reader){.at = list.at, .end = list.at + list.len};
}

/* Goes through a list; false: there is an item that is malformed. */
#define GOOD(list, name, type)                                                                     \
	({                                                                                         \
		struct reader r_ = record_list(list);                                              \
		type item_;                                                                        \
		while (record_next_##name(&r_, &item_))                                            \
			;                                                                          \
		!r_.failed;                                                                        \
	})

static bool child_good(const struct record_child *child)
{
	return GOOD(child->proposal, transform, struct record_transform) &&
	       GOOD(child->here, selector, struct record_selector) &&
	       GOOD(child->there, selector, struct record_selector);
}

static bool children_good(struct bytes children)
{
	struct reader list = record_list(children);
	struct record_child child;

	while (record_next_child(&list, &child))
		if (!child_good(&child))
			return false;
	return !list.failed;
}

bool record_get(const uint8_t *body, size_t len, struct record_ike *ret)
{
	struct reader r = {.at = body, .end = body + len};

	if (read_uint(&r, 1) != RECORD_FORMAT)
		return false;
	ike_fields(&(struct codec){.r = &r}, ret);
	return !r.failed && r.at == r.end &&
	       GOOD(ret->proposal, transform, struct record_transform) &&
	       GOOD(ret->peer_addresses, host, struct record_host) &&
	       GOOD(ret->here_virtual, host, struct record_host) &&
	       GOOD(ret->there_virtual, host, struct record_host) && children_good(ret->children) &&
	       GOOD(ret->response.packets, packet, struct bytes) &&
	       GOOD(ret->request.packets, packet, struct bytes);
}
