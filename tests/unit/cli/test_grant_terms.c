#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "client/cli/commands.h"
#include "client/cli/grant_terms.h"

static struct args args;
static struct grant_terms terms;
static struct error err;

#define GRANT "grant", "request", "--gateway", "gw1", "--protocol", "p"
#define READ(...) read_words((char *[]){(char *)"postern", GRANT, __VA_ARGS__, NULL})

static enum status read_words(char *const *argv)
{
	int argc = 0;

	while (argv[argc] != NULL)
		argc++;
	memset(&err, 0, sizeof(err));
	memset(&terms, 0x55, sizeof(terms));
	cr_assert_eq(args_parse(cli_commands, cli_globals, argc, argv, &args, &err), STATUS_OK,
		"%s", err.text);
	return grant_terms_read(&args, &terms, &err);
}

Test(grant_terms, outbound)
{
	cr_assert_eq(READ("--client", "10.77.1.2", "--to", "10.77.2.2:1046", "--external",
			     "10.77.2.101:4000", "--flag", "timeout", "--flag", "address-based",
			     "--lifetime", "30s", "--max-connections", "3", "--context", "abc",
			     "--notify"),
		STATUS_OK, "%s", err.text);
	cr_assert_eq(terms.request.direction, POSTERN__V1__DIRECTION__DIRECTION_OUTBOUND);
	cr_assert_str_eq(terms.request.gateway, "gw1");
	cr_assert_str_eq(terms.request.client, "10.77.1.2");
	cr_assert_eq(terms.request.client_port, 0);
	cr_assert_str_eq(terms.request.remote, "10.77.2.2");
	cr_assert_eq(terms.request.remote_port, 1046);
	cr_assert_eq(terms.request.remote_port_last, 0);
	cr_assert_str_eq(terms.request.external, "10.77.2.101");
	cr_assert_eq(terms.request.external_port, 4000);
	cr_assert_eq(terms.request.flags, 5);
	cr_assert_eq(terms.request.lifetime_ms, 30000);
	cr_assert_eq(terms.request.max_connections, 3);
	cr_assert_eq(terms.request.context.len, 3);
	cr_assert(terms.request.notify);
	cr_assert_not(terms.request.reserve);
}

Test(grant_terms, ranges)
{
	cr_assert_eq(READ("--client", "fd77:1::2", "--to", "[fd77:2::2]:5004-5005", "--transport",
			     "udp"),
		STATUS_OK, "%s", err.text);
	cr_assert_str_eq(terms.request.remote, "fd77:2::2");
	cr_assert_eq(terms.request.remote_port, 5004);
	cr_assert_eq(terms.request.remote_port_last, 5005);
	cr_assert_eq(terms.request.transport, POSTERN__V1__TRANSPORT__TRANSPORT_UDP);
}

Test(grant_terms, inbound)
{
	cr_assert_eq(READ("--from", "10.77.2.2", "--external", "10.77.2.101", "--client",
			     "10.77.1.2:2000"),
		STATUS_OK, "%s", err.text);
	cr_assert_eq(terms.request.direction, POSTERN__V1__DIRECTION__DIRECTION_INBOUND);
	cr_assert_str_eq(terms.request.client, "10.77.1.2");
	cr_assert_eq(terms.request.client_port, 2000);
	cr_assert_str_eq(terms.request.remote, "10.77.2.2");
	cr_assert_eq(terms.request.remote_port, 0);
	cr_assert_eq(terms.request.n_remotes, 0);
	cr_assert_str_eq(terms.request.external, "10.77.2.101");
	cr_assert_eq(terms.request.external_port, 0, "a free one is chosen");
	cr_assert_eq(READ("--inbound", "--from", "any", "--client", "[fd77:1::2]:2000"), STATUS_OK);
	cr_assert_str_eq(terms.request.remote, "", "anybody");
	cr_assert_eq(terms.request.n_remotes, 0);
	cr_assert_str_eq(terms.request.external, "", "without translation");
	cr_assert_eq(READ("--from", "fd77:2::2", "--from", "[fd77:2::3]", "--client",
			     "[fd77:1::2]:2000"),
		STATUS_OK);
	cr_assert_str_eq(terms.request.remote, "");
	cr_assert_eq(terms.request.n_remotes, 2);
	cr_assert_str_eq(terms.request.remotes[0], "fd77:2::2");
	cr_assert_str_eq(terms.request.remotes[1], "fd77:2::3");
}

#define CHECK(field_, part, ...)                                                                   \
	do {                                                                                       \
		cr_assert_eq(READ(__VA_ARGS__), STATUS_INVALID_ARGUMENT);                          \
		cr_assert_str_eq(err.field, field_, "%s", err.text);                               \
		cr_assert_not_null(strstr(err.text, part), "%s", err.text);                        \
	} while (0)

#define C "--client", "10.77.1.2"
#define CP "--client", "10.77.1.2:2000"
#define TO "--to", "10.77.2.2:1046"

/* Each names the option, and says what to write instead. */
Test(grant_terms, what_is_wrong_is_named)
{
	CHECK("to", "--to ADDR:PORT is missing", C);
	CHECK("to", "or a range", C, "--to", "10.77.2.2");
	CHECK("to", "or a range", C, "--to", "10.77.2.2:1-x");
	CHECK("to", "or a range", C, "--to", "10.77.2.2:1-70000");
	CHECK("to", "or a range", C, "--to", "fd77:2::2:1-2");
	CHECK("to", "must lie above", C, "--to", "10.77.2.2:5005-5004");
	CHECK("to", "must lie above", C, "--to", "10.77.2.2:5005-5005");
	CHECK("client", "leave the port out", CP, TO);
	CHECK("client", "--client ADDR or --session ID is missing", TO);
	CHECK("external", "is no address", C, TO, "--external", "x");
	CHECK("session", "is no id", TO, "--session", "x");
	CHECK("from", "say who may connect", CP, "--inbound");
	CHECK("from", "without a port", CP, "--from", "10.77.2.2:20");
	CHECK("from", "lets everybody in", CP, "--from", "10.77.2.2", "--from", "any");
	CHECK("to", "give one of them", CP, TO, "--from", "10.77.2.2");
	CHECK("client", "where the client listens", "--from", "any");
	CHECK("client", "address with a port", C, "--from", "any");
}

static void check_option(const char *told, const char *want)
{
	struct error why = {0};

	snprintf(why.text, sizeof(why.text), "%s", told);
	grant_terms_name_option(&terms, &why);
	cr_assert_str_eq(why.text, want);
}

/* The server speaks of fields; whoever typed a command knows options. */
Test(grant_terms, what_the_server_refuses_is_named_by_its_option)
{
	cr_assert_eq(READ(C, TO), STATUS_OK);
	check_option("remote_port: 21: low", "--to: 21: low");
	check_option("remote_port_last: 34 ports", "--to: 34 ports");
	check_option("flags: BIDIRECTIONAL is for UDP", "--flag: BIDIRECTIONAL is for UDP");
	check_option("external_port: taken", "--external: taken");
	check_option("denied by protocol rules: no rule", "denied by protocol rules: no rule");
	check_option("gateway gw9 is unknown", "gateway gw9 is unknown");
	check_option("remote_", "remote_");
	check_option("", "");
	cr_assert_eq(READ(CP, "--from", "10.77.2.2"), STATUS_OK);
	check_option("remote: of another family", "--from: of another family");
	check_option("remotes: of another family", "--from: of another family");
	check_option("client_port: low", "--client: low");
}

Test(grant_terms, remotes_are_bounded)
{
	char *argv[64] = {(char *)"postern", GRANT, CP};
	size_t n = 9;

	for (int i = 0; i < GRANT_REMOTES_MAX; i++) {
		argv[n++] = (char *)"--from";
		argv[n++] = (char *)"10.77.2.2";
	}
	cr_assert_eq(read_words(argv), STATUS_OK, "%s", err.text);
	cr_assert_eq(terms.request.n_remotes, (size_t)GRANT_REMOTES_MAX);
	argv[n++] = (char *)"--from";
	argv[n++] = (char *)"10.77.2.3";
	cr_assert_eq(read_words(argv), STATUS_INVALID_ARGUMENT);
	cr_assert_not_null(strstr(err.text, "more than 16"), "%s", err.text);
}
