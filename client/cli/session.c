#include <string.h>

#include "client/cli/cli.h"
#include "client/cli/commands.h"
#include "client/text/names.h"
#include "client/text/text.h"
#include "common/clock.h"
#include "postern/v1/sessions.pb-c.h"

#define IDLE_LIMIT_MAX_MS (30 * 24 * 3600 * 1000ULL)

static const ProtobufCServiceDescriptor *const service = &postern__v1__sessions__descriptor;

/* "10.77.1.2:40000 -> 10.77.2.2:21 tcp" */
static void tell_flow(const Postern__V1__Flow *flow, char *text, size_t size)
{
	char client[80], remote[80], transport[NAME_SIZE];

	cli_address(flow->client, flow->client_port, client, sizeof(client));
	cli_address(flow->remote, flow->remote_port, remote, sizeof(remote));
	name_of(&postern__v1__transport__descriptor, (int)flow->transport, transport);
	snprintf(text, size, "%s -> %s %s", client, remote, transport);
}

static void print_opened(struct cli *cli, const ProtobufCMessage *message)
{
	const Postern__V1__Session *session = (const Postern__V1__Session *)message;
	char flow[256];

	fprintf(cli->out, "session %s\n", session->id);
	cli_field(cli->out, "client", "%s at gateway %s", session->client, session->gateway);
	cli_field(cli->out, "user", "%s", session->user);
	cli_field(cli->out, "protocol", "%s", session->protocol);
	if (session->primary != NULL) {
		tell_flow(session->primary, flow, sizeof(flow));
		cli_field(cli->out, "primary", "%s", flow);
	}
}

static void print_closed(struct cli *cli, const ProtobufCMessage *message)
{
	const Postern__V1__Session *session = (const Postern__V1__Session *)message;
	char span[TEXT_AMOUNT_SIZE];

	text_span(session->closed_us > session->opened_us ? session->closed_us - session->opened_us
							  : 0,
		span);
	fprintf(cli->out, "session %s closed after %s\n", session->id, span);
}

/* The primary connection, and what its flow's strings point to. */
struct primary {
	bool given;
	Postern__V1__Flow flow;
	char client[ADDR_TEXT_SIZE], remote[ADDR_TEXT_SIZE];
};

static void fill_primary(struct primary *primary, int transport, const struct endpoint *from,
	const struct endpoint *to)
{
	postern__v1__flow__init(&primary->flow);
	addr_format(&from->addr, primary->client);
	addr_format(&to->addr, primary->remote);
	primary->flow.client = primary->client;
	primary->flow.client_port = from->port;
	primary->flow.remote = primary->remote;
	primary->flow.remote_port = to->port;
	primary->flow.transport = (Postern__V1__Transport)transport;
	primary->given = true;
}

/* "tcp,10.77.1.2:40000,10.77.2.2:21": no comma is part of an address. */
static enum status read_whole(const char *value, struct primary *primary, struct error *err)
{
	char text[2 * ENDPOINT_TEXT_SIZE + NAME_SIZE];
	char *rest = text;
	struct endpoint from, to;
	int transport;

	snprintf(text, sizeof(text), "%s", value);
	const char *name = strsep(&rest, ",");
	const char *client = strsep(&rest, ",");
	if (strlen(value) >= sizeof(text) || client == NULL || rest == NULL ||
		!name_parse(&postern__v1__transport__descriptor, name, &transport) ||
		!endpoint_parse(client, true, &from) || !endpoint_parse(rest, true, &to))
		return error_field(err, "primary",
			"--primary: '%.100s' is no connection: write transport, client and remote: "
			"tcp,192.0.2.1:40000,198.51.100.1:21 (IPv6: [2001:db8::1]:40000)",
			value);
	fill_primary(primary, transport, &from, &to);
	return STATUS_OK;
}

/* --from, --to and --transport: the two sides are given both or not at all. */
static enum status read_sides(const struct args *args, struct primary *primary, struct error *err)
{
	struct endpoint from, to;
	int transport = POSTERN__V1__TRANSPORT__TRANSPORT_TCP;
	bool has_from = args_has(args, "from");

	if (has_from != args_has(args, "to"))
		return error_field(err, has_from ? "to" : "from",
			"--from and --to are the two sides of one connection: give both");
	if (!has_from)
		return STATUS_OK;
	enum status status = args_endpoint(args, "from", true, &from, err);
	if (status == STATUS_OK)
		status = args_endpoint(args, "to", true, &to, err);
	if (status == STATUS_OK)
		status = args_choice(args, "transport", &transport, err);
	if (status == STATUS_OK)
		fill_primary(primary, transport, &from, &to);
	return status;
}

static enum status read_primary(const struct args *args, struct primary *primary, struct error *err)
{
	const char *whole = args_value(args, "primary");

	primary->given = false;
	if (whole == NULL)
		return read_sides(args, primary, err);
	if (args_has(args, "from") || args_has(args, "to") || args_has(args, "transport"))
		return error_field(err, "primary",
			"--primary says all of the connection: leave --from, --to and --transport "
			"out");
	return read_whole(whole, primary, err);
}

enum status session_open(struct cli *cli, struct error *err)
{
	Postern__V1__SessionOpenRequest request = POSTERN__V1__SESSION_OPEN_REQUEST__INIT;
	struct primary primary;
	char client[ADDR_TEXT_SIZE];
	struct addr addr = {0};

	enum status status = args_address(&cli->args, "client", &addr, err);
	if (status == STATUS_OK)
		status = read_primary(&cli->args, &primary, err);
	if (status == STATUS_OK)
		status = args_duration(
			&cli->args, "idle-limit", IDLE_LIMIT_MAX_MS, &request.idle_limit_ms, err);
	if (status != STATUS_OK)
		return status;
	addr_format(&addr, client);
	request.gateway = cli_text(args_value(&cli->args, "gateway"));
	request.client = client;
	request.user = cli_text(args_value(&cli->args, "user"));
	request.protocol = cli_text(args_value(&cli->args, "protocol"));
	request.primary = primary.given ? &primary.flow : NULL;
	return cli_show(cli, service, "Open", &request.base, print_opened, err);
}

enum status session_close(struct cli *cli, struct error *err)
{
	Postern__V1__SessionCloseRequest request = POSTERN__V1__SESSION_CLOSE_REQUEST__INIT;

	request.id = cli_text(cli->args.operands[0]);
	return cli_show(cli, service, "Close", &request.base, print_closed, err);
}

static void list_row(struct grid *grid, const ProtobufCMessage *message)
{
	const Postern__V1__Session *session = (const Postern__V1__Session *)message;
	char opened[TEXT_TIME_SIZE];
	char flow[256] = "";

	text_time(session->opened_us, false, opened);
	if (session->primary != NULL)
		tell_flow(session->primary, flow, sizeof(flow));
	grid_cell(grid, "%s", session->id);
	grid_cell(grid, "%s", session->gateway);
	grid_cell(grid, "%s", session->client);
	grid_cell(grid, "%s", session->user);
	grid_cell(grid, "%s", session->filter);
	grid_cell(grid, "%llu", (unsigned long long)session->live_grants);
	grid_cell(grid, "%s", opened);
	grid_cell(grid, "%s", flow);
}

enum status session_list(struct cli *cli, struct error *err)
{
	static const char *const headers[] = {"SESSION", "GATEWAY", "CLIENT", "USER", "FILTER",
		"GRANTS", "OPENED", "PRIMARY CONNECTION", NULL};
	Postern__V1__SessionListRequest request = POSTERN__V1__SESSION_LIST_REQUEST__INIT;
	char client[ADDR_TEXT_SIZE];
	struct addr addr = {0};

	enum status status = args_address(&cli->args, "client", &addr, err);
	if (status != STATUS_OK)
		return status;
	addr_format(&addr, client);
	request.gateway = cli_text(args_value(&cli->args, "gateway"));
	request.client = client;
	return cli_list(
		cli, service, "List", &request.base, headers, list_row, "no open session", err);
}
