/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * channel.h - the sync channel: datagrams between members, sealed by DTLS, carried over AF_XDP or a UDP socket.
 *
 * A datagram arrives whole, once, unchanged and from the member it says, or not at all. Order and delivery are the
 * core's business (core/stream.h).
 */
#ifndef CHANNEL_H
#define CHANNEL_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CHANNEL_DATAGRAM_MAX 1280 /* bytes of payload: with DTLS, UDP and IP it fits an Ethernet frame */

struct channel;

struct channel_config {
	const char *cluster;		 /* name: part of the pre-shared key identity */
	uint8_t self;			 /* own member id */
	struct in_addr addresses[16];	 /* sync addresses by member id; 0.0.0.0: no such member */
	uint16_t port;			 /* UDP, host byte order */
	unsigned int ifindex;		 /* the sync interface */
	int xsks_map_fd;		 /* map "sync"; -1: plain UDP socket */
	const uint8_t *psk;		 /* pre-shared key, or NULL: certificates */
	size_t psk_len;
	const char *certificate, *private_key, *ca; /* PEM files; the peer's certificate names its sync address */
	uint64_t silence_us;		 /* this long without an authentic datagram: handshake again */
};

struct channel_counters {
	uint64_t sent, received;	   /* authentic datagrams */
	uint64_t sent_bytes, received_bytes; /* on the wire, with DTLS, without UDP and below */
	uint64_t foreign;		   /* from an address that is no member's, or to another port */
	uint64_t rejected;		   /* not authentic, replayed, truncated, of an ended session */
	uint64_t handshakes;		   /* completed */
	uint64_t unsent;		   /* no session, or the carrier was full */
};

typedef void (*channel_handler)(void *ctx, uint8_t from, const void *buf, size_t len);

/* err: one sentence. Keys are copied by OpenSSL only; the caller wipes its own. */
int channel_open(const struct channel_config *config, channel_handler handler, void *ctx, struct channel **ret,
	char *err, size_t err_size);
void channel_close(struct channel *c);

/* Readable: call channel_process(). Also call it when the time of channel_deadline() has come. */
int channel_fd(const struct channel *c);
uint64_t channel_deadline(const struct channel *c); /* CLOCK_MONOTONIC, µs; UINT64_MAX: none */
void channel_process(struct channel *c, uint64_t now_us);

/* Best effort: 0, -ENOTCONN (no session yet), -EAGAIN, -EMSGSIZE. */
int channel_send(struct channel *c, uint8_t to, const void *buf, size_t len, uint64_t now_us);

void channel_counters(const struct channel *c, struct channel_counters *ret);
const char *channel_carrier(const struct channel *c); /* for status: "AF_XDP (copy)", "UDP socket: why" */
bool channel_connected(const struct channel *c, uint8_t member);

#endif
