#include "client/inspectors/ftp/config.h"

#include <stddef.h>

#include "common/addr.h"

#define AT(member) offsetof(struct ftp_config, member)

static const char *const auth_choices[] = {"refuse", "pass", NULL};

const struct config_option ftp_options[] = {
	{"server", CONFIG_STRING, AT(server), 0, 0, NULL, NULL, 1, "URL",
		"the policy server: tls+tcp://HOST:7411"},
	{"token_file", CONFIG_PATH, AT(token_file), 0, 0, NULL, NULL, 1, "path",
		"this filter's token (mode 0600), from `postern filter add`"},
	{"ca_file", CONFIG_PATH, AT(ca_file), 0, 0, NULL, NULL, 0, "path",
		"the server's ca.pem; needed for tls+tcp://"},
	{"server_name", CONFIG_STRING, AT(server_name), 0, 0, NULL, NULL, 0, "name",
		"name checked against the server's certificate"},
	{"gateway", CONFIG_STRING, AT(gateway), 0, 0, NULL, NULL, 1, "name",
		"the gateway this inspector runs on"},
	{"protocol", CONFIG_STRING, AT(protocol), 0, 0, NULL, "ftp", 0, "name",
		"the registered protocol definition"},
	{"listen", CONFIG_URL_LIST, AT(listen), 0, 0, NULL, "0.0.0.0:2121 [::]:2121", 0,
		"ADDR:PORT", "where the tproxy rules send control connections; may be given often"},
	{"deadline", CONFIG_DURATION, AT(deadline_ms), 100, 60000, NULL, "5s", 0, "duration",
		"how long a transfer may wait for its door"},
	{"connect_timeout", CONFIG_DURATION, AT(connect_timeout_ms), 100, 300000, NULL, "30s", 0,
		"duration", "to reach the FTP server"},
	{"idle_timeout", CONFIG_DURATION, AT(idle_timeout_ms), 1000, 86400000, NULL, "2h", 0,
		"duration", "a control connection without a byte is closed after this"},
	{"max_sessions", CONFIG_NUMBER, AT(max_sessions), 1, 1000000, NULL, "10000", 0, "sessions",
		"control connections at once"},
	{"auth_tls", CONFIG_CHOICE, AT(auth_tls), 0, 0, auth_choices, "refuse", 0, NULL,
		"AUTH TLS: refuse (534), or pass: an encrypted control connection cannot be "
		"inspected, so its transfers find no door"},
	{NULL, CONFIG_STRING, 0, 0, 0, NULL, NULL, 0, NULL, NULL},
};

enum status ftp_config_read(const char *path, struct ftp_config *config, struct error *err)
{
	enum status status = config_read(path, ftp_options, config, err);
	if (status)
		return status;
	for (size_t i = 0; i < config->listen.count; i++) {
		struct endpoint endpoint;
		if (!endpoint_parse(config->listen.items[i], true, &endpoint) ||
			endpoint.port == 0) {
			status = error_set(err, STATUS_INVALID_ARGUMENT,
				"%s: listen = %s: write ADDR:PORT or [ADDR6]:PORT", path,
				config->listen.items[i]);
			ftp_config_fini(config);
			return status;
		}
	}
	return STATUS_OK;
}

void ftp_config_fini(struct ftp_config *config)
{
	config_fini(ftp_options, config);
}
