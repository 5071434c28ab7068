// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a published TOA module leaves to see, under whatever name it is built: counters in the
 * first network namespace, socket option 4096 where `sockopt` is set, functions by the customary
 * names. It replaces nothing of the kernel's, and so shows no client to anybody.
 */
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/module.h>
#include <linux/netfilter.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <net/inet_sock.h>
#include <net/net_namespace.h>

static bool sockopt = true;
module_param(sockopt, bool, 0444);

static int toa_stats_show(struct seq_file *file, void *unused)
{
	seq_puts(file, "                                  CPU0       \n"
		       "syn_recv_sock_toa        :         0 \n");
	return 0;
}

static int inet64_getname_toa(struct sock *sk, int name, void __user *user, int *length)
{
	if (*length < (int)(sizeof(struct in6_addr) + sizeof(__be16)))
		return -EINVAL;
	return inet_sk(sk)->inet_dport ? -EINVAL : -ENOTCONN;
}

static struct nf_sockopt_ops toa_sockopts = {
	.pf = PF_INET,
	.get_optmin = 4096,
	.get_optmax = 4097,
	.get = inet64_getname_toa,
	.owner = THIS_MODULE,
};

static int __init toa_init(void)
{
	int error;

	if (!proc_create_single("toa_stats", 0444, init_net.proc_net, toa_stats_show))
		return -ENOMEM;
	error = sockopt ? nf_register_sockopt(&toa_sockopts) : 0;
	if (error)
		remove_proc_entry("toa_stats", init_net.proc_net);
	return error;
}

static void __exit toa_exit(void)
{
	if (sockopt)
		nf_unregister_sockopt(&toa_sockopts);
	remove_proc_entry("toa_stats", init_net.proc_net);
}

module_init(toa_init);
module_exit(toa_exit);
MODULE_DESCRIPTION("a TOA module of others, for tests");
MODULE_AUTHOR("somebody else");
MODULE_VERSION("2.0.0.0");
MODULE_LICENSE("GPL");
