/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * espalier_ike.h - what the agent and the IKE daemon's plugin say to each other.
 *
 * A unix socket of type SOCK_SEQPACKET, `ike` in the agent's run folder: /run/espalier/ike. Root
 * only; both ends ask for SO_PEERCRED and close unless the other one is root. The agent listens,
 *one plugin at a time: a second connection is closed. Either side may restart at any time; the
 *plugin connects again and begins with HELLO.
 *
 * One message a packet: a header, then what its type says. Integers are in host byte order, since
 * both ends are on one machine; SPIs (__be64, __be32) and addresses are as on the wire. What is
 * reserved is zero. A packet that is too short or too long for its type, or of an unknown type,
 *ends the connection.
 *
 * An IKE SA is named by its SPIs. The agent knows it by the cluster's own one, that of the
 *initiator if ESPALIER_IKE_INITIATOR is set, which no two IKE SAs of the cluster share. The peer's
 *may be 0 as long as it is not known.
 *
 * Which record of an IKE SA is the newer: the higher (turn, version). `turn` rises each time that
 *the IKE SA changes hands: 1 for one that this daemon has begun, that of GIVE for one that it was
 * given. `version` counts its records, and rises from one to the next; it goes on where GIVE stood.
 * So what a daemon says that ran on without its agent, while another member took over, is old.
 *
 * The course of a connection:
 *
 *	plugin			agent
 *	HELLO
 *				SETTINGS
 *	RECORD ...			each IKE SA that it has: if it is still its own, COMMITTED;
 *				DROP	or another member has gone on with it, or it has ended
 *	READY
 *				GIVE ..., TAKEN	what this member owns and the daemon lacks
 *
 * and from then on, in any order:
 *
 *	RECORD			COMMITTED	no IKE message leaves before that, see commit_ms
 *	GONE			COMMITTED	likewise
 *	NEED			GIVE or NONE
 *	RELEASED		RELEASE		the agent asks; the last RECORD goes before the
 *answer
 *
 * After a takeover: GIVE of each IKE SA that is this member's now, TAKEN behind the last one.
 */
#ifndef ESPALIER_IKE_H
#define ESPALIER_IKE_H

#include <assert.h>
#include <linux/types.h>

#define ESPALIER_IKE_SOCKET "/run/espalier/ike"
#define ESPALIER_IKE_VERSION 1 /* of this protocol */
#define ESPALIER_IKE_BODY_MAX 65535 /* bytes of a record's body */
#define ESPALIER_IKE_CHILDREN_MAX 256 /* named by one record */
#define ESPALIER_IKE_SECRET 32 /* bytes */

enum espalier_ike_type {
	/* Plugin to agent. */
	ESPALIER_IKE_HELLO = 1, /* struct espalier_ike_hello */
	ESPALIER_IKE_READY = 2, /* nothing. All IKE SAs that the daemon has have been told */
	/*
	 * struct espalier_ike_record, its children, its body. The IKE SA has changed, or was asked
	 * for by RELEASE.
	 */
	ESPALIER_IKE_RECORD = 3,
	ESPALIER_IKE_GONE =
		4, /* struct espalier_ike_name: it has ended; `version` above its last */
	ESPALIER_IKE_NEED = 5, /* struct espalier_ike_name, of a message's SPIs; turn, version 0: it
				  came for an IKE SA that the daemon does not have */
	/* struct espalier_ike_name: the answer to RELEASE. The daemon has sent its last record, and
	 * has it no more. Also if it never had it: turn, version 0. */
	ESPALIER_IKE_RELEASED = 6,

	/* Agent to plugin. */
	ESPALIER_IKE_SETTINGS = 65, /* struct espalier_ike_settings; again when they have changed */
	/* struct espalier_ike_name: this version, and all before it, is on the member that would
	 * take over, with the SAs and policies that it names; or there is no other member. */
	ESPALIER_IKE_COMMITTED = 66,
	/* struct espalier_ike_record without children, its body: the daemon is to go on with it, in
	 * place of an older copy. One that it has already (by turn and version) stays as it is; but
	 * with ESPALIER_IKE_SYNC RFC 6311 is needed now. */
	ESPALIER_IKE_GIVE = 67,
	ESPALIER_IKE_NONE = 68, /* struct espalier_ike_name: nobody has it. The answer to NEED */
	/* struct espalier_ike_name: hand it over, to another member; both SPIs 0: all. What waits
	 * to be sent is sent first. The answer is RELEASED, of each. */
	ESPALIER_IKE_RELEASE = 69,
	/* struct espalier_ike_name: the daemon's copy is old, and another member has gone on with
	 * it, or it has ended. Forget it: tell neither the peer nor the kernel. No answer. */
	ESPALIER_IKE_DROP = 70,
	ESPALIER_IKE_TAKEN = 71, /* nothing. All that this member owns has been given */
	ESPALIER_IKE_ALIVE = 72, /* nothing, each heartbeat: see away_ms */
};

struct espalier_ike_header {
	__u8 type; /* enum espalier_ike_type */
	__u8 version; /* ESPALIER_IKE_VERSION */
	__u16 reserved;
	__u32 length; /* bytes that follow */
};

struct espalier_ike_spis {
	__be64 initiator, responder;
};

struct espalier_ike_hello {
	__u32 protocol; /* the plugin's ESPALIER_IKE_VERSION */
	char daemon[60]; /* name and version, for status; NUL-terminated */
};

enum espalier_ike_flags {
	ESPALIER_IKE_INITIATOR = 1, /* in all messages: the cluster is the IKE SA's original
				       initiator. NEED: as the flags of the peer's message say */
	/* RECORD: a message left before its record was committed, so what the peer has seen may be
	 * newer than what the other members have. GIVE: it may be so; RFC 6311 is needed first. */
	ESPALIER_IKE_SYNC = 2,
	ESPALIER_IKE_BACKGROUND = 4, /* GIVE: nobody waits for it, it is for its timers */
	/* NONE: this member has all records of the others, so the IKE SA is gone and the peer may
	 * be told (RFC 6290). */
	ESPALIER_IKE_SURE = 8,
	ESPALIER_IKE_ESTABLISHED = 16, /* RECORD, GIVE: for espalierctl */
	ESPALIER_IKE_V1 = 32, /* RECORD, GIVE: likewise */
};

/* COMMITTED, GONE, NEED, NONE, RELEASE, RELEASED, DROP. */
struct espalier_ike_name {
	struct espalier_ike_spis spis;
	__u64 version;
	__u32 turn;
	__u32 flags; /* enum espalier_ike_flags */
};

/* The two SAs of a Child SA that the record tells of. The agent waits until they are known to it,
 * from the kernel, and on the other member. */
struct espalier_ike_child {
	__u8 protocol; /* IPPROTO_ESP, _AH; of IPComp beside it nothing is said */
	__u8 family; /* AF_INET or AF_INET6 */
	__u16 policies; /* of it, at least; all that there are by then are waited for */
	__be32 spi_in, spi_out; /* 0: not in the kernel */
	__u8 local[16], remote[16]; /* destination of the inbound, the outbound one; IPv4: in the
				       first four bytes, the rest zero */
};

/* RECORD, GIVE; `children` of them follow, then the body. */
struct espalier_ike_record {
	struct espalier_ike_spis spis;
	__u64 version;
	__u32 turn;
	__u32 flags; /* enum espalier_ike_flags */
	__u32 body_length; /* bytes; at most ESPALIER_IKE_BODY_MAX. The agent does not look inside
			    */
	__u16 children; /* that follow; at most ESPALIER_IKE_CHILDREN_MAX */
	__u16 reserved;
};

/* Ranges: both ends included, host byte order. */
struct espalier_ike_settings {
	__u8 member; /* this one's id */
	__u8 members; /* how many are configured; 1: nobody else ever has a record */
	__u8 has_secret; /* not 0: qcd_secret is known by now */
	__u8 has_ranges; /* 0: `Hash = mix`, no range of SPIs is one member's */
	/* A message waits so long for COMMITTED, and is then sent, counted, and the record marked
	 * by ESPALIER_IKE_SYNC; but not before the agent has been heard of behind that time: one
	 * that stands still marks nothing, and others may take over. */
	__u32 commit_ms;
	/* Without any message of the agent for so long, or without a link, others may have taken
	 * over: until the agent has answered HELLO and the records with TAKEN the daemon sends
	 * nothing for its IKE SAs. 0: there is nobody else. */
	__u32 away_ms;
	__u32 reqid_first, reqid_last; /* this member's daemon draws reqids from here */
	__u32 esp_spi_first, esp_spi_last; /* and SPIs of inbound ESP and AH SAs */
	__u32 reserved;
	__u64 ike_spi_value, ike_spi_mask; /* and IKE SPIs, as numbers: (SPI & mask) == value */
	__u8 qcd_secret[ESPALIER_IKE_SECRET]; /* the same on all members (RFC 6290) */
};

static_assert(sizeof(struct espalier_ike_header) == 8, "link protocol");
static_assert(sizeof(struct espalier_ike_hello) == 64, "link protocol");
static_assert(sizeof(struct espalier_ike_name) == 32, "link protocol");
static_assert(sizeof(struct espalier_ike_child) == 44, "link protocol");
static_assert(sizeof(struct espalier_ike_record) == 40, "link protocol");
static_assert(sizeof(struct espalier_ike_settings) == 80, "link protocol");

/* The largest message. */
#define ESPALIER_IKE_MESSAGE_MAX                                                                   \
	(sizeof(struct espalier_ike_header) + sizeof(struct espalier_ike_record) +                 \
		ESPALIER_IKE_CHILDREN_MAX * sizeof(struct espalier_ike_child) +                    \
		ESPALIER_IKE_BODY_MAX)

#endif
