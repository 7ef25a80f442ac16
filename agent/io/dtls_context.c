/* SPDX-License-Identifier: BSD-2-Clause */
#include "io/dtls_context.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

/* With a pre-shared key, and with certificates: forward secrecy and AEAD only. */
#define CIPHERS_PSK "ECDHE-PSK-CHACHA20-POLY1305"
#define CIPHERS_CERTIFICATE "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"

int dtls_identity_format(char buf[DTLS_IDENTITY_MAX], const char *cluster, uint8_t member)
{
	int n = snprintf(buf, DTLS_IDENTITY_MAX, "espalier/%s/%u", cluster, (unsigned int)member);

	return n > 0 && n < DTLS_IDENTITY_MAX ? 0 : -EINVAL;
}

static int cookie_make(SSL *ssl, unsigned char *cookie, unsigned int *ret_len)
{
	const struct dtls_other *o = SSL_get_app_data(ssl);

	memcpy(cookie, o->cookie, DTLS_COOKIE_SIZE);
	*ret_len = DTLS_COOKIE_SIZE;
	return 1;
}

static int cookie_check(SSL *ssl, const unsigned char *cookie, unsigned int len)
{
	const struct dtls_other *o = SSL_get_app_data(ssl);

	return len == DTLS_COOKIE_SIZE && CRYPTO_memcmp(cookie, o->cookie, DTLS_COOKIE_SIZE) == 0;
}

/* 0 tells OpenSSL that there is no key for this one. */
static unsigned int psk_for(
	const struct dtls_other *o, const char *identity, unsigned char *psk, unsigned int size)
{
	const struct dtls_context *c = o->context;

	if (!identity || strcmp(identity, o->identity) != 0 || c->psk_len > size)
		return 0;
	memcpy(psk, c->psk, c->psk_len);
	return (unsigned int)c->psk_len;
}

static unsigned int psk_server(
	SSL *ssl, const char *identity, unsigned char *psk, unsigned int size)
{
	return psk_for(SSL_get_app_data(ssl), identity, psk, size);
}

/* The server's identity comes as the hint; the Finished messages make it as good as the client's.
 */
static unsigned int psk_client(SSL *ssl, const char *hint, char *identity,
	unsigned int identity_size, unsigned char *psk, unsigned int size)
{
	const struct dtls_other *o = SSL_get_app_data(ssl);
	size_t len = strlen(o->context->identity) + 1;

	if (len > identity_size)
		return 0;
	memcpy(identity, o->context->identity, len);
	return psk_for(o, hint, psk, size);
}

/* "<what> <file>: <why>", by the first error that OpenSSL met. */
static int fail(char *err, size_t err_size, const char *what, const char *file)
{
	unsigned long error = ERR_peek_error();
	const char *why = ERR_SYSTEM_ERROR(error) ? strerror(ERR_GET_REASON(error))
						  : ERR_reason_error_string(error);

	snprintf(err, err_size, "%s %s: %s", what, file, why ? why : "unusable");
	return -EINVAL;
}

static int psk_use(
	struct dtls_context *c, const struct dtls_config *config, char *err, size_t err_size)
{
	if (config->psk_len < DTLS_PSK_MIN || config->psk_len > DTLS_PSK_MAX) {
		snprintf(err, err_size, "the pre-shared key has %zu bytes; give it %d to %d",
			config->psk_len, DTLS_PSK_MIN, DTLS_PSK_MAX);
		return -EINVAL;
	}
	memcpy(c->psk, config->psk, config->psk_len);
	c->psk_len = config->psk_len;
	SSL_CTX_set_psk_server_callback(c->ssl, psk_server);
	SSL_CTX_set_psk_client_callback(c->ssl, psk_client);
	if (SSL_CTX_set_cipher_list(c->ssl, CIPHERS_PSK) != 1 ||
		SSL_CTX_use_psk_identity_hint(c->ssl, c->identity) != 1)
		return fail(err, err_size, "OpenSSL does not offer", CIPHERS_PSK);
	return 0;
}

static int fail_key(const struct dtls_config *config, char *err, size_t err_size)
{
	int why = ERR_GET_REASON(ERR_peek_error());

	if (why != X509_R_KEY_VALUES_MISMATCH && why != X509_R_KEY_TYPE_MISMATCH)
		return fail(err, err_size, "private key", config->private_key);
	snprintf(err, err_size, "private key %s is not that of certificate %s: give two of a pair",
		config->private_key, config->certificate);
	return -EINVAL;
}

/* Never ask at a terminal. */
static int no_passphrase(char *buf, int size, int writing, void *ctx)
{
	(void)buf, (void)size, (void)writing, (void)ctx;
	return -1;
}

static int certificate_use(
	struct dtls_context *c, const struct dtls_config *config, char *err, size_t err_size)
{
	SSL_CTX_set_default_passwd_cb(c->ssl, no_passphrase);
	if (SSL_CTX_set_cipher_list(c->ssl, CIPHERS_CERTIFICATE) != 1)
		return fail(err, err_size, "OpenSSL does not offer", CIPHERS_CERTIFICATE);
	if (SSL_CTX_load_verify_file(c->ssl, config->ca) != 1)
		return fail(err, err_size, "CA file", config->ca);
	if (SSL_CTX_use_certificate_chain_file(c->ssl, config->certificate) != 1)
		return fail(err, err_size, "certificate", config->certificate);
	if (SSL_CTX_use_PrivateKey_file(c->ssl, config->private_key, SSL_FILETYPE_PEM) != 1 ||
		SSL_CTX_check_private_key(c->ssl) != 1)
		return fail_key(config, err, err_size);
	if (X509_check_ip(SSL_CTX_get0_certificate(c->ssl), (const unsigned char *)&config->address,
		    sizeof(config->address), 0) != 1) {
		snprintf(err, err_size,
			"certificate %s does not name this member's sync address; "
			"make one with it as subjectAltName IP",
			config->certificate);
		return -EINVAL;
	}
	SSL_CTX_set_verify(c->ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	return 0;
}

static int context_setup(struct dtls_context *c)
{
	c->bio = dtls_bio_method();
	c->ssl = SSL_CTX_new(DTLS_method());
	if (!c->bio || !c->ssl || SSL_CTX_set_min_proto_version(c->ssl, DTLS1_2_VERSION) != 1 ||
		SSL_CTX_set_max_proto_version(c->ssl, DTLS1_2_VERSION) != 1)
		return -ENOMEM;
	SSL_CTX_set_options(c->ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
					    SSL_OP_NO_TICKET | SSL_OP_NO_QUERY_MTU);
	SSL_CTX_set_session_cache_mode(c->ssl, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_cookie_generate_cb(c->ssl, cookie_make);
	SSL_CTX_set_cookie_verify_cb(c->ssl, cookie_check);
	return 0;
}

int dtls_context_open(
	const struct dtls_config *config, struct dtls_context **ret, char *err, size_t err_size)
{
	struct dtls_context *c = calloc(1, sizeof(*c));
	int r = -ENOMEM;

	ERR_clear_error();
	if (!c || context_setup(c) < 0) {
		fail(err, err_size, "cannot start", "OpenSSL");
		goto out;
	}
	r = -EINVAL;
	c->self = config->self;
	c->silence_us = config->silence_us;
	if (strlen(config->cluster) >= sizeof(c->cluster) ||
		dtls_identity_format(c->identity, config->cluster, c->self) < 0) {
		snprintf(err, err_size, "the cluster's name has more than %zu characters",
			sizeof(c->cluster) - 1);
		goto out;
	}
	memcpy(c->cluster, config->cluster, strlen(config->cluster) + 1);
	r = config->psk ? psk_use(c, config, err, err_size)
			: certificate_use(c, config, err, err_size);
	if (r < 0)
		goto out;
	*ret = c;
	return 0;
out:
	dtls_context_close(c);
	return r;
}

void dtls_context_close(struct dtls_context *c)
{
	if (!c)
		return;
	SSL_CTX_free(c->ssl);
	BIO_meth_free(c->bio);
	OPENSSL_cleanse(c, sizeof(*c));
	free(c);
}

/* For any use: whether it may be a server's or a client's, the other member finds. */
static int verify(const struct dtls_context *c, X509_STORE_CTX *x, const struct dtls_config *config,
	char *err, size_t err_size)
{
	STACK_OF(X509) *chain = NULL;

	(void)SSL_CTX_get0_chain_certs(c->ssl, &chain);
	if (X509_STORE_CTX_init(x, SSL_CTX_get_cert_store(c->ssl), SSL_CTX_get0_certificate(c->ssl),
		    chain) != 1)
		return -ENOMEM;
	if (X509_verify_cert(x) == 1)
		return 0;
	snprintf(err, err_size, "certificate %s is not good by CA file %s: %s", config->certificate,
		config->ca, X509_verify_cert_error_string(X509_STORE_CTX_get_error(x)));
	return -EINVAL;
}

int dtls_check(const struct dtls_config *config, char *err, size_t err_size)
{
	struct dtls_context *c = NULL;
	X509_STORE_CTX *x;
	int r = dtls_context_open(config, &c, err, err_size);

	if (r < 0 || config->psk) {
		dtls_context_close(c);
		return r;
	}
	snprintf(err, err_size, "out of memory");
	x = X509_STORE_CTX_new();
	r = x ? verify(c, x, config, err, err_size) : -ENOMEM;
	X509_STORE_CTX_free(x);
	dtls_context_close(c);
	return r;
}
