/* Parses the command line from one table of commands and options; help, completion and the manual's
 * test read it too. */
#ifndef POSTERN_CLI_ARGS_H
#define POSTERN_CLI_ARGS_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/addr.h"
#include "common/error.h"

struct cli;

#define ARGS_MAX_VALUES 256
#define ARGS_MAX_OPERANDS 4

enum { OPTION_REPEAT = 1, OPTION_REQUIRED = 2 };

struct option_spec {
	const char *name; /* without dashes; NULL ends a table */
	char letter; /* 0 = none */
	unsigned flags;
	const char *value; /* what the value is called in help; NULL = a switch */
	const ProtobufCEnumDescriptor *choices; /* the value must be one of these short names */
	const char *const *words; /* or one of these */
	const char *help;
};

struct command_spec {
	const char *noun; /* NULL ends the table */
	const char *verb; /* NULL = the noun alone is the command */
	const char *operand; /* what the operand is called in help; NULL = takes none */
	unsigned min_operands, max_operands;
	const struct option_spec *options; /* NULL = none of its own */
	uint32_t deadline_ms; /* when --deadline is not given; 0 = none */
	const char *summary;
	const char *more; /* a further paragraph of its help, may be NULL */
	const char *example;
	enum status (*run)(struct cli *cli, struct error *err);
};

struct arg_value {
	const struct option_spec *option;
	const char *value; /* NULL for switches */
};

/* What was read; strings point into argv. On failure it holds what was read up to the bad word. */
struct args {
	const struct command_spec *command; /* NULL: none named, or help about a whole noun */
	const char *noun;
	const char *operands[ARGS_MAX_OPERANDS];
	size_t operand_count;
	struct arg_value values[ARGS_MAX_VALUES];
	size_t value_count;
};

/* Global options may stand before or after the command. A bad word is named, with the nearest good
 * one. --help and
 * --version (of `globals`) lift every requirement. */
enum status args_parse(const struct command_spec *commands, const struct option_spec *globals,
	int argc, char *const *argv, struct args *ret_args, struct error *err);
/* What the last -o of the line says, NULL without one. Works on lines that args_parse refuses. */
const char *args_asked_format(int argc, char *const *argv);
/* verb may be NULL; NULL when there is no such command. */
const struct command_spec *args_find_command(
	const struct command_spec *commands, const char *noun, const char *verb);

bool args_has(const struct args *args, const char *name);
const char *args_value(
	const struct args *args, const char *name); /* the last one; NULL = not given */
const char *args_nth(const struct args *args, const char *name, size_t n);

/* Each leaves its result untouched when the option was not given, and names option and value on
 * failure. */
enum status args_number(const struct args *args, const char *name, uint64_t max,
	uint64_t *ret_number, struct error *err);
/* At least 1 ms. */
enum status args_duration(const struct args *args, const char *name, uint64_t max_ms,
	uint64_t *ret_ms, struct error *err);
enum status args_choice(
	const struct args *args, const char *name, int *ret_value, struct error *err);
enum status args_endpoint(const struct args *args, const char *name, bool need_port,
	struct endpoint *ret_endpoint, struct error *err);
/* "10.0.0.1", "fd00::1" or "[fd00::1]". */
enum status args_address(
	const struct args *args, const char *name, struct addr *ret_addr, struct error *err);
enum status args_time(const struct args *args, const char *name, int64_t now_us,
	int64_t *ret_real_us, struct error *err);
enum status args_id(
	const struct args *args, const char *name, const char **ret_id, struct error *err);

#endif
