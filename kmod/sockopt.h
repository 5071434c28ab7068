/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * getsockopt(IPPROTO_IP): the client in any family, as the eBPF receiver answers
 * (4097), and as DPVS's module does (4096).
 */
#ifndef TOA_SOCKOPT_H
#define TOA_SOCKOPT_H

#include <linux/in.h>
#include <linux/in6.h>
#include <linux/netfilter.h>
#include <linux/uaccess.h>
#include <net/tcp_states.h>

#include "clients.h"
#include "toa.h"

/* sockaddr_in, sockaddr_in6; AF_UNSPEC where the connection came without TOA. */
static int toa_answer_client(const struct toa_client *client, void __user *user, int *length)
{
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} answer = {};
	int size = sizeof(answer.v4);

	if (client && toa_is_v4(client)) {
		answer.v4.sin_family = AF_INET;
		answer.v4.sin_port = client->port;
		answer.v4.sin_addr.s_addr = client->ip[3];
	} else if (client) {
		answer.v6.sin6_family = AF_INET6;
		answer.v6.sin6_port = client->port;
		memcpy(&answer.v6.sin6_addr, client->ip, sizeof(client->ip));
		size = sizeof(answer.v6);
	} else {
		answer.any.sa_family = AF_UNSPEC;
	}
	if (*length < size)
		return -EINVAL;
	*length = size;
	return copy_to_user(user, &answer, size) ? -EFAULT : 0;
}

/*
 * An IPv6 client of an AF_INET socket, which getpeername can't name: NAT64. Errors are those
 * of DPVS's module: EINVAL without TOA, EFAULT for a client of another kind.
 */
static int toa_answer_dpvs(const struct sock *sk, const struct toa_client *client,
			   void __user *user, int *length)
{
	struct {
		__be32 saddr[4];
		__be16 port;
		__u16 padding;
	} answer = {};

	if (*length < (int)sizeof(answer))
		return -EINVAL;
	if ((1 << sk->sk_state) & (TCPF_CLOSE | TCPF_SYN_SENT | TCPF_LISTEN))
		return -ENOTCONN;
	if (!client)
		return -EINVAL;
	if (sk->sk_family != AF_INET || toa_is_v4(client))
		return -EFAULT;
	memcpy(answer.saddr, client->ip, sizeof(answer.saddr));
	answer.port = client->port;
	*length = sizeof(answer);
	return copy_to_user(user, &answer, sizeof(answer)) ? -EFAULT : 0;
}

static int toa_getsockopt(struct sock *sk, int name, void __user *user, int *length)
{
	struct toa_client client;
	bool known;

	if (sk->sk_type != SOCK_STREAM || sk->sk_protocol != IPPROTO_TCP)
		return -ENOPROTOOPT;
	known = toa_client_of(sk, &client);
	if (name == TOA_CLIENT)
		return toa_answer_client(known ? &client : NULL, user, length);
	return toa_answer_dpvs(sk, known ? &client : NULL, user, length);
}

static struct nf_sockopt_ops toa_sockopts = {
	.pf = PF_INET,
	.get_optmin = TOA_DPVS_CLIENT,
	.get_optmax = TOA_CLIENT + 1,
	.get = toa_getsockopt,
	.owner = THIS_MODULE,
};

#endif
