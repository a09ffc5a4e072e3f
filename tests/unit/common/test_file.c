#include "common/file.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/postern-test-file-XXXXXX";
static char path[128];
static struct error err;

static void setup(void)
{
	cr_assert_not_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/f", folder);
}

static size_t count_files(void)
{
	DIR *dir = opendir(folder);
	size_t count = 0;

	while (readdir(dir))
		count++;
	closedir(dir);
	return count - 2;
}

static void teardown(void)
{
	unlink(path);
	cr_assert_eq(rmdir(folder), 0, "nothing is left behind");
}

TestSuite(file, .init = setup, .fini = teardown);

static void put(const char *text, mode_t mode)
{
	cr_assert_eq(
		file_write(path, text, strlen(text), mode, 1, &err), STATUS_OK, "%s", err.text);
}

Test(file, write_and_read)
{
	struct stat st;
	char *text;
	size_t size;

	umask(077);
	cr_assert_eq(file_write(path, "a\0b", 3, 0644, 0, &err), STATUS_OK, "%s", err.text);
	cr_assert_eq(stat(path, &st), 0);
	cr_assert_eq(st.st_mode & 07777, 0644);
	cr_assert_eq(file_read(path, 3, &text, &size, &err), STATUS_OK);
	cr_assert_eq(size, 3);
	cr_assert_eq(memcmp(text, "a\0b", 4), 0);
	free(text);
}

Test(file, is_not_replaced_unless_asked)
{
	char *text;
	size_t size;

	put("old", 0600);
	cr_assert_eq(file_write(path, "new", 3, 0600, 0, &err), STATUS_ALREADY_EXISTS);
	cr_assert_not_null(strstr(err.text, path));
	cr_assert_eq(count_files(), 1, "no temporary file stays");
	cr_assert_eq(file_read(path, 100, &text, &size, &err), STATUS_OK);
	cr_assert_str_eq(text, "old");
	free(text);
	cr_assert_eq(file_write(path, "new", 3, 0600, 1, &err), STATUS_OK);
	cr_assert_eq(file_read(path, 100, &text, &size, &err), STATUS_OK);
	cr_assert_str_eq(text, "new");
	free(text);
}

Test(file, sizes_around_the_cap)
{
	enum { CAP = 10000 };
	char *big = malloc(CAP + 1), *text;
	size_t size;

	memset(big, 'x', CAP + 1);
	for (size_t length = CAP - 1; length <= CAP + 1; length++) {
		cr_assert_eq(file_write(path, big, length, 0600, 1, &err), STATUS_OK);
		if (length > CAP) {
			cr_assert_eq(file_read(path, CAP, &text, &size, &err),
				STATUS_RESOURCE_EXHAUSTED);
			continue;
		}
		cr_assert_eq(file_read(path, CAP, &text, &size, &err), STATUS_OK);
		cr_assert_eq(size, length);
		cr_assert_eq(text[size], '\0');
		free(text);
	}
	free(big);
}

Test(file, missing)
{
	char *text;
	size_t size;

	cr_assert_eq(file_read(path, 10, &text, &size, &err), STATUS_NOT_FOUND);
	cr_assert_not_null(strstr(err.text, path));
	cr_assert_eq(file_write("/nonexistent/f", "x", 1, 0600, 0, &err), STATUS_NOT_FOUND);
}

Test(file, secret)
{
	static const struct {
		const char *text;
		mode_t mode;
		enum status status;
		const char *secret;
	} cases[] = {
		{"pst_filter_abc\n", 0600, STATUS_OK, "pst_filter_abc"},
		{"pst_filter_abc", 0400, STATUS_OK, "pst_filter_abc"},
		{"pst_filter_abc \t\r\n\n", 0600, STATUS_OK, "pst_filter_abc"},
		{"pst_filter_abc\n", 0640, STATUS_PERMISSION_DENIED, NULL},
		{"pst_filter_abc\n", 0604, STATUS_PERMISSION_DENIED, NULL},
		{"", 0600, STATUS_INVALID_ARGUMENT, NULL},
		{"\n", 0600, STATUS_INVALID_ARGUMENT, NULL},
		{"one\ntwo\n", 0600, STATUS_INVALID_ARGUMENT, NULL},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *secret = NULL;

		put(cases[i].text, cases[i].mode);
		cr_expect_eq(file_read_secret(path, &secret, &err), cases[i].status, "%zu: %s", i,
			err.text);
		if (cases[i].secret)
			cr_expect_str_eq(secret, cases[i].secret);
		else
			cr_expect_null(secret);
		file_free_secret(secret);
	}
	put("x", 0644);
	char *secret;
	file_read_secret(path, &secret, &err);
	cr_assert_not_null(strstr(err.text, "chmod 600"));
	file_free_secret(NULL);
}
