/* SPDX-License-Identifier: GPL-2.0-or-later OR BSD-2-Clause */
/*
 * What happened, counted per processor. Whoever includes this has said before what
 * struct counters holds: 64-bit numbers.
 */
#ifndef CLOUD_TOA_COUNTERS_H
#define CLOUD_TOA_COUNTERS_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counters);
} counters SEC(".maps");

/* This processor's; the verifier wants to see that they are there. */
static __always_inline struct counters *counters_here(void)
{
	__u32 only = 0;

	return bpf_map_lookup_elem(&counters, &only);
}

#define COUNT(what)                                      \
	do {                                             \
		struct counters *now = counters_here();  \
		if (now)                                 \
			now->what++;                     \
	} while (0)

#endif
