/* posternd: the central permission server. Reads and checks everything before anything else
 * happens; see posternd(8). */
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <systemd/sd-daemon.h>

#include "common/log.h"
#include "common/loop.h"
#include "common/version.h"
#include "server/init/init.h"
#include "server/server.h"

#define LIST_MAX 16

struct daemon {
	struct loop *loop;
	struct server *server;
	const char *path;
	struct server_config *config; /* the one in use */
	enum log_level level;
};

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
	return err->status == STATUS_INVALID_ARGUMENT ? 2 : 1;
}

static int run_init(int argc, char **argv)
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
		return fail(&err);
	printf("configuration        %s/posternd.conf\n", init.dir);
	printf("CA for agents        %s/ca.pem\n", init.dir);
	printf("administrator token  %s/admin.token\n", init.dir);
	printf("\nstart it with: posternd -c %s/posternd.conf\n", init.dir);
	return 0;
}

static void on_stop(void *arg)
{
	loop_stop(((struct daemon *)arg)->loop);
}

static void on_reload(void *arg)
{
	struct daemon *daemon = arg;
	struct server_config *config = calloc(1, sizeof *config);
	struct error err;
	sd_notify(0, "RELOADING=1");
	if (!config || server_config_read(daemon->path, config, &err)) {
		log_err("reload: nothing was changed: %s", config ? err.text : "out of memory");
		free(config);
	} else if (server_reload(daemon->server, config, &err)) {
		log_err("reload: nothing was changed: %s", err.text);
		server_config_fini(config);
		free(config);
	} else {
		server_config_fini(daemon->config);
		free(daemon->config);
		daemon->config = config;
		log_info("reload: %s is in use", daemon->path);
	}
	sd_notify(0, "READY=1");
}

static int serve(struct daemon *daemon)
{
	struct error err;
	enum status status = loop_new(&daemon->loop, &err);
	if (!status)
		status = loop_signal(daemon->loop, SIGTERM, on_stop, daemon, &err);
	if (!status)
		status = loop_signal(daemon->loop, SIGINT, on_stop, daemon, &err);
	if (!status)
		status = loop_signal(daemon->loop, SIGHUP, on_reload, daemon, &err);
	if (!status)
		status = server_start(daemon->loop, daemon->config, &daemon->server, &err);
	if (status)
		return fail(&err);
	for (size_t i = 0; server_url(daemon->server, i); i++)
		log_info("listening: %s", server_url(daemon->server, i));
	sd_notify(0, "READY=1");
	loop_run(daemon->loop);
	sd_notify(0, "STOPPING=1");
	log_info("stopping");
	server_stop(daemon->server);
	loop_free(daemon->loop);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"config", required_argument, NULL, 'c'},
		{"check", no_argument, NULL, 'n'}, {"debug", no_argument, NULL, 'd'},
		{"verbose", no_argument, NULL, 'v'}, {"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
	struct daemon daemon = {.level = LOG_LEVEL_INFO};
	bool check_only = false, human = false;
	struct error err;
	if (argc > 1 && strcmp(argv[1], "init") == 0)
		return run_init(argc - 1, argv + 1);
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
			human = true;
			break;
		case 'v':
			daemon.level = LOG_LEVEL_DEBUG;
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
	daemon.config = calloc(1, sizeof *daemon.config);
	if (!daemon.config)
		return fputs("posternd: out of memory\n", stderr), 1;
	if (server_config_read(daemon.path, daemon.config, &err)) {
		free(daemon.config);
		return fail(&err);
	}
	if (check_only)
		return printf("%s: good\n", daemon.path), 0;
	log_init("posternd", daemon.level);
	if (human)
		log_human();
	signal(SIGPIPE, SIG_IGN);
	int code = serve(&daemon);
	server_config_fini(daemon.config);
	free(daemon.config);
	return code;
}
