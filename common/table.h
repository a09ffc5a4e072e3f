/* Intrusive hash table with seeded hashes (SipHash): keyed lookup in O(1), growth spread over
 * insertions. */
#ifndef POSTERN_COMMON_TABLE_H
#define POSTERN_COMMON_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Embedded in the owner's struct; recover the owner with TABLE_OWNER. */
struct table_node {
	struct table_node *next;
	uint64_t hash;
};

/* Does the object that embeds `node` have the key of `size` bytes at `key`? */
typedef bool (*table_match_cb)(const struct table_node *node, const void *key, size_t size);

struct table {
	struct table_node **buckets;
	struct table_node **old_buckets; /* being drained, a few chains an insertion */
	size_t bucket_count;
	size_t old_bucket_count;
	size_t drained;
	size_t count;
	table_match_cb match;
	uint8_t seed[16];
};

#define TABLE_OWNER(node, type, member) ((type *)((char *)(node)-offsetof(type, member)))

void table_init(struct table *table, table_match_cb match);
void table_fini(struct table *table); /* frees the buckets, not the owners */
struct table_node *table_find(const struct table *table, const void *key, size_t size);
/* False when memory is out (nothing changed). The key must not be there yet, unless the table is
 * used as a multimap. */
bool table_insert(struct table *table, struct table_node *node, const void *key, size_t size);
void table_remove(struct table *table, struct table_node *node);
/* Visits every node; `cb` may remove (and free) the node it is given, nothing else. */
void table_each(struct table *table, void (*cb)(struct table_node *node, void *arg), void *arg);
size_t table_count(const struct table *table);

#endif
