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

static bool has_secret(ike_sa_t *sa, chunk_t sk_d)
{
	keymat_v2_t *keymat = (keymat_v2_t *)sa->get_keymat(sa);
	chunk_t own;

	keymat->get_skd(keymat, &own);
	return chunk_equals_const(own, sk_d);
}

static void know(ike_sa_t *sa, const chunk_t keys[RECORD_KEYS])
{
	ike_sa_id_t *id = sa->get_id(sa);
	struct known *known;

	pthread_mutex_lock(&known_lock);
	known = known_make((uint64_t[]){id->get_initiator_spi(id), id->get_responder_spi(id)});
	known->initiator = id->is_initiator(id);
	for (int i = 0; i < RECORD_KEYS; i++) {
		chunk_clear(&known->key[i]);
		known->key[i] = chunk_clone(keys[i]);
	}
	pthread_mutex_unlock(&known_lock);
}

static __thread chunk_t unclaimed[RECORD_KEYS];

static void forget_unclaimed(void)
{
	for (int i = 0; i < RECORD_KEYS; i++)
		chunk_clear(&unclaimed[i]);
}

void keys_derived(ike_sa_t *sa, const chunk_t keys[RECORD_KEYS])
{
	forget_unclaimed();
	if (has_secret(sa, keys[0])) {
		know(sa, keys);
		return;
	}
	for (int i = 0; i < RECORD_KEYS; i++)
		unclaimed[i] = chunk_clone(keys[i]);
}

void keys_claim(ike_sa_t *sa)
{
	if (!unclaimed[0].len || sa->get_version(sa) != IKEV2 || !has_secret(sa, unclaimed[0]))
		return;
	know(sa, unclaimed);
	forget_unclaimed();
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
