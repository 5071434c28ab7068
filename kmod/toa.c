// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The receiver as a kernel module, for kernels without the eBPF hooks. It reads the client
 * from the packet that completes a connection, and answers with it where a server asks
 * who its peer is:
 *
 *   tcp_v4_syn_recv_sock, tcp_v6_...   packet in, socket out: trusted? found? remember
 *   inet_getname, inet6_getname        accept, getpeername: answer the client
 *   tcp_v4_destroy_sock                forget (TCP over IPv6 ends there as well)
 *   getsockopt 4096, 4097              the client, in any family
 *
 * By kprobes alone: nothing in the kernel is written to, and nothing of it is named that
 * is not exported, but for the functions' names above. A source that is not listed is
 * never believed: nothing is remembered for it.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/tcp.h>
#include <net/inet_sock.h>
#include <net/tcp.h>

#include "clients.h"
#include "settings.h"
#include "sockopt.h"
#include "stats.h"
#include "toa.h"

#ifdef CONFIG_PREEMPT_RT
#error "toa.ko takes memory where handlers of probes must not sleep: not for PREEMPT_RT kernels"
#endif

#define ARGUMENT(regs, number) ((void *)regs_get_kernel_argument(regs, number))

/* Of a packet that may complete a connection, until it is known whether it does. */
struct toa_handshake {
	struct toa_client client;
	enum toa_verdict verdict;
	bool trusted;
	const bool *own_req; /* false: another packet was first, and this socket is given up */
};

/* Of who asks for a name. */
struct toa_question {
	const struct sock *sk;
	struct sockaddr *answer;
};

static enum toa_verdict toa_search_packet(const struct sk_buff *skb, const __be32 *source,
					  const struct toa_settings *settings,
					  struct toa_client *client)
{
	const struct tcphdr *header = tcp_hdr(skb);
	const u8 *options = (const u8 *)(header + 1);
	u32 length = tcp_hdrlen(skb) - sizeof(*header), at = 0;
	struct toa_search search = { .verdict = TOA_SKIP, .loopback = toa_is_loopback(source) };
	struct toa_counts counts = {};

	while (at < length) {
		search.chained = settings->chain && search.verdict == TOA_FOUND &&
				 toa_trusted(settings, search.client.ip);
		at = toa_step(options + at, at, length, settings->layouts, &search, &counts);
	}
	toa_count_options(&counts);
	*client = search.client;
	return search.verdict;
}

static void toa_source_of(const struct sk_buff *skb, __be32 *source)
{
	if (skb->protocol == htons(ETH_P_IPV6)) {
		memcpy(source, &ipv6_hdr(skb)->saddr, 16);
	} else {
		source[0] = 0;
		source[1] = 0;
		source[2] = htonl(0xffff);
		source[3] = ip_hdr(skb)->saddr;
	}
}

/* tcp_v4_syn_recv_sock(sk, skb, req, dst, req_unhash, own_req) and its twin. */
static int toa_packet_in(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	struct toa_handshake *handshake = (struct toa_handshake *)instance->data;
	const struct sk_buff *skb = ARGUMENT(regs, 1);
	const struct toa_settings *settings;
	__be32 source[4];

	handshake->own_req = ARGUMENT(regs, 5);
	toa_source_of(skb, source);
	rcu_read_lock();
	settings = rcu_dereference(toa_settings);
	handshake->verdict = toa_search_packet(skb, source, settings, &handshake->client);
	handshake->trusted = toa_trusted(settings, source);
	rcu_read_unlock();
	return 0;
}

/* An IPv4 packet to an IPv6 socket is handed on to the IPv4 function, which is probed too. */
static int toa_packet_in_v6(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	const struct sk_buff *skb = ARGUMENT(regs, 1);

	return skb->protocol != htons(ETH_P_IPV6) || toa_packet_in(instance, regs);
}

static int toa_socket_out(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	const struct toa_handshake *handshake = (struct toa_handshake *)instance->data;
	const struct sock *sk = (const struct sock *)regs_return_value(regs);

	if (!sk || !*handshake->own_req)
		return 0;
	if (handshake->verdict == TOA_FOUND && handshake->trusted) {
		if (toa_remember(sk, &handshake->client, READ_ONCE(toa_table_size)))
			TOA_COUNT(syn_recv_sock_toa);
		return 0;
	}
	toa_forget(sk);
	if (handshake->verdict == TOA_FOUND)
		TOA_COUNT(untrusted);
	else
		TOA_COUNT(syn_recv_sock_no_toa);
	return 0;
}

/* inet_getname(sock, uaddr, peer) and its twin: peer is 0 where one's own name is asked for. */
static int toa_name_asked(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	struct toa_question *question = (struct toa_question *)instance->data;
	const struct socket *sock = ARGUMENT(regs, 0);

	question->sk = sock->sk;
	question->answer = ARGUMENT(regs, 1);
	if (!(int)regs_get_kernel_argument(regs, 2) || !question->sk ||
	    sock->type != SOCK_STREAM || question->sk->sk_protocol != IPPROTO_TCP) {
		TOA_COUNT(getname_toa_bypass);
		return 1;
	}
	return 0;
}

static int toa_name_answered(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	const struct toa_question *question = (struct toa_question *)instance->data;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)question->answer;
	struct sockaddr_in *v4 = (struct sockaddr_in *)question->answer;
	struct toa_client client;

	if ((int)regs_return_value(regs) < 0)
		return 0;
	if (!toa_client_of(question->sk, &client)) {
		TOA_COUNT(getname_toa_empty);
		return 0;
	}
	if (v4->sin_family == AF_INET && toa_is_v4(&client)) {
		v4->sin_addr.s_addr = client.ip[3];
		/* A kind without a port leaves the connection's own. */
		if (client.port)
			v4->sin_port = client.port;
	} else if (v6->sin6_family == AF_INET6) {
		memcpy(&v6->sin6_addr, client.ip, sizeof(client.ip));
		v6->sin6_scope_id = 0;
		if (client.port)
			v6->sin6_port = client.port;
	} else {
		TOA_COUNT(getname_toa_mismatch);
		return 0;
	}
	TOA_COUNT(getname_toa_ok);
	return 0;
}

static int toa_socket_gone(struct kprobe *probe, struct pt_regs *regs)
{
	toa_forget(ARGUMENT(regs, 0));
	return 0;
}

static struct kprobe toa_destroy = {
	.symbol_name = "tcp_v4_destroy_sock",
	.pre_handler = toa_socket_gone,
};

/* maxactive: how many may be between entry and return, on all processors. */
#define TOA_HANDSHAKE(function, entry)                        \
	{                                                     \
		.kp.symbol_name = function,                   \
		.entry_handler = entry,                       \
		.handler = toa_socket_out,                    \
		.data_size = sizeof(struct toa_handshake),    \
		.maxactive = 256,                             \
	}
/* It waits for the socket's lock, and so may be left by the processor with the answer open. */
#define TOA_NAME(function)                                    \
	{                                                     \
		.kp.symbol_name = function,                   \
		.entry_handler = toa_name_asked,              \
		.handler = toa_name_answered,                 \
		.data_size = sizeof(struct toa_question),     \
		.maxactive = 1024,                            \
	}

static struct kretprobe toa_probes[] = {
	TOA_HANDSHAKE("tcp_v4_syn_recv_sock", toa_packet_in),
	TOA_NAME("inet_getname"),
	TOA_HANDSHAKE("tcp_v6_syn_recv_sock", toa_packet_in_v6),
	TOA_NAME("inet6_getname"),
};
#define TOA_PROBES_V6 2 /* the first that a kernel without IPv6 lacks */

static int toa_registered; /* of toa_probes, the first so many */

/* The probe's own misses are for want of an instance, the kprobe's for being inside another. */
static unsigned long toa_probes_missed(void)
{
	unsigned long missed = READ_ONCE(toa_destroy.nmissed);
	int probe;

	for (probe = 0; probe < ARRAY_SIZE(toa_probes); probe++)
		missed += READ_ONCE(toa_probes[probe].kp.nmissed) +
			  READ_ONCE(toa_probes[probe].nmissed);
	return missed;
}

static void toa_unhook(void)
{
	/* Entries may be made until the first are gone, and only then is nothing left to forget. */
	while (toa_registered)
		unregister_kretprobe(&toa_probes[--toa_registered]);
	unregister_kprobe(&toa_destroy);
}

/* Before anything is remembered, there is who forgets it. */
static int toa_hook(void)
{
	int error = register_kprobe(&toa_destroy);

	if (error) {
		pr_err("tcp_v4_destroy_sock can't be probed: error %d\n", -error);
		return error;
	}
	while (toa_registered < ARRAY_SIZE(toa_probes)) {
		error = register_kretprobe(&toa_probes[toa_registered]);
		if (error == -ENOENT && toa_registered == TOA_PROBES_V6) {
			pr_info("no IPv6 in this kernel\n");
			return 0;
		}
		if (error) {
			pr_err("%s can't be probed: error %d\n",
			       toa_probes[toa_registered].kp.symbol_name, -error);
			toa_unhook();
			return error;
		}
		toa_registered++;
	}
	return 0;
}

static int __init toa_init(void)
{
	int error = toa_settings_init();

	if (error)
		return error;
	error = toa_clients_init(toa_table_size);
	if (error)
		goto settings;
	error = nf_register_sockopt(&toa_sockopts);
	if (error) {
		pr_err("socket options 4096 and 4097 are taken, by another TOA module\n");
		goto clients;
	}
	if (toa_stats_taken()) {
		pr_err("/proc/net/toa_stats is taken, by another TOA module\n");
		error = -EBUSY; /* not EEXIST, which modprobe takes for "loaded already" */
		goto sockopts;
	}
	error = register_pernet_subsys(&toa_stats_everywhere);
	if (error) {
		pr_err("/proc/net/toa_stats can't be made: error %d\n", -error);
		goto sockopts;
	}
	error = toa_hook();
	if (error)
		goto stats;
	pr_info("loaded\n");
	return 0;

stats:
	unregister_pernet_subsys(&toa_stats_everywhere);
sockopts:
	nf_unregister_sockopt(&toa_sockopts);
clients:
	toa_clients_exit();
settings:
	toa_settings_exit();
	return error;
}

static void __exit toa_exit(void)
{
	toa_unhook();
	unregister_pernet_subsys(&toa_stats_everywhere);
	nf_unregister_sockopt(&toa_sockopts);
	toa_clients_exit();
	toa_settings_exit();
	pr_info("unloaded: connections show the edge's address again\n");
}

module_init(toa_init);
module_exit(toa_exit);

MODULE_DESCRIPTION("cloud-toa: servers see the client that a trusted edge names in a TCP option");
MODULE_AUTHOR("the cloud-toa authors");
MODULE_LICENSE("GPL");
MODULE_VERSION("0.1.0");
