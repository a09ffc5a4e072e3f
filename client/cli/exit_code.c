#include "client/cli/exit_code.h"

#include <stddef.h>

const struct exit_meaning exit_meanings[] = {
	{EXIT_OK, "done; grant request, reserve, bundle: granted"},
	{EXIT_OTHER, "any other error; audit verify: the chain is broken"},
	{EXIT_USAGE, "usage error, or the server found an argument invalid"},
	{EXIT_DENIED_PROTOCOL_RULES, "denied by the protocol rules"},
	{EXIT_DENIED_SITE_AND_CONTENT_RULES, "denied by the site-and-content rules"},
	{EXIT_OUT_OF_SCOPE, "out of scope: this filter may not ask this"},
	{EXIT_QUOTA, "quota: the filter has as many live grants, or grants a second, as it may"},
	{EXIT_GATEWAY_DOWN, "the gateway is not connected"},
	{EXIT_DEADLINE, "the deadline passed; events watch: --timeout passed"},
	{EXIT_UNAUTHENTICATED, "no token, or one that the server does not know"},
	{EXIT_EXTERNAL_TAKEN, "another live grant has that external port"},
	{EXIT_NO_SUCH_CONNECTION, "the gateway does not know the primary connection"},
	{EXIT_REVISION_CHANGED, "policy apply --if-revision: another revision is in force"},
	{EXIT_POLICY_TEST_FAILED, "policy apply, policy test: a test of the document failed"},
	{EXIT_OK, NULL},
};

static enum exit_code of_status(enum status status)
{
	switch (status) {
	case STATUS_OK:
		return EXIT_OK;
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
		return EXIT_OTHER;
	}
	return EXIT_OTHER; /* a newer server's */
}

enum exit_code exit_code_of(const struct error *err)
{
	switch (err->reason) {
	case REASON_DENIED_PROTOCOL_RULES:
		return EXIT_DENIED_PROTOCOL_RULES;
	case REASON_DENIED_SITE_AND_CONTENT_RULES:
		return EXIT_DENIED_SITE_AND_CONTENT_RULES;
	case REASON_OUT_OF_SCOPE:
		return EXIT_OUT_OF_SCOPE;
	case REASON_QUOTA:
		return EXIT_QUOTA;
	case REASON_GATEWAY_DOWN:
		return EXIT_GATEWAY_DOWN;
	case REASON_DEADLINE:
		return EXIT_DEADLINE;
	case REASON_EXTERNAL_TAKEN:
		return EXIT_EXTERNAL_TAKEN;
	case REASON_NO_SUCH_CONNECTION:
		return EXIT_NO_SUCH_CONNECTION;
	case REASON_REVISION_CHANGED:
		return EXIT_REVISION_CHANGED;
	case REASON_POLICY_TEST_FAILED:
		return EXIT_POLICY_TEST_FAILED;
	case REASON_SOURCE_UNAVAILABLE:
	case REASON_NONE:
	case REASON_NO_SUCH_GATEWAY:
	case REASON_GATEWAY_REFUSED:
	case REASON_ALREADY_ENDED:
	case REASON_JOURNAL_UNAVAILABLE:
		break;
	}
	return of_status(err->status);
}

const char *exit_phrase(const struct error *err)
{
	switch (err->reason) {
	case REASON_DENIED_PROTOCOL_RULES:
		return "denied by protocol rules";
	case REASON_DENIED_SITE_AND_CONTENT_RULES:
		return "denied by site-and-content rules";
	case REASON_OUT_OF_SCOPE:
		return "out of scope";
	case REASON_QUOTA:
		return "quota reached";
	case REASON_NO_SUCH_GATEWAY:
		return "no such gateway";
	case REASON_GATEWAY_DOWN:
		return "gateway down";
	case REASON_GATEWAY_REFUSED:
		return "gateway refused";
	case REASON_DEADLINE:
		return "deadline passed";
	case REASON_ALREADY_ENDED:
		return "already ended";
	case REASON_JOURNAL_UNAVAILABLE:
		return "journal unavailable";
	case REASON_EXTERNAL_TAKEN:
		return "external port taken";
	case REASON_NO_SUCH_CONNECTION:
		return "no such connection";
	case REASON_REVISION_CHANGED:
		return "another revision is in force";
	case REASON_POLICY_TEST_FAILED:
		return "policy test failed";
	case REASON_SOURCE_UNAVAILABLE:
		return "source unavailable";
	case REASON_NONE:
		break;
	}
	return "";
}
