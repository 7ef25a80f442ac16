/* SPDX-License-Identifier: BSD-2-Clause */
#include "charon/keys.h"

#include <collections/array.h>
#include <sa/ikev2/keymat_v2.h>

static crypto_factory_t *factory;
static kdf_t *(*stock)(crypto_factory_t *this, key_derivation_function_t type, ...);

struct known_kdf {
	kdf_t public;
	key_derivation_function_t type;
};

static key_derivation_function_t kdf_type(kdf_t *this)
{
	return ((struct known_kdf *)this)->type;
}

/* What the PRF itself gives is not used: it would be the key of the next step. */
static size_t kdf_length(kdf_t *this)
{
	return kdf_type(this) == KDF_PRF ? 1 : SIZE_MAX;
}

static bool kdf_bytes(kdf_t *this, size_t len, uint8_t *ret)
{
	if (kdf_type(this) == KDF_PRF) {
		memset(ret, 0, len);
		return true;
	}
	if (len != ours.keys.len)
		return false;
	memcpy(ret, ours.keys.ptr, len);
	return true;
}

static bool kdf_allocate(kdf_t *this, size_t len, chunk_t *ret)
{
	*ret = chunk_alloc(len ? len : 1);
	return kdf_bytes(this, ret->len, ret->ptr);
}

static bool kdf_set(kdf_t *this, kdf_param_t param, ...)
{
	return true;
}

static void kdf_destroy(kdf_t *this)
{
	free(this);
}

static kdf_t *create_kdf(crypto_factory_t *this, key_derivation_function_t type, ...)
{
	struct known_kdf *kdf;
	va_list arguments;
	int prf;

	if (!ours.keys.len) {
		/* Both functions that there are have this one. */
		va_start(arguments, type);
		prf = va_arg(arguments, int);
		va_end(arguments);
		return stock(this, type, prf);
	}
	INIT(kdf,
		.public = {.get_type = kdf_type,
			.get_length = kdf_length,
			.get_bytes = kdf_bytes,
			.allocate_bytes = kdf_allocate,
			.set_param = kdf_set,
			.destroy = kdf_destroy},
		.type = type);
	return &kdf->public;
}

void keys_wrap(void)
{
	factory = lib->crypto;
	stock = factory->create_kdf;
	factory->create_kdf = create_kdf;
}

void keys_unwrap(void)
{
	factory->create_kdf = stock;
}

/* The function is asked for the keys in this order. */
static chunk_t all_keys(const struct record_ike *record)
{
	chunk_t all = chunk_empty;

	for (int i = 0; i < RECORD_KEYS; i++)
		all = chunk_cat(
			"sc", all, chunk_create((u_char *)record->key[i].at, record->key[i].len));
	return all;
}

static bool no_secret(key_exchange_t *this, chunk_t *ret)
{
	*ret = chunk_clone(chunk_from_chars(0));
	return true;
}

bool keys_set(ike_sa_t *sa, proposal_t *proposal, const struct record_ike *record)
{
	keymat_v2_t *keymat = (keymat_v2_t *)sa->get_keymat(sa);
	key_exchange_t exchange = {.get_shared_secret = no_secret};
	/* charon wants nonces of a length. */
	chunk_t nonce = chunk_from_chars(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
	bool done;
#if CHARON_VERSION >= 60000
	array_t *exchanges = array_create(0, 0);

	array_insert(exchanges, ARRAY_TAIL, &exchange);
#else
	key_exchange_t *exchanges = &exchange;
#endif
	ours.keys = all_keys(record);
	done = ours.keys.len && keymat->derive_ike_keys(keymat, proposal, exchanges, nonce, nonce,
					sa->get_id(sa), PRF_UNDEFINED, chunk_empty);
	chunk_clear(&ours.keys);
#if CHARON_VERSION >= 60000
	array_destroy(exchanges);
#endif
	return done;
}
