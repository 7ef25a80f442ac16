/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * kernel.h - the kernel's own types, as far as they are read. CO-RE: libbpf finds each field in the
 * running kernel's BTF by its name, so order and size do not matter here (include/net/xfrm.h,
 * include/linux/skbuff.h, include/linux/ipv6.h).
 */
#ifndef KERNEL_H
#define KERNEL_H

#include <linux/types.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct net {
	__u64 net_cookie;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct net_device {
	possible_net_t nd_net;
};

struct sk_buff {
	struct net_device *dev;
	unsigned char *head, *data;
	__u32 mark;
	unsigned int len, data_len; /* from data on: all, and what is not in one piece with it */
	__u16 network_header; /* from head on */
	__u16 mac_header; /* likewise */
	char cb[48];
};

/* What IPv6 keeps of a received packet, at the beginning of sk_buff.cb. */
struct inet6_skb_parm {
	__u16 nhoff; /* where, from the network header on, the next header's type is */
};

typedef union {
	__be32 a6[4]; /* IPv4: in the first one, the rest is undefined */
} xfrm_address_t;

struct xfrm_id {
	xfrm_address_t daddr;
	__be32 spi;
	__u8 proto;
};

/* sk_buff.cb of a packet under transformation. */
struct xfrm_skb_cb {
	union {
		struct {
			__u32 low;
		} output;
	} seq;
};

struct xfrm_mark {
	__u32 v;
	__u32 m;
};

struct xfrm_replay_state {
	__u32 seq;
};

struct xfrm_replay_state_esn {
	__u32 seq;
	__u32 seq_hi;
};

struct xfrm_state {
	possible_net_t xs_net;
	struct xfrm_id id;
	struct xfrm_mark mark;
	struct {
		__u16 family;
	} props;
	struct xfrm_replay_state replay;
	struct xfrm_replay_state_esn *replay_esn;
};

#pragma clang attribute pop

#endif
