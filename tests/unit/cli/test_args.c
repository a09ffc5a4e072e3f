#include <criterion/criterion.h>
#include <string.h>

#include "client/cli/args.h"
#include "client/cli/commands.h"
#include "postern/v1/grants.pb-c.h"
#include "postern/v1/types.pb-c.h"

#define WORDS(...) ((char *[]){(char *)"postern", __VA_ARGS__, NULL})

static struct args args;
static struct error err;

static enum status parse(char *const *argv)
{
	int argc = 0;

	while (argv[argc] != NULL)
		argc++;
	memset(&err, 0, sizeof(err));
	return args_parse(cli_commands, cli_globals, argc, argv, &args, &err);
}

#define REQUEST                                                                                    \
	"grant", "request", "--gateway", "gw1", "--to", "10.77.2.2:1046", "--protocol", "ftp"

Test(args, every_command_has_what_help_needs)
{
	for (const struct command_spec *c = cli_commands; c->noun != NULL; c++) {
		cr_assert_not_null(c->run, "%s %s", c->noun, c->verb);
		cr_assert_not_null(c->summary, "%s %s", c->noun, c->verb);
		cr_assert_eq(c->operand == NULL, c->max_operands == 0);
		cr_assert_leq(c->min_operands, c->max_operands);
		cr_assert_leq(c->max_operands, ARGS_MAX_OPERANDS);
		for (const struct option_spec *o = c->options; o != NULL && o->name != NULL; o++) {
			cr_assert_not_null(o->help, "--%s", o->name);
			for (const struct option_spec *g = cli_globals; g->name != NULL; g++)
				cr_assert_str_neq(o->name, g->name,
					"--%s of %s would hide a global one", o->name, c->noun);
		}
	}
}

Test(args, options_stand_anywhere)
{
	cr_assert_eq(parse(WORDS("-o", "json", "--deadline=2s", REQUEST, "--server", "ipc:///x",
			     "--flag", "timeout", "--flag=address-based", "--notify")),
		STATUS_OK, "%s", err.text);
	cr_assert_eq(args.command, args_find_command(cli_commands, "grant", "request"));
	cr_assert_str_eq(args_value(&args, "output"), "json");
	cr_assert_str_eq(args_value(&args, "deadline"), "2s");
	cr_assert_str_eq(args_value(&args, "server"), "ipc:///x");
	cr_assert_str_eq(args_nth(&args, "flag", 0), "timeout");
	cr_assert_str_eq(args_nth(&args, "flag", 1), "address-based");
	cr_assert_null(args_nth(&args, "flag", 2));
	cr_assert(args_has(&args, "notify"));
	cr_assert_not(args_has(&args, "context"));
}

Test(args, operands_and_dashes)
{
	cr_assert_eq(parse(WORDS("gateway", "add", "gw1")), STATUS_OK);
	cr_assert_str_eq(args.operands[0], "gw1");
	cr_assert_eq(parse(WORDS("gateway", "show", "--", "--odd")), STATUS_OK);
	cr_assert_str_eq(args.operands[0], "--odd");
	cr_assert_eq(parse(WORDS(REQUEST, "--context", "-x")), STATUS_OK);
	cr_assert_str_eq(args_value(&args, "context"), "-x");
	cr_assert_eq(parse(WORDS(REQUEST, "--context=--notify")), STATUS_OK);
	cr_assert_str_eq(args_value(&args, "context"), "--notify");
	cr_assert_eq(parse(WORDS("gateway", "list", "-ojson")), STATUS_OK);
	cr_assert_str_eq(args_value(&args, "output"), "json");
}

struct bad {
	char *const *argv;
	const char *text;
};

Test(args, a_bad_word_is_named_with_the_nearest_good_one)
{
	const struct bad table[] = {
		{WORDS("grnt"), "unknown command 'grnt': did you mean 'grant'?"},
		{WORDS("zzzzzzzz"), "unknown command 'zzzzzzzz': see 'postern --help'"},
		{WORDS("grant", "reqest"),
			"unknown grant command 'reqest': did you mean 'request'?"},
		{WORDS("grant"),
			"grant: say what to do: request, bundle, reserve, commit, renew, list, "
			"show, "
			"cancel"},
		{WORDS("grant", "request", "--gatway", "x"),
			"unknown option '--gatway': did you mean '--gateway'?"},
		{WORDS("--kind", "x", "events", "watch"),
			"'--kind' belongs to a command: write it behind the command's name"},
		{WORDS("grant", "list", "extra"),
			"unexpected word 'extra': see 'postern grant list --help'"},
		{WORDS("gateway", "add"), "NAME is missing: see 'postern gateway add --help'"},
		{WORDS("grant", "request"),
			"--gateway NAME is missing: see 'postern grant request --help'"},
		{WORDS("grant", "request", "--gateway"), "--gateway needs a value: --gateway NAME"},
		{WORDS("grant", "request", "--gateway", "--client", "x"),
			"--gateway needs a value: --gateway NAME"},
		{WORDS(REQUEST, "--notify=yes"), "--notify takes no value: leave 'yes' out"},
		{WORDS(REQUEST, "--gateway", "gw2"), "--gateway is given twice: give it once"},
		{WORDS(REQUEST, "--flag", "timout"),
			"--flag: unknown value 'timout': did you mean 'timeout'?"},
		{WORDS(REQUEST, "--wait", "zzzzzzzz"),
			"--wait: unknown value 'zzzzzzzz': use one of installed, decided"},
		{WORDS("-o", "jsn", "version"),
			"--output: unknown value 'jsn': did you mean 'json'?"},
		{WORDS("-x"), "unknown option '-x': see 'postern --help'"},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		cr_assert_eq(parse(table[i].argv), STATUS_INVALID_ARGUMENT, "row %zu", i);
		cr_assert_str_eq(err.text, table[i].text);
	}
	cr_assert_eq(parse((char *[]){(char *)"postern", NULL}), STATUS_INVALID_ARGUMENT);
	cr_assert_str_eq(err.text, "no command given: see 'postern help'");
}

Test(args, more_options_than_fit_are_refused)
{
	static char *argv[2 * ARGS_MAX_VALUES + 16];
	size_t n = 0;

	argv[n++] = (char *)"postern";
	argv[n++] = (char *)"events";
	argv[n++] = (char *)"watch";
	for (int i = 0; i <= ARGS_MAX_VALUES; i++) {
		argv[n++] = (char *)"--kind";
		argv[n++] = (char *)"closed";
	}
	cr_assert_eq(parse(argv), STATUS_INVALID_ARGUMENT);
	cr_assert_eq(args.value_count, (size_t)ARGS_MAX_VALUES);
}

Test(args, help_and_version_lift_requirements)
{
	cr_assert_eq(parse(WORDS("grant", "request", "--help")), STATUS_OK);
	cr_assert_eq(parse(WORDS("grant", "-h")), STATUS_OK);
	cr_assert_null(args.command);
	cr_assert_str_eq(args.noun, "grant");
	cr_assert_eq(parse(WORDS("-V")), STATUS_OK);
}

Test(args, the_format_is_asked_for_also_on_bad_lines)
{
	cr_assert_str_eq(args_asked_format(4, WORDS("nonsense", "-o", "json")), "json");
	cr_assert_str_eq(args_asked_format(3, WORDS("--output=json", "nonsense")), "json");
	cr_assert_str_eq(args_asked_format(3, WORDS("x", "-ojson")), "json");
	cr_assert_null(args_asked_format(3, WORDS("x", "human", "--out")));
	cr_assert_str_eq(args_asked_format(3, WORDS("-oyaml", "x")), "yaml");
	cr_assert_null(args_asked_format(3, WORDS("x", "-o")));
	cr_assert_null(args_asked_format(5, WORDS("x", "--", "-o", "json")));
}

Test(args, typed_values)
{
	struct endpoint endpoint = {0};
	struct addr addr = {0};
	uint64_t number = 7;
	int choice = -1;
	const char *id = NULL;

	cr_assert_eq(parse(WORDS("grant", "request", "--gateway", "gw1", "--to", "[fd77:2::2]:1046",
			     "--protocol", "ftp", "--client", "[fd77:1::2]", "--lifetime", "30s",
			     "--wait", "decided", "--request-id",
			     "01a20d1e-0000-7000-8000-000000000001")),
		STATUS_OK);
	cr_assert_eq(args_endpoint(&args, "to", true, &endpoint, &err), STATUS_OK);
	cr_assert_eq(endpoint.port, 1046);
	cr_assert_eq(endpoint.addr.family, ADDR_IPV6);
	cr_assert_eq(args_address(&args, "client", &addr, &err), STATUS_OK);
	cr_assert_eq(addr.family, ADDR_IPV6);
	cr_assert_eq(args_duration(&args, "lifetime", 60000, &number, &err), STATUS_OK);
	cr_assert_eq(number, 30000);
	cr_assert_eq(args_choice(&args, "wait", &choice, &err), STATUS_OK);
	cr_assert_eq(choice, POSTERN__V1__WAIT__WAIT_DECIDED);
	cr_assert_eq(args_id(&args, "request-id", &id, &err), STATUS_OK);
	cr_assert_not_null(id);
	/* Not given: untouched. */
	number = 7;
	cr_assert_eq(args_number(&args, "max-connections", 10, &number, &err), STATUS_OK);
	cr_assert_eq(number, 7);
}

Test(args, typed_values_name_the_option)
{
	struct endpoint endpoint;
	struct addr addr;
	uint64_t number = 7;
	const char *id = NULL;

	parse(WORDS("grant", "request", "--gateway", "g", "--protocol", "p", "--to", "fd77::1",
		"--client", "10.0.0.1:80", "--lifetime", "2h", "--max-connections", "-1",
		"--session", "nope"));
	cr_assert_eq(args_endpoint(&args, "to", true, &endpoint, &err), STATUS_INVALID_ARGUMENT);
	cr_assert_str_eq(err.field, "to");
	cr_assert_eq(args_address(&args, "client", &addr, &err), STATUS_INVALID_ARGUMENT);
	cr_assert_str_eq(err.field, "client");
	cr_assert_eq(
		args_duration(&args, "lifetime", 3600000, &number, &err), STATUS_INVALID_ARGUMENT);
	cr_assert_str_eq(err.text, "--lifetime: '2h' is out of range: from 1ms to 1h");
	cr_assert_eq(
		args_number(&args, "max-connections", 10, &number, &err), STATUS_INVALID_ARGUMENT);
	cr_assert_str_eq(err.field, "max-connections");
	cr_assert_eq(args_id(&args, "session", &id, &err), STATUS_INVALID_ARGUMENT);
	cr_assert_str_eq(err.field, "session");
	cr_assert_null(id);
	cr_assert_eq(number, 7);
}
