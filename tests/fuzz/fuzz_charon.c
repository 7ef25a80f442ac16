/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A record of an IKE SA, as another member's charon sent it. What is taken for good can be gone
 * through without an error, lies in the input, and written again gives the same bytes.
 */
#include <string.h>

#include "charon/record.h"
#include "fuzz.h"

static const uint8_t *input;
static size_t input_len;

static void within(struct bytes bytes)
{
	REQUIRE(bytes.len == 0 || (bytes.at >= input && bytes.at + bytes.len <= input + input_len));
}

/* For each item of the list, which is in `item`. */
/* NOLINTBEGIN(bugprone-macro-parentheses): a statement, and part of a name */
#define ALL(list, name, look)                                                                      \
	do {                                                                                       \
		struct reader r_ = record_list(list);                                              \
		within(list);                                                                      \
		while (record_next_##name(&r_, &item))                                             \
			look;                                                                      \
		REQUIRE(!r_.failed && r_.at == r_.end);                                            \
	} while (0)
/* NOLINTEND(bugprone-macro-parentheses) */

static void look_at_selectors(struct bytes list)
{
	struct record_selector item;

	ALL(list, selector, {
		within(item.from);
		within(item.to);
		REQUIRE(item.from.len == item.to.len);
	});
}

static void look_at_child(const struct record_child *child)
{
	struct record_transform item;

	within(child->name);
	ALL(child->proposal, transform, (void)item);
	look_at_selectors(child->here);
	look_at_selectors(child->there);
}

static void look_at_hosts(struct bytes list)
{
	struct record_host item;

	ALL(list, host, REQUIRE(item.address.len == 4 || item.address.len == 16));
}

static void look_at_packets(struct bytes list)
{
	struct bytes item;

	ALL(list, packet, within(item));
}

static void look_at_children(struct bytes list)
{
	struct record_child item;

	ALL(list, child, look_at_child(&item));
}

static void look_at(const struct record_ike *ike)
{
	struct record_transform item;

	for (int i = 0; i < RECORD_KEYS; i++)
		within(ike->key[i]);
	within(ike->name);
	within(ike->token);
	ALL(ike->proposal, transform, (void)item);
	look_at_hosts(ike->peer_addresses);
	look_at_hosts(ike->here_virtual);
	look_at_hosts(ike->there_virtual);
	look_at_children(ike->children);
	look_at_packets(ike->response.packets);
	look_at_packets(ike->request.packets);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t again[RECORD_MAX];
	struct writer w = {.at = again, .end = again + sizeof(again)};
	struct record_ike ike;

	input = data;
	input_len = size;
	if (!record_get(data, size, &ike))
		return 0;
	look_at(&ike);
	record_put(&w, &ike);
	REQUIRE(!w.failed && (size_t)(w.at - again) == size && memcmp(again, data, size) == 0);
	return 0;
}

#define BYTES(text) ((struct bytes){(const uint8_t *)(text), sizeof(text) - 1})

static struct bytes since(const struct writer *w, const uint8_t *start)
{
	return (struct bytes){start, (size_t)(w->at - start)};
}

static struct bytes selectors(struct writer *parts, struct bytes from, struct bytes to)
{
	const uint8_t *start = parts->at;

	record_put_selector(parts,
		&(struct record_selector){.type = 7, .to_port = 65535, .from = from, .to = to});
	return since(parts, start);
}

static struct bytes transforms(struct writer *parts)
{
	const uint8_t *start = parts->at;

	record_put_transform(parts, &(struct record_transform){1, 20, 128});
	record_put_transform(parts, &(struct record_transform){5, 1, 0});
	return since(parts, start);
}

/* With one Child SA, a virtual address, a response in two fragments, an outstanding request. */
void fuzz_seeds(void)
{
	static uint8_t body[RECORD_MAX], part[RECORD_MAX];
	struct writer w = {.at = body, .end = body + sizeof(body)};
	struct writer parts = {.at = part, .end = part + sizeof(part)};
	struct record_host host = {500, BYTES("\x0a\x09\x00\x02")};
	struct record_child child = {.spi = {1, 2},
		.protocol = 3,
		.mode = 2,
		.state = RECORD_ESTABLISHED,
		.reqid = 7,
		.name = BYTES("net"),
		.proposal = transforms(&parts),
		.here = selectors(&parts, BYTES("\x0a\x01\x00\x00"), BYTES("\x0a\x01\x00\xff")),
		.there = selectors(&parts, BYTES("\x0a\x02\x00\x00"), BYTES("\x0a\x02\x00\xff"))};
	struct record_ike ike = {.spi = {3, 4},
		.state = RECORD_ESTABLISHED,
		.send = 2,
		.receive = 5,
		.proposal = transforms(&parts),
		.me = {2, BYTES("gateway")},
		.other = {2, BYTES("peer")},
		.here = host,
		.there = host,
		.name = BYTES("net"),
		.token = BYTES("a token of the peer")};
	const uint8_t *start = parts.at;

	record_put_host(&parts, &host);
	ike.there_virtual = since(&parts, start);
	start = parts.at;
	record_put_child(&parts, &child);
	ike.children = since(&parts, start);
	start = parts.at;
	record_put_packet(&parts, BYTES("one fragment"));
	record_put_packet(&parts, BYTES("another one"));
	ike.response = (struct record_messages){4, since(&parts, start)};
	ike.request = (struct record_messages){2, ike.response.packets};
	for (int i = 0; i < RECORD_KEYS; i++)
		ike.key[i] = BYTES("a key of 16 byte");
	record_put(&w, &ike);
	REQUIRE(record_get(body, (size_t)(w.at - body), &ike));
	fuzz_seed(body, (size_t)(w.at - body));
}
