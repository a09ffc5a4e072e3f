/* Grants of one key (gateway, client, transport, remote address and port) queue: the kernel's map
 * holds one element a key. The first is armed; when it ends the next takes its place. */
#include <string.h>

#include "server/core/core.h"

struct grant_key {
	struct addr client;
	struct endpoint remote;
	uint8_t transport;
};

static void key_of(const struct grant_record *record, struct grant_key *ret_key)
{
	memset(ret_key, 0, sizeof *ret_key); /* padding is part of the key's bytes */
	ret_key->client = record->client;
	ret_key->remote.addr = record->remote.addr;
	ret_key->remote.port = record->remote.port;
	ret_key->transport = record->transport;
}

bool grant_has_key(const struct grant *grant, const void *key, size_t size)
{
	struct grant_key own;
	key_of(&grant->record, &own);
	return size == sizeof own && memcmp(&own, key, size) == 0;
}

static struct grant *key_head(struct gateway *gateway, const struct grant_record *record)
{
	struct grant_key key;
	key_of(record, &key);
	struct table_node *node = table_find(&gateway->keys, &key, sizeof key);
	return node ? TABLE_OWNER(node, struct grant, by_key) : NULL;
}

static bool key_insert(struct grant *grant)
{
	struct grant_key key;
	key_of(&grant->record, &key);
	grant->key_first = table_insert(&grant->gateway->keys, &grant->by_key, &key, sizeof key);
	return grant->key_first;
}

void grant_enqueue(struct grant *grant)
{
	struct grant *head = key_head(grant->gateway, &grant->record);
	if (!head) {
		if (key_insert(grant))
			gateway_arm(grant);
		else
			grant_end(grant, END_GATEWAY_REFUSED, "", "the server is out of memory");
		return;
	}
	while (head->key_next)
		head = head->key_next;
	head->key_next = grant;
}

void grant_dequeue(struct grant *grant)
{
	struct grant *next = grant->key_next;
	grant->key_next = NULL;
	if (!grant->key_first) {
		struct grant *head =
			grant->gateway ? key_head(grant->gateway, &grant->record) : NULL;
		for (; head; head = head->key_next)
			if (head->key_next == grant)
				head->key_next = next;
		return;
	}
	table_remove(&grant->gateway->keys, &grant->by_key);
	grant->key_first = false;
	gateway_disarm(grant);
	if (!next)
		return;
	if (key_insert(next))
		gateway_arm(next);
	else
		grant_end(next, END_GATEWAY_REFUSED, "", "the server is out of memory");
}
