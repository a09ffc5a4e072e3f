#include "server/auth/principals.h"

#include <stdlib.h>
#include <string.h>

#include "server/auth/token.h"

static bool match_hash(const struct table_node *node, const void *key, size_t size)
{
	return memcmp(TABLE_OWNER(node, struct principal, by_hash)->record.token_hash, key, size) ==
		0;
}

static bool match_name(const struct table_node *node, const void *key, size_t size)
{
	const char *name = TABLE_OWNER(node, struct principal, by_name)->record.name;
	return strlen(name) == size && memcmp(name, key, size) == 0;
}

void principals_init(struct principals *principals)
{
	table_init(&principals->by_hash, match_hash);
	table_init(&principals->by_name, match_name);
	principals->first = NULL;
	principals->end = &principals->first;
}

void principals_fini(struct principals *principals)
{
	for (struct principal *principal = principals->first, *next; principal; principal = next) {
		next = principal->next;
		free(principal);
	}
	table_fini(&principals->by_hash);
	table_fini(&principals->by_name);
}

struct principal *principals_add(
	struct principals *principals, const struct principal_record *record)
{
	struct principal *principal = calloc(1, sizeof *principal);
	if (!principal)
		return NULL;
	principal->record = *record;
	if (!table_insert(&principals->by_hash, &principal->by_hash, record->token_hash,
		    sizeof record->token_hash)) {
		free(principal);
		return NULL;
	}
	if (!table_insert(&principals->by_name, &principal->by_name, record->name,
		    strlen(record->name))) {
		table_remove(&principals->by_hash, &principal->by_hash);
		free(principal);
		return NULL;
	}
	*principals->end = principal;
	principals->end = &principal->next;
	return principal;
}

struct principal *principals_find(const struct principals *principals, const char *name)
{
	struct table_node *node = table_find(&principals->by_name, name, strlen(name));
	return node ? TABLE_OWNER(node, struct principal, by_name) : NULL;
}

struct principal *principals_by_token(const struct principals *principals, const char *token)
{
	uint8_t hash[TOKEN_HASH_SIZE];
	token_hash(token, hash);
	struct table_node *node = table_find(&principals->by_hash, hash, sizeof hash);
	return node ? TABLE_OWNER(node, struct principal, by_hash) : NULL;
}

bool principal_covers(const struct principal *principal, const char *gateway)
{
	const char *list = principal->record.gateways;
	size_t length = strlen(gateway);
	if (list[0] == '\0')
		return true;
	while (*list) {
		size_t item = strcspn(list, ",");
		if (item == length && memcmp(list, gateway, length) == 0)
			return true;
		list += item + (list[item] == ',');
	}
	return false;
}
