#include "client/cli/cli.h"
#include "client/cli/commands.h"
#include "client/cli/principal.h"
#include "client/cli/text.h"
#include "postern/v1/policy.pb-c.h"

enum status filter_add(struct cli *cli, struct error *err)
{
	Postern__V1__Principal principal = POSTERN__V1__PRINCIPAL__INIT;
	char *gateways[ARGS_MAX_VALUES];
	const char *gateway;

	while ((gateway = args_nth(&cli->args, "gateway", principal.n_gateways)) != NULL)
		gateways[principal.n_gateways++] = cli_text(gateway);
	principal.gateways = gateways;
	enum status status =
		args_number(&cli->args, "max-grants", INT64_MAX, &principal.max_grants, err);
	return status != STATUS_OK ? status : principal_add(cli, &principal, "filter", err);
}

static void list_row(struct grid *grid, const ProtobufCMessage *message)
{
	const Postern__V1__Principal *principal = (const Postern__V1__Principal *)message;
	char added[TEXT_TIME_SIZE];
	char gateways[256] = "all";
	size_t used = 0;

	for (size_t i = 0; i < principal->n_gateways; i++) {
		int n = snprintf(gateways + used, sizeof(gateways) - used, "%s%s",
			i == 0 ? "" : ",", principal->gateways[i]);
		if (n < 0 || (size_t)n >= sizeof(gateways) - used)
			break;
		used += (size_t)n;
	}
	text_time(principal->added_us, false, added);
	grid_cell(grid, "%s", principal->name);
	grid_cell(grid, "%s", gateways);
	grid_cell(grid, "%llu", (unsigned long long)principal->live_grants);
	if (principal->max_grants == 0)
		grid_cell(grid, "default");
	else
		grid_cell(grid, "%llu", (unsigned long long)principal->max_grants);
	grid_cell(grid, "%s", added);
}

enum status filter_list(struct cli *cli, struct error *err)
{
	static const char *const headers[] = {
		"FILTER", "GATEWAYS", "GRANTS", "AT MOST", "ADDED", NULL};
	Postern__V1__ListPrincipalsRequest request = POSTERN__V1__LIST_PRINCIPALS_REQUEST__INIT;

	request.role = cli_text("filter");
	return cli_list(cli, &postern__v1__policy__descriptor, "ListPrincipals", &request.base,
		headers, list_row, "no filter yet: postern filter add NAME", err);
}
