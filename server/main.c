/* posternd: the central permission server. Reads and checks everything before anything else
 * happens; see posternd(8). */
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "common/version.h"
#include "server/config.h"
#include "server/daemon.h"
#include "server/init/init.h"

static const char usage_text[] = "usage: posternd -c FILE [-n] [-d] [-v]...\n"
				 "       posternd init DIR [--listen URL]... [--name NAME]...\n"
				 "\n"
				 "  -c, --config FILE   configuration, see posternd.conf(5)\n"
				 "  -n, --check         check the configuration and exit\n"
				 "  -d, --debug         log for people, with time stamps\n"
				 "  -v, --verbose       log more\n"
				 "  -V, --version       print the version\n"
				 "  -h, --help          print this\n"
				 "\n"
				 "  init DIR            write configuration, CA, certificate, "
				 "database and the administrator's token into DIR\n"
				 "      --listen URL    listen there (ipc:///PATH, "
				 "tls+tcp://HOST:PORT); may be given often\n"
				 "      --name NAME     host name or address by which agents and "
				 "filters reach this server; may be given often\n";

static int fail(const struct error *err)
{
	fprintf(stderr, "posternd: %s\n", err->text);
	return err->status == STATUS_INVALID_ARGUMENT || err->status == STATUS_NOT_FOUND ? 2 : 1;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"config", required_argument, NULL, 'c'},
		{"check", no_argument, NULL, 'n'}, {"debug", no_argument, NULL, 'd'},
		{"verbose", no_argument, NULL, 'v'}, {"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
	struct daemon_options daemon = {0};
	struct server_config config = {0};
	bool check_only = false;
	struct error err;
	if (argc > 1 && strcmp(argv[1], "init") == 0)
		return init_command(argc - 1, argv + 1, usage_text);
	for (int c = getopt_long(argc, argv, "c:ndvVh", options, NULL); c != -1;
		c = getopt_long(argc, argv, "c:ndvVh", options, NULL)) {
		switch (c) {
		case 'c':
			daemon.path = optarg;
			break;
		case 'n':
			check_only = true;
			break;
		case 'd':
			daemon.for_people = true;
			break;
		case 'v':
			daemon.verbose = true;
			break;
		case 'V':
			return puts("posternd " POSTERN_VERSION), 0;
		case 'h':
			return fputs(usage_text, stdout), 0;
		default:
			return fputs(usage_text, stderr), 2;
		}
	}
	if (!daemon.path || optind != argc)
		return fputs(usage_text, stderr), 2;
	if (!check_only)
		return daemon_run(&daemon, &err) ? fail(&err) : 0;
	if (server_config_read(daemon.path, &config, &err))
		return fail(&err);
	server_config_fini(&config);
	printf("%s: good\n", daemon.path);
	return 0;
}
