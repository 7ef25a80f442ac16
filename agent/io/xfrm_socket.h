/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * xfrm_socket.h - what the two halves of the XFRM adapter share: xfrm.c listens, xfrm_request.c
 * asks.
 *
 * Whatever is read from a netlink socket here may hold keys and is wiped after use.
 */
#ifndef XFRM_SOCKET_H
#define XFRM_SOCKET_H

#include <libmnl/libmnl.h>

#include "io/xfrm.h"
#include "io/xfrm_body.h"
#include "io/xfrm_index.h"

#define XFRM_ANSWER_SIZE 4096 /* bytes: the largest SA: keys, a replay window of 4096 bits */
#define XFRM_RECEIVE_SIZE 32768 /* bytes: the kernel's largest part of a dump */

struct xfrm {
	struct mnl_socket *events, *requests;
	struct mnl_socket *dumps; /* so that handlers may make requests during a dump */
	unsigned int portid; /* of `requests`: marks our own echoes */
	uint32_t sequence, dump_sequence;
	bool knows_direction; /* XFRMA_SA_DIR, from 6.10 */
	struct xfrm_handlers handlers;
	void *ctx;
	struct in_addr addresses[ESPALIER_ADDRESSES];
	unsigned int n_addresses;
	struct xfrm_index
		index[RECORD_POLICY + 1]; /* by kind: every policy, every SA with a mark */
};

/* Reads an SA or a policy as it is: the kernel's message, to be wiped after use. */
struct xfrm_answer {
	_Alignas(8) char data[XFRM_ANSWER_SIZE];
};
int xfrm_socket_get(struct xfrm *x, const struct record_key *key, struct xfrm_answer *ret);

/* Remembers what finds the record in the kernel again, if its key does not say it. 0 or -ENOMEM. */
int xfrm_socket_remember(struct xfrm *x, const struct record_key *key, const struct xfrm_body *b);

/* Whether the kernel has XFRMA_SA_DIR: 1 or 0, or -errno. */
int xfrm_socket_probe_direction(struct xfrm *x);

#endif
