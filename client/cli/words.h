/* Splits a line of a file into words, quoted as in a shell; nothing is expanded. */
#ifndef POSTERN_CLI_WORDS_H
#define POSTERN_CLI_WORDS_H

#include <stddef.h>

#include "common/error.h"

/* In place: ret_words point into `line`, at most `max` of them. 'single', "double" and \ quote; #
 * at the beginning of a word makes the rest a comment. Zero words: nothing but that. */
enum status words_split(
	char *line, size_t max, char **ret_words, size_t *ret_count, struct error *err);

#endif
