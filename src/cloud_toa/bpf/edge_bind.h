/* SPDX-License-Identifier: GPL-2.0-or-later OR BSD-2-Clause */
/*
 * bind() of transparent sockets: taken for a client's, and cut off where it turns out to have
 * been something else.
 */
#ifndef CLOUD_TOA_EDGE_BIND_H
#define CLOUD_TOA_EDGE_BIND_H

#include <asm/socket.h>

#include "edge_client.h"
#include "edge_maps.h"

extern int LINUX_KERNEL_VERSION __kconfig;
#define LINUX_6_1 ((6 << 16) + (1 << 8))

/* No device has this index, the largest that there is. */
#define NO_DEVICE 0x7fffffff

/* Whether the bind() of a socket was for a client. */
static __always_inline int is_taken(struct bpf_sock *sk)
{
	struct sender *sender = sk ? bpf_sk_storage_get(&senders, sk, 0, 0) : 0;

	return sender && sender->flags & SENDER_TAKEN;
}

/*
 * Whether cut_off() will work, if it comes to that: to leave a device again takes a privilege.
 * Older kernels know of none in this place, so there a socket that has a device is refused.
 */
static __always_inline int can_be_cut_off(struct bpf_sock_addr *ctx, struct bpf_sock *sk)
{
	int device = sk->bound_dev_if;

	if (!device)
		return 1;
	if (LINUX_KERNEL_VERSION < LINUX_6_1)
		return 0;
	return !bpf_setsockopt(ctx, SOL_SOCKET, SO_BINDTOIFINDEX, &device, sizeof(device));
}

/* The sender of a transparent socket that is about to be bound for a client; else none. */
static __always_inline struct sender *binding(struct bpf_sock *sk)
{
	struct sender *sender = sk ? bpf_sk_storage_get(&senders, sk, 0, 0) : 0;

	/* One that is bound already will be refused by the kernel. */
	return sender && sender->bind == BIND_CLIENT && !sk->src_port ? sender : 0;
}

/* What bind() was asked for on a transparent socket. True: bind to nothing instead. */
static __always_inline int take_bind(struct sender *sender, const struct toa_client *client)
{
	if (!toa_usable_ip(client)) {
		/* No client's: a listener with `transparent`. Its bind() stays what it is. */
		COUNT(wildcard);
		keep_client(sender, client);
		sender->without = WITHOUT_WILDCARD;
		return 0;
	}
	name_client(sender, client);
	sender->flags |= SENDER_TAKEN;
	return 1;
}

/*
 * A socket whose bind() was taken, and which does not name a client to an origin after all,
 * must do nothing in this host's name: it is bound to a device that is not there. So a
 * listener hears nobody, and connect() fails with EHOSTUNREACH.
 */
static __always_inline void cut_off(struct bpf_sock_ops *ctx)
{
	int device = NO_DEVICE;
	char loopback[] = "lo";

	/* Linux 5.10 knows devices by name alone: so at least no other host is reached, or reaches. */
	if (bpf_setsockopt(ctx, SOL_SOCKET, SO_BINDTOIFINDEX, &device, sizeof(device)))
		bpf_setsockopt(ctx, SOL_SOCKET, SO_BINDTODEVICE, loopback, sizeof(loopback));
}

static __always_inline void listen(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct sender *sender;

	if (!sk)
		return;
	sender = bpf_sk_storage_get(&senders, sk, 0, 0);
	if (!sender || !(sender->flags & SENDER_TAKEN))
		return;
	COUNT(listeners);
	cut_off(ctx);
}

#endif
