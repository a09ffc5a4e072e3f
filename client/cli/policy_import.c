/* policy import: a start from what a site has. No server is asked. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/cli.h"
#include "client/cli/commands.h"
#include "client/cli/import/import.h"

#define STEP 65536U

static enum status read_text(int fd, const char *name, char **ret_text, struct error *err)
{
	char *text = NULL;
	size_t size = 0;

	for (;;) {
		char *grown = realloc(text, size + STEP + 1);
		if (grown == NULL) {
			free(text);
			return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
		}
		text = grown;
		ssize_t got = read(fd, text + size, STEP);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 || size > IMPORT_SIZE_MAX) {
			free(text);
			if (got < 0)
				return error_errno(
					err, STATUS_INVALID_ARGUMENT, errno, "%.200s", name);
			return error_set(err, STATUS_INVALID_ARGUMENT,
				"%.200s: more than %u MiB are no ruleset", name,
				IMPORT_SIZE_MAX >> 20);
		}
		size += (size_t)got;
		if (got == 0)
			break;
	}
	text[size] = '\0';
	if (strlen(text) != size) {
		free(text);
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"%.200s: a NUL byte is in it: this is no text", name);
	}
	*ret_text = text;
	return STATUS_OK;
}

static enum status read_source(const char *path, char **ret_text, struct error *err)
{
	if (strcmp(path, "-") == 0)
		return read_text(STDIN_FILENO, "standard input", ret_text, err);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return error_errno(err, STATUS_INVALID_ARGUMENT, errno, "%.200s", path);
	enum status status = read_text(fd, path, ret_text, err);
	close(fd);
	return status;
}

static void tell(struct cli *cli, const struct import *import)
{
	fprintf(cli->err,
		"%zu rules translated, %zu lines not (see the comments), %zu rules have "
		"nothing to do with helpers\n",
		import->rules, import->note_count, import->others);
}

enum status policy_import(struct cli *cli, struct error *err)
{
	const char *path = cli->args.operands[0];
	struct import import;
	char *text = NULL;
	enum status status = read_source(path, &text, err);

	if (status != STATUS_OK)
		return status;
	status = import_read(&import, strcmp(path, "-") == 0 ? "standard input" : path, text, err);
	if (status == STATUS_OK && cli_is_structured(cli))
		(void)cli_message(cli, &import.document.base, NULL);
	else if (status == STATUS_OK && !import_write(&import, cli->out))
		status = error_set(err, STATUS_UNAVAILABLE, "the output is broken");
	if (status == STATUS_OK)
		tell(cli, &import);
	import_fini(&import);
	free(text);
	return status;
}
