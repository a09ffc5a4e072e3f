#include "server/document/names.h"

#include <string.h>

#include "common/config.h"
#include "server/document/arena.h"

static bool matches(const struct table_node *node, const void *key, size_t size)
{
	const struct name *name = TABLE_OWNER(node, struct name, node);
	return strlen(name->text) == size && memcmp(name->text, key, size) == 0;
}

bool names_init(struct names *names, struct arena *arena, size_t most)
{
	table_init(&names->table, matches);
	names->count = 0;
	names->items = arena_array(arena, most, sizeof *names->items);
	return names->items != NULL;
}

void names_fini(struct names *names)
{
	table_fini(&names->table);
}

const struct name *names_find(const struct names *names, const char *text)
{
	struct table_node *node = table_find(&names->table, text, strlen(text));
	return node ? TABLE_OWNER(node, struct name, node) : NULL;
}

const struct name *names_add(struct names *names, const char *text, bool *ret_memory)
{
	const struct name *known = names_find(names, text);
	if (known)
		return known;
	struct name *name = &names->items[names->count];
	name->text = text;
	name->index = names->count;
	if (table_insert(&names->table, &name->node, text, strlen(text)))
		names->count++;
	else
		*ret_memory = true;
	return NULL;
}

const char *names_nearest(const struct names *names, const char *text)
{
	const char *best = NULL, *pair[3] = {NULL, NULL, NULL};
	for (size_t i = 0; i < names->count; i++) {
		pair[0] = best ? best : names->items[i].text;
		pair[1] = names->items[i].text;
		best = nearest_word(text, pair);
	}
	return best;
}
