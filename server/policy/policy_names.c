#include <string.h>

#include "server/policy/compiled.h"

static bool matches(const struct table_node *node, const void *key, size_t size)
{
	const struct policy_name *name = TABLE_OWNER(node, struct policy_name, node);
	return strlen(name->text) == size && memcmp(name->text, key, size) == 0;
}

bool policy_names_init(struct policy_names *names, struct arena *arena, size_t most)
{
	table_init(&names->table, matches);
	names->count = 0;
	names->items = arena_array(arena, most, sizeof *names->items);
	return names->items != NULL;
}

void policy_names_fini(struct policy_names *names)
{
	table_fini(&names->table);
}

const struct policy_name *policy_names_find(const struct policy_names *names, const char *text)
{
	const struct table_node *node = table_find(&names->table, text, strlen(text));
	return node ? TABLE_OWNER(node, const struct policy_name, node) : NULL;
}

struct policy_name *policy_names_add(struct policy_names *names, const char *text)
{
	struct table_node *node = table_find(&names->table, text, strlen(text));
	if (node)
		return TABLE_OWNER(node, struct policy_name, node);
	struct policy_name *name = &names->items[names->count];
	name->text = text;
	name->index = (uint32_t)names->count;
	if (!table_insert(&names->table, &name->node, text, strlen(text)))
		return NULL;
	names->count++;
	return name;
}
