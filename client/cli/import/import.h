/* From rules of nftables or iptables to a proposal of a policy document. What is not understood is
 * never widened: such a rule is listed, not proposed. Internal to the folder, but for
 * import_read(). */
#ifndef POSTERN_CLI_IMPORT_IMPORT_H
#define POSTERN_CLI_IMPORT_IMPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/error.h"
#include "postern/v1/document.pb-c.h"

#define IMPORT_SIZE_MAX (16U * 1024 * 1024)
#define IMPORT_ADDRESSES_MAX 4000000 /* of all rules, a set's each time that it is used */
#define IMPORT_STEPS_MAX 2000000 /* rules looked at, by all ways through the chains */
#define IMPORT_PORTS_MAX 64
#define IMPORT_DEPTH_MAX 16 /* chains that jump to chains */

/* What a rule wants of a flow, all of it. Texts belong to the import. */
struct match {
	const char **sources, **not_sources, **destinations, **not_destinations;
	size_t source_count, not_source_count, destination_count, not_destination_count;
	uint8_t transport; /* 0 = any */
	uint8_t family; /* enum addr_family; ADDR_NONE = both */
	struct {
		uint16_t first, last;
	} ports[IMPORT_PORTS_MAX];
	size_t port_count; /* 0 = any */
	const char *helper; /* "ftp": of an expected connection; NULL = not asked */
	bool new_flows, related_only, old_only; /* of ct state: no state is all */
	size_t jump; /* the line that led here; 0 = none */
	size_t way; /* of those through several jumps, each its own; 0 = a shorter one */
	const char *unknown; /* the first thing that was not understood */
};

struct import {
	const char *name; /* of the file */
	Postern__V1__PolicyDocument document;
	struct import_note {
		size_t line;
		const char *text;
	} * notes; /* what was not translated */
	size_t note_count, note_room;
	size_t others; /* rules that have nothing to do with helpers */
	size_t rules;
	void **kept;
	size_t kept_count, kept_room;
	size_t addresses, steps, ways; /* so far */
	bool failed; /* memory, or one of the bounds above */
};

/* `text` is NUL-terminated; nft or iptables-save, which of them is found out. */
enum status import_read(
	struct import *import, const char *name, const char *text, struct error *err);
void import_fini(struct import *import);
/* The notes as comments, then the document. False: memory, or the output is broken. */
bool import_write(const struct import *import, FILE *out);

/* ---- for the readers: iptables.c, nft.c ---- */

void *import_keep(struct import *import, size_t size); /* zeroed; NULL: `failed` is set */
const char *import_text(struct import *import, const char *text, size_t length);
void import_note(struct import *import, size_t line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* To a list of texts that grows. */
void match_add(struct import *import, const char ***list, size_t *count, const char *text);
bool match_add_ports(struct match *match, const char *text); /* "21", "5060:5061", "5060-5061" */
void match_unknown(struct import *import, struct match *match, const char *what);
/* One of a side's addresses; what cannot be one is not understood. */
void match_add_address(
	struct import *import, struct match *match, bool is_source, bool negated, const char *text);
void match_family(struct import *import, struct match *match, uint8_t family);
/* Both must hold; lists of both are one too many. */
struct match match_both(struct import *import, const struct match *a, const struct match *b);
/* What holds behind the jump at `line` with this match. */
struct match match_jump(struct import *import, const struct match *both, size_t line);
/* A rule is looked at; false: too many were, and `failed` is set. */
bool import_step(struct import *import);
/* A rule that accepts. */
void import_accept(struct import *import, size_t line, const struct match *match);
/* A rule that drops, or leaves the chain: rules below it accept less than they say. */
void import_drop(struct import *import, size_t line, const struct match *match);
/* A control connection on a port of its own, as a helper was told. */
void import_helper_port(struct import *import, size_t line, const char *helper, uint8_t transport,
	const struct match *match);
bool import_knows_helper(const char *helper);

enum status iptables_read(struct import *import, const char *text, struct error *err);
enum status nft_read(struct import *import, const char *text, struct error *err);

#endif
