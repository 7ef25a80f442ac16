/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The socket of the IKE daemon's plugin: any bytes as one of its messages. What is decoded lies
 * within the packet, all of it, and says how long it is; what no plugin may say is refused.
 */
#include <string.h>

#include "core/ike.h"
#include "fuzz.h"
#include "io/plugin.h"

static uint8_t packet[ESPALIER_IKE_MESSAGE_MAX + 1] __attribute__((aligned(8)));

static void check_record(const struct plugin_message *m, size_t size)
{
	const struct espalier_ike_record *r = m->record;
	const uint8_t *at = packet + sizeof(struct espalier_ike_header);

	REQUIRE((const uint8_t *)r == at);
	REQUIRE(r->children <= ESPALIER_IKE_CHILDREN_MAX && r->body_length <= IKE_BODY_MAX);
	REQUIRE((const uint8_t *)m->children == at + sizeof(*r));
	REQUIRE(m->body == (const uint8_t *)(m->children + r->children));
	REQUIRE(m->body + r->body_length == packet + size);
	REQUIRE(r->turn > 0 && r->turn < UINT32_MAX); /* one more is none that wraps */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct espalier_ike_header *h = (const void *)packet;
	struct plugin_message m;
	size_t len;

	if (size > sizeof(packet))
		return 0;
	memcpy(packet, data, size);
	if (plugin_decode(packet, size, &m) < 0)
		return 0;
	len = size - sizeof(*h);
	REQUIRE(h->version == ESPALIER_IKE_VERSION && h->length == len && m.type == h->type);
	REQUIRE(!m.hello + !m.name + !m.record >= 2);
	if (m.hello)
		REQUIRE(len == sizeof(*m.hello) &&
			strnlen(m.hello->daemon, sizeof(m.hello->daemon)) <
				sizeof(m.hello->daemon));
	else if (m.name)
		REQUIRE(len == sizeof(*m.name));
	else if (m.record)
		check_record(&m, size);
	else
		REQUIRE(m.type == ESPALIER_IKE_READY && len == 0);
	return 0;
}

static void seed(uint8_t type, const void *data, size_t len)
{
	struct espalier_ike_header h = {
		.type = type, .version = ESPALIER_IKE_VERSION, .length = (uint32_t)len};
	uint8_t message[512];

	memcpy(message, &h, sizeof(h));
	memcpy(message + sizeof(h), data, len);
	fuzz_seed(message, sizeof(h) + len);
}

void fuzz_seeds(void)
{
	struct espalier_ike_hello hello = {1, "strongSwan 5.9.8"};
	struct espalier_ike_name name = {.spis = {1, 2}, .version = 3, .turn = 5};
	struct {
		struct espalier_ike_record record;
		struct espalier_ike_child children[2];
		uint8_t body[20];
	} record = {
		.record = {
			.spis = {1, 2}, .turn = 1, .version = 7, .children = 2, .body_length = 20}};

	seed(ESPALIER_IKE_HELLO, &hello, sizeof(hello));
	seed(ESPALIER_IKE_READY, "", 0);
	seed(ESPALIER_IKE_GONE, &name, sizeof(name));
	seed(ESPALIER_IKE_NEED, &name, sizeof(name));
	seed(ESPALIER_IKE_RELEASED, &name, sizeof(name));
	seed(ESPALIER_IKE_RECORD, &record, sizeof(record.record) + sizeof(record.children) + 20);
}
