/* SPDX-License-Identifier: BSD-2-Clause */
#include "io/xfrm_socket.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define DUMP_READS 4 /* in one step, of 32 kB: some 250 SAs, 500 policies */
#define DUMP_HEADS 4096 /* of the index swept in one step */
#define DUMP_TRIES 4 /* of each kind, if the kernel says that it changed underneath */

static int begin_kind(struct xfrm *x, enum record_kind kind)
{
	struct xfrm_dump *d = &x->dump;
	struct nlmsghdr *nlh;
	char buf[256];

	d->tries = kind == d->kind ? d->tries + 1 : 1;
	d->kind = kind;
	d->interrupted = d->sweeping = false;
	d->swept = 0;
	x->policies.generation += kind == RECORD_POLICY;
	nlh = mnl_nlmsg_put_header(buf);
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	nlh->nlmsg_seq = ++d->sequence;
	nlh->nlmsg_type = kind == RECORD_SA ? XFRM_MSG_GETSA : XFRM_MSG_GETPOLICY;
	return mnl_socket_sendto(x->dumps, nlh, nlh->nlmsg_len) < 0 ? -errno : 0;
}

/* The dump is over, however it ended. */
static int end(struct xfrm *x, int r)
{
	x->dump.kind = 0;
	return r;
}

/* A socket of its own for each: one that was given up is not read to its end. */
int xfrm_dump_begin(struct xfrm *x)
{
	struct mnl_socket *fresh = xfrm_socket_open();
	int r;

	if (!fresh)
		return -errno;
	if (x->dumps)
		mnl_socket_close(x->dumps);
	x->dumps = fresh;
	x->dump.kind = 0;
	x->dump.error = 0;
	r = begin_kind(x, RECORD_SA);
	return r < 0 ? end(x, r) : 0;
}

static int all_told(struct xfrm *x)
{
	struct xfrm_dump *d = &x->dump;

	if (d->interrupted)
		return d->tries < DUMP_TRIES ? begin_kind(x, d->kind) : -EINTR;
	d->sweeping = true;
	return 0;
}

/* XFRM_MSG_NEWSA, XFRM_MSG_NEWPOLICY, or the end with a status. */
static int take(struct xfrm *x, const struct nlmsghdr *nlh)
{
	int status;

	if (nlh->nlmsg_flags & NLM_F_DUMP_INTR)
		x->dump.interrupted = true;
	if (nlh->nlmsg_type != NLMSG_DONE && nlh->nlmsg_type != NLMSG_ERROR) {
		xfrm_socket_note(&x->dump.error, xfrm_socket_tell(x, x->dump.kind, nlh));
		return 0;
	}
	if (mnl_nlmsg_get_payload_len(nlh) < sizeof(status))
		return -EBADMSG;
	memcpy(&status, mnl_nlmsg_get_payload(nlh), sizeof(status));
	return status < 0 ? status : all_told(x);
}

/* Reads once. 1: read; 0: there is nothing; -errno. */
static int read_part(struct xfrm *x)
{
	_Alignas(8) char buf[XFRM_RECEIVE_SIZE];
	ssize_t n = recv(mnl_socket_get_fd(x->dumps), buf, sizeof(buf), MSG_DONTWAIT);
	const struct nlmsghdr *nlh = (const struct nlmsghdr *)buf;
	int r = 0, left = (int)n;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	/* A handler may begin a new dump, and these are not of it. */
	for (; r == 0 && mnl_nlmsg_ok(nlh, left); nlh = mnl_nlmsg_next(nlh, &left))
		if (nlh->nlmsg_seq == x->dump.sequence)
			r = take(x, nlh);
	explicit_bzero(buf, (size_t)n);
	return r < 0 ? r : 1;
}

static int sweep(struct xfrm *x)
{
	struct xfrm_dump *d = &x->dump;
	int r;

	if (d->kind == RECORD_POLICY)
		return xfrm_index_sweep(&x->policies, &d->swept, DUMP_HEADS) ? 1 : end(x, 0);
	r = begin_kind(x, RECORD_POLICY);
	return r < 0 ? end(x, r) : 1;
}

int xfrm_dump_step(struct xfrm *x)
{
	int r = 1;

	if (x->dump.kind == 0)
		return 0;
	if (x->dump.sweeping)
		return sweep(x);
	for (int i = 0; i < DUMP_READS && r > 0 && !x->dump.sweeping; i++)
		r = read_part(x);
	return r < 0 ? end(x, r) : 1;
}

int xfrm_dump_error(const struct xfrm *x)
{
	return x->dump.error;
}

int xfrm_dump(struct xfrm *x)
{
	int r = xfrm_dump_begin(x);

	if (r < 0)
		return r;
	do {
		r = xfrm_dump_step(x);
	} while (r > 0);
	return r < 0 ? r : xfrm_dump_error(x);
}
