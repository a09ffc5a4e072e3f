/* `posternd init` on the command line. */
#include <getopt.h>
#include <stdio.h>

#include "server/init/init.h"

#define LIST_MAX 16

int init_command(int argc, char **argv, const char *usage_text)
{
	static const struct option options[] = {{"listen", required_argument, NULL, 'l'},
		{"name", required_argument, NULL, 'N'}, {"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0}};
	const char *listen[LIST_MAX], *names[LIST_MAX];
	struct init_options init = {.listen = listen, .names = names};
	struct error err;
	for (int c = getopt_long(argc, argv, "h", options, NULL); c != -1;
		c = getopt_long(argc, argv, "h", options, NULL)) {
		if (c == 'l' && init.listen_count < LIST_MAX)
			listen[init.listen_count++] = optarg;
		else if (c == 'N' && init.name_count < LIST_MAX)
			names[init.name_count++] = optarg;
		else
			return fputs(usage_text, c == 'h' ? stdout : stderr), c == 'h' ? 0 : 2;
	}
	if (optind + 1 != argc)
		return fputs("posternd: init needs one folder: posternd init DIR\n", stderr), 2;
	init.dir = argv[optind];
	if (init_run(&init, &err))
		return fprintf(stderr, "posternd: init: %s\n", err.text),
		       err.status == STATUS_INVALID_ARGUMENT ? 2 : 1;
	printf("configuration        %s/posternd.conf\n", init.dir);
	printf("CA for agents        %s/ca.pem\n", init.dir);
	printf("administrator token  %s/admin.token\n", init.dir);
	printf("\nstart it with: posternd -c %s/posternd.conf\n", init.dir);
	return 0;
}
