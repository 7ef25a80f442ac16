/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * steer.bpf.c - XDP on the outer interface: each packet of an SA for a cluster address (ESP, bare
 * or in UDP, AH, IKE) goes to the member that owns its flow.
 */
#include "key.h"
#include "neighbour.h"

static __always_inline enum espalier_reason steer(struct xdp_md *ctx, struct key *key)
{
	enum espalier_reason reason;
	struct espalier_view *v;
	bool unwrapped = false;
	struct frame frame;

	/* parse */
	if (!parse_frame(ctx, &frame))
		return ESPALIER_NOT_OURS;
	if (frame.protocol == bpf_htons(ETH_P_ARP))
		return neighbour_arp(&frame, SIDE_OUTER);

	/* key */
	reason = frame.protocol == bpf_htons(ETH_P_IPV6) ? key_of_ipv6(ctx, &frame, key)
							 : key_of_ipv4(ctx, &frame, key);
	if (reason == ESPALIER_NOT_OURS && parse_is_tag(frame.protocol))
		return key_behind_tags(ctx) ? ESPALIER_MALFORMED : ESPALIER_NOT_OURS;
	if (reason == ESPALIER_NOT_OURS) {
		if (!tunnel_receive(ctx, &frame, SIDE_OUTER, &unwrapped))
			return ESPALIER_TUNNEL_STRANGER;
		if (unwrapped && key_is_for_cluster(&frame))
			reason = key_of_other(ctx, key);
		if (unwrapped && (reason == ESPALIER_NOT_OURS || reason == ESPALIER_NOT_STEERED))
			return ESPALIER_TUNNEL_STRANGER;
	}
	if (reason != UNDECIDED)
		return neighbour_is_nd(&frame) ? neighbour_nd(&frame, SIDE_OUTER, reason) : reason;

	/* owner and verdict */
	v = view_map();
	if (!v)
		return ESPALIER_NO_OWNER;
	key_pin_common(v, &frame, key);
	return hop_decide(ctx, v, &frame, &key->flow, SIDE_OUTER, unwrapped);
}

/* NICs put all ESP between two addresses on one queue, and so on one CPU: by its SPI it is spread
 * over several. */
static __always_inline int spread(const struct key *key)
{
	__u32 bucket = espalier_bucket(bpf_ntohl(key->spi), ESPALIER_HASH_MIX);
	int verdict = bpf_redirect_map(&cpus, bucket % settings.cpus, XDP_PASS);

	count(verdict == XDP_REDIRECT ? ESPALIER_LOCAL_SPREAD : ESPALIER_LOCAL);
	return verdict;
}

static __always_inline int finish(const struct key *key, enum espalier_reason reason)
{
	if (settings.cpus && key->spi && reason == ESPALIER_LOCAL)
		return spread(key);
	return hop_verdict(reason);
}

SEC("xdp")
int espalier_steer(struct xdp_md *ctx)
{
	struct key key = {};

	return finish(&key, steer(ctx, &key));
}
