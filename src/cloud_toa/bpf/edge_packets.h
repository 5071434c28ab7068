/* SPDX-License-Identifier: GPL-2.0-or-later OR BSD-2-Clause */
/*
 * Which packets of a connection carry the option, and when that ends.
 */
#ifndef CLOUD_TOA_EDGE_PACKETS_H
#define CLOUD_TOA_EDGE_PACKETS_H

#include "edge_maps.h"
#include "edge_ports.h"
#include "edge_records.h"

#define TCPHDR_SYN 0x02
#define TCPOPT_EXPERIMENTAL 254

/* Linux reads these first bytes of a kind 254 in a SYN as something of its own. */
static __always_inline int linux_magic(const struct toa_option *option)
{
	if (option->kind != TCPOPT_EXPERIMENTAL)
		return 0;
	return option->port == TOA_BE16(TCP_FASTOPEN_MAGIC) ||
	       (option->port == TOA_BE16(TCP_SMC_MAGIC >> 16) &&
		(option->ip[0] & TOA_BE32(0xffff0000)) == TOA_BE32(TCP_SMC_MAGIC << 16));
}

/*
 * Have packets shown to us. The flag for it is one for all programs of a socket: who has it set
 * before us has it for longer, and who sets another one alone takes it from us (restore()).
 */
static __always_inline void switch_on(struct bpf_sock_ops *ctx, struct sender *sender)
{
	__u32 shown = ctx->bpf_sock_ops_cb_flags;

	sender->flags &= ~SENDER_OFF;
	if (shown & BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG)
		sender->flags |= SENDER_SHOWN;
	else
		bpf_sock_ops_cb_flags_set(ctx, shown | BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
}

static __always_inline void switch_off(struct bpf_sock_ops *ctx, struct sender *sender)
{
	sender->flags |= SENDER_OFF;
	if (!(sender->flags & SENDER_SHOWN))
		bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags &
						       ~BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
}

/* The origin has answered beyond its SYN-ACK, which acknowledged 1: it has the option. */
static __always_inline int answered(struct bpf_sock_ops *ctx)
{
	return ctx->bytes_received || ctx->bytes_acked > 1;
}

/*
 * At callbacks that come anyway: ask again for what another program has taken from us, by
 * bpf_sock_ops_cb_flags_set() with a flag of its own alone.
 */
static __always_inline void restore(struct bpf_sock_ops *ctx)
{
	__u32 shown = ctx->bpf_sock_ops_cb_flags, wanted = 0;
	struct sender *sender;
	struct bpf_sock *sk;

	/* The usual case, at no cost. */
	if (!settings.tell && shown & BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG)
		return;
	sk = ctx->sk;
	if (!sk)
		return;
	sender = bpf_sk_storage_get(&senders, sk, 0, 0);
	if (!sender)
		return;
	if (!(sender->flags & SENDER_OFF))
		wanted |= BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG;
	if (sender->record == RECORD_DUE_AND_ASKED)
		wanted |= BPF_SOCK_OPS_STATE_CB_FLAG;
	wanted &= ~shown;
	if (!wanted)
		return;
	COUNT(flag_cleared);
	if (wanted & BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG) {
		sender->flags &= ~SENDER_SHOWN;
		if (answered(ctx)) {
			sender->flags |= SENDER_OFF;
			wanted &= ~BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG;
		}
	}
	bpf_sock_ops_cb_flags_set(ctx, shown | wanted);
}

/* Whether a client that means this host or link would go to another host. Counted. */
static __always_inline int leaves_its_host(struct bpf_sock_ops *ctx, struct sender *sender)
{
	struct toa_client client = {};

	kept_client(sender, &client);
	if (!toa_is_local(&client) || peer_is_loopback(ctx))
		return 0;
	COUNT(local);
	sender->without |= WITHOUT_LOCAL;
	watch(ctx, sender);
	return 1;
}

/*
 * The first packet that may carry the option of a socket that waits for its client: by now
 * a peer that stores it without waiting for an answer has done so. True: there is one, and
 * the packet has no room for it.
 */
static __always_inline int learn_late(struct bpf_sock_ops *ctx, struct sender *sender)
{
	struct named_port *entry = port_entry(ctx->local_port);
	/* Asked for again: a register kept for it would cost every packet of others. */
	struct bpf_sock *sk = ctx->sk;
	struct occupant *kept = sk ? bpf_sk_storage_get(&occupants, sk, 0, 0) : 0;

	if (!entry || !kept || entry->judged != kept->number || entry->begun != kept->number ||
	    entry->until <= bpf_ktime_get_ns() || !take_port(sender, entry, PORT_LATE)) {
		switch_off(ctx, sender);
		/* What a transparent socket was bound for is not forgotten. */
		if (sk && !sender->bind)
			bpf_sk_storage_delete(&senders, sk);
		return 0;
	}
	sender->room = sender->option.length;
	if (leaves_its_host(ctx, sender)) {
		switch_off(ctx, sender);
		return 0;
	}
	COUNT(late);
	COUNT(connections);
	if (bpf_reserve_hdr_opt(ctx, sender->option.length, 0))
		return 1;
	if (ctx->skb_len) {
		sender->building = WHERE_DATA;
		COUNT(data);
	} else {
		sender->building = WHERE_ACK;
		COUNT(ack);
	}
	return 0;
}

/* Room for the option in the packet that is about to be built, as long as it is wanted. */
static __always_inline void reserve(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct sender *sender;

	if (!sk)
		return;
	sender = bpf_sk_storage_get(&senders, sk, 0, 0);
	if (!sender || sender->flags & SENDER_OFF)
		return;

	if (ctx->skb_tcp_flags & TCPHDR_SYN) {
		if (!(settings.where & WHERE_SYN))
			return;
		/* A middlebox may drop SYNs with options that it does not know. */
		if (ctx->total_retrans > 1) {
			if (sender->option.length)
				COUNT(syn_without);
			sender->without |= WITHOUT_SYN_WITHOUT;
			/* Nobody knows whether one of those before arrived: it is not claimed. */
			sender->written &= ~WHERE_SYN;
			return;
		}
		if (linux_magic(&sender->option)) {
			COUNT(syn_magic);
			sender->without |= WITHOUT_SYN_MAGIC;
			return;
		}
		if (bpf_reserve_hdr_opt(ctx, sender->option.length, 0))
			goto no_room;
		sender->building = WHERE_SYN;
		COUNT(syn);
		return;
	}
	if (sender->after_syn && answered(ctx)) {
		switch_off(ctx, sender);
		return;
	}
	/* No packet yet: the kernel wants to know how much data will fit beside the option. */
	if (ctx->args[0] == BPF_WRITE_HDR_TCP_CURRENT_MSS) {
		if (settings.where & WHERE_DATA)
			bpf_reserve_hdr_opt(ctx, sender->room, 0);
		return;
	}
	sender->after_syn = 1;
	if (ctx->skb_len) {
		if (!(settings.where & WHERE_DATA))
			goto without;
		if (bpf_reserve_hdr_opt(ctx, sender->option.length, 0))
			goto no_room;
		sender->building = WHERE_DATA;
		COUNT(data);
	} else {
		if (!(settings.where & WHERE_ACK))
			goto without;
		if (bpf_reserve_hdr_opt(ctx, sender->option.length, 0))
			goto no_room;
		sender->building = WHERE_ACK;
		COUNT(ack);
	}
	return;
no_room:
	/* There is no option of length 0: who waits for a client ends up here, others don't ask. */
	if (settings.control && !sender->option.length) {
		if (ctx->skb_tcp_flags & TCPHDR_SYN || !learn_late(ctx, sender))
			return;
	}
	if (!(sender->without & WITHOUT_NO_ROOM))
		COUNT(no_room);
	sender->without |= WITHOUT_NO_ROOM;
without:
	if (sender->after_syn)
		watch(ctx, sender);
}

/* The layout without a port: kind, length, version, address. */
static __always_inline long store_client_ip(struct bpf_sock_ops *ctx,
					    const struct toa_option *option)
{
	__u8 wire[TOA_V6_LEN] = { option->kind, option->length, TOA_CLIENT_IP_VERSION };

	__builtin_memcpy(wire + 3, option->ip, sizeof(option->ip));
	if (option->length == TOA_CLIENT_IP_V4_LEN)
		return bpf_store_hdr_opt(ctx, wire, TOA_CLIENT_IP_V4_LEN, 0);
	return bpf_store_hdr_opt(ctx, wire, TOA_CLIENT_IP_V6_LEN, 0);
}

static __always_inline void write(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct sender *sender;
	long refused;

	if (!sk)
		return;
	sender = bpf_sk_storage_get(&senders, sk, 0, 0);
	/* Another program may have room in this packet, and ours none. */
	if (!sender || !sender->building)
		return;
	/* The verifier wants lengths that it can see. */
	if (settings.no_port == NO_PORT_CLIENT_IP && sender->option.length != TOA_V4_LEN &&
	    sender->option.length != TOA_V6_LEN)
		refused = store_client_ip(ctx, &sender->option);
	else if (sender->option.length == TOA_V4_LEN)
		refused = bpf_store_hdr_opt(ctx, &sender->option, TOA_V4_LEN, 0);
	else
		refused = bpf_store_hdr_opt(ctx, &sender->option, TOA_V6_LEN, 0);
	if (refused) {
		COUNT(not_stored);
		sender->without |= WITHOUT_NOT_STORED;
	} else {
		sender->written |= sender->building;
	}
	sender->building = 0;
	if (sender->after_syn)
		watch(ctx, sender);
}

#endif
