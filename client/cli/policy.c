#include "client/cli/cli.h"
#include "client/cli/commands.h"
#include "client/text/names.h"
#include "postern/v1/policy.pb-c.h"

static void print_rule(struct cli *cli, const ProtobufCMessage *message)
{
	const Postern__V1__Rule *rule = (const Postern__V1__Rule *)message;

	fprintf(cli->out, "rule %s: %s %s\n", rule->name, rule->deny ? "deny" : "allow",
		rule->protocol[0] != '\0' ? rule->protocol : "every protocol");
}

enum status policy_allow_protocol(struct cli *cli, struct error *err)
{
	Postern__V1__AllowProtocolRequest request = POSTERN__V1__ALLOW_PROTOCOL_REQUEST__INIT;

	request.protocol = cli_text(cli->args.operands[0]);
	request.deny = args_has(&cli->args, "deny");
	return cli_show(cli, &postern__v1__policy__descriptor, "AllowProtocol", &request.base,
		print_rule, err);
}

static void list_row(struct grid *grid, const ProtobufCMessage *message)
{
	const Postern__V1__Rule *rule = (const Postern__V1__Rule *)message;
	char type[NAME_SIZE];

	name_of(&postern__v1__rule_type__descriptor, (int)rule->type, type);
	grid_cell(grid, "%s", rule->name);
	grid_cell(grid, "%s", type);
	grid_cell(grid, "%s", rule->deny ? "deny" : "allow");
	grid_cell(grid, "%s", rule->protocol[0] != '\0' ? rule->protocol : "all");
}

enum status policy_rules(struct cli *cli, struct error *err)
{
	static const char *const headers[] = {"RULE", "TYPE", "ACTION", "PROTOCOL", NULL};
	Postern__V1__ListRulesRequest request = POSTERN__V1__LIST_RULES_REQUEST__INIT;

	return cli_list(cli, &postern__v1__policy__descriptor, "ListRules", &request.base, headers,
		list_row, "no rule: everything is denied", err);
}
