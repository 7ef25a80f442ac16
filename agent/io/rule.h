/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rule.h - the last resort: while an interface cannot be guarded, the kernel is not to emit
 * anything from a cluster address. Routing rules, right behind the one for local destinations, see
 * to that, also when no agent runs; xfrm asks for its route anew when rules have changed.
 */
#ifndef RULE_H
#define RULE_H

#include "core/address.h"

/* Nothing that is from these addresses (family 0: none) is routed any more. 0 or -errno; then some
 * of it may be. */
int rule_prohibit(const struct address *addresses, unsigned int n);

/* It is again. Takes away all such rules, those of an earlier agent too. 0 or -errno. */
int rule_permit(void);

#endif
