/* Messages as people write them: YAML (and JSON, which is YAML too) to protobuf and back, driven by
 * the generated descriptors alone. Policy files, -o yaml and -o json are written and read here.
 *
 * The mapping: a field is a key of its name; an enum value its short name ("site-and-content"); a
 * bool true or false; a message a mapping; a repeated field a sequence (one scalar is a sequence of
 * one); bytes base64, or text where the descriptor table says so. Reading is strict: an unknown
 * key, a key twice, another type, a number out of range, text that is not UTF-8, an alias (no
 * document needs one, and a bomb is made of them), a second document in a file: an error that says
 * file, line, column, path, what was expected, and the nearest known name. */
#ifndef POSTERN_CLIENT_TEXT_MESSAGE_H
#define POSTERN_CLIENT_TEXT_MESSAGE_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "common/error.h"

#define MESSAGE_SIZE_MAX (256U * 1024 * 1024) /* of all files together */
#define MESSAGE_DEPTH_MAX 16

/* A message read from text, with the place of each of its values. */
struct message_file {
	ProtobufCMessage *message;
	struct message_places *places;
};

/* `path`: a file, "-" for standard input, or a directory (its *.yaml, *.yml and *.json in the order
 * of their names, each a part of the message: repeated fields are joined, anything else may stand
 * in one file only). */
enum status message_read(const char *path, const ProtobufCMessageDescriptor *type,
	struct message_file **ret_document, struct error *err);
/* From memory; `name` is what errors call it. */
enum status message_read_bytes(const char *name, const char *bytes, size_t size,
	const ProtobufCMessageDescriptor *type, struct message_file **ret_document,
	struct error *err);
void message_file_free(struct message_file *document); /* accepts NULL */

/* "policy.yaml:12:5" of the value at this path ("protocol_rules[3].clients[0]"), or of the nearest
 * value above it. False: no such path, nothing written. */
bool message_place(const struct message_file *document, const char *path, char *text, size_t size);
/* Puts the place of err->field before err->text, once. Untouched when it names none. */
void message_name_place(const struct message_file *document, struct error *err);

/* False: memory, or the output is broken. YAML leaves out what has its default value; JSON is as
 * json.h says. */
bool message_write_yaml(FILE *out, const ProtobufCMessage *message);

/* What differs between two messages of one type, in the order of their fields. Elements of repeated
 * messages that have a `name` are matched by it; others by their value. `path` is as people read
 * it: "protocol_rules \"ftp for staff\": clients". `before`, `after`: YAML, NULL where there is
 * none. */
enum message_change { MESSAGE_ADDED, MESSAGE_REMOVED, MESSAGE_CHANGED };
typedef void (*message_change_cb)(void *arg, enum message_change change, const char *path,
	const char *before, const char *after);
/* False: memory. */
bool message_diff(const ProtobufCMessage *before, const ProtobufCMessage *after,
	message_change_cb cb, void *arg);

/* The nearest of `count` names to a misspelt one, NULL when none is near. */
const char *message_nearest_name(const char *const *names, size_t count, const char *word);

#endif
