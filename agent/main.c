/* postern-agent: holds a gateway's doors for the policy server; see postern-agent(8). */
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include <systemd/sd-daemon.h>

#include "agent/agent.h"
#include "common/log.h"
#include "common/version.h"

static const char usage_text[] =
	"usage: postern-agent -c FILE [-n] [-d] [-v]...\n"
	"\n"
	"  -c, --config FILE   configuration, see postern-agent.conf(5)\n"
	"  -n, --check         check the configuration and exit\n"
	"  -d, --debug         log for people, with time stamps\n"
	"  -v, --verbose       log more\n"
	"  -V, --version       print the version\n"
	"  -h, --help          print this\n"
	"\n"
	"The kernel's table stays when the agent stops: doors close by their own timeouts.\n";

static int fail(const struct error *err)
{
	fprintf(stderr, "postern-agent: %s\n", err->text);
	return err->status == STATUS_INVALID_ARGUMENT ? 2 : 1;
}

static void on_stop(void *arg)
{
	loop_stop(arg);
}

static void on_reload(void *arg)
{
	(void)arg;
	log_info("reload: the configuration of an agent is read at its start: restart it, doors "
		 "and flows stay");
}

static int serve(const struct agent_config *config)
{
	struct loop *loop = NULL;
	struct agent *agent = NULL;
	struct error err;
	enum status status = loop_new(&loop, &err);
	if (!status)
		status = loop_signal(loop, SIGTERM, on_stop, loop, &err);
	if (!status)
		status = loop_signal(loop, SIGINT, on_stop, loop, &err);
	if (!status)
		status = loop_signal(loop, SIGHUP, on_reload, loop, &err);
	if (!status)
		status = caps_drop(&err);
	if (!status)
		status = agent_start(loop, config, &agent, &err);
	if (status)
		return fail(&err);
	sd_notify(0, "READY=1");
	loop_run(loop);
	sd_notify(0, "STOPPING=1");
	log_info("stopping: the table stays");
	agent_stop(agent);
	loop_free(loop);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"config", required_argument, NULL, 'c'},
		{"check", no_argument, NULL, 'n'}, {"debug", no_argument, NULL, 'd'},
		{"verbose", no_argument, NULL, 'v'}, {"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
	struct agent_config config;
	enum log_level level = LOG_LEVEL_INFO;
	const char *path = NULL;
	bool check_only = false, human = false;
	struct error err;
	for (int c = getopt_long(argc, argv, "c:ndvVh", options, NULL); c != -1;
		c = getopt_long(argc, argv, "c:ndvVh", options, NULL)) {
		switch (c) {
		case 'c':
			path = optarg;
			break;
		case 'n':
			check_only = true;
			break;
		case 'd':
			human = true;
			break;
		case 'v':
			level = LOG_LEVEL_DEBUG;
			break;
		case 'V':
			return puts("postern-agent " POSTERN_VERSION), 0;
		case 'h':
			return fputs(usage_text, stdout), 0;
		default:
			return fputs(usage_text, stderr), 2;
		}
	}
	if (!path || optind != argc)
		return fputs(usage_text, stderr), 2;
	if (agent_config_read(path, &config, &err))
		return fail(&err);
	if (check_only)
		return printf("%s: good\n", path), agent_config_fini(&config), 0;
	log_init("postern-agent", level);
	if (human)
		log_human();
	signal(SIGPIPE, SIG_IGN);
	int code = serve(&config);
	agent_config_fini(&config);
	return code;
}
