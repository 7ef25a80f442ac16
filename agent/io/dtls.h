/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * dtls.h - one DTLS 1.2 association (RFC 6347) with each other member. No sockets, no clock:
 * datagrams and time (µs, CLOCK_MONOTONIC) in, datagrams out through a callback. Only OpenSSL's
 * retransmit timer looks at the wall clock; a handshake that a clock jump stalls is given up and
 * begun again by our own time.
 *
 * The member with the higher id is the client: it begins handshakes, at first and when nothing
 * authentic came for `silence_us`. A new session is negotiated next to the one in use and replaces
 * it when its handshake has completed, which needs the key. So neither a restart of a member nor a
 * forged handshake message can end a session that works.
 */
#ifndef DTLS_H
#define DTLS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DTLS_PAYLOAD_MAX 1280 /* bytes a datagram can carry */
#define DTLS_DATAGRAM_MAX 1344 /* bytes, the longest datagram made; handshakes are cut to it */
#define DTLS_PSK_MIN 16 /* bytes */
#define DTLS_PSK_MAX 256

struct dtls_config {
	const char *cluster; /* members of another cluster are refused, even with the same key */
	uint8_t self; /* own member id */
	struct in_addr address; /* own sync address: the certificate must name it (SAN IP) */
	const uint8_t *psk; /* pre-shared key, copied; NULL: certificates */
	size_t psk_len;
	const char *certificate, *private_key, *ca; /* PEM files */
	uint64_t silence_us; /* > 0 */
};

struct dtls_context;

/* Credentials, shared by all associations. 0, -EINVAL or -ENOMEM; err: one sentence. */
int dtls_context_open(
	const struct dtls_config *config, struct dtls_context **ret, char *err, size_t err_size);
void dtls_context_close(struct dtls_context *c); /* after its associations; wipes the key */

/* Can these be used, and is the certificate one that its own CA vouches for today? 0, -EINVAL or
 * -ENOMEM; err: one sentence. */
int dtls_check(const struct dtls_config *config, char *err, size_t err_size);

struct dtls_callbacks {
	/* A datagram to the other member. established: of the session in use; else a handshake's.
	 * 0 or -errno. */
	int (*output)(void *ctx, bool established, const void *buf, size_t len);
	/* Authentic payload. May call dtls_send(), must not call the others. */
	void (*deliver)(void *ctx, const void *buf, size_t len);
	void *ctx;
};

struct dtls;

/* other: id of the other member; address: its sync address. 0 or -ENOMEM. */
int dtls_open(struct dtls_context *c, uint8_t other, struct in_addr address,
	const struct dtls_callbacks *callbacks, struct dtls **ret);
void dtls_close(struct dtls *d); /* tells the other member, best effort */

/* 0; -ENOTCONN: no session; -EMSGSIZE: len is 0 or above DTLS_PAYLOAD_MAX; or what output() said.
 */
int dtls_send(struct dtls *d, const void *buf, size_t len);

/*
 * A datagram that came from the other member's address. 1: authentic, of the session in use.
 * 0: taken by a handshake, which has proved nothing yet. -EBADMSG: not authentic, replayed, cut
 * short, of an ended session: it changed nothing.
 */
int dtls_receive(struct dtls *d, const void *buf, size_t len, uint64_t now_us);

uint64_t dtls_deadline(const struct dtls *d); /* when dtls_tick() is due; UINT64_MAX: never */
void dtls_tick(struct dtls *d, uint64_t now_us); /* call it once at first, and when due */

bool dtls_connected(const struct dtls *d);
uint64_t dtls_handshakes(const struct dtls *d); /* completed */

#endif
