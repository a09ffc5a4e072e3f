#include "client/cli/words.h"

#include <stdbool.h>
#include <string.h>

#define SPACE " \t\r\n"

/* Copies a quoted part down to *out; *in is behind its opening quote, and behind its closing one
 * afterwards. False when there is none. */
static bool take_quoted(char **in, char **out, char quote)
{
	char *from = *in, *to = *out;

	for (; *from != quote; from++) {
		if (*from == '\0')
			return false;
		if (quote == '"' && *from == '\\' && from[1] != '\0' &&
			strchr("\"\\$`", from[1]) != NULL)
			from++;
		*to++ = *from;
	}
	*in = from + 1;
	*out = to;
	return true;
}

/* Unquotes the word at *in to where it begins; *in is behind the word afterwards. */
static enum status take_word(char **in, struct error *err)
{
	char *from = *in, *to = *in;
	char quote;

	while (*from != '\0' && strchr(SPACE, *from) == NULL) {
		quote = *from;
		if (quote == '\\') {
			if (from[1] == '\0' || strchr("\r\n", from[1]) != NULL)
				return error_set(err, STATUS_INVALID_ARGUMENT,
					"a line cannot be continued behind \\: write it in one");
			*to++ = from[1];
			from += 2;
		} else if (quote == '\'' || quote == '"') {
			from++;
			if (!take_quoted(&from, &to, quote))
				return error_set(err, STATUS_INVALID_ARGUMENT,
					"the quote %c is not closed on its line", quote);
		} else {
			*to++ = *from++;
		}
	}
	*in = *from == '\0' ? from : from + 1;
	*to = '\0';
	return STATUS_OK;
}

enum status words_split(
	char *line, size_t max, char **ret_words, size_t *ret_count, struct error *err)
{
	char *at = line;
	size_t count = 0;

	for (;;) {
		at += strspn(at, SPACE);
		if (*at == '\0' || *at == '#')
			break;
		if (count == max)
			return error_set(err, STATUS_INVALID_ARGUMENT, "more than %zu words", max);
		ret_words[count++] = at;
		enum status status = take_word(&at, err);
		if (status != STATUS_OK)
			return status;
	}
	*ret_count = count;
	return STATUS_OK;
}
