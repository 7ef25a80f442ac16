/* SPDX-License-Identifier: BSD-2-Clause */
/* digest.h - SHA-256 (FIPS 180-4), HMAC (RFC 2104) with it, and random bytes. */
#ifndef DIGEST_H
#define DIGEST_H

#include <stddef.h>
#include <stdint.h>

#define DIGEST_SIZE 32 /* bytes */

void digest_sha256(const void *data, size_t len, uint8_t out[DIGEST_SIZE]);

void digest_hmac(
	const void *key, size_t key_len, const void *data, size_t len, uint8_t out[DIGEST_SIZE]);

/* From getrandom(2): waits until the kernel's generator is seeded. */
void digest_random(void *buf, size_t len);

#endif
