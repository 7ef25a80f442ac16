/* SPDX-License-Identifier: BSD-2-Clause */
/* xfrm_window.c - replay windows as the kernel keeps them (net/xfrm/xfrm_replay.c). */
#include "io/xfrm_socket.h"

#include <string.h>

void xfrm_window_raise_legacy(struct xfrm_replay_state *legacy, uint64_t seq)
{
	if (seq >= legacy->seq) {
		legacy->seq = (uint32_t)seq;
		legacy->bitmap = UINT32_MAX;
	} else if (legacy->seq - seq < 32) {
		legacy->bitmap |= UINT32_MAX << (legacy->seq - seq);
	}
}

/* A ring of bits: that of the highest number is where that number, less one, is in it. */
void xfrm_window_raise_esn(struct xfrm_replay_state_esn *esn, uint64_t seq)
{
	uint64_t top = (uint64_t)esn->seq_hi << 32 | esn->seq;
	uint32_t size = esn->replay_window, at;

	if (size == 0)
		return;
	if (seq >= top) {
		esn->seq = (uint32_t)seq;
		esn->seq_hi = (uint32_t)(seq >> 32);
		memset(esn->bmp, 0xff, esn->bmp_len * sizeof(esn->bmp[0]));
		return;
	}
	at = (esn->seq - 1) % size;
	for (uint64_t below = top - seq; below < size; below++) {
		uint32_t bit = (at + size - (uint32_t)below) % size;

		esn->bmp[bit / 32] |= 1U << bit % 32;
	}
}
