/* posternd's configuration: one table of options, one struct. */
#ifndef POSTERN_SERVER_CONFIG_H
#define POSTERN_SERVER_CONFIG_H

#include <stdint.h>

#include "common/config.h"
#include "common/log.h"

struct server_config {
	struct config_list listen;
	char *database;
	char *feed_ca_file;
	char *tls_cert_file, *tls_key_file, *tls_client_ca_file;
	uint64_t default_lifetime_ms, max_lifetime_ms, unused_timeout_ms;
	uint64_t reservation_timeout_ms;
	uint64_t session_idle_limit_ms, session_linger_ms, request_deadline_ms;
	uint64_t max_live_grants_per_filter, max_open_sessions_per_filter;
	uint64_t max_connections, max_calls_per_connection, max_queued_bytes_per_connection;
	int log_level;
};

extern const struct config_option server_options[];

/* Reads and checks the whole file; nothing else is touched. */
enum status server_config_read(const char *path, struct server_config *config, struct error *err);
enum log_level server_config_log_level(const struct server_config *config);
void server_config_fini(struct server_config *config);

#endif
