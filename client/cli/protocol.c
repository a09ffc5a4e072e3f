#include <inttypes.h>

#include "client/cli/cli.h"
#include "client/cli/commands.h"
#include "client/text/names.h"
#include "common/config.h"
#include "common/id.h"
#include "postern/v1/policy.pb-c.h"

#define PORTS_MAX 1024 /* of a range; the server's limit too */

static void join_ports(const Postern__V1__Protocol *protocol, char *text, size_t size)
{
	size_t used = 0;

	text[0] = '\0';
	for (size_t i = 0; i < protocol->n_primary_ports; i++) {
		int n = snprintf(text + used, size - used, "%s%u", i == 0 ? "" : ",",
			protocol->primary_ports[i]);
		if (n < 0 || (size_t)n >= size - used)
			return;
		used += (size_t)n;
	}
}

/* "revision 3" of a definition that stands in the policy document, else who registered it. */
static void origin_cell(struct grid *grid, const Postern__V1__Protocol *protocol)
{
	if (protocol->revision != 0)
		grid_cell(grid, "revision %" PRIu64, protocol->revision);
	else
		grid_cell(grid, "%s", protocol->owner);
}

static void print_protocol(struct cli *cli, const ProtobufCMessage *message)
{
	const Postern__V1__Protocol *protocol = (const Postern__V1__Protocol *)message;

	fprintf(cli->out, "protocol %s registered: %s\n", protocol->name, protocol->guid);
}

enum status protocol_register(struct cli *cli, struct error *err)
{
	Postern__V1__Protocol protocol = POSTERN__V1__PROTOCOL__INIT;
	uint32_t ports[ARGS_MAX_VALUES];
	const char *port;
	const char *guid = NULL;
	int transport = POSTERN__V1__TRANSPORT__TRANSPORT_TCP;
	int remotes = POSTERN__V1__REMOTE_SCOPE__REMOTE_SCOPE_ANY;
	uint64_t max_ports = 0;

	enum status status = args_choice(&cli->args, "transport", &transport, err);
	if (status == STATUS_OK)
		status = args_choice(&cli->args, "remotes", &remotes, err);
	if (status == STATUS_OK)
		status = args_number(&cli->args, "max-ports", PORTS_MAX, &max_ports, err);
	if (status == STATUS_OK)
		status = args_id(&cli->args, "guid", &guid, err);
	if (status != STATUS_OK)
		return status;
	while ((port = args_nth(&cli->args, "port", protocol.n_primary_ports)) != NULL) {
		uint64_t number;
		if (parse_number(port, 1, 65535, &number, NULL) != STATUS_OK)
			return error_field(
				err, "port", "--port: '%.64s' is no port: from 1 to 65535", port);
		ports[protocol.n_primary_ports++] = (uint32_t)number;
	}
	protocol.name = cli_text(cli->args.operands[0]);
	protocol.guid = cli_text(guid);
	protocol.transport = (Postern__V1__Transport)transport;
	protocol.primary_ports = ports;
	protocol.shared = args_has(&cli->args, "shared");
	protocol.remote_scope = (Postern__V1__RemoteScope)remotes;
	protocol.low_ports = args_has(&cli->args, "low-ports");
	protocol.max_ports = (uint32_t)max_ports;
	return cli_show(cli, &postern__v1__policy__descriptor, "RegisterProtocol", &protocol.base,
		print_protocol, err);
}

static void list_row(struct grid *grid, const ProtobufCMessage *message)
{
	const Postern__V1__Protocol *protocol = (const Postern__V1__Protocol *)message;
	char transport[NAME_SIZE], remotes[NAME_SIZE];
	char ports[128], secondary[256], addresses[256];

	name_of(&postern__v1__transport__descriptor, (int)protocol->transport, transport);
	name_of(&postern__v1__remote_scope__descriptor, (int)protocol->remote_scope, remotes);
	join_ports(protocol, ports, sizeof(ports));
	cli_join(protocol->secondary_ports, protocol->n_secondary_ports, secondary,
		sizeof(secondary));
	cli_join(protocol->secondary_addresses, protocol->n_secondary_addresses, addresses,
		sizeof(addresses));
	grid_cell(grid, "%s", protocol->name);
	grid_cell(grid, "%s", transport);
	grid_cell(grid, "%s", ports);
	grid_cell(grid, "%s", remotes);
	grid_cell(grid, "%s", protocol->low_ports ? "yes" : "no");
	grid_cell(grid, "%u", protocol->max_ports > 1 ? protocol->max_ports : 1);
	grid_cell(grid, "%s", secondary);
	grid_cell(grid, "%s", addresses);
	origin_cell(grid, protocol);
	grid_cell(grid, "%s", protocol->shared ? "yes" : "no");
	grid_cell(grid, "%s", protocol->guid);
}

enum status protocol_list(struct cli *cli, struct error *err)
{
	static const char *const headers[] = {"PROTOCOL", "TRANSPORT", "PORTS", "REMOTES",
		"LOW PORTS", "RANGE", "TO PORTS", "TO ADDRESSES", "OWNER", "SHARED", "GUID", NULL};
	Postern__V1__ListProtocolsRequest request = POSTERN__V1__LIST_PROTOCOLS_REQUEST__INIT;

	return cli_list(cli, &postern__v1__policy__descriptor, "ListProtocols", &request.base,
		headers, list_row,
		"no protocol definition yet: postern protocol register NAME --transport tcp", err);
}
