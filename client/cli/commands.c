#include "client/cli/cli.h"

const struct option_spec global_options[] = {
	{"server", "URL", "the policy server (default: $POSTERN_SERVER)"},
	{"token-file", "FILE", "your token (default: $POSTERN_TOKEN_FILE)"},
	{"ca-file", "FILE", "the server's ca.pem (default: $POSTERN_CA_FILE)"},
	{"server-name", "NAME", "name checked against the server's certificate"},
	{"output", "human|json", "form of the output; also -o"},
	{"deadline", "DURATION", "how long to wait for the server (default 10s; grant request 5s)"},
	{"help", NULL, "print this; also -h"},
	{NULL, NULL, NULL},
};

#define OUT                                                                                        \
	{                                                                                          \
		"out", "FILE", "where the new token is written (default NAME.token, mode 0600)"    \
	}
#define GATEWAY                                                                                    \
	{                                                                                          \
		"gateway", "NAME", "only of this gateway"                                          \
	}
#define KIND                                                                                       \
	{                                                                                          \
		"kind", "KIND", "only entries of this kind; may be given often"                    \
	}

const struct command commands[] = {
	{"gateway", "add", "NAME", 1, 1, "add a gateway; its agent's token goes into a file",
		gateway_add, {{"label", "LABEL", "a label; may be given often"}, OUT}},
	{"gateway", "list", "", 0, 0, "every gateway and whether its agent is connected",
		gateway_list, {{0}}},
	{"gateway", "show", "NAME", 1, 1, "one gateway in full", gateway_show, {{0}}},
	{"filter", "add", "NAME", 1, 1, "add a filter (an inspector); its token goes into a file",
		filter_add,
		{{"gateway", "NAME", "a gateway of its scope; may be given often (default: all)"},
			{"max-grants", "N", "live at once"}, OUT}},
	{"filter", "list", "", 0, 0, "every filter, its scope and its live grants", filter_list,
		{{0}}},
	{"auditor", "add", "NAME", 1, 1,
		"add an auditor, who may read everything and change nothing", auditor_add, {OUT}},
	{"protocol", "register", "NAME", 1, 1, "register a protocol definition", protocol_register,
		{{"guid", "UUID", "its GUID (default: a new one)"},
			{"transport", "tcp|udp", "of the primary connection (default tcp)"},
			{"port", "N", "a primary port; may be given often"}}},
	{"protocol", "list", "", 0, 0, "every protocol definition", protocol_list, {{0}}},
	{"policy", "allow-protocol", "NAME", 1, 1, "add a protocol rule that allows the protocol",
		policy_allow, {{"deny", NULL, "a rule that denies it instead"}}},
	{"policy", "rules", "", 0, 0, "every rule", policy_rules, {{0}}},
	{"session", "open", "", 0, 0, "open a session: one client on one gateway", session_open,
		{{"gateway", "NAME", "the gateway"}, {"client", "ADDR", "the client's address"},
			{"user", "NAME", "its user"},
			{"protocol", "NAME", "the protocol definition"},
			{"idle-limit", "DURATION", "end it after this without activity"}}},
	{"session", "close", "ID", 1, 1, "close a session and end its grants", session_close,
		{{0}}},
	{"session", "list", "", 0, 0, "open sessions", session_list,
		{GATEWAY, {"client", "ADDR", "only of this client"}}},
	{"grant", "request", "", 0, 0, "ask for a door (ISA: AllowFutureConnect)", grant_request,
		{{"gateway", "NAME", "the gateway"}, {"client", "ADDR", "the client's address"},
			{"to", "ADDR:PORT", "where it may connect to"},
			{"transport", "tcp|udp", "(default tcp)"},
			{"protocol", "NAME", "a registered protocol definition"},
			{"flag", "FLAG",
				"address-based, allow-multiple, timeout, no-kernel-mode, "
				"bidirectional; may be given often"},
			{"external", "ADDR[:PORT]", "address the flow leaves the gateway from"},
			{"lifetime", "DURATION", "(default: the server's)"},
			{"max-connections", "N", "(default 1)"},
			{"session", "ID", "the session it belongs to"},
			{"context", "TEXT", "returned unchanged in events"},
			{"notify", NULL, "deliver its events to the filter that asks"},
			{"wait", "decided|installed",
				"answer when on disk, or when the kernel holds the door (default)"},
			{"request-id", "UUID",
				"a retry with the same id returns the same grant (default: a new "
				"one)"}}},
	{"grant", "list", "", 0, 0, "live grants, with the time they have left", grant_list,
		{GATEWAY, {"client", "ADDR", "only of this client"},
			{"session", "ID", "only of this session"},
			{"all", NULL, "ended ones too, newest first"},
			{"limit", "N", "at most so many (default 1000)"}}},
	{"grant", "show", "ID", 1, 1, "one grant and its life", grant_show, {{0}}},
	{"grant", "cancel", "ID", 1, 1, "close a door; a flow that already passed lives on",
		grant_cancel, {{0}}},
	{"events", "watch", "", 0, 0, "the journal as it grows", events_watch,
		{KIND, GATEWAY, {"grant", "ID", "only of this grant"},
			{"cursor", "N|now|start", "begin behind entry N (default now)"},
			{"count", "N", "end after so many"},
			{"timeout", "DURATION", "end after this, with exit code 15"}}},
	{"audit", "query", "", 0, 0, "entries of the journal", audit_query,
		{{"since", "TIME", "RFC 3339, or a duration back from now (1h)"},
			{"until", "TIME", "the same, exclusive"}, GATEWAY,
			{"grant", "ID", "only of this grant"},
			{"session", "ID", "only of this session"},
			{"client", "ADDR", "only of this client"},
			{"remote", "ADDR", "only to this remote"}, KIND,
			{"after", "N", "behind this entry"}, {"limit", "N", "at most so many"}}},
	{"audit", "verify", "", 0, 0, "prove that nothing was changed or removed", audit_verify,
		{{"head", "SEQ:HASH", "a head noted earlier must still be in the chain"}}},
	{"version", NULL, "", 0, 0, "print the version", print_version, {{0}}},
	{"help", NULL, "[COMMAND]", 0, 2, "print this", print_help, {{0}}},
	{NULL, NULL, NULL, 0, 0, NULL, NULL, {{0}}},
};
