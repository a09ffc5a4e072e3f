#include "client/cli/principal.h"

static const char *token_of(const ProtobufCMessage *message)
{
	return ((const Postern__V1__AddPrincipalReply *)message)->token;
}

enum status principal_add(
	struct cli *cli, Postern__V1__Principal *principal, const char *role, struct error *err)
{
	const char *name = cli->args.operands[0];
	enum status status = cli_check_name(name, err);

	if (status != STATUS_OK)
		return status;
	principal->name = cli_text(name);
	principal->role = cli_text(role);
	return cli_issue_token(cli, &postern__v1__policy__descriptor, "AddPrincipal",
		&principal->base, token_of, role, name, err);
}
