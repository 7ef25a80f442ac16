/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * reqid.h - charon's numbers that tie SAs to policies, which must differ among the members.
 *
 * A Child SA that is imported keeps its reqid; new ones draw from this member's range. As in the
 * stock one, the same selectors get the same reqid.
 */
#ifndef CHARON_REQID_H
#define CHARON_REQID_H

#include "charon/ours.h"

void reqid_begin(void);
void reqid_end(void);
void reqid_draw(uint32_t first, uint32_t last);

status_t reqid_alloc(kernel_interface_t *kernel, linked_list_t *here, linked_list_t *there,
	mark_t mark_in, mark_t mark_out, uint32_t if_id_in, uint32_t if_id_out, sec_label_t *label,
	uint32_t *reqid);
#if CHARON_VERSION >= 60000
status_t reqid_ref(kernel_interface_t *kernel, uint32_t reqid);
status_t reqid_release(kernel_interface_t *kernel, uint32_t reqid);
#else
status_t reqid_release(kernel_interface_t *kernel, uint32_t reqid, mark_t mark_in, mark_t mark_out,
	uint32_t if_id_in, uint32_t if_id_out, sec_label_t *label);
#endif

#endif
