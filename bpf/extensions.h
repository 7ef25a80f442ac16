/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * extensions.h - IPv6's extension headers, for packets that have them. By offset, and in a global
 * function: the verifier goes through it once, and not again for each way in.
 */
#ifndef EXTENSIONS_H
#define EXTENSIONS_H

#include "parse.h"

#define EXTENSIONS_END 0x4000 /* no header is looked for behind that offset in a frame */

/* Where a chain of extension headers leads to. */
struct chain {
	__u32 offset; /* of the header that is no extension, or behind a later fragment's header */
	__be32 id; /* see struct packet */
	__u32 fragment;
	__u32 type;
};

/* Notes what a fragment header says. False: there is another one before it; nobody needs that. */
static __always_inline bool extension_fragment(
	const struct fragment_header *header, struct chain *chain)
{
	if (chain->fragment != FRAGMENT_NONE)
		return false;
	chain->id = header->id;
	if (header->offset & bpf_htons(0xfff8))
		chain->fragment = FRAGMENT_LATER;
	else if (header->offset & bpf_htons(0x0001))
		chain->fragment = FRAGMENT_FIRST;
	return true;
}

/*
 * Steps over the extension headers from chain->offset on. 0: cut short, or more of them than
 * anybody needs. (Each of them has at least eight bytes.)
 */
__weak __noinline int extensions_follow(struct xdp_md *ctx, struct chain *chain)
{
	struct fragment_header header;

	if (!chain)
		return 0;
	for (int i = 0; i <= EXTENSIONS; i++) {
		__u8 type = chain->type;

		if (!parse_is_extension(type) || chain->fragment == FRAGMENT_LATER)
			return 1;
		if (bpf_xdp_load_bytes(ctx, chain->offset, &header, sizeof(header)))
			return 0;
		if (type == IPPROTO_FRAGMENT && !extension_fragment(&header, chain))
			return 0;
		chain->type = header.next;
		chain->offset += parse_extension_size(type, (void *)&header);
	}
	return 0;
}

/* Follows a packet's extension headers, if it has any. False: malformed. */
static __always_inline bool parse_extensions(
	struct xdp_md *ctx, const struct frame *frame, struct packet *packet)
{
	struct chain chain = {.offset = packet->next - (void *)frame->eth, .type = packet->type};

	if (packet->family != FAMILY_INET6 || !parse_is_extension(packet->type))
		return true;
	if (!extensions_follow(ctx, &chain) || chain.offset > EXTENSIONS_END)
		return false;
	packet->next = (void *)frame->eth + chain.offset;
	packet->id = chain.id;
	packet->fragment = chain.fragment;
	packet->type = chain.type;
	return true;
}

#endif
