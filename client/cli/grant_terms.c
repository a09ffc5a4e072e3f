#include "client/cli/grant_terms.h"

#include <stdio.h>
#include <string.h>

#include "client/cli/cli.h"
#include "client/text/names.h"
#include "common/config.h"

#define CONTEXT_MAX 4096
#define TO_SIZE (ENDPOINT_TEXT_SIZE + 8)

/* ---- outbound ---- */

static enum status bad_to(const char *value, struct error *err)
{
	return error_field(err, "to",
		"--to: '%.64s' is no address with a port: write 192.0.2.1:1046 or "
		"[2001:db8::1]:1046, or a range 192.0.2.1:5004-5005",
		value);
}

/* "10.77.2.2:1046" or "10.77.2.2:5004-5005". */
static enum status read_to(const char *value, struct grant_terms *terms, struct error *err)
{
	char text[TO_SIZE];
	struct endpoint to;
	uint64_t last = 0;
	const char *dash = strrchr(value, '-');
	size_t length = dash != NULL ? (size_t)(dash - value) : strlen(value);

	if (length >= sizeof(text))
		return bad_to(value, err);
	memcpy(text, value, length);
	text[length] = '\0';
	if (!endpoint_parse(text, true, &to) ||
		(dash != NULL && parse_number(dash + 1, 1, 65535, &last, NULL) != STATUS_OK))
		return bad_to(value, err);
	if (dash != NULL && last <= to.port)
		return error_field(err, "to",
			"--to: '%.64s' is no range: its last port must lie above its first", value);
	addr_format(&to.addr, terms->remote);
	terms->request.remote = terms->remote;
	terms->request.remote_port = to.port;
	terms->request.remote_port_last = (uint32_t)last;
	return STATUS_OK;
}

static enum status read_outbound(
	const struct args *args, struct grant_terms *terms, struct error *err)
{
	const char *to = args_value(args, "to");
	struct endpoint client = {0};

	if (to == NULL)
		return error_field(err, "to",
			"--to ADDR:PORT is missing: say where the client may connect to (or, for "
			"the inbound direction, --from ADDR who may connect to it)");
	enum status status = args_endpoint(args, "client", false, &client, err);
	if (status != STATUS_OK)
		return status;
	if (client.port != 0)
		return error_field(err, "client",
			"--client: '%.64s': the client may connect from any port: leave the port "
			"out (with --from it says where the client listens)",
			args_value(args, "client"));
	addr_format(&client.addr, terms->client);
	terms->request.client = terms->client;
	return read_to(to, terms, err);
}

/* ---- inbound ---- */

static enum status read_from(const struct args *args, struct grant_terms *terms, struct error *err)
{
	Postern__V1__GrantRequest *request = &terms->request;
	bool any = false;
	const char *from;
	size_t count = 0;

	for (; (from = args_nth(args, "from", count)) != NULL; count++) {
		struct endpoint remote;

		if (strcmp(from, "any") == 0) {
			any = true;
			continue;
		}
		if (count == GRANT_REMOTES_MAX)
			return error_field(err, "from",
				"--from: more than %d addresses: name fewer, or any",
				GRANT_REMOTES_MAX);
		if (!endpoint_parse(from, false, &remote) || remote.port != 0)
			return error_field(err, "from",
				"--from: '%.64s' is no address: write 192.0.2.1 or 2001:db8::1, "
				"without a port, or any",
				from);
		addr_format(&remote.addr, terms->remotes[count]);
		terms->remote_list[count] = terms->remotes[count];
	}
	if (any && count > 1)
		return error_field(
			err, "from", "--from any lets everybody in: leave the addresses out");
	if (any)
		return STATUS_OK;
	if (count == 1) {
		request->remote = terms->remotes[0];
		return STATUS_OK;
	}
	request->remotes = terms->remote_list;
	request->n_remotes = count;
	return STATUS_OK;
}

static enum status read_inbound(
	const struct args *args, struct grant_terms *terms, struct error *err)
{
	struct endpoint client = {0};

	if (args_has(args, "to"))
		return error_field(err, "to",
			"--to is where a client connects to, --from who connects to a client: give "
			"one of them");
	if (!args_has(args, "from"))
		return error_field(err, "from",
			"--from ADDR is missing: say who may connect, or any for anybody");
	if (!args_has(args, "client"))
		return error_field(err, "client",
			"--client ADDR:PORT is missing: say where the client listens");
	enum status status = args_endpoint(args, "client", true, &client, err);
	if (status != STATUS_OK)
		return status;
	terms->request.direction = POSTERN__V1__DIRECTION__DIRECTION_INBOUND;
	addr_format(&client.addr, terms->client);
	terms->request.client = terms->client;
	terms->request.client_port = client.port;
	return read_from(args, terms, err);
}

/* ---- both ---- */

static enum status read_shared(
	const struct args *args, Postern__V1__GrantRequest *request, struct error *err)
{
	int transport = POSTERN__V1__TRANSPORT__TRANSPORT_TCP;
	const char *flag;

	enum status status = args_choice(args, "transport", &transport, err);
	if (status == STATUS_OK)
		status = args_duration(
			args, "lifetime", GRANT_LIFETIME_MAX_MS, &request->lifetime_ms, err);
	if (status == STATUS_OK)
		status = args_duration(
			args, "hold", GRANT_LIFETIME_MAX_MS, &request->reservation_ms, err);
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
	return STATUS_OK;
}

static enum status read_external(
	const struct args *args, struct grant_terms *terms, struct error *err)
{
	struct endpoint external = {0};

	enum status status = args_endpoint(args, "external", false, &external, err);
	if (status != STATUS_OK)
		return status;
	addr_format(&external.addr, terms->external);
	terms->request.external = terms->external;
	terms->request.external_port = external.port;
	return STATUS_OK;
}

static enum status read_names(
	const struct args *args, Postern__V1__GrantRequest *request, struct error *err)
{
	const char *session = NULL;
	const char *context = args_value(args, "context");

	enum status status = args_id(args, "session", &session, err);
	if (status != STATUS_OK)
		return status;
	if (session == NULL && request->client[0] == '\0')
		return error_field(err, "client",
			"--client ADDR or --session ID is missing: say who may pass");
	if (context != NULL && strlen(context) > CONTEXT_MAX)
		return error_field(err, "context", "--context is %zu bytes long: at most %d",
			strlen(context), CONTEXT_MAX);
	request->gateway = cli_text(args_value(args, "gateway"));
	request->session = cli_text(session);
	request->protocol = cli_text(args_value(args, "protocol"));
	request->notify = args_has(args, "notify");
	request->context.data = (uint8_t *)cli_text(context);
	request->context.len = context == NULL ? 0 : strlen(context);
	return STATUS_OK;
}

enum status grant_terms_read(
	const struct args *args, struct grant_terms *ret_terms, struct error *err)
{
	bool inbound = args_has(args, "inbound") || args_has(args, "from");

	postern__v1__grant_request__init(&ret_terms->request);
	enum status status =
		inbound ? read_inbound(args, ret_terms, err) : read_outbound(args, ret_terms, err);
	if (status == STATUS_OK)
		status = read_external(args, ret_terms, err);
	if (status == STATUS_OK)
		status = read_shared(args, &ret_terms->request, err);
	if (status == STATUS_OK)
		status = read_names(args, &ret_terms->request, err);
	return status;
}

void grant_terms_name_option(const struct grant_terms *terms, struct error *err)
{
	static const char *const options[][2] = {
		{"gateway", "gateway"},
		{"session", "session"},
		{"client", "client"},
		{"client_port", "client"},
		{"remote", "to"},
		{"remote_port", "to"},
		{"remote_port_last", "to"},
		{"remotes", "from"},
		{"transport", "transport"},
		{"flags", "flag"},
		{"protocol", "protocol"},
		{"external", "external"},
		{"external_port", "external"},
		{"lifetime_ms", "lifetime"},
		{"reservation_ms", "hold"},
		{"max_connections", "max-connections"},
		{"context", "context"},
		{"request_id", "request-id"},
	};
	bool inbound = terms->request.direction == POSTERN__V1__DIRECTION__DIRECTION_INBOUND;
	char text[sizeof(err->text)];
	size_t length = strcspn(err->text, ": ");

	if (err->text[length] != ':')
		return;
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		const char *field = options[i][0];
		if (strlen(field) != length || memcmp(field, err->text, length) != 0)
			continue;
		const char *option = options[i][1];
		if (inbound && strcmp(option, "to") == 0)
			option = "from";
		snprintf(text, sizeof(text), "--%s%.290s", option, err->text + length);
		memcpy(err->text, text, sizeof(text));
		return;
	}
}

enum status grant_terms_id(
	const struct args *args, char ret_text[static ID_TEXT_SIZE], struct error *err)
{
	const char *given = NULL;

	enum status status = args_id(args, "request-id", &given, err);
	if (status != STATUS_OK)
		return status;
	struct id id = id_new();
	if (given != NULL)
		id_parse(given, &id);
	id_format(&id, ret_text);
	return STATUS_OK;
}

enum status grant_terms_wait(
	const struct args *args, Postern__V1__Wait *ret_wait, struct error *err)
{
	int wait = POSTERN__V1__WAIT__WAIT_INSTALLED;

	enum status status = args_choice(args, "wait", &wait, err);
	if (status == STATUS_OK)
		*ret_wait = (Postern__V1__Wait)wait;
	return status;
}
