#include "client/cli/options.h"

#include <stddef.h>

#include "postern/v1/grants.pb-c.h"
#include "postern/v1/policy.pb-c.h"
#include "postern/v1/types.pb-c.h"

static const char *const output_words[] = {"human", "json", "yaml", NULL};

const struct option_spec cli_globals[] = {
	{.name = "server",
		.value = "URL",
		.help = "tls+tcp://HOST:7411 or ipc:///PATH; default $POSTERN_SERVER"},
	{.name = "token-file",
		.value = "FILE",
		.help = "your token, mode 0600; default $POSTERN_TOKEN_FILE"},
	{.name = "ca-file",
		.value = "FILE",
		.help = "the server's CA, for tls+tcp://; default $POSTERN_CA_FILE"},
	{.name = "server-name",
		.value = "NAME",
		.help = "name in the server's certificate; default: host of the URL"},
	{.name = "output",
		.letter = 'o',
		.value = "FORMAT",
		.words = output_words,
		.help = "human, json (one object a line) or yaml (one document each)"},
	{.name = "deadline",
		.value = "TIME",
		.help = "how long the whole command may take: 500ms, 2s, 1m"},
	{.name = "help", .letter = 'h', .help = "this help"},
	{.name = "version", .letter = 'V', .help = "the version"},
	{.name = NULL},
};

const struct option_spec gateway_add_options[] = {
	{.name = "label",
		.flags = OPTION_REPEAT,
		.value = "LABEL",
		.help = "a label that rules can name"},
	{.name = "out",
		.value = "FILE",
		.help = "write the agent's token there; default ./NAME.token"},
	{.name = NULL},
};

const struct option_spec filter_add_options[] = {
	{.name = "gateway",
		.flags = OPTION_REPEAT,
		.value = "NAME",
		.help = "a gateway that it may ask doors of; default all"},
	{.name = "client-net",
		.flags = OPTION_REPEAT,
		.value = "CIDR",
		.help = "a network that its clients may be in; default all"},
	{.name = "destination-net",
		.flags = OPTION_REPEAT,
		.value = "CIDR",
		.help = "a network that its remotes may be in; default all"},
	{.name = "protocol",
		.flags = OPTION_REPEAT,
		.value = "NAME",
		.help = "a protocol definition that it may use; default all"},
	{.name = "max-grants",
		.value = "N",
		.help = "live grants at once; default: the server's setting"},
	{.name = "grants-per-second",
		.value = "N",
		.help = "as many a second, and a second's worth at once; default no limit"},
	{.name = "max-lifetime",
		.value = "TIME",
		.help = "longer lifetimes are cut to it; default: the server's"},
	{.name = "out",
		.value = "FILE",
		.help = "write the filter's token there; default ./NAME.token"},
	{.name = NULL},
};

const struct option_spec auditor_add_options[] = {
	{.name = "out",
		.value = "FILE",
		.help = "write the auditor's token there; default ./NAME.token"},
	{.name = NULL},
};

const struct option_spec protocol_register_options[] = {
	{.name = "transport",
		.value = "TRANSPORT",
		.choices = &postern__v1__transport__descriptor,
		.help = "of the primary connection; default tcp"},
	{.name = "port",
		.flags = OPTION_REPEAT,
		.value = "PORT",
		.help = "a port of the primary connection"},
	{.name = "guid", .value = "GUID", .help = "its identity; default: the server makes one"},
	{.name = "shared", .help = "other filters may use it too; an administrator's always are"},
	{.name = "remotes",
		.value = "SCOPE",
		.choices = &postern__v1__remote_scope__descriptor,
		.help = "whom grants may name: any (default), or the session's peer"},
	{.name = "low-ports", .help = "grants may name ports below 1024"},
	{.name = "max-ports",
		.value = "N",
		.help = "grants may name ranges of up to N ports; default 1"},
	{.name = NULL},
};

const struct option_spec policy_allow_options[] = {
	{.name = "deny", .help = "make a rule that denies it instead"},
	{.name = NULL},
};

const struct option_spec session_open_options[] = {
	{.name = "gateway",
		.flags = OPTION_REQUIRED,
		.value = "NAME",
		.help = "the gateway that the client's traffic passes"},
	{.name = "client",
		.flags = OPTION_REQUIRED,
		.value = "ADDR",
		.help = "the client's address"},
	{.name = "user", .value = "TEXT", .help = "who the client is"},
	{.name = "protocol",
		.value = "NAME",
		.help = "protocol definition of the primary connection"},
	{.name = "primary",
		.value = "TRANSPORT,ADDR:PORT,ADDR:PORT",
		.help = "the primary connection: client, remote; its end ends the session"},
	{.name = "from", .value = "ADDR:PORT", .help = "the primary connection's client side"},
	{.name = "to", .value = "ADDR:PORT", .help = "the primary connection's remote side"},
	{.name = "transport",
		.value = "TRANSPORT",
		.choices = &postern__v1__transport__descriptor,
		.help = "the primary connection's; default tcp"},
	{.name = "idle-limit",
		.value = "TIME",
		.help = "ends by itself when idle that long; default: the server's"},
	{.name = NULL},
};

const struct option_spec session_list_options[] = {
	{.name = "gateway", .value = "NAME", .help = "only of this gateway"},
	{.name = "client", .value = "ADDR", .help = "only of this client"},
	{.name = NULL},
};

/* One grant, whichever command asks for it. */
#define GRANT_OPTIONS                                                                              \
	{.name = "gateway",                                                                        \
		.flags = OPTION_REQUIRED,                                                          \
		.value = "NAME",                                                                   \
		.help = "the gateway that is to open the door"},                                   \
		{.name = "client",                                                                 \
			.value = "ADDR[:PORT]",                                                    \
			.help = "whose door it is; inbound: with the port it listens at"},         \
		{.name = "to",                                                                     \
			.value = "ADDR:PORT[-PORT]",                                               \
			.help = "where the client may connect to; PORT-PORT: any of a range"},     \
		{.name = "inbound",                                                                \
			.help = "the other direction: --from may connect to the client"},          \
		{.name = "from",                                                                   \
			.flags = OPTION_REPEAT,                                                    \
			.value = "ADDR|any",                                                       \
			.help = "inbound: who may connect, or any for anybody"},                   \
		{.name = "transport",                                                              \
			.value = "TRANSPORT",                                                      \
			.choices = &postern__v1__transport__descriptor,                            \
			.help = "of the connection; default tcp"},                                 \
		{.name = "protocol",                                                               \
			.flags = OPTION_REQUIRED,                                                  \
			.value = "NAME",                                                           \
			.help = "protocol definition, by name or GUID"},                           \
		{.name = "session", .value = "ID", .help = "tie the grant to this session"},       \
		{.name = "flag",                                                                   \
			.flags = OPTION_REPEAT,                                                    \
			.value = "FLAG",                                                           \
			.choices = &postern__v1__grant_flag__descriptor,                           \
			.help = "as in AllowFutureConnect"},                                       \
		{.name = "external",                                                               \
			.value = "ADDR[:PORT]",                                                    \
			.help = "what the remote sees; inbound: where it connects to"},            \
		{.name = "lifetime",                                                               \
			.value = "TIME",                                                           \
			.help = "closes by itself after this; default: the server's"},             \
		{.name = "max-connections",                                                        \
			.value = "N",                                                              \
			.help = "used up after N; default 1, with allow-multiple unlimited"},      \
		{.name = "context",                                                                \
			.value = "TEXT",                                                           \
			.help = "returned unchanged in events, at most 4096 bytes"},               \
	{                                                                                          \
		.name = "notify", .help = "the filter sees this grant's events"                    \
	}

#define WAIT_OPTION                                                                                \
	{                                                                                          \
		.name = "wait", .value = "WHAT", .choices = &postern__v1__wait__descriptor,        \
		.help = "answer when this is so; default installed"                                \
	}

#define REQUEST_ID_OPTION                                                                          \
	{                                                                                          \
		.name = "request-id", .value = "UUID",                                             \
		.help = "a retry with the same id gets the same grant; default: a new id"          \
	}

const struct option_spec grant_request_options[] = {
	GRANT_OPTIONS,
	WAIT_OPTION,
	REQUEST_ID_OPTION,
	{.name = NULL},
};

const struct option_spec grant_reserve_options[] = {
	GRANT_OPTIONS,
	{.name = "hold",
		.value = "TIME",
		.help = "ends by itself if not committed by then; default and most: the server's"},
	REQUEST_ID_OPTION,
	{.name = NULL},
};

/* What one line of a bundle may say: the rest holds for all of it. */
const struct option_spec grant_line_options[] = {
	GRANT_OPTIONS,
	{.name = NULL},
};

const struct option_spec grant_bundle_options[] = {
	{.name = "grant",
		.flags = OPTION_REPEAT,
		.value = "OPTIONS",
		.help = "one grant, in the options of 'grant request'; instead of FILE"},
	WAIT_OPTION,
	{.name = "request-id",
		.value = "UUID",
		.help = "the bundle's id; a retry with it gets the same grants; default: a new id"},
	{.name = NULL},
};

const struct option_spec grant_commit_options[] = {
	WAIT_OPTION,
	{.name = NULL},
};

const struct option_spec grant_renew_options[] = {
	{.name = "lifetime",
		.value = "TIME",
		.help = "from now on; default: what it was granted with"},
	{.name = NULL},
};

const struct option_spec grant_cancel_options[] = {
	{.name = "cut", .help = "end its open connections too"},
	{.name = "bundle", .value = "ID", .help = "every grant of this bundle, instead of ID"},
	{.name = NULL},
};

const struct option_spec grant_list_options[] = {
	{.name = "gateway", .value = "NAME", .help = "only of this gateway"},
	{.name = "client", .value = "ADDR", .help = "only of this client"},
	{.name = "session", .value = "ID", .help = "only of this session"},
	{.name = "all", .help = "ended ones too, newest first"},
	{.name = "limit", .value = "N", .help = "at most N; default 1000"},
	{.name = NULL},
};

const struct option_spec events_watch_options[] = {
	{.name = "kind",
		.flags = OPTION_REPEAT,
		.value = "KIND",
		.choices = &postern__v1__entry_kind__descriptor,
		.help = "only events of this kind"},
	{.name = "gateway", .value = "NAME", .help = "only of this gateway"},
	{.name = "grant", .value = "ID", .help = "only of this grant"},
	{.name = "cursor",
		.value = "N|now|start",
		.help = "after event N, from now on, or from the first; default now"},
	{.name = "count", .value = "N", .help = "exit (0) after N events"},
	{.name = "timeout", .value = "TIME", .help = "exit (15) after this time"},
	{.name = NULL},
};

const struct option_spec audit_query_options[] = {
	{.name = "since",
		.value = "TIME",
		.help = "from then on: 1h (ago), 2026-11-24, 2026-11-24T08:02:37"},
	{.name = "until", .value = "TIME", .help = "before then"},
	{.name = "gateway", .value = "NAME", .help = "only of this gateway"},
	{.name = "grant", .value = "ID", .help = "only of this grant"},
	{.name = "session", .value = "ID", .help = "only of this session"},
	{.name = "client", .value = "ADDR", .help = "only of this client"},
	{.name = "remote", .value = "ADDR", .help = "only towards this address"},
	{.name = "kind",
		.flags = OPTION_REPEAT,
		.value = "KIND",
		.choices = &postern__v1__entry_kind__descriptor,
		.help = "only entries of this kind"},
	{.name = "after", .value = "N", .help = "continue behind entry N"},
	{.name = "limit", .value = "N", .help = "at most N entries; default all"},
	{.name = NULL},
};

const struct option_spec audit_verify_options[] = {
	{.name = "head",
		.value = "SEQ:HASH",
		.help = "a head noted earlier, which must still be in the chain"},
	{.name = NULL},
};

const struct option_spec version_options[] = {
	{.name = "remote", .help = "ask the server for its version too, and who it says you are"},
	{.name = NULL},
};

const struct option_spec help_options[] = {
	{.name = "list", .help = "only the words that may follow, one a line (for completion)"},
	{.name = NULL},
};
