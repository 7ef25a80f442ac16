/* SPDX-License-Identifier: BSD-2-Clause */
#include "io/dtls.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>

#include "io/dtls_context.h"

#define GIVE_UP_US 3000000 /* a handshake that takes longer is begun again */
#define RETRY_US 1000000 /* the client begins handshakes no closer together than this */
#define RETRANSMIT_MIN_US 50000
#define RETRANSMIT_MAX_US 1000000

/* One handshake and, when it has completed, the session that came of it. */
struct session {
	SSL *ssl;
	struct dtls *owner;
	const uint8_t *in; /* the record that OpenSSL may read, or NULL */
	size_t in_len;
	uint64_t began_us;
};

struct dtls {
	struct dtls_other other; /* what OpenSSL's callbacks get to see */
	struct dtls_callbacks callbacks;
	bool client;
	struct session *current; /* completed: carries payload */
	struct session *pending; /* in the handshake */
	struct session *listener; /* server: answers ClientHellos with cookies, holds no state */
	uint64_t heard_us; /* last authentic datagram */
	uint64_t retry_us; /* client: no new handshake before */
	uint64_t retransmit_us; /* pending: when OpenSSL's timer is due */
	uint64_t handshakes;
	int output_error;
};

/* A DTLS record as it lies in the datagram (RFC 6347, 4.1). */
struct record {
	const uint8_t *start;
	size_t len; /* with the header */
	uint8_t type;
	uint16_t epoch;
};

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

/* 0 or -EBADMSG: not a whole DTLS record. Version 1.0 only as a ClientHello may carry it. */
static int record_parse(const uint8_t *buf, size_t len, struct record *ret)
{
	uint16_t version;

	if (len < DTLS1_RT_HEADER_LENGTH)
		return -EBADMSG;
	version = get16(buf + 1);
	*ret = (struct record){
		.start = buf,
		.len = DTLS1_RT_HEADER_LENGTH + (size_t)get16(buf + 11),
		.type = buf[0],
		.epoch = get16(buf + 3),
	};
	if (ret->len > len || ret->len == DTLS1_RT_HEADER_LENGTH)
		return -EBADMSG;
	if (version != DTLS1_2_VERSION && (version != DTLS1_VERSION || ret->epoch != 0))
		return -EBADMSG;
	return 0;
}

static bool datagram_is_whole(const uint8_t *buf, size_t len)
{
	struct record r;

	if (len == 0)
		return false;
	for (; len > 0; buf += r.len, len -= r.len)
		if (record_parse(buf, len, &r) < 0)
			return false;
	return true;
}

static bool record_is_client_hello(const struct record *r)
{
	return r->epoch == 0 && r->type == SSL3_RT_HANDSHAKE &&
	       r->start[DTLS1_RT_HEADER_LENGTH] == SSL3_MT_CLIENT_HELLO;
}

/*
 * The BIO: what OpenSSL writes at once is one datagram, what it reads is the record given to it.
 */

static int datagram_write(BIO *bio, const char *buf, int len)
{
	struct session *s = BIO_get_data(bio);
	struct dtls *d = s->owner;

	/* A datagram that is not sent is a lost one, which DTLS allows for. */
	d->output_error = d->callbacks.output(d->callbacks.ctx, s == d->current, buf, (size_t)len);
	return len;
}

static int datagram_read(BIO *bio, char *buf, int size)
{
	struct session *s = BIO_get_data(bio);
	size_t n = s->in_len;

	BIO_clear_retry_flags(bio);
	if (!s->in || n > (size_t)size) {
		BIO_set_retry_read(bio);
		return -1;
	}
	memcpy(buf, s->in, n);
	s->in = NULL;
	return (int)n;
}

static long datagram_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
	(void)bio, (void)num, (void)ptr;
	return cmd == BIO_CTRL_FLUSH;
}

BIO_METHOD *dtls_bio_method(void)
{
	BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "datagram");

	if (m && BIO_meth_set_write(m, datagram_write) && BIO_meth_set_read(m, datagram_read) &&
		BIO_meth_set_ctrl(m, datagram_ctrl))
		return m;
	BIO_meth_free(m);
	return NULL;
}

/*
 * Sessions.
 */

static unsigned int retransmit_timer(SSL *ssl, unsigned int us)
{
	(void)ssl;
	if (us == 0)
		return RETRANSMIT_MIN_US;
	return us < RETRANSMIT_MAX_US / 2 ? us * 2 : RETRANSMIT_MAX_US;
}

static void session_free(struct session *s)
{
	if (!s)
		return;
	SSL_free(s->ssl); /* wipes its keys */
	free(s);
}

static int session_new(struct dtls *d, uint64_t now_us, struct session **ret)
{
	struct session *s = calloc(1, sizeof(*s));
	BIO *bio = BIO_new(d->other.context->bio);

	if (s)
		s->ssl = SSL_new(d->other.context->ssl);
	if (!bio || !s || !s->ssl || !SSL_set_app_data(s->ssl, &d->other) ||
		!X509_VERIFY_PARAM_set1_ip(SSL_get0_param(s->ssl),
			(const unsigned char *)&d->other.address, sizeof(d->other.address))) {
		BIO_free(bio);
		session_free(s);
		return -ENOMEM;
	}
	s->owner = d;
	s->began_us = now_us;
	BIO_set_data(bio, s);
	BIO_set_init(bio, 1);
	SSL_set_bio(s->ssl, bio, bio);
	SSL_set_mtu(s->ssl, DTLS_DATAGRAM_MAX);
	DTLS_set_timer_cb(s->ssl, retransmit_timer);
	if (d->client)
		SSL_set_connect_state(s->ssl);
	else
		SSL_set_accept_state(s->ssl);
	*ret = s;
	return 0;
}

static void drop(struct session **s)
{
	session_free(*s);
	*s = NULL;
}

/* The record that OpenSSL may read next, NULL: none. */
static void session_feed(struct session *s, const struct record *r)
{
	s->in = r ? r->start : NULL;
	s->in_len = r ? r->len : 0;
}

/* Goes on with the pending handshake as far as it can, r: a record for it, or NULL. */
static void handshake_advance(struct dtls *d, const struct record *r, uint64_t now_us)
{
	int n;

	session_feed(d->pending, r);
	ERR_clear_error();
	n = SSL_do_handshake(d->pending->ssl);
	session_feed(d->pending, NULL);
	if (n == 1) {
		session_free(d->current);
		d->current = d->pending;
		d->pending = NULL;
		d->heard_us = now_us;
		d->handshakes++;
	} else if (SSL_get_error(d->pending->ssl, n) != SSL_ERROR_WANT_READ)
		drop(&d->pending);
}

/* OpenSSL tells how long its timer has still to run; it forgets about it when not asked. */
static void retransmit_schedule(struct dtls *d, uint64_t now_us)
{
	struct timeval left;

	d->retransmit_us = UINT64_MAX;
	if (d->pending && DTLSv1_get_timeout(d->pending->ssl, &left))
		d->retransmit_us =
			now_us + (uint64_t)left.tv_sec * 1000000 + (uint64_t)left.tv_usec;
}

/* Client: a new handshake. */
static void handshake_begin(struct dtls *d, uint64_t now_us)
{
	d->retry_us = now_us + RETRY_US;
	if (session_new(d, now_us, &d->pending) < 0)
		return;
	handshake_advance(d, NULL, now_us);
}

/*
 * Server: a ClientHello. Only with the cookie it begins a handshake, in place of one that is
 * pending: the cookie shows that the client gets what is sent to the member's address. It is good
 * for one handshake, so a ClientHello that comes again, late or recorded, is only answered with
 * the next cookie, which a client that already has one does not mind.
 */
static int hello_receive(struct dtls *d, const struct record *r, uint64_t now_us)
{
	BIO_ADDR *address = BIO_ADDR_new();
	int listening;

	if (!address || (!d->listener && session_new(d, now_us, &d->listener) < 0)) {
		BIO_ADDR_free(address);
		return -EBADMSG;
	}
	session_feed(d->listener, r);
	ERR_clear_error();
	listening = DTLSv1_listen(d->listener->ssl, address);
	session_feed(d->listener, NULL);
	BIO_ADDR_free(address);
	if (listening == 0)
		return 0;
	if (listening < 0) {
		drop(&d->listener);
		return -EBADMSG;
	}
	session_free(d->pending);
	d->pending = d->listener;
	d->listener = NULL;
	d->pending->began_us = now_us;
	handshake_advance(d, NULL, now_us);
	if (RAND_bytes(d->other.cookie, DTLS_COOKIE_SIZE) != 1)
		drop(&d->pending); /* the cookie is used up */
	return 0;
}

/* A record in the clear: it can only be a handshake's. Alerts in the clear are anybody's. */
static int clear_receive(struct dtls *d, const struct record *r, uint64_t now_us)
{
	if (record_is_client_hello(r))
		return d->client ? -EBADMSG : hello_receive(d, r, now_us);
	if (!d->pending || (r->type != SSL3_RT_HANDSHAKE && r->type != SSL3_RT_CHANGE_CIPHER_SPEC))
		return -EBADMSG;
	handshake_advance(d, r, now_us);
	return 0;
}

/* A sealed record for the session in use. OpenSSL drops what is not authentic or replayed. */
static int current_receive(struct dtls *d, const struct record *r, uint64_t now_us)
{
	uint8_t payload[DTLS_DATAGRAM_MAX];
	int n, error;

	session_feed(d->current, r);
	ERR_clear_error();
	n = SSL_read(d->current->ssl, payload, sizeof(payload));
	error = SSL_get_error(d->current->ssl, n);
	session_feed(d->current, NULL);
	if (n > 0) {
		d->heard_us = now_us;
		d->callbacks.deliver(d->callbacks.ctx, payload, (size_t)n);
		OPENSSL_cleanse(payload, (size_t)n);
		return 1;
	}
	if (error == SSL_ERROR_WANT_READ)
		return -EBADMSG;
	/* The other member has closed, or something authentic makes no sense. */
	drop(&d->current);
	d->retry_us = 0;
	return 0;
}

static int record_receive(struct dtls *d, const struct record *r, uint64_t now_us)
{
	int n = -EBADMSG;

	if (r->epoch == 0)
		return clear_receive(d, r, now_us);
	if (r->epoch != 1 || r->type == SSL3_RT_CHANGE_CIPHER_SPEC) /* we never renegotiate */
		return -EBADMSG;
	if (d->current)
		n = current_receive(d, r, now_us);
	/* Not the session's: perhaps the Finished of the handshake next to it. */
	if (n < 0 && d->pending && r->type == SSL3_RT_HANDSHAKE) {
		uint64_t handshakes = d->handshakes;

		handshake_advance(d, r, now_us);
		n = d->handshakes != handshakes ? 0 : -EBADMSG; /* or with another key */
	}
	return n;
}

int dtls_receive(struct dtls *d, const void *buf, size_t len, uint64_t now_us)
{
	const uint8_t *at = buf, *end = at + len;
	struct record r;
	int result = -EBADMSG;

	if (len > DTLS_DATAGRAM_MAX || !datagram_is_whole(at, len))
		return -EBADMSG;
	for (; at < end && record_parse(at, (size_t)(end - at), &r) == 0; at += r.len) {
		int n = record_receive(d, &r, now_us);

		if (n > result)
			result = n;
	}
	retransmit_schedule(d, now_us);
	return result;
}

int dtls_send(struct dtls *d, const void *buf, size_t len)
{
	if (len == 0 || len > DTLS_PAYLOAD_MAX)
		return -EMSGSIZE;
	if (!d->current)
		return -ENOTCONN;
	ERR_clear_error();
	d->output_error = 0;
	if (SSL_write(d->current->ssl, buf, (int)len) != (int)len) {
		drop(&d->current);
		return -ENOTCONN;
	}
	return d->output_error;
}

/* Client: when the next handshake is due. */
static uint64_t begin_due(const struct dtls *d)
{
	uint64_t silent = d->current ? d->heard_us + d->other.context->silence_us : 0;

	if (!d->client)
		return UINT64_MAX;
	return silent > d->retry_us ? silent : d->retry_us;
}

uint64_t dtls_deadline(const struct dtls *d)
{
	uint64_t give_up;

	if (!d->pending)
		return begin_due(d);
	give_up = d->pending->began_us + GIVE_UP_US;
	return give_up < d->retransmit_us ? give_up : d->retransmit_us;
}

void dtls_tick(struct dtls *d, uint64_t now_us)
{
	if (d->pending && now_us >= d->pending->began_us + GIVE_UP_US)
		drop(&d->pending);
	if (d->pending && now_us >= d->retransmit_us) {
		ERR_clear_error();
		if (DTLSv1_handle_timeout(d->pending->ssl) < 0)
			drop(&d->pending);
	}
	if (!d->pending && now_us >= begin_due(d))
		handshake_begin(d, now_us);
	retransmit_schedule(d, now_us);
}

bool dtls_connected(const struct dtls *d)
{
	return d->current;
}

uint64_t dtls_handshakes(const struct dtls *d)
{
	return d->handshakes;
}

int dtls_open(struct dtls_context *c, uint8_t other, struct in_addr address,
	const struct dtls_callbacks *callbacks, struct dtls **ret)
{
	struct dtls *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	*d = (struct dtls){
		.other = {.context = c, .address = address},
		.callbacks = *callbacks,
		.client = c->self > other,
		.retransmit_us = UINT64_MAX,
	};
	if (dtls_identity_format(d->other.identity, c->cluster, other) < 0 ||
		RAND_bytes(d->other.cookie, DTLS_COOKIE_SIZE) != 1) {
		free(d);
		return -ENOMEM;
	}
	*ret = d;
	return 0;
}

void dtls_close(struct dtls *d)
{
	if (!d)
		return;
	ERR_clear_error();
	if (d->current)
		SSL_shutdown(d->current->ssl);
	session_free(d->current);
	session_free(d->pending);
	session_free(d->listener);
	OPENSSL_cleanse(d, sizeof(*d));
	free(d);
}
