/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * agent.h - the parts of a running espalierd.
 *
 *   espalierd.c  starts them, waits for events and hands these to the core
 *   ops.c        carries out what the core decides (core/member.h, struct member_ops)
 *   control.c    answers espalierctl
 */
#ifndef AGENT_H
#define AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config.h"
#include "core/member.h"
#include "io/channel.h"
#include "io/datapath.h"
#include "io/journal.h"
#include "io/link.h"
#include "io/xfrm.h"

struct agent {
	struct config config;
	unsigned int ifindex[DATAPATH_SIDES];
	struct link_state links[DATAPATH_SIDES];
	struct member *member;
	struct datapath *datapath;
	struct channel *channel;
	struct xfrm *xfrm;
	struct journal *journal;
	struct link *link;
	uint64_t *positions; /* by slot: what the core was told last */
	uint8_t *seen; /* by slot, while the kernel is read again: it is still there */
	uint64_t positions_due_us;
	uint64_t flip_ns; /* how long the last takeover took, from the decision to the flip */
	bool ingress;
	bool journal_failed;
	bool resync; /* kernel events were lost */
};

uint64_t agent_now_ns(void); /* CLOCK_MONOTONIC */
__attribute__((format(printf, 1, 2))) void agent_say(const char *format, ...);

/* ops.c */
extern const struct member_ops agent_ops; /* ctx: struct agent */

/* control.c: the socket that espalierctl speaks to. */
struct control;
int control_open(const char *path, struct control **ret); /* 0 or -errno */
void control_close(struct control *c); /* removes the socket */
int control_fd(const struct control *c); /* an epoll set */
void control_process(struct control *c, const struct agent *a);

#endif
