#include "agent/config.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define AT(member) offsetof(struct agent_config, member)
#define PRIORITY_MOST 1000000

static const char *const modes[] = {"enforce", "overlay", NULL};
static const char *const renewals[] = {"auto", "in-place", "replace", NULL}; /* enum nft_renewal */

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
		"own "
		"rules accept `ct mark & BIT`"},
	{"table", CONFIG_STRING, AT(table), 0, 0, NULL, "postern", 0, "name",
		"name of our table, inet NAME"},
	{"priority", CONFIG_STRING, AT(priority_text), 0, 0, NULL, "-10", 0, "number",
		"priority of our chain in the forward hook; overlay mode needs one before your own "
		"chain's"},
	{"mark", CONFIG_NUMBER, AT(mark), 1, UINT32_MAX, NULL, "0x80000000", 0, "bit",
		"conntrack mark bit of granted flows"},
	{"mark_oneway", CONFIG_NUMBER, AT(mark_oneway), 1, UINT32_MAX, NULL, "0x40000000", 0, "bit",
		"second bit, of send-only UDP flows"},
	{"mark_session", CONFIG_NUMBER, AT(mark_session), 1, UINT32_MAX, NULL, "0x20000000", 0,
		"bit",
		"third bit, set on the primary connections of sessions so that their end is told"},
	{"external_ports", CONFIG_STRING, AT(external_ports), 0, 0, NULL, "61000-65535", 0, "range",
		"of which external ports for inbound grants are chosen when none was asked for; "
		"best "
		"outside net.ipv4.ip_local_port_range"},
	{"renewal", CONFIG_CHOICE, AT(renewal), 0, 0, renewals, "auto", 0, NULL,
		"how a door's time is moved: in-place needs Linux 6.12, replace works everywhere; "
		"auto: in-place where the kernel can"},
	{"user", CONFIG_STRING, AT(user), 0, 0, NULL, NULL, 0, "name",
		"become this user, keeping CAP_NET_ADMIN alone; default: stay who started it"},
	{"max_reports", CONFIG_NUMBER, AT(max_reports), 1000, 10000000, NULL, "100000", 0,
		"reports",
		"kept while the server is away; beyond it they are dropped, counted, and made good "
		"by "
		"an inventory"},
	{"event_buffer", CONFIG_SIZE, AT(event_buffer), 256 * 1024, 1 << 30, NULL, "4m", 0, "bytes",
		"of the socket of conntrack events"},
	{"max_event_buffer", CONFIG_SIZE, AT(max_event_buffer), 256 * 1024, 1 << 30, NULL, "64m", 0,
		"bytes", "how far it may grow when events are lost"},
	{NULL, CONFIG_STRING, 0, 0, 0, NULL, NULL, 0, NULL, NULL},
};

static bool is_one_bit(uint64_t value)
{
	return (value & (value - 1)) == 0;
}

static enum status parse_priority(const char *text, int *ret_priority, struct error *err)
{
	uint64_t number;
	bool negative = *text == '-';
	enum status status = parse_number(text + negative, 0, PRIORITY_MOST, &number, err);
	if (!status)
		*ret_priority = negative ? -(int)number : (int)number;
	return status;
}

static bool is_table_name(const char *name)
{
	size_t size = strlen(name);
	return size > 0 && size <= 60 &&
		strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") == size &&
		strchr("0123456789-", name[0]) == NULL;
}

static bool parse_ports(const char *text, uint16_t *ret_first, uint16_t *ret_last)
{
	char first[8] = "";
	size_t length = strcspn(text, "-");
	uint64_t from, to;
	if (length >= sizeof first)
		return false;
	memcpy(first, text, length);
	if (parse_number(first, 1, UINT16_MAX, &from, NULL) ||
		parse_number(text[length] ? text + length + 1 : first, from, UINT16_MAX, &to, NULL))
		return false;
	*ret_first = (uint16_t)from;
	*ret_last = (uint16_t)to;
	return true;
}

static bool are_marks(const struct agent_config *config)
{
	return is_one_bit(config->mark) && is_one_bit(config->mark_oneway) &&
		is_one_bit(config->mark_session) && config->mark != config->mark_oneway &&
		config->mark != config->mark_session && config->mark_oneway != config->mark_session;
}

static enum status check(const char *path, struct agent_config *config, struct error *err)
{
	struct error cause;
	if (!are_marks(config))
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"%s: mark, mark_oneway and mark_session: three different single bits are "
			"needed, like 0x80000000, 0x40000000 and 0x20000000",
			path);
	if (!parse_ports(config->external_ports, &config->external_port_first,
		    &config->external_port_last))
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"%s: external_ports: \"%s\": use a range like 61000-65535", path,
			config->external_ports);
	if (!is_table_name(config->table))
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"%s: table: \"%s\": use up to 60 of a-z 0-9 _ -, a letter first", path,
			config->table);
	if (parse_priority(config->priority_text, &config->priority, &cause))
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"%s: priority: %s: use a number like -10", path, cause.text);
	if (strncmp(config->server, "tls+tcp://", 10) == 0 && !config->ca_file)
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"%s: ca_file is needed for a tls+tcp:// server: the server's ca.pem", path);
	if (config->max_event_buffer < config->event_buffer)
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"%s: max_event_buffer is smaller than event_buffer", path);
	return STATUS_OK;
}

enum status agent_config_read(const char *path, struct agent_config *config, struct error *err)
{
	enum status status = config_read(path, agent_options, config, err);
	if (status)
		return status;
	status = check(path, config, err);
	if (status)
		agent_config_fini(config);
	return status;
}

void agent_config_fini(struct agent_config *config)
{
	config_fini(agent_options, config);
}
