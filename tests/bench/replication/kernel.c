/* SPDX-License-Identifier: BSD-2-Clause */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include <libmnl/libmnl.h>

#include "core/hash.h"
#include "io/xfrm_body.h"
#include "replication.h"

#define SPREAD 0x9e3779b1U /* odd: each number gives another SPI, all over the 32 bits */
#define CHILDREN_OF_PEER 16U
#define NOW 1800000000U /* seconds */
#define LIFETIME_S 3600
#define KEY_BYTES 20 /* AES-128 and the salt */

static uint8_t template[RECORD_BODY_MAX];
static int template_len;
static uint32_t gather; /* SPREAD's inverse */
static uint32_t children = UINT32_MAX; /* pairs with the same remainder are of one Child SA */

static uint32_t cluster_address(void)
{
	return htonl(0xc0000201); /* 192.0.2.1 */
}

static uint32_t child(uint32_t number)
{
	return number / 2 % children;
}

static uint32_t peer_address(uint32_t number)
{
	return htonl(0x0a000000 + child(number) / CHILDREN_OF_PEER);
}

uint32_t kernel_number(const struct record_key *key)
{
	return ntohl(key->spi) * gather - 1;
}

void kernel_sa(uint32_t number, struct record_key *ret_key, struct record_facts *ret_facts)
{
	bool out = number % 2;
	uint32_t daddr = out ? peer_address(number) : cluster_address();

	*ret_key = (struct record_key){.kind = RECORD_SA,
		.proto = IPPROTO_ESP,
		.family = AF_INET,
		.spi = htonl((number + 1) * SPREAD)};
	memcpy(ret_key->addr, &daddr, sizeof(daddr));
	*ret_facts = (struct record_facts){.birth = hash_mix(number + 1),
		.pair = hash_mix(child(number) + 1) ^ 1,
		.direction = out ? ESPALIER_OUT : ESPALIER_IN,
		.esn = true};
}

static void put_aead(struct nlmsghdr *h)
{
	uint8_t room[sizeof(struct xfrm_algo_aead) + KEY_BYTES] = {0};
	struct xfrm_algo_aead *aead = (void *)room;

	strcpy(aead->alg_name, "rfc4106(gcm(aes))");
	aead->alg_key_len = KEY_BYTES * 8;
	aead->alg_icv_len = 128;
	memset(aead->alg_key, 1, KEY_BYTES);
	mnl_attr_put(h, XFRMA_ALG_AEAD, sizeof(room), room);
}

/* As the kernel would tell it. */
static void put_sa(struct nlmsghdr *h)
{
	struct xfrm_usersa_info *sa = mnl_nlmsg_put_extra_header(h, sizeof(*sa));
	const struct xfrm_replay_state_esn esn = {.bmp_len = 2, .replay_window = 64};
	const struct xfrm_lifetime_cur lifetime = {.add_time = NOW - 60};
	struct {
		struct xfrm_replay_state_esn esn;
		uint32_t bitmap[2];
	} replay = {.esn = esn};

	sa->sel.family = sa->family = AF_INET;
	sa->id.proto = IPPROTO_ESP;
	sa->id.spi = 1;
	sa->mode = XFRM_MODE_TUNNEL;
	sa->flags = XFRM_STATE_ESN | XFRM_STATE_AF_UNSPEC;
	sa->lft.soft_byte_limit = sa->lft.hard_byte_limit = XFRM_INF;
	sa->lft.soft_packet_limit = sa->lft.hard_packet_limit = XFRM_INF;
	sa->lft.soft_add_expires_seconds = LIFETIME_S * 9 / 10;
	sa->lft.hard_add_expires_seconds = LIFETIME_S;
	sa->curlft = lifetime;
	put_aead(h);
	mnl_attr_put(h, XFRMA_LTIME_VAL, sizeof(lifetime), &lifetime);
	mnl_attr_put(h, XFRMA_REPLAY_ESN_VAL, sizeof(replay), &replay);
}

static void put_key(uint32_t number, struct nlattr *a)
{
	while (mnl_attr_get_type(a) != XFRMA_ALG_AEAD)
		a = mnl_attr_next(a);
	for (unsigned int i = 0; i < KEY_BYTES; i += sizeof(uint32_t)) {
		uint32_t word = (uint32_t)hash_mix((uint64_t)number << 8 | i);

		memcpy((uint8_t *)mnl_attr_get_payload(a) + sizeof(struct xfrm_algo_aead) + i,
			&word, sizeof(word));
	}
}

size_t kernel_message(uint32_t number, uint32_t sequence, void *buf)
{
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct record_facts facts;
	struct xfrm_usersa_info *sa;
	struct record_key key;

	kernel_sa(number, &key, &facts);
	h->nlmsg_type = XFRM_MSG_NEWSA;
	h->nlmsg_flags = NLM_F_MULTI;
	h->nlmsg_seq = sequence;
	put_sa(h);
	sa = mnl_nlmsg_get_payload(h);
	sa->id.spi = key.spi;
	memcpy(&sa->id.daddr, key.addr, sizeof(sa->id.daddr));
	sa->saddr.a4 = number % 2 ? cluster_address() : peer_address(number);
	sa->reqid = child(number) + 1;
	put_key(number, mnl_nlmsg_get_payload_offset(h, sizeof(*sa)));
	return h->nlmsg_len;
}

void kernel_init(uint32_t n)
{
	_Alignas(8) char buf[1024];
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct xfrm_body body;

	put_sa(h);
	if (xfrm_body_parse(RECORD_SA, mnl_nlmsg_get_payload(h), mnl_nlmsg_get_payload_len(h),
		    XFRM_BODY_KERNEL, &body) < 0)
		die("the XFRM adapter refuses the SA");
	template_len = xfrm_body_encode(&body, NOW, template, sizeof(template));
	if (template_len < 0)
		die("the XFRM adapter does not encode the SA");
	children = n;
	gather = SPREAD;
	for (unsigned int i = 0; i < 5; i++)
		gather *= 2 - SPREAD * gather; /* Newton, modulo 2^32 */
}

/* What differs between SAs: addresses, SPI, reqid, age, key. */
int kernel_body(const struct record_key *key, void *buf, size_t size)
{
	uint32_t number = kernel_number(key);
	uint32_t source = number % 2 ? cluster_address() : peer_address(number);
	struct xfrm_usersa_info sa;
	uint8_t *at = (uint8_t *)buf + NLMSG_ALIGN(sizeof(sa));

	if (size < (size_t)template_len)
		return -EMSGSIZE;
	memcpy(buf, template, (size_t)template_len);
	memcpy(&sa, template, sizeof(sa));
	sa.id.spi = key->spi;
	memcpy(&sa.id.daddr, key->addr, sizeof(sa.id.daddr));
	sa.saddr.a4 = source;
	sa.reqid = child(number) + 1;
	sa.curlft.add_time = hash_mix(number / 2) % LIFETIME_S; /* in a body: its age */
	memcpy(buf, &sa, sizeof(sa));
	put_key(number, (void *)at);
	return template_len;
}
