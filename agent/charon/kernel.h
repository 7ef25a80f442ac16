/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kernel.h - charon's kernel interface, which leaves to espalierd what is espalierd's.
 *
 * The SAs and policies of an IKE SA that is imported are in the kernel already. charon is told that
 * its own are installed, and does not touch them; what it deletes later is deleted.
 */
#ifndef CHARON_KERNEL_H
#define CHARON_KERNEL_H

#include "charon/ours.h"

void kernel_wrap(void);
void kernel_unwrap(void);

/* The reqids, and the SPIs of Child SAs in host byte order, that this member draws from. */
void kernel_draw(uint32_t reqid_first, uint32_t reqid_last, uint32_t spi_first, uint32_t spi_last);

#endif
