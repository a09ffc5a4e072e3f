/* The grant commands as whole lines, against a server on the real RPC runtime. */
#include <string.h>
#include <unistd.h>

#include "tests/unit/cli/command_line.h"

TestSuite(cli_grants, .init = set_up, .fini = tear_down, .timeout = 60);

#define INBOUND                                                                                    \
	"--gateway", "gw1", "--from", "10.77.2.2", "--client", "10.77.1.2:2000", "--external",     \
		"10.77.2.101", "--protocol", "ftp"
#define ONE "--gateway gw1 --client 10.77.1.2 --to 10.77.2.2:5004 --protocol rtsp"
#define TWO "--gateway gw1 --client 10.77.1.2 --to 10.77.2.2:5005 --protocol rtsp"

Test(cli_grants, inbound)
{
	cr_assert_eq(RUN("grant", "request", INBOUND), 0, "%s", err_text);
	cr_assert_not_null(strstr(out_text, "-> 10.77.2.101:50000 ->"), "%s", out_text);
	cr_assert(fake_counts(fake).asked.inbound);
	cr_assert_eq(fake_counts(fake).asked.client_port, 2000);
	cr_assert_str_eq(fake_counts(fake).asked.remote, "10.77.2.2");
	cr_assert_eq(RUN("-o", "json", "grant", "request", INBOUND), 0);
	cr_assert_not_null(strstr(out_text, "\"external_port\":50000"));
	cr_assert_not_null(strstr(out_text, "\"direction\":\"inbound\""));
}

Test(cli_grants, a_lifetime_that_is_cut_says_so)
{
	cr_assert_eq(RUN("grant", "request", INBOUND, "--lifetime", "2h"), 0, "%s", err_text);
	cr_assert_not_null(
		strstr(out_text, "cut to 1m, as much as the server allows"), "%s", out_text);
	cr_assert_eq(RUN("grant", "request", INBOUND, "--lifetime", "1m"), 0);
	cr_assert_null(strstr(out_text, "cut to"));
}

Test(cli_grants, reserve_and_commit)
{
	cr_assert_eq(RUN("grant", "reserve", INBOUND, "--hold", "10s", "--request-id", RID), 0,
		"%s", err_text);
	cr_assert_not_null(strstr(out_text, "reserved, 1m left to commit"), "%s", out_text);
	cr_assert_not_null(strstr(out_text, "10.77.2.101:50000"),
		"the port is what a reservation is for: %s", out_text);
	cr_assert(fake_counts(fake).asked.reserve);
	cr_assert_eq(fake_counts(fake).asked.reservation_ms, 10000);
	cr_assert_str_eq(fake_counts(fake).last_request_id, RID);
	cr_assert_eq(RUN("grant", "commit", RID), 0, "%s", err_text);
	cr_assert_str_eq(fake_counts(fake).last_commit, RID);
	cr_assert_eq(RUN("grant", "commit", "ended"), 1);
	cr_assert_not_null(strstr(err_text, "already ended"), "%s", err_text);
	cr_assert_eq(RUN("grant", "reserve", INBOUND, "--wait", "decided"), 2);
}

Test(cli_grants, renew)
{
	cr_assert_eq(RUN("grant", "renew", RID, "--lifetime", "90s"), 0, "%s", err_text);
	cr_assert_eq(fake_counts(fake).last_renewal_ms, 90000);
	cr_assert_not_null(strstr(out_text, "grant " RID ": active, 1m left"), "%s", out_text);
	cr_assert_eq(RUN("grant", "renew", RID), 0);
	cr_assert_eq(fake_counts(fake).last_renewal_ms, 0);
	cr_assert_eq(RUN("grant", "renew", "ended"), 1);
	cr_assert_eq(RUN("grant", "renew"), 2);
}

Test(cli_grants, cancel_and_cut)
{
	cr_assert_eq(RUN("grant", "cancel", RID), 0, "%s", err_text);
	cr_assert_eq(fake_counts(fake).cuts, 0);
	cr_assert_null(strstr(out_text, "cut"));
	cr_assert_eq(RUN("grant", "cancel", RID, "--cut"), 0);
	cr_assert_not_null(strstr(out_text, "  connections  cut\n"), "%s", out_text);
	cr_assert_eq(fake_counts(fake).cuts, 1);
	cr_assert_eq(RUN("grant", "cancel", "--bundle", RID, "--cut"), 0, "%s", err_text);
	cr_assert_eq(fake_counts(fake).bundle_cancels, 1);
	cr_assert_eq(fake_counts(fake).cuts, 2);
	cr_assert_str_eq(fake_counts(fake).last_bundle, RID);
	cr_assert_eq(RUN("grant", "cancel"), 2);
	cr_assert_not_null(strstr(err_text, "a grant's ID, or --bundle ID"), "%s", err_text);
	cr_assert_eq(RUN("grant", "cancel", RID, "--bundle", RID), 2);
	cr_assert_eq(RUN("grant", "cancel", "--bundle", "x"), 2);
	cr_assert_eq(fake_counts(fake).cancels, 2);
}

Test(cli_grants, bundle)
{
	cr_assert_eq(RUN("grant", "bundle", "--grant", ONE, "--grant", TWO, "--request-id", RID,
			     "--wait", "decided"),
		0, "%s", err_text);
	cr_assert_eq(fake_counts(fake).last_bundle_size, 2);
	cr_assert_str_eq(fake_counts(fake).last_bundle, RID);
	cr_assert(fake_counts(fake).last_wait_decided);
	cr_assert_eq(strncmp(out_text, "bundle " RID ": 2 grants\ngrant ", 60), 0, "%s", out_text);
	cr_assert_eq(RUN("-o", "json", "grant", "bundle", "--grant", ONE), 0);
	cr_assert_eq(strncmp(out_text, "{\"bundle\":\"", 11), 0);
	cr_assert_not_null(strstr(out_text, "\"grants\":[{\"grant\":{\"id\":\""));
	cr_assert_eq(RUN("grant", "bundle", "--grant", ONE, "file"), 2);
	cr_assert_eq(RUN("grant", "bundle", "--grant", ONE, "--grant", "--client x"), 2);
	cr_assert_not_null(
		strstr(err_text, "--grant 2: --gateway NAME is missing"), "%s", err_text);
}

Test(cli_grants, bundle_from_standard_input_and_from_a_file)
{
	char path[] = "/tmp/postern-cli-bundle-XXXXXX";
	int fd = mkstemp(path);

	cr_assert_eq(
		write(fd, ONE "\n" TWO "\n", sizeof(ONE TWO) + 1), (ssize_t)sizeof(ONE TWO) + 1);
	cr_assert_eq(RUN("grant", "bundle", path), 0, "%s", err_text);
	cr_assert_eq(fake_counts(fake).grants, 2);
	cr_assert_not_null(freopen(path, "r", stdin));
	cr_assert_eq(RUN("grant", "bundle"), 0, "%s", err_text);
	cr_assert_eq(fake_counts(fake).grants, 4);
	cr_assert_eq(RUN("grant", "bundle", "-"), 2, "all has been read");
	cr_assert_not_null(strstr(err_text, "standard input: no grant"), "%s", err_text);
	close(fd);
	unlink(path);
}

/* I6 for all that may be asked again. */
Test(cli_grants, lost_answers_are_asked_for_again)
{
	fake_set_mode(fake, FAKE_GRANT_THEN_CUT, 2);
	cr_assert_eq(RUN("grant", "bundle", "--grant", ONE, "--grant", TWO, "--deadline", "20s"), 0,
		"%s", err_text);
	cr_assert_eq(fake_counts(fake).bundle_requests, 3);
	cr_assert_eq(fake_counts(fake).grants, 2);
	fake_set_mode(fake, FAKE_GRANT_THEN_CUT, 1);
	cr_assert_eq(RUN("grant", "reserve", INBOUND, "--deadline", "20s"), 0, "%s", err_text);
	cr_assert_eq(fake_counts(fake).grants, 3);
	fake_set_mode(fake, FAKE_GRANT_THEN_CUT, 1);
	cr_assert_eq(RUN("grant", "commit", RID, "--deadline", "20s"), 0, "%s", err_text);
	cr_assert_eq(fake_counts(fake).commits, 2);
	fake_set_mode(fake, FAKE_GRANT_THEN_CUT, 1);
	cr_assert_eq(RUN("grant", "renew", RID, "--deadline", "20s"), 0, "%s", err_text);
	cr_assert_eq(fake_counts(fake).renews, 2);
	fake_set_mode(fake, FAKE_BUSY_ONCE, 0);
	cr_assert_eq(RUN("grant", "renew", RID), 0, "%s", err_text);
	cr_assert_eq(fake_counts(fake).renews, 4);
}

Test(cli_grants, refusals)
{
	fake_set_mode(fake, FAKE_DENY, 0);
	cr_assert_eq(RUN("-o", "json", "grant", "bundle", "--grant", ONE, "--request-id", RID), 10);
	cr_assert_not_null(strstr(out_text, "\"request_id\":\"" RID "\"}}\n"), "%s", out_text);
	cr_assert_eq(RUN("grant", "reserve", INBOUND), 10);
	fake_set_mode(fake, FAKE_GATEWAY_DOWN, 0);
	cr_assert_eq(RUN("grant", "commit", RID), 14);
	fake_set_mode(fake, FAKE_HOLD, 0);
	cr_assert_eq(RUN("grant", "renew", RID, "--deadline", "200ms"), 15);
}

Test(cli_grants, answers_name_rules_and_revision)
{
	static const char *const by =
		"protocol rule ftp for staff, site-and-content rule all sites, revision 14\n";

	cr_assert_eq(RUN("grant", "request", INBOUND), 0, "%s", err_text);
	cr_assert_not_null(strstr(out_text, by), "%s", out_text);
	cr_assert_not_null(strstr(out_text, "  user         bob\n"), "%s", out_text);
	RUN("grant", "show", RID); /* its life is not in this play */
	cr_assert_not_null(strstr(out_text, "  allowed by   protocol rule ftp"), "%s", out_text);
	cr_assert_not_null(strstr(out_text, by), "%s", out_text);
	fake_set_mode(fake, FAKE_DENY, 0);
	cr_assert_eq(RUN("grant", "request", INBOUND), 10);
	cr_assert_not_null(
		strstr(err_text, "denied by rule no-ftp (revision 14)\n"), "%s", err_text);
	cr_assert_eq(RUN("-o", "json", "grant", "request", INBOUND), 10);
	cr_assert_not_null(strstr(out_text, "\"revision\":14"), "%s", out_text);
}
