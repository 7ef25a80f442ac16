/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * xfrm_body.h - what of an SA or a policy travels: taking a netlink payload apart, checking it,
 * putting it together.
 *
 * A payload comes from this kernel, or is a body from another member; a body is never trusted. The
 * layout is linux/xfrm.h's; numbers are in host byte order, addresses, ports and SPIs in network
 * byte order, as there.
 */
#ifndef XFRM_BODY_H
#define XFRM_BODY_H

#include <netinet/in.h>
#include <linux/netlink.h>
#include <linux/xfrm.h>
#include <stddef.h>
#include <stdint.h>

#include "core/record.h"

/* Attributes that linux/xfrm.h of Debian 12 does not have yet (6.10, 6.11). */
enum { XFRM_BODY_SA_DIR = 33, XFRM_BODY_NAT_KEEPALIVE = 34, XFRM_BODY_ATTRS };

#define XFRM_BODY_OFFLOAD_PACKET 4 /* of struct xfrm_user_offload (6.2) */

enum xfrm_body_origin {
	XFRM_BODY_KERNEL, /* attributes that do not travel are left out */
	XFRM_BODY_MEMBER, /* attributes that do not travel are an error */
};

/* A payload taken apart. The attributes point into it; it is to be aligned to 4 bytes and to
 * outlive this. */
struct xfrm_body {
	enum record_kind kind;
	union {
		struct xfrm_usersa_info sa;
		struct xfrm_userpolicy_info policy;
	};
	const struct nlattr *attr[XFRM_BODY_ATTRS]; /* by type, checked; NULL: not there */
	const char *local; /* why a whole one does not travel; a constant */
};

/*
 * Takes a payload apart: the struct of its kind, followed by attributes. -EBADMSG: malformed.
 * -EOPNOTSUPP: well formed, but of a sort that does not travel: not IPsec, no algorithm yet (an SPI
 * reserved by XFRM_MSG_ALLOCSPI), a policy of another type than main; or what `local` tells, and
 * then all of it is taken apart. -ENOKEY: a member's body without its keys.
 */
int xfrm_body_parse(enum record_kind kind, const void *payload, size_t len,
	enum xfrm_body_origin origin, struct xfrm_body *ret);

/*
 * The same for a policy that is gone, from the kernel: its struct may be among the attributes
 * (XFRM_MSG_DELPOLICY: `policy` is NULL). What is in the struct is not checked.
 */
int xfrm_body_parse_gone(const struct xfrm_userpolicy_info *policy, const void *attrs, size_t len,
	struct xfrm_body *ret);

/* Among the attributes of what names an SA only. All zero: there is none. */
struct xfrm_mark xfrm_body_find_mark(const void *attrs, size_t len);

/* The same for XFRM_MSG_NEWAE from the kernel: fills in what names the SA, and its counters. */
int xfrm_body_parse_aevent(const void *payload, size_t len, struct xfrm_body *ret);

/*
 * The body: what travels, in one order, the rest zero. `now`: seconds of CLOCK_REALTIME; the age of
 * an SA travels in place of the time it was added. Returns the length or -EMSGSIZE.
 */
int xfrm_body_encode(const struct xfrm_body *b, uint64_t now, void *buf, size_t size);

/* The counters that the kernel told, 64 bits with ESN. */
void xfrm_body_counters(const struct xfrm_body *b, uint64_t *ret_oseq, uint64_t *ret_seq);

/* Of a policy, in order; *ret_n may be 0. */
struct xfrm_user_tmpl *xfrm_body_templates(const struct xfrm_body *b, size_t *ret_n);

/* xfrm_text.c: a policy in words; size: XFRM_TEXT is enough. */
void xfrm_text(const struct xfrm_body *b, char *buf, size_t size);

struct xfrm_mark xfrm_body_mark(const struct xfrm_body *b);
uint32_t xfrm_body_u32(const struct xfrm_body *b, uint16_t type); /* 0: not there */

#endif
