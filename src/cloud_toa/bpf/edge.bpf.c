// SPDX-License-Identifier: GPL-2.0-or-later OR BSD-2-Clause
/*
 * The sender. Attached to a load balancer's cgroup, these programs learn from
 * its own calls whom a connection to an origin is for, and put that client into
 * a TCP option of the handshake:
 *
 *   setsockopt(IP_TRANSPARENT)       edge_setopt      remembers the socket
 *   bind(client)                     edge_bind4/6     keeps the client instead
 *   connect(origin)                  edge_sockops     writes the option
 *
 * A client may also be named by the port that the connection comes from (edge_ports.h).
 *
 * The kernel binds to nothing, so packets leave from this host's own address:
 * no privilege, no policy routing, and a port per origin and not per host.
 */
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/types.h>
#include <asm/socket.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "edge_bind.h"
#include "edge_client.h"
#include "edge_maps.h"
#include "edge_origins.h"
#include "edge_packets.h"
#include "edge_ports.h"
#include "edge_records.h"
#include "peer.h"

#define SOCK_STREAM 1
#define SOL_IP 0
#define SOL_IPV6 41
#define IPV6_TRANSPARENT 75 /* linux/in6.h; its include chain wants libc */

/* setsockopt(IPPROTO_IP, TOA_CLIENT): the caller names the client in one call. */
static __always_inline int set_client(struct bpf_sockopt *ctx, struct bpf_sock *sk)
{
	__u8 *value = ctx->optval, *end = ctx->optval_end;
	struct toa_client client = {};
	struct sender *sender;
	__u16 family;

	/* A connection that exists has its SYN behind it: too late, and the caller shall know. */
	if (sk->state != BPF_TCP_CLOSE)
		return 0;
	if (value + 16 > end) /* sizeof(struct sockaddr_in) */
		return 0;
	family = *(__u16 *)value;
	client.port = *(__be16 *)(value + 2);
	if (family == AF_INET) {
		toa_set_v4(&client, *(__be32 *)(value + 4));
	} else if (family == AF_INET6 && value + 24 <= end) {
		client.ip[0] = *(__be32 *)(value + 8);
		client.ip[1] = *(__be32 *)(value + 12);
		client.ip[2] = *(__be32 *)(value + 16);
		client.ip[3] = *(__be32 *)(value + 20);
	} else {
		return 0;
	}
	sender = bpf_sk_storage_get(&senders, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!sender) {
		COUNT(no_memory);
		return 0;
	}
	if (!name_client(sender, &client))
		return 0;
	ctx->optlen = -1; /* done: the kernel has nothing to add */
	return 1;
}

SEC("cgroup/setsockopt")
int edge_setopt(struct bpf_sockopt *ctx)
{
	__u8 *value = ctx->optval, *end = ctx->optval_end;
	int level = ctx->level, name = ctx->optname;
	struct sender *sender;
	struct bpf_sock *sk;

	/* Before all else: what was cut off stays so, and what may have to be, can be. */
	if (level == SOL_SOCKET && (name == SO_BINDTODEVICE || name == SO_BINDTOIFINDEX) &&
	    is_taken(ctx->sk))
		return 0;
	/*
	 * A program is shown a page of a value at most. Left as it is, a longer one would be
	 * refused, whatever it is for; 0 means to the kernel: as the caller has it.
	 */
	if (ctx->optlen > end - value) {
		ctx->optlen = 0;
		return 1;
	}
	if (!(level == SOL_IP && (name == IP_TRANSPARENT || name == TOA_CLIENT)) &&
	    !(level == SOL_IPV6 && name == IPV6_TRANSPARENT) &&
	    !(level == SOL_SOCKET && name == SO_REUSEPORT))
		return 1;
	sk = ctx->sk;
	/* A transparent UDP proxy needs its IP_TRANSPARENT for itself. */
	if (!sk || sk->type != SOCK_STREAM || sk->protocol != IPPROTO_TCP)
		return 1;
	if (level == SOL_IP && name == TOA_CLIENT)
		return set_client(ctx, sk);
	if (settings.only_named)
		return 1;
	/* What is bound already names no client by a bind() to come: it means what it says. */
	if (level != SOL_SOCKET && sk->src_port)
		return 1;
	/* What the kernel refuses is left to it. It takes a char of IP's options alone. */
	if (level == SOL_IPV6 && sk->family != AF_INET6)
		return 1;
	if (level != SOL_IP && ctx->optlen < 4)
		return 1;
	if (value + 4 > end || !(ctx->optlen < 4 ? *value : *(__u32 *)value))
		goto off;
	sender = bpf_sk_storage_get(&senders, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!sender) {
		COUNT(no_memory);
		return 1;
	}
	/* HAProxy's listeners share their port before they are made transparent. */
	if (level == SOL_SOCKET) {
		if (!sender->bind)
			sender->bind = BIND_LISTENER;
		return 1;
	}
	if (sender->bind == BIND_LISTENER) {
		sender->flags |= SENDER_TRANSPARENT;
		return 1;
	}
	sender->bind = BIND_CLIENT;
	ctx->level = SOL_IP;
	/* clang would merge the two stores into one of 8 bytes, which the verifier refuses. */
	barrier();
	ctx->optname = IP_BIND_ADDRESS_NO_PORT;
	return 1;
off:
	if (level == SOL_SOCKET)
		return 1;
	sender = bpf_sk_storage_get(&senders, sk, 0, 0);
	/* A bind() that was taken is not given back: a listener would hear where nobody bound it. */
	if (sender && !(sender->flags & SENDER_TAKEN))
		bpf_sk_storage_delete(&senders, sk);
	return 1;
}

SEC("cgroup/bind4")
int edge_bind4(struct bpf_sock_addr *ctx)
{
	struct toa_client client = { .ip = { 0, 0, TOA_BE32(0xffff), 0 } };
	struct bpf_sock *sk = ctx->sk;
	struct sender *sender = binding(sk);

	if (!sender)
		return 1;
	if (!can_be_cut_off(ctx, sk))
		return 0;
	client.ip[3] = ctx->user_ip4;
	client.port = ctx->user_port;
	if (take_bind(sender, &client)) {
		ctx->user_ip4 = 0;
		ctx->user_port = 0;
	}
	return 1;
}

SEC("cgroup/bind6")
int edge_bind6(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct sender *sender = binding(sk);
	struct toa_client client;

	if (!sender)
		return 1;
	if (!can_be_cut_off(ctx, sk))
		return 0;
	client.ip[0] = ctx->user_ip6[0];
	client.ip[1] = ctx->user_ip6[1];
	client.ip[2] = ctx->user_ip6[2];
	client.ip[3] = ctx->user_ip6[3];
	client.port = ctx->user_port;
	if (take_bind(sender, &client)) {
		/* Else clang keeps a pointer into the context, which the verifier refuses. */
		barrier_var(ctx);
		ctx->user_ip6[0] = 0;
		ctx->user_ip6[1] = 0;
		ctx->user_ip6[2] = 0;
		ctx->user_ip6[3] = 0;
		ctx->user_port = 0;
	}
	return 1;
}

/* Forget what an earlier connection of the same socket has left, but for whom bind() named. */
static __always_inline void begin_anew(struct sender *sender)
{
	if (sender->flags & SENDER_BY_PORT)
		sender->option.length = 0;
	sender->flags &= ~(SENDER_BY_PORT | SENDER_SHOWN);
	sender->flags |= SENDER_OFF;
	sender->without &= WITHOUT_NO_PORT | WITHOUT_WILDCARD;
	sender->after_syn = 0;
	sender->building = 0;
	sender->written = 0;
	sender->record = 0;
}

static __always_inline void connect(struct bpf_sock_ops *ctx)
{
	struct named_port *entry = 0;
	struct bpf_sock *sk = ctx->sk;
	struct sender *sender;
	int known, elsewhere;

	if (!sk)
		return;
	sender = bpf_sk_storage_get(&senders, sk, 0, 0);
	if (sender)
		begin_anew(sender);
	known = sender && sender->option.length;
	elsewhere = settings.listed && sender && !listed(ctx);
	if (settings.refuse_elsewhere && elsewhere && sender->flags & SENDER_TAKEN) {
		COUNT(refused);
		cut_off(ctx);
		return;
	}
	if (!known) {
		if (sender && sender->without)
			watch(ctx, sender);
		if (sender && sender->flags & SENDER_TRANSPARENT && !elsewhere)
			COUNT(shared_port);
		if (!settings.control)
			return;
		sender = 0;
		entry = port_entry(ctx->local_port);
		if (!entry)
			return;
		known = port_waits(entry);
		if (!known && !late_peers()) {
			occupy(ctx, sk, entry, 1, 0);
			return;
		}
		elsewhere = settings.listed && !listed(ctx);
	}
	/* Whoever has the port: a line that comes for it meanwhile is for nobody. */
	if (settings.control && (elsewhere || sender) && late_peers()) {
		struct named_port *here = port_entry(ctx->local_port);

		if (here)
			occupy(ctx, sk, here, 0, 1);
	}
	if (elsewhere) {
		/* An entry stays, for the connection that it is meant for. */
		if (known)
			COUNT(elsewhere);
		if (known && sender) {
			sender->without = WITHOUT_ELSEWHERE;
			watch(ctx, sender);
		}
		return;
	}
	if (!sender) {
		sender = bpf_sk_storage_get(&senders, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
		if (!sender) {
			COUNT(no_memory);
			return;
		}
		sender->room = TOA_V6_LEN;
		sender->flags |= SENDER_OFF;
	}
	if (entry) {
		int late = entry->judged != WHATEVER_BEGAN;

		known = known && take_port(sender, entry, PORT_WAITING);
		if (!known || late)
			occupy(ctx, sk, entry, !known, 1);
	}
	if (known) {
		sender->room = sender->option.length;
		if (leaves_its_host(ctx, sender))
			return;
		if (settings.no_port == NO_PORT_CONNECTION && sender->flags & SENDER_PORTLESS)
			sender->option.port = bpf_htons(ctx->local_port);
		COUNT(connections);
	}
	switch_on(ctx, sender);
}

SEC("sockops")
int edge_sockops(struct bpf_sock_ops *ctx)
{
	switch (ctx->op) {
	case BPF_SOCK_OPS_HDR_OPT_LEN_CB:
		reserve(ctx);
		break;
	case BPF_SOCK_OPS_WRITE_HDR_OPT_CB:
		write(ctx);
		break;
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		connect(ctx);
		break;
	case BPF_SOCK_OPS_TCP_LISTEN_CB:
		listen(ctx);
		break;
	/* The last one before the SYN, and the one before the ACK. */
	case BPF_SOCK_OPS_NEEDS_ECN:
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
	/* What another program has asked for alone. */
	case BPF_SOCK_OPS_RTO_CB:
	case BPF_SOCK_OPS_RETRANS_CB:
	case BPF_SOCK_OPS_RTT_CB:
		restore(ctx);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		restore(ctx);
		tell(ctx);
		leave(ctx);
		break;
	}
	return 1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
