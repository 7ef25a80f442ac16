/* SPDX-License-Identifier: BSD-2-Clause */
/* plugin.h - the agent's end of the socket that the IKE daemon's plugin speaks to
 * (espalier_ike.h). */
#ifndef PLUGIN_H
#define PLUGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "espalier_ike.h"

/* A message of the plugin's. What does not belong to its type is NULL or 0; all is in the packet.
 */
struct plugin_message {
	uint8_t type; /* enum espalier_ike_type */
	const struct espalier_ike_hello *hello;
	const struct espalier_ike_name *name;
	const struct espalier_ike_record *record;
	const struct espalier_ike_child *children;
	const uint8_t *body;
};

/* packet: aligned as a struct espalier_ike_record. -EBADMSG: no plugin says that. */
int plugin_decode(const void *packet, size_t len, struct plugin_message *ret);

struct plugin;

struct plugin_handlers {
	void (*message)(void *ctx, const struct plugin_message *message); /* HELLO first */
	void (*lost)(void *ctx); /* a connection that had said HELLO */
	void (*refused)(void *ctx, const char *why); /* one that was closed, or that failed */
	void (*room)(void *ctx); /* after -EAGAIN: there may be some now */
};

/* Makes the socket, in the place of one that nobody listens to. 0 or -errno. */
int plugin_open(
	const char *path, const struct plugin_handlers *handlers, void *ctx, struct plugin **ret);
void plugin_close(struct plugin *l); /* removes the socket */
int plugin_fd(const struct plugin *l); /* an epoll set; -1: none */
void plugin_process(struct plugin *l); /* a bounded number of messages */

/* Does not wait. 0; -EAGAIN: no room; another -errno: it will not arrive. */
int plugin_send(struct plugin *l, enum espalier_ike_type type, const void *fixed, size_t fixed_len,
	const void *body, size_t body_len);

#endif
