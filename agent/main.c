/* postern-agent: holds a gateway's doors for the policy server; see postern-agent(8). */
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>

#include "agent/agent.h"
#include "agent/caps.h"
#include "agent/notify.h"
#include "common/file.h"
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

struct program {
	const char *path;
	struct loop *loop;
	struct agent *agent;
	struct agent_config config;
};

static int fail(const struct error *err)
{
	fprintf(stderr, "postern-agent: %s\n", err->text);
	return err->status == STATUS_INVALID_ARGUMENT ? 2 : 1;
}

static void on_stop(void *arg)
{
	loop_stop(((struct program *)arg)->loop);
}

static void on_reload(void *arg)
{
	struct program *program = arg;
	struct agent_config config = {0};
	char *token = NULL;
	struct error err;
	notify_reloading();
	enum status status = agent_config_read(program->path, &config, &err);
	bool is_read = !status;
	if (!status)
		status = file_read_secret(config.token_file, &token, &err);
	if (!status)
		status = agent_reload(program->agent, &config, token, &err);
	if (status)
		log_err("reload: nothing has changed: %s", err.text);
	struct agent_config unused = status ? config : program->config;
	if (!status) {
		/* The agent points to program->config: it gets the new values in the same place. */
		program->config = config;
		program->agent->config = &program->config;
	}
	if (is_read)
		agent_config_fini(&unused);
	file_free_secret(token);
	notify_ready();
}

static enum status start(struct program *program, struct error *err)
{
	char *token = NULL;
	/* Files are read by who started us; afterwards there is one capability and no way back. */
	enum status status = file_read_secret(program->config.token_file, &token, err);
	if (!status)
		status = caps_drop(program->config.user, err);
	if (!status)
		status = loop_new(&program->loop, err);
	if (!status)
		status = loop_signal(program->loop, SIGTERM, on_stop, program, err);
	if (!status)
		status = loop_signal(program->loop, SIGINT, on_stop, program, err);
	if (!status)
		status = loop_signal(program->loop, SIGHUP, on_reload, program, err);
	if (!status)
		status = agent_start(program->loop, &program->config, token, &program->agent, err);
	file_free_secret(token);
	return status;
}

static int serve(struct program *program)
{
	struct error err;
	bool started = start(program, &err) == STATUS_OK;
	if (started) {
		notify_ready();
		loop_run(program->loop);
		notify_stopping();
		log_info("stopping: the table stays");
		agent_stop(program->agent);
	}
	loop_free(program->loop);
	return started ? 0 : fail(&err);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"config", required_argument, NULL, 'c'},
		{"check", no_argument, NULL, 'n'}, {"debug", no_argument, NULL, 'd'},
		{"verbose", no_argument, NULL, 'v'}, {"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
	struct program program = {0};
	enum log_level level = LOG_LEVEL_INFO;
	bool check_only = false, human = false;
	struct error err;
	for (int c; (c = getopt_long(argc, argv, "c:ndvVh", options, NULL)) != -1;) {
		switch (c) {
		case 'c':
			program.path = optarg;
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
	if (!program.path || optind != argc)
		return fputs(usage_text, stderr), 2;
	if (agent_config_read(program.path, &program.config, &err))
		return fail(&err);
	log_init("postern-agent", level);
	if (human)
		log_human();
	signal(SIGPIPE, SIG_IGN);
	int code = check_only ? 0 : serve(&program);
	agent_config_fini(&program.config);
	return code;
}
