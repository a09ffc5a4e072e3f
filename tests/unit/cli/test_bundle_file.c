#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/bundle_file.h"

static char path[] = "/tmp/postern-bundle-XXXXXX";
static struct bundle_file *file;
static Postern__V1__GrantRequest *grants[BUNDLE_MAX];
static struct error err;

static void set_up(void)
{
	int fd = mkstemp(path);

	cr_assert_geq(fd, 0);
	close(fd);
	file = bundle_file_new();
	cr_assert_not_null(file);
}

static void tear_down(void)
{
	unlink(path);
	bundle_file_free(file);
	bundle_file_free(NULL);
}

TestSuite(bundle_file, .init = set_up, .fini = tear_down);

static enum status read_bytes(const char *bytes, size_t size)
{
	FILE *out = fopen(path, "w");

	fwrite(bytes, 1, size, out);
	fclose(out);
	memset(&err, 0, sizeof(err));
	return bundle_file_read(file, path, &err);
}

static enum status read_text(const char *text)
{
	return read_bytes(text, strlen(text));
}

#define LINE "--gateway gw1 --protocol rtsp --client 10.77.1.2 --to 10.77.2.2:"

Test(bundle_file, a_grant_a_line)
{
	cr_assert_eq(read_text("# the media of a call\n\n" LINE "5004 --transport udp\n" LINE
			       "5005 --context 'a  b' # RTCP\n   \n"
			       "--gateway gw1 --protocol=rtsp --from any --client 10.77.1.2:2000"),
		STATUS_OK, "%s", err.text);
	cr_assert_eq(bundle_file_grants(file, grants), 3);
	cr_assert_eq(grants[0]->remote_port, 5004);
	cr_assert_eq(grants[0]->transport, POSTERN__V1__TRANSPORT__TRANSPORT_UDP);
	cr_assert_eq(grants[1]->remote_port, 5005);
	cr_assert_eq(grants[1]->context.len, 4);
	cr_assert_arr_eq(grants[1]->context.data, "a  b", 4);
	cr_assert_eq(grants[2]->direction, POSTERN__V1__DIRECTION__DIRECTION_INBOUND);
	cr_assert_str_eq(grants[2]->client, "10.77.1.2");
	cr_assert_str_eq(grants[2]->protocol, "rtsp");
}

/* "PATH:3: ..." and the option in `field`. */
static void check_bad(const char *text, const char *field, const char *part)
{
	char place[64];

	bundle_file_free(file);
	file = bundle_file_new();
	cr_assert_eq(read_text(text), STATUS_INVALID_ARGUMENT, "%s", text);
	cr_assert_str_eq(err.field, field);
	snprintf(place, sizeof(place), "%s:%s", path, part);
	cr_assert_eq(strncmp(err.text, place, strlen(place)), 0, "%s", err.text);
}

Test(bundle_file, errors_name_line_and_option)
{
	check_bad(LINE "1\n\n" LINE "x\n", "to", "3: --to: '10.77.2.2:x' is no address");
	check_bad(LINE "1\n--gateway gw1 --client 10.77.1.2 --to 10.77.2.2:1\n", "protocol",
		"2: --protocol NAME is missing");
	check_bad(LINE "1 --lifetme 1s\n", "",
		"1: unknown option '--lifetme': did you mean '--lifetime'?");
	check_bad(LINE "1 'x\n", "", "1: the quote ' is not closed");
	check_bad(LINE "1 extra\n", "", "1: unexpected word 'extra'");
	check_bad("\n# nothing\n", "", " no grant: write one a line");
}

/* What holds for the whole bundle is said once, not in a line; neither are the program's options.
 */
Test(bundle_file, what_is_the_bundles_is_not_a_lines)
{
	check_bad(LINE "1 --wait decided\n", "", "1: unknown option '--wait'");
	check_bad(LINE "1 --request-id x\n", "", "1: unknown option '--request-id'");
	check_bad(LINE "1 --hold 1s\n", "", "1: unknown option '--hold'");
	check_bad(LINE "1 --server ipc:///x\n", "", "1: unknown option '--server'");
	check_bad(LINE "1 --help\n", "", "1: unknown option '--help'");
}

Test(bundle_file, is_bounded)
{
	static char text[40000];
	size_t used = 0;

	for (int i = 1; i <= BUNDLE_MAX; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used, LINE "%d\n", i);
	cr_assert_eq(read_text(text), STATUS_OK, "%s", err.text);
	cr_assert_eq(bundle_file_grants(file, grants), (size_t)BUNDLE_MAX);
	cr_assert_eq(grants[BUNDLE_MAX - 1]->remote_port, BUNDLE_MAX);
	snprintf(text + used, sizeof(text) - used, "# a comment is no grant\n");
	bundle_file_free(file);
	file = bundle_file_new();
	cr_assert_eq(read_text(text), STATUS_OK, "%s", err.text);
	snprintf(text + used, sizeof(text) - used, LINE "65\n");
	check_bad(text, "", "65: a bundle holds at most 64 grants");
	memset(text, ' ', 20000);
	text[20000] = '\0';
	check_bad(text, "", "1: the line is longer than");
	bundle_file_free(file);
	file = bundle_file_new();
	cr_assert_eq(read_bytes(LINE "1\n" LINE "2\0 --notify\n", 2 * sizeof(LINE) + 13),
		STATUS_INVALID_ARGUMENT);
	cr_assert_not_null(strstr(err.text, ":2: the line holds a NUL byte"), "%s", err.text);
}

/* `line` 0: told as it is. */
static void check_place(const char *told, int line, const char *rest)
{
	char text[320];

	snprintf(err.text, sizeof(err.text), "%s", told);
	bundle_file_name_place(file, &err);
	if (line == 0)
		snprintf(text, sizeof(text), "%s", rest);
	else
		snprintf(text, sizeof(text), "%s:%d: %s", path, line, rest);
	cr_assert_str_eq(err.text, text);
}

/* By line, as the lines that the server never saw. */
Test(bundle_file, what_the_server_refuses_is_named_by_its_place)
{
	cr_assert_eq(read_text("# media\n" LINE "1\n\n" LINE "2\n"), STATUS_OK);
	check_place("grants[0]: denied by protocol rules", 2, "denied by protocol rules");
	check_place("grants[1].remote_port: 2 is low", 4, "--to: 2 is low");
	check_place("grants[2]: not mine", 0, "grants[2]: not mine");
	check_place("the server is out of memory", 0, "the server is out of memory");
	check_place("grants[", 0, "grants[");
	check_place("request_id: it was used", 0, "--request-id: it was used");
}

Test(bundle_file, a_file_that_is_not_there)
{
	cr_assert_eq(bundle_file_read(file, "/nonexistent/bundle", &err), STATUS_INVALID_ARGUMENT);
	cr_assert_not_null(strstr(err.text, "/nonexistent/bundle: No such file"), "%s", err.text);
	cr_assert_eq(bundle_file_read(file, "/", &err), STATUS_INVALID_ARGUMENT, "a folder");
}
