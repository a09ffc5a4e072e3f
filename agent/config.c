#include "agent/config.h"

#include <stddef.h>
#include <string.h>

#define AT(member) offsetof(struct agent_config, member)

static const char *const modes[] = {"enforce", "overlay", NULL};

const struct config_option agent_options[] = {
	{"server", CONFIG_STRING, AT(server), 0, 0, NULL, NULL, 1, "URL",
		"the policy server: tls+tcp://HOST:7411"},
	{"token_file", CONFIG_PATH, AT(token_file), 0, 0, NULL, NULL, 1, "path",
		"this gateway's token (mode 0600), from `postern gateway add`"},
	{"ca_file", CONFIG_PATH, AT(ca_file), 0, 0, NULL, NULL, 0, "path",
		"the server's ca.pem; needed for tls+tcp://"},
	{"server_name", CONFIG_STRING, AT(server_name), 0, 0, NULL, NULL, 0, "name",
		"name checked against the server's certificate, if not the host of the URL"},
	{"mode", CONFIG_CHOICE, AT(mode), 0, 0, modes, "enforce", 0, NULL,
		"enforce: our forward chain drops what nobody granted; overlay: we only mark, your "
		"own rules accept `ct mark & BIT`"},
	{"table", CONFIG_STRING, AT(table), 0, 0, NULL, "postern", 0, "name",
		"name of our table, inet NAME"},
	{"mark", CONFIG_NUMBER, AT(mark), 1, UINT32_MAX, NULL, "0x80000000", 0, "bit",
		"conntrack mark bit of granted flows"},
	{"mark_oneway", CONFIG_NUMBER, AT(mark_oneway), 1, UINT32_MAX, NULL, "0x40000000", 0, "bit",
		"second bit, of send-only UDP flows"},
	{"max_reports", CONFIG_NUMBER, AT(max_reports), 1000, 10000000, NULL, "100000", 0,
		"reports",
		"kept while the server is away; beyond it they are dropped, counted, and made good "
		"by an inventory"},
	{NULL, CONFIG_STRING, 0, 0, 0, NULL, NULL, 0, NULL, NULL},
};

static int is_one_bit(uint64_t value)
{
	return (value & (value - 1)) == 0;
}

enum status agent_config_read(const char *path, struct agent_config *config, struct error *err)
{
	enum status status = config_read(path, agent_options, config, err);
	if (status)
		return status;
	if (!is_one_bit(config->mark) || !is_one_bit(config->mark_oneway) ||
		config->mark == config->mark_oneway)
		status = error_set(err, STATUS_INVALID_ARGUMENT,
			"%s: mark and mark_oneway: two different single bits are needed, like "
			"0x80000000",
			path);
	else if (strlen(config->table) > 60 ||
		strspn(config->table, "abcdefghijklmnopqrstuvwxyz0123456789_-") !=
			strlen(config->table))
		status = error_set(err, STATUS_INVALID_ARGUMENT,
			"%s: table: \"%s\": use up to 60 of a-z 0-9 _ -", path, config->table);
	else if (strncmp(config->server, "tls+tcp://", 10) == 0 && !config->ca_file)
		status = error_set(err, STATUS_INVALID_ARGUMENT,
			"%s: ca_file is needed for a tls+tcp:// server: the server's ca.pem", path);
	if (status)
		agent_config_fini(config);
	return status;
}

void agent_config_fini(struct agent_config *config)
{
	config_fini(agent_options, config);
}
