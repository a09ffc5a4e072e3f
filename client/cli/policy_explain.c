#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "client/cli/cli.h"
#include "client/cli/commands.h"
#include "client/cli/document_source.h"
#include "client/cli/revision_text.h"
#include "client/text/names.h"
#include "client/text/text.h"
#include "common/clock.h"

struct explaining {
	struct cli *cli;
	bool answered;
	enum status status; /* of the verdict */
	struct error *err;
};

static void print_rule(struct cli *cli, const Postern__V1__ExplainItem *item)
{
	char type[NAME_SIZE], action[NAME_SIZE], safe[512];

	name_of(&postern__v1__rule_type__descriptor, (int)item->type, type);
	name_of(&postern__v1__action__descriptor, (int)item->action, action);
	text_escape(item->rule, strlen(item->rule), safe, sizeof(safe));
	fprintf(cli->out, "%s rule \"%s\" (%s%s%s): %s\n", type, safe, action,
		item->disabled ? ", disabled" : "", item->staged ? ", staged" : "",
		item->matched ? "matches" : "does not match");
	for (size_t i = 0; i < item->n_conditions; i++) {
		const Postern__V1__ExplainCondition *condition = item->conditions[i];
		cli_field(cli->out, condition->field, "%s%s%s", condition->matched ? "yes" : "no",
			condition->detail[0] != '\0' ? ": " : "", condition->detail);
	}
}

/* What a request for such a grant would have got decides the exit code. */
static void take_verdict(struct explaining *explaining, const Postern__V1__Verdict *verdict)
{
	explaining->answered = true;
	if (!verdict->allowed)
		explaining->status = verdict_error(verdict, explaining->err);
	else if (verdict->problem[0] != '\0')
		explaining->status = error_set(explaining->err, STATUS_INVALID_ARGUMENT,
			"the rules allow it, the protocol definition does not: %.200s",
			verdict->problem);
}

static void print_verdict(struct cli *cli, const Postern__V1__Verdict *verdict)
{
	char text[400], safe[1600];

	verdict_tell(verdict, text, sizeof(text));
	text_escape(text, strlen(text), safe, sizeof(safe));
	fprintf(cli->out, "%s\n", safe);
	cli_field(cli->out, "but", "%s", verdict->problem);
}

static bool on_item(void *arg, const ProtobufCMessage *message)
{
	struct explaining *explaining = arg;
	struct cli *cli = explaining->cli;
	const Postern__V1__ExplainItem *item = (const Postern__V1__ExplainItem *)message;

	if (item->verdict != NULL)
		take_verdict(explaining, item->verdict);
	if (cli_is_structured(cli))
		return cli_message(cli, message, NULL);
	if (item->verdict != NULL)
		print_verdict(cli, item->verdict);
	else
		print_rule(cli, item);
	return cli_push(cli);
}

/* RFC 3339, UTC. */
static enum status read_time(
	const struct args *args, char text[static TEXT_TIME_SIZE], struct error *err)
{
	int64_t at_us = 0;
	struct tm tm;

	enum status status = args_time(args, "at", clock_real_us(), &at_us, err);
	text[0] = '\0';
	if (status != STATUS_OK || at_us == 0)
		return status;
	time_t seconds = at_us / 1000000;
	gmtime_r(&seconds, &tm);
	strftime(text, TEXT_TIME_SIZE, "%Y-%m-%dT%H:%M:%SZ", &tm);
	return STATUS_OK;
}

static enum status read_question(const struct args *args, Postern__V1__PolicyTest *question,
	char at[static TEXT_TIME_SIZE], struct error *err)
{
	if (args_has(args, "to") == args_has(args, "from"))
		return error_field(err, "to",
			"give --to ADDR:PORT (the client connects) or --from ADDR|any (it is "
			"connected to), one of both");
	enum status status = read_time(args, at, err);
	question->gateway = cli_text(args_value(args, "gateway"));
	question->client = cli_text(args_value(args, "client"));
	question->to = cli_text(args_value(args, "to"));
	question->from = cli_text(args_value(args, "from"));
	question->protocol = cli_text(args_value(args, "protocol"));
	question->user = cli_text(args_value(args, "user"));
	question->at = at;
	return status;
}

/* "question.to: why", or "to: why", becomes "--to: why". */
static enum status name_option(const struct args *args, struct error *err)
{
	struct error why = *err;
	const char *name = why.field, *text = why.text;
	size_t length = strlen(why.field);

	if (strncmp(name, "question.", 9) == 0)
		name += 9;
	if (length == 0 || !args_has(args, name))
		return why.status;
	if (strncmp(text, why.field, length) == 0 && text[length] == ':')
		text += length + 1 + strspn(text + length + 1, " ");
	snprintf(err->text, sizeof(err->text), "--%.32s: %.250s", name, text);
	return why.status;
}

static enum status explain(struct cli *cli, struct document_source *source,
	Postern__V1__ExplainRequest *request, struct error *err)
{
	struct explaining explaining = {.cli = cli, .err = err};
	struct client_call call = {
		.service = &postern__v1__revisions__descriptor,
		.method = "Explain",
		.request = &request->base,
		.stream = true,
		.on_message = on_item,
		.arg = &explaining,
	};

	enum status status = document_source_open(cli, source, err);
	if (status != STATUS_OK)
		return status;
	request->source = &source->message;
	call.deadline_us = cli->deadline_us;
	status = client_call(cli->client, &call, err);
	if (status != STATUS_OK) {
		document_source_name_place(source, err);
		return name_option(&cli->args, err);
	}
	if (!explaining.answered && cli->output_errno == 0)
		return error_set(
			err, STATUS_INTERNAL, "the server gave no verdict: is it a newer one?");
	cli->told = explaining.status != STATUS_OK;
	return explaining.status;
}

enum status policy_explain(struct cli *cli, struct error *err)
{
	Postern__V1__ExplainRequest request = POSTERN__V1__EXPLAIN_REQUEST__INIT;
	Postern__V1__PolicyTest question = POSTERN__V1__POLICY_TEST__INIT;
	struct document_source source;
	char at[TEXT_TIME_SIZE];

	enum status status = read_question(&cli->args, &question, at, err);
	if (status != STATUS_OK)
		return status;
	request.question = &question;
	request.all = args_has(&cli->args, "all");
	status = explain(cli, &source, &request, err);
	document_source_fini(&source);
	return status;
}
