/* SPDX-License-Identifier: BSD-2-Clause */
#include "io/digest.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

static const EVP_MD *sha256;

/* EVP_sha256() is looked up in each use, which takes longer than the digest of an SA. */
static void fetch(void)
{
	sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
}

/*
 * SHA-256 cannot fail but for want of memory or a broken OpenSSL; going on with another digest
 * would make members disagree about which SA is which.
 */
void digest_sha256(const void *data, size_t len, uint8_t out[DIGEST_SIZE])
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, fetch);
	if (EVP_Digest(data, len, out, NULL, sha256, NULL) != 1)
		abort();
}

void digest_hmac(
	const void *key, size_t key_len, const void *data, size_t len, uint8_t out[DIGEST_SIZE])
{
	if (!HMAC(EVP_sha256(), key, (int)key_len, data, len, out, NULL))
		abort();
}

void digest_random(void *buf, size_t len)
{
	uint8_t *p = buf;

	while (len > 0) {
		ssize_t n = getrandom(p, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			abort();
		p += n;
		len -= (size_t)n;
	}
}
