/* Reads of grants, and their end. What may be asked again is in grant_ask.c. */
#include "client/cli/cli.h"
#include "client/cli/commands.h"
#include "client/cli/grant_text.h"
#include "client/cli/story.h"
#include "postern/v1/audit.pb-c.h"
#include "postern/v1/grants.pb-c.h"

static const ProtobufCServiceDescriptor *const service = &postern__v1__grants__descriptor;

/* ---- list ---- */

static void list_row(struct grid *grid, const ProtobufCMessage *message)
{
	const Postern__V1__Grant *grant = ((const Postern__V1__GrantReply *)message)->grant;
	char state[160], text[512], connections[64];

	if (grant == NULL)
		return;
	struct story_door door = story_door_of_grant(grant);
	grant_tell_state(grant, state, sizeof(state));
	grant_tell_connections(grant, connections, sizeof(connections));
	story_door(&door, text, sizeof(text));
	grid_cell(grid, "%s", grant->id);
	grid_cell(grid, "%s", state);
	grid_cell(grid, "%s", connections);
	grid_cell(grid, "%s", grant->gateway);
	grid_cell(grid, "%s", text);
	grid_cell(grid, "%s", grant->protocol);
	grid_cell(grid, "%s", grant->filter);
}

enum status grant_list(struct cli *cli, struct error *err)
{
	static const char *const headers[] = {
		"GRANT", "STATE", "USES", "GATEWAY", "DOOR", "PROTOCOL", "FILTER", NULL};
	Postern__V1__GrantListRequest request = POSTERN__V1__GRANT_LIST_REQUEST__INIT;
	char client[ADDR_TEXT_SIZE];
	struct addr addr = {0};
	const char *session = NULL;
	uint64_t limit = 0;

	enum status status = args_address(&cli->args, "client", &addr, err);
	if (status == STATUS_OK)
		status = args_id(&cli->args, "session", &session, err);
	if (status == STATUS_OK)
		status = args_number(&cli->args, "limit", UINT32_MAX, &limit, err);
	if (status != STATUS_OK)
		return status;
	addr_format(&addr, client);
	request.gateway = cli_text(args_value(&cli->args, "gateway"));
	request.client = client;
	request.session = cli_text(session);
	request.all = args_has(&cli->args, "all");
	request.limit = (uint32_t)limit;
	return cli_list(cli, service, "List", &request.base, headers, list_row,
		request.all ? "no grant" : "no live grant (--all shows those that ended)", err);
}

/* ---- show ---- */

struct life {
	struct cli *cli;
	int64_t start_us; /* of its first entry, 0 before that */
};

static bool tell_life(void *arg, const ProtobufCMessage *message)
{
	struct life *life = arg;
	const Postern__V1__AuditPage *page = (const Postern__V1__AuditPage *)message;

	for (size_t i = 0; i < page->n_entries; i++) {
		if (life->start_us == 0) {
			life->start_us = page->entries[i]->time_us;
			fputs("  life\n", life->cli->out);
		}
		story_chapter(life->cli->out, page->entries[i], life->start_us);
	}
	return !ferror(life->cli->out);
}

/* The journal is for administrators and auditors; a filter is shown its grant without the story. */
static enum status print_life(struct cli *cli, struct error *err)
{
	Postern__V1__AuditQuery query = POSTERN__V1__AUDIT_QUERY__INIT;
	struct life life = {.cli = cli};
	struct client_call call = {
		.service = &postern__v1__audit__descriptor,
		.method = "Query",
		.request = &query.base,
		.stream = true,
		.deadline_us = cli->deadline_us,
		.on_message = tell_life,
		.arg = &life,
	};

	query.grant = cli_text(cli->args.operands[0]);
	enum status status = client_call(cli->client, &call, err);
	return status == STATUS_PERMISSION_DENIED ? STATUS_OK : status;
}

enum status grant_show(struct cli *cli, struct error *err)
{
	Postern__V1__GrantShowRequest request = POSTERN__V1__GRANT_SHOW_REQUEST__INIT;

	request.id = cli_text(cli->args.operands[0]);
	enum status status = cli_show(cli, service, "Show", &request.base, grant_print, err);
	return status != STATUS_OK || cli_is_structured(cli) ? status : print_life(cli, err);
}

/* ---- cancel ---- */

static void print_cancelled_bundle(struct cli *cli, const ProtobufCMessage *message)
{
	const Postern__V1__BundleReply *reply = (const Postern__V1__BundleReply *)message;

	for (size_t i = 0; i < reply->n_grants; i++)
		grant_print_state(cli, &reply->grants[i]->base);
}

static enum status cancel_bundle(struct cli *cli, const char *bundle, struct error *err)
{
	Postern__V1__BundleCancelRequest request = POSTERN__V1__BUNDLE_CANCEL_REQUEST__INIT;

	request.bundle = cli_text(bundle);
	request.cut = args_has(&cli->args, "cut");
	return cli_show(cli, service, "CancelBundle", &request.base, print_cancelled_bundle, err);
}

enum status grant_cancel(struct cli *cli, struct error *err)
{
	Postern__V1__GrantCancelRequest request = POSTERN__V1__GRANT_CANCEL_REQUEST__INIT;
	bool has_id = cli->args.operand_count != 0;
	const char *bundle = NULL;

	enum status status = args_id(&cli->args, "bundle", &bundle, err);
	if (status != STATUS_OK)
		return status;
	if (has_id == (bundle != NULL))
		return error_field(err, has_id ? "bundle" : "id",
			has_id ? "a grant's ID and --bundle: give one of them"
			       : "say which: a grant's ID, or --bundle ID");
	if (bundle != NULL)
		return cancel_bundle(cli, bundle, err);
	request.id = cli_text(cli->args.operands[0]);
	request.cut = args_has(&cli->args, "cut");
	return cli_show(cli, service, "Cancel", &request.base, grant_print_state, err);
}
