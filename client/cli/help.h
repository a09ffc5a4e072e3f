/* Help texts and the words for completion, all from the table of commands. */
#ifndef POSTERN_CLI_HELP_H
#define POSTERN_CLI_HELP_H

#include <stdio.h>

#include "client/cli/args.h"

/* What --help prints for what the command line names so far: a command, a noun, or nothing. */
void help_print(const struct args *args, FILE *out);

#endif
