/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * dtls_context.h - private to dtls.c and dtls_context.c: credentials, and how OpenSSL asks for
 * them.
 */
#ifndef DTLS_CONTEXT_H
#define DTLS_CONTEXT_H

#include <openssl/ssl.h>

#include "io/dtls.h"

#define DTLS_COOKIE_SIZE 16
#define DTLS_IDENTITY_MAX 128 /* OpenSSL takes identities up to this length */

struct dtls_context {
	SSL_CTX *ssl;
	BIO_METHOD *bio;
	char cluster[64];
	char identity[DTLS_IDENTITY_MAX]; /* own: "espalier/<cluster>/<id>" */
	uint8_t self;
	uint8_t psk[DTLS_PSK_MAX];
	size_t psk_len; /* 0: certificates */
	uint64_t silence_us;
};

/* The other member, as the callbacks must know it: the app data of each SSL. */
struct dtls_other {
	struct dtls_context *context;
	struct in_addr address;
	char identity[DTLS_IDENTITY_MAX];
	uint8_t cookie[DTLS_COOKIE_SIZE]; /* good for one handshake */
};

/* 0 or -EINVAL: the name is too long. */
int dtls_identity_format(char buf[DTLS_IDENTITY_MAX], const char *cluster, uint8_t member);

BIO_METHOD *dtls_bio_method(void); /* in dtls.c; NULL: no memory */

#endif
