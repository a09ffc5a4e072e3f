/* grant request retries: the request id makes a repeated request the same grant (I6), so a lost
 * connection is made again and the question asked again until the deadline. */
#include <inttypes.h>
#include <string.h>

#include "client/cli/cli.h"
#include "client/cli/commands.h"
#include "client/cli/names.h"
#include "client/cli/story.h"
#include "client/cli/text.h"
#include "common/clock.h"
#include "common/config.h"
#include "common/id.h"
#include "postern/v1/audit.pb-c.h"
#include "postern/v1/grants.pb-c.h"

#define LIFETIME_MAX_MS                                                                            \
	(7 * 24 * 3600 *                                                                           \
		1000ULL) /* the server's cap is lower; this only catches slips of the pen */
#define CONTEXT_MAX 4096

static const ProtobufCServiceDescriptor *const service = &postern__v1__grants__descriptor;

/* "active, 59.8s left", "expired (unused-timeout)" */
static void tell_state(const Postern__V1__Grant *grant, char *text, size_t size)
{
	char state[NAME_SIZE], reason[NAME_SIZE], left[32];

	name_of(&postern__v1__grant_state__descriptor, (int)grant->state, state);
	name_of(&postern__v1__end_reason__descriptor, (int)grant->reason, reason);
	format_duration(grant->left_ms, left, sizeof(left));
	if (reason[0] != '\0')
		snprintf(text, size, "%s (%s)", state, reason);
	else if (grant->left_ms != 0)
		snprintf(text, size, "%s, %s left", state, left);
	else
		snprintf(text, size, "%s", state);
}

static void tell_connections(const Postern__V1__Grant *grant, char *text, size_t size)
{
	if (grant->max_connections == 0)
		snprintf(text, size, "%" PRIu64 " of any number", grant->connections);
	else
		snprintf(text, size, "%" PRIu64 " of %" PRIu64, grant->connections,
			grant->max_connections);
}

static void print_door(struct cli *cli, const Postern__V1__Grant *grant)
{
	char text[256];

	story_door(grant->client, grant->remote, grant->remote_port, grant->transport, text,
		sizeof(text));
	cli_field(cli->out, "door", "%s, on gateway %s", text, grant->gateway);
}

static void print_timing(struct cli *cli, const Postern__V1__GrantTiming *timing)
{
	char decide[TEXT_AMOUNT_SIZE], commit[TEXT_AMOUNT_SIZE], push[TEXT_AMOUNT_SIZE],
		kernel[TEXT_AMOUNT_SIZE];

	if (timing == NULL ||
		timing->decide_us + timing->commit_us + timing->push_us + timing->kernel_us == 0)
		return;
	text_span((int64_t)timing->decide_us, decide);
	text_span((int64_t)timing->commit_us, commit);
	text_span((int64_t)timing->push_us, push);
	text_span((int64_t)timing->kernel_us, kernel);
	cli_field(cli->out, "time taken", "decide %s, commit %s, push %s, kernel %s", decide,
		commit, push, kernel);
}

static void print_granted(struct cli *cli, const ProtobufCMessage *message)
{
	const Postern__V1__GrantReply *reply = (const Postern__V1__GrantReply *)message;
	char state[160];

	tell_state(reply->grant, state, sizeof(state));
	fprintf(cli->out, "granted %s: %s\n", reply->grant->id, state);
	print_door(cli, reply->grant);
	cli_field(cli->out, "request id", "%s", reply->grant->request_id);
	print_timing(cli, reply->timing);
}

/* ---- request ---- */

/* Texts that the request points to. */
struct request_texts {
	char client[ADDR_TEXT_SIZE], remote[ADDR_TEXT_SIZE], external[ADDR_TEXT_SIZE];
	char request_id[ID_TEXT_SIZE];
};

static enum status read_addresses(const struct args *args, Postern__V1__GrantRequest *request,
	struct request_texts *texts, struct error *err)
{
	struct addr client = {0};
	struct endpoint to = {0}, external = {0};

	enum status status = args_address(args, "client", &client, err);
	if (status == STATUS_OK)
		status = args_endpoint(args, "to", true, &to, err);
	if (status == STATUS_OK)
		status = args_endpoint(args, "external", false, &external, err);
	if (status != STATUS_OK)
		return status;
	addr_format(&client, texts->client);
	addr_format(&to.addr, texts->remote);
	addr_format(&external.addr, texts->external);
	request->client = texts->client;
	request->remote = texts->remote;
	request->remote_port = to.port;
	request->external = texts->external;
	request->external_port = external.port;
	return STATUS_OK;
}

static enum status read_terms(
	const struct args *args, Postern__V1__GrantRequest *request, struct error *err)
{
	int transport = POSTERN__V1__TRANSPORT__TRANSPORT_TCP;
	int wait = POSTERN__V1__WAIT__WAIT_INSTALLED;
	const char *flag;

	enum status status = args_choice(args, "transport", &transport, err);
	if (status == STATUS_OK)
		status = args_choice(args, "wait", &wait, err);
	if (status == STATUS_OK)
		status = args_duration(
			args, "lifetime", LIFETIME_MAX_MS, &request->lifetime_ms, err);
	if (status == STATUS_OK)
		status = args_number(
			args, "max-connections", INT64_MAX, &request->max_connections, err);
	if (status != STATUS_OK)
		return status;
	for (size_t i = 0; (flag = args_nth(args, "flag", i)) != NULL; i++) {
		int bit;
		if (name_parse(&postern__v1__grant_flag__descriptor, flag, &bit))
			request->flags |= (uint32_t)bit;
	}
	request->transport = (Postern__V1__Transport)transport;
	request->wait = (Postern__V1__Wait)wait;
	return STATUS_OK;
}

static enum status read_request(const struct args *args, Postern__V1__GrantRequest *request,
	struct request_texts *texts, struct error *err)
{
	const char *session = NULL, *request_id = NULL;
	const char *context = args_value(args, "context");

	enum status status = read_addresses(args, request, texts, err);
	if (status == STATUS_OK)
		status = read_terms(args, request, err);
	if (status == STATUS_OK)
		status = args_id(args, "session", &session, err);
	if (status == STATUS_OK)
		status = args_id(args, "request-id", &request_id, err);
	if (status != STATUS_OK)
		return status;
	if (session == NULL && request->client[0] == '\0')
		return error_field(err, "client",
			"--client ADDR or --session ID is missing: say who may pass");
	if (context != NULL && strlen(context) > CONTEXT_MAX)
		return error_field(err, "context", "--context is %zu bytes long: at most %d",
			strlen(context), CONTEXT_MAX);
	struct id id = id_new();
	if (request_id != NULL)
		id_parse(request_id, &id);
	id_format(&id, texts->request_id);
	request->request_id = texts->request_id;
	request->gateway = cli_text(args_value(args, "gateway"));
	request->session = cli_text(session);
	request->protocol = cli_text(args_value(args, "protocol"));
	request->notify = args_has(args, "notify");
	request->context.data = (uint8_t *)cli_text(context);
	request->context.len = context == NULL ? 0 : strlen(context);
	return STATUS_OK;
}

struct asking {
	struct cli *cli;
	bool granted;
};

static bool on_granted(void *arg, const ProtobufCMessage *message)
{
	struct asking *asking = arg;

	asking->granted = ((const Postern__V1__GrantReply *)message)->grant != NULL;
	if (!asking->granted)
		return false;
	if (asking->cli->json)
		return cli_json_line(asking->cli, message, NULL);
	print_granted(asking->cli, message);
	return true;
}

/* Asked at least once, and no answer is known: only a repetition with the same id can tell. */
static enum status unanswered(const struct cli *cli, const struct error *why, struct error *err)
{
	return error_reason(err, STATUS_DEADLINE_EXCEEDED, REASON_DEADLINE,
		"no answer before the deadline (%.120s): ask again with --request-id %s to learn "
		"what became of it",
		why->text, cli->request_id);
}

/* Once; `ret_again`: the connection was lost, so the question may be put again. */
static enum status ask(struct cli *cli, const Postern__V1__GrantRequest *request, bool *ret_again,
	struct error *err)
{
	struct asking asking = {.cli = cli};
	struct client_call call = {
		.service = service,
		.method = "Request",
		.request = &request->base,
		.deadline_us = cli->deadline_us,
		.on_message = on_granted,
		.arg = &asking,
	};
	enum status status = client_call(cli->client, &call, err);

	*ret_again = status != STATUS_OK && client_was_lost(cli->client, err);
	if (status == STATUS_OK && !asking.granted)
		return error_set(err, STATUS_INTERNAL,
			"the server's answer holds no grant: is it a newer one?");
	return status;
}

static enum status ask_until_answered(
	struct cli *cli, const Postern__V1__GrantRequest *request, struct error *err)
{
	enum status status = cli_connect(cli, err);
	bool again = status == STATUS_OK;

	while (again) {
		status = ask(cli, request, &again, err);
		if (!again)
			break;
		struct error why = {0};
		status = client_reconnect(cli->client, cli->deadline_us, &why);
		if (status == STATUS_UNAVAILABLE)
			return unanswered(cli, &why, err);
		if (status != STATUS_OK) {
			*err = why;
			return status;
		}
	}
	return status;
}

enum status grant_request(struct cli *cli, struct error *err)
{
	Postern__V1__GrantRequest request = POSTERN__V1__GRANT_REQUEST__INIT;
	struct request_texts texts;

	enum status status = read_request(&cli->args, &request, &texts, err);
	if (status != STATUS_OK)
		return status;
	snprintf(cli->request_id, sizeof(cli->request_id), "%s", texts.request_id);
	return ask_until_answered(cli, &request, err);
}

/* ---- list ---- */

static void list_row(struct grid *grid, const ProtobufCMessage *message)
{
	const Postern__V1__Grant *grant = ((const Postern__V1__GrantReply *)message)->grant;
	char state[160], door[256], connections[64];

	if (grant == NULL)
		return;
	tell_state(grant, state, sizeof(state));
	tell_connections(grant, connections, sizeof(connections));
	story_door(grant->client, grant->remote, grant->remote_port, grant->transport, door,
		sizeof(door));
	grid_cell(grid, "%s", grant->id);
	grid_cell(grid, "%s", state);
	grid_cell(grid, "%s", connections);
	grid_cell(grid, "%s", grant->gateway);
	grid_cell(grid, "%s", door);
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

/* ---- show, cancel ---- */

static void print_grant(struct cli *cli, const ProtobufCMessage *message)
{
	const Postern__V1__GrantReply *reply = (const Postern__V1__GrantReply *)message;
	const Postern__V1__Grant *grant = reply->grant;
	char text[256];

	if (grant == NULL)
		return;
	tell_state(grant, text, sizeof(text));
	fprintf(cli->out, "grant %s: %s\n", grant->id, text);
	print_door(cli, grant);
	cli_field(cli->out, "protocol", "%s", grant->protocol);
	tell_connections(grant, text, sizeof(text));
	cli_field(cli->out, "connections", "%s", text);
	story_flags(grant->flags, text, sizeof(text));
	cli_field(cli->out, "flags", "%s", text);
	if (grant->external[0] != '\0' || grant->external_port != 0) {
		cli_address(grant->external, grant->external_port, text, sizeof(text));
		cli_field(cli->out, "seen as", "%s", text);
	}
	format_duration(grant->lifetime_ms, text, sizeof(text));
	cli_field(cli->out, "lifetime", "%s", text);
	cli_field(cli->out, "asked by", grant->session[0] != '\0' ? "%s in session %s" : "%s",
		grant->filter, grant->session);
	cli_field(cli->out, "rule", "%s", grant->rule);
	cli_field(cli->out, "request id", "%s", grant->request_id);
	if (grant->context.len != 0) {
		text_escape(grant->context.data, grant->context.len, text, sizeof(text));
		cli_field(cli->out, "context", "%s", text);
	}
	print_timing(cli, reply->timing);
}

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
	enum status status = cli_show(cli, service, "Show", &request.base, print_grant, err);
	return status != STATUS_OK || cli->json ? status : print_life(cli, err);
}

static void print_cancelled(struct cli *cli, const ProtobufCMessage *message)
{
	const Postern__V1__Grant *grant = ((const Postern__V1__GrantReply *)message)->grant;
	char state[160];

	if (grant == NULL)
		return;
	tell_state(grant, state, sizeof(state));
	fprintf(cli->out, "grant %s: %s\n", grant->id, state);
}

enum status grant_cancel(struct cli *cli, struct error *err)
{
	Postern__V1__GrantCancelRequest request = POSTERN__V1__GRANT_CANCEL_REQUEST__INIT;

	request.id = cli_text(cli->args.operands[0]);
	return cli_show(cli, service, "Cancel", &request.base, print_cancelled, err);
}
