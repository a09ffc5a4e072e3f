/* What the tests of whole command lines share: a fake server for each test, which the environment
 * names, and what the last line wrote. */
#ifndef POSTERN_TESTS_UNIT_CLI_COMMAND_LINE_H
#define POSTERN_TESTS_UNIT_CLI_COMMAND_LINE_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/cli/cli.h"
#include "tests/unit/client/fake_server.h"

#define RID "01a20d1e-0000-7000-8000-000000000001" /* a request's ID */

static struct fake *fake;
static char *out_text, *err_text;

static inline void set_up(void)
{
	fake = fake_start();
	setenv("POSTERN_SERVER", fake_url(fake), 1);
	setenv("POSTERN_TOKEN_FILE", fake_token_file(fake), 1);
	unsetenv("POSTERN_CA_FILE");
}

static inline void tear_down(void)
{
	fake_stop(fake);
	free(out_text);
	free(err_text);
}

static inline int run_words(char *const *argv)
{
	size_t out_size, err_size;
	int argc = 0;

	while (argv[argc] != NULL)
		argc++;
	free(out_text);
	free(err_text);
	FILE *out = open_memstream(&out_text, &out_size);
	FILE *err = open_memstream(&err_text, &err_size);
	int code = cli_run(argc, argv, out, err);
	fclose(out);
	fclose(err);
	return code;
}

/* Runs `postern` with these words; its exit code. */
#define RUN(...) run_words((char *[]){(char *)"postern", __VA_ARGS__, NULL})

#endif
