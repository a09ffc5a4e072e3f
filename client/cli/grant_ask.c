/* grant request, reserve and bundle, commit and renew: what may be asked again. The request id (of
 * a bundle: its id) makes a repetition the same grant (I6), a second commit is answered like the
 * first, and of two renewals the later holds. So a lost connection is made again and the question
 * asked again until the deadline; also when another decision about the grant was just on its way to
 * the server's disk (ABORTED). */
#include <string.h>

#include "client/cli/bundle_file.h"
#include "client/cli/cli.h"
#include "client/cli/commands.h"
#include "client/cli/grant_terms.h"
#include "client/cli/grant_text.h"

static const ProtobufCServiceDescriptor *const service = &postern__v1__grants__descriptor;

/* ---- asking until there is an answer ---- */

struct question {
	const char *method;
	const ProtobufCMessage *request;
	/* An answer that a newer or broken server leaves empty is none. */
	bool (*is_whole)(const ProtobufCMessage *answer);
	cli_print_cb print;
};

struct asking {
	struct cli *cli;
	const struct question *question;
	bool answered;
};

static bool on_answer(void *arg, const ProtobufCMessage *answer)
{
	struct asking *asking = arg;

	asking->answered = asking->question->is_whole(answer);
	if (!asking->answered)
		return false;
	if (cli_is_structured(asking->cli))
		return cli_message(asking->cli, answer, NULL);
	asking->question->print(asking->cli, answer);
	return true;
}

/* Asked at least once, and no answer is known: only a repetition (with the same id) can tell. */
static enum status unanswered(const struct cli *cli, const struct error *why, struct error *err)
{
	if (cli->request_id[0] == '\0')
		return error_reason(err, STATUS_DEADLINE_EXCEEDED, REASON_DEADLINE,
			"no answer before the deadline (%.120s): ask again, or see what became of "
			"it with 'postern grant show'",
			why->text);
	return error_reason(err, STATUS_DEADLINE_EXCEEDED, REASON_DEADLINE,
		"no answer before the deadline (%.120s): ask again with --request-id %s to learn "
		"what became of it",
		why->text, cli->request_id);
}

/* Once; `ret_again`: the question may be put again, on a new connection. */
static enum status ask(
	struct cli *cli, const struct question *question, bool *ret_again, struct error *err)
{
	struct asking asking = {.cli = cli, .question = question};
	struct client_call call = {
		.service = service,
		.method = question->method,
		.request = question->request,
		.deadline_us = cli->deadline_us,
		.on_message = on_answer,
		.arg = &asking,
	};
	enum status status = client_call(cli->client, &call, err);

	*ret_again = status != STATUS_OK &&
		(client_was_lost(cli->client, err) || status == STATUS_ABORTED);
	if (status == STATUS_OK && !asking.answered)
		return error_set(err, STATUS_INTERNAL,
			"the server's answer holds no grant: is it a newer one?");
	return status;
}

static enum status ask_until_answered(
	struct cli *cli, const struct question *question, struct error *err)
{
	enum status status = cli_connect(cli, err);
	bool again = status == STATUS_OK;

	while (again) {
		status = ask(cli, question, &again, err);
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

static bool holds_grant(const ProtobufCMessage *answer)
{
	return ((const Postern__V1__GrantReply *)answer)->grant != NULL;
}

static bool holds_bundle(const ProtobufCMessage *answer)
{
	const Postern__V1__BundleReply *reply = (const Postern__V1__BundleReply *)answer;

	for (size_t i = 0; i < reply->n_grants; i++)
		if (reply->grants[i]->grant == NULL)
			return false;
	return reply->bundle[0] != '\0' && reply->n_grants != 0;
}

/* ---- request, reserve ---- */

static enum status ask_for_grant(struct cli *cli, bool reserve, struct error *err)
{
	struct grant_terms terms;
	struct question question = {
		.method = "Request",
		.request = &terms.request.base,
		.is_whole = holds_grant,
		.print = grant_print_granted,
	};
	Postern__V1__Wait wait = POSTERN__V1__WAIT__WAIT_DECIDED;

	enum status status = grant_terms_read(&cli->args, &terms, err);
	if (status == STATUS_OK && !reserve)
		status = grant_terms_wait(&cli->args, &wait, err);
	if (status == STATUS_OK)
		status = grant_terms_id(&cli->args, cli->request_id, err);
	if (status != STATUS_OK)
		return status;
	terms.request.wait = wait;
	terms.request.reserve = reserve;
	terms.request.request_id = cli->request_id;
	status = ask_until_answered(cli, &question, err);
	if (status != STATUS_OK)
		grant_terms_name_option(&terms, err);
	return status;
}

enum status grant_request(struct cli *cli, struct error *err)
{
	return ask_for_grant(cli, false, err);
}

enum status grant_reserve(struct cli *cli, struct error *err)
{
	return ask_for_grant(cli, true, err);
}

/* ---- bundle ---- */

static enum status read_bundle(const struct cli *cli, struct bundle_file *file, struct error *err)
{
	const char *path = cli->args.operand_count != 0 ? cli->args.operands[0] : NULL;
	const char *line;

	if (args_has(&cli->args, "grant") && path != NULL)
		return error_field(err, "grant", "give FILE or --grant, and not both");
	if (!args_has(&cli->args, "grant"))
		return bundle_file_read(file, path, err);
	for (size_t i = 0; (line = args_nth(&cli->args, "grant", i)) != NULL; i++) {
		char place[32];
		snprintf(place, sizeof(place), "--grant %zu", i + 1);
		enum status status = bundle_file_add(file, line, place, err);
		if (status != STATUS_OK)
			return status;
	}
	return bundle_file_check(file, "--grant", err);
}

static enum status ask_for_bundle(struct cli *cli, struct bundle_file *file, struct error *err)
{
	Postern__V1__BundleRequest request = POSTERN__V1__BUNDLE_REQUEST__INIT;
	Postern__V1__GrantRequest *grants[BUNDLE_MAX];
	struct question question = {
		.method = "RequestBundle",
		.request = &request.base,
		.is_whole = holds_bundle,
		.print = grant_print_bundle,
	};

	enum status status = read_bundle(cli, file, err);
	if (status == STATUS_OK)
		status = cli_start_clock(cli, err);
	if (status == STATUS_OK)
		status = grant_terms_wait(&cli->args, &request.wait, err);
	if (status == STATUS_OK)
		status = grant_terms_id(&cli->args, cli->request_id, err);
	if (status != STATUS_OK)
		return status;
	request.n_grants = bundle_file_grants(file, grants);
	request.grants = grants;
	request.bundle = cli->request_id;
	status = ask_until_answered(cli, &question, err);
	if (status != STATUS_OK)
		bundle_file_name_place(file, err);
	return status;
}

enum status grant_bundle(struct cli *cli, struct error *err)
{
	struct bundle_file *file = bundle_file_new();

	if (file == NULL)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	enum status status = ask_for_bundle(cli, file, err);
	bundle_file_free(file);
	return status;
}

/* ---- commit, renew ---- */

enum status grant_commit(struct cli *cli, struct error *err)
{
	Postern__V1__GrantCommitRequest request = POSTERN__V1__GRANT_COMMIT_REQUEST__INIT;
	struct question question = {
		.method = "Commit",
		.request = &request.base,
		.is_whole = holds_grant,
		.print = grant_print_granted,
	};

	request.id = cli_text(cli->args.operands[0]);
	enum status status = grant_terms_wait(&cli->args, &request.wait, err);
	return status != STATUS_OK ? status : ask_until_answered(cli, &question, err);
}

enum status grant_renew(struct cli *cli, struct error *err)
{
	Postern__V1__GrantRenewRequest request = POSTERN__V1__GRANT_RENEW_REQUEST__INIT;
	struct question question = {
		.method = "Renew",
		.request = &request.base,
		.is_whole = holds_grant,
		.print = grant_print_renewed,
	};

	request.id = cli_text(cli->args.operands[0]);
	enum status status = args_duration(
		&cli->args, "lifetime", GRANT_LIFETIME_MAX_MS, &request.lifetime_ms, err);
	return status != STATUS_OK ? status : ask_until_answered(cli, &question, err);
}
