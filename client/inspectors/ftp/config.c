#include "client/inspectors/ftp/config.h"

#include <stddef.h>
#include <string.h>

#define AT(member) offsetof(struct ftp_config, member)

#define SECOND 1000ULL
#define HOUR (3600 * SECOND)
#define DAY (24 * HOUR)

static const char *const auth_tls_choices[] = {"refuse", "pass", NULL};
static const char *const passive_address_choices[] = {"strict", "server", NULL};

const struct config_option ftp_options[] = {
	{"server", CONFIG_STRING, AT(server), 0, 0, NULL, NULL, 0, "URL",
		"policy server: tls+tcp://HOST:7411 or ipc:///PATH; default: $POSTERN_SERVER"},
	{"token_file", CONFIG_PATH, AT(token_file), 0, 0, NULL, NULL, 0, "path",
		"file with this filter's token, mode 0600; default: $POSTERN_TOKEN_FILE"},
	{"ca_file", CONFIG_PATH, AT(ca_file), 0, 0, NULL, NULL, 0, "path",
		"CA certificate of the policy server (PEM); default: $POSTERN_CA_FILE"},
	{"server_name", CONFIG_STRING, AT(server_name), 0, 0, NULL, NULL, 0, "name",
		"name in the policy server's certificate; default: the host in server"},
	{"gateway", CONFIG_STRING, AT(gateway), 0, 0, NULL, NULL, 1, "name",
		"the gateway on which this runs, as the policy server knows it"},
	{"protocol", CONFIG_STRING, AT(protocol), 0, 0, NULL, "ftp", 1, "name",
		"protocol definition that data connections are asked for"},
	{"listen", CONFIG_URL_LIST, AT(listen), 0, 0, NULL, "0.0.0.0:2121 [::]:2121", 0,
		"ADDRESS:PORT",
		"where the gateway's tproxy rules deliver control connections; may be given often"},
	{"external", CONFIG_URL_LIST, AT(external), 0, 0, NULL, NULL, 0, "ADDRESS",
		"an address of this gateway that stands for the clients' towards FTP servers; one "
		"per address family"},
	{"passive_address", CONFIG_CHOICE, AT(passive_address), 0, 0, passive_address_choices,
		"strict", 0, NULL,
		"a passive reply that names another host: refuse it (strict), or take the server's "
		"own address (server)"},
	{"auth_tls", CONFIG_CHOICE, AT(auth_tls), 0, 0, auth_tls_choices, "refuse", 0, NULL,
		"AUTH, with which clients ask for encryption: refuse, or pass and see no more"},
	{"deadline", CONFIG_DURATION, AT(deadline_ms), 100, 60 * SECOND, NULL, "5s", 0, "duration",
		"how long a passive reply, PORT or EPRT may wait for its permission"},
	{"connect_timeout", CONFIG_DURATION, AT(connect_timeout_ms), 100, 120 * SECOND, NULL, "10s",
		0, "duration", "how long connecting to the FTP server may take"},
	{"idle_limit", CONFIG_DURATION, AT(idle_limit_ms), SECOND, 7 * DAY, NULL, "30m", 0,
		"duration", "control connections that are silent for longer are closed"},
	{"transfer_idle_limit", CONFIG_DURATION, AT(transfer_idle_limit_ms), SECOND, 30 * DAY, NULL,
		"24h", 0, "duration", "the same while a transfer runs"},
	{"max_sessions", CONFIG_NUMBER, AT(max_sessions), 1, 100000, NULL, "4096", 0, "sessions",
		"control connections in all"},
	{"max_sessions_per_client", CONFIG_NUMBER, AT(max_sessions_per_client), 1, 100000, NULL,
		"64", 0, "sessions", "control connections of one client address"},
	{"lowest_source_port", CONFIG_NUMBER, AT(lowest_source_port), 1024, 65535, NULL, "16384", 0,
		"port", "connections to FTP servers use the client's address and a port from here"},
	{"highest_source_port", CONFIG_NUMBER, AT(highest_source_port), 1024, 65535, NULL, "32767",
		0, "port", "to here; keep clear of the ports that clients themselves use"},
	{"status_interval", CONFIG_DURATION, AT(status_interval_ms), SECOND, HOUR, NULL, "10s", 0,
		"duration", "how often the status line of systemctl is renewed"},
	{NULL, CONFIG_STRING, 0, 0, 0, NULL, NULL, 0, NULL, NULL},
};

enum status ftp_config_endpoint(const char *text, struct endpoint *ret_endpoint, struct error *err)
{
	if (!endpoint_parse(text, true, ret_endpoint) || ret_endpoint->port == 0)
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"listen: \"%.64s\" is not ADDRESS:PORT, such as 0.0.0.0:2121 or "
			"[::]:2121",
			text);
	return STATUS_OK;
}

struct addr ftp_config_external(const struct ftp_config *config, enum addr_family family)
{
	return family == ADDR_IPV4 ? config->external_ipv4 : config->external_ipv6;
}

static enum status take_external(struct ftp_config *config, struct error *err)
{
	config->external_ipv4 = config->external_ipv6 = (struct addr){0};
	for (size_t i = 0; i < config->external.count; i++) {
		const char *text = config->external.items[i];
		struct addr addr, *place;

		if (!addr_parse(text, &addr) || !addr_is_forwardable(&addr))
			return error_set(err, STATUS_INVALID_ARGUMENT,
				"external: \"%.64s\" is not an address that servers can answer, "
				"such "
				"as 198.51.100.7 or 2001:db8::7",
				text);
		place = addr.family == ADDR_IPV4 ? &config->external_ipv4 : &config->external_ipv6;
		if (place->family != ADDR_NONE)
			return error_set(err, STATUS_INVALID_ARGUMENT,
				"external: \"%.64s\" is the second IPv%u address: give one", text,
				(unsigned)addr.family);
		*place = addr;
	}
	return STATUS_OK;
}

static enum status check(const char *path, struct ftp_config *config, struct error *err)
{
	struct endpoint endpoint;
	struct error cause;

	for (size_t i = 0; i < config->listen.count; i++) {
		if (ftp_config_endpoint(config->listen.items[i], &endpoint, &cause) != STATUS_OK)
			return error_set(err, STATUS_INVALID_ARGUMENT, "%s: %s", path, cause.text);
	}
	if (take_external(config, &cause) != STATUS_OK)
		return error_set(err, STATUS_INVALID_ARGUMENT, "%s: %s", path, cause.text);
	if (config->lowest_source_port > config->highest_source_port)
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"%s: lowest_source_port is above highest_source_port: exchange them", path);
	return STATUS_OK;
}

enum status ftp_config_read(const char *path, struct ftp_config *config, struct error *err)
{
	enum status status = config_read(path, ftp_options, config, err);

	if (status != STATUS_OK)
		return status;
	status = check(path, config, err);
	if (status != STATUS_OK)
		ftp_config_fini(config);
	return status;
}

void ftp_config_fini(struct ftp_config *config)
{
	config_fini(ftp_options, config);
}

static bool same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool same_list(const struct config_list *a, const struct config_list *b)
{
	if (a->count != b->count)
		return false;
	for (size_t i = 0; i < a->count; i++) {
		if (strcmp(a->items[i], b->items[i]) != 0)
			return false;
	}
	return true;
}

bool ftp_config_adopt(struct ftp_config *config, const struct ftp_config *from)
{
	config->auth_tls = from->auth_tls;
	config->passive_address = from->passive_address;
	config->external_ipv4 = from->external_ipv4;
	config->external_ipv6 = from->external_ipv6;
	config->deadline_ms = from->deadline_ms;
	config->connect_timeout_ms = from->connect_timeout_ms;
	config->idle_limit_ms = from->idle_limit_ms;
	config->transfer_idle_limit_ms = from->transfer_idle_limit_ms;
	config->max_sessions = from->max_sessions;
	config->max_sessions_per_client = from->max_sessions_per_client;
	config->lowest_source_port = from->lowest_source_port;
	config->highest_source_port = from->highest_source_port;
	config->status_interval_ms = from->status_interval_ms;
	return same_text(config->server, from->server) &&
		same_text(config->token_file, from->token_file) &&
		same_text(config->ca_file, from->ca_file) &&
		same_text(config->server_name, from->server_name) &&
		same_text(config->gateway, from->gateway) &&
		same_text(config->protocol, from->protocol) &&
		same_list(&config->listen, &from->listen);
}
