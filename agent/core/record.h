/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * record.h - what is replicated: SAs and policies, as the core knows them.
 *
 * The core knows a record's key and a few facts; its body (the kernel's own description, with the
 * keys of an SA) is opaque to it and is read from the kernel at the moment it is sent.
 */
#ifndef RECORD_H
#define RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/hash.h"
#include "espalier.h"

enum record_kind { RECORD_SA = 1, RECORD_POLICY = 2 };

#define RECORD_IPCOMP 108 /* record_key.proto: IPPROTO_COMP */

/*
 * What the kernel finds a record by. A policy is named by it; an SA is its keys (`birth`), and may
 * come under another key in its life. No padding: compared and hashed as bytes.
 */
struct record_key {
	uint8_t kind; /* enum record_kind */
	uint8_t proto; /* SA: IPPROTO_ESP, ...; policy: XFRM_POLICY_IN, _OUT, _FWD */
	uint16_t family; /* AF_INET or AF_INET6, host byte order */
	__be32 spi; /* SA; policy: 0 */
	uint8_t addr[16]; /* SA: destination, network byte order, IPv4 in the first four bytes, rest
			   * zero. Policy: first 128 bits of SHA-256 over what XFRM_MSG_GETPOLICY
			   * finds it by */
	uint32_t mark, mark_mask; /* SA: XFRMA_MARK, host byte order; policy: 0 */
};

/* What the core must know of a record to decide about it. Made by the XFRM adapter, travels with
 * the record. */
struct record_facts {
	uint64_t birth; /* SA: which SA it is. 64 bits of SHA-256 over protocol, direction, SPI,
			 * algorithms and keys: the same on every member, after every restart,
			 * wherever its peer goes; or record_twin() of that. Of IPComp over its
			 * addresses in place of keys */
	uint64_t form; /* SA: a hash of what may change of it under its keys, but for its key:
			* source, UDP ports, limits, selector, reqid, marks that it sets, ... */
	uint64_t pair; /* equal for the two SAs of a Child SA, IPComp's beside them, and the
			* policies that lead to them: a hash of local and remote address, reqid,
			* mark, if_id. 0: a policy that leads to no SA, or does not say to which:
			* allow, block, a trap */
	uint8_t direction; /* enum espalier_direction; a policy that is neither in nor out (fwd),
			      and all SAs without sequence numbers: ESPALIER_IN */
	bool esn; /* SA: 64-bit sequence numbers (RFC 4304) */
	bool limited; /* SA: so many bytes or packets, and no more */
	struct espalier_selector
		remote; /* outbound policy: its remote selector; else prefixlen 0 */
	__be32 spi; /* outbound policy: it leads to this SA of its pair; 0: to any of them */
};

/*
 * Two SAs with the same keys may live at one time, to different peers, where an administrator chose
 * the keys. The second one that a kernel has is told apart by its key.
 */
static inline uint64_t record_twin(uint64_t birth, const struct record_key *key)
{
	return hash_bytes(birth, key, sizeof(*key));
}

/* Is it the SA of this birth, as a kernel tells it? */
static inline bool record_is_birth(
	const struct record_facts *facts, uint64_t birth, const struct record_key *key)
{
	return facts->birth == birth || facts->birth == record_twin(birth, key);
}

/* How much of an SA's limits is used up. */
struct record_usage {
	uint64_t bytes, packets;
};

#define RECORD_BODY_MAX 920 /* bytes; the largest SA or policy the adapter makes or takes */

/* A record of another member for our kernel. */
struct record_install {
	const struct record_key *key;
	const struct record_facts *facts;
	const void *body;
	size_t body_len;
	uint64_t oseq; /* outbound SA: the last number taken as used */
	bool update; /* SA: it is there, and stays; `oseq` does not count */
	int result; /* set by who carries it out: 0 or -errno */
	struct record_usage used; /* SA: at least, whatever the body says */
	uint64_t seq; /* inbound SA: nothing up to this number is to be taken */
};

#endif
