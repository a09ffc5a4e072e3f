#include "client/cli/cli.h"
#include "client/cli/commands.h"
#include "client/cli/names.h"
#include "client/cli/text.h"
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

/* The primary connection is given whole or not at all. */
static enum status read_primary(const struct cli *cli, Postern__V1__Flow *flow,
	char client[ADDR_TEXT_SIZE], char remote[ADDR_TEXT_SIZE], bool *ret_given,
	struct error *err)
{
	struct endpoint from, to;
	int transport = POSTERN__V1__TRANSPORT__TRANSPORT_TCP;
	bool has_from = args_has(&cli->args, "from");

	*ret_given = has_from;
	if (has_from != args_has(&cli->args, "to"))
		return error_field(err, has_from ? "to" : "from",
			"--from and --to are the two sides of one connection: give both");
	if (!has_from)
		return STATUS_OK;
	enum status status = args_endpoint(&cli->args, "from", true, &from, err);
	if (status == STATUS_OK)
		status = args_endpoint(&cli->args, "to", true, &to, err);
	if (status == STATUS_OK)
		status = args_choice(&cli->args, "transport", &transport, err);
	if (status != STATUS_OK)
		return status;
	addr_format(&from.addr, client);
	addr_format(&to.addr, remote);
	flow->client = client;
	flow->client_port = from.port;
	flow->remote = remote;
	flow->remote_port = to.port;
	flow->transport = (Postern__V1__Transport)transport;
	return STATUS_OK;
}

enum status session_open(struct cli *cli, struct error *err)
{
	Postern__V1__SessionOpenRequest request = POSTERN__V1__SESSION_OPEN_REQUEST__INIT;
	Postern__V1__Flow primary = POSTERN__V1__FLOW__INIT;
	char client[ADDR_TEXT_SIZE], from[ADDR_TEXT_SIZE], to[ADDR_TEXT_SIZE];
	struct addr addr = {0};
	bool has_primary = false;

	enum status status = args_address(&cli->args, "client", &addr, err);
	if (status == STATUS_OK)
		status = read_primary(cli, &primary, from, to, &has_primary, err);
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
	request.primary = has_primary ? &primary : NULL;
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
