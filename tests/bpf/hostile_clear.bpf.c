/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* hostile_clear.bpf.c - hostile.bpf.c of the inner side. */
#define INNER 1
#include "../tests/bpf/hostile.bpf.c" /* NOLINT(bugprone-suspicious-include): as it is */
