/* What protocol definitions allow, what filters may ask for, and what a gateway says of itself: as
 * whole lines, against a server on the real RPC runtime that answers what it was asked. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/cli/command_line.h"

static char folder[] = "/tmp/postern-scope-XXXXXX";
static char token[64];

static void set_up_with_folder(void)
{
	set_up();
	cr_assert_not_null(mkdtemp(folder));
	snprintf(token, sizeof(token), "%s/t", folder);
}

static void tear_down_with_folder(void)
{
	unlink(token);
	rmdir(folder);
	tear_down();
}

TestSuite(cli_scope, .init = set_up_with_folder, .fini = tear_down_with_folder, .timeout = 60);

static void check_out(const char *part)
{
	cr_assert_not_null(strstr(out_text, part), "%s is not in: %s", part, out_text);
}

Test(cli_scope, a_protocol_is_narrow_unless_it_says_otherwise)
{
	cr_assert_eq(RUN("-o", "json", "protocol", "register", "ftp", "--port", "21"), 0, "%s",
		out_text);
	check_out("\"shared\":false,\"remote_scope\":\"any\",\"low_ports\":false,\"max_ports\":0");
	cr_assert_eq(RUN("-o", "json", "protocol", "register", "rtsp", "--shared", "--remotes",
			     "peer-network", "--low-ports", "--max-ports", "16"),
		0, "%s", out_text);
	check_out("\"shared\":true,\"remote_scope\":\"peer-network\",\"low_ports\":true,"
		  "\"max_ports\":16");
	cr_assert_eq(RUN("protocol", "list"), 0);
	check_out("REMOTES       LOW PORTS  RANGE  TO PORTS          TO ADDRESSES  OWNER        "
		  "SHARED");
	check_out(
		"peer-network  yes        16     -                 -             -            yes");
	cr_assert_eq(RUN("protocol", "register", "x", "--remotes", "peers"), 2);
	cr_assert_not_null(strstr(err_text, "did you mean 'peer'?"), "%s", err_text);
	cr_assert_eq(RUN("protocol", "register", "x", "--max-ports", "1025"), 2);
	cr_assert_not_null(strstr(err_text, "--max-ports"), "%s", err_text);
}

Test(cli_scope, a_filters_scope)
{
	cr_assert_eq(RUN("-o", "json", "filter", "add", "f1", "--out", token, "--client-net",
			     "10.77.1.0/24", "--client-net", "fd77:1::/64", "--destination-net",
			     "10.77.2.0/24", "--protocol", "ftp", "--protocol", "rtsp",
			     "--grants-per-second", "50", "--max-lifetime", "10m", "--max-grants",
			     "7", "--gateway", "gw1"),
		0, "%s", out_text);
	check_out("\"gateways\":[\"gw1\"],\"max_grants\":7,");
	check_out("\"clients\":[\"10.77.1.0/24\",\"fd77:1::/64\"],\"destinations\":[\"10.77.2.0/"
		  "24\"],\"protocols\":[\"ftp\",\"rtsp\"],\"grants_per_second\":50,\"max_lifetime_"
		  "ms\":600000}");
	cr_assert_eq(RUN("filter", "list"), 0);
	check_out(
		"gw1       10.77.1.0/24,fd77:1::/64  10.77.2.0/24  ftp,rtsp   0       7        50 "
		"       10m      -");
}

Test(cli_scope, no_scope_is_all)
{
	cr_assert_eq(RUN("filter", "add", "f1", "--out", token), 0, "%s", err_text);
	cr_assert_eq(RUN("filter", "list"), 0);
	check_out("f1      all       all      all           all        0       default  any       "
		  "default  -");
}

/* Before a token is made, and before the server is asked. */
Test(cli_scope, networks_are_checked)
{
	const char *const bad[] = {"10.0.0.0", "10.0.0.0/33", "fd77::/129", "10.0.0.0/", "/8", "",
		"10.0.0.0/8x", "[fd77::]/64", "10.0.0/8"};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cr_assert_eq(RUN("filter", "add", "f1", "--out", token, "--destination-net",
				     (char *)bad[i]),
			2, "%s", bad[i]);
		cr_assert_not_null(
			strstr(err_text, "--destination-net: '"), "%s: %s", bad[i], err_text);
		cr_assert_neq(access(token, F_OK), 0);
	}
	cr_assert_eq(RUN("filter", "add", "f1", "--out", token, "--max-lifetime", "60"), 2);
	cr_assert_eq(RUN("filter", "list"), 0);
	check_out("no filter yet");
}

Test(cli_scope, a_long_scope_says_how_much_is_left_out)
{
	char *argv[100] = {(char *)"postern", (char *)"filter", (char *)"add", (char *)"f1",
		(char *)"--out", token};

	for (size_t i = 6; i < 66; i += 2) {
		argv[i] = (char *)"--client-net";
		argv[i + 1] = (char *)"fd77:1111:2222::/48";
	}
	cr_assert_eq(run_words(argv), 0, "%s", err_text);
	cr_assert_eq(RUN("filter", "list"), 0);
	check_out("fd77:1111:2222::/48 and 18 more");
}

Test(cli_scope, a_gateway_says_how_it_renews)
{
	cr_assert_eq(RUN("gateway", "show", "gw1"), 0, "%s", err_text);
	check_out("  renewal      in-place\n");
}

Test(cli_scope, gateways_tell_which_revision_they_obey)
{
	cr_assert_eq(RUN("gateway", "list"), 0, "%s", err_text);
	cr_assert_not_null(strstr(out_text, "REVISION"), "%s", out_text);
	cr_assert_not_null(strstr(out_text, "gw1      never joined  enforce  14 "), "%s", out_text);
	cr_assert_not_null(strstr(out_text, "enforce  12, behind 14"), "%s", out_text);
	cr_assert_not_null(strstr(out_text, "enforce  none, behind 14"), "%s", out_text);
	cr_assert_eq(RUN("gateway", "show", "gw2"), 0, "%s", err_text);
	cr_assert_not_null(strstr(out_text, "  revision     12, behind 14\n"), "%s", out_text);
	cr_assert_eq(RUN("-o", "json", "gateway", "list"), 0);
	cr_assert_not_null(strstr(out_text, "\"revision\":12,\"current_revision\":14"));
}

Test(cli_scope, protocols_tell_bounds_and_the_revision_that_has_them)
{
	cr_assert_eq(RUN("protocol", "list"), 0, "%s", err_text);
	cr_assert_not_null(
		strstr(out_text, "5004,16384-32767  fd77:2::/64   revision 14"), "%s", out_text);
	cr_assert_eq(RUN("-o", "yaml", "protocol", "list"), 0);
	cr_assert_not_null(strstr(out_text, "16384-32767"), "%s", out_text);
	cr_assert_not_null(strstr(out_text, "revision: 14\n"), "%s", out_text);
}
