/* Filters, auditors, protocol definitions, rules. */
#include <stdio.h>
#include <string.h>

#include "client/cli/cli.h"
#include "common/config.h"
#include "postern/v1/policy.pb-c.h"

#define SERVICE &postern__v1__policy__descriptor
#define LIST_MAX 64

static char *text(const char *from)
{
	return (char *)(uintptr_t)(from ? from : "");
}

static void on_principal(struct cli *cli, const ProtobufCMessage *message, void *arg)
{
	const Postern__V1__AddPrincipalReply *reply =
		(const Postern__V1__AddPrincipalReply *)message;
	if (token_file_write(cli, arg, reply->token))
		return;
	if (cli->json)
		print_json(&reply->principal->base);
	else
		printf("%s %s added\n", reply->principal->role, reply->principal->name);
}

static int add_principal(struct cli *cli, const char *role)
{
	Postern__V1__Principal request = POSTERN__V1__PRINCIPAL__INIT;
	char path[4096];
	char *gateways[LIST_MAX];
	const char *most = args_get(cli, "max-grants");
	struct error err;
	if (most && parse_number(most, 1, 10000000, &request.max_grants, &err))
		return usage_error(cli, "--max-grants: %s", err.text);
	int code = token_file_prepare(cli, cli->operands[0], path, sizeof path);
	if (code)
		return code;
	request.name = text(cli->operands[0]);
	request.role = text(role);
	request.gateways = gateways;
	for (const char *gateway; request.n_gateways < LIST_MAX &&
		(gateway = args_nth(cli, "gateway", request.n_gateways));)
		gateways[request.n_gateways++] = text(gateway);
	return call(cli, SERVICE, "AddPrincipal", &request.base, false, on_principal, path);
}

int filter_add(struct cli *cli)
{
	return add_principal(cli, "filter");
}

int auditor_add(struct cli *cli)
{
	return add_principal(cli, "auditor");
}

static void on_filter(struct cli *cli, const ProtobufCMessage *message, void *arg)
{
	const Postern__V1__Principal *principal = (const Postern__V1__Principal *)message;
	bool *headed = arg;
	if (cli->json) {
		print_json(message);
		return;
	}
	if (!*headed)
		printf("%-24s %8s %10s  %s\n", "FILTER", "GRANTS", "LIMIT", "GATEWAYS");
	*headed = true;
	char most[24] = "default";
	if (principal->max_grants)
		snprintf(most, sizeof most, "%llu", (unsigned long long)principal->max_grants);
	printf("%-24s %8llu %10s  ", principal->name, (unsigned long long)principal->live_grants,
		most);
	for (size_t i = 0; i < principal->n_gateways; i++)
		printf("%s%s", i ? "," : "", principal->gateways[i]);
	puts(principal->n_gateways ? "" : "all");
}

int filter_list(struct cli *cli)
{
	Postern__V1__ListPrincipalsRequest request = POSTERN__V1__LIST_PRINCIPALS_REQUEST__INIT;
	bool headed = false;
	request.role = text("filter");
	int code = call(cli, SERVICE, "ListPrincipals", &request.base, true, on_filter, &headed);
	if (code == EXIT_GOOD && !headed && !cli->json)
		puts("no filters: add one with `postern filter add NAME`");
	return code;
}

static void on_protocol(struct cli *cli, const ProtobufCMessage *message, void *arg)
{
	const Postern__V1__Protocol *protocol = (const Postern__V1__Protocol *)message;
	(void)arg;
	if (cli->json) {
		print_json(message);
		return;
	}
	printf("%-16s %s  %s", protocol->name, protocol->guid,
		protocol->transport == 17 ? "udp" : "tcp");
	for (size_t i = 0; i < protocol->n_primary_ports; i++)
		printf("%s%u", i ? "," : " ", protocol->primary_ports[i]);
	printf("  by %s\n", protocol->owner);
}

int protocol_register(struct cli *cli)
{
	Postern__V1__Protocol request = POSTERN__V1__PROTOCOL__INIT;
	uint32_t ports[16];
	const char *transport = args_get(cli, "transport");
	struct error err;
	request.name = text(cli->operands[0]);
	request.guid = text(args_get(cli, "guid"));
	if (transport && strcmp(transport, "tcp") != 0 && strcmp(transport, "udp") != 0)
		return usage_error(cli, "--transport %s: tcp or udp", transport);
	request.transport = transport && transport[0] == 'u'
		? POSTERN__V1__TRANSPORT__TRANSPORT_UDP
		: POSTERN__V1__TRANSPORT__TRANSPORT_TCP;
	request.primary_ports = ports;
	for (const char *port; (port = args_nth(cli, "port", request.n_primary_ports));) {
		uint64_t number;
		if (request.n_primary_ports == 16)
			return usage_error(cli, "--port: at most 16");
		if (parse_number(port, 1, 65535, &number, &err))
			return usage_error(cli, "--port: %s", err.text);
		ports[request.n_primary_ports++] = (uint32_t)number;
	}
	return call(cli, SERVICE, "RegisterProtocol", &request.base, false, on_protocol, NULL);
}

int protocol_list(struct cli *cli)
{
	Postern__V1__ListProtocolsRequest request = POSTERN__V1__LIST_PROTOCOLS_REQUEST__INIT;
	return call(cli, SERVICE, "ListProtocols", &request.base, true, on_protocol, NULL);
}

static void on_rule(struct cli *cli, const ProtobufCMessage *message, void *arg)
{
	const Postern__V1__Rule *rule = (const Postern__V1__Rule *)message;
	(void)arg;
	if (cli->json)
		print_json(message);
	else
		printf("%-24s %-16s %-5s %s\n", rule->name,
			rule->type == POSTERN__V1__RULE_TYPE__RULE_TYPE_PROTOCOL
				? "protocol"
				: "site-and-content",
			rule->deny ? "deny" : "allow", rule->protocol[0] ? rule->protocol : "all");
}

int policy_allow(struct cli *cli)
{
	Postern__V1__AllowProtocolRequest request = POSTERN__V1__ALLOW_PROTOCOL_REQUEST__INIT;
	request.protocol = text(cli->operands[0]);
	request.deny = args_get(cli, "deny") != NULL;
	return call(cli, SERVICE, "AllowProtocol", &request.base, false, on_rule, NULL);
}

int policy_rules(struct cli *cli)
{
	Postern__V1__ListRulesRequest request = POSTERN__V1__LIST_RULES_REQUEST__INIT;
	return call(cli, SERVICE, "ListRules", &request.base, true, on_rule, NULL);
}
