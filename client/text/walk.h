/* What every mapping of messages asks of a field's descriptor. Internal to the folder. */
#ifndef POSTERN_TEXT_WALK_H
#define POSTERN_TEXT_WALK_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>

/* Bytes of one value of a repeated field's array. */
size_t walk_size(const ProtobufCFieldDescriptor *field);
/* Values of a repeated field. */
size_t walk_count(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field);
/* Not there, or what it is when it is not given: 0, "", false, no value. */
bool walk_is_default(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field);

bool walk_is_secret(const ProtobufCFieldDescriptor *field); /* `token`: reaches files only */
bool walk_is_flags(const ProtobufCFieldDescriptor *field); /* `flags`: bits of GrantFlag */
const ProtobufCEnumDescriptor *walk_flags_type(void);
bool walk_is_context(const ProtobufCFieldDescriptor *field); /* bytes that are text to people */

#endif
