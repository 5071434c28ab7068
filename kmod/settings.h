/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The module's parameters: which sources are believed, which kinds are read, how many
 * connections are remembered. All but the last make one set of settings, which is
 * replaced whole, so that a connection sees the old one or the new one.
 *
 * Fail closed: a list that is refused leaves what held before; an empty one trusts nobody.
 */
#ifndef TOA_SETTINGS_H
#define TOA_SETTINGS_H

#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "clients.h"
#include "lists.h"
#include "toa.h"

/* What the parameters say before the module starts. */
static struct toa_settings toa_initial = {
	.layouts = { [254] = TOA_LAYOUT_V4 | TOA_LAYOUT_V6 },
};

static struct toa_settings __rcu *toa_settings = RCU_INITIALIZER(&toa_initial);

/* Written by one at a time: the kernel holds the module's parameters' lock around it. */
#define toa_settings_held() rcu_dereference_protected(toa_settings, true)

static unsigned int toa_table_size = 1 << 20;

static bool toa_reads_a_kind(const struct toa_settings *settings)
{
	return memchr_inv(settings->layouts, 0, sizeof(settings->layouts));
}

static void toa_warn_of_nobody(const struct toa_settings *settings)
{
	if (!settings->trust_any && !settings->networks)
		pr_warn("trust is empty, so no client is believed: write the edges' addresses to "
			"/sys/module/toa/parameters/trust\n");
}

/* Parameters are told apart by the layout of their kinds; these are no layouts. */
#define TOA_TRUST 0
#define TOA_CHAIN 128
#define TOA_CHAIN_NEEDS_EDGES "and trust any exclude each other: name the edges by address"

/* Of what was set one by one: else any client would count as an edge, and its option be read. */
static bool toa_chains_everyone(const struct toa_settings *settings)
{
	return settings->chain && settings->trust_any;
}

static int toa_read_chain(const char *word, struct toa_settings *new)
{
	if (kstrtobool(word, &new->chain))
		return toa_refuse("chain", word, "is not yes or no: write Y or N");
	return 0;
}

static int toa_show_trust(char *buffer, const struct toa_settings *settings);

/*
 * What is longer than a page reaches a parameter in pieces of one, as if each were all, and
 * can't be read again whole.
 */
static int toa_fits_page(const char *value, const struct toa_settings *settings)
{
	char *shown;
	int length;

	if (strlen(value) >= PAGE_SIZE)
		return toa_refuse("trust", "", "is longer than a page");
	shown = kmalloc(PAGE_SIZE, GFP_KERNEL);
	if (!shown)
		return -ENOMEM;
	length = toa_show_trust(shown, settings);
	kfree(shown);
	/* Its end of line and the string's end come behind it. */
	if (length > PAGE_SIZE - 2)
		return toa_refuse("trust", "", "is longer than a page where it is shown");
	return 0;
}

static int toa_set(const char *value, const struct kernel_param *parameter)
{
	struct toa_settings *old = toa_settings_held(), *new = NULL;
	u8 layout = (long)parameter->arg;
	char *list = kstrdup(value, GFP_KERNEL);
	int error = -ENOMEM;

	new = kvmalloc(sizeof(*new), GFP_KERNEL);
	if (!list || !new)
		goto out;
	*new = *old;
	if (layout == TOA_TRUST)
		error = toa_read_trust(list, new) ?: toa_fits_page(value, new);
	else if (layout == TOA_CHAIN)
		error = toa_read_chain(strim(list), new);
	else
		error = toa_read_kinds(parameter->name, list, layout, new);
	if (error)
		goto out;
	if (old == &toa_initial) {
		*old = *new;
		goto out;
	}
	if (!toa_reads_a_kind(new)) {
		error = toa_refuse(parameter->name, "", "would leave no option kind to read");
		goto out;
	}
	if (toa_chains_everyone(new)) {
		error = toa_refuse(parameter->name, "", TOA_CHAIN_NEEDS_EDGES);
		goto out;
	}
	if (layout == TOA_TRUST)
		toa_warn_of_nobody(new);
	rcu_assign_pointer(toa_settings, new);
	new = NULL;
	synchronize_rcu();
	kvfree(old);
out:
	kvfree(new);
	kfree(list);
	return error;
}

static int toa_show_trust(char *buffer, const struct toa_settings *settings)
{
	const struct toa_network *network;
	int length = 0, number;

	if (settings->trust_any)
		return scnprintf(buffer, PAGE_SIZE, TOA_ANY);
	for (number = 0; number < settings->networks; number++) {
		network = &settings->trust[number];
		if (number)
			length += scnprintf(buffer + length, PAGE_SIZE - length, ",");
		if (!network->ip[0] && !network->ip[1] && network->ip[2] == htonl(0xffff))
			length += scnprintf(buffer + length, PAGE_SIZE - length, "%pI4/%u",
					    &network->ip[3], network->prefix - 96);
		else
			length += scnprintf(buffer + length, PAGE_SIZE - length, "%pI6c/%u",
					    network->ip, network->prefix);
	}
	return length;
}

static int toa_show_kinds(char *buffer, u8 layout, const struct toa_settings *settings)
{
	int length = 0, kind;

	for (kind = 255; kind >= 0; kind--)
		if (settings->layouts[kind] & layout)
			length += scnprintf(buffer + length, PAGE_SIZE - length, "%s%d",
					    length ? "," : "", kind);
	return length;
}

static int toa_get(char *buffer, const struct kernel_param *parameter)
{
	const struct toa_settings *settings = toa_settings_held();
	u8 layout = (long)parameter->arg;
	int length;

	if (layout == TOA_TRUST)
		length = toa_show_trust(buffer, settings);
	else if (layout == TOA_CHAIN)
		length = scnprintf(buffer, PAGE_SIZE, "%c", settings->chain ? 'Y' : 'N');
	else
		length = toa_show_kinds(buffer, layout, settings);
	return length + scnprintf(buffer + length, PAGE_SIZE - length, "\n");
}

static const struct kernel_param_ops toa_parameter = { .set = toa_set, .get = toa_get };

module_param_cb(trust, &toa_parameter, (void *)TOA_TRUST, 0644);
MODULE_PARM_DESC(trust, "edges that are believed: addresses and CIDRs, or any; nobody if empty");
module_param_cb(kinds_v4, &toa_parameter, (void *)TOA_LAYOUT_V4, 0644);
MODULE_PARM_DESC(kinds_v4, "option kinds read as TOA with an IPv4 address (default 254)");
module_param_cb(kinds_v6, &toa_parameter, (void *)TOA_LAYOUT_V6, 0644);
MODULE_PARM_DESC(kinds_v6, "option kinds read as TOA with an IPv6 address (default 254)");
module_param_cb(kinds_client_ip, &toa_parameter, (void *)TOA_LAYOUT_CLIENT_IP, 0644);
MODULE_PARM_DESC(kinds_client_ip, "option kinds read as client-ip, such as 28 (default none)");

module_param_cb(chain, &toa_parameter, (void *)TOA_CHAIN, 0644);
MODULE_PARM_DESC(chain, "where an option names an edge in trust, read the next (default N)");

static int toa_set_table_size(const char *value, const struct kernel_param *parameter)
{
	unsigned int size;
	char word[16];

	strscpy(word, value, sizeof(word));
	if (!toa_number(strim(word), 1U << 30, &size) || !size)
		return toa_refuse("table_size", word, "is not a number from 1 to 1073741824");
	WRITE_ONCE(toa_table_size, size);
	return 0;
}

static const struct kernel_param_ops toa_table_size_ops = {
	.set = toa_set_table_size,
	.get = param_get_uint,
};
module_param_cb(table_size, &toa_table_size_ops, &toa_table_size, 0644);
MODULE_PARM_DESC(table_size, "connections whose client is remembered at most (default 1048576)");

static int toa_get_entries(char *buffer, const struct kernel_param *parameter)
{
	return scnprintf(buffer, PAGE_SIZE, "%d\n", atomic_read(&toa_entries));
}

static const struct kernel_param_ops toa_entries_ops = { .get = toa_get_entries };
module_param_cb(table_entries, &toa_entries_ops, NULL, 0444);
MODULE_PARM_DESC(table_entries, "connections whose client is remembered now");

/* Take the parameters as they are now. From here on, a change is a new set. */
static int toa_settings_init(void)
{
	struct toa_settings *settings = kvmalloc(sizeof(*settings), GFP_KERNEL);

	if (!settings)
		return -ENOMEM;
	kernel_param_lock(THIS_MODULE);
	if (!toa_reads_a_kind(&toa_initial)) {
		kernel_param_unlock(THIS_MODULE);
		kvfree(settings);
		pr_err("kinds_v4, kinds_v6 and kinds_client_ip leave no option kind to read\n");
		return -EINVAL;
	}
	if (toa_chains_everyone(&toa_initial)) {
		kernel_param_unlock(THIS_MODULE);
		kvfree(settings);
		pr_err("chain " TOA_CHAIN_NEEDS_EDGES "\n");
		return -EINVAL;
	}
	*settings = toa_initial;
	toa_warn_of_nobody(settings);
	rcu_assign_pointer(toa_settings, settings);
	kernel_param_unlock(THIS_MODULE);
	return 0;
}

/*
 * Parameters are read and written until the kernel takes the module's files away, which it
 * does after this: what they find from here on must not be freed.
 */
static void toa_settings_exit(void)
{
	struct toa_settings *settings;

	kernel_param_lock(THIS_MODULE);
	settings = toa_settings_held();
	rcu_assign_pointer(toa_settings, &toa_initial);
	kernel_param_unlock(THIS_MODULE);
	kvfree(settings);
}

#endif
