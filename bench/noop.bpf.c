// SPDX-License-Identifier: GPL-2.0-or-later OR BSD-2-Clause
/*
 * The floor under the cost of the sender and the receiver: programs at the same
 * hooks, by the same names, that do nothing. With SAME_CALLS, the kernel is asked
 * for the callbacks of the header that the sender asks for, no more: it is then
 * run as often as the sender is, and as long as the sender wants them.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define NOTHING(section, name)        \
	SEC(section)                  \
	int name(void *ctx)           \
	{                             \
		(void)ctx;            \
		return 1;             \
	}

NOTHING("cgroup/setsockopt", edge_setopt)
NOTHING("cgroup/bind4", edge_bind4)
NOTHING("cgroup/bind6", edge_bind6)
NOTHING("sockops", origin_sockops)
NOTHING("cgroup/getpeername4", origin_peer4)
NOTHING("cgroup/getpeername6", origin_peer6)
NOTHING("cgroup/getsockopt", origin_getopt)

#ifndef SAME_CALLS
NOTHING("sockops", edge_sockops)
#else
SEC("sockops")
int edge_sockops(struct bpf_sock_ops *ctx)
{
	__u32 flags = ctx->bpf_sock_ops_cb_flags;

	if (ctx->op == BPF_SOCK_OPS_TCP_CONNECT_CB)
		bpf_sock_ops_cb_flags_set(ctx, flags | BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
	else if (ctx->op == BPF_SOCK_OPS_HDR_OPT_LEN_CB && ctx->bytes_received)
		bpf_sock_ops_cb_flags_set(ctx, flags & ~BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
	else if (ctx->op == BPF_SOCK_OPS_HDR_OPT_LEN_CB)
		bpf_reserve_hdr_opt(ctx, 8, 0); /* else the kernel does not ask to write */
	return 1;
}
#endif

char LICENSE[] SEC("license") = "Dual BSD/GPL";
