#include <inttypes.h>

#include "client/cli/cli.h"
#include "client/cli/commands.h"
#include "client/cli/document_source.h"
#include "client/cli/revision_text.h"
#include "client/text/names.h"

struct testing {
	struct cli *cli;
	struct grid grid;
	size_t tests, failed;
};

static void result_row(struct grid *grid, const Postern__V1__PolicyTestResult *result)
{
	const Postern__V1__PolicyTest *test = result->test;
	char asked[400], expected[NAME_SIZE], got[400] = "";

	question_tell(test, asked, sizeof(asked));
	name_of(&postern__v1__action__descriptor, (int)test->expect, expected);
	if (result->verdict != NULL)
		verdict_tell(result->verdict, got, sizeof(got));
	if (result->verdict != NULL && result->verdict->problem[0] != '\0')
		snprintf(got, sizeof(got), "%s", result->verdict->problem);
	grid_cell(grid, "%s", result->passed ? "passed" : "FAILED");
	grid_cell(grid, "%s", test->name);
	grid_cell(grid, "%s", asked);
	grid_cell(grid, "%s%s%s", expected, test->rule[0] != '\0' ? " by " : "", test->rule);
	grid_cell(grid, "%s", got);
}

static bool on_result(void *arg, const ProtobufCMessage *message)
{
	struct testing *testing = arg;
	const Postern__V1__PolicyTestResult *result =
		(const Postern__V1__PolicyTestResult *)message;

	testing->tests++;
	testing->failed += !result->passed;
	if (cli_is_structured(testing->cli))
		return cli_message(testing->cli, message, NULL);
	if (result->test != NULL)
		result_row(&testing->grid, result);
	return !testing->grid.failed;
}

static enum status run_tests(
	struct testing *testing, struct document_source *source, struct error *err)
{
	Postern__V1__PolicyTestRequest request = POSTERN__V1__POLICY_TEST_REQUEST__INIT;
	struct cli *cli = testing->cli;
	struct client_call call = {
		.service = &postern__v1__revisions__descriptor,
		.method = "Test",
		.request = &request.base,
		.stream = true,
		.on_message = on_result,
		.arg = testing,
	};

	enum status status = document_source_open(cli, source, err);
	if (status != STATUS_OK)
		return status;
	request.source = &source->message;
	call.deadline_us = cli->deadline_us;
	status = client_call(cli->client, &call, err);
	return status == STATUS_OK ? status : document_source_name_place(source, err);
}

enum status policy_test(struct cli *cli, struct error *err)
{
	static const char *const headers[] = {
		"RESULT", "TEST", "QUESTION", "EXPECTED", "VERDICT", NULL};
	struct testing testing = {.cli = cli};
	struct document_source source;

	grid_init(&testing.grid, cli->out, headers);
	enum status status = run_tests(&testing, &source, err);
	grid_flush(&testing.grid);
	if (status == STATUS_OK && testing.grid.failed)
		status = error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	grid_fini(&testing.grid);
	document_source_fini(&source);
	if (status != STATUS_OK)
		return status;
	if (testing.failed != 0) {
		cli->told = cli_is_structured(cli);
		return error_reason(err, STATUS_FAILED_PRECONDITION, REASON_POLICY_TEST_FAILED,
			"%zu of %zu tests failed", testing.failed, testing.tests);
	}
	if (!cli_is_structured(cli) && testing.tests == 0)
		fputs("the document has no test\n", cli->out);
	return STATUS_OK;
}
