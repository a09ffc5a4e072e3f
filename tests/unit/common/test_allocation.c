/* Every allocation of common fails once, the n-th for n from 1 until none is left to fail. Linked
 * with --wrap. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/buffer.h"
#include "common/config.h"
#include "common/file.h"
#include "common/loop.h"
#include "common/table.h"
#include "tests/unit/failing_allocator.h"

static bool allocation_fails(void)
{
	return is_the_nth();
}

FAILING(char *, strndup, (const char *text, size_t size), (text, size))

struct settings {
	char *name, *path;
	struct config_list list;
};

static const struct config_option options[] = {
	{.name = "name", .type = CONFIG_STRING, .offset = offsetof(struct settings, name)},
	{.name = "path",
		.type = CONFIG_PATH,
		.offset = offsetof(struct settings, path),
		.initial = "/x"},
	{.name = "list",
		.type = CONFIG_URL_LIST,
		.offset = offsetof(struct settings, list),
		.initial = "a b"},
	{0},
};

static char path[] = "/tmp/postern-test-allocation-XXXXXX";

static bool read_config(void)
{
	struct settings settings;
	struct error err;

	if (config_read(path, options, &settings, &err) != STATUS_OK) {
		cr_assert_eq(err.status, STATUS_RESOURCE_EXHAUSTED, "%s", err.text);
		cr_assert_null(settings.name);
		cr_assert_null(settings.list.items);
		return false;
	}
	config_fini(options, &settings);
	return true;
}

static bool read_big_file(void)
{
	struct error err;
	char *text;

	if (file_read(path, 1 << 20, &text, NULL, &err) != STATUS_OK) {
		cr_assert_eq(err.status, STATUS_RESOURCE_EXHAUSTED);
		return false;
	}
	free(text);
	return true;
}

static bool make_loop(void)
{
	struct loop *loop;

	if (loop_new(&loop, NULL) != STATUS_OK)
		return false;
	loop_free(loop);
	return true;
}

static bool fill_buffer(void)
{
	struct buffer buffer;
	char bytes[1000] = {0};
	bool ok;

	buffer_init(&buffer, 1 << 20);
	ok = buffer_append(&buffer, bytes, 100) && buffer_append(&buffer, bytes, 1000);
	buffer_fini(&buffer);
	return ok;
}

Test(allocation, failures_are_reported)
{
	static const char config[] = "name = a\nlist = b\nlist = c\n";
	char *big = calloc(1, 50000);
	int fd = mkstemp(path);

	close(fd);
	cr_assert_eq(file_write(path, config, strlen(config), 0600, 1, NULL), STATUS_OK);
	cr_assert_geq(fail_each("config", read_config), 6);
	memset(big, 'x', 50000);
	cr_assert_eq(file_write(path, big, 50000, 0600, 1, NULL), STATUS_OK);
	cr_assert_geq(fail_each("file", read_big_file), 4);
	cr_assert_eq(fail_each("loop", make_loop), 1);
	cr_assert_eq(fail_each("buffer", fill_buffer), 2);
	unlink(path);
	free(big);
}

struct thing {
	int key;
	struct table_node node;
};

static bool match(const struct table_node *node, const void *key, size_t size)
{
	return memcmp(&TABLE_OWNER(node, struct thing, node)->key, key, size) == 0;
}

/* A table that cannot grow works on, more slowly. */
Test(allocation, table_without_memory_to_grow)
{
	static struct thing things[5000];
	struct table table;

	table_init(&table, match);
	until_failure = 1;
	cr_assert_not(table_insert(&table, &things[0].node, &things[0].key, sizeof(int)));
	for (int i = 0; i < 5000; i++) {
		things[i].key = i;
		until_failure = i > 0 && i % 3 ? 1 : 0;
		cr_assert(table_insert(&table, &things[i].node, &i, sizeof(i)));
	}
	until_failure = 0;
	for (int i = 0; i < 5000; i++)
		cr_assert_eq(table_find(&table, &i, sizeof(i)), &things[i].node);
	table_fini(&table);
}
