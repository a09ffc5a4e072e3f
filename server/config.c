#include "server/config.h"

#include <stddef.h>

#define AT(member) offsetof(struct server_config, member)

#define MINUTE 60000ULL
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)

static const char *const log_levels[] = {"err", "warn", "info", "debug", NULL};

const struct config_option server_options[] = {
	{"listen", CONFIG_URL_LIST, AT(listen), 0, 0, NULL, NULL, 1, "URL",
		"where to listen: ipc:///PATH for the local administrator, tls+tcp://HOST:PORT for "
		"agents and filters; may be given often"},
	{"database", CONFIG_PATH, AT(database), 0, 0, NULL, "postern.db", 1, "path",
		"SQLite database with journal and state"},
	{"tls_cert_file", CONFIG_PATH, AT(tls_cert_file), 0, 0, NULL, "server.pem", 0, "path",
		"the server's certificate (PEM)"},
	{"tls_key_file", CONFIG_PATH, AT(tls_key_file), 0, 0, NULL, "server-key.pem", 0, "path",
		"its private key (PEM, mode 0600)"},
	{"tls_client_ca_file", CONFIG_PATH, AT(tls_client_ca_file), 0, 0, NULL, NULL, 0, "path",
		"when given, clients must show a certificate signed by this CA (mutual TLS)"},
	{"feed_ca_file", CONFIG_PATH, AT(feed_ca_file), 0, 0, NULL, NULL, 0, "path",
		"CA certificates (PEM) that servers of feeds are verified with, instead of the "
		"system's"},
	{"default_lifetime", CONFIG_DURATION, AT(default_lifetime_ms), 1000, 7 * DAY, NULL, "1h", 0,
		"duration", "lifetime of a grant that asks for none"},
	{"max_lifetime", CONFIG_DURATION, AT(max_lifetime_ms), 1000, 7 * DAY, NULL, "24h", 0,
		"duration", "longest lifetime of a grant; longer wishes are cut to it"},
	{"unused_timeout", CONFIG_DURATION, AT(unused_timeout_ms), 1000, DAY, NULL, "60s", 0,
		"duration", "a grant with flag TIMEOUT that is not used expires after this"},
	{"reservation_timeout", CONFIG_DURATION, AT(reservation_timeout_ms), 100, HOUR, NULL, "30s",
		0, "duration", "a reservation that is not committed ends after this"},
	{"session_idle_limit", CONFIG_DURATION, AT(session_idle_limit_ms), 1000, 7 * DAY, NULL,
		"1h", 0, "duration",
		"a session without live grants that asks for nothing is ended after this"},
	{"session_linger", CONFIG_DURATION, AT(session_linger_ms), 0, DAY, NULL, "0s", 0,
		"duration",
		"a session whose primary connection has ended is ended so much later, and its "
		"grants with it"},
	{"request_deadline", CONFIG_DURATION, AT(request_deadline_ms), 100, HOUR, NULL, "5s", 0,
		"duration",
		"a request whose caller gives no deadline is withdrawn when its door is not open "
		"after this"},
	{"max_live_grants_per_filter", CONFIG_NUMBER, AT(max_live_grants_per_filter), 1, 10000000,
		NULL, "100000", 0, "grants", "quota of a filter that has none of its own"},
	{"max_open_sessions_per_filter", CONFIG_NUMBER, AT(max_open_sessions_per_filter), 1,
		10000000, NULL, "100000", 0, "sessions", "of one filter at the same time"},
	{"max_connections", CONFIG_NUMBER, AT(max_connections), 1, 1000000, NULL, "8192", 0,
		"connections", "of agents, filters and people in all"},
	{"max_calls_per_connection", CONFIG_NUMBER, AT(max_calls_per_connection), 1, 100000, NULL,
		"1024", 0, "calls", "in flight on one connection"},
	{"max_queued_bytes_per_connection", CONFIG_SIZE, AT(max_queued_bytes_per_connection), 65536,
		1ULL << 30, NULL, "4m", 0, "bytes",
		"waiting to be sent to one peer; past it the peer is disconnected as a slow "
		"reader"},
	{"log_level", CONFIG_CHOICE, AT(log_level), 0, 0, log_levels, "info", 0, "level",
		"what is logged; -v logs more"},
	{NULL, CONFIG_STRING, 0, 0, 0, NULL, NULL, 0, NULL, NULL},
};

enum log_level server_config_log_level(const struct server_config *config)
{
	static const enum log_level levels[] = {
		LOG_LEVEL_ERR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG};
	return levels[config->log_level];
}

enum status server_config_read(const char *path, struct server_config *config, struct error *err)
{
	enum status status = config_read(path, server_options, config, err);
	if (status)
		return status;
	if (config->default_lifetime_ms > config->max_lifetime_ms) {
		server_config_fini(config);
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"%s: default_lifetime is longer than max_lifetime: lower it", path);
	}
	return STATUS_OK;
}

void server_config_fini(struct server_config *config)
{
	config_fini(server_options, config);
}
