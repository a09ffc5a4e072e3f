/* Adding a principal (filter, auditor): the part that their commands share. */
#ifndef POSTERN_CLI_PRINCIPAL_H
#define POSTERN_CLI_PRINCIPAL_H

#include "client/cli/cli.h"
#include "postern/v1/policy.pb-c.h"

/* The name is the command's operand; name and role of `principal` are filled in. */
enum status principal_add(
	struct cli *cli, Postern__V1__Principal *principal, const char *role, struct error *err);

#endif
