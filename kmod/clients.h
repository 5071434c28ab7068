/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who the client of a connection is: a hash table by socket.
 *
 * Entries go when the socket is destroyed. A kprobe can be missed, when it is hit while
 * another one's handler runs; so an entry holds whom its socket is connected to as well,
 * and answers for no other connection that a reused socket may have.
 *
 * Written in the handlers of kprobes, at times with interrupts on: hence raw locks that
 * turn them off, and no waiting for memory. Read under RCU. Where a kprobe is a breakpoint,
 * lockdep takes its handler for an NMI; but no probed function is called with a lock held.
 */
#ifndef TOA_CLIENTS_H
#define TOA_CLIENTS_H

#include <linux/hash.h>
#include <linux/list.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/rculist.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <net/inet_sock.h>

#include "stats.h"
#include "toa.h"

#define TOA_LOCKS 256 /* buckets share them */
#define TOA_BUCKETS_MIN 1024
#define TOA_BUCKETS_MAX (1 << 20)

struct toa_connection {
	__be32 peer[4]; /* IPv4 as ::ffff:a.b.c.d */
	__be16 peer_port;
	__be16 own_port;
};

struct toa_entry {
	struct hlist_node node;
	struct rcu_head rcu;
	const struct sock *sk; /* compared, never followed */
	struct toa_connection connection;
	struct toa_client client;
};

static struct hlist_head *toa_buckets;
static unsigned int toa_bucket_bits;
static raw_spinlock_t toa_locks[TOA_LOCKS];
static struct kmem_cache *toa_cache;
static atomic_t toa_entries = ATOMIC_INIT(0);

/* The addresses stay when a connection ends; a new one has others. */
static void toa_connection_of(const struct sock *sk, struct toa_connection *connection)
{
	memset(connection, 0, sizeof(*connection));
	connection->peer_port = inet_sk(sk)->inet_dport;
	connection->own_port = inet_sk(sk)->inet_sport;
#if IS_ENABLED(CONFIG_IPV6)
	if (sk->sk_family == AF_INET6) {
		memcpy(connection->peer, &sk->sk_v6_daddr, sizeof(connection->peer));
		return;
	}
#endif
	connection->peer[2] = htonl(0xffff);
	connection->peer[3] = sk->sk_daddr;
}

static struct hlist_head *toa_bucket(const struct sock *sk, raw_spinlock_t **lock)
{
	u32 number = hash_ptr(sk, toa_bucket_bits);

	*lock = &toa_locks[number % TOA_LOCKS];
	return &toa_buckets[number];
}

static struct toa_entry *toa_find(const struct hlist_head *bucket, const struct sock *sk)
{
	struct toa_entry *entry;

	hlist_for_each_entry_rcu(entry, bucket, node, true)
		if (entry->sk == sk)
			return entry;
	return NULL;
}

static void toa_free(struct rcu_head *rcu)
{
	kmem_cache_free(toa_cache, container_of(rcu, struct toa_entry, rcu));
}

/* With the bucket's lock held. */
static void toa_remove(struct toa_entry *entry)
{
	hlist_del_rcu(&entry->node);
	atomic_dec(&toa_entries);
	if (!toa_is_v4(&entry->client))
		TOA_COUNT(ip6_address_free);
	call_rcu(&entry->rcu, toa_free);
}

/* Nothing is known any more of this socket. */
static void toa_forget(const struct sock *sk)
{
	struct hlist_head *bucket;
	struct toa_entry *entry;
	raw_spinlock_t *lock;
	unsigned long flags;

	bucket = toa_bucket(sk, &lock);
	/* Most sockets have no entry, and only their own events make one. */
	rcu_read_lock();
	entry = toa_find(bucket, sk);
	rcu_read_unlock();
	if (!entry)
		return;
	raw_spin_lock_irqsave(lock, flags);
	entry = toa_find(bucket, sk);
	if (entry)
		toa_remove(entry);
	raw_spin_unlock_irqrestore(lock, flags);
}

/* This is the socket's client, and no other. False: it could not be kept, which is counted. */
static bool toa_remember(const struct sock *sk, const struct toa_client *client,
			 unsigned int limit)
{
	struct hlist_head *bucket;
	struct toa_entry *entry;
	raw_spinlock_t *lock;
	unsigned long flags;

	toa_forget(sk);
	if (atomic_inc_return(&toa_entries) > limit) {
		atomic_dec(&toa_entries);
		TOA_COUNT(table_full);
		return false;
	}
	entry = kmem_cache_alloc(toa_cache, GFP_ATOMIC | __GFP_NOWARN);
	if (!entry) {
		atomic_dec(&toa_entries);
		TOA_COUNT(no_memory);
		return false;
	}
	entry->sk = sk;
	entry->client = *client;
	toa_connection_of(sk, &entry->connection);
	bucket = toa_bucket(sk, &lock);
	raw_spin_lock_irqsave(lock, flags);
	hlist_add_head_rcu(&entry->node, bucket);
	raw_spin_unlock_irqrestore(lock, flags);
	if (!toa_is_v4(client))
		TOA_COUNT(ip6_address_alloc);
	return true;
}

/* True: the client of this connection is known. */
static bool toa_client_of(const struct sock *sk, struct toa_client *client)
{
	struct toa_connection connection;
	struct toa_entry *entry;
	raw_spinlock_t *lock;
	bool known = false;

	rcu_read_lock();
	entry = toa_find(toa_bucket(sk, &lock), sk);
	if (entry) {
		toa_connection_of(sk, &connection);
		known = !memcmp(&connection, &entry->connection, sizeof(connection));
		*client = entry->client;
	}
	rcu_read_unlock();
	return known;
}

/* A table with some 4 entries in a bucket when it has as many as `size` says. */
static int toa_clients_init(unsigned int size)
{
	unsigned long buckets = clamp_t(unsigned long, roundup_pow_of_two(size / 4 + 1),
					TOA_BUCKETS_MIN, TOA_BUCKETS_MAX);
	int lock;

	for (lock = 0; lock < TOA_LOCKS; lock++)
		raw_spin_lock_init(&toa_locks[lock]);
	toa_bucket_bits = ilog2(buckets);
	toa_cache = KMEM_CACHE(toa_entry, 0);
	if (!toa_cache)
		return -ENOMEM;
	toa_buckets = kvcalloc(buckets, sizeof(*toa_buckets), GFP_KERNEL);
	if (!toa_buckets) {
		kmem_cache_destroy(toa_cache);
		return -ENOMEM;
	}
	return 0;
}

/* Nobody reads or writes any more. */
static void toa_clients_exit(void)
{
	struct hlist_node *next;
	struct toa_entry *entry;
	unsigned long number;

	for (number = 0; number < 1UL << toa_bucket_bits; number++)
		hlist_for_each_entry_safe(entry, next, &toa_buckets[number], node)
			toa_remove(entry);
	rcu_barrier();
	kmem_cache_destroy(toa_cache);
	kvfree(toa_buckets);
}

#endif
