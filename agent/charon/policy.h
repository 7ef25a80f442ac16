/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * policy.h - policies about which charon's kernel-netlink plugin and the kernel do not know the
 * same.
 *
 * kernel-netlink counts who uses a policy, and deletes it from the kernel with its last user.
 * Adopted: the kernel has it for an IKE SA that was imported, and kernel-netlink does not know of
 * that user. Left: an IKE SA was dropped here and goes on elsewhere; kernel-netlink still counts it
 * as a user. Before a policy is deleted for real its selector's adopted users are made known, and
 * afterwards the left ones are taken off: so it goes when its last user here does, and not before.
 */
#ifndef CHARON_POLICY_H
#define CHARON_POLICY_H

#include "charon/ours.h"

void policy_begin(void);
void policy_end(void);

void policy_adopt(const kernel_ipsec_policy_id_t *id, const kernel_ipsec_manage_policy_t *data);
void policy_leave(const kernel_ipsec_policy_id_t *id, const kernel_ipsec_manage_policy_t *data);

/* Makes the adopted users of this selector known to kernel-netlink. */
void policy_settle(
	kernel_interface_t *stock, kernel_interface_t *kernel, const kernel_ipsec_policy_id_t *id);

/* Takes the left ones off. */
void policy_clear(
	kernel_interface_t *stock, kernel_interface_t *kernel, const kernel_ipsec_policy_id_t *id);

#endif
