#include <inttypes.h>
#include <string.h>

#include "client/cli/cli.h"
#include "client/cli/commands.h"
#include "client/text/text.h"
#include "common/clock.h"
#include "postern/v1/gateways.pb-c.h"

static const ProtobufCServiceDescriptor *const service = &postern__v1__gateways__descriptor;

static const char *token_of(const ProtobufCMessage *message)
{
	return ((const Postern__V1__GatewayAddReply *)message)->token;
}

enum status gateway_add(struct cli *cli, struct error *err)
{
	Postern__V1__GatewayAddRequest request = POSTERN__V1__GATEWAY_ADD_REQUEST__INIT;
	const char *name = cli->args.operands[0];
	char *labels[ARGS_MAX_VALUES];
	const char *label;

	enum status status = cli_check_name(name, err);
	if (status != STATUS_OK)
		return status;
	while ((label = args_nth(&cli->args, "label", request.n_labels)) != NULL)
		labels[request.n_labels++] = cli_text(label);
	request.name = cli_text(name);
	request.labels = labels;
	return cli_issue_token(cli, service, "Add", &request.base, token_of, "gateway", name, err);
}

/* "connected for 3m2s", "lost 10s ago", "never joined": by this machine's clock. */
static void tell_link(const Postern__V1__Gateway *gateway, char *text, size_t size)
{
	int64_t since_us = gateway->connected ? gateway->joined_us : gateway->lost_us;
	int64_t past_us = clock_real_us() - since_us;
	char span[TEXT_AMOUNT_SIZE];

	if (since_us == 0) {
		snprintf(text, size, "%s", gateway->connected ? "connected" : "never joined");
		return;
	}
	/* Whole seconds, and one at least. */
	text_span(past_us > 1000000 ? past_us / 1000000 * 1000000 : 1000000, span);
	snprintf(text, size, gateway->connected ? "connected for %s" : "lost %s ago", span);
}

/* "14"; "12, behind 14" when its kernel does not obey what is in force yet; "" when its server
 * tells nothing of it. */
static void tell_revision(const Postern__V1__Gateway *gateway, char *text, size_t size)
{
	uint64_t obeyed = gateway->revision, current = gateway->current_revision;

	if (obeyed == current && current == 0)
		text[0] = '\0';
	else if (obeyed == 0)
		snprintf(text, size, "none, behind %" PRIu64, current);
	else if (obeyed == current || current == 0)
		snprintf(text, size, "%" PRIu64, obeyed);
	else
		snprintf(text, size, "%" PRIu64 ", behind %" PRIu64, obeyed, current);
}

static void list_row(struct grid *grid, const ProtobufCMessage *message)
{
	const Postern__V1__Gateway *gateway = (const Postern__V1__Gateway *)message;
	char labels[256];
	char link[80], revision[64];

	cli_join(gateway->labels, gateway->n_labels, labels, sizeof(labels));
	tell_link(gateway, link, sizeof(link));
	tell_revision(gateway, revision, sizeof(revision));
	grid_cell(grid, "%s", gateway->name);
	grid_cell(grid, "%s", link);
	grid_cell(grid, "%s", gateway->mode);
	grid_cell(grid, "%s", revision);
	grid_cell(grid, "%llu", (unsigned long long)gateway->live_grants);
	grid_cell(grid, "%llu", (unsigned long long)gateway->open_flows);
	grid_cell(grid, "%zu", gateway->n_problems);
	grid_cell(grid, "%s", labels);
}

enum status gateway_list(struct cli *cli, struct error *err)
{
	static const char *const headers[] = {"GATEWAY", "LINK", "MODE", "REVISION", "GRANTS",
		"FLOWS", "PROBLEMS", "LABELS", NULL};
	Postern__V1__GatewayListRequest request = POSTERN__V1__GATEWAY_LIST_REQUEST__INIT;

	return cli_list(cli, service, "List", &request.base, headers, list_row,
		"no gateway yet: postern gateway add NAME", err);
}

static void print_gateway(struct cli *cli, const ProtobufCMessage *message)
{
	const Postern__V1__Gateway *gateway = (const Postern__V1__Gateway *)message;
	char text[512];
	char time[TEXT_TIME_SIZE];

	tell_link(gateway, text, sizeof(text));
	fprintf(cli->out, "gateway %s: %s\n", gateway->name, text);
	cli_join(gateway->labels, gateway->n_labels, text, sizeof(text));
	cli_field(cli->out, "labels", "%s", text);
	cli_field(cli->out, "mode", "%s", gateway->mode);
	tell_revision(gateway, text, sizeof(text));
	cli_field(cli->out, "revision", "%s", text);
	cli_field(cli->out, "agent", "%s", gateway->agent);
	cli_field(cli->out, "kernel", "%s", gateway->kernel);
	cli_field(cli->out, "renewal", "%s", gateway->renewal);
	cli_field(cli->out, "boot", "%s", gateway->boot_id);
	cli_join(gateway->addresses, gateway->n_addresses, text, sizeof(text));
	cli_field(cli->out, "addresses", "%s", text);
	cli_field(cli->out, "live grants", "%llu", (unsigned long long)gateway->live_grants);
	cli_field(cli->out, "open flows", "%llu", (unsigned long long)gateway->open_flows);
	text_time(gateway->added_us, false, time);
	cli_field(cli->out, "added", "%s", time);
	text_time(gateway->joined_us, false, time);
	cli_field(cli->out, "joined", "%s", gateway->joined_us != 0 ? time : "");
	text_time(gateway->lost_us, false, time);
	cli_field(cli->out, "lost", "%s", gateway->lost_us != 0 ? time : "");
	for (size_t i = 0; i < gateway->n_problems; i++)
		cli_field(cli->out, "problem", "%s", gateway->problems[i]);
}

enum status gateway_show(struct cli *cli, struct error *err)
{
	Postern__V1__GatewayShowRequest request = POSTERN__V1__GATEWAY_SHOW_REQUEST__INIT;

	request.name = cli_text(cli->args.operands[0]);
	return cli_show(cli, service, "Show", &request.base, print_gateway, err);
}
