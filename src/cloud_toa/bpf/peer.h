/* SPDX-License-Identifier: GPL-2.0-or-later OR BSD-2-Clause */
/*
 * Whom a connection is with.
 */
#ifndef CLOUD_TOA_PEER_H
#define CLOUD_TOA_PEER_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "toa.h"

#define AF_INET 2
#define AF_INET6 10

/* The other end as packets have it, in network order; IPv4 as ::ffff:a.b.c.d. */
static __always_inline void peer_of(struct bpf_sock_ops *ctx, __be32 *ip)
{
	if (ctx->family == AF_INET) {
		ip[0] = 0;
		ip[1] = 0;
		ip[2] = TOA_BE32(0xffff);
		ip[3] = ctx->remote_ip4;
		/* Else clang makes one load of two by a pointer, which the verifier refuses. */
		barrier_var(ctx);
	} else {
		/* ::ffff:a.b.c.d of an IPv6 socket has this form already. */
		ip[0] = ctx->remote_ip6[0];
		ip[1] = ctx->remote_ip6[1];
		ip[2] = ctx->remote_ip6[2];
		ip[3] = ctx->remote_ip6[3];
	}
}

/* Whether it is on this host itself: no other host has such an address. */
static __always_inline int peer_is_loopback(struct bpf_sock_ops *ctx)
{
	__be32 ip[4];

	peer_of(ctx, ip);
	return toa_is_loopback(ip);
}

#endif
