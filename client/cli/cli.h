/* What every command is given, and what commands share: asking the server and showing its answers.
 */
#ifndef POSTERN_CLI_CLI_H
#define POSTERN_CLI_CLI_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "client/cli/args.h"
#include "client/cli/client.h"
#include "client/cli/grid.h"
#include "client/text/json.h"
#include "common/id.h"

#define CLI_MAX_DEADLINE_MS (24 * 3600 * 1000ULL)

enum cli_format { CLI_HUMAN, CLI_JSON, CLI_YAML };

struct cli {
	struct args args;
	enum cli_format format;
	bool documents; /* YAML: there is one in the output, the next begins with "---" */
	FILE *out, *err;
	struct client *client; /* NULL until cli_connect */
	int64_t deadline_us; /* clock_mono_us() */
	int output_errno; /* why `out` failed first, 0 = it did not */
	bool told; /* the answer itself says what failed: exit code only */
	char request_id[ID_TEXT_SIZE]; /* goes into the error object; "" = none */
};

/* Runs one command line; returns its exit code. Nothing of it outlives the call. */
int cli_run(int argc, char *const *argv, FILE *out, FILE *err);

/* The deadline counts from now on. Done before the command runs; again when a person has been
 * typing meanwhile. */
enum status cli_start_clock(struct cli *cli, struct error *err);

/* Connects as --server, --token-file, --ca-file and --server-name (or the environment) say. No-op
 * when connected. */
enum status cli_connect(struct cli *cli, struct error *err);

/* How a message is shown to people. */
typedef void (*cli_print_cb)(struct cli *cli, const ProtobufCMessage *message);
typedef void (*cli_row_cb)(struct grid *grid, const ProtobufCMessage *message);

/* A unary call whose reply is printed: for programs, or by `print`. */
enum status cli_show(struct cli *cli, const ProtobufCServiceDescriptor *service, const char *method,
	const ProtobufCMessage *request, cli_print_cb print, struct error *err);
/* A stream whose items are listed: for programs one by one, or a row each. `none` is said (to
 * people) when there is no item. */
enum status cli_list(struct cli *cli, const ProtobufCServiceDescriptor *service, const char *method,
	const ProtobufCMessage *request, const char *const *headers, cli_row_cb row,
	const char *none, struct error *err);
/* A unary call whose reply carries a new token: it is written to --out FILE (./NAME.token), which
 * must not exist and is made before the server is asked. `token_of` finds it in the reply; `kind`
 * and `name` are for people. */
enum status cli_issue_token(struct cli *cli, const ProtobufCServiceDescriptor *service,
	const char *method, const ProtobufCMessage *request,
	const char *(*token_of)(const ProtobufCMessage *reply), const char *kind, const char *name,
	struct error *err);

/* For programs: JSON or YAML. */
bool cli_is_structured(const struct cli *cli);
/* Prints a message as a JSON line or a YAML document; `extra` (may be NULL) is added to it, and
 * `message` NULL prints it alone. False when the output is broken. */
bool cli_message(struct cli *cli, const ProtobufCMessage *message, const struct json_extra *extra);
/* The same of the error that a command ends with. */
bool cli_error_object(struct cli *cli, const struct error *err, const struct json_extra *extra);
/* Was it written, and is the output whole? Keeps the cause (errno) of the first failure. */
bool cli_output_is_good(struct cli *cli, bool written);
/* Hands what was printed to its reader now; false when the output is broken. */
bool cli_push(struct cli *cli);
/* "label      text" with the text escaped; nothing when text is empty. */
void cli_field(FILE *out, const char *label, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* "a,b,c", cut at the buffer's end. */
void cli_join(char *const *words, size_t count, char *text, size_t size);

/* For message fields, whose type is char *; NULL becomes the empty string. */
char *cli_text(const char *text);
/* A name as the server accepts it ([a-z0-9][a-z0-9._-]{0,62}); checked here because files are
 * called after it. */
enum status cli_check_name(const char *name, struct error *err);
/* "10.77.2.2:1046", "[fd77::1]:1046"; the port is left out when 0. */
void cli_address(const char *address, uint32_t port, char *text, size_t size);

#endif
