/* The smallest program of a stranger: it finds no server, and says so. test_package.sh reads its
 * output. */
#include <postern/postern.h>
#include <stdio.h>

int main(int argc, char **argv)
{
	struct postern_options options = {0};
	struct postern *postern = NULL;
	struct postern_error err;
	enum postern_status status;

	if (argc != 2)
		return 2;
	printf("version %s\n", postern_version());
	status = postern_connect(&options, &postern, &err);
	printf("%s %s\n", postern_status_name(status), err.field);

	options.server = "ipc:///nonexistent/postern.sock";
	options.token_file = argv[1];
	options.connect_ms = 100;
	status = postern_connect(&options, &postern, &err);
	printf("%s\n", postern_status_name(status));
	postern_close(postern);
	return 0;
}
