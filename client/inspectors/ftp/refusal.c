/* RFC 959: 4yz asks the client to try the same again later, 5yz not to. So 425 "can't open data
 * connection" stands for what passes by itself or is the operator's to mend (gateway, server,
 * deadline, quota), and 550 "no access" for what was decided against this client or this server.
 *
 * RFC 2577 section 3 has 504 "not implemented for that parameter" for a PORT that must not be
 * followed, RFC 2428 has 522 for an EPRT of another protocol. */
#include "client/inspectors/ftp/refusal.h"

#define TRY_LATER "425 Postern: "
#define NO_ACCESS "550 Postern: "
#define NOT_THAT_PORT "504 Postern: "

static const char *refusal_of_status(enum status status)
{
	switch (status) {
	case STATUS_DEADLINE_EXCEEDED:
		return TRY_LATER "the permission did not come in time; try again\r\n";
	case STATUS_UNAVAILABLE:
	case STATUS_CANCELLED:
		return TRY_LATER "the policy server cannot be reached now; try again\r\n";
	case STATUS_RESOURCE_EXHAUSTED:
		return TRY_LATER "too many data connections are open now; try again\r\n";
	case STATUS_PERMISSION_DENIED:
		return NO_ACCESS "this data connection is not permitted\r\n";
	case STATUS_UNAUTHENTICATED:
		return TRY_LATER "the policy server does not know this gateway's FTP inspector; "
				 "tell its operator\r\n";
	case STATUS_OK:
	case STATUS_UNKNOWN:
	case STATUS_INVALID_ARGUMENT:
	case STATUS_NOT_FOUND:
	case STATUS_ALREADY_EXISTS:
	case STATUS_FAILED_PRECONDITION:
	case STATUS_ABORTED:
	case STATUS_OUT_OF_RANGE:
	case STATUS_UNIMPLEMENTED:
	case STATUS_INTERNAL:
	case STATUS_DATA_LOSS:
		break;
	}
	return TRY_LATER "the data connection could not be permitted; tell the gateway's "
			 "operator\r\n";
}

const char *refusal_of_error(const struct error *err)
{
	switch (err->reason) {
	case REASON_DENIED_PROTOCOL_RULES:
		return NO_ACCESS "the protocol rules do not permit FTP data connections\r\n";
	case REASON_DENIED_SITE_AND_CONTENT_RULES:
		return NO_ACCESS "the site and content rules do not permit this server\r\n";
	case REASON_OUT_OF_SCOPE:
		return NO_ACCESS "this gateway's FTP inspector may not permit this\r\n";
	case REASON_QUOTA:
		return TRY_LATER "too many data connections are open now; try again\r\n";
	case REASON_NO_SUCH_GATEWAY:
		return TRY_LATER "the policy server does not know this gateway; tell its "
				 "operator\r\n";
	case REASON_GATEWAY_DOWN:
		return TRY_LATER "the gateway cannot open data connections now; try again\r\n";
	case REASON_GATEWAY_REFUSED:
		return TRY_LATER "the gateway could not open the data connection; try again\r\n";
	case REASON_DEADLINE:
		return TRY_LATER "the permission did not come in time; try again\r\n";
	case REASON_JOURNAL_UNAVAILABLE:
		return TRY_LATER "the policy server cannot record permissions now; try again\r\n";
	case REASON_EXTERNAL_TAKEN:
		return TRY_LATER
			"the gateway's port for the data connection is taken; try again\r\n";
	case REASON_NO_SUCH_CONNECTION:
		return TRY_LATER
			"the gateway does not know this control connection; connect anew\r\n";
	case REASON_REVISION_CHANGED:
	case REASON_POLICY_TEST_FAILED:
	case REASON_SOURCE_UNAVAILABLE:
	case REASON_NONE:
	case REASON_ALREADY_ENDED:
		break;
	}
	return refusal_of_status(err->status);
}

const char *refusal_of_reply(enum dialogue_problem problem)
{
	switch (problem) {
	case DIALOGUE_UNREADABLE:
		return NO_ACCESS "the server's passive reply cannot be understood\r\n";
	case DIALOGUE_FOREIGN_HOST:
		return NO_ACCESS "the server named another host for the data connection\r\n";
	case DIALOGUE_LOW_PORT:
		return NO_ACCESS "the server named a port below 1024 for the data connection\r\n";
	case DIALOGUE_OVERLONG:
		return NO_ACCESS "the server's passive reply is too long\r\n";
	case DIALOGUE_FINE:
	case DIALOGUE_OTHER_FAMILY:
	case DIALOGUE_EPSV_ONLY:
		break;
	}
	return NO_ACCESS "\r\n";
}

const char *refusal_of_command(enum dialogue_problem problem, enum addr_family family)
{
	switch (problem) {
	case DIALOGUE_UNREADABLE:
		return "501 Postern: the address and port cannot be read\r\n";
	case DIALOGUE_FOREIGN_HOST:
		return NOT_THAT_PORT "data connections come to your own address only\r\n";
	case DIALOGUE_LOW_PORT:
		return NOT_THAT_PORT "data connections come to ports from 1024 on only\r\n";
	case DIALOGUE_OTHER_FAMILY:
		return family == ADDR_IPV6 ? "522 Postern: this connection uses IPv6, use (2)\r\n"
					   : "522 Postern: this connection uses IPv4, use (1)\r\n";
	case DIALOGUE_EPSV_ONLY:
		return NOT_THAT_PORT "you said EPSV ALL\r\n";
	case DIALOGUE_FINE:
	case DIALOGUE_OVERLONG:
		break;
	}
	return NOT_THAT_PORT "\r\n";
}

const char *refusal_reason(enum dialogue_problem problem)
{
	switch (problem) {
	case DIALOGUE_FINE:
		break;
	case DIALOGUE_UNREADABLE:
		return "its address cannot be read";
	case DIALOGUE_FOREIGN_HOST:
		return "bounce guard: it names another host";
	case DIALOGUE_LOW_PORT:
		return "it names a port below 1024";
	case DIALOGUE_OVERLONG:
		return "it is too long";
	case DIALOGUE_OTHER_FAMILY:
		return "its address is not of the control connection's family";
	case DIALOGUE_EPSV_ONLY:
		return "it comes behind EPSV ALL";
	}
	return "";
}
