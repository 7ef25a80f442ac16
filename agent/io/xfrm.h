/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * xfrm.h - the kernel's SAD and SPD over XFRM netlink (linux/xfrm.h, net/xfrm/xfrm_user.c), by
 * libmnl.
 *
 * A body (see core/record.h) is a netlink payload: struct xfrm_usersa_info or xfrm_userpolicy_info
 * and an allow-listed set of attributes, without what is local to a kernel (statistics, replay
 * state, offload, per-CPU). The time an SA was added travels as its age. All members have one byte
 * order. Bodies of SAs hold keys: whoever holds one wipes it after use.
 *
 * Only ESP and IPComp SAs whose source or destination is a cluster address are seen (not those that
 * the kernel makes itself for IPComp), and all policies but those whose templates name another
 * address as this side. What is bound to an interface (selector, packet offload) or a socket, has a
 * security label, or is encapsulated in TCP stays on its member.
 */
#ifndef XFRM_H
#define XFRM_H

#include <stddef.h>

#include "core/address.h"
#include "core/record.h"

struct xfrm;

extern const char xfrm_keys_hidden[]; /* why an SA does not travel: lockdown=confidentiality */

/* An SA or policy as the kernel told it. Valid during the callback; body is wiped after it. */
struct xfrm_record {
	struct record_key key;
	struct record_facts facts;
	uint64_t oseq, seq; /* SA: counters as the kernel has them, 64 bits with ESN */
	uint64_t made_s; /* SA: when it was added, seconds of CLOCK_REALTIME */
	const void *body;
	size_t body_len;
};

/* A peer is at another address, or behind another UDP port. */
struct xfrm_place_change {
	struct address from, to;
	uint16_t port; /* network byte order */
};

#define XFRM_TEXT 256 /* bytes: a policy in words */

/* What happened in the kernel by another hand than ours (our own requests' echoes are left out). */
struct xfrm_handlers {
	void (*added)(void *ctx, const struct xfrm_record *record); /* new, or changed */
	void (*removed)(void *ctx,
		const struct record_key
			*key); /* deleted, hard expired; also of what was never told */
	void (*flushed)(
		void *ctx, enum record_kind kind); /* FLUSHSA, FLUSHPOLICY: all of it is gone */
	void (*counters)(void *ctx, const struct record_key *key, uint64_t oseq,
		uint64_t seq); /* async event */
	void (*overrun)(void *ctx); /* events were lost (ENOBUFS): dump again */
	/* What changed is not told: SAs migrated (XFRM_MSG_MIGRATE), or a newer kernel tells of
	 * what we do not know. Dump again. */
	void (*changed)(void *ctx);
	/* ESP of this inbound SA comes from another address or UDP port than it has
	 * (XFRM_MSG_MAPPING). The kernel does nothing about it. Of SAs without a mark only. */
	void (*mapping)(
		void *ctx, const struct record_key *key, const struct xfrm_place_change *change);
	/* An SA that does not travel is there; may be told again. why: a constant, like
	 * xfrm_keys_hidden: then `facts` do not tell whose keys it has. */
	void (*local)(void *ctx, const struct record_key *key, const struct record_facts *facts,
		const char *why);
	/* Likewise a policy; a socket's is told by a dump only. text: what it is, in words. */
	void (*stays)(void *ctx, const struct record_key *key, const char *text, const char *why);
};

struct xfrm_config {
	const struct address *addresses; /* outer cluster addresses; copied */
	unsigned int n_addresses;
};

int xfrm_open(const struct xfrm_config *config, const struct xfrm_handlers *handlers, void *ctx,
	struct xfrm **ret);
void xfrm_close(struct xfrm *x);

/* Tells of counters, too: subscribes to async events (XFRMNLGRP_AEVENTS). 0 or -errno. */
int xfrm_tell_counters(struct xfrm *x);

int xfrm_fd(const struct xfrm *x); /* readable: call xfrm_process() */
/*
 * Reads a bounded number of events. Handlers may call any of the functions below. 0, or the first
 * -errno of an event that should have been told: -ENOMEM; -EMSGSIZE, an SA or policy too large to
 * travel.
 */
int xfrm_process(struct xfrm *x);

/*
 * Calls handlers->added for all that is there: SAs first, then policies. xfrm_dump_begin() starts
 * it, over again if one is under way (in the network namespace of the calling thread). Each
 * xfrm_dump_step() tells some hundred records and does not wait; handlers may call any of the
 * functions here. Whether the dump tells what is made or changed meanwhile is left open: events
 * tell what others do, and nothing tells what xfrm_install() does. 1: there is more; 0: all is
 * told, or no dump is under way; -errno: the kernel could not be read to the end, and the dump is
 * over.
 */
int xfrm_dump_begin(struct xfrm *x);
int xfrm_dump_step(struct xfrm *x);
/* Of the dump that is under way or was the last: the first of the errors as of xfrm_process(). */
int xfrm_dump_error(const struct xfrm *x);
/* All of it at once. -errno of xfrm_dump_step() or xfrm_dump_error(). */
int xfrm_dump(struct xfrm *x);

/*
 * Builds SAs and policies from bodies of other members, in the order given, and sets each `result`.
 * An outbound SA's counter starts at `oseq`; an inbound one's window at `seq`, and is full; `used`
 * of its limits is used up, or what the body says, if that is more. An SA that is there already
 * under this key is replaced if it has another birth. Else it is moved to `oseq`, and takes over
 * what may change in a living SA (limits, ports of the encapsulation, output marks); if more
 * differs it is replaced, inbound with its window. With `update` it is not replaced but -EXDEV;
 * -ENOENT: it is not there. -EBADMSG: the body is malformed, or does not match key and facts;
 * -EADDRNOTAVAIL: it leads to no cluster address of this member; -ENOSYS: this kernel lacks an
 * algorithm; or another error of the kernel's.
 */
void xfrm_install(struct xfrm *x, struct record_install *list, unsigned int n);
int xfrm_remove(struct xfrm *x, const struct record_key *key); /* -ENOENT: is not there */

/*
 * XFRM_MSG_NEWAE: the next outbound number is oseq + 1, or higher if it is so already: a counter is
 * never moved back. Read back with XFRM_MSG_GETAE; -EIO if it did not take. -EAGAIN: the
 * kernel may have counted past `oseq` by itself between looking and moving (so much was sent, or
 * there was no looking again), and been moved back: the caller must not let out numbers from there
 * on. Any other error: the counter was not moved. -ERANGE: past 2^32 without ESN.
 */
int xfrm_move(struct xfrm *x, const struct record_key *key, uint64_t oseq);

/*
 * XFRM_MSG_NEWAE: nothing of this inbound SA is taken up to `seq`, nor what has been taken; read
 * back with XFRM_MSG_GETAE. An SA without a replay window takes all, and 0 is returned. -EAGAIN: it
 * is so, but the kernel has taken packets between looking and raising, and may have forgotten
 * which: to be called again, with the highest number that has been taken by now. -EIO: it did not
 * take.
 */
int xfrm_raise(struct xfrm *x, const struct record_key *key, uint64_t seq);

/*
 * What leads to the address that the peer left leads to where it is now: an SA, with its counters,
 * or a policy. Handlers are told as if somebody else had done it. -ENOENT: it is not there, or
 * leads elsewhere.
 */
int xfrm_follow(
	struct xfrm *x, const struct record_key *key, const struct xfrm_place_change *change);

/* The kernel's present counters of an SA (XFRM_MSG_GETAE). */
int xfrm_counters(
	struct xfrm *x, const struct record_key *key, uint64_t *ret_oseq, uint64_t *ret_seq);

/* What the kernel has counted of an SA's limits (XFRM_MSG_GETAE). */
int xfrm_used(struct xfrm *x, const struct record_key *key, struct record_usage *ret);
/* XFRM_MSG_NEWAE: so much is used up at least. What the SA carries at that very moment may not
 * count. */
int xfrm_use(struct xfrm *x, const struct record_key *key, const struct record_usage *used);

int xfrm_reqid(struct xfrm *x, const struct record_key *key, uint32_t *ret); /* of an SA */

/* XFRM_MSG_EXPIRE, soft: asks the IKE daemon to rekey. */
int xfrm_expire(struct xfrm *x, const struct record_key *key);

/* Calls handlers->added of an SA or a policy, as it is now. -ENOENT; -errno as of xfrm_process().
 */
int xfrm_tell(struct xfrm *x, const struct record_key *key);

/* How many SAs and policies the kernel holds, whoever's; not those of sockets. 0 or -errno. */
int xfrm_count(struct xfrm *x, uint32_t *ret);

/* What a policy is, of its body, which is aligned to 4 bytes. */
void xfrm_policy_text(const void *body, size_t len, char *buf, size_t size);

/* Reads a record's body as xfrm_record.body would be. Returns its length, -ENOENT, or -EMSGSIZE. */
int xfrm_read(struct xfrm *x, const struct record_key *key, void *buf, size_t size);

#endif
