/* The command line `postern`: one table of commands and options drives parsing, help and the
 * manual's check. */
#ifndef POSTERN_CLI_CLI_H
#define POSTERN_CLI_CLI_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "postern/v1/types.pb-c.h"
#include "proto/rpc/rpc.h"

enum {
	EXIT_GOOD = 0,
	EXIT_OTHER = 1,
	EXIT_USAGE = 2,
	EXIT_PROTOCOL_RULES = 10,
	EXIT_SITE_RULES = 11,
	EXIT_SCOPE = 12,
	EXIT_QUOTA = 13,
	EXIT_GATEWAY_DOWN = 14,
	EXIT_DEADLINE = 15,
	EXIT_UNAUTHENTICATED = 16
};

struct option_spec {
	const char *name; /* without the dashes */
	const char *value; /* placeholder, NULL = a switch */
	const char *help;
};

#define OPTIONS_MAX 20
#define GIVEN_MAX 128

struct cli;
struct command {
	const char *noun, *verb; /* verb NULL: the noun is the command */
	const char *operands; /* placeholder text, "" = none */
	int least, most; /* how many operands */
	const char *help;
	int (*run)(struct cli *cli);
	struct option_spec options[OPTIONS_MAX];
};
extern const struct command commands[];
extern const struct option_spec global_options[];

struct cli {
	const struct command *command;
	const char *operands[8];
	size_t operand_count;
	struct {
		const char *name, *value;
	} given[GIVEN_MAX];
	size_t given_count;
	bool json;
	uint64_t deadline_ms;
	/* client.c: */
	struct loop *loop;
	struct rpc_client *rpc;
	char *token;
	bool ready, failed, was_ready;
	struct error link_error;
};

/* args.c. Usage errors are printed; the result is an exit code, EXIT_GOOD to go on, or -1 when help
 * was printed. */
int args_parse(struct cli *cli, int argc, char **argv);
const char *args_get(const struct cli *cli, const char *name); /* the last one given, NULL = none */
/* The i-th of a repeated option, NULL past the end. */
const char *args_nth(const struct cli *cli, const char *name, size_t i);
void args_help(const struct command *command); /* NULL = all */
int usage_error(const struct cli *cli, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* exit.c */
int exit_code(const struct error *err);
/* Prints the error (and in JSON mode the object on standard output) and returns its exit code. */
int report(const struct cli *cli, const struct error *err);

/* client.c: one connection, made at the first call. */
typedef void (*reply_cb)(struct cli *cli, const ProtobufCMessage *reply, void *arg);
/* A unary call or a stream (every item goes to cb). An exit code. */
int call(struct cli *cli, const ProtobufCServiceDescriptor *service, const char *method,
	const ProtobufCMessage *request, bool stream, reply_cb cb, void *arg);
enum status call_raw(struct cli *cli, const ProtobufCServiceDescriptor *service, const char *method,
	const ProtobufCMessage *request, bool stream, reply_cb cb, void *arg, struct error *err);
enum status cli_connect(struct cli *cli, struct error *err);
void cli_fini(struct cli *cli);

/* json.c */
void print_json(const ProtobufCMessage *message);
void print_json_error(const struct error *err);
/* "used-up" for END_REASON_USED_UP. */
const char *enum_text(const ProtobufCEnumDescriptor *type, unsigned value, char *text, size_t size);
bool enum_parse(const ProtobufCEnumDescriptor *type, const char *text, int *ret_value);
int unknown_enum(const struct cli *cli, const char *option, const ProtobufCEnumDescriptor *type,
	const char *text);

/* print.c */
void print_time(
	int64_t time_us, char *text, size_t size); /* local, to the millisecond; "-" for 0 */
void print_endpoint(const char *addr, uint32_t port, char *text, size_t size);

/* token.c: where a new token goes; checked before the server is asked. */
int token_file_prepare(struct cli *cli, const char *name, char *path, size_t size);
int token_file_write(struct cli *cli, const char *path, const char *token);

/* one file per noun */
int gateway_add(struct cli *cli);
int gateway_list(struct cli *cli);
int gateway_show(struct cli *cli);
int filter_add(struct cli *cli);
int filter_list(struct cli *cli);
int auditor_add(struct cli *cli);
int protocol_register(struct cli *cli);
int protocol_list(struct cli *cli);
int policy_allow(struct cli *cli);
int policy_rules(struct cli *cli);
int session_open(struct cli *cli);
int session_close(struct cli *cli);
int session_list(struct cli *cli);
int grant_request(struct cli *cli);
int grant_list(struct cli *cli);
int grant_show(struct cli *cli);
int grant_cancel(struct cli *cli);
int events_watch(struct cli *cli);
int audit_query(struct cli *cli);
int audit_verify(struct cli *cli);
int print_version(struct cli *cli);
int print_help(struct cli *cli);

/* events.c, also for audit query and grant show */
void print_entry(const struct cli *cli, const Postern__V1__Entry *entry);

#endif
