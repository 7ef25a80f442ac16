/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * dispatcher.c - the XDP program that libxdp puts on an interface: it calls up to ten programs,
 * each of which the kernel puts in the place of one of its functions (freplace), by the plan that
 * libxdp writes into its constants.
 *
 * It is linked in the place of libxdp's own, which before libxdp 1.5.5 has functions that leave the
 * packet where it is. Kernels from 6.12 on let only such programs replace those, and ours puts
 * headers in front of packets (tunnel.h). All names here are libxdp's; it looks for them.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>
#include <xdp/prog_dispatcher.h>

_Static_assert(MAX_DISPATCHER_ACTIONS == 10, "the slots below are libxdp's");

static volatile const struct xdp_dispatcher_config conf = {};

/* For a program: what it returns is not known here, and that it may move the packet is. */
#define SLOT(name)                                                                                 \
	__attribute__((noinline)) int name(struct xdp_md *ctx)                                     \
	{                                                                                          \
		volatile int ret = XDP_DISPATCHER_RETVAL;                                          \
                                                                                                   \
		if (!ctx)                                                                          \
			return XDP_ABORTED;                                                        \
		bpf_xdp_adjust_tail(ctx, 0);                                                       \
		return ret;                                                                        \
	}

SLOT(prog0)
SLOT(prog1)
SLOT(prog2)
SLOT(prog3)
SLOT(prog4)
SLOT(prog5)
SLOT(prog6)
SLOT(prog7)
SLOT(prog8)
SLOT(prog9)
SLOT(compat_test) /* libxdp tries here what the kernel can do */

/* Ends, unless the program's verdict is one after which the next is to be called. */
#define CALL(i)                                                                                    \
	do {                                                                                       \
		int ret;                                                                           \
                                                                                                   \
		if (conf.num_progs_enabled <= (i))                                                 \
			return XDP_PASS;                                                           \
		ret = prog##i(ctx);                                                                \
		if (!(1U << ret & conf.chain_call_actions[i]))                                     \
			return ret;                                                                \
	} while (0)

SEC("xdp")
int xdp_dispatcher(struct xdp_md *ctx)
{
	CALL(0);
	CALL(1);
	CALL(2);
	CALL(3);
	CALL(4);
	CALL(5);
	CALL(6);
	CALL(7);
	CALL(8);
	CALL(9);
	if (conf.num_progs_enabled <= MAX_DISPATCHER_ACTIONS)
		return XDP_PASS;
	return compat_test(ctx); /* never: what nothing calls would be left out */
}

SEC("xdp")
int xdp_pass(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
__uint(dispatcher_version, XDP_DISPATCHER_VERSION) SEC(XDP_METADATA_SECTION);
