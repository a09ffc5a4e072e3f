/* Chained hash table. When it is full, an array of twice the size becomes `buckets` and the former
 * one `old_buckets`; every insertion then moves a few chains over, so that no single insertion pays
 * for all (a million doors on the loop thread). Nodes of old chains at or past `drained` are still
 * in `old_buckets`. DRAIN_CHAINS >= 2 ends the move well before the next growth can be due. When
 * growing fails the table merely becomes slower. */
#include "common/table.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define SMALLEST_BUCKETS 16
#define DRAIN_CHAINS 4

void table_init(struct table *table, table_match_cb match)
{
	memset(table, 0, sizeof(*table));
	table->match = match;
	while (getrandom(table->seed, sizeof(table->seed), 0) < 0 && errno == EINTR)
		;
}

void table_fini(struct table *table)
{
	free(table->buckets);
	free(table->old_buckets);
	memset(table, 0, sizeof(*table));
}

static uint64_t hash_key(const struct table *table, const void *key, size_t size)
{
	uint64_t hash;

	_Static_assert(sizeof(table->seed) == crypto_shorthash_KEYBYTES, "SipHash-2-4 key");
	_Static_assert(sizeof(hash) == crypto_shorthash_BYTES, "SipHash-2-4 output");
	crypto_shorthash((unsigned char *)&hash, key, size, table->seed);
	return hash;
}

/* The chain that holds (or would hold) `hash`; both counts are powers of two. */
static struct table_node **chain_of(const struct table *table, uint64_t hash)
{
	size_t slot;

	if (table->old_buckets) {
		slot = (size_t)hash & (table->old_bucket_count - 1);
		if (slot >= table->drained)
			return &table->old_buckets[slot];
	}
	return &table->buckets[(size_t)hash & (table->bucket_count - 1)];
}

struct table_node *table_find(const struct table *table, const void *key, size_t size)
{
	struct table_node *node;
	uint64_t hash;

	if (table->count == 0)
		return NULL;
	hash = hash_key(table, key, size);
	for (node = *chain_of(table, hash); node; node = node->next) {
		if (node->hash == hash && table->match(node, key, size))
			return node;
	}
	return NULL;
}

static void drain_chain(struct table *table)
{
	struct table_node *node = table->old_buckets[table->drained], *next, **chain;

	for (; node; node = next) {
		next = node->next;
		chain = &table->buckets[(size_t)node->hash & (table->bucket_count - 1)];
		node->next = *chain;
		*chain = node;
	}
	table->drained++;
}

static void drain(struct table *table, size_t chains)
{
	while (table->old_buckets && chains-- > 0) {
		drain_chain(table);
		if (table->drained == table->old_bucket_count) {
			free(table->old_buckets);
			table->old_buckets = NULL;
		}
	}
}

static void grow(struct table *table)
{
	size_t count = table->bucket_count ? table->bucket_count * 2 : SMALLEST_BUCKETS;
	struct table_node **buckets = calloc(count, sizeof(struct table_node *));

	if (!buckets)
		return;
	drain(table, SIZE_MAX);
	table->old_buckets = table->buckets;
	table->old_bucket_count = table->bucket_count;
	table->drained = 0;
	table->buckets = buckets;
	table->bucket_count = count;
}

bool table_insert(struct table *table, struct table_node *node, const void *key, size_t size)
{
	struct table_node **chain;

	if (table->count >= table->bucket_count)
		grow(table);
	if (!table->buckets)
		return false;
	drain(table, DRAIN_CHAINS);
	node->hash = hash_key(table, key, size);
	chain = chain_of(table, node->hash);
	node->next = *chain;
	*chain = node;
	table->count++;
	return true;
}

void table_remove(struct table *table, struct table_node *node)
{
	struct table_node **link = chain_of(table, node->hash);

	while (*link != node)
		link = &(*link)->next;
	*link = node->next;
	node->next = NULL;
	table->count--;
}

static void each_chain(struct table_node **buckets, size_t from, size_t to,
	void (*cb)(struct table_node *node, void *arg), void *arg)
{
	struct table_node *node, *next;

	for (size_t i = from; i < to; i++) {
		for (node = buckets[i]; node; node = next) {
			next = node->next;
			cb(node, arg);
		}
	}
}

void table_each(struct table *table, void (*cb)(struct table_node *node, void *arg), void *arg)
{
	if (table->old_buckets)
		each_chain(table->old_buckets, table->drained, table->old_bucket_count, cb, arg);
	each_chain(table->buckets, 0, table->bucket_count, cb, arg);
}

size_t table_count(const struct table *table)
{
	return table->count;
}
