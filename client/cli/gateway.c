#include <stdio.h>
#include <string.h>

#include "client/cli/cli.h"
#include "postern/v1/gateways.pb-c.h"

#define SERVICE &postern__v1__gateways__descriptor
#define LABELS_MAX 64

static void on_added(struct cli *cli, const ProtobufCMessage *message, void *arg)
{
	const Postern__V1__GatewayAddReply *reply = (const Postern__V1__GatewayAddReply *)message;
	if (token_file_write(cli, arg, reply->token))
		return;
	if (cli->json)
		print_json(&reply->gateway->base);
	else
		printf("gateway %s added: give its agent this token and the server's ca.pem\n",
			reply->gateway->name);
}

int gateway_add(struct cli *cli)
{
	Postern__V1__GatewayAddRequest request = POSTERN__V1__GATEWAY_ADD_REQUEST__INIT;
	char path[4096];
	char *labels[LABELS_MAX];
	int code = token_file_prepare(cli, cli->operands[0], path, sizeof path);
	if (code)
		return code;
	request.name = (char *)(uintptr_t)cli->operands[0];
	request.labels = labels;
	for (const char *label; request.n_labels < LABELS_MAX &&
		(label = args_nth(cli, "label", request.n_labels));)
		labels[request.n_labels++] = (char *)(uintptr_t)label;
	return call(cli, SERVICE, "Add", &request.base, false, on_added, path);
}

static void on_listed(struct cli *cli, const ProtobufCMessage *message, void *arg)
{
	const Postern__V1__Gateway *gateway = (const Postern__V1__Gateway *)message;
	bool *headed = arg;
	if (cli->json) {
		print_json(message);
		return;
	}
	if (!*headed)
		printf("%-20s %-12s %-8s %7s %7s  %s\n", "GATEWAY", "STATE", "MODE", "GRANTS",
			"FLOWS", "AGENT");
	*headed = true;
	printf("%-20s %-12s %-8s %7llu %7llu  %s%s\n", gateway->name,
		gateway->connected ? "connected" : "away", gateway->mode,
		(unsigned long long)gateway->live_grants, (unsigned long long)gateway->open_flows,
		gateway->agent, gateway->n_problems ? "  (has problems: see gateway show)" : "");
}

int gateway_list(struct cli *cli)
{
	Postern__V1__GatewayListRequest request = POSTERN__V1__GATEWAY_LIST_REQUEST__INIT;
	bool headed = false;
	int code = call(cli, SERVICE, "List", &request.base, true, on_listed, &headed);
	if (code == EXIT_GOOD && !headed && !cli->json)
		puts("no gateways: add one with `postern gateway add NAME`");
	return code;
}

static void on_shown(struct cli *cli, const ProtobufCMessage *message, void *arg)
{
	const Postern__V1__Gateway *gateway = (const Postern__V1__Gateway *)message;
	char joined[40], lost[40];
	(void)arg;
	if (cli->json) {
		print_json(message);
		return;
	}
	print_time(gateway->joined_us, joined, sizeof joined);
	print_time(gateway->lost_us, lost, sizeof lost);
	printf("gateway    %s\nstate      %s\nmode       %s\nagent      %s\nkernel     %s\nboot id "
	       "   %s\njoined     %s\nlost       %s\n"
	       "grants     %llu live\nflows      %llu open\n",
		gateway->name, gateway->connected ? "connected" : "away", gateway->mode,
		gateway->agent, gateway->kernel, gateway->boot_id, joined, lost,
		(unsigned long long)gateway->live_grants, (unsigned long long)gateway->open_flows);
	for (size_t i = 0; i < gateway->n_labels; i++)
		printf("label      %s\n", gateway->labels[i]);
	for (size_t i = 0; i < gateway->n_addresses; i++)
		printf("address    %s\n", gateway->addresses[i]);
	for (size_t i = 0; i < gateway->n_problems; i++)
		printf("problem    %s\n", gateway->problems[i]);
}

int gateway_show(struct cli *cli)
{
	Postern__V1__GatewayShowRequest request = POSTERN__V1__GATEWAY_SHOW_REQUEST__INIT;
	request.name = (char *)(uintptr_t)cli->operands[0];
	return call(cli, SERVICE, "Show", &request.base, false, on_shown, NULL);
}
