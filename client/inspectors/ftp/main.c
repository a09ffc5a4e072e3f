/* postern-ftp: an FTP inspector in the path of control connections; see postern-ftp(8). */
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>

#include "client/inspectors/ftp/config.h"
#include "client/inspectors/ftp/daemon.h"
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

static int usage(void)
{
	fputs(usage_text, stderr);
	return 2;
}

static int run(const char *path, bool check_only)
{
	struct ftp_config config;
	struct error err;
	enum status status;

	if (ftp_config_read(path, &config, &err) != STATUS_OK) {
		fprintf(stderr, "postern-ftp: %s\n", err.text);
		return 2;
	}
	if (check_only) {
		printf("%s: good\n", path);
		ftp_config_fini(&config);
		return 0;
	}
	signal(SIGPIPE, SIG_IGN);
	status = daemon_run(path, &config, &err);
	ftp_config_fini(&config);
	return status == STATUS_OK ? 0 : fail(&err);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'},
		{"check", no_argument, NULL, 'n'},
		{"debug", no_argument, NULL, 'd'},
		{"verbose", no_argument, NULL, 'v'},
		{"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	enum log_level level = LOG_LEVEL_INFO;
	bool check_only = false, human = false;
	const char *path = NULL;
	int c;

	while ((c = getopt_long(argc, argv, "c:ndvVh", options, NULL)) != -1) {
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
			puts("postern-ftp " POSTERN_VERSION);
			return 0;
		case 'h':
			fputs(usage_text, stdout);
			return 0;
		default:
			return usage();
		}
	}
	if (!path || optind != argc)
		return usage();
	log_init("postern-ftp", level);
	if (human)
		log_human();
	return run(path, check_only);
}
