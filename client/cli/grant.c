#include <stdio.h>
#include <string.h>

#include "client/cli/cli.h"
#include "common/addr.h"
#include "common/clock.h"
#include "common/config.h"
#include "common/id.h"
#include "postern/v1/audit.pb-c.h"
#include "postern/v1/grants.pb-c.h"

#define SERVICE &postern__v1__grants__descriptor
#define DEADLINE_MS 5000

static char *text(const char *from)
{
	return (char *)(uintptr_t)(from ? from : "");
}

static void left_text(const Postern__V1__Grant *grant, char *to, size_t size)
{
	if (grant->left_ms)
		format_duration(grant->left_ms, to, size);
	else
		snprintf(to, size, "-");
}

static void print_grant(const Postern__V1__Grant *grant)
{
	char remote[80], left[32], state[32], reason[40], most[24] = "unlimited";
	print_endpoint(grant->remote, grant->remote_port, remote, sizeof remote);
	left_text(grant, left, sizeof left);
	if (grant->max_connections)
		snprintf(most, sizeof most, "%llu", (unsigned long long)grant->max_connections);
	printf("grant        %s\nstate        %s", grant->id,
		enum_text(
			&postern__v1__grant_state__descriptor, grant->state, state, sizeof state));
	if (grant->reason)
		printf(" (%s)",
			enum_text(&postern__v1__end_reason__descriptor, grant->reason, reason,
				sizeof reason));
	printf("\ngateway      %s\nclient       %s\nto           %s %s\nprotocol     %s\nasked by  "
	       "   %s\nconnections  %llu of %s\ntime left    %s\n",
		grant->gateway, grant->client, remote, grant->transport == 17 ? "udp" : "tcp",
		grant->protocol, grant->filter, (unsigned long long)grant->connections, most, left);
	if (grant->session[0])
		printf("session      %s\n", grant->session);
}

static void on_grant(struct cli *cli, const ProtobufCMessage *message, void *arg)
{
	const Postern__V1__GrantReply *reply = (const Postern__V1__GrantReply *)message;
	(void)arg;
	if (cli->json)
		print_json(cli->command->verb && strcmp(cli->command->verb, "request") == 0
				? &reply->base
				: &reply->grant->base);
	else
		print_grant(reply->grant);
}

/* ---- request ---- */

static int parse_flags(struct cli *cli, Postern__V1__GrantRequest *request)
{
	const char *flag;
	for (size_t i = 0; (flag = args_nth(cli, "flag", i)); i++) {
		int value;
		if (!enum_parse(&postern__v1__grant_flag__descriptor, flag, &value))
			return unknown_enum(
				cli, "flag", &postern__v1__grant_flag__descriptor, flag);
		request->flags |= (uint32_t)value;
	}
	return EXIT_GOOD;
}

struct request_text {
	char remote[ADDR_TEXT_SIZE], external[ADDR_TEXT_SIZE], id[ID_TEXT_SIZE];
};

static int parse_places(
	struct cli *cli, Postern__V1__GrantRequest *request, struct request_text *texts)
{
	const char *to = args_get(cli, "to"), *external = args_get(cli, "external");
	struct endpoint endpoint;
	if (!to || !endpoint_parse(to, true, &endpoint))
		return usage_error(
			cli, "--to %s: write ADDR:PORT or [ADDR6]:PORT", to ? to : "is missing");
	addr_format(&endpoint.addr, texts->remote);
	request->remote = texts->remote;
	request->remote_port = endpoint.port;
	if (external) {
		if (!endpoint_parse(external, false, &endpoint))
			return usage_error(cli, "--external %s: write ADDR or ADDR:PORT", external);
		addr_format(&endpoint.addr, texts->external);
		request->external = texts->external;
		request->external_port = endpoint.port;
	}
	return EXIT_GOOD;
}

static int parse_request(
	struct cli *cli, Postern__V1__GrantRequest *request, struct request_text *texts)
{
	const char *transport = args_get(cli, "transport"), *lifetime = args_get(cli, "lifetime"),
		   *most = args_get(cli, "max-connections");
	const char *wait = args_get(cli, "wait"), *context = args_get(cli, "context"),
		   *id = args_get(cli, "request-id");
	struct error err;
	struct id made = id_new();
	int code = parse_places(cli, request, texts);
	if (!code)
		code = parse_flags(cli, request);
	if (code)
		return code;
	if (transport && strcmp(transport, "tcp") != 0 && strcmp(transport, "udp") != 0)
		return usage_error(cli, "--transport %s: tcp or udp", transport);
	if (wait && strcmp(wait, "decided") != 0 && strcmp(wait, "installed") != 0)
		return usage_error(cli, "--wait %s: decided or installed", wait);
	if (lifetime && parse_duration(lifetime, &request->lifetime_ms, &err))
		return usage_error(cli, "--lifetime: %s", err.text);
	if (most && parse_number(most, 1, UINT32_MAX, &request->max_connections, &err))
		return usage_error(cli, "--max-connections: %s", err.text);
	if (id && !id_parse(id, &made))
		return usage_error(cli, "--request-id %s: not a UUID", id);
	id_format(&made, texts->id);
	request->request_id = texts->id;
	request->gateway = text(args_get(cli, "gateway"));
	request->client = text(args_get(cli, "client"));
	request->session = text(args_get(cli, "session"));
	request->protocol = text(args_get(cli, "protocol"));
	if (!request->protocol[0])
		return usage_error(cli, "--protocol is missing");
	if (!request->session[0] && (!request->gateway[0] || !request->client[0]))
		return usage_error(cli, "--gateway and --client are needed, or --session");
	request->transport = transport && transport[0] == 'u'
		? POSTERN__V1__TRANSPORT__TRANSPORT_UDP
		: POSTERN__V1__TRANSPORT__TRANSPORT_TCP;
	request->wait = wait && wait[0] == 'd' ? POSTERN__V1__WAIT__WAIT_DECIDED
					       : POSTERN__V1__WAIT__WAIT_INSTALLED;
	request->notify = args_get(cli, "notify") != NULL;
	if (context) {
		request->context.data = (uint8_t *)text(context);
		request->context.len = strlen(context);
	}
	return EXIT_GOOD;
}

int grant_request(struct cli *cli)
{
	Postern__V1__GrantRequest request = POSTERN__V1__GRANT_REQUEST__INIT;
	struct request_text texts;
	struct error err = {0};
	enum status status;
	int code = parse_request(cli, &request, &texts);
	if (code)
		return code;
	if (!cli->deadline_ms)
		cli->deadline_ms = DEADLINE_MS;
	int64_t until = clock_mono_us() + (int64_t)cli->deadline_ms * 1000;
	/* A connection that was lost on the way leaves open what became of the request: the same id
	 * asks again, never twice (I6). */
	do {
		int64_t left = (until - clock_mono_us()) / 1000;
		cli->deadline_ms = left > 1 ? (uint64_t)left : 1;
		status = call_raw(
			cli, SERVICE, "Request", &request.base, false, on_grant, NULL, &err);
	} while (status == STATUS_UNAVAILABLE && err.reason == REASON_NONE && cli->was_ready &&
		clock_mono_us() < until);
	return status ? report(cli, &err) : EXIT_GOOD;
}

/* ---- list, show, cancel ---- */

static void on_listed(struct cli *cli, const ProtobufCMessage *message, void *arg)
{
	const Postern__V1__Grant *grant = ((const Postern__V1__GrantReply *)message)->grant;
	char remote[80], left[32], state[32];
	bool *headed = arg;
	if (cli->json) {
		print_json(&grant->base);
		return;
	}
	if (!*headed)
		printf("%-36s  %-9s %-10s %-18s %-24s %-5s %5s  %s\n", "GRANT", "STATE", "GATEWAY",
			"CLIENT", "TO", "PROTO", "USED", "LEFT");
	*headed = true;
	print_endpoint(grant->remote, grant->remote_port, remote, sizeof remote);
	left_text(grant, left, sizeof left);
	printf("%-36s  %-9s %-10s %-18s %-24s %-5s %5llu  %s\n", grant->id,
		enum_text(&postern__v1__grant_state__descriptor, grant->state, state, sizeof state),
		grant->gateway, grant->client, remote, grant->transport == 17 ? "udp" : "tcp",
		(unsigned long long)grant->connections, left);
}

int grant_list(struct cli *cli)
{
	Postern__V1__GrantListRequest request = POSTERN__V1__GRANT_LIST_REQUEST__INIT;
	const char *limit = args_get(cli, "limit");
	uint64_t number = 0;
	struct error err;
	bool headed = false;
	if (limit && parse_number(limit, 1, 100000, &number, &err))
		return usage_error(cli, "--limit: %s", err.text);
	request.gateway = text(args_get(cli, "gateway"));
	request.client = text(args_get(cli, "client"));
	request.session = text(args_get(cli, "session"));
	request.all = args_get(cli, "all") != NULL;
	request.limit = (uint32_t)number;
	int code = call(cli, SERVICE, "List", &request.base, true, on_listed, &headed);
	if (code == EXIT_GOOD && !headed && !cli->json)
		puts(request.all ? "no grants" : "no live grants");
	return code;
}

static void on_life(struct cli *cli, const ProtobufCMessage *message, void *arg)
{
	const Postern__V1__AuditPage *page = (const Postern__V1__AuditPage *)message;
	(void)arg;
	for (size_t i = 0; i < page->n_entries; i++)
		print_entry(cli, page->entries[i]);
}

int grant_show(struct cli *cli)
{
	Postern__V1__GrantShowRequest request = POSTERN__V1__GRANT_SHOW_REQUEST__INIT;
	Postern__V1__AuditQuery query = POSTERN__V1__AUDIT_QUERY__INIT;
	struct error err;
	request.id = query.grant = text(cli->operands[0]);
	int code = call(cli, SERVICE, "Show", &request.base, false, on_grant, NULL);
	if (code || cli->json)
		return code;
	puts("");
	/* A filter may not read the journal: then the grant alone is what it gets. */
	(void)call_raw(cli, &postern__v1__audit__descriptor, "Query", &query.base, true, on_life,
		NULL, &err);
	return EXIT_GOOD;
}

int grant_cancel(struct cli *cli)
{
	Postern__V1__GrantCancelRequest request = POSTERN__V1__GRANT_CANCEL_REQUEST__INIT;
	request.id = text(cli->operands[0]);
	return call(cli, SERVICE, "Cancel", &request.base, false, on_grant, NULL);
}
