/* postern-ftp's configuration. */
#ifndef POSTERN_FTP_CONFIG_H
#define POSTERN_FTP_CONFIG_H

#include "common/config.h"

enum auth_tls { AUTH_TLS_REFUSE = 0, AUTH_TLS_PASS = 1 };

struct ftp_config {
	char *server, *token_file, *ca_file, *server_name, *gateway, *protocol;
	struct config_list listen;
	uint64_t deadline_ms, connect_timeout_ms, idle_timeout_ms, max_sessions;
	int auth_tls;
};

extern const struct config_option ftp_options[];
enum status ftp_config_read(const char *path, struct ftp_config *config, struct error *err);
void ftp_config_fini(struct ftp_config *config);

#endif
