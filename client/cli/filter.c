#include <inttypes.h>
#include <string.h>

#include "client/cli/cli.h"
#include "client/cli/commands.h"
#include "client/cli/grant_terms.h"
#include "client/cli/principal.h"
#include "client/text/text.h"
#include "common/config.h"
#include "postern/v1/policy.pb-c.h"

/* ---- add ---- */

static size_t collect(const struct args *args, const char *name, char *ret_values[])
{
	const char *value;
	size_t count = 0;

	while ((value = args_nth(args, name, count)) != NULL)
		ret_values[count++] = cli_text(value);
	return count;
}

static bool is_network(const char *text)
{
	char address[ADDR_TEXT_SIZE];
	struct addr addr;
	uint64_t bits;
	const char *slash = strchr(text, '/');
	size_t length = slash != NULL ? (size_t)(slash - text) : sizeof(address);

	if (length >= sizeof(address))
		return false;
	memcpy(address, text, length);
	address[length] = '\0';
	return addr_parse(address, &addr) &&
		parse_number(slash + 1, 0, addr.family == ADDR_IPV4 ? 32 : 128, &bits, NULL) ==
		STATUS_OK;
}

static enum status collect_networks(const struct args *args, const char *name, char *ret_values[],
	size_t *ret_count, struct error *err)
{
	*ret_count = collect(args, name, ret_values);
	for (size_t i = 0; i < *ret_count; i++)
		if (!is_network(ret_values[i]))
			return error_field(err, name,
				"--%s: '%.64s' is no network: write 192.0.2.0/24 or 2001:db8::/32",
				name, ret_values[i]);
	return STATUS_OK;
}

enum status filter_add(struct cli *cli, struct error *err)
{
	Postern__V1__Principal principal = POSTERN__V1__PRINCIPAL__INIT;
	const struct args *args = &cli->args;
	char *gateways[ARGS_MAX_VALUES], *clients[ARGS_MAX_VALUES];
	char *destinations[ARGS_MAX_VALUES], *protocols[ARGS_MAX_VALUES];

	principal.gateways = gateways;
	principal.clients = clients;
	principal.destinations = destinations;
	principal.protocols = protocols;
	principal.n_gateways = collect(args, "gateway", gateways);
	principal.n_protocols = collect(args, "protocol", protocols);
	enum status status =
		collect_networks(args, "client-net", clients, &principal.n_clients, err);
	if (status == STATUS_OK)
		status = collect_networks(
			args, "destination-net", destinations, &principal.n_destinations, err);
	if (status == STATUS_OK)
		status = args_number(args, "max-grants", INT64_MAX, &principal.max_grants, err);
	if (status == STATUS_OK)
		status = args_number(
			args, "grants-per-second", INT64_MAX, &principal.grants_per_second, err);
	if (status == STATUS_OK)
		status = args_duration(args, "max-lifetime", GRANT_LIFETIME_MAX_MS,
			&principal.max_lifetime_ms, err);
	return status != STATUS_OK ? status : principal_add(cli, &principal, "filter", err);
}

/* ---- list ---- */

static void names_cell(struct grid *grid, char *const *names, size_t count)
{
	char text[256] = "all", rest[32] = "";
	size_t used = 0;

	for (size_t i = 0; i < count; i++) {
		size_t need = strlen(names[i]) + (i == 0 ? 0 : 1);
		if (need >= sizeof(text) - used) {
			snprintf(rest, sizeof(rest), " and %zu more", count - i);
			break;
		}
		snprintf(text + used, sizeof(text) - used, "%s%s", i == 0 ? "" : ",", names[i]);
		used += need;
	}
	grid_cell(grid, "%s%s", text, rest);
}

static void limit_cell(struct grid *grid, uint64_t limit, const char *none)
{
	if (limit == 0)
		grid_cell(grid, "%s", none);
	else
		grid_cell(grid, "%" PRIu64, limit);
}

static void list_row(struct grid *grid, const ProtobufCMessage *message)
{
	const Postern__V1__Principal *principal = (const Postern__V1__Principal *)message;
	char added[TEXT_TIME_SIZE], longest[32] = "default";

	if (principal->max_lifetime_ms != 0)
		format_duration(principal->max_lifetime_ms, longest, sizeof(longest));
	text_time(principal->added_us, false, added);
	grid_cell(grid, "%s", principal->name);
	names_cell(grid, principal->gateways, principal->n_gateways);
	names_cell(grid, principal->clients, principal->n_clients);
	names_cell(grid, principal->destinations, principal->n_destinations);
	names_cell(grid, principal->protocols, principal->n_protocols);
	grid_cell(grid, "%" PRIu64, principal->live_grants);
	limit_cell(grid, principal->max_grants, "default");
	limit_cell(grid, principal->grants_per_second, "any");
	grid_cell(grid, "%s", longest);
	grid_cell(grid, "%s", added);
}

enum status filter_list(struct cli *cli, struct error *err)
{
	static const char *const headers[] = {"FILTER", "GATEWAYS", "CLIENTS", "DESTINATIONS",
		"PROTOCOLS", "GRANTS", "AT MOST", "A SECOND", "LONGEST", "ADDED", NULL};
	Postern__V1__ListPrincipalsRequest request = POSTERN__V1__LIST_PRINCIPALS_REQUEST__INIT;

	request.role = cli_text("filter");
	return cli_list(cli, &postern__v1__policy__descriptor, "ListPrincipals", &request.base,
		headers, list_row, "no filter yet: postern filter add NAME", err);
}
