#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/cli/token.h"
#include "common/file.h"

static char folder[] = "/tmp/postern-token-XXXXXX";
static char path[64];

static void set_up(void)
{
	cr_assert_not_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/x.token", folder);
}

static void tear_down(void)
{
	unlink(path);
	rmdir(folder);
}

TestSuite(token, .init = set_up, .fini = tear_down);

Test(token, is_kept_for_its_owner_alone)
{
	struct token_file file;
	struct stat st;
	char *secret = NULL;

	umask(0);
	cr_assert_eq(token_reserve(path, &file, NULL), STATUS_OK);
	cr_assert_eq(token_keep(&file, "pst_agent_abc", NULL), STATUS_OK);
	token_fini(&file);
	cr_assert_eq(stat(path, &st), 0);
	cr_assert_eq(st.st_mode & 0777, 0600);
	cr_assert_eq(st.st_size, 14);
	cr_assert_eq(file_read_secret(path, &secret, NULL), STATUS_OK);
	cr_assert_str_eq(secret, "pst_agent_abc");
	file_free_secret(secret);
}

Test(token, never_overwrites)
{
	struct token_file file;
	struct error err;

	cr_assert_eq(token_reserve(path, &file, NULL), STATUS_OK);
	cr_assert_eq(token_keep(&file, "first", NULL), STATUS_OK);
	cr_assert_eq(token_reserve(path, &file, &err), STATUS_ALREADY_EXISTS);
	cr_assert_eq(access(path, F_OK), 0);
	/* Not through a link either. */
	unlink(path);
	cr_assert_eq(symlink("/nonexistent/elsewhere", path), 0);
	cr_assert_eq(token_reserve(path, &file, &err), STATUS_ALREADY_EXISTS);
}

Test(token, leaves_nothing_when_no_token_came)
{
	struct token_file file;

	cr_assert_eq(token_reserve(path, &file, NULL), STATUS_OK);
	cr_assert_eq(access(path, F_OK), 0);
	token_fini(&file);
	cr_assert_neq(access(path, F_OK), 0);
	token_fini(&file);
}

Test(token, says_when_there_is_no_place)
{
	struct token_file file;
	struct error err;

	cr_assert_eq(
		token_reserve("/nonexistent/x.token", &file, &err), STATUS_FAILED_PRECONDITION);
	cr_assert_not_null(strstr(err.text, "nothing was asked of the server"));
}
