// SPDX-License-Identifier: GPL-2.0-or-later OR BSD-2-Clause
/*
 * The receiver. Attached to the root of cgroup2 (or to one cgroup), it reads the
 * client from the packet that completes a connection, keeps it in the socket's
 * storage, and answers with it where a server asks who its peer is:
 *
 *   handshake completed     origin_sockops          trusted? found? keep
 *   accept, getpeername     origin_peer4/6          answer the client
 *   getsockopt 4096, 4097   origin_getopt           the client, in any family
 *
 * A source that is not listed is never believed: nothing is kept for it. Nor is a loopback
 * or link-local client from another host: a server would take it for its own host or link.
 */
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "origin_maps.h"
#include "origin_search.h"
#include "peer.h"

#define AF_UNSPEC 0
#define SOL_IP 0
#define SOCK_STREAM 1
#define TCP_SAVE_SYN 27 /* linux/tcp.h; its include chain wants libc */
#define EINVAL 22
#define EFAULT 14
#define ENOTCONN 107

extern int LINUX_KERNEL_VERSION __kconfig;
#define LINUX_5_18 ((5 << 16) + (18 << 8))

static __always_inline int trusted(struct bpf_sock_ops *ctx)
{
	struct trust_key key = { .prefixlen = 128 };

	if (settings.trust_any)
		return 1;
	peer_of(ctx, key.ip);
	return bpf_map_lookup_elem(&trust, &key) != 0;
}

/* Keep what a trusted source says. True: the connection's client is known now. */
static __always_inline int keep(struct bpf_sock_ops *ctx, struct toa_client *client,
				struct counters *count)
{
	struct bpf_sock *sk = ctx->sk;

	if (!trusted(ctx)) {
		count->untrusted++;
		return 0;
	}
	if (!sk || !bpf_sk_storage_get(&clients, sk, client, BPF_SK_STORAGE_GET_F_CREATE)) {
		count->no_memory++;
		return 0;
	}
	count->found++;
	return 1;
}

/*
 * The first data may bring it: have packets parsed for us. Not PARSE_UNKNOWN: a kind 254 with
 * port 63881 is known to Linux. Packets without further options take the fast path and are not
 * shown. The flag is one for all programs of a socket, hence `waiting`.
 */
static __always_inline void wait(struct bpf_sock_ops *ctx, struct counters *count)
{
	__u32 shown = ctx->bpf_sock_ops_cb_flags;
	struct waiting here = { .too = !!(shown & BPF_SOCK_OPS_PARSE_ALL_HDR_OPT_CB_FLAG) };
	struct bpf_sock *sk = ctx->sk;

	if (!sk || !bpf_sk_storage_get(&waiting, sk, &here, BPF_SK_STORAGE_GET_F_CREATE)) {
		count->no_memory++;
		return;
	}
	bpf_sock_ops_cb_flags_set(ctx, shown | BPF_SOCK_OPS_PARSE_ALL_HDR_OPT_CB_FLAG);
}

static __always_inline void established(struct bpf_sock_ops *ctx, struct counters *count)
{
	struct toa_client client = {};
	enum toa_verdict verdict;

	verdict = find_in_packet(ctx, &client, count);
	if (verdict == TOA_FOUND) {
		keep(ctx, &client, count);
		return;
	}
	if (verdict == TOA_SKIP) {
		verdict = find_in_syn(ctx, &client, count);
		if (verdict == TOA_FOUND) {
			if (keep(ctx, &client, count))
				count->saved_syn++;
			return;
		}
	}
	count->absent++;
	if (verdict == TOA_UNUSABLE || !trusted(ctx))
		return;
	wait(ctx, count);
}

/* Until data has come, a packet may bring what the handshake did not. */
static __always_inline void first_data(struct bpf_sock_ops *ctx, struct counters *count)
{
	struct toa_client client = {};
	struct bpf_sock *sk = ctx->sk;
	enum toa_verdict verdict;
	struct waiting *here;

	if (!sk || !bpf_sk_storage_get(&waiting, sk, 0, 0))
		return; /* another program has these parsed */
	if (!ctx->bytes_received) {
		verdict = find_in_packet(ctx, &client, count);
		if (verdict == TOA_SKIP)
			return;
		if (verdict == TOA_FOUND && keep(ctx, &client, count)) {
			count->late++;
			count->absent--;
		}
	}
	sk = ctx->sk;
	here = sk ? bpf_sk_storage_get(&waiting, sk, 0, 0) : 0;
	if (!here)
		return;
	if (!here->too)
		bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags &
						       ~BPF_SOCK_OPS_PARSE_ALL_HDR_OPT_CB_FLAG);
	bpf_sk_storage_delete(&waiting, sk);
}

/*
 * At callbacks that another program has asked for: ask again for what it has taken from us, by
 * bpf_sock_ops_cb_flags_set() with a flag of its own alone.
 */
static __always_inline void restore(struct bpf_sock_ops *ctx)
{
	__u32 shown = ctx->bpf_sock_ops_cb_flags;
	struct bpf_sock *sk = ctx->sk;
	struct waiting *here;

	if (shown & BPF_SOCK_OPS_PARSE_ALL_HDR_OPT_CB_FLAG || !sk)
		return;
	here = bpf_sk_storage_get(&waiting, sk, 0, 0);
	if (!here)
		return;
	COUNT(flag_cleared);
	if (ctx->bytes_received) {
		bpf_sk_storage_delete(&waiting, sk); /* too late */
		return;
	}
	here->too = 0;
	bpf_sock_ops_cb_flags_set(ctx, shown | BPF_SOCK_OPS_PARSE_ALL_HDR_OPT_CB_FLAG);
}

/* An accepted socket that was disconnected, and now connects to somebody else. */
static __always_inline void forget(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;

	if (sk)
		bpf_sk_storage_delete(&clients, sk);
}

SEC("sockops")
int origin_sockops(struct bpf_sock_ops *ctx)
{
	struct counters *count;
	int on = 1;

	switch (ctx->op) {
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		count = counters_here();
		if (count)
			established(ctx, count);
		break;
	case BPF_SOCK_OPS_PARSE_HDR_OPT_CB:
		count = counters_here();
		if (count)
			first_data(ctx, count);
		break;
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		forget(ctx);
		break;
	case BPF_SOCK_OPS_TCP_LISTEN_CB:
		if (settings.save_syn)
			bpf_setsockopt(ctx, SOL_TCP, TCP_SAVE_SYN, &on, sizeof(on));
		break;
	/* What another program has asked for alone. */
	case BPF_SOCK_OPS_STATE_CB:
	case BPF_SOCK_OPS_RTO_CB:
	case BPF_SOCK_OPS_RETRANS_CB:
	case BPF_SOCK_OPS_RTT_CB:
	case BPF_SOCK_OPS_HDR_OPT_LEN_CB:
		restore(ctx);
		break;
	}
	return 1;
}

SEC("cgroup/getpeername4")
int origin_peer4(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct toa_client *client;

	if (!sk)
		return 1;
	client = bpf_sk_storage_get(&clients, sk, 0, 0);
	/* An AF_INET socket can't name an IPv6 client: getsockopt(TOA_CLIENT) does. */
	if (!client || !toa_is_v4(client))
		return 1;
	ctx->user_ip4 = client->ip[3];
	/* A kind without a port leaves the connection's own. */
	if (client->port)
		ctx->user_port = client->port;
	return 1;
}

SEC("cgroup/getpeername6")
int origin_peer6(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct toa_client *client;

	if (!sk)
		return 1;
	client = bpf_sk_storage_get(&clients, sk, 0, 0);
	if (!client)
		return 1;
	ctx->user_ip6[0] = client->ip[0];
	ctx->user_ip6[1] = client->ip[1];
	ctx->user_ip6[2] = client->ip[2];
	ctx->user_ip6[3] = client->ip[3];
	if (client->port)
		ctx->user_port = client->port;
	return 1;
}

/* sockaddr_in, sockaddr_in6; AF_UNSPEC where the connection came without TOA. */
static __always_inline int answer_client(struct bpf_sockopt *ctx, const struct toa_client *client)
{
	__u8 *value = ctx->optval, *end = ctx->optval_end;

	if (value + 16 > end)
		return -EINVAL;
	__builtin_memset(value, 0, 16);
	if (!client) {
		*(__u16 *)value = AF_UNSPEC;
		ctx->optlen = 16;
		return 0;
	}
	*(__be16 *)(value + 2) = client->port;
	if (toa_is_v4(client)) {
		*(__u16 *)value = AF_INET;
		*(__be32 *)(value + 4) = client->ip[3];
		ctx->optlen = 16;
		return 0;
	}
	if (value + 28 > end)
		return -EINVAL;
	*(__u16 *)value = AF_INET6;
	*(__u32 *)(value + 4) = 0;
	*(__be32 *)(value + 8) = client->ip[0];
	*(__be32 *)(value + 12) = client->ip[1];
	*(__be32 *)(value + 16) = client->ip[2];
	*(__be32 *)(value + 20) = client->ip[3];
	*(__u32 *)(value + 24) = 0;
	ctx->optlen = 28;
	return 0;
}

/*
 * As DPVS's module: struct { struct in6_addr saddr; __be16 port; }, NAT64 only. Errors are its
 * own too: EINVAL without TOA, EFAULT for a client of another kind.
 */
static __always_inline int answer_dpvs(struct bpf_sockopt *ctx, const struct toa_client *client,
				       const struct bpf_sock *sk)
{
	__u8 *value = ctx->optval, *end = ctx->optval_end;

	if (value + 20 > end)
		return -EINVAL;
	if (sk->state == BPF_TCP_CLOSE || sk->state == BPF_TCP_SYN_SENT ||
	    sk->state == BPF_TCP_LISTEN)
		return -ENOTCONN;
	if (!client)
		return -EINVAL;
	if (sk->family != AF_INET || toa_is_v4(client))
		return -EFAULT;
	*(__be32 *)value = client->ip[0];
	*(__be32 *)(value + 4) = client->ip[1];
	*(__be32 *)(value + 8) = client->ip[2];
	*(__be32 *)(value + 12) = client->ip[3];
	*(__u32 *)(value + 16) = client->port;
	ctx->optlen = 20;
	return 0;
}

/*
 * Options that are not ours: what the kernel has answered stays as it is. With a length left
 * in `ctx` the kernel copies that much of what it has shown us back to the caller, over its
 * own answer. That is the same where the answer is in there. It is not where
 *
 * - the answer is longer than the caller's buffer or than a page: EFAULT, whatever it is for;
 * - the answer is a positive number, as of RDS_INFO_*: zeros, as nothing was shown;
 * - the call has failed, before Linux 5.18: zeros, and the length that ERANGE goes with is lost.
 *
 * A length of 0 says that there is nothing to copy. Elsewhere it stays, as another program may
 * have an answer.
 */
static __always_inline void leave(struct bpf_sockopt *ctx)
{
	__u8 *value = ctx->optval, *end = ctx->optval_end;

	if (ctx->optlen > end - value || ctx->retval > 0 ||
	    (ctx->retval && LINUX_KERNEL_VERSION < LINUX_5_18))
		ctx->optlen = 0;
}

SEC("cgroup/getsockopt")
int origin_getopt(struct bpf_sockopt *ctx)
{
	struct toa_client *client;
	struct bpf_sock *sk;

	if (ctx->level != SOL_IP || (ctx->optname != TOA_CLIENT && ctx->optname != TOA_DPVS_CLIENT))
		goto not_ours;
	sk = ctx->sk;
	if (!sk || sk->type != SOCK_STREAM || sk->protocol != IPPROTO_TCP)
		goto not_ours;
	client = bpf_sk_storage_get(&clients, sk, 0, 0);
	/* The kernel has an answer: toa.ko's, which was there before us. */
	if (!client && !ctx->retval)
		goto not_ours;
	ctx->retval = ctx->optname == TOA_CLIENT ? answer_client(ctx, client) :
						   answer_dpvs(ctx, client, sk);
	return 1;
not_ours:
	leave(ctx);
	return 1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
