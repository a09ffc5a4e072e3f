#include <stddef.h>

#include "client/cli/options.h"

#define FILE_OPTION(needed, text)                                                                  \
	{                                                                                          \
		.name = "file", .letter = 'f', .flags = (needed), .value = "FILE", .help = text    \
	}
#define CANDIDATE FILE_OPTION(0, "of this document (file, folder or -); default: the one in force")
#define MESSAGE_OPTION                                                                             \
	{                                                                                          \
		.name = "message", .letter = 'm', .value = "TEXT",                                 \
		.help = "why, for the history; at most 240 bytes"                                  \
	}
#define IF_REVISION_OPTION                                                                         \
	{                                                                                          \
		.name = "if-revision", .value = "N",                                               \
		.help = "only if N is in force; exits with 19 otherwise"                           \
	}

const struct option_spec policy_apply_options[] = {
	FILE_OPTION(OPTION_REQUIRED, "the document: a file, a folder, or - for standard input"),
	MESSAGE_OPTION,
	IF_REVISION_OPTION,
	{.name = "confirm",
		.value = "TIME",
		.help = "rolled back by itself unless confirmed by then; 10s to 24h"},
	{.name = "dry-run", .help = "change nothing; show the differences and their effects"},
	{.name = NULL},
};

const struct option_spec policy_history_options[] = {
	{.name = "limit", .value = "N", .help = "at most N; default 100, most 1000"},
	{.name = NULL},
};

const struct option_spec policy_diff_options[] = {
	FILE_OPTION(OPTION_REPEAT, "compare this document (file, folder or -)"),
	{.name = NULL},
};

const struct option_spec policy_rollback_options[] = {
	MESSAGE_OPTION,
	IF_REVISION_OPTION,
	{.name = NULL},
};

const struct option_spec policy_test_options[] = {
	CANDIDATE,
	{.name = NULL},
};

const struct option_spec policy_replay_options[] = {
	{.name = "since",
		.flags = OPTION_REQUIRED,
		.value = "TIME",
		.help = "requests from then on: 7d (ago), 2026-11-24, 2026-11-24T08:02:37"},
	{.name = "until", .value = "TIME", .help = "requests before then; default now"},
	{.name = "gateway", .value = "NAME", .help = "only of this gateway"},
	{.name = "filter", .value = "NAME", .help = "only those that this filter made"},
	CANDIDATE,
	{.name = NULL},
};

const struct option_spec policy_explain_options[] = {
	{.name = "gateway", .value = "NAME", .help = "default: one that no rule names"},
	{.name = "client",
		.flags = OPTION_REQUIRED,
		.value = "ADDR[:PORT]",
		.help = "whose door it would be; inbound: with the port it listens at"},
	{.name = "to", .value = "ADDR:PORT[-PORT]", .help = "where the client would connect to"},
	{.name = "from", .value = "ADDR|any", .help = "inbound: who would connect"},
	{.name = "protocol",
		.flags = OPTION_REQUIRED,
		.value = "NAME",
		.help = "protocol definition"},
	{.name = "user", .value = "TEXT", .help = "the session's user; default none"},
	{.name = "at", .value = "TIME", .help = "as if it were then; default now"},
	CANDIDATE,
	{.name = "all", .help = "every rule, also those that decide nothing"},
	{.name = NULL},
};

const struct option_spec feed_show_options[] = {
	{.name = "held", .help = "the copy that is held back"},
	{.name = NULL},
};
