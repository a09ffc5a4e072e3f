#include "common/version.h"
#include "client/cli/cli.h"
#include "client/cli/commands.h"
#include "proto/rpc/rpc.h"

enum status version_show(struct cli *cli, struct error *err)
{
	if (!args_has(&cli->args, "remote")) {
		const struct json_extra extra[] = {{"version", POSTERN_VERSION}, {0}};
		if (cli_is_structured(cli))
			cli_message(cli, NULL, extra);
		else
			fprintf(cli->out, "postern %s\n", POSTERN_VERSION);
		return STATUS_OK;
	}
	enum status status = cli_connect(cli, err);
	if (status != STATUS_OK)
		return status;
	const struct rpc_welcome *welcome = client_welcome(cli->client);
	if (cli_is_structured(cli)) {
		const struct json_extra extra[] = {{"version", POSTERN_VERSION},
			{"server", welcome->server}, {"principal", welcome->principal},
			{"role", welcome->role}, {0}};
		cli_message(cli, NULL, extra);
		return STATUS_OK;
	}
	fprintf(cli->out, "postern %s\n", POSTERN_VERSION);
	cli_field(cli->out, "server", "%s", welcome->server);
	cli_field(cli->out, "you", "%s (%s)", welcome->principal, welcome->role);
	return STATUS_OK;
}
