/* SPDX-License-Identifier: GPL-2.0-or-later OR BSD-2-Clause */
/*
 * Connections in which the option was not written where the settings say: who writes an
 * access log can't know of them otherwise. All others, nearly every one, are not told of.
 *
 * A record is made when this host ends the connection or its end has come. That is before
 * the load balancer can say so, and what came later has no option. As long as a connection
 * would have one, the kernel is asked for changes of its state; in a usual one that is from
 * its ACK to its first data, and no change falls in between.
 */
#ifndef CLOUD_TOA_EDGE_RECORDS_H
#define CLOUD_TOA_EDGE_RECORDS_H

#include "edge_maps.h"
#include "peer.h"

/* In the order of edge.py's WITHOUT, named as the counters. */
#define WITHOUT_SYN_WITHOUT 1
#define WITHOUT_SYN_MAGIC 2
#define WITHOUT_NO_ROOM 4
#define WITHOUT_NO_PORT 8
#define WITHOUT_WILDCARD 16
#define WITHOUT_ELSEWHERE 32
#define WITHOUT_NOT_STORED 64
#define WITHOUT_LOCAL 128

#define RECORD_DUE 1
#define RECORD_DUE_AND_ASKED 2 /* and changes of state are shown for it alone */
#define RECORD_MADE 3

/* What is told; IPv4 as ::ffff:a.b.c.d. */
struct record {
	__be32 client[4];
	__be32 origin[4];
	__be32 origin_port;
	__be16 client_port;
	__u8 written; /* WHERE_* */
	__u8 without; /* WITHOUT_* */
};

/* A page stands for none of it, until edge.py wants more. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} records SEC(".maps");

/* A record will be due, or no longer. */
static __always_inline void watch(struct bpf_sock_ops *ctx, struct sender *sender)
{
	__u32 shown = ctx->bpf_sock_ops_cb_flags;

	if (!settings.tell)
		return;
	if (sender->written == settings.where) {
		if (sender->record == RECORD_DUE_AND_ASKED)
			bpf_sock_ops_cb_flags_set(ctx, shown & ~BPF_SOCK_OPS_STATE_CB_FLAG);
		if (sender->record != RECORD_MADE)
			sender->record = 0;
	} else if (!sender->record) {
		sender->record = RECORD_DUE;
		/* Another program may want to be shown them as well. */
		if (shown & BPF_SOCK_OPS_STATE_CB_FLAG)
			return;
		sender->record = RECORD_DUE_AND_ASKED;
		bpf_sock_ops_cb_flags_set(ctx, shown | BPF_SOCK_OPS_STATE_CB_FLAG);
	}
}

/* The state has changed: make the record that is due, if this is the end. */
static __always_inline void tell(struct bpf_sock_ops *ctx)
{
	struct toa_client client = {};
	struct record record = {};
	__u32 before = ctx->args[0], now = ctx->args[1];
	struct bpf_sock *sk = ctx->sk;
	struct sender *sender;

	if (!settings.tell || !sk)
		return;
	/* What never was a connection has nothing to be told of. */
	if (before == BPF_TCP_SYN_SENT ||
	    (now != BPF_TCP_FIN_WAIT1 && now != BPF_TCP_LAST_ACK && now != BPF_TCP_CLOSE))
		return;
	sender = bpf_sk_storage_get(&senders, sk, 0, 0);
	if (!sender || (sender->record != RECORD_DUE && sender->record != RECORD_DUE_AND_ASKED))
		return;
	if (sender->record == RECORD_DUE_AND_ASKED)
		bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags &
						       ~BPF_SOCK_OPS_STATE_CB_FLAG);
	sender->record = RECORD_MADE;
	kept_client(sender, &client);
	__builtin_memcpy(record.client, client.ip, sizeof(record.client));
	/* As the load balancer knows it, whose line of the log this is about. */
	record.client_port = sender->flags & SENDER_PORTLESS ? 0 : sender->option.port;
	peer_of(ctx, record.origin);
	/* The kernel gives the port as 32 bits in network order. */
	record.origin_port = ctx->remote_port;
	record.written = sender->written;
	record.without = sender->without;
	/* Nobody is woken: whoever reads this has a line of the log to read first. */
	if (bpf_ringbuf_output(&records, &record, sizeof(record), BPF_RB_NO_WAKEUP))
		COUNT(records_lost);
}

#endif
