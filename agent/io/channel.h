/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * channel.h - the sync channel: datagrams between members, sealed by DTLS, carried over AF_XDP or
 * a UDP socket. The bytes on the wire are the same, so the two kinds of members talk to each other.
 *
 * A datagram arrives whole, once, unchanged and from the member it says, or not at all. Order and
 * delivery are the core's business (core/stream.h).
 */
#ifndef CHANNEL_H
#define CHANNEL_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "espalier.h"

#define CHANNEL_DATAGRAM_MAX 1280 /* bytes of payload: with DTLS, UDP and IP it fits a frame */

struct channel;

struct channel_config {
	const char *cluster; /* name: part of the pre-shared key identity */
	uint8_t self; /* own member id */
	struct in_addr addresses[ESPALIER_MEMBERS]; /* sync addresses; 0.0.0.0: no such member */
	uint16_t port; /* UDP, the same on all members, host byte order */
	unsigned int ifindex; /* the sync interface */
	int xsks_map_fd; /* map "sync"; -1: plain UDP socket */
	const uint8_t *psk; /* pre-shared key, or NULL: certificates */
	size_t psk_len; /* bytes, 16..256 */
	/* PEM files. A member's certificate names its sync address (subjectAltName IP). */
	const char *certificate, *private_key, *ca;
	uint64_t silence_us; /* > 0; this long without an authentic datagram: handshake again */
};

struct channel_counters {
	uint64_t sent, received; /* datagrams given to us to send, delivered to the handler */
	uint64_t sent_bytes, received_bytes; /* with DTLS and handshakes, without UDP and below */
	uint64_t foreign; /* not from a member's address and port */
	uint64_t rejected; /* not authentic, replayed, truncated, of an ended session */
	uint64_t handshakes; /* completed */
	uint64_t unsent; /* no session, too long, or the carrier was full */
};

/* May call channel_send(), must not call channel_process() or channel_close(). */
typedef void (*channel_handler)(void *ctx, uint8_t from, const void *buf, size_t len);

/*
 * 0 or -errno; err: one sentence. Files are read here; what config points to may go afterwards, and
 * the caller wipes its copy of the key.
 */
int channel_open(const struct channel_config *config, channel_handler handler, void *ctx,
	struct channel **ret, char *err, size_t err_size);
void channel_close(struct channel *c);

/*
 * Readable: call channel_process(). Also call it when the time of channel_deadline() has come; ask
 * that after the last channel_send(): AF_XDP collects what is sent, and channel_process() sends it
 * off.
 */
int channel_fd(const struct channel *c); /* an epoll set; stays the channel's */
uint64_t channel_deadline(const struct channel *c); /* CLOCK_MONOTONIC, µs; UINT64_MAX: none */
void channel_process(struct channel *c, uint64_t now_us);

/* Best effort: 0, -ENOTCONN (no session yet), -EAGAIN (full), -EMSGSIZE, or the socket's -errno. */
int channel_send(struct channel *c, uint8_t to, const void *buf, size_t len);

void channel_counters(const struct channel *c, struct channel_counters *ret);
const char *channel_carrier(const struct channel *c); /* "AF_XDP (copy)", "UDP socket: why" */
bool channel_connected(const struct channel *c, uint8_t member); /* has a session */

#endif
