/* SPDX-License-Identifier: GPL-2.0-or-later OR BSD-2-Clause */
/*
 * What the receiver's programs share: settings, clients, trust and counters.
 */
#ifndef CLOUD_TOA_ORIGIN_MAPS_H
#define CLOUD_TOA_ORIGIN_MAPS_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "toa.h"

/* Settings are compiled in when the program is loaded: other settings, other programs. */
const volatile struct {
	__u8 layouts[256]; /* by kind: TOA_LAYOUT_* */
	__u8 trust_any;
	__u8 save_syn;
	__u8 chain;
} settings = {};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct toa_client);
} clients SEC(".maps");

/* Sockets whose first data may bring the client. */
struct waiting {
	__u8 too; /* another program had packets parsed before us */
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct waiting);
} waiting SEC(".maps");

/* Networks of edges, IPv4 as ::ffff:a.b.c.d. */
struct trust_key {
	__u32 prefixlen;
	__be32 ip[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct trust_key);
	__type(value, __u8);
} trust SEC(".maps");

/* In the order of origin.py's COUNTERS. */
struct counters {
	__u64 found; /* connections whose client is known */
	__u64 absent; /* connections that named nobody, or nobody usable */
	__u64 untrusted; /* connections with an option from a source that is not listed */
	struct toa_counts options;
	__u64 late; /* of the found: those that came with the first data only */
	__u64 saved_syn; /* of the found: those that came with the SYN only */
	__u64 no_memory; /* sockets that the kernel had no memory to remember */
	__u64 flag_cleared; /* times that another program took from us what wait() asks for */
};

#include "counters.h"

#endif
