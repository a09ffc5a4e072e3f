#include "client/cli/commands.h"
#include "client/cli/principal.h"

enum status auditor_add(struct cli *cli, struct error *err)
{
	Postern__V1__Principal principal = POSTERN__V1__PRINCIPAL__INIT;

	return principal_add(cli, &principal, "auditor", err);
}
