#include "common/log.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int kept_stderr, captured;
static char text[8192];

static void setup(void)
{
	kept_stderr = dup(STDERR_FILENO);
	captured = memfd_create("log", 0);
	dup2(captured, STDERR_FILENO);
	unsetenv("JOURNAL_STREAM");
}

static const char *written(void)
{
	ssize_t size = pread(captured, text, sizeof(text) - 1, 0);

	text[size > 0 ? size : 0] = '\0';
	dup2(kept_stderr, STDERR_FILENO);
	return text;
}

static void pretend_journal(void)
{
	struct stat st;
	char stream[64];

	fstat(STDERR_FILENO, &st);
	snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev,
		(unsigned long long)st.st_ino);
	setenv("JOURNAL_STREAM", stream, 1);
}

TestSuite(log, .init = setup);

Test(log, line_for_people)
{
	log_init("posternd", LOG_LEVEL_INFO);
	log_warn("fleet: %s: gone", "gw1");
	written();
	cr_assert_not_null(strstr(text, "Z posternd["));
	cr_assert_not_null(strstr(text, "]: warning: fleet: gw1: gone\n"));
	cr_assert_eq(text[0], '2');
}

Test(log, line_for_the_journal)
{
	pretend_journal();
	log_init("posternd", LOG_LEVEL_DEBUG);
	log_err("a");
	log_warn("b");
	log_info("c");
	log_debug("d");
	cr_assert_str_eq(written(), "<3>a\n<4>b\n<6>c\n<7>d\n");
}

Test(log, human_overrules_the_journal)
{
	pretend_journal();
	log_init("posternd", LOG_LEVEL_INFO);
	log_human();
	log_info("a");
	cr_assert_eq(written()[0], '2');
}

Test(log, somebody_elses_journal_is_not_believed)
{
	setenv("JOURNAL_STREAM", "1:2", 1);
	log_init("posternd", LOG_LEVEL_INFO);
	log_info("a");
	cr_assert_eq(written()[0], '2');
}

/* A peer's string cannot forge a line, nor drive a terminal. */
Test(log, strings_of_peers_are_escaped)
{
	pretend_journal();
	log_init("posternd", LOG_LEVEL_INFO);
	log_info("user %s", "a\n<3>forged\r\x1b[2J\x7f\xc2\x9b tab\t \xc3\xa9");
	cr_assert_str_eq(written(),
		"<6>user a\\x0a<3>forged\\x0d\\x1b[2J\\x7f\xc2\\x9b tab\\x09 \xc3\xa9\n");
}

Test(log, long_lines_are_cut_and_end)
{
	char big[5000];
	size_t length;

	memset(big, '\n', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	log_init("posternd", LOG_LEVEL_INFO);
	log_info("%s", big);
	length = strlen(written());
	cr_assert_leq(length, 2048);
	cr_assert_str_eq(text + length - 4, "...\n");
	cr_assert_eq(strchr(text, '\n'), text + length - 1);
}

Test(log, levels_and_errno)
{
	log_init("posternd", LOG_LEVEL_WARN);
	cr_assert_not(log_enabled(LOG_LEVEL_INFO));
	cr_assert(log_enabled(LOG_LEVEL_ERR));
	errno = EBADMSG;
	log_info("not seen");
	log_debug("not seen");
	log_err("seen");
	cr_assert_eq(errno, EBADMSG);
	cr_assert_null(strstr(written(), "not seen"));
	cr_assert_not_null(strstr(text, "error: seen\n"));
}
