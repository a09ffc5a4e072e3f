/* postern-ftp as a running process: loop, signals, status, reload and stop. */
#ifndef POSTERN_FTP_DAEMON_H
#define POSTERN_FTP_DAEMON_H

#include "common/error.h"

struct ftp_config;

/* Serves until SIGTERM. `path` is read again on SIGHUP; `config` stays the caller's. */
enum status daemon_run(const char *path, struct ftp_config *config, struct error *err);

#endif
