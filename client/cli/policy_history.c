/* policy history, show and diff: looking back. */
#include <inttypes.h>
#include <string.h>

#include "client/cli/cli.h"
#include "client/cli/commands.h"
#include "client/cli/document_source.h"
#include "client/cli/revision_text.h"
#include "client/text/text.h"
#include "common/config.h"

/* ---- history ---- */

static void list_row(struct grid *grid, const ProtobufCMessage *message)
{
	const Postern__V1__Revision *revision = (const Postern__V1__Revision *)message;
	char time[TEXT_TIME_SIZE], state[160];

	text_time(revision->time_us, false, time);
	revision_tell_state(revision, state, sizeof(state));
	grid_cell(grid, "%" PRIu64, revision->number);
	grid_cell(grid, "%s", time);
	grid_cell(grid, "%s", revision->author);
	grid_cell(grid, "%" PRIu64, revision->rules);
	grid_cell(grid, "%s", state);
	grid_cell(grid, "%s", revision->message);
}

enum status policy_history(struct cli *cli, struct error *err)
{
	static const char *const headers[] = {
		"REVISION", "TIME", "AUTHOR", "RULES", "STATE", "MESSAGE", NULL};
	Postern__V1__RevisionListRequest request = POSTERN__V1__REVISION_LIST_REQUEST__INIT;
	uint64_t limit = 0;

	enum status status = args_number(&cli->args, "limit", 1000, &limit, err);
	if (status != STATUS_OK)
		return status;
	request.limit = (uint32_t)limit;
	return cli_list(cli, &postern__v1__revisions__descriptor, "List", &request.base, headers,
		list_row, "no revision", err);
}

/* ---- show ---- */

static enum status read_number(const char *text, uint64_t *ret_number, struct error *err)
{
	if (parse_number(text, 1, INT64_MAX, ret_number, NULL) == STATUS_OK)
		return STATUS_OK;
	return error_field(err, "revision",
		"'%.64s' is no revision: write its number, as 'postern policy history' prints it; "
		"a "
		"file is named with -f",
		text);
}

enum status policy_show(struct cli *cli, struct error *err)
{
	Postern__V1__PolicyDocument *document = NULL;
	Postern__V1__Revision *revision = NULL;
	enum status status = STATUS_OK;
	uint64_t number = 0;

	if (cli->args.operand_count != 0)
		status = read_number(cli->args.operands[0], &number, err);
	if (status == STATUS_OK)
		status = document_fetch(cli, number, &document, &revision, err);
	if (status != STATUS_OK)
		return status;
	if (!cli_is_structured(cli)) {
		revision_print_comment(cli->out, revision);
		if (!message_write_yaml(cli->out, &document->base) && !ferror(cli->out))
			status = error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	} else {
		cli_message(cli, &document->base, NULL);
	}
	postern__v1__policy_document__free_unpacked(document, NULL);
	postern__v1__revision__free_unpacked(revision, NULL);
	return status;
}

/* ---- diff ---- */

/* One of the two documents that are compared: of a file, or of a revision. */
struct side {
	struct message_file *file;
	Postern__V1__PolicyDocument *fetched;
};

static const ProtobufCMessage *side_message(const struct side *side)
{
	return side->file != NULL ? side->file->message : &side->fetched->base;
}

static void side_fini(struct side *side)
{
	message_file_free(side->file);
	if (side->fetched != NULL)
		postern__v1__policy_document__free_unpacked(side->fetched, NULL);
}

static enum status compare(struct cli *cli, const struct side sides[2], struct error *err)
{
	size_t changes = 0;

	if (!revision_print_diff(cli, side_message(&sides[0]), side_message(&sides[1]), &changes))
		return cli->output_errno != 0 || ferror(cli->out)
			? STATUS_OK /* told at the end of every command */
			: error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	if (changes == 0 && !cli_is_structured(cli))
		fputs("no difference\n", cli->out);
	return STATUS_OK;
}

/* Revisions first, then files; what is in force takes the place that is left: the second beside a
 * revision, the first beside a file. */
static enum status open_sides(struct cli *cli, struct side sides[2], struct error *err)
{
	const struct args *args = &cli->args;
	const char *files[2] = {args_nth(args, "file", 0), args_nth(args, "file", 1)};
	size_t file_count = files[0] == NULL ? 0 : files[1] == NULL ? 1 : 2;
	size_t next = args->operand_count == 0 && file_count == 1 ? 1 : 0;
	bool taken[2] = {false, false};
	enum status status = STATUS_OK;

	if (args->operand_count + file_count == 0 || args->operand_count + file_count > 2 ||
		args_nth(args, "file", 2) != NULL)
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"say what to compare: one or two of revisions and -f FILE");
	for (size_t i = 0; i < args->operand_count && status == STATUS_OK; i++) {
		uint64_t number = 0;
		status = read_number(args->operands[i], &number, err);
		if (status == STATUS_OK)
			status = document_fetch(cli, number, &sides[next].fetched, NULL, err);
		taken[next++] = true;
	}
	for (size_t i = 0; i < file_count && status == STATUS_OK; i++) {
		status = document_read(files[i], &sides[next].file, err);
		taken[next++] = true;
	}
	for (size_t i = 0; i < 2 && status == STATUS_OK; i++)
		if (!taken[i])
			status = document_fetch(cli, 0, &sides[i].fetched, NULL, err);
	return status;
}

enum status policy_diff(struct cli *cli, struct error *err)
{
	struct side sides[2] = {{0}};

	enum status status = open_sides(cli, sides, err);
	if (status == STATUS_OK)
		status = compare(cli, sides, err);
	side_fini(&sides[0]);
	side_fini(&sides[1]);
	return status;
}
