/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * xfrm.h - the kernel's SAD and SPD over XFRM netlink (linux/xfrm.h, net/xfrm/xfrm_user.c), by libmnl.
 *
 * A body (see core/record.h) is a netlink payload: struct xfrm_usersa_info or xfrm_userpolicy_info and an allow-listed
 * set of attributes, without what is local to a kernel (statistics, replay state, offload, per-CPU). All members have
 * one byte order. Bodies of SAs hold keys: whoever holds one wipes it after use.
 *
 * Only SAs whose source or destination is a cluster address are seen, and policies whose template or selector
 * leads to one.
 */
#ifndef XFRM_H
#define XFRM_H

#include <netinet/in.h>
#include <stddef.h>

#include "core/record.h"

struct xfrm;

/* An SA or policy as the kernel told it. Valid during the callback; body is wiped after it. */
struct xfrm_record {
	struct record_key key;
	struct record_facts facts;
	uint64_t oseq, seq; /* SA: counters as the kernel has them, 64 bits with ESN */
	const void *body;
	size_t body_len;
};

/* What happened in the kernel by another hand than ours (our own requests' echoes are left out). */
struct xfrm_handlers {
	void (*added)(void *ctx, const struct xfrm_record *record); /* new, or changed */
	void (*removed)(void *ctx, const struct record_key *key);   /* deleted, hard expired */
	void (*flushed)(void *ctx, enum record_kind kind);	    /* FLUSHSA, FLUSHPOLICY: all of it is gone */
	void (*counters)(void *ctx, const struct record_key *key, uint64_t oseq, uint64_t seq); /* async event */
	void (*overrun)(void *ctx); /* events were lost (ENOBUFS): dump again */
};

struct xfrm_config {
	const struct in_addr *addresses; /* outer cluster addresses */
	unsigned int n_addresses;
	bool events_for_counters; /* subscribe to async events (XFRMNLGRP_AEVENTS) */
};

int xfrm_open(const struct xfrm_config *config, const struct xfrm_handlers *handlers, void *ctx,
	struct xfrm **ret);
void xfrm_close(struct xfrm *x);

int xfrm_fd(const struct xfrm *x); /* readable: call xfrm_process() */
int xfrm_process(struct xfrm *x);  /* reads a bounded number of events; 0 or -errno */

/* Calls handlers->added for all that is there: SAs first, then policies. */
int xfrm_dump(struct xfrm *x);

/*
 * Builds an SA or policy from a body of another member. For an outbound SA its counter starts at `oseq` (the last number
 * taken as used). An SA that is there already under this key is replaced if it has another birth, else kept.
 */
int xfrm_install(struct xfrm *x, const struct record_key *key, const struct record_facts *facts,
	const void *body, size_t body_len, uint64_t oseq);
int xfrm_remove(struct xfrm *x, const struct record_key *key);

/* XFRM_MSG_NEWAE: the next outbound number is oseq + 1. Read back with XFRM_MSG_GETAE; -EIO if it did not take. */
int xfrm_move(struct xfrm *x, const struct record_key *key, uint64_t oseq);

/* The kernel's present counters of an SA (XFRM_MSG_GETAE). */
int xfrm_counters(struct xfrm *x, const struct record_key *key, uint64_t *ret_oseq, uint64_t *ret_seq);

/* XFRM_MSG_EXPIRE, soft: asks the IKE daemon to rekey. */
int xfrm_expire(struct xfrm *x, const struct record_key *key);

/* Reads a record's body as xfrm_record.body would be. Returns its length, -ENOENT, or -EMSGSIZE. */
int xfrm_read(struct xfrm *x, const struct record_key *key, void *buf, size_t size);

#endif
