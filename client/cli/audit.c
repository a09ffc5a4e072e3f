#include <string.h>

#include "client/cli/cli.h"
#include "client/cli/commands.h"
#include "client/cli/story.h"
#include "client/text/names.h"
#include "client/text/text.h"
#include "common/clock.h"
#include "common/config.h"
#include "postern/v1/audit.pb-c.h"

#define HASH_SIZE 32

static const ProtobufCServiceDescriptor *const service = &postern__v1__audit__descriptor;

/* ---- query ---- */

struct reading {
	struct cli *cli;
	uint64_t entries;
};

static bool on_page(void *arg, const ProtobufCMessage *message)
{
	struct reading *reading = arg;
	struct cli *cli = reading->cli;
	const Postern__V1__AuditPage *page = (const Postern__V1__AuditPage *)message;

	reading->entries += page->n_entries;
	for (size_t i = 0; i < page->n_entries; i++) {
		if (cli_is_structured(cli) && !cli_message(cli, &page->entries[i]->base, NULL))
			return false;
		if (!cli_is_structured(cli))
			story_line(cli->out, page->entries[i]);
	}
	return cli_push(cli);
}

struct query_texts {
	char client[ADDR_TEXT_SIZE], remote[ADDR_TEXT_SIZE];
	Postern__V1__EntryKind kinds[ARGS_MAX_VALUES];
};

static enum status read_places(const struct args *args, Postern__V1__AuditQuery *query,
	struct query_texts *texts, struct error *err)
{
	const char *grant = NULL, *session = NULL;
	struct addr client = {0}, remote = {0};

	enum status status = args_id(args, "grant", &grant, err);
	if (status == STATUS_OK)
		status = args_id(args, "session", &session, err);
	if (status == STATUS_OK)
		status = args_address(args, "client", &client, err);
	if (status == STATUS_OK)
		status = args_address(args, "remote", &remote, err);
	if (status != STATUS_OK)
		return status;
	addr_format(&client, texts->client);
	addr_format(&remote, texts->remote);
	query->gateway = cli_text(args_value(args, "gateway"));
	query->grant = cli_text(grant);
	query->session = cli_text(session);
	query->client = texts->client;
	query->remote = texts->remote;
	return STATUS_OK;
}

static enum status read_query(const struct args *args, Postern__V1__AuditQuery *query,
	struct query_texts *texts, struct error *err)
{
	int64_t now_us = clock_real_us();
	uint64_t limit = 0;
	const char *kind;

	enum status status = args_time(args, "since", now_us, &query->since_us, err);
	if (status == STATUS_OK)
		status = args_time(args, "until", now_us, &query->until_us, err);
	if (status == STATUS_OK)
		status = args_number(args, "after", INT64_MAX, &query->after, err);
	if (status == STATUS_OK)
		status = args_number(args, "limit", UINT32_MAX, &limit, err);
	if (status == STATUS_OK)
		status = read_places(args, query, texts, err);
	if (status != STATUS_OK)
		return status;
	if (query->until_us != 0 && query->until_us <= query->since_us)
		return error_field(err, "until", "--until lies before --since: nothing can match");
	for (size_t i = 0; (kind = args_nth(args, "kind", i)) != NULL; i++) {
		int value = 0;
		name_parse(&postern__v1__entry_kind__descriptor, kind, &value);
		texts->kinds[query->n_kinds++] = (Postern__V1__EntryKind)value;
	}
	query->kinds = texts->kinds;
	query->limit = (uint32_t)limit;
	return STATUS_OK;
}

enum status audit_query(struct cli *cli, struct error *err)
{
	Postern__V1__AuditQuery query = POSTERN__V1__AUDIT_QUERY__INIT;
	struct query_texts texts;
	struct reading reading = {.cli = cli};
	struct client_call call = {
		.service = service,
		.method = "Query",
		.request = &query.base,
		.stream = true,
		.deadline_us = cli->deadline_us,
		.on_message = on_page,
		.arg = &reading,
	};

	enum status status = read_query(&cli->args, &query, &texts, err);
	if (status == STATUS_OK)
		status = cli_connect(cli, err);
	if (status == STATUS_OK)
		status = client_call(cli->client, &call, err);
	if (status == STATUS_OK && reading.entries == 0 && !cli_is_structured(cli))
		fputs("no entry matches\n", cli->err);
	return status;
}

/* ---- verify ---- */

struct verifying {
	struct cli *cli;
	bool intact;
	struct error fault; /* when not intact */
};

static bool on_verified(void *arg, const ProtobufCMessage *message)
{
	struct verifying *verifying = arg;
	struct cli *cli = verifying->cli;
	const Postern__V1__AuditVerifyReply *reply = (const Postern__V1__AuditVerifyReply *)message;
	char hash[2 * HASH_SIZE + 1] = "";

	verifying->intact = reply->intact;
	if (!reply->intact)
		error_set(&verifying->fault, STATUS_DATA_LOSS,
			"the chain is broken: entry %llu is the first bad one: %.200s",
			(unsigned long long)reply->bad_sequence, reply->fault);
	if (cli_is_structured(cli))
		return cli_message(cli, message, NULL);
	if (reply->head_hash.len == HASH_SIZE)
		text_hex(reply->head_hash.data, HASH_SIZE, hash);
	fprintf(cli->out,
		reply->intact ? "intact: %llu entries\n"
			      : "broken: only the first %llu entries hold\n",
		(unsigned long long)reply->entries);
	fprintf(cli->out, "head %llu:%s\n", (unsigned long long)reply->head_sequence, hash);
	return true;
}

/* "17:9f86d0..." as verify itself prints it. */
static enum status read_head(const struct args *args, Postern__V1__AuditVerifyRequest *request,
	uint8_t hash[HASH_SIZE], struct error *err)
{
	const char *head = args_value(args, "head");
	char number[24];

	if (head == NULL)
		return STATUS_OK;
	const char *colon = strchr(head, ':');
	size_t length = colon == NULL ? sizeof(number) : (size_t)(colon - head);
	if (length < sizeof(number)) {
		memcpy(number, head, length);
		number[length] = '\0';
	}
	if (length >= sizeof(number) ||
		parse_number(number, 1, INT64_MAX, &request->known_sequence, NULL) != STATUS_OK ||
		!text_parse_hex(colon + 1, hash, HASH_SIZE))
		return error_field(err, "head",
			"--head: '%.100s' is no head: write SEQUENCE:HASH as 'postern audit "
			"verify' prints it",
			head);
	request->known_hash.data = hash;
	request->known_hash.len = HASH_SIZE;
	return STATUS_OK;
}

enum status audit_verify(struct cli *cli, struct error *err)
{
	Postern__V1__AuditVerifyRequest request = POSTERN__V1__AUDIT_VERIFY_REQUEST__INIT;
	uint8_t hash[HASH_SIZE];
	struct verifying verifying = {.cli = cli};
	struct client_call call = {
		.service = service,
		.method = "Verify",
		.request = &request.base,
		.deadline_us = cli->deadline_us,
		.on_message = on_verified,
		.arg = &verifying,
	};

	enum status status = read_head(&cli->args, &request, hash, err);
	if (status == STATUS_OK)
		status = cli_connect(cli, err);
	if (status == STATUS_OK)
		status = client_call(cli->client, &call, err);
	if (status != STATUS_OK || verifying.intact)
		return status;
	cli->told = cli_is_structured(cli); /* the reply says all of it */
	*err = verifying.fault;
	return STATUS_DATA_LOSS;
}
