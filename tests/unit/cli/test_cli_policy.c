/* The policy document's commands as whole lines, against a server on the real RPC runtime. */
#include <string.h>
#include <unistd.h>

#include "tests/unit/cli/command_line.h"

static char folder[] = "/tmp/postern-cli-policy-XXXXXX";
static char file[64], other[64];

static void write_file(const char *path, const char *text)
{
	FILE *out = fopen(path, "w");

	cr_assert_not_null(out);
	fputs(text, out);
	cr_assert_eq(fclose(out), 0);
}

#define RULE "protocol_rules:\n- name: ftp for staff\n  action: allow\n  protocols: [ftp]\n"

static void begin(void)
{
	set_up();
	setenv("TZ", "UTC", 1);
	cr_assert_not_null(mkdtemp(folder));
	snprintf(file, sizeof(file), "%s/policy.yaml", folder);
	snprintf(other, sizeof(other), "%s/other.yaml", folder);
	write_file(file, RULE);
}

static void end(void)
{
	unlink(file);
	unlink(other);
	rmdir(folder);
	tear_down();
}

TestSuite(cli_policy, .init = begin, .fini = end, .timeout = 120);

static struct fake_policy_asked asked(void)
{
	return fake_counts(fake).policy;
}

#define cr_says(text, part) cr_assert_not_null(strstr(text, part), "%s", text)

Test(cli_policy, apply_tells_what_became_of_live_grants)
{
	cr_assert_eq(RUN("policy", "apply", "-f", file, "-m", "ftp"), 0, "%s", err_text);
	cr_assert_eq(strncmp(out_text, "revision 1 is in force: 1 rule", 30), 0, "%s", out_text);
	cr_says(out_text, "7 judged: 2 ended, 1 kept");
	cr_says(out_text, "gw1: 2 grants, 1 flow\n");
	cr_says(out_text, "G1: 10.77.1.2 -> [fd77:2::2]:1046 tcp, on gateway gw1 (rule no evil)");
	cr_says(out_text, "warning      rule \"x\" can never match");
	cr_assert_null(strstr(out_text, "policy confirm"));
	cr_assert_str_eq(asked().message, "ftp");
	cr_assert_eq(asked().pieces, 0);
	cr_assert_eq(RUN("policy", "apply", "--file", file), 0);
	cr_says(out_text, "revision 1 is in force already");
	cr_assert_null(strstr(out_text, "judged"));
}

Test(cli_policy, apply_that_must_be_confirmed_says_how_and_until_when)
{
	cr_assert_eq(RUN("policy", "apply", "-f", file, "--confirm", "5m"), 0, "%s", err_text);
	cr_assert_eq(asked().confirm_ms, 300000);
	cr_says(out_text, "by 2026-11-24 10:39:24 with 'postern policy confirm 1'");
	cr_assert_eq(RUN("policy", "confirm"), 0, "%s", err_text);
	cr_assert_eq(asked().confirmed, 0);
	cr_says(out_text, "revision 1 is confirmed");
	cr_assert_eq(RUN("policy", "confirm", "1"), 0);
	cr_assert_eq(asked().confirmed, 1);
	cr_assert_eq(RUN("policy", "confirm", "one"), 2);
	cr_assert_eq(RUN("policy", "apply", "-f", file, "--confirm", "25h"), 2);
	cr_assert_eq(asked().confirms, 2);
	cr_assert_eq(asked().applies, 1);
}

Test(cli_policy, apply_guards_against_overwriting)
{
	cr_assert_eq(RUN("policy", "apply", "-f", file), 0);
	write_file(file, RULE "  users: [staff]\n");
	cr_assert_eq(RUN("policy", "apply", "-f", file, "--if-revision", "8"), 19);
	cr_assert_eq(asked().if_revision, 8);
	cr_says(err_text, "revision 9 is in force");
	cr_assert_eq(RUN("-o", "json", "policy", "apply", "-f", file, "--if-revision", "8"), 19);
	cr_says(out_text, "\"reason\":\"revision-changed\"");
	cr_assert_eq(RUN("policy", "apply", "-f", file, "--if-revision", "0"), 2);
	cr_assert_eq(RUN("policy", "apply", "-f", file, "--if-revision", "1"), 0);
}

Test(cli_policy, dry_run_prints_the_differences)
{
	cr_assert_eq(RUN("policy", "apply", "-f", file), 0);
	write_file(file, RULE "  users: [staff]\n");
	cr_assert_eq(RUN("policy", "apply", "-f", file, "--dry-run"), 0, "%s", err_text);
	cr_assert(asked().dry_run);
	cr_says(out_text, "protocol_rules \"ftp for staff\": users");
	cr_says(out_text, "would be revision 2: 1 rule, behind revision 1; nothing was changed");
	cr_says(out_text, "2 would be ended");
	cr_assert_eq(RUN("policy", "history"), 0);
	cr_assert_null(strstr(out_text, "\n2 "));
	cr_assert_eq(RUN("-o", "json", "policy", "apply", "-f", file, "--dry-run"), 0);
	cr_assert_eq(strncmp(out_text, "{\"revision\":{\"number\":2,", 24), 0, "%s", out_text);
}

Test(cli_policy, faults_have_places)
{
	write_file(file,
		"protocol_rules:\n- name: ftp\n  action: allow\n- name: bad\n  clients:\n"
		"  - staf\n");
	cr_assert_eq(RUN("policy", "apply", "-f", file), 2);
	cr_says(err_text, "policy.yaml:6:5: protocol_rules[1].clients[0]: no client set \"staf\"");
	cr_assert_eq(RUN("-o", "yaml", "policy", "apply", "-f", file), 2);
	cr_assert_eq(
		strncmp(out_text, "error:\n  status: invalid-argument\n", 34), 0, "%s", out_text);
	cr_says(out_text, "  field: \"protocol_rules[1].clients[0]\"\n");
	cr_says(out_text, "policy.yaml:6:5:");
	write_file(file, RULE "tests:\n- name: fails\n");
	cr_assert_eq(RUN("policy", "apply", "-f", file), 20);
	cr_says(err_text, "policy.yaml:6:");
	cr_says(err_text, "policy test failed");
	write_file(file, "protocol_ruls: []\n");
	cr_assert_eq(RUN("policy", "apply", "-f", file), 2);
	cr_says(err_text, "policy.yaml:1:1");
	cr_says(err_text, "protocol_rules");
	write_file(file, "on_change: cancel\n");
	cr_assert_eq(RUN("policy", "apply", "-f", file), 2);
	cr_says(err_text, "an empty document");
	cr_assert_eq(RUN("policy", "apply", "-f", "/nonexistent/x.yaml"), 2);
	cr_assert_eq(RUN("policy", "apply"), 2);
	cr_assert_eq(asked().applies, 3);
}

/* A document of more than two pieces; ret: packed. */
static void write_large(void)
{
	FILE *out = fopen(file, "w");

	fputs("client_sets:\n- name: many\n  addresses:\n", out);
	for (unsigned i = 0; i < 100000; i++)
		fprintf(out, "  - 10.%u.%u.%u\n", i >> 16, i >> 8 & 255, i & 255);
	fclose(out);
}

Test(cli_policy, large_documents_go_in_pieces)
{
	write_large();
	cr_assert_eq(RUN("policy", "apply", "-f", file), 0, "%s", err_text);
	cr_assert_geq(asked().pieces, 3);
	cr_assert_eq(asked().uploads, 1);
	cr_assert_gt(asked().document_size, 1024 * 1024);
	unsigned pieces = asked().pieces;
	cr_assert_eq(RUN("policy", "diff", "-f", file), 0, "%s", err_text);
	cr_assert_str_eq(out_text, "no difference\n");
	cr_assert_eq(RUN("policy", "test", "-f", file), 0, "%s", err_text);
	cr_assert_eq(asked().pieces, 2 * pieces);
}

/* Which pieces had come nobody knows: it is begun anew. */
Test(cli_policy, an_upload_survives_lost_connections)
{
	write_large();
	fake_set_mode(fake, FAKE_GRANT_THEN_CUT, 2);
	cr_assert_eq(RUN("policy", "apply", "-f", file), 0, "%s", err_text);
	cr_assert_eq(asked().uploads, 3);
	cr_assert_eq(asked().applies, 1);
	fake_set_mode(fake, FAKE_GRANT_THEN_CUT, 1000000);
	cr_assert_neq(RUN("policy", "test", "-f", file, "--deadline", "1s"), 0);
}

Test(cli_policy, a_lost_answer_to_apply_is_not_asked_again)
{
	fake_set_mode(fake, FAKE_GRANT_THEN_CUT, 1);
	cr_assert_eq(RUN("policy", "apply", "-f", file), 1);
	cr_says(err_text, "whether it was done is not known: see 'postern policy history'");
	cr_assert_eq(asked().applies, 1);
}

Test(cli_policy, history_show_and_rollback)
{
	cr_assert_eq(RUN("policy", "apply", "-f", file, "-m", "first"), 0);
	write_file(file, RULE "  users: [staff]\n");
	cr_assert_eq(RUN("policy", "apply", "-f", file, "-m", "second"), 0);
	cr_assert_eq(RUN("policy", "rollback", "1", "-m", "back", "--if-revision", "2"), 0, "%s",
		err_text);
	cr_says(out_text, "revision 3 is in force");
	cr_assert_eq(asked().rolled_back, 1);
	cr_assert_eq(RUN("policy", "rollback", "1", "--if-revision", "2"), 19);
	cr_assert_eq(RUN("policy", "rollback", "77"), 1);
	cr_assert_eq(RUN("policy", "rollback"), 2);
	cr_assert_eq(RUN("policy", "history"), 0);
	cr_says(out_text, "in force, document of revision 1");
	cr_says(out_text, "second");
	cr_assert_eq(RUN("-o", "json", "policy", "history", "--limit", "1"), 0);
	cr_assert_eq(
		strncmp(out_text, "{\"number\":3,\"author\":\"tester\"", 29), 0, "%s", out_text);
	cr_assert_eq(strchr(out_text, '\n'), out_text + strlen(out_text) - 1);
	cr_assert_eq(RUN("-o", "yaml", "policy", "history", "--limit", "2"), 0);
	cr_assert_eq(strncmp(out_text, "number: 3\n", 10), 0, "%s", out_text);
	cr_says(out_text, "\n---\nnumber: 2\n");
}

Test(cli_policy, show_prints_what_apply_reads)
{
	write_file(file, RULE "  users: [staff]\n");
	cr_assert_eq(RUN("policy", "apply", "-f", file, "-m", "a\nb"), 0);
	cr_assert_eq(RUN("policy", "show"), 0, "%s", err_text);
	cr_says(out_text, "# revision 1, by tester, 2026-11-24 10:34:24: a\\x0ab\n");
	write_file(other, out_text);
	cr_assert_eq(RUN("policy", "apply", "-f", other), 0, "%s", err_text);
	cr_says(out_text, "revision 1 is in force already");
	cr_assert_eq(RUN("policy", "show", "1", "-o", "yaml"), 0);
	cr_assert_null(strchr(out_text, '#'));
	cr_assert_eq(RUN("policy", "show", "1", "-o", "json"), 0);
	write_file(other, out_text);
	cr_assert_eq(RUN("policy", "diff", "-f", other), 0, "%s", err_text);
	cr_assert_str_eq(out_text, "no difference\n");
	cr_assert_eq(RUN("policy", "show", "2"), 1);
	cr_assert_eq(RUN("policy", "show", "x"), 2);
}

Test(cli_policy, diff)
{
	cr_assert_eq(RUN("policy", "apply", "-f", file), 0);
	write_file(other, RULE "- name: more\n  action: deny\n");
	cr_assert_eq(RUN("policy", "apply", "-f", other), 0);
	cr_assert_eq(RUN("policy", "diff", "1"), 0, "%s", err_text);
	cr_says(out_text, "+ protocol_rules \"more\"\n");
	cr_assert_eq(RUN("policy", "diff", "2", "1"), 0);
	cr_says(out_text, "- protocol_rules \"more\"\n");
	cr_assert_eq(RUN("policy", "diff", "-f", file), 0);
	cr_says(out_text, "- protocol_rules \"more\"\n");
	cr_assert_eq(RUN("policy", "diff", "1", "-f", file), 0);
	cr_assert_str_eq(out_text, "no difference\n");
	cr_assert_eq(RUN("policy", "diff", "-f", file, "-f", other), 0);
	cr_says(out_text, "+ protocol_rules \"more\"\n");
	cr_assert_eq(RUN("-o", "json", "policy", "diff", "1", "2"), 0);
	cr_assert_str_eq(out_text,
		"{\"change\":\"added\",\"path\":\"protocol_rules \\\"more\\\"\",\"before\":null,"
		"\"after\":\"name: more\\naction: deny\"}\n");
	cr_assert_eq(RUN("-o", "yaml", "policy", "diff", "1", "2"), 0);
	cr_assert_str_eq(out_text,
		"change: \"added\"\npath: \"protocol_rules \\\"more\\\"\"\nbefore: null\n"
		"after: \"name: more\\naction: deny\"\n");
	cr_assert_eq(RUN("policy", "diff"), 2);
	cr_assert_eq(RUN("policy", "diff", "1", "2", "-f", file), 2);
}

Test(cli_policy, tests_of_a_document)
{
	write_file(file,
		RULE "tests:\n- {name: good, client: 10.77.1.2, to: '10.77.2.2:1046', "
		     "protocol: ftp, expect: allow, rule: ftp for staff}\n");
	cr_assert_eq(RUN("policy", "test"), 0, "%s", err_text);
	cr_assert_str_eq(out_text, "the document has no test\n");
	cr_assert_eq(RUN("policy", "test", "-f", file), 0, "%s", err_text);
	cr_says(out_text, "passed");
	cr_says(out_text, "10.77.1.2 -> 10.77.2.2:1046 ftp");
	cr_says(out_text, "allow by ftp for staff");
	write_file(file, RULE "tests:\n- {name: fails, protocol: evil}\n- {name: good}\n");
	cr_assert_eq(RUN("policy", "test", "-f", file), 20);
	cr_says(out_text, "FAILED");
	cr_says(err_text, "1 of 2 tests failed");
	cr_assert_eq(RUN("-o", "json", "policy", "test", "-f", file), 20);
	cr_assert_eq(strncmp(out_text, "{\"index\":0,", 11), 0, "%s", out_text);
	cr_assert_null(strstr(out_text, "\"error\""));
	cr_assert_str_eq(err_text, "");
}

Test(cli_policy, replay)
{
	cr_assert_eq(RUN("policy", "replay", "--since", "7d", "-f", file), 0, "%s", err_text);
	cr_assert_gt(asked().since_us, 0);
	cr_assert_gt(asked().document_size, 0);
	cr_says(out_text, "grant G7\n");
	cr_says(out_text, "now          denied by site-and-content rules: rule \"no evil\"\n");
	cr_says(out_text, "\n120 recorded requests judged, 1 would be decided otherwise\n");
	cr_assert_eq(RUN("-o", "json", "policy", "replay", "--since", "7d"), 0);
	cr_assert_eq(strncmp(out_text, "{\"entry\":{", 10), 0, "%s", out_text);
	cr_says(out_text, "\"done\":true}\n");
	cr_assert_eq(RUN("policy", "replay", "--since", "7d", "--gateway", "gone"), 1);
	cr_assert_eq(RUN("policy", "replay"), 2);
	cr_assert_eq(RUN("policy", "replay", "--since", "1h", "--until", "2h"), 2);
}

#define ASK(protocol) "policy", "explain", "--client", "10.77.1.2", "--protocol", protocol
#define TO "--to", "10.77.2.2:1046"

Test(cli_policy, explain)
{
	cr_assert_eq(RUN(ASK("ftp"), TO, "--gateway", "gw1", "--user", "bob", "--at",
			     "2026-11-24T08:00:00+01:00", "--all"),
		0, "%s", err_text);
	cr_assert_str_eq(asked().at, "2026-11-24T07:00:00Z");
	cr_assert_str_eq(asked().user, "bob");
	cr_assert_str_eq(asked().gateway, "gw1");
	cr_assert_str_eq(asked().to, "10.77.2.2:1046");
	cr_assert(asked().all);
	cr_says(out_text, "protocol rule \"ftp for staff\" (allow, staged): matches\n");
	cr_says(out_text, "  clients      yes: 10.77.1.2 is in staff (10.77.1.0/24)\n");
	cr_says(out_text, "allowed by protocol rule \"ftp for staff\"");
	cr_says(out_text, "(revision 3)");
	cr_assert_eq(RUN(ASK("sip"), TO), 10);
	cr_says(out_text, "denied by protocol rules: no rule allows it (revision 3)\n");
	cr_assert_str_eq(err_text, "");
	cr_assert_eq(RUN(ASK("evil"), TO, "-f", file), 11);
	cr_assert_gt(asked().document_size, 0);
	cr_assert_eq(RUN(ASK("wide"), TO), 2);
	cr_says(out_text, "port 80 is below 1024");
	cr_assert_eq(RUN("-o", "json", ASK("evil"), TO), 11);
	cr_says(out_text, "\"conditions\":[{\"field\":\"clients\",\"matched\":true,");
	cr_assert_null(strstr(out_text, "\"error\""));
	cr_assert_eq(RUN(ASK("silence"), TO), 1);
}

Test(cli_policy, explain_wants_a_whole_question)
{
	cr_assert_eq(RUN(ASK("ftp"), "--from", "any"), 0, "%s", err_text);
	cr_assert_str_eq(asked().from, "any");
	cr_assert_eq(RUN(ASK("ftp")), 2);
	cr_assert_eq(RUN(ASK("ftp"), TO, "--from", "any"), 2);
	cr_assert_eq(RUN("policy", "explain", "--protocol", "ftp", TO), 2);
	cr_assert_eq(RUN("policy", "explain", "--client", "nobody", "--protocol", "ftp", TO), 2);
	cr_says(err_text, "--client: \"nobody\" is no address");
}

Test(cli_policy, feeds)
{
	cr_assert_eq(RUN("feed", "list"), 0, "%s", err_text);
	cr_says(out_text, "failing: connection refused");
	cr_says(out_text, "held back: a copy of 3 networks");
	cr_assert_eq(RUN("feed", "show", "shrunk", "--held"), 0, "%s", err_text);
	cr_assert(asked().held);
	cr_says(out_text, "postern feed confirm shrunk");
	cr_says(out_text, "\n192.0.2.0/24\n2001:db8::/32\n192.0.2.0/24\n");
	cr_assert_eq(RUN("feed", "refresh", "bad-hosts"), 0, "%s", err_text);
	cr_assert_eq(RUN("feed", "refresh", "broken"), 1);
	cr_says(err_text, "source unavailable: broken: connection refused");
	cr_assert_eq(RUN("-o", "json", "feed", "refresh", "broken"), 1);
	cr_says(out_text, "\"error\":\"connection refused\"");
	cr_assert_eq(RUN("-o", "yaml", "feed", "list"), 0);
	cr_says(out_text, "\n---\nname: broken\n");
	cr_assert_eq(RUN("feed", "confirm", "shrunk"), 0, "%s", err_text);
	cr_assert_str_eq(asked().feed, "shrunk");
}

/* A token reaches files only. */
Test(cli_policy, yaml_of_everything)
{
	snprintf(other, sizeof(other), "%s/token", folder);
	cr_assert_eq(RUN("-o", "yaml", "filter", "add", "f1", "--out", other), 0, "%s", out_text);
	cr_says(out_text, "principal:\n");
	cr_says(out_text, "token_file: \"");
	cr_assert_null(strstr(out_text, "pst_filter_new"), "%s", out_text);
	cr_assert_eq(RUN("-o", "yaml", "version"), 0);
	cr_assert_eq(strncmp(out_text, "version: \"", 10), 0, "%s", out_text);
	cr_assert_eq(RUN("-o", "yaml", "nonsense"), 2);
	cr_assert_eq(strncmp(out_text, "error:\n", 7), 0, "%s", out_text);
	cr_assert_str_eq(err_text, "");
	cr_assert_eq(RUN("-oyml", "version"), 2);
}
