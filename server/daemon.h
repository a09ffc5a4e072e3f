/* posternd as a process: signals, logging, systemd; from the configuration to a clean end. */
#ifndef POSTERN_SERVER_DAEMON_H
#define POSTERN_SERVER_DAEMON_H

#include <stdbool.h>

#include "common/error.h"

struct daemon_options {
	const char *path; /* of the configuration */
	bool for_people; /* log with time stamps */
	bool verbose; /* log everything, whatever the configuration says */
};

/* Returns after SIGTERM or SIGINT, or with why the server could not start. */
enum status daemon_run(const struct daemon_options *options, struct error *err);

#endif
