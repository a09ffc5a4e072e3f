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
		scope_fini(&principal->scope);
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
	if (!scope_compile(record, &principal->scope))
		goto out;
	if (!table_insert(&principals->by_hash, &principal->by_hash, record->token_hash,
		    sizeof record->token_hash))
		goto out;
	if (!table_insert(&principals->by_name, &principal->by_name, record->name,
		    strlen(record->name))) {
		table_remove(&principals->by_hash, &principal->by_hash);
		goto out;
	}
	*principals->end = principal;
	principals->end = &principal->next;
	return principal;
out:
	scope_fini(&principal->scope);
	free(principal);
	return NULL;
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
