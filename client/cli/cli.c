/* One command line, from its words to its exit code. A command returns an error; only finish()
 * tells it: as one line on standard error, or with -o json and -o yaml as an object on standard
 * output, where the program that asked for it reads. */
#include "client/cli/cli.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/help.h"
#include "client/cli/token.h"
#include "client/text/text.h"
#include "common/clock.h"

static void print_error(const struct cli *cli, const struct error *err)
{
	const struct command_spec *command = cli->args.command;
	const char *phrase = exit_phrase(err);
	char text[4 * sizeof(err->text) + 1];

	text_escape(err->text, strlen(err->text), text, sizeof(text));
	fflush(cli->out); /* what was printed before comes before */
	fputs("postern: ", cli->err);
	if (command != NULL)
		fprintf(cli->err, "%s%s%s: ", command->noun, command->verb != NULL ? " " : "",
			command->verb != NULL ? command->verb : "");
	/* The server's text often begins with the phrase already. */
	if (phrase[0] != '\0' && strncmp(text, phrase, strlen(phrase)) != 0)
		fprintf(cli->err, "%s: ", phrase);
	fprintf(cli->err, "%s", text);
	if (err->revision != 0 && strstr(text, "revision") == NULL)
		fprintf(cli->err, " (revision %" PRIu64 ")", err->revision);
	fputc('\n', cli->err);
}

static enum status check_output(struct cli *cli, struct error *err);

static int finish(struct cli *cli, enum status status, struct error *err)
{
	if (status == STATUS_OK)
		status = check_output(cli, err);
	if (status == STATUS_OK)
		return EXIT_OK;
	err->status = status;
	if (!cli->told && cli_is_structured(cli)) {
		const struct json_extra extra[] = {{"request_id", cli->request_id}, {0}};
		cli_error_object(cli, err, cli->request_id[0] != '\0' ? extra : NULL);
		fflush(cli->out);
	} else if (!cli->told) {
		print_error(cli, err);
	}
	return (int)exit_code_of(err);
}

enum status cli_start_clock(struct cli *cli, struct error *err)
{
	uint64_t deadline_ms = cli->args.command->deadline_ms;
	enum status status =
		args_duration(&cli->args, "deadline", CLI_MAX_DEADLINE_MS, &deadline_ms, err);

	if (status == STATUS_OK)
		cli->deadline_us = deadline_ms == 0 ? CLOCK_NEVER
						    : clock_mono_us() + (int64_t)deadline_ms * 1000;
	return status;
}

static enum status run(struct cli *cli, struct error *err)
{
	enum status status = cli_start_clock(cli, err);

	return status != STATUS_OK ? status : cli->args.command->run(cli, err);
}

static enum cli_format asked_format(int argc, char *const *argv)
{
	const char *word = args_asked_format(argc, argv);

	if (word != NULL && strcmp(word, "json") == 0)
		return CLI_JSON;
	return word != NULL && strcmp(word, "yaml") == 0 ? CLI_YAML : CLI_HUMAN;
}

int cli_run(int argc, char *const *argv, FILE *out, FILE *err_out)
{
	struct cli cli = {.out = out, .err = err_out, .format = asked_format(argc, argv)};
	struct error err = {0};
	enum status status = args_parse(cli_commands, cli_globals, argc, argv, &cli.args, &err);

	if (status == STATUS_OK && args_has(&cli.args, "help"))
		help_print(&cli.args, out);
	else if (status == STATUS_OK && args_has(&cli.args, "version"))
		status = version_show(&cli, &err);
	else if (status == STATUS_OK)
		status = run(&cli, &err);
	int code = finish(&cli, status, &err);
	client_free(cli.client);
	return code;
}

/* ---- the server ---- */

static const char *setting(const struct cli *cli, const char *option, const char *variable)
{
	const char *value = args_value(&cli->args, option);

	if (value == NULL && variable != NULL)
		value = getenv(variable);
	return value != NULL && value[0] != '\0' ? value : NULL;
}

enum status cli_connect(struct cli *cli, struct error *err)
{
	struct client_config config = {
		.url = setting(cli, "server", "POSTERN_SERVER"),
		.token_file = setting(cli, "token-file", "POSTERN_TOKEN_FILE"),
		.ca_file = setting(cli, "ca-file", "POSTERN_CA_FILE"),
		.server_name = setting(cli, "server-name", NULL),
	};

	if (cli->client != NULL)
		return STATUS_OK;
	if (config.url == NULL)
		return error_field(err, "server",
			"no server: give --server URL or set POSTERN_SERVER (tls+tcp://HOST:7411, "
			"ipc:///PATH/posternd.sock)");
	if (config.token_file == NULL)
		return error_set(err, STATUS_UNAUTHENTICATED,
			"no token: give --token-file FILE or set POSTERN_TOKEN_FILE (posternd init "
			"makes admin.token)");
	if (strncmp(config.url, "tls+tcp://", 10) == 0 && config.ca_file == NULL)
		return error_field(err, "ca-file",
			"TLS needs the server's CA: give --ca-file FILE or set POSTERN_CA_FILE "
			"(ca.pem, made by posternd init)");
	enum status status = client_new(&config, &cli->client, err);
	return status != STATUS_OK ? status : client_connect(cli->client, cli->deadline_us, err);
}

struct showing {
	struct cli *cli;
	cli_print_cb print;
};

static bool show_message(void *arg, const ProtobufCMessage *message)
{
	struct showing *showing = arg;

	if (cli_is_structured(showing->cli))
		return cli_message(showing->cli, message, NULL);
	showing->print(showing->cli, message);
	return true;
}

enum status cli_show(struct cli *cli, const ProtobufCServiceDescriptor *service, const char *method,
	const ProtobufCMessage *request, cli_print_cb print, struct error *err)
{
	struct showing showing = {cli, print};
	struct client_call call = {
		.service = service,
		.method = method,
		.request = request,
		.deadline_us = cli->deadline_us,
		.on_message = show_message,
		.arg = &showing,
	};
	enum status status = cli_connect(cli, err);

	return status != STATUS_OK ? status : client_call(cli->client, &call, err);
}

struct listing {
	struct cli *cli;
	struct grid *grid;
	cli_row_cb row;
};

static bool list_message(void *arg, const ProtobufCMessage *message)
{
	struct listing *listing = arg;

	if (cli_is_structured(listing->cli))
		return cli_message(listing->cli, message, NULL);
	errno = 0;
	listing->row(listing->grid, message);
	return !listing->grid->failed && cli_output_is_good(listing->cli, true);
}

enum status cli_list(struct cli *cli, const ProtobufCServiceDescriptor *service, const char *method,
	const ProtobufCMessage *request, const char *const *headers, cli_row_cb row,
	const char *none, struct error *err)
{
	struct grid grid;
	struct listing listing = {cli, &grid, row};
	struct client_call call = {
		.service = service,
		.method = method,
		.request = request,
		.stream = true,
		.deadline_us = cli->deadline_us,
		.on_message = list_message,
		.arg = &listing,
	};
	enum status status = cli_connect(cli, err);

	if (status != STATUS_OK)
		return status;
	grid_init(&grid, cli->out, headers);
	status = client_call(cli->client, &call, err);
	grid_flush(&grid);
	if (status == STATUS_OK && grid.failed)
		status = error_set(err, STATUS_RESOURCE_EXHAUSTED, "out of memory");
	if (status == STATUS_OK && !cli_is_structured(cli) && grid.rows_in_all == 0)
		fprintf(cli->out, "%s\n", none);
	grid_fini(&grid);
	return status;
}

/* ---- tokens ---- */

struct issuing {
	struct cli *cli;
	struct token_file file;
	const char *(*token_of)(const ProtobufCMessage *reply);
	const char *kind, *name;
	enum status status; /* of keeping the token */
	struct error *err;
};

static bool keep_token(void *arg, const ProtobufCMessage *reply)
{
	struct issuing *issuing = arg;
	FILE *out = issuing->cli->out;

	issuing->status = token_keep(&issuing->file, issuing->token_of(reply), issuing->err);
	if (issuing->status != STATUS_OK)
		return false;
	if (cli_is_structured(issuing->cli)) {
		const struct json_extra extra[] = {{"token_file", issuing->file.path}, {0}};
		return cli_message(issuing->cli, reply, extra);
	}
	fprintf(out, "%s %s added; its token is in %s (mode 0600; the server keeps no copy)\n",
		issuing->kind, issuing->name, issuing->file.path);
	return true;
}

enum status cli_issue_token(struct cli *cli, const ProtobufCServiceDescriptor *service,
	const char *method, const ProtobufCMessage *request,
	const char *(*token_of)(const ProtobufCMessage *reply), const char *kind, const char *name,
	struct error *err)
{
	struct issuing issuing = {
		.cli = cli, .token_of = token_of, .kind = kind, .name = name, .err = err};
	struct client_call call = {
		.service = service,
		.method = method,
		.request = request,
		.deadline_us = cli->deadline_us,
		.on_message = keep_token,
		.arg = &issuing,
	};
	char path[80];

	snprintf(path, sizeof(path), "%s.token", name);
	const char *out = args_value(&cli->args, "out");
	enum status status = token_reserve(out != NULL ? out : path, &issuing.file, err);
	if (status != STATUS_OK)
		return status;
	status = cli_connect(cli, err);
	bool asked = status == STATUS_OK;
	if (asked)
		status = client_call(cli->client, &call, err);
	/* The answer never came: say what may be. */
	if (asked && status != STATUS_OK &&
		(client_was_lost(cli->client, err) || status == STATUS_DEADLINE_EXCEEDED)) {
		struct error why = *err;
		error_reason(err, status, why.reason,
			"%.180s; %s %s may or may not have been added: list them, and if it is "
			"there add "
			"another name, for its token is lost",
			why.text, kind, name);
	}
	token_fini(&issuing.file);
	return status != STATUS_OK ? status : issuing.status;
}

static enum status check_output(struct cli *cli, struct error *err)
{
	/* A reader that has gone had enough; that is no error. */
	if (cli_push(cli) || cli->output_errno == EPIPE)
		return STATUS_OK;
	cli->format = CLI_HUMAN; /* there is no way to tell it there */
	return error_errno(
		err, STATUS_DATA_LOSS, cli->output_errno, "the output could not be written");
}

char *cli_text(const char *text)
{
	return text != NULL ? (char *)(uintptr_t)text : (char *)(uintptr_t)protobuf_c_empty_string;
}

enum status cli_check_name(const char *name, struct error *err)
{
	size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._-");

	if (name[0] == '\0' || name[length] != '\0' || length > 63 ||
		!isalnum((unsigned char)name[0]))
		return error_field(err, "name",
			"'%.64s' is no name: 1 to 63 of a-z, 0-9, '.', '_' and '-', beginning with "
			"a letter or digit",
			name);
	return STATUS_OK;
}

void cli_address(const char *address, uint32_t port, char *text, size_t size)
{
	bool six = strchr(address, ':') != NULL;

	if (port == 0)
		snprintf(text, size, "%s", address);
	else
		snprintf(text, size, "%s%s%s:%u", six ? "[" : "", address, six ? "]" : "", port);
}
