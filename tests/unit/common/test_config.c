#include "common/config.h"

#include <criterion/criterion.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/file.h"

struct settings {
	char *name;
	char *database;
	struct config_list listen;
	uint64_t workers, lifetime, cache;
	bool strict;
	int mode;
};

static const char *const modes[] = {"enforce", "overlay", NULL};

static const struct config_option options[] = {
	{.name = "name",
		.type = CONFIG_STRING,
		.offset = offsetof(struct settings, name),
		.required = 1,
		.help = "name of the host"},
	{.name = "database",
		.type = CONFIG_PATH,
		.offset = offsetof(struct settings, database),
		.initial = "postern.db",
		.help = "where the journal is"},
	{.name = "listen",
		.type = CONFIG_URL_LIST,
		.offset = offsetof(struct settings, listen),
		.initial = "ipc:///a tcp://b",
		.help = "where to listen"},
	{.name = "workers",
		.type = CONFIG_NUMBER,
		.offset = offsetof(struct settings, workers),
		.min = 1,
		.max = 64,
		.initial = "4",
		.unit = "threads",
		.help = "threads"},
	{.name = "lifetime",
		.type = CONFIG_DURATION,
		.offset = offsetof(struct settings, lifetime),
		.min = 1000,
		.max = 86400000,
		.initial = "1h",
		.help = "of a grant"},
	{.name = "cache",
		.type = CONFIG_SIZE,
		.offset = offsetof(struct settings, cache),
		.initial = "64k",
		.help = "of pages"},
	{.name = "strict",
		.type = CONFIG_BOOL,
		.offset = offsetof(struct settings, strict),
		.initial = "yes"},
	{.name = "mode",
		.type = CONFIG_CHOICE,
		.offset = offsetof(struct settings, mode),
		.choices = modes,
		.initial = "overlay"},
	{0},
};

static char folder[] = "/tmp/postern-test-config-XXXXXX";
static char path[128];
static struct error err;
static struct settings settings;

static void setup(void)
{
	cr_assert_not_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/test.conf", folder);
}

static void teardown(void)
{
	unlink(path);
	rmdir(folder);
}

TestSuite(config, .init = setup, .fini = teardown);

static enum status read_bytes(const char *text, size_t size)
{
	cr_assert_eq(file_write(path, text, size, 0600, 1, &err), STATUS_OK);
	memset(&settings, 0xff, sizeof(settings)); /* what was there before is not looked at */
	return config_read(path, options, &settings, &err);
}

static enum status read_text(const char *text)
{
	return read_bytes(text, strlen(text));
}

Test(config, defaults)
{
	char database[256];

	cr_assert_eq(read_text("name = gw1\n"), STATUS_OK, "%s", err.text);
	snprintf(database, sizeof(database), "%s/postern.db", folder);
	cr_assert_str_eq(settings.name, "gw1");
	cr_assert_str_eq(settings.database, database);
	cr_assert_eq(settings.listen.count, 2);
	cr_assert_str_eq(settings.listen.items[1], "tcp://b");
	cr_assert_eq(settings.workers, 4);
	cr_assert_eq(settings.lifetime, 3600000);
	cr_assert_eq(settings.cache, 65536);
	cr_assert(settings.strict);
	cr_assert_eq(settings.mode, 1);
	config_fini(options, &settings);
	cr_assert_null(settings.name);
	config_fini(options, &settings);
}

Test(config, every_type)
{
	cr_assert_eq(read_text("# comment\n"
			       "\tname=a b # trailing\r\n"
			       "database = /var/lib/x#y\n"
			       "listen = tls+tcp://[::]:7411\n"
			       "listen = ipc:///run/p.sock\n"
			       "listen = tcp://127.0.0.1:1\n"
			       "workers = 0x40\nlifetime = 1m30s\ncache = 2M\nstrict = off\n"
			       "\n   \nmode = enforce"),
		STATUS_OK, "%s", err.text);
	cr_assert_str_eq(settings.name, "a b");
	cr_assert_str_eq(settings.database, "/var/lib/x#y");
	cr_assert_eq(settings.listen.count, 3);
	cr_assert_str_eq(settings.listen.items[0], "tls+tcp://[::]:7411");
	cr_assert_eq(settings.workers, 64);
	cr_assert_eq(settings.lifetime, 90000);
	cr_assert_eq(settings.cache, 2 << 20);
	cr_assert_not(settings.strict);
	cr_assert_eq(settings.mode, 0);
	config_fini(options, &settings);
}

Test(config, errors_say_where_what_and_what_instead)
{
	static const struct {
		const char *text, *where, *what;
	} cases[] = {
		{"", "test.conf: ", "name is missing"},
		{"name = a\nlitsen = b\n", "test.conf:2: ", "did you mean \"listen\"?"},
		{"name = a\nzzzzzzzzz = b\n", "test.conf:2: ", "unknown key \"zzzzzzzzz\""},
		{"name = a\nname = b\n", "test.conf:2: ", "already given in line 1"},
		{"name =\n", "test.conf:1: ", "has no value"},
		{"name = # x\n", "test.conf:1: ", "has no value"},
		{"name\n", "test.conf:1: ", "is not `key = value`"},
		{"= x\n", "test.conf:1: ", "is not `key = value`"},
		{"\n\nworkers = 65\n", "test.conf:3: ", "workers: 65 is outside 1 to 64"},
		{"workers = 0\n", "test.conf:1: ", "0 is outside 1 to 64"},
		{"workers = many\n", "test.conf:1: ", "\"many\" is not a whole number"},
		{"workers = -1\n", "test.conf:1: ", "is not a whole number"},
		{"workers = 99999999999999999999\n", "test.conf:1: ", "is not a whole number"},
		{"lifetime = 60\n", "test.conf:1: ", "is not a duration"},
		{"lifetime = 2d\n", "test.conf:1: ", "2d is outside 1s to 1d"},
		{"cache = 1t\n", "test.conf:1: ", "is not a size"},
		{"strict = maybe\n", "test.conf:1: ", "neither yes nor no"},
		{"mode = open\n", "test.conf:1: ", "not one of: enforce, overlay"},
		{"listen = a b\n", "test.conf:1: ", "once for each value"},
		{"name = a\x01\n", "test.conf:1: ", "control byte 0x01"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		cr_expect_eq(read_text(cases[i].text), STATUS_INVALID_ARGUMENT);
		cr_expect_not_null(strstr(err.text, cases[i].where), "%s", err.text);
		cr_expect_not_null(strstr(err.text, cases[i].what), "%s", err.text);
		cr_expect_null(settings.name);
		cr_expect_null(settings.listen.items);
	}
}

Test(config, odd_files)
{
	char *big = calloc(1, (1 << 20) + 1);

	cr_assert_eq(read_bytes("name = a\0b\n", 11), STATUS_INVALID_ARGUMENT);
	memset(big, '\n', (1 << 20) + 1);
	cr_assert_eq(read_bytes(big, (1 << 20) + 1), STATUS_RESOURCE_EXHAUSTED);
	cr_assert_eq(config_read("/nonexistent", options, &settings, &err), STATUS_NOT_FOUND);
	for (int i = 0; i < 65; i++)
		memcpy(big + i * 11, "listen = x\n", 11);
	cr_assert_eq(read_bytes(big, 65 * 11), STATUS_INVALID_ARGUMENT);
	cr_assert_not_null(strstr(err.text, "more than 64 times"));
	free(big);
}

/* What `init` writes is valid and means the defaults. */
Test(config, template_reads_back)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	config_write_template(options, out);
	fputs("name = gw1\n", out);
	fclose(out);
	cr_assert_not_null(strstr(text, "#listen = ipc:///a\n#listen = tcp://b\n"));
	cr_assert_not_null(strstr(text, "# one of: enforce overlay\n#mode = overlay\n"));
	cr_assert_not_null(strstr(text, "# 1s to 1d\n#lifetime = 1h\n"));
	cr_assert_not_null(strstr(text, "# required\n#name = \n"));
	cr_assert_eq(read_text(text), STATUS_OK, "%s", err.text);
	cr_assert_eq(settings.workers, 4);
	config_fini(options, &settings);
	free(text);
}
