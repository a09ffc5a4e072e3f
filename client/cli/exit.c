#include <stdio.h>

#include "client/cli/cli.h"

int exit_code(const struct error *err)
{
	switch (err->reason) {
	case REASON_DENIED_PROTOCOL_RULES:
		return EXIT_PROTOCOL_RULES;
	case REASON_DENIED_SITE_AND_CONTENT_RULES:
		return EXIT_SITE_RULES;
	case REASON_OUT_OF_SCOPE:
		return EXIT_SCOPE;
	case REASON_QUOTA:
		return EXIT_QUOTA;
	case REASON_GATEWAY_DOWN:
		return EXIT_GATEWAY_DOWN;
	case REASON_DEADLINE:
		return EXIT_DEADLINE;
	case REASON_NONE:
	case REASON_NO_SUCH_GATEWAY:
	case REASON_GATEWAY_REFUSED:
	case REASON_ALREADY_ENDED:
	case REASON_JOURNAL_UNAVAILABLE:
		break;
	}
	switch (err->status) {
	case STATUS_OK:
		return EXIT_GOOD;
	case STATUS_INVALID_ARGUMENT:
		return EXIT_USAGE;
	case STATUS_DEADLINE_EXCEEDED:
		return EXIT_DEADLINE;
	case STATUS_UNAUTHENTICATED:
		return EXIT_UNAUTHENTICATED;
	case STATUS_CANCELLED:
	case STATUS_UNKNOWN:
	case STATUS_NOT_FOUND:
	case STATUS_ALREADY_EXISTS:
	case STATUS_PERMISSION_DENIED:
	case STATUS_RESOURCE_EXHAUSTED:
	case STATUS_FAILED_PRECONDITION:
	case STATUS_ABORTED:
	case STATUS_OUT_OF_RANGE:
	case STATUS_UNIMPLEMENTED:
	case STATUS_INTERNAL:
	case STATUS_UNAVAILABLE:
	case STATUS_DATA_LOSS:
		break;
	}
	return EXIT_OTHER;
}

int report(const struct cli *cli, const struct error *err)
{
	if (cli->json)
		print_json_error(err);
	fprintf(stderr, "postern: %s%s%s: %s\n", cli->command->noun, cli->command->verb ? " " : "",
		cli->command->verb ? cli->command->verb : "",
		err->text[0] ? err->text : status_name(err->status));
	return exit_code(err);
}
