/* SPDX-License-Identifier: BSD-2-Clause */
#include "io/digest.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

/*
 * SHA-256 cannot fail but for want of memory or a broken OpenSSL; going on with another digest
 * would make members disagree about which SA is which.
 */
void digest_sha256(const void *data, size_t len, uint8_t out[DIGEST_SIZE])
{
	if (EVP_Digest(data, len, out, NULL, EVP_sha256(), NULL) != 1)
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
