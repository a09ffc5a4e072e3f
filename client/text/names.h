/* Short names of protobuf enums ("used-up" for END_REASON_USED_UP), for output and for arguments.
 */
#ifndef POSTERN_TEXT_NAMES_H
#define POSTERN_TEXT_NAMES_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NAME_SIZE 48
#define NAMES_SIZE 640

/* "" for the value that means "unspecified" or "none"; the number when the value has no name. */
void name_of(const ProtobufCEnumDescriptor *type, int value, char text[static NAME_SIZE]);
/* False (and *ret_value untouched) for anything but one of the short names. */
bool name_parse(const ProtobufCEnumDescriptor *type, const char *text, int *ret_value);
/* The short name nearest to a misspelt one; false when none is near. */
bool name_nearest(
	const ProtobufCEnumDescriptor *type, const char *word, char text[static NAME_SIZE]);
/* Every short name, with `separator` between; cut at the buffer's end. */
void name_list(const ProtobufCEnumDescriptor *type, const char *separator, char *text, size_t size);
/* The i-th name that a person may write, false past the last. */
bool name_at(const ProtobufCEnumDescriptor *type, unsigned i, char text[static NAME_SIZE]);

#endif
