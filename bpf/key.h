/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * key.h - from a packet's headers to the bucket that it belongs to: by the SPI of ESP (bare or in
 * UDP) and AH, by IKE's SPIs. Functions return UNDECIDED and the bucket, or what becomes of a
 * packet that has none.
 */
#ifndef KEY_H
#define KEY_H

#include "parse.h"

#define UNDECIDED ESPALIER_REASON_COUNT /* it has a bucket: whose that is decides */

#define IKE_PORT 500
#define IKE_HEADER 28 /* RFC 7296 3.1, all of it */
#define IKE_VERSION_2 2
#define IKE_INITIATOR 0x08 /* flag: from the initiator of the IKE SA */
#define NON_ESP_MARKER 4 /* RFC 3948 2.2: zero bytes in front of IKE, where ESP has its SPI */
#define KEEPALIVE_BYTE 0xff /* RFC 3948 2.3 */

static __always_inline __u32 key_spi(__be32 spi)
{
	return espalier_bucket(bpf_ntohl(spi), settings.hash);
}

static __always_inline __u32 key_ike(const struct ike *ike)
{
	return espalier_ike_bucket(bpf_be64_to_cpu(ike->initiator_spi),
		bpf_be64_to_cpu(ike->responder_spi),
		ike->version >> 4 == IKE_VERSION_2 && ike->flags & IKE_INITIATOR, settings.hash);
}

/* Is the header that ends there in the packet? */
static __always_inline bool key_reaches(const struct frame *frame, const void *end)
{
	return end <= frame->end;
}

static __always_inline enum espalier_reason key_of_ike(
	const struct frame *frame, const struct udphdr *udp, __u32 marker, __u32 *ret)
{
	const struct ike *ike = (const void *)(udp + 1) + marker;

	if (parse_udp_below(udp, marker + IKE_HEADER))
		return ESPALIER_NOT_STEERED;
	if (!key_reaches(frame, ike + 1))
		return ESPALIER_MALFORMED;
	*ret = key_ike(ike);
	return UNDECIDED;
}

/* A keepalive, or what the kernel does not take for ESP either. */
static __always_inline enum espalier_reason key_of_short_udp(
	const struct frame *frame, const struct udphdr *udp)
{
	const __u8 *byte = (const void *)(udp + 1);

	return udp->len == bpf_htons(sizeof(*udp) + 1) && key_reaches(frame, byte + 1) &&
			       *byte == KEEPALIVE_BYTE
		       ? ESPALIER_KEEPALIVE
		       : ESPALIER_NOT_STEERED;
}

/*
 * UDP. The kernel takes for ESP what has more than an ESP header; SPI 0 marks IKE. A datagram whose
 * SPI is in another fragment, or nowhere, is malformed: the kernel would put it together here,
 * whoever owns the SA.
 */
static __always_inline enum espalier_reason key_of_udp(
	const struct frame *frame, const struct packet *packet, __u32 *ret)
{
	const struct udphdr *udp = packet->next;
	const struct esp *esp = (const void *)(udp + 1);

	if (!key_reaches(frame, udp + 1))
		return ESPALIER_MALFORMED;
	if (udp->dest == bpf_htons(IKE_PORT))
		return key_of_ike(frame, udp, 0, ret);
	if (udp->dest != bpf_htons(NAT_T_PORT))
		return ESPALIER_NOT_STEERED;
	if (parse_udp_below(udp, sizeof(*esp) + 1))
		return key_of_short_udp(frame, udp);
	if (!key_reaches(frame, esp + 1))
		return ESPALIER_MALFORMED;
	if (!esp->spi)
		return key_of_ike(frame, udp, NON_ESP_MARKER, ret);
	*ret = key_spi(esp->spi);
	return UNDECIDED;
}

static __always_inline enum espalier_reason key_of_header(
	const struct frame *frame, const struct packet *packet, __u32 *ret)
{
	const struct esp *esp = packet->next;
	const struct ah *ah = packet->next;

	switch (packet->type) {
	case IPPROTO_ESP:
		if (!key_reaches(frame, esp + 1))
			return ESPALIER_MALFORMED;
		*ret = key_spi(esp->spi);
		return UNDECIDED;
	case IPPROTO_AH:
		if (!key_reaches(frame, ah + 1))
			return ESPALIER_MALFORMED;
		*ret = key_spi(ah->spi);
		return UNDECIDED;
	case IPPROTO_UDP:
		return key_of_udp(frame, packet, ret);
	default:
		return ESPALIER_NOT_STEERED;
	}
}

#endif
