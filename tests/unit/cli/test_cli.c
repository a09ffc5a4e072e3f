/* Whole command lines against a server on the real RPC runtime. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "postern/v1/types.pb-c.h"
#include "tests/unit/cli/command_line.h"

TestSuite(cli, .init = set_up, .fini = tear_down, .timeout = 60);

#define REQUEST                                                                                    \
	"grant", "request", "--gateway", "gw1", "--client", "10.77.1.2", "--to", "10.77.2.2:1046", \
		"--protocol", "ftp"

Test(cli, grants)
{
	cr_assert_eq(RUN(REQUEST, "--request-id", RID, "--context", "abc"), 0, "%s", err_text);
	cr_assert_eq(strncmp(out_text, "granted ", 8), 0);
	cr_assert_not_null(strstr(out_text, "1m left"));
	cr_assert_not_null(strstr(out_text, RID));
	cr_assert_str_eq(err_text, "");
	cr_assert_str_eq(fake_counts(fake).last_request_id, RID);
	cr_assert_eq(fake_counts(fake).last_context_size, 3);
}

Test(cli, grants_in_json_with_an_id_of_its_own)
{
	cr_assert_eq(RUN(REQUEST, "-o", "json"), 0, "%s", out_text);
	cr_assert_eq(strlen(fake_counts(fake).last_request_id), 36);
	cr_assert_not_null(strstr(out_text, fake_counts(fake).last_request_id));
	cr_assert_not_null(strstr(out_text,
		"\"timing\":{\"decide_us\":1,\"commit_us\":2,\"push_us\":3,\"kernel_us\":4}}\n"));
}

/* I6: an answer that is lost is asked for again, with the same id, and granted once. */
Test(cli, a_lost_answer_is_granted_once)
{
	fake_set_mode(fake, FAKE_GRANT_THEN_CUT, 2);
	cr_assert_eq(RUN(REQUEST, "--deadline", "20s"), 0, "%s", err_text);
	cr_assert_eq(fake_counts(fake).requests, 3);
	cr_assert_eq(fake_counts(fake).grants, 1);
}

Test(cli, an_answer_that_never_comes_names_the_request)
{
	fake_set_mode(fake, FAKE_GRANT_THEN_CUT, 1000000);
	cr_assert_eq(RUN(REQUEST, "--deadline", "400ms", "--request-id", RID), 15);
	cr_assert_eq(fake_counts(fake).grants, 1);
	cr_assert(strstr(err_text, "--request-id " RID) != NULL ||
			strstr(err_text, "deadline") != NULL,
		"%s", err_text);
}

Test(cli, denials_name_the_rule)
{
	fake_set_mode(fake, FAKE_DENY, 0);
	cr_assert_eq(RUN(REQUEST), 10);
	cr_assert_eq(strncmp(err_text, "postern: grant request: denied by protocol rules", 48), 0,
		"%s", err_text);
	cr_assert_str_eq(out_text, "");
	cr_assert_eq(RUN("-o", "json", REQUEST, "--request-id", RID), 10);
	cr_assert_eq(strncmp(out_text,
			     "{\"error\":{\"status\":\"permission-denied\",\"reason\":\"denied-"
			     "protocol-rules\",\"rule\":\"no-ftp\",",
			     80),
		0, "%s", out_text);
	cr_assert_not_null(strstr(out_text, "\"grant\":\"denied-1\""));
	cr_assert_not_null(strstr(out_text, "\"request_id\":\"" RID "\"}}\n"));
	cr_assert_str_eq(err_text, "");
}

/* No answer is not "no": UNAVAILABLE with a reason is one. */
Test(cli, gateway_down_is_not_retried)
{
	fake_set_mode(fake, FAKE_GATEWAY_DOWN, 0);
	cr_assert_eq(RUN(REQUEST), 14);
	cr_assert_eq(fake_counts(fake).requests, 1);
	fake_set_mode(fake, FAKE_UNAVAILABLE_ONCE, 0);
	cr_assert_eq(RUN(REQUEST), 0, "%s", err_text);
}

Test(cli, the_deadline_holds)
{
	fake_set_mode(fake, FAKE_HOLD, 0);
	cr_assert_eq(RUN(REQUEST, "--deadline", "200ms"), 15);
}

Test(cli, nonsense_is_no_grant)
{
	fake_set_mode(fake, FAKE_NONSENSE, 0);
	cr_assert_eq(RUN(REQUEST), 1);
	cr_assert_str_eq(out_text, "");
}

Test(cli, who_you_are)
{
	cr_assert_eq(RUN("version", "--remote"), 0);
	cr_assert_not_null(strstr(out_text, "tester"));
	setenv("POSTERN_TOKEN_FILE", fake_bad_token_file(fake), 1);
	cr_assert_eq(RUN("version", "--remote"), 16);
	unsetenv("POSTERN_TOKEN_FILE");
	cr_assert_eq(RUN("version", "--remote"), 16);
	cr_assert_eq(RUN("version", "--remote", "--token-file", "/nonexistent"), 16);
	cr_assert_eq(RUN("version"), 0);
}

Test(cli, no_server)
{
	fake_down(fake);
	cr_assert_eq(RUN(REQUEST), 1);
	cr_assert_not_null(strstr(err_text, "is posternd running?"), "%s", err_text);
	unsetenv("POSTERN_SERVER");
	cr_assert_eq(RUN(REQUEST), 2);
	cr_assert_eq(RUN(REQUEST, "--server", "tls+tcp://127.0.0.1:1"), 2);
	cr_assert_not_null(strstr(err_text, "--ca-file"));
}

static size_t lines_of(const char *text)
{
	size_t n = 0;

	for (; *text != '\0'; text++)
		n += *text == '\n';
	return n;
}

Test(cli, watches_until_it_has_enough)
{
	for (int i = 0; i < 5; i++)
		fake_append(fake, POSTERN__V1__ENTRY_KIND__ENTRY_KIND_ESTABLISHED, "g");
	cr_assert_eq(RUN("-o", "json", "events", "watch", "--cursor", "start", "--count", "3"), 0);
	cr_assert_eq(lines_of(out_text), 3);
	cr_assert_eq(
		RUN("events", "watch", "--cursor", "3", "--count", "5", "--timeout", "300ms"), 15);
	cr_assert_eq(lines_of(out_text), 2);
	cr_assert_not_null(strstr(err_text, "2 of 5 events"), "%s", err_text);
}

static unsigned pick_watches(const struct fake_counts *counts)
{
	return counts->watches;
}

static void *trouble(void *arg)
{
	(void)arg;
	cr_assert(fake_wait(fake, pick_watches, 1));
	fake_append(fake, POSTERN__V1__ENTRY_KIND__ENTRY_KIND_ESTABLISHED, "a");
	fake_cut(fake);
	fake_append(fake, POSTERN__V1__ENTRY_KIND__ENTRY_KIND_ESTABLISHED, "b");
	fake_down(fake);
	fake_append(fake, POSTERN__V1__ENTRY_KIND__ENTRY_KIND_CLOSED, "c");
	fake_up(fake);
	return NULL;
}

/* I8: what happened while the connection was gone is told, once. */
Test(cli, watches_across_lost_connections)
{
	pthread_t thread;

	cr_assert_eq(pthread_create(&thread, NULL, trouble, NULL), 0);
	int code = RUN("-o", "json", "events", "watch", "--cursor", "start", "--count", "3",
		"--timeout", "30s");
	pthread_join(thread, NULL);
	cr_assert_eq(code, 0, "%s", out_text);
	cr_assert_eq(lines_of(out_text), 3, "%s", out_text);
	const char *a = strstr(out_text, "\"grant\":\"a\""),
		   *b = strstr(out_text, "\"grant\":\"b\""),
		   *c = strstr(out_text, "\"grant\":\"c\"");
	cr_assert(a != NULL && b != NULL && c != NULL && a < b && b < c, "%s", out_text);
}

Test(cli, sessions)
{
	cr_assert_eq(RUN("session", "open", "--gateway", "gw1", "--client", "[fd77:1::2]", "--user",
			     "bob", "--from", "[fd77:1::2]:40000", "--to", "[fd77:2::2]:21"),
		0, "%s", err_text);
	cr_assert_str_eq(fake_counts(fake).last_session_user, "bob");
	cr_assert_eq(fake_counts(fake).last_primary_port, 21);
	cr_assert_eq(RUN("session", "open", "--gateway", "gw1", "--client", "fd77:1::2", "--from",
			     "10.0.0.1:1"),
		2);
	cr_assert_not_null(strstr(err_text, "give both"));
}

Test(cli, a_primary_connection_in_one_word)
{
	const char *const bad[] = {"tcp", "tcp,10.0.0.1:1", "tcp,10.0.0.1,10.0.0.2:1",
		"icmp,10.0.0.1:1,10.0.0.2:1", "tcp,10.0.0.1:1,10.0.0.2:1,x"};

	cr_assert_eq(RUN("session", "open", "--gateway", "gw1", "--client", "fd77:1::2",
			     "--primary", "udp,[fd77:1::2]:40000,[fd77:2::2]:5060"),
		0, "%s", err_text);
	cr_assert_eq(fake_counts(fake).last_primary_port, 5060);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cr_assert_eq(RUN("session", "open", "--gateway", "g", "--client", "10.0.0.1",
				     "--primary", (char *)bad[i]),
			2, "%s", bad[i]);
		cr_assert_not_null(strstr(err_text, "is no connection"), "%s", err_text);
	}
	cr_assert_eq(RUN("session", "open", "--gateway", "g", "--client", "10.0.0.1", "--primary",
			     "tcp,10.0.0.1:1,10.0.0.2:1", "--transport", "tcp"),
		2);
	cr_assert_eq(fake_counts(fake).opens, 1);
}

/* A refusal leaves no file that looks like a token, and a file that exists is never touched. */
Test(cli, token_files)
{
	char folder[] = "/tmp/postern-cli-XXXXXX";
	char path[64];

	cr_assert_not_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/t", folder);
	cr_assert_eq(
		RUN("gateway", "add", "gw1", "--out", path), 1); /* this server does not do that */
	cr_assert_neq(access(path, F_OK), 0);
	FILE *file = fopen(path, "w");
	fclose(file);
	cr_assert_eq(RUN("filter", "add", "f1", "--out", path), 1);
	cr_assert_not_null(strstr(err_text, "is not overwritten"));
	cr_assert_eq(RUN("auditor", "add", "../evil"), 2);
	unlink(path);
	rmdir(folder);
}

Test(cli, help_of_everything)
{
	cr_assert_eq(RUN("help"), 0);
	cr_assert_not_null(strstr(out_text, "grant request"));
	cr_assert_eq(RUN("help", "grant", "request"), 0);
	cr_assert_not_null(strstr(out_text, "--max-connections N"));
	char *asked = strdup(out_text);
	cr_assert_eq(RUN("grant", "request", "--help"), 0);
	cr_assert_str_eq(out_text, asked);
	free(asked);
	cr_assert_eq(RUN("help", "grnt"), 2);
	cr_assert_eq(RUN("help", "grant", "request", "flag", "--list"), 0);
	cr_assert_str_eq(out_text,
		"address-based\nallow-multiple\ntimeout\nno-kernel-mode\nbidirectional\n");
}

Test(cli, usage_errors_in_json)
{
	cr_assert_eq(RUN("-o", "json", "grant", "reqest"), 2);
	cr_assert_eq(strncmp(out_text, "{\"error\":{\"status\":\"invalid-argument\"", 37), 0);
	cr_assert_str_eq(err_text, "");
}

Test(cli, output_that_cannot_be_written)
{
	char *argv[] = {(char *)"postern", (char *)"help", NULL};
	size_t size;
	FILE *full = fopen("/dev/full", "w");
	FILE *err;

	free(err_text);
	err = open_memstream(&err_text, &size);
	cr_assert_eq(cli_run(2, argv, full, err), 1);
	fclose(err);
	cr_assert_not_null(strstr(err_text, "No space left"), "%s", err_text);
	fclose(full);
}
