/* A document while it is built from its message. Internal to the folder. */
#ifndef POSTERN_SERVER_DOCUMENT_BUILD_H
#define POSTERN_SERVER_DOCUMENT_BUILD_H

#include "postern/v1/document.pb-c.h"
#include "server/document/arena.h"
#include "server/document/document.h"
#include "server/document/names.h"

struct document_memory { /* what document->memory is */
	struct arena arena;
};

struct build {
	const Postern__V1__PolicyDocument *message;
	struct document *document;
	struct arena *arena;
	struct names protocols, client_sets, destination_sets, user_sets, schedules, feeds;
	struct names dns; /* different DNS names of all sets */
	size_t addresses; /* spelled out, so far */
	const char *kind; /* of the part that is built: "protocol_rules" */
	size_t index;
	const char *name; /* of it; "" = not known yet */
	struct error *err;
};

enum status build_memory(const struct build *build);
/* "KIND[INDEX].FIELD" becomes the error's field; the text begins with it and names the part. */
enum status build_error(const struct build *build, const char *field, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* The same for an element of a list. */
enum status build_element_error(const struct build *build, const char *field, size_t element,
	const char *format, ...) __attribute__((format(printf, 4, 5)));
/* An error of another module, which knows only what is wrong with the text. */
enum status build_adopt(
	const struct build *build, const char *field, size_t element, const struct error *cause);

/* The part's name: present, printable, not too long, unique. Sets build->name. */
enum status build_name(
	struct build *build, const char *kind, size_t index, const char *name, struct names *names);
/* "did you mean "staff"?", or where to look. */
void build_suggest(const struct names *names, const char *text, char *suggestion, size_t size);
#define SUGGESTION_SIZE 100

/* Each name of the list must be in `names`. */
enum status build_refs(struct build *build, const char *field, char **texts, size_t count,
	const struct names *names, const char *what, struct document_refs *ret_refs);
enum status build_texts(
	const struct build *build, char **texts, size_t count, struct document_texts *ret_texts);
/* Spelled out addresses, normalized. */
enum status build_ranges(struct build *build, const char *field, char **texts, size_t count,
	struct ranges *ret_ranges);
enum status build_ports(const struct build *build, const char *field, char **texts, size_t count,
	struct ports *ret_ports);

/* sets.c */
enum status build_sets(struct build *build);
/* rules.c */
enum status build_rules(struct build *build);
/* parts.c: protocols, schedules, feeds, limits, tests */
enum status build_parts(struct build *build);

#endif
