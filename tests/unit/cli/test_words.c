#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "client/cli/words.h"

#define MAX 8

static char line[256];
static char *words[MAX];
static size_t count;
static struct error err;

static enum status split(const char *text)
{
	snprintf(line, sizeof(line), "%s", text);
	count = 99;
	return words_split(line, MAX, words, &count, &err);
}

/* The words, each in brackets. */
static void check(const char *text, const char *want)
{
	char got[256] = "";

	cr_assert_eq(split(text), STATUS_OK, "%s: %s", text, err.text);
	for (size_t i = 0; i < count; i++)
		snprintf(got + strlen(got), sizeof(got) - strlen(got), "[%s]", words[i]);
	cr_assert_str_eq(got, want);
}

Test(words, as_a_shell_splits_them)
{
	check("", "");
	check(" \t\r\n", "");
	check("a b", "[a][b]");
	check("  a\t b  \n", "[a][b]");
	check("a\\ b c", "[a b][c]");
	check("'a b' c", "[a b][c]");
	check("\"a b\" c", "[a b][c]");
	check("--x='a b'y", "[--x=a by]");
	check("'' \"\"", "[][]");
	check("'a\"b' \"a'b\"", "[a\"b][a'b]");
	check("\"a\\\"b\\\\c\\d\"", "[a\"b\\c\\d]");
	check("'a\\b'", "[a\\b]");
	check("\\'a", "['a]");
	check("$HOME *.c `x`", "[$HOME][*.c][`x`]");
}

Test(words, comments)
{
	check("# all of it", "");
	check("a # b", "[a]");
	check("a#b '#c' \\#d", "[a#b][#c][#d]");
}

Test(words, what_is_unfinished_is_refused)
{
	cr_assert_eq(split("a 'b"), STATUS_INVALID_ARGUMENT);
	cr_assert_str_eq(err.text, "the quote ' is not closed on its line");
	cr_assert_eq(split("a \"b\\\""), STATUS_INVALID_ARGUMENT);
	cr_assert_str_eq(err.text, "the quote \" is not closed on its line");
	cr_assert_eq(split("a \"b\\"), STATUS_INVALID_ARGUMENT);
	cr_assert_eq(split("a \\"), STATUS_INVALID_ARGUMENT);
	cr_assert_eq(split("a \\\n"), STATUS_INVALID_ARGUMENT);
	cr_assert_eq(count, 99, "untouched on failure");
}

Test(words, are_bounded)
{
	check("1 2 3 4 5 6 7 8", "[1][2][3][4][5][6][7][8]");
	cr_assert_eq(split("1 2 3 4 5 6 7 8 9"), STATUS_INVALID_ARGUMENT);
	cr_assert_str_eq(err.text, "more than 8 words");
}
