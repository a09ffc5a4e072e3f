/* postern: the command line of the policy server. */
#include <locale.h>
#include <signal.h>
#include <stdio.h>

#include "client/cli/cli.h"

int main(int argc, char **argv)
{
	/* A reader that has gone then shows as EPIPE, which ends a command quietly. */
	signal(SIGPIPE, SIG_IGN);
	setlocale(LC_CTYPE, "");
	return cli_run(argc, argv, stdout, stderr);
}
