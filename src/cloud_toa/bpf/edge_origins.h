/* SPDX-License-Identifier: GPL-2.0-or-later OR BSD-2-Clause */
/*
 * Which destinations get the option, where it is not every one of them.
 */
#ifndef CLOUD_TOA_EDGE_ORIGINS_H
#define CLOUD_TOA_EDGE_ORIGINS_H

#include "edge_maps.h"
#include "peer.h"

/* Bits of a port; the prefix of a key covers them and then the network's. */
#define PORT_BITS 32

/* Networks of origins, IPv4 as ::ffff:a.b.c.d, each with its port, 0 for every port. */
struct origin_key {
	__u32 prefixlen;
	__be32 port;
	__be32 ip[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct origin_key);
	__type(value, __u8);
} origins SEC(".maps");

/* Whether a socket's destination is one that gets the option. */
static __always_inline int listed(struct bpf_sock_ops *ctx)
{
	struct origin_key key = { .prefixlen = PORT_BITS + 128 };

	peer_of(ctx, key.ip);
	/* The kernel gives the port as 32 bits in network order. */
	key.port = ctx->remote_port;
	if (bpf_map_lookup_elem(&origins, &key))
		return 1;
	key.port = 0;
	return bpf_map_lookup_elem(&origins, &key) != 0;
}

#endif
