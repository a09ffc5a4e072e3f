/* postern-ftp: an FTP inspector on the gateway, in the path of control connections; see
 * postern-ftp(8). */
#include <cap-ng.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>

#include <systemd/sd-daemon.h>

#include "client/inspectors/ftp/listener.h"
#include "common/log.h"
#include "common/version.h"

static const char usage_text[] = "usage: postern-ftp -c FILE [-n] [-d] [-v]...\n"
				 "\n"
				 "  -c, --config FILE   configuration, see postern-ftp.conf(5)\n"
				 "  -n, --check         check the configuration and exit\n"
				 "  -d, --debug         log for people, with time stamps\n"
				 "  -v, --verbose       log more\n"
				 "  -V, --version       print the version\n"
				 "  -h, --help          print this\n";

static int fail(const struct error *err)
{
	fprintf(stderr, "postern-ftp: %s\n", err->text);
	return err->status == STATUS_INVALID_ARGUMENT ? 2 : 1;
}

static void on_stop(void *arg)
{
	loop_stop(arg);
}

/* IP_TRANSPARENT needs CAP_NET_ADMIN for every upstream connection; nothing else is needed. */
static enum status drop_capabilities(struct error *err)
{
	capng_clear(CAPNG_SELECT_BOTH);
	if (capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, CAP_NET_ADMIN) != 0 ||
		capng_apply(CAPNG_SELECT_BOTH) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return error_errno(err, STATUS_PERMISSION_DENIED, errno,
			"cannot keep CAP_NET_ADMIN alone: start with it");
	return STATUS_OK;
}

static int serve(const struct ftp_config *config)
{
	struct ftp ftp = {.config = config, .transparent = true};
	struct listeners *listeners = NULL;
	struct error err;
	enum status status = loop_new(&ftp.loop, &err);
	if (!status)
		status = loop_signal(ftp.loop, SIGTERM, on_stop, ftp.loop, &err);
	if (!status)
		status = loop_signal(ftp.loop, SIGINT, on_stop, ftp.loop, &err);
	if (!status)
		status = drop_capabilities(&err);
	if (!status)
		status = listeners_start(&ftp, &listeners, &err);
	if (!status)
		status = gate_start(ftp.loop, config, &ftp.gate, &err);
	if (status)
		return fail(&err);
	sd_notify(0, "READY=1");
	loop_run(ftp.loop);
	sd_notify(0, "STOPPING=1");
	listeners_stop(listeners);
	sessions_end(&ftp);
	gate_stop(ftp.gate);
	loop_free(ftp.loop);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"config", required_argument, NULL, 'c'},
		{"check", no_argument, NULL, 'n'}, {"debug", no_argument, NULL, 'd'},
		{"verbose", no_argument, NULL, 'v'}, {"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
	struct ftp_config config;
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
			return puts("postern-ftp " POSTERN_VERSION), 0;
		case 'h':
			return fputs(usage_text, stdout), 0;
		default:
			return fputs(usage_text, stderr), 2;
		}
	}
	if (!path || optind != argc)
		return fputs(usage_text, stderr), 2;
	if (ftp_config_read(path, &config, &err))
		return fail(&err);
	if (check_only)
		return printf("%s: good\n", path), ftp_config_fini(&config), 0;
	log_init("postern-ftp", level);
	if (human)
		log_human();
	signal(SIGPIPE, SIG_IGN);
	int code = serve(&config);
	ftp_config_fini(&config);
	return code;
}
