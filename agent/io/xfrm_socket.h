/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * xfrm_socket.h - what the parts of the XFRM adapter share: xfrm.c listens, xfrm_dump.c reads all,
 * xfrm_request.c asks, xfrm_install.c builds.
 *
 * Whatever is read from a netlink socket here may hold keys and is wiped after use.
 */
#ifndef XFRM_SOCKET_H
#define XFRM_SOCKET_H

#include <libmnl/libmnl.h>

#include "io/xfrm.h"
#include "io/xfrm_body.h"
#include "io/xfrm_index.h"

#define XFRM_MESSAGE_SIZE 4096 /* bytes: the largest SA: keys, a replay window of 4096 bits */
#define XFRM_RECEIVE_SIZE 32768 /* bytes: the kernel's largest part of a dump */

/* A dump under way. */
struct xfrm_dump {
	enum record_kind kind; /* that is read now; 0: none is under way */
	uint32_t sequence;
	unsigned int tries; /* of this kind */
	bool interrupted; /* the kernel says that it changed underneath */
	bool sweeping; /* all of this kind is told: the index is swept */
	size_t swept; /* so far */
	int error; /* the first that the agent should know of */
};

struct xfrm {
	struct mnl_socket *events, *requests;
	struct mnl_socket *dumps; /* so that handlers may make requests during a dump */
	unsigned int portid; /* of `requests`: marks our own echoes */
	uint32_t sequence;
	bool knows_direction; /* XFRMA_SA_DIR, from 6.10 */
	struct xfrm_handlers handlers;
	void *ctx;
	struct address addresses[ESPALIER_ADDRESSES];
	unsigned int n_addresses;
	struct xfrm_index policies; /* all that there are */
	struct xfrm_dump dump;
};

/* xfrm.c: a bound socket, or NULL and errno. */
struct mnl_socket *xfrm_socket_open(void);

/*
 * xfrm.c: tells of an SA or a policy as the kernel gives it. 0: told; -EOPNOTSUPP, -EADDRNOTAVAIL:
 * none of ours; or another -errno.
 */
int xfrm_socket_tell(struct xfrm *x, enum record_kind kind, const struct nlmsghdr *nlh);

/* Notes the first error that the agent should know of: what is not the cluster's, or cannot
 * travel, is nobody's fault. */
void xfrm_socket_note(int *error, int r);

/* xfrm_window.c: nothing up to `seq` is taken; what has been noted stays noted. The bitmap of `esn`
 * is there. */
void xfrm_window_raise_esn(struct xfrm_replay_state_esn *esn, uint64_t seq);
void xfrm_window_raise_legacy(struct xfrm_replay_state *legacy, uint64_t seq);

/* A request under construction: a header, a body and what is put to it. To be wiped after use. */
struct xfrm_request {
	_Alignas(8) char data[XFRM_MESSAGE_SIZE];
};

/* xfrm_request.c: begins a request with a body of `head` bytes, which it returns, zeroed. */
void *xfrm_socket_begin(struct xfrm_request *request, uint16_t type, uint16_t flags, size_t head);
void xfrm_socket_put(struct xfrm_request *request, uint16_t type, const void *data, size_t len);

/* xfrm_request.c: raises it to that. True: it was less. */
bool xfrm_socket_use(struct xfrm_lifetime_cur *now, const struct record_usage *used);

/* The kernel's message, to be wiped after use. */
struct xfrm_answer {
	_Alignas(8) char data[XFRM_MESSAGE_SIZE];
};

/*
 * xfrm_request.c: numbers a request and marks it as ours: the kernel puts the port id that we write
 * into it into what it tells the listeners, and our own echoes are known by it.
 */
void xfrm_socket_address(struct xfrm *x, struct nlmsghdr *nlh);

/*
 * xfrm_request.c: sends a request, wipes it, and waits for its end, which the kernel has ready when
 * sendto() returns. `answer`: NULL, if none is expected. 0 or -errno; -ENOENT: an SA or a policy
 * that is not there.
 */
int xfrm_socket_transact(struct xfrm *x, struct xfrm_request *request, struct xfrm_answer *answer);

/* xfrm_request.c: reads an SA or a policy as it is. */
int xfrm_socket_get(struct xfrm *x, const struct record_key *key, struct xfrm_answer *ret);

/* xfrm_request.c: what finds the record in the kernel again. */
struct xfrm_place xfrm_socket_place(const struct record_key *key, const struct xfrm_body *b);

/* xfrm_request.c: remembers it of a policy; an SA's key says it. 0 or -ENOMEM. */
int xfrm_socket_remember(struct xfrm *x, const struct xfrm_place *place);

/* xfrm_request.c: whether the kernel has XFRMA_SA_DIR: 1 or 0, or -errno. */
int xfrm_socket_probe_direction(struct xfrm *x);

#endif
