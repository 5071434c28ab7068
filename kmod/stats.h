/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What happened, counted per processor, and /proc/net/toa_stats, which shows it in
 * every network namespace alike. The first eight names are the customary ones.
 */
#ifndef TOA_STATS_H
#define TOA_STATS_H

#include <linux/namei.h>
#include <linux/netdevice.h>
#include <linux/path.h>
#include <linux/percpu.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <net/net_namespace.h>

#include "toa.h"

struct toa_stats {
	u64 syn_recv_sock_toa; /* connections whose client is known */
	u64 syn_recv_sock_no_toa; /* connections that named nobody, or nobody usable */
	u64 getname_toa_ok; /* answers with the client */
	u64 getname_toa_mismatch; /* an IPv6 client asked of an AF_INET socket */
	u64 getname_toa_bypass; /* not the peer of a TCP connection was asked for */
	u64 getname_toa_empty; /* a connection whose client is not known */
	u64 ip6_address_alloc; /* entries made for IPv6 clients */
	u64 ip6_address_free; /* such entries that are gone: as many, when every connection is */
	u64 untrusted; /* connections with an option from a source that is not listed */
	struct toa_counts options;
	u64 table_full; /* connections that were not remembered: table_size was reached */
	u64 no_memory; /* connections that the kernel had no memory to remember */
};

static DEFINE_PER_CPU(struct toa_stats, toa_stats);

#define TOA_COUNT(what) this_cpu_inc(toa_stats.what)

static inline void toa_count_options(const struct toa_counts *seen)
{
	if (seen->malformed)
		this_cpu_add(toa_stats.options.malformed, seen->malformed);
	if (seen->duplicate)
		this_cpu_add(toa_stats.options.duplicate, seen->duplicate);
	if (seen->unusable)
		this_cpu_add(toa_stats.options.unusable, seen->unusable);
	if (seen->local)
		this_cpu_add(toa_stats.options.local, seen->local);
	if (seen->chained)
		this_cpu_add(toa_stats.options.chained, seen->chained);
}

static const struct {
	const char *name;
	size_t offset;
} toa_rows[] = {
#define TOA_ROW(name) { #name, offsetof(struct toa_stats, name) }
	TOA_ROW(syn_recv_sock_toa),
	TOA_ROW(syn_recv_sock_no_toa),
	TOA_ROW(getname_toa_ok),
	TOA_ROW(getname_toa_mismatch),
	TOA_ROW(getname_toa_bypass),
	TOA_ROW(getname_toa_empty),
	TOA_ROW(ip6_address_alloc),
	TOA_ROW(ip6_address_free),
	TOA_ROW(untrusted),
	{ "malformed", offsetof(struct toa_stats, options.malformed) },
	{ "duplicate", offsetof(struct toa_stats, options.duplicate) },
	{ "unusable", offsetof(struct toa_stats, options.unusable) },
	{ "local", offsetof(struct toa_stats, options.local) },
	{ "chained", offsetof(struct toa_stats, options.chained) },
	TOA_ROW(table_full),
	TOA_ROW(no_memory),
#undef TOA_ROW
};

/* How often a probe was hit and could not run; the kernel does not say where. */
static unsigned long toa_probes_missed(void);

static int toa_stats_show(struct seq_file *file, void *unused)
{
	const char *stats;
	char name[16];
	int cpu, row;

	seq_printf(file, "%-24s", "");
	/* All possible ones: what a processor counted before it went offline counts on. */
	for_each_possible_cpu(cpu) {
		scnprintf(name, sizeof(name), "CPU%d", cpu);
		seq_printf(file, " %12s", name);
	}
	for (row = 0; row < ARRAY_SIZE(toa_rows); row++) {
		seq_printf(file, "\n%-23s:", toa_rows[row].name);
		for_each_possible_cpu(cpu) {
			stats = (const char *)per_cpu_ptr(&toa_stats, cpu);
			seq_printf(file, " %12llu", *(const u64 *)(stats + toa_rows[row].offset));
		}
	}
	seq_printf(file, "\n%-23s: %12lu\n", "probes_missed", toa_probes_missed());
	return 0;
}

/*
 * Whether another module's file is there: to make it again is a warning with a call trace,
 * whatever is done with the error. Published modules have theirs in the first network
 * namespace alone, where process 1 is.
 */
static bool toa_stats_taken(void)
{
	static const char *const places[] = { "/proc/net/toa_stats", "/proc/1/net/toa_stats" };
	struct path path;
	int place;

	for (place = 0; place < ARRAY_SIZE(places); place++) {
		if (kern_path(places[place], 0, &path))
			continue;
		path_put(&path);
		return true;
	}
	return false;
}

static int __net_init toa_stats_in(struct net *net)
{
	if (!proc_create_net_single("toa_stats", 0444, net->proc_net, toa_stats_show, NULL))
		return -ENOMEM;
	return 0;
}

static void __net_exit toa_stats_out(struct net *net)
{
	remove_proc_entry("toa_stats", net->proc_net);
}

static struct pernet_operations toa_stats_everywhere = {
	.init = toa_stats_in,
	.exit = toa_stats_out,
};

#endif
