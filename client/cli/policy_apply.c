/* policy apply, confirm and rollback: what makes or keeps a revision. Whether a lost answer had
 * been given nobody knows, and asking again would be another change: people are told where to
 * look. */
#include <inttypes.h>
#include <string.h>

#include "client/cli/cli.h"
#include "client/cli/commands.h"
#include "client/cli/document_source.h"
#include "client/cli/revision_text.h"
#include "common/config.h"

#define CONFIRM_MAX_MS (24 * 3600 * 1000ULL) /* the server's limit too */

static const ProtobufCServiceDescriptor *const service = &postern__v1__revisions__descriptor;

static enum status lost(struct cli *cli, enum status status, struct error *err)
{
	struct error why = *err;

	if (status == STATUS_OK ||
		(!client_was_lost(cli->client, err) && status != STATUS_DEADLINE_EXCEEDED))
		return status;
	return error_reason(err, status, why.reason,
		"%.200s; whether it was done is not known: see 'postern policy history'", why.text);
}

static enum status read_revision(
	const char *text, const char *what, uint64_t *ret_number, struct error *err)
{
	if (parse_number(text, 1, INT64_MAX, ret_number, NULL) == STATUS_OK)
		return STATUS_OK;
	return error_field(err, "revision",
		"%s: '%.64s' is no revision: write its number, as 'postern policy history' prints "
		"it",
		what, text);
}

static enum status read_if_revision(
	const struct args *args, uint64_t *ret_number, struct error *err)
{
	const char *value = args_value(args, "if-revision");

	return value == NULL ? STATUS_OK : read_revision(value, "--if-revision", ret_number, err);
}

/* ---- apply ---- */

static void print_applied(struct cli *cli, const ProtobufCMessage *message)
{
	revision_print_applied(
		cli, (const Postern__V1__ApplyReply *)message, args_has(&cli->args, "dry-run"));
}

/* What would change: told before its effects. */
static enum status print_diff(
	struct cli *cli, const struct document_source *source, struct error *err)
{
	Postern__V1__PolicyDocument *current = NULL;
	size_t changes = 0;

	enum status status = document_fetch(cli, 0, &current, NULL, err);
	if (status != STATUS_OK)
		return status;
	bool ok = revision_print_diff(cli, &current->base, source->file->message, &changes);
	postern__v1__policy_document__free_unpacked(current, NULL);
	return ok ? STATUS_OK : error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
}

static enum status apply(struct cli *cli, struct document_source *source,
	Postern__V1__ApplyRequest *request, struct error *err)
{
	enum status status = document_source_open(cli, source, err);
	if (status != STATUS_OK)
		return status;
	request->source = &source->message;
	if (request->dry_run && !cli_is_structured(cli))
		status = print_diff(cli, source, err);
	if (status == STATUS_OK)
		status = lost(cli,
			cli_show(cli, service, "Apply", &request->base, print_applied, err), err);
	if (status != STATUS_OK)
		document_source_name_place(source, err);
	return status;
}

enum status policy_apply(struct cli *cli, struct error *err)
{
	Postern__V1__ApplyRequest request = POSTERN__V1__APPLY_REQUEST__INIT;
	struct document_source source;

	request.message = cli_text(args_value(&cli->args, "message"));
	request.dry_run = args_has(&cli->args, "dry-run");
	enum status status = read_if_revision(&cli->args, &request.if_revision, err);
	if (status == STATUS_OK)
		status = args_duration(
			&cli->args, "confirm", CONFIRM_MAX_MS, &request.confirm_ms, err);
	if (status != STATUS_OK)
		return status;
	status = apply(cli, &source, &request, err);
	document_source_fini(&source);
	return status;
}

/* ---- confirm, rollback ---- */

static void print_confirmed(struct cli *cli, const ProtobufCMessage *message)
{
	const Postern__V1__Revision *revision = (const Postern__V1__Revision *)message;

	fprintf(cli->out, "revision %" PRIu64 " is confirmed and stays in force\n",
		revision->number);
}

enum status policy_confirm(struct cli *cli, struct error *err)
{
	Postern__V1__ConfirmRequest request = POSTERN__V1__CONFIRM_REQUEST__INIT;
	enum status status = STATUS_OK;

	if (cli->args.operand_count != 0)
		status = read_revision(
			cli->args.operands[0], "policy confirm", &request.revision, err);
	if (status == STATUS_OK)
		status = lost(cli,
			cli_show(cli, service, "Confirm", &request.base, print_confirmed, err),
			err);
	return status;
}

enum status policy_rollback(struct cli *cli, struct error *err)
{
	Postern__V1__RollbackRequest request = POSTERN__V1__ROLLBACK_REQUEST__INIT;

	request.message = cli_text(args_value(&cli->args, "message"));
	enum status status =
		read_revision(cli->args.operands[0], "policy rollback", &request.revision, err);
	if (status == STATUS_OK)
		status = read_if_revision(&cli->args, &request.if_revision, err);
	if (status == STATUS_OK)
		status = lost(cli,
			cli_show(cli, service, "Rollback", &request.base, print_applied, err), err);
	return status;
}
