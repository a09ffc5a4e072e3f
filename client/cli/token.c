#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/cli.h"
#include "common/file.h"

int token_file_prepare(struct cli *cli, const char *name, char *path, size_t size)
{
	const char *out = args_get(cli, "out");
	char folder[4096];
	if ((size_t)(out ? snprintf(path, size, "%s", out)
			 : snprintf(path, size, "%s.token", name)) >= size)
		return usage_error(cli, "--out: the path is too long");
	if (access(path, F_OK) == 0)
		return usage_error(cli,
			"%s exists: a token file is never replaced: give another with --out FILE",
			path);
	snprintf(folder, sizeof folder, "%s", path);
	char *slash = strrchr(folder, '/');
	if (slash)
		*(slash == folder ? slash + 1 : slash) = '\0';
	if (access(slash ? folder : ".", W_OK) != 0)
		return usage_error(cli, "%s: cannot be written: %s: give another with --out FILE",
			path, strerror(errno));
	return EXIT_GOOD;
}

int token_file_write(struct cli *cli, const char *path, const char *token)
{
	char line[256];
	struct error err;
	int size = snprintf(line, sizeof line, "%s\n", token);
	if (file_write(path, line, (size_t)size, 0600, 0, &err))
		return report(cli, &err);
	if (!cli->json)
		printf("token  %s (mode 0600; the server keeps only its hash)\n", path);
	return EXIT_GOOD;
}
