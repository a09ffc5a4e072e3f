#include "common/table.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

struct thing {
	uint32_t key;
	unsigned visits;
	struct table_node node;
};

static bool match(const struct table_node *node, const void *key, size_t size)
{
	const struct thing *thing = TABLE_OWNER(node, struct thing, node);

	return size == sizeof(thing->key) && memcmp(&thing->key, key, size) == 0;
}

static struct thing *find(const struct table *table, uint32_t key)
{
	struct table_node *node = table_find(table, &key, sizeof(key));

	return node ? TABLE_OWNER(node, struct thing, node) : NULL;
}

static void visit(struct table_node *node, void *arg)
{
	TABLE_OWNER(node, struct thing, node)->visits++;
	++*(size_t *)arg;
}

Test(table, empty)
{
	struct table table;
	size_t visits = 0;

	table_init(&table, match);
	cr_assert_null(find(&table, 1));
	table_each(&table, visit, &visits);
	cr_assert_eq(visits, 0);
	cr_assert_eq(table_count(&table), 0);
	table_fini(&table);
}

#define THINGS 100000

/* At every size, also in the middle of a growth, all that was inserted and nothing else is found.
 */
Test(table, finds_everything_while_it_grows)
{
	struct thing *things = calloc(THINGS, sizeof(*things));
	struct table table;

	table_init(&table, match);
	for (uint32_t i = 0; i < THINGS; i++) {
		things[i].key = i;
		cr_assert(table_insert(&table, &things[i].node, &i, sizeof(i)));
		cr_assert_eq(find(&table, i), &things[i]);
		cr_assert_eq(find(&table, i / 2), &things[i / 2]);
		cr_assert_eq(find(&table, i / 7 * 3), &things[i / 7 * 3]);
		cr_assert_null(find(&table, i + 1));
	}
	cr_assert_eq(table_count(&table), THINGS);
	for (uint32_t i = 0; i < THINGS; i++)
		cr_assert_eq(find(&table, i), &things[i]);
	table_fini(&table);
	free(things);
}

Test(table, each_visits_once_at_every_size)
{
	struct thing things[600] = {0};
	struct table table;
	size_t visits;

	table_init(&table, match);
	for (uint32_t i = 0; i < 600; i++) {
		things[i].key = i;
		table_insert(&table, &things[i].node, &i, sizeof(i));
		visits = 0;
		table_each(&table, visit, &visits);
		cr_assert_eq(visits, i + 1);
	}
	for (uint32_t i = 0; i < 600; i++)
		cr_assert_eq(things[i].visits, 600 - i);
	table_fini(&table);
}

/* Random insertions and removals against a plain array. */
Test(table, behaves_like_an_array)
{
	enum { KEYS = 3000 };
	struct thing *things = calloc(KEYS, sizeof(*things));
	bool *present = calloc(KEYS, sizeof(*present));
	struct table table;
	size_t count = 0;
	unsigned state = 1;

	table_init(&table, match);
	for (int step = 0; step < 200000; step++) {
		state = state * 1103515245 + 12345;
		uint32_t key = (state >> 8) % KEYS;

		cr_assert_eq(find(&table, key) != NULL, present[key]);
		if (present[key]) {
			table_remove(&table, &things[key].node);
			count--;
		} else {
			things[key].key = key;
			cr_assert(table_insert(&table, &things[key].node, &key, sizeof(key)));
			count++;
		}
		present[key] = !present[key];
		cr_assert_eq(table_count(&table), count);
	}
	table_fini(&table);
	free(things);
	free(present);
}

struct removal {
	struct table *table;
	size_t removed;
};

static void remove_and_free(struct table_node *node, void *arg)
{
	struct removal *removal = arg;

	table_remove(removal->table, node);
	free(TABLE_OWNER(node, struct thing, node));
	removal->removed++;
}

Test(table, each_may_remove_and_free)
{
	struct table table;
	struct removal removal = {&table, 0};

	table_init(&table, match);
	for (uint32_t i = 0; i < 1000; i++) {
		struct thing *thing = calloc(1, sizeof(*thing));

		thing->key = i;
		table_insert(&table, &thing->node, &i, sizeof(i));
	}
	table_each(&table, remove_and_free, &removal);
	cr_assert_eq(removal.removed, 1000);
	cr_assert_eq(table_count(&table), 0);
	table_fini(&table);
}

Test(table, multimap)
{
	struct thing things[3] = {{.key = 5}, {.key = 5}, {.key = 5}};
	struct table table;
	uint32_t key = 5;

	table_init(&table, match);
	for (int i = 0; i < 3; i++)
		table_insert(&table, &things[i].node, &key, sizeof(key));
	for (int i = 0; i < 3; i++) {
		struct thing *found = find(&table, 5);

		cr_assert_not_null(found);
		table_remove(&table, &found->node);
	}
	cr_assert_null(find(&table, 5));
	table_fini(&table);
}
